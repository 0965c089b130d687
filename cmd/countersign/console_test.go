package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/countersign-proxy/countersign/audit"
	"github.com/countersign-proxy/countersign/config"
	"github.com/countersign-proxy/countersign/identity"
	"github.com/countersign-proxy/countersign/sandbox"
)

// consoleApp is an app with a configuration whose AWS is a sandbox.
func consoleApp(t *testing.T, more string) (a *app, stdout, stderr *bytes.Buffer, cloud *sandbox.Server) {
	t.Helper()
	cloud, err := sandbox.Start(sandbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cloud.Close() })
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "root.pem"), cloud.RootPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "read.json"), []byte(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:Get*","Resource":"*"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`
listen: 127.0.0.1:0
admin: {listen: "127.0.0.1:1"}
state_dir: %s
source: {region: eu-west-1}
roles:
  deploy: {arn: "arn:aws:iam::210987654321:role/Deploy", duration: 2h}
  reader: {arn: "arn:aws:iam::210987654321:role/Reader", policies: [read.json]}
upstream: {proxy: none, override: [{hosts: ["*"], address: "%s", ca_file: root.pem}]}
audit: {file: %s}
%s`, filepath.Join(dir, "state"), cloud.Address(), filepath.Join(dir, "audit.jsonl"), more)
	path := filepath.Join(dir, "countersign.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	keys := cloud.Credentials()
	t.Setenv("AWS_ACCESS_KEY_ID", keys.AccessKeyID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", keys.SecretAccessKey)
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(dir, "none"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(dir, "none"))
	for _, name := range []string{"AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CA_BUNDLE"} {
		t.Setenv(name, "")
	}
	stdout, stderr = &bytes.Buffer{}, &bytes.Buffer{}
	return &app{getenv: os.Getenv, environ: func() []string { return []string{} }, stdin: strings.NewReader(""), stdout: stdout, stderr: stderr,
		configPath: path, identity: localIdentity, output: "text"}, stdout, stderr, cloud
}

func runConsole(t *testing.T, a *app, args ...string) error {
	t.Helper()
	c := newConsole(a)
	c.SetArgs(args)
	c.SilenceErrors, c.SilenceUsage = true, true
	return c.ExecuteContext(t.Context())
}

func TestConsoleWithoutProxy(t *testing.T) {
	a, stdout, stderr, cloud := consoleApp(t, "")
	if err := runConsole(t, a, "--role", "reader", "--destination", "s3", "--print"); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(strings.TrimSpace(stdout.String()))
	if err != nil || u.Host != "eu-west-1.signin.aws.amazon.com" || u.Query().Get("Destination") != "https://eu-west-1.console.aws.amazon.com/s3/home?region=eu-west-1" {
		t.Fatalf("%v", err)
	}
	if !strings.Contains(stderr.String(), "Signed in as reader in account 210987654321, until ") || !strings.Contains(stderr.String(), "session policy") {
		t.Errorf("said %q", stderr)
	}
	var policy string
	for _, r := range cloud.Requests() {
		if r.Operation == "AssumeRole" {
			policy = r.Form.Get("Policy")
		}
	}
	if policy != `{"Version":"2012-10-17","Statement":[{"Action":"s3:Get*","Effect":"Allow","Resource":"*"}]}` {
		t.Errorf("session policy %s", policy)
	}
	text, err := os.ReadFile(filepath.Join(filepath.Dir(a.configPath), "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	e, err := audit.Parse(text)
	if err != nil || e.Service != "console" || e.Operation != "SignIn" || e.Identity != localIdentity || e.Role != "reader" || e.SessionName == "" || bytes.Contains(text, []byte("SigninToken")) {
		t.Errorf("%v: recorded %s", err, text)
	}
	if u.Query().Has("Issuer") {
		t.Errorf("AWS leads back to %s, where nobody is", u.Query().Get("Issuer"))
	}
	if err := runConsole(t, a, "--link"); err == nil || !strings.Contains(err.Error(), "no proxy answers at http://127.0.0.1:1 ") {
		t.Errorf("a link to nobody: %v", err)
	}
	if err := runConsole(t, a, "--role", "other"); err == nil || !strings.Contains(err.Error(), "it may use: deploy, reader") {
		t.Errorf("a role that is not granted: %v", err)
	}
	if text, err = os.ReadFile(filepath.Join(filepath.Dir(a.configPath), "audit.jsonl")); err != nil || !strings.Contains(string(text), `"reason":"not granted"`) {
		t.Errorf("a role that is not granted is not recorded: %v, %s", err, text)
	}
	if err := runConsole(t, a, "--destination", "https://example.com/"); err == nil || !strings.Contains(err.Error(), "not the AWS console") {
		t.Errorf("a foreign destination: %v", err)
	}
}

func TestConsoleOfARunningProxy(t *testing.T) {
	a, stdout, stderr, _ := consoleApp(t, "")
	cfg, err := a.load()
	if err != nil {
		t.Fatal(err)
	}
	p, err := newProxy(t.Context(), cfg, newGrants(cfg, a.getenv), proxyOptions{Audit: auditOptions(cfg), Log: zap.NewNop(), Getenv: a.getenv})
	if err != nil {
		t.Fatal(err)
	}
	l, err := listen(t.Context(), "admin.listen", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	page, err := p.newConsoleServer(cfg, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	p.serve("admin", l, p.admin(page.Handlers()), func(err error) { t.Error(err) })
	t.Cleanup(func() {
		page.Close()
		if err := p.shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	// The command finds the proxy by the configuration.
	text, err := os.ReadFile(a.configPath)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(text, []byte("127.0.0.1:1\""), []byte(l.Addr().String()+"\""), 1)
	if err := os.WriteFile(a.configPath, text, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "nobody") // the proxy has its own
	a.output = "json"
	if err := runConsole(t, a, "--role", "deploy"); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(stdout.String(), `"session_name": "local"`) || !strings.Contains(stdout.String(), `"basis": "SessionDuration"`) {
		t.Errorf("printed %s", stdout)
	}
	stdout.Reset()
	if err := runConsole(t, a, "--link"); err != nil {
		t.Fatal(err)
	}
	res, err := http.Get(strings.TrimSpace(stdout.String()))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK || len(res.Cookies()) == 0 || !strings.Contains(stderr.String(), "once, within 10m") {
		t.Errorf("the link answered %d, said %q", res.StatusCode, stderr)
	}
}

func TestLogout(t *testing.T) {
	a, _, stderr, _ := consoleApp(t, "")
	cfg, err := a.load()
	if err != nil {
		t.Fatal(err)
	}
	creds, _, err := a.mint(cfg, "deploy", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	c := newLogout(a)
	c.SetArgs([]string{}) // nil: those of the test binary
	if err := c.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	store, err := newIdentities(cfg, newGrants(cfg, a.getenv), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var known *identity.Error
	if _, _, err := store.Lookup(creds.AccessKeyID, creds.SessionToken, time.Now()); !errors.As(err, &known) || known.Reason != identity.ReasonRevoked {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(stderr.String(), "AWS console sessions live until they expire") {
		t.Errorf("said %q", stderr)
	}
	// A pair of the configuration would be gone for good.
	with := *cfg
	with.Identities = map[string]config.Identity{"ci": {Credentials: []config.Credential{{AccessKeyID: "CSIGAAAABBBBCCCCDDDD"}}}}
	now := time.Now()
	if err := revokeOwn(&with)(identity.Revocation{Identity: "ci", Before: &now}); err == nil || !strings.Contains(err.Error(), "static credentials") {
		t.Errorf("static credentials: %v", err)
	}
}

func TestPickRole(t *testing.T) {
	g := grants{roles: map[string]config.Role{"a": {ARN: "arn:aws:iam::210987654321:role/A", Labels: map[string]string{"env": "pr\x1b[2Jod"}}, "b": {}}}
	who := identity.Identity{Name: "alice", Roles: []string{"a", "b"}}
	for in, want := range map[string]string{"\n": "a", "2\n": "b", "b\n": "b", "3\nnothing\n1\n": "a", "2": "b", "": "", "9\n9\n9\n9\n9\n": ""} {
		var out bytes.Buffer
		a := &app{stdin: strings.NewReader(in), stderr: &out}
		got, err := a.pickRole(g, who)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q chose %q, %v", in, got, err)
		}
		if strings.Contains(out.String(), "\x1b") || !strings.Contains(out.String(), "  1  a  arn:aws:iam::210987654321:role/A env=pr?[2Jod\n  2  b  the source credentials themselves\n") {
			t.Errorf("shown %q", out.String())
		}
	}
}

// The address that a browser is started with is seen by all users of the machine.
func TestOpenOnce(t *testing.T) {
	const target = "https://signin.aws.amazon.com/federation?SigninToken=secret"
	a := &app{}
	get := func(address, host string) (int, string) {
		r, err := http.NewRequest(http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		res, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			return 0, ""
		}
		defer res.Body.Close()
		_, _ = io.Copy(io.Discard, res.Body)
		return res.StatusCode, res.Header.Get("Location")
	}
	ended := make(chan error, 1)
	err := a.openOnce(t.Context(), target, func(_ context.Context, address string) (<-chan error, error) {
		if strings.Contains(address, "secret") || !strings.HasPrefix(address, "http://127.0.0.1:") {
			t.Errorf("the browser got %s", address)
		}
		if status, _ := get(address+"x", ""); status != http.StatusNotFound {
			t.Errorf("another path: %d", status)
		}
		if status, _ := get(address, "rebound.example.com"); status != http.StatusNotFound {
			t.Errorf("another host: %d", status)
		}
		if status, to := get(address, ""); status != http.StatusSeeOther || to != target {
			t.Errorf("got %d to %s", status, to)
		}
		if status, to := get(address, ""); status == http.StatusSeeOther || to != "" {
			t.Errorf("a second time: %d to %s", status, to)
		}
		ended <- errors.New("exit status 1") // of no account any more
		return ended, nil
	})
	if err != nil {
		t.Error(err)
	}
	if err := a.openOnce(t.Context(), target, func(context.Context, string) (<-chan error, error) { return nil, errors.New("no display") }); err == nil || !strings.Contains(err.Error(), "use --print") {
		t.Errorf("without a browser: %v", err)
	}
	// One that hands the address on and ends, and one that cannot show anything.
	for name, result := range map[string]error{"handed on": nil, "failed": errors.New("exit status 3")} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		err := a.openOnce(ctx, target, func(_ context.Context, address string) (<-chan error, error) {
			ended := make(chan error)
			go func() {
				ended <- result
				if result == nil {
					get(address, "")
				}
			}()
			return ended, nil
		})
		if (err == nil) != (result == nil) || err != nil && !strings.Contains(err.Error(), "exit status 3; use --print") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
