package signer

import (
	"net/http"
	"time"
)

// A Form is the place in which a request carries its signature.
type Form string

// The forms of a signature.
const (
	FormHeader Form = "header" // the Authorization header
	FormQuery  Form = "query"  // X-Amz-* query parameters: a presigned URL
	FormPost   Form = "post"   // fields of a multipart/form-data body: an S3 POST form
)

// A Payload is the way in which a signature covers the body.
type Payload string

// The kinds of payload.
const (
	PayloadHash            Payload = "hash"             // x-amz-content-sha256 holds the body's SHA-256
	PayloadAbsent          Payload = "absent"           // no such header: the hash is that of the body, which must be read first
	PayloadUnsigned        Payload = "unsigned"         // UNSIGNED-PAYLOAD, by word or by the rule of the form
	PayloadUnsignedTrailer Payload = "unsigned-trailer" // STREAMING-UNSIGNED-PAYLOAD-TRAILER
	PayloadChunked         Payload = "chunked"          // STREAMING-AWS4-…-PAYLOAD: every chunk carries a signature
	PayloadChunkedTrailer  Payload = "chunked-trailer"  // STREAMING-AWS4-…-PAYLOAD-TRAILER: and so does the trailer
	PayloadEvents          Payload = "events"           // STREAMING-AWS4-HMAC-SHA256-EVENTS: every event carries a signature
)

// The signing algorithms.
const (
	AlgorithmHMAC  = "AWS4-HMAC-SHA256"       // SigV4
	AlgorithmECDSA = "AWS4-ECDSA-P256-SHA256" // SigV4A
)

// A Signature is what a request says about its own signature. Nothing in it is
// proved until [Verify] returned without error. It holds no secret.
type Signature struct {
	Form        Form
	Algorithm   string // AlgorithmHMAC or AlgorithmECDSA
	AccessKeyID string
	Time        time.Time

	// The credential scope. Region is "" for SigV4A, which has RegionSet instead.
	Date, Region, Service string
	RegionSet             string

	SignedHeaders []string // lower case, strictly ascending, as sent

	// SecurityToken is the session token as sent, wherever it was sent.
	// TokenSigned says that the signature covers it. In the query form that is
	// known only after Verify; until then it is assumed.
	SecurityToken string
	TokenSigned   bool
	// S3Session is true when the token came as x-amz-s3session-token, as in
	// calls under an S3 Express session.
	S3Session bool

	// Expires is the lifetime of a presigned URL. For an S3 POST form it is
	// what remains between Time and the expiration of the policy.
	Expires time.Duration

	Payload Payload
	// PayloadHash is the last line of the canonical request where the head of
	// the request decides it, "" otherwise.
	PayloadHash string

	// Post holds the fields of an S3 POST form, nil for all other forms.
	Post *PostForm

	signature   string     // hexadecimal, as sent
	values      [][]string // of SignedHeaders, as sent
	path, query string     // of the request target, as sent
	tokenIn     tokenPlace
	// decodedLength is x-amz-decoded-content-length, -1 without one.
	decodedLength int64
	trailers      []string // announced by x-amz-trailer, lower case
}

// A tokenPlace says where a session token was found.
type tokenPlace uint8

const (
	tokenNone tokenPlace = iota
	tokenHeader
	tokenParam
)

// Label is a word for audit lines and metrics out of a small closed set: the
// form, "-v4a" for SigV4A, and the payload where it is not an ordinary one.
// Examples: header, query, header-v4a, header-chunked, header-events.
func (s *Signature) Label() string {
	l := string(s.Form)
	if s.Algorithm == AlgorithmECDSA {
		l += "-v4a"
	}
	switch s.Payload {
	case PayloadHash, PayloadAbsent:
	default:
		if s.Form == FormHeader {
			l += "-" + string(s.Payload)
		}
	}
	return l
}

// scope is the credential scope without the access key id.
func (s *Signature) scope() scope {
	return scope{date: s.Date, region: s.Region, service: s.Service}
}

// A Secret is a set of client credentials to verify with. Its methods never
// print the secret.
type Secret struct {
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string // "" for credentials without a token; then a request must carry none
}

// String names the credentials and hides them.
func (s Secret) String() string { return "credentials " + s.AccessKeyID }

// GoString hides the secret from %#v.
func (s Secret) GoString() string { return "signer.Secret{" + s.AccessKeyID + "}" }

// s3Family tells services whose paths are signed as sent, once encoded and
// never normalised, and whose presigned URLs do not cover the body.
func s3Family(service string) bool {
	switch service {
	case "s3", "s3express", "s3-outposts", "s3-object-lambda":
		return true
	}
	return false
}

// target splits the request target as received into path and query. Only
// origin-form targets are signed.
func target(r *http.Request) (path, query string, ok bool) {
	t := r.RequestURI
	if t == "" {
		t = r.URL.RequestURI()
	}
	return splitTarget(t)
}
