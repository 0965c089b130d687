package awsapi

import "testing"

func TestHandsOutKeys(t *testing.T) {
	for name, want := range map[[2]string][2]bool{
		{"iam", "CreateAccessKey"}:                        {true, true},
		{"IAM", "createaccesskey"}:                        {true, true},
		{"sts", "AssumeRole"}:                             {true, true},
		{"cognito-identity", "GetCredentialsForIdentity"}: {true, true},
		{"s3", "GetObject"}:                               {false, true},
		{"s3", "NoSuchCall"}:                              {false, false},
		{"nothing", "GetObject"}:                          {false, false},
		{"", ""}:                                          {false, false},
	} {
		if yes, known := HandsOutKeys(name[0], name[1]); yes != want[0] || known != want[1] {
			t.Errorf("%s:%s: %v, known %v", name[0], name[1], yes, known)
		}
	}
}
