package awsapi

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

// call identifies a request that is written as "METHOD host/path", headers as
// "Name: value" and a body.
func call(t testing.TB, line string, headers []string, body string) *Call {
	t.Helper()
	in := input(t, line, headers, body)
	return Identify(in)
}

func input(t testing.TB, line string, headers []string, body string) Input {
	t.Helper()
	method, rest, _ := strings.Cut(line, " ")
	name, path, _ := strings.Cut(rest, "/")
	r := &http.Request{Method: method, Host: name, RequestURI: "/" + path, Header: make(http.Header), ContentLength: int64(len(body)), Body: http.NoBody}
	for _, h := range headers {
		k, v, _ := strings.Cut(h, ": ")
		r.Header.Add(k, v)
	}
	h, v := LookupHost(name)
	if v != HostAPI {
		t.Fatalf("%s is no API", name)
	}
	return Input{Host: h, Request: r, Body: []byte(body), AccountID: "111122223333", Region: "us-east-1"}
}

var (
	formHeader = []string{"Content-Type: application/x-www-form-urlencoded; charset=utf-8"}
	json11     = func(target string) []string {
		return []string{"Content-Type: application/x-amz-json-1.1", "X-Amz-Target: " + target}
	}
)

const (
	stsHost = "POST sts.us-east-1.amazonaws.com/"
	ddbHost = "POST dynamodb.us-east-1.amazonaws.com/"
	ssmHost = "POST ssm.us-east-1.amazonaws.com/"
)

func TestTierAIsCompleteAndFoundInEverySpelling(t *testing.T) {
	want := []string{}
	for _, name := range operationsArchive().names() {
		m := modelNamed(name)
		for _, op := range m.names {
			if m.ops[op].tier == "A" {
				want = append(want, name+":"+op)
			}
		}
	}
	for _, must := range []string{"sts:AssumeRole", "sts:AssumeRoleWithSAML", "sts:AssumeRoleWithWebIdentity", "sts:AssumeRoot", "sts:GetSessionToken",
		"sts:GetFederationToken", "sts:GetDelegatedAccessToken", "iam:CreateAccessKey", "s3:CreateSession", "s3control:GetDataAccess",
		"sso:GetRoleCredentials", "cognito-identity:GetCredentialsForIdentity", "ssm:GetAccessToken", "eks-auth:AssumeRoleForPodIdentity",
		"codepipeline:PollForJobs", "gamelift:RequestUploadCredentials", "lightsail:CreateBucketAccessKey", "signin:CreateOAuth2Token"} {
		if !slices.Contains(want, must) {
			t.Errorf("%s is not of tier A", must)
		}
	}
	if len(want) != 36 {
		t.Errorf("%d operations are of tier A, want 36: %v", len(want), want)
	}

	for name, in := range map[string]Input{
		"post":                      input(t, stsHost, formHeader, "Action=AssumeRole&Version=2011-06-15&RoleArn=arn:aws:iam::111122223333:role/x"),
		"get":                       input(t, "GET sts.us-east-1.amazonaws.com/?Action=AssumeRole&Version=2011-06-15", nil, ""),
		"post with query":           input(t, stsHost+"?Action=AssumeRole&Version=2011-06-15", nil, ""),
		"escaped name":              input(t, stsHost, formHeader, "%41ction=%41ssumeRole&Version=2011-06-15"),
		"escaped value in query":    input(t, "GET sts.us-east-1.amazonaws.com/?Action=Assume%52ole", nil, ""),
		"lower case action":         input(t, stsHost, formHeader, "Action=assumerole&Version=2011-06-15"),
		"lower case key":            input(t, stsHost, formHeader, "action=AssumeRole&Version=2011-06-15"),
		"twice":                     input(t, stsHost, formHeader, "Action=GetCallerIdentity&Action=AssumeRole"),
		"twice, other order":        input(t, stsHost, formHeader, "Action=AssumeRole&Action=GetCallerIdentity"),
		"two spellings":             input(t, stsHost, formHeader, "Action=GetCallerIdentity&action=AssumeRole"),
		"query and body":            input(t, stsHost+"?Action=GetCallerIdentity", formHeader, "Action=AssumeRole"),
		"other way round":           input(t, stsHost+"?Action=AssumeRole", formHeader, "Action=GetCallerIdentity"),
		"semicolon":                 input(t, stsHost, formHeader, "Action=GetCallerIdentity;Action=AssumeRole"),
		"no content type":           input(t, stsHost, nil, "Action=AssumeRole"),
		"multipart":                 input(t, stsHost, []string{"Content-Type: multipart/form-data; boundary=x"}, "--x\r\nContent-Disposition: form-data; name=\"Action\"\r\n\r\nAssumeRole\r\n--x--"),
		"target and action":         input(t, stsHost, append(json11("AWSSecurityTokenServiceV20110615.GetCallerIdentity"), formHeader...), "Action=AssumeRole"),
		"utf-16":                    input(t, stsHost, []string{"Content-Type: application/x-www-form-urlencoded; charset=utf-16"}, "Action=AssumeRole"),
		"bad escape":                input(t, stsHost, formHeader, "Action=AssumeRole&x=%zz"),
		"another path":              input(t, stsHost+"x/", formHeader, "Action=AssumeRole"),
		"nothing at all":            input(t, stsHost, nil, ""),
		"put":                       input(t, "PUT sts.us-east-1.amazonaws.com/?Action=AssumeRole", nil, ""),
		"cbor":                      input(t, stsHost+"service/AWSSecurityTokenServiceV20110615/operation/AssumeRole", []string{"Smithy-Protocol: rpc-v2-cbor"}, "\xa0"),
		"create access key":         input(t, "POST iam.amazonaws.com/", formHeader, "Action=CreateAccessKey&Version=2010-05-08"),
		"ssm":                       input(t, ssmHost, json11("AmazonSSM.GetAccessToken"), `{"AccessRequestId":"x"}`),
		"ssm, other target prefix":  input(t, ssmHost, json11("Other.GetAccessToken"), `{}`),
		"ssm, two targets":          input(t, ssmHost, append(json11("AmazonSSM.GetParameter"), "X-Amz-Target: AmazonSSM.GetAccessToken"), `{}`),
		"ssm, target in the query":  input(t, ssmHost+"?X-Amz-Target=AmazonSSM.GetAccessToken", []string{"Content-Type: application/x-amz-json-1.1"}, "{}"),
		"ssm, as a query call":      input(t, ssmHost, formHeader, "Action=GetAccessToken&Version=2014-11-06"),
		"ssm, get":                  input(t, "GET ssm.us-east-1.amazonaws.com/?Action=GetAccessToken", nil, ""),
		"ssm, broken body":          input(t, ssmHost, json11("AmazonSSM.GetAccessToken"), `{`),
		"express session":           input(t, "GET b--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com/?session", nil, ""),
		"express session, escaped":  input(t, "GET b--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com/?%73ession", nil, ""),
		"express session and more":  input(t, "GET b--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com/?acl&session", nil, ""),
		"session of a plain bucket": input(t, "GET bucket.s3.us-east-1.amazonaws.com/?session=", nil, ""),
		"access grants":             input(t, "GET 111122223333.s3-control.us-east-1.amazonaws.com/v20180820/accessgrantsinstance/dataaccess?permission=READ&target=s3", nil, ""),
		"access grants, escaped":    input(t, "GET 111122223333.s3-control.us-east-1.amazonaws.com/v20180820/accessgrantsinstance/%64ataaccess?permission=READ&target=s3", nil, ""),
		"access grants, dots":       input(t, "GET 111122223333.s3-control.us-east-1.amazonaws.com/v20180820/x/../accessgrantsinstance/dataaccess", nil, ""),
		"access grants, slashes":    input(t, "GET 111122223333.s3-control.us-east-1.amazonaws.com//v20180820/accessgrantsinstance/dataaccess", nil, ""),
		"pod identity":              input(t, "POST eks-auth.us-east-1.api.aws/clusters/c/assume-role-for-pod-identity", []string{"Content-Type: application/json"}, `{"token":"x"}`),
		"fleet role":                input(t, "GET scheduling.deadline.us-east-1.amazonaws.com/2023-10-12/farms/f/fleets/l/workers/w/fleet-roles", nil, ""),
		"lake formation":            input(t, "POST lakeformation.us-east-1.amazonaws.com/GetTemporaryGlueTableCredentials", []string{"Content-Type: application/json"}, `{"TableArn":"x"}`),
		"lake formation, slash":     input(t, "POST lakeformation.us-east-1.amazonaws.com/GetTemporaryGlueTableCredentials/", []string{"Content-Type: application/json"}, `{"TableArn":"x"}`),
	} {
		if c := Identify(in); c.CredentialTier != "A" {
			t.Errorf("%s: tier %q, operation %q, unknown %q", name, c.CredentialTier, c.Operation, c.Unknown)
		}
		// Callers hold a body only where they are told to.
		in.Request.Body = io.NopCloser(bytes.NewReader(in.Body))
		if !NeedsBody(in.Host, in.Request) {
			in.Body = nil
		}
		if c := Identify(in); c.CredentialTier != "A" {
			t.Errorf("%s, as a caller does it: tier %q, operation %q, unknown %q", name, c.CredentialTier, c.Operation, c.Unknown)
		}
	}
	unread := input(t, stsHost, formHeader, "Action=AssumeRole")
	unread.Body, unread.Request.ContentLength = nil, 17
	if c := Identify(unread); c.CredentialTier != "A" || c.Unknown == "" {
		t.Errorf("a body that was not read: %+v", c)
	}
	for name, c := range map[string]*Call{
		"caller identity": call(t, stsHost, formHeader, "Action=GetCallerIdentity&Version=2011-06-15"),
		"unknown action":  call(t, stsHost, formHeader, "Action=Brandnew&Version=2011-06-15"),
		"s3 get":          call(t, "GET bucket.s3.us-east-1.amazonaws.com/key?acl&policy", nil, ""),
		"dynamodb":        call(t, ddbHost, nil, ""),
	} {
		if c.CredentialTier != "" {
			t.Errorf("%s: tier %q", name, c.CredentialTier)
		}
	}
}

func TestAmbiguousAndMalformedRequestsAreUnknown(t *testing.T) {
	ddb := func(body string) *Call { return call(t, ddbHost, json11("DynamoDB_20120810.GetItem"), body) }
	s3 := func(line string, headers ...string) *Call { return call(t, line, headers, "") }
	const bucket = "bucket.s3.us-east-1.amazonaws.com/"
	gz := func(s string) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		if _, err := w.Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	for name, c := range map[string]struct {
		got  *Call
		want string
	}{
		"body that ends early":              {ddb(`{"TableName":"t"`), "the body cannot be read: the JSON ends too early"},
		"body after the object":             {ddb(`{"TableName":"t"}{}`), "the body cannot be read: the JSON has an unexpected character at byte 17"},
		"duplicate member":                  {ddb(`{"TableName":"a","TableName":"b"}`), `the body cannot be read: the member "TableName" occurs twice`},
		"duplicate, escaped":                {ddb(`{"TableName":"a","\u0054ableName":"b"}`), `the body cannot be read: the member "\\u0054ableName" occurs twice`},
		"other spelling":                    {ddb(`{"TableName":"a","tablename":"b"}`), `the body cannot be read: the member "tablename" is spelt in an unusual way`},
		"array":                             {ddb(`[]`), "the body cannot be read: it is not a JSON object"},
		"byte order mark":                   {ddb("\ufeff{}"), "the body cannot be read: it is not a JSON object"},
		"utf-16":                            {ddb("{\x00\"\x00"), "the body cannot be read: the JSON has an unexpected character at byte 1"},
		"not utf-8":                         {ddb("{\"TableName\":\"\xff\"}"), "the body cannot be read: it is not UTF-8"},
		"half a surrogate":                  {ddb(`{"TableName":"\ud800"}`), "the body cannot be read: the JSON has half of a surrogate pair"},
		"deep":                              {ddb(`{"a":` + strings.Repeat("[", 300) + strings.Repeat("]", 300) + "}"), "the body cannot be read: it is nested too deeply"},
		"wrong content type":                {call(t, ddbHost, []string{"Content-Type: text/plain", "X-Amz-Target: DynamoDB_20120810.GetItem"}, "{}"), "the content type does not fit a call with X-Amz-Target"},
		"form content type":                 {call(t, ddbHost, append([]string{"X-Amz-Target: DynamoDB_20120810.GetItem"}, formHeader...), "{}"), "the request has X-Amz-Target and is a query call as well"},
		"target and action":                 {call(t, ddbHost+"?Action=Scan", json11("DynamoDB_20120810.GetItem"), "{}"), "the request has X-Amz-Target and is a query call as well"},
		"two targets":                       {call(t, ddbHost, append(json11("DynamoDB_20120810.GetItem"), "X-Amz-Target: DynamoDB_20120810.Scan"), "{}"), "the request has several X-Amz-Target headers"},
		"target and smithy":                 {call(t, ddbHost, append(json11("DynamoDB_20120810.GetItem"), "Smithy-Protocol: rpc-v2-cbor"), "{}"), "the request names its operation in more than one way"},
		"unknown target":                    {call(t, ddbHost, json11("DynamoDB_20120810.Brandnew"), "{}"), `no operation "DynamoDB_20120810.Brandnew" is known`},
		"target of another API":             {call(t, ddbHost, json11("DynamoDBStreams_20120810.GetRecords"), "{}"), `no operation "DynamoDBStreams_20120810.GetRecords" is known`},
		"target with a path":                {call(t, ddbHost+"x", json11("DynamoDB_20120810.GetItem"), "{}"), "a call with X-Amz-Target must be POST /"},
		"unknown compression":               {call(t, ddbHost, append(json11("DynamoDB_20120810.GetItem"), "Content-Encoding: br"), "{}"), "the body is compressed in a way that is not known"},
		"false compression":                 {call(t, ddbHost, append(json11("DynamoDB_20120810.GetItem"), "Content-Encoding: gzip"), "{}"), "the body is not gzip, as its header says"},
		"compression bomb":                  {call(t, ddbHost, append(json11("DynamoDB_20120810.GetItem"), "Content-Encoding: gzip"), gz(strings.Repeat(" ", maxInflated+1))), "the body unpacks to too much"},
		"query parameters twice":            {call(t, "POST ec2.us-east-1.amazonaws.com/", formHeader, "Action=TerminateInstances&Version=2016-11-15&InstanceId.1=i-1&InstanceId.1=i-2"), `the body cannot be read: the parameter "InstanceId.1" occurs twice`},
		"query on a JSON service":           {call(t, ddbHost, formHeader, "Action=GetItem"), "the content type does not fit the service's protocol"},
		"load balancers, no version":        {call(t, "POST elasticloadbalancing.us-east-1.amazonaws.com/", formHeader, "Action=DescribeLoadBalancers"), `several APIs have "DescribeLoadBalancers", and Version does not tell which`},
		"two sub-resources":                 {s3("GET " + bucket + "?acl&policy"), `the sub-resource "policy" selects another operation`},
		"sub-resource of a bucket on a key": {s3("GET " + bucket + "key?policy"), `the sub-resource "policy" selects another operation`},
		"upload without part":               {s3("PUT " + bucket + "key?uploadId=x"), `the sub-resource "uploadId" selects another operation`},
		"new sub-resource":                  {s3("GET " + bucket + "key?brandnew"), `S3 is not known to have the query key "brandnew"`},
		"sub-resource twice":                {s3("GET " + bucket + "?acl&acl"), `the parameter "acl" occurs twice`},
		"bucket with escapes":               {s3("GET s3.us-east-1.amazonaws.com/%62ucket/key"), "the bucket's name is written in an unusual way"},
		"nothing but slashes":               {s3("GET s3.us-east-1.amazonaws.com//"), "the path has no bucket"},
		"no bucket":                         {s3("GET s3.us-east-1.amazonaws.com//key"), "the path has no bucket"},
		"bad escape in key":                 {s3("GET " + bucket + "a%zz"), "the key cannot be read: it has a malformed percent escape"},
		"copy source twice":                 {s3("PUT "+bucket+"key", "X-Amz-Copy-Source: a/b", "X-Amz-Copy-Source: c/d"), "the copy source is given more than once"},
		"copy source odd":                   {s3("PUT "+bucket+"key", "X-Amz-Copy-Source: a/b?x=y"), "the copy source is written in an unusual way"},
		"xml with a type definition":        {call(t, "POST "+bucket+"?delete", nil, `<!DOCTYPE x [<!ENTITY k "secret">]><Delete><Object><Key>&k;</Key></Object></Delete>`), "the body cannot be read: the XML has a document type definition"},
		"delete of nothing":                 {call(t, "POST "+bucket+"?delete", nil, `<Delete/>`), "the objects to delete cannot be read from the body"},
		"delete, other spelling":            {call(t, "POST "+bucket+"?delete", nil, `<Delete><object><Key>a</Key></object></Delete>`), `the body cannot be read: the element "object" is spelt in an unusual way`},
		"method override":                   {call(t, "GET lambda.us-east-1.amazonaws.com/2015-03-31/functions/x", []string{"X-Http-Method-Override: DELETE"}, ""), "the header X-Http-Method-Override asks for another method"},
		"target in the query":               {call(t, ddbHost+"?x-amz-target=DynamoDB_20120810.Scan", json11("DynamoDB_20120810.GetItem"), "{}"), "the query string has X-Amz-Target"},
		"path with dots":                    {s3("GET lambda.us-east-1.amazonaws.com/2015-03-31/functions/x/../y"), "the path is written in an unusual way"},
		"escaped plain character":           {s3("GET lambda.us-east-1.amazonaws.com/2015-03-31/%66unctions/x"), "the path is written in an unusual way"},
		"target that is a URL":              {Identify(Input{Host: mustHost(t, "s3.us-east-1.amazonaws.com"), Request: &http.Request{Method: "GET", RequestURI: "https://s3.us-east-1.amazonaws.com/b/k", Header: http.Header{}}}), "the request target is not a plain path"},
		"service without a model":           {call(t, "POST ssmmessages.us-east-1.amazonaws.com/", nil, ""), "no public model describes the API of ssmmessages.us-east-1.amazonaws.com"},
	} {
		if c.got.Unknown != c.want || len(c.got.Needs) > 0 {
			t.Errorf("%s:\n got %q (%s, needs %v)\nwant %q", name, c.got.Unknown, c.got.Operation, c.got.Needs, c.want)
		}
		if want := slices.Contains(readTwoWays, name); c.got.Ambiguous != want {
			t.Errorf("%s: ambiguous is %v, want %v", name, c.got.Ambiguous, want)
		}
	}
	if c := call(t, ddbHost, append(json11("DynamoDB_20120810.GetItem"), "Content-Encoding: gzip"), gz(`{"TableName":"t"}`)); c.Unknown != "" || c.Resources()[0] != "arn:aws:dynamodb:us-east-1:111122223333:table/t" {
		t.Errorf("a compressed body: %+v", c)
	}
}

// readTwoWays are the cases above that say two things, not one that is not known.
var readTwoWays = []string{
	"duplicate member", "duplicate, escaped", "form content type", "target and action", "two targets", "target and smithy",
	"query parameters twice", "two sub-resources", "sub-resource of a bucket on a key", "upload without part", "sub-resource twice",
	"copy source twice", "method override", "target in the query",
	// Bodies that are not what they say they are.
	"body that ends early", "body after the object", "not utf-8", "query on a JSON service", "false compression", "other spelling",
	"byte order mark", "half a surrogate", "delete, other spelling", "wrong content type", "array", "utf-16", "deep", "xml with a type definition",
}

// REST calls write lists as a query key for each member, which says one thing.
func TestListsInTheQueryString(t *testing.T) {
	const function = "arn:aws:lambda:us-east-1:111122223333:function:f"
	untag := call(t, "DELETE lambda.us-east-1.amazonaws.com/2017-03-31/tags/"+url.PathEscape(function)+"?tagKeys=a&tagKeys=b", nil, "")
	if untag.Unknown != "" || untag.Operation != "UntagResource" || !slices.Equal(untag.Resources(), []string{function}) {
		t.Errorf("%+v", untag)
	}
	if got := untag.Conditions["aws:tagkeys"]; !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("the tag keys are %q", got)
	}
	for name, c := range map[string]*Call{
		"two versions": call(t, "GET lambda.us-east-1.amazonaws.com/2015-03-31/functions/f?Qualifier=1&Qualifier=2", nil, ""),
		"what selects": call(t, "POST apigateway.us-east-1.amazonaws.com/restapis?mode=import&mode=x", nil, ""),
	} {
		if !c.Ambiguous || c.Operation != "" && len(c.Needs) > 0 {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

func mustHost(t testing.TB, name string) Host {
	t.Helper()
	h, v := LookupHost(name)
	if v != HostAPI {
		t.Fatalf("%s is no API", name)
	}
	return h
}

// TestEveryOperationOfTheTablesIsFound makes a bare request for every
// operation out of the tables themselves, those included which botocore no
// longer has.
func TestEveryOperationOfTheTablesIsFound(t *testing.T) {
	hosts := make(map[string]string)
	for key, rows := range hostTable() {
		for _, row := range rows {
			if !slices.Contains(row.partitions, "aws") || strings.Contains(key, "{account}") {
				continue
			}
			name := strings.NewReplacer("{region}", "us-east-1", "{dns}", "amazonaws.com", "{dual}", "api.aws").Replace(key)
			for _, m := range row.models {
				if hosts[m] == "" || len(name) < len(hosts[m]) || len(name) == len(hosts[m]) && name < hosts[m] {
					hosts[m] = name
				}
			}
		}
	}
	hosts["cloudsearchdomain"] = "search-x.us-east-1.cloudsearch.amazonaws.com"
	hosts["cloudfront-keyvaluestore"] = "111122223333.cloudfront-kvs.global.api.aws"
	hosts["s3control"] = "111122223333.s3-control.us-east-1.amazonaws.com"
	n, missing := 0, 0
	for _, name := range operationsArchive().names() {
		m := modelNamed(name)
		if name == "s3" || hosts[name] == "" {
			if name != "s3" && name != "signin" && name != "neptunedata" {
				t.Errorf("%s has no host", name)
			}
			continue
		}
		for _, opName := range m.names {
			op := m.ops[opName]
			n++
			host := hosts[name]
			if prefixed := op.hostPrefix + host; op.hostPrefix != "" {
				if _, v := LookupHost(prefixed); v == HostAPI {
					host = prefixed
				}
			}
			var c *Call
			switch m.protocols[0] {
			case ProtocolJSON:
				c = call(t, "POST "+host+"/", json11(m.targetPrefix+"."+opName), "{}")
			case ProtocolCBOR:
				c = call(t, "POST "+host+"/service/"+m.shape+"/operation/"+opName, []string{"Smithy-Protocol: rpc-v2-cbor", "Content-Type: application/cbor"}, "\xa0")
			case ProtocolQuery, ProtocolEC2:
				c = call(t, "POST "+host+"/", formHeader, "Action="+opName+"&Version="+m.apiVersion)
			default:
				path, query, _ := strings.Cut(op.uri, "?")
				var segments []string
				for i, s := range splitPath(m.basePath + path) {
					if strings.HasPrefix(s, "{") {
						s = "v" + string(rune('a'+i))
					}
					segments = append(segments, s)
				}
				for _, k := range op.query {
					query += "&" + k + "=v"
				}
				var headers []string
				for _, h := range op.headers {
					headers = append(headers, h+": v")
				}
				c = call(t, op.method+" "+host+"/"+strings.Join(segments, "/")+"?"+strings.TrimPrefix(query, "&"), headers, "")
			}
			if c.Operation == opName && (c.Service == name || slices.Contains(c.Host.Models, name)) {
				continue
			}
			missing++
			t.Errorf("%s:%s on %s is %s:%s: %s", name, opName, host, c.Service, c.Operation, c.Unknown)
		}
	}
	if n < 18500 {
		t.Errorf("only %d operations were checked", n)
	}
	t.Logf("%d operations, %d not found", n, missing)
}

func TestTablesStaySmall(t *testing.T) {
	total := 0
	for _, name := range []string{"hosts.gz", "operations.zip", "actions.zip"} {
		info, err := os.Stat("tables/" + name)
		if err != nil {
			t.Fatal(err)
		}
		total += int(info.Size())
	}
	if total > 3<<19 {
		t.Errorf("the tables take %d bytes, more than 1.5 MiB", total)
	}
}

func TestIdentifyIsSafeForConcurrentUse(t *testing.T) {
	in := []Input{
		input(t, ddbHost, json11("DynamoDB_20120810.BatchWriteItem"), `{"RequestItems":{"a":[]}}`),
		input(t, "POST bucket.s3.us-east-1.amazonaws.com/?delete", nil, "<Delete><Object><Key>a</Key></Object></Delete>"),
		input(t, "POST ec2.us-east-1.amazonaws.com/", formHeader, "Action=TerminateInstances&Version=2016-11-15&InstanceId.1=i-1"),
		input(t, "GET lambda.us-east-1.amazonaws.com/2015-03-31/functions/f", nil, ""),
	}
	want := make([]string, len(in))
	for i := range in {
		want[i] = needsOf(Identify(in[i]))
	}
	models.m.Clear() // so that the models are parsed by several at once
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range in {
				if got := needsOf(Identify(in[i])); got != want[i] {
					t.Errorf("got %s, want %s", got, want[i])
				}
			}
		})
	}
	wg.Wait()
}
