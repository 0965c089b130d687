package policy

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-proxy/countersign/awsapi"
)

func need(action string, resources ...string) Observation {
	return Observation{Needs: []awsapi.Need{{Action: action, Resources: resources}}}
}

func sample() []Observation {
	seen := []Observation{
		need("s3:ListBucket", "arn:aws:s3:::data"),
		need("s3:GetObject", "arn:aws:s3:::data/config.json"),
		need("s3:GetObject", "arn:aws:s3:::data/what?*.txt"),
		need("s3:GetObject", "arn:aws:s3:::data/cost-${x}"),
		need("s3:PutObject", "arn:aws:s3:::logs-2026-06-01/a"),
		need("s3:PutObject", "arn:aws:s3:::data/logs/2026-06-01/app.log"),
		need("s3:PutObject", "arn:aws:s3:::data/daily/2026/06/01/x.csv"),
		need("s3:PutObject", "arn:aws:s3:::data/run-1780315200.txt"),
		need("s3:PutObject", "arn:aws:s3:::data/up/0b9d6e6c-2f3a-4b59-9c36-2f5d1f0c7a11"),
		need("s3:GetObject", "arn:aws:s3:::data/pair-1", "arn:aws:s3:::data/pair-2"),
		need("kms:Decrypt", "arn:aws:kms:eu-west-1:123456789012:key/0b9d6e6c-2f3a-4b59-9c36-2f5d1f0c7a11"),
		{Needs: []awsapi.Need{{Action: "ec2:RunInstances", Resources: []string{"arn:aws:ec2:eu-west-1::image/ami-0123456789abcdef0"},
			ResourceUnknown: true, Patterns: []string{"arn:aws:ec2:eu-west-1:123456789012:instance/*"}}}},
		need("ec2:TerminateInstances", "arn:aws:ec2:eu-west-1:123456789012:instance/i-0123456789abcdef0"),
		need("ec2:DescribeInstances", "*"),
		need("iam:CreateRole", "arn:aws:iam::123456789012:role/app-20230801123456789000000001"),
		need("iam:PassRole", "arn:aws:iam::123456789012:role/app-20230801123456789000000001"),
		{Actions: []string{"sqs:SendMessage"}, Resources: []string{"arn:aws:sqs:eu-west-1:*:jobs"}},
		need("dynamodb:GetItem", "arn:aws:dynamodb:eu-west-1:123456789012:table/orders"),
		need("dynamodb:PutItem", "arn:aws:dynamodb:eu-west-1:123456789012:table/orders"),
		{Needs: []awsapi.Need{{Action: "glue:GetTables", ResourceUnknown: true}}},
		{Actions: []string{"s3:GetObject", "s3:PutObject", "kms:Decrypt", "ec2:DescribeVpcs"}, Resources: []string{"arn:aws:s3:::data/flat", "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"}},
		{Actions: []string{"ec2:DescribeVpcs"}},
		{Service: "sts", Operation: "GetCallerIdentity"},
		{Service: "s3", Unknown: "two sub-resources"},
		{Service: "s3", Unknown: "two sub-resources"},
	}
	for i := range 12 {
		seen = append(seen, need("s3:GetObject", fmt.Sprintf("arn:aws:s3:::data/part-%05d.csv", i)))
	}
	for i := range 26 {
		name := strings.Repeat(string(rune('a'+i)), 4)
		seen = append(seen, need("s3:GetObject", "arn:aws:s3:::data/many/"+name))
	}
	return seen
}

func TestLearn(t *testing.T) {
	lesson := Learn(sample(), LearnOptions{})
	var out strings.Builder
	out.Write(lesson.Policy)
	if _, err := lesson.Report.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/learned.txt", out.String())
}

func TestLearnDoesNotDependOnOrder(t *testing.T) {
	want := Learn(sample(), LearnOptions{})
	shuffled := sample()
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	got := Learn(shuffled, LearnOptions{})
	if !bytes.Equal(got.Policy, want.Policy) {
		t.Errorf("another order gives another policy\n%s", cmp.Diff(string(want.Policy), string(got.Policy)))
	}
}

// TestLearnedPolicyAllowsWhatWasSeen also holds for a second run with other dates and
// new random names, and not for what was never seen.
func TestLearnedPolicyAllowsWhatWasSeen(t *testing.T) {
	for name, o := range map[string]LearnOptions{"default": {}, "exact": {Exact: true}} {
		lesson := Learn(sample(), o)
		s := mustCompile(t, Options{Policies: []*Policy{mustParse(t, "learned", string(lesson.Policy))}})
		for _, ob := range sample() {
			if d := s.Decide(ob.Query(nil)); d.Allow != (ob.Unknown == "") {
				t.Errorf("%s: %+v: %s", name, ob, d.Message)
			}
		}
		again := []Observation{
			need("s3:PutObject", "arn:aws:s3:::data/logs/2027-01-31/app.log"),
			need("s3:PutObject", "arn:aws:s3:::data/daily/2027/01/31/x.csv"),
			need("s3:PutObject", "arn:aws:s3:::data/up/9a9d6e6c-2f3a-4b59-9c36-2f5d1f0c7a99"),
			need("ec2:TerminateInstances", "arn:aws:ec2:eu-west-1:123456789012:instance/i-0fedcba9876543210"),
			need("iam:PassRole", "arn:aws:iam::123456789012:role/app-20270801123456789000000001"),
		}
		for _, ob := range again {
			if d := s.Decide(ob.Query(nil)); d.Allow == o.Exact {
				t.Errorf("%s: a second run: %+v", name, d)
			}
		}
		for _, ob := range []Observation{
			need("s3:PutObject", "arn:aws:s3:::logs-2026-06-02/a"), // a bucket of somebody else's, perhaps
			need("s3:DeleteObject", "arn:aws:s3:::data/config.json"),
			need("s3:GetObject", "arn:aws:s3:::data/what1234.txt"),
			need("s3:GetObject", "arn:aws:s3:::data/pair-3"),
			need("ec2:RunInstances", "arn:aws:ec2:eu-west-1::image/ami-0fedcba9876543210"),
			need("kms:Decrypt", "arn:aws:kms:eu-west-1:123456789012:key/ffffffff-2f3a-4b59-9c36-2f5d1f0c7a11"),
			need("iam:PassRole", "arn:aws:iam::123456789012:role/admin"),
			need("dynamodb:GetItem", "arn:aws:dynamodb:eu-west-1:123456789012:table/payments"),
		} {
			if d := s.Decide(ob.Query(nil)); d.Allow {
				t.Errorf("%s: allows %+v", name, ob)
			}
		}
	}
}

func TestLearnFromNothing(t *testing.T) {
	lesson := Learn(nil, LearnOptions{})
	if want := "{\n  \"Version\": \"2012-10-17\",\n  \"Statement\": []\n}\n"; string(lesson.Policy) != want {
		t.Errorf("got %s", lesson.Policy)
	}
	mustParse(t, "learned", string(lesson.Policy))
}

func TestCut(t *testing.T) {
	for s, want := range map[string][]string{
		"table/orders":                         nil,
		"part-00012.csv":                       {"numbers 00012"},
		"logs/2026-06-01/":                     {"dates or times 2026-06-01"},
		"2026/06/01/12/x":                      {"dates or times 2026/06/01/12"},
		"20260601T120000Z":                     {"dates or times 20260601T120000Z"},
		"a20260601b":                           {"random names a20260601b"},
		"i-0123456789abcdef0":                  {"random names 0123456789abcdef0"},
		"0b9d6e6c-2f3a-4b59-9c36-2f5d1f0c7a11": {"random names 0b9d6e6c-2f3a-4b59-9c36-2f5d1f0c7a11"},
		"stack-Bucket-1ABCDEF2GHIJK":           {"random names 1ABCDEF2GHIJK"},
		"version2":                             nil,
		"eu-west-1":                            {"numbers 1"},
	} {
		var got []string
		whole := ""
		for _, p := range cut(s) {
			whole += p.text
			if p.vary != fixed {
				got = append(got, p.vary.String()+" "+p.text)
			}
		}
		if whole != s {
			t.Errorf("%s became %s", s, whole)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", s, got, want)
		}
	}
}

func FuzzLearn(f *testing.F) {
	f.Add("s3:GetObject", "arn:aws:s3:::data/part-1 arn:aws:s3:::data/part-2")
	f.Add("ec2:RunInstances", "arn:aws:ec2:eu-west-1:*:instance/* ?arn:aws:ec2:*:*:volume/${x}*")
	f.Add("s3:PutObject", "arn:aws:s3:::a/${b}*?20260101")
	f.Fuzz(func(t *testing.T, action, resources string) {
		if validAction(action) != nil || strings.ContainsAny(action, "*?") {
			t.Skip()
		}
		ob := need(action)
		for _, r := range strings.Fields(resources) {
			if p, pattern := strings.CutPrefix(r, "?"); pattern && strings.HasPrefix(p, "arn:") && utf8.ValidString(p) {
				ob.Needs[0].ResourceUnknown = true
				ob.Needs[0].Patterns = append(ob.Needs[0].Patterns, p)
			} else {
				ob.Needs[0].Resources = append(ob.Needs[0].Resources, r)
			}
		}
		lesson := Learn([]Observation{ob}, LearnOptions{})
		p, err := Parse("learned", lesson.Policy)
		if err != nil {
			t.Fatalf("the learned policy is none: %v\n%s", err, lesson.Policy)
		}
		s := mustCompile(t, Options{Policies: []*Policy{p}})
		if d := s.Decide(ob.Query(nil)); !d.Allow {
			t.Fatalf("the learned policy denies: %s\n%s", d.Message, lesson.Policy)
		}
	})
}
