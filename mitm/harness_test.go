package mitm

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// guard is how long a test waits for what must come. It is no assertion.
const guard = 2 * time.Minute

// brief is a limit that a test waits for, within which a client has yet to do
// something. A busy machine may stop both for a while.
const brief = 2 * time.Second

// authority is a CA for tests: one key, a certificate for every host.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pool *x509.CertPool

	mu     sync.Mutex
	leaves map[string]*tls.Certificate
}

var testCA = sync.OnceValue(func() *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &authority{key: key, cert: cert, pool: pool, leaves: make(map[string]*tls.Certificate)}
})

func (a *authority) certificate(host string) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.leaves[host]; c != nil {
		return c, nil
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(int64(len(a.leaves) + 2)), Subject: pkix.Name{CommonName: host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		tmpl.IPAddresses = []net.IP{ip}
	} else {
		tmpl.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, a.key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	c := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.key}
	a.leaves[host] = c
	return c, nil
}

// testNow is the clock of events in tests.
var testNow = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

// proxy is a running Server.
type proxy struct {
	*Server
	t      testing.TB
	addr   string
	events chan Event
}

// startProxy runs a Server on a loopback port. What opt leaves out: everything
// is intercepted, with h2, and answered with 204; loopback addresses are
// permitted to tunnels; events are collected.
func startProxy(t testing.TB, opt Options) *proxy {
	t.Helper()
	return startProxyOn(t, opt, nil)
}

func startProxyOn(t testing.TB, opt Options, wrap func(net.Listener) net.Listener) *proxy {
	t.Helper()
	p := &proxy{t: t, events: make(chan Event, 1000)}
	if opt.Route == nil {
		opt.Route = func(string, int) Route { return Route{Action: Intercept, H2: true} }
	}
	if opt.Handler == nil {
		opt.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) })
	}
	if opt.Certificate == nil {
		opt.Certificate = testCA().certificate
	}
	if opt.PermitAddress == nil {
		opt.PermitAddress = func(a netip.AddrPort) bool { return a.Addr().IsLoopback() }
	}
	if opt.Now == nil {
		opt.Now = func() time.Time { return testNow }
	}
	opt.Record = func(e Event) { p.events <- e }
	s, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	p.Server = s
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.addr = l.Addr().String()
	if wrap != nil {
		l = wrap(l)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // cut off what a test left open
		s.Shutdown(ctx)
		if err := <-served; err != http.ErrServerClosed {
			t.Errorf("Serve returned %v, want http.ErrServerClosed", err)
		}
	})
	return p
}

// event returns the next event without what varies: durations, and the client's port.
func (p *proxy) event() Event {
	p.t.Helper()
	select {
	case e := <-p.events:
		e.Duration = 0
		if host, _, err := net.SplitHostPort(e.Client); err == nil {
			e.Client = host
		}
		return e
	case <-time.After(guard):
		p.t.Fatal("no event was recorded")
		return Event{}
	}
}

// wantEvent compares the next event, all but its Err.
func (p *proxy) wantEvent(want Event) Event {
	p.t.Helper()
	got := p.event()
	want.Time, want.Client = testNow, "127.0.0.1"
	err := got.Err
	got.Err = nil
	if got != want {
		p.t.Errorf("event\n got %+v\nwant %+v", got, want)
	}
	got.Err = err
	return got
}

// noEvent says that nothing more was recorded so far.
func (p *proxy) noEvent() {
	p.t.Helper()
	select {
	case e := <-p.events:
		p.t.Errorf("unexpected event %+v", e)
	default:
	}
}

// until waits for a condition that other goroutines bring about.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(guard); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never came about: %s", what)
		}
	}
}

// dial opens a TCP connection to the proxy.
func (p *proxy) dial() *net.TCPConn {
	p.t.Helper()
	c, err := net.Dial("tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(guard))
	p.t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// raw sends bytes to the proxy's port, and returns all of what comes back.
func (p *proxy) raw(s string) string {
	p.t.Helper()
	c := p.dial()
	io.WriteString(c, s)
	return readAll(p.t, c)
}

func readAll(t testing.TB, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil && !strings.Contains(err.Error(), "reset") {
		t.Fatalf("after %q: %v", b, err)
	}
	return string(b)
}

// connect sends a CONNECT and wants it accepted.
func (p *proxy) connect(authority string) *net.TCPConn {
	p.t.Helper()
	c := p.dial()
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", authority)
	const want = "HTTP/1.1 200 Connection established\r\n\r\n"
	got := make([]byte, len(want))
	n, err := io.ReadFull(c, got)
	if string(got[:n]) != want {
		p.t.Fatalf("CONNECT %s: got %q (%v)", authority, got[:n], err)
	}
	return c
}

// intercepted opens TLS behind a CONNECT. An empty sni sends none.
func (p *proxy) intercepted(authority, sni string, protocols ...string) *tls.Conn {
	p.t.Helper()
	c := tls.Client(p.connect(authority), &tls.Config{
		ServerName: sni, NextProtos: protocols,
		// Some tests name another host in SNI on purpose.
		InsecureSkipVerify: true,
	})
	if err := c.Handshake(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { c.Close() })
	return c
}

// exchange sends raw bytes on an intercepted HTTP/1.1 connection to
// host.example and returns the one response that they get.
func (p *proxy) exchange(raw string) *http.Response {
	p.t.Helper()
	c := p.intercepted("host.example:443", "host.example")
	io.WriteString(c, raw)
	return p.response(bufio.NewReader(c))
}

// response reads one response, body included.
func (p *proxy) response(br *bufio.Reader) *http.Response {
	p.t.Helper()
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	resp.Body = io.NopCloser(strings.NewReader(readAll(p.t, resp.Body)))
	return resp
}

// client is an HTTP client behind the proxy that trusts the test CA.
func (p *proxy) client(h2 bool) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!h2)
	protocols.SetHTTP2(h2)
	tr := &http.Transport{
		Proxy:           http.ProxyURL(&url.URL{Scheme: "http", Host: p.addr}),
		TLSClientConfig: &tls.Config{RootCAs: testCA().pool},
		Protocols:       protocols,
	}
	p.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}
