package signer

import (
	"bufio"
	"crypto/subtle"
	"encoding/binary"
	"io"
	"time"
)

// An eventBody is the body of an outgoing event stream: each event that comes
// in verified goes out at once, with a fresh date and a new signature. The
// stream ends with an event without payload and nothing after it; one that just
// stops was cut off, and is not completed.
type eventBody struct {
	v       *Verified
	src     io.Closer
	r       eventReader
	in, out *eventChain
	now     func() time.Time
	rest    []byte // of the signed frame, to be read
	closing bool   // the event without payload has come
	err     error
}

func (s *resigning) eventBody() *Error {
	v := s.v
	s.out.Body = &eventBody{
		v: v, src: v.body, now: s.opt.now,
		r: eventReader{
			src:   bufio.NewReaderSize(v.body, 4<<10),
			limit: orDefault(v.opt.EventLimit, DefaultEventLimit),
		},
		in:  newEventChain(v.opt.Keys, v.key, v.sig.AccessKeyID, v.secret, v.sig.scope(), v.sig.signature),
		out: newEventChain(s.opt.Keys, s.key, s.creds.AccessKeyID, s.creds.SecretAccessKey, s.scope, s.seed),
	}
	return nil
}

func (b *eventBody) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, b.err
	}
	for len(b.rest) == 0 {
		if b.err != nil {
			return 0, b.err
		}
		switch err := b.next().(type) {
		case nil:
		case *Error:
			b.err = b.v.fail(err)
		default:
			b.err = err
		}
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// next verifies one event and signs it in place.
func (b *eventBody) next() error {
	var e event
	switch err := b.r.next(&e); {
	case err == io.EOF && b.closing:
		return io.EOF
	case err == io.EOF:
		return refuse(ReasonIncomplete, "the event stream ended without its closing event")
	case err != nil:
		return err
	case b.closing:
		return refuse(ReasonChunk, "the event stream goes on after its closing event")
	}
	now := b.now()
	skew := b.v.opt.MaxSkew
	if skew == 0 {
		skew = DefaultSkew
	}
	if d := now.Sub(e.time()); d > skew || d < -skew {
		return refuse(ReasonSkewed, "the date of an event, %s, is more than %s away from now, %s",
			e.time().Format(timeFormat), skew, now.UTC().Format(timeFormat))
	}
	mac, err := b.in.sum(&e)
	if err != nil {
		return refuse(ReasonChunkSig, "no key can be derived: %v", err)
	}
	if subtle.ConstantTimeCompare(mac[:], e.signature) != 1 {
		return refuse(ReasonChunkSig, "the signature of an event is wrong")
	}
	b.in.follow(mac)

	binary.BigEndian.PutUint64(e.date, uint64(now.UnixMilli()))
	if mac, err = b.out.sum(&e); err != nil {
		return refuse(ReasonUnresignable, "an event could not be signed: %v", err)
	}
	b.out.follow(mac)
	copy(e.signature, mac[:])
	e.seal()
	b.rest, b.closing = e.frame, len(e.payload) == 0
	return nil
}

// Close closes the body as received. It may be called while a Read waits.
func (b *eventBody) Close() error { return b.src.Close() }
