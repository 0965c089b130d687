package signer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	testNow  = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	laterNow = testNow.Add(90 * time.Second)

	clientCreds = aws.Credentials{AccessKeyID: "CSIGABCDEFGHIJKLMNOP", SecretAccessKey: "client/secret+key"}
	roleCreds   = aws.Credentials{AccessKeyID: "ASIAREALREALREALREAL", SecretAccessKey: "real/secret+key", SessionToken: "real/token+with=signs=="}
)

func secretOf(c aws.Credentials) Secret {
	return Secret{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, SessionToken: c.SessionToken}
}

func at(t time.Time) func() time.Time { return func() time.Time { return t } }

func hexHash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// received is what a server's handler would see of a request with this target.
func received(t testing.TB, method, target, host string, header http.Header, body []byte) *http.Request {
	t.Helper()
	path, query, ok := splitTarget(target)
	if !ok {
		t.Fatalf("target %q", target)
	}
	if header == nil {
		header = http.Header{}
	}
	r := &http.Request{
		Method: method, RequestURI: target, Host: host, Header: header,
		URL:  &url.URL{Scheme: "https", Host: host, RawQuery: query},
		Body: http.NoBody, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	setPath(t, r.URL, path)
	if len(body) > 0 {
		r.Body = io.NopCloser(bytes.NewReader(body))
		r.ContentLength = int64(len(body))
	}
	return r
}

// setPath makes a URL send exactly this path.
func setPath(t testing.TB, u *url.URL, path string) {
	t.Helper()
	if p, err := url.PathUnescape(path); err == nil {
		u.Path, u.RawPath = p, path
		if u.EscapedPath() == path {
			return
		}
	}
	if strings.HasPrefix(path, "//") {
		t.Fatalf("net/http cannot send the path %q", path)
	}
	u.Path, u.RawPath, u.Opaque = "", "", path
}

// outgoing is what a proxy would send on.
func outgoing(r *http.Request) *http.Request {
	out := r.Clone(context.Background())
	out.RequestURI = ""
	return out
}

func mustVerify(t testing.TB, r *http.Request, creds aws.Credentials, now time.Time) *Verified {
	t.Helper()
	v, err := parseAndVerify(r, creds, VerifyOptions{Now: at(now)})
	if err != nil {
		t.Fatal(explain(err))
	}
	return v
}

func parseAndVerify(r *http.Request, creds aws.Credentials, opt VerifyOptions) (*Verified, error) {
	sig, err := Parse(r)
	if err != nil {
		return nil, err
	}
	return Verify(r, sig, secretOf(creds), opt)
}

func mustResign(t testing.TB, r *http.Request, v *Verified, creds aws.Credentials, now time.Time) *http.Request {
	t.Helper()
	out := outgoing(r)
	if err := Resign(out, v, creds, ResignOptions{Now: at(now)}); err != nil {
		t.Fatal(err)
	}
	return out
}

func explain(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return string(e.Reason) + ": " + e.Message + "\n" + e.CanonicalRequest + "\n--\n" + e.StringToSign
	}
	return err.Error()
}

func wantReason(t testing.TB, err error, want Reason) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got error %v, want reason %q", err, want)
	}
	if e.Reason != want {
		t.Fatalf("got %q (%s), want %q", e.Reason, e.Message, want)
	}
}

func readAll(t testing.TB, r io.Reader) []byte {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(explain(err))
	}
	return b
}
