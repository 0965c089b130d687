package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

const (
	account   = "123456789012"
	region    = "us-east-1"
	deployARN = "arn:aws:iam::" + account + ":role/Deploy"
)

// A pki is the authority that the stand-ins' certificates come from: the
// "public" root which clients and proxy must be told to trust.
type pki struct {
	rootFile          string // PEM
	certFile, keyFile string // one certificate for every host of the stand-ins
	roots             *x509.CertPool
	certificate       tls.Certificate
}

var testPKI = sync.OnceValues(func() (*pki, error) {
	now := time.Now()
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	root := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "e2e root"},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, rootKey.Public(), rootKey)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2),
		Subject:      pkix.Name{CommonName: "e2e stand-in"},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(23 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		// A wildcard stands for one label only.
		DNSNames: []string{
			"*.amazonaws.com",
			"*.us-east-1.amazonaws.com", "*.s3.us-east-1.amazonaws.com", "*.s3.amazonaws.com",
			"*.eu-west-1.amazonaws.com", "*.s3.eu-west-1.amazonaws.com",
			"strict.invalid",
		},
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, key.Public(), rootKey)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	p := &pki{
		rootFile:    filepath.Join(scratch, "root.pem"),
		certFile:    filepath.Join(scratch, "server.pem"),
		keyFile:     filepath.Join(scratch, "server.key"),
		roots:       x509.NewCertPool(),
		certificate: tls.Certificate{Certificate: [][]byte{leafDER, rootDER}, PrivateKey: key},
	}
	rootPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rootDER})
	leafPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leafDER})
	p.roots.AppendCertsFromPEM(rootPEM)
	return p, errors.Join(
		os.WriteFile(p.rootFile, rootPEM, 0o600),
		os.WriteFile(p.certFile, append(leafPEM, rootPEM...), 0o600),
		os.WriteFile(p.keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600),
	)
})

func thePKI(t testing.TB) *pki {
	t.Helper()
	p, err := testPKI()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// An upstream stands where AWS would: an address, and keys that it knows.
type upstream struct {
	name    string
	address string
	keys    aws.Credentials
	admin   *http.Client // strict moto only
}

// A seen is one request as strict moto received it.
type seen struct {
	Seq         int
	Method      string
	Host        string
	Target      string
	Headers     [][2]string
	BodyLength  int64  `json:"body_length"`
	BodySHA256  string `json:"body_sha256"`
	AccessKeyID string `json:"access_key_id"`
	ARN         string
	Service     string
	Region      string
	Presigned   bool
	Refused     string
}

func (s seen) header(name string) (values []string) {
	for _, h := range s.Headers {
		if strings.EqualFold(h[0], name) {
			values = append(values, h[1])
		}
	}
	return values
}

var startStrictMoto = sync.OnceValues(func() (*upstream, error) {
	p, err := testPKI()
	if err != nil {
		return nil, err
	}
	interpreter := os.Getenv("COUNTERSIGN_PYTHON")
	if interpreter == "" {
		interpreter = filepath.Join("..", ".tools", "venv", "bin", "python")
	}
	command := exec.Command(interpreter, "strictmoto.py", "--cert", p.certFile, "--key", p.keyFile)
	command.Env = bareEnvironment(scratch)
	diagnostics, err := os.Create(filepath.Join(scratch, "strictmoto.log"))
	if err != nil {
		return nil, err
	}
	command.Stderr = diagnostics
	// The server ends when this pipe closes, however this process ends.
	stdin, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	atEnd(func() {
		stdin.Close()
		command.Wait()
		diagnostics.Close()
	})
	var ready struct {
		Address         string
		AccessKeyID     string `json:"access_key_id"`
		SecretAccessKey string `json:"secret_access_key"`
	}
	if err := json.NewDecoder(bufio.NewReader(stdout)).Decode(&ready); err != nil {
		text, _ := os.ReadFile(diagnostics.Name())
		return nil, fmt.Errorf("strictmoto did not start: %w\n%s", err, text)
	}
	return &upstream{
		name:    "strict moto",
		address: ready.Address,
		keys:    aws.Credentials{AccessKeyID: ready.AccessKeyID, SecretAccessKey: ready.SecretAccessKey},
		admin:   dialOnly(ready.Address, p.roots),
	}, nil
})

func strictMoto(t testing.TB) *upstream {
	t.Helper()
	python(t)
	u, err := startStrictMoto()
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// dialOnly is a client whose every connection goes to one address.
func dialOnly(address string, roots *x509.CertPool) *http.Client {
	return &http.Client{
		Timeout: patience,
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", address)
			},
			TLSClientConfig: &tls.Config{RootCAs: roots},
		},
	}
}

func (u *upstream) ask(t testing.TB, path string, answer any) {
	t.Helper()
	response, err := u.admin.Get("https://strict.invalid" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
		t.Fatal(err)
	}
}

// since returns what arrived after a mark.
func (u *upstream) since(t testing.TB, mark int) (requests []seen) {
	t.Helper()
	u.ask(t, fmt.Sprintf("/log?since=%d", mark), &requests)
	return requests
}

// mark returns the present end of the log.
func (u *upstream) mark(t testing.TB) (mark int) {
	t.Helper()
	u.ask(t, "/mark", &mark)
	return mark
}

// secrets returns every secret key and session token that exists there: what a
// client must never see.
func (u *upstream) secrets(t testing.TB) (secrets []string) {
	t.Helper()
	u.ask(t, "/secrets", &secrets)
	return secrets
}

var startVersity = sync.OnceValues(func() (*upstream, error) {
	p, err := testPKI()
	if err != nil {
		return nil, err
	}
	path, err := filepath.Abs(filepath.Join("..", ".tools", "bin", "versitygw"))
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); err != nil {
		if path, err = exec.LookPath("versitygw"); err != nil {
			return nil, err
		}
	}
	data, sidecar := filepath.Join(scratch, "versity"), filepath.Join(scratch, "sidecar")
	if err := errors.Join(os.Mkdir(data, 0o700), os.Mkdir(sidecar, 0o700)); err != nil {
		return nil, err
	}
	// The gateway takes no port 0, so a port is picked and it is tried again
	// should somebody else take that port in between.
	var failures []error
	for range 3 {
		address, err := freeAddress()
		if err != nil {
			return nil, err
		}
		u := &upstream{
			name:    "versitygw",
			address: address,
			keys:    aws.Credentials{AccessKeyID: "AKIAVERSITYROOTUSER1", SecretAccessKey: "versity-root-secret-0123456789abcdef"},
		}
		var output bytes.Buffer
		command := exec.Command(path, "--port", address, "--cert", p.certFile, "--key", p.keyFile,
			"--virtual-domain", "s3.us-east-1.amazonaws.com", "posix", "--sidecar", sidecar, data)
		command.Env = append(bareEnvironment(scratch),
			"ROOT_ACCESS_KEY="+u.keys.AccessKeyID, "ROOT_SECRET_KEY="+u.keys.SecretAccessKey)
		command.Stdout, command.Stderr = &output, &output
		dieWithParent(command)
		if err := command.Start(); err != nil {
			return nil, err
		}
		ended := make(chan error, 1)
		go func() { ended <- command.Wait() }()
		if err := answers(address, p.roots, ended); err != nil {
			failures = append(failures, fmt.Errorf("%w\n%s", err, output.String()))
			command.Process.Kill()
			continue
		}
		atEnd(func() { command.Process.Kill(); <-ended })
		return u, nil
	}
	return nil, errors.Join(failures...)
})

func versity(t testing.TB) *upstream {
	t.Helper()
	tool(t, "versitygw")
	u, err := startVersity()
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// lastPort is the port that freeAddress looked at last.
var lastPort = func() *atomic.Uint32 {
	var port atomic.Uint32
	port.Store(mathrand.Uint32N(firstEphemeral - firstPort))
	return &port
}()

// The ports of freeAddress lie below those that systems hand out by themselves, to
// listeners on port 0 and to every connection that is made (Linux from 32768, others
// from 49152), so nothing takes one between its choice and its use.
const firstPort, firstEphemeral = 20000, 32768

// freeAddress returns a loopback address that nobody listens on. It gives each address
// to one test only, since the program that will listen there may start late.
func freeAddress() (string, error) {
	var err error
	for range 100 {
		port := firstPort + lastPort.Add(1)%(firstEphemeral-firstPort)
		var listener net.Listener
		if listener, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return listener.Addr().String(), listener.Close()
		}
	}
	return "", err
}

// answers waits until an HTTPS server answers anything at all.
func answers(address string, roots *x509.CertPool, ended <-chan error) error {
	client := dialOnly(address, roots)
	defer client.CloseIdleConnections()
	deadline := time.After(patience)
	for {
		response, err := client.Get("https://s3.us-east-1.amazonaws.com/")
		if err == nil {
			io.Copy(io.Discard, response.Body)
			return response.Body.Close()
		}
		select {
		case err := <-ended:
			return fmt.Errorf("it ended: %v", err)
		case <-deadline:
			return fmt.Errorf("no answer in %s: %w", patience, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// A tunnel is a forward proxy that passes bytes through untouched to one
// upstream, whatever the CONNECT names: the direct call that a call through
// countersign is compared with.
func tunnel(t testing.TB, u *upstream) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			http.Error(w, "CONNECT only", http.StatusMethodNotAllowed)
			return
		}
		passThrough(w, u.address)
	})}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return listener.Addr().String()
}

// passThrough answers a CONNECT and moves its bytes to and from an address, until
// both ends have closed.
func passThrough(w http.ResponseWriter, address string) {
	out, err := net.Dial("tcp", address)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer out.Close()
	in, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer in.Close()
	io.WriteString(in, "HTTP/1.1 200 OK\r\n\r\n")
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(out, buffered)
		out.(*net.TCPConn).CloseWrite()
	}()
	io.Copy(in, out)
	in.Close()
	<-done
}

func readPool(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", file)
	}
	return roots, nil
}
