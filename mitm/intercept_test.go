package mitm

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestInterceptedRequestArrivesAsSent(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("h2 %v", h2), func(t *testing.T) {
			type seen struct {
				method, uri, host, scheme, urlHost, rawPath, query, remote, proto, sni, body string
				length                                                                       int64
				header                                                                       string
			}
			got := make(chan seen, 1)
			p := startProxy(t, Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					t.Error(err)
				}
				remote, _, _ := net.SplitHostPort(r.RemoteAddr)
				got <- seen{r.Method, r.RequestURI, r.Host, r.URL.Scheme, r.URL.Host, r.URL.EscapedPath(), r.URL.RawQuery, remote, r.Proto, r.TLS.ServerName,
					string(body), r.ContentLength, r.Header.Get("X-Amz-Date")}
				fmt.Fprint(w, "done")
			})})
			const uri = "/a%2Fb//c+d/%7e?b=%20&a=x+y&&"
			req, err := http.NewRequest("PUT", "https://Bucket.host.example:8443"+uri, strings.NewReader("body"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("X-Amz-Date", "20260504T030201Z")
			resp, err := p.client(h2).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			if body := readAll(t, resp.Body); body != "done" || resp.StatusCode != 200 {
				t.Errorf("got %d %q", resp.StatusCode, body)
			}
			resp.Body.Close()
			proto := "HTTP/1.1"
			if h2 {
				proto = "HTTP/2.0"
			}
			want := seen{"PUT", uri, "Bucket.host.example:8443", "https", "bucket.host.example:8443", "/a%2Fb//c+d/%7e", "b=%20&a=x+y&&",
				"127.0.0.1", proto, "Bucket.host.example", "body", 4, "20260504T030201Z"}
			g := <-got
			if want.sni = strings.ToLower(want.sni); strings.EqualFold(g.sni, want.sni) {
				g.sni = want.sni // clients differ in the case that they send
			}
			if g != want {
				t.Errorf("\n got %+v\nwant %+v", g, want)
			}
			p.noEvent()
			if n := p.Stats().TotalRequests; n != 1 {
				t.Errorf("TotalRequests is %d", n)
			}
		})
	}
}

func TestHTTP2IsOfferedWhereTheRouteSaysSo(t *testing.T) {
	p := startProxy(t, Options{Route: func(host string, _ int) Route {
		return Route{Action: Intercept, H2: strings.HasPrefix(host, "h2.")}
	}})
	for host, want := range map[string]string{"h2.example": "h2", "h1.example": "http/1.1"} {
		c := p.intercepted(host+":443", host, "h2", "http/1.1")
		if got := c.ConnectionState().NegotiatedProtocol; got != want {
			t.Errorf("%s: got %q, want %q", host, got, want)
		}
	}
}

// Whoever does not wait for the answer to CONNECT sends the ClientHello with it.
func TestBytesGluedToTheConnectAreReplayed(t *testing.T) {
	p := startProxy(t, Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.RequestURI) })})
	raw := p.dial()
	c := tls.Client(&gluedConn{Conn: raw, head: "CONNECT host.example:443 HTTP/1.1\r\nHost: host.example:443\r\n\r\n",
		skip: len("HTTP/1.1 200 Connection established\r\n\r\n")}, &tls.Config{ServerName: "host.example", RootCAs: testCA().pool})
	io.WriteString(c, "GET /glued HTTP/1.1\r\nHost: host.example\r\nConnection: close\r\n\r\n")
	resp := p.response(bufio.NewReader(c))
	if body := readAll(t, resp.Body); body != "/glued" {
		t.Errorf("got %q", body)
	}
}

// gluedConn sends head in one piece with the first write, and skips the first
// bytes that come back.
type gluedConn struct {
	net.Conn
	head string
	skip int
}

func (c *gluedConn) Write(p []byte) (int, error) {
	if c.head == "" {
		return c.Conn.Write(p)
	}
	n, err := c.Conn.Write(append([]byte(c.head), p...))
	n -= len(c.head)
	c.head = ""
	return n, err
}

func (c *gluedConn) Read(p []byte) (int, error) {
	if c.skip > 0 {
		if _, err := io.ReadFull(c.Conn, make([]byte, c.skip)); err != nil {
			return 0, err
		}
		c.skip = 0
	}
	return c.Conn.Read(p)
}

// HTTP/1.0 clients are answered in their version.
func TestConnectOfHTTP10(t *testing.T) {
	p := startProxy(t, Options{})
	c := p.dial()
	io.WriteString(c, "CONNECT host.example:443 HTTP/1.0\r\n\r\n")
	if line, _ := bufio.NewReader(c).ReadString('\n'); line != "HTTP/1.0 200 Connection established\r\n" {
		t.Errorf("got %q", line)
	}
}

func TestHostsMustAgree(t *testing.T) {
	p := startProxy(t, Options{})
	const mismatch = "the request is for %s, but the CONNECT was for %s: they must agree, in host and port"
	for name, test := range map[string]struct {
		connect, sni, host string
		status             int
		code, reason       string
	}{
		"same":                   {"host.example:443", "host.example", "host.example", 204, "", ""},
		"case":                   {"HOST.example:443", "host.EXAMPLE", "Host.Example", 204, "", ""},
		"trailing dots":          {"host.example.:443", "host.example", "host.example.", 204, "", ""},
		"default port written":   {"host.example:443", "host.example", "host.example:443", 204, "", ""},
		"no SNI":                 {"host.example:443", "", "host.example", 204, "", ""},
		"another port":           {"host.example:8443", "host.example", "host.example:8443", 204, "", ""},
		"IPv6 literal":           {"[2001:db8::1]:443", "", "[2001:DB8:0::1]", 204, "", ""},
		"IPv4 literal":           {"192.0.2.1:443", "", "192.0.2.1:443", 204, "", ""},
		"other SNI":              {"host.example:443", "evil.example", "host.example", 421, CodeServerName, "the TLS handshake named the host evil.example, but the CONNECT host.example: they must agree"},
		"other SNI and Host":     {"host.example:443", "evil.example", "evil.example", 421, CodeServerName, "the TLS handshake named the host evil.example, but the CONNECT host.example: they must agree"},
		"SNI beside a literal":   {"192.0.2.1:443", "host.example", "192.0.2.1", 421, CodeServerName, "the TLS handshake named the host host.example, but the CONNECT 192.0.2.1: they must agree"},
		"other Host":             {"host.example:443", "host.example", "evil.example", 421, CodeAuthority, fmt.Sprintf(mismatch, "evil.example", "host.example")},
		"Host of a parent":       {"b.host.example:443", "b.host.example", "host.example", 421, CodeAuthority, fmt.Sprintf(mismatch, "host.example", "b.host.example")},
		"Host with a suffix":     {"host.example:443", "host.example", "host.example.evil.example", 421, CodeAuthority, fmt.Sprintf(mismatch, "host.example.evil.example", "host.example")},
		"other port in Host":     {"host.example:443", "host.example", "host.example:8443", 421, CodeAuthority, fmt.Sprintf(mismatch, "host.example:8443", "host.example")},
		"Host without its port":  {"host.example:8443", "host.example", "host.example", 421, CodeAuthority, fmt.Sprintf(mismatch, "host.example", "host.example:8443")},
		"Host with an odd port":  {"host.example:443", "host.example", "host.example:443x", 400, CodeAuthority, `the request's Host is not host:port: "443x" is not a port`},
		"Host of two names":      {"host.example:443", "host.example", "host.example,evil.example", 400, CodeAuthority, `the request's Host is not host:port: the host contains ",": write international names in their xn-- form`},
		"empty Host":             {"host.example:443", "host.example", "", 400, CodeAuthority, "the request names no host: send Host (or :authority)"},
		"unusual IPv4 of a Host": {"127.0.0.1:443", "", "127.1", 400, CodeAuthority, "the request's Host is not host:port: the host is an IPv4 address in an unusual form: write it as four decimal numbers"},
	} {
		t.Run(name, func(t *testing.T) {
			c := p.intercepted(test.connect, test.sni)
			fmt.Fprintf(c, "GET /x HTTP/1.1\r\nHost: %s\r\n\r\n", test.host)
			resp := p.response(bufio.NewReader(c))
			if resp.StatusCode != test.status {
				t.Errorf("status %d, want %d", resp.StatusCode, test.status)
			}
			if test.reason == "" {
				p.noEvent()
				return
			}
			if body := readAll(t, resp.Body); body != test.reason+"\n" || !resp.Close {
				t.Errorf("body %q close %v", body, resp.Close)
			}
			want, err := parseAuthority(test.connect, 0)
			if err != nil {
				t.Fatal(err)
			}
			p.wantEvent(Event{Kind: KindRequest, Code: test.code, Reason: test.reason, Host: want.host, Port: want.port, Method: "GET", Status: test.status})
		})
	}
}

// The certificate is for the host of the CONNECT, whatever SNI says.
func TestCertificateIsTheConnectsHost(t *testing.T) {
	asked := make(chan string, 10)
	p := startProxy(t, Options{Certificate: func(host string) (*tls.Certificate, error) {
		asked <- host
		return testCA().certificate(host)
	}})
	c := p.intercepted("Host.example:443", "evil.example")
	if names := c.ConnectionState().PeerCertificates[0].DNSNames; len(names) != 1 || names[0] != "host.example" {
		t.Errorf("the certificate is for %v", names)
	}
	if got := <-asked; got != "host.example" || len(asked) != 0 {
		t.Errorf("certificates were asked for %q and %d others", got, len(asked))
	}
}

func TestNoCertificate(t *testing.T) {
	p := startProxy(t, Options{Certificate: func(host string) (*tls.Certificate, error) {
		if host == "none.example" {
			return nil, nil
		}
		return nil, errors.New("the CA has expired: run ca rotate")
	}})
	for host, reason := range map[string]string{
		"host.example": "the proxy cannot make a certificate for host.example: the CA has expired: run ca rotate",
		"none.example": "the proxy cannot make a certificate for none.example: no certificate",
	} {
		if got := p.raw("CONNECT " + host + ":443 HTTP/1.1\r\nHost: x\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 500 "+reason+"\r\n") {
			t.Errorf("got %q", got)
		}
		p.wantEvent(Event{Kind: KindReject, Code: CodeCertificate, Reason: reason, Host: host, Port: 443, Method: "CONNECT", Status: 500})
	}
}

// The most frequent mistake of all.
func TestClientThatDoesNotTrustTheCA(t *testing.T) {
	p := startProxy(t, Options{})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		c := tls.Client(p.connect("host.example:443"), &tls.Config{ServerName: "host.example", RootCAs: x509.NewCertPool(), MaxVersion: version})
		if err := c.Handshake(); err == nil {
			t.Fatal("the handshake succeeded")
		}
		e := p.wantEvent(Event{Kind: KindHandshake, Code: CodeUntrusted, Reason: "the client does not trust the CA of this proxy: set its trust bundle",
			Host: "host.example", Port: 443, Method: "CONNECT"})
		if e.Err == nil {
			t.Error("the event has no error")
		}
	}
	until(t, "the connections are closed", func() bool { return p.Stats().Connections == 0 })
	if n := p.Stats().HandshakeErrors; n != 2 {
		t.Errorf("HandshakeErrors is %d", n)
	}
}

// OpenSSL refuses a certificate of TLS 1.3 with an alert in the clear.
func TestClientThatDoesNotTrustTheCAAndSaysSoInTheClear(t *testing.T) {
	p := startProxy(t, Options{})
	for alert, want := range map[byte]Event{
		48:  {Code: CodeUntrusted, Reason: "the client does not trust the CA of this proxy: set its trust bundle"},
		45:  {Code: CodeUntrusted, Reason: "the client takes the certificate for expired: compare the clocks of client and proxy"},
		120: {Code: CodeALPN, Reason: "client and proxy have no protocol in common: h2 and http/1.1 were offered"},
		80:  {Code: CodeTLS, Reason: "the TLS handshake with the client failed: local error: tls: bad record MAC"},
	} {
		raw := p.connect("host.example:443")
		c := tls.Client(raw, &tls.Config{ServerName: "host.example", InsecureSkipVerify: true, MinVersion: tls.VersionTLS13,
			VerifyConnection: func(tls.ConnectionState) error {
				raw.Write([]byte{0x14, 3, 3, 0, 1, 1, 0x15, 3, 3, 0, 2, 2, alert})
				raw.CloseWrite()
				return errors.New("no trust")
			}})
		if err := c.Handshake(); err == nil {
			t.Fatal("the handshake succeeded")
		}
		want.Kind, want.Host, want.Port, want.Method = KindHandshake, "host.example", 443, "CONNECT"
		p.wantEvent(want)
	}
}

func TestNoProtocolInCommon(t *testing.T) {
	p := startProxy(t, Options{Route: func(string, int) Route { return Route{Action: Intercept} }})
	c := tls.Client(p.connect("host.example:443"), &tls.Config{ServerName: "host.example", RootCAs: testCA().pool, NextProtos: []string{"h2"}})
	if err := c.Handshake(); err == nil {
		t.Fatal("the handshake succeeded")
	}
	p.wantEvent(Event{Kind: KindHandshake, Code: CodeALPN, Reason: "client and proxy have no protocol in common: http/1.1 was offered",
		Host: "host.example", Port: 443, Method: "CONNECT"})
}

func TestOldTLS(t *testing.T) {
	p := startProxy(t, Options{})
	c := tls.Client(p.connect("host.example:443"), &tls.Config{ServerName: "host.example", RootCAs: testCA().pool,
		MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	if err := c.Handshake(); err == nil {
		t.Fatal("the handshake succeeded")
	}
	if e := p.event(); e.Kind != KindHandshake || e.Code != CodeTLS {
		t.Errorf("event %+v", e)
	}
}

func TestNotTLSAfterConnect(t *testing.T) {
	p := startProxy(t, Options{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler was called") })})
	for name, test := range map[string]struct {
		bytes, want, reason string
		status              int
	}{
		"plain HTTP": {"GET /secret HTTP/1.1\r\nHost: host.example\r\n\r\n",
			"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 92\r\nConnection: close\r\n\r\n" +
				"this proxy intercepts host.example, and expects TLS after CONNECT: use https:// in the URL\n",
			"after CONNECT to host.example the client did not open TLS but sent plain HTTP: use https:// in the URL", 400},
		"SSH":     {"SSH-2.0-OpenSSH_9.9\r\n", "", "after CONNECT to host.example the client did not open TLS", 0},
		"garbage": {"\x00\x00\x00\x00\x00\x00\x00", "", "after CONNECT to host.example the client did not open TLS", 0},
	} {
		t.Run(name, func(t *testing.T) {
			c := p.connect("host.example:443")
			io.WriteString(c, test.bytes)
			got := readAll(t, c)
			if want := strings.Replace(test.want, "Content-Length: 92", fmt.Sprintf("Content-Length: %d", len(test.want)-strings.Index(test.want, "this proxy")), 1); got != want {
				t.Errorf("got %q\nwant %q", got, want)
			}
			p.wantEvent(Event{Kind: KindMalformed, Code: CodeNotTLS, Reason: test.reason, Host: "host.example", Port: 443, Method: "CONNECT", Status: test.status})
		})
	}
}

func TestHandshakeThatDoesNotCome(t *testing.T) {
	p := startProxy(t, Options{Limits: Limits{Handshake: 20 * time.Millisecond}})
	readAll(t, p.connect("host.example:443")) // ends
	p.wantEvent(Event{Kind: KindHandshake, Code: CodeTimeout, Reason: "the client did not finish the TLS handshake within 20ms",
		Host: "host.example", Port: 443, Method: "CONNECT"})
}

func TestClientThatLeavesBeforeTheHandshake(t *testing.T) {
	p := startProxy(t, Options{})
	for name, leave := range map[string]func(*net.TCPConn){
		"closing": func(c *net.TCPConn) { c.Close() },
		"reset":   func(c *net.TCPConn) { c.SetLinger(0); c.Close() },
		"within":  func(c *net.TCPConn) { io.WriteString(c, "\x16\x03\x01"); c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			leave(p.connect("host.example:443"))
			p.wantEvent(Event{Kind: KindHandshake, Code: CodeClosed,
				Reason: "the client closed the connection during the TLS handshake; some clients do so when they do not trust the CA",
				Host:   "host.example", Port: 443, Method: "CONNECT"})
		})
	}
}

func TestClientThatLeavesWithoutARequest(t *testing.T) {
	p := startProxy(t, Options{})
	for _, protocol := range []string{"http/1.1", "h2"} {
		t.Run(protocol, func(t *testing.T) {
			p.intercepted("host.example:443", "host.example", protocol).Close()
			p.wantEvent(Event{Kind: KindSilent, Code: CodeClosed,
				Reason: "the client closed the connection without a request; some clients do so when they do not trust the CA",
				Host:   "host.example", Port: 443, Method: "CONNECT"})
			until(t, "the connection is gone", func() bool { s := p.Stats(); return s.Connections == 0 && s.Intercepted == 0 })
		})
	}
}

func TestIdleConnectionsEnd(t *testing.T) {
	p := startProxy(t, Options{Limits: Limits{Idle: 20 * time.Millisecond}})
	c := p.intercepted("host.example:443", "host.example")
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: host.example\r\n\r\n")
	br := bufio.NewReader(c)
	p.response(br)
	if rest := readAll(t, br); rest != "" { // ends
		t.Errorf("got %q", rest)
	}
	p.noEvent()
}
