package console

import (
	"errors"
	"strings"
	"testing"
)

func TestParseDestination(t *testing.T) {
	for _, test := range []struct{ in, partition, region, want, wantRegion string }{
		{"", "aws", "", "https://us-east-1.console.aws.amazon.com/console/home?region=us-east-1", "us-east-1"},
		{"", "aws-cn", "", "https://cn-north-1.console.amazonaws.cn/console/home?region=cn-north-1", "cn-north-1"},
		{"s3", "aws-us-gov", "us-gov-east-1", "https://us-gov-east-1.console.amazonaws-us-gov.com/s3/home?region=us-gov-east-1", "us-gov-east-1"},
		{"ec2", "aws-eusc", "", "https://eusc-de-east-1.console.amazonaws-eusc.eu/ec2/home?region=eusc-de-east-1", "eusc-de-east-1"},
		{"LOGS", "aws", "eu-west-1", "https://eu-west-1.console.aws.amazon.com/cloudwatch/home?region=eu-west-1#logsV2:log-groups", "eu-west-1"},
		{"athena", "aws", "eu-west-1", "https://eu-west-1.console.aws.amazon.com/athena/home?region=eu-west-1", "eu-west-1"},
		{"https://console.aws.amazon.com/s3/buckets/b?region=eu-west-3&prefix=a%2Fb/", "aws", "", "https://console.aws.amazon.com/s3/buckets/b?region=eu-west-3&prefix=a%2Fb/", "eu-west-3"},
		{"https://eu-west-1.console.aws.amazon.com/ec2/home?region=eu-west-1#Instances:search=i-0%20a", "aws", "us-east-1", "https://eu-west-1.console.aws.amazon.com/ec2/home?region=eu-west-1#Instances:search=i-0%20a", "eu-west-1"},
		{"https://123456789012-abcd1234.eu-west-1.console.aws.amazon.com/s3/", "aws", "", "https://123456789012-abcd1234.eu-west-1.console.aws.amazon.com/s3/", ""},
		{"https://CONSOLE.aws.amazon.com:443/iam/", "aws", "", "https://console.aws.amazon.com/iam/", ""},
	} {
		got, err := ParseDestination(test.in, test.partition, test.region)
		if err != nil || got.URL != test.want || got.Region != test.wantRegion {
			t.Errorf("%q: got %q in %q, %v; want %q in %q", test.in, got.URL, got.Region, err, test.want, test.wantRegion)
		}
	}
}

// Each of these would send a signed-in person, or the sign-in, somewhere else.
func TestForeignDestinations(t *testing.T) {
	for in, want := range map[string]string{
		"https://example.com/":                                         "not the AWS console",
		"http://console.aws.amazon.com/":                               "not an https address",
		"//console.aws.amazon.com/":                                    "not an https address",
		"/console/home":                                                "not an https address",
		"javascript://console.aws.amazon.com/%0aalert(1)":              "not an https address",
		"https:console.aws.amazon.com/":                                "not an https address",
		"https://console.aws.amazon.com.example.com/":                  "not the AWS console",
		"https://evilconsole.aws.amazon.com/":                          "not the AWS console",
		"https://example.com/console.aws.amazon.com/":                  "not the AWS console",
		"https://example.com?https://console.aws.amazon.com/":          "not the AWS console",
		"https://example.com#https://console.aws.amazon.com/":          "not the AWS console",
		"https://console.aws.amazon.com@example.com/":                  "user name",
		"https://user@console.aws.amazon.com/":                         "user name",
		"https://console.aws.amazon.com:8443/":                         "port",
		"https://example.com\\@console.aws.amazon.com/":                "characters",
		"https://example.com\\.console.aws.amazon.com/":                "characters",
		"https://exa\tmple.com/.console.aws.amazon.com/":               "characters",
		"https://console.aws.amazon.com/\r\nSet-Cookie: a=b":           "characters",
		" https://console.aws.amazon.com/":                             "characters",
		"https://console.aws.amazon.com\u3002example.com/":             "characters",
		"https://console.aws.amazon.com./":                             "not the AWS console",
		"https://console.aws.amazon.com%2eexample.com/":                "not an https address",
		"https://signin.aws.amazon.com/federation?Action=logout":       "not the AWS console",
		"https://d111111abcdef8.cloudfront.net/console.aws.amazon.com": "not the AWS console",
		"https://console.amazonaws.cn/":                                "in the partition aws-cn",
		"https://[::1]/console.aws.amazon.com":                         "not a host name",
		"https:///":                                                    "not the AWS console",
		"https://":                                                     "not the AWS console",
		"https://console.aws.amazon.com/" + strings.Repeat("a", 2048):  "longer than",
		"nonsense":    "neither a service",
		"s3?x":        "neither a service",
		"s3@evil.com": "neither a service",
		"..":          "neither a service",
	} {
		got, err := ParseDestination(in, "aws", "eu-west-1")
		var known *Error
		if !errors.As(err, &known) || known.Kind != KindDestination || !strings.Contains(known.Message, want) {
			t.Errorf("%q: got %q, %v; want %q", in, got.URL, err, want)
		}
	}
	for _, region := range []string{"eu-west-1.example.com/", "cn-north-1", "x", "us-east-1 "} {
		if got, err := ParseDestination("s3", "aws", region); err == nil {
			t.Errorf("region %q gave %q", region, got.URL)
		}
	}
	for _, p := range []string{"aws-iso", "aws-iso-b", ""} {
		var known *Error
		if _, err := ParseDestination("", p, ""); !errors.As(err, &known) || known.Kind != KindPartition || !strings.Contains(known.Message, "countersign exec") {
			t.Errorf("partition %q: %v", p, err)
		}
	}
}

func TestRecordedDestinationHasNoQuery(t *testing.T) {
	d, err := ParseDestination("https://console.aws.amazon.com/s3/buckets/b?prefix=secret#hidden", "aws", "")
	if got := d.Recorded(); err != nil || got != "https://console.aws.amazon.com/s3/buckets/b" {
		t.Errorf("%q, %v", got, err)
	}
}

// Whatever the text, what is accepted leads to the console and to nowhere else.
func FuzzParseDestination(f *testing.F) {
	for _, s := range []string{"s3", "https://console.aws.amazon.com/s3/home?region=eu-west-1#x", "https://console.aws.amazon.com@example.com/", "https://a\\b.console.aws.amazon.com/", `https://console.aws.amazon.com/?"><script>`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ParseDestination(text, "aws", "")
		if err != nil {
			return
		}
		rest, ok := strings.CutPrefix(d.URL, "https://")
		if !ok || strings.ContainsAny(d.URL, "\\ \t\r\n\"<>") {
			t.Fatalf("%q became %q", text, d.URL)
		}
		host := rest[:len(rest)-len(strings.TrimLeft(rest, "abcdefghijklmnopqrstuvwxyz0123456789.-"))]
		if host != "console.aws.amazon.com" && !strings.HasSuffix(host, ".console.aws.amazon.com") {
			t.Fatalf("%q leads to %q", text, host)
		}
		if after := rest[len(host):]; after != "" && !strings.ContainsAny(after[:1], "/?#") {
			t.Fatalf("%q leads to %q", text, d.URL)
		}
		again, err := ParseDestination(d.URL, "aws", "")
		if err != nil || again.URL != d.URL {
			t.Fatalf("%q became %q, which became %q, %v", text, d.URL, again.URL, err)
		}
	})
}
