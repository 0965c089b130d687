package mitm

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/net/http/httpproxy"
)

// listen answers connections on a loopback port, each with handle.
func listen(t testing.TB, handle func(net.Conn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.SetDeadline(time.Now().Add(guard))
			done := make(chan struct{})
			go func() {
				defer close(done)
				defer c.Close()
				handle(c)
			}()
			t.Cleanup(func() { c.Close(); <-done })
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

func tunnelRoute(string, int) Route { return Route{Action: Tunnel, Code: "public"} }

func split(t testing.TB, address string) (string, int) {
	t.Helper()
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return a.Addr().String(), int(a.Port())
}

// The client ends first, and still gets the answer; bytes glued to the CONNECT
// come first.
func TestTunnelKeepsHalfClosedConnections(t *testing.T) {
	remote := listen(t, func(c net.Conn) {
		b, _ := io.ReadAll(c) // until the client's end
		fmt.Fprintf(c, "got %s", b)
	})
	p := startProxy(t, Options{Route: tunnelRoute})
	c := p.dial()
	fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\nglued,", remote)
	const head = "HTTP/1.1 200 Connection established\r\n\r\n"
	if _, err := io.ReadFull(c, make([]byte, len(head))); err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, "more")
	c.CloseWrite()
	if got := readAll(t, c); got != "got glued,more" {
		t.Errorf("got %q", got)
	}
	host, port := split(t, remote)
	p.wantEvent(Event{Kind: KindTunnel, Route: "public", Code: CodeDone, Reason: "closed by its ends", Host: host, Port: port,
		Method: "CONNECT", Status: 200, Sent: 10, Received: 14})
	until(t, "the tunnel is gone", func() bool { return p.Stats().Tunnels == 0 && p.Stats().Connections == 0 })
	if s := p.Stats(); s.TotalTunnels != 1 || s.TunnelSent != 10 || s.TunnelReceived != 14 {
		t.Errorf("stats %+v", s)
	}
}

// The remote ends first, and still hears the client.
func TestTunnelKeepsTheOtherHalf(t *testing.T) {
	heard := make(chan string, 1)
	remote := listen(t, func(c net.Conn) {
		io.WriteString(c, "bye")
		c.(*net.TCPConn).CloseWrite()
		b, _ := io.ReadAll(c)
		heard <- string(b)
	})
	p := startProxy(t, Options{Route: tunnelRoute})
	c := p.connect(remote)
	if got := readAll(t, c); got != "bye" {
		t.Errorf("got %q", got)
	}
	io.WriteString(c, "still here")
	c.CloseWrite()
	if got := <-heard; got != "still here" {
		t.Errorf("the remote heard %q", got)
	}
	if e := p.event(); e.Code != CodeDone || e.Sent != 10 || e.Received != 3 {
		t.Errorf("event %+v", e)
	}
}

func TestTunnelMovesManyBytes(t *testing.T) {
	const size = 8 << 20
	remote := listen(t, func(c net.Conn) { io.Copy(c, c) })
	p := startProxy(t, Options{Route: tunnelRoute})
	c := p.connect(remote)
	go func() {
		io.CopyN(c, zeros{}, size)
		c.CloseWrite()
	}()
	if n, err := io.Copy(io.Discard, c); n != size || err != nil {
		t.Errorf("%d bytes came back: %v", n, err)
	}
	if e := p.event(); e.Code != CodeDone || e.Sent != size || e.Received != size {
		t.Errorf("event %+v", e)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestTunnelIdle(t *testing.T) {
	remote := listen(t, func(c net.Conn) { io.ReadAll(c) })
	p := startProxy(t, Options{Route: tunnelRoute, Limits: Limits{TunnelIdle: 20 * time.Millisecond}})
	readAll(t, p.connect(remote)) // ends
	host, port := split(t, remote)
	p.wantEvent(Event{Kind: KindTunnel, Route: "public", Code: CodeTimeout, Reason: "no byte moved for 20ms", Host: host, Port: port, Method: "CONNECT", Status: 200})
}

// One direction may rest as long as the other moves.
func TestTunnelIsNotIdleWhileOneDirectionMoves(t *testing.T) {
	t.Parallel()
	remote := listen(t, func(c net.Conn) {
		for range 15 {
			time.Sleep(brief / 12)
			io.WriteString(c, ".")
		}
	})
	p := startProxy(t, Options{Route: tunnelRoute, Limits: Limits{TunnelIdle: brief}})
	c := p.connect(remote)
	b := make([]byte, 15)
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if e := p.event(); e.Received != 15 || e.Code == CodeTimeout {
		t.Errorf("event %+v", e)
	}
}

func TestTunnelBroken(t *testing.T) {
	remote := listen(t, func(c net.Conn) {
		io.ReadFull(c, make([]byte, 1))
		c.(*net.TCPConn).SetLinger(0) // reset
	})
	p := startProxy(t, Options{Route: tunnelRoute})
	c := p.connect(remote)
	io.WriteString(c, "x")
	io.ReadAll(c)
	host, port := split(t, remote)
	if e := p.wantEvent(Event{Kind: KindTunnel, Route: "public", Code: CodeBroken, Reason: "the connection broke", Host: host, Port: port,
		Method: "CONNECT", Status: 200, Sent: 1}); e.Err == nil {
		t.Error("the event has no error")
	}
}

func TestTunnelLimit(t *testing.T) {
	remote := listen(t, func(c net.Conn) { io.ReadAll(c) })
	p := startProxy(t, Options{Route: tunnelRoute, Limits: Limits{Tunnels: 1}})
	first := p.connect(remote)
	got := p.raw("CONNECT " + remote + " HTTP/1.1\r\nHost: x\r\n\r\n")
	const reason = "1 tunnels are open, as many as this proxy allows: close some or try again later"
	if !strings.HasPrefix(got, "HTTP/1.1 503 "+reason+"\r\n") {
		t.Errorf("got %q", got)
	}
	if e := p.event(); e.Code != CodeTunnelLimit || e.Status != 503 {
		t.Errorf("event %+v", e)
	}
	first.Close()
	p.event()
	until(t, "the place is free", func() bool { return p.Stats().Tunnels == 0 })
	p.connect(remote)
}

// nobody permits no address beyond the public ones.
func nobody(netip.AddrPort) bool { return false }

// Names are judged by what they resolve to at the moment of connecting.
func TestTunnelsToPublicAddressesOnly(t *testing.T) {
	answers := map[string]netip.Addr{
		"private.example.":    netip.MustParseAddr("10.1.2.3"),
		"loopback.example.":   netip.MustParseAddr("127.0.0.1"),
		"metadata.example.":   netip.MustParseAddr("169.254.169.254"),
		"embedded6.example.":  netip.MustParseAddr("64:ff9b::a9fe:a9fe"),
		"metadata6.example.":  netip.MustParseAddr("fd00:ec2::254"),
		"mapped.example.":     netip.MustParseAddr("::ffff:127.0.0.1"),
		"loopback6.example.":  netip.MustParseAddr("::1"),
		"broadcast.example.":  netip.MustParseAddr("255.255.255.255"),
		"carrier.example.":    netip.MustParseAddr("100.64.0.1"),
		"multicast6.example.": netip.MustParseAddr("ff02::1"),
	}
	p := startProxy(t, Options{Route: tunnelRoute, PermitAddress: nobody, Resolver: resolver(t, func(name string) (netip.Addr, bool) {
		a, ok := answers[name]
		return a, ok
	})})
	for target, reason := range map[string]string{
		"private.example:443":            "private.example resolves to an address that is refused: 10.1.2.3 is a private address, and tunnels lead to public addresses only",
		"loopback.example:443":           "loopback.example resolves to an address that is refused: 127.0.0.1 is a loopback address, and tunnels lead to public addresses only",
		"metadata.example:80":            "metadata.example resolves to an address that is refused: 169.254.169.254 is a link-local or metadata address, and tunnels lead to public addresses only",
		"metadata6.example:80":           "metadata6.example resolves to an address that is refused: fd00:ec2::254 is a private or metadata address, and tunnels lead to public addresses only",
		"embedded6.example:80":           "embedded6.example resolves to an address that is refused: 64:ff9b::a9fe:a9fe is a link-local or metadata address, and tunnels lead to public addresses only",
		"mapped.example:443":             "mapped.example resolves to an address that is refused: 127.0.0.1 is a loopback address, and tunnels lead to public addresses only",
		"loopback6.example:443":          "loopback6.example resolves to an address that is refused: ::1 is a loopback address, and tunnels lead to public addresses only",
		"broadcast.example:443":          "broadcast.example resolves to an address that is refused: 255.255.255.255 is a reserved or broadcast address, and tunnels lead to public addresses only",
		"carrier.example:443":            "carrier.example resolves to an address that is refused: 100.64.0.1 is a carrier's shared address, and tunnels lead to public addresses only",
		"multicast6.example:443":         "multicast6.example resolves to an address that is refused: ff02::1 is a multicast address, and tunnels lead to public addresses only",
		"127.0.0.1:443":                  "127.0.0.1 is a loopback address, and tunnels lead to public addresses only",
		"169.254.169.254:80":             "169.254.169.254 is a link-local or metadata address, and tunnels lead to public addresses only",
		"[::ffff:169.254.169.254]:80":    "169.254.169.254 is a link-local or metadata address, and tunnels lead to public addresses only",
		"[::1]:443":                      "::1 is a loopback address, and tunnels lead to public addresses only",
		"0.0.0.0:443":                    "0.0.0.0 is an unspecified address, and tunnels lead to public addresses only",
		"[::]:443":                       ":: is an unspecified address, and tunnels lead to public addresses only",
		"[64:ff9b::7f00:1]:443":          "64:ff9b::7f00:1 is a loopback address, and tunnels lead to public addresses only",
		"[2002:7f00:1::]:443":            "2002:7f00:1:: is a 6to4 address, and tunnels lead to public addresses only",
		"[2001:0:4136:e378:8000::1]:443": "2001:0:4136:e378:8000::1 is a protocol's reserved address, and tunnels lead to public addresses only",
		"[::7f00:1]:443":                 "::7f00:1 is a reserved address, and tunnels lead to public addresses only",
		"[::ffff:0:127.0.0.1]:443":       "::ffff:0:7f00:1 is a reserved address, and tunnels lead to public addresses only",
		"[fe80::5efe:10.0.0.1]:443":      "fe80::5efe:a00:1 is a link-local address, and tunnels lead to public addresses only",
	} {
		t.Run(target, func(t *testing.T) {
			got := p.raw("CONNECT " + target + " HTTP/1.1\r\nHost: x\r\n\r\n\x16\x03\x01")
			if !strings.HasPrefix(got, "HTTP/1.1 403 "+reason+"\r\n") {
				t.Errorf("got %q", got)
			}
			e := p.event()
			if e.Kind != KindReject || e.Code != CodeAddress || e.Reason != reason || e.Status != 403 {
				t.Errorf("event %+v", e)
			}
		})
	}
	if n := p.Stats().Tunnels; n != 0 {
		t.Errorf("%d tunnels are still counted", n)
	}
}

// A name that was public when somebody looked is checked again when it is dialled.
func TestRebindingNameIsRefused(t *testing.T) {
	looks := 0
	secret := listen(t, func(c net.Conn) { io.WriteString(c, "secret") })
	_, port := split(t, secret)
	res := resolver(t, func(name string) (netip.Addr, bool) {
		looks++
		if looks == 1 {
			return netip.MustParseAddr("8.8.8.8"), true
		}
		return netip.MustParseAddr("127.0.0.1"), true
	})
	p := startProxy(t, Options{Resolver: res, PermitAddress: nobody, Route: func(host string, _ int) Route {
		addrs, err := res.LookupNetIP(context.Background(), "ip4", host)
		if err != nil || addrs[0].String() != "8.8.8.8" {
			t.Errorf("first look: %v %v", addrs, err)
		}
		return Route{Action: Tunnel}
	}})
	got := p.raw(fmt.Sprintf("CONNECT rebind.example:%d HTTP/1.1\r\nHost: x\r\n\r\n", port))
	if !strings.HasPrefix(got, "HTTP/1.1 403 rebind.example resolves to an address that is refused: 127.0.0.1 is a loopback address") {
		t.Errorf("got %q", got)
	}
}

// resolver asks a DNS server of the test's own.
func resolver(t testing.TB, answer func(name string) (netip.Addr, bool)) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			reply := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true}, Questions: m.Questions}
			// Names that exist have an answer for one type only.
			a, ok := netip.Addr{}, false
			if q.Type == dnsmessage.TypeA || strings.HasSuffix(strings.TrimSuffix(q.Name.String(), ".example."), "6") || strings.HasPrefix(q.Name.String(), "mapped") {
				a, ok = answer(q.Name.String())
			} else {
				ok = true
			}
			head := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 0}
			switch {
			case !ok:
				reply.RCode = dnsmessage.RCodeNameError
			case q.Type == dnsmessage.TypeA && a.Is4():
				reply.Answers = []dnsmessage.Resource{{Header: head, Body: &dnsmessage.AResource{A: a.As4()}}}
			case q.Type == dnsmessage.TypeAAAA && a.Is6():
				reply.Answers = []dnsmessage.Resource{{Header: head, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}}}
			}
			if out, err := reply.Pack(); err == nil {
				conn.WriteTo(out, from)
			}
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func TestTunnelThatCannotBeDialled(t *testing.T) {
	const closed = "127.0.0.1:1" // a port that systems give to nobody
	p := startProxy(t, Options{Route: tunnelRoute, Resolver: resolver(t, func(string) (netip.Addr, bool) { return netip.Addr{}, false })})
	for target, want := range map[string]string{
		"missing.example:443": "502 there is no host missing.example: check the name",
		closed:                "502 cannot connect to " + closed + ": ",
	} {
		got := p.raw("CONNECT " + target + " HTTP/1.1\r\nHost: x\r\n\r\n")
		if !strings.HasPrefix(got, "HTTP/1.1 "+want) {
			t.Errorf("got %q", got)
		}
		if e := p.event(); e.Kind != KindReject || e.Code != CodeDial || e.Status != 502 || e.Err == nil {
			t.Errorf("event %+v", e)
		}
	}
}

func TestTunnelDialTimeout(t *testing.T) {
	silent := listen(t, func(c net.Conn) { io.ReadAll(c) })
	p := startProxy(t, Options{Route: tunnelRoute, Limits: Limits{Dial: 20 * time.Millisecond},
		Proxy: fixedProxy("http://" + silent)})
	got := p.raw("CONNECT slow.example:443 HTTP/1.1\r\nHost: x\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 504 the upstream proxy "+silent+" does not answer in time\r\n") {
		t.Errorf("got %q", got)
	}
}

// upstreamProxy answers CONNECT with status, records its head, and then echoes.
func upstreamProxy(t testing.TB, answer string, heads chan<- string) func(net.Conn) {
	return func(c net.Conn) {
		br := bufio.NewReader(c)
		var head strings.Builder
		for {
			line, err := br.ReadString('\n')
			if err != nil {
				return
			}
			head.WriteString(line)
			if line == "\r\n" {
				break
			}
		}
		heads <- head.String()
		io.WriteString(c, answer)
		io.Copy(c, br)
	}
}

func fixedProxy(raw string) func(*url.URL) (*url.URL, error) {
	return func(*url.URL) (*url.URL, error) { return url.Parse(raw) }
}

func TestTunnelThroughUpstreamProxy(t *testing.T) {
	cert, _ := testCA().certificate("127.0.0.1")
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			heads := make(chan string, 1)
			// The first bytes of the remote arrive glued to the proxy's answer.
			handle := upstreamProxy(t, "HTTP/1.1 200 fine\r\nX: y\r\n\r\nhello,", heads)
			if scheme == "https" {
				plain := handle
				handle = func(c net.Conn) {
					s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{*cert}})
					plain(s)
					s.Close()
				}
			}
			up := listen(t, handle)
			p := startProxy(t, Options{Route: tunnelRoute, PermitAddress: nobody, // proxies may stand anywhere
				Proxy: fixedProxy(scheme + "://ann:p%40ss@" + up), ProxyTLS: &tls.Config{RootCAs: testCA().pool}})
			c := p.connect("remote.example:8443")
			if got, want := <-heads, "CONNECT remote.example:8443 HTTP/1.1\r\nHost: remote.example:8443\r\nProxy-Authorization: Basic "+
				base64.StdEncoding.EncodeToString([]byte("ann:p@ss"))+"\r\n\r\n"; got != want {
				t.Errorf("the proxy was sent %q", got)
			}
			payload := strings.Repeat("echo", 40<<10) // more than the proxy's answer may be long
			go func() {
				io.WriteString(c, payload)
				c.CloseWrite()
			}()
			if got := readAll(t, c); got != "hello,"+payload {
				t.Errorf("got %d bytes", len(got))
			}
			if e := p.event(); e.Kind != KindTunnel || e.Sent != 160<<10 || e.Received != 6+(160<<10) {
				t.Errorf("event %+v", e)
			}
		})
	}
}

func TestUpstreamProxyRefuses(t *testing.T) {
	never := func(t *testing.T, heads chan string) {
		select {
		case h := <-heads:
			t.Errorf("the proxy was asked: %q", h)
		default:
		}
	}
	for name, test := range map[string]struct {
		userinfo, answer, target, want string
		code                           string
		asked                          bool
	}{
		"asks for credentials": {"", "HTTP/1.1 407 Auth\r\nContent-Length: 0\r\n\r\n", "a.example:443",
			"502 the upstream proxy PROXY asks for a user name and password: put them in its URL: 407 Auth", CodeDial, true},
		"refuses credentials": {"ann:secret@", "HTTP/1.1 407 Auth\r\nContent-Length: 0\r\n\r\n", "a.example:443",
			"502 the upstream proxy PROXY does not accept the user name and password in its URL: 407 Auth", CodeDial, true},
		"refuses the host": {"ann:secret@", "HTTP/1.1 403 Blocked\r\nContent-Length: 0\r\n\r\n", "a.example:443",
			"502 the upstream proxy PROXY refuses to connect to a.example:443: 403 Blocked", CodeDial, true},
		"speaks something else": {"", "SSH-2.0-x\r\n\r\n", "a.example:443",
			"502 the upstream proxy PROXY does not answer in HTTP: ", CodeDial, true},
		"an endless head": {"", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 70<<10), "a.example:443",
			"502 the upstream proxy PROXY does not answer in HTTP: ", CodeDial, true},
		"an IP literal": {"", "HTTP/1.1 200 OK\r\n\r\n", "8.8.8.8:443",
			"403 behind an upstream proxy addresses cannot be checked, so tunnels lead to names only: use the host's name instead of 8.8.8.8", CodeAddress, false},
		"an IPv6 literal": {"", "HTTP/1.1 200 OK\r\n\r\n", "[2606:4700::1]:443",
			"403 behind an upstream proxy addresses cannot be checked, so tunnels lead to names only: use the host's name instead of 2606:4700::1", CodeAddress, false},
		"localhost": {"", "HTTP/1.1 200 OK\r\n\r\n", "LOCALHOST:443",
			"403 localhost is a name for private use, and tunnels lead to public hosts only", CodeAddress, false},
		"a private name": {"", "HTTP/1.1 200 OK\r\n\r\n", "metadata.google.internal.:80",
			"403 metadata.google.internal is a name for private use, and tunnels lead to public hosts only", CodeAddress, false},
	} {
		t.Run(name, func(t *testing.T) {
			heads := make(chan string, 1)
			up := listen(t, upstreamProxy(t, test.answer, heads))
			p := startProxy(t, Options{Route: tunnelRoute, PermitAddress: nobody, Proxy: fixedProxy("http://" + test.userinfo + up)})
			got := p.raw("CONNECT " + test.target + " HTTP/1.1\r\nHost: x\r\n\r\n")
			if want := "HTTP/1.1 " + strings.ReplaceAll(test.want, "PROXY", up); !strings.HasPrefix(got, want) {
				t.Errorf("got %q\nwant %q", got, want)
			}
			if strings.Contains(got, "secret") {
				t.Errorf("the answer tells the proxy's password: %q", got)
			}
			e := p.event()
			if e.Kind != KindReject || e.Code != test.code || strings.Contains(fmt.Sprint(e), "secret") {
				t.Errorf("event %+v", e)
			}
			if !test.asked {
				never(t, heads)
			}
		})
	}
}

// The function that the environment's variables make fits Options.Proxy, and
// what NO_PROXY takes out is checked as a direct connection.
func TestEnvironmentProxyFunction(t *testing.T) {
	heads := make(chan string, 1)
	up := listen(t, upstreamProxy(t, "HTTP/1.1 200 OK\r\n\r\n", heads))
	env := httpproxy.Config{HTTPSProxy: "http://" + up, NoProxy: "direct.example"}
	p := startProxy(t, Options{Route: tunnelRoute, PermitAddress: nobody, Proxy: env.ProxyFunc(),
		Resolver: resolver(t, func(string) (netip.Addr, bool) { return netip.MustParseAddr("10.0.0.1"), true })})
	c := p.connect("far.example:443")
	if head := <-heads; !strings.HasPrefix(head, "CONNECT far.example:443 ") {
		t.Errorf("the proxy was sent %q", head)
	}
	c.Close()
	for _, direct := range []string{"direct.example:443", "localhost:443", "127.0.0.1:443"} {
		if got := p.raw("CONNECT " + direct + " HTTP/1.1\r\nHost: x\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 403 ") {
			t.Errorf("%s: got %q", direct, got)
		}
	}
}

func TestUnknownProxyScheme(t *testing.T) {
	p := startProxy(t, Options{Route: tunnelRoute, Proxy: fixedProxy("socks5://ann:secret@proxy.example:1080")})
	got := p.raw("CONNECT far.example:443 HTTP/1.1\r\nHost: x\r\n\r\n")
	if !strings.HasPrefix(got, `HTTP/1.1 502 the upstream proxy has the scheme "socks5": tunnels can use http:// and https:// proxies`+"\r\n") {
		t.Errorf("got %q", got)
	}
}

// Shutdown ends tunnels that pause, and lets the others go on until its context ends.
func TestShutdownEndsTunnels(t *testing.T) {
	remote := listen(t, func(c net.Conn) { io.ReadAll(c) })
	host, port := split(t, remote)
	for name, test := range map[string]struct {
		idle time.Duration
		ctx  func() (context.Context, context.CancelFunc)
		err  error
	}{
		"one that pauses": {time.Millisecond, func() (context.Context, context.CancelFunc) { return context.WithTimeout(context.Background(), guard) }, nil},
		"one that does not, when the context ends": {time.Hour, func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(context.Background(), 30*time.Millisecond)
		}, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			p := startProxy(t, Options{Route: tunnelRoute, Limits: Limits{DrainIdle: test.idle}})
			c := p.connect(remote)
			ctx, cancel := test.ctx()
			defer cancel()
			if err := p.Shutdown(ctx); err != test.err {
				t.Errorf("Shutdown returned %v, want %v", err, test.err)
			}
			readAll(t, c) // ends
			select {      // recorded before Shutdown returned
			case e := <-p.events:
				if e.Kind != KindTunnel || e.Code != CodeShutdown || e.Host != host || e.Port != port {
					t.Errorf("event %+v", e)
				}
			default:
				t.Error("no event was recorded before Shutdown returned")
			}
		})
	}
}
