package signer

import (
	"errors"
	"fmt"
)

// ErrNoSignature is returned by [Parse] for a request that carries no
// signature of any kind.
var ErrNoSignature = errors.New("the request carries no signature")

// A Reason is a machine word for a refusal, out of the closed set below. It is
// fit for a metrics label.
type Reason string

// The reasons.
const (
	ReasonMalformed    Reason = "malformed"         // signature material that cannot be read
	ReasonUnsupported  Reason = "unsupported"       // another kind of authentication or signature, named in the message
	ReasonAmbiguous    Reason = "ambiguous"         // two signatures, two tokens, a header and a parameter that differ
	ReasonNotSigned    Reason = "not-signed"        // a header is present that must be signed and is not
	ReasonHopHeader    Reason = "hop-header"        // a signed header belongs to the connection or is nominated by it
	ReasonScope        Reason = "scope"             // credential scope: date or terminator
	ReasonSkewed       Reason = "skewed"            // the time is too far from now
	ReasonExpired      Reason = "expired"           // presigned URL or POST policy past its end
	ReasonToken        Reason = "token"             // the session token is not that of the key
	ReasonSignature    Reason = "signature"         // the signature is not the one computed here
	ReasonPayload      Reason = "payload"           // the body does not have the hash that was signed
	ReasonChunk        Reason = "chunk"             // chunk, trailer or event: framing that cannot be read
	ReasonChunkSig     Reason = "chunk-signature"   // chunk, trailer or event: wrong signature
	ReasonIncomplete   Reason = "incomplete"        // the body ended before its end
	ReasonTooLarge     Reason = "too-large"         // body, chunk, event or form above its limit
	ReasonNoMemory     Reason = "no-memory"         // VerifyOptions.Reserve refused
	ReasonChanged      Reason = "changed"           // the outgoing request is not the one that was verified
	ReasonUnresignable Reason = "cannot-sign-again" // verified, but there is no way to sign it again
)

// An Error is a refusal.
type Error struct {
	Reason  Reason
	Message string // for people: what is wrong and what would be right; no secret in it

	// CanonicalRequest and StringToSign are what was computed here, when
	// Reason is ReasonSignature. They quote the request, its session token
	// included: give them to the client that sent it, not to a log.
	CanonicalRequest, StringToSign string

	// Err is the cause where there is one, such as what Reserve returned.
	Err error
}

func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func refuse(reason Reason, format string, args ...any) *Error {
	return &Error{Reason: reason, Message: fmt.Sprintf(format, args...)}
}
