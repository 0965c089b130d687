package awsapi

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"
)

var errorTime = time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)

func answer(p Protocol, method string, header http.Header, k ErrorKind, message string) *http.Response {
	r := httptest.NewRequest(method, "https://example.amazonaws.com/", nil)
	for n, v := range header {
		r.Header[n] = v
	}
	w := httptest.NewRecorder()
	w.Header().Set("Age", "100")
	w.Header().Set("Content-Encoding", "gzip")
	w.Header().Set("Date", "Thu, 01 Jan 1970 00:00:00 GMT")
	WriteError(w, r, Host{}, p, APIError{Kind: k, Message: message, RequestID: "req-1", Time: errorTime})
	return w.Result()
}

func TestBotocoreParsesEveryErrorInEveryProtocol(t *testing.T) {
	const message = `no policy allows s3:GetObject on "arn:aws:s3:::b/<k>&'` + "\u00e9\u0001\nsecond line"
	type sent struct {
		Protocol string      `json:"protocol"`
		Status   int         `json:"status"`
		Headers  [][2]string `json:"headers"`
		Body     string      `json:"body"`
	}
	type parsed struct {
		Code, Message string
		RequestID     string `json:"request_id"`
		Status        int
		QueryCode     string `json:"query_code"`
	}
	var in bytes.Buffer
	var want []parsed
	mode := http.Header{"X-Amzn-Query-Mode": {"true"}}
	for _, c := range []struct {
		name   string
		p      Protocol
		header http.Header
	}{
		{"query", ProtocolQuery, nil}, {"ec2", ProtocolEC2, nil}, {"rest-xml", ProtocolRESTXML, nil}, {"s3", ProtocolS3, nil},
		{"json", ProtocolJSON, nil}, {"rest-json", ProtocolRESTJSON, nil}, {"rpc-v2-cbor", ProtocolCBOR, nil},
		{"json-query", ProtocolJSON, mode}, {"cbor-query", ProtocolCBOR, mode},
	} {
		for k := ErrorKind(0); k < errorKinds; k++ {
			res := answer(c.p, "POST", c.header, k, message)
			var body bytes.Buffer
			if _, err := body.ReadFrom(res.Body); err != nil {
				t.Fatal(err)
			}
			s := sent{Protocol: c.name, Status: res.StatusCode, Body: base64.StdEncoding.EncodeToString(body.Bytes())}
			for n, v := range res.Header {
				s.Headers = append(s.Headers, [2]string{n, v[0]})
			}
			if err := json.NewEncoder(&in).Encode(s); err != nil {
				t.Fatal(err)
			}
			p := parsed{Code: codeOf(c.p, k).code, Message: message, RequestID: "req-1", Status: codeOf(c.p, k).status}
			if c.header != nil {
				// A client of the older protocol sees the older code.
				p.QueryCode = p.Code
				p.Code = codeOf(ProtocolQuery, k).code
			}
			if c.p == ProtocolQuery || c.p == ProtocolRESTXML || c.p == ProtocolEC2 || c.p == ProtocolS3 {
				p.Message = `no policy allows s3:GetObject on "arn:aws:s3:::b/<k>&'` + "\u00e9\ufffd\nsecond line" // XML has no control characters
			}
			want = append(want, p)
		}
	}
	cmd := exec.Command(python(t), "testdata/parse_errors.py")
	cmd.Stdin = &in
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("parse_errors.py: %v\n%s", err, stderr.String())
	}
	d := json.NewDecoder(bytes.NewReader(out))
	for i, w := range want {
		var got parsed
		if err := d.Decode(&got); err != nil {
			t.Fatal(err)
		}
		if got != w {
			t.Errorf("answer %d:\n got %+v\nwant %+v", i, got, w)
		}
	}
}

func TestErrorHeaders(t *testing.T) {
	for _, c := range []struct {
		p    Protocol
		want map[string]string
	}{
		{ProtocolS3, map[string]string{"x-amz-request-id": "req-1", "x-amz-id-2": "req-1", "Content-Type": "application/xml"}},
		{ProtocolQuery, map[string]string{"x-amzn-RequestId": "req-1", "Content-Type": "text/xml"}},
		{ProtocolJSON, map[string]string{"x-amzn-RequestId": "req-1", "Content-Type": "application/x-amz-json-1.1"}},
		{ProtocolRESTJSON, map[string]string{"x-amzn-RequestId": "req-1", "x-amzn-ErrorType": "AccessDeniedException", "Content-Type": "application/json"}},
		{ProtocolCBOR, map[string]string{"x-amzn-RequestId": "req-1", "smithy-protocol": "rpc-v2-cbor", "Content-Type": "application/cbor"}},
	} {
		res := answer(c.p, "GET", nil, ErrAccessDenied, "no")
		for k, v := range c.want {
			if got := res.Header[k]; len(got) != 1 || got[0] != v {
				t.Errorf("%s: %s is %q, want %q", c.p, k, got, v)
			}
		}
		if got := res.Header.Get("Date"); got != "Mon, 06 May 2024 07:08:09 GMT" {
			t.Errorf("%s: Date %q", c.p, got)
		}
		for _, k := range []string{"Age", "Content-Encoding"} {
			if got, ok := res.Header[k]; ok {
				t.Errorf("%s: %s is left behind: %q", c.p, k, got)
			}
		}
	}
	res := answer(ProtocolJSON, "POST", http.Header{"Content-Type": {"application/x-amz-json-1.0"}}, ErrAccessDenied, "no")
	if got := res.Header.Get("Content-Type"); got != "application/x-amz-json-1.0" {
		t.Errorf("a 1.0 call is answered in %q", got)
	}
}

func TestHeadHasNoBody(t *testing.T) {
	w := httptest.NewRecorder()
	r := httptest.NewRequest("HEAD", "https://b.s3.amazonaws.com/k", nil)
	WriteError(w, r, mustHost(t, "b.s3.amazonaws.com"), ProtocolUnknown, APIError{Kind: ErrAccessDenied, Message: "no", RequestID: "r", Time: errorTime})
	if w.Code != 403 || w.Body.Len() != 0 || w.Header().Get("Content-Length") != "" {
		t.Errorf("got %d, %q, length %q", w.Code, w.Body, w.Header().Get("Content-Length"))
	}
}

// SDKs repeat a call by status and by code; the sets are those of botocore's
// standard retry mode.
func TestOnlyPassingTroubleIsRepeated(t *testing.T) {
	codes := map[string]bool{
		"Throttling": true, "ThrottlingException": true, "ThrottledException": true, "RequestThrottledException": true,
		"TooManyRequestsException": true, "ProvisionedThroughputExceededException": true, "TransactionInProgressException": true,
		"RequestLimitExceeded": true, "BandwidthLimitExceeded": true, "LimitExceededException": true, "RequestThrottled": true,
		"SlowDown": true, "PriorRequestNotComplete": true, "EC2ThrottledException": true, "RequestTimeout": true, "RequestTimeoutException": true,
	}
	statuses := map[int]bool{500: true, 502: true, 503: true, 504: true}
	for _, p := range []Protocol{ProtocolQuery, ProtocolEC2, ProtocolS3, ProtocolJSON, ProtocolRESTJSON, ProtocolRESTXML, ProtocolCBOR} {
		for k := ErrorKind(0); k < errorKinds; k++ {
			c := codeOf(p, k)
			passing := k == ErrThrottled || k == ErrServiceUnavailable || k == ErrInternalFailure
			if got := codes[c.code] || statuses[c.status]; got != passing {
				t.Errorf("%s, %s: %d %s is repeated: %v", p, k, c.status, c.code, got)
			}
		}
	}
}

func TestErrorKindsHaveWords(t *testing.T) {
	seen := make(map[string]bool)
	for k := ErrorKind(0); k < errorKinds; k++ {
		if w := k.String(); w == "" || seen[w] {
			t.Errorf("kind %d has the word %q", k, w)
		}
		seen[k.String()] = true
	}
	if ErrorKind(-1).String() != "internal failure" || ErrorKind(99).String() != "internal failure" {
		t.Error("a kind out of range has no word")
	}
}

// Where nothing says which service is meant, the request's own form tells what its
// client can read.
func TestProtocolOfAnUnknownService(t *testing.T) {
	for _, tt := range []struct {
		name, target  string
		authorization string
		contentType   string
		want          Protocol
	}{
		{"nothing at all", "/", "", "", ProtocolRESTJSON},
		{"JSON", "/", "", "application/x-amz-json-1.0", ProtocolJSON},
		{"a form", "/", "", "application/x-www-form-urlencoded; charset=utf-8", ProtocolQuery},
		{"a query", "/?Action=ListDomains&Version=2009-04-15", "", "", ProtocolQuery},
		{"a query with Signature Version 2", "/?Action=ListDomains&AWSAccessKeyId=K&SignatureVersion=2&Signature=s", "", "", ProtocolQuery},
		{"S3 with Signature Version 2", "/bucket/key", "AWS AKIDEXAMPLE:c2lnbmF0dXJl", "", ProtocolS3},
		{"a link with Signature Version 2", "/bucket/key?AWSAccessKeyId=K&Expires=1795412658&Signature=s", "", "", ProtocolS3},
		{"Signature Version 4", "/bucket/key", "AWS4-HMAC-SHA256 Credential=K", "", ProtocolRESTJSON},
	} {
		r := httptest.NewRequest("GET", tt.target, nil)
		r.Header.Set("Authorization", tt.authorization)
		r.Header.Set("Content-Type", tt.contentType)
		if got := ProtocolOf(Host{}, r); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestErrorsForTheJavaSDKOfKinesis(t *testing.T) {
	r := httptest.NewRequest("POST", "https://kinesis.us-east-1.amazonaws.com/", nil)
	r.Header.Set("X-Amz-Target", "Kinesis_20131202.PutRecord")
	r.Header.Set("Content-Type", "application/x-amz-cbor-1.1")
	host, _ := LookupHost("kinesis.us-east-1.amazonaws.com")
	w := httptest.NewRecorder()
	WriteError(w, r, host, ProtocolUnknown, APIError{Kind: ErrExpired, Message: "no", RequestID: "req-1", Time: errorTime})
	if got, want := w.Body.String(), "\xa2\x66__type\x75ExpiredTokenException\x67message\x62no"; got != want || w.Code != 403 {
		t.Errorf("%d %q, want %q", w.Code, got, want)
	}
	for name := range w.Header() {
		if strings.EqualFold(name, "smithy-protocol") {
			t.Errorf("the answer is of another protocol: %v", w.Header())
		}
	}
	if got := w.Header().Get("Content-Type"); got != "application/x-amz-cbor-1.1" {
		t.Errorf("content type %q", got)
	}
}
