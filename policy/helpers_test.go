package policy

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/countersign-proxy/countersign/awsapi"
)

func mustParse(t testing.TB, name, src string) *Policy {
	t.Helper()
	p, err := Parse(name, []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustCompile(t testing.TB, o Options) *Set {
	t.Helper()
	s, err := Compile(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// doc wraps statements into a policy of the current version.
func doc(statements ...string) string {
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
}

func set(t testing.TB, statements ...string) *Set {
	t.Helper()
	return mustCompile(t, Options{Name: "deploy", Policies: []*Policy{mustParse(t, "p.json", doc(statements...))}})
}

func ask(action string, resources ...string) Query {
	return Query{
		Call:             &awsapi.Call{Service: "test", Operation: "Test", Region: "eu-west-1", Needs: []awsapi.Need{{Action: action, Resources: resources}}},
		SourceIP:         netip.MustParseAddr("203.0.113.7"),
		Time:             time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC),
		PrincipalARN:     "arn:aws:sts::123456789012:assumed-role/Deploy/ann",
		PrincipalAccount: "123456789012",
		Username:         "ann",
		SecureTransport:  true,
	}
}

// with sets a condition value that the request carries.
func (q Query) with(key string, values ...string) Query {
	call := *q.Call
	call.Conditions = map[string][]string{strings.ToLower(key): values}
	for k, v := range q.Call.Conditions {
		call.Conditions[k] = v
	}
	q.Call = &call
	return q
}

// unsure marks a key that may or may not be in the request.
func (q Query) unsure(key string) Query {
	call := *q.Call
	call.UnknownConditions = append([]string{strings.ToLower(key)}, call.UnknownConditions...)
	q.Call = &call
	return q
}
