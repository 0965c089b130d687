package ca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/countersign-proxy/countersign/safefile"
)

// New makes an authority that lives in memory and dies with the process.
func New(o Options) (*Authority, error) {
	s, err := newSigner(o, 0)
	if err != nil {
		return nil, err
	}
	return newAuthority("", []signer{*s}, nil, o)
}

// Create makes an authority in the folder dir, which is made if need be, and
// is an error with reason Exists where there is one already. Any number of
// processes may call it at the same time: one succeeds.
func Create(dir string, o Options) (*Authority, error) {
	return locked(dir, func() (*Authority, error) {
		switch _, err := readFolder(dir); {
		case err == nil:
			return nil, &Error{Reason: Exists, Path: file(dir), What: "there is one already", Mend: "replace it with: countersign ca rotate"}
		case !isReason(err, Missing):
			return nil, err
		}
		s, err := newSigner(o, 0)
		if err != nil {
			return nil, err
		}
		if err := write(dir, []signer{*s}, nil); err != nil {
			return nil, err
		}
		return newAuthority(file(dir), []signer{*s}, nil, o)
	})
}

// Open loads the authority of the folder, and creates it where there is none.
func Open(dir string, o Options) (*Authority, error) {
	a, err := Load(dir, o)
	if !isReason(err, Missing) {
		return a, err
	}
	a, err = Create(dir, o)
	if isReason(err, Exists) { // another process was faster
		return Load(dir, o)
	}
	return a, err
}

// Rotation says how the new authority takes over.
type Rotation struct {
	// Overlap is how long the present authority goes on signing while the
	// bundle already holds both roots, so that clients can take up the new one
	// before they meet it. Zero: the new one signs at once, which clients with
	// the old bundle refuse.
	Overlap time.Duration

	// Forget drops earlier roots and keys from the folder without reading them:
	// for a stolen key or a damaged file. It cannot be combined with Overlap.
	Forget bool
}

// Rotate puts a new authority into the folder. Unless it is told to forget
// them, earlier roots stay in the trust bundle until they expire. The present
// key is kept only as long as it has to sign; Finish, or rotating again, destroys
// keys that are no longer needed. An expired authority can be rotated; a damaged or exposed
// one only with Forget.
//
// Running processes go on with what they have loaded until they load again, as
// `countersign serve` does when the file has changed.
func Rotate(dir string, r Rotation, o Options) (*Authority, error) {
	if r.Forget && r.Overlap != 0 {
		return nil, &Error{Reason: BadOption, Path: file(dir), What: "a rotation that forgets the old key cannot overlap with it", Mend: "choose one of the two"}
	}
	if r.Overlap < 0 || r.Overlap > 90*24*time.Hour {
		return nil, &Error{Reason: BadOption, Path: file(dir), What: fmt.Sprintf("an overlap of %s is not possible", r.Overlap), Mend: "choose one between 0 and 90 days"}
	}
	return locked(dir, func() (*Authority, error) {
		now := o.now()
		var old *contents
		if !r.Forget {
			var err error
			if old, err = readFolder(dir); err != nil && !isReason(err, Missing) {
				return nil, err
			}
		}
		s, err := newSigner(o, r.Overlap)
		if err != nil {
			return nil, err
		}
		signers := []signer{*s}
		var retired []*x509.Certificate
		if old != nil {
			before := Authority{signers: old.signers}
			if present := before.signing(now); present != nil && r.Overlap > 0 {
				signers = append(signers, *present)
			}
			for _, root := range old.roots() {
				kept := slices.ContainsFunc(signers, func(s signer) bool { return s.root.Equal(root) })
				if !kept && !now.After(root.NotAfter) {
					retired = append(retired, root)
				}
			}
		}
		if err := write(dir, signers, retired); err != nil {
			return nil, err
		}
		return newAuthority(file(dir), signers, retired, o)
	})
}

// Finish ends a rotation with overlap: it destroys the keys of authorities that
// sign no more, and keeps their roots in the trust bundle until they expire.
// Where there is no such key it changes nothing. While the new authority has yet
// to begin, the present key is needed, and the error has reason NotYet.
func Finish(dir string, o Options) (*Authority, error) {
	return locked(dir, func() (*Authority, error) {
		c, err := readFolder(dir)
		if err != nil {
			return nil, err
		}
		now := o.now()
		at := Authority{signers: c.signers}
		present := at.signing(now)
		if present == nil {
			return nil, invalidAt(file(dir), c.signers, now)
		}
		if newest := &c.signers[0]; newest != present {
			return nil, &Error{Reason: NotYet, Path: file(dir),
				What: fmt.Sprintf("the new authority signs from %s, and the present key is needed until then", newest.starts().UTC().Format(time.RFC3339)),
				Mend: "finish the rotation later, or drop the present key at once with: countersign ca rotate --forget"}
		}
		if len(c.signers) == 1 {
			return newAuthority(file(dir), c.signers, c.retired, o)
		}
		var retired []*x509.Certificate
		for _, root := range c.roots() {
			if !root.Equal(present.root) && !now.After(root.NotAfter) {
				retired = append(retired, root)
			}
		}
		if err := write(dir, []signer{*present}, retired); err != nil {
			return nil, err
		}
		return newAuthority(file(dir), []signer{*present}, retired, o)
	})
}

// newSigner makes root and intermediate. The intermediate's validity begins
// after the given time (less the usual backdating); the root's begins now.
// The root's key goes out of scope here and is never written anywhere.
func newSigner(o Options, after time.Duration) (*signer, error) {
	suffixes, err := Suffixes(o.Suffixes)
	if err != nil {
		return nil, err
	}
	if len(suffixes) == 0 {
		return nil, &Error{Reason: BadOption, What: "an authority that may sign for nothing was asked for", Mend: "give at least one DNS suffix"}
	}
	lifetime := o.Lifetime
	if lifetime == 0 {
		lifetime = DefaultLifetime
	}
	if lifetime < leafLifetime || lifetime > 10*DefaultLifetime {
		return nil, &Error{Reason: BadOption, What: fmt.Sprintf("a lifetime of %s is not possible", lifetime), Mend: "choose one between a day and ten years"}
	}
	now := o.now().Truncate(time.Second)
	s, err := signSigner(suffixes, now.Add(-backdate), now.Add(after-backdate), now.Add(after+lifetime))
	if err != nil {
		return nil, &Error{Reason: Unissued, What: "a new authority could not be signed", Err: err}
	}
	return s, nil
}

func signSigner(suffixes []string, rootStart, start, end time.Time) (*signer, error) {
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	rootSerial, err := serialNumber()
	if err != nil {
		return nil, err
	}
	serial, err := serialNumber()
	if err != nil {
		return nil, err
	}
	// The name differs from one authority to the next: verifiers look issuers
	// up by name, and two roots live side by side during a rotation.
	id := fmt.Sprintf("%032x", rootSerial)[:8]
	root := &x509.Certificate{
		SerialNumber:          rootSerial,
		Subject:               pkix.Name{Organization: []string{"countersign"}, CommonName: "countersign root " + id},
		NotBefore:             rootStart,
		NotAfter:              end,
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLen:            1,
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, &rootKey.PublicKey, rootKey)
	if err != nil {
		return nil, err
	}
	if root, err = x509.ParseCertificate(rootDER); err != nil {
		return nil, err
	}
	intermediate := &x509.Certificate{
		SerialNumber:                serial,
		Subject:                     pkix.Name{Organization: []string{"countersign"}, CommonName: "countersign intermediate " + id},
		NotBefore:                   start,
		NotAfter:                    end,
		KeyUsage:                    x509.KeyUsageCertSign,
		ExtKeyUsage:                 []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid:       true,
		IsCA:                        true,
		MaxPathLenZero:              true,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         suffixes,
		ExcludedIPRanges:            everyAddress(),
	}
	der, err := x509.CreateCertificate(rand.Reader, intermediate, root, &key.PublicKey, rootKey)
	if err != nil {
		return nil, err
	}
	if intermediate, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	return &signer{key: key, intermediate: intermediate, root: root}, nil
}

func everyAddress() []*net.IPNet {
	return []*net.IPNet{
		{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)},
		{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)},
	}
}

// write replaces the file of the folder as a whole.
func write(dir string, signers []signer, retired []*x509.Certificate) error {
	var b bytes.Buffer
	b.WriteString("# Private: the key in this file signs certificates of countersign's local authority.\n")
	for _, s := range signers {
		key, err := x509.MarshalPKCS8PrivateKey(s.key)
		if err != nil {
			return &Error{Reason: Unissued, Path: file(dir), What: "the key could not be encoded", Err: err}
		}
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
		b.Write(certificatePEM(s.intermediate.Raw))
		b.Write(certificatePEM(s.root.Raw))
	}
	for _, c := range retired {
		b.Write(certificatePEM(c.Raw))
	}
	if err := safefile.Write(file(dir), b.Bytes(), 0o600); err != nil {
		return unwritable(dir, err)
	}
	return nil
}

func isReason(err error, r Reason) bool {
	var e *Error
	return errors.As(err, &e) && e.Reason == r
}
