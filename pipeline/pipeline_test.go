package pipeline

import (
	"compress/gzip"
	"errors"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/countersign-proxy/countersign/audit"
	"github.com/countersign-proxy/countersign/policy"
)

func TestAllowedCallIsSignedAgainAndRecordedOnce(t *testing.T) {
	h := setup(t, nil, nil)
	res, body := h.send(get("/a%20b+c/%C3%A9&=~%2520?x=1&a="), nil)
	if res.StatusCode != 200 || body != "answer" {
		t.Fatalf("%s %q", res.Status, body)
	}
	seen := h.arrived()
	if len(seen) != 1 {
		t.Fatalf("%d requests arrived", len(seen))
	}
	if got := seen[0].Method + " " + seen[0].Host + seen[0].Target; got != "GET bucket.s3.us-east-1.amazonaws.com/a%20b+c/%C3%A9&=~%2520?x=1&a=" {
		t.Errorf("arrived as %s", got)
	}
	if auth := seen[0].Header.Get("Authorization"); !strings.Contains(auth, "Credential="+sourceKeys.AccessKeyID+"/") {
		t.Errorf("signed with %s", auth)
	}
	for name := range seen[0].Header {
		switch name {
		case "Authorization", "X-Amz-Date", "X-Amz-Content-Sha256":
		default:
			t.Errorf("a header was added: %s: %q", name, seen[0].Header[name])
		}
	}
	lines := h.lines()
	if len(lines) != 1 {
		t.Fatalf("%d lines", len(lines))
	}
	e := lines[0]
	if e.Time.IsZero() || e.RequestID == "" || !strings.HasPrefix(e.Client, "127.0.0.1:") || e.Duration <= 0 || e.Overhead <= 0 || e.Overhead > e.Duration {
		t.Errorf("%+v", e)
	}
	e.Time, e.RequestID, e.Client, e.Duration, e.Overhead = time.Time{}, "", "", 0, 0
	want := audit.Entry{
		Identity: "ci", AccessKeyID: clientKeys.AccessKeyID, Role: "source", Method: "GET",
		Host: "bucket.s3.us-east-1.amazonaws.com", Service: "s3", Region: "us-east-1", Operation: e.Operation,
		Actions: e.Actions, Resources: e.Resources,
		Decision: audit.Allow, Reason: string(policy.ReasonNoPolicy), Status: 200, AWSRequestID: "AWSREQUESTID",
		ResponseBytes: 6, Signature: "header", Error: e.Error,
	}
	if diff := cmp.Diff(want, e); diff != "" {
		t.Error(diff)
	}
}

// Everything here must end in a refusal that names its reason, with nothing sent
// upstream and one line in the record.
func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		name   string
		call   call
		change func(http.Header)
		status int
		code   string
		reason string
	}{
		{"no signature", get("/key"), func(h http.Header) { h.Del("Authorization") }, 403, "AccessDenied", "unsigned"},
		{"unknown key", get("/key").with(func(c *call) { c.keys.AccessKeyID = "CSIGZZZZZZZZZZZZZZZZ" }), nil, 403, "InvalidAccessKeyId", "token_missing"},
		{"real key", get("/key").with(func(c *call) { c.keys = sourceKeys }), nil, 403, "InvalidAccessKeyId", "real_key"},
		{"wrong secret", get("/key").with(func(c *call) { c.keys.SecretAccessKey += "x" }), nil, 403, "SignatureDoesNotMatch", "signature"},
		{"stale", get("/key").with(func(c *call) { c.at = c.at.Add(-16 * time.Minute) }), nil, 403, "RequestTimeTooSkewed", "skewed"},
		{"early", get("/key").with(func(c *call) { c.at = c.at.Add(16 * time.Minute) }), nil, 403, "RequestTimeTooSkewed", "skewed"},
		{"unsigned amz header", get("/key"), func(h http.Header) { h.Set("X-Amz-Acl", "public-read") }, 403, "AccessDenied", "not-signed"},
		{"two authentications", get("/key?X-Amz-Algorithm=AWS4-HMAC-SHA256"), nil, 400, "InvalidRequest", "ambiguous"},
		{"another service", get("/key").with(func(c *call) { c.service = "sqs" }), nil, 400, "AuthorizationHeaderMalformed", "scope"},
		{"another region", get("/key").with(func(c *call) { c.host = "bucket.s3.eu-west-1.amazonaws.com" }), nil, 400, "AuthorizationHeaderMalformed", "scope"},
		{"foreign host", get("/key").with(func(c *call) { c.host = "evilamazonaws.com" }), nil, 403, "nothing is signed for it", "foreign host"},
		{"suffix trick", get("/key").with(func(c *call) { c.host = "s3.amazonaws.com.evil.example" }), nil, 403, "nothing is signed for it", "foreign host"},
		{"unknown host", get("/key").with(func(c *call) { c.host = "newservice.us-east-1.amazonaws.com" }), nil, 403, "nothing is signed for it", "unknown host"},
		{"implicit deny", get("/key").with(func(c *call) { c.method, c.keys.AccessKeyID = "DELETE", "CSIGPOLICEDPOLICED22" }), nil, 403, "AccessDenied", "implicit deny"},
		{"role that is gone", get("/key").with(func(c *call) { c.keys.AccessKeyID = "CSIGGONEGONEGONE2222" }), nil, 403, "AccessDenied", "role"},
		{"body that was not signed", get("/key").with(func(c *call) { c.method, c.body = "PUT", "signed" }), func(h http.Header) { h.Set("X-Amz-Content-Sha256", strings.Repeat("0", 64)) }, 403, "SignatureDoesNotMatch", "signature"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := setup(t, nil, nil)
			res, body := h.send(tt.call, tt.change)
			if res.StatusCode != tt.status || !strings.Contains(body, tt.code) {
				t.Errorf("%s\n%s\nwant %d %s", res.Status, body, tt.status, tt.code)
			}
			if strings.Contains(body, sourceKeys.AccessKeyID) && tt.name != "real key" || strings.Contains(body, sourceKeys.SecretAccessKey) {
				t.Errorf("the answer quotes a real credential: %s", body)
			}
			if date, err := http.ParseTime(res.Header.Get("Date")); err != nil || time.Since(date).Abs() > time.Minute {
				t.Errorf("Date: %q", res.Header.Get("Date"))
			}
			if n := len(h.arrived()); n != 0 {
				t.Errorf("%d requests arrived upstream", n)
			}
			lines := h.lines()
			if len(lines) != 1 || lines[0].Decision != audit.Deny || lines[0].Reason != tt.reason || lines[0].Status != tt.status {
				t.Errorf("%+v", lines)
			}
			if strings.Contains(h.record.b.String(), sourceKeys.AccessKeyID) {
				t.Error("the record holds a real key id")
			}
		})
	}
}

func TestHeadRefusalHasNoBody(t *testing.T) {
	h := setup(t, nil, nil)
	res, body := h.send(get("/key").with(func(c *call) { c.method, c.keys.SecretAccessKey = "HEAD", "another-secret-of-forty-characters-0001" }), nil)
	if res.StatusCode != 403 || body != "" {
		t.Errorf("%s %q", res.Status, body)
	}
}

func TestReportLetsPassAndSaysSo(t *testing.T) {
	h := setup(t, nil, nil)
	res, _ := h.send(get("/key").with(func(c *call) { c.method, c.keys.AccessKeyID = "DELETE", "CSIGWATCHEDWATCHED22" }), nil)
	if res.StatusCode != 200 || len(h.arrived()) != 1 {
		t.Errorf("%s, %d arrived", res.Status, len(h.arrived()))
	}
	lines := h.lines()
	if len(lines) != 1 || lines[0].Decision != audit.Report || lines[0].Reason != "implicit deny" {
		t.Errorf("%+v", lines)
	}
}

func TestJudgeThatFailsRefuses(t *testing.T) {
	h := setup(t, func(o *Options) {
		o.Roles["source"] = Role{Judge: func(string) (*policy.Set, error) { return nil, errors.New("not loaded") }}
	}, nil)
	if res, _ := h.send(get("/key"), nil); res.StatusCode != 403 || len(h.arrived()) != 0 {
		t.Errorf("%s, %d arrived", res.Status, len(h.arrived()))
	}
}

func TestNilSetDenies(t *testing.T) {
	h := setup(t, func(o *Options) {
		o.Roles["source"] = Role{Judge: func(string) (*policy.Set, error) { return nil, nil }}
	}, nil)
	if res, _ := h.send(get("/key"), nil); res.StatusCode != 403 || len(h.arrived()) != 0 {
		t.Errorf("%s, %d arrived", res.Status, len(h.arrived()))
	}
}

func TestNothingIsSignedWhileTheRecordCannotBeKept(t *testing.T) {
	var broken *audit.Log
	h := setup(t, func(o *Options) {
		var err error
		broken, err = audit.Open(audit.Options{Writer: failingWriter{}, Required: true, Retry: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		o.Audit = broken
	}, nil)
	t.Cleanup(func() { _ = broken.Close(t.Context()) })
	_ = broken.Write(audit.Entry{}) // the sink shows that it fails
	for broken.Ready() == nil {
		time.Sleep(time.Millisecond)
	}
	res, body := h.send(get("/key"), nil)
	if res.StatusCode != 503 || len(h.arrived()) != 0 {
		t.Errorf("%s %s, %d arrived", res.Status, body, len(h.arrived()))
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("full") }

func TestCredentialCallsAreRefused(t *testing.T) {
	post := call{method: "POST", host: "iam.amazonaws.com", target: "/", service: "iam", keys: clientKeys, at: time.Now(),
		body: "Action=CreateAccessKey&Version=2010-05-08", header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}}
	h := setup(t, nil, nil)
	res, body := h.send(post, nil)
	if res.StatusCode != 403 || !strings.Contains(body, "credential_calls") || len(h.arrived()) != 0 {
		t.Errorf("%s %s", res.Status, body)
	}
	if lines := h.lines(); len(lines) != 1 || lines[0].Reason != "credential call" || lines[0].Operation != "CreateAccessKey" {
		t.Errorf("%+v", lines)
	}

	h = setup(t, func(o *Options) { o.CredentialCalls = []string{"iam:createaccesskey"} }, nil)
	if res, body := h.send(post, nil); res.StatusCode != 200 || len(h.arrived()) != 1 {
		t.Errorf("named in credential_calls: %s %s", res.Status, body)
	}
}

func TestAnswersOfAPICallsAreWatchedForKeys(t *testing.T) {
	const secret = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY00"
	dynamodb := call{method: "POST", host: "dynamodb.us-east-1.amazonaws.com", target: "/", service: "dynamodb", keys: clientKeys, body: `{}`,
		header: http.Header{"Content-Type": {"application/x-amz-json-1.0"}, "X-Amz-Target": {"DynamoDB_20120810.ListTables"}}}
	// Glue's Iceberg catalog is in no model. Under Lake Formation it gives a table's
	// readers the keys to its files (Iceberg REST catalog, LoadTableResult).
	iceberg := call{method: "GET", host: "glue.us-east-1.amazonaws.com", target: "/iceberg/v1/namespaces/n/tables/t", service: "glue", keys: clientKeys,
		header: http.Header{"X-Iceberg-Access-Delegation": {"vended-credentials"}}}
	for name, tt := range map[string]struct {
		call                    call
		coding, kind, keys, end string
	}{
		"json":              {dynamodb, "", "application/x-amz-json-1.1", `{"Credentials":{"AccessKeyId":"ASIAABCDEFGHIJKLMNOP","SecretAccessKey":"` + secret + `"}}`, "holds credentials"},
		"json, compressed":  {dynamodb, "gzip", "application/x-amz-json-1.1", `{"Credentials":{"AccessKeyId":"ASIAABCDEFGHIJKLMNOP","SecretAccessKey":"` + secret + `"}}`, "holds credentials"},
		"CBOR for Java":     {dynamodb, "", "application/x-amz-cbor-1.1", "\xa2kAccessKeyIdtASIAABCDEFGHIJKLMNOPoSecretAccessKeyx(" + secret, "holds credentials"},
		"not in the tables": {iceberg, "", "application/json", `{"config":{"s3.access-key-id":"ASIAABCDEFGHIJKLMNOP","s3.secret-access-key":"` + secret + `"}}`, "holds credentials"},
		"of another kind":   {iceberg, "gzip", "application/octet-stream", `{"config":{"s3.access-key-id":"ASIAABCDEFGHIJKLMNOP","s3.secret-access-key":"` + secret + `"}}`, "holds credentials"},
		"broken":            {iceberg, "gzip, gzip", "application/json", secret, "cannot be looked into"},
		"of another coding": {iceberg, "br", "application/json", secret, "cannot be looked into"},
	} {
		t.Run(name, func(t *testing.T) {
			h := setup(t, nil, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", tt.kind)
				if tt.coding == "" {
					_, _ = io.WriteString(w, tt.keys)
					return
				}
				w.Header().Set("Content-Encoding", tt.coding)
				z := gzip.NewWriter(w)
				_, _ = io.WriteString(z, tt.keys)
				_ = z.Close()
			})
			tt.call.at = time.Now()
			_, body := h.send(tt.call, func(hd http.Header) { hd.Set("Accept-Encoding", "gzip, br") })
			if plain, err := gzip.NewReader(strings.NewReader(body)); err == nil {
				text, _ := io.ReadAll(plain)
				body += string(text)
			}
			if strings.Contains(body, secret[:5]) {
				t.Errorf("the secret reached the client: %s", body)
			}
			if lines := h.lines(); len(lines) != 1 || lines[0].Decision != audit.Deny || lines[0].Reason != "credentials in answer" || !strings.Contains(lines[0].Error, tt.end) {
				t.Errorf("%+v", lines)
			}
		})
	}
}

func TestBodyOtherThanTheSignedIsCutOffUpstream(t *testing.T) {
	h := setup(t, nil, nil)
	signed := get("/key").with(func(c *call) { c.method, c.body = "PUT", strings.Repeat("a", 100_000) })
	head := signed.sign(t)
	altered := signed.with(func(c *call) { c.body = c.body[:99_999] + "b" })
	res, body := h.send(altered, func(hd http.Header) {
		for k, v := range head {
			hd[k] = v
		}
	})
	if res.StatusCode != 400 || !strings.Contains(body, "XAmzContentSHA256Mismatch") {
		t.Errorf("%s %s", res.Status, body)
	}
	for _, s := range h.arrived() {
		if s.BodyErr == nil {
			t.Errorf("a whole body arrived upstream: %d bytes", len(s.Body))
		}
	}
	if lines := h.lines(); len(lines) != 1 || lines[0].Decision != audit.Deny || lines[0].Reason != "payload" {
		t.Errorf("%+v", lines)
	}
}

func TestAPanicCostsOneRequest(t *testing.T) {
	broken := false
	h := setup(t, func(o *Options) {
		good := o.Roles["source"].Judge
		o.Roles["source"] = Role{Judge: func(b string) (*policy.Set, error) {
			if broken = !broken; broken {
				panic("a fault of ours")
			}
			return good(b)
		}}
	}, nil)
	if res, body := h.send(get("/key"), nil); res.StatusCode != 500 || strings.Contains(body, "a fault of ours") {
		t.Errorf("%s %s", res.Status, body)
	}
	if res, _ := h.send(get("/key"), nil); res.StatusCode != 200 {
		t.Errorf("the next request: %s", res.Status)
	}
	if lines := h.lines(); len(lines) != 2 || lines[0].Reason != "panic" || lines[0].Decision != audit.Deny || lines[0].Status != 500 {
		t.Errorf("%+v", lines)
	}
}

func TestUnsignedRules(t *testing.T) {
	rule := func(o *Options) {
		o.Unsigned = []UnsignedRule{{Match: func(n string) bool { return n == "bucket.s3.us-east-1.amazonaws.com" || n == "files.example" }}}
	}
	strip := func(h http.Header) {
		h.Del("Authorization")
		h.Del("X-Amz-Date")
		h.Del("X-Amz-Content-Sha256")
	}
	for _, tt := range []struct {
		name, method, host string
		status             int
	}{
		{"named host", "GET", "bucket.s3.us-east-1.amazonaws.com", 200},
		{"host that is not AWS", "GET", "files.example", 200},
		{"another method", "PUT", "bucket.s3.us-east-1.amazonaws.com", 403},
		{"another host", "GET", "other.s3.us-east-1.amazonaws.com", 403},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := setup(t, rule, nil)
			res, body := h.send(get("/key").with(func(c *call) { c.method, c.host = tt.method, tt.host }), strip)
			if res.StatusCode != tt.status {
				t.Errorf("%s %s", res.Status, body)
			}
			for _, s := range h.arrived() {
				if s.Header.Get("Authorization") != "" {
					t.Errorf("an unsigned request was signed: %v", s.Header)
				}
			}
			if lines := h.lines(); len(lines) != 1 || lines[0].Signature != "none" || lines[0].Identity != "" {
				t.Errorf("%+v", lines)
			}
		})
	}
}

func TestHeldBodiesShareABudget(t *testing.T) {
	h := setup(t, func(o *Options) { o.BodyBufferSum = 100 }, nil)
	c := call{method: "POST", host: "dynamodb.us-east-1.amazonaws.com", target: "/", service: "dynamodb", keys: clientKeys, at: time.Now(),
		body:   `{"TableName":"` + strings.Repeat("t", 200) + `"}`,
		header: http.Header{"Content-Type": {"application/x-amz-json-1.0"}, "X-Amz-Target": {"DynamoDB_20120810.DescribeTable"}}}
	if res, body := h.send(c, nil); res.StatusCode != 400 || !strings.Contains(body, "ThrottlingException") || len(h.arrived()) != 0 {
		t.Errorf("%s %s", res.Status, body)
	}
	if left := h.pipeline.budget.left.Load(); left != 100 {
		t.Errorf("%d bytes of the budget are left, not 100", left)
	}
}

// A form in chunks is one text without the framing, and another with it.
func TestChunksOutsideOfS3AreRefused(t *testing.T) {
	h := setup(t, nil, nil)
	const word = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
	body := "4\r\nActi\r\n1f\r\non=ListUsers&Version=2010-05-08\r\n0\r\nx-amz-checksum-crc32:&Action=CreateAccessKey&Version=2010-05-08&UserName=admin\r\n\r\n"
	r, err := http.NewRequest(http.MethodPost, "https://iam.amazonaws.com/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = int64(len(body))
	r.Header = http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Content-Encoding": {"aws-chunked"}, "X-Amz-Content-Sha256": {word}}
	if err := v4.NewSigner().SignHTTP(t.Context(), clientKeys, r, word, "iam", "us-east-1", time.Now()); err != nil {
		t.Fatal(err)
	}
	c := call{method: "POST", host: "iam.amazonaws.com", target: "/", service: "iam", keys: clientKeys, at: time.Now(), body: body}
	res, text := h.send(c, func(head http.Header) {
		clear(head)
		maps.Copy(head, r.Header)
	})
	if res.StatusCode != 400 || !strings.Contains(text, "only S3 takes") || len(h.arrived()) != 0 {
		t.Errorf("%s %s, arrived: %+v", res.Status, text, h.arrived())
	}
}

// Whoever reaches the listener can send a call that needs no signature, so what is
// held for such calls must not crowd out those of clients.
func TestUnsignedBodiesAreHeldInALittleMemory(t *testing.T) {
	unsigned := func(size int) call {
		return call{method: "POST", host: "sts.us-east-1.amazonaws.com", target: "/", service: "sts", keys: clientKeys, at: time.Now(),
			body:   "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&WebIdentityToken=" + strings.Repeat("t", size),
			header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}}
	}
	strip := func(h http.Header) {
		h.Del("Authorization")
		h.Del("X-Amz-Date")
		h.Del("X-Amz-Content-Sha256")
	}
	for name, c := range map[string]struct {
		sum  int64
		size int
		want string
	}{
		"a token":        {0, 20 << 10, "RoleArn"}, // what the call itself is refused for
		"more than any":  {0, unsignedBody, "the body"},
		"more than left": {1 << 20, 70 << 10, "limits.body_buffer_sum"},
	} {
		h := setup(t, func(o *Options) { o.BodyBufferSum = c.sum }, nil)
		if res, body := h.send(unsigned(c.size), strip); res.StatusCode != 400 && res.StatusCode != 413 || !strings.Contains(body, c.want) {
			t.Errorf("%s: %s %s", name, res.Status, body)
		}
		if left, sum := h.pipeline.strangers.left.Load(), h.pipeline.opt.BodyBufferSum/16; left != sum {
			t.Errorf("%s: %d bytes are left for unsigned calls, not %d", name, left, sum)
		}
	}
}

func TestEndpointModeFindsTheHostFromTheScope(t *testing.T) {
	h := setup(t, nil, nil)
	h.front.Config.Handler = h.pipeline.Endpoint()
	c := call{method: "POST", host: "127.0.0.1:8802", target: "/", service: "sqs", keys: clientKeys, at: time.Now(), body: `{}`,
		header: http.Header{"Content-Type": {"application/x-amz-json-1.0"}, "X-Amz-Target": {"AmazonSQS.ListQueues"}}}
	if res, body := h.send(c, nil); res.StatusCode != 200 {
		t.Fatalf("%s %s", res.Status, body)
	}
	if seen := h.arrived(); len(seen) != 1 || seen[0].Host != "sqs.us-east-1.amazonaws.com" {
		t.Errorf("%+v", seen)
	}
}

// Clients of S3 sign again for the region that the answer names.
func TestWrongRegionNamesTheRightOne(t *testing.T) {
	h := setup(t, nil, nil)
	for host, want := range map[string]string{
		"bucket.s3.eu-west-1.amazonaws.com": "eu-west-1",
		"bucket.s3.amazonaws.com":           "us-east-1",
	} {
		for _, method := range []string{"GET", "HEAD"} {
			c := get("/key").with(func(c *call) { c.method, c.host, c.region = method, host, "US" })
			res, body := h.send(c, nil)
			if res.StatusCode != 400 || res.Header.Get("X-Amz-Bucket-Region") != want {
				t.Errorf("%s %s: %s, region %q in the header, want %q", method, host, res.Status, res.Header.Get("X-Amz-Bucket-Region"), want)
			}
			c.service, c.region = "sqs", "" // for another service, which no region mends
			if res, _ := h.send(c, nil); res.StatusCode != 400 || res.Header.Get("X-Amz-Bucket-Region") != "" {
				t.Errorf("%s %s for sqs: %s, region %q", method, host, res.Status, res.Header.Get("X-Amz-Bucket-Region"))
			}
			if element := "<Region>" + want + "</Region>"; method == "GET" && !strings.Contains(body, element) {
				t.Errorf("%s: no %s in %s", host, element, body)
			}
		}
	}
}
