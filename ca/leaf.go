package ca

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// leaf is a cached certificate with what is checked at every hit.
type leaf struct {
	certificate *tls.Certificate
	signer      *signer
	until       time.Time // served before this moment only
}

// Certificate returns a certificate for host (any case, no port) and the chain
// up to the intermediate, from the cache or newly signed. Callers share it and
// must not change it.
//
// It is refused, with an *Error, for what is not a host name (BadName), for a
// name outside the permitted suffixes (Outside), before anything is signed in
// both cases, and when the authority is not valid at this time (Expired,
// NotYet).
func (a *Authority) Certificate(host string) (*tls.Certificate, error) {
	name, err := hostname(host)
	if err != nil {
		return nil, err
	}
	now := a.options.now()
	s := a.signing(now)
	if s == nil {
		return nil, invalidAt(a.path, a.signers, now)
	}
	if c := a.cached(name, s, now); c != nil {
		return c, nil
	}
	if !covers(s.intermediate.PermittedDNSDomains, name) {
		return nil, &Error{Reason: Outside, Path: a.path, Host: name,
			What: fmt.Sprintf("it is not permitted to sign for %s, only for names under %s", name, strings.Join(s.intermediate.PermittedDNSDomains, ", ")),
			Mend: "add the name under hosts in the configuration and make a new authority with: countersign ca rotate"}
	}
	// Whoever arrives while the same name is being signed waits for that one.
	// The cache is looked at once more inside, for the one who looked just
	// before the signature was stored and came here just after.
	v, err, _ := a.flight.Do(name, func() (any, error) {
		if c := a.cached(name, s, now); c != nil {
			return c, nil
		}
		l, err := a.issue(name, s, now)
		if err != nil {
			return nil, &Error{Reason: Unissued, Path: a.path, Host: name, What: "the certificate for " + name + " could not be signed", Err: err}
		}
		a.leaves.Add(name, l)
		a.issued.Add(1)
		if a.options.Issued != nil {
			a.options.Issued(name)
		}
		return l.certificate, nil
	})
	if err != nil {
		return nil, err
	}
	return v.(*tls.Certificate), nil
}

// Issued is the number of leaves signed so far.
func (a *Authority) Issued() uint64 { return a.issued.Load() }

func (a *Authority) cached(name string, s *signer, now time.Time) *tls.Certificate {
	l, ok := a.leaves.Get(name)
	if !ok || l.signer != s || !now.Before(l.until) || now.Before(l.certificate.Leaf.NotBefore) {
		return nil
	}
	return l.certificate
}

func (a *Authority) issue(name string, s *signer, now time.Time) (*leaf, error) {
	notBefore := latest(now.Add(-backdate), s.intermediate.NotBefore, s.root.NotBefore)
	notAfter := now.Add(leafLifetime - backdate)
	until := notAfter.Add(-leafMargin)
	if end := s.ends(); notAfter.After(end) {
		notAfter = end
		until = end // nothing better can be had
	}
	serial, err := serialNumber()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{Organization: []string{"countersign"}},
		DNSNames:              []string{name},
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	if len(name) <= 64 { // ub-common-name, RFC 5280 appendix A.1
		template.Subject.CommonName = name
	}
	der, err := x509.CreateCertificate(rand.Reader, template, s.intermediate, &a.leafKey.PublicKey, s.key)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &leaf{
		certificate: &tls.Certificate{
			Certificate: [][]byte{der, s.intermediate.Raw},
			PrivateKey:  a.leafKey,
			Leaf:        parsed,
		},
		signer: s,
		until:  until,
	}, nil
}

func latest(times ...time.Time) time.Time {
	var max time.Time
	for _, t := range times {
		if t.After(max) {
			max = t
		}
	}
	return max
}

// serialNumber is a positive number of at most 20 octets with far more than
// the 64 random bits that the CA/Browser Forum asks for.
func serialNumber() (*big.Int, error) {
	limit := new(big.Int).Lsh(big.NewInt(1), 127)
	n, err := rand.Int(rand.Reader, limit)
	if err != nil {
		return nil, err
	}
	return n.Add(n, big.NewInt(1)), nil
}

// invalidAt is the error of an authority whose signers are all invalid at t.
func invalidAt(path string, signers []signer, t time.Time) error {
	newest := signers[0]
	if t.After(newest.ends()) {
		return &Error{Reason: Expired, Path: path,
			What: "it expired on " + newest.ends().UTC().Format(time.RFC3339),
			Mend: "make a new one with: countersign ca rotate"}
	}
	starts := latest(newest.intermediate.NotBefore, newest.root.NotBefore)
	return &Error{Reason: NotYet, Path: path,
		What: fmt.Sprintf("it is valid from %s, and this machine's clock says %s", starts.UTC().Format(time.RFC3339), t.UTC().Format(time.RFC3339)),
		Mend: "set the clock, or make a new one with: countersign ca rotate"}
}
