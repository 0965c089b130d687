package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const cloudFormation = "../deploy/aws/cloudformation/countersign.yaml"

func TestCloudFormationLint(t *testing.T) {
	if output, err := exec.Command(tool(t, "cfn-lint"), cloudFormation).CombinedOutput(); err != nil || len(output) > 0 {
		t.Errorf("cfn-lint: %v\n%s", err, output)
	}
}

// The form that `terraform fmt` gives, which also proves that it parses.
// TestTerraformModule carries it out.
func TestTerraformModuleFormat(t *testing.T) {
	terraform := terraformOrTofu(t)
	command := exec.Command(terraform, "fmt", "-check", "-diff", "-recursive", "../deploy/aws/terraform")
	command.Env = append(bareEnvironment(t.TempDir()), "TF_CLI_CONFIG_FILE="+os.DevNull)
	if output, err := command.CombinedOutput(); err != nil || len(output) > 0 {
		t.Errorf("%v\n%s", err, output)
	}
}

// The template, sent through the proxy and carried out by a CloudFormation that is
// not AWS's, makes roles with the trust that the program needs and no more, and
// that it then assumes.
func TestCloudFormationStack(t *testing.T) {
	t.Parallel()
	cli := tool(t, "aws")
	u := strictMoto(t)
	w := throughExec(t, u, deployARN)
	dir := t.TempDir()
	template, err := filepath.Abs(cloudFormation)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(t *testing.T, into any, argv ...string) {
		t.Helper()
		out := w.must(t, dir, nil, append([]string{cli, "--output", "json"}, argv...)...)
		if err := json.Unmarshal([]byte(out), into); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	type statement struct {
		Sid, Effect string
		Principal   map[string]string
		Action      any
		Condition   map[string]map[string]string
	}
	trust := func(t *testing.T, role string) (statements []statement) {
		t.Helper()
		var answer struct {
			Role struct {
				AssumeRolePolicyDocument struct{ Statement []statement }
			}
		}
		ask(t, &answer, "iam", "get-role", "--role-name", role)
		return answer.Role.AssumeRolePolicyDocument.Statement
	}
	sourceARN := func(name string) string { return "arn:aws:iam::" + account + ":role/" + name }

	for _, x := range []struct {
		name       string
		parameters map[string]string
		source     []statement
		principal  string
		condition  map[string]map[string]string
	}{
		{
			name:       "ec2",
			parameters: map[string]string{"SourceRoleName": "cfn-ec2", "RoleName": "cfn-ec2-deploy"},
			source: []statement{{Effect: "Allow", Principal: map[string]string{"Service": "ec2.amazonaws.com"},
				Action: "sts:AssumeRole"}},
			principal: sourceARN("cfn-ec2"),
		},
		{
			name:       "ecs",
			parameters: map[string]string{"SourceRoleName": "cfn-ecs", "RoleName": "cfn-ecs-deploy", "Workload": "ecs"},
			source: []statement{{Effect: "Allow", Principal: map[string]string{"Service": "ecs-tasks.amazonaws.com"}, Action: "sts:AssumeRole",
				Condition: map[string]map[string]string{"StringEquals": {"aws:SourceAccount": account}}}},
			principal: sourceARN("cfn-ecs"),
		},
		{
			name:       "pod-identity",
			parameters: map[string]string{"SourceRoleName": "cfn-pod", "RoleName": "cfn-pod-deploy", "Workload": "pod-identity", "ServiceAccount": "aws/gateway"},
			source: []statement{{Effect: "Allow", Principal: map[string]string{"Service": "pods.eks.amazonaws.com"}, Action: []any{"sts:AssumeRole", "sts:TagSession"},
				Condition: map[string]map[string]string{"StringEquals": {
					"aws:RequestTag/kubernetes-namespace": "aws", "aws:RequestTag/kubernetes-service-account": "gateway"}}}},
			principal: sourceARN("cfn-pod"),
		},
		{
			name: "irsa",
			parameters: map[string]string{"SourceRoleName": "cfn-irsa", "RoleName": "cfn-irsa-deploy", "Workload": "irsa", "ServiceAccount": "aws/gateway",
				"OidcProvider": "oidc.eks.us-east-1.amazonaws.com/id/0123", "ExternalId": "shared-1"},
			source: []statement{{Effect: "Allow", Action: "sts:AssumeRoleWithWebIdentity",
				Principal: map[string]string{"Federated": "arn:aws:iam::" + account + ":oidc-provider/oidc.eks.us-east-1.amazonaws.com/id/0123"},
				Condition: map[string]map[string]string{"StringEquals": {
					"oidc.eks.us-east-1.amazonaws.com/id/0123:aud": "sts.amazonaws.com",
					"oidc.eks.us-east-1.amazonaws.com/id/0123:sub": "system:serviceaccount:aws:gateway",
				}}}},
			principal: sourceARN("cfn-irsa"),
			condition: map[string]map[string]string{"StringEquals": {"sts:ExternalId": "shared-1"}},
		},
		{
			name:       "another account's proxy",
			parameters: map[string]string{"RoleName": "cfn-foreign", "SourceRoleArn": "arn:aws:iam::210987654321:role/countersign"},
			principal:  "arn:aws:iam::210987654321:role/countersign",
		},
	} {
		t.Run(x.name, func(t *testing.T) {
			argv := []string{"cloudformation", "create-stack", "--stack-name", "cfn-" + strings.Fields(x.name)[0], "--capabilities", "CAPABILITY_NAMED_IAM",
				"--template-body", "file://" + template, "--parameters"}
			for key, value := range x.parameters {
				argv = append(argv, "ParameterKey="+key+",ParameterValue="+value)
			}
			var created struct{ StackId string }
			ask(t, &created, argv...)
			var described struct {
				Stacks []struct {
					StackStatus string
					Outputs     []struct{ OutputKey, OutputValue string }
				}
			}
			ask(t, &described, "cloudformation", "describe-stacks", "--stack-name", created.StackId)
			if len(described.Stacks) != 1 || described.Stacks[0].StackStatus != "CREATE_COMPLETE" {
				t.Fatalf("stacks %+v", described)
			}
			outputs := map[string]string{}
			for _, o := range described.Stacks[0].Outputs {
				outputs[o.OutputKey] = o.OutputValue
			}
			if diff := cmp.Diff(map[string]string{"RoleArn": sourceARN(x.parameters["RoleName"]), "SourceRoleArn": x.principal}, outputs); diff != "" {
				t.Error(diff)
			}
			if x.source != nil {
				if diff := cmp.Diff(x.source, trust(t, x.parameters["SourceRoleName"])); diff != "" {
					t.Errorf("the proxy's own role: (-want +got)\n%s", diff)
				}
			}
			principal := map[string]string{"AWS": x.principal}
			want := []statement{
				{Sid: "Assume", Effect: "Allow", Principal: principal, Action: "sts:AssumeRole", Condition: x.condition},
				{Sid: "Describe", Effect: "Allow", Principal: principal, Action: []any{"sts:TagSession", "sts:SetSourceIdentity"}},
			}
			if diff := cmp.Diff(want, trust(t, x.parameters["RoleName"])); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}

			home := t.TempDir()
			config := writeConfig(t, home, u, fmt.Sprintf("roles:\n  made: {arn: %q, external_id: %q, source_identity: alice, tags: {team: shop}}\n",
				outputs["RoleArn"], x.parameters["ExternalId"]))
			made := way{name: "with the role that was made", wrap: []string{program, "exec", "--config", config, "--role", "made", "--"},
				env: append(bareEnvironment(home), keyEnvironment(u)...)}
			session := "arn:aws:sts::" + account + ":assumed-role/" + x.parameters["RoleName"] + "/"
			if arn := made.must(t, home, nil, cli, "--output", "text", "--query", "Arn", "sts", "get-caller-identity"); !strings.HasPrefix(arn, session) {
				t.Errorf("assumed: %s, want %s…", arn, session)
			}
		})
	}
}
