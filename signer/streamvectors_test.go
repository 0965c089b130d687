package signer

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

type streamVectors struct {
	Chunked struct {
		AccessKey string `json:"access_key"`
		Secret    string
		Region    string
		Service   string
		Date      string
		Method    string
		Path      string
		Host      string
		Chunks    []struct {
			Byte string
			Len  int
		}
		SignedHeaders string `json:"signed_headers"`
		Headers       map[string]string
		Seed          string
		Signatures    []string `json:"chunk_signatures"`
		Extra         struct {
			Trailers  [][2]string
			Canonical string
			Signature string `json:"trailer_signature"`
		} `json:"extra_trailer_over_same_seed"`
	} `json:"s3_chunked"`
	Trailer struct {
		SignedHeaders string `json:"signed_headers"`
		Sha256        string `json:"x-amz-content-sha256"`
		Announced     string `json:"x-amz-trailer"`
		Trailer       [2]string
		Seed          string
		Signatures    []string `json:"chunk_signatures"`
		Signature     string   `json:"trailer_signature"`
	} `json:"s3_chunked_trailer"`
	Presigned struct {
		Host, Path, Date, Signature string
		Expires                     int
	} `json:"s3_presigned_get"`
	Events struct {
		AccessKey string `json:"access_key"`
		Secret    string
		Region    string
		Service   string
		Seed      string
		Request   map[string]string
		Events    []struct{ Date, Payload, Signature string }
	} `json:"event_stream"`
	KeyV4A struct {
		AccessKey  string `json:"access_key"`
		Secret     string
		PrivateKey string `json:"private_key"`
		X          string `json:"public_x"`
		Y          string `json:"public_y"`
	} `json:"sigv4a_key_derivation"`
	ChunkedV4A struct {
		X       string `json:"public_x"`
		Y       string `json:"public_y"`
		Prefix  string `json:"chunk_sts_prefix"`
		Trailer string `json:"trailer_sts_prefix"`
		Suffix  string `json:"trailer_sts_suffix"`
	} `json:"sigv4a_chunked"`
}

func readStreamVectors(t *testing.T) (v streamVectors) {
	b, err := os.ReadFile(filepath.Join(suite(t), "streaming-vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func vectorTime(t *testing.T, s string) time.Time {
	d, err := time.Parse(timeFormat, s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (v *streamVectors) creds() aws.Credentials {
	return aws.Credentials{AccessKeyID: v.Chunked.AccessKey, SecretAccessKey: v.Chunked.Secret}
}

// chunked builds the documented upload with the documented signatures.
func (v *streamVectors) chunked(t *testing.T, header map[string]string, signed, seed string, sigs []string, tail string) *http.Request {
	c := v.Chunked
	var body bytes.Buffer
	for i, ch := range c.Chunks {
		fmt.Fprintf(&body, "%x;chunk-signature=%s\r\n%s", ch.Len, sigs[i], strings.Repeat(ch.Byte, ch.Len))
		if ch.Len > 0 || tail == "" {
			body.WriteString("\r\n")
		}
	}
	body.WriteString(tail)
	h := http.Header{}
	for k, v := range header {
		h.Set(k, v)
	}
	h.Set("X-Amz-Date", c.Date)
	h.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s/%s/%s/aws4_request,SignedHeaders=%s,Signature=%s",
		c.AccessKey, c.Date[:8], c.Region, c.Service, signed, seed))
	return received(t, c.Method, c.Path, c.Host, h, body.Bytes())
}

func TestDocumentedChunks(t *testing.T) {
	v := readStreamVectors(t)
	c := v.Chunked
	now := vectorTime(t, c.Date)
	r := v.chunked(t, c.Headers, c.SignedHeaders, c.Seed, c.Signatures, "")
	wire, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(wire))
	verified := mustVerify(t, r, v.creds(), now)
	// Signed again with the same credentials at the same time, it is the same.
	out := mustResign(t, r, verified, v.creds(), now)
	if got := out.Header.Get("Authorization"); !strings.HasSuffix(got, c.Seed) {
		t.Errorf("seed: %s, want %s", got, c.Seed)
	}
	if got := readAll(t, out.Body); !bytes.Equal(got, wire) {
		t.Error("the documented body did not come out as it went in")
	}

	// The extra vector: three trailers after the last chunk's signature.
	chain := newChain(verified.key, AlgorithmHMAC, c.Date, verified.sig.scope(), c.Signatures[len(c.Signatures)-1])
	var lines string
	var names []string
	for _, tr := range slices.Backward(c.Extra.Trailers) {
		lines += tr[0] + ":" + tr[1] + "\r\n"
		names = append(names, tr[0])
	}
	lines += "x-amz-trailer-signature:" + c.Extra.Signature + "\r\n\r\n"
	tr := trailerReader{announced: names}
	if err := tr.read(bufio.NewReader(strings.NewReader(lines)), chain); err != nil {
		t.Errorf("three trailers: %v", err)
	}
	if string(tr.canonical) != c.Extra.Canonical {
		t.Errorf("canonical trailers %q, want %q", tr.canonical, c.Extra.Canonical)
	}
}

func TestDocumentedChunksWithTrailer(t *testing.T) {
	v := readStreamVectors(t)
	now := vectorTime(t, v.Chunked.Date)
	h := map[string]string{}
	for k, val := range v.Chunked.Headers {
		h[k] = val
	}
	delete(h, "content-length")
	h["x-amz-content-sha256"], h["x-amz-trailer"] = v.Trailer.Sha256, v.Trailer.Announced
	tail := v.Trailer.Trailer[0] + ":" + v.Trailer.Trailer[1] + "\r\nx-amz-trailer-signature:" + v.Trailer.Signature + "\r\n\r\n"
	r := v.chunked(t, h, v.Trailer.SignedHeaders, v.Trailer.Seed, v.Trailer.Signatures, tail)
	wire, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(wire))
	verified := mustVerify(t, r, v.creds(), now)
	out := mustResign(t, r, verified, v.creds(), now)
	if got := readAll(t, out.Body); !bytes.Equal(got, wire) {
		t.Error("the documented body did not come out as it went in")
	}
	if got := out.Header.Get("Authorization"); !strings.HasSuffix(got, v.Trailer.Seed) {
		t.Errorf("seed: %s, want %s", got, v.Trailer.Seed)
	}
}

func TestDocumentedPresignedURL(t *testing.T) {
	v := readStreamVectors(t)
	p := v.Presigned
	r := received(t, "GET", p.Path, p.Host, nil, nil)
	if err := Sign(r, v.creds(), SignOptions{Service: "s3", Region: "us-east-1", Expires: time.Duration(p.Expires) * time.Second, Now: at(vectorTime(t, p.Date))}); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(r.URL.RawQuery, "&X-Amz-Signature="+p.Signature) {
		t.Errorf("query %s, want the signature %s", r.URL.RawQuery, p.Signature)
	}
	r.RequestURI = r.URL.RequestURI()
	mustVerify(t, r, v.creds(), vectorTime(t, p.Date).Add(24*time.Hour))
	_, err := parseAndVerify(r, v.creds(), VerifyOptions{Now: at(vectorTime(t, p.Date).Add(24*time.Hour + time.Second))})
	wantReason(t, err, ReasonExpired)
}

func TestDocumentedEvents(t *testing.T) {
	v := readStreamVectors(t)
	e := v.Events
	sc := scope{date: "19810116", region: e.Region, service: e.Service}
	key, err := deriveKey(AlgorithmHMAC, e.AccessKey, e.Secret, sc)
	if err != nil {
		t.Fatal(err)
	}
	chain := newEventChain(nil, key, e.AccessKey, e.Secret, sc, e.Seed)
	for _, want := range e.Events {
		frame := newFrame([]byte(want.Payload))
		binary.BigEndian.PutUint64(frame.date, uint64(vectorTime(t, want.Date).UnixMilli()))
		mac, err := chain.sum(&frame)
		if err != nil || hex.EncodeToString(mac[:]) != want.Signature {
			t.Errorf("event %q: %x, %v; want %s", want.Payload, mac, err, want.Signature)
		}
		chain.follow(mac)
	}
	// And the seed is that of the request.
	h := http.Header{}
	for k, val := range e.Request {
		if strings.Contains(k, "-") {
			h.Set(k, val)
		}
	}
	r := received(t, e.Request["method"], e.Request["path"], e.Request["host"], h, nil)
	if err := Sign(r, aws.Credentials{AccessKeyID: e.AccessKey, SecretAccessKey: e.Secret}, SignOptions{
		Service: e.Service, Region: e.Region, PayloadHash: e.Request["x-amz-content-sha256"], Now: at(vectorTime(t, e.Request["date"])),
	}); err != nil {
		t.Fatal(err)
	}
	if got := r.Header.Get("Authorization"); !strings.HasSuffix(got, "Signature="+e.Seed) {
		t.Errorf("seed: %s, want %s", got, e.Seed)
	}
}

// newFrame is an unsigned frame around a payload.
func newFrame(payload []byte) event {
	b := make([]byte, 0, frameExtra+len(payload))
	b = binary.BigEndian.AppendUint32(b, uint32(frameExtra+len(payload)))
	b = binary.BigEndian.AppendUint32(b, uint32(dateLength+sigLength))
	b = append(b, 0, 0, 0, 0)
	b = append(b, dateHeader...)
	b = append(b, make([]byte, 8)...)
	b = append(b, sigHeader...)
	b = append(b, make([]byte, 32)...)
	b = append(b, payload...)
	b = append(b, 0, 0, 0, 0)
	e := event{frame: b, payload: b[frameHead : len(b)-4]}
	if err := e.headersIn(b[preludeLength:frameHead]); err != nil {
		panic(err)
	}
	return e
}

func TestDerivedKeyOfSigV4A(t *testing.T) {
	v := readStreamVectors(t)
	check := func(accessKey, secret, x, y, private string) {
		t.Helper()
		key, err := deriveECDSA(accessKey, secret)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := key.priv.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if private != "" && hex.EncodeToString(raw) != private {
			t.Errorf("private key of %s is not the one of the vector", accessKey)
		}
		public, err := key.priv.PublicKey.Bytes()
		if err != nil || hex.EncodeToString(public) != "04"+x+y {
			t.Errorf("public key %x, want 04 %s %s", public, x, y)
		}
	}
	check(v.KeyV4A.AccessKey, v.KeyV4A.Secret, v.KeyV4A.X, v.KeyV4A.Y, v.KeyV4A.PrivateKey)
	check(v.Chunked.AccessKey, v.Chunked.Secret, v.ChunkedV4A.X, v.ChunkedV4A.Y, "")
}

func TestDocumentedStringsToSignOfSigV4A(t *testing.T) {
	v := readStreamVectors(t)
	sc := scope{date: "20130524", service: "s3"}
	chain := newChain(nil, AlgorithmECDSA, v.Chunked.Date, sc, "prev")
	var sum [32]byte
	if got := string(chain.chunk(&sum)); !strings.HasPrefix(got, v.ChunkedV4A.Prefix+"prev\n"+emptyHash+"\n") {
		t.Errorf("chunk: %q, want the prefix %q", got, v.ChunkedV4A.Prefix)
	}
	canonical := v.Chunked.Extra.Canonical
	got := string(chain.trailer([]byte(canonical)))
	if want := v.ChunkedV4A.Trailer + "prev" + v.ChunkedV4A.Suffix; got != want {
		t.Errorf("trailer: %q, want %q", got, want)
	}
}
