package policy

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-proxy/countersign/awsapi"
)

const object = "arn:aws:s3:::data/ann/a.txt"

// truths runs one statement against a query with Allow and with Deny, which together
// show its three-valued result: only Allow works at yes, only Deny at unknown and yes.
func truths(t *testing.T, body string, q Query) Truth {
	t.Helper()
	allow := set(t, `{"Effect":"Allow",`+body+`}`).Decide(q)
	deny := set(t, `{"Sid":"All","Effect":"Allow","Action":"*","Resource":"*"}`, `{"Effect":"Deny",`+body+`}`).Decide(q)
	switch {
	case allow.Allow && deny.Reason == ReasonExplicitDeny:
		return True
	case !allow.Allow && deny.Reason == ReasonPossibleDeny:
		return Unknown
	case !allow.Allow && deny.Allow:
		return False
	}
	t.Fatalf("Allow gives %+v, Deny gives %+v", allow, deny)
	return False
}

// TestConditions is the decision tables of reference_policies_elements_condition_operators
// and reference_policies_condition-single-vs-multi-valued-context-keys.
func TestConditions(t *testing.T) {
	q := ask("s3:GetObject", object)
	for _, tt := range []struct {
		name, condition string
		q               Query
		want            Truth
	}{
		{"StringEquals is exact", `"StringEquals":{"s3:prefix":"Ann"}`, q.with("s3:prefix", "ann"), False},
		{"StringEquals takes one of several values", `"StringEquals":{"s3:prefix":["x","ann"]}`, q.with("s3:prefix", "ann"), True},
		{"StringEquals takes a star literally", `"StringEquals":{"s3:prefix":"a*"}`, q.with("s3:prefix", "ann"), False},
		{"StringNotEquals wants none of several", `"StringNotEquals":{"s3:prefix":["x","ann"]}`, q.with("s3:prefix", "ann"), False},
		{"StringNotEquals", `"StringNotEquals":{"s3:prefix":["x","y"]}`, q.with("s3:prefix", "ann"), True},
		{"StringEqualsIgnoreCase", `"StringEqualsIgnoreCase":{"s3:prefix":"ANN"}`, q.with("s3:prefix", "ann"), True},
		{"folding beyond ASCII is not documented", `"StringEqualsIgnoreCase":{"s3:prefix":"K"}`, q.with("s3:prefix", "\u212a"), Unknown},
		{"StringNotEqualsIgnoreCase", `"StringNotEqualsIgnoreCase":{"s3:prefix":"ANN"}`, q.with("s3:prefix", "ann"), False},
		{"StringLike with star", `"StringLike":{"s3:prefix":"a*"}`, q.with("s3:prefix", "ann/x:y"), True},
		{"StringLike minds case", `"StringLike":{"s3:prefix":"A*"}`, q.with("s3:prefix", "ann"), False},
		{"a question mark is one character, not one byte", `"StringLike":{"s3:prefix":"a?n"}`, q.with("s3:prefix", "aün"), True},
		{"a question mark is not none", `"StringLike":{"s3:prefix":"a?n"}`, q.with("s3:prefix", "an"), False},
		{"StringNotLike", `"StringNotLike":{"s3:prefix":"a*"}`, q.with("s3:prefix", "bob"), True},

		{"NumericEquals compares numbers", `"NumericEquals":{"s3:max-keys":"10.0"}`, q.with("s3:max-keys", "010"), True},
		{"NumericEquals is exact beyond floats", `"NumericEquals":{"s3:max-keys":"9007199254740993"}`, q.with("s3:max-keys", "9007199254740992"), False},
		{"NumericLessThan", `"NumericLessThan":{"s3:max-keys":"10"}`, q.with("s3:max-keys", "9"), True},
		{"NumericLessThan at the bound", `"NumericLessThan":{"s3:max-keys":"10"}`, q.with("s3:max-keys", "10"), False},
		{"NumericLessThanEquals at the bound", `"NumericLessThanEquals":{"s3:max-keys":"10"}`, q.with("s3:max-keys", "10"), True},
		{"NumericGreaterThan with fractions", `"NumericGreaterThan":{"s3:max-keys":"-1.5"}`, q.with("s3:max-keys", "-1.25"), True},
		{"NumericGreaterThanEquals", `"NumericGreaterThanEquals":{"s3:max-keys":"100"}`, q.with("s3:max-keys", "99"), False},
		{"NumericNotEquals", `"NumericNotEquals":{"s3:max-keys":["1","2"]}`, q.with("s3:max-keys", "3"), True},
		{"a number that is none", `"NumericLessThan":{"s3:max-keys":"10"}`, q.with("s3:max-keys", "1e1"), Unknown},

		{"DateGreaterThan", `"DateGreaterThan":{"aws:CurrentTime":"2026-06-01T11:59:59Z"}`, q, True},
		{"DateLessThan at the bound", `"DateLessThan":{"aws:CurrentTime":"2026-06-01T12:00:00Z"}`, q, False},
		{"DateLessThanEquals in another zone", `"DateLessThanEquals":{"aws:CurrentTime":"2026-06-01T14:00:00+02:00"}`, q, True},
		{"DateEquals in seconds since 1970", `"DateEquals":{"aws:CurrentTime":"1780315200"}`, q, True},
		{"DateNotEquals of a day", `"DateNotEquals":{"aws:CurrentTime":"2026-06-01"}`, q, True},
		{"aws:EpochTime with Date operators", `"DateGreaterThanEquals":{"aws:EpochTime":"2026-06-01T12:00:00Z"}`, q, True},
		{"aws:EpochTime with Numeric operators", `"NumericLessThan":{"aws:EpochTime":"1780315201"}`, q, True},

		{"Bool", `"Bool":{"aws:SecureTransport":"true"}`, q, True},
		{"Bool does not mind case", `"Bool":{"aws:SecureTransport":"FALSE"}`, q, False},
		{"Bool of a word", `"Bool":{"lambda:Flag":"true"}`, q.with("lambda:Flag", "yes"), Unknown},
		{"BinaryEquals", `"BinaryEquals":{"x:key":"QmluYXJ5"}`, q.with("x:key", "QmluYXJ5"), True},
		{"BinaryEquals of other bytes", `"BinaryEquals":{"x:key":"QmluYXJ5"}`, q.with("x:key", "QmluYXJ6"), False},

		{"IpAddress in a range", `"IpAddress":{"aws:SourceIp":"203.0.113.0/24"}`, q, True},
		{"IpAddress with host bits", `"IpAddress":{"aws:SourceIp":"203.0.113.200/24"}`, q, True},
		{"IpAddress alone", `"IpAddress":{"aws:SourceIp":"203.0.113.7"}`, q, True},
		{"IpAddress of everything", `"IpAddress":{"aws:SourceIp":"0.0.0.0/0"}`, q, True},
		{"NotIpAddress of one of several", `"NotIpAddress":{"aws:SourceIp":["10.0.0.0/8","203.0.113.0/24"]}`, q, False},
		{"IPv6 is not in an IPv4 range", `"IpAddress":{"aws:SourceIp":"0.0.0.0/0"}`, from(q, "2001:db8::7"), False},
		{"IPv6 in a range", `"IpAddress":{"aws:SourceIp":"2001:DB8::/32"}`, from(q, "2001:db8::7"), True},
		{"IPv4 in IPv6's clothes", `"IpAddress":{"aws:SourceIp":"203.0.113.0/24"}`, from(q, "::ffff:203.0.113.7"), True},
		{"no address known", `"NotIpAddress":{"aws:SourceIp":"10.0.0.0/8"}`, from(q, ""), Unknown},

		{"ArnEquals takes wildcards", `"ArnEquals":{"aws:SourceArn":"arn:aws:sns:*:123456789012:t?pic"}`, q.with("aws:SourceArn", "arn:aws:sns:eu-west-1:123456789012:topic"), True},
		{"ArnLike part by part", `"ArnLike":{"aws:SourceArn":"arn:aws:sns:*:topic"}`, q.with("aws:SourceArn", "arn:aws:sns:eu-west-1:123456789012:topic"), Unknown},
		{"ArnLike with colons in the resource", `"ArnLike":{"aws:SourceArn":"arn:aws:sns:*:*:topic*"}`, q.with("aws:SourceArn", "arn:aws:sns:eu-west-1:123456789012:topic:sub"), True},
		{"ArnNotLike", `"ArnNotLike":{"aws:SourceArn":"arn:aws:sqs:*:*:*"}`, q.with("aws:SourceArn", "arn:aws:sns:eu-west-1:123456789012:topic"), True},
		{"ArnLike of no ARN", `"ArnNotLike":{"aws:SourceArn":"arn:aws:sqs:*:*:*"}`, q.with("aws:SourceArn", "arn:aws:sqs"), Unknown},

		{"a missing key fails a positive operator", `"StringEquals":{"s3:prefix":"x"}`, q, False},
		{"a missing key meets a negated operator", `"StringNotEquals":{"s3:prefix":"x"}`, q, True},
		{"a missing key meets NotIpAddress", `"NotIpAddress":{"x:ip":"10.0.0.0/8"}`, q, True},
		{"a missing key fails a comparison", `"NumericLessThan":{"s3:max-keys":"10"}`, q, False},
		{"a missing key meets IfExists", `"StringEqualsIfExists":{"s3:prefix":"x"}`, q, True},
		{"IfExists compares a key that is there", `"StringEqualsIfExists":{"s3:prefix":"x"}`, q.with("s3:prefix", "y"), False},
		{"Null true, key missing", `"Null":{"s3:prefix":"true"}`, q, True},
		{"Null true, key there", `"Null":{"s3:prefix":"true"}`, q.with("s3:prefix", "y"), False},
		{"Null false, key missing", `"Null":{"s3:prefix":false}`, q, False},
		{"Null false, key there", `"Null":{"s3:prefix":false}`, q.with("s3:prefix", ""), True},

		{"ForAllValues, all listed", `"ForAllValues:StringEquals":{"aws:TagKeys":["a","b","c"]}`, q.with("aws:TagKeys", "a", "b"), True},
		{"ForAllValues, one not listed", `"ForAllValues:StringEquals":{"aws:TagKeys":["a","b"]}`, q.with("aws:TagKeys", "a", "z"), False},
		{"ForAllValues, key missing", `"ForAllValues:StringEquals":{"aws:TagKeys":["a","b"]}`, q, True},
		{"ForAllValues, empty string", `"ForAllValues:StringEquals":{"aws:TagKeys":["a","b"]}`, q.with("aws:TagKeys", ""), Unknown},
		{"ForAllValues negated, none listed", `"ForAllValues:StringNotEquals":{"aws:TagKeys":["a","b"]}`, q.with("aws:TagKeys", "c", "d"), True},
		{"ForAllValues negated, one listed", `"ForAllValues:StringNotEquals":{"aws:TagKeys":["a","b"]}`, q.with("aws:TagKeys", "a", "d"), False},
		{"ForAnyValue, one listed", `"ForAnyValue:StringEquals":{"aws:TagKeys":["a","b"]}`, q.with("aws:TagKeys", "z", "b"), True},
		{"ForAnyValue, none listed", `"ForAnyValue:StringEquals":{"aws:TagKeys":["a","b"]}`, q.with("aws:TagKeys", "y", "z"), False},
		{"ForAnyValue, key missing", `"ForAnyValue:StringEquals":{"aws:TagKeys":["a","b"]}`, q, False},
		{"ForAnyValue negated, one not listed", `"ForAnyValue:StringNotEquals":{"aws:TagKeys":["a","b"]}`, q.with("aws:TagKeys", "a", "z"), True},
		{"ForAnyValue negated, key missing", `"ForAnyValue:StringNotEquals":{"aws:TagKeys":["a","b"]}`, q, False},
		{"ForAnyValue with IfExists, key missing", `"ForAnyValue:StringEqualsIfExists":{"aws:TagKeys":["a","b"]}`, q, True},
		{"several values, all equal in effect", `"StringLike":{"aws:TagKeys":"a*"}`, q.with("aws:TagKeys", "a", "ab"), True},
		{"several values, not all equal in effect", `"StringLike":{"aws:TagKeys":"a*"}`, q.with("aws:TagKeys", "a", "b"), Unknown},

		{"all operators must hold", `"StringEquals":{"s3:prefix":"a"},"NumericEquals":{"s3:max-keys":"1"}`, q.with("s3:prefix", "a").with("s3:max-keys", "2"), False},
		{"all keys must hold", `"StringEquals":{"s3:prefix":"a","s3:delimiter":"/"}`, q.with("s3:prefix", "a").with("s3:delimiter", "/"), True},
		{"keys do not mind case", `"StringEquals":{"S3:PREFIX":"a"}`, q.with("s3:prefix", "a"), True},

		{"unknown key, positive", `"StringEquals":{"s3:prefix":"a"}`, q.unsure("s3:prefix"), Unknown},
		{"unknown key, negated", `"StringNotEquals":{"s3:prefix":"a"}`, q.unsure("s3:prefix"), Unknown},
		{"unknown key, IfExists", `"StringEqualsIfExists":{"s3:prefix":"a"}`, q.unsure("s3:prefix"), Unknown},
		{"unknown key, ForAllValues", `"ForAllValues:StringEquals":{"s3:prefix":"a"}`, q.unsure("s3:prefix"), Unknown},
		{"unknown key, Null", `"Null":{"s3:prefix":"false"}`, q.unsure("s3:prefix"), Unknown},
		{"unknown key, Null of both", `"Null":{"s3:prefix":["false","true"]}`, q.unsure("s3:prefix"), True},
		{"unknown key beside a failed one", `"StringEquals":{"s3:prefix":"a","aws:username":"bob"}`, q.unsure("s3:prefix"), False},
		{"a family of unknown keys", `"StringEquals":{"x:Tag/a":"a"}`, q.unsure("x:tag/*"), Unknown},
		{"an unknown key of which some values are known", `"ForAnyValue:StringEquals":{"dynamodb:LeadingKeys":"a"}`, q.with("dynamodb:LeadingKeys", "a").unsure("dynamodb:LeadingKeys"), Unknown},
		{"tags of the resource", `"StringNotEquals":{"aws:ResourceTag/team":"a"}`, q, Unknown},
		{"tags of the object", `"StringEquals":{"s3:ExistingObjectTag/team":"a"}`, q, Unknown},
		{"the caller's organisation", `"StringEquals":{"aws:PrincipalOrgID":"o-1"}`, q, Unknown},
		{"a global key yet to come", `"StringNotEquals":{"aws:NotYetInvented":"x"}`, q, Unknown},
		{"calls are not made by services", `"Bool":{"aws:ViaAWSService":"false"}`, q, True},
		{"nor through them", `"ForAnyValue:StringEquals":{"aws:CalledVia":"cloudformation.amazonaws.com"}`, q, False},
		{"the region of the call", `"StringEquals":{"aws:RequestedRegion":"eu-west-1"}`, q, True},
		{"the account of the caller", `"StringEquals":{"aws:PrincipalAccount":"123456789012"}`, q, True},
		{"the ARN of the caller", `"ArnLike":{"aws:PrincipalArn":"arn:aws:sts::*:assumed-role/Deploy/*"}`, q, True},
		{"no user agent", `"Null":{"aws:UserAgent":"true"}`, q, True},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := truths(t, `"Action":"s3:*","Resource":"*","Condition":{`+tt.condition+`}`, tt.q)
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func from(q Query, ip string) Query {
	q.SourceIP, _ = netip.ParseAddr(ip)
	return q
}

func TestVariables(t *testing.T) {
	q := ask("s3:GetObject", object)
	tagged := q
	tagged.PrincipalTags = map[string]string{"Team": "ann"}
	torn := q
	torn.PrincipalTags = map[string]string{"team": "ann", "TEAM": "bob"}
	evil := q
	evil.Username = "*"
	bytes := q
	bytes.Username = "\xff"
	nobody := q
	nobody.Username = ""
	for _, tt := range []struct {
		name, body string
		q          Query
		want       Truth
	}{
		{"in a resource", `"Action":"*","Resource":"arn:aws:s3:::data/${aws:username}/*"`, q, True},
		{"another's", `"Action":"*","Resource":"arn:aws:s3:::data/${aws:username}/*"`, ask("s3:GetObject", "arn:aws:s3:::data/bob/x"), False},
		{"a tag of the caller", `"Action":"*","Resource":"arn:aws:s3:::data/${aws:PrincipalTag/team}/*"`, tagged, True},
		{"two tags that differ in case", `"Action":"*","Resource":"arn:aws:s3:::data/${aws:PrincipalTag/team}/*"`, torn, Unknown},
		{"without value", `"Action":"*","Resource":"arn:aws:s3:::data/${aws:PrincipalTag/team}/*"`, q, False},
		{"without value, in NotResource", `"Action":"*","NotResource":"arn:aws:s3:::data/${aws:PrincipalTag/team}/*"`, q, Unknown},
		{"with a default", `"Action":"*","Resource":"arn:aws:s3:::data/${aws:PrincipalTag/team, 'ann'}/*"`, q, True},
		{"a default that is not needed", `"Action":"*","Resource":"arn:aws:s3:::data/${aws:username, 'bob'}/*"`, q, True},
		{"a value is not a wildcard", `"Action":"*","Resource":"arn:aws:s3:::data/${aws:username}/*"`, evil, False},
		{"nor are its bytes", `"Action":"*","Resource":"arn:aws:s3:::data/${aws:username}/*"`, bytes, Unknown},
		{"nobody", `"Action":"*","Resource":"arn:aws:s3:::data/${aws:username}/*"`, nobody, False},
		{"an unknown value, in a resource that cannot match", `"Action":"*","Resource":"arn:aws:s3:::other/${aws:userid}/*"`, q, False},
		{"an unknown value, in a resource that can", `"Action":"*","Resource":"arn:aws:s3:::data/${aws:userid}/*"`, q, Unknown},
		{"before the fifth colon", `"Action":"*","Resource":"arn:aws:s3:${aws:PrincipalTag/none, ''}::data/*"`, q, Unknown},
		{"an escaped star", `"Action":"*","Resource":"arn:aws:s3:::data/${*}"`, q, False},
		{"an escaped star for a star", `"Action":"*","Resource":"arn:aws:s3:::data/${*}"`, ask("s3:GetObject", "arn:aws:s3:::data/*"), True},
		{"an escaped dollar sign", `"Action":"*","Resource":"arn:aws:s3:::data/${$}{x}"`, ask("s3:GetObject", "arn:aws:s3:::data/${x}"), True},
		{"in a string condition", `"Action":"*","Resource":"*","Condition":{"StringLike":{"s3:prefix":"${aws:username}/*"}}`, q.with("s3:prefix", "ann/x"), True},
		{"in an ARN condition", `"Action":"*","Resource":"*","Condition":{"ArnEquals":{"aws:SourceArn":"${aws:PrincipalArn}"}}`, q.with("aws:SourceArn", q.PrincipalARN), True},
		{"in a Bool condition", `"Action":"*","Resource":"*","Condition":{"Bool":{"x:flag":"${aws:SecureTransport}"}}`, q.with("x:flag", "true"), True},
		{"without value, positive", `"Action":"*","Resource":"*","Condition":{"StringEquals":{"s3:prefix":"${aws:PrincipalTag/team}"}}`, q.with("s3:prefix", "x"), False},
		{"without value, negated", `"Action":"*","Resource":"*","Condition":{"StringNotEquals":{"s3:prefix":"${aws:PrincipalTag/team}"}}`, q.with("s3:prefix", "x"), Unknown},
		{"without value, negated, but another value matches", `"Action":"*","Resource":"*","Condition":{"StringNotEquals":{"s3:prefix":["${aws:PrincipalTag/team}","x"]}}`, q.with("s3:prefix", "x"), False},
		{"a key with several values", `"Action":"*","Resource":"*","Condition":{"StringEquals":{"s3:prefix":"${aws:TagKeys}"}}`, q.with("s3:prefix", "x").with("aws:TagKeys", "x"), Unknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := truths(t, tt.body, tt.q); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestVariablesAreTextInVersion2008(t *testing.T) {
	p := mustParse(t, "p", `{"Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::data/${aws:username}"}}`)
	s := mustCompile(t, Options{Policies: []*Policy{p}})
	for resource, want := range map[string]bool{"arn:aws:s3:::data/ann": false, "arn:aws:s3:::data/${aws:username}": true} {
		if got := s.Decide(ask("s3:GetObject", resource)).Allow; got != want {
			t.Errorf("%s: %v", resource, got)
		}
	}
}

// TestResources is reference_policies_elements_resource and _notresource.
func TestResources(t *testing.T) {
	sqs := "arn:aws:sqs:eu-west-1:123456789012:jobs"
	for _, tt := range []struct {
		name, body, resource string
		want                 Truth
	}{
		{"exact", `"Resource":"` + object + `"`, object, True},
		{"ARNs mind case", `"Resource":"arn:aws:s3:::Data/*"`, object, False},
		{"a star takes slashes", `"Resource":"arn:aws:s3:::data/*"`, object, True},
		{"a star in the middle", `"Resource":"arn:aws:s3:::*/a.txt"`, object, True},
		{"a bucket is not its objects", `"Resource":"arn:aws:s3:::data"`, object, False},
		{"objects are not the bucket", `"Resource":"arn:aws:s3:::data/*"`, "arn:aws:s3:::data", False},
		{"star for everything", `"Resource":"*"`, "*", True},
		{"an ARN is not everything", `"Resource":"arn:aws:s3:::*"`, "*", False},
		{"a star at a segment's end reaches on", `"Resource":"arn:aws:sqs:*"`, sqs, True},
		{"also between colons", `"Resource":"arn:aws:sqs:*:jobs"`, sqs, True},
		{"a star within a segment stays there", `"Resource":"arn:aws:sqs:e*1:123456789012:jobs"`, sqs, True},
		{"or reaches on, which is not documented", `"Resource":"arn:aws:sqs:e*2:jobs"`, sqs, Unknown},
		{"a short ARN", `"Resource":"arn:aws:sqs"`, sqs, Unknown},
		{"a short ARN of another service", `"Resource":"arn:aws:sns"`, sqs, False},
		{"NotResource, not listed", `"NotResource":"arn:aws:s3:::other/*"`, object, True},
		{"NotResource, listed", `"NotResource":["arn:aws:s3:::other/*","arn:aws:s3:::data/*"]`, object, False},
		{"NotResource with a short ARN", `"NotResource":"arn:aws:sqs"`, sqs, Unknown},
		{"a star in a key is a character", `"Resource":"arn:aws:s3:::data/b"`, "arn:aws:s3:::data/*", False},
		{"bytes that are no UTF-8", `"Resource":"arn:aws:s3:::data/?"`, "arn:aws:s3:::data/\xff", True},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := truths(t, `"Action":"*",`+tt.body, ask("s3:GetObject", tt.resource)); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
	t.Run("a resource that the call does not name", func(t *testing.T) {
		q := ask("s3:GetObject")
		for body, want := range map[string]Truth{
			`"Resource":"*"`: True, `"Resource":"arn:aws:s3:::*"`: Unknown, `"NotResource":"*"`: False, `"NotResource":"arn:aws:s3:::*"`: Unknown,
		} {
			if got := truths(t, `"Action":"*",`+body, q); got != want {
				t.Errorf("%s: got %s, want %s", body, got, want)
			}
		}
		q.Call.Needs[0] = awsapi.Need{Action: "s3:GetObject", Resources: []string{object}, ResourceUnknown: true}
		body := `"Action":"*","Resource":"` + object + `"}`
		if d := set(t, `{"Effect":"Allow",`+body).Decide(q); d.Allow || d.Reason != ReasonImplicitDeny {
			t.Errorf("one known resource stands for an unknown one: %+v", d)
		}
		if d := set(t, `{"Effect":"Allow","Action":"*","Resource":"*"}`, `{"Effect":"Deny",`+body).Decide(q); d.Reason != ReasonExplicitDeny {
			t.Errorf("an unknown resource hides a known one: %+v", d)
		}
	})
}

// TestPatterns is about resources that a request leaves open in part.
func TestPatterns(t *testing.T) {
	open := "arn:aws:sqs:eu-west-1:*:jobs"
	secret := "arn:aws:secretsmanager:eu-west-1:123456789012:secret:db-??????"
	for _, tt := range []struct {
		name, body, pattern string
		want                Truth
	}{
		{"an account that is not known", `"Resource":"arn:aws:sqs:eu-west-1:123456789012:jobs"`, open, Unknown},
		{"another queue", `"Resource":"arn:aws:sqs:eu-west-1:123456789012:pay"`, open, False},
		{"an account that does not matter", `"Resource":"arn:aws:sqs:eu-west-1:*:jobs"`, open, True},
		{"a wide one", `"Resource":"arn:aws:sqs:*"`, open, True},
		{"everything", `"Resource":"*"`, open, True},
		{"question marks are not a star", `"Resource":"arn:aws:sqs:eu-west-1:????????????:jobs"`, open, Unknown},
		{"question marks are question marks", `"Resource":"` + secret + `"`, secret, True},
		{"a star takes question marks", `"Resource":"arn:aws:secretsmanager:*:*:secret:db*"`, secret, True},
		{"one secret of many", `"Resource":"arn:aws:secretsmanager:eu-west-1:123456789012:secret:db-AbCdEf"`, secret, Unknown},
		{"a secret with a longer name", `"Resource":"arn:aws:secretsmanager:eu-west-1:123456789012:secret:db-x-AbCdEf"`, secret, False},
		{"a star within a segment", `"Resource":"arn:aws:sqs:e*1:123456789012:jobs"`, open, Unknown},
		{"a short ARN", `"Resource":"arn:aws:sqs"`, open, Unknown},
		{"NotResource that may be it", `"NotResource":"arn:aws:sqs:eu-west-1:123456789012:jobs"`, open, Unknown},
		{"NotResource that is another", `"NotResource":"arn:aws:sqs:eu-west-1:123456789012:pay"`, open, True},
		{"NotResource that covers it", `"NotResource":"arn:aws:sqs:*:*:jobs"`, open, False},
		{"a variable", `"Resource":"arn:aws:sqs:*:*:${aws:username}"`, "arn:aws:sqs:eu-west-1:*:ann", True},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q := ask("sqs:SendMessage")
			q.Call.Needs[0].ResourceUnknown, q.Call.Needs[0].Patterns = true, []string{tt.pattern}
			if got := truths(t, `"Action":"*",`+tt.body, q); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
	t.Run("every pattern must be covered", func(t *testing.T) {
		q := ask("sqs:SendMessage", "arn:aws:sqs:eu-west-1:123456789012:jobs")
		q.Call.Needs[0].ResourceUnknown, q.Call.Needs[0].Patterns = true, []string{"arn:aws:sqs:*:*:a", "arn:aws:sqs:*:*:b"}
		for body, want := range map[string]bool{
			`"arn:aws:sqs:*:*:a"`: false, `"arn:aws:sqs:*:*:*"`: true, `["arn:aws:sqs:*:*:a","arn:aws:sqs:*:*:b"]`: false,
			`["arn:aws:sqs:*:*:a","arn:aws:sqs:*:*:b","arn:aws:sqs:*:*:jobs"]`: true,
		} {
			if d := set(t, `{"Effect":"Allow","Action":"*","Resource":`+body+`}`).Decide(q); d.Allow != want {
				t.Errorf("%s: %+v", body, d)
			}
		}
	})
	t.Run("a pattern beside known resources is for denials", func(t *testing.T) {
		q := ask("iam:PassRole", "arn:aws:iam::123456789012:role/app")
		q.Call.Needs[0].Patterns = []string{"arn:aws:iam::123456789012:role/*/app"}
		allow := `{"Effect":"Allow","Action":"*","Resource":"arn:aws:iam::123456789012:role/app"}`
		if d := set(t, allow).Decide(q); !d.Allow {
			t.Errorf("%+v", d)
		}
		d := set(t, allow, `{"Effect":"Deny","Action":"*","Resource":"arn:aws:iam::*:role/admin/*"}`).Decide(q)
		if d.Reason != ReasonPossibleDeny || d.Resource != "arn:aws:iam::123456789012:role/*/app" {
			t.Errorf("%+v", d)
		}
	})
}

func TestActions(t *testing.T) {
	for _, tt := range []struct {
		body string
		want Truth
	}{
		{`"Action":"s3:GetObject"`, True},
		{`"Action":"S3:GETOBJECT"`, True},
		{`"Action":["s3:PutObject","s3:Get*"]`, True},
		{`"Action":"s3:?etObject"`, True},
		{`"Action":"s3:*Object"`, True},
		{`"Action":"s3:Get"`, False},
		{`"Action":"s3:GetObject?"`, False},
		{`"Action":"s3express:GetObject"`, False},
		{`"Action":"*"`, True},
		{`"Action":"*:*"`, True},
		{`"Action":[]`, False},
		{`"NotAction":"s3:Put*"`, True},
		{`"NotAction":["iam:*","s3:get*"]`, False},
		{`"NotAction":"*"`, False},
	} {
		if got := truths(t, tt.body+`,"Resource":"*"`, ask("s3:GetObject", object)); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.body, got, tt.want)
		}
	}
}

func TestDecide(t *testing.T) {
	read := mustParse(t, "read.json", doc(`{"Sid":"Read","Effect":"Allow","Action":"s3:Get*","Resource":"arn:aws:s3:::data/*"}`))
	write := mustParse(t, "write.json", doc(`{"Effect":"Allow","Action":"s3:PutObject","Resource":"arn:aws:s3:::data/*"}`, `{"Sid":"NotSecret","Effect":"Deny","Action":"s3:*","Resource":"arn:aws:s3:::data/secret/*"}`))
	tagged := mustParse(t, "tagged.json", doc(`{"Sid":"Mine","Effect":"Allow","Action":"ec2:*","Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/owner":"ann"}}}`,
		`{"Sid":"Theirs","Effect":"Deny","Action":"s3:DeleteObject","Resource":"*","Condition":{"StringNotEquals":{"s3:ExistingObjectTag/owner":"ann"}}}`))
	boundary := mustParse(t, "limit.json", doc(`{"Sid":"Within","Effect":"Allow","Action":"s3:GetObject","Resource":"*"}`))
	all := mustParse(t, "all.json", doc(`{"Sid":"All","Effect":"Allow","Action":"*","Resource":"*"}`))
	allIf := mustParse(t, "allif.json", doc(`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"true"}}}`))
	who := "User: arn:aws:sts::123456789012:assumed-role/Deploy/ann is not authorized to perform: "
	get := ask("s3:GetObject", object)
	describe := ask("ec2:DescribeInstances", "*")
	describe.Call.AccessLevel = "List"
	mystery := ask("")
	mystery.Call = &awsapi.Call{Service: "s3", Region: "eu-west-1", Host: awsapi.Host{Service: "s3"}, Unknown: "two sub-resources"}
	identity := ask("")
	identity.Call = &awsapi.Call{Service: "sts", Operation: "GetCallerIdentity", Region: "us-east-1"}
	copying := get
	copying.Call = &awsapi.Call{Needs: []awsapi.Need{{Action: "s3:PutObject", Resources: []string{"arn:aws:s3:::data/x"}}, {Action: "s3:GetObject", Resources: []string{"arn:aws:s3:::data/secret/y"}}}}
	passing := get
	passing.Call = &awsapi.Call{Needs: []awsapi.Need{{Action: "iam:PassRole", Resources: []string{"arn:aws:iam::123456789012:role/r"}, Conditions: map[string][]string{"iam:passedtoservice": {"ec2.amazonaws.com"}}}}}
	pass := mustParse(t, "pass.json", doc(`{"Effect":"Allow","Action":"iam:PassRole","Resource":"*","Condition":{"StringEquals":{"iam:PassedToService":"ec2.amazonaws.com"}}}`))

	for _, tt := range []struct {
		name string
		o    Options
		q    Query
		want Decision
	}{
		{"an Allow", Options{Policies: []*Policy{read, write}}, get, Decision{Allow: true, Reason: ReasonAllowed, Policy: "read.json", Statement: "Read"}},
		{"the union of policies, a statement without Sid", Options{Policies: []*Policy{read, write}}, ask("s3:PutObject", object), Decision{Allow: true, Reason: ReasonAllowed, Policy: "write.json", Statement: "#1"}},
		{"nothing that allows", Options{Name: "deploy", Policies: []*Policy{read}}, ask("s3:PutObject", object),
			Decision{Reason: ReasonImplicitDeny, Action: "s3:PutObject", Resource: object, Message: who + "s3:PutObject on resource: " + object + " because no policy of role deploy allows the s3:PutObject action"}},
		{"nothing that allows the second resource", Options{Name: "deploy", Policies: []*Policy{read}}, ask("s3:GetObject", object, "arn:aws:s3:::other/x"),
			Decision{Reason: ReasonImplicitDeny, Action: "s3:GetObject", Resource: "arn:aws:s3:::other/x", Message: who + "s3:GetObject on resource: arn:aws:s3:::other/x because no policy of role deploy allows the s3:GetObject action"}},
		{"a Deny wins, whatever comes first", Options{Name: "deploy", Policies: []*Policy{read, write}}, copying,
			Decision{Reason: ReasonExplicitDeny, Policy: "write.json", Statement: "NotSecret", Action: "s3:GetObject", Resource: "arn:aws:s3:::data/secret/y",
				Message: who + "s3:GetObject on resource: arn:aws:s3:::data/secret/y with an explicit deny in statement NotSecret of policy write.json of role deploy"}},
		{"an Allow that cannot be judged", Options{Name: "deploy", Policies: []*Policy{tagged}}, describe,
			Decision{Reason: ReasonImplicitDeny, Policy: "tagged.json", Statement: "Mine", Action: "ec2:DescribeInstances", Resource: "*", Unknown: "aws:resourcetag/owner",
				Message: who + "ec2:DescribeInstances because no policy of role deploy allows the ec2:DescribeInstances action for certain: statement Mine of policy tagged.json might (aws:resourcetag/owner is not known here)"}},
		{"a Deny that cannot be ruled out", Options{Name: "deploy", Policies: []*Policy{all, tagged}}, ask("s3:DeleteObject", object),
			Decision{Reason: ReasonPossibleDeny, Policy: "tagged.json", Statement: "Theirs", Action: "s3:DeleteObject", Resource: object, Unknown: "s3:existingobjecttag/owner",
				Message: who + "s3:DeleteObject on resource: " + object + " because a deny in statement Theirs of policy tagged.json of role deploy cannot be ruled out (s3:existingobjecttag/owner is not known here)"}},
		{"condition values of one need", Options{Policies: []*Policy{pass}}, passing, Decision{Allow: true, Reason: ReasonAllowed, Policy: "pass.json", Statement: "#1"}},

		{"no policy", Options{}, get, Decision{Allow: true, Reason: ReasonNoPolicy}},
		{"no policy, within the boundary", Options{Boundary: boundary}, get, Decision{Allow: true, Reason: ReasonNoPolicy}},
		{"no policy, beyond the boundary", Options{Name: "deploy", Boundary: boundary}, ask("s3:PutObject", object),
			Decision{Reason: ReasonBoundary, Policy: "limit.json", Action: "s3:PutObject", Resource: object,
				Message: who + "s3:PutObject on resource: " + object + " because the identity's boundary limit.json does not allow the s3:PutObject action"}},
		{"beyond the boundary", Options{Name: "deploy", Policies: []*Policy{all}, Boundary: write}, ask("s3:GetObject", "arn:aws:s3:::data/secret/x"),
			Decision{Reason: ReasonBoundary, Policy: "write.json", Statement: "NotSecret", Action: "s3:GetObject", Resource: "arn:aws:s3:::data/secret/x",
				Message: who + "s3:GetObject on resource: arn:aws:s3:::data/secret/x because the identity's boundary denies it in statement NotSecret of policy write.json"}},
		{"a boundary allows nothing by itself", Options{Name: "deploy", Policies: []*Policy{write}, Boundary: boundary}, get,
			Decision{Reason: ReasonImplicitDeny, Action: "s3:GetObject", Resource: object, Message: who + "s3:GetObject on resource: " + object + " because no policy of role deploy allows the s3:GetObject action"}},

		{"no permission needed", Options{Policies: []*Policy{read}}, identity, Decision{Allow: true, Reason: ReasonNoPermission}},
		{"an unknown call, everything allowed", Options{Policies: []*Policy{read, all}}, mystery, Decision{Allow: true, Reason: ReasonAllowed, Policy: "all.json", Statement: "All"}},
		{"an unknown call, everything allowed on a condition", Options{Name: "deploy", Policies: []*Policy{allIf}}, mystery,
			Decision{Reason: ReasonUnknownCall, Message: who + `an unknown operation of s3 because the call could not be understood: two sub-resources; only an Allow of Action "*" on Resource "*" without conditions lets it pass`}},
		{"an unknown call, something denied", Options{Name: "deploy", Policies: []*Policy{all, write}}, mystery,
			Decision{Reason: ReasonUnknownCall, Policy: "write.json", Statement: "NotSecret",
				Message: who + "an unknown operation of s3 because the call could not be understood: two sub-resources, so that a deny in statement NotSecret of policy write.json of role deploy cannot be ruled out"}},
		{"an unknown call, no policy", Options{}, mystery, Decision{Allow: true, Reason: ReasonNoPolicy}},
		{"an unknown call, boundary", Options{Name: "deploy", Boundary: boundary}, mystery,
			Decision{Reason: ReasonUnknownCall, Policy: "limit.json", Message: who + `an unknown operation of s3 because the call could not be understood: two sub-resources; only an Allow of Action "*" on Resource "*" without conditions lets it pass`}},

		{"read only, a list", Options{ReadOnly: true}, describe, Decision{Allow: true, Reason: ReasonNoPolicy}},
		{"read only, no level known", Options{Name: "deploy", ReadOnly: true, Policies: []*Policy{all}}, get,
			Decision{Reason: ReasonReadOnly, Action: "s3:GetObject", Resource: object, Message: who + "s3:GetObject on resource: " + object + " because role deploy is read-only and the call is of unknown access level"}},
		{"read only, an unknown call", Options{Name: "deploy", ReadOnly: true}, mystery,
			Decision{Reason: ReasonReadOnly, Message: who + "an unknown operation of s3 because role deploy is read-only and the call is of unknown access level"}},
		{"a region that is listed", Options{Regions: []string{"us-*", "EU-west-1"}}, get, Decision{Allow: true, Reason: ReasonNoPolicy}},
		{"a region that is not", Options{Name: "deploy", Regions: []string{"us-*"}}, get,
			Decision{Reason: ReasonRegion, Action: "s3:GetObject", Resource: object, Message: who + "s3:GetObject on resource: " + object + " because region eu-west-1 is not among the regions of role deploy"}},
		{"a service that is listed", Options{Services: []string{"Test"}}, get, Decision{Allow: true, Reason: ReasonNoPolicy}},
		{"a service by its name in signatures", Options{Services: []string{"s3"}}, mystery, Decision{Allow: true, Reason: ReasonNoPolicy}},
		{"a service that is not", Options{Name: "deploy", Services: []string{"s3"}}, get,
			Decision{Reason: ReasonService, Action: "s3:GetObject", Resource: object, Message: who + "s3:GetObject on resource: " + object + " because the service is not among the services of role deploy"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := mustCompile(t, tt.o).Decide(tt.q)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestNoSetDenies(t *testing.T) {
	q := ask("s3:GetObject", object)
	for name, s := range map[string]*Set{"nil": nil, "zero": {}} {
		if d := s.Decide(q); d.Allow || !strings.HasSuffix(d.Message, "because no policy is loaded") {
			t.Errorf("%s: %+v", name, d)
		}
		if e := s.Explain(q); e.Decision.Allow || e.Needs != nil {
			t.Errorf("%s: %+v", name, e)
		}
	}
	if d := mustCompile(t, Options{}).Decide(Query{}); d.Allow || d.Message != "Not authorized to perform: this call because there is no call to judge" {
		t.Errorf("no call: %+v", d)
	}
}

func TestCompileRefuses(t *testing.T) {
	for want, o := range map[string]Options{
		`role "r": policy 1 is nil`:   {Name: "r", Policies: []*Policy{nil}},
		"regions: an entry is empty":  {Regions: []string{" "}},
		"services: an entry is empty": {Services: []string{""}},
	} {
		if s, err := Compile(o); s != nil || err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestExtraNeverOverrides(t *testing.T) {
	q := ask("s3:GetObject", object).with("s3:prefix", "mine")
	q.UserAgent = "real"
	q.PrincipalTags = map[string]string{"team": "red"}
	q.Extra = map[string][]string{
		"AWS:SourceIp": {"10.0.0.1"}, "aws:CurrentTime": {"1999-01-01"}, "aws:username": {"root"}, "aws:UserAgent": {"fake"}, "aws:PrincipalTag/team": {"blue"},
		"aws:PrincipalArn": {"x"}, "aws:SecureTransport": {"false"}, "s3:prefix": {"theirs"}, "aws:PrincipalOrgID": {"o-1"}, "aws:ViaAWSService": {"true"},
	}
	for key, want := range map[string]string{
		"aws:SourceIp": "203.0.113.7", "aws:CurrentTime": "2026-06-01T12:00:00Z", "aws:username": "ann", "aws:UserAgent": "real", "aws:PrincipalTag/TEAM": "red",
		"aws:PrincipalArn": q.PrincipalARN, "aws:SecureTransport": "true", "s3:prefix": "mine", "aws:PrincipalOrgID": "o-1", "aws:ViaAWSService": "false",
	} {
		v := newView(&q)
		vals, p := v.get(strings.ToLower(key))
		if p != present || len(vals) != 1 || vals[0] != want {
			t.Errorf("%s: %v %v, want %s", key, vals, p, want)
		}
	}
}

func TestDates(t *testing.T) {
	want := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	for _, s := range []string{"2026-06-01T12:00:00Z", "2026-06-01T12:00Z", "2026-06-01T14:00:00+02:00", "2026-06-01T12:00:00.000Z", "2026-06-01T12:00:00+0000", "1780315200"} {
		if got, ok := parseDate(s); !ok || !got.Equal(want) {
			t.Errorf("%s: %v %v", s, got, ok)
		}
	}
	for _, s := range []string{"", "today", "2026-13-01", "1.5", "0x10", "2026-06-01T12:00:00", "99999999999999999", strings.Repeat("1", 400)} {
		if got, ok := parseDate(s); ok {
			t.Errorf("%q is %v", s, got)
		}
	}
}
