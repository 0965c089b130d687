package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// terraformProvider is the folder of terraform-provider-aws, which takes minutes
// to build: `make test-terraform` does.
func terraformProvider(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../.tools/terraform")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "terraform-provider-aws")); err != nil {
		t.Skip("without terraform-provider-aws, which make test-terraform builds")
	}
	return dir
}

// The module makes, through the proxy and with AWS's own provider, the roles that
// the proxy needs; and what it says to put into the configuration works.
func TestTerraformModule(t *testing.T) {
	t.Parallel()
	provider := terraformProvider(t)
	terraform, cli := terraformOrTofu(t), tool(t, "aws")
	u := strictMoto(t)
	module, err := filepath.Abs("../deploy/aws/terraform")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	settings := write("terraformrc", fmt.Sprintf("provider_installation {\n  dev_overrides { \"hashicorp/aws\" = %q }\n  direct {}\n}\n", provider))
	write("main.tf", fmt.Sprintf(`
provider "aws" {
  region = "us-east-1"
}

# Its ARN is known when it has been made.
resource "aws_iam_policy" "deploy" {
  name   = "tf-deploy"
  policy = jsonencode({ Version = "2012-10-17", Statement = [{ Effect = "Allow", Action = "s3:*", Resource = "*" }] })
}

module "ec2" {
  source = %q
  name   = "tf-countersign"
  roles = {
    tf-deploy = {
      policy_arns          = [aws_iam_policy.deploy.arn]
      external_id          = "shared-1"
      require_tags         = ["team"]
      max_session_duration = 7200
    }
    tf-read = {
      inline_policy = jsonencode({ Version = "2012-10-17", Statement = [{ Effect = "Allow", Action = "s3:Get*", Resource = "*" }] })
    }
  }
  foreign_roles = ["arn:aws:iam::210987654321:role/Elsewhere"]
  tags          = { made-by = "terraform" }
}

module "irsa" {
  source            = %q
  name              = "tf-irsa"
  workload          = "irsa"
  oidc_provider_arn = "arn:aws:iam::123456789012:oidc-provider/oidc.eks.us-east-1.amazonaws.com/id/0123"
}

module "pod" {
  source          = %q
  name            = "tf-pod"
  workload        = "pod-identity"
  service_account = "aws/gateway"
}

module "ecs" {
  source   = %q
  name     = "tf-ecs"
  workload = "ecs"
}

output "roles" {
  value     = module.ec2.countersign_roles
  sensitive = true
}
`, module, module, module, module))

	w := throughExec(t, u, deployARN)
	w.env = append(w.env, "TF_CLI_CONFIG_FILE="+settings, "TF_IN_AUTOMATION=1", "TF_PLUGIN_CACHE_DIR=")
	mark := u.mark(t)
	w.must(t, dir, nil, terraform, "get", "-no-color") // init would ask the registry
	w.must(t, dir, nil, terraform, "validate", "-no-color")
	w.must(t, dir, nil, terraform, "apply", "-no-color", "-input=false", "-auto-approve")
	// What is there is what was asked for.
	w.must(t, dir, nil, terraform, "plan", "-no-color", "-input=false", "-detailed-exitcode")

	by := map[string]bool{}
	for _, r := range u.since(t, mark) {
		if r.Service == "iam" {
			by[r.ARN] = true
			if r.Refused != "" {
				t.Errorf("%s %s was refused: %s", r.Method, r.Target, r.Refused)
			}
		}
	}
	for arn := range by {
		if !strings.HasPrefix(arn, "arn:aws:sts::"+account+":assumed-role/Deploy/") {
			t.Errorf("a call to IAM was signed by %s", arn)
		}
	}
	if len(by) == 0 {
		t.Error("no call to IAM came through")
	}
	state, err := os.ReadFile(filepath.Join(dir, "terraform.tfstate"))
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range u.secrets(t) {
		if strings.Contains(string(state), secret) {
			t.Error("a secret of AWS is in the state")
		}
	}

	// The trust, as IAM has it.
	direct := directly(t, u)
	var answer struct {
		Role struct {
			MaxSessionDuration       int
			AssumeRolePolicyDocument any
		}
	}
	if err := json.Unmarshal([]byte(direct.must(t, dir, nil, cli, "--output", "json", "iam", "get-role", "--role-name", "tf-deploy")), &answer); err != nil {
		t.Fatal(err)
	}
	principal := map[string]any{"AWS": "arn:aws:iam::" + account + ":role/tf-countersign"}
	want := map[string]any{"Version": "2012-10-17", "Statement": []any{
		map[string]any{"Sid": "Assume", "Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole", "Condition": map[string]any{
			"StringEquals": map[string]any{"sts:ExternalId": "shared-1"}, "StringLike": map[string]any{"aws:RequestTag/team": "*"}}},
		map[string]any{"Sid": "Describe", "Effect": "Allow", "Principal": principal, "Action": []any{"sts:TagSession", "sts:SetSourceIdentity"}},
	}}
	if diff := cmp.Diff(want, answer.Role.AssumeRolePolicyDocument); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if answer.Role.MaxSessionDuration != 7200 {
		t.Errorf("sessions of %d s", answer.Role.MaxSessionDuration)
	}
	// Nobody but its workload can have the proxy's own role.
	for name, want := range map[string]map[string]any{
		"tf-countersign": {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": map[string]any{"Service": "ec2.amazonaws.com"}},
		"tf-ecs": {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": map[string]any{"Service": "ecs-tasks.amazonaws.com"},
			"Condition": map[string]any{"StringEquals": map[string]any{"aws:SourceAccount": account}}},
		"tf-pod": {"Effect": "Allow", "Action": []any{"sts:TagSession", "sts:AssumeRole"}, "Principal": map[string]any{"Service": "pods.eks.amazonaws.com"},
			"Condition": map[string]any{"StringEquals": map[string]any{"aws:RequestTag/kubernetes-namespace": "aws", "aws:RequestTag/kubernetes-service-account": "gateway"}}},
	} {
		if err := json.Unmarshal([]byte(direct.must(t, dir, nil, cli, "--output", "json", "iam", "get-role", "--role-name", name)), &answer); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]any{"Version": "2012-10-17", "Statement": []any{want}}, answer.Role.AssumeRolePolicyDocument); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
	}

	// The roles, as the proxy's configuration has them.
	roles := w.must(t, dir, nil, terraform, "output", "-raw", "roles")
	home := t.TempDir()
	config := writeConfig(t, home, u, roles)
	made := way{name: "with the role that was made", wrap: []string{program, "exec", "--config", config, "--role", "tf-deploy", "--"},
		env: append(bareEnvironment(home), keyEnvironment(u)...)}
	if out := made.must(t, home, nil, cli, "--output", "text", "--query", "Arn", "sts", "get-caller-identity"); !strings.HasPrefix(out, "arn:aws:sts::"+account+":assumed-role/tf-deploy/") {
		t.Errorf("with the configuration that the module gives: %s", out)
	}

	w.must(t, dir, nil, terraform, "destroy", "-no-color", "-input=false", "-auto-approve")
	if r := direct.run(t, dir, nil, cli, "iam", "get-role", "--role-name", "tf-deploy"); r.code == 0 || !strings.Contains(r.stderr, "NoSuchEntity") {
		t.Errorf("after destroy: %d %s%s", r.code, r.stdout, r.stderr)
	}
}
