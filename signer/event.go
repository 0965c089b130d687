package signer

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"io"
	"time"
)

// The frame of a signed event, around the event itself, which is its payload:
//
//	total length, headers' length, CRC of these 8 bytes    3 × 4 bytes
//	headers: 5 ":date" 8 int64, 16 ":chunk-signature" 6 0 32 signature
//	payload
//	CRC of all before                                       4 bytes
//
// The two headers may come in either order; no other is allowed, since none
// would be covered by the signature. Everything has its fixed place, so a frame
// is signed again by writing over date, signature and CRCs.
const (
	preludeLength = 12
	dateHeader    = "\x05:date\x08"
	sigHeader     = "\x10:chunk-signature\x06\x00\x20"
	dateLength    = len(dateHeader) + 8
	sigLength     = len(sigHeader) + sha256.Size
	frameHead     = preludeLength + dateLength + sigLength
	frameExtra    = frameHead + 4
	eventStep     = 64 << 10
)

// An event is one frame. It is valid until the next is read.
type event struct {
	frame     []byte
	date      []byte // within frame: 8 bytes, milliseconds since 1970
	signature []byte // within frame
	headers   []byte // within frame: the date header, which is what is signed
	payload   []byte
}

func (e *event) time() time.Time {
	return time.UnixMilli(int64(binary.BigEndian.Uint64(e.date))).UTC()
}

// seal writes both CRCs.
func (e *event) seal() {
	n := len(e.frame)
	binary.BigEndian.PutUint32(e.frame[8:], crc32.ChecksumIEEE(e.frame[:8]))
	binary.BigEndian.PutUint32(e.frame[n-4:], crc32.ChecksumIEEE(e.frame[:n-4]))
}

// An eventReader reads frames. It checks lengths before it makes room, and
// makes room only for what arrives.
type eventReader struct {
	src   *bufio.Reader
	limit int64 // bytes of payload
	buf   []byte
}

// next reads one frame. The error is io.EOF at the end between two frames, and
// an *Error otherwise.
func (r *eventReader) next(e *event) error {
	head, err := r.src.Peek(preludeLength)
	if err != nil {
		if err == io.EOF && len(head) == 0 {
			return io.EOF
		}
		return bodyEnd(err, "in the middle of an event")
	}
	total := int64(binary.BigEndian.Uint32(head))
	headers := int64(binary.BigEndian.Uint32(head[4:]))
	switch {
	case crc32.ChecksumIEEE(head[:8]) != binary.BigEndian.Uint32(head[8:]):
		return refuse(ReasonChunk, "the prelude of an event does not have the CRC it says")
	case headers != int64(dateLength+sigLength) || total < int64(frameExtra):
		return refuse(ReasonChunk, "an event does not have the headers :date and :chunk-signature and no others")
	case total-int64(frameExtra) > r.limit:
		return refuse(ReasonTooLarge, "an event of %d bytes is above the limit of %d", total-int64(frameExtra), r.limit)
	}
	if err := r.fill(int(total)); err != nil {
		return err
	}
	e.frame = r.buf[:total]
	if crc32.ChecksumIEEE(e.frame[:total-4]) != binary.BigEndian.Uint32(e.frame[total-4:]) {
		return refuse(ReasonChunk, "an event does not have the CRC it says")
	}
	e.payload = e.frame[frameHead : total-4]
	return e.headersIn(e.frame[preludeLength:frameHead])
}

func (r *eventReader) fill(total int) *Error {
	for at := 0; at < total; {
		n := min(total-at, eventStep)
		if at+n > len(r.buf) {
			next := make([]byte, max(at+n, min(2*len(r.buf), frameExtra+int(r.limit))))
			copy(next, r.buf[:at])
			r.buf = next
		}
		if _, err := io.ReadFull(r.src, r.buf[at:at+n]); err != nil {
			return bodyEnd(err, "in the middle of an event")
		}
		at += n
	}
	return nil
}

// headersIn finds date and signature, in either order.
func (e *event) headersIn(h []byte) error {
	date, sig := h[:dateLength], h[dateLength:]
	if h[0] == sigHeader[0] {
		sig, date = h[:sigLength], h[sigLength:]
	}
	if string(date[:len(dateHeader)]) != dateHeader || string(sig[:len(sigHeader)]) != sigHeader {
		return refuse(ReasonChunk, "an event does not have the headers :date and :chunk-signature and no others")
	}
	e.headers, e.date, e.signature = date, date[len(dateHeader):], sig[len(sigHeader):]
	return nil
}

// An eventChain is a sequence of event signatures. Scope and key follow the
// date of the event, which may be of another day than the request.
type eventChain struct {
	keys       *Keys
	id, secret string
	scope      scope // of the key in hand
	key        *signingKey
	prev       string // hexadecimal
	room       []byte
}

func newEventChain(keys *Keys, key *signingKey, id, secret string, sc scope, seed string) *eventChain {
	return &eventChain{keys: keys, key: key, id: id, secret: secret, scope: sc, prev: seed}
}

// sum computes the signature of an event as its headers and payload stand.
func (c *eventChain) sum(e *event) ([32]byte, error) {
	var mac [32]byte
	var t [16]byte
	date := e.time().AppendFormat(t[:0], timeFormat)
	if string(date[:8]) != c.scope.date {
		sc := c.scope
		sc.date = string(date[:8])
		key, err := c.keys.get(AlgorithmHMAC, c.id, c.secret, sc)
		if err != nil {
			return mac, err
		}
		c.scope, c.key = sc, key
	}
	b := append(c.room[:0], AlgorithmHMAC+"-PAYLOAD\n"...)
	b = append(b, date...)
	b = append(b, '\n')
	b = c.scope.append(b)
	b = append(b, '\n')
	b = append(b, c.prev...)
	b = append(b, '\n')
	sum := sha256.Sum256(e.headers)
	b = appendHex(b, sum[:])
	b = append(b, '\n')
	sum = sha256.Sum256(e.payload)
	b = appendHex(b, sum[:])
	c.room = b
	c.key.sum(mac[:0], b)
	return mac, nil
}

func (c *eventChain) follow(mac [32]byte) { c.prev = hex.EncodeToString(mac[:]) }
