package signer

import (
	"bytes"
	"io"
	"net/http"
)

// frame sets what of the framing the signature may cover.
func (s *resigning) frame() {
	v := s.v
	s.out.TransferEncoding = nil
	s.out.ContentLength = v.msg.contentLength
	switch {
	case v.heldBody:
		s.out.ContentLength = int64(len(v.held))
	case v.body == nil || v.body == http.NoBody:
		s.out.ContentLength = 0
	}
	s.out.GetBody = nil
	if s.out.ContentLength == 0 {
		s.out.Body = http.NoBody
	}
}

// body sets the outgoing body.
func (s *resigning) body() *Error {
	v, out := s.v, s.out
	if out.ContentLength == 0 && !s.sig.streamed() {
		out.Body = http.NoBody
		out.GetBody = func() (io.ReadCloser, error) { return http.NoBody, nil }
		return nil
	}
	switch s.sig.Payload {
	case PayloadHash:
		if !v.heldBody {
			return s.hashBody()
		}
	case PayloadChunked, PayloadChunkedTrailer:
		return s.chunkBody()
	case PayloadEvents:
		return s.eventBody()
	}
	if v.heldBody {
		out.GetBody = func() (io.ReadCloser, error) { return v.source(), nil }
	}
	out.Body = v.source()
	return nil
}

// hashBody sets a body that is verified on the way. Of a body without a length
// the first bytes are awaited, so that an empty one that should not be empty is
// caught before anything goes out.
func (s *resigning) hashBody() *Error {
	v, out := s.v, s.out
	src := v.body
	if out.ContentLength < 0 {
		var first [1]byte
		n, err := io.ReadFull(src, first[:])
		switch {
		case err == io.EOF:
			if v.sig.PayloadHash != emptyHash {
				return v.refuseBody(errPayload())
			}
			out.Body, out.ContentLength = http.NoBody, 0
			return nil
		case err != nil:
			return v.refuseBody(readError(err))
		}
		src = readCloser{io.MultiReader(bytes.NewReader(first[:n]), src), src}
	}
	out.Body = newHashBody(v, src, out.ContentLength)
	return nil
}

func (v *Verified) refuseBody(err *Error) *Error {
	v.fail(err)
	return err
}

type readCloser struct {
	io.Reader
	io.Closer
}

// streamed tells payloads whose body is framed, so that none is ever empty.
func (s *Signature) streamed() bool {
	switch s.Payload {
	case PayloadChunked, PayloadChunkedTrailer, PayloadEvents:
		return true
	}
	return false
}
