package awsapi

// specialPaths are members that the code of an operation asks for, beside
// those of the tables. "a+b" is a pair: a key and the value beside it.
var specialPaths = map[string][]string{
	"s3:DeleteObjects":        {"x:Object.Key+x:Object.VersionId"},
	"s3:CreateBucket":         {"x:Tags.Tag.Key+x:Tags.Tag.Value", "x:LocationConstraint"},
	"s3:PutBucketTagging":     {"x:TagSet.Tag.Key+x:TagSet.Tag.Value"},
	"s3:PutObjectTagging":     {"x:TagSet.Tag.Key+x:TagSet.Tag.Value"},
	"s3:PutObjectRetention":   {"x:Mode", "x:RetainUntilDate"},
	"s3:PutObjectLegalHold":   {"x:Status"},
	"s3:PutBucketReplication": {"x:Role"},
}

// specialNeeds are the operations whose permissions depend on more than the
// names in the request. They take the place of the tables.
var specialNeeds = map[string]func(rq *request, c *Call, m match) ([]Need, error){}
