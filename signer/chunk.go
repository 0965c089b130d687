package signer

import (
	"bufio"
	"bytes"
	"hash"
	"io"
	"sync"
)

const (
	chunkExtension = ";chunk-signature="
	maxSizeDigits  = 16
	// chunkHead is the room kept before a chunk's data for its header.
	chunkHead = maxSizeDigits + len(chunkExtension) + maxECDSASignature + 2
	// chunkStep is how much of a chunk is read at a time; the buffer grows
	// with what arrived, never with what a header announces.
	chunkStep = 64 << 10
)

// A chunkReader reads an aws-chunked body. Each chunk is verified before it is
// returned; the final one, which has no data, only after the trailer and the
// end of the body were seen to be right.
type chunkReader struct {
	src     *bufio.Reader
	chain   *chain // nil for a body whose chunks are not signed
	limit   int64  // bytes of one chunk
	decoded int64  // bytes announced, -1 when not
	total   int64  // bytes of data so far
	left    int64  // bytes of the body to come, -1 when not known
	trailer *trailerReader

	hash hash.Hash
	buf  []byte // chunkHead bytes of room, then data and CRLF
}

// A chunk is valid until the next one is read.
type chunk struct {
	sizeText []byte // as sent
	data     []byte
	sum      [32]byte
	final    bool
}

var (
	chunkReaders = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4<<10) }}
	chunkBuffers = sync.Pool{New: func() any { b := make([]byte, chunkHead+chunkStep+2); return &b }}
)

func (v *Verified) newChunkReader(src io.Reader) *chunkReader {
	r := &chunkReader{
		limit:   orDefault(v.opt.ChunkLimit, DefaultChunkLimit),
		decoded: v.sig.decodedLength,
		left:    v.msg.contentLength,
		src:     chunkReaders.Get().(*bufio.Reader),
		buf:     *chunkBuffers.Get().(*[]byte),
	}
	r.src.Reset(src)
	switch v.sig.Payload {
	case PayloadChunkedTrailer:
		r.trailer = &trailerReader{announced: v.sig.trailers}
	case PayloadUnsignedTrailer:
		// Only Buffer reads such a body, from memory; some SDKs send it as
		// one chunk.
		r.trailer = &trailerReader{}
		r.limit = int64(len(v.held))
		return r
	}
	r.chain = v.inbound()
	r.hash = sha256Pool.Get().(hash.Hash)
	return r
}

// release gives the buffers back. The last chunk is not valid any more.
func (r *chunkReader) release() {
	if r.src == nil {
		return
	}
	r.src.Reset(nil)
	chunkReaders.Put(r.src)
	buf := r.buf
	chunkBuffers.Put(&buf)
	if r.hash != nil {
		sha256Pool.Put(r.hash)
	}
	r.src, r.buf, r.hash = nil, nil, nil
}

// next reads and verifies one chunk.
func (r *chunkReader) next(c *chunk) *Error {
	size, signature, err := r.header(c)
	if err != nil {
		return err
	}
	if size > r.limit {
		return refuse(ReasonTooLarge, "a chunk of %d bytes is above the limit of %d (its signature precedes its data, so it must be held); set a smaller chunk size in the client", size, r.limit)
	}
	r.total += size
	if r.decoded >= 0 && (r.total > r.decoded || size == 0 && r.total != r.decoded) {
		return refuse(ReasonChunk, "the chunks hold %d bytes, but X-Amz-Decoded-Content-Length says %d", r.total, r.decoded)
	}
	if err := r.data(c, size); err != nil {
		return err
	}
	c.final = size == 0
	if r.chain != nil && !r.chain.verify(r.chain.chunk(&c.sum), signature) {
		return refuse(ReasonChunkSig, "the signature of the chunk that ends at byte %d is wrong", r.total)
	}
	if !c.final {
		// A body whose Content-Length is met must not go out without its final chunk:
		// upstream would have the whole of it.
		if r.left == 0 {
			return refuse(ReasonIncomplete, "the body ended before its final chunk")
		}
		return nil
	}
	if r.trailer != nil {
		if err := r.trailer.read(r.src, r.chain); err != nil {
			return err
		}
	}
	if _, e := r.src.ReadByte(); e == nil {
		return refuse(ReasonChunk, "the body goes on after its final chunk")
	} else if e != io.EOF {
		return readError(e)
	}
	return nil
}

// header reads
//
//	hex-size;chunk-signature=signature CRLF
//
// The parts are valid until the next read from src, except sizeText, which is
// kept at the beginning of buf.
func (r *chunkReader) header(c *chunk) (size int64, signature []byte, _ *Error) {
	line, err := readLine(r.src, "a chunk header", chunkHead)
	if err != nil {
		return 0, nil, err
	}
	digits := 0
	for digits < len(line) && unhex(line[digits]) <= 15 {
		if digits == maxSizeDigits-1 {
			return 0, nil, refuse(ReasonChunk, "the size of a chunk has more than %d digits", maxSizeDigits-1)
		}
		size = size<<4 | int64(unhex(line[digits]))
		digits++
	}
	rest := line[digits:]
	switch {
	case digits == 0:
		return 0, nil, refuse(ReasonChunk, "a chunk header does not begin with a size in hexadecimal digits")
	case r.chain == nil && len(rest) > 0:
		return 0, nil, refuse(ReasonChunk, "a chunk has an extension, but chunks are not signed in this body")
	case r.chain != nil && !bytes.HasPrefix(rest, []byte(chunkExtension)):
		return 0, nil, refuse(ReasonChunk, "a chunk has no chunk-signature")
	case r.chain != nil && len(rest) != len(chunkExtension)+r.chain.width():
		return 0, nil, refuse(ReasonChunk, "the signature of a chunk does not have the length of %d", r.chain.width())
	}
	r.consumed(len(line) + 2)
	n := copy(r.buf, line)
	line = r.buf[:n]
	c.sizeText = line[:digits]
	if r.chain != nil {
		signature = line[digits+len(chunkExtension):]
	}
	return size, signature, nil
}

// data reads a chunk's data and, except for the final chunk of a body with
// trailers, the CRLF behind it.
func (r *chunkReader) data(c *chunk, size64 int64) *Error {
	if r.hash != nil {
		r.hash.Reset()
	}
	size := int(size64)
	for at := 0; at < size; {
		n := min(size-at, chunkStep)
		r.grow(at + n)
		part := r.buf[chunkHead+at : chunkHead+at+n]
		if _, err := io.ReadFull(r.src, part); err != nil {
			return bodyEnd(err, "in the middle of a chunk")
		}
		if r.hash != nil {
			r.hash.Write(part)
		}
		at += n
	}
	r.grow(size)
	if size > 0 || r.trailer == nil {
		crlf := r.buf[chunkHead+size : chunkHead+size+2]
		if _, err := io.ReadFull(r.src, crlf); err != nil {
			return bodyEnd(err, "in the middle of a chunk")
		}
		if crlf[0] != '\r' || crlf[1] != '\n' {
			return refuse(ReasonChunk, "a chunk does not end where its size says")
		}
		r.consumed(2)
	}
	r.consumed(size)
	c.data = r.buf[chunkHead : chunkHead+size]
	if r.hash != nil {
		r.hash.Sum(c.sum[:0])
	}
	return nil
}

// consumed keeps count of what is left of a body of known length.
func (r *chunkReader) consumed(n int) {
	if r.left > 0 {
		r.left = max(r.left-int64(n), 0)
	}
}

// grow makes room for size bytes of data. The header kept at the beginning of
// the buffer is copied along; slices of the old buffer stay readable.
func (r *chunkReader) grow(size int) {
	need := chunkHead + size + 2
	if need <= len(r.buf) {
		return
	}
	next := make([]byte, max(need, min(2*len(r.buf), chunkHead+int(r.limit)+2)))
	copy(next, r.buf)
	r.buf = next
}

// readLine reads a line and takes off its CRLF.
func readLine(src *bufio.Reader, what string, limit int) ([]byte, *Error) {
	line, err := src.ReadSlice('\n')
	switch {
	case err == bufio.ErrBufferFull || len(line) > limit:
		return nil, refuse(ReasonChunk, "%s is longer than %d bytes", what, limit)
	case err != nil:
		return nil, bodyEnd(err, "before its final chunk")
	case len(line) < 2 || line[len(line)-2] != '\r':
		return nil, refuse(ReasonChunk, "%s does not end in CRLF", what)
	}
	return line[:len(line)-2], nil
}

// bodyEnd words the end of a body that is not over.
func bodyEnd(err error, where string) *Error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return refuse(ReasonIncomplete, "the body ended %s", where)
	}
	return readError(err)
}

// decode reads the chunks of a held body into what they hold.
func (v *Verified) decode() ([]byte, error) {
	r := v.newChunkReader(bytes.NewReader(v.held))
	defer r.release()
	var out []byte
	var c chunk
	for {
		if err := r.next(&c); err != nil {
			return nil, v.fail(err)
		}
		if c.final {
			return out, nil
		}
		if out == nil {
			if e := v.reserve(int64(len(v.held))); e != nil {
				return nil, v.fail(e)
			}
			out = make([]byte, 0, len(v.held))
		}
		out = append(out, c.data...)
	}
}
