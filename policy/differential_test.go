package policy

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/countersign-proxy/countersign/awsapi"
)

const (
	cases       = 20_000
	caseSeed    = 20121017
	account     = "123456789012"
	principal   = "arn:aws:iam::123456789012:user/ann"
	casesGolden = "testdata/differences.txt"
)

// simCase is one generated case in the form that the other evaluator reads.
type simCase struct {
	ID         int            `json:"id"`
	Policies   []any          `json:"policies"`
	Boundaries []any          `json:"boundaries"`
	Principal  string         `json:"principal"`
	Action     string         `json:"action"`
	Resource   string         `json:"resource"`
	Account    string         `json:"account"`
	Context    map[string]any `json:"context"`
}

// generator makes policies and requests from a small vocabulary, so that they meet often.
type generator struct{ *rand.Rand }

func pick[T any](g generator, from ...T) T { return from[g.IntN(len(from))] }

func (g generator) chance(percent int) bool { return g.IntN(100) < percent }

// some returns one value, or several as an array.
func some(g generator, draw func() any) any {
	if g.chance(70) {
		return draw()
	}
	out := make([]any, 1+g.IntN(3))
	for i := range out {
		out[i] = draw()
	}
	return out
}

func (g generator) action() string {
	return pick(g, "s3:GetObject", "s3:PutObject", "s3:ListBucket", "dynamodb:GetItem", "dynamodb:Query", "sqs:SendMessage", "lambda:InvokeFunction", "ec2:StartInstances")
}

func (g generator) actionPattern() any {
	if g.chance(40) {
		return g.action()
	}
	return pick(g, "*", "s3:*", "s3:Get*", "S3:getobject", "s3:?etObject", "s3:*Object", "dynamodb:*", "dynamodb:Q?ery", "sqs:Send*", "lambda:*Function", "ec2:*Instances", "ec2:Sta??Instances", "s3:*t*t")
}

func (g generator) resource() string {
	if g.chance(2) {
		return "*"
	}
	return pick(g,
		"arn:aws:s3:::data", "arn:aws:s3:::data/ann/a.txt", "arn:aws:s3:::data/bob/b.txt", "arn:aws:s3:::logs/2026/01/x",
		"arn:aws:s3:::data/${x", "arn:aws:s3:::data/a?c", "arn:aws:s3:::data/ünï/x",
		"arn:aws:dynamodb:eu-west-1:123456789012:table/ann", "arn:aws:dynamodb:us-east-1:123456789012:table/orders",
		"arn:aws:sqs:eu-west-1:123456789012:jobs", "arn:aws:sqs:us-east-1:123456789012:jobs",
		"arn:aws:lambda:eu-west-1:123456789012:function:pay:live", "arn:aws:ec2:eu-west-1:123456789012:instance/i-0123456789abcdef0")
}

func (g generator) resourcePattern() any {
	if g.chance(30) {
		return strings.ReplaceAll(g.resource(), "${x", "x")
	}
	return pick(g, "*", "*", "*", "*", "*", "*", "arn:aws:s3:::*", "arn:aws:s3:::data/*", "arn:aws:s3:::data/${aws:username}/*", "arn:aws:s3:::data/${aws:PrincipalTag/team}/*",
		"arn:aws:s3:::data/${aws:PrincipalTag/team, 'ann'}/*", "arn:aws:s3:::data/a${?}c", "arn:aws:s3:::data/???/*", "arn:aws:s3:::*/2026/*",
		"arn:aws:dynamodb:*:*:table/*", "arn:aws:dynamodb:eu-*:123456789012:table/${aws:username}", "arn:aws:dynamodb:*:123456789012:table/o*s",
		"arn:aws:sqs:*:*:jobs", "arn:aws:sqs:e*1:123456789012:*", "arn:aws:sqs:*", "arn:aws:sqs:us-east-1:*", "arn:aws:lambda:*:*:function:pay:*",
		"arn:aws:lambda:eu-west-1:123456789012:function:*", "arn:*:ec2:*:*:instance/*", "arn:aws:ec2:eu-west-?:123456789012:instance/i-*", "arn:aws:dynamodb",
		"arn:aws:s3:::data/${*}")
}

type keyKind struct {
	key    string
	ops    []string
	policy func(generator) any
	value  func(generator) string
	multi  bool
}

var stringOps = []string{"StringEquals", "StringNotEquals", "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", "StringLike", "StringNotLike"}
var numericOps = []string{"NumericEquals", "NumericNotEquals", "NumericLessThan", "NumericLessThanEquals", "NumericGreaterThan", "NumericGreaterThanEquals"}
var dateOps = []string{"DateEquals", "DateNotEquals", "DateLessThan", "DateLessThanEquals", "DateGreaterThan", "DateGreaterThanEquals"}
var arnOps = []string{"ArnEquals", "ArnLike", "ArnNotEquals", "ArnNotLike"}

var stringValues = func(g generator) any {
	return pick[any](g, "ann", "Ann", "a*", "*n", "b?b", "team", "red", "blue", "${aws:username}", "${aws:PrincipalTag/team}", "${aws:PrincipalTag/team, 'red'}", "", "${*}", "r${?}d")
}
var requestStrings = func(g generator) string {
	return pick(g, "ann", "Ann", "bob", "team", "red", "blue", "*", "r?d", "a b", "")
}
var dates = func(g generator) any {
	return pick[any](g, "2026-01-01T00:00:00Z", "2026-06-01T12:00:00Z", "2026-06-01", "2026-06-01T14:00:00+02:00", "2027-01-01T00:00:00.000Z", "1780315200", 1767225600)
}
var arns = func(g generator) string {
	return pick(g, "arn:aws:sns:eu-west-1:123456789012:topic", "arn:aws:sns:us-east-1:123456789012:topic:sub", "arn:aws:s3:::data", "not an arn")
}

var keyKinds = []keyKind{
	{"s3:prefix", stringOps, stringValues, requestStrings, false},
	{"aws:PrincipalTag/team", stringOps, stringValues, requestStrings, false},
	{"aws:RequestTag/Env", stringOps, stringValues, requestStrings, false},
	{"aws:username", stringOps, stringValues, nil, false},
	{"aws:TagKeys", stringOps, stringValues, requestStrings, true},
	{"dynamodb:LeadingKeys", stringOps, stringValues, requestStrings, true},
	{"s3:max-keys", numericOps, func(g generator) any { return pick[any](g, "10", 10, "10.0", "9.5", "-1", "100", 1000) }, func(g generator) string { return pick(g, "10", "9", "9.50", "100", "-1", "many") }, false},
	{"s3:RetainUntil", dateOps, dates, func(g generator) string { return fmt.Sprint(dates(g)) }, false},
	{"aws:CurrentTime", dateOps, dates, nil, false},
	{"aws:SecureTransport", []string{"Bool"}, func(g generator) any { return pick[any](g, "true", "false", true, false, "True") }, nil, false},
	{"lambda:Flag", []string{"Bool"}, func(g generator) any { return pick[any](g, "true", "false") }, func(g generator) string { return pick(g, "true", "false", "TRUE", "yes") }, false},
	{"aws:SourceIp", []string{"IpAddress", "NotIpAddress"}, func(g generator) any {
		return pick[any](g, "203.0.113.0/24", "203.0.113.7", "10.0.0.0/8", "2001:db8::/32", "2001:DB8:0::7", "0.0.0.0/0", "203.0.113.9/24")
	}, nil, false},
	{"aws:SourceArn", arnOps, func(g generator) any {
		return pick[any](g, "arn:aws:sns:*:*:topic", "arn:aws:sns:eu-west-1:123456789012:t?pic", "arn:aws:s3:::*", "arn:aws:sns:*", "arn:aws:sns:us-east-1:123456789012:*", "arn:aws:s*:eu-*:${aws:PrincipalAccount}:topic")
	}, arns, false},
	{"lambda:Blob", []string{"BinaryEquals"}, func(g generator) any { return pick[any](g, "QmluYXJ5", "AAEC") }, func(g generator) string { return pick(g, "QmluYXJ5", "AAEC", "AAED") }, false},
}

func (g generator) condition() map[string]any {
	out := make(map[string]any)
	for range 1 + g.IntN(2) {
		k := keyKinds[g.IntN(len(keyKinds))]
		op := pick(g, k.ops...)
		if g.chance(12) {
			out["Null"] = map[string]any{k.key: some(g, func() any { return pick[any](g, "true", "false", true, false) })}
			continue
		}
		if k.multi && g.chance(85) || g.chance(8) {
			op = pick(g, "ForAllValues:", "ForAnyValue:") + op
		}
		if g.chance(20) {
			op += "IfExists"
		}
		keys, _ := out[op].(map[string]any)
		if keys == nil {
			keys = make(map[string]any)
			out[op] = keys
		}
		key := k.key
		if g.chance(10) {
			key = strings.ToLower(key)
		}
		if keys[k.key] == nil && keys[strings.ToLower(k.key)] == nil {
			keys[key] = some(g, func() any { return k.policy(g) })
		}
	}
	return out
}

func (g generator) statement(denyPercent int) map[string]any {
	s := map[string]any{"Effect": "Allow"}
	if g.chance(denyPercent) {
		s["Effect"] = "Deny"
	}
	action, resource := "Action", "Resource"
	if g.chance(12) {
		action = "NotAction"
	}
	if g.chance(12) {
		resource = "NotResource"
	}
	s[action] = some(g, g.actionPattern)
	s[resource] = some(g, g.resourcePattern)
	if g.chance(50) {
		s["Condition"] = g.condition()
	}
	return s
}

func (g generator) policy(denyPercent int) map[string]any {
	p := map[string]any{}
	switch {
	case g.chance(85):
		p["Version"] = Version2012
	case g.chance(50):
		p["Version"] = Version2008
	}
	list := make([]any, 1+g.IntN(3))
	for i := range list {
		list[i] = g.statement(denyPercent)
	}
	p["Statement"] = list
	if len(list) == 1 && g.chance(30) {
		p["Statement"] = list[0]
	}
	return p
}

func (g generator) simCase(id int) simCase {
	c := simCase{ID: id, Principal: principal, Account: account, Action: g.action(), Resource: g.resource(), Boundaries: []any{}, Context: map[string]any{}}
	for range 1 + g.IntN(2) {
		c.Policies = append(c.Policies, g.policy(25))
	}
	if g.chance(15) {
		c.Boundaries = append(c.Boundaries, g.policy(15))
	}
	c.Context["aws:username"] = "ann"
	c.Context["aws:PrincipalAccount"] = account
	c.Context["aws:PrincipalArn"] = principal
	c.Context["aws:SecureTransport"] = pick(g, "true", "false")
	c.Context["aws:CurrentTime"] = pick(g, "2026-06-01T12:00:00Z", "2025-12-31T23:59:59Z", "2026-01-01T00:00:00Z")
	c.Context["aws:SourceIp"] = pick(g, "203.0.113.7", "198.51.100.1", "10.1.2.3", "2001:db8::7", "2001:db9::1")
	for _, k := range keyKinds {
		if k.value == nil || g.chance(40) {
			continue
		}
		if !k.multi {
			c.Context[k.key] = k.value(g)
			continue
		}
		values := make([]string, 1+g.IntN(3))
		for i := range values {
			values[i] = k.value(g)
		}
		c.Context[k.key] = values
	}
	return c
}

// query puts a case's context where the proxy would have it.
func (c *simCase) query() Query {
	q := Query{
		Call: &awsapi.Call{
			Needs:      []awsapi.Need{{Action: c.Action, Resources: []string{c.Resource}}},
			Conditions: map[string][]string{},
		},
		PrincipalARN: c.Principal, PrincipalAccount: c.Account, PrincipalTags: map[string]string{},
	}
	for key, value := range c.Context {
		text, _ := value.(string)
		switch key {
		case "aws:username":
			q.Username = text
		case "aws:PrincipalAccount", "aws:PrincipalArn":
		case "aws:SecureTransport":
			q.SecureTransport = text == "true"
		case "aws:CurrentTime":
			q.Time, _ = time.Parse(time.RFC3339, text)
		case "aws:SourceIp":
			q.SourceIP = netip.MustParseAddr(text)
		case "aws:PrincipalTag/team":
			q.PrincipalTags["team"] = text
		default:
			switch list := value.(type) {
			case []string:
				q.Call.Conditions[strings.ToLower(key)] = list
			case []any: // a case that went through JSON
				for _, one := range list {
					q.Call.Conditions[strings.ToLower(key)] = append(q.Call.Conditions[strings.ToLower(key)], one.(string))
				}
			default:
				q.Call.Conditions[strings.ToLower(key)] = []string{text}
			}
		}
	}
	return q
}

func (c *simCase) compile(t testing.TB) *Set {
	parse := func(list []any) (out []*Policy) {
		for i, p := range list {
			src, err := json.Marshal(p)
			if err != nil {
				t.Fatal(err)
			}
			pol, err := Parse(fmt.Sprintf("p%d", i+1), src)
			if err != nil {
				t.Fatalf("case %d: %v\n%s", c.ID, err, src)
			}
			out = append(out, pol)
		}
		return out
	}
	o := Options{Name: "test", Policies: parse(c.Policies)}
	if b := parse(c.Boundaries); len(b) > 0 {
		o.Boundary = b[0]
	}
	s, err := Compile(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func generated(n int) []simCase {
	g := generator{rand.New(rand.NewPCG(caseSeed, 1))}
	out := make([]simCase, n)
	for i := range out {
		out[i] = g.simCase(i + 1)
	}
	return out
}

// otherEvaluator finds node and the folder with the evaluator, which is installed for
// tests only.
func otherEvaluator(t *testing.T) (node, modules string) {
	modules = os.Getenv("COUNTERSIGN_NODE_MODULES")
	if modules == "" {
		modules = filepath.Join("..", ".tools", "node", "node_modules")
	}
	node, err := exec.LookPath("node")
	if err == nil {
		_, err = os.Stat(filepath.Join(modules, "@cloud-copilot", "iam-simulate"))
	}
	if err != nil {
		msg := fmt.Sprintf("needs node, and COUNTERSIGN_NODE_MODULES naming a node_modules folder with @cloud-copilot/iam-simulate: %v", err)
		if os.Getenv("CI") == "true" {
			t.Fatal(msg)
		}
		t.Skip(msg)
	}
	modules, err = filepath.Abs(modules)
	if err != nil {
		t.Fatal(err)
	}
	return node, modules
}

// simulate runs the other evaluator as a program of its own.
func simulate(t *testing.T, list []simCase) []string {
	node, modules := otherEvaluator(t)
	var in bytes.Buffer
	enc := json.NewEncoder(&in)
	for i := range list {
		if err := enc.Encode(&list[i]); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(node, "testdata/simulate.mjs", modules)
	cmd.Stdin = &in
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	raw, err := cmd.Output()
	if err != nil {
		t.Fatalf("the other evaluator: %v\n%s", err, stderr.Bytes())
	}
	results := make([]string, 0, len(list))
	lines := bufio.NewScanner(bytes.NewReader(raw))
	for lines.Scan() {
		var out struct {
			ID            int
			Result, Error string
		}
		if err := json.Unmarshal(lines.Bytes(), &out); err != nil {
			t.Fatal(err)
		}
		if out.ID != len(results)+1 {
			t.Fatalf("result %d came in place of %d", out.ID, len(results)+1)
		}
		if out.Error != "" {
			out.Result = "error: " + out.Error
		}
		results = append(results, out.Result)
	}
	if len(results) != len(list) {
		t.Fatalf("%d results for %d cases", len(results), len(list))
	}
	return results
}

// TestAgreesWithAnotherEvaluator judges generated policies and requests here and with
// @cloud-copilot/iam-simulate. Every disagreement must have one of the
// explanations of differences_test.go, and testdata/differences.txt says how often each occurs.
func TestAgreesWithAnotherEvaluator(t *testing.T) {
	otherEvaluator(t)
	list := generated(cases)
	results := simulate(t, list)
	counts := make(map[string]int)
	allowed := 0
	var differ []simCase
	for i := range list {
		c := &list[i]
		ours := c.compile(t).Decide(c.query())
		if ours.Allow {
			allowed++
		}
		if ours.Allow == (results[i] == "Allowed") {
			counts["agreed"]++
		} else {
			differ = append(differ, *c)
		}
	}
	if allowed < cases/10 || allowed > cases/2 {
		t.Errorf("%d of %d cases are allowed: the generator has lost its balance", allowed, cases)
	}
	for why, n := range explainDifferences(t, differ) {
		counts[why] = n
	}
	var b strings.Builder
	fmt.Fprintf(&b, "cases %d, seed %d, allowed %d\n", cases, caseSeed, allowed)
	fmt.Fprintf(&b, "%d cases agreed\n", counts["agreed"])
	for _, d := range differences {
		fmt.Fprintf(&b, "\n%d differed: %s\n%s\n", counts[d.name], d.name, d.why)
	}
	fmt.Fprintf(&b, "\n%d differed for several of these causes at once\n", counts[severalCauses])
	golden(t, casesGolden, b.String())
}
