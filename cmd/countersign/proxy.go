package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"go.uber.org/zap"

	"github.com/countersign-proxy/countersign/audit"
	"github.com/countersign-proxy/countersign/awsapi"
	"github.com/countersign-proxy/countersign/ca"
	"github.com/countersign-proxy/countersign/config"
	"github.com/countersign-proxy/countersign/console"
	"github.com/countersign-proxy/countersign/identity"
	"github.com/countersign-proxy/countersign/metrics"
	"github.com/countersign-proxy/countersign/mitm"
	"github.com/countersign-proxy/countersign/pipeline"
	"github.com/countersign-proxy/countersign/policy"
	"github.com/countersign-proxy/countersign/rolesession"
	"github.com/countersign-proxy/countersign/signer"
	"github.com/countersign-proxy/countersign/virtualsts"
)

// proxyOptions say how a proxy differs from what the configuration describes.
type proxyOptions struct {
	Authority *ca.Authority           // nil: that of the configuration's folder
	Static    []identity.Static       // client credentials beside the configured ones
	Source    aws.CredentialsProvider // nil: as the configuration says
	Roots     []ca.Source             // that connections to AWS are checked against; nil: those of the environment
	Audit     audit.Options
	Observe   func(*awsapi.Call) // each call that may pass; nil: not
	Log       *zap.Logger
	Getenv    func(string) string
}

// proxy is everything that a running countersign is made of. What a reload
// replaces is the engine; the rest lives as long as the process.
type proxy struct {
	opt       proxyOptions
	log       *zap.Logger
	audit     *audit.Log
	metrics   *metrics.Metrics
	authority atomic.Pointer[ca.Authority]
	engine    atomic.Pointer[engine]
	mitm      *mitm.Server
	roots     *x509.CertPool

	mu       sync.Mutex // of reloads
	draining atomic.Bool
	servers  []*http.Server // admin and metrics
	endpoint *http.Server   // nil: none

	endpointClients atomic.Int64 // connections to it

	addresses   struct{ proxy, endpoint, admin string } // as listened on
	trust       trustFiles                              // as published
	certificate listenerCertificate                     // of the listeners; none without TLS
	console     *console.Server                         // nil without an admin listener

	untrusting untrusting

	warned time.Time // in the log, of a CA that expires soon

	trouble string // logged last, of a CA that could not be taken up
}

// engine is what one configuration comes to. It is immutable.
type engine struct {
	cfg        *config.Config
	grants     grants
	identities *identity.Store
	sessions   *rolesession.Manager
	sts        *virtualsts.Service
	transport  *pipeline.Transport
	issuers    map[string]http.RoundTripper     // the ways to the OIDC issuers
	wayOut     func(*url.URL) (*url.URL, error) // the proxy that tunnels go through; nil: none
	pipeline   *pipeline.Pipeline
}

// newProxy puts a proxy together without listening yet.
func newProxy(ctx context.Context, cfg *config.Config, g grants, opt proxyOptions) (*proxy, error) {
	p := &proxy{opt: opt, log: opt.Log}
	authority := opt.Authority
	if authority == nil {
		var err error
		if authority, err = openAuthority(cfg, p.authorityOptions(cfg)); err != nil {
			return nil, err
		}
	}
	p.authority.Store(authority)
	var err error
	roots := opt.Roots
	if roots == nil {
		if roots, err = ca.EnvironmentRoots(ca.TrustOptions{Getenv: opt.Getenv}); err != nil {
			return nil, err
		}
	}
	p.roots = certPool(roots)
	if p.audit, err = audit.Open(opt.Audit); err != nil {
		return nil, err
	}
	v, revision := buildVersion()
	p.metrics = metrics.New(metrics.Options{
		Roles: g.order, Services: awsapi.Services(),
		SignatureReasons: signatureReasons(), DoorReasons: doorReasons(), PolicyReasons: policyReasons(), STSResults: stsResults(),
		Version: v, Revision: revision,
		AuditFailing: func() bool { return p.audit.Ready() != nil },
		AuditCounts: func() (uint64, uint64, uint64) {
			s := p.audit.Stats()
			return s.Written, s.Lost, s.Failures
		},
		Connections: func() metrics.Connections {
			if p.mitm == nil {
				return metrics.Connections{}
			}
			s := p.mitm.Stats()
			return metrics.Connections{Open: s.Connections, Tunnels: s.Tunnels, TunnelIn: s.TunnelSent, TunnelOut: s.TunnelReceived}
		},
	})
	p.metrics.CAExpiry(authority.Expires())
	e, err := p.newEngine(ctx, cfg, g, nil)
	if err != nil {
		return nil, errors.Join(err, p.audit.Close(ctx))
	}
	p.engine.Store(e)
	p.metrics.ConfigLoaded(time.Now(), nil)
	p.mitm, err = mitm.New(mitm.Options{
		Route:   func(host string, port int) mitm.Route { return p.engine.Load().route(p.authority.Load(), host, port) },
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.engine.Load().pipeline.ServeHTTP(w, r) }),
		Certificate: func(host string) (*tls.Certificate, error) {
			return p.authority.Load().Certificate(host)
		},
		Authenticate: p.authenticate,

		Record:     func(ev mitm.Event) { p.recordEvent(ev, audit.NewRequestID()) },
		Refuse:     p.refuseRequest,
		DirectHint: "Programs that are given AWS_ENDPOINT_URL need the address of endpoint.listen; metrics, health and the console are on admin.listen.",

		Proxy:    p.tunnelProxy,
		ProxyTLS: &tls.Config{RootCAs: p.roots, MinVersion: tls.VersionTLS12},
		Logger:   p.log,
		Limits:   listenerLimits(cfg),
	})
	if err != nil {
		return nil, errors.Join(err, e.sessions.Close(), p.audit.Close(ctx))
	}
	return p, nil
}

// listenerLimits are those that the listeners keep from their start to their end.
func listenerLimits(cfg *config.Config) mitm.Limits {
	l := cfg.Limits
	return mitm.Limits{
		Connections: l.Connections, Tunnels: l.Tunnels, HeaderBytes: int(l.Header),
		Handshake: l.TLSTimeout, Header: l.HeaderTimeout, Idle: l.IdleTimeout,
		Body: l.BodyTimeout, Dial: l.ConnectTimeout, TunnelIdle: l.TunnelIdleTimeout,
	}
}

// tunnelProxy is the proxy that a tunnel goes through, by the configuration in force.
func (p *proxy) tunnelProxy(target *url.URL) (*url.URL, error) {
	if wayOut := p.engine.Load().wayOut; wayOut != nil {
		return wayOut(target)
	}
	return nil, nil
}

// newEngine makes an engine of a configuration. Where the way to STS did not
// change it goes on with the sessions of the engine before.
func (p *proxy) newEngine(ctx context.Context, cfg *config.Config, g grants, before *engine) (_ *engine, err error) {
	e := &engine{cfg: cfg, grants: g, wayOut: proxyFunc(cfg.Upstream.Proxy)}
	roles, err := sessionRoles(g)
	if err != nil {
		return nil, err
	}
	pipelineRoles, err := pipelineRoles(g)
	if err != nil {
		return nil, err
	}
	reuse := before != nil && reflect.DeepEqual(before.cfg.Upstream, cfg.Upstream) && before.cfg.Source == cfg.Source && before.cfg.Limits == cfg.Limits
	if reuse {
		e.transport, e.sessions = before.transport, before.sessions
	} else {
		if e.transport, err = newTransport(cfg, p.roots); err != nil {
			return nil, err
		}
		source := p.opt.Source
		if source == nil {
			source = sourceCredentials(ctx, cfg, e.transport)
		}
		e.sessions, err = rolesession.New(rolesession.Options{
			Roles: roles, Source: source, Profile: cfg.Source.Profile, Region: cfg.Source.STSRegion,
			HTTPClient: &http.Client{Transport: e.transport}, CacheSize: cfg.Limits.Sessions,
			Observe: p.observeSTS,
		})
		if err != nil {
			return nil, err
		}
		defer func() {
			if err != nil { // of what follows: these sessions serve nobody
				_ = e.sessions.Close()
			}
		}()
	}
	if e.issuers, err = issuerTransports(cfg, e.transport); err != nil {
		return nil, err
	}
	if e.identities, err = newIdentities(cfg, g, p.opt.Static, e.issuers); err != nil {
		return nil, err
	}
	if e.sts, err = virtualsts.New(virtualsts.Options{Identities: e.identities, Sessions: e.sessions, Roles: virtualRoles(g)}); err != nil {
		return nil, err
	}
	if err := checkCredentialCalls(cfg.CredentialCalls); err != nil {
		return nil, err
	}
	var hosts []pipeline.HostRule
	for _, h := range cfg.Hosts {
		hosts = append(hosts, pipeline.HostRule{Match: matcher(h.Pattern), Service: h.Service, Region: h.Region})
	}
	var unsigned []pipeline.UnsignedRule
	for _, u := range cfg.Unsigned {
		unsigned = append(unsigned, pipeline.UnsignedRule{Match: matcher(u.Hosts...), Methods: u.Methods})
	}
	e.pipeline, err = pipeline.New(pipeline.Options{
		Identities: e.identities, Sessions: e.sessions, STS: e.sts, Roles: pipelineRoles,
		Audit: p.audit, Metrics: p.metrics, Transport: e.transport,
		Hosts: hosts, Unsigned: unsigned, CredentialCalls: cfg.CredentialCalls,
		BodyBuffer: int64(cfg.Limits.BodyBuffer), BodyBufferSum: int64(cfg.Limits.BodyBufferSum),
		Chunk: int64(cfg.Limits.Chunk), Event: int64(cfg.Limits.Event), Observe: p.opt.Observe,
		Logger: p.log,
	})
	if err != nil {
		return nil, err
	}
	if reuse {
		// The last step that can fail, and it takes all roles or none.
		if err := e.sessions.SetRoles(roles); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// serve runs a server on a listener until it is shut down.
func (p *proxy) serve(name string, l net.Listener, h http.Handler, failed func(error)) {
	s := metrics.NewServer(h, zap.NewStdLog(p.log.Named(name)))
	p.servers = append(p.servers, s)
	p.serveWith(name, l, s, failed)
}

func (p *proxy) serveWith(name string, l net.Listener, s *http.Server, failed func(error)) {
	go func() {
		if err := s.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			failed(fmt.Errorf("%s listener: %w", name, err))
		}
	}()
}

// serveProxy runs the proxy listener until shutdown.
func (p *proxy) serveProxy(l net.Listener, failed func(error)) {
	go func() {
		if err := p.mitm.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			failed(fmt.Errorf("proxy listener: %w", err))
		}
	}()
}

// observeSTS counts calls to STS and says when they fail.
func (p *proxy) observeSTS(e rolesession.Event) {
	p.metrics.STSRequest(e.Role, string(e.Outcome), e.Duration)
	if e.Err != nil {
		p.log.Warn("a call to STS failed", zap.String("role", e.Role), zap.String("operation", e.Operation),
			zap.Bool("background", e.Background), zap.Error(e.Err))
		return
	}
	if !e.Once && !e.Expires.IsZero() { // that expires as it should; that is no session
		p.metrics.RoleSessionExpiry(e.Role, e.Expires)
	}
}

// checkCredentialCalls refuses names that let nothing through: one that is
// misspelt would be found out when the call is needed.
func checkCredentialCalls(calls []string) error {
	for _, call := range calls {
		service, operation, _ := strings.Cut(call, ":")
		switch yes, known := awsapi.HandsOutKeys(service, operation); {
		case !known:
			return fmt.Errorf("credential_calls: %s is not known; write service and operation as the record does, such as iam:CreateAccessKey", call)
		case !yes:
			return fmt.Errorf("credential_calls: the answer of %s carries no AWS keys, so that it is let through without; leave it out", call)
		}
	}
	return nil
}

func signatureReasons() []string {
	var out []string
	for _, r := range signer.Reasons() {
		out = append(out, string(r))
	}
	for _, r := range identity.Reasons() {
		out = append(out, string(r))
	}
	return out
}

func policyReasons() []string {
	var out []string
	for _, r := range policy.Reasons() {
		out = append(out, string(r))
	}
	return out
}

func stsResults() []string {
	var out []string
	for _, o := range rolesession.Outcomes() {
		out = append(out, string(o))
	}
	return out
}
