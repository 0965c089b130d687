package signer

import (
	"io"
)

// A chunkBody is the body of an outgoing chunk-signed request: each chunk that
// comes in verified goes out with a new signature. It keeps sizes, boundaries
// and total length as they are.
type chunkBody struct {
	v    *Verified
	src  io.Closer
	r    *chunkReader
	out  *chain
	rest []byte // of the signed chunk, to be read
	done bool   // rest is the end
	err  error
}

func (s *resigning) chunkBody() *Error {
	src := s.v.source()
	b := &chunkBody{v: s.v, src: src, r: s.v.newChunkReader(src), out: s.outbound()}
	s.out.Body = b
	if s.v.heldBody {
		s.out.GetBody = func() (io.ReadCloser, error) {
			src := s.v.source()
			return &chunkBody{v: s.v, src: src, r: s.v.newChunkReader(src), out: s.outbound()}, nil
		}
	}
	return nil
}

func (b *chunkBody) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, b.err
	}
	for len(b.rest) == 0 {
		if b.err == nil && b.done {
			b.err = io.EOF
			b.r.release()
		}
		if b.err != nil {
			return 0, b.err
		}
		if err := b.next(); err != nil {
			b.err = b.v.fail(err)
			b.r.release()
		}
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// next verifies one chunk and signs it in place: the header is written into the
// room before the data.
func (b *chunkBody) next() *Error {
	var c chunk
	if err := b.r.next(&c); err != nil {
		return err
	}
	var room [chunkHead]byte
	head := append(room[:0], c.sizeText...)
	head = append(head, chunkExtension...)
	head, err := b.out.sign(head, b.out.chunk(&c.sum))
	if err != nil {
		return refuse(ReasonUnresignable, "a chunk could not be signed: %v", err)
	}
	head = append(head, '\r', '\n')
	start := chunkHead - len(head)
	copy(b.r.buf[start:], head)
	end := chunkHead + len(c.data)
	if t := b.r.trailer; c.final && t != nil {
		tail, err := b.trailer(t)
		if err != nil {
			return err
		}
		b.rest, b.done = append(b.r.buf[start:end:end], tail...), true
		return nil
	}
	b.rest, b.done = b.r.buf[start:end+2], c.final
	return nil
}

// trailer returns the trailer with a new signature.
func (b *chunkBody) trailer(t *trailerReader) ([]byte, *Error) {
	tail := append(t.raw, trailerName+":"...)
	tail, err := b.out.sign(tail, b.out.trailer(t.canonical))
	if err != nil {
		return nil, refuse(ReasonUnresignable, "the trailer could not be signed: %v", err)
	}
	return append(tail, "\r\n\r\n"...), nil
}

// Close closes the body as received. It may be called while a Read waits.
func (b *chunkBody) Close() error { return b.src.Close() }

var _ io.ReadCloser = (*chunkBody)(nil)
