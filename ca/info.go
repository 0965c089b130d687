package ca

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"strings"
	"time"
)

// Info describes an authority for people and scripts. It holds no secret.
type Info struct {
	Path          string        `json:"path"` // "" for one in memory
	NeedsRotation bool          `json:"needs_rotation"`
	Expires       time.Time     `json:"expires"` // when signing ends without a rotation
	Suffixes      []string      `json:"permitted_suffixes"`
	Roots         []Certificate `json:"roots"`
	Intermediates []Certificate `json:"intermediates"`
}

// Certificate describes one root or intermediate.
type Certificate struct {
	State       State     `json:"state"`
	Subject     string    `json:"subject"`
	NotBefore   time.Time `json:"not_before"`
	NotAfter    time.Time `json:"not_after"`
	Serial      string    `json:"serial"`             // hex
	Fingerprint string    `json:"sha256_fingerprint"` // as OpenSSL prints it
}

// State of a certificate in a rotation.
type State string

const (
	Signing State = "signing" // signs leaves now
	Pending State = "pending" // trusted now, signs after the present one
	Past    State = "past"    // signs no more; its root is trusted until it expires
)

// Info describes the authority as it is now.
func (a *Authority) Info() Info {
	now := a.options.now()
	current := a.current(now)
	info := Info{Path: a.path, NeedsRotation: a.NeedsRotation(), Expires: a.Expires().UTC(), Suffixes: a.Suffixes()}
	for i := range a.signers {
		s := &a.signers[i]
		state := Past
		switch {
		case s == current:
			state = Signing
		case now.Before(s.starts()):
			state = Pending
		}
		info.Intermediates = append(info.Intermediates, describe(s.intermediate, state))
		info.Roots = append(info.Roots, describe(s.root, state))
	}
	for _, c := range a.retired {
		info.Roots = append(info.Roots, describe(c, Past))
	}
	return info
}

func describe(c *x509.Certificate, state State) Certificate {
	return Certificate{
		State:       state,
		Subject:     c.Subject.CommonName,
		NotBefore:   c.NotBefore.UTC(),
		NotAfter:    c.NotAfter.UTC(),
		Serial:      c.SerialNumber.Text(16),
		Fingerprint: Fingerprint(c),
	}
}

// Fingerprint is the SHA-256 of the certificate, in upper-case pairs with
// colons as OpenSSL, browsers and keytool print it.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	pairs := make([]string, len(sum))
	for i, b := range sum {
		pairs[i] = strings.ToUpper(hex.EncodeToString([]byte{b}))
	}
	return strings.Join(pairs, ":")
}
