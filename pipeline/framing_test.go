package pipeline

import (
	"bufio"
	"compress/gzip"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/countersign-proxy/countersign/audit"
)

// S3 has a code of its own for presigned URLs that cannot be read.
func TestMalformedLinkIsAnsweredAsS3Does(t *testing.T) {
	const scope = "%2F20260304%2Fus-east-1%2Fs3%2Faws4_request"
	link := "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=CSIGAAAABBBBCCCC2345" + scope + "&X-Amz-Date=20260304T050607Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=" + strings.Repeat("0", 64)
	for name, tt := range map[string]struct{ old, new, want string }{
		"no signature":   {"&X-Amz-Signature=" + strings.Repeat("0", 64), "", "AuthorizationQueryParametersError"},
		"no expiry":      {"&X-Amz-Expires=60", "", "AuthorizationQueryParametersError"},
		"long expiry":    {"Expires=60", "Expires=604801", "AuthorizationQueryParametersError"},
		"no scope":       {scope, "", "AuthorizationQueryParametersError"},
		"another date":   {"20260304T", "20260305T", "AuthorizationQueryParametersError"},
		"another method": {"AWS4-HMAC-SHA256", "AWS4-X", "InvalidRequest"},
		"nothing wrong":  {"", "", "AccessDenied"}, // but expired
	} {
		h := setup(t, nil, nil)
		conn, err := net.Dial("tcp", h.front.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET /key?"+strings.Replace(link, tt.old, tt.new, 1)+" HTTP/1.1\r\nHost: bucket.s3.us-east-1.amazonaws.com\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		if !strings.Contains(string(body), "<Code>"+tt.want+"</Code>") {
			t.Errorf("%s: %s %s", name, res.Status, body)
		}
		if lines := h.lines(); len(lines) != 1 || lines[0].Decision != audit.Deny {
			t.Errorf("%s: %+v", name, lines)
		}
	}
}

// What net/http would pass on as something else than was sent ends here, as the
// client's fault, and not as one of AWS that SDKs would try again.
func TestBrokenFramingIsTheClientsFault(t *testing.T) {
	for name, tt := range map[string]struct {
		method, version, rest, reason, says string
	}{
		"HTTP/1.0 with chunks": {"PUT", "1.0", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "framing", "use HTTP/1.1"},
		"HTTP/1.0, no length":  {"POST", "1.0", "\r\nhello", "framing", "use HTTP/1.1"},
		"line feeds alone":     {"PUT", "1.1", "Transfer-Encoding: chunked\r\n\r\n5\nhello\n0\n\n", "incomplete", "could not be read to its end"},
		"negative chunk":       {"PUT", "1.1", "Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n", "incomplete", "could not be read to its end"},
		"CONNECT":              {"CONNECT", "1.1", "\r\n", "target form", "no AWS API has"},
		"TRACE":                {"TRACE", "1.1", "\r\n", "target form", "no AWS API has"},
	} {
		t.Run(name, func(t *testing.T) {
			h := setup(t, nil, nil)
			c := get("/key")
			r, err := http.NewRequest(tt.method, "https://"+c.host+c.target, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
			if err := v4.NewSigner().SignHTTP(t.Context(), c.keys, r, "UNSIGNED-PAYLOAD", c.service, "us-east-1", time.Now()); err != nil {
				t.Fatal(err)
			}
			var head strings.Builder
			head.WriteString(tt.method + " " + c.target + " HTTP/" + tt.version + "\r\nHost: " + c.host + "\r\n")
			_ = r.Header.Write(&head)
			conn, err := net.Dial("tcp", h.front.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, head.String()+tt.rest); err != nil {
				t.Fatal(err)
			}
			res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: "GET"})
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(res.Body)
			if res.StatusCode != 400 || !strings.Contains(string(body), "<Code>InvalidRequest</Code>") || !strings.Contains(string(body), tt.says) {
				t.Errorf("%s %s", res.Status, body)
			}
			for _, s := range h.arrived() {
				if s.BodyErr == nil {
					t.Errorf("a whole request arrived upstream: %+v", s)
				}
			}
			if lines := h.lines(); len(lines) != 1 || lines[0].Decision != audit.Deny || lines[0].Reason != tt.reason {
				t.Errorf("%+v", lines)
			}
		})
	}
}

// What a body unpacks to is memory like any other.
func TestUnpackedBodiesCountAsHeld(t *testing.T) {
	var b strings.Builder
	z := gzip.NewWriter(&b)
	_, _ = io.WriteString(z, `{"TableName":"t","x":"`+strings.Repeat(" ", 4<<20)+`"}`)
	_ = z.Close()
	c := call{method: "POST", host: "dynamodb.us-east-1.amazonaws.com", target: "/", service: "dynamodb", keys: clientKeys, at: time.Now(), body: b.String(),
		header: http.Header{"Content-Type": {"application/x-amz-json-1.0"}, "Content-Encoding": {"gzip"}, "X-Amz-Target": {"DynamoDB_20120810.DescribeTable"}}}
	for sum, want := range map[int64]string{1 << 20: "no-memory", 64 << 20: "no policy"} {
		h := setup(t, func(o *Options) { o.BodyBufferSum = sum }, nil)
		_, _ = h.send(c, nil)
		if lines := h.lines(); len(lines) != 1 || lines[0].Reason != want {
			t.Errorf("%d: %+v", sum, lines)
		}
		if left := h.pipeline.budget.left.Load(); left != sum {
			t.Errorf("%d of %d bytes were given back", left, sum)
		}
	}
}
