package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// An agent stands before the credentials endpoint and counts what is fetched.
// Credentials from there live for an hour, so to see them renewed it tells clients
// that they end in a minute. That is inside of every SDK's margin, and each then
// fetches new ones before it uses them again.
type agent struct {
	url     string
	fetched atomic.Int64
}

func startAgent(t testing.TB, p *proxy, hasten bool) *agent {
	t.Helper()
	a := &agent{}
	reverse := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: p.admin})
	reverse.ModifyResponse = func(r *http.Response) error {
		a.fetched.Add(1)
		if !hasten || r.StatusCode != http.StatusOK {
			return nil
		}
		var c map[string]string
		if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
			return err
		}
		c["Expiration"] = time.Now().Add(time.Minute).UTC().Format(time.RFC3339)
		text, err := json.Marshal(c)
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
		r.Header.Set("Content-Length", strconv.Itoa(len(text)))
		return err
	}
	server := httptest.NewServer(reverse)
	t.Cleanup(server.Close)
	a.url = server.URL + "/credentials"
	return a
}

// Programs that are given an address and a token file, as pods are, fetch their
// credentials and renew them by themselves.
func TestSDKsRenewTheirCredentials(t *testing.T) {
	t.Parallel()
	interpreter := python(t)
	node := tool(t, "node")
	modules := nodeModules(t)
	u := strictMoto(t)
	issuer := startOIDC(t)
	p := serveSessions(t, u, issuer, "")
	dir := t.TempDir()
	source, err := os.ReadFile(script(t, "renewal.mjs"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "renewal.mjs")
	if err := os.WriteFile(file, source, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	type run struct {
		name   string
		hasten bool
		agent  *agent
	}
	runs := map[string]run{} // by the identity that its token names
	for name, argv := range map[string][]string{
		"Go":         {sdkClient},
		"boto3":      {interpreter, script(t, "renewal.py")},
		"JavaScript": {node, file},
	} {
		for _, hasten := range []bool{false, true} {
			identity := fmt.Sprintf("system:serviceaccount:prod:%s-%v", name, hasten)
			a := startAgent(t, p, hasten)
			runs[identity] = run{name, hasten, a}
			w := p.client("ci").withoutKeys()
			w.env = append(w.env, "AWS_CONTAINER_CREDENTIALS_FULL_URI="+a.url,
				"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE="+issuer.tokenFile(t, map[string]any{"sub": identity}))
			w.must(t, dir, nil, argv...)
		}
	}

	// What the endpoint refuses, an SDK says to its user.
	refusals := map[string]map[string]any{
		"another namespace": {"kubernetes.io": map[string]any{"namespace": "dev"}},
		"another audience":  {"aud": "sts.amazonaws.com"},
		"another issuer":    {"iss": "https://127.0.0.1:1"},
		"expired":           {"exp": time.Now().Add(-time.Hour).Unix()},
	}
	t.Run("refused", func(t *testing.T) {
		w := p.client("ci").withoutKeys()
		for name, claims := range refusals {
			got := w.run(t, dir, []string{"AWS_CONTAINER_CREDENTIALS_FULL_URI=http://" + p.admin + "/credentials",
				"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=" + issuer.tokenFile(t, claims)}, sdkClient)
			if got.code == 0 || !strings.Contains(got.stderr, "failed to refresh cached credentials") {
				t.Errorf("%s: %+v", name, got)
			}
		}
	})

	// The user of the machine proves himself by a file that only he can read.
	t.Run("env --renew", func(t *testing.T) {
		tool(t, "aws")
		w := way{env: append(p.env, "AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY="), wrap: []string{"sh", "-c"}}
		said := w.must(t, dir, nil, `eval "$(`+program+` env --renew --config `+p.config+` --format bash)"; env | grep -c '^AWS_SESSION_TOKEN=..*'; aws sts get-caller-identity --query Arn --output text`)
		if lines := strings.Fields(said); len(lines) != 2 || lines[0] != "0" || lines[1] != "arn:aws:sts::"+account+":assumed-role/Deploy/local" {
			t.Errorf("%s", said)
		}
	})

	// The record, whole: that of a request is written when it has ended, which can be
	// after its client has left.
	p.stop(t)
	fetches, keys, refused := map[string][]string{}, map[string][]string{}, 0
	for _, line := range readAudit(t, p.audit) {
		_, known := runs[line.Identity]
		switch {
		case line.Identity == "local" && line.Decision == "allow":
		case !known:
			refused++
			if line.Decision != "deny" || line.Operation != "GetCredentials" || line.Status < 400 || line.Error == "" {
				t.Errorf("audit line of what is refused: %+v", line)
			}
		case line.Decision != "allow" || line.Role != "pods":
			t.Errorf("audit line %+v", line)
		case line.Operation == "GetCredentials":
			fetches[line.Identity] = append(fetches[line.Identity], line.AccessKeyID)
		case !slices.Contains(keys[line.Identity], line.AccessKeyID):
			keys[line.Identity] = append(keys[line.Identity], line.AccessKeyID)
		}
	}
	if refused < len(refusals) {
		t.Errorf("%d audit lines of %d clients that were refused", refused, len(refusals))
	}
	for identity, run := range runs {
		fetches, keys := fetches[identity], keys[identity]
		if int64(len(fetches)) != run.agent.fetched.Load() || len(keys) == 0 {
			t.Errorf("%s: %d audit lines for %d fetches", run.name, len(fetches), run.agent.fetched.Load())
		}
		for _, key := range keys {
			if !slices.Contains(fetches, key) {
				t.Errorf("%s signed with %s, which it did not fetch", run.name, key)
			}
		}
		if renewed := len(keys) > 1; renewed != run.hasten {
			t.Errorf("%s: told that they end soon: %v; credentials used: %q", run.name, run.hasten, keys)
		}
	}
}
