package ca

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/pavlo-v-chernykh/keystore-go/v4"
	"software.sslmate.com/src/go-pkcs12"
)

// StorePassword protects exported trust stores where no other is given. Java
// uses the same for its own, and it is no secret: what is inside is public, and
// the password only guards against accidental damage. javax.net.ssl needs one
// to check that the store is whole.
const StorePassword = "changeit"

// PKCS12 returns the bundle as a PKCS #12 trust store (AES-256, SHA-256: Java
// 8u301, 11.0.12 and later, OpenSSL 1.1.1 and later; older Java reads JKS).
// An empty password stands for StorePassword.
func (b *Bundle) PKCS12(password string) ([]byte, error) {
	certificates, aliases, err := b.parsed()
	if err != nil {
		return nil, err
	}
	entries := make([]pkcs12.TrustStoreEntry, len(certificates))
	for i, c := range certificates {
		entries[i] = pkcs12.TrustStoreEntry{Cert: c, FriendlyName: aliases[i]}
	}
	out, err := pkcs12.Modern2023.EncodeTrustStoreEntries(entries, orDefault(password))
	if err != nil {
		return nil, &Error{Reason: Encoding, What: "the PKCS #12 trust store could not be made", Err: err, Mend: "try another password"}
	}
	return out, nil
}

// JKS returns the bundle as a Java key store, which every Java reads. Each
// entry carries the given time of creation. An empty password stands for
// StorePassword; Java's tools want at least six characters.
func (b *Bundle) JKS(password string, created time.Time) ([]byte, error) {
	certificates, aliases, err := b.parsed()
	if err != nil {
		return nil, err
	}
	store := keystore.New(keystore.WithOrderedAliases())
	for i, c := range certificates {
		err := store.SetTrustedCertificateEntry(aliases[i], keystore.TrustedCertificateEntry{
			CreationTime: created,
			Certificate:  keystore.Certificate{Type: "X509", Content: c.Raw},
		})
		if err != nil {
			return nil, &Error{Reason: Encoding, What: "the Java key store could not be made", Err: err}
		}
	}
	var out bytes.Buffer
	if err := store.Store(&out, []byte(orDefault(password))); err != nil {
		return nil, &Error{Reason: Encoding, What: "the Java key store could not be made", Err: err, Mend: "try another password"}
	}
	return out.Bytes(), nil
}

func orDefault(password string) string {
	if password == "" {
		return StorePassword
	}
	return password
}

// parsed returns the certificates with an alias for each: lower-case ASCII, as
// Java folds case and PKCS #12 knows no character outside the basic plane, and
// with part of the fingerprint, as names are not unique.
func (b *Bundle) parsed() ([]*x509.Certificate, []string, error) {
	certificates := make([]*x509.Certificate, len(b.der))
	aliases := make([]string, len(b.der))
	for i, der := range b.der {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, nil, &Error{Reason: Encoding, What: fmt.Sprintf("certificate %d of the bundle cannot be decoded", i+1), Err: err}
		}
		name := c.Subject.CommonName
		if name == "" {
			name = strings.Join(append(c.Subject.Organization, c.Subject.OrganizationalUnit...), " ")
		}
		sum := sha256.Sum256(der)
		certificates[i] = c
		aliases[i] = plain(name) + " " + hex.EncodeToString(sum[:4])
	}
	return certificates, aliases, nil
}

func plain(name string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '_'
		}
		return r
	}, strings.ToLower(clip(name)))
}
