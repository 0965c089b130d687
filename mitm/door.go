package mitm

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/elazarl/goproxy"
	"go.uber.org/zap"
)

// connect is what is known about one CONNECT.
type connect struct {
	target  target
	client  string
	caller  Caller
	route   Route
	started time.Time
	h2      bool
	cert    *tls.Certificate
	tunnel  *tunnel
	conn    *connectConn // set by Hijack
	refused bool         // the answer is a refusal
}

// event is an Event about c.
func (c *connect) event(kind Kind, code, reason string) Event {
	return Event{
		Kind: kind, Code: code, Reason: reason, Route: c.route.Code,
		Client: c.client, User: c.caller.Name, Key: c.caller.Key, Host: c.target.host, Port: c.target.port,
		Method: http.MethodConnect, Duration: time.Since(c.started),
	}
}

type contextKey int

const (
	keyClientConn  contextKey = iota // *clientConn, of the outer server's requests
	keyConnectConn                   // *connectConn, of the inner server's requests
	keyConnect                       // *connect, of a CONNECT
)

// newOuter returns the server of the outer door.
func (s *Server) newOuter(errorLog *log.Logger) *http.Server {
	proxy := goproxy.NewProxyHttpServer()
	proxy.Logger = goproxyLog{s.log}
	// What no condition decided must not find a way out. ConnectDial was made
	// from the environment's HTTPS_PROXY.
	closed := func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("mitm: no way out was decided")
	}
	proxy.Tr = &http.Transport{DialContext: closed, DialTLSContext: closed}
	proxy.ConnectDial = nil
	proxy.ConnectDialWithReq = nil // tunnels set the dialer of their own context
	proxy.ConnectionErrHandler = s.tunnelFailed
	proxy.NonproxyHandler = http.HandlerFunc(s.refuseDirect)

	proxy.OnRequest().HandleConnectFunc(s.admit)
	proxy.OnRequest().HandleConnectFunc(s.route)
	proxy.OnRequest().HandleConnectFunc(s.refuseUndecided)
	proxy.OnRequest().DoFunc(s.refusePlain)

	server := s.newServer(errorLog)
	server.Protocols.SetHTTP1(true)
	server.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, keyClientConn, c)
	}
	server.ConnState = s.outerState
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := r.Context().Value(keyClientConn).(*clientConn)
		c.handled.Add(1)
		if r.Method != http.MethodConnect {
			defer lingerFor(w, r, lingerTime)
		} else {
			con := &connect{client: r.RemoteAddr, started: time.Now()}
			r = r.WithContext(context.WithValue(r.Context(), keyConnect, con))
			w = &connectWriter{ResponseWriter: w, connect: con}
			defer s.afterConnect(con)
		}
		proxy.ServeHTTP(w, r)
	})
	return server
}

// afterConnect lets go of what a CONNECT holds if goproxy did not come to use
// it, or if a function of Options panicked.
func (s *Server) afterConnect(c *connect) {
	v := recover()
	if c.tunnel != nil && (c.conn == nil || v != nil && c.tunnel.open.Load() == 0) {
		c.tunnel.leave()
	}
	if v == nil {
		return
	}
	s.log.Error("panic while answering a CONNECT", zap.String("host", c.target.host), zap.Any("panic", v), zap.Stack("stack"))
	e := c.event(KindPanic, CodePanic, "an error in the proxy itself cost this connection: its log has the stack")
	e.Err = fmt.Errorf("panic: %v", v)
	s.record(e)
	if c.conn != nil {
		c.conn.Close() // net/http does not close what was hijacked
	}
	panic(http.ErrAbortHandler)
}

// outerState finds out about requests that net/http refused by itself.
func (s *Server) outerState(conn net.Conn, state http.ConnState) {
	c := conn.(*clientConn)
	switch state {
	case http.StateActive:
		c.requests.Add(1)
	case http.StateClosed:
		if c.requests.Load() <= c.handled.Load() {
			return
		}
		e := Event{
			Kind: KindMalformed, Code: CodeNotHTTP, Client: c.RemoteAddr().String(),
			Reason: "bytes that are not an HTTP request were sent to the proxy's port",
		}
		if c.first.Load() == recordTypeHandshake+1 {
			e.Code = CodeTLSToPlain
			e.Reason = "the client opened TLS towards the proxy itself, which listens without: write http:// in HTTPS_PROXY"
		}
		s.record(e)
	}
}

// recordTypeHandshake begins every TLS connection (RFC 8446, 5.1).
const recordTypeHandshake = 0x16

// connectWriter hands goproxy a connection that still has all its bytes.
type connectWriter struct {
	http.ResponseWriter
	connect *connect
}

func (w *connectWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	c := &connectConn{clientConn: conn.(*clientConn), connect: w.connect, refusing: w.connect.refused}
	if n := rw.Reader.Buffered(); n > 0 {
		glued, _ := rw.Reader.Peek(n)
		c.glued = bytes.Clone(glued)
	}
	w.connect.conn = c
	return c, rw, nil
}

// admit is goproxy's first condition: the form of the CONNECT, and who sends it.
func (s *Server) admit(_ string, ctx *goproxy.ProxyCtx) (*goproxy.ConnectAction, string) {
	r := ctx.Req
	c := r.Context().Value(keyConnect).(*connect)
	t, err := parseAuthority(r.RequestURI, 0)
	if err != nil {
		return s.refuseConnect(ctx, http.StatusBadRequest, CodeBadTarget,
			fmt.Sprintf("CONNECT wants host:port, and this is not one: %v", err), err)
	}
	c.target = t
	if r.ContentLength != 0 || len(r.TransferEncoding) != 0 {
		return s.refuseConnect(ctx, http.StatusBadRequest, CodeContent, "a CONNECT has no content (RFC 9110, 9.3.6)", nil)
	}
	if s.draining.Load() {
		return s.refuseConnect(ctx, http.StatusServiceUnavailable, CodeDraining, "the proxy is shutting down: try again, or use another one", nil)
	}
	c.route = s.opt.Route(t.host, t.port)
	if c.caller, err = s.authenticate(r.Header, c.route); err != nil {
		return s.refuseConnect(ctx, http.StatusProxyAuthRequired, CodeAuthentication, err.Error(), nil)
	}
	return nil, ""
}

// authenticate asks who is at the door. A refused caller has a key at most.
func (s *Server) authenticate(h http.Header, route Route) (Caller, error) {
	if s.opt.Authenticate == nil {
		return Caller{}, nil
	}
	a := Attempt{Route: route, Sent: len(h["Proxy-Authorization"]) > 0}
	if user, password, ok := proxyCredentials(h); ok {
		a.User, a.Password = user, password
	}
	caller, err := s.opt.Authenticate(a)
	if err != nil {
		caller.Name = ""
	}
	return caller, err
}

// proxyCredentials reads Basic credentials from the one Proxy-Authorization.
func proxyCredentials(h http.Header) (user, password string, ok bool) {
	v := h["Proxy-Authorization"]
	if len(v) != 1 {
		return "", "", false
	}
	scheme, rest, _ := strings.Cut(v[0], " ")
	if !strings.EqualFold(scheme, "Basic") {
		return "", "", false
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(rest))
	if err != nil {
		return "", "", false
	}
	return strings.Cut(string(raw), ":")
}

// route is goproxy's second condition: what becomes of the connection.
func (s *Server) route(host string, ctx *goproxy.ProxyCtx) (*goproxy.ConnectAction, string) {
	c := ctx.Req.Context().Value(keyConnect).(*connect)
	route := c.route
	switch route.Action {
	case Intercept:
		cert, err := s.opt.Certificate(c.target.host)
		if err == nil && cert == nil {
			err = errors.New("no certificate")
		}
		if err != nil {
			return s.refuseConnect(ctx, http.StatusInternalServerError, CodeCertificate,
				fmt.Sprintf("the proxy cannot make a certificate for %s: %v", c.target.host, err), err)
		}
		c.cert, c.h2 = cert, route.H2
		return &goproxy.ConnectAction{Action: goproxy.ConnectHijack, Hijack: s.intercept}, host
	case Tunnel:
		t, refusal := s.openTunnel(c)
		if refusal != nil {
			return s.refuseConnect(ctx, refusal.status, refusal.code, refusal.reason, nil)
		}
		ctx.Dialer = t.dial
		return &goproxy.ConnectAction{Action: goproxy.ConnectAccept}, c.target.address()
	default:
		reason := route.Reason
		if reason == "" {
			reason = fmt.Sprintf("this proxy does not connect to %s", c.target.authority())
		}
		return s.refuseConnect(ctx, http.StatusForbidden, route.Code, reason, nil)
	}
}

// refuseUndecided is the last condition. goproxy would tunnel.
func (s *Server) refuseUndecided(_ string, ctx *goproxy.ProxyCtx) (*goproxy.ConnectAction, string) {
	return s.refuseConnect(ctx, http.StatusForbidden, CodeUndecided, "no route was decided for this connection", nil)
}

// refuseConnect makes goproxy send a refusal, and records it.
func (s *Server) refuseConnect(ctx *goproxy.ProxyCtx, status int, code, reason string, err error) (*goproxy.ConnectAction, string) {
	c := ctx.Req.Context().Value(keyConnect).(*connect)
	c.refused = true
	ctx.Resp = s.response(ctx.Req, status, reason)
	e := c.event(KindReject, code, reason)
	e.Status, e.Err = status, err
	s.record(e)
	return &goproxy.ConnectAction{Action: goproxy.ConnectReject}, ""
}

// response is a refusal of the outer door. The first line of the reason becomes
// the reason phrase: libraries show no more of a refused CONNECT.
func (s *Server) response(r *http.Request, status int, reason string) *http.Response {
	body := reason + "\n"
	resp := &http.Response{
		Status:     fmt.Sprintf("%d %s", status, phrase(status, reason)),
		StatusCode: status,
		Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{
			"Content-Type": {"text/plain; charset=utf-8"},
			"Date":         {s.opt.Now().UTC().Format(http.TimeFormat)},
		},
		Body:          io.NopCloser(strings.NewReader(body)),
		ContentLength: int64(len(body)),
		Close:         true,
		Request:       r,
	}
	if status == http.StatusProxyAuthRequired {
		resp.Header.Set("Proxy-Authenticate", `Basic realm="proxy", charset="UTF-8"`)
	}
	return resp
}

// phrase makes a reason phrase (RFC 9112, 4): one line of printable ASCII.
func phrase(status int, reason string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(reason), "\n")
	line = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, strings.TrimSpace(line))
	if len(line) > 200 {
		line = line[:197] + "..."
	}
	if line == "" {
		return http.StatusText(status)
	}
	return line
}

// refusePlain ends the door of requests with an absolute URL.
func (s *Server) refusePlain(r *http.Request, _ *goproxy.ProxyCtx) (*http.Request, *http.Response) {
	reason := "this proxy handles https:// only, by CONNECT: use https:// in the URL that is requested"
	switch {
	case r.URL.Scheme == "https":
		reason = "this proxy handles https:// by CONNECT, and this client asked for the URL itself: configure it as HTTPS_PROXY, not as a gateway"
	case notPublicLiteral(r.URL.Hostname()):
		// Above all instance metadata, which libraries ask for through the proxy.
		reason = fmt.Sprintf("%s is reached from the client's own machine, not through this proxy: write NO_PROXY=%[1]s", r.URL.Hostname())
	}
	status, code := http.StatusForbidden, CodePlainHTTP
	caller, err := s.authenticate(r.Header, Route{})
	if err != nil {
		status, code, reason = http.StatusProxyAuthRequired, CodeAuthentication, err.Error()
	}
	e := Event{
		Kind: KindPlain, Code: code, Reason: reason, Client: r.RemoteAddr, User: caller.Name, Key: caller.Key,
		Method: r.Method, Status: status,
	}
	if t, err := parseAuthority(r.URL.Host, 80); err == nil {
		e.Host, e.Port = t.host, t.port
	}
	s.record(e)
	resp := s.response(r, status, reason)
	resp.Header.Set("Connection", "close") // goproxy copies the header, not Close
	return r, resp
}

// notPublicLiteral reports whether host is localhost or an address that only
// means something on the client's side.
func notPublicLiteral(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addressClass(addr) != ""
}

// refuseDirect answers requests addressed to the proxy as if it were a website.
func (s *Server) refuseDirect(w http.ResponseWriter, r *http.Request) {
	reason := "this is a forward proxy for https://, not a website: set HTTPS_PROXY to this address, and ask for the real URL"
	if s.opt.DirectHint != "" {
		reason += "\n" + s.opt.DirectHint
	}
	s.record(Event{
		Kind: KindPlain, Code: CodeNotProxy, Reason: reason, Client: r.RemoteAddr,
		Method: r.Method, Status: http.StatusBadRequest,
	})
	w.Header().Set("Connection", "close")
	http.Error(w, reason, http.StatusBadRequest)
}

// goproxyLog takes goproxy's words down a level: what matters is an Event.
type goproxyLog struct{ log *zap.Logger }

func (l goproxyLog) Printf(format string, v ...any) {
	if l.log.Core().Enabled(zap.DebugLevel) {
		l.log.Debug("goproxy: " + strings.TrimSpace(fmt.Sprintf(format, v...)))
	}
}
