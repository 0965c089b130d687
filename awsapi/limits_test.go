package awsapi

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// many writes n parts, joined by sep. %d in a part stands for its number.
func many(n int, part, sep string) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteString(sep)
		}
		b.WriteString(strings.ReplaceAll(part, "%d", fmt.Sprint(i+1)))
	}
	return b.String()
}

// A body of some megabytes may name a million things. Work and memory stay within
// bounds, and what was not looked at is not allowed by a policy that would have to.
func TestBodiesThatNameTooMuchAreNotUnderstood(t *testing.T) {
	const iam = "Action=TagRole&RoleName=r&Version=2010-05-08&"
	for name, c := range map[string]*Call{
		"names":           call(t, ssmHost, json11("AmazonSSM.GetParameters"), `{"Names":[`+many(maxValues+1, `"p%d"`, ",")+`]}`),
		"members of maps": call(t, ddbHost, json11("DynamoDB_20120810.PutItem"), `{"TableName":"t","Item":{`+many(maxValues+1, `"a%d":{"S":""}`, ",")+`}}`),
		"elements":        call(t, "POST b.s3.us-east-1.amazonaws.com/?delete", nil, "<Delete>"+many(maxValues/2+1, "<Object><Key>%d</Key></Object>", "")+"</Delete>"),
		"tags of a form":  call(t, "POST iam.amazonaws.com/", formHeader, iam+many(maxValues/2+1, "Tags.member.%d.Key=k%d", "&")),
		"parameters":      call(t, "POST iam.amazonaws.com/", formHeader, iam+many(maxPairs, "x%d=", "&")),
		"CBOR": call(t, "POST monitoring.us-east-1.amazonaws.com/service/GraniteServiceVersion20100801/operation/DeleteAlarms",
			[]string{"Smithy-Protocol: rpc-v2-cbor", "Content-Type: application/cbor"}, "\xa1\x6aAlarmNames\x9f"+strings.Repeat("\x61a", maxValues+1)+"\xff"),
	} {
		if c.Unknown != errMany.Error() || c.Ambiguous || c.Needs != nil {
			t.Errorf("%s: %q, ambiguous %v, %d needs", name, c.Unknown, c.Ambiguous, len(c.Needs))
		}
	}
}

// What is within the bounds is judged whole.
func TestLongListsAreJudgedWhole(t *testing.T) {
	const n = maxValues - 10
	var want []string
	for i := range n {
		want = append(want, fmt.Sprint("arn:aws:ssm:us-east-1:111122223333:parameter/p", i+1))
	}
	c := call(t, ssmHost, json11("AmazonSSM.GetParameters"), `{"Names":[`+many(n, `"p%d"`, ",")+`]}`)
	if c.Unknown != "" || len(c.Needs) != 1 || !reflect.DeepEqual(c.Needs[0].Resources, want) {
		t.Errorf("%q: %d needs, %d resources", c.Unknown, len(c.Needs), len(c.Resources()))
	}
}
