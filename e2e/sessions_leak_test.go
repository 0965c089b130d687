package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// hits are the real credentials that can be found, each with the first place.
func hits(haystacks []haystack, keys []realKey) (found []string) {
	for _, key := range keys {
		for what, text := range map[string]string{"key id": key.AccessKeyID, "secret": key.Secret, "token": key.Token} {
			if text == "" {
				continue
			}
			json, _ := json.Marshal(text)
			for _, form := range []string{text, text[len(text)/2:], strings.Trim(string(json), `"`), url.QueryEscape(text), base64.StdEncoding.EncodeToString([]byte(text))} {
				at := slices.IndexFunc(haystacks, func(h haystack) bool { return bytes.Contains(h.text, []byte(form)) })
				if at >= 0 {
					found = append(found, fmt.Sprintf("the %s of %s is in %s", what, key.ARN, haystacks[at].name))
					break
				}
			}
		}
	}
	slices.Sort(found)
	return found
}

// A listening is a run of clients whose every received byte was kept.
type listening struct {
	p         *proxy
	w         way // of clients, with ci's keys
	proxied   *eavesdropper
	admin     *eavesdropper
	tokenFile string
	dir       string
	haystacks []haystack
	before    []realKey
}

func listen(t *testing.T, program string, u *upstream, more string) *listening {
	t.Helper()
	l := &listening{dir: t.TempDir(), before: u.realKeys(t)}
	issuer := startOIDC(t)
	l.p = serveSessionsBy(t, program, u, issuer, "log: {level: debug}\n"+more)
	l.proxied, l.admin = eavesdrop(t, l.p), eavesdropPlain(t, l.p.admin)
	l.w = l.proxied.overheard(t, l.p.client("ci")).at(l.dir)
	l.tokenFile = issuer.tokenFile(t, nil)
	profilesFile(t, l.dir, l.tokenFile)
	return l
}

// run runs a client and keeps what it says.
func (l *listening) run(t *testing.T, w way, argv ...string) result {
	t.Helper()
	r := w.run(t, l.dir, nil, argv...)
	for kind, text := range map[string]string{"output": r.stdout, "error output": r.stderr} {
		if text != "" {
			l.haystacks = append(l.haystacks, haystack{kind + " of " + strings.Join(argv, " "), []byte(text)})
		}
	}
	return r
}

// search looks through everything for all that strict moto issued since, and for
// the source credentials.
func (l *listening) search(t *testing.T, u *upstream) (found []string, issued []realKey) {
	t.Helper()
	for _, path := range []string{"/metrics", "/readyz", "/sessions", "/credentials"} {
		response, err := http.Get("http://" + l.admin.address + path)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
	}
	record, err := os.ReadFile(l.p.audit)
	if err != nil {
		t.Fatal(err)
	}
	l.haystacks = append(l.haystacks,
		haystack{"what clients received through the proxy", l.proxied.bytes()},
		haystack{"what clients received from the admin listener", l.admin.bytes()},
		haystack{"the log", []byte(l.p.said())},
		haystack{"the audit record", record},
		haystack{"`sessions`", []byte(l.p.command(t, "sessions"))},
	)
	l.haystacks = append(l.haystacks, files(t, l.dir)...)
	l.haystacks = append(l.haystacks, files(t, filepath.Dir(l.p.config))...)
	for _, h := range l.haystacks {
		if len(h.text) == 0 {
			t.Errorf("%s is empty: nothing was looked at", h.name)
		}
	}
	for _, key := range u.realKeys(t) {
		if !slices.Contains(l.before, key) || key.AccessKeyID == u.keys.AccessKeyID {
			issued = append(issued, key)
		}
	}
	return hits(l.haystacks, issued), issued
}

// Promise 1 with every client that asks for keys: of all that STS issued over the
// whole run, nothing is in any byte that a client received, in its files, or in the
// proxy's log, record, metrics or state.
func TestNoRealSessionLeaks(t *testing.T) {
	t.Parallel()
	interpreter := python(t)
	tool(t, "aws")
	node := tool(t, "node")
	modules := nodeModules(t)
	terraform := terraformOrTofu(t)
	u := strictMoto(t)

	t.Run("all clients", func(t *testing.T) {
		l := listen(t, "", u, "")
		source, err := os.ReadFile(script(t, "renewal.mjs"))
		if err != nil {
			t.Fatal(err)
		}
		// What is installed there is not what a client received.
		javascript := t.TempDir()
		if err := os.WriteFile(filepath.Join(javascript, "renewal.mjs"), source, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(modules, filepath.Join(javascript, "node_modules")); err != nil {
			t.Fatal(err)
		}
		ok := func(r result) {
			t.Helper()
			if r.code != 0 {
				t.Fatalf("exit code %d\n%s\n%s", r.code, r.stdout, r.stderr)
			}
		}
		ci := l.w
		user := ci.withKeys(clientKeys["source"].AccessKeyID, clientKeys["source"].SecretAccessKey, "")
		none := ci.withoutKeys()
		web := none
		web.env = append(slices.Clone(web.env), "TOKEN_FILE="+l.tokenFile)
		pod := none
		pod.env = append(slices.Clone(pod.env), "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://"+l.admin.address+"/credentials", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE="+l.tokenFile)
		sessions := script(t, "sessions.py")
		ok(l.run(t, ci, interpreter, sessions, "assume"))
		ok(l.run(t, user, interpreter, sessions, "user"))
		ok(l.run(t, web, interpreter, sessions, "web"))
		ok(l.run(t, none, "sh", script(t, "profiles.sh")))
		ok(l.run(t, ci, "sh", "-c", "aws --debug sts assume-role --role-arn "+deployARN+" --role-session-name debug"))
		ok(l.run(t, pod, sdkClient))
		ok(l.run(t, pod, node, filepath.Join(javascript, "renewal.mjs")))
		terraformRoles(t, terraform, ci, l.dir)
		// What fails may say more than what does not.
		for _, argv := range []string{
			"aws --debug sts assume-role --role-arn " + adminARN + " --role-session-name no",
			"aws --debug sts assume-role --role-arn arn:aws:iam::" + account + ":role/Refused --role-session-name no",
			"aws --debug iam create-access-key --user-name source",
			"aws --debug sts get-session-token --serial-number arn:aws:iam::" + account + ":mfa/x --token-code 123456",
			"aws --debug s3api get-object --bucket countersign-none --key none out",
			"aws --debug --endpoint-url https://sts.us-east-1.amazonaws.com ssm get-access-token --access-request-id oi-0123456789ab",
		} {
			l.run(t, ci, "sh", "-c", argv+" || true")
		}

		found, issued := l.search(t, u)
		for _, hit := range found {
			t.Error(hit)
		}
		// The clients were answered with credentials, and AWS's own were made for them.
		if len(issued) < 12 || !bytes.Contains(l.proxied.bytes(), []byte("<SessionToken>CS1.")) || !bytes.Contains(l.admin.bytes(), []byte(`"Token":"CS1.`)) {
			t.Errorf("%d keys were issued, %d bytes received", len(issued), len(l.proxied.bytes()))
		}
		t.Logf("%d real keys in none of %d places, %d KiB of answers among them", len(issued), len(l.haystacks), len(l.proxied.bytes())>>10)
	})

	// The same search finds them where they do get out.
	t.Run("a call that the configuration lets through", func(t *testing.T) {
		l := listen(t, "", u, "credential_calls: [\"iam:CreateAccessKey\"]\n")
		if r := l.run(t, l.w, "aws", "iam", "create-user", "--user-name", "leaky"); r.code != 0 {
			t.Fatalf("%+v", r)
		}
		if r := l.run(t, l.w, "aws", "iam", "create-access-key", "--user-name", "leaky"); r.code != 0 {
			t.Fatalf("%+v", r)
		}
		found, _ := l.search(t, u)
		for _, want := range []string{"the key id of arn:aws:iam::" + account + ":user/leaky", "the secret of arn:aws:iam::" + account + ":user/leaky"} {
			if !slices.ContainsFunc(found, func(hit string) bool { return strings.HasPrefix(hit, want) }) {
				t.Errorf("%s was not found, but %q", want, found)
			}
		}
		if !strings.Contains(l.p.said(), "credential_calls names it") {
			t.Error("the log does not warn of it")
		}
	})

	t.Run("without virtual sessions", func(t *testing.T) {
		l := listen(t, withoutVirtualSessions(t), u, "credential_calls: [\"sts:AssumeRole\", \"sts:GetSessionToken\"]\n")
		for _, argv := range [][]string{
			{"aws", "sts", "assume-role", "--role-arn", deployARN, "--role-session-name", "leaked"},
			{"aws", "sts", "get-session-token"},
		} {
			if r := l.run(t, l.w, argv...); r.code != 0 {
				t.Fatalf("%+v", r)
			}
		}
		found, _ := l.search(t, u)
		for _, want := range []string{"key id", "secret", "token"} {
			for _, whose := range []string{":assumed-role/Deploy/leaked", ":assumed-role/Deploy/ci"} {
				if !slices.ContainsFunc(found, func(hit string) bool { return strings.HasPrefix(hit, "the "+want) && strings.Contains(hit, whose+" ") }) {
					t.Errorf("the %s of %s was not found, but %q", want, whose, found)
				}
			}
		}
	})
}

// withoutVirtualSessions builds the program with its answers to STS switched off.
func withoutVirtualSessions(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	path, err := filepath.Abs(filepath.Join("..", "virtualsts", "virtualsts.go"))
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const head = "func (s *Service) Handles(c *awsapi.Call) bool {\n"
	changed := strings.Replace(string(source), head, head+"\tif c != nil {\n\t\treturn false\n\t}\n", 1)
	if changed == string(source) {
		t.Fatalf("%s has no line %q", path, head)
	}
	replacement, overlay := filepath.Join(dir, "virtualsts.go"), filepath.Join(dir, "overlay.json")
	text, err := json.Marshal(map[string]any{"Replace": map[string]string{path: replacement}})
	if err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string][]byte{replacement: []byte(changed), overlay: text} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	output := filepath.Join(dir, "countersign")
	build := exec.Command("go", "build", "-trimpath", "-overlay", overlay, "-o", output, "../cmd/countersign")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	return output
}
