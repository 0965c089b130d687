package ca

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/pavlo-v-chernykh/keystore-go/v4"
	"software.sslmate.com/src/go-pkcs12"
)

// JavaVariables are the environment variables in which a Java virtual machine
// (JAVA_TOOL_OPTIONS) or its launcher (JDK_JAVA_OPTIONS) looks for options.
func JavaVariables() []string { return []string{"JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS"} }

const (
	trustStoreOption    = "-Djavax.net.ssl.trustStore="
	storePasswordOption = "-Djavax.net.ssl.trustStorePassword="
)

// javaTrust reads the trust stores that the options in the environment name.
func javaTrust(getenv func(string) string) ([]Source, error) {
	var sources []Source
	for _, name := range JavaVariables() {
		path, password := "", StorePassword
		for _, option := range splitOptions(getenv(name)) {
			if v, ok := strings.CutPrefix(option, trustStoreOption); ok {
				path = v
			}
			if v, ok := strings.CutPrefix(option, storePasswordOption); ok {
				password = v
			}
		}
		if path == "" || path == "NONE" { // NONE: a store that is not a file
			continue
		}
		data, err := readLimited(path)
		if err == nil {
			var found [][]byte
			if found, err = storeCertificates(data, password); err == nil {
				sources = append(sources, Source{Variable: name, Path: path, Certificates: found})
				continue
			}
		}
		return nil, badVariable(name, path, err)
	}
	return sources, nil
}

// splitOptions splits as the JVM does: at white space outside of quotes.
func splitOptions(s string) []string {
	var options []string
	var b strings.Builder
	quote, inside := rune(0), false
	for _, r := range s {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			quote, inside = r, true
		case quote == 0 && strings.ContainsRune(" \t\n\r\f\v", r):
			if inside {
				options = append(options, b.String())
				b.Reset()
			}
			inside = false
		default:
			b.WriteRune(r)
			inside = true
		}
	}
	if inside {
		options = append(options, b.String())
	}
	return options
}

// storeCertificates reads a trust store in either of Java's two formats.
func storeCertificates(data []byte, password string) ([][]byte, error) {
	var found [][]byte
	if bytes.HasPrefix(data, []byte{0xfe, 0xed, 0xfe, 0xed}) { // JKS
		store := keystore.New(keystore.WithOrderedAliases(), keystore.WithCaseExactAliases())
		if err := store.Load(bytes.NewReader(data), []byte(password)); err != nil {
			return nil, fmt.Errorf("the Java key store cannot be read: %w", err)
		}
		for _, alias := range store.Aliases() {
			entry, err := store.GetTrustedCertificateEntry(alias)
			if err != nil {
				continue // a private key, which is no trust
			}
			if _, err := x509.ParseCertificate(entry.Certificate.Content); err == nil {
				found = append(found, entry.Certificate.Content)
			}
		}
	} else {
		certificates, err := pkcs12.DecodeTrustStore(data, password)
		if err != nil {
			return nil, fmt.Errorf("the PKCS #12 trust store cannot be read: %w", err)
		}
		for _, c := range certificates {
			found = append(found, c.Raw)
		}
	}
	if len(found) == 0 {
		return nil, errors.New("it holds no trusted certificate")
	}
	return found, nil
}
