package pipeline

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// What AWS says of the proxy's credentials is no matter of the client's, whose own are
// good: where others can be had it is told to try again, and hears AWS otherwise.
func TestCredentialsThatAWSRefusesAreFetchedAgain(t *testing.T) {
	const long = 9 << 10
	for _, c := range []struct {
		name   string
		status int
		header http.Header
		body   string
		again  bool
	}{
		{"S3", 400, nil, "<?xml version=\"1.0\"?>\n<Error><Code>ExpiredToken</Code><Token-0>" + strings.Repeat("x", long) + "</Token-0></Error>", true},
		{"S3, unknown", 403, nil, "<Error><Code>InvalidAccessKeyId</Code></Error>", true},
		{"query", 403, nil, "<ErrorResponse><Error><Type>Sender</Type><Code>InvalidClientTokenId</Code><Message>m</Message></Error></ErrorResponse>", true},
		{"EC2", 401, nil, "<Response><Errors><Error><Code>AuthFailure</Code></Error></Errors></Response>", true},
		{"JSON", 400, nil, `{"__type":"com.amazon.coral.service#UnrecognizedClientException","message":"m"}`, true},
		{"JSON, spaced", 400, nil, `{ "message": "m", "code" : "ExpiredTokenException" }`, true},
		{"REST", 403, http.Header{"X-Amzn-Errortype": {"ExpiredTokenException:http://internal.amazon.com/coral/x/"}}, `{"message":"m"}`, true},
		{"REST, no body", 403, http.Header{"X-Amzn-Errortype": {"UnrecognizedClientException"}}, "", true},
		{"query by JSON", 403, http.Header{"X-Amzn-Query-Error": {"InvalidClientTokenId;Sender"}}, `{}`, true},
		{"CBOR", 403, nil, "\xa2f__typex!com.amazon#ExpiredTokenExceptiongmessageam", true},

		{"another code", 403, nil, "<Error><Code>AccessDenied</Code><Message>ExpiredToken</Message></Error>", false},
		{"a longer code", 400, nil, `{"__type":"InvalidTokenFormat"}`, false},
		{"another header", 400, http.Header{"X-Amzn-Errortype": {"ExpiredTokenExceptionally"}}, `{"message":"m"}`, false},
		{"another status", 404, nil, "<Error><Code>ExpiredToken</Code></Error>", false},
		{"no error", 200, nil, "<Error><Code>ExpiredToken</Code></Error>", false},
		{"compressed", 403, http.Header{"Content-Encoding": {"gzip"}}, "<Error><Code>ExpiredToken</Code></Error>", false},
		{"beyond the head", 403, nil, strings.Repeat(" ", long) + "<Error><Code>ExpiredToken</Code></Error>", false},
		{"nothing", 403, nil, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var now, fetches atomic.Int64
			now.Store(time.Now().UnixNano())
			h := setup(t, func(o *Options) {
				withSource(t, o, func() time.Time { return time.Unix(0, now.Load()) }, func() aws.Credentials {
					fetches.Add(1)
					c := sourceKeys
					c.AccountID = "123456789012"
					return c
				})
			}, func(w http.ResponseWriter, _ *http.Request) {
				for name, values := range c.header {
					w.Header()[name] = values
				}
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			})
			passed := func(when string, wantFetches int64) {
				t.Helper()
				if res, body := h.send(get("/key"), nil); res.StatusCode != c.status || body != c.body || fetches.Load() != wantFetches {
					t.Errorf("%s: %s %.300s, %d fetches", when, res.Status, body, fetches.Load())
				}
			}
			passed("credentials of just now", 1)
			now.Add(int64(time.Minute))
			if !c.again {
				passed("a minute later", 1)
				return
			}
			if res, body := h.send(get("/key"), nil); res.StatusCode != 503 || !strings.Contains(body, "<Code>ServiceUnavailable</Code>") || !strings.Contains(body, "send the request again") {
				t.Errorf("%s %s", res.Status, body)
			}
			passed("and again", 2)
			var got []string
			for _, e := range h.lines() {
				got = append(got, fmt.Sprintf("%s %d %s", e.Decision, e.Status, e.Reason))
			}
			slices.Sort(got) // a line may be written after the next request has begun
			passes := fmt.Sprintf("allow %d no policy", c.status)
			if want := []string{passes, passes, "deny 503 session refused"}; !slices.Equal(got, want) {
				t.Errorf("%q, expected %q", got, want)
			}
		})
	}
}
