package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/elazarl/goproxy"
)

// serveGoproxy is a signing proxy as it is put together from parts: goproxy
// intercepts, the SDK signs. It verifies, judges and records nothing.
func serveGoproxy(s settings) error {
	ca, err := tls.LoadX509KeyPair(s.Root, s.RootKey)
	if err != nil {
		return err
	}
	roots, err := readRoots(s.Root)
	if err != nil {
		return err
	}
	proxy := goproxy.NewProxyHttpServer()
	proxy.CertStore = &certificates{known: map[string]*tls.Certificate{}}
	proxy.Tr = &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, s.Upstream)
		},
		TLSClientConfig:     &tls.Config{RootCAs: roots},
		MaxIdleConnsPerHost: 256,
		DisableCompression:  true,
	}
	intercept := &goproxy.ConnectAction{Action: goproxy.ConnectMitm, TLSConfig: goproxy.TLSConfigFromCA(&ca)}
	proxy.OnRequest().HandleConnectFunc(func(host string, _ *goproxy.ProxyCtx) (*goproxy.ConnectAction, string) {
		return intercept, host
	})
	signer := v4.NewSigner()
	proxy.OnRequest().DoFunc(func(r *http.Request, _ *goproxy.ProxyCtx) (*http.Request, *http.Response) {
		service, _, _ := strings.Cut(r.URL.Host, ".")
		hash := r.Header.Get("X-Amz-Content-Sha256")
		if hash == "" {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return r, goproxy.NewResponse(r, "text/plain", http.StatusBadRequest, err.Error())
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			sum := sha256.Sum256(body)
			hash = hex.EncodeToString(sum[:])
		}
		if err := signer.SignHTTP(r.Context(), realKeys, r, hash, service, region, time.Now()); err != nil {
			return r, goproxy.NewResponse(r, "text/plain", http.StatusInternalServerError, err.Error())
		}
		return r, nil
	})
	return announceAndServe(&http.Server{Handler: proxy, ReadHeaderTimeout: 10 * time.Second})
}

// certificates keeps what goproxy would otherwise make for each connection.
type certificates struct {
	mu    sync.Mutex
	known map[string]*tls.Certificate
}

func (c *certificates) Fetch(host string, make func() (*tls.Certificate, error)) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if certificate := c.known[host]; certificate != nil {
		return certificate, nil
	}
	certificate, err := make()
	if err == nil {
		c.known[host] = certificate
	}
	return certificate, err
}

func readRoots(files ...string) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		pool.AppendCertsFromPEM(text)
	}
	return pool, nil
}
