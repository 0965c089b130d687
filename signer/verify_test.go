package signer

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
)

func TestWrongSignatureIsExplained(t *testing.T) {
	r := signed(t, "GET", "/a?b=c", nil, nil, SignOptions{Service: "lambda"})
	other := clientCreds
	other.SecretAccessKey = "another secret"
	_, err := parseAndVerify(r, other, VerifyOptions{Now: at(testNow)})
	var e *Error
	if !errors.As(err, &e) {
		t.Fatal(err)
	}
	canonical := "GET\n/a\nb=c\nhost:lambda.us-east-1.amazonaws.com\nx-amz-date:20260304T050607Z\n\nhost;x-amz-date\n" + emptyHash
	want := Error{
		Reason:           ReasonSignature,
		Message:          "the signature is not the one computed from this request and the secret of CSIGABCDEFGHIJKLMNOP; check the secret, and that nothing changed the request after it was signed",
		CanonicalRequest: canonical,
		StringToSign:     "AWS4-HMAC-SHA256\n20260304T050607Z\n20260304/us-east-1/lambda/aws4_request\n" + hexHash([]byte(canonical)),
	}
	if *e != want {
		t.Errorf("got  %+v\nwant %+v", *e, want)
	}
}

func TestVerifyNeedsTheRightCredentials(t *testing.T) {
	with := clientCreds
	with.SessionToken = "token"
	for name, tt := range map[string]struct {
		signedBy aws.Credentials
		with     Secret
		want     Reason
	}{
		"another key id":   {clientCreds, Secret{AccessKeyID: "CSIGX", SecretAccessKey: clientCreds.SecretAccessKey}, ReasonSignature},
		"no secret":        {clientCreds, Secret{AccessKeyID: clientCreds.AccessKeyID}, ReasonSignature},
		"token missing":    {clientCreds, secretOf(with), ReasonToken},
		"token not wanted": {with, secretOf(clientCreds), ReasonToken},
	} {
		r := received(t, "GET", "/", "h", nil, nil)
		if err := Sign(r, tt.signedBy, SignOptions{Service: "lambda", Region: "us-east-1", Now: at(testNow)}); err != nil {
			t.Fatal(err)
		}
		sig, err := Parse(r)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Verify(r, sig, tt.with, VerifyOptions{Now: at(testNow)})
		if e := (*Error)(nil); !errors.As(err, &e) || e.Reason != tt.want {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	// An empty secret must not be what an unknown key is verified with.
	r := received(t, "GET", "/", "h", nil, nil)
	if err := Sign(r, aws.Credentials{AccessKeyID: "CSIGX"}, SignOptions{Service: "lambda", Region: "us-east-1"}); err == nil {
		t.Error("signed without a secret")
	}
}

// A signature made over one canonical form must not admit a request that
// means something else by another.
func TestCanonicalFormsDoNotMix(t *testing.T) {
	for _, tt := range []struct{ service, signed, sent string }{
		{"s3", "/a%2Fb", "/a/b"},
		{"s3", "/a/b", "/a%2Fb"},
		{"s3", "/a/../b", "/b"},
		{"s3", "/b", "/a/../b"},
		{"s3", "/a//b", "/a/b"},
		{"s3", "/a%252Fb", "/a%2Fb"},
		{"s3", "/?a=%2526b", "/?a=%26b"},
		{"s3", "/?a=b%26c=d", "/?a=b&c=d"},
		{"s3", "/?a=b&c=d", "/?a=b%26c=d"},
		{"s3", "/?a%3Db", "/?a=b"},
		{"s3", "/?a=1&b=2", "/?a=2&b=1"},
		{"s3", "/?a=%20", "/?a=+"},
		{"lambda", "/a%2Fb", "/a/b"},
		{"lambda", "/a%252Fb", "/a%2Fb"},
		{"lambda", "/a/../b", "/b/"},
		{"lambda", "/b", "/a/b"},
		{"lambda", "/%2e%2e/b", "/b"},
	} {
		r := signed(t, "GET", tt.signed, nil, nil, SignOptions{Service: tt.service})
		path, query, _ := splitTarget(tt.sent)
		r.RequestURI = tt.sent
		r.URL.RawQuery = query
		setPath(t, r.URL, path)
		if _, err := parseAndVerify(r, clientCreds, VerifyOptions{Now: at(testNow)}); err == nil {
			t.Errorf("%s: signed for %s, accepted for %s", tt.service, tt.signed, tt.sent)
		}
	}
}

// Signing again must leave the request that came in as it is.
func TestResignLeavesTheIncomingRequestAlone(t *testing.T) {
	r := received(t, "GET", "/k?a=b", "h", nil, nil)
	if err := Sign(r, clientCreds, SignOptions{Service: "s3", Region: "us-east-1", Expires: 60e9, Now: at(testNow)}); err != nil {
		t.Fatal(err)
	}
	arrive(r)
	before := r.URL.String()
	v := mustVerify(t, r, clientCreds, testNow)
	out := &http.Request{Method: "GET", URL: r.URL, Host: r.Host, Header: http.Header{}}
	if err := Resign(out, v, roleCreds, ResignOptions{Now: at(laterNow)}); err != nil {
		t.Fatal(err)
	}
	if r.URL.String() != before || !strings.Contains(out.URL.RawQuery, roleCreds.AccessKeyID) {
		t.Errorf("the URL that came in became %s", r.URL)
	}
}

// The body that goes out closes the one that came in.
func TestCloseReachesTheClient(t *testing.T) {
	for name, r := range map[string]*http.Request{
		"hash":     signed(t, "PUT", "/k", nil, []byte("data"), SignOptions{Service: "s3"}),
		"unsigned": signed(t, "PUT", "/k", nil, []byte("data"), SignOptions{Service: "s3", PayloadHash: "UNSIGNED-PAYLOAD"}),
	} {
		closed := &closeRecorder{Reader: strings.NewReader("data")}
		r.Body = closed
		out := mustResign(t, r, mustVerify(t, r, clientCreds, testNow), roleCreds, laterNow)
		if err := out.Body.Close(); err != nil || !closed.closed {
			t.Errorf("%s: closed %t, %v", name, closed.closed, err)
		}
	}
}

type closeRecorder struct {
	io.Reader
	closed bool
}

func (c *closeRecorder) Close() error { c.closed = true; return nil }
