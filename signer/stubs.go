package signer

import "net/http"

const maxTrailers = 16

type PostForm struct{ Fields map[string]string }

func (v *Verified) verifyPost(*http.Request) *Error {
	return refuse(ReasonUnsupported, "POST forms are not accepted yet")
}
func (v *Verified) decode() ([]byte, error) {
	return nil, refuse(ReasonUnsupported, "chunks are not accepted yet")
}
func (s *resigning) post() *Error {
	return refuse(ReasonUnsupported, "POST forms are not accepted yet")
}
func (s *resigning) query() *Error {
	return refuse(ReasonUnsupported, "presigned URLs are not accepted yet")
}
func (s *resigning) chunkBody() *Error {
	return refuse(ReasonUnsupported, "chunks are not accepted yet")
}
func (s *resigning) eventBody() *Error {
	return refuse(ReasonUnsupported, "event streams are not accepted yet")
}
func IsPost(r *http.Request) bool { return false }
