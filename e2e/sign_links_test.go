package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Links that the AWS CLI makes and curl uses.
func TestPresignedByCLI(t *testing.T) {
	tool(t, "aws")
	tool(t, "curl")
	const want = "by a link\n403\n"
	for _, u := range []*upstream{strictMoto(t), versity(t)} {
		t.Run(u.name, func(t *testing.T) {
			role := deployARN
			if u.admin == nil {
				role = "" // versitygw knows no sessions
			}
			mark := 0
			if u.admin != nil {
				mark = u.mark(t)
			}
			identity := "ci"
			if role == "" {
				identity = "source"
			}
			for _, w := range []way{throughExec(t, u, role), serve(t, u, "").client(identity)} {
				if got := w.must(t, t.TempDir(), regionalS3, "sh", script(t, "sign_links.sh"), "sign-cli"); got != want {
					t.Errorf("%s: %q, want %q", w.name, got, want)
				}
			}
			if u.admin == nil {
				return
			}
			links := 0
			for _, s := range u.since(t, mark) {
				if s.Presigned {
					links++
					if !strings.Contains(s.ARN, ":assumed-role/Deploy/") || s.Refused != "" || !strings.HasPrefix(s.Target, "/dir/a%20b%2Bc?") {
						t.Errorf("arrived as %+v", s)
					}
				}
			}
			if links != 2 {
				t.Errorf("%d links arrived, want 2", links)
			}
		})
	}
}

// Links that boto3 makes, good ones and spoilt ones.
func TestPresignedByBoto3(t *testing.T) {
	interpreter := python(t)
	const want = `put 200 0 False
get 200 1048576 True
head 200 0 False
disposition 200 1048576 True
type text/x True
altered signature 403 SignatureDoesNotMatch
altered key 403 SignatureDoesNotMatch
altered lifetime 403 SignatureDoesNotMatch
lifetime of 8 days 400 AuthorizationQueryParametersError
another header 403 SignatureDoesNotMatch
more in the query 403 SignatureDoesNotMatch
another method 403 SignatureDoesNotMatch
cut short 400 AuthorizationQueryParametersError
`
	for _, u := range []*upstream{strictMoto(t), versity(t)} {
		t.Run(u.name, func(t *testing.T) {
			p := serve(t, u, "")
			identity := "ci"
			if u.admin == nil {
				identity = "source"
			}
			got := p.client(identity).must(t, t.TempDir(), regionalS3, interpreter, script(t, "sign_links.py"), "sign-boto3")
			if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			for _, line := range readAudit(t, p.audit) {
				if line.Signature != "query" && line.Signature != "header" && !strings.HasPrefix(line.Signature, "header-") && line.Decision == "allow" {
					t.Errorf("audit line %+v", line)
				}
			}
		})
	}
}

// What arrives for a link is the link, with other keys: the pairs of its query stay
// as they were sent and in their order.
func TestPresignedArrives(t *testing.T) {
	server := stand(t, func(_ *standIn, w http.ResponseWriter, a *arrival) { io.WriteString(w, "answer") })
	p := serveStandIn(t, server, "")
	presign := s3.NewPresignClient(s3.New(s3.Options{Region: region, Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return p.clients["source"], nil
	})}))
	bucket, key := aws.String("bucket"), aws.String("a b/c+d~é")
	body := random(300_000)
	for name, make := range map[string]func() (*v4.PresignedHTTPRequest, error){
		"get": func() (*v4.PresignedHTTPRequest, error) {
			return presign.PresignGetObject(t.Context(), &s3.GetObjectInput{Bucket: bucket, Key: key, VersionId: aws.String("v/1+"), Range: aws.String("bytes=1-5")})
		},
		"put": func() (*v4.PresignedHTTPRequest, error) {
			return presign.PresignPutObject(t.Context(), &s3.PutObjectInput{Bucket: bucket, Key: key, ContentType: aws.String("text/plain"), Metadata: map[string]string{"a": "b  c"}})
		},
		"part": func() (*v4.PresignedHTTPRequest, error) {
			return presign.PresignUploadPart(t.Context(), &s3.UploadPartInput{Bucket: bucket, Key: key, PartNumber: aws.Int32(3), UploadId: aws.String("u~id"), ContentLength: aws.Int64(int64(len(body)))})
		},
		"delete": func() (*v4.PresignedHTTPRequest, error) {
			return presign.PresignDeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: bucket, Key: key})
		},
	} {
		t.Run(name, func(t *testing.T) {
			server.forget()
			link, err := make()
			if err != nil {
				t.Fatal(err)
			}
			target := strings.TrimPrefix(link.URL, "https://bucket.s3.us-east-1.amazonaws.com")
			c := call{method: link.Method, host: "bucket.s3.us-east-1.amazonaws.com", target: target}
			for name, values := range link.SignedHeader {
				if name != "Host" && name != "Content-Length" {
					c.headers = append(c.headers, [2]string{name, values[0]})
				}
			}
			if link.Method == "PUT" {
				c.body = string(body)
			}
			response, text := p.dial(t, c.host).send(t, c)
			expectStatus(t, response, text, http.StatusOK)
			got := server.the(t)
			if string(got.Body) != c.body {
				t.Errorf("%d bytes arrived, want %d", len(got.Body), len(c.body))
			}
			sameMeaning(t, c.method, withoutKeys(c.target), c.headers, withTarget(got, withoutKeys(got.Target)))
			server.verifyLink(t, got)
		})
	}
}

func withTarget(a arrival, target string) arrival {
	a.Target = target
	return a
}

// withoutKeys takes out of a target what re-signing replaces.
func withoutKeys(target string) string {
	path, query, _ := strings.Cut(target, "?")
	pairs := slices.DeleteFunc(strings.Split(query, "&"), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		return slices.Contains([]string{"X-Amz-Credential", "X-Amz-Date", "X-Amz-Signature", "X-Amz-Security-Token", "X-Amz-S3session-Token"}, name)
	})
	return path + "?" + strings.Join(pairs, "&")
}

// verifyLink presigns what arrived again, with the SDK's signer.
func (s *standIn) verifyLink(t *testing.T, a arrival) {
	t.Helper()
	if keys, err := s.checkLink(&a, "s3", "X-Amz-Security-Token"); err != nil || keys.AccessKeyID != s.keys.AccessKeyID {
		t.Errorf("the link that arrived is signed by %s: %v", keys.AccessKeyID, err)
	}
}

// checkLink presigns a request to S3 or S3 Express again. The token must be in the
// parameter that is named.
func (s *standIn) checkLink(a *arrival, service, tokenParam string) (aws.Credentials, error) {
	again, err := http.NewRequest(a.Method, "https://"+a.Host+a.Target, nil)
	if err != nil {
		return aws.Credentials{}, err
	}
	query := again.URL.Query()
	id, scope, _ := strings.Cut(query.Get("X-Amz-Credential"), "/")
	at, err := time.Parse("20060102T150405Z", query.Get("X-Amz-Date"))
	if err != nil || scope != at.Format("20060102")+"/"+region+"/"+service+"/aws4_request" {
		return aws.Credentials{}, fmt.Errorf("the scope is %s, %v", scope, err)
	}
	keys, err := s.key(id)
	if err != nil {
		return keys, err
	}
	for _, name := range []string{"X-Amz-Security-Token", "X-Amz-S3session-Token"} {
		want := ""
		if name == tokenParam {
			want = keys.SessionToken
		}
		if query.Get(name) != want {
			return keys, fmt.Errorf("%s is not what belongs to %s", name, id)
		}
	}
	signature, signed := query.Get("X-Amz-Signature"), strings.Split(query.Get("X-Amz-SignedHeaders"), ";")
	for _, name := range []string{"X-Amz-Signature", "X-Amz-Credential", "X-Amz-Date", "X-Amz-SignedHeaders", "X-Amz-Algorithm"} {
		query.Del(name)
	}
	again.URL.RawQuery = query.Encode()
	for _, name := range signed {
		switch name {
		case "host":
		case "content-length":
			again.ContentLength = a.Length
		default:
			again.Header[http.CanonicalHeaderKey(name)] = a.Header.Values(name)
		}
	}
	without := keys
	without.SessionToken = "" // it is in the query already
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	uri, _, err := signer.PresignHTTP(context.Background(), without, again, "UNSIGNED-PAYLOAD", service, region, at)
	if err != nil {
		return keys, err
	}
	if !strings.Contains(uri, "X-Amz-Signature="+signature) {
		return keys, fmt.Errorf("the signature is %s, the SDK's signer makes %s", signature, uri)
	}
	return keys, nil
}

// presignAt makes a link with a time of its own.
func presignAt(t *testing.T, keys aws.Credentials, method, target string, at time.Time, expires int) string {
	t.Helper()
	separator := "?"
	if strings.Contains(target, "?") {
		separator = "&"
	}
	request, err := http.NewRequest(method, fmt.Sprintf("%s%sX-Amz-Expires=%d", target, separator, expires), nil)
	if err != nil {
		t.Fatal(err)
	}
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	uri, _, err := signer.PresignHTTP(t.Context(), keys, request, "UNSIGNED-PAYLOAD", "s3", region, at)
	if err != nil {
		t.Fatal(err)
	}
	return uri
}

// Links out of their time, and links of others with and without a rule that lets
// them pass.
func TestPresignedThatMustNotPass(t *testing.T) {
	server := stand(t, func(_ *standIn, w http.ResponseWriter, a *arrival) { io.WriteString(w, "answer") })
	foreign := aws.Credentials{AccessKeyID: "ASIASOMEBODYELSE0001", SecretAccessKey: "somebody-else", SessionToken: "token-of-somebody/else+=="}
	rule := "unsigned: [{hosts: [\"open.s3.us-east-1.amazonaws.com\"], methods: [GET, HEAD]}]\n"
	ours, now := clientKeys["source"], time.Now()
	const object, open = "https://bucket.s3.us-east-1.amazonaws.com/key", "https://open.s3.us-east-1.amazonaws.com/key%20b?x=%7e"
	stolen := ours
	stolen.SecretAccessKey = "guessed-0123456789-0123456789-0123456789"
	proxies, lines := map[string]*proxy{"": serveStandIn(t, server, ""), rule: serveStandIn(t, server, rule)}, map[string]int{}
	for _, tt := range []struct {
		name, more, method, url string
		status                  int
		code, reason            string
		untouched               bool
	}{
		{"in its time", "", "GET", presignAt(t, ours, "GET", object, now.Add(-5*time.Minute), 3600), 200, "", "", false},
		{"past its time", "", "GET", presignAt(t, ours, "GET", object, now.Add(-90*time.Second), 60), 403, "AccessDenied", "expired", false},
		{"of tomorrow", "", "GET", presignAt(t, ours, "GET", object, now.Add(24*time.Hour), 60), 403, "", "", false},
		{"a week old", "", "GET", presignAt(t, ours, "GET", object, now.Add(-8*24*time.Hour), 604800), 403, "AccessDenied", "expired", false},
		{"another secret", "", "GET", presignAt(t, stolen, "GET", object, now, 3600), 403, "SignatureDoesNotMatch", "signature", false},
		{"of somebody else", "", "GET", presignAt(t, foreign, "GET", open, now, 3600), 403, "InvalidAccessKeyId", "real_key", false},
		{"of somebody else, by a rule", rule, "GET", presignAt(t, foreign, "GET", open, now, 3600), 200, "", "unsigned rule", true},
		{"of somebody else, stale, by a rule", rule, "GET", presignAt(t, foreign, "GET", open, now.Add(-time.Hour), 60), 200, "", "unsigned rule", true},
		{"of somebody else, other method than the rule", rule, "PUT", presignAt(t, foreign, "PUT", open, now, 3600), 403, "InvalidAccessKeyId", "", false},
		{"of somebody else, other host than the rule", rule, "GET", presignAt(t, foreign, "GET", object, now, 3600), 403, "InvalidAccessKeyId", "", false},
		{"ours where a rule is", rule, "GET", presignAt(t, ours, "GET", open, now, 3600), 200, "", "", false},
		{"ours, spoilt, where a rule is", rule, "GET", presignAt(t, stolen, "GET", open, now, 3600), 403, "SignatureDoesNotMatch", "signature", false},
		{"Signature Version 2", "", "GET", object + "?AWSAccessKeyId=CSIGEEEEFFFFGGGGHHHH&Signature=c2lnbmF0dXJl&Expires=1999999999", 400, "", "unsupported", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server.forget()
			p := proxies[tt.more]
			host, target, _ := strings.Cut(strings.TrimPrefix(tt.url, "https://"), "/")
			c := call{method: tt.method, host: host, target: "/" + target}
			response, text := p.dial(t, host).send(t, c)
			if response.StatusCode != tt.status || !strings.Contains(text, tt.code) {
				t.Errorf("%s %s, want %d %s", response.Status, text, tt.status, tt.code)
			}
			lines[tt.more]++
			line := waitForAudit(t, p.audit, lines[tt.more])[lines[tt.more]-1]
			if tt.reason != "" && line.Reason != tt.reason || line.Signature != "query" && tt.reason != "unsupported" || (tt.status == 200) != (line.Decision == "allow") {
				t.Errorf("audit line %+v, want reason %q", line, tt.reason)
			}
			all := server.arrivals()
			if (tt.status == 200) != (len(all) == 1) {
				t.Fatalf("%d requests arrived", len(all))
			}
			switch {
			case tt.untouched && all[0].Target != c.target:
				t.Errorf("arrived as %s, want %s", all[0].Target, c.target)
			case tt.status == 200 && !tt.untouched:
				server.verifyLink(t, all[0])
				if !bytes.Contains([]byte(all[0].Target), []byte(server.keys.AccessKeyID)) {
					t.Errorf("arrived as %s", all[0].Target)
				}
			}
		})
	}
}
