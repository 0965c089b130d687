package policy

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	src, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// smallCatalog has a few actions in the shape of the Service Authorization Reference.
type smallCatalog struct{}

func (smallCatalog) Prefixes() []string { return []string{"s3", "iam", "dynamodb", "ec2"} }

func (smallCatalog) Service(prefix string) (CatalogService, bool) {
	object := []string{"arn:${Partition}:s3:::${BucketName}/${ObjectName}"}
	s, ok := map[string]CatalogService{
		"s3": {
			Actions: map[string]CatalogAction{
				"GetObject": {Level: "Read", Resources: object}, "PutObject": {Level: "Write", Resources: object},
				"ListBucket":       {Level: "List", Resources: []string{"arn:${Partition}:s3:::${BucketName}"}},
				"ListAllMyBuckets": {Level: "List"},
			},
			Keys: map[string]string{"s3:prefix": "String", "s3:max-keys": "Numeric", "s3:ExistingObjectTag/${TagKey}": "String"},
		},
		"iam": {
			Actions: map[string]CatalogAction{"PassRole": {Level: "Write", Resources: []string{"arn:${Partition}:iam::${Account}:role/${RoleNameWithPath}"}}},
			Keys:    map[string]string{"iam:PassedToService": "String"},
		},
		"dynamodb": {
			Actions: map[string]CatalogAction{"GetItem": {Level: "Read", Resources: []string{"arn:${Partition}:dynamodb:${Region}:${Account}:table/${TableName}"}}},
			Keys:    map[string]string{"dynamodb:LeadingKeys": "ArrayOfString"},
		},
		"ec2": {Actions: map[string]CatalogAction{"DescribeInstances": {Level: "List"}}},
	}[prefix]
	return s, ok
}

// TestCheck compares the findings for each policy of testdata/check with the text beside it.
func TestCheck(t *testing.T) {
	files, err := filepath.Glob("testdata/check/*.json")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d policies, %v", len(files), err)
	}
	seen := make(map[string]bool)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		t.Run(name, func(t *testing.T) {
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			for _, f := range CheckSource(filepath.Base(file), src, CheckOptions{Catalog: smallCatalog{}, Session: strings.HasPrefix(name, "session")}) {
				seen[f.Code] = true
				b.WriteString(f.String() + "\n")
			}
			golden(t, strings.TrimSuffix(file, ".json")+".txt", b.String())
		})
	}
	for _, code := range []string{
		"syntax", "missing-version", "old-version", "empty-statement", "long", "variable-needs-version", "empty-action", "redundant-action", "unknown-service",
		"unknown-action", "allow-not-action", "allow-not-resource", "allow-everything", "pass-role-star", "create-slr-star", "unreachable-statement",
		"redundant-statement", "empty-resource", "redundant-resource", "variable-early", "wildcard-in-segment", "short-arn", "invalid-arn",
		"action-needs-star", "resource-mismatch", "unknown-key", "allow-for-all-values", "both-booleans", "never-evaluated", "arn-as-string", "type-mismatch",
		"missing-set-operator", "set-operator-on-single", "literal-wildcard", "host-bits", "epoch-year", "empty-condition", "unknown-variable", "variable-never-known",
		"session-too-long", "session-whitespace", "session-packed-size", "session-character",
	} {
		if !seen[code] {
			t.Errorf("no policy of testdata/check shows %s", code)
		}
	}
}

func TestCheckWithoutCatalogKnowsNoServiceKeys(t *testing.T) {
	src := doc(`{"Effect":"Allow","Action":"nope:Nothing","Resource":"arn:aws:nope:::x","Condition":{"StringEquals":{"nope:key":"x","aws:Nope":"x"}}}`)
	var codes []string
	for _, f := range CheckSource("p", []byte(src), CheckOptions{}) {
		codes = append(codes, f.Code)
	}
	if want := []string{"unknown-key"}; !slices.Equal(codes, want) {
		t.Errorf("got %v, want %v", codes, want)
	}
}

// TestCheckAgainstAWS looks things up in the real tables.
func TestCheckAgainstAWS(t *testing.T) {
	src := doc(
		`{"Effect":"Allow","Action":["s3:GetObjects","ec2:DescribeInstances","dynamodb:GetItem"],"Resource":"*"}`,
		`{"Effect":"Allow","Action":"s3:ListAllMyBuckets","Resource":"arn:aws:s3:::data"}`,
		`{"Effect":"Allow","Action":"dynamodb:GetItem","Resource":"arn:aws:dynamodb:eu-west-1:123456789012:table/t","Condition":{"ForAllValues:StringEquals":{"dynamodb:LeadingKeys":"x"},"Null":{"dynamodb:LeadingKeys":"false"}}}`,
		`{"Effect":"Allow","Action":"ec2:RunInstances","Resource":"*","Condition":{"StringEquals":{"ec2:InstanceTyp":"t3.micro","ec2:InstanceType":"t3.micro"}}}`)
	var got []string
	for _, f := range CheckSource("p", []byte(src), CheckOptions{Catalog: AWS()}) {
		got = append(got, f.Code+": "+f.Message)
	}
	want := []string{
		"unknown-action: there is no action s3:GetObjects; did you mean s3:GetObject?",
		`action-needs-star: s3:ListAllMyBuckets supports no resources; it is matched by Resource "*" alone`,
		"redundant-statement: statement #1 says as much without this one",
		"unknown-key: there is no condition key ec2:InstanceTyp; did you mean ec2:instancetype?",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestSizeAsSession(t *testing.T) {
	p := mustParse(t, "p", "{ \"Version\": \"2012-10-17\",\n \"Statement\": [] }")
	got := p.SizeAsSession()
	if got.Characters != 45 || got.Compact != 39 || !got.Fits || got.Limit != 2048 || got.PackedPercent < 1 || got.PackedPercent > 4 ||
		string(got.Minified) != `{"Version":"2012-10-17","Statement":[]}` {
		t.Errorf("%+v", got)
	}
}
