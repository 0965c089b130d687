package awsapi

import (
	"bytes"
	"compress/gzip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// A form that is compressed is one text to a service that unpacks it, and another
// to one that does not. Both are of the client's choice.
func TestCompressedFormsHaveTwoReadings(t *testing.T) {
	pack := func(name, text string) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		w.Name = name
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	packed := append([]string{"Content-Encoding: gzip"}, formHeader...)
	const (
		iam     = "POST iam.amazonaws.com/"
		metrics = "POST monitoring.us-east-1.amazonaws.com/"
		hidden  = "&Action=CreateAccessKey&Version=2010-05-08&UserName=admin&X="
		shown   = "Action=ListUsers&Version=2010-05-08"
	)
	if !strings.Contains(pack(hidden, shown), hidden) {
		t.Fatal("the file name is not in the packed body")
	}
	for name, c := range map[string]struct {
		call       *Call
		want, tier string
	}{
		"another call in the file name": {call(t, iam, packed, pack(hidden, shown)), "the head of the gzip body holds text, which a service that does not unpack it would read", "A"},
		"nothing in the head":           {call(t, iam, packed, pack("", shown)), "the body is compressed, which only PutMetricData takes as a form", "A"},
		"metrics, with a file name":     {call(t, metrics, packed, pack(hidden, "Action=PutMetricData&Version=2010-08-01")), "the head of the gzip body holds text, which a service that does not unpack it would read", ""},
		"metrics":                       {call(t, metrics, packed, pack("", "Action=PutMetricData&Version=2010-08-01&Namespace=n")), "", ""},
		"metrics, another call":         {call(t, metrics, packed, pack("", "Action=DeleteAlarms&Version=2010-08-01")), "the body is compressed, which only PutMetricData takes as a form", ""},
	} {
		if c.call.Unknown != c.want || c.call.Ambiguous != (c.want != "") || c.call.CredentialTier != c.tier {
			t.Errorf("%s: unknown %q, tier %q, want %q and %q", name, c.call.Unknown, c.call.CredentialTier, c.want, c.tier)
		}
	}
}

func TestPathsThatAreRoutedAlikeAreJudgedAlike(t *testing.T) {
	const gateway = "DELETE apigateway.us-east-1.amazonaws.com/restapis/abc"
	want := []string{"arn:aws:apigateway:us-east-1::/restapis/abc"}
	for _, line := range []string{gateway, gateway + "/"} {
		if c := call(t, line, nil, ""); !reflect.DeepEqual(c.Resources(), want) {
			t.Errorf("%s: %v", line, c.Resources())
		}
	}
	if c := call(t, "GET lambda.us-east-1.amazonaws.com/2015-03-31/functions/secret;x", nil, ""); c.Unknown != "the path is written in an unusual way" {
		t.Errorf("a parameter of a path segment: %q, %v", c.Unknown, c.Resources())
	}
}

// S3 takes a header from a query parameter of its name as well; which of two values
// counts is not documented.
func TestEveryValueOfAnS3HeaderCounts(t *testing.T) {
	want := []string{"s3:DeleteObjectVersion", "s3:BypassGovernanceRetention"}
	const object = "DELETE bucket.s3.us-east-1.amazonaws.com/key?versionId=1"
	for name, c := range map[string]*Call{
		"header":               call(t, object, []string{"X-Amz-Bypass-Governance-Retention: true"}, ""),
		"header and parameter": call(t, object+"&x-amz-bypass-governance-retention=true", []string{"X-Amz-Bypass-Governance-Retention: false"}, ""),
		"two headers":          call(t, object, []string{"X-Amz-Bypass-Governance-Retention: false", "X-Amz-Bypass-Governance-Retention: true"}, ""),
		"another word":         call(t, object, []string{"X-Amz-Bypass-Governance-Retention: 1"}, ""),
	} {
		if !reflect.DeepEqual(c.Actions(), want) {
			t.Errorf("%s: %v", name, c.Actions())
		}
	}
	if c := call(t, object, []string{"X-Amz-Bypass-Governance-Retention: false"}, ""); !reflect.DeepEqual(c.Actions(), want[:1]) {
		t.Errorf("false: %v", c.Actions())
	}
}

// A copy reads its source, wherever it goes and wherever that is.
func TestCopiesNeedTheirSource(t *testing.T) {
	const express, plain = "PUT mine--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com/key", "PUT mine.s3.us-east-1.amazonaws.com/key"
	session := func(bucket string) string { return "arn:aws:s3express:us-east-1:111122223333:bucket/" + bucket }
	for name, c := range map[string]struct {
		call *Call
		want []Need
	}{
		"into a directory bucket": {
			call(t, express, []string{"X-Amz-Copy-Source: secret/plan"}, ""),
			[]Need{{Action: "s3express:CreateSession", Resources: []string{session("mine--use1-az4--x-s3")}}, {Action: "s3:GetObject", Resources: []string{"arn:aws:s3:::secret/plan"}}},
		},
		"a part, into a directory bucket": {
			call(t, express+"?partNumber=1&uploadId=u", []string{"X-Amz-Copy-Source: secret/plan?versionId=v"}, ""),
			[]Need{{Action: "s3express:CreateSession", Resources: []string{session("mine--use1-az4--x-s3")}}, {Action: "s3:GetObjectVersion", Resources: []string{"arn:aws:s3:::secret/plan"}}},
		},
		"between directory buckets": {
			call(t, express, []string{"X-Amz-Copy-Source: yours--use1-az4--x-s3/plan"}, ""),
			[]Need{{Action: "s3express:CreateSession", Resources: []string{session("mine--use1-az4--x-s3"), session("yours--use1-az4--x-s3")}}},
		},
		"out of a directory bucket": {
			call(t, plain, []string{"X-Amz-Copy-Source: yours--use1-az4--x-s3/plan"}, ""),
			[]Need{{Action: "s3:PutObject", Resources: []string{"arn:aws:s3:::mine/key"}}, {Action: "s3express:CreateSession", Resources: []string{session("yours--use1-az4--x-s3")}}},
		},
	} {
		if c.call.Unknown != "" || !reflect.DeepEqual(c.call.Needs, c.want) {
			t.Errorf("%s: unknown %q\n got %+v\nwant %+v", name, c.call.Unknown, c.call.Needs, c.want)
		}
	}
	if c := call(t, plain, []string{"X-Amz-Copy-Source: secret/plan%3FversionId=v"}, ""); c.Unknown != "the copy source is written in an unusual way" {
		t.Errorf("an escaped version: %q, %+v", c.Unknown, c.Needs)
	}
	if c := call(t, plain, []string{"X-Amz-Copy-Source: arn:aws:s3:us-east-1:111122223333:accesspoint/a/object/plan%3FversionId=v"}, ""); c.Unknown != "the copy source is written in an unusual way" {
		t.Errorf("an escaped version behind an access point: %q, %+v", c.Unknown, c.Needs)
	}
	if c := call(t, plain, []string{"X-Amz-Copy-Source: //secret/plan"}, ""); c.Unknown != "the copy source has no bucket or no key" {
		t.Errorf("two slashes: %q, %+v", c.Unknown, c.Needs)
	}
}

// Tags and source identities of a session decide what it may do where policies look
// at them, so whoever sets them needs the right to.
func TestSessionTagsNeedTheRightToSetThem(t *testing.T) {
	role := []string{"arn:aws:iam::111122223333:role/x"}
	const assume = "Action=AssumeRole&Version=2011-06-15&RoleSessionName=s&RoleArn=arn:aws:iam::111122223333:role/x"
	for form, want := range map[string][]Need{
		assume:                        {{Action: "sts:AssumeRole", Resources: role}},
		assume + "&SourceIdentity=me": {{Action: "sts:AssumeRole", Resources: role}, {Action: "sts:SetSourceIdentity", Resources: role}},
		assume + "&Tags.member.1.Key=team&Tags.member.1.Value=admin":   {{Action: "sts:AssumeRole", Resources: role}, {Action: "sts:TagSession", Resources: role}},
		assume + "&Tags.member.01.Key=team&Tags.member.01.Value=admin": {{Action: "sts:AssumeRole", Resources: role}, {Action: "sts:TagSession", Resources: role}},
	} {
		if c := call(t, stsHost, formHeader, form); c.Unknown != "" || !reflect.DeepEqual(c.Needs, want) {
			t.Errorf("%s:\n got %q %+v\nwant %+v", form, c.Unknown, c.Needs, want)
		}
	}
	c := call(t, stsHost, formHeader, "Action=GetFederationToken&Version=2011-06-15&Name=bob&Tags.member.1.Key=team&Tags.member.1.Value=admin")
	if want := []string{"sts:GetFederationToken", "sts:TagSession"}; !reflect.DeepEqual(c.Actions(), want) {
		t.Errorf("GetFederationToken: %v", c.Actions())
	}
}

// Models name the member that holds a role in many ways.
func TestRolesThatArePassedUnderOtherNames(t *testing.T) {
	const admin = "arn:aws:iam::111122223333:role/admin"
	for name, c := range map[string]*Call{
		"codebuild": call(t, "POST codebuild.us-east-1.amazonaws.com/", json11("CodeBuild_20161006.StartBuild"), `{"projectName":"p","serviceRoleOverride":"`+admin+`"}`),
		"redshift":  call(t, "POST redshift.us-east-1.amazonaws.com/", formHeader, "Action=ModifyClusterIamRoles&Version=2012-12-01&ClusterIdentifier=c&AddIamRoles.IamRoleArn.1="+admin),
		"rds":       call(t, "POST rds.us-east-1.amazonaws.com/", formHeader, "Action=ModifyDBInstance&Version=2014-10-31&DBInstanceIdentifier=d&DomainIAMRoleName=admin"),
		"redshift serverless": call(t, "POST redshift-serverless.us-east-1.amazonaws.com/", json11("RedshiftServerless.UpdateNamespace"),
			`{"namespaceName":"n","iamRoles":["`+admin+`"]}`),
	} {
		var passed []string
		for _, n := range c.Needs {
			if n.Action == "iam:PassRole" {
				passed = n.Resources
			}
		}
		if c.Unknown != "" || !reflect.DeepEqual(passed, []string{admin}) {
			t.Errorf("%s: %q %+v", name, c.Unknown, c.Needs)
		}
	}
}

func TestModeOfAnExpressSessionIsKnownWhereTheRequestSaysIt(t *testing.T) {
	const line = "GET b--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com/?session"
	for mode, want := range map[string][]string{"ReadOnly": {"ReadOnly"}, "ReadWrite": {"ReadWrite"}, "readonly": nil, "": nil} {
		var header []string
		if mode != "" {
			header = []string{"X-Amz-Create-Session-Mode: " + mode}
		}
		c := call(t, line, header, "")
		if c.Operation != "CreateSession" || !reflect.DeepEqual(c.Conditions["s3express:sessionmode"], want) || (want == nil) != slices.Contains(c.UnknownConditions, "s3express:sessionmode") {
			t.Errorf("%q: %+v", mode, c)
		}
	}
	for method, want := range map[string]string{"GET": "ReadOnly", "HEAD": "ReadOnly", "PUT": "ReadWrite", "DELETE": "ReadWrite"} {
		if c := call(t, method+" b--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com/key", nil, ""); !reflect.DeepEqual(c.Conditions["s3express:sessionmode"], []string{want}) {
			t.Errorf("%s: %+v", method, c)
		}
	}
}

// A record without what was left open would teach a policy that lacks it.
func TestResourcesShowWhatTheRequestLeavesOpen(t *testing.T) {
	c := call(t, "POST secretsmanager.us-east-1.amazonaws.com/", json11("secretsmanager.GetSecretValue"), `{"SecretId":"db"}`)
	if want := []string{"arn:aws:secretsmanager:us-east-1:111122223333:secret:db-??????"}; !reflect.DeepEqual(c.Resources(), want) {
		t.Errorf("%q, want %q", c.Resources(), want)
	}
}

// A reader that passes over a tag which it does not know sees what is behind it.
func TestTagsOnCBORStructuresHaveTwoReadings(t *testing.T) {
	const line = "POST monitoring.us-east-1.amazonaws.com/service/GraniteServiceVersion20100801/operation/TagResource"
	head := []string{"Smithy-Protocol: rpc-v2-cbor", "Content-Type: application/cbor"}
	const arn = "\x6bResourceARN\x78\x31arn:aws:cloudwatch:us-east-1:111122223333:alarm:x"
	const pair = "\xa2\x63Key\x64team\x65Value\x65admin"
	plain := call(t, line, head, "\xa2"+arn+"\x64Tags\x81"+pair)
	if want := []string{"admin"}; plain.Unknown != "" || !reflect.DeepEqual(plain.Conditions["aws:requesttag/team"], want) {
		t.Fatalf("without a tag: %q, %v", plain.Unknown, plain.Conditions)
	}
	for name, body := range map[string]string{
		"a list":      "\xa2" + arn + "\x64Tags\xd9\xd9\xf7\x81" + pair,
		"a structure": "\xa2" + arn + "\x64Tags\x81\xd9\xd9\xf7" + pair,
	} {
		if c := call(t, line, head, body); !c.Ambiguous || c.Unknown != "the body cannot be read: the CBOR has a tag on a structure" {
			t.Errorf("%s: ambiguous %v, %q", name, c.Ambiguous, c.Unknown)
		}
	}
}

// Some readers of XML take the text before a comment alone.
func TestKeysWithCommentsAreNotRead(t *testing.T) {
	for _, key := range []string{"public/<!-- -->../secret", "public/<?x y?>secret"} {
		if c := call(t, "POST b.s3.us-east-1.amazonaws.com/?delete", nil, "<Delete><Object><Key>"+key+"</Key></Object></Delete>"); c.Unknown != "the objects to delete cannot be read from the body" {
			t.Errorf("%s: %q, %v", key, c.Unknown, c.Resources())
		}
	}
}

// Whether a service minds the case of a parameter's name is not written anywhere.
func TestParametersInAnotherCaseLeaveOpenWhatTheyName(t *testing.T) {
	const form = "Action=DeleteUser&Version=2010-05-08&UserName=me"
	if c := call(t, "POST iam.amazonaws.com/", formHeader, form); !reflect.DeepEqual(c.Resources(), []string{"arn:aws:iam::111122223333:user/me", "arn:aws:iam::111122223333:user/*/me"}) {
		t.Errorf("%v", c.Resources())
	}
	if c := call(t, "POST iam.amazonaws.com/", formHeader, form+"&userName=admin"); len(c.Needs) != 1 || !c.Needs[0].ResourceUnknown {
		t.Errorf("two spellings: %+v", c.Needs)
	}
}

// The query protocol has written lists in several ways, and some services take all
// of them. A tag that is not seen here would not be judged.
func TestListsWrittenInAnotherWayAreNotOverlooked(t *testing.T) {
	const rds, iam, alarms = "POST rds.us-east-1.amazonaws.com/", "POST iam.amazonaws.com/", "POST monitoring.us-east-1.amazonaws.com/"
	const database = "Action=CreateDBSnapshot&Version=2014-10-31&DBInstanceIdentifier=d&DBSnapshotIdentifier=s"
	const role = "Action=TagRole&Version=2010-05-08&RoleName=r"
	for line, want := range map[[2]string][]string{
		{rds, database + "&Tags.Tag.1.Key=env&Tags.Tag.1.Value=prod"}:     {"env"},
		{iam, role + "&Tags.member.1.Key=env&Tags.member.1.Value=prod"}:   {"env"},
		{iam, role + "&Tags.member.01.Key=env&Tags.member.01.Value=prod"}: {"env"},
	} {
		if c := call(t, line[0], formHeader, line[1]); c.Unknown != "" || !reflect.DeepEqual(c.Conditions["aws:tagkeys"], want) {
			t.Errorf("%s: %q, %v", line[1], c.Unknown, c.Conditions)
		}
	}
	for _, line := range [][2]string{
		{rds, database + "&Tags.member.1.Key=env&Tags.member.1.Value=prod"},
		{rds, database + "&Tags.1.Key=env&Tags.1.Value=prod"},
		{iam, role + "&Tags.1.Key=env&Tags.1.Value=prod"},
		{iam, role + "&tags.Member.1.key=env&tags.Member.1.value=prod"},
	} {
		if c := call(t, line[0], formHeader, line[1]); c.Unknown != errOddTags.Error() {
			t.Errorf("%s: %q, %v", line[1], c.Unknown, c.Conditions)
		}
	}
	if c := call(t, alarms, formHeader, "Action=DeleteAlarms&Version=2010-08-01&AlarmNames.member.1=mine&AlarmNames.1=yours"); len(c.Needs) != 1 || !c.Needs[0].ResourceUnknown {
		t.Errorf("two lists: %q, %+v", c.Unknown, c.Needs)
	}
}

// What some readers end a target at, or take for a slash, no other may pass.
func TestTargetsThatReadersCutAreRefused(t *testing.T) {
	for _, line := range []string{
		"GET sts.us-east-1.amazonaws.com/?Action=GetSessionToken&Version=2011-06-15#x",
		"GET b--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com/?session#x",
		"GET b.s3.us-east-1.amazonaws.com/public\\..\\secret",
		"GET b.s3.us-east-1.amazonaws.com/public HTTP/1.1",
	} {
		if c := call(t, line, nil, ""); !c.Ambiguous {
			t.Errorf("%s: %q, %v", line, c.Unknown, c.Resources())
		}
	}
}

func TestContentTypesThatReadersDifferOn(t *testing.T) {
	const body = `{"Name":"p"}`
	for name, types := range map[string][]string{
		"two":                       {"application/x-amz-json-1.1", "application/x-www-form-urlencoded"},
		"a space before the equals": {"application/x-amz-json-1.1; charset =utf-16"},
		"an extended parameter":     {"application/x-amz-json-1.1; charset*=utf-16"},
	} {
		head := []string{"X-Amz-Target: AmazonSSM.GetParameter"}
		for _, t := range types {
			head = append(head, "Content-Type: "+t)
		}
		if c := call(t, ssmHost, head, body); !c.Ambiguous {
			t.Errorf("%s: %q, %v", name, c.Unknown, c.Resources())
		}
	}
}

// The SDKs for Java send Kinesis the members of its JSON calls in CBOR. The bodies are
// as their generator writes them, with maps of no announced length.
func TestKinesisOfTheJavaSDK(t *testing.T) {
	const kinesis = "POST kinesis.us-east-1.amazonaws.com/"
	const record = "\xbf\x6aStreamName\x66orders\x64Data\x43abc\x6cPartitionKey\x61k\xff"
	head := func(target string) []string {
		return []string{"Content-Type: application/x-amz-cbor-1.1", "X-Amz-Target: " + target}
	}
	c := call(t, kinesis, head("Kinesis_20131202.PutRecord"), record)
	if want := []Need{{Action: "kinesis:PutRecord", Resources: []string{"arn:aws:kinesis:us-east-1:111122223333:stream/orders"}}}; c.Unknown != "" || c.Protocol != ProtocolCBOR || !reflect.DeepEqual(c.Needs, want) {
		t.Errorf("%q %s\n got %+v\nwant %+v", c.Unknown, c.Protocol, c.Needs, want)
	}
	for name, c := range map[string]*Call{
		"JSON in its place":  call(t, kinesis, head("Kinesis_20131202.PutRecord"), `{"StreamName":"orders"}`),
		"a service of JSON":  call(t, ssmHost, head("AmazonSSM.GetParameter"), "\xa1\x64Name\x61p"),
		"a member twice":     call(t, kinesis, head("Kinesis_20131202.PutRecord"), "\xa2\x6aStreamName\x61a\x6aStreamName\x61b"),
		"CBOR said to be it": call(t, kinesis, json11("Kinesis_20131202.PutRecord"), record),
	} {
		if !c.Ambiguous {
			t.Errorf("%s: %q, %v", name, c.Unknown, c.Resources())
		}
	}
	if !NeedsBody(input(t, kinesis, nil, "").Host, input(t, kinesis, head("Kinesis_20131202.PutRecord"), record).Request) {
		t.Error("the body, which names the stream, would not be read")
	}
}
