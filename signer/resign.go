package signer

import (
	"crypto/sha256"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// A TokenPlace says by which name the session token of the new credentials is
// sent.
type TokenPlace uint8

// The names of a session token.
const (
	// TokenAsReceived keeps the name by which the client sent its own, and is
	// X-Amz-Security-Token where the client sent none.
	TokenAsReceived TokenPlace = iota
	// TokenSecurity is X-Amz-Security-Token: credentials of STS.
	TokenSecurity
	// TokenS3Session is X-Amz-S3session-Token: credentials of an S3 Express
	// CreateSession.
	TokenS3Session
)

// ResignOptions belongs to [Resign]. The zero value is usable.
type ResignOptions struct {
	// Now is the clock; nil means time.Now. Event streams ask it again for
	// every event.
	Now func() time.Time
	// Keys caches derived keys; nil derives anew for every request. It may
	// be the same as that of VerifyOptions.
	Keys *Keys
	// Token chooses the name of the session token.
	Token TokenPlace
}

func (o *ResignOptions) now() time.Time {
	if o.Now == nil {
		return time.Now()
	}
	return o.Now()
}

// Resign signs the outgoing request out with creds, in the form in which v came
// in: same algorithm, scope and canonical form, fresh date. out must be what the
// transport will send: its URL (RawPath or Opaque where the path needs them,
// RawQuery untouched), Host, Header and, unless Resign sets them, nothing that
// the transport adds. Its method, target and signed headers must still be those
// that were verified; otherwise Resign refuses with ReasonChanged. Host may
// differ.
//
// Resign replaces the client's signature, date and token, and sets Body,
// ContentLength, GetBody and TransferEncoding. The new body verifies what comes
// in, signs again what goes out, and never completes a body that is not what
// was signed. Reading it fails with an *Error then, which v.BodyErr returns as
// well. The signature covers what the client signed and every header that
// carries meaning. For a fixed clock the result is always the same.
//
// Resign may be called once for a Verified, or any number of times where the
// body is empty or held ([Verified.Buffer], PayloadAbsent).
func Resign(out *http.Request, v *Verified, creds aws.Credentials, opt ResignOptions) error {
	if v.signed && !v.replayable() {
		return refuse(ReasonChanged, "the body was given to an outgoing request already")
	}
	s := resigning{out: out, v: v, sig: v.sig, creds: creds, opt: opt}
	var err *Error
	if v.sig.Form == FormPost {
		err = s.post()
	} else {
		err = s.run()
	}
	if err != nil {
		return err
	}
	v.signed = true
	return nil
}

func (v *Verified) replayable() bool {
	return v.heldBody || v.body == nil || v.body == http.NoBody
}

// A resigning is one call of Resign.
type resigning struct {
	out   *http.Request
	v     *Verified
	sig   *Signature
	creds aws.Credentials
	opt   ResignOptions

	at    time.Time
	date  string // of the new signature, ISO 8601 basic
	scope scope
	key   *signingKey
	seed  string // the new signature
}

func (s *resigning) run() *Error {
	err := s.unchanged()
	if err != nil {
		return err
	}
	if err = s.prepare(); err != nil {
		return err
	}
	s.frame()
	h := s.out.Header
	delete(h, "Authorization")
	if _, ok := h["Date"]; ok {
		h["Date"] = []string{s.at.Format(http.TimeFormat)}
	}
	delete(h, paramToken)
	delete(h, paramS3Session)
	if s.sig.Form == FormQuery {
		err = s.signQuery()
	} else {
		h["X-Amz-Date"] = []string{s.date}
		err = s.signHeader()
	}
	if err != nil {
		return err
	}
	return s.body()
}

// signHeader signs in the Authorization header.
func (s *resigning) signHeader() *Error {
	h := s.out.Header
	if t := s.creds.SessionToken; t != "" {
		h[s.tokenName()] = []string{t}
	}
	msg := s.message(s.signedHeaders())
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	room, err := s.sign((*buf)[:0], msg)
	*buf = room
	if err != nil {
		return err
	}
	h["Authorization"] = []string{s.authorization(room[:0], msg.signedHeaders)}
	return nil
}

// prepare fixes the time, the scope and the key.
func (s *resigning) prepare() *Error {
	if s.creds.AccessKeyID == "" || s.creds.SecretAccessKey == "" {
		return refuse(ReasonUnresignable, "there are no credentials to sign with")
	}
	s.at = s.opt.now().UTC()
	s.date = s.at.Format(timeFormat)
	s.scope = scope{date: s.date[:8], region: s.sig.Region, service: s.sig.Service}
	var err error
	s.key, err = s.opt.Keys.get(s.sig.Algorithm, s.creds.AccessKeyID, s.creds.SecretAccessKey, s.scope)
	if err != nil {
		return refuse(ReasonUnresignable, "no key can be derived from the credentials of %s", s.creds.AccessKeyID)
	}
	return nil
}

func (s *resigning) tokenName() string {
	if s.opt.Token == TokenS3Session || s.opt.Token == TokenAsReceived && s.sig.S3Session {
		return paramS3Session
	}
	return paramToken
}

// message describes the outgoing request.
func (s *resigning) message(signedHeaders []string) *message {
	m := &message{
		method: s.v.msg.method, path: s.sig.path, query: s.sig.query,
		host: s.out.Host, contentLength: s.out.ContentLength,
		presigned:     s.sig.Form == FormQuery,
		signedHeaders: signedHeaders,
		values:        make([][]string, len(signedHeaders)),
		payloadHash:   s.v.msg.payloadHash,
	}
	for i, name := range signedHeaders {
		m.values[i] = lookup(s.out.Header, name)
	}
	if m.host == "" {
		m.host = s.out.URL.Host
	}
	return m
}

// unchanged compares the outgoing request with the one that was verified.
func (s *resigning) unchanged() *Error {
	path, query, ok := splitTarget(s.out.URL.RequestURI())
	method := s.out.Method
	if method == "" {
		method = http.MethodGet
	}
	switch m := &s.v.msg; {
	case method != m.method:
		return refuse(ReasonChanged, "the outgoing request has the method %s, but %s was signed", clip(method), clip(m.method))
	case !ok || path != m.path:
		return refuse(ReasonChanged, "the path of the outgoing request is not the one that was signed")
	case query != m.query:
		return refuse(ReasonChanged, "the query of the outgoing request is not the one that was signed")
	}
	for i, name := range s.sig.SignedHeaders {
		if replaced(name) || slices.Equal(lookup(s.out.Header, name), s.sig.values[i]) {
			continue
		}
		return refuse(ReasonChanged, "the header %s of the outgoing request is not the one that was signed", name)
	}
	return nil
}

// replaced are the signed headers that may differ on the way out: those that
// are signature material, and those that net/http keeps outside the map.
func replaced(name string) bool {
	switch name {
	case "host", "content-length", "date", "expect", "x-amz-date", "x-amz-security-token", "x-amz-s3session-token":
		return true
	}
	return false
}

// signedHeaders returns the names to sign: what the client signed and is sent,
// and everything that carries meaning. Signature material is in the map.
func (s *resigning) signedHeaders() []string {
	names := make([]string, 0, len(s.sig.SignedHeaders)+4)
	for _, name := range s.sig.SignedHeaders {
		if s.sent(name) {
			names = append(names, name)
		}
	}
	n := len(names)
	for key := range s.out.Header {
		if carriesMeaning(key) && !containsFold(names[:n], key) {
			names = append(names, strings.ToLower(key))
		}
	}
	slices.Sort(names)
	return names
}

// sent tells whether net/http will send a header as the map has it.
func (s *resigning) sent(name string) bool {
	switch name {
	case "host":
		return true
	case "content-length":
		return s.sendsLength()
	case "user-agent":
		v := s.out.Header["User-Agent"]
		return len(v) > 0 && v[0] != "" // an empty one is left out
	case "x-amz-security-token", "x-amz-s3session-token", "date", "expect":
		return len(lookup(s.out.Header, name)) > 0
	}
	// All others were found equal to what was signed.
	return true
}

// sendsLength repeats net/http's rule: a length of zero is sent with methods
// that usually have a body, and never otherwise.
func (s *resigning) sendsLength() bool {
	switch n := s.out.ContentLength; {
	case n > 0:
		return true
	case n < 0:
		return false
	}
	switch s.out.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
		return true
	}
	return false
}

// sign computes the signature. The buffer is returned for reuse.
func (s *resigning) sign(room []byte, m *message) ([]byte, *Error) {
	f := s.v.forms
	room, ok := m.appendCanonical(room, f)
	if !ok {
		return room, refuse(ReasonUnresignable, "the outgoing request has no canonical form")
	}
	digest := sha256.Sum256(room)
	start := len(room)
	room = appendStringToSign(room, s.sig.Algorithm, s.date, s.scope, digest[:])
	end := len(room)
	room, err := s.key.sign(room, room[start:end])
	if err != nil {
		return room, refuse(ReasonUnresignable, "the request could not be signed: %v", err)
	}
	s.seed = string(room[end:])
	return room, nil
}

// authorization builds the header in room.
func (s *resigning) authorization(room []byte, signedHeaders []string) string {
	room = append(room, s.sig.Algorithm...)
	room = append(room, " Credential="...)
	room = append(room, s.creds.AccessKeyID...)
	room = append(room, '/')
	room = s.scope.append(room)
	room = append(room, ", SignedHeaders="...)
	for i, name := range signedHeaders {
		if i > 0 {
			room = append(room, ';')
		}
		room = append(room, name...)
	}
	room = append(room, ", Signature="...)
	room = append(room, s.seed...)
	return string(room)
}
