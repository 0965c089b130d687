package awsapi

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// specialPaths are members that the code of an operation asks for, beside
// those of the tables. "a+b" is a pair: a key and the value beside it. The
// operation "*" stands for those of the model that are not named.
var specialPaths = map[string][]string{
	"s3:DeleteObjects":        {"x:Object.Key+x:Object.VersionId"},
	"s3:CreateBucket":         {"x:Tags.Tag.Key+x:Tags.Tag.Value", "x:LocationConstraint"},
	"s3:PutBucketTagging":     {"x:TagSet.Tag.Key+x:TagSet.Tag.Value"},
	"s3:PutObjectTagging":     {"x:TagSet.Tag.Key+x:TagSet.Tag.Value"},
	"s3:PutObjectRetention":   {"x:Mode", "x:RetainUntilDate"},
	"s3:PutObjectLegalHold":   {"x:Status"},
	"s3:PutBucketReplication": {"x:Role"},

	"cloudformation:*": {"f:StackName"},
	"sqs:*":            {"j:QueueUrl,f:QueueUrl"},
	"secretsmanager:*": {"j:SecretId", "j:Name"},
	"kms:*":            {"j:KeyId", "j:EncryptionContext"},
	"kms:ReEncrypt":    {"j:SourceKeyId", "j:DestinationKeyId", "j:SourceEncryptionContext", "j:DestinationEncryptionContext"},
	"kms:CreateAlias":  {"j:TargetKeyId", "j:AliasName"},
	"kms:UpdateAlias":  {"j:TargetKeyId", "j:AliasName"},
	"kms:DeleteAlias":  {"j:AliasName"},
	"sns:Publish":      {"f:TopicArn", "f:TargetArn", "f:PhoneNumber"},
	"ssm:GetParameter": {"j:Name"}, "ssm:GetParameters": {"j:Names"}, "ssm:GetParameterHistory": {"j:Name"},
	"ec2:*":          {"f:TagSpecification.#.ResourceType"},
	"ec2:CreateTags": {"f:ResourceId.#"}, "ec2:DeleteTags": {"f:ResourceId.#"},
	"iam:CreateRole": {"f:RoleName", "f:Path"}, "iam:CreateUser": {"f:UserName", "f:Path"}, "iam:CreateGroup": {"f:GroupName", "f:Path"},
	"iam:CreatePolicy": {"f:PolicyName", "f:Path"}, "iam:CreateInstanceProfile": {"f:InstanceProfileName", "f:Path"},
	"iam:AddRoleToInstanceProfile": {"f:RoleName"},

	"sts:AssumeRole": {"f:Tags.member.#.Key", "f:SourceIdentity"}, "sts:GetFederationToken": {"f:Tags.member.#.Key"},

	"events:DeleteRule": {"j:Name", "j:EventBusName"}, "events:DescribeRule": {"j:Name", "j:EventBusName"},
	"events:DisableRule": {"j:Name", "j:EventBusName"}, "events:EnableRule": {"j:Name", "j:EventBusName"},
	"events:PutRule": {"j:Name", "j:EventBusName"}, "events:PutTargets": {"j:Rule", "j:EventBusName"},
	"events:RemoveTargets": {"j:Rule", "j:EventBusName"}, "events:ListTargetsByRule": {"j:Rule", "j:EventBusName"},

	"dynamodb:GetItem":      dynamodbItemPaths("j:Key"),
	"dynamodb:DeleteItem":   dynamodbItemPaths("j:Key"),
	"dynamodb:UpdateItem":   dynamodbItemPaths("j:Key"),
	"dynamodb:PutItem":      dynamodbItemPaths("j:Item"),
	"dynamodb:BatchGetItem": {"j:RequestItems"}, "dynamodb:BatchWriteItem": {"j:RequestItems"},
	"dynamodb:TransactGetItems": {"j:TransactItems.Get.TableName"},
	"dynamodb:TransactWriteItems": {"j:TransactItems.ConditionCheck.TableName", "j:TransactItems.Delete.TableName",
		"j:TransactItems.Put.TableName", "j:TransactItems.Update.TableName"},
	"dynamodb:ExecuteStatement": {"j:Statement"}, "dynamodb:BatchExecuteStatement": {"j:Statements.Statement"},
	"dynamodb:ExecuteTransaction": {"j:TransactStatements.Statement"},
	"dynamodb:Query":              append(dynamodbItemPaths("j:ExclusiveStartKey"), "j:TableName", "j:IndexName"),
	"dynamodb:Scan":               {"j:TableName", "j:IndexName"},

	"bedrock-runtime:StartAsyncInvoke": {"j:modelId"},
}

func specialPathsOf(model, operation string) []string {
	if p, ok := specialPaths[model+":"+operation]; ok {
		return p
	}
	if _, ok := specialNeeds[model+":*"]; ok && model != "ec2" {
		return specialPaths[model+":*"]
	}
	if model == "ec2" {
		return specialPaths["ec2:*"]
	}
	return nil
}

// specialNeeds are the operations whose permissions depend on more than the
// names in the request. Each takes the needs of the tables and gives what
// takes their place.
var specialNeeds map[string]func(rq *request, c *Call, m match, needs []Need) ([]Need, error)

func init() {
	// Set here, since specialPathsOf would otherwise refer to itself.
	specialNeeds = map[string]func(rq *request, c *Call, m match, needs []Need) ([]Need, error){
		"cloudformation:*":             stack,
		"sqs:*":                        sqsQueue,
		"secretsmanager:*":             secret,
		"kms:*":                        kmsKey,
		"kms:ReEncrypt":                kmsReEncrypt,
		"kms:CreateAlias":              kmsAlias,
		"kms:UpdateAlias":              kmsAlias,
		"kms:DeleteAlias":              kmsAlias,
		"sns:Publish":                  snsPublish,
		"ssm:GetParameter":             ssmParameter,
		"ssm:GetParameters":            ssmParameter,
		"ssm:GetParameterHistory":      ssmParameter,
		"lambda:*":                     lambdaFunction,
		"logs:*":                       logGroup,
		"ec2:*":                        ec2Tags,
		"ec2:CreateTags":               ec2TagTargets,
		"ec2:DeleteTags":               ec2TagTargets,
		"iam:CreateRole":               iamCreate("role"),
		"iam:CreateUser":               iamCreate("user"),
		"iam:CreateGroup":              iamCreate("group"),
		"iam:CreatePolicy":             iamCreate("policy"),
		"iam:CreateInstanceProfile":    iamCreate("instance-profile"),
		"iam:AddRoleToInstanceProfile": iamAddRole,
		"sts:AssumeRole":               stsSession,
		"sts:GetFederationToken":       stsSession,
		"events:DeleteRule":            eventsRule,
		"events:DescribeRule":          eventsRule,
		"events:DisableRule":           eventsRule,
		"events:EnableRule":            eventsRule,
		"events:PutRule":               eventsRule,
		"events:PutTargets":            eventsRule,
		"events:RemoveTargets":         eventsRule,
		"events:ListTargetsByRule":     eventsRule,
		"dynamodb:GetItem":             dynamodbItem,
		"dynamodb:DeleteItem":          dynamodbItem,
		"dynamodb:UpdateItem":          dynamodbItem,
		"dynamodb:PutItem":             dynamodbItem,
		"dynamodb:BatchGetItem":        dynamodbBatch,
		"dynamodb:BatchWriteItem":      dynamodbBatch,
		"dynamodb:TransactGetItems":    dynamodbTransact,
		"dynamodb:TransactWriteItems":  dynamodbTransact,
		"dynamodb:ExecuteStatement":    dynamodbStatement, "dynamodb:BatchExecuteStatement": dynamodbStatement,
		"dynamodb:ExecuteTransaction": dynamodbStatement,
		"dynamodb:Query":              dynamodbQuery,
		"dynamodb:Scan":               dynamodbIndex,

		"bedrock-runtime:InvokeModel":                        bedrockModel,
		"bedrock-runtime:InvokeModelWithResponseStream":      bedrockModel,
		"bedrock-runtime:InvokeModelWithBidirectionalStream": bedrockModel,
		"bedrock-runtime:Converse":                           bedrockModel,
		"bedrock-runtime:ConverseStream":                     bedrockModel,
		"bedrock-runtime:CountTokens":                        bedrockModel,
		"bedrock-runtime:StartAsyncInvoke":                   bedrockModel,
	}
}

// arnOf builds an ARN in the account and region of a call.
func (c *Call) arnOf(service, resource string) (string, bool) {
	return "arn:" + c.Host.Partition + ":" + service + ":" + c.Region + ":" + orStar(c.AccountID) + ":" + resource,
		c.AccountID != "" && c.Region != ""
}

// put makes a need of one resource, or of a pattern where the ARN is not whole.
func put(action, arn string, whole bool) Need {
	if whole {
		return Need{Action: action, Resources: []string{arn}}
	}
	return Need{Action: action, ResourceUnknown: true, Patterns: []string{arn}}
}

// stack: a stack's ARN ends in an id which a request that names it leaves out.
func stack(rq *request, c *Call, m match, needs []Need) ([]Need, error) {
	values, st := rq.get(m.op.special[0])
	if st == absent || len(needs) != 1 || !(needs[0].ResourceUnknown || slices.Equal(needs[0].Resources, []string{"*"})) {
		return needs, nil
	}
	if st == odd || len(values) != 1 {
		return []Need{{Action: needs[0].Action, ResourceUnknown: true}}, nil
	}
	if v := values[0]; strings.HasPrefix(v, "arn:") {
		f := strings.SplitN(v, ":", 6)
		if len(f) == 6 && f[2] == "cloudformation" && strings.HasPrefix(f[5], "stack/") {
			return []Need{put(needs[0].Action, v, true)}, nil
		}
		return []Need{{Action: needs[0].Action, ResourceUnknown: true}}, nil
	}
	arn, _ := c.arnOf("cloudformation", "stack/"+values[0]+"/*")
	return []Need{put(needs[0].Action, arn, false)}, nil
}

// sqsQueue reads the queue from its URL: https://HOST/ACCOUNT/NAME.
func sqsQueue(rq *request, c *Call, m match, needs []Need) ([]Need, error) {
	values, st := rq.get(m.op.special[0])
	if st == absent {
		return needs, nil
	}
	unknown := []Need{{Action: needs[0].Action, ResourceUnknown: true}}
	if st == odd || len(values) != 1 {
		return unknown, nil
	}
	u, err := url.Parse(values[0])
	if err != nil || u.RawQuery != "" || u.Fragment != "" || u.RawPath != "" {
		return unknown, nil
	}
	f := strings.Split(u.Path, "/")
	if len(f) != 3 || f[0] != "" || !isAccount(f[1]) || f[2] == "" {
		return unknown, nil
	}
	if h, v := LookupHost(u.Hostname()); v == HostAPI && (h.Service != "sqs" || h.Region != c.Region) {
		return unknown, nil // the service might take the region from the URL
	}
	arn := "arn:" + c.Host.Partition + ":sqs:" + c.Region + ":" + f[1] + ":" + f[2]
	return []Need{put(needs[0].Action, arn, c.Region != "")}, nil
}

// secret: a secret's ARN ends in six random characters, which a request that
// names it leaves out.
func secret(rq *request, c *Call, m match, needs []Need) ([]Need, error) {
	values, st := rq.get(m.op.special[0])
	if m.op.name == "CreateSecret" {
		values, st = rq.get(m.op.special[1])
	}
	if st == absent || len(needs) != 1 {
		return needs, nil
	}
	if st == odd || len(values) != 1 {
		return []Need{{Action: needs[0].Action, ResourceUnknown: true}}, nil
	}
	v := values[0]
	if strings.HasPrefix(v, "arn:") {
		f := strings.SplitN(v, ":", 7)
		if len(f) != 7 || f[2] != "secretsmanager" || f[5] != "secret" {
			return []Need{{Action: needs[0].Action, ResourceUnknown: true}}, nil
		}
		if i := len(v) - 7; v[i] == '-' && allIn(v[i+1:], func(b byte) bool { return isLower(b) || isDigit(b) || 'A' <= b && b <= 'Z' }) {
			return []Need{{Action: needs[0].Action, Resources: []string{v}, Patterns: []string{v + "-??????"}}}, nil
		}
		return []Need{put(needs[0].Action, v+"-??????", false)}, nil
	}
	arn, _ := c.arnOf("secretsmanager", "secret:"+v+"-??????")
	return []Need{put(needs[0].Action, arn, false)}, nil
}

// kmsKeyNeed works out which key a KeyId means. An alias does not say.
func kmsKeyNeed(rq *request, c *Call, action string, at member) Need {
	any, _ := c.arnOf("kms", "key/*")
	values, st := rq.get(at)
	if st != present || len(values) != 1 {
		// Without a key it is the one that the text was encrypted under, which
		// may be in any account.
		return Need{Action: action, ResourceUnknown: true}
	}
	v := values[0]
	switch {
	case strings.HasPrefix(v, "alias/"):
		c.Conditions["kms:requestalias"] = []string{v}
		return put(action, any, false)
	case strings.HasPrefix(v, "arn:"):
		f := strings.SplitN(v, ":", 6)
		if len(f) == 6 && f[2] == "kms" && strings.HasPrefix(f[5], "key/") {
			return put(action, v, true)
		}
		if len(f) == 6 && f[2] == "kms" && strings.HasPrefix(f[5], "alias/") {
			c.Conditions["kms:requestalias"] = []string{f[5]}
			return put(action, strings.Join(f[:5], ":")+":key/*", false)
		}
		return Need{Action: action, ResourceUnknown: true}
	case strings.ContainsAny(v, ":/*?"):
		return Need{Action: action, ResourceUnknown: true}
	}
	arn, whole := c.arnOf("kms", "key/"+v)
	return put(action, arn, whole)
}

func kmsContext(rq *request, c *Call, at member) {
	for _, w := range at {
		if rq.found == nil || w.kind != rq.kind {
			continue
		}
		for _, p := range rq.found.maps[w.index] {
			key := "kms:encryptioncontext:" + strings.ToLower(p[0])
			c.Conditions[key] = append(c.Conditions[key], p[1])
			c.Conditions["kms:encryptioncontextkeys"] = append(c.Conditions["kms:encryptioncontextkeys"], p[0])
		}
	}
}

func kmsKey(rq *request, c *Call, m match, needs []Need) ([]Need, error) {
	kmsContext(rq, c, m.op.special[1])
	_, st := rq.get(m.op.special[0])
	if st == absent && m.op.name != "Decrypt" || len(needs) != 1 {
		return needs, nil
	}
	return []Need{kmsKeyNeed(rq, c, needs[0].Action, m.op.special[0])}, nil
}

func kmsReEncrypt(rq *request, c *Call, m match, _ []Need) ([]Need, error) {
	kmsContext(rq, c, m.op.special[2])
	kmsContext(rq, c, m.op.special[3])
	return []Need{
		kmsKeyNeed(rq, c, "kms:ReEncryptFrom", m.op.special[0]),
		kmsKeyNeed(rq, c, "kms:ReEncryptTo", m.op.special[1]),
	}, nil
}

// kmsAlias: an alias is changed by leave of both the alias and its key.
func kmsAlias(rq *request, c *Call, m match, needs []Need) ([]Need, error) {
	name, st := rq.get(m.op.special[len(m.op.special)-1])
	if st != present || len(name) != 1 || !strings.HasPrefix(name[0], "alias/") {
		return []Need{{Action: needs[0].Action, ResourceUnknown: true}}, nil
	}
	arn, whole := c.arnOf("kms", name[0])
	out := []Need{put(needs[0].Action, arn, whole)}
	key := Need{Action: needs[0].Action, ResourceUnknown: true}
	if len(m.op.special) == 2 {
		key = kmsKeyNeed(rq, c, needs[0].Action, m.op.special[0])
	} else {
		any, _ := c.arnOf("kms", "key/*")
		key.Patterns = []string{any}
	}
	return append(out, key), nil
}

func snsPublish(rq *request, c *Call, m match, needs []Need) ([]Need, error) {
	n := Need{Action: needs[0].Action}
	for _, at := range m.op.special[:2] {
		values, st := rq.get(at)
		n.ResourceUnknown = n.ResourceUnknown || st == odd
		for _, v := range values {
			if strings.HasPrefix(v, "arn:") && strings.Count(v, ":") >= 5 {
				n.add(v)
			} else {
				n.ResourceUnknown = true
			}
		}
	}
	if _, st := rq.get(m.op.special[2]); st != absent {
		n.add("*") // a text message has no resource
	}
	if len(n.Resources) == 0 {
		n.ResourceUnknown = true
	}
	return []Need{n}, nil
}

// ssmParameter: a name may end in ":VERSION" or ":LABEL".
func ssmParameter(rq *request, c *Call, m match, needs []Need) ([]Need, error) {
	n := Need{Action: needs[0].Action}
	values, st := rq.get(m.op.special[0])
	if st != present {
		n.open("*")
	}
	for _, v := range values {
		if strings.HasPrefix(v, "arn:") {
			f := strings.SplitN(v, ":", 7)
			if len(f) < 6 || f[2] != "ssm" || !strings.HasPrefix(f[5], "parameter") {
				n.open("*")
				continue
			}
			n.add(strings.Join(f[:6], ":"))
			continue
		}
		name, _, _ := strings.Cut(v, ":")
		arn, whole := c.arnOf("ssm", "parameter/"+strings.TrimPrefix(name, "/"))
		if !whole || name == "" {
			n.open(arn)
			continue
		}
		n.add(arn)
	}
	return []Need{n}, nil
}

// lambdaFunction reads the four ways to name a function: NAME, NAME:QUALIFIER,
// ACCOUNT:function:NAME and the ARN, with or without a qualifier.
func lambdaFunction(rq *request, c *Call, m match, needs []Need) ([]Need, error) {
	name, ok := rq.labels["FunctionName"]
	if !ok || len(needs) != 1 {
		return needs, nil
	}
	unknown := []Need{{Action: needs[0].Action, ResourceUnknown: true}}
	region, account := c.Region, c.AccountID
	f := strings.Split(name, ":")
	if f[0] == "arn" {
		if len(f) < 7 || len(f) > 8 || f[2] != "lambda" || f[5] != "function" {
			return []Need{{Action: needs[0].Action, ResourceUnknown: true}}, nil
		}
		region, account, f = f[3], f[4], f[6:]
	} else if len(f) >= 3 && f[1] == "function" {
		account, f = f[0], f[2:]
	}
	if len(f) > 2 || f[0] == "" || !isAccount(account) || region == "" {
		return unknown, nil
	}
	qualifier := ""
	if len(f) == 2 {
		qualifier = f[1]
	}
	if slices.Contains(rq.query.twice, "Qualifier") {
		return nil, parameterTwice("Qualifier")
	}
	if q, ok := rq.query.get("Qualifier"); ok && q != "" {
		if qualifier != "" && qualifier != q {
			return nil, errors.New("the function's name and Qualifier name two versions")
		}
		qualifier = q
	}
	arn := "arn:" + c.Host.Partition + ":lambda:" + region + ":" + account + ":function:" + f[0]
	if qualifier != "" {
		arn += ":" + qualifier
	}
	return []Need{put(needs[0].Action, arn, true)}, nil
}

// logGroup: CloudWatch Logs judges actions on a group by the ARN of its
// streams without a name, so that policies end in ":*".
func logGroup(_ *request, _ *Call, m match, needs []Need) ([]Need, error) {
	for i := range needs {
		for j, arn := range needs[i].Resources {
			if f := strings.Split(arn, ":"); len(f) == 7 && f[2] == "logs" && f[5] == "log-group" {
				needs[i].Resources[j] = arn + ":log-stream:"
			}
		}
	}
	return needs, nil
}

// ec2Tags adds the right to tag what is made.
func ec2Tags(rq *request, c *Call, m match, needs []Need) ([]Need, error) {
	types, st := rq.get(m.op.special[0])
	if st == absent {
		return needs, nil
	}
	n := Need{Action: "ec2:CreateTags", ResourceUnknown: true, Conditions: map[string][]string{"ec2:createaction": {m.op.name}}}
	for _, t := range types {
		if st == odd || !allIn(t, isLDH) {
			return nil, errOddTags
		}
		arn, _ := c.arnOf("ec2", t+"/*")
		n.Patterns = appendNew(n.Patterns, arn)
	}
	return append(needs, n), nil
}

// ec2Types maps the prefix of an id to the type in its ARN.
var ec2Types = map[string]string{
	"acl": "network-acl", "ami": "image", "cgw": "customer-gateway", "cr": "capacity-reservation", "dopt": "dhcp-options",
	"eigw": "egress-only-internet-gateway", "eipalloc": "elastic-ip", "eni": "network-interface", "fl": "vpc-flow-log", "fleet": "fleet",
	"h": "dedicated-host", "i": "instance", "igw": "internet-gateway", "key": "key-pair", "lt": "launch-template", "nat": "natgateway",
	"pcx": "vpc-peering-connection", "pg": "placement-group", "pl": "prefix-list", "rtb": "route-table", "sg": "security-group",
	"sgr": "security-group-rule", "snap": "snapshot", "subnet": "subnet", "tgw": "transit-gateway", "tgw-attach": "transit-gateway-attachment",
	"tgw-rtb": "transit-gateway-route-table", "vgw": "vpn-gateway", "vol": "volume", "vpc": "vpc", "vpce": "vpc-endpoint",
	"vpce-svc": "vpc-endpoint-service", "vpn": "vpn-connection",
}

func ec2TagTargets(rq *request, c *Call, m match, needs []Need) ([]Need, error) {
	n := Need{Action: needs[0].Action}
	ids, st := rq.get(m.op.special[0])
	n.ResourceUnknown = st != present
	for _, id := range ids {
		i := strings.LastIndexByte(id, '-')
		if i < 0 || !allIn(id[i+1:], func(b byte) bool { return isLower(b) || isDigit(b) }) {
			n.ResourceUnknown = true
			continue
		}
		kind := ec2Types[id[:i]]
		if kind == "" {
			n.ResourceUnknown = true
			continue
		}
		arn, whole := c.arnOf("ec2", kind+"/"+id)
		if kind == "image" || kind == "snapshot" { // these belong to no account
			arn, whole = "arn:"+c.Host.Partition+":ec2:"+c.Region+"::"+kind+"/"+id, c.Region != ""
		}
		if !whole {
			n.ResourceUnknown = true
			continue
		}
		n.add(arn)
	}
	return []Need{n}, nil
}

// iamCreate: what is made has the path that the request gives.
func iamCreate(kind string) func(*request, *Call, match, []Need) ([]Need, error) {
	return func(rq *request, c *Call, m match, needs []Need) ([]Need, error) {
		name, st := rq.get(m.op.special[0])
		path, pst := rq.get(m.op.special[1])
		if st != present || len(name) != 1 || pst == odd || len(path) > 1 {
			return []Need{{Action: needs[0].Action, ResourceUnknown: true}}, nil
		}
		p := "/"
		if len(path) == 1 && path[0] != "" {
			p = path[0]
		}
		if !strings.HasPrefix(p, "/") || !strings.HasSuffix(p, "/") {
			return nil, fmt.Errorf("the path %.64q of the new %s does not begin and end with a slash", p, kind)
		}
		arn := "arn:" + c.Host.Partition + ":iam::" + orStar(c.AccountID) + ":" + kind + p + name[0]
		return []Need{put(needs[0].Action, arn, c.AccountID != "")}, nil
	}
}

func iamAddRole(rq *request, c *Call, m match, needs []Need) ([]Need, error) {
	role, st := rq.get(m.op.special[0])
	if st != present || len(role) != 1 {
		return append(needs, Need{Action: "iam:PassRole", ResourceUnknown: true}), nil
	}
	arn := "arn:" + c.Host.Partition + ":iam::" + orStar(c.AccountID) + ":role/"
	n := put("iam:PassRole", arn+role[0], c.AccountID != "")
	n.Patterns = append(n.Patterns, arn+"*/"+role[0])
	n.Conditions = map[string][]string{"iam:passedtoservice": {"ec2.amazonaws.com"}}
	return append(needs, n), nil
}

// stsSession: whoever gives a session tags, or a source identity, needs the right to
// that as well (IAM User Guide, "Pass session tags in AWS STS").
func stsSession(rq *request, _ *Call, m match, needs []Need) ([]Need, error) {
	out := slices.Clone(needs)
	for i, action := range []string{"sts:TagSession", "sts:SetSourceIdentity"}[:len(m.op.special)] {
		if _, st := rq.get(m.op.special[i]); st == absent {
			continue
		}
		for _, n := range needs {
			n.Action = action
			out = append(out, n)
		}
	}
	return out, nil
}

// eventsRule: a rule's ARN holds its bus, unless that is the default one.
func eventsRule(rq *request, c *Call, m match, needs []Need) ([]Need, error) {
	name, st := rq.get(m.op.special[0])
	bus, bst := rq.get(m.op.special[1])
	if st != present || len(name) != 1 || bst == odd || len(bus) > 1 || strings.ContainsAny(name[0], ":/") {
		return []Need{{Action: needs[0].Action, ResourceUnknown: true}}, nil
	}
	path := ""
	if len(bus) == 1 && bus[0] != "default" {
		b := bus[0]
		if strings.HasPrefix(b, "arn:") {
			f := strings.SplitN(b, ":", 6)
			if len(f) != 6 || f[2] != "events" || !strings.HasPrefix(f[5], "event-bus/") {
				return []Need{{Action: needs[0].Action, ResourceUnknown: true}}, nil
			}
			if path = strings.TrimPrefix(f[5], "event-bus/") + "/"; path == "default/" {
				path = ""
			}
			return []Need{put(needs[0].Action, strings.Join(f[:5], ":")+":rule/"+path+name[0], true)}, nil
		}
		path = b + "/"
	}
	arn, whole := c.arnOf("events", "rule/"+path+name[0])
	return []Need{put(needs[0].Action, arn, whole)}, nil
}
