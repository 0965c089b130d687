package awsapi

import (
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// checkCall holds what is true of every call, whatever the request.
func checkCall(t *testing.T, in Input) *Call {
	t.Helper()
	c := Identify(in)
	if c.Unknown != "" && (len(c.Needs) > 0 || c.AccessLevel != "") {
		t.Fatalf("an unknown call has needs: %+v", c)
	}
	if c.Unknown == "" && c.Operation == "" {
		t.Fatalf("a call without operation is not unknown: %+v", c)
	}
	for _, n := range c.Needs {
		if len(n.Resources) == 0 && !n.ResourceUnknown {
			t.Fatalf("a need has no resources: %+v", n)
		}
		if slices.Contains(n.Resources, "") || slices.Contains(n.Patterns, "") {
			t.Fatalf("a need has an empty resource: %+v", n)
		}
		if !strings.Contains(n.Action, ":") {
			t.Fatalf("an odd action: %+v", n)
		}
	}
	for k := range c.Conditions {
		if k != strings.ToLower(k) {
			t.Fatalf("condition key %q is not in lower case", k)
		}
	}
	if again := Identify(in); !reflect.DeepEqual(c, again) {
		t.Fatalf("the same request is another call the second time:\n%+v\n%+v", c, again)
	}
	if !NeedsBody(in.Host, in.Request) && c.Unknown == "" {
		without := in
		without.Body = nil
		if d := Identify(without); d.Operation != c.Operation || !reflect.DeepEqual(d.Needs, c.Needs) {
			t.Fatalf("the body matters though NeedsBody is false:\n%+v\n%+v", c, d)
		}
	}
	return c
}

func fuzzInput(host, method, target, contentType, targetHeader, extra string, body []byte) (Input, bool) {
	h, v := LookupHost(host)
	if v != HostAPI || !strings.HasPrefix(target, "/") || body == nil {
		return Input{}, false
	}
	r := &http.Request{Method: method, Host: host, RequestURI: target, Header: make(http.Header), Body: http.NoBody, ContentLength: int64(len(body))}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	if targetHeader != "" {
		r.Header.Set("X-Amz-Target", targetHeader)
	}
	if k, v, ok := strings.Cut(extra, ": "); ok && k != "" {
		r.Header.Set(k, v)
	}
	return Input{Host: h, Request: r, Body: body, AccountID: "111122223333", Region: "us-east-1"}, true
}

func FuzzIdentifyQuery(f *testing.F) {
	f.Add("sts.us-east-1.amazonaws.com", "/", "Action=AssumeRole&Version=2011-06-15&RoleArn=arn:aws:iam::1:role/x&Tags.member.1.Key=a&Tags.member.1.Value=b")
	f.Add("iam.amazonaws.com", "/", "Action=CreateRole&RoleName=r&Path=/a/")
	f.Add("ec2.us-east-1.amazonaws.com", "/", "Action=RunInstances&TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=a")
	f.Add("elasticloadbalancing.us-east-1.amazonaws.com", "/", "Action=DescribeTags&Version=2015-12-01")
	f.Add("sts.us-east-1.amazonaws.com", "/?Action=GetCallerIdentity", "")
	f.Fuzz(func(t *testing.T, host, target, body string) {
		in, ok := fuzzInput(host, "POST", target, "application/x-www-form-urlencoded", "", "", []byte(body))
		if !ok {
			return
		}
		c := checkCall(t, in)
		if strings.HasPrefix(host, "sts.") && strings.Contains(body+target, "Action=AssumeRole") && c.Unknown == "" && c.CredentialTier != "A" && c.Operation != "AssumeRole" {
			// The name may stand inside of another value; then another Action was found, once.
			if strings.Count(body+target, "Action=") > 1 && strings.Contains("&"+body, "&Action=AssumeRole&") {
				t.Fatalf("AssumeRole is hidden: %+v", c)
			}
		}
	})
}

func FuzzIdentifyJSON(f *testing.F) {
	f.Add("dynamodb.us-east-1.amazonaws.com", "DynamoDB_20120810.Query", []byte(`{"TableName":"t","KeyConditionExpression":"a = :v AND b > :w","ExpressionAttributeValues":{":v":{"S":"x"}}}`))
	f.Add("dynamodb.us-east-1.amazonaws.com", "DynamoDB_20120810.BatchWriteItem", []byte(`{"RequestItems":{"t":[{"PutRequest":{"Item":{}}}]}}`))
	f.Add("kms.us-east-1.amazonaws.com", "TrentService.Encrypt", []byte(`{"KeyId":"alias/a","EncryptionContext":{"a":"b"}}`))
	f.Add("sqs.us-east-1.amazonaws.com", "AmazonSQS.CreateQueue", []byte(`{"QueueName":"q","tags":{"a":"b"}}`))
	f.Add("secretsmanager.us-east-1.amazonaws.com", "secretsmanager.GetSecretValue", []byte(`{"SecretId":"arn:aws:secretsmanager:us-east-1:1:secret:a"}`))
	f.Fuzz(func(t *testing.T, host, target string, body []byte) {
		in, ok := fuzzInput(host, "POST", "/", "application/x-amz-json-1.1", target, "", body)
		if !ok {
			return
		}
		if c := checkCall(t, in); c.Unknown == "" && len(strings.TrimSpace(string(body))) > 0 && !json.Valid(body) {
			t.Fatalf("a body that is no JSON is understood: %q", body)
		}
	})
}

func FuzzIdentifyREST(f *testing.F) {
	f.Add("lambda.us-east-1.amazonaws.com", "POST", "/2015-03-31/functions/f/invocations?Qualifier=x", []byte("{}"))
	f.Add("lambda.us-east-1.amazonaws.com", "POST", "/2015-03-31/functions", []byte(`{"FunctionName":"f","Role":"arn:aws:iam::1:role/r"}`))
	f.Add("route53.amazonaws.com", "POST", "/2013-04-01/tags/hostedzone/Z", []byte(`<ChangeTagsForResourceRequest><AddTags><Tag><Key>a</Key></Tag></AddTags></ChangeTagsForResourceRequest>`))
	f.Add("eks.us-east-1.amazonaws.com", "GET", "/clusters/c/addons/a", []byte(""))
	f.Add("apigateway.us-east-1.amazonaws.com", "PUT", "/restapis/r?mode=merge", []byte("x"))
	f.Add("eks-auth.us-east-1.api.aws", "POST", "/clusters/c/assume-role-for-pod-identity", []byte(`{"token":"x"}`))
	f.Fuzz(func(t *testing.T, host, method, target string, body []byte) {
		if in, ok := fuzzInput(host, method, target, "application/json", "", "", body); ok {
			checkCall(t, in)
		}
	})
}

func FuzzIdentifyS3(f *testing.F) {
	f.Add("bucket.s3.us-east-1.amazonaws.com", "GET", "/key?versionId=v", "", []byte(""))
	f.Add("bucket.s3.us-east-1.amazonaws.com", "POST", "/?delete", "", []byte("<Delete><Object><Key>a</Key></Object></Delete>"))
	f.Add("s3.us-east-1.amazonaws.com", "PUT", "/b/k?partNumber=1&uploadId=u", "X-Amz-Copy-Source: a/b?versionId=c", []byte(""))
	f.Add("s3.us-east-1.amazonaws.com", "GET", "/b?list-type=2&prefix=a%2F", "", []byte(""))
	f.Add("ap-111122223333.s3-accesspoint.us-east-1.amazonaws.com", "GET", "/k?acl", "", []byte(""))
	f.Add("b--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com", "GET", "/?session", "", []byte(""))
	f.Fuzz(func(t *testing.T, host, method, target, extra string, body []byte) {
		in, ok := fuzzInput(host, method, target, "", "", extra, body)
		if !ok {
			return
		}
		c := checkCall(t, in)
		_, query, _ := strings.Cut(target, "?")
		for pair := range strings.SplitSeq(query, "&") {
			if k, _, _ := strings.Cut(pair, "="); k == "session" && method == "GET" && c.CredentialTier != "A" && c.Protocol == ProtocolS3 {
				t.Fatalf("CreateSession is hidden: %+v", c)
			}
		}
	})
}

func FuzzIdentifyCBOR(f *testing.F) {
	f.Add("ListMetrics", []byte("\xa1\x69Namespace\x61x"))
	f.Add("DeleteAlarms", []byte("\xbf\x6aAlarmNames\x9f\x61a\xff\xff"))
	f.Add("TagResource", []byte("\xa2\x6bResourceARN\x63arn\x64Tags\x81\xa2\x63Key\x61a\x65Value\x61b"))
	f.Fuzz(func(t *testing.T, operation string, body []byte) {
		if in, ok := fuzzInput("monitoring.us-east-1.amazonaws.com", "POST", "/service/GraniteServiceVersion20100801/operation/"+operation,
			"application/cbor", "", "Smithy-Protocol: rpc-v2-cbor", body); ok {
			checkCall(t, in)
		}
	})
}

// FuzzScanJSON compares the scanner with encoding/json: it accepts no more,
// and where both accept, it finds the same strings.
func FuzzScanJSON(f *testing.F) {
	for _, s := range []string{`{"a":"x","b":{"c":["y","z"]}}`, `{"a":"\u00e9\n","m":{"k":"v"}}`, `{"a":1.5e3,"b":{"c":true}}`, ` {} `, `{"a":"\ud83d\ude00"}`, `{"t":[{"k":"a","v":"b"},{"k":"c"}]}`} {
		f.Add([]byte(s))
	}
	p := newPlan('j', []string{"a", "b.c", "m", "t.k", "t.v"}, [][2]int{{3, 4}})
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := scanJSON(body, p)
		if err != nil {
			return
		}
		if strings.TrimSpace(string(body)) == "" {
			return
		}
		if !json.Valid(body) || !utf8.Valid(body) {
			t.Fatalf("%q is accepted", body)
		}
		var want struct {
			A *json.RawMessage `json:"a"`
		}
		if err := json.Unmarshal(body, &want); err != nil {
			t.Fatal(err)
		}
		var s string
		if want.A != nil && json.Unmarshal(*want.A, &s) == nil && string(*want.A) != "null" {
			if len(got.values[0]) != 1 || got.values[0][0] != s {
				t.Fatalf("%q: got %q, want %q", body, got.values[0], s)
			}
		}
		if len(got.values[3]) != len(got.values[4]) && !got.odd[3] {
			t.Fatalf("%q: pairs come apart: %q %q", body, got.values[3], got.values[4])
		}
	})
}
