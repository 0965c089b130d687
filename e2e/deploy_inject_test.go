package e2e

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The webhook, called as the API server calls it: over TLS, with a certificate
// that is renewed while it runs.
func TestInjectWebhook(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := listenerCertificate(t, dir)
	address, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	command := exec.Command(program, "inject", "--serve", "--listen", address, "--tls-cert-file", certFile, "--tls-key-file", keyFile, "--image", "registry.example/countersign:1")
	command.Env = bareEnvironment(dir)
	command.Stderr = &said
	dieWithParent(command)
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	client := func() *http.Client {
		text, err := os.ReadFile(certFile)
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(text)
		return &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots}}}
	}
	ready := func(c *http.Client) {
		t.Helper()
		for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
			response, err := c.Get("https://" + address + "/healthz")
			if err == nil {
				response.Body.Close()
				if response.StatusCode == http.StatusOK {
					return
				}
			}
			if time.Now().After(deadline) {
				t.Fatalf("the webhook does not answer: %v", err)
			}
		}
	}
	ready(client())

	review := func(pod string) (allowed bool, patch, message string) {
		t.Helper()
		body := `{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": "1", "namespace": "shop",
			"kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE", "dryRun": true, "object": ` + pod + `}}`
		response, err := client().Post("https://"+address+"/inject?timeout=10s", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		var answer struct {
			Response struct {
				UID     string
				Allowed bool
				Patch   []byte
				Status  struct{ Message string }
			}
		}
		if err := json.Unmarshal(text, &answer); err != nil || answer.Response.UID != "1" {
			t.Fatalf("%s: %v\n%s", response.Status, err, text)
		}
		return answer.Response.Allowed, string(answer.Response.Patch), answer.Response.Status.Message
	}
	const asking = `{"metadata": {"annotations": {"countersign.dev/role": "arn:aws:iam::123456789012:role/Deploy"}}, "spec": {"containers": [{"name": "app"}]}}`
	allowed, patch, message := review(asking)
	if !allowed || message != "" {
		t.Errorf("allowed %v: %s", allowed, message)
	}
	for _, want := range []string{`"image":"registry.example/countersign:1"`, `"restartPolicy":"Always"`, `{"name":"HTTPS_PROXY","value":"http://127.0.0.1:8800"}`, `{"name":"AWS_CA_BUNDLE","value":"/run/countersign/bundle.pem"}`} {
		if !strings.Contains(patch, want) {
			t.Errorf("the patch has no %s\n%s", want, patch)
		}
	}
	if allowed, patch, _ := review(`{"metadata": {}, "spec": {"containers": [{"name": "app"}]}}`); !allowed || patch != "" {
		t.Errorf("a pod that asks for nothing: allowed %v, patch %s", allowed, patch)
	}
	allowed, patch, message = review(strings.Replace(asking, `"containers"`, `"shareProcessNamespace": true, "containers"`, 1))
	if want := "countersign: spec.shareProcessNamespace: the other containers could read the sidecar's keys; use a gateway for this pod"; allowed || patch != "" || message != want {
		t.Errorf("allowed %v, patch %q, message %q", allowed, patch, message)
	}

	// cert-manager renews: first one file changes, then the other.
	renewed := t.TempDir()
	newCert, newKey := listenerCertificate(t, renewed)
	old := client()
	for _, file := range [][2]string{{newCert, certFile}, {newKey, keyFile}} {
		ready(old)
		if err := os.Rename(file[0], file[1]); err != nil {
			t.Fatal(err)
		}
	}
	ready(client())
	if response, err := old.Get("https://" + address + "/healthz"); err == nil {
		response.Body.Close()
		t.Error("the old certificate is shown after its renewal")
	}

	if err := command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v\n%s", err, said.String())
	}
	if n := strings.Count(said.String(), `"a pod was refused"`); n != 1 {
		t.Errorf("%d lines of refused pods\n%s", n, said.String())
	}
}

// Wrong usage is told before anything is opened.
func TestInjectUsage(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "none.yaml")
	certFile, keyFile := listenerCertificate(t, dir)
	if err := os.Chmod(keyFile, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		argv []string
		code int
		want string
	}{
		{[]string{"inject"}, 2, "give a manifest with -f, or --serve"},
		{[]string{"inject", "-f", "a", "--serve"}, 2, "give a manifest with -f, or --serve"},
		{[]string{"inject", "--serve"}, 2, "--serve needs --tls-cert-file and --tls-key-file: Kubernetes calls webhooks by https only"},
		{[]string{"inject", "--serve", "--tls-cert-file", missing, "--tls-key-file", missing}, 1, "no such file"},
		{[]string{"inject", "--serve", "--tls-cert-file", certFile, "--tls-key-file", keyFile}, 1, "--tls-key-file: " + keyFile + " has mode 0644, so that others can read it"},
		{[]string{"inject", "-f", missing}, 1, "no such file"},
		{[]string{"inject", "prepare"}, 2, "--dir names the folder that the containers share"},
		{[]string{"inject", "prepare", "--dir", dir, "--role", "other"}, 1, `identity "local" may not use the role "other"; it may use: source`},
	} {
		command := exec.Command(program, x.argv...)
		command.Env = append(bareEnvironment(dir), "COUNTERSIGN_STATE_DIR="+filepath.Join(dir, "state"))
		output, _ := command.CombinedOutput()
		if code := command.ProcessState.ExitCode(); code != x.code || !strings.Contains(string(output), x.want) {
			t.Errorf("%v: exit code %d, want %d and %q in\n%s", x.argv, code, x.code, x.want, output)
		}
	}
}
