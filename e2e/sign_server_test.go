package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// A standIn stands where AWS would, under whatever name it is called. It keeps
// every request as it arrived, with the bytes of its body, and verifies
// signatures with code that is not the proxy's.
type standIn struct {
	upstream
	rootFile string
	// settle waits until every request that began has ended, and ends the server.
	settle func(context.Context) error

	mu      sync.Mutex
	known   map[string]aws.Credentials // by access key id
	arrived []arrival
}

// An arrival is one request as a standIn received it.
type arrival struct {
	Method, Host, Target, Proto string
	Header                      http.Header
	Length                      int64
	Body                        []byte
	BodyErr                     error // where the body was cut off
}

// anyHost is an authority whose certificates are for any name: those of thePKI
// have wildcards, which stand for one label.
var anyHost = sync.OnceValues(func() (*hostPKI, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "e2e root for any host"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	if err != nil {
		return nil, err
	}
	p := &hostPKI{root: root, der: der, key: key, file: filepath.Join(scratch, "any-root.pem")}
	return p, os.WriteFile(p.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
})

type hostPKI struct {
	root *x509.Certificate
	der  []byte
	key  *ecdsa.PrivateKey
	file string
}

func (p *hostPKI) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "e2e stand-in"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(23 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{hello.ServerName},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, p.root, p.key.Public(), p.key)
	return &tls.Certificate{Certificate: [][]byte{der, p.der}, PrivateKey: p.key}, err
}

// stand starts a standIn. Its answer is called when the body has been read to its
// end; what broke off before is kept, and not answered.
func stand(t testing.TB, answer func(s *standIn, w http.ResponseWriter, a *arrival)) *standIn {
	t.Helper()
	var s *standIn
	s = standFor(t, func(w http.ResponseWriter, r *http.Request) {
		a := arrival{Method: r.Method, Host: r.Host, Target: r.RequestURI, Proto: r.Proto, Header: r.Header.Clone(), Length: r.ContentLength}
		a.Body, a.BodyErr = io.ReadAll(r.Body)
		s.mu.Lock()
		s.arrived = append(s.arrived, a)
		s.mu.Unlock()
		if a.BodyErr == nil && answer != nil {
			answer(s, w, &a)
		}
	}, "http/1.1")
	return s
}

// standFor starts a standIn that leaves everything to a handler.
func standFor(t testing.TB, handler http.HandlerFunc, protocols ...string) *standIn {
	t.Helper()
	pki, err := anyHost()
	if err != nil {
		t.Fatal(err)
	}
	keys := aws.Credentials{AccessKeyID: "AKIASTANDINSOURCEKEY", SecretAccessKey: "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"}
	s := &standIn{
		upstream: upstream{name: "stand-in", keys: keys}, rootFile: pki.file,
		known: map[string]aws.Credentials{keys.AccessKeyID: keys},
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = listener.Addr().String()
	server := &http.Server{
		Handler: handler, ErrorLog: log.New(io.Discard, "", 0),
		TLSConfig: &tls.Config{GetCertificate: pki.certificate, NextProtos: protocols},
	}
	s.settle = server.Shutdown
	go server.ServeTLS(listener, "", "")
	t.Cleanup(func() { server.Close() })
	return s
}

// serveStandIn is serve before a standIn.
func serveStandIn(t testing.TB, s *standIn, more string) *proxy {
	t.Helper()
	return serve(t, &s.upstream, override(s.address, s.rootFile)+more)
}

func (s *standIn) arrivals() []arrival {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.arrived)
}

// forget makes the next request the first.
func (s *standIn) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.arrived = nil
}

// the returns the only request that arrived.
func (s *standIn) the(t testing.TB) arrival {
	t.Helper()
	all := s.arrivals()
	if len(all) != 1 {
		t.Fatalf("%d requests arrived upstream, want 1: %+v", len(all), all)
	}
	return all[0]
}

// knows adds keys that requests may be signed with.
func (s *standIn) knows(c aws.Credentials) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[c.AccessKeyID] = c
}

func (s *standIn) key(id string) (aws.Credentials, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.known[id]; ok {
		return c, nil
	}
	return aws.Credentials{}, fmt.Errorf("the key %s is not known", id)
}

// arrivedSignature is the Authorization header taken apart.
type arrivedSignature struct {
	keys            aws.Credentials
	at              time.Time
	region, service string
	signed          []string
	hex             string
}

// verify checks a signature in the header, signing the request again with the
// SDK's signer. The token must be in the header that is named.
func (s *standIn) verify(a *arrival, tokenHeader string) (arrivedSignature, error) {
	match := authorization.FindStringSubmatch(a.Header.Get("Authorization"))
	if match == nil {
		return arrivedSignature{}, errors.New("no Authorization header of the documented form")
	}
	at, err := time.Parse("20060102T150405Z", a.Header.Get("X-Amz-Date"))
	if err != nil {
		return arrivedSignature{}, err
	}
	keys, err := s.key(match[1])
	if err != nil {
		return arrivedSignature{}, err
	}
	got := arrivedSignature{keys: keys, at: at, region: match[3], service: match[4], signed: strings.Split(match[5], ";"), hex: match[6]}
	for _, name := range []string{"X-Amz-Security-Token", "X-Amz-S3session-Token"} {
		want := ""
		if name == tokenHeader {
			want = keys.SessionToken
		}
		if token := a.Header.Get(name); token != want {
			return got, fmt.Errorf("%s has %d characters, want %d and those of %s", name, len(token), len(want), keys.AccessKeyID)
		}
	}
	hash := a.Header.Get("X-Amz-Content-Sha256")
	if hash == "" || regexp.MustCompile("^[0-9a-f]{64}$").MatchString(hash) {
		if body := digest(a.Body); hash != "" && hash != body {
			return got, errors.New("the body is not the one that was signed")
		} else {
			hash = body
		}
	}
	path, query, _ := strings.Cut(a.Target, "?")
	again := &http.Request{
		Method: a.Method, Host: a.Host, Header: http.Header{},
		URL: &url.URL{Scheme: "https", Host: a.Host, Opaque: "//" + a.Host + path, RawQuery: query},
	}
	for _, name := range got.signed {
		switch values := a.Header.Values(name); {
		case name == "content-length":
			again.ContentLength = a.Length
		case name != "host" && len(values) == 0:
			return got, fmt.Errorf("%s is signed and did not arrive", name)
		case name != "host":
			again.Header[http.CanonicalHeaderKey(name)] = slices.Clone(values)
		}
	}
	for name := range a.Header {
		if strings.HasPrefix(name, "X-Amz-") && !slices.Contains(got.signed, strings.ToLower(name)) {
			return got, fmt.Errorf("%s is not signed", name)
		}
	}
	keys.SessionToken = "" // it is in the header already
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = strings.HasPrefix(got.service, "s3") })
	if err := signer.SignHTTP(context.Background(), keys, again, hash, got.service, got.region, at); err != nil {
		return got, err
	}
	if want := again.Header.Get("Authorization"); want != a.Header.Get("Authorization") {
		return got, fmt.Errorf("the signature is wrong: %s, want %s", a.Header.Get("Authorization"), want)
	}
	return got, nil
}

// sameMeaning compares what a client sent with what arrived: the target and the
// headers byte for byte, except those that are named and signature material.
func sameMeaning(t testing.TB, method, target string, headers [][2]string, got arrival, except ...string) {
	t.Helper()
	except = append(slices.Clone(except), material...)
	lines := func(list [][2]string) (out []string) {
		for _, h := range list {
			name := strings.ToLower(h[0])
			if !slices.Contains(except, name) && !hopByHop(name, h[1]) && name != "content-length" && name != "transfer-encoding" {
				out = append(out, name+": "+strings.Trim(h[1], " \t"))
			}
		}
		slices.Sort(out)
		return out
	}
	var arrived [][2]string
	for name, values := range got.Header {
		for _, value := range values {
			arrived = append(arrived, [2]string{name, value})
		}
	}
	if want, have := lines(headers), lines(arrived); !slices.Equal(want, have) {
		t.Errorf("headers arrived as\n%s\nwant\n%s", strings.Join(have, "\n"), strings.Join(want, "\n"))
	}
	if got.Method != method || got.Target != target {
		t.Errorf("arrived as %s %s, want %s %s", got.Method, got.Target, method, target)
	}
}

// A chunked is an aws-chunked body taken apart.
type chunked struct {
	data       []byte
	sizes      []int
	signatures []string    // of the chunks, "" without one
	trailers   [][2]string // x-amz-trailer-signature too
}

// parseChunked takes an aws-chunked body apart as the S3 guide describes it.
func parseChunked(body []byte, trailer bool) (c chunked, err error) {
	line := func() (string, bool) {
		text, rest, ok := bytes.Cut(body, []byte("\r\n"))
		body = rest
		return string(text), ok
	}
	for {
		head, ok := line()
		var size int
		sizeText, signature, _ := strings.Cut(head, ";chunk-signature=")
		if _, err := fmt.Sscanf(sizeText, "%x", &size); !ok || err != nil {
			return c, fmt.Errorf("a chunk begins with %.40q", head)
		}
		c.sizes, c.signatures = append(c.sizes, size), append(c.signatures, signature)
		if size == 0 {
			break
		}
		if len(body) < size+2 || string(body[size:size+2]) != "\r\n" {
			return c, errors.New("a chunk does not end where its size says")
		}
		c.data = append(c.data, body[:size]...)
		body = body[size+2:]
	}
	for {
		text, ok := line()
		if !ok {
			return c, errors.New("the body does not end with an empty line")
		}
		if text == "" {
			break
		}
		name, value, _ := strings.Cut(text, ":")
		c.trailers = append(c.trailers, [2]string{name, value})
	}
	if len(body) > 0 || trailer != (len(c.trailers) > 0) {
		return c, fmt.Errorf("%d bytes after the end, %d trailers", len(body), len(c.trailers))
	}
	return c, nil
}

// A chunkChain signs chunks and trailers as the S3 guide tells it.
type chunkChain struct {
	key         []byte
	date, scope string
	prev        string
}

func newChunkChain(secret string, at time.Time, region, service, seed string) *chunkChain {
	day := at.UTC().Format("20060102")
	key := []byte("AWS4" + secret)
	for _, part := range []string{day, region, service, "aws4_request"} {
		key = hmacSHA256(key, part)
	}
	return &chunkChain{key: key, date: at.UTC().Format("20060102T150405Z"), scope: day + "/" + region + "/" + service + "/aws4_request", prev: seed}
}

func (c *chunkChain) chunk(data []byte) string {
	return c.next("AWS4-HMAC-SHA256-PAYLOAD", digest(nil)+"\n"+digest(data))
}

func (c *chunkChain) trailer(lines string) string {
	return c.next("AWS4-HMAC-SHA256-TRAILER", digest([]byte(lines)))
}

func (c *chunkChain) next(algorithm, what string) string {
	c.prev = hex.EncodeToString(hmacSHA256(c.key, algorithm+"\n"+c.date+"\n"+c.scope+"\n"+c.prev+"\n"+what))
	return c.prev
}
