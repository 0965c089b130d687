package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/logging"
	"golang.org/x/net/http/httpproxy"

	"github.com/countersign-proxy/countersign/awsapi"
	"github.com/countersign-proxy/countersign/ca"
	"github.com/countersign-proxy/countersign/config"
	"github.com/countersign-proxy/countersign/mitm"
	"github.com/countersign-proxy/countersign/pipeline"
)

// The words of mitm.Route.Code.
const (
	routeAWS     = "aws"
	routeRule    = "rule"
	routeTunnel  = "tunnel"
	routePort    = "port"
	routeUnknown = "unknown host"
	routeForeign = "foreign host"
	routeCA      = "ca"
)

// route decides about a CONNECT: AWS API endpoints and hosts of rules are
// intercepted, what is not AWS is tunnelled as far as the configuration allows,
// and everything else is refused.
func (e *engine) route(authority *ca.Authority, host string, port int) mitm.Route {
	intercept := func(code string, h2 bool) mitm.Route {
		if port != 443 && port != 8443 {
			return mitm.Route{Code: routePort, Reason: fmt.Sprintf("%s is an AWS API, which is reached on port 443 or 8443, not %d", host, port)}
		}
		if !authority.Permits(host) {
			return mitm.Route{Code: routeCA, Reason: fmt.Sprintf("the local CA is not permitted to sign for %s, which a rule of the configuration names; run `countersign ca rotate` to make one that is", host)}
		}
		return mitm.Route{Action: mitm.Intercept, Code: code, H2: h2}
	}
	h, verdict := awsapi.LookupHost(host)
	for _, rule := range e.cfg.Hosts {
		if config.MatchHost(rule.Pattern, host) {
			return intercept(routeRule, h.NeedsHTTP2())
		}
	}
	for _, rule := range e.cfg.Unsigned {
		if matcher(rule.Hosts...)(host) {
			return intercept(routeRule, h.NeedsHTTP2())
		}
	}
	switch verdict {
	case awsapi.HostAPI:
		return intercept(routeAWS, h.NeedsHTTP2())
	case awsapi.HostUnknown:
		return mitm.Route{Code: routeUnknown, Reason: fmt.Sprintf("%s has the shape of an AWS endpoint but is not in countersign's tables, so nothing is signed for it; "+
			"a rule in `hosts` admits it: {pattern: %q, service: SERVICE, region: REGION}", host, host)}
	}
	switch e.cfg.Tunnel.Mode {
	case config.TunnelPublic:
		return mitm.Route{Action: mitm.Tunnel, Code: routeTunnel}
	case config.TunnelList:
		if matcher(e.cfg.Tunnel.Patterns...)(host) {
			return mitm.Route{Action: mitm.Tunnel, Code: routeTunnel}
		}
		return mitm.Route{Code: routeForeign, Reason: fmt.Sprintf("%s is not an AWS API endpoint, and `tunnel` does not list it", host)}
	}
	return mitm.Route{Code: routeForeign, Reason: fmt.Sprintf("%s is not an AWS API endpoint, and `tunnel` is none: only AWS can be reached through this proxy", host)}
}

// matcher matches host names against patterns of the configuration.
func matcher(patterns ...string) func(string) bool {
	return func(name string) bool {
		for _, p := range patterns {
			if config.MatchHost(p, name) {
				return true
			}
		}
		return false
	}
}

// newTransport makes the way to AWS that the configuration describes.
func newTransport(cfg *config.Config, roots *x509.CertPool) (*pipeline.Transport, error) {
	opt := pipeline.TransportOptions{
		RootCAs: roots, Proxy: requestProxy(cfg.Upstream.Proxy),
		DialTimeout: cfg.Limits.ConnectTimeout, TLSHandshakeTimeout: cfg.Limits.TLSTimeout,
		ResponseHeaderTimeout: cfg.Limits.ResponseTimeout, IdleTimeout: cfg.Limits.IdleTimeout,
	}
	for i, o := range cfg.Upstream.Override {
		override := pipeline.Override{Match: matcher(o.Hosts...), Address: o.Address, TLS: o.TLS}
		if o.CAFile != "" {
			var err error
			if override.RootCAs, err = readRoots(o.CAFile); err != nil {
				return nil, fmt.Errorf("upstream.override[%d].ca_file: %w", i, err)
			}
		}
		opt.Overrides = append(opt.Overrides, override)
	}
	return pipeline.NewTransport(opt), nil
}

// issuerTransports are the ways to the OIDC issuers, by their URLs: the common
// one, or for issuers with roots of their own one that trusts nothing else. Those
// keep no connections, since keys are fetched once an hour, so that nothing of
// them is left behind by a reload.
func issuerTransports(cfg *config.Config, common http.RoundTripper) (map[string]http.RoundTripper, error) {
	out := make(map[string]http.RoundTripper, len(cfg.Issuers))
	for i, is := range cfg.Issuers {
		out[is.URL] = common
		if is.CAFile == "" {
			continue
		}
		roots, err := readRoots(is.CAFile)
		if err != nil {
			return nil, fmt.Errorf("issuers[%d].ca_file: %w", i, err)
		}
		out[is.URL] = &http.Transport{
			Proxy:                 requestProxy(cfg.Upstream.Proxy),
			DialContext:           (&net.Dialer{Timeout: cfg.Limits.ConnectTimeout}).DialContext,
			TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:   cfg.Limits.TLSTimeout,
			ResponseHeaderTimeout: issuerTimeout,
			DisableKeepAlives:     true,
		}
	}
	return out, nil
}

func readRoots(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", file)
	}
	return roots, nil
}

// proxyFunc chooses the proxy on the way out: that of the environment, none, or
// the given one. Addresses of machine metadata are always reached directly.
func proxyFunc(setting string) func(*url.URL) (*url.URL, error) {
	var choose func(*url.URL) (*url.URL, error)
	switch setting {
	case "none":
		return nil
	case "", "env":
		choose = httpproxy.FromEnvironment().ProxyFunc()
	default:
		choose = (&httpproxy.Config{HTTPProxy: setting, HTTPSProxy: setting}).ProxyFunc()
	}
	return func(u *url.URL) (*url.URL, error) {
		if a, err := netip.ParseAddr(u.Hostname()); err == nil && (a.IsLinkLocalUnicast() || a.IsLoopback() || a == ec2MetadataV6 || a == eksAgentV6) {
			return nil, nil
		}
		return choose(u)
	}
}

var (
	ec2MetadataV6 = netip.MustParseAddr("fd00:ec2::254")
	eksAgentV6    = netip.MustParseAddr("fd00:ec2::23")
)

func requestProxy(setting string) func(*http.Request) (*url.URL, error) {
	f := proxyFunc(setting)
	if f == nil {
		return nil
	}
	return func(r *http.Request) (*url.URL, error) { return f(r.URL) }
}

// sourceCredentials finds the proxy's own AWS credentials by the SDK's default
// chain: environment, profile, SSO, web identity, container, machine. Where they
// cannot be found, every use of them says why: a proxy that does not start explains
// nothing to its clients, and the cause may be mended meanwhile.
func sourceCredentials(ctx context.Context, cfg *config.Config, transport *pipeline.Transport) aws.CredentialsProvider {
	load := func(ctx context.Context) (aws.CredentialsProvider, error) {
		c, err := sourceConfig(ctx, cfg, transport)
		if err != nil {
			return nil, err
		}
		return c.Credentials, nil
	}
	s := &source{load: load}
	s.provider, _ = load(ctx) // what fails is tried again at the first use
	return s
}

func sourceConfig(ctx context.Context, cfg *config.Config, transport *pipeline.Transport) (aws.Config, error) {
	client := awshttp.NewBuildableClient()
	if transport != nil {
		client = client.WithTransportOptions(transport.Configure)
	}
	options := []func(*awsconfig.LoadOptions) error{
		awsconfig.WithHTTPClient(client),
		awsconfig.WithLogger(logging.Nop{}), // its warnings go to standard error; failures are explained by whoever needed the credentials
		awsconfig.WithDefaultRegion(cfg.Source.Region),
	}
	if cfg.Source.Profile != "" {
		options = append(options, awsconfig.WithSharedConfigProfile(cfg.Source.Profile))
	}
	return awsconfig.LoadDefaultConfig(ctx, options...)
}
