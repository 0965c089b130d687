package awsapi

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// s3RequestKeys are the condition keys of S3 that a request determines: when
// it does not carry one, the key is absent rather than unknown.
var s3RequestKeys = func() map[string]bool {
	out := make(map[string]bool)
	for _, k := range s3HeaderKeys {
		out["s3:"+k] = true
	}
	for _, k := range []string{"prefix", "delimiter", "max-keys", "versionid", "locationconstraint", "requestobjecttag/*", "requestobjecttagkeys",
		"authtype", "signatureversion"} {
		out["s3:"+k] = true
	}
	return out
}()

// s3HeaderKeys are condition keys that are named after headers.
var s3HeaderKeys = []string{
	"x-amz-acl", "x-amz-content-sha256", "x-amz-copy-source", "x-amz-grant-full-control", "x-amz-grant-read", "x-amz-grant-read-acp",
	"x-amz-grant-write", "x-amz-grant-write-acp", "x-amz-metadata-directive", "x-amz-object-ownership", "x-amz-server-side-encryption",
	"x-amz-server-side-encryption-aws-kms-key-id", "x-amz-server-side-encryption-customer-algorithm", "x-amz-storage-class",
	"x-amz-website-redirect-location", "if-match", "if-none-match", "object-lock-mode", "object-lock-retain-until-date", "object-lock-legal-hold",
	"x-amz-bucket-namespace",
}

// s3Versioned maps actions to what they become when a version is named.
var s3Versioned = map[string]string{
	"s3:GetObject":           "s3:GetObjectVersion",
	"s3:GetObjectAcl":        "s3:GetObjectVersionAcl",
	"s3:GetObjectAttributes": "s3:GetObjectVersionAttributes",
	"s3:GetObjectTagging":    "s3:GetObjectVersionTagging",
	"s3:GetObjectTorrent":    "s3:GetObjectVersionTorrent",
	"s3:PutObjectAcl":        "s3:PutObjectVersionAcl",
	"s3:PutObjectTagging":    "s3:PutObjectVersionTagging",
	"s3:DeleteObject":        "s3:DeleteObjectVersion",
	"s3:DeleteObjectTagging": "s3:DeleteObjectVersionTagging",
}

func versioned(action string, version bool) string {
	if v := s3Versioned[action]; version && v != "" {
		return v
	}
	return action
}

// s3Resource returns the ARN of an object, or of its bucket when the key is
// "". It is open when the name does not say which bucket it is.
func s3Resource(c *Call, h Host, bucket, key string) (arn string, open bool) {
	partition := "arn:" + h.Partition + ":"
	point := func(service, region, account, name string) string {
		arn := partition + service + ":" + region + ":" + orStar(account) + ":accesspoint/" + name
		if key != "" && service != "s3-object-lambda" {
			arn += "/object/" + key
		}
		return arn
	}
	account := h.AccountID
	switch {
	case h.Service == "s3-object-lambda":
		return point("s3-object-lambda", c.Region, account, strings.TrimSuffix(bucket, "-"+account)), account == ""
	case h.Service == "s3-outposts":
		outpost := ""
		if f := strings.Split(h.Name, "."); len(f) > 1 {
			outpost = f[1]
		}
		arn := partition + "s3-outposts:" + c.Region + ":" + orStar(account) + ":outpost/" + outpost + "/accesspoint/" + strings.TrimSuffix(bucket, "-"+account)
		if key != "" {
			arn += "/object/" + key
		}
		return arn, account == "" || outpost == "ec2"
	case h.Service == "s3express":
		if strings.HasSuffix(bucket, "--xa-s3") {
			return partition + "s3express:" + c.Region + ":" + orStar(c.AccountID) + ":accesspoint/" + bucket, c.AccountID == ""
		}
		return partition + "s3express:" + c.Region + ":" + orStar(c.AccountID) + ":bucket/" + bucket, c.AccountID == ""
	case strings.HasSuffix(bucket, ".mrap") && h.RegionSet:
		return point("s3", "", c.AccountID, bucket), c.AccountID == ""
	case h.Bucket != "" && account != "":
		return point("s3", c.Region, account, strings.TrimSuffix(bucket, "-"+account)), false
	case strings.HasSuffix(bucket, "-s3alias") || strings.HasSuffix(bucket, "--ol-s3") || strings.HasSuffix(bucket, "--op-s3"):
		return "", true // an alias: the access point behind it is not named
	}
	arn = partition + "s3:::" + bucket
	if key != "" {
		arn += "/" + key
	}
	return arn, false
}

func s3Need(action, arn string, open bool) Need {
	n := Need{Action: action}
	switch {
	case !open:
		n.Resources = []string{arn}
	case arn != "":
		n.ResourceUnknown, n.Patterns = true, []string{arn}
	default:
		n.ResourceUnknown = true
	}
	return n
}

// describeS3 works out what an S3 call needs.
func (rq *request) describeS3(c *Call, m match) error {
	t, err := rq.s3TargetOf()
	if err != nil {
		return err
	}
	if err := rq.s3Body(m.op); err != nil {
		return err
	}
	rq.s3Conditions(c, m)
	if len(m.op.needs) == 0 {
		return fmt.Errorf("no IAM action is known for s3:%s", m.op.name)
	}
	action := m.op.needs[0].action
	service := rq.h.Service
	if service == "s3express" {
		return rq.s3Express(c, m, t, action)
	}
	arn, open := s3Resource(c, rq.h, t.bucket, t.key)
	version, _ := rq.query.get("versionId")
	has := func(header string) bool { return len(rq.head.Values(header)) > 0 }
	// What is neither "false" nor absent may count as true, and of several values
	// (a header, and a parameter of its name) any.
	asks := func(header string) bool {
		return slices.ContainsFunc(rq.head.Values(header), func(v string) bool { return !strings.EqualFold(v, "false") })
	}
	add := func(action string) { addNeeds(c, []Need{s3Need(action, arn, open)}) }

	switch m.op.name {
	case "ListBuckets", "ListDirectoryBuckets":
		c.Needs = []Need{{Action: action, Resources: []string{"*"}}}
		return nil
	case "WriteGetObjectResponse":
		c.Needs = []Need{{Action: action, ResourceUnknown: true}}
		return nil
	case "CreateSession":
		c.Needs = []Need{s3Need(action, "arn:"+rq.h.Partition+":s3express:"+c.Region+":"+orStar(c.AccountID)+":bucket/"+t.bucket, c.AccountID == "")}
		return nil
	case "PostObject":
		// The key is in the form, which is not read.
		addNeeds(c, []Need{{Action: action, ResourceUnknown: true, Patterns: []string{arn + "/*"}}})
		for k := range s3RequestKeys {
			c.UnknownConditions = append(c.UnknownConditions, k)
		}
		slices.Sort(c.UnknownConditions)
		return nil
	case "DeleteObjects":
		if err := rq.s3Deletes(c, m.op, t.bucket); err != nil {
			return err
		}
	case "CopyObject", "UploadPartCopy":
		add(action)
		source, err := rq.s3Source(c)
		if err != nil {
			return err
		}
		addNeeds(c, []Need{source})
	case "GetObjectAttributes":
		add(versioned("s3:GetObject", version != ""))
		add(versioned(action, version != ""))
	default:
		add(versioned(action, version != ""))
	}

	grants := has("X-Amz-Acl")
	for _, g := range [...]string{"Full-Control", "Read", "Read-Acp", "Write", "Write-Acp"} {
		grants = grants || has("X-Amz-Grant-"+g)
	}
	lock := has("X-Amz-Object-Lock-Mode") || has("X-Amz-Object-Lock-Retain-Until-Date")
	switch m.op.name {
	case "PutObject", "CopyObject", "CreateMultipartUpload":
		if grants {
			add("s3:PutObjectAcl")
		}
		if has("X-Amz-Tagging") {
			add("s3:PutObjectTagging")
		}
		if lock {
			add("s3:PutObjectRetention")
		}
		if has("X-Amz-Object-Lock-Legal-Hold") {
			add("s3:PutObjectLegalHold")
		}
	case "CreateBucket":
		if grants {
			add("s3:PutBucketAcl")
		}
		if has("X-Amz-Object-Ownership") {
			add("s3:PutBucketOwnershipControls")
		}
		if asks("X-Amz-Bucket-Object-Lock-Enabled") {
			add("s3:PutBucketVersioning")
			add("s3:PutBucketObjectLockConfiguration")
		}
		if len(c.Conditions["aws:tagkeys"]) > 0 {
			add("s3:TagResource")
		}
	case "PutBucketReplication":
		if roles, st := rq.get(m.op.special[0]); st != absent {
			n := Need{Action: "iam:PassRole", Resources: roles, Conditions: map[string][]string{"iam:passedtoservice": {"s3.amazonaws.com"}}}
			n.ResourceUnknown = st == odd || slices.ContainsFunc(roles, func(r string) bool { return !strings.HasPrefix(r, "arn:") })
			addNeeds(c, []Need{n})
		}
	}
	if asks("X-Amz-Bypass-Governance-Retention") {
		for _, n := range slices.Clone(c.Needs) {
			n.Action = "s3:BypassGovernanceRetention"
			addNeeds(c, []Need{n})
		}
	}
	if service == "s3-object-lambda" || service == "s3-outposts" {
		for i := range c.Needs {
			if rest, ok := strings.CutPrefix(c.Needs[i].Action, "s3:"); ok && c.Needs[i].Action != "iam:PassRole" {
				c.Needs[i].Action = service + ":" + rest
				if _, known := LookupAction(c.Needs[i].Action); !known {
					return fmt.Errorf("no IAM action %s is known", c.Needs[i].Action)
				}
			}
		}
	}
	return nil
}

// s3Express: requests to a zone are all authorised by s3express:CreateSession;
// those to the control endpoint by actions of their own.
func (rq *request) s3Express(c *Call, m match, t s3Target, action string) error {
	arn, open := s3Resource(c, rq.h, t.bucket, "")
	if m.op.name == "ListDirectoryBuckets" {
		c.Needs = []Need{{Action: "s3express:ListAllMyDirectoryBuckets", Resources: []string{"*"}}}
		return nil
	}
	if strings.HasPrefix(rq.h.Name, "s3express-control") {
		action = "s3express:" + action[strings.IndexByte(action, ':')+1:]
		if _, ok := LookupAction(action); !ok {
			return fmt.Errorf("no IAM action %s is known", action)
		}
	} else {
		action = "s3express:CreateSession"
		rq.sessionMode(c, m)
	}
	addNeeds(c, []Need{s3Need(action, arn, open)})
	switch m.op.name {
	case "CopyObject", "UploadPartCopy":
		source, err := rq.s3Source(c)
		if err != nil {
			return err
		}
		addNeeds(c, []Need{source})
	}
	return nil
}

// sessionMode sets s3express:SessionMode: the mode that CreateSession asks for, or
// the least mode of a session under which the request could be made.
func (rq *request) sessionMode(c *Call, m match) {
	const key = "s3express:sessionmode"
	switch v := rq.head.Values("X-Amz-Create-Session-Mode"); {
	case m.op.name == "CreateSession" && len(v) == 1 && (v[0] == "ReadOnly" || v[0] == "ReadWrite"):
		c.Conditions[key] = v
	case m.op.name == "CreateSession":
		// Without the header S3 tries ReadWrite first and ReadOnly then (S3 API
		// reference, CreateSession).
		c.UnknownConditions = append(c.UnknownConditions, key)
	case rq.r.Method == http.MethodGet || rq.r.Method == http.MethodHead:
		c.Conditions[key] = []string{"ReadOnly"}
	default:
		c.Conditions[key] = []string{"ReadWrite"}
	}
}

// s3Body reads the body where an operation names something in it.
func (rq *request) s3Body(op *operation) error {
	if len(op.special) == 0 {
		return nil
	}
	rq.kind = 'x'
	if rq.body == nil {
		return errors.New("the body, which says what the call is about, was not read")
	}
	body, err := rq.plainBody()
	if err != nil {
		return err
	}
	if rq.found, err = scanXML(body, op.plans[2]()); err != nil {
		return unreadable(err)
	}
	return nil
}

// s3Deletes adds a need for every object that DeleteObjects names.
func (rq *request) s3Deletes(c *Call, op *operation, bucket string) error {
	keys, kst := rq.get(op.special[0])
	versions, vst := rq.get(op.special[1])
	if kst != present || vst == odd || len(versions) != len(keys) {
		return errors.New("the objects to delete cannot be read from the body")
	}
	var needs [2]Need
	seen := make(map[string]bool)
	for i, k := range keys {
		arn, open := s3Resource(c, rq.h, bucket, k)
		j, action := 0, "s3:DeleteObject"
		if versions[i] != "" {
			j, action = 1, "s3:DeleteObjectVersion"
		}
		needs[j].Action = action
		if open {
			needs[j].ResourceUnknown = true
		} else if !seen[action+arn] {
			seen[action+arn] = true
			needs[j].Resources = append(needs[j].Resources, arn)
		}
	}
	for _, n := range needs {
		if n.Action != "" {
			c.Needs = append(c.Needs, n)
		}
	}
	return nil
}

// s3Source reads the source of a copy: BUCKET/KEY or the ARN of an access
// point's object, percent-encoded, perhaps with ?versionId=.
func (rq *request) s3Source(c *Call) (Need, error) {
	values := rq.head.Values("X-Amz-Copy-Source")
	if len(values) != 1 {
		return Need{}, ambiguous("the copy source is given more than once")
	}
	raw, version, versionGiven := strings.Cut(values[0], "?versionId=")
	source, err := unescape(raw, false)
	if err != nil || strings.Contains(raw, "?") || strings.Contains(raw, "+") ||
		strings.Contains(source, "?versionId=") { // whether S3 looks for the version before or after decoding is not said
		return Need{}, errors.New("the copy source is written in an unusual way")
	}
	source = strings.TrimPrefix(source, "/")
	action := versioned("s3:GetObject", versionGiven && version != "")
	if strings.HasPrefix(source, "arn:") {
		f := strings.SplitN(source, ":", 6)
		if len(f) == 6 && f[2] == "s3" && strings.HasPrefix(f[5], "accesspoint/") && strings.Contains(f[5], "/object/") {
			return Need{Action: action, Resources: []string{source}}, nil
		}
		return Need{Action: action, ResourceUnknown: true}, nil
	}
	bucket, key, ok := strings.Cut(source, "/")
	if !ok || bucket == "" || key == "" || !allIn(bucket, isBucketByte) {
		return Need{}, errors.New("the copy source has no bucket or no key")
	}
	plain := Host{Partition: rq.h.Partition, Service: "s3"}
	if strings.HasSuffix(bucket, "--x-s3") || strings.HasSuffix(bucket, "--xa-s3") {
		// Reading from a directory bucket is authorised by its sessions, too.
		plain.Service = "s3express"
		arn, open := s3Resource(c, plain, bucket, "")
		return s3Need("s3express:CreateSession", arn, open), nil
	}
	arn, open := s3Resource(c, plain, bucket, key)
	return s3Need(action, arn, open), nil
}

// s3Conditions sets the condition values that an S3 request determines.
func (rq *request) s3Conditions(c *Call, m match) {
	set := func(key string, values ...string) { c.Conditions["s3:"+key] = values }
	for _, k := range s3HeaderKeys {
		header := k
		if strings.HasPrefix(k, "object-lock-") {
			header = "X-Amz-" + k
		}
		if v := rq.head.Values(header); len(v) > 0 {
			set(k, v...)
		}
	}
	for query, key := range map[string]string{"prefix": "prefix", "delimiter": "delimiter", "max-keys": "max-keys", "versionId": "versionid"} {
		if i, ok := rq.query.index[query]; ok {
			if rq.query.pairs[i].plus {
				c.UnknownConditions = append(c.UnknownConditions, "s3:"+key)
				continue
			}
			set(key, rq.query.pairs[i].value)
		}
	}
	set("signatureversion", "AWS4-HMAC-SHA256")
	set("authtype", "REST-HEADER")
	if _, ok := rq.query.get("X-Amz-Algorithm"); ok {
		set("authtype", "REST-QUERY-STRING")
	}
	objectTags := func(pairs [][2]string) {
		for _, p := range pairs {
			k := "s3:requestobjecttag/" + strings.ToLower(p[0])
			c.Conditions[k] = append(c.Conditions[k], p[1])
			c.Conditions["s3:requestobjecttagkeys"] = appendNew(c.Conditions["s3:requestobjecttagkeys"], p[0])
		}
	}
	if v := rq.head.Values("X-Amz-Tagging"); len(v) > 0 {
		tags, err := parseForm(strings.Join(v, "&"), true)
		if err != nil {
			c.UnknownConditions = append(c.UnknownConditions, "s3:requestobjecttag/*", "s3:requestobjecttagkeys")
		} else {
			for _, p := range tags.pairs {
				objectTags([][2]string{{p.key, p.value}})
			}
		}
	}
	if len(m.op.special) == 0 || rq.found == nil {
		return
	}
	get := func(i int) []string { v, _ := rq.get(m.op.special[i]); return v }
	zip := func() (pairs [][2]string) {
		keys, values := get(0), get(1)
		for i := range min(len(keys), len(values)) {
			pairs = append(pairs, [2]string{keys[i], values[i]})
		}
		return pairs
	}
	switch m.op.name {
	case "PutObjectTagging":
		objectTags(zip())
	case "PutObjectRetention":
		if v := get(0); v != nil {
			set("object-lock-mode", v...)
		}
		if v := get(1); v != nil {
			set("object-lock-retain-until-date", v...)
		}
	case "PutObjectLegalHold":
		if v := get(0); v != nil {
			set("object-lock-legal-hold", v...)
		}
	case "CreateBucket":
		for _, p := range zip() {
			addTag(c, p[0], p[1])
		}
		if v := get(2); v != nil {
			set("locationconstraint", v...)
		}
	case "PutBucketTagging":
		for _, p := range zip() {
			addTag(c, p[0], p[1])
		}
	}
}
