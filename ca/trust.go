package ca

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

const (
	maxTrustFile    = 32 << 20 // bytes of one bundle; that of Mozilla has about 230,000
	maxTrustEntries = 8192     // entries looked at in one folder
)

// TrustVariables are the environment variables by which programs are told what
// to trust, each naming a file or a folder of PEM certificates (SSL_CERT_DIR:
// several folders). Except for NODE_EXTRA_CA_CERTS they replace a program's
// own roots. Java's options are read besides (JavaVariables).
func TrustVariables() []string {
	return []string{
		"AWS_CA_BUNDLE",
		"SSL_CERT_FILE",
		"SSL_CERT_DIR",
		"REQUESTS_CA_BUNDLE",
		"CURL_CA_BUNDLE",
		"NODE_EXTRA_CA_CERTS",
		"GIT_SSL_CAINFO",
		"PIP_CERT",
		"NIX_SSL_CERT_FILE",
		"CARGO_HTTP_CAINFO",
		"DENO_CERT",
		"PERL_LWP_SSL_CA_FILE",
		"HTTPLIB2_CA_CERTS",
		"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
		"CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
	}
}

// TrustOptions say where trust comes from besides our own roots.
type TrustOptions struct {
	// Getenv looks up variables of the environment whose trust is to go on,
	// such as os.Getenv. Nil: none.
	Getenv func(string) string

	// System returns the public roots, SystemRoots when nil.
	System func() (Source, error)
}

// Source is a set of trusted certificates and where it came from.
type Source struct {
	Variable     string   // environment variable, "" for none
	Path         string   // file or folder, or a word for what is neither
	Certificates [][]byte // DER, in the order found
}

// Bundle is an ordered set of trusted certificates, ours first.
type Bundle struct {
	der  [][]byte
	seen map[[sha256.Size]byte]struct{}
}

func (b *Bundle) add(s Source) {
	if b.seen == nil {
		b.seen = map[[sha256.Size]byte]struct{}{}
	}
	for _, der := range s.Certificates {
		sum := sha256.Sum256(der)
		if _, ok := b.seen[sum]; ok {
			continue
		}
		b.seen[sum] = struct{}{}
		b.der = append(b.der, der)
	}
}

// Len is the number of certificates.
func (b *Bundle) Len() int { return len(b.der) }

// PEM returns the certificates in PEM.
func (b *Bundle) PEM() []byte {
	var out bytes.Buffer
	for _, der := range b.der {
		// A bytes.Buffer does not fail, and these blocks have no headers.
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	return out.Bytes()
}

// Own returns a bundle of our roots alone.
func (a *Authority) Own() *Bundle {
	s := Source{Path: "countersign"}
	for _, c := range a.Roots() {
		s.Certificates = append(s.Certificates, c.Raw)
	}
	b := new(Bundle)
	b.add(s)
	return b
}

// Trust returns our roots, the public roots, and what the environment already
// trusts, for the variables that replace a program's own roots. A variable that
// names a missing or empty file is an error with reason BadTrust that names the
// variable: leaving it out in silence would break the connections of the child
// that need it.
func (a *Authority) Trust(o TrustOptions) (*Bundle, error) {
	sources, err := EnvironmentRoots(o)
	if err != nil {
		return nil, err
	}
	return a.Beside(sources), nil
}

// Beside returns a bundle of our roots and of sources that were read before,
// for callers that need them twice: reading a folder of roots takes some 20 ms.
func (a *Authority) Beside(sources []Source) *Bundle {
	b := a.Own()
	for _, s := range sources {
		b.add(s)
	}
	return b
}

// EnvironmentRoots returns the public roots and what the environment already
// trusts, without ours: what a connection of this process's own is checked
// against. Its errors are those of Trust.
func EnvironmentRoots(o TrustOptions) ([]Source, error) {
	system := o.System
	if system == nil {
		system = SystemRoots
	}
	s, err := system()
	if err != nil {
		return nil, err
	}
	sources := []Source{s}
	if o.Getenv == nil {
		return sources, nil
	}
	read := map[string]bool{}
	for _, name := range TrustVariables() {
		value := o.Getenv(name)
		if value == "" || read[value] {
			continue
		}
		read[value] = true
		s, err := variableTrust(name, value)
		if err != nil {
			return nil, err
		}
		sources = append(sources, s)
	}
	java, err := javaTrust(o.Getenv)
	if err != nil {
		return nil, err
	}
	return append(sources, java...), nil
}

// NodeTrust returns our roots and those of NODE_EXTRA_CA_CERTS, which Node adds
// to its own.
func (a *Authority) NodeTrust(o TrustOptions) (*Bundle, error) {
	b := a.Own()
	if o.Getenv == nil || o.Getenv("NODE_EXTRA_CA_CERTS") == "" {
		return b, nil
	}
	s, err := variableTrust("NODE_EXTRA_CA_CERTS", o.Getenv("NODE_EXTRA_CA_CERTS"))
	if err != nil {
		return nil, err
	}
	b.add(s)
	return b, nil
}

func variableTrust(name, value string) (Source, error) {
	s := Source{Variable: name, Path: value}
	paths := []string{value}
	folders := name == "SSL_CERT_DIR"
	if folders { // a list, of which distributions name folders that are empty or need not exist
		paths = slices.DeleteFunc(filepath.SplitList(value), func(p string) bool {
			_, err := os.Stat(p)
			return p == "" || errors.Is(err, fs.ErrNotExist)
		})
	}
	var err error
	for _, p := range paths {
		var found [][]byte
		if found, err = readTrust(p); err != nil {
			break
		}
		s.Certificates = append(s.Certificates, found...)
	}
	if err == nil && len(s.Certificates) == 0 && !folders {
		err = errors.New("no certificate was found there")
	}
	if err != nil {
		return Source{}, badVariable(name, value, err)
	}
	return s, nil
}

func badVariable(name, value string, err error) error {
	return &Error{Reason: BadTrust, Path: value, What: fmt.Sprintf("the environment variable %s says to trust what is there", name),
		Err: err, Mend: "mend the file, or unset " + name}
}

// readTrust returns the certificates of a PEM file, or of the PEM files of a
// folder. A file without any is an error; in a folder such files are normal.
func readTrust(path string) ([][]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return readTrustFile(path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(maxTrustEntries + 1)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if len(names) > maxTrustEntries {
		return nil, fmt.Errorf("the folder has more than %d entries", maxTrustEntries)
	}
	slices.Sort(names)
	var found [][]byte
	seen := map[string]bool{}
	for _, name := range names {
		// Such folders hold each certificate under a name and under links by hash.
		target, err := filepath.EvalSymlinks(filepath.Join(path, name))
		if err != nil || seen[target] {
			continue // a dangling link is what a removed certificate leaves
		}
		seen[target] = true
		if info, err := os.Stat(target); err != nil || !info.Mode().IsRegular() {
			continue
		}
		if certificates, err := readTrustFile(target); err == nil {
			found = append(found, certificates...)
		}
	}
	return found, nil
}

func readTrustFile(path string) ([][]byte, error) {
	data, err := readLimited(path)
	if err != nil {
		return nil, err
	}
	return pemCertificates(data)
}

func readLimited(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxTrustFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxTrustFile {
		return nil, fmt.Errorf("it is larger than %d bytes", maxTrustFile)
	}
	return data, nil
}

// pemCertificates returns the certificates of a PEM file. Those that Go cannot
// parse are left out, as crypto/x509 does when it reads the system's: real
// stores hold a few with negative serial numbers and the like.
func pemCertificates(data []byte) ([][]byte, error) {
	var found [][]byte
	for len(data) > 0 {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" || len(block.Headers) != 0 {
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err == nil {
			found = append(found, block.Bytes)
		}
	}
	if len(found) == 0 {
		return nil, errors.New("it holds no certificate in PEM form")
	}
	return found, nil
}
