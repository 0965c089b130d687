package policy

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-proxy/countersign/awsapi"
)

func TestObservationPairsActionsWithResources(t *testing.T) {
	o := Observation{
		Actions: []string{"s3:GetObject", "kms:Decrypt", "ec2:RunInstances", "sts:AssumeRole", "logs:DescribeLogGroups"},
		Resources: []string{"arn:aws:s3:::data/*", "arn:aws:kms:eu-west-1:123456789012:key/k", "arn:aws:ec2:eu-west-1:123456789012:instance/*",
			"arn:aws:iam::123456789012:role/r"},
	}
	want := []awsapi.Need{
		{Action: "s3:GetObject", Resources: []string{"arn:aws:s3:::data/*"}},
		{Action: "kms:Decrypt", Resources: []string{"arn:aws:kms:eu-west-1:123456789012:key/k"}},
		{Action: "ec2:RunInstances", ResourceUnknown: true, Patterns: []string{"arn:aws:ec2:eu-west-1:123456789012:instance/*"}},
		{Action: "sts:AssumeRole", Resources: []string{"arn:aws:iam::123456789012:role/r"}},
		{Action: "logs:DescribeLogGroups", Resources: []string{"arn:aws:iam::123456789012:role/r"}},
	}
	if diff := cmp.Diff(want, o.needs()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	o.Resources = nil
	for _, n := range o.needs() {
		if diff := cmp.Diff([]string{"*"}, n.Resources); diff != "" {
			t.Errorf("%s: -want +got\n%s", n.Action, diff)
		}
	}
}

func TestObservationQuery(t *testing.T) {
	seen := Observe(&awsapi.Call{
		Service: "s3", Operation: "GetObject", Region: "eu-west-1", AccessLevel: "Read", Conditions: map[string][]string{"s3:prefix": {"left behind"}},
		Needs: []awsapi.Need{{Action: "s3:GetObject", Resources: []string{object}}},
	})
	q := seen.Query(map[string][]string{
		"aws:SourceIp": {"203.0.113.7"}, "aws:CurrentTime": {"2026-06-01"}, "aws:UserAgent": {"cli"}, "aws:username": {"ann"}, "aws:PrincipalArn": {"arn:x"},
		"aws:PrincipalAccount": {"123456789012"}, "aws:SecureTransport": {"False"}, "S3:Prefix": {"a", "b"}, "aws:RequestedRegion": {"us-east-1"},
	})
	want := Query{
		Call: &awsapi.Call{
			Service: "s3", Operation: "GetObject", Region: "us-east-1", AccessLevel: "Read", Conditions: map[string][]string{},
			Needs: []awsapi.Need{{Action: "s3:GetObject", Resources: []string{object}}},
		},
		SourceIP: netip.MustParseAddr("203.0.113.7"), Time: time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC), UserAgent: "cli", Username: "ann",
		PrincipalARN: "arn:x", PrincipalAccount: "123456789012", Extra: map[string][]string{"s3:prefix": {"a", "b"}},
	}
	if diff := cmp.Diff(want, q, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	bare := Observation{Actions: []string{"sqs:SendMessage"}, Resources: []string{"arn:aws:sqs:eu-west-1:123456789012:jobs"}}.Query(nil)
	if bare.Call.Region != "eu-west-1" || !bare.SecureTransport {
		t.Errorf("%+v", bare)
	}
}
