package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// saying waits until serve has logged something so many times.
func (p *proxy) saying(t testing.TB, what string, times int) {
	t.Helper()
	for deadline := time.Now().Add(patience); strings.Count(p.said(), what) < times; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("serve has not said %q %d times", what, times)
		}
	}
}

// withRoots reads a bundle.
func withRoots(t testing.TB, file string) *x509.CertPool {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		t.Fatalf("%s holds no certificate", file)
	}
	return pool
}

// onceClient opens a connection for each request, and keeps none.
func onceClient(way *url.URL, roots *x509.CertPool) *http.Client {
	return &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true, Proxy: http.ProxyURL(way), TLSClientConfig: &tls.Config{RootCAs: roots},
	}}
}

// A CA is replaced under two replicas that share its folder: first the new root is
// in the bundle, then it signs, then the old key goes. Clients with the new bundle
// notice nothing, and those with the old one nothing until the switch.
func TestCAIsRotatedUnderLoad(t *testing.T) {
	t.Parallel()
	u := strictMoto(t)
	fleet := replicas(t, u, 2)
	b := balance(t, fleet[0].address, fleet[1].address)
	way := &url.URL{Scheme: "http", Host: b.address}
	onlyOld := fleet[0].roots
	session := virtual(t, onceClient(way, onlyOld), clientKeys["source"])
	before := startLoadTo(way, onlyOld, session, 2)
	defer before.stop()
	before.wait(t, 100)

	// Beginning: the bundle has both roots, the old key signs.
	const overlap = 12 * time.Second
	switches := time.Now().Truncate(time.Second).Add(overlap) // or later; a CA counts whole seconds
	fleet[0].command(t, "ca", "rotate", "--overlap", overlap.String())
	for _, p := range fleet {
		p.saying(t, "the CA was replaced", 1)
	}
	bundle := filepath.Join(t.TempDir(), "bundle.pem")
	fleet[1].command(t, "ca", "export", "--format", "bundle", "--out", bundle)
	both := withRoots(t, bundle)
	after := startLoadTo(way, both, session, 2)
	defer after.stop()

	// Who signs, as fresh connections to each replica see it.
	trusted := func(address string, roots *x509.CertPool) error {
		return callerIs(onceClient(&url.URL{Scheme: "http", Host: address}, roots), session, "assumed-role/Deploy/fleet")
	}
	for time.Now().Before(switches.Add(-3 * time.Second)) {
		for _, p := range fleet {
			if err := trusted(p.address, onlyOld); err != nil && time.Now().Before(switches) {
				t.Fatalf("before the switch a client with the old bundle fails: %v", err)
			}
		}
	}
	before.stop()
	// Where the machine has paused, the last calls came after the switch.
	if first := before.first.Load(); first != nil && first.at.Before(switches) {
		t.Errorf("of %d calls with the old bundle one failed before the switch: %s", before.calls.Load(), first)
	}

	// The switch: by the clock, in every replica.
	var unknown x509.UnknownAuthorityError
	for _, p := range fleet {
		for deadline := time.Now().Add(patience); !errors.As(trusted(p.address, onlyOld), &unknown); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the new key does not sign")
			}
		}
	}
	after.wait(t, 500)

	// The end: the old key is destroyed, its root stays trusted.
	fleet[0].command(t, "ca", "rotate", "--finish")
	for _, p := range fleet {
		p.saying(t, "the CA was replaced", 2)
	}
	after.wait(t, 500)
	after.stop()
	if n := after.failures.Load(); n != 0 {
		t.Errorf("%d of %d calls with the new bundle failed, the first with: %s", n, after.calls.Load(), after.first.Load())
	}
	t.Logf("%d calls, %d sent again", before.calls.Load()+after.calls.Load(), before.again.Load()+after.again.Load())
}

// A mounted secret of Kubernetes changes by a symbolic link, ..data, that is
// renamed over the one before.
func TestMountedCAIsTakenUp(t *testing.T) {
	u := strictMoto(t)
	dir := t.TempDir()
	maker := writeConfig(t, dir, u, "")
	mount := filepath.Join(dir, "mount")
	version := func(name string, change func([]byte) []byte) {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(dir, "state", "ca", "authority.pem"))
		if err != nil {
			t.Fatal(err)
		}
		link := filepath.Join(mount, "..data_tmp")
		if err := errors.Join(
			os.MkdirAll(filepath.Join(mount, name), 0o700),
			os.WriteFile(filepath.Join(mount, name, "authority.pem"), change(text), 0o400),
			os.Symlink(name, link),
			os.Rename(link, filepath.Join(mount, "..data")),
		); err != nil {
			t.Fatal(err)
		}
	}
	whole := func(b []byte) []byte { return b }
	make := func(argv ...string) {
		t.Helper()
		way{env: bareEnvironment(dir)}.must(t, dir, nil, append([]string{program, "ca", "rotate", "--config", maker}, argv...)...)
	}
	make()
	version("..1", whole)
	if err := os.Symlink(filepath.Join("..data", "authority.pem"), filepath.Join(mount, "authority.pem")); err != nil {
		t.Fatal(err)
	}
	p := serve(t, u, "ca: {dir: "+mount+"}\n")
	keys := p.clients["ci"]
	works := func(when string) {
		t.Helper()
		if err := callerIs(onceClient(p.url(), p.roots), keys, "assumed-role/Deploy/ci"); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	works("at first")
	make()
	version("..2", func(b []byte) []byte { return b[:len(b)-300] })
	p.saying(t, "the CA on disk is not used; the one before stays in force", 1)
	works("with half a file on disk")
	version("..3", whole)
	p.saying(t, "the CA was replaced", 1)
	p.roots = withRoots(t, filepath.Join(mount, "bundle.pem"))
	works("with the bundle that was written beside it")
}

// cert-manager renews the certificate of the proxy's own listener.
func TestListenerCertificateIsRenewedUnderLoad(t *testing.T) {
	t.Parallel()
	u := strictMoto(t)
	dir := t.TempDir()
	p, port, certFile, keyFile := serveTLS(t, u, dir,
		"roles: {deploy: {arn: \""+deployARN+"\"}, source: {arn: \"\", assume: [\""+deployARN+"\"]}}\n")
	roots := withRoots(t, p.bundle)
	trust := func(file string) *x509.Certificate {
		t.Helper()
		c, err := tls.LoadX509KeyPair(file, strings.TrimSuffix(file, ".crt")+".key")
		if err != nil {
			t.Fatal(err)
		}
		roots.AddCert(c.Leaf)
		return c.Leaf
	}
	old := trust(certFile)
	nextCert, nextKey := listenerCertificate(t, t.TempDir())
	next := trust(nextCert)
	shown := func() *x509.Certificate {
		t.Helper()
		c, err := tls.Dial("tcp", "localhost:"+port, &tls.Config{RootCAs: roots})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0]
	}
	way := &url.URL{Scheme: "https", Host: "localhost:" + port}
	session := virtual(t, onceClient(way, roots), clientKeys["source"])
	l := startLoadTo(way, roots, session, 4)
	defer l.stop()
	l.wait(t, 200)
	if !shown().Equal(old) {
		t.Error("the listener shows another certificate than the configured one")
	}
	if err := os.Rename(nextCert, certFile); err != nil {
		t.Fatal(err)
	}
	p.saying(t, "the listeners' certificate on disk is not used; the one before stays in force", 1) // half a pair
	l.wait(t, 100)
	if err := os.Rename(nextKey, keyFile); err != nil {
		t.Fatal(err)
	}
	p.saying(t, "the listeners show their new certificate", 1)
	if !shown().Equal(next) {
		t.Error("the listener goes on showing its old certificate")
	}
	l.wait(t, 400)
	l.stop()
	if n := l.failures.Load(); n != 0 {
		t.Errorf("%d of %d calls failed, the first with: %s", n, l.calls.Load(), l.first.Load())
	}
	t.Logf("%d calls, %d sent again", l.calls.Load(), l.again.Load())
}
