package signer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

func TestSmoke(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	client := aws.Credentials{AccessKeyID: "CSIGAAAA", SecretAccessKey: "secret"}
	real := aws.Credentials{AccessKeyID: "ASIAREAL", SecretAccessKey: "real", SessionToken: "tok"}
	body := "Action=X"
	sum := sha256.Sum256([]byte(body))
	r := httptest.NewRequest("POST", "https://sts.us-east-1.amazonaws.com/a%20b//?x=1", strings.NewReader(body))
	r.RequestURI = "/a%20b//?x=1"
	r.Header.Set("Content-Type", "text/plain")
	if err := v4.NewSigner().SignHTTP(context.Background(), client, r, hex.EncodeToString(sum[:]), "sts", "us-east-1", now); err != nil {
		t.Fatal(err)
	}
	sig, err := Parse(r)
	if err != nil {
		t.Fatal(err)
	}
	v, err := Verify(r, sig, Secret{AccessKeyID: "CSIGAAAA", SecretAccessKey: "secret"}, VerifyOptions{Now: func() time.Time { return now }})
	if err != nil {
		e := err.(*Error)
		t.Fatal(err, e.CanonicalRequest)
	}
	out := r.Clone(context.Background())
	if err := Resign(out, v, real, ResignOptions{Now: func() time.Time { return now.Add(time.Minute) }}); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(out.Body)
	if err != nil || string(b) != body {
		t.Fatal(string(b), err)
	}
	want := out.Clone(context.Background())
	want.Header.Del("Authorization")
	if err := v4.NewSigner().SignHTTP(context.Background(), real, want, hex.EncodeToString(sum[:]), "sts", "us-east-1", now.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if got := out.Header.Get("Authorization"); got != want.Header.Get("Authorization") {
		t.Fatalf("got %s\nwant %s", got, want.Header.Get("Authorization"))
	}
	_ = http.MethodGet
}
