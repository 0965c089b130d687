package ca_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pavlo-v-chernykh/keystore-go/v4"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/countersign-proxy/countersign/ca"
)

// stranger is a root of somebody else.
func stranger(t *testing.T) *x509.Certificate {
	t.Helper()
	return newAuthority(t, ca.Options{Suffixes: []string{"corp.example.org"}}).Roots()[0]
}

func pemOf(certificates ...*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range certificates {
		fmt.Fprintf(&b, "# %s\n%s\n", c.Subject, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return b.Bytes()
}

func put(t *testing.T, path string, data []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// system is a machine whose only public root is the given one.
func system(c *x509.Certificate) func() (ca.Source, error) {
	return func() (ca.Source, error) { return ca.Source{Path: "system", Certificates: [][]byte{c.Raw}}, nil }
}

func env(m map[string]string) func(string) string { return func(k string) string { return m[k] } }

func bundlePrints(t *testing.T, b *ca.Bundle) []string {
	t.Helper()
	var out []string
	rest := b.PEM()
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return out
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, ca.Fingerprint(c))
	}
}

func TestTrustGoesOn(t *testing.T) {
	a := newAuthority(t, ca.Options{})
	ours, public := a.Roots()[0], stranger(t)
	dir := t.TempDir()
	environment := map[string]string{}
	want := []*x509.Certificate{ours, public}
	for _, name := range ca.TrustVariables() {
		own := stranger(t)
		want = append(want, own)
		file := put(t, filepath.Join(dir, name, "corp.pem"), pemOf(own, public, ours))
		environment[name] = file
		if name == "SSL_CERT_DIR" {
			second := stranger(t)
			want = append(want, second)
			other := put(t, filepath.Join(dir, "second", "x.pem"), pemOf(second))
			put(t, filepath.Join(dir, "second", "README"), []byte("no certificate"))
			if err := os.Symlink("x.pem", filepath.Join(dir, "second", "0a1b2c3d.0")); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("gone.pem", filepath.Join(dir, "second", "dangling.0")); err != nil {
				t.Fatal(err)
			}
			environment[name] = strings.Join([]string{filepath.Dir(file), filepath.Join(dir, "absent"), filepath.Dir(other)}, string(os.PathListSeparator))
		}
	}
	b, err := a.Trust(ca.TrustOptions{Getenv: env(environment), System: system(public)})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(prints(want), bundlePrints(t, b)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if b.Len() != len(want) {
		t.Errorf("Len is %d, want %d", b.Len(), len(want))
	}
	node, err := a.NodeTrust(ca.TrustOptions{Getenv: env(environment), System: system(stranger(t))})
	if err != nil {
		t.Fatal(err)
	}
	index := 2 + slices.Index(ca.TrustVariables(), "NODE_EXTRA_CA_CERTS") + 1 // SSL_CERT_DIR counts twice
	if diff := cmp.Diff([]string{prints(want)[0], prints(want)[index], prints(want)[1]}, bundlePrints(t, node)); diff != "" {
		t.Errorf("Node (-want +got):\n%s", diff)
	}
}

func TestTrustWithoutEnvironment(t *testing.T) {
	a := newAuthority(t, ca.Options{})
	public := stranger(t)
	for _, o := range []ca.TrustOptions{{System: system(public)}, {System: system(public), Getenv: env(nil)}} {
		b, err := a.Trust(o)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{ca.Fingerprint(a.Roots()[0]), ca.Fingerprint(public)}, bundlePrints(t, b)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		node, err := a.NodeTrust(o)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(node.PEM(), a.RootPEM()) || !bytes.Equal(a.Own().PEM(), a.RootPEM()) {
			t.Error("Node's bundle and Own are not our root alone")
		}
	}
}

func TestTrustThatCannotBeRead(t *testing.T) {
	a := newAuthority(t, ca.Options{})
	dir := t.TempDir()
	garbage := put(t, filepath.Join(dir, "garbage.pem"), []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	empty := put(t, filepath.Join(dir, "empty"), nil)
	for _, test := range []struct{ name, variable, value, says string }{
		{"missing file", "AWS_CA_BUNDLE", filepath.Join(dir, "absent.pem"), "no such file"},
		{"no certificate", "REQUESTS_CA_BUNDLE", garbage, "no certificate in PEM form"},
		{"empty file", "CURL_CA_BUNDLE", empty, "no certificate in PEM form"},
		{"folder without certificates", "SSL_CERT_FILE", dir, "no certificate was found"},
		{"missing Java trust store", "JAVA_TOOL_OPTIONS", "-Djavax.net.ssl.trustStore=" + dir + "/absent.jks", "no such file"},
		{"damaged Java trust store", "JDK_JAVA_OPTIONS", "-Djavax.net.ssl.trustStore=" + garbage, "cannot be read"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b, err := a.Trust(ca.TrustOptions{Getenv: env(map[string]string{test.variable: test.value}), System: system(stranger(t))})
			if b != nil {
				t.Error("got a bundle")
			}
			wantReason(t, err, ca.BadTrust, test.variable, test.says, "unset "+test.variable)
		})
	}
}

func TestSystemRoots(t *testing.T) {
	s, err := ca.SystemRoots()
	if err != nil {
		t.Fatal(err)
	}
	if s.Path == "" || len(s.Certificates) < 20 {
		t.Errorf("%d roots from %q", len(s.Certificates), s.Path)
	}
}

func TestMachineWithoutRootsGetsThoseOfMozilla(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "certs", "README"), []byte("nothing here"))
	s, err := ca.RootsOf([]string{filepath.Join(dir, "absent.pem")}, []string{filepath.Join(dir, "certs")})
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, der := range s.Certificates {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		names[c.Subject.CommonName] = true
	}
	if s.Path != ca.Embedded || !names["Amazon Root CA 1"] {
		t.Errorf("%d roots from %s, without that of Amazon", len(s.Certificates), s.Path)
	}

	own := stranger(t)
	put(t, filepath.Join(dir, "certs", "corp.pem"), pemOf(own))
	s, err = ca.RootsOf([]string{filepath.Join(dir, "absent.pem")}, []string{filepath.Join(dir, "certs")})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Certificates) != 1 || !bytes.Equal(s.Certificates[0], own.Raw) {
		t.Errorf("got %d roots from %s, want the one of the folder", len(s.Certificates), s.Path)
	}
}

func TestJavaTrustGoesOn(t *testing.T) {
	theirs := newAuthority(t, ca.Options{Suffixes: []string{"corp.example.org"}})
	jks, err := theirs.Own().JKS("secret1", noon)
	if err != nil {
		t.Fatal(err)
	}
	p12, err := theirs.Own().PKCS12("")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	jksFile := put(t, filepath.Join(dir, "a folder", "trust.jks"), jks)
	p12File := put(t, filepath.Join(dir, "trust.p12"), p12)
	for _, test := range []struct{ name, variable, value string }{
		{"JKS in quotes with a password", "JAVA_TOOL_OPTIONS", `-Xmx64m "-Djavax.net.ssl.trustStore=` + jksFile + `" -Djavax.net.ssl.trustStorePassword=secret1`},
		{"PKCS #12 with the usual password", "JDK_JAVA_OPTIONS", "-Djavax.net.ssl.trustStore=" + p12File + " -Dx=y"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newAuthority(t, ca.Options{})
			public := stranger(t)
			b, err := a.Trust(ca.TrustOptions{Getenv: env(map[string]string{test.variable: test.value}), System: system(public)})
			if err != nil {
				t.Fatal(err)
			}
			want := prints([]*x509.Certificate{a.Roots()[0], public, theirs.Roots()[0]})
			if diff := cmp.Diff(want, bundlePrints(t, b)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestTrustStores(t *testing.T) {
	a := newAuthority(t, ca.Options{})
	public := stranger(t)
	b, err := a.Trust(ca.TrustOptions{System: system(public)})
	if err != nil {
		t.Fatal(err)
	}
	want := prints([]*x509.Certificate{a.Roots()[0], public})
	for _, password := range []string{"", "another one"} {
		used := password
		if used == "" {
			used = "changeit"
		}
		p12, err := b.PKCS12(password)
		if err != nil {
			t.Fatal(err)
		}
		certificates, err := pkcs12.DecodeTrustStore(p12, used)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, prints(certificates)); diff != "" {
			t.Errorf("PKCS #12 (-want +got):\n%s", diff)
		}

		created := noon.Truncate(time.Millisecond)
		jks, err := b.JKS(password, created)
		if err != nil {
			t.Fatal(err)
		}
		store := keystore.New(keystore.WithOrderedAliases())
		if err := store.Load(bytes.NewReader(jks), []byte(used)); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, alias := range store.Aliases() {
			entry, err := store.GetTrustedCertificateEntry(alias)
			if err != nil {
				t.Fatal(err)
			}
			if !entry.CreationTime.Equal(created) {
				t.Errorf("%s was created %s", alias, entry.CreationTime)
			}
			c, err := x509.ParseCertificate(entry.Certificate.Content)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, ca.Fingerprint(c))
		}
		slices.Sort(got)
		if diff := cmp.Diff(slices.Sorted(slices.Values(want)), got); diff != "" {
			t.Errorf("JKS (-want +got):\n%s", diff)
		}
		again, err := b.JKS(password, created)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(jks, again) {
			t.Error("the same bundle at the same time gives another JKS")
		}
	}
}

func BenchmarkTrust(b *testing.B) {
	a, err := ca.New(ca.Options{Suffixes: awsSuffixes})
	if err != nil {
		b.Fatal(err)
	}
	bundle, err := a.Trust(ca.TrustOptions{})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("new", func(b *testing.B) {
		for b.Loop() {
			if _, err := ca.New(ca.Options{Suffixes: awsSuffixes}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("bundle", func(b *testing.B) {
		for b.Loop() {
			if _, err := a.Trust(ca.TrustOptions{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("jks", func(b *testing.B) {
		for b.Loop() {
			if _, err := bundle.JKS("", noon); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("p12", func(b *testing.B) {
		for b.Loop() {
			if _, err := bundle.PKCS12(""); err != nil {
				b.Fatal(err)
			}
		}
	})
}
