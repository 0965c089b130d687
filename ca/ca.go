// Package ca holds a local certificate authority and issues TLS server
// certificates to the process that intercepts connections.
//
// An authority is a root certificate whose private key is discarded at the
// moment it has signed, and one intermediate whose key is kept. The
// intermediate carries critical name constraints: only the given DNS suffixes,
// no IP address, serverAuth only, no further authorities. Whoever steals the
// key can therefore impersonate the hosts that countersign intercepts anyway,
// to clients that trust this root, and nothing else.
//
// The traps that shaped it:
//
//   - The constraints sit on the intermediate because verifiers may ignore what
//     a trust anchor says about itself (RFC 5280 section 6.1 takes only name and
//     key from it); Java does.
//   - Constraints that speak of DNS alone permit every IP address, hence the
//     excluded 0.0.0.0/0 and ::/0.
//   - One file holds key and certificates, so that rename makes creation and
//     rotation atomic: no reader can meet a key beside another's certificate.
//   - A certificate is valid at a time, and a cache forgets that. Each hit is
//     checked, and no leaf outlives its authority.
//   - Trust variables of many tools replace the system's roots instead of
//     adding to them, so a bundle has to carry everything trusted before.
package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"
)

// Lifetimes. A year for the authority, because an expired one stops every
// client at once and rotating needs every client to take up a new bundle; a
// day for leaves, because nothing but this process uses them.
const (
	DefaultLifetime     = 365 * 24 * time.Hour
	DefaultRotateBefore = 720 * time.Hour
	DefaultCacheSize    = 1024

	leafLifetime = 24 * time.Hour // from notBefore to notAfter, backdate included
	backdate     = time.Hour      // for clients whose clock is behind ours
	leafMargin   = time.Hour      // a cached leaf is replaced this long before it ends, for clocks ahead of ours
)

// Options for making and using an authority. The zero value is the default of
// each field; only Suffixes has none.
type Options struct {
	// Suffixes are the DNS names that a new authority may sign for, each with
	// everything below it. Needed by New, Create, Open and Rotate; Load ignores
	// them, because what is permitted stands in the certificate: compare with
	// Authority.Missing.
	Suffixes []string

	// Lifetime of a new authority, DefaultLifetime when zero.
	Lifetime time.Duration

	// RotateBefore is how long before its end Info says that the authority
	// needs rotation, DefaultRotateBefore when zero.
	RotateBefore time.Duration

	// CacheSize bounds the number of leaves kept, DefaultCacheSize when zero.
	CacheSize int

	// Issued, when set, is called after each leaf that was signed (not for
	// those served from the cache). It must not block.
	Issued func(host string)

	// Now is the clock, time.Now when nil.
	Now func() time.Time
}

// now is the wall clock's alone: the monotonic one stands still while a machine
// sleeps, and certificates would seem as fresh in the morning as they were at night.
func (o Options) now() time.Time {
	if o.Now != nil {
		return o.Now().Round(0)
	}
	return time.Now().Round(0)
}

// Authority signs leaf certificates. It is immutable and safe for concurrent
// use; after a rotation on disk, load a new one and serve from that.
type Authority struct {
	options Options
	path    string // "" for one that lives in memory only

	// signers, newest first. The first is the one to sign with, unless it was
	// made to start later.
	signers []signer
	retired []*x509.Certificate // roots without a key, still to be trusted

	leafKey *ecdsa.PrivateKey
	leaves  *lru.Cache[string, *leaf]
	flight  singleflight.Group
	issued  atomic.Uint64
}

// signer is a key with its two certificates.
type signer struct {
	key          *ecdsa.PrivateKey
	intermediate *x509.Certificate
	root         *x509.Certificate
}

// starts is when the signer should begin to sign. An intermediate is backdated
// like everything else; one that an operator made for later begins later.
func (s *signer) starts() time.Time { return s.intermediate.NotBefore.Add(backdate) }

func (s *signer) validAt(t time.Time) bool {
	return !t.Before(s.intermediate.NotBefore) && !t.After(s.ends()) && !t.Before(s.root.NotBefore)
}

func (s *signer) ends() time.Time {
	if s.root.NotAfter.Before(s.intermediate.NotAfter) {
		return s.root.NotAfter
	}
	return s.intermediate.NotAfter
}

func newAuthority(path string, signers []signer, retired []*x509.Certificate, o Options) (*Authority, error) {
	size := o.CacheSize
	if size <= 0 {
		size = DefaultCacheSize
	}
	leaves, err := lru.New[string, *leaf](size)
	if err != nil {
		return nil, &Error{Reason: Unissued, What: "the cache of certificates could not be made", Err: err}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, &Error{Reason: Unissued, What: "the key of the leaf certificates could not be generated", Err: err}
	}
	return &Authority{options: o, path: path, signers: signers, retired: retired, leafKey: key, leaves: leaves}, nil
}

// signing returns the signer for time t: the newest one that has started,
// else the newest one that is valid at all, nil when none is.
func (a *Authority) signing(t time.Time) *signer {
	var valid *signer
	for i := range a.signers {
		s := &a.signers[i]
		if !s.validAt(t) {
			continue
		}
		if !t.Before(s.starts()) {
			return s
		}
		if valid == nil {
			valid = s
		}
	}
	return valid
}

// current is signing(t) for those who need an answer: the newest signer stands
// in where none is valid.
func (a *Authority) current(t time.Time) *signer {
	if s := a.signing(t); s != nil {
		return s
	}
	return &a.signers[0]
}

// Equal reports whether both sign with the same keys at the same times and have
// the same roots trusted.
func (a *Authority) Equal(b *Authority) bool {
	return slices.EqualFunc(a.signers, b.signers, func(x, y signer) bool {
		return x.intermediate.Equal(y.intermediate) && x.root.Equal(y.root)
	}) && slices.EqualFunc(a.retired, b.retired, (*x509.Certificate).Equal)
}

// Path is the file that the authority was loaded from, "" for one in memory.
func (a *Authority) Path() string { return a.path }

// Permits reports whether host is a name that Certificate would sign for now.
func (a *Authority) Permits(host string) bool {
	name, err := hostname(host)
	return err == nil && covers(a.current(a.options.now()).intermediate.PermittedDNSDomains, name)
}

// Suffixes returns the permitted DNS suffixes of the signing intermediate.
func (a *Authority) Suffixes() []string {
	return slices.Clone(a.current(a.options.now()).intermediate.PermittedDNSDomains)
}

// Missing returns those of the wanted suffixes (in the notation of host
// patterns, see Suffixes) that the signing intermediate does not permit.
// A configuration that needs one of them needs `countersign ca rotate`.
func (a *Authority) Missing(wanted []string) ([]string, error) {
	names, err := Suffixes(wanted)
	if err != nil {
		return nil, err
	}
	permitted := a.current(a.options.now()).intermediate.PermittedDNSDomains
	return slices.DeleteFunc(names, func(s string) bool { return covers(permitted, s) }), nil
}

// Roots returns the roots that clients have to trust: the signing one first,
// then one that is to sign later, then earlier ones until they expire.
func (a *Authority) Roots() []*x509.Certificate {
	now := a.options.now()
	roots := []*x509.Certificate{a.current(now).root}
	add := func(c *x509.Certificate) {
		if !now.After(c.NotAfter) && !slices.ContainsFunc(roots, c.Equal) {
			roots = append(roots, c)
		}
	}
	for _, s := range a.signers {
		add(s.root)
	}
	for _, c := range a.retired {
		add(c)
	}
	return roots
}

// RootPEM returns Roots in PEM: what a client adds to its trust.
func (a *Authority) RootPEM() []byte {
	var out []byte
	for _, c := range a.Roots() {
		out = append(out, certificatePEM(c.Raw)...)
	}
	return out
}

func certificatePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// String names the authority without its keys, for every fmt verb.
func (a *Authority) String() string {
	s := a.current(a.options.now())
	return fmt.Sprintf("%s (%s)", s.root.Subject.CommonName, Fingerprint(s.root))
}

// GoString is String: %#v would otherwise print private keys.
func (a *Authority) GoString() string { return a.String() }
