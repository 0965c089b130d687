package ca_test

import (
	"bytes"
	"crypto/x509"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-proxy/countersign/ca"
)

// issuer is the root that a leaf leads to, of those given.
func issuer(t *testing.T, a *ca.Authority, now time.Time, roots ...*x509.Certificate) string {
	t.Helper()
	leaf := certificate(t, a, "s3.amazonaws.com")
	inter := x509.NewCertPool()
	i, err := x509.ParseCertificate(leaf.Certificate[1])
	if err != nil {
		t.Fatal(err)
	}
	inter.AddCert(i)
	pool := x509.NewCertPool()
	for _, r := range roots {
		pool.AddCert(r)
	}
	chains, err := leaf.Leaf.Verify(x509.VerifyOptions{DNSName: "s3.amazonaws.com", Roots: pool, Intermediates: inter, CurrentTime: now})
	if err != nil {
		t.Fatal(err)
	}
	chain := chains[0]
	return ca.Fingerprint(chain[len(chain)-1])
}

func prints(roots []*x509.Certificate) []string {
	var out []string
	for _, r := range roots {
		out = append(out, ca.Fingerprint(r))
	}
	return out
}

func states(i ca.Info) (roots, intermediates []ca.State) {
	for _, c := range i.Roots {
		roots = append(roots, c.State)
	}
	for _, c := range i.Intermediates {
		intermediates = append(intermediates, c.State)
	}
	return roots, intermediates
}

func TestRotationAtOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	c := newClock(noon)
	o := ca.Options{Suffixes: awsSuffixes, Now: c.now}
	old, err := ca.Create(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	oldRoot := old.Roots()[0]
	c.advance(24 * time.Hour)
	o.Suffixes = append([]string{"minio.example.org"}, awsSuffixes...)
	if _, err := ca.Rotate(dir, ca.Rotation{}, o); err != nil {
		t.Fatal(err)
	}
	a, err := ca.Load(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	newRoot := a.Roots()[0]
	if diff := cmp.Diff([]string{ca.Fingerprint(newRoot), ca.Fingerprint(oldRoot)}, prints(a.Roots())); diff != "" || newRoot.Equal(oldRoot) {
		t.Errorf("trusted roots (-want +got):\n%s", diff)
	}
	if got := issuer(t, a, c.now(), a.Roots()...); got != ca.Fingerprint(newRoot) {
		t.Errorf("leaves lead to %s", got)
	}
	if !a.Permits("minio.example.org") {
		t.Error("the new suffix is not permitted")
	}
	if n := bytes.Count(read(t, a.Path()), []byte("PRIVATE KEY-----\n")); n != 2 { // BEGIN and END of one
		t.Errorf("%d lines of key armour are left, want those of one key", n)
	}
	roots, intermediates := states(a.Info())
	if diff := cmp.Diff([][]ca.State{{ca.Signing, ca.Past}, {ca.Signing}}, [][]ca.State{roots, intermediates}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// A process that has not loaded anew goes on, and its leaves are still trusted.
	if got := issuer(t, old, c.now(), a.Roots()...); got != ca.Fingerprint(oldRoot) {
		t.Errorf("the old process's leaves lead to %s", got)
	}
	// The old root leaves the bundle when it expires.
	c.Store(oldRoot.NotAfter.Unix() + 1)
	if diff := cmp.Diff([]string{ca.Fingerprint(newRoot)}, prints(a.Roots())); diff != "" {
		t.Errorf("after the old root expired (-want +got):\n%s", diff)
	}
}

func TestRotationWithOverlap(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	c := newClock(noon)
	o := ca.Options{Suffixes: awsSuffixes, Now: c.now}
	old, err := ca.Create(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	oldRoot := old.Roots()[0]
	if _, err := ca.Rotate(dir, ca.Rotation{Overlap: 48 * time.Hour}, o); err != nil {
		t.Fatal(err)
	}
	a, err := ca.Load(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Roots()) != 2 || !a.Roots()[0].Equal(oldRoot) {
		t.Fatalf("trusted roots are %v, want the signing old one and the new one", prints(a.Roots()))
	}
	newRoot := a.Roots()[1]
	step := func(name, leads string, wantRoots, wantIntermediates []ca.State) {
		t.Helper()
		if got := issuer(t, a, c.now(), a.Roots()...); got != leads {
			t.Errorf("%s: leaves lead to %s, want %s", name, got, leads)
		}
		roots, intermediates := states(a.Info())
		if diff := cmp.Diff([][]ca.State{wantRoots, wantIntermediates}, [][]ca.State{roots, intermediates}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	step("at once", ca.Fingerprint(oldRoot), []ca.State{ca.Pending, ca.Signing}, []ca.State{ca.Pending, ca.Signing})
	unfinished := read(t, a.Path())
	_, err = ca.Finish(dir, o)
	wantReason(t, err, ca.NotYet, noon.Add(48*time.Hour).UTC().Format(time.RFC3339), "finish the rotation later")
	if !bytes.Equal(unfinished, read(t, a.Path())) {
		t.Error("a rotation that cannot be finished yet was changed")
	}
	c.advance(48*time.Hour - time.Second)
	step("a second before", ca.Fingerprint(oldRoot), []ca.State{ca.Pending, ca.Signing}, []ca.State{ca.Pending, ca.Signing})
	c.advance(time.Second)
	step("at the switch", ca.Fingerprint(newRoot), []ca.State{ca.Signing, ca.Past}, []ca.State{ca.Signing, ca.Past})

	// Finishing destroys the key that signs no more, and keeps its root.
	finished, err := ca.Finish(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(read(t, finished.Path()), []byte("PRIVATE KEY-----\n")); n != 2 {
		t.Errorf("%d lines of key armour are left, want those of one key", n)
	}
	a = finished
	step("finished", ca.Fingerprint(newRoot), []ca.State{ca.Signing, ca.Past}, []ca.State{ca.Signing})
	before := read(t, finished.Path())
	again, err := ca.Finish(dir, o)
	if err != nil || !again.Equal(finished) || !bytes.Equal(before, read(t, again.Path())) {
		t.Errorf("finishing again changes it (%v)", err)
	}
	loaded, err := ca.Load(dir, o)
	if err != nil || !loaded.Equal(finished) || loaded.Equal(old) || old.Equal(loaded) {
		t.Errorf("what is loaded is compared wrongly (%v)", err)
	}

	// So does rotating once more.
	b, err := ca.Rotate(dir, ca.Rotation{Overlap: time.Hour}, o)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(read(t, b.Path()), []byte("PRIVATE KEY-----\n")); n != 4 {
		t.Errorf("%d lines of key armour, want those of two keys", n)
	}
	if len(b.Roots()) != 3 {
		t.Errorf("%d roots are trusted, want 3", len(b.Roots()))
	}
}

// The pending signer takes over early when the present one expires first.
func TestOverlapBeyondTheEnd(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	c := newClock(noon)
	o := ca.Options{Suffixes: awsSuffixes, Now: c.now, Lifetime: 48 * time.Hour}
	if _, err := ca.Create(dir, o); err != nil {
		t.Fatal(err)
	}
	a, err := ca.Rotate(dir, ca.Rotation{Overlap: 48*time.Hour + 30*time.Minute}, o)
	if err != nil {
		t.Fatal(err)
	}
	pending := a.Roots()[1]
	c.advance(48*time.Hour + time.Minute)
	if got := issuer(t, a, c.now(), a.Roots()...); got != ca.Fingerprint(pending) {
		t.Errorf("leaves lead to %s, want the pending root", got)
	}
}

func TestForgetting(t *testing.T) {
	dir, path := folder(t)
	old := blocks(t, path)
	a, err := ca.Rotate(dir, ca.Rotation{Forget: true}, ca.Options{Suffixes: awsSuffixes})
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Roots()) != 1 {
		t.Errorf("%d roots are trusted, want 1", len(a.Roots()))
	}
	for i, b := range old {
		if bytes.Contains(read(t, path), b) {
			t.Errorf("block %d of the old file is still there", i)
		}
	}
	wantModes(t, dir)
}

func TestRotatingAnExpiredAuthority(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	c := newClock(noon)
	o := ca.Options{Suffixes: awsSuffixes, Now: c.now}
	if _, err := ca.Create(dir, o); err != nil {
		t.Fatal(err)
	}
	c.advance(366 * 24 * time.Hour)
	_, err := ca.Load(dir, o)
	wantReason(t, err, ca.Expired, "2027-03-01", "countersign ca rotate")
	a, err := ca.Rotate(dir, ca.Rotation{}, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Roots()) != 1 {
		t.Errorf("%d roots are trusted, want the new one alone", len(a.Roots()))
	}
}

func TestClockBehindTheAuthority(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	c := newClock(noon)
	o := ca.Options{Suffixes: awsSuffixes, Now: c.now}
	if _, err := ca.Create(dir, o); err != nil {
		t.Fatal(err)
	}
	c.advance(-time.Hour)
	if _, err := ca.Load(dir, o); err != nil {
		t.Errorf("an hour of skew is not tolerated: %v", err)
	}
	c.advance(-time.Second)
	_, err := ca.Load(dir, o)
	wantReason(t, err, ca.NotYet, "2026-03-01T10:59:59Z", "set the clock")
}

func TestNeedsRotation(t *testing.T) {
	c := newClock(noon)
	for _, test := range []struct {
		name   string
		before time.Duration
		age    time.Duration
		want   bool
	}{
		{"fresh", 0, 0, false},
		{"a second before the default", 0, 335*24*time.Hour - time.Second, false},
		{"at the default", 0, 335 * 24 * time.Hour, true},
		{"expired", 0, 400 * 24 * time.Hour, true},
		{"own setting", 24 * time.Hour, 363 * 24 * time.Hour, false},
		{"own setting reached", 24 * time.Hour, 364 * 24 * time.Hour, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			c.Store(noon.Unix())
			a := newAuthority(t, ca.Options{Now: c.now, RotateBefore: test.before})
			c.advance(test.age)
			if got := a.NeedsRotation(); got != test.want {
				t.Errorf("got %v", got)
			}
			if got := a.Info().NeedsRotation; got != test.want {
				t.Errorf("Info says %v", got)
			}
		})
	}
}

func TestImpossibleRotations(t *testing.T) {
	dir, path := folder(t)
	before := read(t, path)
	for name, r := range map[string]ca.Rotation{
		"forget and overlap": {Forget: true, Overlap: time.Hour},
		"negative overlap":   {Overlap: -time.Hour},
		"overlap of a year":  {Overlap: 365 * 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ca.Rotate(dir, r, ca.Options{Suffixes: awsSuffixes})
			wantReason(t, err, ca.BadOption)
		})
	}
	_, err := ca.Rotate(dir, ca.Rotation{}, ca.Options{Suffixes: []string{"com"}})
	wantReason(t, err, ca.BadSuffix)
	if !bytes.Equal(before, read(t, path)) {
		t.Error("the file was changed")
	}
}

func TestInfo(t *testing.T) {
	c := newClock(noon)
	a := newAuthority(t, ca.Options{Now: c.now})
	root := a.Roots()[0]
	inter, err := x509.ParseCertificate(certificate(t, a, "s3.amazonaws.com").Certificate[1])
	if err != nil {
		t.Fatal(err)
	}
	start, end := noon.Add(-time.Hour), noon.Add(365*24*time.Hour)
	want := ca.Info{
		Expires:  end,
		Suffixes: []string{"amazonaws.com", "amazonaws.com.cn", "api.aws"},
		Roots: []ca.Certificate{{State: ca.Signing, Subject: root.Subject.CommonName, NotBefore: start, NotAfter: end,
			Serial: root.SerialNumber.Text(16), Fingerprint: ca.Fingerprint(root)}},
		Intermediates: []ca.Certificate{{State: ca.Signing, Subject: inter.Subject.CommonName, NotBefore: start, NotAfter: end,
			Serial: inter.SerialNumber.Text(16), Fingerprint: ca.Fingerprint(inter)}},
	}
	if diff := cmp.Diff(want, a.Info()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Readers never meet half of a rotation: the file is replaced as a whole.
func TestLoadingWhileRotating(t *testing.T) {
	dir, _ := folder(t)
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, err := ca.Load(dir, ca.Options{}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 30 {
		if _, err := ca.Rotate(dir, ca.Rotation{Forget: true}, ca.Options{Suffixes: awsSuffixes}); err != nil {
			t.Error(err)
		}
	}
	close(done)
	readers.Wait()
}
