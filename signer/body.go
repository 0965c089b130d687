package signer

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"net/http"
	"sync"
)

type bodySource = io.ReadCloser

// Buffer reads the whole body, verifies it, and returns what it means: chunk
// framing is taken off, so the result is what a policy may look at. The body as
// received is kept and [Resign] sends it again. limit bounds the bytes as
// received; 0 means VerifyOptions.BodyLimit. Event streams and POST forms cannot
// be buffered.
func (v *Verified) Buffer(limit int64) ([]byte, error) {
	if limit <= 0 {
		limit = v.opt.bodyLimit()
	}
	if v.sig.Form == FormPost {
		return nil, refuse(ReasonUnsupported, "the file of a POST form is not held in memory")
	}
	if v.sig.Payload == PayloadEvents {
		return nil, refuse(ReasonUnsupported, "an event stream has no end that could be waited for, so its body is not held in memory")
	}
	if v.signed {
		return nil, refuse(ReasonChanged, "the body was given to the outgoing request already")
	}
	if err := v.hold(limit); err != nil {
		return nil, v.fail(err)
	}
	switch v.sig.Payload {
	case PayloadHash:
		if !sumIs(sha256.Sum256(v.held), v.sig.PayloadHash) {
			return nil, v.fail(errPayload())
		}
	case PayloadChunked, PayloadChunkedTrailer, PayloadUnsignedTrailer:
		return v.decode()
	}
	return v.held, nil
}

func sumIs(sum [32]byte, hex string) bool {
	var text [64]byte
	return constantTimeEqual(appendHex(text[:0], sum[:]), hex)
}

// hold reads the body into memory.
func (v *Verified) hold(limit int64) *Error {
	if v.heldBody {
		return nil
	}
	if v.body == nil || v.body == http.NoBody {
		v.heldBody = true
		return nil
	}
	if n := v.msg.contentLength; n > limit {
		return refuse(ReasonTooLarge, "the body of %d bytes must be held in memory and is above the limit of %d", n, limit)
	}
	// Memory grows with what arrived, never with what was announced.
	size := max(min(v.msg.contentLength, 64<<10), 512)
	var held []byte
	for {
		if len(held) == cap(held) {
			grown := int64(cap(held)) * 2
			if grown == 0 {
				grown = size
			}
			grown = min(grown, limit+1)
			if n := v.msg.contentLength; n > int64(len(held)) {
				// One byte more, so that the end is seen without growing again.
				grown = min(grown, n+1)
			}
			if err := v.reserve(grown - int64(cap(held))); err != nil {
				return err
			}
			next := make([]byte, len(held), grown)
			copy(next, held)
			held = next
		}
		n, err := v.body.Read(held[len(held):cap(held)])
		held = held[:len(held)+n]
		if int64(len(held)) > limit {
			return refuse(ReasonTooLarge, "the body must be held in memory and is above the limit of %d bytes", limit)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return readError(err)
		}
	}
	if n := v.msg.contentLength; n >= 0 && int64(len(held)) != n {
		return refuse(ReasonIncomplete, "the body ended after %d of %d bytes", len(held), n)
	}
	v.held, v.heldBody = held, true
	return nil
}

// reserve asks for memory.
func (v *Verified) reserve(n int64) *Error {
	if v.opt.Reserve == nil {
		return nil
	}
	if err := v.opt.Reserve(n); err != nil {
		return &Error{Reason: ReasonNoMemory, Message: "there is no room for the body now: " + err.Error(), Err: err}
	}
	return nil
}

// readError words a failure to read what the client sends.
func readError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Reason: ReasonIncomplete, Message: "the body could not be read to its end: " + err.Error(), Err: err}
}

// source is the body as received: from memory where it is held.
func (v *Verified) source() io.ReadCloser {
	if v.heldBody {
		return io.NopCloser(bytes.NewReader(v.held))
	}
	return v.body
}

// A hashBody passes a body on and withholds the end of it until the hash of
// the whole is right: of a body of known length the last piece read, else the
// last byte.
type hashBody struct {
	v    *Verified
	src  io.ReadCloser
	want string
	left int64 // bytes to come, -1 when unknown

	h    hash.Hash
	last byte
	have bool // last holds the byte withheld
	err  error
}

var sha256Pool = sync.Pool{New: func() any { return sha256.New() }}

func newHashBody(v *Verified, src io.ReadCloser, length int64) *hashBody {
	h := sha256Pool.Get().(hash.Hash)
	h.Reset()
	return &hashBody{v: v, src: src, want: v.sig.PayloadHash, left: length, h: h}
}

func (b *hashBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if b.left >= 0 {
		return b.readKnown(p)
	}
	return b.readUnknown(p)
}

// readKnown withholds the piece that completes the body.
func (b *hashBody) readKnown(p []byte) (int, error) {
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.src.Read(p)
	b.h.Write(p[:n])
	b.left -= int64(n)
	switch {
	case b.left == 0:
		return b.finish(n)
	case err == io.EOF:
		err = b.v.fail(refuse(ReasonIncomplete, "the body ended %d bytes early", b.left))
	case err != nil:
		err = b.v.fail(readError(err))
	}
	b.err = err
	return n, err
}

// readUnknown withholds one byte, since the end shows only after it.
func (b *hashBody) readUnknown(p []byte) (int, error) {
	for {
		n, err := b.src.Read(p)
		b.h.Write(p[:n])
		if n > 0 {
			last := p[n-1]
			if b.have {
				copy(p[1:n], p[:n-1])
				p[0] = b.last
			} else {
				n--
			}
			b.last, b.have = last, true
		}
		switch {
		case err == io.EOF:
			if n == len(p) && b.have {
				// No room for the byte withheld: the source says EOF again.
				return n, nil
			}
			if b.have {
				p[n] = b.last
				n++
				b.have = false
			}
			m, err := b.finish(n)
			return m, err
		case err != nil:
			b.err = b.v.fail(readError(err))
			return n, b.err
		case n > 0:
			return n, nil
		}
	}
}

// finish releases the last n bytes if the hash is right.
func (b *hashBody) finish(n int) (int, error) {
	var sum [32]byte
	b.h.Sum(sum[:0])
	sha256Pool.Put(b.h)
	b.h = nil
	if !sumIs(sum, b.want) {
		b.err = b.v.fail(errPayload())
		return 0, b.err
	}
	b.err = io.EOF
	return n, io.EOF
}

// Close closes the body as received. It may be called while a Read waits.
func (b *hashBody) Close() error { return b.src.Close() }
