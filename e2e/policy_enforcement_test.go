package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// An sdkCall is one call that boto3 makes; see testdata/calls.py.
type sdkCall struct {
	Name       string         `json:"name"`
	Key        string         `json:"key"`
	Secret     string         `json:"secret"`
	Token      string         `json:"token,omitempty"`
	Service    string         `json:"service"`
	Region     string         `json:"region"`
	Operation  string         `json:"operation"`
	Parameters map[string]any `json:"parameters,omitempty"`
	Spoil      string         `json:"spoil,omitempty"`
	Once       bool           `json:"once,omitempty"`
}

// An sdkOutcome is what boto3 made of it.
type sdkOutcome struct {
	outcome
	Answer json.RawMessage
}

// sdk makes calls with boto3, one after the other in one process.
func sdk(t *testing.T, w way, calls []sdkCall) map[string]sdkOutcome {
	t.Helper()
	input, err := json.Marshal(calls)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*patience)
	defer cancel()
	command := exec.CommandContext(ctx, python(t), script(t, "calls.py"))
	command.Env, command.Dir = w.env, t.TempDir()
	command.Stdin = bytes.NewReader(input)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		t.Fatalf("calls.py: %v\n%s", err, stderr.String())
	}
	var outcomes map[string]sdkOutcome
	if err := json.Unmarshal(stdout.Bytes(), &outcomes); err != nil {
		t.Fatal(err)
	}
	return outcomes
}

// keysFor makes static client credentials of a name.
func keysFor(name string) aws.Credentials {
	sum := sha256.Sum256([]byte(name))
	text := base32.StdEncoding.EncodeToString(sum[:])
	return aws.Credentials{AccessKeyID: "CSIG" + text[:16], SecretAccessKey: "secret-of-" + text[16:48]}
}

// A holder is an identity with one role, both of the same name.
type holder struct {
	role     string            // YAML of the role, in braces
	policies map[string]string // files that the YAML names
	boundary string            // an IAM policy
}

// serveHolders starts a proxy that knows the holders.
func serveHolders(t testing.TB, u *upstream, holders map[string]holder) *proxy {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	roles, identities := "roles:\n", "identities:\n"
	clients := map[string]aws.Credentials{}
	for _, name := range slices.Sorted(maps.Keys(holders)) {
		h := holders[name]
		keys := keysFor(name)
		clients[name] = keys
		role := h.role
		for file, text := range h.policies {
			role = strings.ReplaceAll(role, file, write(file, text))
		}
		roles += "  " + name + ": " + role + "\n"
		boundary := ""
		if h.boundary != "" {
			boundary = "boundary: " + write(name+"-boundary.json", h.boundary) + ", "
		}
		identities += fmt.Sprintf("  %s: {roles: [%s], attributes: {team: red}, %scredentials: [{access_key_id: %s, secret_access_key_file: %s}]}\n",
			name, name, boundary, keys.AccessKeyID, write(name+".key", keys.SecretAccessKey))
	}
	p := serve(t, u, roles+identities)
	p.clients = clients
	return p
}

func allow(actions, resource, more string) string {
	return `{"Version": "2012-10-17", "Statement": [{"Sid": "Allowed", "Effect": "Allow", "Action": ` + actions + `, "Resource": "` + resource + `"}` + more + `]}`
}

const onDeploy = `arn: "` + deployARN + `"`

// Roles of every kind, what boto3 is told of calls under them, and what the record says.
func TestPoliciesAreEnforced(t *testing.T) {
	python(t)
	u := strictMoto(t)
	everything := allow(`"*"`, "*", "")
	const function = "arn:aws:lambda:" + region + ":" + account + ":function:none"
	holders := map[string]holder{
		"open":     {role: "{" + onDeploy + "}"},
		"all":      {role: "{" + onDeploy + ", policies: [all.json]}", policies: map[string]string{"all.json": everything}},
		"nearly":   {role: "{" + onDeploy + ", policies: [nearly.json]}", policies: map[string]string{"nearly.json": allow(`["dynamodb:*"]`, "*", "")}},
		"denying":  {role: "{" + onDeploy + ", policies: [denying.json]}", policies: map[string]string{"denying.json": allow(`"*"`, "*", `, {"Sid": "NoTables", "Effect": "Deny", "Action": "dynamodb:*", "Resource": "*"}`)}},
		"bounded":  {role: "{" + onDeploy + ", policies: [bounded.json]}", policies: map[string]string{"bounded.json": everything}, boundary: allow(`["s3:*", "sts:*"]`, "*", "")},
		"reported": {role: "{" + onDeploy + ", policies: [reported.json], enforcement: report}", policies: map[string]string{"reported.json": allow(`"s3:*"`, "*", "")}},
		"european": {role: "{" + onDeploy + ", regions: [eu-*]}"},
		"buckets":  {role: "{" + onDeploy + ", services: [s3]}"},
		"reader":   {role: "{" + onDeploy + ", read_only: true}"},
		"tagged": {role: "{" + onDeploy + ", policies: [tagged.json]}", policies: map[string]string{"tagged.json": `{"Version": "2012-10-17", "Statement": [
			{"Sid": "Own", "Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::countersign-*", "Condition": {"StringLike": {"s3:prefix": "${aws:PrincipalTag/team}/*"}}},
			{"Sid": "Owned", "Effect": "Allow", "Action": "dynamodb:DeleteTable", "Resource": "*", "Condition": {"StringEquals": {"aws:ResourceTag/team": "red"}}}]}`}},
	}
	holders["untagging"] = holder{role: "{" + onDeploy + ", policies: [untagging.json]}", policies: map[string]string{"untagging.json": `{"Version": "2012-10-17", "Statement": [
		{"Sid": "Some", "Effect": "Allow", "Action": "lambda:UntagResource", "Resource": "` + function + `", "Condition": {"ForAllValues:StringEquals": {"aws:TagKeys": ["a", "b"]}}}]}`}}
	p := serveHolders(t, u, holders)
	const bucket = "countersign-enforced"
	emptyBucket(t, u, bucket)
	t.Cleanup(func() { emptyBucket(t, u, bucket) })

	tables := sdkCall{Service: "dynamodb", Region: region, Operation: "list_tables"}
	unknown := sdkCall{Service: "dynamodb", Region: region, Operation: "list_tables", Spoil: "no_such_operation", Once: true}
	ping := sdkCall{Service: "sts", Region: region, Operation: "get_caller_identity"}
	create := sdkCall{Service: "s3", Region: region, Operation: "create_bucket", Parameters: map[string]any{"Bucket": bucket}}
	list := sdkCall{Service: "s3", Region: region, Operation: "list_objects_v2", Parameters: map[string]any{"Bucket": bucket, "Prefix": "red/"}}
	put := sdkCall{Service: "s3", Region: region, Operation: "put_object", Parameters: map[string]any{"Bucket": bucket, "Key": "red/a", "Body": "a"}}
	in := func(region string, c sdkCall) sdkCall { c.Region = region; return c }
	with := func(c sdkCall, name string, value any) sdkCall {
		c.Parameters = maps.Clone(c.Parameters)
		if c.Parameters == nil {
			c.Parameters = map[string]any{}
		}
		c.Parameters[name] = value
		return c
	}
	deleteTable := with(sdkCall{Service: "dynamodb", Region: region, Operation: "delete_table"}, "TableName", "none")

	untag := func(keys ...string) sdkCall {
		return sdkCall{Service: "lambda", Region: region, Operation: "untag_resource", Parameters: map[string]any{"Resource": function, "TagKeys": keys}}
	}

	tests := []struct {
		holder string
		call   sdkCall
		// decision and reason of the audit line, then policy/statement, then what the
		// client is told
		want, by string
		says     []string
	}{
		{"open", create, "allow: no policy", "", nil},
		{"open", ping, "allow: no policy", "", nil},
		{"open", unknown, "allow: no policy", "", nil},
		{"all", list, "allow: allowed", "all.json/Allowed", nil},
		{"all", ping, "allow: no permission needed", "", nil},
		// What is not understood passes under the Allow of everything alone.
		{"all", unknown, "allow: allowed", "all.json/Allowed", nil},
		{"nearly", tables, "allow: allowed", "nearly.json/Allowed", nil},
		{"nearly", unknown, "deny: unknown call", "", []string{"could not be understood", "TeleportTable", `only an Allow of Action "*" on Resource "*"`}},
		{"denying", list, "allow: allowed", "denying.json/Allowed", nil},
		{"denying", tables, "deny: explicit deny", "denying.json/NoTables", []string{
			"User: " + deployARN + " is not authorized to perform: dynamodb:ListTables", "with an explicit deny in statement NoTables of policy denying.json of role denying"}},
		{"denying", unknown, "deny: unknown call", "denying.json/NoTables", []string{"cannot be ruled out"}},
		{"bounded", list, "allow: allowed", "bounded.json/Allowed", nil},
		{"bounded", tables, "deny: boundary", "bounded-boundary.json/", []string{"dynamodb:ListTables", "the identity's boundary bounded-boundary.json does not allow"}},
		{"bounded", unknown, "deny: unknown call", "bounded-boundary.json/", []string{"could not be understood"}},
		{"reported", list, "allow: allowed", "reported.json/Allowed", nil},
		{"reported", tables, "report: implicit deny", "", nil},
		{"reported", unknown, "report: unknown call", "", nil},
		{"european", in("eu-west-1", tables), "allow: no policy", "", nil},
		{"european", tables, "deny: region", "", []string{"dynamodb:ListTables", "region us-east-1 is not among the regions of role european"}},
		{"buckets", list, "allow: no policy", "", nil},
		{"buckets", tables, "deny: service", "", []string{"dynamodb:ListTables", "the service is not among the services of role buckets"}},
		{"buckets", ping, "deny: service", "", []string{"services of role buckets"}},
		{"reader", list, "allow: no policy", "", nil},
		{"reader", tables, "allow: no policy", "", nil},
		{"reader", put, "deny: read only", "", []string{"s3:PutObject on resource: arn:aws:s3:::" + bucket + "/red/a", "role reader is read-only and the call is of access level Write"}},
		{"reader", unknown, "deny: read only", "", []string{"role reader is read-only and the call is of unknown access level"}},
		{"tagged", list, "allow: allowed", "tagged.json/Own", nil},
		{"tagged", with(list, "Prefix", "blue/"), "deny: implicit deny", "", []string{"s3:ListBucket on resource: arn:aws:s3:::" + bucket, "no policy of role tagged allows the s3:ListBucket action"}},
		{"tagged", with(list, "Prefix", "red"), "deny: implicit deny", "", nil},
		{"tagged", deleteTable, "deny: implicit deny", "tagged.json/Owned", []string{"allows the dynamodb:DeleteTable action for certain: statement Owned of policy tagged.json might (aws:resourcetag/team is not known here)"}},
		{"untagging", untag("a", "b"), "allow: allowed", "untagging.json/Some", nil},
		{"untagging", untag("a", "c"), "deny: implicit deny", "", []string{"lambda:UntagResource on resource: " + function}},
	}
	var calls []sdkCall
	for i := range tests {
		test := &tests[i]
		keys := p.clients[test.holder]
		test.call.Name = fmt.Sprintf("%d %s %s %s%s", i, test.holder, test.call.Service, test.call.Operation, test.call.Spoil)
		test.call.Key, test.call.Secret = keys.AccessKeyID, keys.SecretAccessKey
		calls = append(calls, test.call)
	}
	mark := u.mark(t)
	outcomes := sdk(t, p.client("open"), calls)
	lines := waitForAudit(t, p.audit, len(tests))
	arrived := map[string]bool{}
	for _, s := range u.since(t, mark) {
		if s.Refused != "" {
			t.Errorf("the server refused %s %s%s: %s", s.Method, s.Host, s.Target, s.Refused)
		}
		for _, name := range s.header("X-Case") {
			arrived[name] = true
		}
	}
	for i, test := range tests {
		name, line, got := test.call.Name, lines[i], outcomes[test.call.Name]
		if string(line.Decision)+": "+line.Reason != test.want || strings.Trim(line.Policy+"/"+line.Statement, "/") != strings.Trim(test.by, "/") {
			t.Errorf("%s: the record says %s: %s by %s/%s, want %s by %s", name, line.Decision, line.Reason, line.Policy, line.Statement, test.want, test.by)
		}
		if line.Identity != test.holder || line.Role != test.holder {
			t.Errorf("%s: audit line %+v", name, line)
		}
		denied := line.Decision == "deny"
		if arrived[name] == denied {
			t.Errorf("%s: decision %s, arrived upstream: %v", name, line.Decision, !denied)
		}
		if !denied {
			if strings.Contains(got.Message, "countersign") || got.Status == 403 {
				t.Errorf("%s: %+v", name, got)
			}
			continue
		}
		if !strings.HasPrefix(got.Code, "AccessDenied") || got.Status != 403 || got.Retries != 0 || got.RequestID != line.RequestID {
			t.Errorf("%s: the SDK made this of it: %+v", name, got)
		}
		for _, word := range test.says {
			if !strings.Contains(got.Message, word) {
				t.Errorf("%s: the message does not say %q: %s", name, word, got.Message)
			}
		}
	}

	// The same decision comes out again when a denied request's id is explained. Values
	// of the request that only conditions look at are not in the record.
	t.Run("explain", func(t *testing.T) {
		for i, test := range tests {
			line := lines[i]
			if i%3 != 0 && line.Decision == "allow" {
				continue
			}
			argv := []string{"policy", "explain", "--config", p.config, "--output", "json", line.RequestID}
			if keys, ok := test.call.Parameters["TagKeys"]; ok {
				for _, key := range keys.([]string) {
					argv = append(argv, "--context", "aws:TagKeys="+key)
				}
			}
			if prefix, ok := test.call.Parameters["Prefix"]; ok {
				argv = append(argv, "--context", "s3:prefix="+prefix.(string), "--context", "aws:PrincipalTag/team=red")
			}
			got := way{env: p.env}.must(t, t.TempDir(), nil, append([]string{program}, argv...)...)
			var x struct {
				Decision struct {
					Allow                                                bool
					Reason, Policy, Statement, Action, Resource, Message string
				}
			}
			if err := json.Unmarshal([]byte(got), &x); err != nil {
				t.Fatalf("%v\n%s", err, got)
			}
			d := x.Decision
			if d.Allow != (line.Decision == "allow") || d.Reason != line.Reason || d.Policy != line.Policy || d.Statement != line.Statement {
				t.Errorf("%s: explained as %+v, the record says %+v", test.call.Name, d, line)
			}
		}
		// For people: every statement, and why.
		denial := lines[slices.IndexFunc(lines, func(line auditLine) bool { return line.Reason == "explicit deny" })]
		text := way{env: p.env}.must(t, t.TempDir(), nil, program, "policy", "explain", "--config", p.config, denial.RequestID)
		for _, word := range []string{"DENIED: explicit deny", "denying.json", "NoTables", "Allowed", "dynamodb:ListTables"} {
			if !strings.Contains(text, word) {
				t.Errorf("the explanation does not say %q:\n%s", word, text)
			}
		}
	})

	t.Run("metrics", func(t *testing.T) {
		response, err := http.Get("http://" + p.admin + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		for _, sample := range []string{
			`countersign_policy_decisions_total{decision="report",reason="implicit deny",role="reported"} 1`,
			`countersign_policy_decisions_total{decision="report",reason="unknown call",role="reported"} 1`,
			`countersign_policy_decisions_total{decision="deny",reason="boundary",role="bounded"} 1`,
			`countersign_policy_decisions_total{decision="deny",reason="explicit deny",role="denying"} 1`,
			`countersign_policy_decisions_total{decision="allow",reason="no policy",role="reader"} 2`,
		} {
			if !strings.Contains(string(text), "\n"+sample+"\n") {
				t.Errorf("/metrics has no sample %s", sample)
			}
		}
	})
}

// Requests that can be read in two ways are refused, whatever the policies allow, with
// the reason, and a real SDK understands the refusal.
func TestAmbiguousRequestsAreRefused(t *testing.T) {
	python(t)
	u := strictMoto(t)
	holders := map[string]holder{
		"open":  {role: "{" + onDeploy + "}"},
		"all":   {role: "{" + onDeploy + ", policies: [all.json]}", policies: map[string]string{"all.json": allow(`"*"`, "*", "")}},
		"three": {role: "{" + onDeploy + ", policies: [three.json]}", policies: map[string]string{"three.json": allow(`["s3:*", "sts:*", "dynamodb:*"]`, "*", "")}},
	}
	p := serveHolders(t, u, holders)
	tests := []struct {
		service, operation string
		parameters         map[string]any
		spoil              string
		code, says         string
	}{
		{"sts", "get_caller_identity", nil, "target_beside_action", "ValidationError", "the request has X-Amz-Target and is a query call as well"},
		{"sts", "get_caller_identity", nil, "action_twice", "ValidationError", `the parameter "Action" occurs twice`},
		{"sts", "get_caller_identity", nil, "action_in_query_and_body", "ValidationError", "the call has parameters in the query string and a body too"},
		{"s3", "get_object_acl", map[string]any{"Bucket": "countersign-ambiguous", "Key": "a"}, "two_subresources", "InvalidRequest", `the sub-resource "policy" selects another operation`},
		{"dynamodb", "describe_table", map[string]any{"TableName": "a"}, "key_twice", "ValidationException", `the member "TableName" occurs twice`},
		// Not ambiguous, but STS is not sent what might be a call for keys.
		{"sts", "get_caller_identity", nil, "form_as_json", "AccessDenied", "could not be understood"},
	}
	var calls []sdkCall
	for _, holder := range slices.Sorted(maps.Keys(holders)) {
		for _, test := range tests {
			keys := p.clients[holder]
			calls = append(calls, sdkCall{
				Name: holder + " " + test.spoil, Key: keys.AccessKeyID, Secret: keys.SecretAccessKey, Region: region,
				Service: test.service, Operation: test.operation, Parameters: test.parameters, Spoil: test.spoil,
			})
		}
	}
	mark := u.mark(t)
	outcomes := sdk(t, p.client("open"), calls)
	lines := waitForAudit(t, p.audit, len(calls))
	for i, call := range calls {
		test, line, got := tests[i%len(tests)], lines[i], outcomes[call.Name]
		if got.Code != test.code || got.Retries != 0 || got.RequestID != line.RequestID || !strings.Contains(got.Message, test.says) {
			t.Errorf("%s: the SDK made this of it: %+v, want %s %q", call.Name, got, test.code, test.says)
		}
		if want := "ambiguous"; line.Reason != want && test.code != "AccessDenied" || line.Status != got.Status {
			t.Errorf("%s: audit line %+v", call.Name, line)
		}
		if line.Decision != "deny" || line.Identity != strings.Fields(call.Name)[0] {
			t.Errorf("%s: audit line %+v", call.Name, line)
		}
	}
	for _, s := range u.since(t, mark) {
		if s.Service != "sts" || s.AccessKeyID != u.keys.AccessKeyID {
			t.Errorf("sent upstream: %s %s%s %v", s.Method, s.Host, s.Target, s.header("X-Case"))
		}
	}
}
