package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/countersign-proxy/countersign/audit"
)

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// Clients without credentials reach the endpoint listener too: each request has its
// line, and none holds a connection by saying nothing.
func TestTheEndpointListenerWaitsForNobody(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	cfg := loaded(t, t.TempDir(), "roles: {r: {}}\nidentities: {ci: {roles: [r]}}\nlimits: {body_timeout: 1s}\n")
	var record lockedBuffer
	p, err := newProxy(t.Context(), cfg, newGrants(cfg, in(nil)), proxyOptions{
		Source: staticSource(aws.Credentials{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: "x"}),
		Audit:  audit.Options{Writer: &record, Required: true}, Log: zap.NewNop(), Getenv: in(nil),
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.endpoint = p.endpointServer()
	p.serveWith("endpoint", endpointListener(l, 4), p.endpoint, func(err error) { t.Error(err) })
	form := "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 100\r\n\r\n--b"
	for name, request := range map[string]string{
		"a form that does not go on":  "POST /bucket HTTP/1.1\r\nHost: a\r\n" + form,
		"a body that nobody wants":    "PUT /bucket HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nx",
		"a request for the whole":     "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
		"a request for another proxy": "GET https://s3.amazonaws.com/ HTTP/1.1\r\nHost: s3.amazonaws.com\r\n\r\n",
	} {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || res.StatusCode < 400 {
			t.Errorf("%s: %v %v", name, res, err)
		} else {
			_ = res.Body.Close()
		}
		_ = conn.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := p.shutdown(ctx); err != nil {
		t.Error(err)
	}
	if n := strings.Count(record.b.String(), "\n"); n != 4 {
		t.Errorf("%d lines, want 4:\n%s", n, record.b.String())
	}
}
