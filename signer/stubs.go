package signer

import "net/http"

type PostForm struct{ Fields map[string]string }

func (v *Verified) verifyPost(*http.Request) *Error {
	return refuse(ReasonUnsupported, "POST forms are not accepted yet")
}
func (s *resigning) post() *Error {
	return refuse(ReasonUnsupported, "POST forms are not accepted yet")
}
func (s *resigning) eventBody() *Error {
	return refuse(ReasonUnsupported, "event streams are not accepted yet")
}
func IsPost(r *http.Request) bool { return false }
