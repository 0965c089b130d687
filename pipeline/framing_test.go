package pipeline

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/countersign-proxy/countersign/audit"
)

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
