package awsapi

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
)

func TestLookupHost(t *testing.T) {
	api := func(h Host) func(string) (Host, Verdict) {
		return func(name string) (Host, Verdict) { h.Name = lowerASCII(name); return h, HostAPI }
	}
	s3 := func(h Host) func(string) (Host, Verdict) {
		h.S3 = true
		if h.Service == "" {
			h.Service = "s3"
		}
		if h.Models == nil {
			h.Models = []string{"s3"}
		}
		if h.Partition == "" {
			h.Partition = "aws"
		}
		return api(h)
	}
	foreign := func(name string) (Host, Verdict) { return Host{Name: lowerASCII(name)}, HostForeign }
	unknown := func(name string) (Host, Verdict) { return Host{Name: lowerASCII(name)}, HostUnknown }
	for name, want := range map[string]func(string) (Host, Verdict){
		// AWS's own hosts that take no signature, and names that only look like them
		"ip-ranges.amazonaws.com":                  foreign,
		"CheckIP.amazonaws.com":                    foreign,
		"servicereference.us-east-1.amazonaws.com": foreign,
		"awscli.amazonaws.com":                     foreign,
		"knowledge-mcp.global.api.aws":             foreign,
		"servicereference.us-west-2.amazonaws.com": unknown,
		"a.checkip.amazonaws.com":                  unknown,
		"checkip.us-east-1.amazonaws.com":          unknown,
		"checkip.amazonaws.com.":                   unknown,
		// plain endpoints
		"dynamodb.eu-west-1.amazonaws.com":     api(Host{Service: "dynamodb", Region: "eu-west-1", Partition: "aws", Models: []string{"dynamodb"}}),
		"DynamoDB.EU-West-1.AmazonAWS.com":     api(Host{Service: "dynamodb", Region: "eu-west-1", Partition: "aws", Models: []string{"dynamodb"}}),
		"dynamodb.eu-west-9.amazonaws.com":     api(Host{Service: "dynamodb", Region: "eu-west-9", Partition: "aws", Models: []string{"dynamodb"}}),
		"kms-fips.us-gov-west-1.amazonaws.com": api(Host{Service: "kms", Region: "us-gov-west-1", Partition: "aws-us-gov", Models: []string{"kms"}, FIPS: true}),
		"lambda.us-east-1.api.aws":             api(Host{Service: "lambda", Region: "us-east-1", Partition: "aws", Models: []string{"lambda"}, DualStack: true}),
		"ec2.cn-north-1.amazonaws.com.cn":      api(Host{Service: "ec2", Region: "cn-north-1", Partition: "aws-cn", Models: []string{"ec2"}}),
		"ec2.us-iso-east-1.c2s.ic.gov":         api(Host{Service: "ec2", Region: "us-iso-east-1", Partition: "aws-iso", Models: []string{"ec2"}}),
		"ec2.eusc-de-east-1.amazonaws.eu":      api(Host{Service: "ec2", Region: "eusc-de-east-1", Partition: "aws-eusc", Models: []string{"ec2"}}),
		"iam.amazonaws.com":                    api(Host{Service: "iam", Region: "us-east-1", Partition: "aws", Models: []string{"iam"}}),
		"sts.amazonaws.com":                    api(Host{Service: "sts", Region: "us-east-1", Partition: "aws", Models: []string{"sts"}, RegionSet: true}),
		"queue.amazonaws.com":                  api(Host{Service: "sqs", Region: "us-east-1", Partition: "aws", Models: []string{"sqs"}}),
		"eu-west-1.queue.amazonaws.com":        api(Host{Service: "sqs", Region: "eu-west-1", Partition: "aws", Models: []string{"sqs"}}),
		"monitoring.us-east-1.amazonaws.com":   api(Host{Service: "monitoring", Region: "us-east-1", Partition: "aws", Models: []string{"cloudwatch"}}),
		"api.ecr.us-east-1.amazonaws.com":      api(Host{Service: "ecr", Region: "us-east-1", Partition: "aws", Models: []string{"ecr"}}),
		"eks.us-east-1.amazonaws.com":          api(Host{Service: "eks", Region: "us-east-1", Partition: "aws", Models: []string{"eks"}}),
		"rds.us-east-1.amazonaws.com":          api(Host{Service: "rds", Region: "us-east-1", Partition: "aws", Models: []string{"docdb", "neptune", "rds"}}),
		"maps.geo.us-east-1.amazonaws.com":     api(Host{Service: "geo", Others: []string{"geo-maps"}, Region: "us-east-1", Partition: "aws", Models: []string{"geo-maps", "location"}}),
		// prefixes of operations, accounts, ids
		"sync-states.us-east-1.amazonaws.com":                  api(Host{Service: "states", Region: "us-east-1", Partition: "aws", Models: []string{"stepfunctions"}}),
		"111122223333.ddb.us-west-2.amazonaws.com":             api(Host{Service: "dynamodb", Region: "us-west-2", Partition: "aws", Models: []string{"dynamodb"}, AccountID: "111122223333"}),
		"111122223333.control-kinesis.us-west-2.amazonaws.com": api(Host{Service: "kinesis", Region: "us-west-2", Partition: "aws", Models: []string{"kinesis"}, AccountID: "111122223333"}),
		"111122223333.cloudfront-kvs.global.api.aws":           api(Host{Service: "cloudfront-keyvaluestore", Partition: "aws", Models: []string{"cloudfront-keyvaluestore"}, AccountID: "111122223333", DualStack: true, RegionSet: true}),
		"abc123.endpoint.events.amazonaws.com":                 unknown,
		"abc.123.veo.endpoint.events.amazonaws.com":            unknown,
		"abcde.veo.endpoint.events.amazonaws.com":              api(Host{Service: "events", Partition: "aws", Models: []string{"events"}, RegionSet: true}),
		"g-abc.us-east-1.neptune-graph.amazonaws.com":          api(Host{Service: "neptune-graph", Region: "us-east-1", Partition: "aws", Models: []string{"neptune-graph"}}),
		"s-0a1b.kinesisvideo.us-west-2.amazonaws.com":          api(Host{Service: "kinesisvideo", Region: "us-west-2", Partition: "aws", Models: []string{"kinesis-video-archived-media", "kinesis-video-media", "kinesis-video-signaling", "kinesis-video-webrtc-storage"}}),
		"aps-workspaces.us-west-2.amazonaws.com":               api(Host{Service: "aps", Region: "us-west-2", Partition: "aws", Models: []string{"amp"}}),
		// S3
		"s3.amazonaws.com":                                             s3(Host{}),
		"s3.eu-west-1.amazonaws.com":                                   s3(Host{Region: "eu-west-1"}),
		"s3-eu-west-1.amazonaws.com":                                   s3(Host{Region: "eu-west-1"}),
		"bucket.s3-eu-west-1.amazonaws.com":                            s3(Host{Region: "eu-west-1", Bucket: "bucket"}),
		"bucket.s3.amazonaws.com":                                      s3(Host{Bucket: "bucket"}),
		"my.dotted.bucket.s3.amazonaws.com":                            s3(Host{Bucket: "my.dotted.bucket"}),
		"us-east-1.s3.eu-west-1.amazonaws.com":                         s3(Host{Region: "eu-west-1", Bucket: "us-east-1"}),
		"s3.s3.eu-west-1.amazonaws.com":                                s3(Host{Region: "eu-west-1", Bucket: "s3"}),
		"bucket.s3.dualstack.eu-west-1.amazonaws.com":                  s3(Host{Region: "eu-west-1", Bucket: "bucket", DualStack: true}),
		"bucket.s3-fips.us-east-1.amazonaws.com":                       s3(Host{Region: "us-east-1", Bucket: "bucket", FIPS: true}),
		"bucket.s3-fips.dualstack.us-east-1.amazonaws.com":             s3(Host{Region: "us-east-1", Bucket: "bucket", FIPS: true, DualStack: true}),
		"bucket.s3-accelerate.amazonaws.com":                           s3(Host{Bucket: "bucket"}),
		"bucket.s3-accelerate.dualstack.amazonaws.com":                 s3(Host{Bucket: "bucket", DualStack: true}),
		"bucket.s3.cn-north-1.amazonaws.com.cn":                        s3(Host{Region: "cn-north-1", Partition: "aws-cn", Bucket: "bucket"}),
		"ap-111122223333.s3-accesspoint.us-east-1.amazonaws.com":       s3(Host{Region: "us-east-1", Bucket: "ap-111122223333", AccountID: "111122223333"}),
		"olap-111122223333.s3-object-lambda.us-east-1.amazonaws.com":   s3(Host{Service: "s3-object-lambda", Region: "us-east-1", Bucket: "olap-111122223333", AccountID: "111122223333"}),
		"ap-111122223333.op-0123.s3-outposts.us-east-1.amazonaws.com":  s3(Host{Service: "s3-outposts", Region: "us-east-1", Bucket: "ap-111122223333", AccountID: "111122223333", RegionSet: true}),
		"mfzwi23gnjvgw.mrap.accesspoint.s3-global.amazonaws.com":       s3(Host{Bucket: "mfzwi23gnjvgw.mrap", RegionSet: true}),
		"b--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com": s3(Host{Service: "s3express", Region: "us-east-1", Bucket: "b--use1-az4--x-s3"}),
		"b--use1-az5--x-s3.s3express-use1-az4.us-east-1.amazonaws.com": unknown,
		"s3express-control.us-east-1.amazonaws.com":                    s3(Host{Service: "s3express", Region: "us-east-1"}),
		"111122223333.s3-control.us-west-2.amazonaws.com":              s3(Host{Region: "us-west-2", Models: []string{"s3control"}, AccountID: "111122223333"}),
		"bucket.s3-website-us-east-1.amazonaws.com":                    foreign,
		"bucket.s3-website.eu-central-1.amazonaws.com":                 foreign,
		// PrivateLink
		"vpce-1-2.sts.us-east-1.vpce.amazonaws.com":                           api(Host{Service: "sts", Region: "us-east-1", Partition: "aws", Models: []string{"sts"}, RegionSet: true}),
		"vpce-1-2-us-east-1a.api.ecr.us-east-1.vpce.amazonaws.com":            api(Host{Service: "ecr", Region: "us-east-1", Partition: "aws", Models: []string{"ecr"}}),
		"bucket.vpce-1-2.s3.us-east-1.vpce.amazonaws.com":                     s3(Host{Region: "us-east-1"}),
		"my.bkt.bucket.vpce-1-2.s3.us-east-1.vpce.amazonaws.com":              s3(Host{Region: "us-east-1", Bucket: "my.bkt"}),
		"a-111122223333.accesspoint.vpce-1-2.s3.us-east-1.vpce.amazonaws.com": s3(Host{Region: "us-east-1", Bucket: "a-111122223333", AccountID: "111122223333"}),
		"111122223333.control.vpce-1-2.s3.us-east-1.vpce.amazonaws.com":       s3(Host{Region: "us-east-1", Models: []string{"s3control"}, AccountID: "111122223333"}),
		"vpce-1-2.s3.us-east-1.vpce.amazonaws.com":                            unknown,
		"vpce-1-2.execute-api.us-east-1.vpce.amazonaws.com":                   foreign,
		"vpce-1-2.vpce-svc-0f.us-east-1.vpce.amazonaws.com":                   foreign,
		"x.vpce-1-2.sts.us-east-1.vpce.amazonaws.com":                         unknown,
		// names that customers of AWS control
		"lb-1.us-east-1.elb.amazonaws.com":             foreign,
		"lb.elb.us-east-1.amazonaws.com":               foreign,
		"db.abc.us-east-1.rds.amazonaws.com":           foreign,
		"abc.execute-api.us-east-1.amazonaws.com":      foreign,
		"abc.lambda-url.us-east-1.on.aws":              foreign,
		"ABC.gr7.us-east-1.eks.amazonaws.com":          foreign,
		"oidc.eks.us-east-1.amazonaws.com":             foreign,
		"111122223333.dkr.ecr.us-east-1.amazonaws.com": foreign,
		"ec2-1-2-3-4.compute-1.amazonaws.com":          foreign,
		"ec2-1-2-3-4.eu-west-1.compute.amazonaws.com":  foreign,
		"abc.appsync-api.us-east-1.amazonaws.com":      foreign,
		"search-abc.us-east-1.es.amazonaws.com":        foreign,
		"abc.us-east-1.aoss.amazonaws.com":             foreign,
		"abc-ats.iot.us-east-1.amazonaws.com":          foreign,
		"abc.credentials.iot.us-east-1.amazonaws.com":  foreign,
		"x.vpc-lattice-svcs.us-east-1.on.aws":          foreign,
		"d111.cloudfront.net":                          foreign,
		"x.auth.us-east-1.amazoncognito.com":           foreign,
		"us-east-1.signin.aws.amazon.com":              foreign,
		"console.aws.amazon.com":                       foreign,
		// tricks with suffixes and names
		"s3.amazonaws.com.evil.example":                foreign,
		"evilamazonaws.com":                            foreign,
		"s3.evilamazonaws.com":                         foreign,
		"amazonaws.com.cn.evil.example":                foreign,
		"10.0.0.1":                                     foreign,
		"::1":                                          foreign,
		"localhost":                                    foreign,
		"":                                             foreign,
		"xn--amazonaws-9za.com":                        foreign,
		"s3.amazonaws.com.":                            unknown,
		".s3.amazonaws.com":                            unknown,
		"a..s3.amazonaws.com":                          unknown,
		"a_b.s3.amazonaws.com":                         unknown,
		"-a.s3.amazonaws.com":                          unknown,
		"a\x00.s3.amazonaws.com":                       unknown,
		"evil.example/s3.amazonaws.com":                unknown,
		"evil.example#.s3.amazonaws.com":               unknown,
		"user@s3.amazonaws.com":                        unknown,
		"b\u00fccket.s3.amazonaws.com":                 unknown,
		"xn--bcket-kva.s3.amazonaws.com":               unknown,
		strings.Repeat("a", 64) + ".s3.amazonaws.com":  unknown,
		strings.Repeat("a.", 120) + "s3.amazonaws.com": unknown,
		"amazonaws.com":                                unknown,
		"us-east-1.amazonaws.com":                      unknown,
		"brandnew.us-east-1.amazonaws.com":             unknown,
		"iam.us-east-1.amazonaws.com":                  unknown,
		"dynamodb.cn-north-1.amazonaws.com":            unknown,
		"dynamodb.us-east-1.amazonaws.com.cn":          unknown,
	} {
		wantHost, wantVerdict := want(name)
		got, verdict := LookupHost(name)
		if verdict != wantVerdict || !reflect.DeepEqual(got, wantHost) {
			t.Errorf("LookupHost(%q)\n got %+v %v\nwant %+v %v", name, got, verdict, wantHost, wantVerdict)
		}
	}
}

func TestHostAcceptsItsOwnScopeAlone(t *testing.T) {
	for _, c := range []struct {
		host, service, region string
		want                  bool
	}{
		{"s3.amazonaws.com", "s3", "eu-west-1", true},
		{"s3.amazonaws.com", "s3", "cn-north-1", false},
		{"s3.amazonaws.com", "s3", "us-gov-west-1", false},
		{"s3.amazonaws.com", "s3", "nowhere", false},
		{"s3.amazonaws.com", "sts", "us-east-1", false},
		{"s3.eu-west-1.amazonaws.com", "s3", "eu-west-1", true},
		{"s3.eu-west-1.amazonaws.com", "s3", "us-east-1", false},
		{"s3.eu-west-1.amazonaws.com", "s3", "", false},
		{"iam.amazonaws.com", "iam", "us-east-1", true},
		{"iam.amazonaws.com", "iam", "eu-west-1", false},
		{"maps.geo.us-east-1.amazonaws.com", "geo-maps", "us-east-1", true},
		{"maps.geo.us-east-1.amazonaws.com", "geo", "us-east-1", true},
		{"x.mrap.accesspoint.s3-global.amazonaws.com", "s3", "", true},
	} {
		h, _ := LookupHost(c.host)
		if got := h.Accepts(c.service, c.region); got != c.want {
			t.Errorf("%s accepts %s in %q: %v, want %v", c.host, c.service, c.region, got, c.want)
		}
	}
}

func TestEveryRowOfTheHostTableIsFoundAgain(t *testing.T) {
	regions := map[string]string{"aws": "eu-west-3", "aws-cn": "cn-north-1", "aws-eusc": "eusc-de-east-1", "aws-iso": "us-iso-west-1",
		"aws-iso-b": "us-isob-east-1", "aws-iso-e": "eu-isoe-west-1", "aws-iso-f": "us-isof-east-1", "aws-us-gov": "us-gov-east-1"}
	n := 0
	for key, rows := range hostTable() {
		for _, partition := range rows[0].partitions {
			var p *partitionInfo
			for i := range partitions {
				if partitions[i].id == partition {
					p = (*partitionInfo)(&partitions[i])
				}
			}
			if p == nil {
				t.Fatalf("%s: partition %s is not known", key, partition)
			}
			if !strings.Contains(key, "{") && partition != rows[0].partitions[0] {
				continue // one name, which belongs to the first
			}
			name := strings.NewReplacer("{region}", regions[partition], "{account}", "111122223333", "{dns}", p.dns, "{dual}", p.dual).Replace(key)
			h, verdict := LookupHost(name)
			if verdict != HostAPI || h.Service != rows[0].service || h.Partition != partition {
				t.Errorf("%s: got %+v %v", name, h, verdict)
			}
			if strings.Contains(key, "{region}") && rows[0].region == "{region}" && h.Region != regions[partition] {
				t.Errorf("%s: region %q", name, h.Region)
			}
			n++
		}
	}
	if n < 8000 {
		t.Errorf("only %d hosts were checked", n)
	}
	t.Logf("%d hosts", n)
}

type partitionInfo partition

func TestEndpointForLeadsBackToTheService(t *testing.T) {
	for _, c := range []struct{ service, region, want string }{
		{"sts", "eu-west-1", "sts.eu-west-1.amazonaws.com"},
		{"sts", "cn-north-1", "sts.cn-north-1.amazonaws.com.cn"},
		{"s3", "us-east-1", "s3.us-east-1.amazonaws.com"},
		{"iam", "us-east-1", "iam.amazonaws.com"},
		{"dynamodb", "us-gov-west-1", "dynamodb.us-gov-west-1.amazonaws.com"},
		{"sqs", "us-east-1", "sqs.us-east-1.amazonaws.com"},
		{"monitoring", "us-east-1", "monitoring.us-east-1.amazonaws.com"},
		{"ses", "us-east-1", "email.us-east-1.amazonaws.com"},
		{"elasticloadbalancing", "us-east-1", "elasticloadbalancing.us-east-1.amazonaws.com"},
		{"route53", "us-east-1", "route53.amazonaws.com"},
		{"cloudfront", "us-east-1", "cloudfront.amazonaws.com"},
		{"nosuchservice", "us-east-1", ""},
		{"sts", "no-region", ""},
	} {
		got, ok := EndpointFor(c.service, c.region)
		if got != c.want || ok != (c.want != "") {
			t.Errorf("EndpointFor(%s, %s) = %q, %v; want %q", c.service, c.region, got, ok, c.want)
		}
	}
	for service := range endpoints() {
		for _, name := range EndpointsFor(service, "us-east-1") {
			if h, v := LookupHost(name); v != HostAPI || !h.Accepts(service, "us-east-1") {
				t.Errorf("EndpointsFor(%s) has %s, which is %+v", service, name, h)
			}
		}
	}
}

func TestEndpointForRequestAsksWhichHasTheOperation(t *testing.T) {
	for _, c := range []struct{ service, method, target, amzTarget, want string }{
		{"sagemaker", "POST", "/endpoints/e/invocations", "", "runtime.sagemaker.us-east-1.amazonaws.com"},
		{"sagemaker", "POST", "/", "SageMaker.ListModels", "api.sagemaker.us-east-1.amazonaws.com"},
		{"dynamodb", "POST", "/", "DynamoDB_20120810.GetItem", "dynamodb.us-east-1.amazonaws.com"},
		{"dynamodb", "POST", "/", "DynamoDBStreams_20120810.GetRecords", "streams.dynamodb.us-east-1.amazonaws.com"},
		{"s3", "GET", "/v20180820/jobs", "", "s3.us-east-1.amazonaws.com"}, // a bucket may have that name
		{"s3", "GET", "/bucket/key", "", "s3.us-east-1.amazonaws.com"},
		{"sts", "POST", "/", "", "sts.us-east-1.amazonaws.com"},
		{"nothing", "POST", "/", "", ""},
	} {
		r := &http.Request{Method: c.method, RequestURI: c.target, Header: http.Header{}}
		if c.amzTarget != "" {
			r.Header.Set("X-Amz-Target", c.amzTarget)
			r.Header.Set("Content-Type", "application/x-amz-json-1.1")
		}
		if got, ok := EndpointForRequest(c.service, "us-east-1", r); got != c.want || ok != (c.want != "") {
			t.Errorf("%+v: got %q", c, got)
		}
	}
}

func FuzzLookupHost(f *testing.F) {
	for _, s := range []string{"s3.amazonaws.com", "bucket.s3.dualstack.eu-west-1.amazonaws.com", "vpce-1-2.sts.us-east-1.vpce.amazonaws.com",
		"x.mrap.accesspoint.s3-global.amazonaws.com", "a..s3.amazonaws.com", "s3.amazonaws.com.evil.example", "xn--a.api.aws", "."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		h, v := LookupHost(name)
		if v != HostAPI {
			if h.Service != "" || h.Models != nil {
				t.Fatalf("%q is no API, but has %+v", name, h)
			}
			return
		}
		under := false
		for _, s := range awsSuffixes {
			under = under || strings.HasSuffix(lowerASCII(name), "."+s)
		}
		if !under || h.Service == "" || h.Partition == "" {
			t.Fatalf("%q is taken for an API: %+v", name, h)
		}
		again, v2 := LookupHost(strings.ToUpper(name))
		if strings.EqualFold(name, lowerASCII(name)) && (v2 != v || !reflect.DeepEqual(again, h)) {
			t.Fatalf("%q is another host in upper case", name)
		}
	})
}
