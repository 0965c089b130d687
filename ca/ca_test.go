package ca_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/countersign-proxy/countersign/ca"
)

func TestMain(m *testing.M) {
	if job := os.Getenv("COUNTERSIGN_CA_TEST_JOB"); job != "" {
		os.Exit(processJob(job))
	}
	goleak.VerifyTestMain(m)
}

// awsSuffixes stands for what the program passes: this package knows no AWS.
var awsSuffixes = []string{"amazonaws.com", "api.aws", "amazonaws.com.cn"}

// noon is the time of the fixed clock.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// clock is a clock that tests move.
type clock struct{ atomic.Int64 }

func newClock(t time.Time) *clock {
	c := new(clock)
	c.Store(t.Unix())
	return c
}
func (c *clock) now() time.Time          { return time.Unix(c.Load(), 0) }
func (c *clock) advance(d time.Duration) { c.Add(int64(d / time.Second)) }

func newAuthority(t *testing.T, o ca.Options) *ca.Authority {
	t.Helper()
	if o.Suffixes == nil {
		o.Suffixes = awsSuffixes
	}
	a, err := ca.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func certificate(t *testing.T, a *ca.Authority, host string) *tls.Certificate {
	t.Helper()
	c, err := a.Certificate(host)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// wantReason fails unless err is this package's, for that reason and with a
// text that holds every one of the words.
func wantReason(t *testing.T, err error, reason ca.Reason, words ...string) {
	t.Helper()
	var e *ca.Error
	if !errors.As(err, &e) {
		t.Fatalf("got error %v (%T), want one with reason %q", err, err, reason)
	}
	if e.Reason != reason {
		t.Errorf("got reason %q, want %q: %v", e.Reason, reason, err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the error does not say %q: %v", w, err)
		}
	}
}

func TestRootAndIntermediate(t *testing.T) {
	a := newAuthority(t, ca.Options{Now: newClock(noon).now})
	root := a.Roots()[0]
	leaf := certificate(t, a, "sts.us-east-1.amazonaws.com")
	intermediate, err := x509.ParseCertificate(leaf.Certificate[1])
	if err != nil {
		t.Fatal(err)
	}
	type shape struct {
		IsCA, Critical      bool
		MaxPathLen          int
		KeyUsage            x509.KeyUsage
		ExtKeyUsage         []x509.ExtKeyUsage
		Permitted           []string
		Excluded            string
		NotBefore, NotAfter time.Time
		Curve               elliptic.Curve
	}
	of := func(c *x509.Certificate) shape {
		return shape{c.IsCA, c.PermittedDNSDomainsCritical, c.MaxPathLen, c.KeyUsage, c.ExtKeyUsage, c.PermittedDNSDomains,
			fmt.Sprint(c.ExcludedIPRanges), c.NotBefore.UTC(), c.NotAfter.UTC(), c.PublicKey.(*ecdsa.PublicKey).Curve}
	}
	start, end := noon.Add(-time.Hour), noon.Add(365*24*time.Hour)
	equal := cmp.Comparer(func(a, b elliptic.Curve) bool { return a == b })
	if diff := cmp.Diff(shape{IsCA: true, MaxPathLen: 1, KeyUsage: x509.KeyUsageCertSign, Excluded: "[]",
		NotBefore: start, NotAfter: end, Curve: elliptic.P256()}, of(root), equal); diff != "" {
		t.Errorf("root (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(shape{IsCA: true, Critical: true, MaxPathLen: 0, KeyUsage: x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		Permitted:   []string{"amazonaws.com", "amazonaws.com.cn", "api.aws"},
		Excluded:    "[0.0.0.0/0 ::/0]",
		NotBefore:   start, NotAfter: end, Curve: elliptic.P256()}, of(intermediate), equal); diff != "" {
		t.Errorf("intermediate (-want +got):\n%s", diff)
	}
	if !intermediate.MaxPathLenZero {
		t.Error("the intermediate has no path length constraint")
	}
	if bytes.Equal(root.RawSubjectPublicKeyInfo, intermediate.RawSubjectPublicKeyInfo) {
		t.Error("root and intermediate share a key, so the root's was not discarded")
	}
}

func TestLeaf(t *testing.T) {
	a := newAuthority(t, ca.Options{Now: newClock(noon).now})
	for _, test := range []struct{ name, host, san, commonName string }{
		{"as is", "s3.eu-west-1.amazonaws.com", "s3.eu-west-1.amazonaws.com", "s3.eu-west-1.amazonaws.com"},
		{"upper case and final dot", "STS.AmazonAWS.com.", "sts.amazonaws.com", "sts.amazonaws.com"},
		{"the suffix itself", "api.aws", "api.aws", "api.aws"},
		{"bucket with an underscore", "old_bucket.s3.amazonaws.com", "old_bucket.s3.amazonaws.com", "old_bucket.s3.amazonaws.com"},
		{"too long for a common name", strings.Repeat("b", 63) + ".s3.amazonaws.com", strings.Repeat("b", 63) + ".s3.amazonaws.com", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := certificate(t, a, test.host)
			type shape struct {
				DNS                 []string
				CommonName          string
				Other               int
				NotBefore, NotAfter time.Time
				IsCA                bool
				KeyUsage            x509.KeyUsage
				ExtKeyUsage         []x509.ExtKeyUsage
				Chain               int
			}
			l := c.Leaf
			got := shape{l.DNSNames, l.Subject.CommonName, len(l.IPAddresses) + len(l.URIs) + len(l.EmailAddresses),
				l.NotBefore.UTC(), l.NotAfter.UTC(), l.IsCA, l.KeyUsage, l.ExtKeyUsage, len(c.Certificate)}
			want := shape{[]string{test.san}, test.commonName, 0, noon.Add(-time.Hour), noon.Add(23 * time.Hour), false,
				x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, 2}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			roots, inter := x509.NewCertPool(), x509.NewCertPool()
			roots.AddCert(a.Roots()[0])
			i, _ := x509.ParseCertificate(c.Certificate[1])
			inter.AddCert(i)
			if _, err := l.Verify(x509.VerifyOptions{DNSName: test.san, Roots: roots, Intermediates: inter, CurrentTime: noon}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRefusedNames(t *testing.T) {
	signed := 0
	a := newAuthority(t, ca.Options{Issued: func(string) { signed++ }})
	for _, test := range []struct {
		host   string
		reason ca.Reason
		words  []string
	}{
		{"example.com", ca.Outside, []string{"example.com", "amazonaws.com, amazonaws.com.cn, api.aws", "countersign ca rotate"}},
		{"evilamazonaws.com", ca.Outside, nil},
		{"s3.amazonaws.com.evil.example", ca.Outside, nil},
		{"amazonaws.co", ca.Outside, nil},
		{"com", ca.Outside, nil},
		{"127.0.0.1", ca.BadName, []string{"IP address"}},
		{"::1", ca.BadName, []string{"IP address"}},
		{"[::1]", ca.BadName, []string{"IP address"}},
		{"0x7f.1", ca.Outside, nil},
		{"", ca.BadName, nil},
		{".", ca.BadName, nil},
		{"*.amazonaws.com", ca.BadName, nil},
		{".amazonaws.com", ca.BadName, nil},
		{"a..amazonaws.com", ca.BadName, nil},
		{"s3.amazonaws.com:443", ca.BadName, nil},
		{"s3.amazonaws.com\x00.evil.example", ca.BadName, nil},
		{"s3.amazonaws.com/evil", ca.BadName, nil},
		{"ſ3.amazonaws.com", ca.BadName, nil}, // U+017F is s to some case folders
		{"-s3.amazonaws.com", ca.BadName, nil},
		{strings.Repeat("a", 64) + ".amazonaws.com", ca.BadName, nil},
		{strings.Repeat("a.", 126) + "amazonaws.com", ca.BadName, []string{"253"}},
	} {
		t.Run(test.host, func(t *testing.T) {
			c, err := a.Certificate(test.host)
			if c != nil {
				t.Errorf("got a certificate for %v", c.Leaf.DNSNames)
			}
			wantReason(t, err, test.reason, test.words...)
			if a.Permits(test.host) {
				t.Error("Permits says otherwise")
			}
		})
	}
	if signed != 0 || a.Issued() != 0 {
		t.Errorf("%d certificates were signed", signed)
	}
	if !a.Permits("s3.amazonaws.com") {
		t.Error("Permits denies what is permitted")
	}
}

func TestSuffixes(t *testing.T) {
	for _, test := range []struct {
		name string
		in   []string
		want []string
		bad  string
	}{
		{name: "patterns, case, order", in: []string{"*.MinIO.example.org", ".api.aws", "amazonaws.com."}, want: []string{"amazonaws.com", "api.aws", "minio.example.org"}},
		{name: "covered by another", in: []string{"s3.amazonaws.com", "amazonaws.com", "amazonaws.com"}, want: []string{"amazonaws.com"}},
		{name: "alike but not below", in: []string{"amazonaws.com", "myamazonaws.com"}, want: []string{"amazonaws.com", "myamazonaws.com"}},
		{name: "a name of a private network", in: []string{"minio", "store.internal"}, want: []string{"minio", "store.internal"}},
		{name: "a registry", in: []string{"com"}, bad: "com"},
		{name: "a registry of two labels", in: []string{"amazonaws.com", "*.co.uk"}, bad: "*.co.uk"},
		{name: "AWS's own registry", in: []string{"aws"}, bad: "aws"},
		{name: "empty would mean everything", in: []string{""}, bad: ""},
		{name: "star would mean everything", in: []string{"*"}, bad: "*"},
		{name: "an address", in: []string{"10.0.0.1"}, bad: "10.0.0.1"},
		{name: "a star within", in: []string{"s3.*.amazonaws.com"}, bad: "s3.*.amazonaws.com"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := ca.Suffixes(test.in)
			if test.want == nil {
				wantReason(t, err, ca.BadSuffix)
				var e *ca.Error
				if errors.As(err, &e); e.Host != test.bad {
					t.Errorf("blamed %q, want %q", e.Host, test.bad)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestMissingSuffixes(t *testing.T) {
	a := newAuthority(t, ca.Options{})
	got, err := a.Missing([]string{"*.s3.amazonaws.com", "*.minio.example.org", "api.aws", "store.example.net"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"minio.example.org", "store.example.net"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestImpossibleOptions(t *testing.T) {
	for _, test := range []struct {
		name    string
		options ca.Options
		reason  ca.Reason
	}{
		{"no suffix", ca.Options{}, ca.BadOption},
		{"a lifetime of an hour", ca.Options{Suffixes: awsSuffixes, Lifetime: time.Hour}, ca.BadOption},
		{"a lifetime of a century", ca.Options{Suffixes: awsSuffixes, Lifetime: 100 * ca.DefaultLifetime}, ca.BadOption},
		{"a registry", ca.Options{Suffixes: []string{"com"}}, ca.BadSuffix},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, err := ca.New(test.options)
			if a != nil {
				t.Error("got an authority")
			}
			wantReason(t, err, test.reason)
		})
	}
}

func TestCachedUntilAnHourBeforeItEnds(t *testing.T) {
	c := newClock(noon)
	a := newAuthority(t, ca.Options{Now: c.now})
	first := certificate(t, a, "s3.amazonaws.com")
	c.advance(22*time.Hour - time.Second)
	if certificate(t, a, "S3.AMAZONAWS.COM") != first {
		t.Error("replaced too early, or the case of the name matters to the cache")
	}
	c.advance(time.Second)
	second := certificate(t, a, "s3.amazonaws.com")
	if second == first {
		t.Error("a leaf with an hour to live was served")
	}
	if got, want := second.Leaf.NotAfter.UTC(), noon.Add(45*time.Hour); !got.Equal(want) {
		t.Errorf("the new one ends %s, want %s", got, want)
	}
	if a.Issued() != 2 {
		t.Errorf("%d were signed, want 2", a.Issued())
	}
}

func TestClockSetBack(t *testing.T) {
	c := newClock(noon)
	a := newAuthority(t, ca.Options{Now: c.now})
	c.advance(48 * time.Hour)
	ahead := certificate(t, a, "s3.amazonaws.com")
	c.advance(-47 * time.Hour)
	if got := certificate(t, a, "s3.amazonaws.com"); got == ahead {
		t.Error("a leaf was served that is not valid yet")
	}
}

func TestLeafNeverOutlivesItsAuthority(t *testing.T) {
	c := newClock(noon)
	a := newAuthority(t, ca.Options{Now: c.now, Lifetime: 30 * 24 * time.Hour})
	end := noon.Add(30 * 24 * time.Hour)
	c.Store(end.Add(-90 * time.Minute).Unix())
	first := certificate(t, a, "s3.amazonaws.com")
	if !first.Leaf.NotAfter.Equal(end) {
		t.Errorf("the leaf ends %s, its authority %s", first.Leaf.NotAfter, end)
	}
	c.advance(80 * time.Minute)
	if certificate(t, a, "s3.amazonaws.com") != first {
		t.Error("signed anew although nothing better can be had")
	}
	c.advance(11 * time.Minute)
	got, err := a.Certificate("s3.amazonaws.com")
	if got != nil {
		t.Error("an expired authority's leaf was served")
	}
	wantReason(t, err, ca.Expired, "2026-03-31T12:00:00Z", "countersign ca rotate")
}

func TestCacheIsBounded(t *testing.T) {
	a := newAuthority(t, ca.Options{CacheSize: 2})
	for _, host := range []string{"a", "b", "a", "c", "a", "b"} {
		certificate(t, a, host+".amazonaws.com")
	}
	// a, b, c, and b once more: it was the least recently used when c came.
	if a.Issued() != 4 {
		t.Errorf("%d were signed, want 4", a.Issued())
	}
}

func TestOneSignatureForManyRequests(t *testing.T) {
	var mu sync.Mutex
	hooked := map[string]int{}
	a := newAuthority(t, ca.Options{Issued: func(host string) { mu.Lock(); hooked[host]++; mu.Unlock() }})
	var group sync.WaitGroup
	got := make([]*tls.Certificate, 1000)
	start := make(chan struct{})
	for i := range got {
		group.Go(func() {
			<-start
			c, err := a.Certificate(fmt.Sprintf("h%d.amazonaws.com", i%4))
			if err != nil {
				t.Error(err)
			}
			got[i] = c
		})
	}
	close(start)
	group.Wait()
	for i, c := range got {
		if c != got[i%4] {
			t.Fatalf("request %d got a certificate of its own", i)
		}
	}
	want := map[string]int{"h0.amazonaws.com": 1, "h1.amazonaws.com": 1, "h2.amazonaws.com": 1, "h3.amazonaws.com": 1}
	if diff := cmp.Diff(want, hooked); diff != "" {
		t.Errorf("signed (-want +got):\n%s", diff)
	}
	if got[0].PrivateKey != got[1].PrivateKey {
		t.Error("two leaf keys in one process")
	}
}

func TestPrintingShowsNoKey(t *testing.T) {
	a := newAuthority(t, ca.Options{})
	want := a.Roots()[0].Subject.CommonName + " (" + ca.Fingerprint(a.Roots()[0]) + ")"
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(verb, a); got != want {
			t.Errorf("%s prints %s", verb, got)
		}
	}
}

func BenchmarkIssue(b *testing.B) {
	a, err := ca.New(ca.Options{Suffixes: awsSuffixes, CacheSize: 1})
	if err != nil {
		b.Fatal(err)
	}
	for i := range b.N {
		if _, err := a.Certificate(fmt.Sprintf("h%d.amazonaws.com", i)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCached(b *testing.B) {
	a, err := ca.New(ca.Options{Suffixes: awsSuffixes})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := a.Certificate("s3.us-east-1.amazonaws.com"); err != nil {
			b.Fatal(err)
		}
	}
}
