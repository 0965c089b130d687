package ca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// fileName is the one file of an authority: for each signer its private key,
// its intermediate and its root, newest first, then roots that are still
// trusted but sign no more.
const fileName = "authority.pem"

const maxFile = 1 << 20 // bytes; a real one has about 3,000

func file(dir string) string { return filepath.Join(dir, fileName) }

// Load reads the authority of the folder. It writes nothing, so the folder may
// be a read-only mount. See the reasons for the errors to expect.
func Load(dir string, o Options) (*Authority, error) {
	c, err := readFolder(dir)
	if err != nil {
		return nil, err
	}
	a, err := newAuthority(file(dir), c.signers, c.retired, o)
	if err != nil {
		return nil, err
	}
	if now := o.now(); a.signing(now) == nil {
		return nil, invalidAt(a.path, a.signers, now)
	}
	return a, nil
}

// contents is what the file holds, checked for everything but the time.
type contents struct {
	signers []signer
	retired []*x509.Certificate
}

func (c *contents) roots() []*x509.Certificate {
	var roots []*x509.Certificate
	for _, s := range c.signers {
		roots = append(roots, s.root)
	}
	return append(roots, c.retired...)
}

func readFolder(dir string) (*contents, error) {
	data, err := readPrivate(dir)
	if err != nil {
		return nil, err
	}
	c, err := parse(data)
	if err != nil {
		reason := Damaged
		if errors.As(err, new(unboundedError)) {
			reason = Unbounded
		}
		return nil, &Error{Reason: reason, Path: file(dir), What: "it cannot be used", Err: err,
			Mend: "restore it from where it came, or make a new one with: countersign ca rotate --forget"}
	}
	return c, nil
}

func parse(data []byte) (*contents, error) {
	blocks, err := decodePEM(data)
	if err != nil {
		return nil, err
	}
	var c contents
	for len(blocks) > 0 && blocks[0].Type == "PRIVATE KEY" {
		n := len(c.signers) + 1
		if len(blocks) < 3 || blocks[1].Type != "CERTIFICATE" || blocks[2].Type != "CERTIFICATE" {
			return nil, fmt.Errorf("private key %d is not followed by the certificates of its intermediate and root", n)
		}
		s, err := parseSigner(blocks[0].Bytes, blocks[1].Bytes, blocks[2].Bytes)
		if err != nil {
			return nil, fmt.Errorf("authority %d: %w", n, err)
		}
		c.signers = append(c.signers, *s)
		blocks = blocks[3:]
	}
	if len(c.signers) == 0 {
		return nil, errors.New("it does not begin with a private key in PKCS #8 form (PRIVATE KEY)")
	}
	for _, b := range blocks {
		if b.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("a block %q stands where only certificates of earlier roots are expected", clip(b.Type))
		}
		root, err := parseRoot(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("an earlier root: %w", err)
		}
		c.retired = append(c.retired, root)
	}
	return &c, nil
}

// decodePEM returns every block, and an error where encoding/pem would skip
// over one that is cut short or garbled. Lines of comment are let through.
func decodePEM(data []byte) ([]*pem.Block, error) {
	var blocks []*pem.Block
	begins := bytes.Count(data, []byte("-----BEGIN "))
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		blocks, data = append(blocks, block), rest
	}
	switch {
	case len(blocks) == 0:
		return nil, errors.New("it holds no PEM block")
	case len(blocks) != begins:
		return nil, fmt.Errorf("of %d PEM blocks only %d are whole", begins, len(blocks))
	}
	return blocks, nil
}

func parseSigner(keyDER, intermediateDER, rootDER []byte) (*signer, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(keyDER)
	if err != nil {
		return nil, errors.New("the private key cannot be decoded") // the cause could quote the key
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("the private key is not an ECDSA key on P-256")
	}
	intermediate, err := x509.ParseCertificate(intermediateDER)
	if err != nil {
		return nil, fmt.Errorf("the intermediate certificate cannot be decoded: %w", err)
	}
	if !key.PublicKey.Equal(intermediate.PublicKey) {
		return nil, errors.New("the private key is not that of the intermediate certificate")
	}
	root, err := parseRoot(rootDER)
	if err != nil {
		return nil, err
	}
	if err := intermediate.CheckSignatureFrom(root); err != nil {
		return nil, fmt.Errorf("the intermediate was not signed by the root beside it: %w", err)
	}
	if err := bounded(intermediate); err != nil {
		return nil, err
	}
	return &signer{key: key, intermediate: intermediate, root: root}, nil
}

func parseRoot(der []byte) (*x509.Certificate, error) {
	root, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("the root certificate cannot be decoded: %w", err)
	}
	if !root.IsCA {
		return nil, errors.New("the root certificate is not that of an authority")
	}
	if err := root.CheckSignatureFrom(root); err != nil {
		return nil, fmt.Errorf("the root certificate is not self-signed: %w", err)
	}
	return root, nil
}

type unboundedError string

func (e unboundedError) Error() string { return string(e) }

// bounded refuses an intermediate that could do more than it must: whoever
// brings an authority of their own has to constrain it likewise.
func bounded(c *x509.Certificate) error {
	var lacks []string
	if !c.BasicConstraintsValid || !c.IsCA || c.KeyUsage&x509.KeyUsageCertSign == 0 {
		lacks = append(lacks, "the right to sign certificates")
	}
	if c.MaxPathLen != 0 || !c.MaxPathLenZero {
		lacks = append(lacks, "a path length of 0")
	}
	if !slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) || len(c.UnknownExtKeyUsage) != 0 {
		lacks = append(lacks, "the extended key usage serverAuth alone")
	}
	if !c.PermittedDNSDomainsCritical || len(c.PermittedDNSDomains) == 0 {
		lacks = append(lacks, "critical name constraints with permitted DNS names")
	}
	for _, want := range everyAddress() {
		excluded := false
		for _, have := range c.ExcludedIPRanges {
			excluded = excluded || have.String() == want.String()
		}
		if !excluded {
			lacks = append(lacks, "the exclusion of "+want.String())
		}
	}
	if len(lacks) > 0 {
		return unboundedError("the intermediate lacks " + strings.Join(lacks, ", "))
	}
	// RFC 5280 writes a constraint without a leading dot; with one, verifiers differ.
	if _, err := Suffixes(c.PermittedDNSDomains); err != nil {
		return unboundedError("the intermediate permits too much: " + err.Error())
	}
	for _, s := range c.PermittedDNSDomains {
		if name, err := hostname(s); err != nil || name != s {
			return unboundedError(fmt.Sprintf("the intermediate permits %q, which verifiers read differently: write a plain domain name in lower case", s))
		}
	}
	return nil
}

// NeedsRotation reports whether the newest signer ends within
// Options.RotateBefore.
func (a *Authority) NeedsRotation() bool {
	before := a.options.RotateBefore
	if before == 0 {
		before = DefaultRotateBefore
	}
	return !a.options.now().Add(before).Before(a.Expires())
}

// Expires is when nothing can be signed any more unless the authority is
// rotated and loaded again.
func (a *Authority) Expires() time.Time {
	var end time.Time
	for i := range a.signers {
		end = latest(end, a.signers[i].ends())
	}
	return end
}
