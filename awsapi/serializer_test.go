package awsapi

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"sort"
	"strings"
	"testing"
)

// serialized is one line of testdata/serialize.py.
type serialized struct {
	Service, Operation, Protocol, Variant string
	Method, URL, Body, Error              string
	Headers                               [][2]string
}

// python returns an interpreter that has botocore. Without one the test is
// skipped, except in CI.
func python(t *testing.T) string {
	t.Helper()
	p := os.Getenv("COUNTERSIGN_PYTHON")
	if p == "" {
		p = "python3"
	}
	if err := exec.Command(p, "-c", "import botocore").Run(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s cannot import botocore, and this test is the proof of identification: %v", p, err)
		}
		t.Skipf("needs a Python with botocore (COUNTERSIGN_PYTHON): %v", err)
	}
	return p
}

func (s serialized) request(t *testing.T) (*http.Request, []byte) {
	t.Helper()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatalf("%s:%s: %v", s.Service, s.Operation, err)
	}
	body, err := base64.StdEncoding.DecodeString(s.Body)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(s.URL, "://")
	target := "/"
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		target = rest[i:]
	}
	if target[0] == '?' {
		target = "/" + target
	}
	r := &http.Request{Method: s.Method, Host: u.Host, RequestURI: target, Header: make(http.Header), ContentLength: int64(len(body))}
	for _, h := range s.Headers {
		r.Header.Add(h[0], h[1])
	}
	r.Body = http.NoBody
	return r, body
}

// sameOnTheWire are operations that no request tells apart: the service knows
// them under both names, and they need the same permissions.
var sameOnTheWire = map[string]string{
	"s3:GetBucketLifecycle":    "s3:GetBucketLifecycleConfiguration",
	"s3:PutBucketLifecycle":    "s3:PutBucketLifecycleConfiguration",
	"s3:GetBucketNotification": "s3:GetBucketNotificationConfiguration",
	"s3:PutBucketNotification": "s3:PutBucketNotificationConfiguration",
}

// sameHost reports whether two models have an operation of one name behind one
// host, as rds, docdb and neptune do: the service itself does not tell them apart.
func sameHost(h Host, c *Call, s serialized) bool {
	return c.Operation == s.Operation && slices.Contains(h.Models, s.Service) && slices.Contains(h.Models, c.Service)
}

// notIdentified are operations that are judged as unknown calls, and why.
var notIdentified = map[string]string{
	"cloudsearchdomain:Search": "botocore sends the query as a form, which the model does not say",
	"machinelearning:Predict":  "goes to a host that another call returned",
	"signin:CreateOAuth2Token": "goes to the sign-in pages, which are never signed for",
}

func TestEveryOperationAsBotocoreSendsItIsIdentified(t *testing.T) {
	if testing.Short() {
		t.Skip("serializes every operation of every service, which takes minutes")
	}
	var lines *bufio.Scanner
	if file := os.Getenv("COUNTERSIGN_SERIALIZED"); file != "" { // what serialize.py printed before
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		lines = bufio.NewScanner(f)
	} else {
		cmd := exec.Command(python(t), "testdata/serialize.py")
		cmd.Env = append(os.Environ(), "AWS_CONFIG_FILE=/nonexistent", "AWS_SHARED_CREDENTIALS_FILE=/nonexistent", "AWS_EC2_METADATA_DISABLED=true")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := cmd.Wait(); err != nil {
				t.Errorf("serialize.py: %v\n%s", err, stderr.String())
			}
		}()
		lines = bufio.NewScanner(out)
	}
	lines.Buffer(nil, 64<<20)
	type count struct{ all, exact, set, unknown, unbuilt int }
	counts := make(map[string]*count)
	operations := make(map[string]bool)
	var unbuilt []string
	hostFailures := make(map[string]string)
	for lines.Scan() {
		var s serialized
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			t.Fatal(err)
		}
		n := counts[s.Protocol]
		if n == nil {
			n = &count{}
			counts[s.Protocol] = n
		}
		name := s.Service + ":" + s.Operation
		if s.Error != "" {
			n.unbuilt++
			unbuilt = append(unbuilt, name+" ("+s.Variant+"): "+s.Error)
			continue
		}
		n.all++
		operations[name] = true
		if notIdentified[name] != "" {
			n.unknown++
			continue
		}
		r, body := s.request(t)
		h, verdict := LookupHost(r.Host)
		if verdict != HostAPI {
			hostFailures[s.Service] = r.Host
			continue
		}
		c := Identify(Input{Host: h, Request: r, Body: body, AccountID: "111122223333", Region: "us-east-1"})
		got := c.Service + ":" + c.Operation
		switch {
		case got == name:
			n.exact++
		case sameOnTheWire[name] == got || sameHost(h, c, s):
			n.set++
		default:
			t.Errorf("%s (%s, %s) is taken for %s: %s\n%s %s", name, s.Protocol, s.Variant, got, c.Unknown, r.Method, r.Host+r.RequestURI)
		}
		if !NeedsBody(h, r) {
			head := Identify(Input{Host: h, Request: r, AccountID: "111122223333", Region: "us-east-1"})
			if head.Operation != c.Operation || head.Unknown != c.Unknown {
				t.Errorf("%s: NeedsBody is false, but without the body the call is %q %q, and %q %q with it", name, head.Operation, head.Unknown, c.Operation, c.Unknown)
			}
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	for s, h := range hostFailures {
		t.Errorf("%s: host %s is not known to be an API", s, h)
	}
	var names []string
	for p := range counts {
		names = append(names, p)
	}
	sort.Strings(names)
	total := 0
	for _, p := range names {
		n := counts[p]
		t.Logf("%-20s %6d requests, %6d identified exactly, %4d as one of a set, %d unknown by design, %3d not built by botocore", p, n.all, n.exact, n.set, n.unknown, n.unbuilt)
		total += n.all
	}
	sort.Strings(unbuilt)
	for _, u := range unbuilt {
		t.Log("not built: " + u)
	}
	if total < 30000 {
		t.Errorf("only %d requests were checked", total)
	}
	t.Logf("%d operations of botocore", len(operations))
}
