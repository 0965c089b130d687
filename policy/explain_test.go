package policy

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestExplain(t *testing.T) {
	p := mustParse(t, "deploy.json", "{\n \"Version\": \"2012-10-17\",\n \"Statement\": ["+`
  {"Sid": "Write", "Effect": "Allow", "Action": "s3:Put*", "Resource": "*"},
  {"Sid": "Other", "Effect": "Allow", "Action": "s3:Get*", "Resource": "arn:aws:s3:::other/*"},
  {"Sid": "Mine", "Effect": "Allow", "NotAction": "iam:*", "Resource": "arn:aws:s3:::data/*", "Condition": {"StringLike": {"s3:prefix": ["x", "y/*"]}}},
  {"Sid": "Tagged", "Effect": "Allow", "Action": "s3:*", "Resource": "*", "Condition": {"StringEquals": {"aws:ResourceTag/team": "red"}}},
  {"Effect": "Deny", "Action": "*", "NotResource": ["arn:aws:s3:::data/*"]},
  {"Sid": "Hours", "Effect": "Deny", "NotAction": ["s3:Get*"], "Resource": "*", "Condition": {"DateGreaterThan": {"aws:CurrentTime": "2026-01-01T00:00:00Z"}}}
 ]
}`)
	b := mustParse(t, "limit.json", doc(`{"Effect":"Allow","Action":"s3:*","Resource":"*"}`))
	s := mustCompile(t, Options{Name: "deploy", Policies: []*Policy{p}, Boundary: b})
	var out strings.Builder
	show := func(title string, q Query) Explanation {
		e := s.Explain(q)
		out.WriteString("=== " + title + "\n")
		if _, err := e.WriteTo(&out); err != nil {
			t.Fatal(err)
		}
		return e
	}
	show("allowed", ask("s3:GetObject", object).with("s3:prefix", "y/z"))
	e := show("denied for want of a known tag", ask("s3:GetObject", object))
	show("denied", ask("s3:PutObject", object, "arn:aws:s3:::elsewhere/x"))
	open := ask("s3:GetObject", object)
	open.Call.Needs[0].Patterns = []string{"arn:aws:s3:::data/*/a.txt"}
	show("with what may be concerned", open)
	mystery := ask("")
	mystery.Call.Needs, mystery.Call.Unknown = nil, "two selectors"
	show("not understood", mystery)
	text, err := json.MarshalIndent(e, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/explain.txt", out.String()+"=== as data\n"+string(text)+"\n")
}

// TestExplainAgreesWithDecide rebuilds each decision from the statements of its explanation.
func TestExplainAgreesWithDecide(t *testing.T) {
	for _, c := range generated(4000) {
		s := c.compile(t)
		e := s.Explain(c.query())
		denied, allowed, within := false, true, true
		for _, n := range e.Needs {
			allow, bound := false, len(c.Boundaries) == 0
			for _, st := range n.Statements {
				denied = denied || st.Effect == Deny && st.Applies != False
				if st.Effect == Allow && st.Applies == True {
					allow = allow || !st.Boundary
					bound = bound || st.Boundary
				}
				if st.Why == "" {
					t.Fatalf("case %d: statement %s has no reason", c.ID, st.Statement)
				}
			}
			allowed, within = allowed && allow, within && bound
		}
		if want := !denied && allowed && within; e.Decision.Allow != want {
			t.Fatalf("case %d: decision %+v, statements say %v", c.ID, e.Decision, want)
		}
	}
}
