package ca

import (
	"bytes"
	"testing"
)

// FuzzParse feeds files to the parser. What it accepts has a key for each
// intermediate and the constraints, and every block of it is accounted for. Run
// it with -fuzzminimizetime 10x: minimizing inputs of kilobytes takes all the time.
func FuzzParse(f *testing.F) {
	a, err := New(Options{Suffixes: []string{"amazonaws.com"}})
	if err != nil {
		f.Fatal(err)
	}
	dir := f.TempDir()
	if err := write(dir, a.signers, a.Roots()); err != nil {
		f.Fatal(err)
	}
	data, err := readLimited(file(dir))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(data[:len(data)/2])
	f.Add(append(bytes.Clone(data), data...))
	f.Add(a.RootPEM())
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parse(data)
		if err != nil {
			return
		}
		blocks := bytes.Count(data, []byte("-----BEGIN "))
		if len(c.signers) == 0 || 3*len(c.signers)+len(c.retired) != blocks {
			t.Fatalf("%d blocks became %d signers and %d roots", blocks, len(c.signers), len(c.retired))
		}
		for _, s := range c.signers {
			if !s.key.PublicKey.Equal(s.intermediate.PublicKey) || bounded(s.intermediate) != nil || s.intermediate.CheckSignatureFrom(s.root) != nil {
				t.Fatal("accepted what does not belong together")
			}
		}
	})
}

// FuzzHostname: what is accepted is in normal form, and cannot be an address.
func FuzzHostname(f *testing.F) {
	for _, s := range []string{"S3.amazonaws.com.", "1.2.3.4", "[::1]", "a..b", "*.b", "xn--bcher-kva.example", "a\x00b.com", "::ffff:1.2.3.4", "_x.y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := hostname(s)
		if err != nil {
			return
		}
		again, err := hostname(name)
		if err != nil || again != name || len(name) > 253 || bytes.ContainsAny([]byte(name), "*: /\x00ABC") {
			t.Fatalf("%q became %q", s, name)
		}
	})
}
