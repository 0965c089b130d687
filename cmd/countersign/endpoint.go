package main

import (
	"io"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/netutil"
)

// endpointWrite bounds one write to a client of the endpoint listener, as the
// proxy's own listener does.
const endpointWrite = 2 * time.Minute

// endpointServer serves clients that are told AWS_ENDPOINT_URL. Whole transfers have
// no bound, as on the proxy's own listener; a pause within one has.
func (p *proxy) endpointServer() *http.Server {
	l := p.engine.Load().cfg.Limits
	return &http.Server{
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				p.endpointClients.Add(1)
			case http.StateClosed, http.StateHijacked:
				p.endpointClients.Add(-1)
			}
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if p.draining.Load() {
				w.Header().Set("Connection", "close")
			}
			if r.Body != nil && r.Body != http.NoBody {
				// A copy: net/http looks at the type of its own request's Body.
				r = r.WithContext(r.Context())
				body := &pacedBody{ReadCloser: r.Body, control: http.NewResponseController(w), pause: l.BodyTimeout}
				defer body.end()
				r.Body = body
			}
			p.engine.Load().pipeline.Endpoint().ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: l.HeaderTimeout, IdleTimeout: l.IdleTimeout, MaxHeaderBytes: int(l.Header),
		// Otherwise net/http answers "OPTIONS *" without a line in the record.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     zap.NewStdLog(p.log.Named("endpoint")),
	}
}

// endpointListener bounds the connections of the endpoint listener and the time of
// each write to them.
func endpointListener(l net.Listener, connections int) net.Listener {
	return pacedListener{netutil.LimitListener(l, connections)}
}

type pacedListener struct{ net.Listener }

func (l pacedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return pacedConn{c}, nil
}

// pacedConn lets go of a client that does not read its answer.
type pacedConn struct{ net.Conn }

func (c pacedConn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(endpointWrite)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// pacedBody fails when the client pauses for too long.
type pacedBody struct {
	io.ReadCloser
	control *http.ResponseController
	pause   time.Duration
	eof     bool
}

func (b *pacedBody) Read(p []byte) (int, error) {
	if err := b.control.SetReadDeadline(time.Now().Add(b.pause)); err != nil {
		return 0, err
	}
	n, err := b.ReadCloser.Read(p)
	b.eof = b.eof || err == io.EOF
	// What reads on behind the end is net/http's look-out for a client that leaves.
	_ = b.control.SetReadDeadline(time.Time{}) // or the connection is closed
	return n, err
}

// end bounds what net/http goes on reading of a body that was not wanted.
func (b *pacedBody) end() {
	if !b.eof {
		_ = b.control.SetReadDeadline(time.Now().Add(b.pause)) // the connection may be closed
	}
}
