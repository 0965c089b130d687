package e2e

import (
	"bufio"
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"io"
	"log"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// A recorder is an upstream for what happens on the wire: it notes exactly what
// arrived and answers as a test tells it to. Signatures are checked with the
// code of signature, which knows header form and S3's way with paths.
type recorder struct {
	upstream
	mu       sync.Mutex
	requests []recorded
	open     map[net.Conn]bool
	opened   int
}

type recorded struct {
	Method, Host, Target, Proto string
	Header                      http.Header
	ContentLength               int64
	TransferEncoding            []string
	Body                        int64  // bytes that arrived
	BodySHA256                  string // of what arrived
	BodyErr                     error  // io.ErrUnexpectedEOF where the body was cut off
	SignatureOK                 bool
}

// record starts a recorder. Answer is called when the body has been read; nil
// answers 200 with an empty body.
func record(t testing.TB, answer http.HandlerFunc) *recorder {
	t.Helper()
	return startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		if answer != nil {
			answer(w, r)
		}
	}, true, "http/1.1")
}

// recordH2 is record with a server that prefers HTTP/2.
func recordH2(t testing.TB, answer http.HandlerFunc) *recorder {
	t.Helper()
	return startRecorder(t, answer, true, "h2", "http/1.1")
}

// recordRaw starts a recorder whose answer reads the body itself.
func recordRaw(t testing.TB, answer http.HandlerFunc) *recorder {
	t.Helper()
	return startRecorder(t, answer, false, "http/1.1")
}

func startRecorder(t testing.TB, answer http.HandlerFunc, drain bool, protocols ...string) *recorder {
	t.Helper()
	c := &recorder{
		upstream: upstream{
			name: "recorder",
			keys: aws.Credentials{AccessKeyID: "AKIARECORDERUSERKEY1", SecretAccessKey: "recorder-secret-0123456789-0123456789-012"},
		},
		open: map[net.Conn]bool{},
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.address = listener.Addr().String()
	server := &http.Server{
		ErrorLog: log.New(io.Discard, "", 0),
		ConnState: func(conn net.Conn, state http.ConnState) {
			c.mu.Lock()
			defer c.mu.Unlock()
			switch state {
			case http.StateNew:
				c.open[conn] = true
				c.opened++
			case http.StateClosed, http.StateHijacked:
				delete(c.open, conn)
			}
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			seen := recorded{
				Method: r.Method, Host: r.Host, Target: r.RequestURI, Proto: r.Proto, Header: r.Header.Clone(),
				ContentLength: r.ContentLength, TransferEncoding: r.TransferEncoding,
			}
			if drain {
				hash := sha256.New()
				seen.Body, seen.BodyErr = io.Copy(hash, r.Body)
				seen.BodySHA256 = hex.EncodeToString(hash.Sum(nil))
			}
			seen.SignatureOK = c.verify(r, seen.BodySHA256)
			c.mu.Lock()
			c.requests = append(c.requests, seen)
			c.mu.Unlock()
			if seen.BodyErr == nil {
				answer(w, r)
			}
		}),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{thePKI(t).certificate}, NextProtos: protocols},
	}
	go server.ServeTLS(listener, "", "")
	t.Cleanup(func() { server.Close() })
	return c
}

func (c *recorder) seen() []recorded {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.requests)
}

// forget makes the next request the first.
func (c *recorder) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = nil
}

// one returns the only request that arrived, correctly signed.
func (c *recorder) one(t testing.TB) recorded {
	t.Helper()
	seen := c.seen()
	if len(seen) != 1 {
		t.Fatalf("%d requests arrived upstream, want 1: %+v", len(seen), seen)
	}
	if !seen[0].SignatureOK {
		t.Errorf("the signature that arrived upstream is wrong: %+v", seen[0])
	}
	return seen[0]
}

func (c *recorder) connections() (open, opened int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open), c.opened
}

var authorization = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})$`)

func (c *recorder) verify(r *http.Request, bodySHA256 string) bool {
	match := authorization.FindStringSubmatch(r.Header.Get("Authorization"))
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if match == nil || err != nil || match[1] != c.keys.AccessKeyID || match[2] != at.Format("20060102") {
		return false
	}
	as := call{method: r.Method, host: r.Host, target: r.RequestURI, region: match[3], service: match[4],
		payloadHash: cmp.Or(r.Header.Get("X-Amz-Content-Sha256"), bodySHA256)}
	for name, values := range r.Header {
		for _, value := range values {
			as.headers = append(as.headers, [2]string{name, value})
		}
	}
	return hmac.Equal([]byte(as.signature(c.keys.SecretAccessKey, at, strings.Split(match[5], ";"))), []byte(match[6]))
}

func TestRecorderVerifies(t *testing.T) {
	upstream := record(t, nil)
	good := s3Call("PUT", "bucket", "/a%20b^c?x=1&a=~", "body", [2]string{"Content-Type", "text/plain"}).sign(t, upstream.keys, time.Now())
	exact := s3Call("GET", "bucket", "//a/../b", "", [2]string{"User-Agent", "me"}).signExactly(upstream.keys, time.Now(), "user-agent")
	lambda := call{method: "POST", host: "lambda.us-east-1.amazonaws.com", target: "/2015-03-31/functions", service: "lambda", region: region,
		body: "{}", hashNotInHead: true}.sign(t, upstream.keys, time.Now())
	altered := good
	altered.target = "/other"
	for _, test := range []struct {
		call
		want bool
	}{{good, true}, {exact, true}, {lambda, true}, {altered, false}} {
		upstream.forget()
		conn, err := tls.Dial("tcp", upstream.address, &tls.Config{ServerName: test.host, RootCAs: thePKI(t).roots})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		w := &wire{conn, bufio.NewReader(conn)}
		response, body := w.send(t, test.call)
		expectStatus(t, response, body, http.StatusOK)
		if got := upstream.seen(); len(got) != 1 || got[0].SignatureOK != test.want {
			t.Errorf("%s: %+v, want signature %v", test.target, got, test.want)
		}
	}
}
