package signer

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Default limits of VerifyOptions.
const (
	DefaultBodyLimit  = 80 << 20
	DefaultChunkLimit = 1 << 20
	DefaultEventLimit = 16 << 20
)

// VerifyOptions sets the limits of [Verify]. The zero value is usable.
type VerifyOptions struct {
	// Now is the clock; nil means time.Now. It is also asked while events of
	// an event stream go by.
	Now func() time.Time
	// MaxSkew is how far a time may be from Now; 0 means DefaultSkew.
	MaxSkew time.Duration
	// BodyLimit bounds, in bytes, a body that must be held because its hash
	// is not in the head, and the fields of a POST form; 0 means DefaultBodyLimit.
	BodyLimit int64
	// ChunkLimit and EventLimit bound, in bytes, one signed chunk and one
	// event, of which one at a time is held; 0 means the default.
	ChunkLimit, EventLimit int64
	// Reserve is asked before n more bytes are held for a body, and may
	// refuse with an error, which becomes the Err of an *Error. What was
	// granted is the caller's to take back when the request is over. nil
	// grants everything. Chunks and events are not asked for: their limits
	// bound them.
	Reserve func(n int64) error
	// Keys caches derived keys; nil derives anew for every request.
	Keys *Keys
}

// A Verified is a request whose signature is right. Where the signature covers
// the body only piece by piece, or by a hash, the body is verified as it is
// read: by [Verified.Buffer], or by the body that [Resign] puts in place.
// A Verified belongs to one request and must not be used by two goroutines at
// once, except BodyErr.
type Verified struct {
	sig   *Signature
	msg   message // as received
	forms forms   // of the canonical request that matched
	key   *signingKey
	opt   VerifyOptions
	// secret is kept for event streams alone, which need the keys of later
	// days.
	secret string

	body     bodySource
	held     []byte // the whole body as received, once heldBody
	heldBody bool
	signed   bool // Resign took the body

	err atomic.Pointer[Error]
}

// Signature returns what was verified.
func (v *Verified) Signature() *Signature { return v.sig }

// BodyErr tells, after a transfer, why the body was cut off: its hash, a chunk
// or an event was not what was signed, or it ended early. It is nil while
// nothing was wrong, and may be called at any time.
func (v *Verified) BodyErr() error {
	if err := v.err.Load(); err != nil {
		return err
	}
	return nil
}

// fail records the first reason and returns it.
func (v *Verified) fail(err *Error) error {
	v.err.CompareAndSwap(nil, err)
	return err
}

func (o *VerifyOptions) now() time.Time {
	if o.Now == nil {
		return time.Now()
	}
	return o.Now()
}

func (o *VerifyOptions) bodyLimit() int64 { return orDefault(o.BodyLimit, DefaultBodyLimit) }

func orDefault(n, standard int64) int64 {
	if n <= 0 {
		return standard
	}
	return n
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4096); return &b }}

// Verify decides whether the request was signed with cred. sig is what [Parse]
// said of this very request, which must not have changed since: the bytes of
// RequestURI, Host, the header map and ContentLength are what is verified. The
// caller has looked up cred by sig.AccessKeyID and sig.SecurityToken and has
// compared the scope with the host.
//
// The body is read only where its hash is not in the head (PayloadAbsent), up to
// the limit. Errors are of type [*Error]. The caller must, before anything
// depends on the body, either call [Verified.Buffer] or send the body that
// [Resign] puts in place and heed [Verified.BodyErr].
func Verify(r *http.Request, sig *Signature, cred Secret, opt VerifyOptions) (*Verified, error) {
	v, err := verify(r, sig, cred, opt)
	if err != nil {
		return nil, err
	}
	return v, nil
}

func verify(r *http.Request, sig *Signature, cred Secret, opt VerifyOptions) (*Verified, *Error) {
	if err := checkTime(sig, opt.now(), opt.MaxSkew); err != nil {
		return nil, err
	}
	if sig.AccessKeyID != cred.AccessKeyID {
		return nil, refuse(ReasonSignature, "the request is signed with another access key id than the one to verify with")
	}
	if cred.SecretAccessKey == "" {
		return nil, refuse(ReasonSignature, "there is no secret to verify the signature with")
	}
	if !equalSecret(sig.SecurityToken, cred.SessionToken) {
		return nil, refuse(ReasonToken, "the session token does not belong to the access key id")
	}
	key, e := opt.Keys.get(sig.Algorithm, sig.AccessKeyID, cred.SecretAccessKey, sig.scope())
	if e != nil {
		return nil, refuse(ReasonSignature, "no key can be derived: %v", e)
	}
	v := &Verified{sig: sig, key: key, opt: opt, body: r.Body}
	if sig.Form == FormPost {
		v.msg = message{method: r.Method, path: sig.path, query: sig.query, contentLength: r.ContentLength}
		if err := v.verifyPost(); err != nil {
			return nil, err
		}
		return v, nil
	}
	if sig.Payload == PayloadEvents {
		v.secret = cred.SecretAccessKey
	}
	v.msg = message{
		method: r.Method, path: sig.path, query: sig.query,
		host: r.Host, contentLength: r.ContentLength,
		presigned:     sig.Form == FormQuery,
		signedHeaders: sig.SignedHeaders,
		values:        sig.values,
		payloadHash:   sig.PayloadHash,
	}
	if sig.Payload == PayloadAbsent {
		if err := v.hold(opt.bodyLimit()); err != nil {
			return nil, err
		}
		sum := sha256.Sum256(v.held)
		var room [64]byte
		v.msg.payloadHash = string(appendHex(room[:0], sum[:]))
	}
	if err := v.match(); err != nil {
		return nil, err
	}
	if err := v.checkEmpty(r); err != nil {
		return nil, err
	}
	return v, nil
}

// checkEmpty refuses what is known to be wrong before the body is looked at.
func (v *Verified) checkEmpty(r *http.Request) *Error {
	if v.sig.streamed() && r.ContentLength == 0 {
		return refuse(ReasonIncomplete, "the body is empty, but it must have at least a final chunk or event")
	}
	if v.sig.Payload != PayloadHash {
		return nil
	}
	empty := v.sig.PayloadHash == emptyHash
	if r.ContentLength == 0 && !empty || r.ContentLength > 0 && empty {
		return errPayload()
	}
	return nil
}

func errPayload() *Error {
	return refuse(ReasonPayload, "the body does not have the SHA-256 that X-Amz-Content-Sha256 says and the signature covers")
}

func equalSecret(a, b string) bool {
	return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}

// match finds the form of canonical request that yields the signature. See
// the package comment for why trying several opens no door.
func (v *Verified) match() *Error {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	room := (*buf)[:0]
	var tried [maxForms][32]byte
	n := 0
	for f := range v.msg.candidates(v.sig) {
		var ok bool
		room, ok = v.msg.appendCanonical(room[:0], f)
		*buf = room
		if !ok {
			continue
		}
		digest := sha256.Sum256(room)
		if seen(tried[:n], digest) {
			continue
		}
		tried[n] = digest
		n++
		if v.key.verify(v.stringToSign(room, digest[:]), v.sig.signature) {
			v.forms = f
			if f.dropToken {
				v.sig.TokenSigned = false
			}
			return nil
		}
	}
	return v.mismatch()
}

// stringToSign appends the string to sign to what is in room and returns it
// alone.
func (v *Verified) stringToSign(room, digest []byte) []byte {
	var t [16]byte
	start := len(room)
	room = appendStringToSign(room, v.sig.Algorithm, string(v.sig.Time.AppendFormat(t[:0], timeFormat)), v.sig.scope(), digest)
	return room[start:]
}

// mismatch explains a wrong signature by the documented canonical request.
func (v *Verified) mismatch() *Error {
	e := refuse(ReasonSignature, "the signature is not the one computed from this request and the secret of %s; check the secret, and that nothing changed the request after it was signed", v.sig.AccessKeyID)
	for f := range v.msg.candidates(v.sig) {
		if text, ok := v.msg.appendCanonical(nil, f); ok {
			digest := sha256.Sum256(text)
			e.CanonicalRequest = string(text)
			e.StringToSign = string(v.stringToSign(nil, digest[:]))
			break
		}
	}
	return e
}

func seen(digests [][32]byte, d [32]byte) bool {
	for i := range digests {
		if digests[i] == d {
			return true
		}
	}
	return false
}
