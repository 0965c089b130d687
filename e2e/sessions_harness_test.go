package e2e

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	readARN  = "arn:aws:iam::" + account + ":role/Read"
	podsARN  = "arn:aws:iam::" + account + ":role/Pods"
	adminARN = "arn:aws:iam::" + account + ":role/Admin" // nobody was granted it
)

// spokeARN is a role of another account that may be chained from Deploy.
func spokeARN(account string) string { return "arn:aws:iam::" + account + ":role/Spoke" }

// An oidc is an issuer of web identity tokens: discovery and keys over https, as
// a Kubernetes API server or a CI service has them.
type oidc struct {
	server *httptest.Server
	key    *ecdsa.PrivateKey
	roots  string // PEM file

	mu    sync.Mutex
	asked []string
}

func startOIDC(t testing.TB) *oidc {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i := &oidc{key: key, roots: filepath.Join(t.TempDir(), "issuer.pem")}
	i.server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		i.asked = append(i.asked, r.URL.Path)
		i.mu.Unlock()
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			json.NewEncoder(w).Encode(map[string]string{"issuer": i.server.URL, "jwks_uri": i.server.URL + "/keys"})
		case "/keys":
			json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "one", Use: "sig", Algorithm: "ES256"}}})
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(i.server.Close)
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.server.Certificate().Raw})
	if err := os.WriteFile(i.roots, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return i
}

// token makes one as a Kubernetes service account has it. Claims replace those of
// the same name.
func (i *oidc) token(t testing.TB, claims map[string]any) string {
	t.Helper()
	all := map[string]any{
		"iss": i.server.URL, "aud": []string{"countersign"}, "sub": "system:serviceaccount:prod:web",
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
		"kubernetes.io": map[string]any{"namespace": "prod", "serviceaccount": map[string]string{"name": "web"}},
	}
	maps.Copy(all, claims)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: i.key, KeyID: "one"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(all).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// tokenFile writes a token where AWS_WEB_IDENTITY_TOKEN_FILE can name it.
func (i *oidc) tokenFile(t testing.TB, claims map[string]any) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(i.token(t, claims)), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// serveSessions starts a proxy whose clients ask STS for roles. "ci" has Deploy,
// from which roles named Spoke of any account may be chained, and Read; "other"
// has Read alone; "source" signs with the source credentials; "local" has Deploy;
// pods of the namespace prod have Pods.
func serveSessions(t testing.TB, u *upstream, issuer *oidc, more string, env ...string) *proxy {
	t.Helper()
	return serveSessionsBy(t, "", u, issuer, more, env...)
}

func serveSessionsBy(t testing.TB, program string, u *upstream, issuer *oidc, more string, env ...string) *proxy {
	t.Helper()
	other := keysFor("other")
	file := filepath.Join(t.TempDir(), "other.key")
	if err := os.WriteFile(file, []byte(other.SecretAccessKey), 0o600); err != nil {
		t.Fatal(err)
	}
	p := serveBy(t, program, u, fmt.Sprintf(`roles:
  deploy:
    arn: %q
    duration: 2h
    assume: ["arn:aws:iam::*:role/Spoke"]
    source_identity: "{{ .Identity.Name }}"
    tags: {identity: "{{ .Identity.Name }}"}
  read: {arn: %q}
  pods: {arn: %q, client_session_name: prefix}
  source: {arn: ""}
identities:
  ci: {roles: [deploy, read], credentials: [{access_key_id: %s, secret_access_key_file: ci.key}]}
  other: {roles: [read], credentials: [{access_key_id: %s, secret_access_key_file: %s}]}
  source: {roles: [source], credentials: [{access_key_id: %s, secret_access_key_file: source.key}]}
  local: {roles: [deploy]}
issuers:
  - url: %s
    audience: countersign
    match: {/kubernetes.io/namespace: prod}
    identity: "{{ .Claims.sub }}"
    attributes: {namespace: '{{ index .Claims "kubernetes.io" "namespace" }}'}
    roles: [pods]
`, deployARN, readARN, podsARN, clientKeys["ci"].AccessKeyID, other.AccessKeyID, file, clientKeys["source"].AccessKeyID, issuer.server.URL)+more,
		append([]string{"SSL_CERT_FILE=" + issuer.roots}, env...))
	p.clients = maps.Clone(clientKeys)
	p.clients["other"] = other
	return p
}

// restart ends the process and starts it anew with the same files.
func (p *proxy) restart(t testing.TB) {
	t.Helper()
	p.stop(t)
	if err := p.start(t, filepath.Dir(p.config)); err != nil {
		t.Fatal(err)
	}
}

func (p *proxy) stop(t testing.TB) {
	t.Helper()
	if err := p.terminate(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); !errors.Is(p.process.Signal(syscall.Signal(0)), os.ErrProcessDone); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("serve did not end within %s of SIGTERM", patience)
		}
	}
}

// An eavesdropper stands between clients and a proxy and keeps every byte that
// comes back to the clients. It ends their TLS with a certificate of the test's own
// authority, because what passes inside could not be searched otherwise, and opens
// its own to the proxy.
type eavesdropper struct {
	address string
	mu      sync.Mutex
	heard   bytes.Buffer
}

// Write keeps what the clients receive.
func (e *eavesdropper) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.heard.Write(p)
}

func (e *eavesdropper) bytes() []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	return bytes.Clone(e.heard.Bytes())
}

func (e *eavesdropper) listen(t testing.TB, serve func(net.Conn)) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e.address = listener.Addr().String()
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
}

// exchange copies both ways until either side ends.
func (e *eavesdropper) exchange(client io.ReadWriteCloser, fromClient io.Reader, server io.ReadWriteCloser) {
	go func() {
		io.Copy(server, fromClient)
		server.Close()
	}()
	io.Copy(io.MultiWriter(client, e), server)
	client.Close()
}

// eavesdrop listens in before a proxy: what takes a CONNECT.
func eavesdrop(t testing.TB, p *proxy) *eavesdropper {
	t.Helper()
	e := &eavesdropper{}
	pki := thePKI(t)
	e.listen(t, func(conn net.Conn) {
		reader := bufio.NewReader(conn)
		request, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.address)
		if err != nil {
			return
		}
		defer out.Close()
		if request.Method != http.MethodConnect {
			request.WriteProxy(out)
			e.exchange(conn, reader, out)
			return
		}
		request.Write(out)
		head := &bytes.Buffer{}
		answer, err := http.ReadResponse(bufio.NewReader(io.TeeReader(oneByte{out}, head)), request)
		if err != nil {
			return
		}
		e.Write(head.Bytes())
		conn.Write(head.Bytes())
		if answer.StatusCode != http.StatusOK {
			io.Copy(io.MultiWriter(conn, e), out)
			return
		}
		host, _, _ := net.SplitHostPort(request.RequestURI)
		inner := tls.Client(out, &tls.Config{ServerName: host, RootCAs: p.roots, NextProtos: []string{"http/1.1"}})
		outer := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{pki.certificate}, NextProtos: []string{"http/1.1"}})
		e.exchange(outer, outer, inner)
	})
	return e
}

// eavesdropPlain listens in before a listener without TLS.
func eavesdropPlain(t testing.TB, address string) *eavesdropper {
	t.Helper()
	e := &eavesdropper{}
	e.listen(t, func(conn net.Conn) {
		out, err := net.Dial("tcp", address)
		if err != nil {
			return
		}
		e.exchange(conn, conn, out)
	})
	return e
}

// oneByte reads no more than was asked for, so that nothing behind a response's
// head is swallowed.
type oneByte struct{ io.Reader }

func (r oneByte) Read(p []byte) (int, error) { return r.Reader.Read(p[:min(1, len(p))]) }

// overheard is the way of a client through an eavesdropper.
func (e *eavesdropper) overheard(t testing.TB, w way) way {
	t.Helper()
	w.env = append(append([]string{}, w.env...), trustEnvironment(thePKI(t).rootFile)...)
	w.env = append(w.env, "HTTPS_PROXY=http://"+e.address)
	return w
}

// withKeys gives a way other credentials.
func (w way) withKeys(id, secret, token string) way {
	w.env = append(append([]string{}, w.env...), "AWS_ACCESS_KEY_ID="+id, "AWS_SECRET_ACCESS_KEY="+secret, "AWS_SESSION_TOKEN="+token)
	return w
}

// withoutKeys leaves it to the client where it finds credentials.
func (w way) withoutKeys() way {
	var env []string
	for _, v := range w.env {
		if !strings.HasPrefix(v, "AWS_ACCESS_KEY_ID=") && !strings.HasPrefix(v, "AWS_SECRET_ACCESS_KEY=") && !strings.HasPrefix(v, "AWS_SESSION_TOKEN=") {
			env = append(env, v)
		}
	}
	w.env = env
	return w
}

// A realKey is a key that strict moto issued.
type realKey struct {
	AccessKeyID string `json:"access_key_id"`
	ARN         string
	Secret      string
	Token       string
	Expires     time.Time // zero: never
}

func (u *upstream) realKeys(t testing.TB) (keys []realKey) {
	t.Helper()
	u.ask(t, "/keys", &keys)
	return keys
}
