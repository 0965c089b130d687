package mitm

import (
	"io"
	"net/http"
	"sync"
	"time"
)

// hasBody reports whether r announces a body. Without one, HTTP/2 requests
// have a Body that is not http.NoBody.
func hasBody(r *http.Request) bool {
	return r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0
}

// lingerFor bounds how long net/http goes on reading the body of a request that
// has been answered. It reads up to 256 KiB, without a deadline of its own.
func lingerFor(w http.ResponseWriter, r *http.Request, d time.Duration) {
	if r.ProtoMajor < 2 && hasBody(r) {
		http.NewResponseController(w).SetReadDeadline(time.Now().Add(d))
	}
}

// pacedBody is a request body of which a read fails when the client pauses for
// longer than Limits.Body.
//
// A read deadline that is moved along would not do: it would pass while nobody
// reads, which net/http takes for the end of an HTTP/2 stream's body. And what
// reads an HTTP/1 connection after the body's end is net/http's look-out for a
// client that leaves.
type pacedBody struct {
	io.ReadCloser
	rc     *http.ResponseController
	conn   *connectConn
	pause  time.Duration
	linger time.Duration // 0: HTTP/2, where nothing is read after the handler

	mu      sync.Mutex
	timer   *time.Timer
	waiting int  // reads under way
	duplex  bool // EnableFullDuplex was called
	eof     bool // the body was read to its end
	expired bool
	over    bool // the handler returned: the connection may be another request's
}

func newPacedBody(r *http.Request, rc *http.ResponseController, conn *connectConn, limits Limits) *pacedBody {
	b := &pacedBody{ReadCloser: r.Body, rc: rc, conn: conn, pause: limits.Body}
	switch {
	case r.ProtoMajor >= 2:
	case r.Header.Get("Expect") != "":
		// A client that was not told to continue has nothing more to send. One
		// that was has mostly sent it all by now.
		b.linger = lingerTime
	default:
		b.linger = limits.Header
	}
	return b
}

// arm starts the clock of a read.
func (b *pacedBody) arm() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return false
	}
	b.waiting++
	if b.timer == nil {
		b.timer = time.AfterFunc(b.pause, b.expire)
	} else {
		b.timer.Reset(b.pause)
	}
	return true
}

func (b *pacedBody) disarm() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting--; b.waiting <= 0 && b.timer != nil {
		b.timer.Stop()
	}
}

// expire makes the reads under way fail.
func (b *pacedBody) expire() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting > 0 && !b.over {
		b.expired = true
		b.rc.SetReadDeadline(time.Unix(1, 0))
	}
}

func (b *pacedBody) Read(p []byte) (int, error) {
	if !b.arm() {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.ReadCloser.Read(p)
	b.disarm()
	if err != nil {
		b.mu.Lock()
		b.eof = b.eof || err == io.EOF
		b.mu.Unlock()
	}
	return n, err
}

// leave is called when the connection is no longer net/http's.
func (b *pacedBody) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
	if b.timer != nil {
		b.timer.Stop()
	}
}

// abandoned reports whether the connection would end with this request if the
// handler read no more; see end.
func (b *pacedBody) abandoned() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.duplex && !b.eof
}

// end is called when the handler returns.
//
// After EnableFullDuplex, net/http reads the rest of the body behind the
// answer and ignores what comes of it: bytes after a broken chunk are taken for
// the next request, and a body that was there but unread makes it panic. Such
// a connection must not go on.
func (b *pacedBody) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return
	}
	b.over = true
	if b.timer != nil {
		b.timer.Stop()
	}
	if b.eof || b.linger == 0 {
		return
	}
	if b.duplex {
		b.conn.last.Store(true)
	}
	if !b.expired {
		b.rc.SetReadDeadline(time.Now().Add(b.linger))
	}
}
