package mitm

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"log"
	"net"
	"net/http"
	"strings"

	"go.uber.org/zap"
)

// newInner returns the server of all intercepted connections.
func (s *Server) newInner(errorLog *log.Logger) *http.Server {
	server := s.newServer(errorLog)
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetHTTP2(true)
	server.HTTP2 = &http.HTTP2Config{
		MaxConcurrentStreams: s.limits.Streams,
		SendPingTimeout:      s.limits.Idle,
		PingTimeout:          s.limits.Header,
		WriteByteTimeout:     s.limits.Write,
		CountError:           func(string) { s.stats.malformed.Add(1) },
	}
	server.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, keyConnectConn, connectOf(c))
	}
	server.ConnState = s.innerState
	server.Handler = http.HandlerFunc(s.serveInner)
	return server
}

// connectOf finds what was known before TLS.
func connectOf(c net.Conn) *connectConn { return c.(*tls.Conn).NetConn().(*connectConn) }

// innerState counts, and finds out about connections without a request and
// about requests that net/http refused by itself.
func (s *Server) innerState(conn net.Conn, state http.ConnState) {
	c := connectOf(conn)
	switch state {
	case http.StateNew:
		c.counted.Store(true)
		s.stats.intercepted.Add(1)
	case http.StateActive:
		c.begun.Add(1)
		c.state.Store(stateUsed)
	case http.StateIdle:
		if c.last.Load() {
			conn.Close()
		}
	case http.StateHijacked:
		s.stats.intercepted.Add(-1)
	case http.StateClosed:
		s.stats.intercepted.Add(-1)
		begun, handled := c.begun.Load(), c.handled.Load()
		switch {
		case !c.h2.Load() && begun > handled:
			s.record(c.connect.event(KindMalformed, CodeNotHTTP,
				"the connection to "+c.connect.target.authority()+" ended in something that is not a request of HTTP/1.1, or is beyond a limit"))
		case handled == 0 && !s.draining.Load():
			s.record(c.connect.event(KindSilent, CodeClosed,
				"the client closed the connection without a request; some clients do so when they do not trust the CA"))
		}
	}
}

// serveInner checks a request, and hands it to Options.Handler.
func (s *Server) serveInner(w http.ResponseWriter, r *http.Request) {
	c := r.Context().Value(keyConnectConn).(*connectConn)
	c.handled.Add(1)
	if c.last.Load() {
		panic(http.ErrAbortHandler) // bytes that net/http had read ahead
	}
	if ref := c.check(r); ref != nil {
		e := c.connect.event(KindRequest, ref.code, ref.reason)
		e.Method, e.Status = r.Method, ref.status
		if s.opt.Refuse != nil {
			s.opt.Refuse(w, r, e)
		} else {
			s.record(e)
			refuse(w, r, *ref)
		}
		lingerFor(w, r, lingerTime)
		return
	}
	s.stats.totalRequests.Add(1)
	s.stats.requests.Add(1)
	defer s.stats.requests.Add(-1)

	// A copy: net/http looks at the type of its own request's Body to know
	// whether it may use the connection again.
	r = r.WithContext(r.Context())
	r.URL.Scheme = "https"
	r.URL.Host = c.connect.target.authority()
	a := &answer{ResponseWriter: w, server: s}
	defer a.end()
	if hasBody(r) {
		body := newPacedBody(r, http.NewResponseController(w), c, s.limits)
		r.Body = body
		if r.ProtoMajor < 2 {
			a.body = body
		}
		defer body.end()
	}
	defer func() {
		v := recover()
		if v == nil {
			a.begin(http.StatusOK) // net/http writes the head of an answer that nobody began
			return
		}
		if v == http.ErrAbortHandler {
			panic(v) // the Handler's way to cut an answer off
		}
		s.log.Error("panic while answering a request", zap.String("host", c.connect.target.host),
			zap.String("method", r.Method), zap.Any("panic", v), zap.Stack("stack"))
		e := c.connect.event(KindPanic, CodePanic, "an error in the proxy itself cost this request: its log has the stack")
		e.Method, e.Err = r.Method, fmt.Errorf("panic: %v", v)
		if !a.started {
			e.Status = http.StatusInternalServerError
		}
		s.record(e)
		if a.started {
			panic(http.ErrAbortHandler)
		}
		refuse(w, r, refusal{http.StatusInternalServerError, CodePanic, "the proxy failed while answering this request"})
	}()
	s.opt.Handler.ServeHTTP(a, r)
}

// check compares what the CONNECT, the TLS handshake and the request say about
// where this goes. A client without SNI is accepted: the CONNECT has named the
// host, and the request names it again.
func (c *connectConn) check(r *http.Request) *refusal {
	want := c.connect.target
	if c.sni != "" && c.sni != want.host {
		return &refusal{http.StatusMisdirectedRequest, CodeServerName,
			fmt.Sprintf("the TLS handshake named the host %s, but the CONNECT %s: they must agree", c.sni, want.host)}
	}
	if r.RequestURI == "" || r.RequestURI[0] != '/' {
		return &refusal{http.StatusBadRequest, CodeTargetForm,
			"the target of a request inside a CONNECT must be a path beginning with '/': send the URL's path, and its host as Host"}
	}
	if strings.Contains(r.RequestURI, " ") {
		// HTTP/2 lets it through, and in HTTP/1.1 the target would end there.
		return &refusal{http.StatusBadRequest, CodeTargetForm, "the target of the request has a space: write it as %20"}
	}
	if ref := agree(want, r.Host); ref != nil {
		return ref
	}
	// HTTP/2 knows :authority, and net/http leaves a Host beside it in Header.
	for _, h := range r.Header["Host"] {
		if ref := agree(want, h); ref != nil {
			return ref
		}
	}
	if len(r.Header["Content-Length"]) > 1 {
		return &refusal{http.StatusBadRequest, CodeFraming, "the request has several Content-Length headers"}
	}
	return nil
}

// agree compares an authority with the CONNECT's.
func agree(want target, authority string) *refusal {
	if authority == "" {
		return &refusal{http.StatusBadRequest, CodeAuthority, "the request names no host: send Host (or :authority)"}
	}
	got, err := parseAuthority(authority, 443)
	if err != nil {
		return &refusal{http.StatusBadRequest, CodeAuthority, fmt.Sprintf("the request's Host is not host:port: %v", err)}
	}
	if got != want {
		return &refusal{http.StatusMisdirectedRequest, CodeAuthority,
			fmt.Sprintf("the request is for %s, but the CONNECT was for %s: they must agree, in host and port", got.authority(), want.authority())}
	}
	return nil
}

// refuse answers a request of an intercepted connection, and ends the
// connection: what follows on it belongs to the same misunderstanding.
func refuse(w http.ResponseWriter, r *http.Request, ref refusal) {
	if r.ProtoMajor < 2 {
		w.Header().Set("Connection", "close")
	}
	http.Error(w, ref.reason, ref.status)
}

// answer notes whether a response has begun, for the case of a panic.
type answer struct {
	http.ResponseWriter
	server  *Server
	taken   bool       // hijacked
	body    *pacedBody // of HTTP/1 requests that have one
	started bool
	written int
	settled bool // the head has left net/http's buffer
}

func (a *answer) WriteHeader(status int) {
	// Informational answers precede the real one; 101 is the real one.
	if status >= 200 || status == http.StatusSwitchingProtocols {
		a.begin(status)
		if status >= 400 && a.body != nil && a.body.abandoned() {
			a.Header().Set("Connection", "close")
		}
	}
	a.ResponseWriter.WriteHeader(status)
}

// begin notes that the head is about to be decided. For HTTP/2, net/http sends
// GOAWAY in place of Connection: close.
func (a *answer) begin(status int) {
	if !a.started && status != http.StatusSwitchingProtocols && a.server.lame.Load() {
		a.Header().Set("Connection", "close")
	}
	a.started = true
}

func (a *answer) Write(p []byte) (int, error) {
	a.begin(http.StatusOK)
	a.arm()
	n, err := a.ResponseWriter.Write(p)
	a.written += n
	// net/http buffers 2 KiB of a response before it writes the head.
	a.disarm(a.written > 4<<10)
	return n, err
}

// Flush is here for handlers that ask for http.Flusher; everything else is
// found by http.ResponseController.
func (a *answer) Flush() { a.FlushError() }

// FlushError is what http.ResponseController prefers to Flush.
func (a *answer) FlushError() error {
	a.begin(http.StatusOK)
	a.arm()
	err := http.NewResponseController(a.ResponseWriter).Flush()
	a.disarm(true)
	return err
}

// EnableFullDuplex keeps net/http from reading the body at the first write.
func (a *answer) EnableFullDuplex() error {
	err := http.NewResponseController(a.ResponseWriter).EnableFullDuplex()
	if err == nil && a.body != nil {
		a.settled = true
		a.body.mu.Lock()
		a.body.duplex = true
		a.body.mu.Unlock()
	}
	return err
}

// Hijack hands the connection over for good: no deadline of ours follows it.
func (a *answer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(a.ResponseWriter).Hijack()
	if err == nil {
		a.started, a.taken = true, true
		a.server.hijacked.Add(1)
		if a.body != nil {
			a.body.leave()
		}
	}
	return conn, rw, err
}

// end takes back what was counted.
func (a *answer) end() {
	if a.taken {
		a.server.hijacked.Add(-1)
	}
}

func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Before it writes the head of an HTTP/1.1 response, net/http reads up to
// 256 KiB of what is left of the request's body, without a deadline.
func (a *answer) arm() {
	if a.body != nil && !a.settled {
		a.body.arm()
	}
}

func (a *answer) disarm(settled bool) {
	if a.body != nil && !a.settled {
		a.body.disarm()
		a.settled = settled
	}
}
