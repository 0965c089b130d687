package policy

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseRefuses(t *testing.T) {
	statement := func(body string) string { return `{"Version":"2012-10-17","Statement":{` + body + `}}` }
	for _, tt := range []struct{ name, src, want string }{
		{"nothing", " ", `p:1:1: the document is empty; a policy that allows nothing is {"Version":"2012-10-17","Statement":[]}`},
		{"text after the end", `{"Statement":[]} {}`, `p:1:18: not JSON: invalid character '{' after top-level value`},
		{"an open bracket", "{\n\"Statement\": [", `p:2:15: the document ends too early: a bracket, brace or quotation mark is not closed`},
		{"UTF-16", "\xFF\xFE{\x00}\x00", `p:1:1: the document is UTF-16; save it as UTF-8`},
		{"not UTF-8", "{\"Id\":\n\"é\xC3\"}", `p:2:3: the document is not UTF-8`},
		{"half a surrogate pair", `{"Id":"\ud800","Statement":[]}`, `p:1:7: the string holds half of a surrogate pair, which is not a character`},
		{"deep nesting", `{"Statement":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`, `p:1:30: nested deeper than 16 levels`},
		{"size", strings.Repeat(" ", MaxBytes+1), `p:1:1: the document is larger than 1048576 bytes`},
		{"an array", `[]`, `p:1:1: a policy must be an object, not an array`},
		{"no Statement", `{"Version":"2012-10-17"}`, `p:1:1: the policy has no Statement`},
		{"a wrong Version", `{"Version":"2012-10-18","Statement":[]}`, `p:1:12: the Version "2012-10-18" does not exist; write "2012-10-17"`},
		{"an unknown element", `{"Statment":[],"Statement":[]}`, `p:1:2: "Statment" is not an element of a policy; did you mean "Statement"?`},
		{"a repeated key", `{"Statement":[],"Statement":[]}`, `p:1:17: the key "Statement" occurs twice in the same object; AWS refuses such a policy`},
		{"a repeated escaped key", `{"Statement":[],"St\u0061tement":[]}`, `p:1:17: the key "Statement" occurs twice in the same object; AWS refuses such a policy`},
		{"Principal", statement(`"Effect":"Allow","Action":"*","Resource":"*","Principal":"*"`),
			`p:1:83: Principal is for resource policies and trust policies only; the configuration says which role or identity this policy applies to`},
		{"NotPrincipal", statement(`"Effect":"Allow","Action":"*","Resource":"*","NotPrincipal":"*"`),
			`p:1:83: NotPrincipal is for resource policies and trust policies only; the configuration says which role or identity this policy applies to`},
		{"nothing in a statement", statement(``), "p:1:37: the statement has no Effect\n" +
			"p:1:37: the statement has neither Action nor NotAction\n" +
			`p:1:37: the statement has neither Resource nor NotResource; write "Resource": "*" for every resource`},
		{"effect in lower case", statement(`"Effect":"allow","Action":"*","Resource":"*"`), `p:1:47: Effect is "Allow" or "Deny" in exactly this spelling, not "allow"`},
		{"Action and NotAction", statement(`"Effect":"Deny","Action":"*","NotAction":"s3:*","Resource":"*"`), `p:1:67: a statement has either Action or NotAction, not both`},
		{"an action without service", statement(`"Effect":"Deny","Action":"GetObject","Resource":"*"`), `p:1:63: the action "GetObject" has no service; write it as service:Action, such as s3:GetObject`},
		{"a wildcard in the service", statement(`"Effect":"Deny","Action":"s*:Get","Resource":"*"`), `p:1:63: the action "s*:Get" must begin with the name of one service; wildcards are allowed after the colon only`},
		{"a variable in an action", statement(`"Effect":"Deny","Action":"s3:${aws:username}","Resource":"*"`), `p:1:63: "s3:${aws:username}" is not an action: letters, digits and the wildcards * and ? may follow the colon`},
		{"an empty NotAction", statement(`"Effect":"Allow","NotAction":[],"Resource":"*"`), `p:1:67: an empty NotAction would match everything; name what is meant, or use Action`},
		{"a number as action", statement(`"Effect":"Allow","Action":[7],"Resource":"*"`), `p:1:65: each entry of Action must be a string, not a number`},
		{"a bare bucket", statement(`"Effect":"Allow","Action":"*","Resource":"data"`), `p:1:79: the resource "data" is neither "*" nor an ARN (arn:partition:service:region:account:resource)`},
		{"an open variable", statement(`"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::${aws:username"`), `p:1:79: the policy variable "${aws:username" is not closed; write ${$} for a dollar sign that starts no variable`},
		{"a strange variable", statement(`"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::${bucket}"`), `p:1:79: "${bucket}" is not a policy variable: expected a condition key such as ${aws:username}, or one of ${*} ${?} ${$}`},
		{"a default without quotation marks", statement(`"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::${aws:username, x}"`), `p:1:79: the default of the policy variable "${aws:username, x}" must stand in single quotation marks: ${key, 'default'}`},
		{"a wrong operator", statement(`"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEqual":{"aws:username":"a"}}`), `p:1:96: "StringEqual" is not a condition operator; did you mean "StringEquals"?`},
		{"NullIfExists", statement(`"Effect":"Allow","Action":"*","Resource":"*","Condition":{"NullIfExists":{"aws:username":"true"}}`), `p:1:96: "NullIfExists": Null takes neither IfExists nor a set operator`},
		{"a key in two cases", statement(`"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":true,"aws:securetransport":false}}`), `p:1:131: the condition key "aws:securetransport" is already given as "aws:SecureTransport"; keys are case-insensitive`},
		{"no values", statement(`"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringLike":{"aws:username":[]}}`), `p:1:125: the condition on aws:username has no values; AWS does not document what that means`},
		{"a word as number", statement(`"Effect":"Allow","Action":"*","Resource":"*","Condition":{"NumericEquals":{"s3:max-keys":"ten"}}`), `p:1:127: NumericEquals compares with a number such as 10 or 2.5, not with "ten"`},
		{"a variable as date", statement(`"Effect":"Allow","Action":"*","Resource":"*","Condition":{"DateLessThan":{"aws:CurrentTime":"${aws:TokenIssueTime}"}}`), `p:1:130: DateLessThan compares with a date such as 2026-01-31T00:00:00Z or seconds since 1970, not with "${aws:TokenIssueTime}"; AWS does not replace policy variables here`},
		{"a range out of range", statement(`"Effect":"Allow","Action":"*","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"203.0.113.0/33"}}`), `p:1:124: IpAddress compares with an address or a CIDR range such as 203.0.113.0/24 or 2001:db8::/32, not with "203.0.113.0/33"`},
		{"two Sids", doc(`{"Sid":"A","Effect":"Deny","Action":"*","Resource":"*"}`, `{"Sid":"A","Effect":"Deny","Action":"*","Resource":"*"}`), `p:1:101: the Sid "A" is that of statement 1 as well; Sids must be unique`},
		{"a Sid with a dash", doc(`{"Sid":"A-b","Effect":"Deny","Action":"*","Resource":"*"}`), `p:1:45: the Sid "A-b" may hold only the letters A-Z and a-z and digits`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := Parse("p", []byte(tt.src))
			if p != nil || err == nil {
				t.Fatalf("accepted: %+v", p)
			}
			if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			var one *Error
			if !errors.As(err, &one) || one.Name != "p" || one.Line < 1 || one.Column < 1 {
				t.Errorf("the error does not unwrap to one with a place: %#v", err)
			}
		})
	}
}

func TestParseAccepts(t *testing.T) {
	for _, tt := range []struct{ name, src string }{
		{"a byte order mark", "\xEF\xBB\xBF" + doc()},
		{"one statement without array", `{"Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}`},
		{"empty lists, which match nothing", doc(`{"Effect":"Allow","Action":[],"Resource":[]}`)},
		{"an empty condition", doc(`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{}}`)},
		{"booleans and numbers as values", doc(`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":true},"NumericLessThan":{"s3:max-keys":[10,2.5]}}}`)},
		{"operators in any case", doc(`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"foranyvalue:stringlikeifexists":{"aws:TagKeys":"a"}}}`)},
		{"variables that 2008 does not know", `{"Version":"2008-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::${bucket"}}`},
		{"a default with a brace", doc(`{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::${aws:username, 'a}b'}"}`)},
		{"a real replacement character", doc(`{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::a/\ufffd�"}`)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Parse("p", []byte(tt.src)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestParseKeepsPlacesAndLabels(t *testing.T) {
	p := mustParse(t, "p", "{\n \"Version\": \"2012-10-17\", \"Id\": \"x\",\n \"Statement\": [\n  {\"Sid\": \"Read\", \"Effect\": \"Allow\", \"Action\": [\"s3:Get*\"],\n   \"NotResource\": \"arn:aws:s3:::ü/*\", \"Condition\": {\"StringLike\": {\"s3:prefix\": [\"a\", \"b\"]}}},\n  {\"Effect\": \"Deny\", \"NotAction\": \"s3:*\", \"Resource\": \"*\"}\n ]\n}")
	type view struct {
		Version, ID string
		Labels      []string
		Effects     []Effect
		Not         []Negation
		Pos         []Position
		Action      Position
		Resource    Position
		Operator    Position
		Key         Position
		Values      []string
	}
	s := p.Statements
	got := view{
		p.Version, p.ID, []string{s[0].Label(), s[1].Label()}, []Effect{s[0].Effect, s[1].Effect}, []Negation{s[0].Not, s[1].Not},
		[]Position{s[0].Pos, s[1].Pos}, s[0].Actions[0].Pos, s[0].Resources[0].Pos, s[0].Conditions[0].Pos, s[0].Conditions[0].KeyPos, s[0].Conditions[0].Values,
	}
	want := view{
		"2012-10-17", "x", []string{"Read", "#2"}, []Effect{Allow, Deny}, []Negation{{Resource: true}, {Action: true}},
		[]Position{{4, 3}, {6, 3}}, Position{4, 49}, Position{5, 19}, Position{5, 53}, Position{5, 68}, []string{"a", "b"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func FuzzParse(f *testing.F) {
	for _, c := range generated(20) {
		for _, p := range c.Policies {
			f.Add(marshal(f, p))
		}
	}
	f.Add([]byte("\xEF\xBB\xBF" + doc(`{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::${aws:username, 'x'}${*}"}`)))
	f.Fuzz(func(t *testing.T, src []byte) {
		p, err := Parse("p", src)
		if (p == nil) == (err == nil) {
			t.Fatalf("policy %v and error %v", p, err)
		}
		if err != nil {
			var faults Errors
			if !errors.As(err, &faults) || len(faults) == 0 {
				t.Fatalf("an error without faults: %v", err)
			}
			for _, one := range faults {
				if one.Line < 1 || one.Column < 1 || one.Message == "" {
					t.Fatalf("a fault without place or message: %+v", one)
				}
			}
			return
		}
		Check(p, CheckOptions{Session: true, Catalog: smallCatalog{}})
		// What was read once is read the same again from its compact form.
		again, err := Parse("p", p.SizeAsSession().Minified)
		if err != nil || len(again.Statements) != len(p.Statements) {
			t.Fatalf("the compact form is another policy: %v", err)
		}
	})
}
