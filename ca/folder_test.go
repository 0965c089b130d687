package ca_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/countersign-proxy/countersign/ca"
)

// folder makes an authority in a new folder and returns it with its file.
func folder(t *testing.T) (dir, path string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "ca")
	if _, err := ca.Create(dir, ca.Options{Suffixes: awsSuffixes}); err != nil {
		t.Fatal(err)
	}
	return dir, filepath.Join(dir, "authority.pem")
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// blocks returns the PEM blocks of the file, key, intermediate, root first.
func blocks(t *testing.T, path string) [][]byte {
	t.Helper()
	var out [][]byte
	rest := read(t, path)
	for {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			return out
		}
		out = append(out, pem.EncodeToMemory(b))
	}
}

func TestCreateIsForEmptyFolders(t *testing.T) {
	dir, path := folder(t)
	before := read(t, path)
	_, err := ca.Create(dir, ca.Options{Suffixes: awsSuffixes})
	wantReason(t, err, ca.Exists, path, "ca rotate")
	if !bytes.Equal(before, read(t, path)) {
		t.Error("the file was changed")
	}
	wantModes(t, dir)
}

func TestLoadWritesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	_, err := ca.Load(dir, ca.Options{Suffixes: awsSuffixes})
	wantReason(t, err, ca.Missing, dir)
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Error("the folder was made")
	}
}

func TestOpenKeepsWhatIsThere(t *testing.T) {
	dir, path := folder(t)
	before := read(t, path)
	a, err := ca.Open(dir, ca.Options{Suffixes: []string{"example.net"}})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before, read(t, path)) || a.Permits("example.net") {
		t.Error("another authority was made")
	}
	if a.Path() != path {
		t.Errorf("Path is %s", a.Path())
	}
}

func TestDamagedFolders(t *testing.T) {
	other := func(t *testing.T) [][]byte { _, p := folder(t); return blocks(t, p) }
	concat := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for _, test := range []struct {
		name   string
		file   func(t *testing.T, b [][]byte) []byte
		reason ca.Reason
		says   string
	}{
		{"empty", func(t *testing.T, b [][]byte) []byte { return nil }, ca.Damaged, "no PEM block"},
		{"not PEM", func(t *testing.T, b [][]byte) []byte { return []byte("{}") }, ca.Damaged, "no PEM block"},
		{"cut short within the key", func(t *testing.T, b [][]byte) []byte { return b[0][:60] }, ca.Damaged, "no PEM block"},
		{"cut short within the root", func(t *testing.T, b [][]byte) []byte { return concat(b[0], b[1], b[2][:200]) }, ca.Damaged, "of 3 PEM blocks only 2 are whole"},
		{"without the root", func(t *testing.T, b [][]byte) []byte { return concat(b[0], b[1]) }, ca.Damaged, "private key 1 is not followed by"},
		{"without the key", func(t *testing.T, b [][]byte) []byte { return concat(b[1], b[2]) }, ca.Damaged, "does not begin with a private key"},
		{"root before intermediate", func(t *testing.T, b [][]byte) []byte { return concat(b[0], b[2], b[1]) }, ca.Damaged, "not that of the intermediate"},
		{"key of another authority", func(t *testing.T, b [][]byte) []byte { return concat(other(t)[0], b[1], b[2]) }, ca.Damaged, "not that of the intermediate"},
		{"root of another authority", func(t *testing.T, b [][]byte) []byte { return concat(b[0], b[1], other(t)[2]) }, ca.Damaged, "not signed by the root"},
		{"intermediate as an earlier root", func(t *testing.T, b [][]byte) []byte { return concat(b[0], b[1], b[2], b[1]) }, ca.Damaged, "an earlier root"},
		{"key among the earlier roots", func(t *testing.T, b [][]byte) []byte { return concat(b[0], b[1], b[2], b[2], b[0]) }, ca.Damaged, "where only certificates"},
		{"garbled key", func(t *testing.T, b [][]byte) []byte {
			return concat(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("no key")}), b[1], b[2])
		}, ca.Damaged, "the private key cannot be decoded"},
		{"garbled certificate", func(t *testing.T, b [][]byte) []byte {
			return concat(b[0], pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("none")}), b[2])
		}, ca.Damaged, "authority 1"},
		{"key on another curve", func(t *testing.T, b [][]byte) []byte {
			k, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
			der, _ := x509.MarshalPKCS8PrivateKey(k)
			return concat(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), b[1], b[2])
		}, ca.Damaged, "not an ECDSA key on P-256"},
		{"one bit of the signature turned", func(t *testing.T, b [][]byte) []byte {
			block, _ := pem.Decode(b[1])
			block.Bytes[len(block.Bytes)-1] ^= 1
			return concat(b[0], pem.EncodeToMemory(block), b[2])
		}, ca.Damaged, "authority 1"},
		{"far too large", func(t *testing.T, b [][]byte) []byte {
			return concat(b[0], b[1], b[2], bytes.Repeat([]byte("#\n"), 1<<20))
		}, ca.Damaged, "larger than"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir, path := folder(t)
			damaged := test.file(t, blocks(t, path))
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			a, err := ca.Load(dir, ca.Options{})
			if a != nil {
				t.Error("it was loaded")
			}
			wantReason(t, err, test.reason, path, test.says, "restore it")
			if strings.Contains(err.Error(), "PRIVATE KEY-") {
				t.Errorf("the error quotes the file: %v", err)
			}
			_, err = ca.Open(dir, ca.Options{Suffixes: awsSuffixes})
			wantReason(t, err, test.reason)
			_, err = ca.Rotate(dir, ca.Rotation{}, ca.Options{Suffixes: awsSuffixes})
			wantReason(t, err, test.reason)
			if !bytes.Equal(damaged, read(t, path)) {
				t.Fatal("a damaged file was replaced without being asked")
			}
			if _, err = ca.Rotate(dir, ca.Rotation{Forget: true}, ca.Options{Suffixes: awsSuffixes}); err != nil {
				t.Fatalf("it could not be replaced when asked: %v", err)
			}
			if _, err := ca.Load(dir, ca.Options{}); err != nil {
				t.Error(err)
			}
		})
	}
}

// brought makes the file of an authority as an operator could bring along.
func brought(t *testing.T, change func(*x509.Certificate)) []byte {
	t.Helper()
	now := time.Now()
	rootKey, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "corporate root"}, NotBefore: now.Add(-time.Minute), NotAfter: now.Add(time.Hour),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, &rootKey.PublicKey, rootKey)
	if err != nil {
		t.Fatal(err)
	}
	_, four, _ := net.ParseCIDR("0.0.0.0/0")
	_, six, _ := net.ParseCIDR("::/0")
	c := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "ours"}, NotBefore: now.Add(-time.Minute), NotAfter: now.Add(time.Hour),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
		PermittedDNSDomainsCritical: true, PermittedDNSDomains: []string{"amazonaws.com"}, ExcludedIPRanges: []*net.IPNet{four, six}}
	change(c)
	der, err := x509.CreateCertificate(rand.Reader, c, root, &key.PublicKey, rootKey)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, _ := x509.MarshalPKCS8PrivateKey(key)
	var out []byte
	out = append(out, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})...)
	out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	return append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rootDER})...)
}

func TestBroughtAuthorityMustBeConstrained(t *testing.T) {
	_, ten, _ := net.ParseCIDR("10.0.0.0/8")
	for _, test := range []struct {
		name   string
		change func(*x509.Certificate)
		says   string // "" is accepted
	}{
		{"as it should be", func(c *x509.Certificate) {}, ""},
		{"no authority", func(c *x509.Certificate) { c.IsCA, c.MaxPathLenZero = false, false }, "the right to sign certificates"},
		{"no path length", func(c *x509.Certificate) { c.MaxPathLenZero, c.MaxPathLen = false, -1 }, "a path length of 0"},
		{"longer path", func(c *x509.Certificate) { c.MaxPathLen = 1 }, "a path length of 0"},
		{"any key usage", func(c *x509.Certificate) { c.ExtKeyUsage = nil }, "serverAuth alone"},
		{"clients too", func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth) }, "serverAuth alone"},
		{"constraints not critical", func(c *x509.Certificate) { c.PermittedDNSDomainsCritical = false }, "critical name constraints"},
		{"no permitted names", func(c *x509.Certificate) { c.PermittedDNSDomains = nil }, "permitted DNS names"},
		{"a registry", func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"com"} }, "permits too much"},
		{"addresses not excluded", func(c *x509.Certificate) { c.ExcludedIPRanges = nil }, "the exclusion of 0.0.0.0/0, the exclusion of ::/0"},
		{"only some addresses excluded", func(c *x509.Certificate) { c.ExcludedIPRanges[0] = ten }, "the exclusion of 0.0.0.0/0"},
		{"leading dot", func(c *x509.Certificate) { c.PermittedDNSDomains = []string{".amazonaws.com"} }, "verifiers read differently"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Chmod(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "authority.pem"), brought(t, test.change), 0o600); err != nil {
				t.Fatal(err)
			}
			a, err := ca.Load(dir, ca.Options{})
			if test.says == "" {
				if err != nil {
					t.Fatal(err)
				}
				certificate(t, a, "s3.amazonaws.com")
				return
			}
			if a != nil {
				t.Error("it was loaded")
			}
			wantReason(t, err, ca.Unbounded, test.says)
		})
	}
}

func TestPermissions(t *testing.T) {
	for _, test := range []struct {
		name         string
		folder, file fs.FileMode
		says         string // "" is accepted
	}{
		{"as created", 0o700, 0o600, ""},
		{"read-only for the owner", 0o500, 0o400, ""},
		{"group may read (Kubernetes with fsGroup)", 0o750, 0o440, ""},
		{"others may read the file", 0o700, 0o604, "can read it (mode 0604)"},
		{"Kubernetes default mode", 0o700, 0o644, "defaultMode 0400"},
		{"group may write the file", 0o700, 0o620, "can write it (mode 0620)"},
		{"others may write the file", 0o700, 0o602, "can write it (mode 0602)"},
		{"others may enter the folder", 0o701, 0o600, "can read it (mode 0701)"},
		{"others may list the folder", 0o755, 0o600, "can read it (mode 0755)"},
		{"group may write the folder", 0o770, 0o600, "can write it (mode 0770)"},
		{"everybody may write the folder", 0o777 | fs.ModeSticky, 0o600, "can write it (mode 0777)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir, path := folder(t)
			if err := os.Chmod(path, test.file); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(dir, test.folder); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.Chmod(dir, 0o700) })
			a, err := ca.Load(dir, ca.Options{})
			if test.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if a != nil {
				t.Error("it was loaded")
			}
			wantReason(t, err, ca.Exposed, test.says, "chmod")
		})
	}
}

func TestExposedEmptyFolderGetsNoKey(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := ca.Open(dir, ca.Options{Suffixes: awsSuffixes})
	wantReason(t, err, ca.Exposed, "chmod 700 "+dir)
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("it holds %v now", entries)
	}
}

func TestForeignOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	dir, path := folder(t)
	if err := os.Chown(path, 12345, -1); err != nil {
		t.Fatal(err)
	}
	_, err := ca.Load(dir, ca.Options{})
	wantReason(t, err, ca.Exposed, "belongs to user 12345")
}

func TestNotAFolder(t *testing.T) {
	dir, path := folder(t)
	_, err := ca.Load(path, ca.Options{})
	wantReason(t, err, ca.Damaged, "not a folder")
	os.Remove(path)
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err = ca.Load(dir, ca.Options{})
	wantReason(t, err, ca.Damaged, "not a file")
}

func TestLinkedFileIsJudgedByItsTarget(t *testing.T) {
	dir, path := folder(t)
	target := filepath.Join(dir, "target.pem")
	if err := os.Rename(path, target); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("target.pem", path); err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Load(dir, ca.Options{}); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(target, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := ca.Load(dir, ca.Options{})
	wantReason(t, err, ca.Exposed)
}
