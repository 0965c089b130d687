package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"encoding/xml"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// listenerCertificate makes the certificate of a proxy listener, of an authority
// that is neither countersign's nor AWS's.
func listenerCertificate(t testing.TB, dir string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "gateway"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	if err := errors.Join(
		os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	return certFile, keyFile
}

// serveTLS runs a proxy for other machines, with a certificate for localhost.
func serveTLS(t testing.TB, u *upstream, dir, more string) (p *proxy, port, certFile, keyFile string) {
	t.Helper()
	certFile, keyFile = listenerCertificate(t, dir)
	address, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	if _, port, err = net.SplitHostPort(address); err != nil {
		t.Fatal(err)
	}
	return serve(t, u, "listen: \"0.0.0.0:"+port+"\"\ntls: {cert_file: "+certFile+", key_file: "+keyFile+"}\n"+more), port, certFile, keyFile
}

// joinFiles writes one file of several, and returns its path.
func joinFiles(t testing.TB, path string, files ...string) string {
	t.Helper()
	var all []byte
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, text...)
	}
	if err := os.WriteFile(path, all, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The proxy listener speaks TLS where it is not on loopback: HTTPS_PROXY is then
// an https:// URL.
func TestProxyOverTLS(t *testing.T) {
	t.Parallel()
	u := strictMoto(t)
	dir := t.TempDir()
	p, port, certFile, _ := serveTLS(t, u, dir, "")

	// One bundle for both: that of AWS's names, and the gateway's own.
	bundle := joinFiles(t, filepath.Join(dir, "both.pem"), p.bundle, certFile)
	keys := p.clients["ci"]
	w := way{name: "through a TLS proxy", audit: p.audit, env: slices.Concat(bareEnvironment(dir), trustEnvironment(bundle), []string{
		"HTTPS_PROXY=https://localhost:" + port,
		"AWS_ACCESS_KEY_ID=" + keys.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + keys.SecretAccessKey,
	})}

	t.Run("many calls", func(t *testing.T) { w.must(t, dir, nil, sdkClient) })
	for name, run := range callers(t) {
		t.Run(name, func(t *testing.T) {
			if r := run(t, w, []string{"PROXY_CA=" + certFile}); !strings.Contains(r.stdout, "assumed-role/Deploy/") {
				t.Errorf("the caller is %s%s", r.stdout, r.stderr)
			}
		})
	}
	t.Run("plain", func(t *testing.T) {
		if r := w.run(t, dir, []string{"HTTPS_PROXY=http://localhost:" + port}, sdkClient); r.code == 0 {
			t.Error("the listener speaks plain HTTP too")
		}
	})
}

// A balancer passes TCP connections to the replicas that are up, in turn, as a
// Service of Kubernetes does.
type balancer struct {
	address string
	mu      sync.Mutex
	targets []string
	next    int
}

func balance(t testing.TB, targets ...string) *balancer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &balancer{address: l.Addr().String(), targets: targets}
	var open sync.WaitGroup
	t.Cleanup(func() { l.Close(); open.Wait() })
	open.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() { b.pass(in) })
		}
	})
	return b
}

func (b *balancer) pass(in net.Conn) {
	defer in.Close()
	for range 4 { // a target that refuses is one that is down
		b.mu.Lock()
		if len(b.targets) == 0 {
			b.mu.Unlock()
			return
		}
		target := b.targets[b.next%len(b.targets)]
		b.next++
		b.mu.Unlock()
		out, err := net.Dial("tcp", target)
		if err != nil {
			continue
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			io.Copy(out, in)
			out.(*net.TCPConn).CloseWrite()
		}()
		io.Copy(in, out)
		in.(*net.TCPConn).CloseWrite()
		in.Close()
		out.Close()
		<-done
		return
	}
}

func (b *balancer) set(targets ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.targets = targets
}

// replicas starts gateways that share CA and sealing key and nothing else.
func replicas(t testing.TB, u *upstream, n int) (out []*proxy) {
	t.Helper()
	shared := t.TempDir()
	key := filepath.Join(shared, "sealing.key")
	if err := os.WriteFile(key, []byte("q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	more := "ca: {dir: " + filepath.Join(shared, "ca") + "}\nsealing_keys: [" + key + "]\n" +
		"roles: {deploy: {arn: \"" + deployARN + "\"}, source: {arn: \"\", assume: [\"" + deployARN + "\"]}}\n"
	for range n {
		out = append(out, serve(t, u, more))
	}
	return out
}

// virtual gets a virtual session: real AWS would answer with real credentials.
func virtual(t testing.TB, client *http.Client, source aws.Credentials) aws.Credentials {
	t.Helper()
	form := url.Values{"Action": {"AssumeRole"}, "Version": {"2011-06-15"}, "RoleArn": {deployARN}, "RoleSessionName": {"fleet"}}
	request, err := signedRequest(source, "sts", "https://sts.us-east-1.amazonaws.com/", form.Encode())
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Credentials struct {
			AccessKeyID     string `xml:"AccessKeyId"`
			SecretAccessKey string
			SessionToken    string
		} `xml:"AssumeRoleResult>Credentials"`
	}
	if err := xml.Unmarshal(body, &answer); err != nil || !strings.HasPrefix(answer.Credentials.AccessKeyID, "CSIG") {
		t.Fatalf("%s: %v\n%s", response.Status, err, body)
	}
	c := answer.Credentials
	return aws.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, SessionToken: c.SessionToken}
}

// A load makes calls through a proxy until it is stopped.
type load struct {
	stop            func()
	calls, failures atomic.Int64
	again           atomic.Int64 // calls that met a connection which was just being closed
	first           atomic.Pointer[failure]
}

type failure struct {
	at  time.Time
	err error
}

func (f *failure) String() string { return f.err.Error() }

func startLoad(p *proxy, address string, keys aws.Credentials, workers int) *load {
	return startLoadTo(&url.URL{Scheme: "http", Host: address}, p.roots, keys, workers)
}

func startLoadTo(way *url.URL, roots *x509.CertPool, keys aws.Credentials, workers int) *load {
	l := new(load)
	var ended atomic.Bool
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			client := &http.Client{Timeout: patience, Transport: &http.Transport{
				Proxy:           http.ProxyURL(way),
				TLSClientConfig: &tls.Config{RootCAs: roots},
			}}
			defer client.CloseIdleConnections()
			for n := 0; !ended.Load(); n++ {
				err := callerIs(client, keys, "assumed-role/Deploy/fleet")
				// A request may cross the end of its idle connection. net/http does not send
				// a POST again by itself; SDKs do, once the answer has not begun.
				if errors.Is(err, io.EOF) || err != nil && strings.Contains(err.Error(), "server closed idle connection") {
					l.again.Add(1)
					err = callerIs(client, keys, "assumed-role/Deploy/fleet")
				}
				if err != nil {
					l.first.CompareAndSwap(nil, &failure{time.Now(), err})
					l.failures.Add(1)
				}
				l.calls.Add(1)
				if n%20 == 19 { // clients come and go
					client.CloseIdleConnections()
				}
			}
		})
	}
	l.stop = sync.OnceFunc(func() { ended.Store(true); running.Wait() })
	return l
}

func callerIs(client *http.Client, keys aws.Credentials, want string) error {
	request, err := signedRequest(keys, "sts", "https://sts.us-east-1.amazonaws.com/", "Action=GetCallerIdentity&Version=2011-06-15")
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
		return errors.New(response.Status + ": " + string(body))
	}
	return nil
}

// calls waits until so many more calls were made.
func (l *load) wait(t testing.TB, more int64) {
	t.Helper()
	want := l.calls.Load() + more
	for deadline := time.Now().Add(5 * patience); l.calls.Load() < want; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("only %d of %d calls in %s", l.calls.Load(), want, 5*patience)
		}
	}
}

// A replica that is replaced in order fails nobody: the balancer sends it no
// more connections, and it ends what it has begun. Its last answer on each
// connection says so, and clients open another one.
func TestReplicaIsReplacedUnderLoad(t *testing.T) {
	t.Parallel()
	u := strictMoto(t)
	fleet := replicas(t, u, 3)
	b := balance(t, fleet[0].address, fleet[1].address)
	session := virtual(t, &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(fleet[0].url()), TLSClientConfig: &tls.Config{RootCAs: fleet[0].roots}}}, clientKeys["source"])
	l := startLoad(fleet[0], b.address, session, 4)
	defer l.stop()
	total := int64(1000)
	if testing.Short() {
		total = 200
	}
	l.wait(t, total/4)
	b.set(fleet[1].address, fleet[2].address) // the new one is ready, the old one gets nothing more
	l.wait(t, 20)
	if err := fleet[0].terminate(); err != nil {
		t.Fatal(err)
	}
	l.wait(t, total/2)
	b.set(fleet[2].address)
	if err := fleet[1].terminate(); err != nil {
		t.Fatal(err)
	}
	l.wait(t, total/4)
	l.stop()
	fleet[0].stop(t)
	fleet[1].stop(t)
	if failures := l.failures.Load(); failures != 0 {
		t.Errorf("%d of %d calls failed, the first with: %s", failures, l.calls.Load(), l.first.Load())
	}
	// Answers said that their connections end, before any of them did.
	if again := l.again.Load(); again != 0 {
		t.Errorf("%d of %d requests met the end of their connection", again, l.calls.Load())
	}
	t.Logf("%d calls, %d failures", l.calls.Load(), l.failures.Load())
}

// A replica that is killed takes with it what was under way there. Sessions go
// on at the other one, and SDKs retry what failed.
func TestReplicaIsKilled(t *testing.T) {
	t.Parallel()
	u := strictMoto(t)
	fleet := replicas(t, u, 2)
	b := balance(t, fleet[0].address, fleet[1].address)
	session := virtual(t, &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(fleet[0].url()), TLSClientConfig: &tls.Config{RootCAs: fleet[0].roots}}}, clientKeys["source"])
	const workers = 4
	l := startLoad(fleet[0], b.address, session, workers)
	defer l.stop()
	l.wait(t, 200)

	dir := t.TempDir()
	w := way{name: "SDK", env: slices.Concat(bareEnvironment(dir), trustEnvironment(fleet[0].bundle), []string{
		"HTTPS_PROXY=http://" + b.address,
		"AWS_ACCESS_KEY_ID=" + session.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + session.SecretAccessKey, "AWS_SESSION_TOKEN=" + session.SessionToken,
	})}
	sdk := make(chan result, 1)
	go func() { sdk <- w.run(t, dir, nil, sdkClient) }()

	if err := fleet[1].process.Kill(); err != nil {
		t.Fatal(err)
	}
	fleet[1].recordLost = true // with it, the end of its process is an error, as it should be
	l.wait(t, 200)
	l.stop()
	if failures := l.failures.Load(); failures > workers {
		t.Errorf("%d of %d calls failed, and only %d were under way: %s", failures, l.calls.Load(), workers, l.first.Load())
	}
	if r := <-sdk; r.code != 0 {
		t.Errorf("the SDK's retries do not hide it: %s", r.stderr)
	}
	t.Logf("%d calls, %d failures", l.calls.Load(), l.failures.Load())
}
