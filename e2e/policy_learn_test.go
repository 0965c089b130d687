package e2e

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/go-cmp/cmp"
)

// A document is an IAM policy as `learn` writes it.
type document struct {
	Version   string
	Statement []statement
}

type statement struct {
	Sid      string
	Effect   string
	Action   []string
	Resource []string
}

func readDocument(t testing.TB, file string) (d document) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatalf("%s: %v\n%s", file, err, text)
	}
	return d
}

// actions are all that the document allows, sorted.
func (d document) actions() []string {
	set := map[string]bool{}
	for _, s := range d.Statement {
		for _, a := range s.Action {
			set[a] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// without is the document with one action taken out.
func (d document) without(action string) document {
	out := document{Version: d.Version}
	for _, s := range d.Statement {
		s.Action = slices.DeleteFunc(slices.Clone(s.Action), func(a string) bool { return a == action })
		if len(s.Action) > 0 {
			out.Statement = append(out.Statement, s)
		}
	}
	return out
}

func (d document) write(t testing.TB, name string) string {
	t.Helper()
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// with adds options of exec.
func (w way) with(options ...string) way {
	w.wrap = slices.Insert(slices.Clone(w.wrap), len(w.wrap)-1, options...)
	return w
}

// emptyBucket takes back what a run that was stopped has left behind.
func emptyBucket(t testing.TB, u *upstream, bucket string) {
	t.Helper()
	client := s3.New(s3.Options{
		Region: region, HTTPClient: u.admin,
		Credentials: credentials.StaticCredentialsProvider{Value: u.keys},
	})
	list, err := client.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &bucket})
	if err != nil {
		return // there is none
	}
	for _, object := range list.Contents {
		if _, err := client.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &bucket, Key: object.Key}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.DeleteBucket(t.Context(), &s3.DeleteBucketInput{Bucket: &bucket}); err != nil {
		t.Fatal(err)
	}
}

// A lesson is a run of a program under `exec --learn`.
type lesson struct {
	u       *upstream
	bucket  string // that a stopped run leaves behind
	run     func(t *testing.T, w way) result
	file    string // the policy
	learned document
	output  string
	lines   []auditLine
}

// learn lets a program run once, and once more under what was learned, with the
// same output and the same calls.
func learn(t *testing.T, u *upstream, bucket string, run func(t *testing.T, w way) result) *lesson {
	t.Helper()
	l := &lesson{u: u, bucket: bucket, run: run, file: filepath.Join(t.TempDir(), "learned.json")}
	w := throughExec(t, u, deployARN).with("--learn", l.file)
	first := run(t, w)
	if first.code != 0 {
		t.Fatalf("the run to learn from: exit code %d\n%s\n%s", first.code, first.stdout, first.stderr)
	}
	if !strings.Contains(first.stderr, "learned from") {
		t.Errorf("nothing was said of what was learned:\n%s", first.stderr)
	}
	l.learned, l.output, l.lines = readDocument(t, l.file), first.stdout, readAudit(t, w.audit)
	if check := w.command(t, "policy", "check", l.file); check.code != 0 {
		t.Errorf("policy check of what was learned: exit code %d\n%s\n%s", check.code, check.stdout, check.stderr)
	}

	// What the audit record says is enough to learn the same from it.
	fromAudit := filepath.Join(t.TempDir(), "from-audit.json")
	if said := w.command(t, "policy", "learn", "--from", w.audit, "--out", fromAudit); said.code != 0 {
		t.Fatalf("policy learn --from: exit code %d\n%s", said.code, said.stderr)
	}
	for name, file := range map[string]string{"what exec learned": l.file, "what the audit record teaches": fromAudit} {
		w := throughExec(t, u, deployARN).with("--policy", file)
		again := run(t, w)
		if again.code != 0 || again.stdout != l.output {
			text, _ := os.ReadFile(file)
			t.Fatalf("the same again under %s: exit code %d, want output\n%s\ngot\n%s\n%s\nthe policy:\n%s", name, again.code, l.output, again.stdout, again.stderr, text)
		}
		lines := readAudit(t, w.audit)
		if diff := cmp.Diff(operations(l.lines), operations(lines)); diff != "" {
			t.Errorf("under %s the program made other calls (-learned from +now):\n%s", name, diff)
		}
		for _, line := range lines {
			if line.Decision != "allow" || line.Reason != "allowed" && line.Reason != "no permission needed" {
				t.Errorf("under %s: %+v", name, line)
			}
			if line.Reason == "allowed" && (line.Policy != filepath.Base(file) || line.Statement == "") {
				t.Errorf("under %s it is not said what allows: %+v", name, line)
			}
		}
	}
	return l
}

// command runs one of countersign's own commands as the way's owner would.
func (w way) command(t testing.TB, argv ...string) result {
	t.Helper()
	return way{env: w.env}.run(t, t.TempDir(), nil, append([]string{program}, argv...)...)
}

func operations(lines []auditLine) (names []string) {
	for _, line := range lines {
		names = append(names, line.Service+":"+line.Operation)
	}
	return names
}

// deniedWithout runs the program without one action, and wants it to come as far
// as the first call that needs it and no further. It returns what the program
// said and the line of the denied call.
func (l *lesson) deniedWithout(t *testing.T, action string, after ...string) (result, auditLine) {
	t.Helper()
	t.Cleanup(func() { emptyBucket(t, l.u, l.bucket) })
	w := throughExec(t, l.u, deployARN).with("--policy", l.learned.without(action).write(t, "without.json"))
	mark := l.u.mark(t)
	got := l.run(t, w)
	if got.code == 0 {
		t.Fatalf("it succeeds without %s", action)
	}
	at := slices.IndexFunc(l.lines, func(line auditLine) bool { return slices.Contains(line.Actions, action) })
	if at < 0 {
		t.Fatalf("no call needed %s: %+v", action, l.lines)
	}
	lines := readAudit(t, w.audit)
	if diff := cmp.Diff(append(operations(l.lines[:at+1]), after...), operations(lines)); diff != "" {
		t.Fatalf("it was not denied at exactly that call (-want +got):\n%s\n%s", diff, got.stderr)
	}
	for i, line := range lines {
		if denied := line.Decision == "deny"; denied != (i == at) {
			t.Errorf("call %d: %+v", i, line)
		}
	}
	line := lines[at]
	if line.Reason != "implicit deny" || line.Status != 403 || !slices.Contains(line.Actions, action) {
		t.Errorf("the denied call's line: %+v", line)
	}
	// Nothing of the denied call arrived.
	for _, s := range l.u.since(t, mark) {
		if slices.Equal(s.header("x-amzn-requestid"), []string{line.RequestID}) || s.Refused != "" {
			t.Errorf("sent upstream: %+v", s)
		}
	}
	if arrived := len(l.u.since(t, mark)) - 1; arrived != len(lines)-1 { // the call to STS
		t.Errorf("%d calls arrived upstream, want %d", arrived, len(lines)-1)
	}
	return got, line
}

// Every permission of the learned policy is needed: without any one of them the
// same program is denied at the first call that needs it, by a real SDK's
// understanding, without retries.
func TestEveryLearnedActionIsNeeded(t *testing.T) {
	interpreter := python(t)
	u := strictMoto(t)
	l := learn(t, u, "countersign-learned", func(t *testing.T, w way) result {
		return w.run(t, t.TempDir(), nil, interpreter, script(t, "learned.py"))
	})
	want := []string{
		"iam:ListUsers",
		"s3:CreateBucket", "s3:DeleteBucket", "s3:DeleteObject", "s3:GetObject", "s3:ListBucket",
		"s3:PutObject", "s3:PutObjectTagging",
		"sqs:CreateQueue", "sqs:SendMessage", "ssm:GetParameter", "ssm:PutParameter",
	}
	if diff := cmp.Diff(want, l.learned.actions()); diff != "" {
		t.Errorf("the learned actions (-want +got):\n%s", diff)
	}
	for _, action := range l.learned.actions() {
		t.Run(action, func(t *testing.T) {
			got, line := l.deniedWithout(t, action)
			var said struct {
				Code, Message, Operation string
				Retries                  int
			}
			if err := json.Unmarshal([]byte(got.stdout), &said); err != nil {
				t.Fatalf("%v\n%s\n%s", err, got.stdout, got.stderr)
			}
			if said.Operation != line.Operation || said.Retries != 0 || !strings.HasPrefix(said.Code, "AccessDenied") {
				t.Errorf("the SDK made this of it: %+v", said)
			}
			for _, word := range append([]string{"is not authorized to perform: " + action, "no policy of role Deploy allows the " + action}, resourceOf(action, line)...) {
				if !strings.Contains(said.Message, word) {
					t.Errorf("the message does not say %q: %s", word, said.Message)
				}
			}
		})
	}

	// A statement that denies is named, with its policy.
	denying := l.learned
	denying.Statement = append(slices.Clone(denying.Statement), statement{"HandsOff", "Deny", []string{"sqs:Send*"}, []string{"*"}})
	w := throughExec(t, u, deployARN).with("--policy", denying.write(t, "denying.json"))
	got := l.run(t, w)
	emptyBucket(t, u, l.bucket)
	for _, word := range []string{
		"sqs:SendMessage on resource: arn:aws:sqs:us-east-1:" + account + ":countersign-learned",
		"with an explicit deny in statement HandsOff of policy denying.json",
	} {
		if !strings.Contains(got.stdout, word) {
			t.Errorf("the message does not say %q: %s", word, got.stdout)
		}
	}
	lines := readAudit(t, w.audit)
	if last := lines[len(lines)-1]; last.Operation != "SendMessage" || last.Reason != "explicit deny" || last.Policy != "denying.json" || last.Statement != "HandsOff" {
		t.Errorf("the denied call's line: %+v", last)
	}
}

// resourceOf is what a denial must say of the resource: one of those of the call
// that are of the action's service.
func resourceOf(action string, line auditLine) []string {
	service, _, _ := strings.Cut(action, ":")
	own := slices.DeleteFunc(slices.Clone(line.Resources), func(r string) bool { return !strings.HasPrefix(r, "arn:aws:"+service+":") })
	if len(own) == 1 {
		return []string{"on resource: " + own[0]}
	}
	return nil
}

func TestAWSCLIUnderALearnedPolicy(t *testing.T) {
	tool(t, "aws")
	l := learn(t, strictMoto(t), "countersign-cli-learned", func(t *testing.T, w way) result {
		return w.run(t, t.TempDir(), nil, "sh", script(t, "learned.sh"))
	})
	for _, action := range []string{"s3:GetObject", "dynamodb:ListTables"} {
		t.Run(action, func(t *testing.T) {
			got, line := l.deniedWithout(t, action)
			if action == "dynamodb:ListTables" && !strings.Contains(got.stderr, "is not authorized to perform: "+action) {
				t.Errorf("aws-cli said: %s", got.stderr)
			}
			// Of HEAD there is no message; what it would have said can be asked for.
			w := throughExec(t, l.u, deployARN)
			said := w.command(t, "policy", "explain", "--policy", l.file, "--action", action, "--resource", line.Resources[0])
			if said.code != 0 || !strings.Contains(said.stdout, action) {
				t.Errorf("explain: %+v", said)
			}
		})
	}
}

func TestTerraformUnderALearnedPolicy(t *testing.T) {
	terraform := terraformOrTofu(t)
	source, err := os.ReadFile(filepath.Join("testdata", "terraform", "main.tf"))
	if err != nil {
		t.Fatal(err)
	}
	l := learn(t, strictMoto(t), "countersign-terraform", func(t *testing.T, w way) result {
		dir := t.TempDir()
		runner := filepath.Join(dir, "run.sh")
		for file, text := range map[string][]byte{filepath.Join(dir, "main.tf"): source, runner: []byte(terraformScript)} {
			if err := os.WriteFile(file, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return w.run(t, dir, []string{"TERRAFORM=" + terraform, "TF_IN_AUTOMATION=1"}, "sh", runner)
	})
	locks := slices.ContainsFunc(l.learned.Statement, func(s statement) bool {
		return slices.ContainsFunc(s.Resource, func(r string) bool { return strings.HasSuffix(r, ".tflock") })
	})
	if !locks {
		t.Errorf("the lock file is not in the learned policy: %+v", l.learned)
	}
	// Terraform asks who holds the lock that it was not given.
	got, line := l.deniedWithout(t, "s3:PutObject", "s3:GetObject")
	if want := "arn:aws:s3:::countersign-terraform/env/prod/state with space.tfstate.tflock"; !slices.Equal(line.Resources, []string{want}) {
		t.Errorf("the denied call's line: %+v", line)
	}
	if !strings.Contains(strings.Join(strings.Fields(strings.ReplaceAll(got.stderr, "│", "")), " "), "is not authorized to perform: s3:PutObject on resource: arn:aws:s3:::countersign-terraform/env/prod/state with space.tfstate.tflock") {
		t.Errorf("terraform said:\n%s", got.stderr)
	}
}
