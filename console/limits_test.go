package console

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func document(name, text string) Document { return Document{Name: name, Text: []byte(text)} }

func TestSessionPolicyOfLimits(t *testing.T) {
	read := document("read.json", `{"Version":"2012-10-17","Statement":{"Sid":"R","Effect":"Allow","Action":"s3:Get*","Resource":"arn:aws:s3:::a/*"}}`)
	deny := document("deny.json", `{"Version":"2012-10-17","Id":"x","Statement":[{"Sid":"R","Effect":"Deny","Action":"s3:*","Resource":"arn:aws:s3:::a/secret","Condition":{"Bool":{"aws:SecureTransport":"false"}}}]}`)
	for _, test := range []struct {
		name   string
		limits Limits
		text   string
		arns   []string
	}{
		{"none", Limits{}, "", nil},
		{"own session policy alone", Limits{OwnPolicy: true}, "", nil},
		{"policies", Limits{Policies: []Document{read, deny}},
			`{"Version":"2012-10-17","Statement":[{"Action":"s3:Get*","Effect":"Allow","Resource":"arn:aws:s3:::a/*"},{"Action":"s3:*","Condition":{"Bool":{"aws:SecureTransport":"false"}},"Effect":"Deny","Resource":"arn:aws:s3:::a/secret"}]}`, nil},
		{"boundary", Limits{Boundary: &read}, `{"Version":"2012-10-17","Statement":[{"Action":"s3:Get*","Effect":"Allow","Resource":"arn:aws:s3:::a/*"}]}`, nil},
		{"read only", Limits{ReadOnly: true}, "", []string{"arn:aws-cn:iam::aws:policy/ReadOnlyAccess"}},
		{"read only in regions", Limits{ReadOnly: true, Regions: []string{"eu-west-1"}},
			`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"StringNotEquals":{"aws:RequestedRegion":["eu-west-1"]}}}]}`, []string{"arn:aws-cn:iam::aws:policy/ReadOnlyAccess"}},
		{"regions by pattern", Limits{Regions: []string{"eu-*", "us-east-1"}},
			`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"StringNotLike":{"aws:RequestedRegion":["eu-*","us-east-1"]}}}]}`, nil},
		{"services", Limits{Services: []string{"s3", "sts"}},
			`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","NotAction":["s3:*","sts:*"],"Resource":"*"}]}`, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			text, arns, err := test.limits.sessionPolicy("aws-cn", nil)
			if err != nil || text != test.text {
				t.Errorf("got %s, %v\nwant %s", text, err, test.text)
			}
			if diff := cmp.Diff(test.arns, arns); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A role must never be more in the console than through the proxy.
func TestLimitsThatCannotBeTold(t *testing.T) {
	allow := document("p.json", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`)
	for _, test := range []struct {
		name   string
		limits Limits
		tags   []string
		text   string
	}{
		{"policies and boundary", Limits{Policies: []Document{allow}, Boundary: &allow}, nil, "boundary"},
		{"policies and session policy", Limits{Policies: []Document{allow}, OwnPolicy: true}, nil, "session policy of its own"},
		{"regions and session policy", Limits{Regions: []string{"eu-west-1"}, OwnPolicy: true}, nil, "session policy of its own"},
		{"read only and policies", Limits{Policies: []Document{allow}, ReadOnly: true}, nil, "read_only"},
		{"read only and boundary", Limits{Boundary: &allow, ReadOnly: true}, nil, "read_only"},
		{"no statement", Limits{Policies: []Document{document("p", `{"Version":"2012-10-17","Statement":[]}`)}}, nil, "allow nothing"},
		{"too long", Limits{Policies: []Document{document("p", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:Get*","Resource":"`+strings.Repeat("a", 2048)+`"}]}`)}}, nil, "at most 2048"},
		{"variables of an old version", Limits{Policies: []Document{document("p", `{"Statement":[{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::${aws:username}"}]}`)}}, nil, "2012-10-17"},
		{"user name", Limits{Policies: []Document{document("p", `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"StringEquals":{"AWS:UserName":"bob"}}}]}`)}}, nil, "aws:username"},
		{"tag that the session lacks", Limits{Policies: []Document{document("p", `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:PrincipalTag/team":"x"}}}]}`)}}, []string{"other"}, "aws:PrincipalTag/team"},
	} {
		t.Run(test.name, func(t *testing.T) {
			text, arns, err := test.limits.sessionPolicy("aws", test.tags)
			var known *Error
			if !errors.As(err, &known) || known.Kind != KindLimits || !strings.Contains(known.Message, test.text) {
				t.Errorf("got %q %v %v, want %q", text, arns, err, test.text)
			}
		})
	}
	tagged := Limits{Policies: []Document{document("p", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:PrincipalTag/Team":"x"}}}]}`)}}
	if _, _, err := tagged.sessionPolicy("aws", []string{"team"}); err != nil {
		t.Errorf("a tag that the session has: %v", err)
	}
}
