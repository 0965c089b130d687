package mitm

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

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
	if ref := c.check(r); ref != nil {
		e := c.connect.event(KindRequest, ref.code, ref.reason)
		e.Method, e.Status = r.Method, ref.status
		s.record(e)
		refuse(w, r, *ref)
		return
	}
	s.stats.totalRequests.Add(1)
	s.stats.requests.Add(1)
	defer s.stats.requests.Add(-1)

	r.URL.Scheme = "https"
	r.URL.Host = c.connect.target.authority()
	a := &answer{ResponseWriter: w}
	if r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0 {
		body := newPacedBody(r.Body, http.NewResponseController(w), s.limits.Body)
		r.Body = body
		defer body.end()
	}
	defer func() {
		v := recover()
		if v == nil {
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
		refuse(w, r, refusal{http.StatusInternalServerError, CodePanic, "the proxy met an error of its own while answering this request"})
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
	if r.TLS == nil { // an HTTP/2 request whose :scheme is http
		return &refusal{http.StatusBadRequest, CodeTargetForm, "the :scheme of the request must be https"}
	}
	if r.RequestURI == "" || r.RequestURI[0] != '/' {
		return &refusal{http.StatusBadRequest, CodeTargetForm,
			"the target of a request inside a CONNECT must be a path beginning with '/': send the URL's path, and its host as Host"}
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

// answer notes whether a response has begun.
type answer struct {
	http.ResponseWriter
	started bool
}

func (a *answer) WriteHeader(status int) {
	// Informational answers precede the real one; 101 is the real one.
	if status >= 200 || status == http.StatusSwitchingProtocols {
		a.started = true
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(p []byte) (int, error) {
	a.started = true
	return a.ResponseWriter.Write(p)
}

// Flush is here for handlers that ask for http.Flusher; everything else is
// found by http.ResponseController.
func (a *answer) Flush() {
	a.started = true
	http.NewResponseController(a.ResponseWriter).Flush()
}

// FlushError is what http.ResponseController prefers to Flush.
func (a *answer) FlushError() error {
	a.started = true
	return http.NewResponseController(a.ResponseWriter).Flush()
}

func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// pacedBody fails a read that takes longer than pause.
//
// A read deadline cannot just be moved along: between reads it would pass, which
// net/http takes for the end of an HTTP/2 stream's body.
type pacedBody struct {
	io.ReadCloser
	rc    *http.ResponseController
	pause time.Duration

	mu    sync.Mutex
	timer *time.Timer
	over  bool // the handler returned: the connection may be another request's
}

func newPacedBody(body io.ReadCloser, rc *http.ResponseController, pause time.Duration) *pacedBody {
	b := &pacedBody{ReadCloser: body, rc: rc, pause: pause}
	b.timer = time.AfterFunc(pause, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if !b.over {
			b.rc.SetReadDeadline(time.Unix(1, 0))
		}
	})
	b.timer.Stop()
	return b
}

func (b *pacedBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	if b.over {
		b.mu.Unlock()
		return 0, http.ErrBodyReadAfterClose
	}
	b.timer.Reset(b.pause)
	b.mu.Unlock()
	n, err := b.ReadCloser.Read(p)
	b.timer.Stop()
	return n, err
}

// end is called when the handler returns.
func (b *pacedBody) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
	b.timer.Stop()
}
