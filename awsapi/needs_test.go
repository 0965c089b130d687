package awsapi

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// needsOf writes the needs of a call on lines: ACTION RESOURCE…, "?" for
// unknown resources and "~PATTERN" for patterns.
func needsOf(c *Call) string {
	var out []string
	for _, n := range c.Needs {
		line := append([]string{n.Action}, n.Resources...)
		if n.ResourceUnknown {
			line = append(line, "?")
		}
		for _, p := range n.Patterns {
			line = append(line, "~"+p)
		}
		out = append(out, strings.Join(line, " "))
	}
	if c.Unknown != "" {
		out = append(out, "unknown: "+c.Unknown)
	}
	return strings.Join(out, "\n")
}

// The golden needs of the most used services. ARN prefixes are shortened:
// "SVC:" stands for arn:aws:SVC:us-east-1:111122223333:.
func TestNeeds(t *testing.T) {
	form := func(host, body string) *Call { return call(t, "POST "+host+"/", formHeader, body) }
	js := func(host, target, body string) *Call { return call(t, "POST "+host+"/", json11(target), body) }
	rest := func(line, body string) *Call { return call(t, line, []string{"Content-Type: application/json"}, body) }
	s3 := func(line string, headers ...string) *Call { return call(t, line, headers, "") }
	xml := func(line, body string) *Call { return call(t, line, nil, body) }
	const (
		s3b   = "bucket.s3.us-east-1.amazonaws.com/"
		sts   = "sts.us-east-1.amazonaws.com"
		iam   = "iam.amazonaws.com"
		ec2   = "ec2.us-east-1.amazonaws.com"
		ddb   = "dynamodb.us-east-1.amazonaws.com"
		kms   = "kms.us-east-1.amazonaws.com"
		sqs   = "sqs.us-east-1.amazonaws.com"
		sns   = "sns.us-east-1.amazonaws.com"
		ssm   = "ssm.us-east-1.amazonaws.com"
		logs  = "logs.us-east-1.amazonaws.com"
		ecr   = "api.ecr.us-east-1.amazonaws.com"
		ecs   = "ecs.us-east-1.amazonaws.com"
		cfn   = "cloudformation.us-east-1.amazonaws.com"
		sm    = "secretsmanager.us-east-1.amazonaws.com"
		rds   = "rds.us-east-1.amazonaws.com"
		elb   = "elasticloadbalancing.us-east-1.amazonaws.com"
		asg   = "autoscaling.us-east-1.amazonaws.com"
		ev    = "events.us-east-1.amazonaws.com"
		sfn   = "states.us-east-1.amazonaws.com"
		cw    = "monitoring.us-east-1.amazonaws.com"
		kin   = "kinesis.us-east-1.amazonaws.com"
		glue  = "glue.us-east-1.amazonaws.com"
		ath   = "athena.us-east-1.amazonaws.com"
		r53   = "route53.amazonaws.com"
		cf    = "cloudfront.amazonaws.com"
		apigw = "apigateway.us-east-1.amazonaws.com"
		br    = "bedrock-runtime.us-east-1.amazonaws.com"
		l     = "lambda.us-east-1.amazonaws.com"
		eks   = "eks.us-east-1.amazonaws.com"
		role  = "arn:aws:iam::111122223333:role/R"
	)
	for _, c := range []struct {
		name string
		call *Call
		want string
	}{
		// S3
		{"GetObject", s3("GET " + s3b + "a/b%20c%2Bd"), "s3:GetObject arn:aws:s3:::bucket/a/b c+d"},
		{"GetObject, path style", s3("GET s3.us-east-1.amazonaws.com/bucket/key"), "s3:GetObject arn:aws:s3:::bucket/key"},
		{"GetObject, slashes and dots are of the key", s3("GET " + s3b + "/x/../y"), "s3:GetObject arn:aws:s3:::bucket//x/../y"},
		{"GetObject, version", s3("GET " + s3b + "key?versionId=v"), "s3:GetObjectVersion arn:aws:s3:::bucket/key"},
		{"GetObject, part", s3("GET " + s3b + "key?partNumber=1"), "s3:GetObject arn:aws:s3:::bucket/key"},
		{"GetObject, claimed to be another", s3("GET " + s3b + "key?x-id=ListBuckets"), "s3:GetObject arn:aws:s3:::bucket/key"},
		{"HeadObject", s3("HEAD " + s3b + "key"), "s3:GetObject arn:aws:s3:::bucket/key"},
		{"GetObjectAttributes", s3("GET "+s3b+"key?attributes&versionId=v", "X-Amz-Object-Attributes: ETag"), "s3:GetObjectVersion arn:aws:s3:::bucket/key\ns3:GetObjectVersionAttributes arn:aws:s3:::bucket/key"},
		{"GetObjectTagging, version", s3("GET " + s3b + "key?tagging&versionId=v"), "s3:GetObjectVersionTagging arn:aws:s3:::bucket/key"},
		{"GetObjectAcl", s3("GET " + s3b + "key?acl"), "s3:GetObjectAcl arn:aws:s3:::bucket/key"},
		{"PutObject", s3("PUT " + s3b + "key"), "s3:PutObject arn:aws:s3:::bucket/key"},
		{"PutObject, all headers", s3("PUT "+s3b+"key", "X-Amz-Acl: private", "X-Amz-Tagging: a=b", "X-Amz-Object-Lock-Mode: GOVERNANCE", "X-Amz-Object-Lock-Legal-Hold: ON"),
			"s3:PutObject arn:aws:s3:::bucket/key\ns3:PutObjectAcl arn:aws:s3:::bucket/key\ns3:PutObjectTagging arn:aws:s3:::bucket/key\ns3:PutObjectRetention arn:aws:s3:::bucket/key\ns3:PutObjectLegalHold arn:aws:s3:::bucket/key"},
		{"PutObject, grant", s3("PUT "+s3b+"key", "X-Amz-Grant-Read: uri=x"), "s3:PutObject arn:aws:s3:::bucket/key\ns3:PutObjectAcl arn:aws:s3:::bucket/key"},
		{"CopyObject", s3("PUT "+s3b+"key", "X-Amz-Copy-Source: /other/a%20b"), "s3:PutObject arn:aws:s3:::bucket/key\ns3:GetObject arn:aws:s3:::other/a b"},
		{"CopyObject, version", s3("PUT "+s3b+"key", "X-Amz-Copy-Source: other/k?versionId=v"), "s3:PutObject arn:aws:s3:::bucket/key\ns3:GetObjectVersion arn:aws:s3:::other/k"},
		{"CopyObject, access point", s3("PUT "+s3b+"key", "X-Amz-Copy-Source: arn:aws:s3:us-east-1:111122223333:accesspoint/ap/object/k"),
			"s3:PutObject arn:aws:s3:::bucket/key\ns3:GetObject arn:aws:s3:us-east-1:111122223333:accesspoint/ap/object/k"},
		{"presigned upload with an ACL", s3("PUT " + s3b + "key?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=0&x-amz-acl=public-read"), "s3:PutObject arn:aws:s3:::bucket/key\ns3:PutObjectAcl arn:aws:s3:::bucket/key"},
		{"presigned copy", s3("PUT " + s3b + "key?X-Amz-Algorithm=AWS4-HMAC-SHA256&x-amz-copy-source=other%2Fk"), "s3:PutObject arn:aws:s3:::bucket/key\ns3:GetObject arn:aws:s3:::other/k"},
		{"copy source in both places", s3("PUT "+s3b+"key?x-amz-copy-source=other%2Fk", "X-Amz-Copy-Source: a/b"), "unknown: the copy source is given more than once"},
		{"UploadPartCopy", s3("PUT "+s3b+"key?partNumber=1&uploadId=u", "X-Amz-Copy-Source: other/k"), "s3:PutObject arn:aws:s3:::bucket/key\ns3:GetObject arn:aws:s3:::other/k"},
		{"CreateMultipartUpload", s3("POST "+s3b+"key?uploads", "X-Amz-Acl: private"), "s3:PutObject arn:aws:s3:::bucket/key\ns3:PutObjectAcl arn:aws:s3:::bucket/key"},
		{"UploadPart", s3("PUT " + s3b + "key?partNumber=1&uploadId=u"), "s3:PutObject arn:aws:s3:::bucket/key"},
		{"CompleteMultipartUpload", s3("POST " + s3b + "key?uploadId=u"), "s3:PutObject arn:aws:s3:::bucket/key"},
		{"AbortMultipartUpload", s3("DELETE " + s3b + "key?uploadId=u"), "s3:AbortMultipartUpload arn:aws:s3:::bucket/key"},
		{"ListParts", s3("GET " + s3b + "key?uploadId=u"), "s3:ListMultipartUploadParts arn:aws:s3:::bucket/key"},
		{"DeleteObject", s3("DELETE " + s3b + "key"), "s3:DeleteObject arn:aws:s3:::bucket/key"},
		{"DeleteObject, version, bypass", s3("DELETE "+s3b+"key?versionId=v", "X-Amz-Bypass-Governance-Retention: true"), "s3:DeleteObjectVersion arn:aws:s3:::bucket/key\ns3:BypassGovernanceRetention arn:aws:s3:::bucket/key"},
		{"DeleteObjects", xml("POST "+s3b+"?delete", `<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Object><Key>a</Key></Object><Object><Key>b&amp;c</Key><VersionId>v</VersionId></Object><Object><Key>d</Key></Object></Delete>`),
			"s3:DeleteObject arn:aws:s3:::bucket/a arn:aws:s3:::bucket/d\ns3:DeleteObjectVersion arn:aws:s3:::bucket/b&c"},
		{"ListObjects", s3("GET " + s3b + "?prefix=a/"), "s3:ListBucket arn:aws:s3:::bucket"},
		{"ListObjectsV2", s3("GET " + s3b + "?list-type=2&prefix=a/"), "s3:ListBucket arn:aws:s3:::bucket"},
		{"ListObjectVersions", s3("GET " + s3b + "?versions"), "s3:ListBucketVersions arn:aws:s3:::bucket"},
		{"ListMultipartUploads", s3("GET " + s3b + "?uploads"), "s3:ListBucketMultipartUploads arn:aws:s3:::bucket"},
		{"HeadBucket", s3("HEAD s3.us-east-1.amazonaws.com/bucket"), "s3:ListBucket arn:aws:s3:::bucket"},
		{"ListBuckets", s3("GET s3.us-east-1.amazonaws.com/"), "s3:ListAllMyBuckets *"},
		{"CreateBucket", xml("PUT s3.eu-west-1.amazonaws.com/bucket", `<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>`), "s3:CreateBucket arn:aws:s3:::bucket"},
		{"CreateBucket with locking", s3("PUT s3.us-east-1.amazonaws.com/bucket", "X-Amz-Bucket-Object-Lock-Enabled: true", "X-Amz-Object-Ownership: ObjectWriter"),
			"s3:CreateBucket arn:aws:s3:::bucket\ns3:PutBucketOwnershipControls arn:aws:s3:::bucket\ns3:PutBucketVersioning arn:aws:s3:::bucket\ns3:PutBucketObjectLockConfiguration arn:aws:s3:::bucket"},
		{"GetBucketLifecycle", s3("GET " + s3b + "?lifecycle"), "s3:GetLifecycleConfiguration arn:aws:s3:::bucket"},
		{"DeleteBucketEncryption", s3("DELETE " + s3b + "?encryption"), "s3:PutEncryptionConfiguration arn:aws:s3:::bucket"},
		{"PutBucketReplication", xml("PUT "+s3b+"?replication", `<ReplicationConfiguration><Role>`+role+`</Role></ReplicationConfiguration>`), "s3:PutReplicationConfiguration arn:aws:s3:::bucket\niam:PassRole " + role},
		{"access point", s3("GET ap-111122223333.s3-accesspoint.us-east-1.amazonaws.com/key"), "s3:GetObject arn:aws:s3:us-east-1:111122223333:accesspoint/ap/object/key"},
		{"access point alias", s3("GET ap-abc-s3alias.s3.us-east-1.amazonaws.com/key"), "s3:GetObject ?"},
		{"multi-region access point", s3("GET abc.mrap.accesspoint.s3-global.amazonaws.com/key"), "s3:GetObject arn:aws:s3::111122223333:accesspoint/abc.mrap/object/key"},
		{"object lambda", s3("GET ap-111122223333.s3-object-lambda.us-east-1.amazonaws.com/key"), "s3-object-lambda:GetObject arn:aws:s3-object-lambda:us-east-1:111122223333:accesspoint/ap"},
		{"outposts", s3("GET ap-111122223333.op-0.s3-outposts.us-east-1.amazonaws.com/key"), "s3-outposts:GetObject arn:aws:s3-outposts:us-east-1:111122223333:outpost/op-0/accesspoint/ap/object/key"},
		{"express", s3("GET b--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com/key"), "s3express:CreateSession arn:aws:s3express:us-east-1:111122223333:bucket/b--use1-az4--x-s3"},
		{"express control", s3("GET s3express-control.us-east-1.amazonaws.com/b--use1-az4--x-s3?policy"), "s3express:GetBucketPolicy arn:aws:s3express:us-east-1:111122223333:bucket/b--use1-az4--x-s3"},
		{"form upload", call(t, "POST "+s3b, []string{"Content-Type: multipart/form-data; boundary=x"}, ""), "s3:PutObject ? ~arn:aws:s3:::bucket/*"},
		// STS and IAM
		{"AssumeRole", form(sts, "Action=AssumeRole&Version=2011-06-15&RoleSessionName=s&RoleArn="+role), "sts:AssumeRole " + role},
		{"GetCallerIdentity", form(sts, "Action=GetCallerIdentity&Version=2011-06-15"), ""},
		{"GetRole", form(iam, "Action=GetRole&Version=2010-05-08&RoleName=R"), "iam:GetRole arn:aws:iam::111122223333:role/R ~arn:aws:iam::111122223333:role/*/R"},
		{"CreateRole", form(iam, "Action=CreateRole&Version=2010-05-08&RoleName=R&Path=/app/"), "iam:CreateRole arn:aws:iam::111122223333:role/app/R"},
		{"CreateUser", form(iam, "Action=CreateUser&Version=2010-05-08&UserName=U"), "iam:CreateUser arn:aws:iam::111122223333:user/U"},
		{"CreateAccessKey", form(iam, "Action=CreateAccessKey&Version=2010-05-08&UserName=U"), "iam:CreateAccessKey arn:aws:iam::111122223333:user/U ~arn:aws:iam::111122223333:user/*/U"},
		{"CreateAccessKey for oneself", form(iam, "Action=CreateAccessKey&Version=2010-05-08"), "iam:CreateAccessKey ? ~arn:aws:iam::111122223333:user/*"},
		{"DeletePolicy", form(iam, "Action=DeletePolicy&Version=2010-05-08&PolicyArn=arn:aws:iam::111122223333:policy/P"), "iam:DeletePolicy arn:aws:iam::111122223333:policy/P"},
		{"AddRoleToInstanceProfile", form(iam, "Action=AddRoleToInstanceProfile&Version=2010-05-08&RoleName=R&InstanceProfileName=I"),
			"iam:AddRoleToInstanceProfile arn:aws:iam::111122223333:instance-profile/I ~arn:aws:iam::111122223333:instance-profile/*/I\niam:PassRole arn:aws:iam::111122223333:role/R ~arn:aws:iam::111122223333:role/*/R"},
		{"ListRoles", form(iam, "Action=ListRoles&Version=2010-05-08"), "iam:ListRoles *"},
		// EC2
		{"DescribeInstances", form(ec2, "Action=DescribeInstances&Version=2016-11-15"), "ec2:DescribeInstances *"},
		{"TerminateInstances", form(ec2, "Action=TerminateInstances&Version=2016-11-15&InstanceId.1=i-1&InstanceId.2=i-2"), "ec2:TerminateInstances arn:aws:ec2:us-east-1:111122223333:instance/i-1 arn:aws:ec2:us-east-1:111122223333:instance/i-2"},
		{"CreateTags", form(ec2, "Action=CreateTags&Version=2016-11-15&ResourceId.1=i-0a&ResourceId.2=ami-1&Tag.1.Key=k&Tag.1.Value=v"), "ec2:CreateTags arn:aws:ec2:us-east-1:111122223333:instance/i-0a arn:aws:ec2:us-east-1::image/ami-1"},
		{"CreateTags, new type", form(ec2, "Action=CreateTags&Version=2016-11-15&ResourceId.1=brandnew-1"), "ec2:CreateTags ?"},
		{"DeleteSecurityGroup", form(ec2, "Action=DeleteSecurityGroup&Version=2016-11-15&GroupId=sg-1"), "ec2:DeleteSecurityGroup arn:aws:ec2:us-east-1:111122223333:security-group/sg-1"},
		{"CreateVpc with tags", form(ec2, "Action=CreateKeyPair&Version=2016-11-15&KeyName=k&TagSpecification.1.ResourceType=key-pair&TagSpecification.1.Tag.1.Key=a&TagSpecification.1.Tag.1.Value=b"),
			"ec2:CreateKeyPair arn:aws:ec2:us-east-1:111122223333:key-pair/k\nec2:CreateTags ? ~arn:aws:ec2:us-east-1:111122223333:key-pair/*"},
		// DynamoDB
		{"GetItem", js(ddb, "DynamoDB_20120810.GetItem", `{"TableName":"t","Key":{"id":{"S":"x"}}}`), "dynamodb:GetItem arn:aws:dynamodb:us-east-1:111122223333:table/t"},
		{"GetItem, by ARN", js(ddb, "DynamoDB_20120810.GetItem", `{"TableName":"arn:aws:dynamodb:us-east-1:444455556666:table/t"}`), "dynamodb:GetItem arn:aws:dynamodb:us-east-1:444455556666:table/t"},
		{"GetItem, no table", js(ddb, "DynamoDB_20120810.GetItem", `{}`), "dynamodb:GetItem ? ~arn:aws:dynamodb:us-east-1:111122223333:table/*"},
		{"GetItem, table of the wrong type", js(ddb, "DynamoDB_20120810.GetItem", `{"TableName":{"a":"b"}}`), "dynamodb:GetItem ? ~*"},
		{"DeleteTable, ARN of something else", js(ddb, "DynamoDB_20120810.DeleteTable", `{"TableName":"arn:aws:dynamodb:us-east-1:444455556666:thing/x"}`), "dynamodb:DeleteTable ? ~*"},
		{"DeleteTable, several parts", js(ddb, "DynamoDB_20120810.DeleteTable", `{"TableName":"444455556666:t"}`), "dynamodb:DeleteTable ? ~*"},
		{"TagResource of an unknown type", js(ddb, "DynamoDB_20120810.TagResource", `{"ResourceArn":"arn:aws:sqs:us-east-1:111122223333:q","Tags":[]}`), "dynamodb:TagResource ? ~*"},
		{"Query of an index", js(ddb, "DynamoDB_20120810.Query", `{"TableName":"t","IndexName":"i"}`), "dynamodb:Query arn:aws:dynamodb:us-east-1:111122223333:table/t/index/i"},
		{"BatchWriteItem", js(ddb, "DynamoDB_20120810.BatchWriteItem", `{"RequestItems":{"a":[{"PutRequest":{}}],"b":[]}}`), "dynamodb:BatchWriteItem arn:aws:dynamodb:us-east-1:111122223333:table/a arn:aws:dynamodb:us-east-1:111122223333:table/b"},
		{"TransactWriteItems", js(ddb, "DynamoDB_20120810.TransactWriteItems", `{"TransactItems":[{"Put":{"TableName":"a"}},{"Update":{"TableName":"b"}},{"Put":{"TableName":"c"}}]}`),
			"dynamodb:PutItem arn:aws:dynamodb:us-east-1:111122223333:table/a arn:aws:dynamodb:us-east-1:111122223333:table/c\ndynamodb:UpdateItem arn:aws:dynamodb:us-east-1:111122223333:table/b"},
		{"ExecuteStatement", js(ddb, "DynamoDB_20120810.ExecuteStatement", `{"Statement":"select * from t"}`), "dynamodb:PartiQLSelect ? ~arn:*:dynamodb:*:*:table/*"},
		{"ListTables", js(ddb, "DynamoDB_20120810.ListTables", `{}`), "dynamodb:ListTables *"},
		// Lambda
		{"Invoke", call(t, "POST "+l+"/2015-03-31/functions/f/invocations", nil, "anything"), "lambda:InvokeFunction arn:aws:lambda:us-east-1:111122223333:function:f"},
		{"Invoke, qualifier", rest("POST "+l+"/2015-03-31/functions/f/invocations?Qualifier=live", ""), "lambda:InvokeFunction arn:aws:lambda:us-east-1:111122223333:function:f:live"},
		{"Invoke, ARN", rest("POST "+l+"/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A444455556666%3Afunction%3Af%3A7/invocations", ""), "lambda:InvokeFunction arn:aws:lambda:us-east-1:444455556666:function:f:7"},
		{"Invoke, account", rest("POST "+l+"/2015-03-31/functions/444455556666%3Afunction%3Af/invocations", ""), "lambda:InvokeFunction arn:aws:lambda:us-east-1:444455556666:function:f"},
		{"CreateFunction", rest("POST "+l+"/2015-03-31/functions", `{"FunctionName":"f","Role":"`+role+`","Code":{"ZipFile":"AA=="}}`), "lambda:CreateFunction arn:aws:lambda:us-east-1:111122223333:function:f\niam:PassRole " + role},
		{"ListFunctions", rest("GET "+l+"/2015-03-31/functions/", ""), "lambda:ListFunctions *"},
		{"InvokeModel", rest("POST "+br+"/model/anthropic.claude-3-haiku-20240307-v1%3A0/invoke", "{}"), "bedrock:InvokeModel arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-3-haiku-20240307-v1:0"},
		{"InvokeModel, a colon as it is", rest("POST "+br+"/model/zai.glm-4.6:0/invoke", "{}"), "bedrock:InvokeModel arn:aws:bedrock:us-east-1::foundation-model/zai.glm-4.6:0"},
		{"InvokeModelWithResponseStream", rest("POST "+br+"/model/us.anthropic.claude-3-haiku-20240307-v1%3A0/invoke-with-response-stream", "{}"), "bedrock:InvokeModelWithResponseStream arn:aws:bedrock:us-east-1:111122223333:inference-profile/us.anthropic.claude-3-haiku-20240307-v1:0 ~arn:aws:bedrock:*::foundation-model/anthropic.claude-3-haiku-20240307-v1:0"},
		{"Converse, ARN", rest("POST "+br+"/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A444455556666%3Aapplication-inference-profile%2Fabc123/converse", "{}"), "bedrock:InvokeModel arn:aws:bedrock:us-east-1:444455556666:application-inference-profile/abc123 ~arn:aws:bedrock:*::foundation-model/*"},
		{"ConverseStream, model or profile", rest("POST "+br+"/model/uk.newcomer-1/converse-stream", "{}"), "bedrock:InvokeModelWithResponseStream arn:aws:bedrock:us-east-1:111122223333:inference-profile/uk.newcomer-1 arn:aws:bedrock:us-east-1::foundation-model/uk.newcomer-1 ~arn:aws:bedrock:*::foundation-model/*"},
		{"Converse, a name alone", rest("POST "+br+"/model/my-throughput/converse", "{}"), needsOf(rest("POST "+br+"/model/x*/converse", "{}"))},
		{"Converse, ARN of another service", rest("POST "+br+"/model/arn%3Aaws%3Asagemaker%3Aus-east-1%3A111122223333%3Aendpoint%2Fe/converse", "{}"), needsOf(rest("POST "+br+"/model/x*/converse", "{}"))},
		{"Converse, provisioned", rest("POST "+br+"/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A111122223333%3Aprovisioned-model%2Fabc/converse", "{}"), "bedrock:InvokeModel arn:aws:bedrock:us-east-1:111122223333:provisioned-model/abc"},
		{"StartAsyncInvoke", rest("POST "+br+"/async-invoke", `{"modelId":"amazon.nova-reel-v1:0","modelInput":{},"outputDataConfig":{}}`), "bedrock:InvokeModel arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-reel-v1:0"},
		{"GetLayerVersion", rest("GET "+l+"/2018-10-31/layers/y/versions/3", ""), "lambda:GetLayerVersion arn:aws:lambda:us-east-1:111122223333:layer:y:3"},
		// KMS
		{"Encrypt", js(kms, "TrentService.Encrypt", `{"KeyId":"1234","Plaintext":"AA=="}`), "kms:Encrypt arn:aws:kms:us-east-1:111122223333:key/1234"},
		{"Encrypt, alias", js(kms, "TrentService.Encrypt", `{"KeyId":"alias/a"}`), "kms:Encrypt ? ~arn:aws:kms:us-east-1:111122223333:key/*"},
		{"Decrypt, no key", js(kms, "TrentService.Decrypt", `{"CiphertextBlob":"AA=="}`), "kms:Decrypt ?"},
		{"ReEncrypt", js(kms, "TrentService.ReEncrypt", `{"SourceKeyId":"a","DestinationKeyId":"b"}`), "kms:ReEncryptFrom arn:aws:kms:us-east-1:111122223333:key/a\nkms:ReEncryptTo arn:aws:kms:us-east-1:111122223333:key/b"},
		{"CreateAlias", js(kms, "TrentService.CreateAlias", `{"AliasName":"alias/a","TargetKeyId":"k"}`), "kms:CreateAlias arn:aws:kms:us-east-1:111122223333:alias/a arn:aws:kms:us-east-1:111122223333:key/k"},
		{"CreateKey", js(kms, "TrentService.CreateKey", `{}`), "kms:CreateKey *"},
		// SQS and SNS
		{"SendMessage", call(t, "POST "+sqs+"/", []string{"Content-Type: application/x-amz-json-1.0", "X-Amz-Target: AmazonSQS.SendMessage"}, `{"QueueUrl":"https://sqs.us-east-1.amazonaws.com/111122223333/q","MessageBody":"x"}`), "sqs:SendMessage arn:aws:sqs:us-east-1:111122223333:q"},
		{"SendMessage, query", form(sqs, "Action=SendMessage&Version=2012-11-05&MessageBody=x&QueueUrl=https%3A%2F%2Fsqs.us-east-1.amazonaws.com%2F444455556666%2Fq"), "sqs:SendMessage arn:aws:sqs:us-east-1:444455556666:q"},
		{"SendMessage, queue elsewhere", form(sqs, "Action=SendMessage&Version=2012-11-05&QueueUrl=https%3A%2F%2Fsqs.eu-west-1.amazonaws.com%2F111122223333%2Fq"), "sqs:SendMessage ?"},
		{"SendMessageBatch", js(sqs, "AmazonSQS.SendMessageBatch", `{"QueueUrl":"https://queue.amazonaws.com/111122223333/q"}`), "sqs:SendMessage arn:aws:sqs:us-east-1:111122223333:q"},
		{"CreateQueue", js(sqs, "AmazonSQS.CreateQueue", `{"QueueName":"q"}`), "sqs:CreateQueue arn:aws:sqs:us-east-1:111122223333:q"},
		{"Publish", form(sns, "Action=Publish&Version=2010-03-31&Message=x&TopicArn=arn:aws:sns:us-east-1:111122223333:t"), "sns:Publish arn:aws:sns:us-east-1:111122223333:t"},
		{"Publish to a phone", form(sns, "Action=Publish&Version=2010-03-31&Message=x&PhoneNumber=%2B1555"), "sns:Publish *"},
		{"CreateTopic", form(sns, "Action=CreateTopic&Version=2010-03-31&Name=t"), "sns:CreateTopic arn:aws:sns:us-east-1:111122223333:t"},
		// ECR, ECS, EKS
		{"BatchGetImage", js(ecr, "AmazonEC2ContainerRegistry_V20150921.BatchGetImage", `{"repositoryName":"a/b","imageIds":[]}`), "ecr:BatchGetImage arn:aws:ecr:us-east-1:111122223333:repository/a/b"},
		{"BatchGetImage, other registry", js(ecr, "AmazonEC2ContainerRegistry_V20150921.BatchGetImage", `{"registryId":"444455556666","repositoryName":"a"}`), "ecr:BatchGetImage arn:aws:ecr:us-east-1:444455556666:repository/a"},
		{"GetAuthorizationToken", js(ecr, "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken", `{}`), "ecr:GetAuthorizationToken *"},
		{"DescribeServices", js(ecs, "AmazonEC2ContainerServiceV20141113.DescribeServices", `{"cluster":"c","services":["s"]}`), "ecs:DescribeServices arn:aws:ecs:us-east-1:111122223333:service/c/s"},
		{"DescribeCluster", rest("GET "+eks+"/clusters/c", ""), "eks:DescribeCluster arn:aws:eks:us-east-1:111122223333:cluster/c"},
		{"CreateCluster", rest("POST "+eks+"/clusters", `{"name":"c","roleArn":"`+role+`"}`), "eks:CreateCluster *\niam:PassRole " + role},
		{"ListClusters", rest("GET "+eks+"/clusters", ""), "eks:ListClusters *"},
		// CloudFormation, Secrets Manager, SSM, Logs
		{"DescribeStacks", form(cfn, "Action=DescribeStacks&Version=2010-05-15&StackName=s"), "cloudformation:DescribeStacks ? ~arn:aws:cloudformation:us-east-1:111122223333:stack/s/*"},
		{"DeleteStack, ARN", form(cfn, "Action=DeleteStack&Version=2010-05-15&StackName=arn:aws:cloudformation:us-east-1:111122223333:stack/s/1"), "cloudformation:DeleteStack arn:aws:cloudformation:us-east-1:111122223333:stack/s/1"},
		{"CreateStack", form(cfn, "Action=CreateStack&Version=2010-05-15&StackName=s&RoleARN="+role), "cloudformation:CreateStack ? ~arn:aws:cloudformation:us-east-1:111122223333:stack/s/*\niam:PassRole " + role},
		{"GetSecretValue", js(sm, "secretsmanager.GetSecretValue", `{"SecretId":"a/b"}`), "secretsmanager:GetSecretValue ? ~arn:aws:secretsmanager:us-east-1:111122223333:secret:a/b-??????"},
		{"GetSecretValue, ARN", js(sm, "secretsmanager.GetSecretValue", `{"SecretId":"arn:aws:secretsmanager:us-east-1:111122223333:secret:a-AbC123"}`),
			"secretsmanager:GetSecretValue arn:aws:secretsmanager:us-east-1:111122223333:secret:a-AbC123 ~arn:aws:secretsmanager:us-east-1:111122223333:secret:a-AbC123-??????"},
		{"GetParameter", js(ssm, "AmazonSSM.GetParameter", `{"Name":"/a/b:3"}`), "ssm:GetParameter arn:aws:ssm:us-east-1:111122223333:parameter/a/b"},
		{"GetParameters", js(ssm, "AmazonSSM.GetParameters", `{"Names":["a","/b"]}`), "ssm:GetParameters arn:aws:ssm:us-east-1:111122223333:parameter/a arn:aws:ssm:us-east-1:111122223333:parameter/b"},
		{"PutParameter", js(ssm, "AmazonSSM.PutParameter", `{"Name":"/a","Value":"v"}`), "ssm:PutParameter arn:aws:ssm:us-east-1:111122223333:parameter/a"},
		{"CreateLogGroup", js(logs, "Logs_20140328.CreateLogGroup", `{"logGroupName":"/a"}`), "logs:CreateLogGroup arn:aws:logs:us-east-1:111122223333:log-group:/a:log-stream:"},
		{"PutLogEvents", js(logs, "Logs_20140328.PutLogEvents", `{"logGroupName":"/a","logStreamName":"s","logEvents":[]}`), "logs:PutLogEvents arn:aws:logs:us-east-1:111122223333:log-group:/a:log-stream:s"},
		// and others
		{"DeleteDBInstance", form(rds, "Action=DeleteDBInstance&Version=2014-10-31&DBInstanceIdentifier=d"), "rds:DeleteDBInstance arn:aws:rds:us-east-1:111122223333:db:d"},
		{"DescribeLoadBalancers v2", form(elb, "Action=DescribeLoadBalancers&Version=2015-12-01"), "elasticloadbalancing:DescribeLoadBalancers *"},
		{"DeleteLoadBalancer v1", form(elb, "Action=DeleteLoadBalancer&Version=2012-06-01&LoadBalancerName=b"), "elasticloadbalancing:DeleteLoadBalancer arn:aws:elasticloadbalancing:us-east-1:111122223333:loadbalancer/b"},
		{"DeleteAutoScalingGroup", form(asg, "Action=DeleteAutoScalingGroup&Version=2011-01-01&AutoScalingGroupName=g"), "autoscaling:DeleteAutoScalingGroup ? ~arn:aws:autoscaling:us-east-1:111122223333:autoScalingGroup:*:autoScalingGroupName/g"},
		{"DeleteRule", js(ev, "AWSEvents.DeleteRule", `{"Name":"r"}`), "events:DeleteRule arn:aws:events:us-east-1:111122223333:rule/r"},
		{"StartExecution", call(t, "POST "+sfn+"/", []string{"Content-Type: application/x-amz-json-1.0", "X-Amz-Target: AWSStepFunctions.StartExecution"}, `{"stateMachineArn":"arn:aws:states:us-east-1:111122223333:stateMachine:m"}`), "states:StartExecution arn:aws:states:us-east-1:111122223333:stateMachine:m"},
		{"DeleteAlarms", form(cw, "Action=DeleteAlarms&Version=2010-08-01&AlarmNames.member.1=a"), "cloudwatch:DeleteAlarms arn:aws:cloudwatch:us-east-1:111122223333:alarm:a"},
		{"DeleteAlarms, CBOR", call(t, "POST "+cw+"/service/GraniteServiceVersion20100801/operation/DeleteAlarms", []string{"Smithy-Protocol: rpc-v2-cbor", "Content-Type: application/cbor"}, "\xa1\x6aAlarmNames\x82\x61a\x61b"),
			"cloudwatch:DeleteAlarms arn:aws:cloudwatch:us-east-1:111122223333:alarm:a arn:aws:cloudwatch:us-east-1:111122223333:alarm:b"},
		{"PutRecord", js(kin, "Kinesis_20131202.PutRecord", `{"StreamName":"s"}`), "kinesis:PutRecord arn:aws:kinesis:us-east-1:111122223333:stream/s"},
		{"StartJobRun", js(glue, "AWSGlue.StartJobRun", `{"JobName":"j"}`), "glue:StartJobRun arn:aws:glue:us-east-1:111122223333:job/j"},
		{"StartQueryExecution", js(ath, "AmazonAthena.StartQueryExecution", `{"QueryString":"x","WorkGroup":"w"}`), "athena:StartQueryExecution arn:aws:athena:us-east-1:111122223333:workgroup/w"},
		{"ChangeResourceRecordSets", xml("POST "+r53+"/2013-04-01/hostedzone/Z1/rrset/", `<ChangeResourceRecordSetsRequest/>`), "route53:ChangeResourceRecordSets arn:aws:route53:::hostedzone/Z1"},
		{"GetDistribution", xml("GET "+cf+"/2020-05-31/distribution/E1", ""), "cloudfront:GetDistribution arn:aws:cloudfront::111122223333:distribution/E1"},
		{"GetRestApi", rest("GET "+apigw+"/restapis/r", ""), "apigateway:GET arn:aws:apigateway:us-east-1::/restapis/r"},
		{"CreateApi", rest("POST "+apigw+"/v2/apis", `{"name":"a","protocolType":"HTTP"}`), "apigateway:POST arn:aws:apigateway:us-east-1::/v2/apis"},
	} {
		if got := needsOf(c.call); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

func TestConditions(t *testing.T) {
	pick := func(c *Call, keys ...string) string {
		var out []string
		for k, v := range c.Conditions {
			if strings.HasPrefix(k, "aws:secure") || strings.HasPrefix(k, "aws:via") || k == "s3:authtype" || k == "s3:signatureversion" {
				continue
			}
			out = append(out, fmt.Sprintf("%s=%s", k, strings.Join(v, ",")))
		}
		for _, k := range keys {
			if slices.Contains(c.UnknownConditions, k) {
				out = append(out, k+" unknown")
			}
		}
		slices.Sort(out)
		return strings.Join(out, " ")
	}
	for name, c := range map[string]struct{ got, want string }{
		"list": {pick(call(t, "GET bucket.s3.eu-west-1.amazonaws.com/?list-type=2&prefix=home%2F&delimiter=%2F&max-keys=5", []string{"User-Agent: x"}, ""), "s3:prefix", "s3:tlsversion"),
			"aws:requestedregion=eu-west-1 aws:useragent=x s3:delimiter=/ s3:max-keys=5 s3:prefix=home/ s3:tlsversion unknown"},
		"list without a prefix": {pick(call(t, "GET bucket.s3.eu-west-1.amazonaws.com/?list-type=2", nil, ""), "s3:prefix"), "aws:requestedregion=eu-west-1"},
		"list with a raw plus":  {pick(call(t, "GET bucket.s3.eu-west-1.amazonaws.com/?prefix=a+b", nil, ""), "s3:prefix"), "aws:requestedregion=eu-west-1 s3:prefix unknown"},
		"put": {pick(call(t, "PUT bucket.s3.eu-west-1.amazonaws.com/k", []string{"X-Amz-Acl: public-read", "X-Amz-Server-Side-Encryption: aws:kms", "X-Amz-Tagging: a=b%20c&D=e"}, "")),
			"aws:requestedregion=eu-west-1 s3:requestobjecttag/a=b c s3:requestobjecttag/d=e s3:requestobjecttagkeys=a,D s3:x-amz-acl=public-read s3:x-amz-server-side-encryption=aws:kms"},
		"run instances": {pick(call(t, "POST ec2.us-east-1.amazonaws.com/", formHeader, "Action=RunInstances&Version=2016-11-15&InstanceType=t3.micro&TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=Team&TagSpecification.1.Tag.1.Value=x"), "ec2:instancetype", "ec2:tenancy"),
			"aws:requestedregion=us-east-1 aws:requesttag/team=x aws:tagkeys=Team ec2:instancetype=t3.micro ec2:region=us-east-1 ec2:tenancy unknown"},
		"run instances from a template": {pick(call(t, "POST ec2.us-east-1.amazonaws.com/", formHeader, "Action=RunInstances&Version=2016-11-15"), "ec2:instancetype"),
			"aws:requestedregion=us-east-1 ec2:instancetype unknown ec2:region=us-east-1"},
		"encrypt": {pick(call(t, "POST kms.us-east-1.amazonaws.com/", json11("TrentService.Encrypt"), `{"KeyId":"alias/a","EncryptionContext":{"App":"x"}}`)),
			"aws:requestedregion=us-east-1 kms:encryptioncontext:app=x kms:encryptioncontextkeys=App kms:requestalias=alias/a"},
		"leading key":                 {pick(call(t, "POST dynamodb.us-east-1.amazonaws.com/", json11("DynamoDB_20120810.GetItem"), `{"TableName":"t","Key":{"id":{"S":"u1"}}}`), "dynamodb:leadingkeys"), "aws:requestedregion=us-east-1 dynamodb:attributes=id dynamodb:leadingkeys=u1"},
		"which key leads is not said": {pick(call(t, "POST dynamodb.us-east-1.amazonaws.com/", json11("DynamoDB_20120810.GetItem"), `{"TableName":"t","Key":{"id":{"S":"u1"},"at":{"N":"1"}}}`), "dynamodb:leadingkeys"), "aws:requestedregion=us-east-1 dynamodb:attributes=at,id dynamodb:leadingkeys unknown"},
		"tags of a map": {pick(call(t, "POST lambda.us-east-1.amazonaws.com/2017-03-31/tags/arn%3Aaws%3Alambda%3Aus-east-1%3A111122223333%3Afunction%3Af", []string{"Content-Type: application/json"}, `{"Tags":{"a":"b"}}`)),
			"aws:requestedregion=us-east-1 aws:requesttag/a=b aws:tagkeys=a"},
		"tag keys to remove": {pick(call(t, "DELETE lambda.us-east-1.amazonaws.com/2017-03-31/tags/arn%3Aaws%3Alambda%3Aus-east-1%3A111122223333%3Afunction%3Af?tagKeys=a", nil, "")), "aws:requestedregion=us-east-1 aws:tagkeys=a"},
		"passed role":        {fmt.Sprint(call(t, "POST lambda.us-east-1.amazonaws.com/2015-03-31/functions", []string{"Content-Type: application/json"}, `{"FunctionName":"f","Role":"arn:aws:iam::111122223333:role/R"}`).Needs[1].Conditions), "map[iam:passedtoservice:[lambda.amazonaws.com]]"},
	} {
		if c.got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", name, c.got, c.want)
		}
	}
}

func TestAccessLevelIsTheMostPowerful(t *testing.T) {
	for line, want := range map[string]string{
		"GET bucket.s3.us-east-1.amazonaws.com/key":     "Read",
		"GET bucket.s3.us-east-1.amazonaws.com/":        "List",
		"PUT bucket.s3.us-east-1.amazonaws.com/key":     "Write",
		"PUT bucket.s3.us-east-1.amazonaws.com/?policy": "Permissions management",
		"PUT bucket.s3.us-east-1.amazonaws.com/key?acl": "Permissions management",
	} {
		if c := call(t, line, nil, ""); c.AccessLevel != want {
			t.Errorf("%s: %q, want %q (%s)", line, c.AccessLevel, want, c.Unknown)
		}
	}
	if c := call(t, "PUT bucket.s3.us-east-1.amazonaws.com/key", []string{"X-Amz-Acl: public-read"}, ""); c.AccessLevel != "Permissions management" {
		t.Errorf("an upload with an ACL: %q", c.AccessLevel)
	}
	if c := call(t, "POST sts.us-east-1.amazonaws.com/", formHeader, "Action=GetCallerIdentity&Version=2011-06-15"); c.AccessLevel != "Read" || !reflect.DeepEqual(c.Needs, []Need(nil)) || c.Unknown != "" {
		t.Errorf("GetCallerIdentity: %+v", c)
	}
}
