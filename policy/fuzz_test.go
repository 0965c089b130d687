package policy

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/countersign-proxy/countersign/awsapi"
)

// FuzzDecide holds decisions to what must be true of every policy and request:
// no panic, a reason out of the closed set, no Allow without a statement that allows, and
// nothing gained by knowing less.
func FuzzDecide(f *testing.F) {
	for _, c := range generated(40) {
		f.Add(marshal(f, c.Policies[0]), c.Action, c.Resource, "s3:prefix", "ann\nbob", uint8(0))
	}
	f.Add([]byte(doc(`{"Effect":"Allow","Action":"*","Resource":"*"}`)), "", "", "", "", uint8(7))
	f.Fuzz(func(t *testing.T, src []byte, action, resource, key, values string, flags uint8) {
		p, err := Parse("p", src)
		if err != nil || len(resource) > 2048 || len(src) > 1<<14 {
			t.Skip()
		}
		call := &awsapi.Call{Region: "eu-west-1", Needs: []awsapi.Need{{Action: action, Resources: []string{resource}}}}
		if key != "" {
			call.Conditions = map[string][]string{strings.ToLower(key): strings.Split(values, "\n")}
		}
		q := Query{
			Call: call, SourceIP: netip.MustParseAddr("203.0.113.7"), Time: time.Unix(1780315200, 0),
			Username: values, PrincipalARN: resource, PrincipalAccount: "123456789012", PrincipalTags: map[string]string{key: values},
		}
		if flags&1 != 0 {
			call.Needs[0].ResourceUnknown = true
		}
		if flags&4 != 0 {
			call.Needs[0].Patterns = []string{resource}
		}
		if flags&2 != 0 {
			call.Needs = append(call.Needs, awsapi.Need{Action: "s3:GetObject", Resources: []string{"*"}})
		}
		alone, err := Compile(Options{Policies: []*Policy{p}})
		if err != nil {
			t.Fatal(err)
		}
		fenced, err := Compile(Options{Boundary: p})
		if err != nil {
			t.Fatal(err)
		}
		d := alone.Decide(q)
		check(t, d)
		if b := fenced.Decide(q); b.Allow != d.Allow {
			t.Fatalf("as policy %+v, as boundary %+v", d, b)
		}
		e := alone.Explain(q)
		if e.Decision != d {
			t.Fatalf("Decide says %+v, Explain %+v", d, e.Decision)
		}
		if d.Allow {
			holds(t, e)
		}

		// Who knows less is allowed no more.
		less := q
		dark := *call
		dark.UnknownConditions = []string{strings.ToLower(key)}
		dark.Needs = append([]awsapi.Need(nil), call.Needs...)
		dark.Needs[0].ResourceUnknown, dark.Needs[0].Patterns = true, nil
		less.Call = &dark
		l := alone.Decide(less)
		check(t, l)
		if l.Allow && !d.Allow {
			t.Fatalf("denied with all values (%+v), allowed with fewer (%+v)", d, l)
		}
		blind := less
		stranger := dark
		stranger.Unknown = "fuzzed"
		blind.Call = &stranger
		u := alone.Decide(blind)
		check(t, u)
		if u.Allow {
			everything := false
			for _, s := range p.Statements {
				everything = everything || s.Effect == Allow && !s.Not.Action && !s.Not.Resource && len(s.Conditions) == 0
			}
			if !everything {
				t.Fatalf("an unknown call passes: %+v", u)
			}
		}
	})
}

func check(t *testing.T, d Decision) {
	t.Helper()
	known := false
	for _, r := range Reasons() {
		known = known || r == d.Reason
	}
	if !known || d.Allow != (d.Message == "") {
		t.Fatalf("not a decision: %+v", d)
	}
	if d.Allow && (d.Reason == ReasonAllowed) != (d.Statement != "") {
		t.Fatalf("allowed by nothing: %+v", d)
	}
}

// holds wants an Allow that is certain, and no Deny that is possible, for each need.
func holds(t *testing.T, e Explanation) {
	t.Helper()
	for _, n := range e.Needs {
		allowed := n.DenyOnly
		for _, s := range n.Statements {
			if s.Effect == Deny && s.Applies != False {
				t.Fatalf("allowed in spite of %+v", s)
			}
			allowed = allowed || s.Effect == Allow && s.Applies == True
		}
		if !allowed {
			t.Fatalf("nothing allows %s on %s", n.Action, n.Resource)
		}
	}
}

// FuzzGlob compares the matcher with a plain recursive definition, and overlap and
// covers with what they promise.
func FuzzGlob(f *testing.F) {
	f.Add("a*b?c", "axxbyc", "a*")
	f.Add("*ü?", "xü☃", "?ü*")
	f.Add("arn:aws:s*:::x", "arn:aws:sqs:::x", "arn:*")
	f.Fuzz(func(t *testing.T, pat, s, other string) {
		if len(pat) > 30 || len(s) > 30 || len(other) > 30 || !plain(pat) || !plain(other) || strings.Count(pat, "*") > 5 {
			t.Skip() // the plain definition takes exponential time
		}
		p, o := compileWildcards(pat), compileWildcards(other)
		got := match(p, s)
		if want := plainMatch(p, s); got != want {
			t.Fatalf("match(%q, %q) = %v", pat, s, got)
		}
		if g := newGlob(p); g.match(s) != got {
			t.Fatalf("glob and match differ on %q, %q", pat, s)
		}
		if m := matchSegments(p, s); m != got {
			t.Fatalf("matchSegments(%q, %q) = %v", pat, s, m)
		}
		if strict := strictText(p); strict != "" && matchSegments(strict, s) && !got {
			t.Fatalf("the strict reading of %q matches %q, the wide one does not", pat, s)
		}
		if apart(p, o) && got && match(o, s) {
			t.Fatalf("%q matches %q and %q, which are said to be apart", s, pat, other)
		}
		if plain(s) && got && match(o, s) && !overlap(p, o) {
			t.Fatalf("%q matches %q and %q, which are said not to overlap", s, pat, other)
		}
		if covers(o, p) && got && !match(o, s) {
			t.Fatalf("%q is said to cover %q, but does not match %q", other, pat, s)
		}
	})
}

func plainMatch(p, s string) bool {
	if p == "" {
		return s == ""
	}
	switch {
	case p[0] == star:
		return plainMatch(p[1:], s) || s != "" && plainMatch(p, s[size(s):])
	case s == "":
		return false
	case p[0] == question:
		return plainMatch(p[1:], s[size(s):])
	}
	return p[0] == s[0] && plainMatch(p[1:], s[1:])
}
