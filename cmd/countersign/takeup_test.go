package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/countersign-proxy/countersign/ca"
	"github.com/countersign-proxy/countersign/config"
	"github.com/countersign-proxy/countersign/safefile"
)

// What was in use stays until something whole has taken its place, and what is
// wrong is said once.
func TestACAThatCannotBeUsedIsNotTakenUp(t *testing.T) {
	dir := t.TempDir()
	cfg, p, err := assemble(t, dir, "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	core, logged := observer.New(zapcore.InfoLevel)
	p.log = zap.New(core)
	a := &app{getenv: in(nil), stderr: &bytes.Buffer{}}
	first, file := p.authority.Load(), p.authority.Load().Path()
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	put := func(data []byte, mode os.FileMode) {
		t.Helper()
		if err := safefile.Write(file, data, mode); err != nil {
			t.Fatal(err)
		}
	}
	said := func(want ...string) {
		t.Helper()
		entries := logged.TakeAll()
		if len(entries) != len(want) {
			t.Fatalf("%d lines were logged, want %q: %v", len(entries), want, entries)
		}
		for i, e := range entries {
			text := e.Message
			if err, ok := e.ContextMap()["error"].(string); ok {
				text += ": " + err
			}
			if !strings.Contains(text, want[i]) {
				t.Errorf("logged %q, want %q", text, want[i])
			}
		}
	}
	for _, step := range []struct {
		name    string
		prepare func()
		want    string // in the log; "": nothing
	}{
		{"nothing new", func() {}, ""},
		{"cut short", func() { put(whole[:len(whole)/2], 0o600) }, "the CA on disk is not used; the one before stays in force: certificate authority " + file},
		{"gone", func() {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		}, "there is none"},
		{"open to others", func() { put(whole, 0o644) }, "chmod 600"},
		{"back again", func() { put(whole, 0o600) }, ""},
	} {
		step.prepare()
		a.takeUp(p, false)
		a.takeUp(p, false)
		if step.want == "" {
			said()
		} else {
			said(step.want)
		}
		if p.authority.Load() != first {
			t.Fatalf("%s: the CA was replaced", step.name)
		}
	}
	if _, err := ca.Rotate(cfg.CA.Dir, ca.Rotation{Overlap: time.Hour}, authorityOptions(cfg)); err != nil {
		t.Fatal(err)
	}
	a.takeUp(p, false)
	said("the CA was replaced")
	second := p.authority.Load()
	if second == first || len(second.Roots()) != 2 {
		t.Errorf("of a CA with two roots %d are in use", len(second.Roots()))
	}
	bundle, err := os.ReadFile(filepath.Join(cfg.CA.Dir, "bundle.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range second.Roots() {
		if !bytes.Contains(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})) {
			t.Errorf("the bundle for clients lacks %s", c.Subject)
		}
	}
	// The same one has leaves already; another configuration begins without.
	a.takeUp(p, false)
	if p.authority.Load() != second {
		t.Error("a CA that is the same was taken up again")
	}
	a.takeUp(p, true)
	if p.authority.Load() == second {
		t.Error("the options of another configuration were not taken up")
	}
	said()
}

// pair writes a certificate and its key.
func pair(t *testing.T, dir string, serial int64, until time.Time) certificateFiles {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "gateway"},
		NotBefore: until.Add(-2 * time.Hour), NotAfter: until, DNSNames: []string{"gateway.example"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	out := certificateOf(config.TLS{CertFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key")})
	for file, block := range map[string]*pem.Block{out.cert: {Type: "CERTIFICATE", Bytes: der}, out.key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func TestListenersTakeUpARenewedCertificate(t *testing.T) {
	now := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	dir := t.TempDir()
	var l listenerCertificate
	if _, err := l.get(nil); err == nil {
		t.Error("a certificate that was never read is shown")
	}
	serial := func(want int64) {
		t.Helper()
		c, err := l.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Leaf.SerialNumber.Int64(); got != want {
			t.Errorf("certificate %d is shown, want %d", got, want)
		}
	}
	try := func(f certificateFiles, renewed bool, want string) {
		t.Helper()
		got, err := l.renew(f, now)
		if got != renewed || (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("renewed %v, %v; want %v, %q", got, err, renewed, want)
		}
	}
	one := pair(t, filepath.Join(dir, "1"), 1, now.Add(time.Hour))
	two := pair(t, filepath.Join(dir, "2"), 2, now.Add(90*time.Minute))
	try(one, true, "")
	try(one, false, "")
	half, none := one, one
	half.cert, none.cert = two.cert, filepath.Join(dir, "none")
	try(half, false, "private key does not match public key")
	try(none, false, "tls.cert_file")
	try(pair(t, filepath.Join(dir, "old"), 3, now.Add(-time.Minute)), false, "is valid from 2026-05-04T01:01:01Z to 2026-05-04T03:01:01Z, and it is 2026-05-04T03:02:01Z")
	try(pair(t, filepath.Join(dir, "early"), 4, now.Add(3*time.Hour)), false, "is valid from")
	if runtime.GOOS != "windows" {
		for _, mode := range []os.FileMode{0o644, 0o604, 0o660} { // read by others, or changed by the group
			open := pair(t, filepath.Join(dir, "open"), 5, now.Add(time.Hour))
			if err := os.Chmod(open.key, mode); err != nil {
				t.Fatal(err)
			}
			try(open, false, "tls.key_file: "+open.key+" has mode "+fmt.Sprintf("%04o", mode))
		}
	}
	serial(1)
	if err := os.Chmod(two.key, 0o440); err != nil { // as a Secret is mounted
		t.Fatal(err)
	}
	try(two, true, "")
	serial(2)
}

// Kubernetes swaps a link, so that both files change at once. The webhook has
// nothing else to wait for, and follows them by itself.
func TestTheWebhookFollowsAMountedSecret(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir, now := t.TempDir(), time.Now()
	link := func(version string) {
		t.Helper()
		if err := os.Symlink(version, filepath.Join(dir, "..data_tmp")); err != nil {
			t.Skipf("no symbolic links: %v", err)
		}
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	serial := int64(0)
	next := func() {
		t.Helper()
		serial++
		version := fmt.Sprintf("..version%d", serial)
		f := pair(t, filepath.Join(dir, version), serial, now.Add(time.Hour))
		if err := os.Chmod(f.key, 0o440); err != nil {
			t.Fatal(err)
		}
		link(version)
	}
	next()
	files := certificateFiles{filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), "--tls-cert-file", "--tls-key-file"}
	for _, name := range []string{"tls.crt", "tls.key"} {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	var l listenerCertificate
	if _, err := l.renew(files, now); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { l.follow(ctx, files, zap.NewNop()); close(done) }()
	// Again and again, since what changes before it has begun to look is no change.
	for deadline := time.Now().Add(time.Minute); l.Load().Leaf.SerialNumber.Int64() == 1; time.Sleep(time.Second) {
		if time.Now().After(deadline) {
			t.Fatal("no new version is shown")
		}
		next()
	}
	cancel()
	<-done
}

// Those who watch no metrics hear of it in the log, once a day.
func TestCAThatExpiresSoonIsLogged(t *testing.T) {
	for text, want := range map[string]int{"": 0, "ca: {rotate_before: 9000h}": 2} { // more than a year
		_, p, err := assemble(t, t.TempDir(), text)
		if err != nil {
			t.Fatal(err)
		}
		core, logged := observer.New(zap.WarnLevel)
		p.log = zap.New(core)
		at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		for _, after := range []time.Duration{0, time.Minute, 24*time.Hour - time.Second, 24 * time.Hour} {
			p.warnOfCA(at.Add(after))
		}
		if logged.Len() != want {
			t.Errorf("%q: logged %v", text, logged.All())
		}
		if err := p.shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
