package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// profilesFile writes ~/.aws/config below a home of the client's own.
func profilesFile(t testing.TB, home, tokenFile string) {
	t.Helper()
	text := fmt.Sprintf(`[profile base]
aws_access_key_id = %s
aws_secret_access_key = %s
[profile deploy]
role_arn = %s
source_profile = base
role_session_name = profile
[profile spoke]
role_arn = %s
source_profile = deploy
[profile pod]
role_arn = %s
web_identity_token_file = %s
role_session_name = pod
`, clientKeys["ci"].AccessKeyID, clientKeys["ci"].SecretAccessKey, deployARN, spokeARN("222222222222"), podsARN, tokenFile)
	if err := os.MkdirAll(filepath.Join(home, ".aws"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, ".aws", "config"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// at gives the client a home of its own.
func (w way) at(home string) way {
	w.env = append(slices.Clone(w.env), "HOME="+home)
	return w
}

// A usedSession is what sessions.py saw of one.
type usedSession struct {
	Key, Expires, User, Caller, Subject string
	Buckets                             []string
}

// sessionsOf runs sessions.py.
func sessionsOf(t *testing.T, w way, ways ...string) map[string]usedSession {
	t.Helper()
	said := w.must(t, t.TempDir(), nil, append([]string{python(t), script(t, "sessions.py")}, ways...)...)
	var seen map[string]usedSession
	if err := json.Unmarshal([]byte(said), &seen); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	return seen
}

// signers are the real principals that signed what arrived, other than the
// proxy's own calls to STS.
func signers(t testing.TB, requests []seen, operationHost string) (arns []string) {
	t.Helper()
	for _, s := range requests {
		if s.Refused != "" {
			t.Errorf("the server refused %s %s%s: %s", s.Method, s.Host, s.Target, s.Refused)
		}
		if strings.HasPrefix(s.Host, operationHost) {
			arns = append(arns, s.ARN)
		}
	}
	return arns
}

// Real clients ask STS for roles and get keys that stand for them; what arrives is
// signed with the real sessions, whose tokens the server verifies.
func TestClientsAssumeRoles(t *testing.T) {
	interpreter := python(t)
	u := strictMoto(t)
	issuer := startOIDC(t)
	p := serveSessions(t, u, issuer, "")
	tokenFile := issuer.tokenFile(t, nil)

	t.Run("boto3", func(t *testing.T) {
		before := len(readAudit(t, p.audit))
		mark := u.mark(t)
		got := sessionsOf(t, p.client("ci"), "assume")
		for name, want := range map[string][2]string{
			"assume": {"arn:aws:sts::" + account + ":assumed-role/Deploy/boto", "boto"},
			"chain":  {"arn:aws:sts::222222222222:assumed-role/Spoke/chained", "chained"},
			"back":   {"arn:aws:sts::" + account + ":assumed-role/Deploy/back", "back"},
		} {
			s := got[name]
			if s.User != want[0] || s.Caller != want[0] || !strings.HasPrefix(s.Key, "CSIG") {
				t.Errorf("%s: %+v, want %s", name, s, want[0])
			}
		}
		// The real expiration, as the client asked for it.
		if until := expiry(t, got["assume"]); until > 16*time.Minute {
			t.Errorf("a session of 15 minutes lasts %v", until)
		}
		if arns := signers(t, u.since(t, mark), "s3."); len(arns) != 3 {
			t.Errorf("S3 was called by %v", arns)
		}
		var assumed []string
		for _, line := range waitForAudit(t, p.audit, before+9)[before:] {
			if line.Decision != "allow" || line.Identity != "ci" || line.Role != "deploy" || line.Error == "" && line.Operation == "AssumeRole" {
				t.Errorf("audit line %+v", line)
			}
			if line.Operation == "AssumeRole" {
				assumed = append(assumed, line.RoleARN+" "+line.SessionName)
			} else if !slices.Contains([]string{got["assume"].Key, got["chain"].Key, got["back"].Key}, line.AccessKeyID) {
				t.Errorf("audit line names the key %s: %+v", line.AccessKeyID, line)
			}
		}
		want := []string{deployARN + " boto", spokeARN("222222222222") + " chained", deployARN + " back"}
		if !slices.Equal(assumed, want) {
			t.Errorf("assumed %q, want %q", assumed, want)
		}
	})

	t.Run("boto3, sessions of a user", func(t *testing.T) {
		before := len(readAudit(t, p.audit))
		mark := u.mark(t)
		got := sessionsOf(t, p.client("source"), "user")
		if s := got["federated"]; s.User != "arn:aws:sts::"+account+":federated-user/bob" || !strings.HasPrefix(s.Key, "CSIG") {
			t.Errorf("federated: %+v", s)
		}
		if s := got["session"]; !strings.HasPrefix(s.Key, "CSIG") || expiry(t, s) > 16*time.Minute {
			t.Errorf("session: %+v", s)
		}
		want := []string{"arn:aws:iam::" + account + ":user/source", "arn:aws:sts::" + account + ":federated-user/bob"}
		if arns := signers(t, u.since(t, mark), "s3."); !slices.Equal(arns, want) {
			t.Errorf("S3 was called by %v, want %v", arns, want)
		}
		waitForAudit(t, p.audit, before+6)
	})

	t.Run("boto3, web identity", func(t *testing.T) {
		mark := u.mark(t)
		w := p.client("ci").withoutKeys()
		w.env = append(w.env, "TOKEN_FILE="+tokenFile)
		before := len(readAudit(t, p.audit))
		got := sessionsOf(t, w, "web")["web"]
		if got.Subject != "system:serviceaccount:prod:web" || !strings.HasPrefix(got.Key, "CSIG") || !strings.Contains(got.Caller, ":assumed-role/Pods/") {
			t.Errorf("%+v", got)
		}
		line := waitForAudit(t, p.audit, before+3)[before]
		if line.Identity != "system:serviceaccount:prod:web" || line.Role != "pods" || line.Decision != "allow" || line.Signature != "none" {
			t.Errorf("audit line %+v", line)
		}
		for _, s := range u.since(t, mark) {
			if s.Refused != "" || strings.Contains(s.Target, "WebIdentity") || s.Service == "" {
				t.Errorf("arrived: %+v", s)
			}
		}
		// As a pod has it: two variables, and the SDK does the rest.
		w.env = append(w.env, "AWS_WEB_IDENTITY_TOKEN_FILE="+tokenFile, "AWS_ROLE_ARN="+podsARN, "AWS_ROLE_SESSION_NAME=pod")
		said := w.must(t, t.TempDir(), nil, interpreter, script(t, "sessions.py"), "chain")
		if !strings.Contains(said, `"assume-role-with-web-identity"`) || !strings.Contains(said, ":assumed-role/Pods/") {
			t.Errorf("%s", said)
		}
	})

	t.Run("aws-cli profiles", func(t *testing.T) {
		tool(t, "aws")
		home := t.TempDir()
		profilesFile(t, home, tokenFile)
		said := strings.Fields(p.client("ci").withoutKeys().at(home).must(t, home, nil, "sh", script(t, "profiles.sh")))
		for i, want := range []string{
			"base", "arn:aws:sts::" + account + ":assumed-role/Deploy/ci",
			"deploy", "arn:aws:sts::" + account + ":assumed-role/Deploy/profile",
			"spoke", "arn:aws:sts::222222222222:assumed-role/Spoke/",
			"pod", "arn:aws:sts::" + account + ":assumed-role/Pods/",
		} {
			if i >= len(said) || !strings.HasPrefix(said[i], want) {
				t.Errorf("the profiles are %q, want %q at %d", said, want, i)
			}
		}
		// What aws-cli keeps of a session is what it was given.
		kept := 0
		for _, h := range files(t, filepath.Join(home, ".aws", "cli", "cache")) {
			kept++
			if !strings.Contains(string(h.text), `"AccessKeyId": "CSIG`) {
				t.Errorf("%s: %s", h.name, h.text)
			}
		}
		if kept == 0 {
			t.Error("aws-cli has cached no session")
		}
	})

	t.Run("terraform", func(t *testing.T) {
		terraform := terraformOrTofu(t)
		home := t.TempDir()
		profilesFile(t, home, tokenFile)
		mark := u.mark(t)
		terraformRoles(t, terraform, p.client("ci").at(home), home)
		arns := map[string]bool{}
		for _, s := range u.since(t, mark) {
			if s.Refused != "" {
				t.Errorf("the server refused %s %s%s: %s", s.Method, s.Host, s.Target, s.Refused)
			}
			if strings.HasPrefix(s.Host, "countersign-roles.s3.") || strings.Contains(s.Target, "/countersign-roles") {
				arns[s.ARN] = true
			}
		}
		for _, want := range []string{
			"arn:aws:sts::" + account + ":assumed-role/Deploy/terraform",
			"arn:aws:sts::222222222222:assumed-role/Spoke/terraform-spoke",
			"arn:aws:sts::333333333333:assumed-role/Spoke/terraform-spoke",
			"arn:aws:sts::444444444444:assumed-role/Spoke/terraform-spoke",
		} {
			if !arns[want] {
				t.Errorf("nothing was signed by %s, but by %v", want, arns)
			}
		}
	})
}

// terraformRoles runs terraform with a state under a role and others under roles
// that are chained from it.
func terraformRoles(t *testing.T, terraform string, w way, dir string) string {
	t.Helper()
	source, err := os.ReadFile(filepath.Join("testdata", "terraform-roles", "main.tf"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "main.tf"), source, 0o600); err != nil {
		t.Fatal(err)
	}
	runner := filepath.Join(dir, "run.sh")
	if err := os.WriteFile(runner, []byte(terraformRolesScript), 0o600); err != nil {
		t.Fatal(err)
	}
	said := w.must(t, dir, []string{"TERRAFORM=" + terraform, "TF_IN_AUTOMATION=1", "TF_LOG=trace", "TF_LOG_PATH=" + filepath.Join(dir, "trace.log")}, "sh", runner)
	if want := "222222222222, 333333333333, 444444444444"; !strings.Contains(said, want) {
		t.Errorf("terraform said %q, want %q", said, want)
	}
	return said
}

const terraformRolesScript = `set -eu
aws s3 mb s3://countersign-roles >/dev/null
for account in 222222222222 333333333333 444444444444; do
  echo '{"version": 4, "terraform_version": "1.10.0", "serial": 1, "lineage": "'$account'", "outputs": {"greeting": {"value": "'$account'", "type": "string"}}, "resources": []}' |
    aws s3 cp - s3://countersign-roles/spokes/$account.tfstate
done
"$TERRAFORM" init -input=false -no-color >log 2>&1 || { cat log >&2; exit 1; }
"$TERRAFORM" apply -input=false -no-color -auto-approve >log 2>&1 || { cat log >&2; exit 1; }
"$TERRAFORM" output -raw greetings
aws s3 rb --force s3://countersign-roles >/dev/null
`

func expiry(t testing.TB, s usedSession) time.Duration {
	t.Helper()
	at, err := time.Parse(time.RFC3339, s.Expires)
	if err != nil {
		t.Fatal(err)
	}
	return time.Until(at)
}
