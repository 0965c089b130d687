package pipeline

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"go.uber.org/goleak"

	"github.com/countersign-proxy/countersign/audit"
	"github.com/countersign-proxy/countersign/identity"
	"github.com/countersign-proxy/countersign/policy"
	"github.com/countersign-proxy/countersign/rolesession"
	"github.com/countersign-proxy/countersign/virtualsts"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The credentials of the tests: what the client holds, and what AWS knows.
var (
	clientKeys = aws.Credentials{AccessKeyID: "CSIGAAAABBBBCCCC2345", SecretAccessKey: "client-secret-of-forty-characters-000001"}
	sourceKeys = aws.Credentials{AccessKeyID: "AKIASOURCEUSER000000", SecretAccessKey: "source-secret-of-forty-characters-000001"}
)

// seenRequest is what arrived upstream.
type seenRequest struct {
	Method, Target, Host string
	Header               http.Header
	Body                 string
	BodyErr              error
}

// harness is a pipeline between a raw client and a recording server.
type harness struct {
	t        *testing.T
	pipeline *Pipeline
	front    *httptest.Server
	record   *syncBuffer
	log      *audit.Log

	mu   sync.Mutex
	seen []seenRequest
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// withSource has the role source take credentials from somewhere else than sourceKeys,
// by the clock that now is, nil for the machine's.
func withSource(t testing.TB, o *Options, now func() time.Time, source func() aws.Credentials) {
	t.Helper()
	sessions, err := rolesession.New(rolesession.Options{
		Roles:  map[string]rolesession.Role{"source": {}},
		Source: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return source(), nil }),
		Now:    now,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sessions.Close() })
	o.Sessions = sessions
	if o.STS, err = virtualsts.New(virtualsts.Options{Identities: o.Identities, Sessions: sessions, Roles: map[string]virtualsts.Role{"source": {}}}); err != nil {
		t.Fatal(err)
	}
}

// setup makes a harness. change may alter the options; answer is what AWS does
// (nil: 200 and "answer").
func setup(t *testing.T, change func(*Options), answer http.HandlerFunc) *harness {
	t.Helper()
	h := &harness{t: t, record: &syncBuffer{}}
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		h.mu.Lock()
		h.seen = append(h.seen, seenRequest{r.Method, r.RequestURI, r.Host, r.Header.Clone(), string(body), err})
		h.mu.Unlock()
		if answer != nil {
			answer(w, r)
			return
		}
		w.Header().Set("x-amz-request-id", "AWSREQUESTID")
		_, _ = io.WriteString(w, "answer")
	}))
	t.Cleanup(upstream.Close)

	store, err := identity.New(identity.Options{
		Identities: []identity.Identity{{Name: "ci", Roles: []string{"source", "policed", "watched", "gone"}}},
		Static: []identity.Static{
			{AccessKeyID: clientKeys.AccessKeyID, SecretAccessKey: clientKeys.SecretAccessKey, Identity: "ci", Role: "source"},
			{AccessKeyID: "CSIGPOLICEDPOLICED22", SecretAccessKey: clientKeys.SecretAccessKey, Identity: "ci", Role: "policed"},
			{AccessKeyID: "CSIGWATCHEDWATCHED22", SecretAccessKey: clientKeys.SecretAccessKey, Identity: "ci", Role: "watched"},
			{AccessKeyID: "CSIGGONEGONEGONE2222", SecretAccessKey: clientKeys.SecretAccessKey, Identity: "ci", Role: "gone"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	sessions, err := rolesession.New(rolesession.Options{
		Roles: map[string]rolesession.Role{"source": {}, "policed": {}, "watched": {}, "gone": {}},
		Source: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			c := sourceKeys
			c.AccountID = "123456789012"
			return c, nil
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sessions.Close() })
	sts, err := virtualsts.New(virtualsts.Options{Identities: store, Sessions: sessions, Roles: map[string]virtualsts.Role{"source": {}, "policed": {}, "watched": {}}})
	if err != nil {
		t.Fatal(err)
	}
	if h.log, err = audit.Open(audit.Options{Writer: h.record, Required: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.log.Close(context.Background()) })
	transport := NewTransport(TransportOptions{Overrides: []Override{{
		Match: func(string) bool { return true }, Address: upstream.Listener.Addr().String(),
	}}})
	t.Cleanup(transport.CloseIdleConnections)
	opt := Options{
		Identities: store, Sessions: sessions, STS: sts, Audit: h.log, Transport: transport,
		Roles: map[string]Role{
			"source":  {Judge: judge(t, "")},
			"policed": {Judge: judge(t, readOnlyS3), Policed: true},
			"watched": {Judge: judge(t, readOnlyS3), Policed: true, Report: true},
		},
	}
	if change != nil {
		change(&opt)
	}
	if h.pipeline, err = New(opt); err != nil {
		t.Fatal(err)
	}
	h.front = httptest.NewServer(h.pipeline)
	t.Cleanup(h.front.Close)
	return h
}

const readOnlyS3 = `{"Version":"2012-10-17","Statement":[{"Sid":"Read","Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::bucket/*"}]}`

func judge(t *testing.T, text string) func(string) (*policy.Set, error) {
	opt := policy.Options{Name: "test"}
	if text != "" {
		p, err := policy.Parse("test.json", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		opt.Policies = []*policy.Policy{p}
	}
	set, err := policy.Compile(opt)
	if err != nil {
		t.Fatal(err)
	}
	return func(string) (*policy.Set, error) { return set, nil }
}

// call is a request to be signed and sent as raw bytes.
type call struct {
	method, host, target, body string
	header                     http.Header
	service                    string
	region                     string // "" is us-east-1
	keys                       aws.Credentials
	at                         time.Time
}

func get(target string) call {
	return call{method: "GET", host: "bucket.s3.us-east-1.amazonaws.com", target: target, service: "s3", keys: clientKeys, at: time.Now()}
}

func (c call) with(change func(*call)) call {
	change(&c)
	return c
}

// sign returns the request's head with a signature by the SDK's own signer.
func (c call) sign(t *testing.T) http.Header {
	t.Helper()
	u, ok := outgoingURL(c.target, c.host)
	if !ok {
		t.Fatalf("target %q", c.target)
	}
	sum := sha256.Sum256([]byte(c.body))
	hash := hex.EncodeToString(sum[:])
	r := &http.Request{Method: c.method, URL: u, Host: c.host, Header: http.Header{}, ContentLength: int64(len(c.body))}
	for k, v := range c.header {
		r.Header[k] = v
	}
	r.Header.Set("X-Amz-Content-Sha256", hash)
	err := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = c.service == "s3" }).SignHTTP(t.Context(), c.keys, r, hash, c.service, cmp.Or(c.region, "us-east-1"), c.at)
	if err != nil {
		t.Fatal(err)
	}
	return r.Header
}

// send writes the call on a connection of its own and reads the answer.
func (h *harness) send(c call, change func(http.Header)) (*http.Response, string) {
	h.t.Helper()
	head := c.sign(h.t)
	if change != nil {
		change(head)
	}
	var b strings.Builder
	b.WriteString(c.method + " " + c.target + " HTTP/1.1\r\nHost: " + c.host + "\r\n")
	_ = head.Write(&b)
	if c.body != "" && head.Get("Content-Length") == "" {
		b.WriteString("Content-Length: " + itoa(len(c.body)) + "\r\n")
	}
	b.WriteString("\r\n" + c.body)
	conn, err := net.Dial("tcp", h.front.Listener.Addr().String())
	if err != nil {
		h.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, b.String()); err != nil {
		h.t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: c.method})
	if err == io.ErrUnexpectedEOF {
		// An answer that is stopped may have its head still in a buffer.
		return &http.Response{Status: "no answer", Header: http.Header{}}, ""
	}
	if err != nil {
		h.t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil && err != io.ErrUnexpectedEOF {
		h.t.Fatal(err)
	}
	return res, string(body)
}

func itoa(n int) string {
	b, _ := json.Marshal(n)
	return string(b)
}

// arrived returns what AWS has seen.
func (h *harness) arrived() []seenRequest {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]seenRequest(nil), h.seen...)
}

// lines closes the record and returns its entries.
func (h *harness) lines() []audit.Entry {
	h.t.Helper()
	h.front.Close() // every handler has ended
	if err := h.log.Close(context.Background()); err != nil {
		h.t.Fatal(err)
	}
	var out []audit.Entry
	for e, err := range audit.Lines(bytes.NewReader(h.record.b.Bytes())) {
		if err != nil {
			h.t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}
