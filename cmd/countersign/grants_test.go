package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-proxy/countersign/config"
	"github.com/countersign-proxy/countersign/identity"
)

// configured reads a configuration file and returns what it comes to.
func configured(t *testing.T, text string) (*config.Config, grants) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "c.yaml")
	for name, text := range map[string]string{
		path:                              text,
		filepath.Join(dir, "policy.json"): `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}`,
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := config.Load(config.Options{Path: path, Env: []string{}, Home: dir})
	if err != nil {
		t.Fatal(err)
	}
	return cfg, newGrants(cfg, in(map[string]string{"USER": "ann"}))
}

const twoRoles = `
roles:
  read: {arn: "arn:aws:iam::123456789012:role/Read"}
  deploy: {arn: "arn:aws:iam::123456789012:role/Deploy", policies: [policy.json]}
`

// Who there is, and what they may use, when the configuration does not say.
func TestImplicitGrants(t *testing.T) {
	issuer := `issuers: [{url: "https://issuer.example.com", audience: a, match: {sub: x}, roles: [read]}]`
	for name, c := range map[string]struct {
		text  string
		roles []string
		who   map[string][]string
	}{
		"nothing":              {"", []string{"source"}, map[string][]string{"local": {"source"}}},
		"roles alone":          {twoRoles, []string{"read", "deploy"}, map[string][]string{"local": {"read", "deploy"}}},
		"identities":           {twoRoles + "identities: {ci: {roles: [deploy]}}", []string{"read", "deploy"}, map[string][]string{"ci": {"deploy"}}},
		"local on purpose":     {twoRoles + "identities: {local: {roles: [read]}}", []string{"read", "deploy"}, map[string][]string{"local": {"read"}}},
		"issuers":              {twoRoles + issuer, []string{"read", "deploy"}, map[string][]string{}},
		"beyond loopback":      {twoRoles + issuer + "\nlisten: 0.0.0.0:8800", []string{"read", "deploy"}, map[string][]string{}},
		"loopback by its name": {"listen: localhost:8800", []string{"source"}, map[string][]string{"local": {"source"}}},
	} {
		t.Run(name, func(t *testing.T) {
			_, g := configured(t, c.text)
			who := map[string][]string{}
			for id, entry := range g.identities {
				who[id] = entry.Roles
			}
			if diff := cmp.Diff(c.roles, g.order); diff != "" {
				t.Error("roles", diff)
			}
			if diff := cmp.Diff(c.who, who); diff != "" {
				t.Error("identities", diff)
			}
			if diff := cmp.Diff(slices.Sorted(slices.Values(g.order)), sortedNames(g.roles)); diff != "" {
				t.Error("order and roles differ", diff)
			}
		})
	}
}

// Adding what is implicit must not change the configuration itself.
func TestGrantsLeaveTheConfigurationAlone(t *testing.T) {
	cfg, g := configured(t, twoRoles)
	if _, err := g.forExec("local", execOptions{role: "arn:aws:iam::123456789012:role/Other", policy: "policy.json"}, in(nil)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"read", "deploy"}, cfg.RoleNames()); diff != "" {
		t.Error(diff)
	}
	if len(cfg.Roles) != 2 || len(cfg.Identities) != 0 || cfg.Roles["read"].Policies != nil {
		t.Errorf("%+v %+v", cfg.Roles, cfg.Identities)
	}
}

func TestRoleOfAnIdentity(t *testing.T) {
	_, g := configured(t, twoRoles)
	ann := identity.Identity{Name: "ann", Roles: []string{"deploy", "read"}}
	bob := identity.Identity{Name: "bob", Roles: []string{"read"}}
	nobody := identity.Identity{Name: "nobody"}
	for _, c := range []struct {
		id         identity.Identity
		role, want string
		err        string
	}{
		{ann, "", "deploy", ""},
		{ann, "read", "read", ""},
		{ann, "arn:aws:iam::123456789012:role/Read", "read", ""},
		{bob, "", "read", ""},
		{bob, "deploy", "", `identity "bob" may not use the role "deploy"; it may use: read`},
		{bob, "arn:aws:iam::123456789012:role/Deploy", "", `identity "bob" may not use the role "arn:aws:iam::123456789012:role/Deploy"; it may use: read`},
		{bob, "Read", "", `identity "bob" may not use the role "Read"; it may use: read`},
		{nobody, "", "", `identity "nobody" may not use any role; give it some in identities.nobody.roles`},
	} {
		got, err := g.role(c.id, c.role)
		if got != c.want || message(err) != c.err {
			t.Errorf("%s %q: %q, %v", c.id.Name, c.role, got, err)
		}
	}
}

func TestIdentityByName(t *testing.T) {
	_, g := configured(t, twoRoles+`identities: {ci: {roles: [deploy], attributes: {team: platform}, boundary: policy.json}, ann: {roles: [read]}}`)
	got, err := g.identity("ci")
	want := identity.Identity{Name: "ci", Attributes: map[string]string{"team": "platform"}, Roles: []string{"deploy"}, Boundary: got.Boundary}
	if diff := cmp.Diff(want, got); diff != "" || err != nil || filepath.Base(got.Boundary) != "policy.json" {
		t.Errorf("%s %v %q", diff, err, got.Boundary)
	}
	if _, err := g.identity("local"); message(err) != `there is no identity "local"; --identity takes one of: ann, ci` {
		t.Error(err)
	}
	none := grants{}
	if _, err := none.identity("local"); message(err) != `there is no identity "local", and none is configured` {
		t.Error(err)
	}
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// --role and --policy of exec.
func TestGrantsOfExec(t *testing.T) {
	const read, deploy, other = "arn:aws:iam::123456789012:role/Read", "arn:aws:iam::123456789012:role/Deploy", "arn:aws:iam::123456789012:role/team/x/Read"
	for name, c := range map[string]struct {
		text string
		who  string
		opt  execOptions
		role string // the name that was chosen
		arn  string
		// The policies that decide, and the boundary, by the names of their files.
		policies []string
		boundary string
		err      string
	}{
		"nothing said":          {role: "source"},
		"an ARN":                {opt: execOptions{role: deploy}, role: "Deploy", arn: deploy},
		"a configured name":     {text: twoRoles, opt: execOptions{role: "deploy"}, role: "deploy", arn: deploy, policies: []string{"policy.json"}},
		"a configured ARN":      {text: twoRoles, opt: execOptions{role: deploy}, role: "deploy", arn: deploy, policies: []string{"policy.json"}},
		"another ARN":           {text: twoRoles, opt: execOptions{role: other}, role: "Read", arn: other},
		"an ARN, a taken name":  {text: "roles: {Read: {arn: \"" + deploy + "\"}}", opt: execOptions{role: read}, role: "Read-arn", arn: read},
		"a name that is not":    {text: twoRoles, opt: execOptions{role: "admin"}, err: `identity "local" may not use the role "admin"; it may use: read, deploy`},
		"somebody else":         {text: twoRoles + "identities: {ci: {roles: [read]}}", who: "ci", role: "read", arn: read},
		"else, with an ARN":     {text: twoRoles + "identities: {ci: {roles: [read]}}", who: "ci", opt: execOptions{role: other}, err: `identity "ci" may not use the role "` + other + `"; it may use: read`},
		"else, not theirs":      {text: twoRoles + "identities: {ci: {roles: [read]}}", who: "ci", opt: execOptions{role: deploy}, err: `identity "ci" may not use the role "` + deploy + `"; it may use: read`},
		"a policy":              {opt: execOptions{policy: "mine.json"}, role: "source", policies: []string{"mine.json"}},
		"a policy for an ARN":   {opt: execOptions{role: deploy, policy: "mine.json"}, role: "Deploy", arn: deploy, policies: []string{"mine.json"}},
		"a policy narrows":      {text: twoRoles, opt: execOptions{role: "deploy", policy: "mine.json"}, role: "deploy", arn: deploy, policies: []string{"policy.json"}, boundary: "mine.json"},
		"a policy and boundary": {text: twoRoles + "identities: {ci: {roles: [deploy], boundary: policy.json}}", who: "ci", opt: execOptions{policy: "mine.json"}, err: `--policy narrows what the role's own policies allow, and so does the boundary of identity "ci": only one of them can be used`},
		"a boundary of its own": {text: twoRoles + "identities: {ci: {roles: [read], boundary: policy.json}}", who: "ci", opt: execOptions{policy: "mine.json"}, role: "read", arn: read, policies: []string{"mine.json"}, boundary: "policy.json"},
		"nobody of that name":   {text: twoRoles + "identities: {ci: {roles: [read]}}", who: "cd", err: `there is no identity "cd"; --identity takes one of: ci`},
		"a role named by a bad": {opt: execOptions{role: "arn:aws:iam::123456789012:role/"}, role: "role", arn: "arn:aws:iam::123456789012:role/"},
	} {
		t.Run(name, func(t *testing.T) {
			_, g := configured(t, c.text)
			who := c.who
			if who == "" {
				who = localIdentity
			}
			role, err := g.forExec(who, c.opt, in(map[string]string{"USER": "ann"}))
			if message(err) != c.err {
				t.Fatalf("\n got %v\nwant %s", err, c.err)
			}
			if err != nil {
				return
			}
			r, id := g.roles[role], g.identities[who]
			var policies []string
			for _, p := range r.Policies {
				policies = append(policies, filepath.Base(p))
			}
			boundary := id.Boundary
			if boundary != "" {
				boundary = filepath.Base(boundary)
			}
			if role != c.role || r.ARN != c.arn || !slices.Equal(policies, c.policies) || boundary != c.boundary {
				t.Errorf("role %q %q, policies %q, boundary %q", role, r.ARN, policies, boundary)
			}
			if !slices.Contains(id.Roles, role) || !slices.Contains(g.order, role) {
				t.Errorf("the role is not granted: %q of %q", id.Roles, g.order)
			}
			for _, p := range append(slices.Clone(r.Policies), id.Boundary) {
				if p != "" && !filepath.IsAbs(p) {
					t.Errorf("%q depends on the working directory", p)
				}
			}
		})
	}
}

// A role that is given by ARN is enforced like any other, and CloudTrail shows
// whose it is.
func TestExecWithAnARNSaysWhoItIs(t *testing.T) {
	_, g := configured(t, "")
	name, err := g.forExec(localIdentity, execOptions{role: "arn:aws:iam::123456789012:role/Deploy"}, in(nil))
	if err != nil {
		t.Fatal(err)
	}
	r := g.roles[name]
	if r.Enforcement != config.Enforce || !strings.Contains(r.SessionName, ".Identity.Attributes.user") {
		t.Errorf("%+v", r)
	}
	if g.identities[localIdentity].Attributes["user"] == "" {
		t.Error("nobody is named")
	}
}

func TestRoleName(t *testing.T) {
	for arn, want := range map[string]string{
		"arn:aws:iam::123456789012:role/Deploy":        "Deploy",
		"arn:aws:iam::123456789012:role/team/x/Deploy": "Deploy",
		"arn:aws:iam::123456789012:role/a b/c$d":       "c-d",
		"arn:aws:iam::123456789012:role/":              "role",
		"arn:":                                         "role",
	} {
		if got := roleName(arn); got != want {
			t.Errorf("roleName(%q) = %q, want %q", arn, got, want)
		}
	}
}

// The record of exec: never standard output, which is the child's.
func TestWhereExecRecords(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		env  map[string]string
		want string // a file of the folder, or stderr
	}{
		"nothing said":       {"", nil, "state/exec.audit.jsonl"},
		"a file":             {"audit: {file: a.log}", nil, "a.log"},
		"standard output":    {`audit: {file: "-"}`, nil, "stderr"},
		"a file without it":  {"log: {level: warn}", nil, "stderr"},
		"asked for - by env": {"", map[string]string{"COUNTERSIGN_AUDIT_FILE": "-"}, "stderr"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "c.yaml")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if c.text == "" {
				path = ""
			}
			env := []string{"COUNTERSIGN_STATE_DIR=" + filepath.Join(dir, "state")}
			for name, v := range c.env {
				env = append(env, name+"="+v)
			}
			cfg, err := config.Load(config.Options{Path: path, Env: env, Home: dir})
			if err != nil {
				t.Fatal(err)
			}
			var stdout, stderr strings.Builder
			a := &app{getenv: in(c.env), stdout: &stdout, stderr: &stderr}
			opt, err := a.execAudit(cfg)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case c.want == "stderr" && opt.Writer != a.stderr:
				t.Errorf("%+v", opt)
			case c.want != "stderr" && (opt.Writer != nil || opt.Path != filepath.Join(dir, c.want)):
				t.Errorf("%+v", opt)
			}
			if !opt.Required {
				t.Error("not required")
			}
		})
	}
}

// A record that has grown long is put aside once, at the start of a run.
func TestCutRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "exec.audit.jsonl")
	if err := cutRecord(path); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		size int64
		cut  bool
	}{{0, false}, {maxExecRecord - 1, false}, {maxExecRecord, true}} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, c.size); err != nil {
			t.Fatal(err)
		}
		if err := cutRecord(path); err != nil {
			t.Fatal(err)
		}
		_, err := os.Stat(path)
		if os.IsNotExist(err) != c.cut {
			t.Errorf("%d bytes: %v", c.size, err)
		}
		if info, err := os.Stat(path + ".1"); c.cut && (err != nil || info.Size() != c.size) {
			t.Errorf("%d bytes: %v", c.size, err)
		}
	}
}
