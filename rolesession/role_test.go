package rolesession

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestEntriesAreRefusedNamingRoleAndKey(t *testing.T) {
	ok := Role{ARN: deployARN}
	many := map[string]string{}
	for i := range 51 {
		many[fmt.Sprint("k", i)] = "v"
	}
	arns := make([]string, 11)
	for i := range arns {
		arns[i] = "arn:aws:iam::aws:policy/ReadOnlyAccess"
	}
	for _, tt := range []struct {
		name   string
		change func(*Role)
		want   string
	}{
		{"shape", func(r *Role) { r.ARN = "arn:aws:iam::123456789012:user/x" }, `roles.r.arn: "arn:aws:iam::123456789012:user/x" is not the ARN of a role (arn:aws:iam::123456789012:role/Name)`},
		{"account", func(r *Role) { r.ARN = "arn:aws:iam::1234:role/x" }, `roles.r.arn: "arn:aws:iam::1234:role/x" is not the ARN of a role (arn:aws:iam::123456789012:role/Name)`},
		{"partition", func(r *Role) { r.ARN = "arn:aws-cn:iam::123456789012:role/x" }, `roles.r.arn: "arn:aws-cn:iam::123456789012:role/x" is in the partition aws-cn, but STS is called in us-east-1, which is in aws: set source.sts_region`},
		{"external id", func(r *Role) { r.ExternalID = "a b" }, "roles.r.external_id: expected 2 to 1224 letters, digits or characters of _+=,.@:/-"},
		{"short", func(r *Role) { r.Duration = 899 * time.Second }, "roles.r.duration: 14m59s, expected whole seconds from 15m0s to 12h0m0s"},
		{"long", func(r *Role) { r.Duration = 12*time.Hour + time.Second }, "roles.r.duration: 12h0m1s, expected whole seconds from 15m0s to 12h0m0s"},
		{"broken seconds", func(r *Role) { r.Duration = time.Hour + time.Millisecond }, "roles.r.duration: 1h0m0.001s, expected whole seconds from 15m0s to 12h0m0s"},
		{"many policies", func(r *Role) { r.SessionPolicyARNs = arns }, "roles.r.session_policy_arns: 11 policies, at most 10"},
		{"policy arn", func(r *Role) { r.SessionPolicyARNs = []string{"ReadOnlyAccess"} }, `roles.r.session_policy_arns: "ReadOnlyAccess" is not the ARN of a policy (arn:aws:iam::123456789012:policy/Name)`},
		{"long policy", func(r *Role) { r.SessionPolicy = strings.Repeat("x", 2049) }, "roles.r.session_policy: 2049 characters, at most 2048"},
		{"many tags", func(r *Role) { r.Tags = many }, "roles.r.tags: 51 tags, at most 50"},
		{"aws tag", func(r *Role) { r.Tags = map[string]string{"AWS:x": "y"} }, `roles.r.tags: "AWS:x": keys that begin with aws: are AWS's own`},
		{"tag key", func(r *Role) { r.Tags = map[string]string{"a{b": "y"} }, `roles.r.tags: "a{b": expected letters, digits, spaces and _.:/=+-@`},
		{"transitive", func(r *Role) { r.TransitiveTagKeys = []string{"x"} }, `roles.r.transitive_tag_keys: there is no tag "x"`},
		{"template", func(r *Role) { r.SessionName = "{{ .Identity.Name" }, "roles.r.session_name: 1: unclosed action"},
		{"tag template", func(r *Role) { r.Tags = map[string]string{"a": "{{ nope }}"} }, `roles.r.tags: a: 1: function "nope" not defined`},
		{"client name", func(r *Role) { r.ClientSessionName = "replace" }, `roles.r.client_session_name: "replace", expected keep or prefix`},
		{"via nobody", func(r *Role) { r.Via = "x" }, `roles.r.via: there is no role "x"`},
		{"via itself", func(r *Role) { r.Via = "r" }, `roles.r.via: the roles go in a circle: r → r`},
		{"via source", func(r *Role) { r.Via = "own" }, `roles.r.via: the role "own" has no arn, so it cannot be assumed first: leave via out`},
		{"via too long", func(r *Role) { r.Via, r.Duration = "hub", 2*time.Hour }, `roles.r.duration: 2h0m0s, but a role that is assumed via another lasts at most 1h0m0s (role chaining)`},
		{"policy of source", func(r *Role) { r.ARN, r.SessionPolicy = "", "{}" }, "roles.r.session_policy: has no effect without an arn: the source credentials are used as they are"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := ok
			tt.change(&r)
			_, err := compileRoles(map[string]Role{"r": r, "own": {}, "hub": {ARN: "arn:aws:iam::123456789012:role/Hub"}}, "us-east-1")
			if err == nil || err.Error() != tt.want {
				t.Errorf("\n got %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestAllErrorsAreReportedAtOnce(t *testing.T) {
	_, err := compileRoles(map[string]Role{"a": {ARN: "x"}, "b": {ARN: "y"}, "c": {ARN: deployARN, Via: "a"}}, "us-east-1")
	if err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("%v", err)
	}
}

func TestRoundTripThroughTwoRolesIsACircle(t *testing.T) {
	_, err := compileRoles(map[string]Role{
		"a": {ARN: deployARN, Via: "b"}, "b": {ARN: deployARN, Via: "c"}, "c": {ARN: deployARN, Via: "b"},
	}, "us-east-1")
	if err == nil || !strings.Contains(err.Error(), "roles.a.via: the roles go in a circle: a → b → c → b") {
		t.Errorf("%v", err)
	}
}

func TestCleanName(t *testing.T) {
	for text, want := range map[string]string{
		"alice":                 "alice",
		"alice@example.com":     "alice@example.com",
		"a":                     "a=zklycewkdo64",
		"":                      "=4oymiquy7qob",
		"a b":                   "a-b=zbuhucfklvxn",
		"a/b":                   "a-b=yfgn3qbt6zfz",
		"repo:octo/x:ref":       "repo-octo-x-ref=2epjp2fxvxsg",
		"Zoë":                   "Zo-=y2qsngcyf7ar",
		strings.Repeat("x", 64): strings.Repeat("x", 64),
		strings.Repeat("x", 65): strings.Repeat("x", 51) + "=su34l7prebec",
		strings.Repeat("x", 66): strings.Repeat("x", 51) + "=n24ht4jjdrxo",
		"a-b=zbuhucfklvxn":      "a-b=zbuhucfklvxn=dsu734r2orqu",
	} {
		got := cleanName(text)
		if got != want {
			t.Errorf("%q became %q, expected %q", text, got, want)
		}
	}
}

func FuzzCleanName(f *testing.F) {
	for _, s := range []string{"", "a", "alice", "a b", "a/b", "Zoë", "a=abcdefghijkl", strings.Repeat("x", 80)} {
		f.Add(s, s+"!")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		x, y := cleanName(a), cleanName(b)
		for _, n := range []string{x, y} {
			if !namePattern.MatchString(n) {
				t.Errorf("%q is no session name", n)
			}
		}
		if a != b && x == y {
			t.Errorf("%q and %q are both %q", a, b, x)
		}
		if utf8.ValidString(a) && namePattern.MatchString(a) && !hashedName.MatchString(a) && x != a {
			t.Errorf("%q became %q without need", a, x)
		}
	})
}

func TestTemplatesFailLoudly(t *testing.T) {
	for _, tt := range []struct {
		name string
		role Role
		p    Principal
		want string
	}{
		{"missing attribute", Role{ARN: deployARN, SessionName: "{{ .Identity.Attributes.nope }}"}, alice,
			`roles.r.session_name cannot be made for the identity "alice": at <.Identity.Attributes.nope>: map has no entry for key "nope".`},
		{"attribute is no tag", Role{ARN: deployARN, Tags: map[string]string{"t": "{{ .Identity.Attributes.team }}"}}, Principal{Name: "x", Attributes: map[string]string{"team": "a;b"}},
			`roles.r.tags.t cannot be made for the identity "x": holds characters other than letters, digits, spaces and _.:/=+-@.`},
		{"endless", Role{ARN: deployARN, SessionName: `{{ printf "%99999s" .Identity.Name }}`}, alice,
			`roles.r.session_name cannot be made for the identity "alice": longer than 4096 bytes.`},
		{"nobody", Role{ARN: deployARN}, Principal{}, "A session needs an identity with a name."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			roles, err := compileRoles(map[string]Role{"r": tt.role}, "us-east-1")
			if err != nil {
				t.Fatal(err)
			}
			_, err = resolve(roles, Request{Principal: tt.p, Links: []Link{{Role: "r"}}})
			var e *Error
			if !errors.As(err, &e) || e.Kind != KindBadInput || e.Message != tt.want {
				t.Errorf("\n got %v\nwant %s", err, tt.want)
			}
		})
	}
}
