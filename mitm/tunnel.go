package mitm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/elazarl/goproxy"
)

// tunnel is one tunnel from its place being taken to its last byte. goproxy
// moves the bytes, over the two ends, and keeps half-closed connections; the
// ends count, and watch the time.
type tunnel struct {
	server  *Server
	connect *connect
	remote  net.Conn // nil until dialled

	last           atomic.Int64 // when a byte last moved, since started
	sent, received atomic.Int64
	code           atomic.Pointer[string] // why it was cut off; nil: it was not
	open           atomic.Int32           // ends that are not closed yet
	failure        sync.Once
	err            error // of failure; read after both ends are closed
}

// refusal is an answer to a CONNECT or a request that goes no further.
type refusal struct {
	status int
	code   string
	reason string
}

// openTunnel takes one of the places of Limits.Tunnels.
func (s *Server) openTunnel(c *connect) (*tunnel, *refusal) {
	t := &tunnel{server: s, connect: c}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, &refusal{http.StatusServiceUnavailable, CodeDraining, "the proxy is shutting down: try again, or use another one"}
	}
	if len(s.tunnels) >= s.limits.Tunnels {
		return nil, &refusal{http.StatusServiceUnavailable, CodeTunnelLimit,
			fmt.Sprintf("%d tunnels are open, as many as this proxy allows: close some or try again later", s.limits.Tunnels)}
	}
	s.tunnels[t] = struct{}{}
	c.tunnel = t
	return t, nil
}

// leave gives the place back.
func (t *tunnel) leave() {
	t.server.mu.Lock()
	delete(t.server.tunnels, t)
	t.server.mu.Unlock()
}

// dial is the dialer of goproxy's context. It makes both connections ends of t.
func (t *tunnel) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	s := t.server
	ctx, cancel := context.WithTimeout(ctx, s.limits.Dial)
	defer cancel()
	conn, err := s.dialOut(ctx, t.connect.target)
	if err != nil {
		t.leave()
		t.connect.conn.refusing = true
		return nil, err
	}
	s.stats.totalTunnel.Add(1)
	t.remote = conn
	t.touch()
	t.open.Store(2)
	t.connect.conn.tunnel = t
	t.connect.conn.state.Store(stateUsed)
	return &remoteConn{Conn: conn, tunnel: t}, nil
}

// dialOut connects to t, directly or through the upstream proxy.
func (s *Server) dialOut(ctx context.Context, t target) (net.Conn, error) {
	proxy, err := s.proxyFor(t)
	if err != nil {
		return nil, err
	}
	if proxy != nil {
		return s.dialProxy(ctx, proxy, t)
	}
	d := net.Dialer{Resolver: s.opt.Resolver, ControlContext: s.control}
	return d.DialContext(ctx, "tcp", t.address())
}

// tunnelFailed is goproxy's ConnectionErrHandler: it answers a CONNECT whose
// tunnel could not be dialled.
func (s *Server) tunnelFailed(w io.Writer, ctx *goproxy.ProxyCtx, err error) {
	conn, ok := w.(*connectConn)
	if !ok || conn.tunnel != nil {
		return // a tunnel that broke later; its end says so
	}
	ref := dialRefusal(conn.connect.target, err)
	e := conn.connect.event(KindReject, ref.code, ref.reason)
	e.Status, e.Err = ref.status, err
	s.record(e)
	s.response(ctx.Req, ref.status, ref.reason).Write(conn)
}

// dialRefusal says what became of a dial.
func dialRefusal(t target, err error) refusal {
	var address *AddressError
	var upstream *proxyError
	var dns *net.DNSError
	switch {
	case errors.As(err, &address):
		if t.isLiteral() {
			return refusal{http.StatusForbidden, CodeAddress, address.Error()}
		}
		return refusal{http.StatusForbidden, CodeAddress, fmt.Sprintf("%s resolves to an address that is refused: %v", t.host, address)}
	case errors.As(err, &upstream):
		return refusal{upstream.status, upstream.code, upstream.Error()}
	case errors.As(err, &dns) && dns.IsNotFound:
		return refusal{http.StatusBadGateway, CodeDial, fmt.Sprintf("there is no host %s: check the name", t.host)}
	case errors.As(err, &dns):
		return refusal{http.StatusBadGateway, CodeDial, fmt.Sprintf("the name %s could not be looked up: %v", t.host, dns.Err)}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return refusal{http.StatusGatewayTimeout, CodeDial, fmt.Sprintf("%s does not answer in time", t.address())}
	}
	return refusal{http.StatusBadGateway, CodeDial, fmt.Sprintf("cannot connect to %s: %v", t.address(), err)}
}

// remoteConn is the end of a tunnel that we dialled.
type remoteConn struct {
	net.Conn
	tunnel *tunnel
	ended  sync.Once
}

func (r *remoteConn) Read(p []byte) (int, error) {
	return r.tunnel.read(r.Conn.Read, r.Conn.SetReadDeadline, p, &r.tunnel.received)
}

func (r *remoteConn) Write(p []byte) (int, error) {
	if err := r.Conn.SetWriteDeadline(time.Now().Add(r.tunnel.server.limits.Write)); err != nil {
		return 0, err
	}
	n, err := r.Conn.Write(p)
	r.tunnel.fail(err)
	return n, err
}

// goproxy keeps half-closed tunnels only for connections with these two.
func (r *remoteConn) CloseWrite() error { return closeWrite(r.Conn) }
func (r *remoteConn) CloseRead() error  { return closeRead(r.Conn) }

func (r *remoteConn) Close() error {
	err := r.Conn.Close()
	r.ended.Do(r.tunnel.closed)
	return err
}

func (t *tunnel) touch() { t.last.Store(int64(time.Since(t.connect.started))) }

// idle is for how long no byte moved.
func (t *tunnel) idle() time.Duration {
	return time.Since(t.connect.started) - time.Duration(t.last.Load())
}

// read reads from one end. Its deadline is the tunnel's: a byte in either
// direction puts it off.
func (t *tunnel) read(read func([]byte) (int, error), deadline func(time.Time) error, p []byte, count *atomic.Int64) (int, error) {
	for {
		left := t.server.limits.TunnelIdle - t.idle()
		if left <= 0 {
			t.end(CodeTimeout)
			return 0, fmt.Errorf("no byte moved for %v: %w", t.server.limits.TunnelIdle, os.ErrDeadlineExceeded)
		}
		if err := deadline(time.Now().Add(left)); err != nil {
			return 0, err
		}
		n, err := read(p)
		if n > 0 {
			count.Add(int64(n))
			t.touch()
			if err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
				err = nil
			}
			return n, err
		}
		if err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		t.fail(err)
		return n, err
	}
}

// fail notes an error of either end. net.ErrClosed only follows another cause.
func (t *tunnel) fail(err error) {
	if err == nil || err == io.EOF || errors.Is(err, net.ErrClosed) {
		return
	}
	t.failure.Do(func() { t.err = err })
	t.end(CodeBroken)
}

// end notes why the tunnel is cut off; the first reason stays.
func (t *tunnel) end(code string) { t.code.CompareAndSwap(nil, &code) }

// cut ends the tunnel from outside.
func (t *tunnel) cut(code string) {
	t.end(code)
	t.connect.conn.clientConn.Close()
	t.remote.Close()
}

// closed is called once for each end, and makes the record at the second call.
func (t *tunnel) closed() {
	if t.open.Add(-1) != 0 {
		return
	}
	s := t.server
	sent, received := t.sent.Load(), t.received.Load()
	s.stats.sent.Add(sent)
	s.stats.received.Add(received)
	code, reason := CodeDone, "closed by its ends"
	if c := t.code.Load(); c != nil {
		code = *c
	}
	switch code {
	case CodeTimeout:
		reason = fmt.Sprintf("no byte moved for %v", s.limits.TunnelIdle)
	case CodeShutdown:
		reason = "the proxy shut down"
	case CodeBroken:
		reason = "the connection broke"
	}
	e := t.connect.event(KindTunnel, code, reason)
	e.Status = http.StatusOK
	e.Sent, e.Received = sent, received
	t.failure.Do(func() {})
	e.Err = t.err
	s.record(e)
	t.leave()
}

// drainTunnels waits for the tunnels to end or pause, and at last cuts them off.
func (s *Server) drainTunnels(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	over := ctx.Done()
	for {
		s.mu.Lock()
		var idle []*tunnel
		for t := range s.tunnels {
			if t.open.Load() > 0 && (ctx.Err() != nil || t.idle() >= s.limits.DrainIdle) {
				idle = append(idle, t)
			}
		}
		rest := len(s.tunnels)
		s.mu.Unlock()
		for _, t := range idle {
			t.cut(CodeShutdown)
		}
		if rest == 0 {
			return ctx.Err()
		}
		select {
		case <-over:
			s.cancel() // those that are being dialled
			over = nil
		case <-tick.C:
		}
	}
}
