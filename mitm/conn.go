package mitm

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"
)

// listener wraps what it accepts into clientConns, and waits while all slots
// are taken. Waiting in the listen queue is kinder than closing: a client sees
// a slow connect, which it survives.
type listener struct {
	net.Listener
	server *Server
	once   sync.Once
	closed chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	s := l.server
	select {
	case s.slots <- struct{}{}:
	default:
		if now := time.Now().Unix(); s.full.Swap(now) < now-60 {
			s.log.Warn("the limit on connections is reached; new ones wait until others end", zap.Int("limit", s.limits.Connections))
		}
		select {
		case s.slots <- struct{}{}:
		case <-l.closed:
			return nil, net.ErrClosed
		}
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-s.slots
		// net/http tries again, and says so only to those who debug.
		if isFull(err) {
			if now := time.Now().Unix(); s.full.Swap(now) < now-60 {
				s.log.Warn("no connection can be accepted until others end: allow the process more open files (ulimit -n), or lower limits.connections", zap.Error(err))
			}
		}
		return nil, err
	}
	c := &clientConn{Conn: conn, server: s, opened: time.Now()}
	s.stats.connections.Add(1)
	s.stats.totalConnections.Add(1)
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	return c, nil
}

// isFull reports that the process, or the machine, has no file descriptor left.
func isFull(err error) bool { return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) }

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// What a client's connection is being used for.
const (
	stateNew       int32 = iota // no byte has arrived
	stateOuter                  // spoken to by the outer server
	stateHandshake              // CONNECT answered, TLS not ready
	stateReady                  // TLS ready, no request yet
	stateUsed                   // intercepted with requests, or a tunnel
)

// clientConn is one client's connection from accept to close, whoever holds it
// meanwhile: it counts against Limits.Connections and bounds every write.
type clientConn struct {
	net.Conn
	server *Server
	opened time.Time

	state    atomic.Int32
	first    atomic.Int32 // the first byte read, plus one
	requests atomic.Int64 // requests that net/http began to read on the outer side
	handled  atomic.Int64 // of these, the ones that it passed on
	deadline atomic.Int64 // of writes, in Unix nanoseconds; 0: none was set
	close    sync.Once
}

// unused reports whether closing c loses no request.
func (c *clientConn) unused() bool {
	switch c.state.Load() {
	case stateNew, stateHandshake, stateReady:
		return true
	}
	return false
}

func (c *clientConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && c.state.Load() == stateNew {
		c.first.Store(int32(p[0]) + 1)
		c.state.CompareAndSwap(stateNew, stateOuter)
	}
	return n, err
}

// Write fails when it takes longer than Limits.Write. net/http has only a
// deadline for a whole response, and a response here may stream for hours.
func (c *clientConn) Write(p []byte) (int, error) {
	until := time.Now().Add(c.server.limits.Write)
	if d := c.deadline.Load(); d != 0 && d < until.UnixNano() {
		until = time.Unix(0, d)
	}
	if err := c.Conn.SetWriteDeadline(until); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

func (c *clientConn) SetWriteDeadline(t time.Time) error {
	if t.IsZero() {
		c.deadline.Store(0)
	} else {
		c.deadline.Store(t.UnixNano())
	}
	return c.Conn.SetWriteDeadline(t)
}

func (c *clientConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// CloseWrite ends the outgoing half, over TCP and TLS alike.
func (c *clientConn) CloseWrite() error { return closeWrite(c.Conn) }

// CloseRead ends the incoming half where the transport knows such a thing.
func (c *clientConn) CloseRead() error { return closeRead(c.Conn) }

func closeWrite(c net.Conn) error {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return nil
}

func closeRead(c net.Conn) error {
	if h, ok := c.(interface{ CloseRead() error }); ok {
		return h.CloseRead()
	}
	return nil
}

func (c *clientConn) Close() error {
	err := c.Conn.Close()
	c.close.Do(func() {
		s := c.server
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		s.stats.connections.Add(-1)
		<-s.slots
	})
	return err
}

// connectConn is a client's connection behind its CONNECT. Reads begin with the
// bytes that arrived glued to the CONNECT.
type connectConn struct {
	*clientConn
	connect *connect
	glued   []byte // only the reader touches it

	// tunnel is set before the first byte moves, if this end is one of a tunnel.
	tunnel *tunnel

	// refusing holds back what is written until Close, which then sends it in
	// one piece and lingers.
	refusing bool
	answer   []byte

	// Of intercepted connections, kept by ConnState and the inner handler.
	begun   atomic.Int64 // requests that net/http began to read
	handled atomic.Int64 // of these, the ones that reached the inner handler
	h2      atomic.Bool
	counted atomic.Bool // in Stats.Intercepted
	last    atomic.Bool // no request may follow the present one
	tail    [7]byte     // the last bytes read during the handshake; only the reader touches it
	sni     string      // written before the inner server sees the connection
	ended   sync.Once   // of the tunnel's end
}

func (c *connectConn) Read(p []byte) (int, error) {
	if c.tunnel != nil {
		return c.tunnel.read(c.readGlued, c.clientConn.SetReadDeadline, p, &c.tunnel.sent)
	}
	n, err := c.readGlued(p)
	if c.state.Load() == stateHandshake {
		last := append(c.tail[:len(c.tail):len(c.tail)], p[:n]...)
		copy(c.tail[:], last[len(last)-len(c.tail):])
	}
	return n, err
}

func (c *connectConn) readGlued(p []byte) (int, error) {
	if len(c.glued) > 0 {
		n := copy(p, c.glued)
		if c.glued = c.glued[n:]; len(c.glued) == 0 {
			c.glued = nil
		}
		return n, nil
	}
	return c.clientConn.Read(p)
}

func (c *connectConn) Write(p []byte) (int, error) {
	if c.refusing {
		c.answer = append(c.answer, p...)
		return len(p), nil
	}
	n, err := c.clientConn.Write(p)
	if c.tunnel != nil {
		c.tunnel.fail(err)
	}
	return n, err
}

// A connection that is closed while bytes of the client are unread is reset,
// and the reset may overtake the answer (RFC 9112, 9.6).
const (
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 64 << 10
)

func (c *connectConn) Close() error {
	if c.tunnel != nil {
		defer c.ended.Do(c.tunnel.closed)
	}
	if c.refusing {
		c.refusing = false
		if _, err := c.clientConn.Write(c.answer); err == nil {
			c.CloseWrite()
			c.SetReadDeadline(time.Now().Add(lingerTime))
			io.CopyN(io.Discard, c.clientConn, lingerBytes)
		}
	}
	return c.clientConn.Close()
}
