package signer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"net/http"
	"testing"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// typical is a request of ten headers, as an SDK sends it.
func typical(tb testing.TB) *http.Request {
	h := http.Header{
		"Content-Type":          {"application/x-amz-json-1.0"},
		"X-Amz-Target":          {"DynamoDB_20120810.GetItem"},
		"Accept-Encoding":       {"identity"},
		"User-Agent":            {"aws-sdk-go-v2/1.47.7 ua/2.1 os/linux lang/go#1.26 md/GOOS#linux api/dynamodb#1.73.1"},
		"Amz-Sdk-Invocation-Id": {"3b4d6a0e-1111-2222-3333-444455556666"},
		"Amz-Sdk-Request":       {"attempt=1; max=3"},
		"X-Amz-User-Agent":      {"aws-sdk-go-v2/1.47.7"},
		"X-Amz-Content-Sha256":  {hexHash([]byte(`{"TableName":"t"}`))},
	}
	r := received(tb, "POST", "/", "dynamodb.us-east-1.amazonaws.com", h, []byte(`{"TableName":"t"}`))
	if err := v4.NewSigner().SignHTTP(context.Background(), clientCreds, r, h.Get("X-Amz-Content-Sha256"), "dynamodb", "us-east-1", testNow); err != nil {
		tb.Fatal(err)
	}
	return r
}

func cloneHeader(dst, src http.Header) {
	clear(dst)
	for k, v := range src {
		dst[k] = v
	}
}

// BenchmarkVerifyAndSign is the signer's work for one request; the outgoing
// header map is the caller's.
func BenchmarkVerifyAndSign(b *testing.B) {
	r := typical(b)
	out := outgoing(r)
	keys := &Keys{}
	secret := secretOf(clientCreds)
	b.ReportAllocs()
	for b.Loop() {
		cloneHeader(out.Header, r.Header)
		sig, err := Parse(r)
		if err != nil {
			b.Fatal(err)
		}
		v, err := Verify(r, sig, secret, VerifyOptions{Now: at(testNow), Keys: keys})
		if err != nil {
			b.Fatal(err)
		}
		if err := Resign(out, v, roleCreds, ResignOptions{Now: at(laterNow), Keys: keys}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSDKTwice is the same with the SDK's signer: once to compute what the
// client's signature should have been, once to sign.
func BenchmarkSDKTwice(b *testing.B) {
	r := typical(b)
	out := outgoing(r)
	signer := v4.NewSigner()
	hash := r.Header.Get("X-Amz-Content-Sha256")
	b.ReportAllocs()
	for b.Loop() {
		cloneHeader(out.Header, r.Header)
		if err := signer.SignHTTP(context.Background(), clientCreds, out, hash, "dynamodb", "us-east-1", testNow); err != nil {
			b.Fatal(err)
		}
		if err := signer.SignHTTP(context.Background(), roleCreds, out, hash, "dynamodb", "us-east-1", laterNow); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkChunks64KiB(b *testing.B) {
	c := chunkClient{creds: clientCreds, sizes: make([]int, 64)}
	for i := range c.sizes {
		c.sizes[i] = 64 << 10
	}
	c.build(b)
	keys := &Keys{}
	buf := make([]byte, 32<<10)
	b.SetBytes(int64(len(c.wire)))
	b.ReportAllocs()
	for b.Loop() {
		c.r.Body = io.NopCloser(bytes.NewReader(c.wire))
		v, err := parseAndVerify(c.r, clientCreds, VerifyOptions{Now: at(testNow), Keys: keys})
		if err != nil {
			b.Fatal(err)
		}
		out := outgoing(c.r)
		if err := Resign(out, v, roleCreds, ResignOptions{Now: at(laterNow), Keys: keys}); err != nil {
			b.Fatal(err)
		}
		if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, out.Body, buf); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHashTwice hashes the bytes of BenchmarkChunks64KiB twice.
func BenchmarkHashTwice(b *testing.B) {
	data := make([]byte, 64*(64<<10+87))
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		for range 2 {
			h := sha256.New()
			h.Write(data)
			h.Sum(nil)
		}
	}
}

func BenchmarkHashedBody(b *testing.B) {
	data := make([]byte, 4<<20)
	sig := &Signature{PayloadHash: hexHash(data)}
	buf := make([]byte, 32<<10)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		body := newHashBody(&Verified{sig: sig}, io.NopCloser(bytes.NewReader(data)), int64(len(data)))
		if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, body, buf); err != nil {
			b.Fatal(err)
		}
	}
}
