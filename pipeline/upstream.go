package pipeline

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// TransportOptions says how AWS is reached. The zero value goes there directly.
type TransportOptions struct {
	// RootCAs are trusted to vouch for AWS; nil: the system's.
	RootCAs *x509.CertPool
	// Proxy chooses the proxy on the way out, as http.Transport.Proxy does.
	Proxy func(*http.Request) (*url.URL, error)
	// Overrides send chosen hosts elsewhere. The first that matches counts.
	Overrides []Override

	DialTimeout         time.Duration // of one connection; 0 is 10 s
	TLSHandshakeTimeout time.Duration // 0 is 10 s
	// ResponseHeaderTimeout is how long AWS may take for the head of an answer
	// once the request is sent; 0 is 16 minutes, a minute more than the longest
	// call (a synchronous Lambda invocation).
	ResponseHeaderTimeout time.Duration
	IdleTimeout           time.Duration // of kept connections; 0 is 90 s
}

// Override sends the connections for some hosts to another address. Host name,
// SNI, signature and headers stay those of AWS.
type Override struct {
	Match   func(name string) bool // host names in lower case, without a port
	Address string                 // host:port, connected to directly
	RootCAs *x509.CertPool         // nil: those of TransportOptions
	TLS     bool                   // false: plain HTTP
}

// Transport reaches AWS. It adds no header, follows no redirect and decompresses
// nothing. HTTP/2 is spoken only for requests that came as HTTP/2, which is to
// say for calls that stream in both directions.
type Transport struct {
	direct    way
	overrides []overriddenWay
}

type way struct {
	h1, h2 *http.Transport
	plain  bool
}

type overriddenWay struct {
	match func(string) bool
	way
}

// idlePerHost keeps enough connections for a terraform run or an upload with
// many parts; net/http's own default of 2 would dial anew for most requests.
const idlePerHost = 256

// NewTransport makes a Transport. Close it with CloseIdleConnections.
func NewTransport(opt TransportOptions) *Transport {
	t := &Transport{direct: newWay(opt, opt.RootCAs, nil)}
	for _, o := range opt.Overrides {
		dialer := &net.Dialer{Timeout: orDuration(opt.DialTimeout, 10*time.Second), KeepAlive: 30 * time.Second}
		address := o.Address
		override := opt
		override.Proxy = nil // the address is meant as it stands
		pool := o.RootCAs
		if pool == nil {
			pool = opt.RootCAs
		}
		w := newWay(override, pool, func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, address)
		})
		w.plain = !o.TLS
		t.overrides = append(t.overrides, overriddenWay{o.Match, w})
	}
	return t
}

// maxResponseHeader bounds the head of an answer, in bytes.
const maxResponseHeader = 1 << 20

func newWay(opt TransportOptions, roots *x509.CertPool, dial func(context.Context, string, string) (net.Conn, error)) way {
	if dial == nil {
		dial = (&net.Dialer{Timeout: orDuration(opt.DialTimeout, 10*time.Second), KeepAlive: 30 * time.Second}).DialContext
	}
	build := func(h2 bool) *http.Transport {
		var protocols http.Protocols
		protocols.SetHTTP1(!h2)
		protocols.SetHTTP2(h2)
		return &http.Transport{
			Proxy:                  opt.Proxy,
			DialContext:            dial,
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    orDuration(opt.TLSHandshakeTimeout, 10*time.Second),
			ResponseHeaderTimeout:  orDuration(opt.ResponseHeaderTimeout, 16*time.Minute),
			ExpectContinueTimeout:  time.Second,
			IdleConnTimeout:        orDuration(opt.IdleTimeout, 90*time.Second),
			MaxIdleConns:           4 * idlePerHost,
			MaxIdleConnsPerHost:    idlePerHost,
			MaxResponseHeaderBytes: maxResponseHeader,
			DisableCompression:     true,
			WriteBufferSize:        32 << 10,
			ReadBufferSize:         32 << 10,
			Protocols:              &protocols,
		}
	}
	return way{h1: build(false), h2: build(true)}
}

func orDuration(d, standard time.Duration) time.Duration {
	if d <= 0 {
		return standard
	}
	return d
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	w := t.wayTo(r.URL.Host)
	if w.plain {
		out := *r
		u := *r.URL
		u.Scheme = "http"
		out.URL = &u
		return w.h1.RoundTrip(&out)
	}
	if r.ProtoMajor >= 2 {
		return w.h2.RoundTrip(r)
	}
	return w.h1.RoundTrip(r)
}

func (t *Transport) wayTo(authority string) way {
	name, _ := splitPort(authority)
	for _, o := range t.overrides {
		if o.match(strings.ToLower(name)) {
			return o.way
		}
	}
	return t.direct
}

// Configure makes another transport take the same ways, for clients that insist
// on an http.Transport of their own, as the AWS SDK's do where AWS_CA_BUNDLE is
// set. It speaks HTTP/1.1 only.
func (t *Transport) Configure(other *http.Transport) {
	other.Proxy = func(r *http.Request) (*url.URL, error) {
		if w := t.wayTo(r.URL.Host); w.h1.Proxy != nil {
			return w.h1.Proxy(r)
		}
		return nil, nil
	}
	other.DialContext = t.direct.h1.DialContext
	other.TLSClientConfig = t.direct.h1.TLSClientConfig.Clone() // of connections through a proxy
	if roots := other.TLSClientConfig.RootCAs; roots != nil {
		other.TLSClientConfig.RootCAs = roots.Clone() // the SDK adds to it
	}
	other.DialTLSContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		w := t.wayTo(address)
		conn, err := w.h1.DialContext(ctx, network, address)
		if err != nil || w.plain {
			return conn, err
		}
		config := w.h1.TLSClientConfig.Clone()
		config.ServerName, _ = splitPort(address)
		secure := tls.Client(conn, config)
		ctx, cancel := context.WithTimeout(ctx, w.h1.TLSHandshakeTimeout)
		defer cancel()
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		return secure, nil
	}
}

// CloseIdleConnections closes connections that no request uses.
func (t *Transport) CloseIdleConnections() {
	for _, w := range append([]overriddenWay{{way: t.direct}}, t.overrides...) {
		w.h1.CloseIdleConnections()
		w.h2.CloseIdleConnections()
	}
}
