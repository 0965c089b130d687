package mitm

import (
	"context"
	"crypto/tls"
	"errors"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// Server is a forward proxy. Make one with New; it serves until Shutdown and
// cannot be used again.
type Server struct {
	opt    Options
	limits Limits
	log    *zap.Logger

	ctx    context.Context // parent of everything; ended by close
	cancel context.CancelFunc

	outer *http.Server // CONNECT
	inner *http.Server // requests of intercepted hosts
	inbox *inbox       // the way from outer to inner
	start sync.Once

	tlsH1, tlsH2 *tls.Config
	slots        chan struct{} // one for each connection, Limits.Connections
	localAddrs   func() ([]net.Addr, error)

	hijacked atomic.Int64 // requests whose handler has taken the connection
	lame     atomic.Bool  // every answer ends its connection
	draining atomic.Bool  // no CONNECT is taken any more
	full     atomic.Int64 // when Limits.Connections was last seen reached, in Unix seconds
	stats    counters

	mu      sync.Mutex
	conns   map[*clientConn]struct{}
	tunnels map[*tunnel]struct{}
	closed  bool           // no more goroutines
	wg      sync.WaitGroup // goroutines that no http.Server waits for
}

type counters struct {
	connections, intercepted, requests           atomic.Int64
	totalConnections, totalRequests, totalTunnel atomic.Int64
	sent, received                               atomic.Int64
	refused, handshakes, malformed, panics       atomic.Int64
}

// New returns a Server that does not listen yet.
func New(opt Options) (*Server, error) {
	switch {
	case opt.Route == nil:
		return nil, errors.New("mitm: Options.Route is missing")
	case opt.Handler == nil:
		return nil, errors.New("mitm: Options.Handler is missing")
	case opt.Certificate == nil:
		return nil, errors.New("mitm: Options.Certificate is missing")
	}
	limits, err := opt.Limits.withDefaults()
	if err != nil {
		return nil, err
	}
	if opt.Record == nil {
		opt.Record = func(Event) {}
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Logger == nil {
		opt.Logger = zap.NewNop()
	}
	s := &Server{
		opt:        opt,
		limits:     limits,
		log:        opt.Logger,
		inbox:      newInbox(),
		slots:      make(chan struct{}, limits.Connections),
		localAddrs: net.InterfaceAddrs,
		conns:      make(map[*clientConn]struct{}),
		tunnels:    make(map[*tunnel]struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.tlsH1 = s.tlsConfig("http/1.1")
	s.tlsH2 = s.tlsConfig("h2", "http/1.1")
	errorLog := zap.NewStdLog(s.log)
	if l, err := zap.NewStdLogAt(s.log, zap.DebugLevel); err == nil {
		errorLog = l
	}
	s.outer = s.newOuter(errorLog)
	s.inner = s.newInner(errorLog)
	return s, nil
}

// newServer is what both servers have in common. Neither has a ReadTimeout or
// WriteTimeout: they would bound a whole transfer, and transfers have no bound.
// Limits.Body and Limits.Write bound their pauses instead.
func (s *Server) newServer(errorLog *log.Logger) *http.Server {
	return &http.Server{
		ReadHeaderTimeout: s.limits.Header,
		IdleTimeout:       s.limits.Idle,
		MaxHeaderBytes:    s.limits.HeaderBytes,
		ErrorLog:          errorLog,
		BaseContext:       func(net.Listener) context.Context { return s.ctx },
		Protocols:         new(http.Protocols),
		// Otherwise net/http answers "OPTIONS *" with 200 before any check.
		DisableGeneralOptionsHandler: true,
	}
}

// Serve accepts clients from l until Shutdown, and then returns
// http.ErrServerClosed. It closes l. Several listeners may be served at a time.
//
// For a proxy reached with https://, l is what crypto/tls.NewListener made; its
// configuration must not offer "h2", since CONNECT is served over HTTP/1.1.
func (s *Server) Serve(l net.Listener) error {
	s.start.Do(func() {
		s.spawn(func() {
			s.inner.Serve(s.inbox) // returns when Shutdown closes the inbox
		})
	})
	return s.outer.Serve(&listener{Listener: l, server: s, closed: make(chan struct{})})
}

// Drain tells clients to go elsewhere without turning any of them away: from now
// on each answer of an intercepted host ends its connection (Connection: close,
// or GOAWAY for HTTP/2). Connections are still accepted, and idle ones are kept.
//
// A connection that is closed while it is idle may cross a request on its way,
// and a client must not send a POST again by itself (RFC 9110, 9.2.2). One that
// said "close" before is not used again. So Drain comes some time before
// Shutdown: until balancers know, and busy clients have heard.
func (s *Server) Drain() { s.lame.Store(true) }

// Shutdown stops listening, lets requests that are being answered finish, and
// tunnels until they pause for Limits.DrainIdle; then it closes everything. While
// requests are being answered, others are answered too that come on connections
// which were idle; those are closed last. When ctx ends first, what is left is
// cut off, and the error is that of ctx. After it returns no further Event of a
// tunnel is recorded.
func (s *Server) Shutdown(ctx context.Context) error {
	s.Drain()
	s.draining.Store(true)
	s.start.Do(func() {}) // if Serve never ran, inner must not be started any more
	done := make(chan error, 3)
	go func() { done <- s.outer.Shutdown(ctx) }()
	go func() { done <- s.shutdownInner(ctx) }()
	go func() { done <- s.drainTunnels(ctx) }()

	// net/http counts connections without a first request as busy for five
	// seconds. A client that has opened one a moment ago is about to use it;
	// from others nothing is lost by closing them.
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var errs []error
	for n := 0; n < cap(done); {
		select {
		case err := <-done:
			errs = append(errs, err)
			n++
		case <-tick.C:
			s.closeConns(func(c *clientConn) bool { return c.unused() && time.Since(c.opened) > unusedGrace })
		}
	}
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.outer.Close()
	s.inner.Close()
	s.inbox.Close()
	s.closeConns(func(*clientConn) bool { return true })
	s.wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// unusedGrace is how long a connection may be open without a request while the
// proxy shuts down.
const unusedGrace = time.Second

// shutdownInner closes idle connections, but not before the requests under way
// have been answered. Hijacked connections are nobody's to wait for, as in net/http.
func (s *Server) shutdownInner(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil && s.stats.requests.Load() > s.hijacked.Load() {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	return s.inner.Shutdown(ctx)
}

// spawn runs f in a goroutine that Shutdown waits for, or reports that it is
// too late for that.
func (s *Server) spawn(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.wg.Go(f)
	return true
}

// closeConns closes the connections that which chooses.
func (s *Server) closeConns(which func(*clientConn) bool) {
	s.mu.Lock()
	var chosen []*clientConn
	for c := range s.conns {
		if which(c) {
			chosen = append(chosen, c)
		}
	}
	s.mu.Unlock()
	for _, c := range chosen {
		c.Close()
	}
}

// Stats returns the present numbers.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	tunnels := int64(len(s.tunnels))
	s.mu.Unlock()
	return Stats{
		Connections:      s.stats.connections.Load(),
		Intercepted:      s.stats.intercepted.Load(),
		Tunnels:          tunnels,
		Requests:         s.stats.requests.Load(),
		TotalConnections: s.stats.totalConnections.Load(),
		TotalRequests:    s.stats.totalRequests.Load(),
		TotalTunnels:     s.stats.totalTunnel.Load(),
		TunnelSent:       s.stats.sent.Load(),
		TunnelReceived:   s.stats.received.Load(),
		Refused:          s.stats.refused.Load(),
		HandshakeErrors:  s.stats.handshakes.Load(),
		Malformed:        s.stats.malformed.Load(),
		Panics:           s.stats.panics.Load(),
	}
}

// record counts e, and hands it on with the time filled in.
func (s *Server) record(e Event) {
	switch e.Kind {
	case KindReject, KindPlain, KindRequest:
		s.stats.refused.Add(1)
	case KindHandshake:
		s.stats.handshakes.Add(1)
	case KindMalformed:
		s.stats.malformed.Add(1)
	case KindPanic:
		s.stats.panics.Add(1)
	}
	e.Time = s.opt.Now()
	s.opt.Record(e)
}

// inbox is the listener through which connections reach the inner server.
type inbox struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newInbox() *inbox {
	return &inbox{conns: make(chan net.Conn), done: make(chan struct{})}
}

// put hands c over; it reports false, and leaves c alone, once the inbox is closed.
func (i *inbox) put(c net.Conn) bool {
	select {
	case i.conns <- c:
		return true
	case <-i.done:
		return false
	}
}

func (i *inbox) Accept() (net.Conn, error) {
	select {
	case c := <-i.conns:
		return c, nil
	case <-i.done:
		return nil, net.ErrClosed
	}
}

func (i *inbox) Close() error {
	i.once.Do(func() { close(i.done) })
	return nil
}

func (i *inbox) Addr() net.Addr { return inboxAddr{} }

type inboxAddr struct{}

func (inboxAddr) Network() string { return "mitm" }
func (inboxAddr) String() string  { return "intercepted connections" }
