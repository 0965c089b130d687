package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// A cluster is a kube-apiserver and the etcd behind it. Nothing schedules or runs
// pods; what the API server decides about them, it decides as in any cluster.
type cluster struct {
	url     string
	client  *http.Client
	roots   string // PEM file
	started time.Duration
}

const clusterAdmin = "admin-token-of-the-test"

// theCluster starts one. Its ports are picked beforehand, so it is tried again
// should somebody else have taken one.
func theCluster(t testing.TB) *cluster {
	t.Helper()
	apiserver, etcd := tool(t, "kube-apiserver"), tool(t, "etcd")
	var failures []error
	for range 3 {
		c, err := startCluster(t, apiserver, etcd)
		if err == nil {
			return c
		}
		failures = append(failures, err)
	}
	t.Fatal(errors.Join(failures...))
	return nil
}

func startCluster(t testing.TB, apiserver, etcd string) (*cluster, error) {
	began := time.Now()
	dir := t.TempDir()
	certFile, keyFile := listenerCertificate(t, dir)
	tokens := filepath.Join(dir, "tokens.csv")
	accounts, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	accountsDER, err := x509.MarshalECPrivateKey(accounts)
	if err != nil {
		return nil, err
	}
	accountsKey := filepath.Join(dir, "accounts.key")
	if err := errors.Join(
		os.WriteFile(tokens, []byte(clusterAdmin+",admin,admin,system:masters\n"), 0o600),
		os.WriteFile(accountsKey, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: accountsDER}), 0o600),
	); err != nil {
		return nil, err
	}
	var addresses [3]string
	for i := range addresses {
		if addresses[i], err = freeAddress(); err != nil {
			return nil, err
		}
	}
	_, port, err := net.SplitHostPort(addresses[2])
	if err != nil {
		return nil, err
	}
	c := &cluster{url: "https://" + addresses[2], roots: certFile}
	start := func(name string, argv ...string) (ended chan error, said string) {
		said = filepath.Join(dir, filepath.Base(name)+".log")
		output, err := os.Create(said)
		if err != nil {
			t.Fatal(err)
		}
		command := exec.Command(name, argv...)
		command.Dir, command.Env = dir, bareEnvironment(dir)
		command.Stdout, command.Stderr = output, output
		dieWithParent(command)
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		ended = make(chan error, 1)
		done := make(chan struct{})
		go func() { ended <- command.Wait(); close(done) }()
		t.Cleanup(func() { command.Process.Kill(); <-done; output.Close() })
		return ended, said
	}
	start(etcd, "--data-dir", filepath.Join(dir, "etcd"), "--log-level", "error", "--unsafe-no-fsync",
		"--listen-client-urls", "http://"+addresses[0], "--advertise-client-urls", "http://"+addresses[0],
		"--listen-peer-urls", "http://"+addresses[1], "--initial-advertise-peer-urls", "http://"+addresses[1],
		"--initial-cluster", "default=http://"+addresses[1])
	// Authorization as in a cluster, since who may read the issuer's keys is a part
	// of it. There is no endpoint to publish: nothing runs in the cluster's network.
	ended, said := start(apiserver, "--etcd-servers=http://"+addresses[0],
		"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--secure-port="+port, "--endpoint-reconciler-type=none",
		"--tls-cert-file="+certFile, "--tls-private-key-file="+keyFile,
		"--service-cluster-ip-range=10.96.0.0/24", "--authorization-mode=RBAC", "--token-auth-file="+tokens,
		"--service-account-issuer="+c.url, "--service-account-key-file="+accountsKey, "--service-account-signing-key-file="+accountsKey)

	roots, err := readPool(certFile)
	if err != nil {
		return nil, err
	}
	c.client = &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	t.Cleanup(c.client.CloseIdleConnections)
	for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if status, _, _ := c.try(http.MethodGet, "/readyz", "", nil); status == http.StatusOK {
			c.started = time.Since(began)
			return c, nil
		}
		select {
		case err := <-ended:
			text, _ := os.ReadFile(said)
			return nil, fmt.Errorf("kube-apiserver ended: %v\n%s", err, text)
		default:
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(said)
			return nil, fmt.Errorf("kube-apiserver is not ready after three minutes\n%s", text)
		}
	}
}

// An answer of the API server.
type answer struct {
	status   int
	body     []byte
	warnings []string
}

func (c *cluster) try(method, path, contentType string, body []byte) (status int, answer []byte, header http.Header) {
	request, err := http.NewRequest(method, c.url+path, bytes.NewReader(body))
	if err != nil {
		return 0, []byte(err.Error()), nil
	}
	request.Header.Set("Authorization", "Bearer "+clusterAdmin)
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := c.client.Do(request)
	if err != nil {
		return 0, []byte(err.Error()), nil
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, []byte(err.Error()), nil
	}
	return response.StatusCode, text, response.Header
}

// call sends a manifest, in YAML or JSON.
func (c *cluster) call(method, path, manifest string) answer {
	contentType := "application/yaml"
	if method == http.MethodPatch {
		contentType = "application/apply-patch+yaml"
	}
	status, body, header := c.try(method, path, contentType, []byte(manifest))
	return answer{status, body, header.Values("Warning")}
}

// must sends a manifest that has to be taken, and reads the object that it became
// into the last argument.
func (c *cluster) must(t testing.TB, method, path, manifest string, into any) {
	t.Helper()
	a := c.call(method, path, manifest)
	if a.status < 200 || a.status > 299 {
		t.Fatalf("%s %s: %d: %s", method, path, a.status, a.message())
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal(a.body, into); err != nil {
		t.Fatalf("%s %s: %v\n%s", method, path, err, a.body)
	}
}

// message is what kubectl would print.
func (a answer) message() string {
	var status struct{ Kind, Message string }
	if json.Unmarshal(a.body, &status) != nil || status.Kind != "Status" {
		return string(a.body)
	}
	return status.Message
}

// token asks for a service account's token.
func (c *cluster) token(t testing.TB, namespace, name, audience string) string {
	t.Helper()
	audiences := ""
	if audience != "" {
		audiences = "audiences: [" + audience + "]"
	}
	var made struct{ Status struct{ Token string } }
	c.must(t, http.MethodPost, "/api/v1/namespaces/"+namespace+"/serviceaccounts/"+name+"/token",
		"{apiVersion: authentication.k8s.io/v1, kind: TokenRequest, spec: {expirationSeconds: 3600, "+audiences+"}}", &made)
	if made.Status.Token == "" {
		t.Fatal("the API server gave no token")
	}
	return made.Status.Token
}

// namespace makes one, with the service account that a controller would make.
func (c *cluster) namespace(t testing.TB, name, labels string) {
	t.Helper()
	c.must(t, http.MethodPost, "/api/v1/namespaces", "{apiVersion: v1, kind: Namespace, metadata: {name: "+name+", labels: {"+labels+"}}}", nil)
	c.account(t, name, "default")
}

func (c *cluster) account(t testing.TB, namespace, name string) {
	t.Helper()
	c.must(t, http.MethodPost, "/api/v1/namespaces/"+namespace+"/serviceaccounts", "{apiVersion: v1, kind: ServiceAccount, metadata: {name: "+name+"}}", nil)
}

// objects takes a stream of manifests apart.
func objects(t testing.TB, manifests []byte) (out []map[string]any) {
	t.Helper()
	for in := yaml.NewDecoder(bytes.NewReader(manifests)); ; {
		var o map[string]any
		if err := in.Decode(&o); errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			t.Fatalf("%v\n%s", err, manifests)
		}
		if o != nil {
			out = append(out, o)
		}
	}
}

// apply applies an object on the server's side, as a trial if it says so.
func (c *cluster) apply(t testing.TB, o map[string]any, namespace string, trial bool) answer {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	metadata, _ := o["metadata"].(map[string]any)
	if own, ok := metadata["namespace"].(string); ok {
		namespace = own
	}
	query := "?fieldManager=e2e&force=true"
	if trial {
		query += "&dryRun=All"
	}
	return c.call(http.MethodPatch, c.path(t, o, namespace)+"/"+fmt.Sprint(metadata["name"])+query, string(text))
}

// path is where objects of a kind are, as the API server itself says.
func (c *cluster) path(t testing.TB, o map[string]any, namespace string) string {
	t.Helper()
	version, kind := fmt.Sprint(o["apiVersion"]), fmt.Sprint(o["kind"])
	root := "/apis/" + version
	if version == "v1" {
		root = "/api/v1"
	}
	var list struct {
		Resources []struct {
			Name, Kind string
			Namespaced bool
		}
	}
	c.must(t, http.MethodGet, root, "", &list)
	for _, r := range list.Resources {
		if r.Kind != kind || strings.Contains(r.Name, "/") {
			continue
		}
		if r.Namespaced {
			return root + "/namespaces/" + namespace + "/" + r.Name
		}
		return root + "/" + r.Name
	}
	t.Fatalf("the API server knows no %s of %s", kind, version)
	return ""
}
