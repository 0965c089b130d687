package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/net/netutil"
	"golang.org/x/term"

	"github.com/countersign-proxy/countersign/config"
	"github.com/countersign-proxy/countersign/console"
	"github.com/countersign-proxy/countersign/identity"
	"github.com/countersign-proxy/countersign/shell"
	"github.com/countersign-proxy/countersign/words"
)

func newServe(a *app) *cobra.Command {
	var health bool
	c := &cobra.Command{
		Use:   "serve [--config F]",
		Short: "Run the proxy",
		Long: "Run the proxy until it is told to stop. SIGHUP and changes of the configuration file\n" +
			"reload it, as a whole or not at all. A replaced CA or listener certificate is picked up\n" +
			"without a restart. SIGTERM and SIGINT let running requests finish first.",
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
		fmt.Fprintf(a.stderr, "  console    %s\n             (signs you in once, within %s; `countersign console --link` makes another)\n", link, words.Duration(console.LinkLife))
	}
	fmt.Fprintf(a.stderr, "  roles      %s\n\nPaste into another terminal (role %s, until %s):\n\n", strings.Join(e.grants.order, ", "), role, creds.Expires.Local().Format("15:04"))
	for _, v := range s.short() {
		fmt.Fprintf(a.stderr, "  %s\n", shell.SetPOSIX(v.Name, v.Value))
	}
	fmt.Fprintf(a.stderr, "\n`countersign env` prints all settings, for other shells too.\n\n")
	return nil
}
