package e2e

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// connectOver sends a CONNECT and reads its answer, byte by byte so that none
// of what follows is swallowed.
func connectOver(t testing.TB, conn net.Conn, authority string) *http.Response {
	t.Helper()
	conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", authority, authority)
	var head []byte
	for !strings.HasSuffix(string(head), "\r\n\r\n") {
		one := make([]byte, 1)
		if _, err := conn.Read(one); err != nil {
			t.Fatalf("CONNECT %s: %v after %q", authority, err, head)
		}
		head = append(head, one...)
	}
	response, err := http.ReadResponse(bufio.NewReader(strings.NewReader(string(head))), &http.Request{Method: http.MethodConnect})
	if err != nil {
		t.Fatal(err)
	}
	return response
}

// A wire is one TLS connection to an AWS host through the proxy, on which a
// test writes bytes that no HTTP library would.
type wire struct {
	*tls.Conn
	reader *bufio.Reader
}

func (p *proxy) dial(t testing.TB, host string) *wire {
	t.Helper()
	conn, response := p.connect(t, host+":443")
	if response.StatusCode != http.StatusOK {
		t.Fatalf("CONNECT %s: %s", host, response.Status)
	}
	secured := tls.Client(conn, &tls.Config{ServerName: host, RootCAs: p.roots, NextProtos: []string{"http/1.1"}})
	if err := secured.Handshake(); err != nil {
		t.Fatalf("TLS with %s: %v", host, err)
	}
	return &wire{secured, bufio.NewReader(secured)}
}

// read reads one response with its whole body.
func (w *wire) read(t testing.TB, method string) (*http.Response, string) {
	t.Helper()
	response, err := http.ReadResponse(w.reader, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("reading the response: %v", err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("reading the response's body: %v", err)
	}
	return response, string(body)
}

// A call is one request as bytes: the target is sent as it stands.
type call struct {
	method, host, target string
	headers              [][2]string
	body                 string
	service, region      string
	payloadHash          string // "": the body's
	hashNotInHead        bool   // as most services do: the hash is in the canonical request alone
}

func s3Call(method, bucket, target, body string, headers ...[2]string) call {
	return call{
		method: method, host: bucket + ".s3.us-east-1.amazonaws.com", target: target,
		headers: headers, body: body, service: "s3", region: region,
	}
}

// sign adds signature material over everything that the call holds, made by the
// SDK's own signer.
func (c call) sign(t testing.TB, keys aws.Credentials, at time.Time) call {
	t.Helper()
	path, query, _ := strings.Cut(c.target, "?")
	request := &http.Request{
		Method: c.method,
		Host:   c.host,
		Header: http.Header{},
		URL:    &url.URL{Scheme: "https", Host: c.host, Opaque: "//" + c.host + path, RawQuery: query},
	}
	for _, h := range c.headers {
		request.Header[http.CanonicalHeaderKey(h[0])] = append(request.Header[http.CanonicalHeaderKey(h[0])], h[1])
	}
	if c.payloadHash == "" {
		c.payloadHash = digest([]byte(c.body))
	}
	if !c.hashNotInHead {
		request.Header.Set("X-Amz-Content-Sha256", c.payloadHash)
	}
	if c.body != "" {
		request.ContentLength = int64(len(c.body))
	}
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = c.service == "s3" })
	if err := signer.SignHTTP(context.Background(), keys, request, c.payloadHash, c.service, c.region, at); err != nil {
		t.Fatal(err)
	}
	c.headers = slices.Clone(c.headers)
	for _, name := range []string{"X-Amz-Content-Sha256", "X-Amz-Date", "X-Amz-Security-Token", "Authorization"} {
		if value := request.Header.Get(name); value != "" {
			c.headers = append(c.headers, [2]string{name, value})
		}
	}
	return c
}

// with adds headers that the signature does not cover.
func (c call) with(headers ...[2]string) call {
	c.headers = append(slices.Clone(c.headers), headers...)
	return c
}

func (c call) head() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", c.method, c.target, c.host)
	length := c.body != "" || c.method == "PUT" || c.method == "POST"
	for _, h := range c.headers {
		if strings.EqualFold(h[0], "Content-Length") || strings.EqualFold(h[0], "Transfer-Encoding") {
			length = false
		}
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
	}
	if length {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(c.body))
	}
	return b.String() + "\r\n"
}

// send writes the whole request and reads the answer.
func (w *wire) send(t testing.TB, c call) (*http.Response, string) {
	t.Helper()
	if _, err := io.WriteString(w, c.head()+c.body); err != nil {
		t.Fatal(err)
	}
	return w.read(t, c.method)
}

// signExactly signs the headers that are named and those that must be signed,
// and no others; SDK signers leave some out. It is for S3, whose path is signed
// as it stands.
func (c call) signExactly(keys aws.Credentials, at time.Time, names ...string) call {
	if c.payloadHash == "" {
		c.payloadHash = digest([]byte(c.body))
	}
	c = c.with(
		[2]string{"X-Amz-Content-Sha256", c.payloadHash},
		[2]string{"X-Amz-Date", at.UTC().Format("20060102T150405Z")},
	)
	names = append(slices.Clone(names), "host", "x-amz-content-sha256", "x-amz-date")
	signature := c.signature(keys.SecretAccessKey, at, names)
	return c.with([2]string{"Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s/%s/%s/aws4_request, SignedHeaders=%s, Signature=%s",
		keys.AccessKeyID, at.UTC().Format("20060102"), c.region, c.service, strings.Join(names, ";"), signature)})
}

// signature computes the signature as the documentation tells it; names is
// sorted in place.
func (c call) signature(secret string, at time.Time, names []string) string {
	slices.Sort(names)
	path, query, _ := strings.Cut(c.target, "?")
	if c.service != "s3" {
		path = (&url.URL{Path: path}).EscapedPath()
	}
	canonical := c.method + "\n" + path + "\n" + canonicalQuery(query) + "\n"
	for _, name := range names {
		var values []string
		for _, h := range append([][2]string{{"Host", c.host}}, c.headers...) {
			if strings.EqualFold(h[0], name) {
				values = append(values, strings.Join(strings.Fields(h[1]), " "))
			}
		}
		canonical += name + ":" + strings.Join(values, ",") + "\n"
	}
	canonical += "\n" + strings.Join(names, ";") + "\n" + c.payloadHash
	day := at.UTC().Format("20060102")
	key := []byte("AWS4" + secret)
	for _, part := range []string{day, c.region, c.service, "aws4_request"} {
		key = hmacSHA256(key, part)
	}
	return hex.EncodeToString(hmacSHA256(key, "AWS4-HMAC-SHA256\n"+at.UTC().Format("20060102T150405Z")+"\n"+
		day+"/"+c.region+"/"+c.service+"/aws4_request\n"+digest([]byte(canonical))))
}

func canonicalQuery(query string) string {
	if query == "" {
		return ""
	}
	pairs := strings.Split(query, "&")
	for i, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		pairs[i] = reencode(name) + "=" + reencode(value)
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "&")
}

func reencode(text string) string {
	text, _ = url.PathUnescape(text)
	return strings.NewReplacer("+", "%20", "*", "%2A", "%7E", "~").Replace(url.QueryEscape(text))
}

func hmacSHA256(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	io.WriteString(mac, text)
	return mac.Sum(nil)
}
