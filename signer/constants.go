package signer

import (
	"crypto"
	"crypto/subtle"
	"time"
)

const cryptoSHA256 = crypto.SHA256

// Limits that are not options. Each is far above what AWS accepts.
const (
	maxAuthorization  = 16 << 10 // bytes of the Authorization header
	maxSignedHeaders  = 8 << 10  // bytes of the list of signed headers
	maxToken          = 64 << 10 // bytes of a session token
	maxParams         = 4096     // query parameters
	maxECDSASignature = 144      // hexadecimal digits of a DER signature, and the padded length in chunks
)

// Limits of time.
const (
	// DefaultSkew is how far a request's time may be from now, either way.
	DefaultSkew = 15 * time.Minute
	// MaxExpires is the longest lifetime of a presigned URL.
	MaxExpires = 7 * 24 * time.Hour
)

const (
	timeFormat = "20060102T150405Z"
	dateFormat = "20060102"
)

// constantTimeEqual compares without telling where the difference is.
func constantTimeEqual(a []byte, b string) bool {
	var room [256]byte
	return subtle.ConstantTimeCompare(a, append(room[:0], b...)) == 1
}
