package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/countersign-proxy/countersign/ca"
	"github.com/countersign-proxy/countersign/config"
	"github.com/countersign-proxy/countersign/inject"
	"github.com/countersign-proxy/countersign/metrics"
	"github.com/countersign-proxy/countersign/safefile"
)

func newInject(a *app) *cobra.Command {
	var file, address, certFile, keyFile string
	var serve bool
	var opt inject.Options
	c := &cobra.Command{
		Use:   "inject -f POD.yaml | --serve",
		Short: "Add the sidecar to a pod",
		Long: "Add a countersign to the pods of a manifest that ask for it by the annotation\n" +
			inject.RoleAnnotation + ": its value is a role's ARN or, beside the annotation\n" +
			inject.ConfigAnnotation + ", the name of a role there. Other objects pass as they are.\n\n" +
			"With --serve, do so as a mutating admission webhook of Kubernetes. Pods that cannot have a\n" +
			"sidecar safely are refused.",
		Example: "  countersign inject -f deployment.yaml | kubectl apply -f -\n" +
			"  countersign inject --serve --tls-cert-file tls.crt --tls-key-file tls.key",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			opt.Environment, opt.Removed = podEnvironment, removed
			if serve == (file != "") {
				return usagef("give a manifest with -f, or --serve")
			}
			if serve {
				return a.serveInject(c.Context(), address, certFile, keyFile, opt)
			}
			return a.injectFile(file, opt)
		},
	}
	c.Flags().StringVarP(&file, "filename", "f", "", "`file` of manifests; -: standard input")
	c.Flags().StringVar(&opt.Image, "image", sidecarImage(), "`image` of the sidecar")
	c.Flags().StringVar(&opt.PullPolicy, "image-pull-policy", "", "when the image is pulled (default: as the cluster does)")
	c.Flags().StringVar(&opt.Role, "role", "", "`role` of pods without the annotation (default: they are left alone)")
	c.Flags().StringVar(&opt.Config, "configmap", "", "`name` of the ConfigMap of pods without the annotation "+inject.ConfigAnnotation)
	c.Flags().BoolVar(&serve, "serve", false, "run the admission webhook")
	c.Flags().StringVar(&address, "listen", ":8443", "`address` of the webhook")
	c.Flags().StringVar(&certFile, "tls-cert-file", "", "its certificate (PEM), read again when it changes")
	c.Flags().StringVar(&keyFile, "tls-key-file", "", "its private key (PEM), which others must not be able to read")
	c.AddCommand(newInjectPrepare(a))
	return c
}

var released = regexp.MustCompile(`^v?[0-9]+\.[0-9]+\.[0-9]+$`)

// sidecarImage is the image of this version, if it is a release: so that a
// manifest means tomorrow what it means today.
func sidecarImage() string {
	if v, _ := buildVersion(); released.MatchString(v) {
		return inject.Repository + ":" + v
	}
	return inject.DefaultImage
}

// podEnvironment are the settings of a container beside a sidecar.
func podEnvironment(role string, existing func(string) string) []inject.Variable {
	loopback := func(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }
	at := func(file string) string { return inject.ShareDir + "/" + file }
	s := settings{
		ProxyURL:  "http://" + loopback(inject.ProxyPort),
		Endpoint:  "http://" + loopback(inject.AdminPort) + "/credentials?role=" + url.QueryEscape(role),
		TokenFile: at(inject.TokenFile),
		Trust:     trustFiles{Bundle: at(inject.BundleFile), Node: at(inject.NodeFile), Java: at(inject.JavaFile), NodeProxy: at(inject.NodeProxyFile), PHP: at(inject.PHPFile)},
	}
	getenv := func(name string) string {
		if name == "NO_PROXY" {
			// What is in the cluster is not for the proxy, which leads to public addresses alone.
			return existing(name) + ",.svc,.cluster.local,$(KUBERNETES_SERVICE_HOST)"
		}
		return existing(name)
	}
	var out []inject.Variable
	for _, v := range s.variables(getenv) {
		out = append(out, inject.Variable(v))
	}
	return out
}

func (a *app) injectFile(file string, opt inject.Options) error {
	in := a.stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	out, n, err := inject.Manifests(in, opt)
	if err != nil {
		return err
	}
	if n == 0 {
		fmt.Fprintf(a.stderr, "countersign: no pod asks for a sidecar: set the annotation %s, or give --role\n", inject.RoleAnnotation)
	}
	_, err = io.Copy(a.stdout, bytes.NewReader(out))
	return err
}

// serveInject runs the webhook until it is told to stop.
func (a *app) serveInject(ctx context.Context, address, certFile, keyFile string, opt inject.Options) error {
	if certFile == "" || keyFile == "" {
		return usagef("--serve needs --tls-cert-file and --tls-key-file: Kubernetes calls webhooks by https only")
	}
	files := certificateFiles{certFile, keyFile, "--tls-cert-file", "--tls-key-file"}
	var certificate listenerCertificate
	if _, err := certificate.renew(files, time.Now()); err != nil {
		return err
	}
	logger, err := newLogger(config.Log{Level: "info", Format: "json"}, a.stderr, "")
	if err != nil {
		return err
	}
	defer func() { _ = logger.Sync() }() // standard error of a terminal cannot be synced
	l, err := listen(ctx, "listen", address)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/inject", inject.Handler(opt, func(r inject.Reviewed) {
		fields := []zap.Field{zap.String("namespace", r.Namespace), zap.String("pod", r.Pod), zap.Bool("changed", r.Changed)}
		if r.Err != nil {
			logger.Warn("a pod was refused", append(fields, zap.Error(r.Err))...)
			return
		}
		logger.Info("a pod was reviewed", fields...)
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	server := metrics.NewServer(mux, zap.NewStdLog(logger))
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, stopSignals...)
	defer signal.Stop(stop)
	followed, unfollow := context.WithCancel(ctx)
	var following sync.WaitGroup
	following.Go(func() { certificate.follow(followed, files, logger) })
	defer following.Wait()
	defer unfollow()
	failed := make(chan error, 1)
	go func() {
		failed <- server.Serve(tls.NewListener(l, &tls.Config{
			GetCertificate: certificate.get, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		}))
	}()
	logger.Info("ready for reviews", zap.String("address", l.Addr().String()), zap.String("image", opt.Image))
	select {
	case err := <-failed:
		return err
	case <-stop:
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return server.Shutdown(ctx)
}

func newInjectPrepare(a *app) *cobra.Command {
	var dir, role string
	c := &cobra.Command{
		Use:   "prepare --dir DIR",
		Short: "Lay out what the containers beside a sidecar need",
		Long: "Make the CA of a sidecar that is about to start, and lay out in DIR what the other\n" +
			"containers of its pod need: trust bundles, and the token by which they fetch client\n" +
			"credentials. They can be of any user, so the files are readable by all: DIR must be a volume\n" +
			"that nothing else mounts.",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if dir == "" {
				return usagef("--dir names the folder that the containers share")
			}
			return a.prepare(dir, role)
		},
	}
	c.Flags().StringVar(&dir, "dir", "", "`folder` that the containers share")
	c.Flags().StringVar(&role, "role", "", "`role` that the containers will ask for (default: the identity's first)")
	return c
}

// sidecarAuthority is how long the CA of a sidecar lasts: longer than any pod.
const sidecarAuthority = 10 * ca.DefaultLifetime

// prepare lays out what the containers beside a sidecar need.
func (a *app) prepare(dir, role string) error {
	cfg, err := a.load()
	if err != nil {
		return err
	}
	g := newGrants(cfg, a.getenv)
	id, err := g.identity(localIdentity)
	if err != nil {
		return fmt.Errorf("the containers beside a sidecar are the identity %q: %w; add it under identities, with the roles that they may use", localIdentity, err)
	}
	if _, err := g.role(id, role); err != nil {
		return err
	}
	token, err := adminToken(cfg)
	if err != nil {
		return err
	}
	folder, err := authorityDir(cfg)
	if err != nil {
		return err
	}
	// Programs read their bundle once, so this CA is not renewed while the pod
	// lives. It need not be: it is trusted within the pod alone, and its key is in
	// the pod's memory and ends with it.
	opt := authorityOptions(cfg)
	opt.Lifetime = sidecarAuthority
	authority, err := ca.Open(folder, opt)
	if err != nil {
		return err
	}
	roots, err := ca.EnvironmentRoots(ca.TrustOptions{Getenv: a.getenv})
	if err != nil {
		return err
	}
	// What Node.js has to trust beside its own roots is the containers' affair.
	nothing := func(string) string { return "" }
	if _, err := writeTrust(authority, dir, 0o644, roots, nothing); err != nil {
		return err
	}
	return safefile.Write(filepath.Join(dir, inject.TokenFile), []byte(token), 0o644)
}
