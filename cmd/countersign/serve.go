package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/net/netutil"
	"golang.org/x/term"

	"github.com/countersign-proxy/countersign/audit"
	"github.com/countersign-proxy/countersign/ca"
	"github.com/countersign-proxy/countersign/config"
	"github.com/countersign-proxy/countersign/console"
	"github.com/countersign-proxy/countersign/identity"
	"github.com/countersign-proxy/countersign/shell"
	"github.com/countersign-proxy/countersign/virtualsts"
)

func newServe(a *app) *cobra.Command {
	var health bool
	c := &cobra.Command{
		Use:   "serve [--config F]",
		Short: "Run the proxy",
		Long: "Run the proxy until it is told to stop. SIGHUP and changes of the configuration file\n" +
			"reload it, as a whole or not at all. A CA or a listener's certificate that was replaced is\n" +
			"taken up. SIGTERM and SIGINT let running requests end first.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if health {
				return a.checkHealth(c.Context())
			}
			return a.serve(c.Context())
		},
	}
	c.Flags().BoolVar(&health, "health", false, "ask the running proxy of this configuration whether it is ready, and exit")
	return c
}

func (a *app) serve(ctx context.Context) error {
	cfg, err := a.load()
	if err != nil {
		return err
	}
	if err := notThroughItself(cfg.Upstream.Proxy, cfg.Listen, a.getenv); err != nil {
		return err
	}
	logger, err := newLogger(cfg.Log, a.stderr, "")
	if err != nil {
		return err
	}
	defer func() { _ = logger.Sync() }() // standard error of a terminal cannot be synced
	p, err := newProxy(ctx, cfg, newGrants(cfg, a.getenv), proxyOptions{Audit: auditOptions(cfg), Log: logger, Getenv: a.getenv})
	if err != nil {
		return err
	}
	failed := make(chan error, 8)
	fail := func(err error) {
		select {
		case failed <- err:
		default:
		}
	}
	// Whoever sees the proxy ready must find what to trust.
	trust, err := a.publishTrust(p.authority.Load(), cfg)
	if err != nil {
		return errors.Join(err, p.shutdown(ctx))
	}
	p.trust = trust
	// From the first client on, and before anybody is told that the proxy is there,
	// signals are for the loop below: left alone, they would end the process at once.
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, stopSignals...)
	hangup := make(chan os.Signal, 1)
	notifyHangup(hangup)
	defer signal.Stop(stop)
	defer signal.Stop(hangup)
	if err := p.listen(ctx, fail); err != nil {
		return errors.Join(err, p.shutdown(ctx))
	}
	if err := a.announce(p, trust); err != nil {
		return errors.Join(err, p.shutdown(ctx))
	}
	p.notifyReady()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changes := make(chan struct{}, 1)
	if cfg.Path != "" {
		go func() {
			err := config.Watch(ctx, cfg.Files(), config.WatchOptions{
				Files: func() []string { return p.engine.Load().cfg.Files() },
			}, func() []string {
				select {
				case changes <- struct{}{}:
				default: // one is waiting already
				}
				return nil // Files says it, after the reload
			})
			if err != nil && ctx.Err() == nil {
				logger.Warn("the configuration file is not watched; send SIGHUP to reload it", zap.Error(err))
			}
		}()
	}
	renewed := make(chan struct{}, 1)
	var following sync.WaitGroup
	following.Go(func() { followFiles(ctx, logger, p.takenUp, renewed) })
	defer following.Wait()
	defer cancel()
	poll := time.NewTicker(takeUpPoll)
	defer poll.Stop()
	for {
		select {
		case <-hangup:
			if err := p.audit.Reopen(); err != nil {
				logger.Error("the audit record cannot be opened again", zap.Error(err))
			}
			a.reload(ctx, p)
		case <-changes:
			a.reload(ctx, p)
		case <-renewed:
			a.takeUp(p, false)
		case <-poll.C:
			a.takeUp(p, false)
		case err := <-failed:
			return errors.Join(err, p.stop(false))
		case s := <-stop:
			logger.Info("stopping: waiting for requests to end", zap.String("signal", s.String()))
			go func() {
				<-stop
				logger.Warn("stopping at once")
				os.Exit(exitFailure)
			}()
			return p.stop(s != os.Interrupt) // which is a person at a terminal, and no balancer
		case <-ctx.Done():
			return p.stop(false)
		}
	}
}

// stop lets requests end for as long as the configuration in force allows. The delay
// in which clients are sent elsewhere first is a part of that.
func (p *proxy) stop(withDelay bool) error {
	limits := p.engine.Load().cfg.Limits
	ctx, cancel := context.WithTimeout(context.Background(), limits.DrainTimeout)
	defer cancel()
	p.notifyStopping()
	if withDelay {
		p.drain(ctx, min(limits.DrainDelay, limits.DrainTimeout/2))
	}
	err := p.shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		p.log.Warn("requests were cut off at the end of limits.drain_timeout")
		return nil
	}
	return err
}

// listen opens every listener of the configuration, or none.
func (p *proxy) listen(ctx context.Context, failed func(error)) (err error) {
	cfg := p.engine.Load().cfg
	var opened []net.Listener
	defer func() {
		if err != nil {
			for _, l := range opened {
				_ = l.Close()
			}
		}
	}()
	open := func(key, address string) (net.Listener, error) {
		if address == "" {
			return nil, nil
		}
		l, err := listen(ctx, key, address)
		if err != nil {
			return nil, err
		}
		if key == "admin.listen" || key == "metrics.listen" { // the others count by themselves
			l = netutil.LimitListener(l, cfg.Limits.Connections)
		}
		if cfg.TLS.Enabled() && !config.LoopbackAddress(address) {
			if p.certificate.Load() == nil {
				if _, err := p.certificate.renew(certificateOf(cfg.TLS), time.Now()); err != nil {
					return nil, errors.Join(err, l.Close())
				}
			}
			l = tls.NewListener(l, &tls.Config{GetCertificate: p.certificate.get, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
		}
		opened = append(opened, l)
		return l, nil
	}
	listeners := map[string]net.Listener{}
	for _, x := range []struct{ key, address string }{
		{"listen", cfg.Listen}, {"endpoint.listen", cfg.Endpoint.Listen},
		{"admin.listen", cfg.Admin.Listen}, {"metrics.listen", cfg.Metrics.Listen},
	} {
		if listeners[x.key], err = open(x.key, x.address); err != nil {
			return err
		}
	}
	if l := listeners["listen"]; l != nil {
		p.addresses.proxy = l.Addr().String()
		p.serveProxy(l, failed)
	}
	if l := listeners["endpoint.listen"]; l != nil {
		p.addresses.endpoint = l.Addr().String()
		p.endpoint = p.endpointServer()
		p.serveWith("endpoint", endpointListener(l, cfg.Limits.Connections), p.endpoint, failed)
	}
	if l := listeners["admin.listen"]; l != nil {
		p.addresses.admin = l.Addr().String()
		extra, err := p.adminHandlers(cfg)
		if err != nil {
			return err
		}
		p.serve("admin", l, p.admin(extra), failed)
		p.leaveHealthURL(cfg, p.addresses.admin)
	}
	if l := listeners["metrics.listen"]; l != nil {
		p.serve("metrics", l, p.admin(nil), failed)
		p.leaveHealthURL(cfg, l.Addr().String())
	}
	return nil
}

// reload reads the configuration again and takes it up, or says why not.
func (a *app) reload(ctx context.Context, p *proxy) {
	p.notifyReloading()
	cfg, err := a.load()
	if err == nil && cfg.Blank() { // it was started with more
		err = fmt.Errorf("%s is empty, as it is while it is being written; to run with the defaults, restart the proxy", cfg.Path)
	}
	if err == nil {
		for _, key := range needRestart(p.engine.Load().cfg, cfg) {
			p.log.Warn("this setting takes effect after a restart", zap.String("key", key))
		}
		err = cmp.Or(p.inTheClear(cfg), notThroughItself(cfg.Upstream.Proxy, p.addresses.proxy, a.getenv))
	}
	if err == nil {
		err = p.reload(ctx, cfg)
	}
	p.metrics.ConfigLoaded(time.Now(), err)
	if err != nil {
		p.log.Error("the new configuration is not used; the one before stays in force", zap.Error(err))
		p.notifyKept(err)
		return
	}
	p.log.Info("configuration reloaded")
	a.takeUp(p, true)
	p.notifyReady()
}

// needRestart names the settings that differ and that a reload cannot change.
func needRestart(before, after *config.Config) []string {
	b, a := before.Limits, after.Limits
	var keys []string
	for _, x := range []struct {
		key  string
		same bool
	}{
		{"listen", before.Listen == after.Listen},
		{"endpoint.listen", before.Endpoint == after.Endpoint},
		{"admin", reflect.DeepEqual(before.Admin, after.Admin)},
		{"console", reflect.DeepEqual(before.Console, after.Console)},
		{"metrics.listen", before.Metrics == after.Metrics},
		{"tls", before.TLS.Enabled() == after.TLS.Enabled() && before.TLS.Plaintext == after.TLS.Plaintext},
		{"state_dir", before.StateDir == after.StateDir},
		{"audit", before.Audit == after.Audit},
		{"log", before.Log == after.Log},
		// Those of listenerLimits. Of the last two, only what concerns clients and tunnels.
		{"limits.connections", b.Connections == a.Connections},
		{"limits.tunnels", b.Tunnels == a.Tunnels},
		{"limits.header", b.Header == a.Header},
		{"limits.header_timeout", b.HeaderTimeout == a.HeaderTimeout},
		{"limits.body_timeout", b.BodyTimeout == a.BodyTimeout},
		{"limits.idle_timeout", b.IdleTimeout == a.IdleTimeout},
		{"limits.tunnel_idle_timeout", b.TunnelIdleTimeout == a.TunnelIdleTimeout},
		{"limits.tls_timeout", b.TLSTimeout == a.TLSTimeout},
		{"limits.connect_timeout", b.ConnectTimeout == a.ConnectTimeout},
	} {
		if !x.same {
			keys = append(keys, x.key)
		}
	}
	return keys
}

// announce says what users need to know: where the proxy is, how it is trusted,
// and, to a terminal, keys that are ready to paste.
func (a *app) announce(p *proxy, trust trustFiles) error {
	e := p.engine.Load()
	fields := []zap.Field{zap.String("proxy", p.addresses.proxy), zap.String("admin", p.addresses.admin), zap.String("ca_bundle", trust.Bundle),
		zap.Strings("roles", e.grants.order)}
	if p.addresses.endpoint != "" {
		fields = append(fields, zap.String("endpoint", p.addresses.endpoint))
	}
	f, isFile := a.plainStdout().(*os.File)
	if !isFile || !term.IsTerminal(int(f.Fd())) {
		p.log.Info("ready; `countersign env` prints settings for clients", fields...)
		return nil
	}
	id, err := e.grants.identity(a.identity)
	if err != nil {
		fmt.Fprintf(a.stderr, "countersign listens on %s; `countersign env --identity NAME` prints settings for clients\n", p.addresses.proxy)
		return nil
	}
	role, err := e.grants.role(id, "")
	if err != nil {
		return err
	}
	creds, err := e.identities.Mint(identity.Grant{Identity: id, Role: role, Expires: time.Now().Add(envLifetime)})
	if err != nil {
		return err
	}
	s := settings{ProxyURL: withCredentials(e.cfg, proxyURL(e.cfg), creds), Credentials: creds, Trust: trust}
	fmt.Fprintf(a.stderr, "countersign is ready.\n\n  proxy      %s\n  CA         %s\n", p.addresses.proxy, trust.Bundle)
	if p.addresses.admin != "" {
		fmt.Fprintf(a.stderr, "  metrics    http://%s/metrics\n", p.addresses.admin)
	}
	if p.console != nil && config.LoopbackAddress(e.cfg.Admin.Listen) && e.cfg.Console.OIDC.Issuer == "" {
		link, err := console.NewLink(e.identities, id, consoleBase(e.cfg, p.addresses.admin), time.Now())
		if err != nil {
			return err
		}
		fmt.Fprintf(a.stderr, "  console    %s\n             (signs you in once, within %s; `countersign console --link` makes another)\n", link, shortDuration(console.LinkLife))
	}
	fmt.Fprintf(a.stderr, "  roles      %s\n\nPaste into another terminal (role %s, until %s):\n\n", strings.Join(e.grants.order, ", "), role, creds.Expires.Local().Format("15:04"))
	for _, v := range s.short() {
		fmt.Fprintf(a.stderr, "  %s\n", shell.SetPOSIX(v.Name, v.Value))
	}
	fmt.Fprintf(a.stderr, "\n`countersign env` prints all settings, for other shells too.\n\n")
	return nil
}

// checkHealth asks a running proxy whether it is ready: the HEALTHCHECK of an
// image that has no shell and no curl.
//
// The running proxy may have outlived the configuration on disk: a file that is
// broken by now is none of its faults. So it leaves its address in the state
// directory, and where the file cannot be read, that is where it is asked.
func (a *app) checkHealth(ctx context.Context) error {
	cfg, err := a.load()
	var base string
	var transport *http.Transport
	if err != nil {
		environment := slices.DeleteFunc(a.environ(), func(kv string) bool { return strings.HasPrefix(kv, "COUNTERSIGN_CONFIG=") })
		bare, bareErr := config.Load(config.Options{Env: environment})
		if bareErr != nil {
			return err
		}
		left, leftErr := os.ReadFile(healthFile(bare))
		if leftErr != nil {
			return err
		}
		base, transport = strings.TrimSpace(string(left)), localTransport()
	} else {
		if healthAddress(cfg) == "" {
			return errors.New("neither admin.listen nor metrics.listen is set, so there is nobody to ask")
		}
		base, transport = listenerURL(cfg, healthAddress(cfg))
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/readyz", nil)
	if err != nil {
		return err
	}
	res, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		return fmt.Errorf("the proxy does not answer: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("the proxy is not ready: %s", res.Status)
	}
	return nil
}

// healthFile is where a running proxy leaves the URL of its health listener.
func healthFile(cfg *config.Config) string { return filepath.Join(cfg.StateDir, "health.url") }

// leaveHealthURL writes it. A state directory that cannot be written only costs
// the answer to --health while the configuration is broken.
func (p *proxy) leaveHealthURL(cfg *config.Config, address string) {
	base, _ := listenerURL(cfg, address)
	if err := ca.WriteFile(healthFile(cfg), []byte(base+"\n"), 0o600); err != nil {
		p.log.Debug("health.url was not written", zap.Error(err))
	}
}

// healthAddress is the listener to ask for health and metrics, "" where there is none.
func healthAddress(cfg *config.Config) string { return cmp.Or(cfg.Metrics.Listen, cfg.Admin.Listen) }

// localTransport reaches listeners of this machine. The certificate names the
// proxy as others see it, and these requests do not leave the machine.
func localTransport() *http.Transport {
	return &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}}
}

// adminURL is how commands of this machine reach the admin listener.
func adminURL(cfg *config.Config) (string, *http.Transport) {
	return listenerURL(cfg, cfg.Admin.Listen)
}

// listenerURL is how this machine reaches a listener of the proxy.
func listenerURL(cfg *config.Config, address string) (string, *http.Transport) {
	transport := localTransport()
	scheme := "http"
	if cfg.TLS.Enabled() && !config.LoopbackAddress(address) {
		scheme = "https"
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return scheme + "://" + address, transport
	}
	if everywhere(host) {
		host = "127.0.0.1"
	}
	return scheme + "://" + net.JoinHostPort(host, port), transport
}

// adminHandlers are what the admin listener serves beside metrics and health:
// client credentials for programs that fetch and renew them, and the list of
// sessions for the command of that name.
func (p *proxy) adminHandlers(cfg *config.Config) (map[string]http.Handler, error) {
	token, err := adminToken(cfg)
	if err != nil {
		return nil, err
	}
	if p.console, err = p.newConsoleServer(cfg, p.addresses.admin); err != nil {
		return nil, err
	}
	handlers := map[string]http.Handler{
		"GET /sessions": withToken(token, p.listSessions),
		"/credentials":  p.credentialsEndpoint(token),
	}
	for pattern, h := range p.console.Handlers() {
		handlers[pattern] = h
	}
	return handlers, nil
}

// credentialsEndpoint serves client credentials as the agents of ECS and EKS
// do: for tokens of configured issuers, and for the user of this machine, who
// proves himself by the admin token.
func (p *proxy) credentialsEndpoint(token string) http.Handler {
	var mu sync.Mutex
	var of *engine
	var handler http.Handler
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e := p.engine.Load()
		mu.Lock()
		if e != of {
			opt := virtualsts.EndpointOptions{Lifetime: processLifetime, Record: p.recordIssued}
			if _, ok := e.grants.identities[localIdentity]; ok {
				opt.Bearers = []virtualsts.Bearer{{Token: token, Identity: localIdentity}}
			}
			h, err := e.sts.Endpoint(opt)
			if err != nil {
				mu.Unlock()
				p.log.Error("the credentials endpoint does not work", zap.Error(err))
				http.Error(w, "the credentials endpoint does not work; the proxy's log says why", http.StatusInternalServerError)
				return
			}
			of, handler = e, h
		}
		h := handler
		mu.Unlock()
		h.ServeHTTP(w, r)
	})
}

// recordIssued writes the audit line of a request for credentials.
func (p *proxy) recordIssued(r *http.Request, issued virtualsts.Issued, status int, err error) {
	e := audit.Entry{
		Time: time.Now(), RequestID: audit.NewRequestID(), Client: r.RemoteAddr, Method: r.Method, Host: r.Host,
		Service: "countersign", Operation: "GetCredentials", Decision: audit.Allow, Reason: "credentials endpoint", Status: status,
		Identity: issued.Identity, AccessKeyID: issued.AccessKeyID, Role: issued.Role, RoleARN: issued.RoleARN, Signature: "none",
	}
	if err != nil {
		e.Decision, e.Error = audit.Deny, err.Error()
	}
	if err := p.audit.Write(e); err != nil {
		p.log.Error("audit line lost", zap.Error(err))
	}
}

// notThroughItself refuses a way out, as upstream.proxy says, that leads back in.
func notThroughItself(proxy, listen string, getenv func(string) string) error {
	ways := map[string]string{"upstream.proxy": proxy}
	if proxy == "" || proxy == "env" {
		ways = map[string]string{"HTTPS_PROXY": getenv("HTTPS_PROXY"), "https_proxy": getenv("https_proxy")}
	}
	for _, name := range sortedNames(ways) {
		if way, ok := leadsTo(ways[name], listen); ok {
			return fmt.Errorf("%s is %s, which is this proxy itself: its own calls would come back to it; start it from a shell without the settings of `countersign env`", name, way)
		}
	}
	return nil
}

// leadsTo says whether a proxy's URL, or its address alone, is that of a listener of
// this machine, and returns the URL without what is secret in it.
func leadsTo(proxy, listen string) (way string, ok bool) {
	if proxy == "" || proxy == "none" {
		return "", false
	}
	if !strings.Contains(proxy, "://") {
		proxy = "http://" + proxy
	}
	u, err := url.Parse(proxy)
	if err != nil {
		return "", false
	}
	u.User = nil
	host, port, err := net.SplitHostPort(listen)
	if err != nil || u.Port() != port || port == "0" {
		return "", false
	}
	return u.String(), u.Hostname() == host || config.LoopbackAddress(u.Host) && (everywhere(host) || config.LoopbackAddress(listen))
}

// everywhere says whether a listener with this host takes connections to every
// address of the machine.
func everywhere(host string) bool { return host == "" || host == "0.0.0.0" || host == "::" }
