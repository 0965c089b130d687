package sandbox_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamotypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/countersign-proxy/countersign/sandbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, o sandbox.Options) *sandbox.Server {
	t.Helper()
	s, err := sandbox.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// client connects to the sandbox whatever the host, as a test of AWS clients needs.
func client(t *testing.T, s *sandbox.Server) *http.Client {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.RootPEM())
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, s.Address())
		},
		TLSClientConfig:    &tls.Config{RootCAs: roots},
		DisableCompression: true,
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func config(t *testing.T, s *sandbox.Server, c aws.Credentials) aws.Config {
	return aws.Config{
		Region:           "eu-west-1",
		HTTPClient:       client(t, s),
		Credentials:      aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return c, nil }),
		RetryMaxAttempts: 1,
		// What the SDK's own loader of configuration sets.
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenSupported,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenSupported,
	}
}

// code is the error code that the SDK made of an answer, "" for none.
func code(err error) string {
	var e smithy.APIError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.ErrorCode()
	}
	return "not an API error: " + err.Error()
}

func assume(t *testing.T, cfg aws.Config, role, name string) aws.Credentials {
	t.Helper()
	out, err := sts.NewFromConfig(cfg).AssumeRole(t.Context(), &sts.AssumeRoleInput{RoleArn: &role, RoleSessionName: &name})
	if err != nil {
		t.Fatal(err)
	}
	return aws.Credentials{AccessKeyID: *out.Credentials.AccessKeyId, SecretAccessKey: *out.Credentials.SecretAccessKey,
		SessionToken: *out.Credentials.SessionToken, CanExpire: true, Expires: *out.Credentials.Expiration}
}

const role = "arn:aws:iam::210987654321:role/path/Deploy"

func TestAssumedRoleIsWhoCalls(t *testing.T) {
	s := start(t, sandbox.Options{})
	cfg := config(t, s, s.Credentials())
	credentials := assume(t, cfg, role, "alice")
	if !strings.HasPrefix(credentials.AccessKeyID, "ASIA") || len(credentials.AccessKeyID) != 20 || len(credentials.SecretAccessKey) != 40 || len(credentials.SessionToken) < 300 {
		t.Errorf("the credentials do not look real: %d %d %d", len(credentials.AccessKeyID), len(credentials.SecretAccessKey), len(credentials.SessionToken))
	}
	who := func(c aws.Credentials) []string {
		out, err := sts.NewFromConfig(config(t, s, c)).GetCallerIdentity(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return []string{*out.Account, *out.Arn}
	}
	want := [][]string{{"123456789012", "arn:aws:iam::123456789012:user/sandbox"}, {"210987654321", "arn:aws:sts::210987654321:assumed-role/Deploy/alice"}}
	if diff := cmp.Diff(want, [][]string{who(s.Credentials()), who(credentials)}); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var seen [][]string
	for _, r := range s.Requests() {
		seen = append(seen, []string{r.Method, r.Host, r.Service, r.Region, r.Operation, r.Principal, r.AccessKeyID, r.Error})
	}
	user := []string{want[0][1], s.Credentials().AccessKeyID, ""}
	sts := []string{"POST", "sts.eu-west-1.amazonaws.com", "sts", "eu-west-1"}
	line := func(operation string, who ...string) []string {
		return append(append(append([]string{}, sts...), operation), who...)
	}
	if diff := cmp.Diff([][]string{line("AssumeRole", user...), line("GetCallerIdentity", user...), line("GetCallerIdentity", want[1][1], credentials.AccessKeyID, "")}, seen); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	if got := s.Requests()[0].Form.Get("RoleSessionName"); got != "alice" {
		t.Errorf("recorded session name %q", got)
	}
}

func TestAssumeRoleRefusals(t *testing.T) {
	s := start(t, sandbox.Options{Roles: map[string]sandbox.Role{role: {ExternalID: "secret-handshake"}, role + "2": {MaxDuration: 4 * time.Hour}}})
	root := config(t, s, s.Credentials())
	chained := config(t, s, assume(t, root, role+"2", "first"))
	for _, test := range []struct {
		name     string
		cfg      aws.Config
		role     string
		session  string
		external *string
		seconds  int32
		want     string
	}{
		{"right external id", root, role, "alice", aws.String("secret-handshake"), 900, ""},
		{"no external id", root, role, "alice", nil, 900, "AccessDenied"},
		{"wrong external id", root, role, "alice", aws.String("wrong"), 900, "AccessDenied"},
		{"unknown role", root, role + "3", "alice", nil, 900, "AccessDenied"},
		{"no role ARN", root, "arn:aws:iam::210987654321:user/x", "alice", nil, 900, "ValidationError"},
		{"illegal session name", root, role + "2", "al ice", nil, 900, "ValidationError"},
		{"long session name", root, role + "2", strings.Repeat("a", 65), nil, 900, "ValidationError"},
		{"too short", root, role + "2", "alice", nil, 899, "ValidationError"},
		{"as long as the role allows", root, role + "2", "alice", nil, 4 * 3600, ""},
		{"longer than the role allows", root, role + "2", "alice", nil, 4*3600 + 1, "ValidationError"},
		{"chained, an hour", chained, role + "2", "alice", nil, 3600, ""},
		{"chained, longer", chained, role + "2", "alice", nil, 3601, "ValidationError"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := sts.NewFromConfig(test.cfg).AssumeRole(t.Context(), &sts.AssumeRoleInput{RoleArn: &test.role, RoleSessionName: &test.session,
				ExternalId: test.external, DurationSeconds: &test.seconds})
			if got := code(err); got != test.want {
				t.Errorf("got %q, want %q: %v", got, test.want, err)
			}
		})
	}
}

// tamper changes requests after they were signed.
type tamper struct {
	http.RoundTripper
	change func(*http.Request)
}

func (x tamper) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	x.change(r)
	return x.RoundTripper.RoundTrip(r)
}

func TestWrongSignatures(t *testing.T) {
	var skew atomic.Int64
	s := start(t, sandbox.Options{Now: func() time.Time { return time.Now().Add(time.Duration(skew.Load())) }})
	credentials := assume(t, config(t, s, s.Credentials()), role, "alice")
	with := func(change func(*aws.Credentials)) aws.Credentials { c := credentials; change(&c); return c }
	body := func(text string) func(*http.Request) {
		return func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
		}
	}
	for _, test := range []struct {
		name        string
		credentials aws.Credentials
		change      func(*http.Request)
		skew        time.Duration
		want        string
	}{
		{"untouched", credentials, func(*http.Request) {}, 0, ""},
		{"wrong secret", with(func(c *aws.Credentials) { c.SecretAccessKey += "x" }), func(*http.Request) {}, 0, "SignatureDoesNotMatch"},
		{"unknown key", with(func(c *aws.Credentials) { c.AccessKeyID = "AKIAIOSFODNN7EXAMPLE" }), func(*http.Request) {}, 0, "InvalidClientTokenId"},
		{"no session token", with(func(c *aws.Credentials) { c.SessionToken = "" }), func(*http.Request) {}, 0, "InvalidClientTokenId"},
		{"wrong session token", with(func(c *aws.Credentials) { c.SessionToken += "x" }), func(*http.Request) {}, 0, "InvalidClientTokenId"},
		{"no signature", credentials, func(r *http.Request) { r.Header.Del("Authorization") }, 0, "MissingAuthenticationToken"},
		{"altered path", credentials, func(r *http.Request) { r.URL.Path = "/x" }, 0, "SignatureDoesNotMatch"},
		{"altered query", credentials, func(r *http.Request) { r.URL.RawQuery = "a=b" }, 0, "SignatureDoesNotMatch"},
		{"altered method", credentials, func(r *http.Request) { r.Method = "PUT" }, 0, "SignatureDoesNotMatch"},
		{"altered host", credentials, func(r *http.Request) { r.Host = "elsewhere.example.com" }, 0, "SignatureDoesNotMatch"},
		{"altered body", credentials, body("Action=GetCallerIdentity&Version=2011-06-16"), 0, "SignatureDoesNotMatch"},
		{"altered signed header", credentials, func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }, 0, "SignatureDoesNotMatch"},
		{"unsigned x-amz header", credentials, func(r *http.Request) { r.Header.Set("X-Amz-Meta-Evil", "1") }, 0, "AccessDenied"},
		{"unsigned other header", credentials, func(r *http.Request) { r.Header.Set("X-Other", "1") }, 0, ""},
		{"another region's host", credentials, func(r *http.Request) { r.Host = "sts.us-west-2.amazonaws.com" }, 0, "SignatureDoesNotMatch"},
		{"14 minutes late", credentials, func(*http.Request) {}, 14 * time.Minute, ""},
		{"16 minutes late", credentials, func(*http.Request) {}, 16 * time.Minute, "RequestTimeTooSkewed"},
		{"16 minutes early", credentials, func(*http.Request) {}, -16 * time.Minute, "RequestTimeTooSkewed"},
		{"two authentications", credentials, func(r *http.Request) { r.URL.RawQuery = "X-Amz-Signature=0" }, 0, "InvalidRequest"},
		{"malformed", credentials, func(r *http.Request) { r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=x") }, 0, "IncompleteSignature"},
	} {
		t.Run(test.name, func(t *testing.T) {
			skew.Store(int64(test.skew))
			defer skew.Store(0)
			cfg := config(t, s, test.credentials)
			h := cfg.HTTPClient.(*http.Client)
			h.Transport = tamper{h.Transport, test.change}
			_, err := sts.NewFromConfig(cfg).GetCallerIdentity(t.Context(), nil)
			if got := code(err); got != test.want {
				t.Errorf("got %q, want %q: %v", got, test.want, err)
			}
			records := s.Requests()
			if last := records[len(records)-1]; last.Error != test.want || (last.Principal != "") != (test.want == "") {
				t.Errorf("recorded %q by %q", last.Error, last.Principal)
			}
		})
	}
}

func TestExpiredSession(t *testing.T) {
	var skew atomic.Int64
	s := start(t, sandbox.Options{Now: func() time.Time { return time.Now().Add(time.Duration(skew.Load())) }})
	credentials := assume(t, config(t, s, s.Credentials()), role, "alice")
	// Signed for the sandbox's time, with credentials that ended an hour before.
	skew.Store(int64(2 * time.Hour))
	presigner := sts.NewPresignClient(sts.NewFromConfig(config(t, s, credentials)))
	out, err := presigner.PresignGetCallerIdentity(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	skew.Store(0)
	if status := get(t, s, out.URL, out.SignedHeader); status != 200 {
		t.Errorf("presigned, in time: %d", status)
	}
	skew.Store(int64(2 * time.Hour))
	if status := get(t, s, out.URL, out.SignedHeader); status != 403 {
		t.Errorf("presigned, late: %d", status)
	}
}

func get(t *testing.T, s *sandbox.Server, address string, header http.Header) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		if name != "Host" {
			r.Header[name] = values
		}
	}
	response, err := client(t, s).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

func TestObjects(t *testing.T) {
	for name, plain := range map[string]bool{"TLS": false, "plain": true} {
		t.Run(name, func(t *testing.T) {
			s := start(t, sandbox.Options{Plain: plain})
			cfg := config(t, s, assume(t, configFor(t, s, plain), role, "alice"))
			c := s3.NewFromConfig(cfg, func(o *s3.Options) {
				if plain {
					o.BaseEndpoint, o.UsePathStyle = aws.String(s.URL()), true
				}
			})
			ctx, bucket := t.Context(), aws.String("a-bucket")
			if _, err := c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket}); err != nil {
				t.Fatal(err)
			}
			keys := []string{"a b+c/é&=~%20", "dbl//slash", "x/../y", "plain.txt", "sub/one", "sub/two", "trailing/", "a^b"}
			for _, key := range keys {
				data := []byte("content of " + key)
				_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: &key, Body: bytes.NewReader(data), Metadata: map[string]string{"who": "alice"}, ContentType: aws.String("text/x-test")})
				if err != nil {
					t.Fatalf("put %q: %v", key, err)
				}
				out, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: &key})
				if err != nil {
					t.Fatalf("get %q: %v", key, err)
				}
				got, err := io.ReadAll(out.Body)
				out.Body.Close()
				if err != nil || !bytes.Equal(got, data) || aws.ToString(out.ContentType) != "text/x-test" || out.Metadata["who"] != "alice" || aws.ToString(out.ContentEncoding) != "" {
					t.Errorf("%q came back as %q %v %q %v %q", key, got, err, aws.ToString(out.ContentType), out.Metadata, aws.ToString(out.ContentEncoding))
				}
			}
			part, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("plain.txt"), Range: aws.String("bytes=3-6")})
			if err != nil {
				t.Fatal(err)
			}
			if b, _ := io.ReadAll(part.Body); string(b) != "tent" || aws.ToString(part.ContentRange) != "bytes 3-6/20" {
				t.Errorf("range: %q %s", b, aws.ToString(part.ContentRange))
			}
			part.Body.Close()
			head, err := c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: aws.String("plain.txt")})
			if err != nil || *head.ContentLength != 20 || aws.ToString(head.ETag) != fmt.Sprintf(`"%x"`, md5.Sum([]byte("content of plain.txt"))) {
				t.Errorf("head: %v %v", head, err)
			}
			_, err = c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: aws.String("absent")})
			if code(err) != "NotFound" {
				t.Errorf("head of nothing: %v", err)
			}
			_, err = c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("absent")})
			if code(err) != "NoSuchKey" {
				t.Errorf("get of nothing: %v", err)
			}
			_, err = c.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: aws.String("plain.txt"), IfNoneMatch: aws.String("*"), Body: strings.NewReader("")})
			if code(err) != "PreconditionFailed" {
				t.Errorf("conditional put: %v", err)
			}
			_, err = c.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: bucket})
			if code(err) != "BucketNotEmpty" {
				t.Errorf("delete of a full bucket: %v", err)
			}
			_, err = c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: aws.String("k")})
			if code(err) != "NotImplemented" {
				t.Errorf("multipart: %v", err)
			}
			for _, key := range keys {
				if _, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: &key}); err != nil {
					t.Error(err)
				}
			}
			if _, err := c.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: bucket}); err != nil {
				t.Error(err)
			}
			_, err = c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("plain.txt")})
			if code(err) != "NoSuchBucket" {
				t.Errorf("get from no bucket: %v", err)
			}
			if !plain {
				wantChunked(t, s)
			}
		})
	}
}

// configFor speaks to a plain sandbox by its address.
func configFor(t *testing.T, s *sandbox.Server, plain bool) aws.Config {
	cfg := config(t, s, s.Credentials())
	if plain {
		cfg.BaseEndpoint = aws.String(s.URL())
	}
	return cfg
}

// wantChunked checks that the uploads came as current SDKs send them.
func wantChunked(t *testing.T, s *sandbox.Server) {
	t.Helper()
	for _, r := range s.Requests() {
		if r.Operation == "PutObject" && r.Error == "" {
			if got := r.Header.Get("X-Amz-Content-Sha256"); got != "STREAMING-UNSIGNED-PAYLOAD-TRAILER" {
				t.Errorf("an upload had the payload %q, so the test does not test aws-chunked bodies", got)
			}
			return
		}
	}
	t.Error("no upload was recorded")
}

// Bodies with aws-chunked framing, signed by hand so that the head is right
// whatever the body.
func TestChunks(t *testing.T) {
	s := start(t, sandbox.Options{})
	cfg := config(t, s, s.Credentials())
	ctx, bucket := t.Context(), aws.String("a-bucket")
	c := s3.NewFromConfig(cfg)
	if _, err := c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket}); err != nil {
		t.Fatal(err)
	}
	const sum = "x-amz-checksum-crc32:NhCmhg==\r\n" // of hello
	for _, test := range []struct {
		name, body, trailer, want string
	}{
		{"one chunk", "5\r\nhello\r\n0\r\n" + sum + "\r\n", "x-amz-checksum-crc32", ""},
		{"two chunks", "2\r\nhe\r\n3\r\nllo\r\n0\r\n" + sum + "\r\n", "x-amz-checksum-crc32", ""},
		{"CRC-64", "5\r\nhello\r\n0\r\nx-amz-checksum-crc64nvme:M3eFcAZSQlc=\r\n\r\n", "x-amz-checksum-crc64nvme", ""},
		{"byte turned", "5\r\njello\r\n0\r\n" + sum + "\r\n", "x-amz-checksum-crc32", "BadDigest"},
		{"no checksum though announced", "5\r\nhello\r\n0\r\n\r\n", "x-amz-checksum-crc32", "BadDigest"},
		{"unknown checksum", "5\r\nhello\r\n0\r\nx-amz-checksum-md6:x\r\n\r\n", "x-amz-checksum-md6", "NotImplemented"},
		{"no framing", "hello", "x-amz-checksum-crc32", "IncompleteBody"},
		{"cut off in a chunk", "5\r\nhel", "x-amz-checksum-crc32", "IncompleteBody"},
		{"no last chunk", "5\r\nhello\r\n", "x-amz-checksum-crc32", "IncompleteBody"},
		{"cut off in the trailer", "5\r\nhello\r\n0\r\nx-amz-ch", "x-amz-checksum-crc32", "IncompleteBody"},
		{"size too small", "4\r\nhello\r\n0\r\n" + sum + "\r\n", "x-amz-checksum-crc32", "IncompleteBody"},
		{"size too large", "fffffff\r\nhello\r\n0\r\n" + sum + "\r\n", "x-amz-checksum-crc32", "IncompleteBody"},
		{"negative size", "-5\r\nhello\r\n0\r\n" + sum + "\r\n", "x-amz-checksum-crc32", "IncompleteBody"},
		{"longer than announced", "6\r\nhello!\r\n0\r\n" + sum + "\r\n", "x-amz-checksum-crc32", "IncompleteBody"},
		{"bytes after the end", "5\r\nhello\r\n0\r\n" + sum + "\r\nGET", "x-amz-checksum-crc32", "IncompleteBody"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(ctx, http.MethodPut, "https://a-bucket.s3.eu-west-1.amazonaws.com/k", strings.NewReader(test.body))
			if err != nil {
				t.Fatal(err)
			}
			const payload = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
			for name, value := range map[string]string{"Content-Encoding": "aws-chunked", "X-Amz-Content-Sha256": payload,
				"X-Amz-Decoded-Content-Length": "5", "X-Amz-Trailer": test.trailer} {
				r.Header.Set(name, value)
			}
			err = v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }).SignHTTP(ctx, s.Credentials(), r, payload, "s3", "eu-west-1", time.Now())
			if err != nil {
				t.Fatal(err)
			}
			response, err := client(t, s).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if last := s.Requests()[len(s.Requests())-1]; last.Error != test.want || (response.StatusCode == 200) != (test.want == "") {
				t.Fatalf("got %q and %d, want %q", last.Error, response.StatusCode, test.want)
			}
			if test.want != "" {
				return
			}
			out, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("k")})
			if err != nil {
				t.Fatal(err)
			}
			defer out.Body.Close()
			if b, err := io.ReadAll(out.Body); err != nil || string(b) != "hello" || out.ContentEncoding != nil {
				t.Errorf("came back as %q %v", b, err)
			}
		})
	}
}

func TestListing(t *testing.T) {
	s := start(t, sandbox.Options{})
	c := s3.NewFromConfig(config(t, s, s.Credentials()))
	ctx, bucket := t.Context(), aws.String("a-bucket")
	if _, err := c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket}); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"a/1", "a/2", "a/3", "b", "c/x/1", "c/y/1", "d e"} {
		if _, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: &key, Body: strings.NewReader(key)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name, prefix, delimiter, after string
		page                           int32
		want                           []string // of each page: keys, then common prefixes
	}{
		{"all", "", "", "", 1000, []string{"a/1 a/2 a/3 b c/x/1 c/y/1 d e |"}},
		{"folders", "", "/", "", 1000, []string{"b d e | a/ c/"}},
		{"below a prefix", "c/", "/", "", 1000, []string{"| c/x/ c/y/"}},
		{"pages", "", "", "", 3, []string{"a/1 a/2 a/3 |", "b c/x/1 c/y/1 |", "d e |"}},
		{"pages of folders", "", "/", "", 1, []string{"| a/", "b |", "| c/", "d e |"}},
		{"start after", "", "", "b", 1000, []string{"c/x/1 c/y/1 d e |"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := &s3.ListObjectsV2Input{Bucket: bucket, MaxKeys: &test.page, EncodingType: "url"}
			if test.prefix != "" {
				in.Prefix = &test.prefix
			}
			if test.delimiter != "" {
				in.Delimiter = &test.delimiter
			}
			if test.after != "" {
				in.StartAfter = &test.after
			}
			var got []string
			pages := s3.NewListObjectsV2Paginator(c, in)
			for pages.HasMorePages() {
				out, err := pages.NextPage(ctx)
				if err != nil {
					t.Fatal(err)
				}
				var words []string
				for _, o := range out.Contents {
					key, _ := url.QueryUnescape(*o.Key)
					words = append(words, key)
				}
				words = append(words, "|")
				for _, p := range out.CommonPrefixes {
					words = append(words, *p.Prefix)
				}
				got = append(got, strings.Join(words, " "))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	buckets, err := c.ListBuckets(ctx, nil)
	if err != nil || len(buckets.Buckets) != 1 || *buckets.Buckets[0].Name != "a-bucket" {
		t.Errorf("buckets: %v %v", buckets, err)
	}
}

func TestPresignedObject(t *testing.T) {
	s := start(t, sandbox.Options{})
	c := s3.NewFromConfig(config(t, s, assume(t, config(t, s, s.Credentials()), role, "alice")))
	ctx, bucket, key := t.Context(), aws.String("a-bucket"), aws.String("a b/ü")
	if _, err := c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: key, Body: strings.NewReader("hello")}); err != nil {
		t.Fatal(err)
	}
	out, err := s3.NewPresignClient(c).PresignGetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		url  string
		want int
	}{
		"as signed":        {out.URL, 200},
		"another key":      {strings.Replace(out.URL, "/a%20b/", "/a%20c/", 1), 403},
		"longer life":      {strings.Replace(out.URL, "X-Amz-Expires=900", "X-Amz-Expires=9000", 1), 403},
		"other signature":  {strings.Replace(out.URL, "X-Amz-Signature=", "X-Amz-Signature=0", 1), 403},
		"repeated":         {out.URL + "&X-Amz-Expires=900", 400},
		"more parameters":  {out.URL + "&response-content-type=text/html", 403},
		"without lifetime": {strings.Replace(out.URL, "X-Amz-Expires=900", "X-Amz-Expires=0", 1), 400},
	} {
		t.Run(name, func(t *testing.T) {
			if got := get(t, s, test.url, nil); got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
		})
	}
}

func TestDynamoDB(t *testing.T) {
	s := start(t, sandbox.Options{})
	c := dynamodb.NewFromConfig(config(t, s, s.Credentials()))
	ctx, name := t.Context(), aws.String("notes")
	if _, err := c.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: name}); code(err) != "ResourceNotFoundException" {
		t.Error(err)
	}
	_, err := c.CreateTable(ctx, &dynamodb.CreateTableInput{TableName: name, BillingMode: dynamotypes.BillingModePayPerRequest,
		KeySchema:            []dynamotypes.KeySchemaElement{{AttributeName: aws.String("id"), KeyType: dynamotypes.KeyTypeHash}},
		AttributeDefinitions: []dynamotypes.AttributeDefinition{{AttributeName: aws.String("id"), AttributeType: dynamotypes.ScalarAttributeTypeS}}})
	if err != nil {
		t.Fatal(err)
	}
	item := map[string]dynamotypes.AttributeValue{"id": &dynamotypes.AttributeValueMemberS{Value: "1"}, "n": &dynamotypes.AttributeValueMemberN{Value: "42"}}
	key := map[string]dynamotypes.AttributeValue{"id": item["id"]}
	if _, err := c.PutItem(ctx, &dynamodb.PutItemInput{TableName: name, Item: item}); err != nil {
		t.Fatal(err)
	}
	out, err := c.GetItem(ctx, &dynamodb.GetItemInput{TableName: name, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	if n, ok := out.Item["n"].(*dynamotypes.AttributeValueMemberN); !ok || n.Value != "42" || len(out.Item) != 2 {
		t.Errorf("got %v", out.Item)
	}
	if _, err := c.PutItem(ctx, &dynamodb.PutItemInput{TableName: name, Item: map[string]dynamotypes.AttributeValue{"n": item["n"]}}); code(err) != "ValidationException" {
		t.Error(err)
	}
	if _, err := c.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: name, Key: key}); err != nil {
		t.Error(err)
	}
	if out, err := c.GetItem(ctx, &dynamodb.GetItemInput{TableName: name, Key: key}); err != nil || len(out.Item) != 0 {
		t.Errorf("after deletion: %v %v", out.Item, err)
	}
	tables, err := c.ListTables(ctx, nil)
	if err != nil || len(tables.TableNames) != 1 {
		t.Errorf("tables: %v %v", tables, err)
	}
	wrong := s.Credentials()
	wrong.SecretAccessKey += "x"
	if _, err := dynamodb.NewFromConfig(config(t, s, wrong)).ListTables(ctx, nil); code(err) != "InvalidSignatureException" {
		t.Error(err)
	}
}
