package signer

import "net/http"

type PostForm struct{ Fields map[string]string }

func (v *Verified) verifyPost() *Error {
	return refuse(ReasonUnsupported, "POST forms are not accepted yet")
}
func (s *resigning) post() *Error {
	return refuse(ReasonUnsupported, "POST forms are not accepted yet")
}
func IsPost(r *http.Request) bool { return false }
