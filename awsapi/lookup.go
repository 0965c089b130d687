package awsapi

import (
	"net/netip"
	"slices"
	"strings"
)

// LookupHost says whose endpoint a host name is. The name has no port and may
// be in any case. Only for HostAPI is the Host filled beyond its Name.
//
// A name is never an endpoint because of its suffix alone: names that a
// customer of AWS controls share the suffixes. A name that is not a proper DNS
// name is HostUnknown under an AWS suffix, and HostForeign elsewhere.
func LookupHost(name string) (Host, Verdict) {
	name = lowerASCII(name)
	h := Host{Name: name}
	suffix, proper := awsSuffix(name)
	if suffix == "" {
		return h, HostForeign
	}
	if !proper {
		return h, HostUnknown
	}
	if found, ok := lookupTable(name, suffix); ok {
		return found, HostAPI
	}
	stem := strings.Split(strings.TrimSuffix(name, "."+suffix), ".")
	if found, verdict, ok := lookupPrivateLink(name, stem, suffix); ok {
		return found, verdict
	}
	if isWebsite(stem) {
		return h, HostForeign
	}
	if found, ok := lookupS3(name, stem, suffix); ok {
		return found, HostAPI
	}
	if found, ok := lookupShaped(name, stem, suffix); ok {
		return found, HostAPI
	}
	if isCustomers(stem, suffix) || slices.Contains(publicHosts, name) {
		return h, HostForeign
	}
	return h, HostUnknown
}

// publicHosts are AWS's own, and tell everybody the same without a signature. Programs
// fetch from them beside their calls: address ranges ("AWS IP address ranges", VPC
// user guide), one's own address, the Service Authorization Reference ("Simplified AWS
// service information for programmatic access"), the installers of the AWS CLI, and
// the AWS Knowledge MCP Server.
var publicHosts = []string{
	"ip-ranges.amazonaws.com", "checkip.amazonaws.com", "servicereference.us-east-1.amazonaws.com", "awscli.amazonaws.com",
	"knowledge-mcp.global.api.aws",
}

// HostForRule describes a host that the tables do not know, as a rule of the
// configuration does: by signing name and region. An empty region means any
// region of the partition of AWS.
func HostForRule(name, service, region string) Host {
	h := Host{Name: lowerASCII(name), Service: service, Region: region, Partition: "aws", S3: isS3Family(service)}
	if p, ok := PartitionOf(region); ok {
		h.Partition = p
	}
	h.Models = modelsSignedAs(service)
	// EventBridge and S3 take SigV4A at some of their endpoints, and a rule may name one.
	h.RegionSet = slices.Contains(v4aServices[:], service) || service == "events" || service == "s3"
	return h
}

func lowerASCII(s string) string {
	for i := 0; i < len(s); i++ {
		if 'A' <= s[i] && s[i] <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if 'A' <= b[i] && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}

// awsSuffix returns the AWS suffix that a lower-case name stands under, "" for
// none, and whether the name is a proper DNS name with something before it.
func awsSuffix(name string) (suffix string, proper bool) {
	bare := strings.TrimRight(name, ".")
	for _, s := range awsSuffixes {
		if bare == s || strings.HasSuffix(bare, "."+s) {
			suffix = s
			break
		}
	}
	if suffix == "" {
		return "", false
	}
	if bare != name || bare == suffix || len(name) > 253 {
		return suffix, false
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return suffix, false
	}
	for label := range strings.SplitSeq(name, ".") {
		if len(label) > 63 || !allIn(label, isLDH) || label[0] == '-' || label[len(label)-1] == '-' || strings.HasPrefix(label, "xn--") {
			return suffix, false
		}
	}
	return suffix, true
}

func isLDH(c byte) bool { return isLower(c) || isDigit(c) || c == '-' }

// lookupPrivateLink knows the names of interface endpoints:
// vpce-ID.SERVICE.REGION.vpce.SUFFIX, where SERVICE is as in the public name.
func lookupPrivateLink(name string, stem []string, suffix string) (Host, Verdict, bool) {
	last := len(stem) - 1
	if last < 2 || stem[last] != "vpce" {
		return Host{}, 0, false
	}
	none := Host{Name: name}
	at := slices.IndexFunc(stem, func(l string) bool { return strings.HasPrefix(l, "vpce-") })
	if at < 0 || at >= last-1 {
		return none, HostUnknown, true
	}
	service := stem[at+1 : last]
	if strings.HasPrefix(service[0], "vpce-svc-") {
		return none, HostForeign, true // another customer's endpoint service
	}
	if service[0] == "execute-api" {
		return none, HostForeign, true // a customer's own API
	}
	public, ok := lookupTable(strings.Join(service, ".")+"."+suffix, suffix)
	if !ok {
		return none, HostUnknown, true
	}
	public.Name = name
	if at == 0 {
		if public.Service == "s3" { // S3 answers only under bucket., accesspoint. and control.
			return none, HostUnknown, true
		}
		return public, HostAPI, true
	}
	kind, rest := stem[at-1], stem[:at-1]
	if public.Service != "s3" || len(public.Models) != 1 || public.Models[0] != "s3" {
		return none, HostUnknown, true
	}
	switch kind {
	case "bucket":
		public.Bucket = strings.Join(rest, ".")
	case "accesspoint":
		if len(rest) > 1 {
			return none, HostUnknown, true
		}
		if len(rest) == 1 {
			public.Bucket = rest[0]
			public.AccountID = accountAtEnd(rest[0])
		}
	case "control":
		public.Models = []string{"s3control"}
		if len(rest) > 1 || len(rest) == 1 && !isAccount(rest[0]) {
			return none, HostUnknown, true
		}
		if len(rest) == 1 {
			public.AccountID = rest[0]
		}
	default:
		return none, HostUnknown, true
	}
	return public, HostAPI, true
}

func isAccount(s string) bool { return len(s) == 12 && allIn(s, isDigit) }

// accountAtEnd returns the account of a label such as "name-111122223333".
func accountAtEnd(label string) string {
	if i := strings.LastIndexByte(label, '-'); i > 0 && isAccount(label[i+1:]) {
		return label[i+1:]
	}
	return ""
}

// isWebsite knows S3's website endpoints, which are never signed for:
// BUCKET.s3-website-REGION and BUCKET.s3-website.REGION.
func isWebsite(stem []string) bool {
	return slices.ContainsFunc(stem, func(l string) bool { return l == "s3-website" || strings.HasPrefix(l, "s3-website-") })
}

// s3Shapes are the labels after a bucket's or access point's name.
// Longer ones come first.
var s3Shapes = [...]struct {
	labels  string // "{region}" is a region
	service string
	account bool // the name ends in an account
	single  bool // the name is one label
}{
	{"s3-fips.dualstack.{region}", "s3", false, false},
	{"s3-fips.{region}", "s3", false, false},
	{"s3.dualstack.{region}", "s3", false, false},
	{"s3.{region}", "s3", false, false},
	{"s3-accesspoint-fips.dualstack.{region}", "s3", true, true},
	{"s3-accesspoint-fips.{region}", "s3", true, true},
	{"s3-accesspoint.dualstack.{region}", "s3", true, true},
	{"s3-accesspoint.{region}", "s3", true, true},
	{"s3-object-lambda-fips.{region}", "s3-object-lambda", false, true},
	{"s3-object-lambda.{region}", "s3-object-lambda", false, true},
	{"s3-accelerate.dualstack", "s3", false, true},
	{"s3-accelerate", "s3", false, true},
	{"s3-external-1", "s3", false, false},
	{"s3", "s3", false, false},
}

// lookupS3 knows the hosts that carry a bucket or an access point.
func lookupS3(name string, stem []string, suffix string) (Host, bool) {
	h := Host{
		Name: name, Service: "s3", Models: []string{"s3"}, S3: true,
		FIPS: strings.Contains(name, "-fips"), DualStack: slices.Contains(stem, "dualstack"),
	}
	if i := len(stem) - 1; i >= 2 && stem[i] == "s3-global" && stem[i-1] == "accesspoint" {
		h.Bucket = strings.Join(stem[:i-1], ".")
		h.RegionSet = true
		h.Partition = partitionWithSuffix(suffix)
		return h, len(stem) == 4 && stem[1] == "mrap" || len(stem) == 3
	}
	region := ""
	shape := slices.Clone(stem)
	for i := len(stem) - 1; i >= 0; i-- {
		if p := partitionOf(stem[i]); p != nil && p.dns == suffix {
			region, shape[i] = stem[i], "{region}"
			h.Region, h.Partition = region, p.id
			break
		}
	}
	if region == "" {
		h.Partition = partitionWithSuffix(suffix)
		if len(stem) > 0 { // the older names with a dash: s3-REGION, BUCKET.s3-REGION
			last := stem[len(stem)-1]
			if r, ok := strings.CutPrefix(last, "s3-"); ok {
				if p := partitionOf(r); p != nil && p.dns == suffix {
					h.Region, h.Partition = r, p.id
					h.Bucket = strings.Join(stem[:len(stem)-1], ".")
					return h, true
				}
			}
		}
	}
	joined := strings.Join(shape, ".")
	for _, s := range s3Shapes {
		bucket, ok := strings.CutSuffix(joined, "."+s.labels)
		if !ok {
			if joined == s.labels && s.labels == "s3-external-1" {
				h.Region = "us-east-1"
				return h, true
			}
			continue
		}
		if s.single && strings.Contains(bucket, ".") {
			return Host{}, false
		}
		h.Service, h.Bucket = s.service, bucket
		if s.service == "s3-object-lambda" || s.account {
			h.AccountID = accountAtEnd(bucket)
		}
		if s.account && h.AccountID == "" {
			return Host{}, false
		}
		if s.labels == "s3-external-1" {
			h.Region = "us-east-1"
		}
		return h, true
	}
	return lookupS3Zonal(h, shape)
}

// lookupS3Zonal knows S3 Express and S3 on Outposts.
func lookupS3Zonal(h Host, shape []string) (Host, bool) {
	n := len(shape)
	if n < 2 || shape[n-1] != "{region}" {
		return Host{}, false
	}
	i := n - 2
	if shape[i] == "dualstack" {
		i--
	}
	if i < 0 {
		return Host{}, false
	}
	if zone, ok := strings.CutPrefix(shape[i], "s3express-"); ok && i <= 1 {
		h.Service = "s3express"
		zone = strings.TrimPrefix(zone, "fips-")
		if i == 1 {
			// BUCKET--ZONE--x-s3, or --xa-s3 for an access point
			h.Bucket = shape[0]
			if !strings.HasSuffix(h.Bucket, "--"+zone+"--x-s3") && !strings.HasSuffix(h.Bucket, "--"+zone+"--xa-s3") {
				return Host{}, false
			}
		}
		return h, zone != "" && zone != "control"
	}
	if (shape[i] == "s3-outposts" || shape[i] == "s3-outposts-fips") && i == 2 && (shape[1] == "ec2" || strings.HasPrefix(shape[1], "op-")) {
		h.Service = "s3-outposts"
		h.RegionSet = true
		h.Bucket = shape[0]
		h.AccountID = accountAtEnd(shape[0])
		return h, true
	}
	return Host{}, false
}

// partitionWithSuffix returns the first partition of a suffix, for names without a region.
func partitionWithSuffix(suffix string) string {
	for _, p := range partitions {
		if p.dns == suffix || p.dual == suffix {
			return p.id
		}
	}
	return ""
}

// shapedHosts are endpoints that carry an identifier which AWS gave out. The
// first label is any ("*": so is the second); "{region}" is a region.
var shapedHosts = map[string]struct {
	service string
	models  []string
}{
	"*.endpoint.events":                 {"events", []string{"events"}}, // EndpointId, such as abcde.veo
	"endpoints.email":                   {"ses", []string{"sesv2"}},
	"endpoints.email.global":            {"ses", []string{"sesv2"}},
	"{region}.neptune-graph":            {"neptune-graph", []string{"neptune-graph"}},
	"neptune-graph.{region}":            {"neptune-graph", []string{"neptune-graph"}},
	"kinesisvideo.{region}":             {"kinesisvideo", []string{"kinesis-video-archived-media", "kinesis-video-media", "kinesis-video-signaling", "kinesis-video-webrtc-storage"}},
	"data.mediastore.{region}":          {"mediastore", []string{"mediastore-data"}},
	"mediaconvert.{region}":             {"mediaconvert", []string{"mediaconvert"}},
	"timestream.{region}":               {"timestream", []string{"timestream-query", "timestream-write"}},
	"route53-recovery-cluster.{region}": {"route53-recovery-cluster", []string{"route53-recovery-cluster"}},
	"{region}.cloudsearch":              {"cloudsearch", []string{"cloudsearchdomain"}},
}

// plainHosts are endpoints of services for which no public model exists. Their
// calls can be signed, but never understood.
var plainHosts = map[string]string{
	"aps-workspaces.{region}":      "aps",
	"aps-workspaces-fips.{region}": "aps",
	"ec2messages.{region}":         "ec2messages",
	"ssmmessages.{region}":         "ssmmessages",
	"bedrock-mantle.{region}":      "bedrock",
	"ecs-a.{region}":               "ecs",
	"ecs-t.{region}":               "ecs",
	"transcribestreaming.{region}": "transcribe",
}

// lookupShaped knows the remaining endpoints whose names are not fixed.
func lookupShaped(name string, stem []string, suffix string) (Host, bool) {
	h := Host{Name: name, Partition: partitionWithSuffix(suffix), DualStack: isDual(name), FIPS: strings.Contains(name, "-fips.")}
	shape := slices.Clone(stem)
	for i, l := range stem {
		if p := partitionOf(l); p != nil && (p.dns == suffix || p.dual == suffix) {
			h.Region, h.Partition = l, p.id
			shape[i] = "{region}"
		}
	}
	if service, ok := plainHosts[strings.Join(shape, ".")]; ok && suffix != "on.aws" {
		h.Service = service
		h.Models = modelsSignedAs(service)
		return h, true
	}
	if len(shape) < 2 || suffix == "on.aws" {
		return Host{}, false
	}
	s, ok := shapedHosts[strings.Join(shape[1:], ".")]
	if !ok && len(shape) > 2 {
		s, ok = shapedHosts["*."+strings.Join(shape[2:], ".")]
	}
	if !ok || shape[0] == "{region}" {
		return Host{}, false
	}
	h.Service, h.Models = s.service, s.models
	h.RegionSet = h.Region == ""
	return h, true
}

// customerLabels are labels under which customers have names of their own: a
// host that holds one of them belongs to somebody else, and a signature with a
// real session token must not go there.
var customerLabels = map[string]bool{
	"aos": true, "aoss": true, "airflow": true, "appsync-api": true, "appsync-realtime-api": true, "bedrock-agentcore": true,
	"cache": true, "codeartifact": true, "compute": true, "compute-1": true, "dax-clusters": true, "dkr-ecr": true, "docdb": true,
	"dsql": true, "ecr": true, "ecr-fips": true, "efs": true, "eks": true, "elasticbeanstalk": true, "elb": true,
	"emr-containers-services": true, "emr-serverless-services": true, "emrappui-prod": true, "emrnotebooks-prod": true,
	"emrstudio-prod": true, "es": true, "execute-api": true, "fsx": true, "git-codecommit": true, "git-codecommit-fips": true,
	"grafana-workspace": true, "iot": true, "kafka": true, "kafka-serverless": true, "lambda-url": true, "mediapackage": true,
	"mediapackagev2": true, "mediatailor": true, "memorydb": true, "mq": true, "neptune": true, "rds": true, "redshift": true,
	"redshift-serverless": true, "timestream-influxdb": true, "transfer": true, "vpc-lattice-svcs": true, "workspaces-web": true,
}

// isCustomers knows the names that belong to customers: something, then one of
// customerLabels. The bare service name (rds.REGION) never comes here, since
// the table holds it.
func isCustomers(stem []string, suffix string) bool {
	if len(stem) > 1 && stem[0] == "git-codecommit" {
		return true
	}
	for _, l := range stem[1:] {
		if customerLabels[l] {
			return true
		}
	}
	return suffix == "on.aws"
}
