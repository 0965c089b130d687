package main

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"time"

	"go.uber.org/zap"

	"github.com/countersign-proxy/countersign/config"
)

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

// reload takes the whole new configuration or none of it.
func (p *proxy) reload(ctx context.Context, cfg *config.Config) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.engine.Load()
	e, err := p.newEngine(ctx, cfg, newGrants(cfg, p.opt.Getenv), before)
	if err != nil {
		return err
	}
	p.engine.Store(e)
	p.metrics.SetRoles(e.grants.order)
	if e.sessions != before.sessions {
		// Requests that are on their way hold their credentials already.
		time.AfterFunc(time.Minute, func() { _ = before.sessions.Close(); before.transport.CloseIdleConnections() })
	}
	return nil
}
