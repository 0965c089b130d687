package main

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"go.uber.org/zap"

	"github.com/countersign-proxy/countersign/config"
	"github.com/countersign-proxy/countersign/console"
	"github.com/countersign-proxy/countersign/identity"
	"github.com/countersign-proxy/countersign/policy"
	"github.com/countersign-proxy/countersign/safefile"
	"github.com/countersign-proxy/countersign/shell"
)

// consoleState is what the console needs of roles and identities. Identities,
// Sessions and Federation are left to the caller.
func consoleState(g grants) (console.State, error) {
	state := console.State{Boundaries: map[string]console.Document{}}
	document := func(path string) (console.Document, error) {
		text, err := os.ReadFile(path)
		if err != nil {
			return console.Document{}, err
		}
		d := console.Document{Name: filepath.Base(path), Text: text}
		_, err = policy.Parse(d.Name, text)
		return d, err
	}
	for _, name := range g.order {
		r := g.roles[name]
		role := console.Role{Name: name, ARN: r.ARN, Via: r.Via, Duration: r.Duration, Labels: r.Labels, Tags: sortedNames(r.Tags)}
		// What report lets through here, the console may do too.
		if r.Enforcement != config.Report {
			role.Limits = console.Limits{ReadOnly: r.ReadOnly, Regions: r.Regions, Services: r.Services}
			for _, path := range r.Policies {
				d, err := document(path)
				if err != nil {
					return state, fmt.Errorf("roles.%s.policies: %w", name, err)
				}
				role.Limits.Policies = append(role.Limits.Policies, d)
			}
		}
		if r.Federated() {
			role.Federate = &console.Federate{PolicyARNs: r.FederationPolicyARNs, Duration: r.FederationDuration}
			if r.FederationPolicy != "" {
				d, err := document(r.FederationPolicy)
				if err != nil {
					return state, fmt.Errorf("roles.%s.federation_policy: %w", name, err)
				}
				role.Federate.Policy = &d
			}
		}
		role.Limits.OwnPolicy = r.SessionPolicy != "" || len(r.SessionPolicyARNs) > 0 || r.FederationPolicy != "" || len(r.FederationPolicyARNs) > 0
		state.Roles = append(state.Roles, role)
	}
	for _, name := range sortedNames(g.identities) {
		if path := g.identities[name].Boundary; path != "" {
			d, err := document(path)
			if err != nil {
				return state, fmt.Errorf("identities.%s.boundary: %w", name, err)
			}
			state.Boundaries[path] = d
		}
	}
	return state, nil
}

// newConsoleServer makes the page of the admin listener, which listens on address.
func (p *proxy) newConsoleServer(cfg *config.Config, address string) (*console.Server, error) {
	var mu sync.Mutex
	var of *engine
	var state console.State
	take := func(e *engine) error {
		next, err := consoleState(e.grants)
		if err != nil {
			return err
		}
		next.Identities, next.Sessions = e.identities, e.sessions
		next.Federation = console.NewFederation(console.FederationOptions{Sessions: e.sessions, Client: &http.Client{Transport: e.transport}, Region: e.cfg.Source.Region})
		of, state = e, next
		return nil
	}
	if err := take(p.engine.Load()); err != nil {
		return nil, err
	}
	local := config.LoopbackAddress(cfg.Admin.Listen)
	opt := console.Options{
		Audit: p.audit, Local: local, Base: consoleBase(cfg, address), Revoke: revokeOwn(cfg),
		Current: func() console.State {
			mu.Lock()
			defer mu.Unlock()
			if e := p.engine.Load(); e != of {
				// A policy file that vanished since the reload: nobody has a role.
				if err := take(e); err != nil {
					p.log.Error("the console offers no role", zap.Error(err))
					return console.State{Identities: e.identities, Sessions: e.sessions, Federation: state.Federation}
				}
			}
			return state
		},
		Terminal: console.Terminal{ProxyURL: proxyURL(cfg),
			ProxyFor: func(c identity.Credentials) string {
				now := p.engine.Load().cfg
				return withCredentials(now, proxyURL(now), c)
			},
			NoProxy: strings.Join(noProxy, ","), Region: cfg.Source.Region,
			Bundle: p.trust.Bundle, CA: func() []byte { return p.authority.Load().RootPEM() }},
	}
	if cfg.Path != "" {
		opt.Terminal.Flags = "--config " + shell.QuotePOSIX(cfg.Path)
	}
	if o := cfg.Console.OIDC; o.Issuer != "" {
		secret := ""
		if o.ClientSecretFile != "" {
			var err error
			if secret, err = safefile.ReadSecret(o.ClientSecretFile); err != nil {
				return nil, err
			}
		}
		opt.OIDC = &console.OIDC{Issuer: o.Issuer, ClientID: o.ClientID, ClientSecret: secret, RedirectURL: o.RedirectURL, Scopes: o.Scopes,
			Client: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) { return p.engine.Load().issuers[o.Issuer].RoundTrip(r) })}}
	}
	return console.NewServer(opt)
}

// roundTrip is a transport that is looked up at each request.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// consoleBase is how people reach the admin listener.
func consoleBase(cfg *config.Config, address string) string {
	if u, err := url.Parse(cfg.Console.OIDC.RedirectURL); err == nil && u.Host != "" {
		return u.Scheme + "://" + u.Host
	}
	base, _ := adminURL(cfg)
	u, err := url.Parse(base)
	_, port, split := net.SplitHostPort(address)
	if err != nil || split != nil {
		return base
	}
	host := u.Hostname()
	if len(cfg.Admin.Hosts) > 0 && !config.LoopbackAddress(cfg.Admin.Listen) {
		host = cfg.Admin.Hosts[0]
	}
	return u.Scheme + "://" + net.JoinHostPort(host, port)
}
