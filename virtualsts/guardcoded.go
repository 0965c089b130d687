package virtualsts

import (
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ErrUnwatched is what reading a guarded answer ends with when it is compressed and
// cannot be unpacked, so that nobody can say what is in it.
var ErrUnwatched = errors.New("virtualsts: the answer of AWS is compressed in a way that cannot be read, so it was blocked: it may hold credentials")

// GuardCoded is [Guard] for an answer with this Content-Encoding: "", identity, gzip
// or deflate. What passes are the bytes as they came; they are unpacked beside it,
// to look. ok is false for any other coding.
func GuardCoded(body io.ReadCloser, coding string) (guarded io.ReadCloser, ok bool) {
	var open func(io.Reader) (io.Reader, error)
	switch strings.ToLower(strings.TrimSpace(coding)) {
	case "", "identity":
		return Guard(body), true
	case "gzip", "x-gzip":
		open = func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }
	case "deflate":
		open = func(r io.Reader) (io.Reader, error) { return zlib.NewReader(r) } // RFC 9110, 8.4.1.2
	default:
		return nil, false
	}
	t := &tap{src: body}
	return &codedGuard{body: body, tap: t, plain: Guard(io.NopCloser(&unpacked{tap: t, open: open}))}, true
}

// A codedGuard lets compressed bytes go once what they unpack to is clear.
type codedGuard struct {
	body  io.Closer
	tap   *tap
	plain io.Reader // a guard of what they unpack to
	clear int64     // bytes of plain
	room  [4 << 10]byte
	err   error
}

func (g *codedGuard) Close() error { return g.body.Close() }

func (g *codedGuard) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if n := g.tap.take(p); n > 0 {
			return n, nil
		}
		if g.err != nil {
			return 0, g.err
		}
		n, err := g.plain.Read(g.room[:])
		g.clear += int64(n)
		g.tap.release(g.clear)
		switch {
		case err == io.EOF:
			g.tap.releaseAll()
		case err != nil && g.tap.err != nil && g.tap.err != io.EOF:
			err = g.tap.err // AWS's connection broke
		case err != nil && !errors.Is(err, ErrCredentials):
			err = fmt.Errorf("%w (%v)", ErrUnwatched, err)
		}
		g.err = err
	}
}

// unpacked is what the bytes behind a tap unpack to. The head of the packed form is
// read when it is wanted, since it may come late.
type unpacked struct {
	tap  *tap
	open func(io.Reader) (io.Reader, error)
	r    io.Reader
}

func (u *unpacked) Read(p []byte) (int, error) {
	if u.r == nil {
		if u.tap.empty() {
			return 0, u.tap.err // no body, as in the answer to HEAD
		}
		r, err := u.open(u.tap)
		if err != nil {
			return 0, unexpected(err)
		}
		u.r = r
	}
	n, err := u.r.Read(p)
	u.tap.unpacked += int64(n)
	if n < len(p) {
		u.tap.mark() // it had no more to give, and may have to wait for more bytes
	}
	if err == io.EOF && !u.tap.empty() {
		err = errors.New("bytes follow its end")
	}
	return n, err
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// maxHeld bounds the compressed bytes that wait for what they mean. Unpacking needs
// a window of 32 KiB, and the guard holds back half of that.
const maxHeld = 1 << 20

// A tap gives a decompressor its bytes, one at a time if it likes, so that it never
// has more than it used, and keeps them until they may go.
type tap struct {
	src      io.Reader
	buf      []byte
	used     int   // of buf, by the decompressor
	free     int   // of buf, that may go
	unpacked int64 // bytes that the decompressor gave
	marked   int64 // unpacked at the last mark
	marks    []mark
	err      error // of src, behind buf
}

// A mark says that the bytes before it in the buffer are all told once so much of
// what they unpack to is.
type mark struct {
	used     int
	unpacked int64
}

// fill reads once, and tells whether a byte is there.
func (t *tap) fill() bool {
	for t.used == len(t.buf) && t.err == nil {
		if len(t.buf) >= maxHeld {
			t.err = fmt.Errorf("%w: too much of it says too little", ErrUnwatched)
			break
		}
		const step = 4 << 10
		t.buf = append(t.buf, make([]byte, step)...)
		n, err := t.src.Read(t.buf[len(t.buf)-step:])
		t.buf, t.err = t.buf[:len(t.buf)-step+n], err
	}
	return t.used < len(t.buf)
}

func (t *tap) empty() bool { return !t.fill() }

// mark is called when the decompressor has given all that it made of what it had, but
// for a few bits: it takes no more before that.
func (t *tap) mark() {
	if t.marked < t.unpacked {
		t.marked = t.unpacked
		t.marks = append(t.marks, mark{t.used, t.unpacked})
	}
}

func (t *tap) ReadByte() (byte, error) {
	if !t.fill() {
		return 0, t.err
	}
	t.mark()
	t.used++
	return t.buf[t.used-1], nil
}

func (t *tap) Read(p []byte) (int, error) {
	if !t.fill() {
		return 0, t.err
	}
	t.mark()
	n := copy(p, t.buf[t.used:])
	t.used += n
	return n, nil
}

// release lets go what unpacked to the first n bytes.
func (t *tap) release(n int64) {
	done := 0
	for _, m := range t.marks {
		if m.unpacked > n {
			break
		}
		t.free = m.used
		done++
	}
	t.marks = t.marks[done:]
}

func (t *tap) releaseAll() { t.free, t.marks = t.used, nil }

// take moves what may go into p.
func (t *tap) take(p []byte) int {
	n := copy(p, t.buf[:t.free])
	if n == 0 {
		return 0
	}
	t.buf = t.buf[:copy(t.buf, t.buf[n:])]
	t.used, t.free = t.used-n, t.free-n
	for i := range t.marks {
		t.marks[i].used -= n
	}
	return n
}
