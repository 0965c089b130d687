package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func sorted(names []string) string {
	sort.Strings(names)
	return strings.Join(names, " ")
}

// A haystack is something that a client or a reader of records can see.
type haystack struct {
	name string
	text []byte
}

// mustNotHold fails for every secret in every haystack, whole or in a part long
// enough to matter.
func mustNotHold(t *testing.T, haystacks []haystack, secrets []string) {
	t.Helper()
	for _, h := range haystacks {
		if len(h.text) == 0 {
			t.Errorf("%s is empty: nothing was looked at", h.name)
		}
		for _, secret := range secrets {
			for _, form := range []string{secret, escaped(secret)} {
				if bytes.Contains(h.text, []byte(form)) || bytes.Contains(h.text, []byte(form[len(form)/2:])) {
					t.Errorf("%s holds the secret %.4s…", h.name, secret)
				}
			}
		}
	}
}

func escaped(text string) string {
	encoded, _ := json.Marshal(text)
	return strings.Trim(string(encoded), `"`)
}

// Promise 1: no usable real credential reaches a client, by whatever it can
// see: its environment, the files, answers, errors, output, records, metrics.
func TestNoRealCredentialIsSeen(t *testing.T) {
	u := strictMoto(t)

	t.Run("exec", func(t *testing.T) {
		w := throughExec(t, u, deployARN)
		home := filepath.Dir(w.audit)
		dir := t.TempDir()
		got := w.run(t, dir, nil, "sh", "-c", `env; tr '\0' '\n' </proc/self/environ; aws sts get-caller-identity; aws sts assume-role --role-arn `+deployARN+` --role-session-name me; aws iam create-access-key; true`)
		if !strings.Contains(got.stdout, "assumed-role/Deploy/") {
			t.Fatalf("no call was made:\n%s\n%s", got.stdout, got.stderr)
		}
		secrets := append(u.secrets(t), u.keys.AccessKeyID)
		if len(secrets) < 4 {
			t.Fatalf("only %d secrets exist: the role session is not among them", len(secrets))
		}
		haystacks := []haystack{{"output", []byte(got.stdout)}, {"error output", []byte(got.stderr)}}
		mustNotHold(t, append(haystacks, files(t, home)...), secrets)
		for _, name := range []string{"AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"} {
			if strings.Contains(got.stdout, "\n"+name+"=") {
				t.Errorf("%s was passed on", name)
			}
		}
	})

	t.Run("serve", func(t *testing.T) {
		p := serve(t, u, "log: {level: debug}\n")
		var answers bytes.Buffer
		got := p.client("ci").run(t, t.TempDir(), nil, "sh", "-c", `aws --debug sts get-caller-identity; aws sts assume-role --role-arn `+deployARN+` --role-session-name me; aws sts get-session-token; aws iam create-access-key; true`)
		for _, path := range []string{"/metrics", "/healthz", "/readyz", "/", "/debug/pprof/", "/credentials"} {
			response, err := http.Get("http://" + p.admin + path)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(&answers, response.Body)
			response.Body.Close()
		}
		if !strings.Contains(got.stdout, "assumed-role/Deploy/") {
			t.Fatalf("no call was made:\n%s\n%s", got.stdout, got.stderr)
		}
		haystacks := []haystack{
			{"output", []byte(got.stdout)}, {"error output", []byte(got.stderr)},
			{"admin endpoints", answers.Bytes()}, {"log", []byte(p.said())},
		}
		mustNotHold(t, append(haystacks, files(t, filepath.Dir(p.config))...), u.secrets(t))
	})
}

// files are all that lie below a directory.
func files(t *testing.T, dir string) (haystacks []haystack) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if len(text) > 0 {
			haystacks = append(haystacks, haystack{path, text})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return haystacks
}

// Promise 1 again: calls whose answers carry AWS keys, and that nothing stands
// in for, do not get through.
func TestCredentialCallsAreRefused(t *testing.T) {
	u := strictMoto(t)
	p := serve(t, u, "")
	w := p.client("ci")
	mark := u.mark(t)
	calls := [][]string{
		{"iam", "create-access-key"},
		{"cognito-identity", "get-credentials-for-identity", "--identity-id", "us-east-1:1", "--logins", "issuer=token"},
		{"sts", "assume-role", "--role-arn", "arn:aws:iam::" + account + ":role/NotListed", "--role-session-name", "me"},
		{"codepipeline", "get-job-details", "--job-id", "11111111-1111-1111-1111-111111111111"},
		{"lakeformation", "get-temporary-glue-table-credentials", "--table-arn", "arn:aws:glue:us-east-1:" + account + ":table/d/t"},
	}
	for _, argv := range calls {
		got := w.run(t, t.TempDir(), []string{"AWS_MAX_ATTEMPTS=1"}, append([]string{"aws"}, argv...)...)
		if got.code == 0 {
			t.Errorf("%v was answered: %s", argv, got.stdout)
		}
		if !strings.Contains(got.stderr, "AccessDenied") && !strings.Contains(got.stderr, "the request carries no signature") {
			t.Errorf("%v: the error does not explain itself: %s", argv, got.stderr)
		}
	}
	for _, s := range u.since(t, mark) {
		t.Errorf("sent upstream: %s %s%s", s.Method, s.Host, s.Target)
	}
	for _, line := range waitForAudit(t, p.audit, len(calls)) {
		if line.Decision != "deny" || line.Operation == "" && line.Signature != "none" {
			t.Errorf("audit line: %+v", line)
		}
	}
}

// What STS would answer with AWS keys is answered with client credentials that
// stand for them: of no use elsewhere, and good for the next call.
func TestVirtualSessions(t *testing.T) {
	u := strictMoto(t)
	p := serve(t, u, `roles:
  source: {arn: ""}
  deploy: {arn: "`+deployARN+`", assume: ["arn:aws:iam::`+account+`:role/team/*"]}
`)
	w := p.client("ci")
	for _, test := range []struct {
		name, as string
		argv     []string
	}{
		// moto answers with keys that it does not know itself.
		{"GetSessionToken", "", []string{"get-session-token"}},
		{"GetFederationToken", "", []string{"get-federation-token", "--name", "me"}},
		{"AssumeRole", "assumed-role/Reader/me", []string{"assume-role", "--role-arn", "arn:aws:iam::" + account + ":role/team/Reader", "--role-session-name", "me"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			argv := append([]string{"aws", "sts"}, test.argv...)
			argv = append(argv, "--query", "Credentials.[AccessKeyId,SecretAccessKey,SessionToken]", "--output", "text")
			fields := strings.Fields(w.must(t, t.TempDir(), nil, argv...))
			if len(fields) != 3 || !strings.HasPrefix(fields[0], "CSIG") {
				t.Fatalf("answered with %q", fields)
			}
			mustNotHold(t, []haystack{{"the answer", []byte(strings.Join(fields, " "))}},
				append(u.secrets(t), "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzEXAMPLEKEY"))
			if test.as == "" {
				return
			}
			env := []string{"AWS_ACCESS_KEY_ID=" + fields[0], "AWS_SECRET_ACCESS_KEY=" + fields[1], "AWS_SESSION_TOKEN=" + fields[2]}
			got := w.must(t, t.TempDir(), env, "aws", "sts", "get-caller-identity", "--query", "Arn", "--output", "text")
			if !strings.Contains(got, test.as) {
				t.Errorf("the next call was signed as %s", got)
			}
		})
	}
}

// Promise 4: where the record is required and cannot be kept, nothing is signed.
func TestNothingIsSignedWithoutTheRecord(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("no /dev/full here")
	}
	upstream := record(t, nil)
	p := serve(t, &upstream.upstream, "audit: {file: /dev/full, required: true}\n")
	p.recordLost = true
	c := s3Call("GET", "bucket", "/key", "")
	for range 3 {
		signed := c.sign(t, clientKeys["source"], time.Now())
		response, body := p.dial(t, signed.host).send(t, signed)
		if response.StatusCode < 400 {
			t.Errorf("%s\n%s", response.Status, body)
		}
	}
	if seen := upstream.seen(); len(seen) != 0 {
		t.Errorf("%d requests arrived upstream", len(seen))
	}
}

// One call to STS serves however many requests wait for it.
func TestOneAssumeRoleForManyFirstRequests(t *testing.T) {
	const requests = 1000
	u := strictMoto(t)
	s3 := record(t, nil)
	// So many handshakes at once take long where there are few cores for client, proxy
	// and AWS together.
	p := serve(t, u, `limits: {connect_timeout: 2m, tls_timeout: 2m, header_timeout: 2m}
upstream:
  proxy: none
  override:
    - {hosts: ["sts.us-east-1.amazonaws.com"], address: "`+u.address+`", ca_file: `+thePKI(t).rootFile+`, tls: true}
    - {hosts: ["*.amazonaws.com"], address: "`+s3.address+`", ca_file: `+thePKI(t).rootFile+`, tls: true}
`)
	mark := u.mark(t)
	client := p.httpClient(t)
	statuses := make(chan int, requests)
	var start, all sync.WaitGroup
	start.Add(1)
	for range requests {
		request := unsignedPayloadBy(t, clientKeys["ci"], "GET", objectURL, nil)
		all.Add(1)
		go func() {
			defer all.Done()
			start.Wait()
			response, err := client.Do(request)
			if err != nil {
				t.Error(err)
				return
			}
			io.Copy(io.Discard, response.Body)
			response.Body.Close()
			statuses <- response.StatusCode
		}()
	}
	start.Done()
	all.Wait()
	close(statuses)
	ok := 0
	for status := range statuses {
		if status == http.StatusOK {
			ok++
		}
	}
	if ok != requests {
		t.Errorf("%d of %d requests were answered with 200", ok, requests)
	}
	calls := slices.DeleteFunc(u.since(t, mark), func(s seen) bool { return s.Service != "sts" })
	if len(calls) != 1 {
		t.Errorf("%d calls to STS for %d requests, want 1", len(calls), requests)
	}
	waitForAudit(t, p.audit, requests)
}

// exec hands on its child's exit code.
func TestExecPassesExitCodes(t *testing.T) {
	w := throughExec(t, strictMoto(t), deployARN)
	for _, code := range []string{"0", "1", "42"} {
		if got := w.run(t, t.TempDir(), nil, "sh", "-c", "exit "+code); code != strconv.Itoa(got.code) {
			t.Errorf("exit %s became %d: %s", code, got.code, got.stderr)
		}
	}
}
