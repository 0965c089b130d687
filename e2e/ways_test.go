package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// bareEnvironment is what every process starts from: nothing of this machine's
// AWS, proxy or certificate settings.
func bareEnvironment(home string) []string {
	path := strings.Join(append(toolDirs(), os.Getenv("PATH")), string(os.PathListSeparator))
	return []string{
		"PATH=" + path,
		"HOME=" + home,
		"TMPDIR=" + os.TempDir(),
		"LC_ALL=C.UTF-8",
		"PYTHONDONTWRITEBYTECODE=1",
		"PYTHONHASHSEED=0", // botocore prints sets in its User-Agent
		"AWS_REGION=" + region,
		"AWS_DEFAULT_REGION=" + region,
		"AWS_EC2_METADATA_DISABLED=true",
		"AWS_PAGER=",
		"CHECKPOINT_DISABLE=1",
	}
}

func keyEnvironment(u *upstream) []string {
	return []string{
		"AWS_ACCESS_KEY_ID=" + u.keys.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY=" + u.keys.SecretAccessKey,
	}
}

func trustEnvironment(bundle string) []string {
	return []string{
		"AWS_CA_BUNDLE=" + bundle,
		"SSL_CERT_FILE=" + bundle,
		"REQUESTS_CA_BUNDLE=" + bundle,
		"NODE_EXTRA_CA_CERTS=" + bundle,
	}
}

// A way is how a client program comes to an upstream.
type way struct {
	name  string
	wrap  []string // put before the client's own command line
	env   []string
	audit string // countersign's audit file, "" on the direct way
}

// directly gives the client the upstream's real keys and a tunnel to it.
func directly(t testing.TB, u *upstream) way {
	t.Helper()
	env := append(bareEnvironment(t.TempDir()), keyEnvironment(u)...)
	env = append(env, trustEnvironment(thePKI(t).rootFile)...)
	return way{name: "directly", env: append(env, "HTTPS_PROXY=http://"+tunnel(t, u))}
}

// throughExec puts `countersign exec` before the client. The real keys are in
// countersign's environment; role "" lets them sign.
func throughExec(t testing.TB, u *upstream, role string) way {
	t.Helper()
	home := t.TempDir()
	audit := filepath.Join(home, "audit.jsonl")
	config := writeConfig(t, home, u, "audit: {file: "+audit+", required: true}\n")
	wrap := []string{program, "exec", "--config", config}
	if role != "" {
		wrap = append(wrap, "--role", role)
	}
	return way{
		name:  "through exec",
		wrap:  append(wrap, "--"),
		env:   append(bareEnvironment(home), keyEnvironment(u)...),
		audit: audit,
	}
}

// writeConfig writes a configuration that sends AWS's hosts to an upstream.
func writeConfig(t testing.TB, dir string, u *upstream, more string) string {
	t.Helper()
	file := filepath.Join(dir, "countersign.yaml")
	text := "state_dir: " + filepath.Join(dir, "state") + "\n" +
		"source: {region: " + region + ", sts_region: " + region + "}\n" +
		override(u.address, thePKI(t).rootFile) + more
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// A result is how a program ended and what it said.
type result struct {
	code           int
	stdout, stderr string
}

func (w way) run(t testing.TB, dir string, env []string, argv ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*patience)
	defer cancel()
	argv = append(slices.Clone(w.wrap), argv...)
	command := exec.CommandContext(ctx, argv[0], argv[1:]...)
	command.Dir = dir
	command.Env = append(slices.Clone(w.env), env...)
	command.WaitDelay = 10 * time.Second
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	err := command.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", strings.Join(argv, " "), err)
	}
	return result{command.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// must runs a program that has to succeed, and returns what it printed.
func (w way) must(t testing.TB, dir string, env []string, argv ...string) string {
	t.Helper()
	r := w.run(t, dir, env, argv...)
	if r.code != 0 {
		t.Fatalf("%s %s: exit code %d\nstdout:\n%s\nstderr:\n%s", w.name, strings.Join(argv, " "), r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// material are the headers that re-signing replaces by nature, and those that
// clients fill with random values.
var material = []string{
	"authorization", "x-amz-date", "x-amz-security-token",
	"amz-sdk-invocation-id",
}

// Of objects whose content the client makes anew at every run, the content and
// what follows from it cannot be compared.
var (
	everNew       = regexp.MustCompile(`\.tf(state|lock)(\?|$)`)
	everNewHeader = regexp.MustCompile(`^(content-length|content-md5|x-amz-decoded-content-length|x-amz-checksum-.*|x-amz-content-sha256)$`)
	uploadID      = regexp.MustCompile(`(?i)(uploadid)=[^&]+`)
)

// hopByHop says whether a header belongs to one connection and not to the
// request, and so is each side's own (RFC 9110 section 7.6.1). A length of
// nothing says nothing either: net/http does not send it with DELETE.
func hopByHop(name, value string) bool {
	return name == "connection" || name == "keep-alive" || name == "content-length" && value == "0"
}

// meaning is a request as the server saw it without signature material.
func meaning(s seen) string {
	fresh := everNew.MatchString(s.Target)
	lines := []string{s.Method + " " + s.Host + uploadID.ReplaceAllString(s.Target, "$1=ID")}
	for _, h := range s.Headers {
		name := strings.ToLower(h[0])
		// Blanks around a value are not part of it (RFC 9110 section 5.5).
		value := strings.Trim(h[1], " \t")
		if !slices.Contains(material, name) && !hopByHop(name, value) && !(fresh && everNewHeader.MatchString(name)) {
			lines = append(lines, "  "+name+": "+value)
		}
	}
	slices.Sort(lines[1:])
	if !fresh {
		lines = append(lines, fmt.Sprintf("  body: %d %s", s.BodyLength, s.BodySHA256))
	}
	return strings.Join(lines, "\n")
}

// meanings sorts, because clients send in parallel.
func meanings(t testing.TB, requests []seen) (m []string) {
	t.Helper()
	for _, s := range requests {
		if s.Refused != "" {
			t.Errorf("the server refused %s %s%s: %s", s.Method, s.Host, s.Target, s.Refused)
		}
		m = append(m, meaning(s))
	}
	slices.Sort(m)
	return m
}

// compare runs a client directly and through countersign, and wants the client
// to see the same answers and the server the same requests. It returns what
// the server saw the second time, without the proxy's own calls to STS.
func compare(t *testing.T, u *upstream, role string, client func(t *testing.T, w way) string) []seen {
	t.Helper()
	call := func(w way) (string, []seen) {
		if u.admin == nil {
			return client(t, w), nil
		}
		mark := u.mark(t)
		output := client(t, w)
		return output, slices.DeleteFunc(u.since(t, mark), func(s seen) bool {
			return w.audit != "" && s.AccessKeyID == u.keys.AccessKeyID && s.Service == "sts" && role != ""
		})
	}
	wantOutput, wantSeen := call(directly(t, u))
	through := throughExec(t, u, role)
	gotOutput, gotSeen := call(through)
	if diff := cmp.Diff(wantOutput, gotOutput); diff != "" {
		t.Errorf("the client's output differs (-directly +through countersign):\n%s", diff)
	}
	if diff := cmp.Diff(meanings(t, wantSeen), meanings(t, gotSeen)); diff != "" {
		t.Errorf("what the server saw differs (-directly +through countersign):\n%s", diff)
	}
	if u.admin == nil {
		return nil
	}
	for _, s := range gotSeen {
		if role != "" && !strings.Contains(s.ARN, ":assumed-role/Deploy/") {
			t.Errorf("%s %s%s was signed by %q, not by the role", s.Method, s.Host, s.Target, s.ARN)
		}
	}
	lines := readAudit(t, through.audit)
	if len(lines) != len(gotSeen) {
		t.Errorf("%d audit lines for %d requests", len(lines), len(gotSeen))
	}
	for _, line := range lines {
		if line.Decision != "allow" || line.RoleARN != role || line.Error != "" || line.Operation == "" {
			t.Errorf("unexpected audit line: %+v", line)
		}
	}
	return gotSeen
}
