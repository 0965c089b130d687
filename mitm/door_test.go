package mitm

import (
	"bufio"
	"cmp"
	"context"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestOptionsThatMakeNoServer(t *testing.T) {
	good := Options{
		Route:       func(string, int) Route { return Route{} },
		Handler:     http.NotFoundHandler(),
		Certificate: testCA().certificate,
	}
	for name, test := range map[string]struct {
		spoil func(*Options)
		want  string
	}{
		"no route":       {func(o *Options) { o.Route = nil }, "mitm: Options.Route is missing"},
		"no handler":     {func(o *Options) { o.Handler = nil }, "mitm: Options.Handler is missing"},
		"no certificate": {func(o *Options) { o.Certificate = nil }, "mitm: Options.Certificate is missing"},
		"negative limits": {func(o *Options) { o.Limits = Limits{Tunnels: -1, Idle: -time.Second} },
			"limit Tunnels is -1: it must be positive, or 0 for the default of 512\n" +
				"limit Idle is -1s: it must be positive, or 0 for the default of 3m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			o := good
			test.spoil(&o)
			if _, err := New(o); err == nil || err.Error() != test.want {
				t.Errorf("got error %v, want %s", err, test.want)
			}
		})
	}
}

// The zero Route refuses, and so does an action that does not exist.
func TestConnectRefused(t *testing.T) {
	for name, test := range map[string]struct {
		route  Route
		status string
		body   string
		code   string
	}{
		"zero route":     {Route{}, "403 this proxy does not connect to evil.example", "this proxy does not connect to evil.example", ""},
		"unknown action": {Route{Action: 99, Code: "odd"}, "403 this proxy does not connect to evil.example", "this proxy does not connect to evil.example", "odd"},
		"reason of two lines": {Route{Reason: "not an AWS host\nadd a rule", Code: "unknown"},
			"403 not an AWS host", "not an AWS host\nadd a rule", "unknown"},
		"reason that would split the head": {Route{Reason: "a\r\nSet-Cookie: x\tü"},
			"403 a", "a\r\nSet-Cookie: x\tü", ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := startProxy(t, Options{Route: func(string, int) Route { return test.route }})
			c := p.dial()
			// The ClientHello of a client that did not wait must not reset the answer away.
			io.WriteString(c, "CONNECT EVIL.example.:443 HTTP/1.1\r\nHost: x\r\n\r\n\x16\x03\x01"+strings.Repeat("x", 30000))
			br := bufio.NewReader(c)
			resp := p.response(br)
			body := readAll(t, resp.Body)
			if resp.Status != test.status || body != test.body+"\n" || !resp.Close {
				t.Errorf("got %q %q close=%v", resp.Status, body, resp.Close)
			}
			if date := resp.Header.Get("Date"); date != "Mon, 04 May 2026 03:02:01 GMT" {
				t.Errorf("Date is %q", date)
			}
			// Ended, not reset: a reset would have discarded the answer on some systems.
			if rest, err := io.ReadAll(br); len(rest) != 0 || err != nil {
				t.Errorf("after the answer came %q, %v", rest, err)
			}
			p.wantEvent(Event{Kind: KindReject, Code: test.code, Route: test.code, Reason: test.body, Host: "evil.example", Port: 443, Method: "CONNECT", Status: 403})
			if n := p.Stats().Refused; n != 1 {
				t.Errorf("Refused is %d", n)
			}
		})
	}
}

func TestConnectToNoTarget(t *testing.T) {
	p := startProxy(t, Options{Route: func(h string, _ int) Route {
		t.Errorf("a route was asked for %q", h)
		return Route{}
	}})
	for _, target := range []string{
		"host.example", "host.example:", "host.example:0", "host.example:65536", "host.example:+443", "host.example:0x1bb",
		":443", ".:443", "a..b:443", "user@host.example:443", "host.example:443/path", "host.example:443?q",
		"[::1]", "[::1", "[::1%25lo]:443", "[127.0.0.1]:443", "::1:443", "%6cocalhost:443", "h\u00f6st:443", "a b:443",
		"127.1:443", "2130706433:443", "0x7f000001:443", "0177.0.0.1:443", "127.0.0.01:443", "1.2.3.4.5:443", "evil.0x7f:443",
		strings.Repeat("a", 64) + ".example:443", strings.Repeat("a.", 130) + "example:443", "/path", "*",
	} {
		t.Run(target, func(t *testing.T) {
			got := p.raw("CONNECT " + target + " HTTP/1.1\r\nHost: host.example\r\n\r\n")
			if !strings.HasPrefix(got, "HTTP/1.1 400 ") {
				t.Errorf("got %q", got)
			}
			e := p.event()
			if e.Kind != KindReject && e.Kind != KindMalformed { // some are no HTTP for net/http
				t.Errorf("event %+v", e)
			}
		})
	}
}

func TestConnectWithContent(t *testing.T) {
	p := startProxy(t, Options{})
	for _, header := range []string{"Content-Length: 3", "Transfer-Encoding: chunked"} {
		got := p.raw("CONNECT host.example:443 HTTP/1.1\r\nHost: host.example\r\n" + header + "\r\n\r\nabc")
		if !strings.HasPrefix(got, "HTTP/1.1 400 a CONNECT has no content (RFC 9110, 9.3.6)\r\n") {
			t.Errorf("%s: got %q", header, got)
		}
		p.wantEvent(Event{Kind: KindReject, Code: CodeContent, Reason: "a CONNECT has no content (RFC 9110, 9.3.6)",
			Host: "host.example", Port: 443, Method: "CONNECT", Status: 400})
	}
}

// asksForAnn lets ann in, and anybody to a route called "open".
func asksForAnn(a Attempt) (Caller, error) {
	switch {
	case a.Route.Code == "open":
		return Caller{}, nil
	case !a.Sent:
		return Caller{}, errors.New("say who you are\nin HTTPS_PROXY")
	case a.User == "ann" && subtle.ConstantTimeCompare([]byte(a.Password), []byte("s3cret:x")) == 1:
		return Caller{Name: "Ann", Key: "ann"}, nil
	}
	return Caller{Name: "never shown", Key: a.User}, errors.New("not accepted")
}

func TestProxyAuthorization(t *testing.T) {
	p := startProxy(t, Options{
		Authenticate: asksForAnn,
		Route: func(host string, _ int) Route {
			if host == "open.example" {
				return Route{Code: "open"}
			}
			return Route{Code: "routed"}
		},
	})
	for name, test := range map[string]struct {
		headers           string
		status            string
		code, reason      string
		user, key, target string
	}{
		"right":               {"Proxy-Authorization: Basic YW5uOnMzY3JldDp4\r\n", "403", "routed", "no", "Ann", "ann", ""},
		"scheme in lower":     {"Proxy-Authorization: basic YW5uOnMzY3JldDp4\r\n", "403", "routed", "no", "Ann", "ann", ""},
		"missing":             {"", "407", CodeAuthentication, "say who you are\nin HTTPS_PROXY", "", "", ""},
		"missing, not needed": {"", "403", "open", "no", "", "", "open.example:443"},
		"in the wrong header": {"Authorization: Basic YW5uOnMzY3JldDp4\r\n",
			"407", CodeAuthentication, "say who you are\nin HTTPS_PROXY", "", "", ""},
		"wrong password": {"Proxy-Authorization: Basic YW5uOndyb25n\r\n", "407", CodeAuthentication, "not accepted", "", "ann", ""},
		"twice": {"Proxy-Authorization: Basic YW5uOnMzY3JldDp4\r\nProxy-Authorization: Basic YW5uOnMzY3JldDp4\r\n",
			"407", CodeAuthentication, "not accepted", "", "", ""},
		"another scheme": {"Proxy-Authorization: Bearer YW5uOnMzY3JldDp4\r\n", "407", CodeAuthentication, "not accepted", "", "", ""},
		"not base64":     {"Proxy-Authorization: Basic !!\r\n", "407", CodeAuthentication, "not accepted", "", "", ""},
		"no colon":       {"Proxy-Authorization: Basic YW5u\r\n", "407", CodeAuthentication, "not accepted", "", "", ""},
	} {
		for _, way := range []string{"CONNECT", "GET"} {
			t.Run(name+"/"+way, func(t *testing.T) {
				target, url, want := cmp.Or(test.target, "host.example:443"), "", Event{
					Kind: KindReject, Code: test.code, Reason: test.reason, Route: "routed", Method: way, Port: 443, User: test.user, Key: test.key,
				}
				want.Status, _ = strconv.Atoi(test.status)
				want.Host, _, _ = strings.Cut(target, ":")
				if test.target != "" {
					want.Route = "open"
				}
				if test.reason == "no" {
					want.Reason = "this proxy does not connect to " + want.Host
				}
				url = target
				if way == "GET" {
					if test.target != "" {
						t.Skip("a request with an absolute URL has no route")
					}
					url, want.Kind, want.Route, want.Port = "http://host.example/", KindPlain, "", 80
					if test.status == "403" {
						want.Code, want.Reason = CodePlainHTTP, "this proxy handles https:// only, by CONNECT: use https:// in the URL that is requested"
					}
				}
				got := p.raw(way + " " + url + " HTTP/1.1\r\nHost: host.example\r\n" + test.headers + "\r\n")
				if !strings.HasPrefix(got, "HTTP/1.1 "+test.status+" ") || test.status == "407" && !strings.Contains(got, "\r\n\r\n"+test.reason+"\n") {
					t.Errorf("got %q", got)
				}
				if asks := strings.Contains(got, "\r\nProxy-Authenticate: Basic realm="); asks != (test.status == "407") {
					t.Errorf("Proxy-Authenticate present: %v", asks)
				}
				p.wantEvent(want)
			})
		}
	}
	if text := fmt.Sprintf("%v %+v %#v", Attempt{User: "ann", Password: "s3cret"}, Attempt{Password: "s3cret"}, Attempt{Password: "s3cret"}); strings.Contains(text, "s3cret") {
		t.Errorf("an attempt prints its password: %s", text)
	}
}

// Who authenticated at the door is named by what becomes of the connection.
func TestTunnelNamesWhoOpenedIt(t *testing.T) {
	echo := listen(t, func(c net.Conn) { io.Copy(c, c) })
	p := startProxy(t, Options{Authenticate: asksForAnn, Route: tunnelRoute})
	c := p.dial()
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic YW5uOnMzY3JldDp4\r\n\r\n", echo)
	br := bufio.NewReader(c)
	if line, err := br.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.") || !strings.Contains(line, " 200 ") {
		t.Fatalf("got %q, %v", line, err)
	}
	io.WriteString(c, "hello")
	c.CloseWrite()
	if got := readAll(t, br); !strings.HasSuffix(got, "\r\nhello") {
		t.Errorf("got %q", got)
	}
	if e := p.event(); e.Kind != KindTunnel || e.User != "Ann" || e.Key != "ann" {
		t.Errorf("event %+v", e)
	}
}

func TestPlainHTTPIsRefused(t *testing.T) {
	p := startProxy(t, Options{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler was called") })})
	for name, test := range map[string]struct {
		head, reason, method, host string
		port                       int
	}{
		"http": {"GET http://host.example/x HTTP/1.1\r\nHost: host.example\r\n",
			"this proxy handles https:// only, by CONNECT: use https:// in the URL that is requested", "GET", "host.example", 80},
		"https without CONNECT": {"PUT https://host.example/ HTTP/1.1\r\nHost: host.example\r\n",
			"this proxy handles https:// by CONNECT, and this client asked for the URL itself: configure it as HTTPS_PROXY, not as a gateway", "PUT", "host.example", 80},
		"metadata": {"PUT http://169.254.169.254/latest/api/token HTTP/1.1\r\nHost: 169.254.169.254\r\n",
			"169.254.169.254 is reached from the client's own machine, not through this proxy: write NO_PROXY=169.254.169.254", "PUT", "169.254.169.254", 80},
		"metadata by IPv6": {"GET http://[fd00:ec2::254]/ HTTP/1.1\r\nHost: x\r\n",
			"fd00:ec2::254 is reached from the client's own machine, not through this proxy: write NO_PROXY=fd00:ec2::254", "GET", "fd00:ec2::254", 80},
		"localhost": {"GET http://localhost:3000/ HTTP/1.1\r\nHost: x\r\n",
			"localhost is reached from the client's own machine, not through this proxy: write NO_PROXY=localhost", "GET", "localhost", 3000},
		"ftp": {"GET ftp://host.example/ HTTP/1.1\r\nHost: x\r\n",
			"this proxy handles https:// only, by CONNECT: use https:// in the URL that is requested", "GET", "host.example", 80},
	} {
		t.Run(name, func(t *testing.T) {
			got := p.raw(test.head + "\r\n")
			if !strings.HasPrefix(got, "HTTP/1.1 403 ") || !strings.HasSuffix(got, "\r\n\r\n"+test.reason+"\n") || !strings.Contains(got, "\r\nConnection: close\r\n") {
				t.Errorf("got %q", got)
			}
			p.wantEvent(Event{Kind: KindPlain, Code: CodePlainHTTP, Reason: test.reason, Host: test.host, Port: test.port, Method: test.method, Status: 403})
		})
	}
}

// The body that a refused request announces must not be answered as a request.
func TestPlainHTTPWithExpectIsRefusedOnce(t *testing.T) {
	p := startProxy(t, Options{})
	got := p.raw("PUT http://host.example/ HTTP/1.1\r\nHost: host.example\r\nExpect: 100-continue\r\nContent-Length: 60\r\n\r\nGET http://other.example/ HTTP/1.1\r\nHost: other.example\r\n\r\n")
	if strings.Count(got, "HTTP/1.1 ") != 1 || strings.Contains(got, "100 Continue") {
		t.Errorf("got %q", got)
	}
	p.event()
	p.noEvent()
}

func TestRequestsToTheProxyItself(t *testing.T) {
	p := startProxy(t, Options{DirectHint: "Programs that cannot use a proxy: see endpoint.listen."})
	const reason = "this is a forward proxy for https://, not a website: set HTTPS_PROXY to this address, and ask for the real URL\n" +
		"Programs that cannot use a proxy: see endpoint.listen."
	for _, line := range []string{"GET / HTTP/1.1", "GET //evil.example/ HTTP/1.1", "OPTIONS * HTTP/1.1", "PRI * HTTP/2.0"} {
		got := p.raw(line + "\r\nHost: " + p.addr + "\r\n\r\n")
		if !strings.HasPrefix(got, "HTTP/1.1 400 ") || !strings.HasSuffix(got, "\r\n\r\n"+reason+"\n") {
			t.Errorf("%s: got %q", line, got)
		}
		p.wantEvent(Event{Kind: KindPlain, Code: CodeNotProxy, Reason: reason, Method: strings.Fields(line)[0], Status: 400})
	}
}

func TestBytesThatAreNoHTTPAtTheDoor(t *testing.T) {
	const notHTTP = "bytes that are not an HTTP request were sent to the proxy's port"
	for name, test := range map[string]struct{ bytes, prefix, code, reason string }{
		"garbage": {"\x00\x01\x02\x03\r\n\r\n", "HTTP/1.1 400 ", CodeNotHTTP, notHTTP},
		"a head beyond the limit": {"CONNECT host.example:443 HTTP/1.1\r\nX: " + strings.Repeat("x", 70<<10) + "\r\n\r\n",
			"HTTP/1.1 431 ", CodeNotHTTP, notHTTP},
		"TLS": {"\x16\x03\x01\x00\x05hello\r\n\r\n", "HTTP/1.1 400 ", CodeTLSToPlain,
			"the client opened TLS towards the proxy itself, which listens without: write http:// in HTTPS_PROXY"},
	} {
		t.Run(name, func(t *testing.T) {
			p := startProxy(t, Options{})
			if got := p.raw(test.bytes); !strings.HasPrefix(got, test.prefix) {
				t.Errorf("got %q", got)
			}
			p.wantEvent(Event{Kind: KindMalformed, Code: test.code, Reason: test.reason})
			if n := p.Stats().Malformed; n != 1 {
				t.Errorf("Malformed is %d", n)
			}
		})
	}
}

// Load balancers connect and close all day.
func TestConnectionWithoutBytesIsNotAnEvent(t *testing.T) {
	p := startProxy(t, Options{})
	p.dial().Close()
	until(t, "the connection is counted and gone", func() bool {
		s := p.Stats()
		return s.TotalConnections == 1 && s.Connections == 0
	})
	p.noEvent()
}

func TestSlowHeadIsCutOff(t *testing.T) {
	t.Parallel()
	p := startProxy(t, Options{Limits: Limits{Header: brief}})
	c := p.dial()
	io.WriteString(c, "CONNECT host.example:443 HTTP/1.1\r\nX-Slow: ")
	readAll(t, c) // ends
	p.wantEvent(Event{Kind: KindMalformed, Code: CodeNotHTTP, Reason: "bytes that are not an HTTP request were sent to the proxy's port"})
}

// At the limit a new connection waits, and is served when another ends.
func TestConnectionLimit(t *testing.T) {
	p := startProxy(t, Options{Limits: Limits{Connections: 1}})
	first := p.connect("host.example:443")
	second := p.dial()
	io.WriteString(second, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if n := p.Stats().TotalConnections; n != 1 {
		t.Errorf("%d connections were accepted", n)
	}
	first.Close()
	if got := readAll(t, second); !strings.HasPrefix(got, "HTTP/1.1 400 ") {
		t.Errorf("got %q", got)
	}
}

type exhausted struct{ net.Listener }

func (exhausted) Accept() (net.Conn, error) {
	return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
}

// net/http tries again by itself; whoever runs the proxy must hear of it, once.
func TestNoFileDescriptorLeft(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	s, err := New(Options{
		Route:       func(string, int) Route { return Route{} },
		Handler:     http.NotFoundHandler(),
		Certificate: testCA().certificate,
		Logger:      zap.New(core),
	})
	if err != nil {
		t.Fatal(err)
	}
	l := &listener{Listener: exhausted{}, server: s, closed: make(chan struct{})}
	for range 3 {
		if _, err := l.Accept(); !errors.Is(err, syscall.EMFILE) {
			t.Errorf("got %v", err)
		}
	}
	if n := len(s.slots); n != 0 {
		t.Errorf("%d places are taken by connections that do not exist", n)
	}
	if n := logs.FilterMessageSnippet("ulimit -n").Len(); n != 1 || logs.Len() != 1 {
		t.Errorf("%v", logs.All())
	}
}

// A proxy reached by https:// is a TLS listener that the caller made.
func TestProxyBehindTLS(t *testing.T) {
	cert, _ := testCA().certificate("proxy.example")
	p := startProxyOn(t, Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Host, r.RequestURI) })},
		func(l net.Listener) net.Listener {
			return tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{*cert}})
		})
	outer := tls.Client(p.dial(), &tls.Config{ServerName: "proxy.example", RootCAs: testCA().pool})
	io.WriteString(outer, "CONNECT host.example:443 HTTP/1.1\r\nHost: host.example:443\r\n\r\n")
	br := bufio.NewReader(outer)
	if line, _ := br.ReadString('\n'); line != "HTTP/1.1 200 Connection established\r\n" {
		t.Fatalf("got %q", line)
	}
	br.ReadString('\n')
	inner := tls.Client(outer, &tls.Config{ServerName: "host.example", RootCAs: testCA().pool})
	io.WriteString(inner, "GET /x HTTP/1.1\r\nHost: host.example\r\nConnection: close\r\n\r\n")
	resp := p.response(bufio.NewReader(inner))
	if body := readAll(t, resp.Body); body != "host.example/x" {
		t.Errorf("got %q", body)
	}
}

// goproxy would take it for the way out of tunnels.
func TestEnvironmentIsNotAWayOut(t *testing.T) {
	sink, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sink.Close() // whoever connects here fails
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY"} {
		t.Setenv(name, "http://"+sink.Addr().String())
	}
	remote := listen(t, func(c net.Conn) { io.WriteString(c, "remote speaks") })
	p := startProxy(t, Options{Route: func(string, int) Route { return Route{Action: Tunnel} }})
	c := p.connect(remote)
	c.CloseWrite()
	if got := readAll(t, c); got != "remote speaks" {
		t.Errorf("got %q", got)
	}
}

func TestPanicInRouteCostsOneConnection(t *testing.T) {
	p := startProxy(t, Options{Route: func(host string, _ int) Route {
		if host == "boom.example" {
			panic("boom")
		}
		return Route{Reason: "no"}
	}})
	if got := p.raw("CONNECT boom.example:443 HTTP/1.1\r\nHost: x\r\n\r\n"); got != "" {
		t.Errorf("got %q", got)
	}
	e := p.wantEvent(Event{Kind: KindPanic, Code: CodePanic, Host: "boom.example", Port: 443, Method: "CONNECT",
		Reason: "an error in the proxy itself cost this connection: its log has the stack"})
	if e.Err == nil || e.Err.Error() != "panic: boom" {
		t.Errorf("error %v", e.Err)
	}
	if got := p.raw("CONNECT fine.example:443 HTTP/1.1\r\nHost: x\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 403 no\r\n") {
		t.Errorf("got %q", got)
	}
}

// A server that never served can be shut down, and does not serve afterwards.
func TestShutdownBeforeServe(t *testing.T) {
	s, err := New(Options{Route: func(string, int) Route { return Route{} }, Handler: http.NotFoundHandler(), Certificate: testCA().certificate})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(l); err != http.ErrServerClosed {
		t.Errorf("Serve returned %v", err)
	}
}
