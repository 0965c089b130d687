package awsapi

import (
	"fmt"
	"strings"
	"testing"
)

func twoKiB() string {
	var b strings.Builder
	b.WriteString(`{"TableName":"orders","Item":{"id":{"S":"order-1"}`)
	for i := 0; b.Len() < 2000; i++ {
		fmt.Fprintf(&b, `,"attribute%d":{"S":"value number %d"}`, i, i)
	}
	b.WriteString(`}}`)
	return b.String()
}

func benchmarkIdentify(b *testing.B, in Input) {
	if c := Identify(in); c.Unknown != "" {
		b.Fatal(c.Unknown)
	}
	b.ReportAllocs()
	for b.Loop() {
		Identify(in)
	}
}

func BenchmarkIdentifyJSON2KiB(b *testing.B) {
	benchmarkIdentify(b, input(b, "POST sqs.us-east-1.amazonaws.com/", json11("AmazonSQS.SendMessage"),
		`{"QueueUrl":"https://sqs.us-east-1.amazonaws.com/111122223333/q","MessageBody":"`+strings.Repeat("x", 1900)+`"}`))
}

func BenchmarkIdentifyDynamoDB2KiB(b *testing.B) {
	benchmarkIdentify(b, input(b, ddbHost, json11("DynamoDB_20120810.PutItem"), twoKiB()))
}

func BenchmarkIdentifyDynamoDBGet(b *testing.B) {
	benchmarkIdentify(b, input(b, ddbHost, json11("DynamoDB_20120810.GetItem"), `{"TableName":"t","Key":{"id":{"S":"x"}}}`))
}

func BenchmarkIdentifyQuery(b *testing.B) {
	benchmarkIdentify(b, input(b, "POST ec2.us-east-1.amazonaws.com/", formHeader, "Action=DescribeInstances&Version=2016-11-15&InstanceId.1=i-1&Filter.1.Name=x&Filter.1.Value.1=y"))
}

func BenchmarkIdentifyREST(b *testing.B) {
	benchmarkIdentify(b, input(b, "POST lambda.us-east-1.amazonaws.com/2015-03-31/functions/f/invocations", []string{"Content-Type: application/json"}, ""))
}

func BenchmarkIdentifyS3Get(b *testing.B) {
	benchmarkIdentify(b, input(b, "GET bucket.s3.us-east-1.amazonaws.com/a/key?versionId=v", nil, ""))
}

func BenchmarkLookupHost(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, v := LookupHost("bucket.s3.eu-west-1.amazonaws.com"); v != HostAPI {
			b.Fatal("not found")
		}
	}
}

// BenchmarkFirstUse is what a process pays once: the host table, the archives,
// and the largest model.
func BenchmarkFirstUse(b *testing.B) {
	b.Run("hosts", func(b *testing.B) {
		for b.Loop() {
			if text := mustGunzip(hostsGz); len(text) == 0 {
				b.Fatal("empty")
			}
		}
	})
	b.Run("archive", func(b *testing.B) {
		for b.Loop() {
			openArchive(operationsZip)
		}
	})
	b.Run("ec2", func(b *testing.B) {
		a := openArchive(operationsZip)
		for b.Loop() {
			parseModel(a.text("ec2"))
		}
	})
	b.Run("dynamodb", func(b *testing.B) {
		a := openArchive(operationsZip)
		for b.Loop() {
			parseModel(a.text("dynamodb"))
		}
	})
}
