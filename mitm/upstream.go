package mitm

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// proxyError is a failure of the upstream proxy, or to use it. It names the
// proxy without its credentials.
type proxyError struct {
	status int // for the client
	code   string
	text   string
	err    error
}

func (e *proxyError) Error() string {
	if e.err != nil {
		return e.text + ": " + e.err.Error()
	}
	return e.text
}

func (e *proxyError) Unwrap() error { return e.err }

// proxyFor returns the proxy for tunnels to t, or nil for a direct connection.
func (s *Server) proxyFor(t target) (*url.URL, error) {
	if s.opt.Proxy == nil {
		return nil, nil
	}
	u, err := s.opt.Proxy(&url.URL{Scheme: "https", Host: t.address()})
	if err != nil {
		// err may quote the proxy's URL, which holds a password.
		return nil, &proxyError{status: http.StatusBadGateway, code: CodeDial, text: "the settings of the upstream proxy cannot be used"}
	}
	if u == nil {
		return nil, nil
	}
	if t.isLiteral() {
		return nil, &proxyError{status: http.StatusForbidden, code: CodeAddress,
			text: "behind an upstream proxy addresses cannot be checked, so tunnels lead to names only: use the host's name instead of " + t.host}
	}
	if reservedName(t.host) {
		return nil, &proxyError{status: http.StatusForbidden, code: CodeAddress,
			text: t.host + " is a name for private use, and tunnels lead to public hosts only"}
	}
	return u, nil
}

// reservedName reports names that are never those of public hosts: without a
// dot, or under the top-level domains of RFC 6761, RFC 6762, RFC 8375 and
// ICANN's reservation of .internal.
func reservedName(host string) bool {
	if !strings.Contains(host, ".") {
		return true
	}
	for _, suffix := range []string{".localhost", ".local", ".internal", ".home.arpa"} {
		if strings.HasSuffix(host, suffix) {
			return true
		}
	}
	return false
}

// proxyHeadBytes bounds the upstream proxy's answer to CONNECT.
const proxyHeadBytes = 64 << 10

// dialProxy opens a tunnel to t through the proxy u.
func (s *Server) dialProxy(ctx context.Context, u *url.URL, t target) (_ net.Conn, err error) {
	fail := func(text string, err error) error {
		e := &proxyError{status: http.StatusBadGateway, code: CodeDial, text: text, err: err}
		if ctx.Err() != nil {
			e.status = http.StatusGatewayTimeout
			e.err = nil
			e.text = "the upstream proxy " + u.Host + " does not answer in time"
		}
		return e
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return nil, fail(fmt.Sprintf("the upstream proxy has the scheme %q: tunnels can use http:// and https:// proxies", u.Scheme), nil)
	}
	conn, err := (&net.Dialer{Resolver: s.opt.Resolver}).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, fail("cannot connect to the upstream proxy", err)
	}
	defer func() {
		if err != nil {
			conn.Close()
		}
	}()
	if u.Scheme == "https" {
		config := s.opt.ProxyTLS.Clone()
		if config == nil {
			config = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		if config.ServerName == "" {
			config.ServerName = u.Hostname()
		}
		config.NextProtos = []string{"http/1.1"}
		secure := tls.Client(conn, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, fail("cannot open TLS to the upstream proxy "+u.Host, err)
		}
		conn = secure
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	r := &http.Request{
		Method: http.MethodConnect,
		URL:    &url.URL{Opaque: t.address()},
		Host:   t.address(),
		Header: http.Header{"User-Agent": {""}}, // an empty one is not sent
	}
	if u.User != nil {
		password, _ := u.User.Password()
		r.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password)))
	}
	if err := r.Write(conn); err != nil {
		return nil, fail("the upstream proxy "+u.Host+" does not take the request", err)
	}
	limited := &io.LimitedReader{R: conn, N: proxyHeadBytes}
	br := bufio.NewReader(limited)
	resp, err := http.ReadResponse(br, r)
	if err != nil {
		return nil, fail("the upstream proxy "+u.Host+" does not answer in HTTP", err)
	}
	switch {
	case resp.StatusCode == http.StatusProxyAuthRequired && u.User == nil:
		return nil, fail("the upstream proxy "+u.Host+" asks for a user name and password: put them in its URL", errors.New(resp.Status))
	case resp.StatusCode == http.StatusProxyAuthRequired:
		return nil, fail("the upstream proxy "+u.Host+" does not accept the user name and password in its URL", errors.New(resp.Status))
	case resp.StatusCode/100 != 2:
		return nil, fail("the upstream proxy "+u.Host+" refuses to connect to "+t.address(), errors.New(resp.Status))
	}
	if !stop() {
		return nil, fail("", ctx.Err())
	}
	limited.N = math.MaxInt64
	if br.Buffered() > 0 {
		return &bufferedConn{Conn: conn, r: br}, nil
	}
	return conn, nil
}

// bufferedConn is a connection of which r has read ahead.
type bufferedConn struct {
	net.Conn
	r *bufio.Reader
}

func (c *bufferedConn) Read(p []byte) (int, error) { return c.r.Read(p) }
func (c *bufferedConn) CloseWrite() error          { return closeWrite(c.Conn) }
func (c *bufferedConn) CloseRead() error           { return closeRead(c.Conn) }
