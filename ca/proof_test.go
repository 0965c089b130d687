package ca_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/countersign-proxy/countersign/ca"
)

// attempt is one server with a certificate, and what a client that trusts our
// root must make of it.
type attempt struct {
	title  string
	target string // the name or address that the client wants to talk to
	chain  [][]byte
	key    *ecdsa.PrivateKey
	accept bool
	// why clients refuse: one that is missing here must give a reason of
	// refusal in general (see client.refusal).
	why map[string]string

	port int
}

// thief signs with the stolen key of the intermediate.
type thief struct {
	t            *testing.T
	key          *ecdsa.PrivateKey
	intermediate *x509.Certificate
}

// steal takes the key from the file, as a thief would.
func steal(t *testing.T, path string) *thief {
	t.Helper()
	key, rest := pem.Decode(read(t, path))
	inter, _ := pem.Decode(rest)
	k, err := x509.ParsePKCS8PrivateKey(key.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(inter.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return &thief{t, k.(*ecdsa.PrivateKey), c}
}

// sign returns a certificate, signed by parent or with the stolen key, and its chain.
func (f *thief) sign(change func(*x509.Certificate), parents ...*tls.Certificate) *tls.Certificate {
	f.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.t.Fatal(err)
	}
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{Organization: []string{"thief"}},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	change(c)
	parent, signer, chain := f.intermediate, f.key, [][]byte{f.intermediate.Raw}
	for _, p := range parents {
		parent, signer, chain = p.Leaf, p.PrivateKey.(*ecdsa.PrivateKey), p.Certificate
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		f.t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		f.t.Fatal(err)
	}
	return &tls.Certificate{Certificate: append([][]byte{der}, chain...), PrivateKey: key, Leaf: c}
}

func named(names ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.DNSNames = names }
}

// listen serves the attempt on a port of its own.
func (a *attempt) listen(t *testing.T) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{{Certificate: a.chain, PrivateKey: a.key}},
	})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{
		ErrorLog:          log.New(io.Discard, "", 0), // refusals are what is wanted here
		ReadHeaderTimeout: time.Minute,
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }),
	}
	done := make(chan struct{})
	go func() { server.Serve(l); close(done) }()
	t.Cleanup(func() { server.Close(); <-done })
	a.port = l.Addr().(*net.TCPAddr).Port
}

func attempts(t *testing.T, a *ca.Authority, path string) []*attempt {
	t.Helper()
	thief := steal(t, path)
	of := func(title, target string, c *tls.Certificate, accept bool, why map[string]string) *attempt {
		return &attempt{title: title, target: target, chain: c.Certificate, key: c.PrivateKey.(*ecdsa.PrivateKey), accept: accept, why: why}
	}
	permitted := map[string]string{"openssl": "permitted subtree violation", "node": "permitted subtree violation", "java": "[Nn]ame constraints", "go": "is not permitted by any constraint"}
	excluded := map[string]string{"openssl": "excluded subtree violation", "node": "excluded subtree violation", "java": "[Nn]ame constraints", "go": "excluded by constraint"}
	sub := thief.sign(func(c *x509.Certificate) {
		c.Subject.CommonName, c.IsCA, c.KeyUsage, c.MaxPathLen = "sub-authority", true, x509.KeyUsageCertSign, -1
	})
	list := []*attempt{
		of("issued by us", "sts.us-east-1.amazonaws.com", certificate(t, a, "sts.us-east-1.amazonaws.com"), true, nil),
		of("issued by us, another suffix", "lambda.eu-west-1.api.aws", certificate(t, a, "lambda.eu-west-1.api.aws"), true, nil),
		of("stolen key, permitted name", "s3.eu-west-1.amazonaws.com", thief.sign(named("s3.eu-west-1.amazonaws.com")), true, nil),
		of("stolen key, foreign name", "example.com", thief.sign(named("example.com")), false, permitted),
		of("stolen key, foreign name beside a permitted one", "www.example.com", thief.sign(named("s3.amazonaws.com", "www.example.com")), false, permitted),
		of("stolen key, wildcard", "login.example.com", thief.sign(named("*.example.com")), false, permitted),
		of("stolen key, permitted name within a foreign one", "s3.amazonaws.com.example.com", thief.sign(named("s3.amazonaws.com.example.com")), false, permitted),
		of("stolen key, alike name", "evilamazonaws.com", thief.sign(named("evilamazonaws.com")), false, permitted),
		of("stolen key, name in the common name only", "cn.example.com", thief.sign(func(c *x509.Certificate) { c.Subject.CommonName = "cn.example.com" }), false,
			map[string]string{"go": "legacy Common Name"}),
		of("stolen key, IP address", "127.0.0.1", thief.sign(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} }), false, excluded),
		of("stolen key, IP address beside a permitted name", "127.0.0.2", thief.sign(func(c *x509.Certificate) {
			c.IPAddresses, c.DNSNames = []net.IP{net.IPv4(127, 0, 0, 2)}, []string{"s3.amazonaws.com"}
		}), false, excluded),
		of("stolen key, IPv6 address", "2001:db8::1", thief.sign(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.ParseIP("2001:db8::1")} }), false, excluded),
		of("stolen key, further authority", "sub.example.com", thief.sign(named("sub.example.com"), sub), false, nil),
		of("stolen key, further authority, permitted name", "sub.s3.amazonaws.com", thief.sign(named("sub.s3.amazonaws.com"), sub), false,
			map[string]string{"openssl": "path length constraint exceeded", "node": "path length constraint exceeded", "java": "basic constraints|path length", "go": "too many intermediates"}),
	}
	for _, x := range list {
		x.listen(t)
	}
	return list
}

// client is a program that connects to all attempts and returns, for each
// target, "accepted" or "refused" and the reason.
type client struct {
	name    string
	needs   []string
	refusal string // what its refusals of a certificate look like
	run     func(t *testing.T, trust string, list []*attempt) map[string]string
}

// command runs a program that knows no other trust than what it is given.
func command(t *testing.T, extra []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "LC_ALL=C"}, extra...)
	out, _ := cmd.CombinedOutput() // a refusal is a failure to some; the output tells
	return string(out)
}

func lines(out string) map[string]string {
	verdicts := map[string]string{}
	for line := range strings.Lines(out) {
		if name, verdict, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			verdicts[name] = verdict
		}
	}
	return verdicts
}

func pairs(list []*attempt) []string {
	var out []string
	for _, a := range list {
		out = append(out, fmt.Sprintf("%s=%d", a.target, a.port))
	}
	return out
}

func java(option, file string) func(t *testing.T, trust string, list []*attempt) map[string]string {
	return func(t *testing.T, trust string, list []*attempt) map[string]string {
		args := []string{option + filepath.Join(filepath.Dir(trust), file), "-Djavax.net.ssl.trustStorePassword=changeit", "testdata/clients/Client.java"}
		return lines(command(t, nil, "java", append(args, pairs(list)...)...))
	}
}

const javaRefusal = "SSLHandshakeException.*(PKIX|CertPath|Certificate)"

var clients = []client{
	{"go", nil, "x509: ", func(t *testing.T, trust string, list []*attempt) map[string]string {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(read(t, trust))
		verdicts := map[string]string{}
		for _, a := range list {
			conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", a.port), &tls.Config{RootCAs: roots, ServerName: a.target})
			if err != nil {
				verdicts[a.target] = "refused " + err.Error()
				continue
			}
			conn.Close()
			verdicts[a.target] = "accepted"
		}
		return verdicts
	}},
	{"openssl", []string{"openssl"}, "verify error|verification error|Verify return code: [1-9]", func(t *testing.T, trust string, list []*attempt) map[string]string {
		verdicts := map[string]string{}
		for _, a := range list {
			args := []string{"s_client", "-connect", fmt.Sprintf("127.0.0.1:%d", a.port), "-CAfile", trust, "-no-CApath", "-no-CAstore", "-verify_return_error", "-purpose", "sslserver"}
			if net.ParseIP(a.target) != nil {
				args = append(args, "-noservername", "-verify_ip", a.target)
			} else {
				args = append(args, "-servername", a.target, "-verify_hostname", a.target)
			}
			out := command(t, nil, "openssl", args...)
			if strings.Contains(out, "Verify return code: 0 (ok)") && !strings.Contains(out, "verify error") {
				verdicts[a.target] = "accepted"
			} else {
				verdicts[a.target] = "refused " + strings.ReplaceAll(out, "\n", " ")
			}
		}
		return verdicts
	}},
	{"node", []string{"node"}, "refused ([A-Z_]*CERT|[A-Z_]*ISSUER|UNSPECIFIED|INVALID|ERR_TLS_CERT|PATH)", func(t *testing.T, trust string, list []*attempt) map[string]string {
		return lines(command(t, []string{"NODE_EXTRA_CA_CERTS=" + trust}, "node", append([]string{"testdata/clients/client.js"}, pairs(list)...)...))
	}},
	{"java", []string{"java", "javac"}, javaRefusal, java("-Djavax.net.ssl.trustStore=", "trust.p12")},
	{"java", []string{"java", "javac"}, javaRefusal, java("-Djavax.net.ssl.trustStore=", "trust.jks")},
}

// need skips where a program is missing, except in CI.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s is needed for this proof: %v", p, err)
			}
			t.Skipf("%s is not installed, so nothing is proved about it", p)
		}
	}
}

// trustFiles writes what clients need to trust a into a folder, in every format.
func trustFiles(t *testing.T, a *ca.Authority) string {
	t.Helper()
	dir := t.TempDir()
	p12, err := a.Own().PKCS12("")
	if err != nil {
		t.Fatal(err)
	}
	jks, err := a.Own().JKS("", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "trust.p12"), p12)
	put(t, filepath.Join(dir, "trust.jks"), jks)
	return put(t, filepath.Join(dir, "trust.pem"), a.Own().PEM())
}

// TestStolenKeyIsWorthNothingElsewhere is the promise that name constraints
// make, asked of verifiers that are not ours: they accept what we issue, and
// what a thief signs for the same names (which shows that the thief's other
// certificates are refused for their names and not for something else), and
// refuse everything else that the thief signs.
func TestStolenKeyIsWorthNothingElsewhere(t *testing.T) {
	dir, path := folder(t)
	a, err := ca.Load(dir, ca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	list := attempts(t, a, path)
	trust := trustFiles(t, a)
	foreign := trustFiles(t, newAuthority(t, ca.Options{}))
	for i, c := range clients {
		t.Run(fmt.Sprintf("%s %d", c.name, i), func(t *testing.T) {
			need(t, c.needs...)
			verdicts := c.run(t, trust, list)
			for _, x := range list {
				check(t, c, x, verdicts[x.target], x.accept, x.why[c.name])
			}
			// Without our root in its trust, it accepts nothing of ours.
			for target, verdict := range c.run(t, foreign, list[:1]) {
				check(t, c, list[0], verdict, false, "")
				if target != list[0].target {
					t.Errorf("talked of %q", target)
				}
			}
		})
	}
}

func check(t *testing.T, c client, x *attempt, verdict string, accept bool, why string) {
	t.Helper()
	if accept {
		if verdict != "accepted" {
			t.Errorf("%s: %s for %s: %s", c.name, x.title, x.target, verdict)
		}
		return
	}
	refused := strings.HasPrefix(verdict, "refused ") && regexp.MustCompile(c.refusal).MatchString(verdict)
	if !refused || !regexp.MustCompile(why).MatchString(verdict) {
		t.Errorf("%s: %s for %s: got %q, want a refusal that says %q", c.name, x.title, x.target, verdict, why)
	}
}

// TestRotationIsAcceptedByOldAndNewBundles asks the verifiers during a rotation.
func TestRotatedBundleIsAcceptedForBothAuthorities(t *testing.T) {
	dir, _ := folder(t)
	old, err := ca.Load(dir, ca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	renewed, err := ca.Rotate(dir, ca.Rotation{}, ca.Options{Suffixes: awsSuffixes})
	if err != nil {
		t.Fatal(err)
	}
	var list []*attempt
	for host, a := range map[string]*ca.Authority{"old.amazonaws.com": old, "new.amazonaws.com": renewed} {
		c := certificate(t, a, host)
		x := &attempt{title: "during rotation", target: host, chain: c.Certificate, key: c.PrivateKey.(*ecdsa.PrivateKey), accept: true}
		x.listen(t)
		list = append(list, x)
	}
	trust := trustFiles(t, renewed)
	for i, c := range clients {
		t.Run(fmt.Sprintf("%s %d", c.name, i), func(t *testing.T) {
			need(t, c.needs...)
			verdicts := c.run(t, trust, list)
			for _, x := range list {
				check(t, c, x, verdicts[x.target], true, "")
			}
		})
	}
}

// TestKeytoolReadsTheStores: Java's own tool lists both formats with our root.
func TestKeytoolReadsTheStores(t *testing.T) {
	need(t, "keytool")
	a := newAuthority(t, ca.Options{})
	trust := trustFiles(t, a)
	for _, store := range []string{"trust.p12", "trust.jks"} {
		out := command(t, nil, "keytool", "-list", "-keystore", filepath.Join(filepath.Dir(trust), store), "-storepass", "changeit")
		if !strings.Contains(out, ca.Fingerprint(a.Roots()[0])) || !strings.Contains(out, "trustedCertEntry") {
			t.Errorf("%s: %s", store, out)
		}
	}
}

// TestFullBundleStaysUsable: OpenSSL and Java read the bundle with all public roots.
func TestFullBundleStaysUsable(t *testing.T) {
	a := newAuthority(t, ca.Options{})
	b, err := a.Trust(ca.TrustOptions{})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	pemFile := put(t, filepath.Join(dir, "bundle.pem"), b.PEM())
	t.Run("openssl", func(t *testing.T) {
		need(t, "openssl")
		if out := command(t, nil, "openssl", "storeutl", "-noout", "-certs", pemFile); !strings.Contains(out, fmt.Sprintf("Total found: %d", b.Len())) {
			t.Errorf("want %d certificates: %s", b.Len(), out)
		}
	})
	t.Run("keytool", func(t *testing.T) {
		need(t, "keytool")
		p12, err := b.PKCS12("")
		if err != nil {
			t.Fatal(err)
		}
		jks, err := b.JKS("", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		for name, data := range map[string][]byte{"full.p12": p12, "full.jks": jks} {
			out := command(t, nil, "keytool", "-list", "-keystore", put(t, filepath.Join(dir, name), data), "-storepass", "changeit")
			if !strings.Contains(out, fmt.Sprintf("contains %d entries", b.Len())) {
				t.Errorf("%s: want %d entries: %s", name, b.Len(), out[:min(len(out), 400)])
			}
		}
	})
}
