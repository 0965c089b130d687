package e2e

import (
	"strings"
	"testing"
)

// Without a configured role the child may go on to roles that the role in force
// may assume, as `terraform` does with a provider's assume_role; a policy holds
// for it all the same.
func TestExecLetsItsChildChain(t *testing.T) {
	u := strictMoto(t)
	script := `eval $(aws sts assume-role --role-arn arn:aws:iam::210987654321:role/path/Next --role-session-name next ` +
		`--query 'Credentials.[AccessKeyId,SecretAccessKey,SessionToken]' --output text | ` +
		`{ read id secret token; echo export AWS_ACCESS_KEY_ID=$id AWS_SECRET_ACCESS_KEY=$secret AWS_SESSION_TOKEN=$token; }); ` +
		`echo $AWS_ACCESS_KEY_ID; aws sts get-caller-identity --query Arn --output text`
	for _, role := range []string{"", deployARN} {
		w := throughExec(t, u, role)
		got := w.run(t, t.TempDir(), nil, "bash", "-c", script)
		if got.code != 0 || !strings.HasPrefix(got.stdout, "CSIG") || !strings.Contains(got.stdout, "arn:aws:sts::210987654321:assumed-role/Next/next") {
			t.Errorf("role %q: exit code %d\n%s\n%s", role, got.code, got.stdout, got.stderr)
		}
	}
}
