package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

const (
	directoryBucket = "data--use1-az4--x-s3"
	directoryHost   = directoryBucket + ".s3express-use1-az4.us-east-1.amazonaws.com"
)

// An expressServer is S3 Express and STS as far as clients of a directory bucket
// need them. Every request must be signed as AWS demands: by a session of the
// bucket, whose token comes in a header of its own, or, for CreateSession, by the
// role.
type expressServer struct {
	*standIn
	mu       sync.Mutex
	objects  map[string][]byte
	secrets  []string // everything real that exists
	calls    []string // operation and the kind of keys that signed it
	failures []string
	answer   string // to CreateSession, instead of a session
}

func startExpress(t *testing.T) *expressServer {
	t.Helper()
	e := &expressServer{objects: map[string][]byte{}}
	e.standIn = stand(t, func(s *standIn, w http.ResponseWriter, a *arrival) {
		w.Header().Set("X-Amz-Request-Id", "EXPRESS")
		if err := e.handle(w, a); err != nil {
			e.mu.Lock()
			e.failures = append(e.failures, fmt.Sprintf("%s %s%s: %v", a.Method, a.Host, a.Target, err))
			e.mu.Unlock()
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, "<Error><Code>SignatureDoesNotMatch</Code><Message>%v</Message></Error>", err)
		}
	})
	e.secrets = []string{e.keys.AccessKeyID, e.keys.SecretAccessKey}
	t.Cleanup(func() {
		for _, f := range e.failures {
			t.Error(f)
		}
	})
	return e
}

func (e *expressServer) issue(id, kind string) aws.Credentials {
	c := aws.Credentials{AccessKeyID: id, SecretAccessKey: kind + "/secret+0123456789abcdefghijklmnopqrstuvw"[:40-len(kind)], SessionToken: kind + "-token/" + strings.Repeat("0123456789+", 40) + "=="}
	e.knows(c)
	e.mu.Lock()
	e.secrets = append(e.secrets, c.AccessKeyID, c.SecretAccessKey, c.SessionToken)
	e.mu.Unlock()
	return c
}

func (e *expressServer) did(what string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls = append(e.calls, what)
}

func (e *expressServer) handle(w http.ResponseWriter, a *arrival) error {
	expires := time.Now().Add(5 * time.Minute).UTC().Format(time.RFC3339)
	if strings.HasPrefix(a.Host, "sts.") {
		if _, err := e.verify(a, "X-Amz-Security-Token"); err != nil {
			return err
		}
		if strings.Contains(string(a.Body), "Action=GetCallerIdentity") {
			fmt.Fprintf(w, "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::%s:user/proxy</Arn><UserId>U</UserId><Account>%s</Account></GetCallerIdentityResult></GetCallerIdentityResponse>", account, account)
			return nil
		}
		c := e.issue("ASIAEXPRESSROLEKEY01", "role")
		fmt.Fprintf(w, "<AssumeRoleResponse><AssumeRoleResult><AssumedRoleUser><AssumedRoleId>A:ci</AssumedRoleId><Arn>arn:aws:sts::%s:assumed-role/Deploy/ci</Arn></AssumedRoleUser>"+
			"<Credentials><AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken>%s</SessionToken><Expiration>%s</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>",
			account, c.AccessKeyID, c.SecretAccessKey, c.SessionToken, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
		return nil
	}
	if a.Host != directoryHost {
		return errors.New("another host")
	}
	path, query, _ := strings.Cut(a.Target, "?")
	if a.Method == http.MethodGet && path == "/" && strings.HasPrefix(query, "session") {
		got, err := e.verify(a, "X-Amz-Security-Token")
		if err != nil {
			return err
		}
		if got.keys.AccessKeyID != "ASIAEXPRESSROLEKEY01" || got.service != "s3express" {
			return fmt.Errorf("signed by %s for %s", got.keys.AccessKeyID, got.service)
		}
		c := e.issue("ASIAEXPRESSSESSION01", "express")
		e.did("CreateSession by the role")
		e.mu.Lock()
		answer := e.answer
		e.mu.Unlock()
		if answer == "" {
			answer = fmt.Sprintf(`<?xml version="1.0" encoding="UTF-8"?>`+"\n"+`<CreateSessionResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Credentials><SessionToken>%s</SessionToken>`+
				`<SecretAccessKey>%s</SecretAccessKey><AccessKeyId>%s</AccessKeyId><Expiration>%s</Expiration></Credentials></CreateSessionResult>`,
				c.SessionToken, c.SecretAccessKey, c.AccessKeyID, expires)
		}
		w.Header().Set("Content-Type", "application/xml")
		w.Header().Set("X-Amz-Server-Side-Encryption", "AES256")
		io.WriteString(w, strings.NewReplacer("{id}", c.AccessKeyID, "{secret}", c.SecretAccessKey, "{token}", c.SessionToken).Replace(answer))
		return nil
	}
	what := a.Method + " by the session"
	if strings.Contains(query, "X-Amz-Signature=") {
		what = a.Method + " by a link"
		if keys, err := e.checkLink(a, "s3express", "X-Amz-S3session-Token"); err != nil || keys.AccessKeyID != "ASIAEXPRESSSESSION01" {
			return fmt.Errorf("a link by %s: %w", keys.AccessKeyID, err)
		}
	} else if got, err := e.verify(a, "X-Amz-S3session-Token"); err != nil {
		return err
	} else if got.keys.AccessKeyID != "ASIAEXPRESSSESSION01" || got.service != "s3express" {
		return fmt.Errorf("signed by %s for %s", got.keys.AccessKeyID, got.service)
	}
	e.did(what)
	e.mu.Lock()
	defer e.mu.Unlock()
	switch a.Method {
	case http.MethodPut:
		data := a.Body
		if a.Header.Get("X-Amz-Content-Sha256") == "STREAMING-UNSIGNED-PAYLOAD-TRAILER" {
			c, err := parseChunked(data, true)
			if err != nil {
				return err
			}
			data = c.data
		}
		e.objects[path] = data
		w.Header().Set("Etag", `"etag"`)
	case http.MethodDelete:
		delete(e.objects, path)
		w.WriteHeader(http.StatusNoContent)
	default:
		if path == "/" {
			fmt.Fprintf(w, `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>%s</Name><KeyCount>%d</KeyCount>`, directoryBucket, len(e.objects))
			for name, data := range e.objects {
				name, _ = url.PathUnescape(name)
				fmt.Fprintf(w, "<Contents><Key>%s</Key><Size>%d</Size></Contents>", name[1:], len(data))
			}
			io.WriteString(w, "</ListBucketResult>")
			return nil
		}
		data, ok := e.objects[path]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, "<Error><Code>NoSuchKey</Code></Error>")
			return nil
		}
		w.Write(data)
	}
	return nil
}

// noSecretSeen looks for everything real in what a client received and in every
// file and record of the proxy.
func (e *expressServer) noSecretSeen(t *testing.T, p *proxy, seen ...haystack) {
	t.Helper()
	e.mu.Lock()
	secrets := slices.Compact(slices.Sorted(slices.Values(e.secrets)))
	e.mu.Unlock()
	if len(secrets) < 8 {
		t.Fatalf("only %d secrets exist: the session was not made", len(secrets))
	}
	seen = append(seen, haystack{"log", []byte(p.said() + "\n")})
	mustNotHold(t, append(seen, files(t, filepath.Dir(p.config))...), secrets)
}

// A tap keeps all that a client receives, heads and bodies.
type tap struct {
	http.RoundTripper
	mu   sync.Mutex
	seen bytes.Buffer
	sent []*http.Request
}

func (c *tap) RoundTrip(r *http.Request) (*http.Response, error) {
	sent := r.Clone(r.Context())
	response, err := c.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	text, err := httputil.DumpResponse(response, true)
	c.mu.Lock()
	c.seen.Write(text)
	c.sent = append(c.sent, sent)
	c.mu.Unlock()
	return response, err
}

const expressPolicy = `{"Version":"2012-10-17","Statement":[{"Sid":"Directory","Effect":"Allow","Action":"s3express:CreateSession",
"Resource":"arn:aws:s3express:us-east-1:` + account + `:bucket/` + directoryBucket + `"}]}`

func serveExpress(t *testing.T, e *expressServer) *proxy {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"express.json": expressPolicy,
		"other.json":   strings.ReplaceAll(expressPolicy, directoryBucket, "other--use1-az4--x-s3"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return serveStandIn(t, e.standIn, fmt.Sprintf("log: {level: debug}\nroles: {deploy: {arn: %q, policies: [%q]}, source: {arn: \"\", policies: [%q]}}\n",
		deployARN, filepath.Join(dir, "express.json"), filepath.Join(dir, "other.json")))
}

func expressClient(t *testing.T, p *proxy, identity string) (*s3.Client, *tap) {
	t.Helper()
	client := p.httpClient(t)
	c := &tap{RoundTripper: client.Transport}
	client.Transport = c
	keys := p.clients[identity]
	return s3.New(s3.Options{
		Region: region, HTTPClient: client, RetryMaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return keys, nil }),
	}), c
}

// The SDK asks for a session by itself, gets client credentials that stand for it,
// and its calls arrive under the real session.
func TestDirectoryBucketGoSDK(t *testing.T) {
	e := startExpress(t)
	p := serveExpress(t, e)
	client, received := expressClient(t, p, "ci")
	want := random(300 << 10)
	bucket := aws.String(directoryBucket)
	if _, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: bucket, Key: aws.String("a/b c"), Body: bytes.NewReader(want)}); err != nil {
		t.Fatal(err)
	}
	got, err := client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: bucket, Key: aws.String("a/b c")})
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(got.Body)
	if err != nil || !bytes.Equal(data, want) {
		t.Errorf("read back %d bytes, %v", len(data), err)
	}
	link, err := s3.NewPresignClient(client).PresignGetObject(t.Context(), &s3.GetObjectInput{Bucket: bucket, Key: aws.String("a/b c")})
	if err != nil {
		t.Fatal(err)
	}
	byLink, err := (&http.Client{Transport: received}).Get(link.URL)
	if err != nil {
		t.Fatal(err)
	}
	data, err = io.ReadAll(byLink.Body)
	if err != nil || !bytes.Equal(data, want) {
		t.Errorf("by a link: %s, %d bytes, %v", byLink.Status, len(data), err)
	}
	if out, err := client.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: bucket}); err != nil || len(out.Contents) != 1 {
		t.Errorf("%+v, %v", out, err)
	}
	if _, err := client.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: bucket, Key: aws.String("a/b c")}); err != nil {
		t.Error(err)
	}
	if got, want := strings.Join(e.calls, ", "), "CreateSession by the role, PUT by the session, GET by the session, GET by a link, GET by the session, DELETE by the session"; got != want {
		t.Errorf("the server saw: %s\nwant %s", got, want)
	}
	arrived := slices.DeleteFunc(e.arrivals(), func(a arrival) bool { return strings.HasPrefix(a.Host, "sts.") })
	for i, sent := range received.sent {
		var headers [][2]string
		for name, values := range sent.Header {
			headers = append(headers, [2]string{name, values[0]})
		}
		got := arrived[i]
		sameMeaning(t, sent.Method, withoutKeys(sent.URL.RequestURI()), headers, withTarget(got, withoutKeys(got.Target)), "x-amz-s3session-token", "user-agent")
	}
	if !strings.Contains(received.seen.String(), "<AccessKeyId>CSIG") {
		t.Error("the client received no client credentials")
	}
	e.noSecretSeen(t, p, haystack{"what the client received", received.seen.Bytes()})

	lines := waitForAudit(t, p.audit, 6)
	for i, line := range lines {
		operation := []string{"CreateSession", "PutObject", "GetObject", "GetObject", "ListObjectsV2", "DeleteObject"}[i]
		if line.Operation != operation || line.Decision != "allow" || line.Identity != "ci" || line.RoleARN != deployARN || line.AWSRequestID != "EXPRESS" ||
			!slices.Equal(line.Actions, []string{"s3express:CreateSession"}) || line.Statement != "Directory" {
			t.Errorf("audit line %+v, want %s allowed by Directory", line, operation)
		}
		if session := i > 0; session == (line.AccessKeyID == p.clients["ci"].AccessKeyID) {
			t.Errorf("%s under the key %s", operation, line.AccessKeyID)
		}
	}
	if !strings.Contains(lines[0].Error, "client credentials "+lines[1].AccessKeyID+" until") {
		t.Errorf("the line of CreateSession does not name the credentials that it made: %q", lines[0].Error)
	}
}

func TestDirectoryBucketBoto3(t *testing.T) {
	e := startExpress(t)
	p := serveExpress(t, e)
	got := p.client("ci").run(t, t.TempDir(), nil, python(t), script(t, "sign_express.py"), directoryBucket)
	if got.code != 0 {
		t.Fatalf("exit code %d\n%s\n%s", got.code, got.stdout, got.stderr)
	}
	if want := "put 200\nget 307200 True\nlist ['a/b c']\ndelete 204\n"; got.stdout != want {
		t.Errorf("the client said\n%swant\n%s", got.stdout, want)
	}
	if got, want := strings.Join(e.calls, ", "), "CreateSession by the role, PUT by the session, GET by the session, GET by the session, DELETE by the session"; got != want {
		t.Errorf("the server saw: %s\nwant %s", got, want)
	}
	if !strings.Contains(got.stderr, "CreateSessionResult") {
		t.Error("the client's log does not show the answer to CreateSession")
	}
	e.noSecretSeen(t, p, haystack{"output", []byte(got.stdout)}, haystack{"log of the client", []byte(got.stderr)})
}

// An identity whose policies do not name the bucket gets no session, and what is
// not CreateSession is not answered in this way.
func TestDirectoryBucketRefusals(t *testing.T) {
	e := startExpress(t)
	p := serveExpress(t, e)
	client, _ := expressClient(t, p, "source")
	_, err := client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(directoryBucket), Key: aws.String("k")})
	if err == nil || !strings.Contains(err.Error(), "api error AccessDenied: User: source is not authorized to perform: s3express:CreateSession") {
		t.Errorf("%v", err)
	}
	if len(e.calls) != 0 {
		t.Errorf("sent upstream: %v", e.calls)
	}
	line := waitForAudit(t, p.audit, 1)[0]
	if line.Operation != "CreateSession" || line.Decision != "deny" || line.Reason != "implicit deny" {
		t.Errorf("audit line %+v", line)
	}
}

// directorySession makes a session by hand and returns what the client got.
func directorySession(t *testing.T, p *proxy) (aws.Credentials, *http.Response, string) {
	t.Helper()
	request := expressRequest(t, p.clients["ci"], "", "GET", directoryHost, "/?session")
	response, err := p.httpClient(t).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	element := func(name string) string {
		_, rest, _ := strings.Cut(string(text), "<"+name+">")
		value, _, _ := strings.Cut(rest, "</"+name+">")
		return value
	}
	return aws.Credentials{AccessKeyID: element("AccessKeyId"), SecretAccessKey: element("SecretAccessKey"), SessionToken: element("SessionToken")}, response, string(text)
}

func expressRequest(t *testing.T, keys aws.Credentials, tokenHeader, method, host, target string) *http.Request {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "https://"+host+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	service := "s3express"
	if !strings.Contains(host, "s3express") {
		service, _, _ = strings.Cut(host, ".")
	}
	if strings.Contains(host, ".s3.") {
		service = "s3"
	}
	request.Header.Set("X-Amz-Content-Sha256", digest(nil))
	if tokenHeader != "" {
		request.Header.Set(tokenHeader, keys.SessionToken)
		keys.SessionToken = ""
	}
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	if err := signer.SignHTTP(t.Context(), keys, request, digest(nil), service, region, time.Now()); err != nil {
		t.Fatal(err)
	}
	return request
}

// The credentials serve their bucket, in their own header, and nothing else.
func TestDirectorySessionIsConfined(t *testing.T) {
	e := startExpress(t)
	p := serveExpress(t, e)
	keys, _, text := directorySession(t, p)
	if !strings.HasPrefix(keys.AccessKeyID, "CSIG") || keys.SessionToken == "" {
		t.Fatalf("no session: %s", text)
	}
	base := len(e.arrivals())
	const express, security = "X-Amz-S3session-Token", "X-Amz-Security-Token"
	altered := keys
	altered.SessionToken = keys.SessionToken[:len(keys.SessionToken)-8] + "AAAAAAAA"
	wrong := keys
	wrong.SecretAccessKey += "x"
	for _, tt := range []struct {
		name, header, host, target string
		keys                       aws.Credentials
		status                     int
	}{
		{"its bucket", express, directoryHost, "/?list-type=2", keys, 200},
		{"another bucket of the zone", express, "other--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com", "/?list-type=2", keys, 403},
		{"another S3 host", express, "bucket.s3.us-east-1.amazonaws.com", "/key", keys, 403},
		{"another service", security, "sts.us-east-1.amazonaws.com", "/?Action=GetCallerIdentity&Version=2011-06-15", keys, 403},
		{"the header of role sessions", security, directoryHost, "/?list-type=2", keys, 403},
		{"no token", "X-Amz-Meta-Nothing", directoryHost, "/?list-type=2", keys, 403},
		{"an altered token", express, directoryHost, "/?list-type=2", altered, 403},
		{"another secret", express, directoryHost, "/?list-type=2", wrong, 403},
		{"a session for another session", express, directoryHost, "/?session", keys, 403},
	} {
		response, err := p.httpClient(t).Do(expressRequest(t, tt.keys, tt.header, "GET", tt.host, tt.target))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode != tt.status {
			t.Errorf("%s: %s %s", tt.name, response.Status, body)
		}
	}
	if n := len(e.arrivals()) - base; n != 1 {
		t.Errorf("%d requests arrived upstream, want 1", n)
	}
}

// An answer in which no session is found stays here: it may hold one all the same.
func TestDirectorySessionAnswers(t *testing.T) {
	e := startExpress(t)
	p := serveExpress(t, e)
	for name, answer := range map[string]string{
		"another shape": `{"AccessKeyId": "{id}", "SecretAccessKey": "{secret}", "SessionToken": "{token}"}`,
		"two sessions":  `<CreateSessionResult><Credentials><SessionToken>{token}</SessionToken><SecretAccessKey>{secret}</SecretAccessKey><SecretAccessKey>{secret}</SecretAccessKey><AccessKeyId>{id}</AccessKeyId></Credentials></CreateSessionResult>`,
		"very long":     `<CreateSessionResult>` + strings.Repeat(" ", 1<<20) + `{secret}</CreateSessionResult>`,
	} {
		e.mu.Lock()
		e.answer = answer
		e.mu.Unlock()
		_, response, text := directorySession(t, p)
		if response.StatusCode != http.StatusForbidden || !strings.Contains(text, "<Code>AccessDenied</Code>") {
			t.Errorf("%s: %s %s", name, response.Status, text)
		}
		e.noSecretSeen(t, p, haystack{"the answer", []byte(text)})
	}
	for _, line := range waitForAudit(t, p.audit, 3) {
		if line.Decision != "deny" || line.Reason != "credentials in answer" || line.Operation != "CreateSession" {
			t.Errorf("audit line %+v", line)
		}
	}
	e.mu.Lock()
	e.answer = ""
	e.mu.Unlock()
	keys, response, text := directorySession(t, p)
	if response.StatusCode != http.StatusOK || keys.SessionToken == "" || response.ContentLength != int64(len(text)) || response.Header.Get("X-Amz-Server-Side-Encryption") != "AES256" {
		t.Errorf("%s %v %s", response.Status, response.Header, text)
	}
}
