package signer

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// A chunkClient signs chunk-signed uploads as SDKs do. It is written from the
// S3 documentation and shares no code with the package, except that SigV4A
// needs its key.
type chunkClient struct {
	creds    aws.Credentials
	v4a      bool
	trailers []string // name:value
	sizes    []int
	noLength bool
	headers  http.Header

	r    *http.Request // the signed request
	wire []byte        // its body
	data []byte        // what the body means
}

func (c *chunkClient) algorithm() string {
	if c.v4a {
		return AlgorithmECDSA
	}
	return AlgorithmHMAC
}

func (c *chunkClient) scope() string {
	if c.v4a {
		return testNow.Format("20060102") + "/s3/aws4_request"
	}
	return testNow.Format("20060102") + "/us-east-1/s3/aws4_request"
}

func (c *chunkClient) signText(t testing.TB, text string) string {
	if c.v4a {
		key, err := deriveECDSA(c.creds.AccessKeyID, c.creds.SecretAccessKey)
		if err != nil {
			t.Fatal(err)
		}
		b, err := key.sign(nil, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	key := hmacSum([]byte("AWS4"+c.creds.SecretAccessKey), testNow.Format("20060102"))
	for _, part := range []string{"us-east-1", "s3", "aws4_request"} {
		key = hmacSum(key, part)
	}
	return hex.EncodeToString(hmacSum(key, text))
}

func (c *chunkClient) pad(sig string) string {
	if c.v4a {
		return sig + strings.Repeat("*", 144-len(sig))
	}
	return sig
}

// build signs the request and its chunks.
func (c *chunkClient) build(t testing.TB) {
	t.Helper()
	width := 64
	if c.v4a {
		width = 144
	}
	total, length := 0, 0
	for _, n := range append(slices.Clone(c.sizes), 0) {
		total += n
		length += len(strconv.FormatInt(int64(n), 16)) + len(";chunk-signature=") + width + 2 + n
		if n > 0 || c.trailers == nil {
			length += 2
		}
	}
	h := c.headers.Clone()
	if h == nil {
		h = http.Header{}
	}
	word := "STREAMING-" + c.algorithm() + "-PAYLOAD"
	if c.trailers != nil {
		word += "-TRAILER"
		var names []string
		for _, l := range c.trailers {
			name, _, _ := strings.Cut(l, ":")
			names = append(names, name)
			length += len(l) + 2
		}
		h.Set("X-Amz-Trailer", strings.Join(names, ","))
		length += len("x-amz-trailer-signature:") + width + 4
	}
	h.Set("X-Amz-Content-Sha256", word)
	h.Set("X-Amz-Decoded-Content-Length", strconv.Itoa(total))
	h.Set("Content-Encoding", "aws-chunked")
	r := received(t, "PUT", "/bucket/key", "s3.us-east-1.amazonaws.com", h, nil)
	r.ContentLength = int64(length)
	opt := SignOptions{Service: "s3", Region: "us-east-1", PayloadHash: word, Now: at(testNow), Headers: []string{"content-length"}}
	if c.v4a {
		opt.RegionSet = "*"
	}
	if c.noLength {
		r.ContentLength, opt.Headers = -1, nil
	}
	if err := Sign(r, c.creds, opt); err != nil {
		t.Fatal(err)
	}
	_, prev, _ := strings.Cut(r.Header.Get("Authorization"), "Signature=")
	var wire bytes.Buffer
	date := testNow.Format(timeFormat)
	for i, n := range append(slices.Clone(c.sizes), 0) {
		data := bytes.Repeat([]byte{byte('a' + i%26)}, n)
		c.data = append(c.data, data...)
		prev = c.signText(t, c.algorithm()+"-PAYLOAD\n"+date+"\n"+c.scope()+"\n"+prev+"\n"+emptyHash+"\n"+hexHash(data))
		fmt.Fprintf(&wire, "%x;chunk-signature=%s\r\n%s", n, c.pad(prev), data)
		if n > 0 || c.trailers == nil {
			wire.WriteString("\r\n")
		}
	}
	if c.trailers != nil {
		lines := slices.Clone(c.trailers)
		slices.Sort(lines)
		prev = c.signText(t, c.algorithm()+"-TRAILER\n"+date+"\n"+c.scope()+"\n"+prev+"\n"+hexHash([]byte(strings.Join(lines, "\n")+"\n")))
		for _, l := range c.trailers {
			wire.WriteString(l + "\r\n")
		}
		wire.WriteString("x-amz-trailer-signature:" + c.pad(prev) + "\r\n\r\n")
	}
	if wire.Len() != length {
		t.Fatalf("the client built %d bytes, not %d", wire.Len(), length)
	}
	c.r, c.wire = r, wire.Bytes()
	r.Body = io.NopCloser(bytes.NewReader(c.wire))
}

var chunkClients = []struct {
	name  string
	label string
	c     chunkClient
}{
	{"one chunk", "header-chunked", chunkClient{sizes: []int{5}}},
	{"no data", "header-chunked", chunkClient{}},
	{"many chunks", "header-chunked", chunkClient{sizes: []int{65536, 65536, 1, 8192, 1 << 20, 3}}},
	{"without length", "header-chunked", chunkClient{sizes: []int{100, 200}, noLength: true}},
	{"trailer", "header-chunked-trailer", chunkClient{sizes: []int{65536, 10}, trailers: []string{"x-amz-checksum-crc32:AAAAAA=="}}},
	{"trailers out of order", "header-chunked-trailer", chunkClient{sizes: []int{10}, trailers: []string{"x-b:2", "x-a:1"}, noLength: true}},
	{"v4a", "header-v4a-chunked", chunkClient{sizes: []int{65536, 10}, v4a: true}},
	{"v4a trailer", "header-v4a-chunked-trailer", chunkClient{sizes: []int{10}, v4a: true, trailers: []string{"x-amz-checksum-crc32:AAAAAA=="}}},
}

func TestChunksAreSignedAgain(t *testing.T) {
	for _, tt := range chunkClients {
		for _, how := range []string{"streamed", "byte by byte", "buffered"} {
			t.Run(tt.name+"/"+how, func(t *testing.T) {
				c := tt.c
				c.creds = clientCreds
				c.build(t)
				if how == "byte by byte" {
					c.r.Body = io.NopCloser(iotest.OneByteReader(bytes.NewReader(c.wire)))
				}
				v := mustVerify(t, c.r, clientCreds, testNow)
				if got := v.Signature().Label(); got != tt.label {
					t.Errorf("label %q, want %q", got, tt.label)
				}
				if how == "buffered" {
					data, err := v.Buffer(0)
					if err != nil || !bytes.Equal(data, c.data) {
						t.Fatalf("Buffer: %d bytes, %v; want %d bytes", len(data), err, len(c.data))
					}
				}
				out := mustResign(t, c.r, v, roleCreds, laterNow)
				wire := readAll(t, out.Body)
				if err := v.BodyErr(); err != nil {
					t.Fatal(err)
				}
				if len(wire) != len(c.wire) {
					t.Fatalf("%d bytes went out, %d came in", len(wire), len(c.wire))
				}
				if want := c.r.ContentLength; how != "buffered" && out.ContentLength != want {
					t.Errorf("Content-Length %d, want %d", out.ContentLength, want)
				}
				// What went out verifies with the other credentials and means the same.
				again := outgoing(out)
				again.RequestURI = out.URL.RequestURI()
				again.Body = io.NopCloser(bytes.NewReader(wire))
				v2 := mustVerify(t, again, roleCreds, laterNow)
				data, err := v2.Buffer(0)
				if err != nil {
					t.Fatal(explain(err))
				}
				if !bytes.Equal(data, c.data) {
					t.Error("the data changed")
				}
				if framing(wire) != framing(c.wire) {
					t.Errorf("framing changed:\n%s\n%s", framing(wire), framing(c.wire))
				}
			})
		}
	}
}

// framing is a chunked body without its signatures.
func framing(wire []byte) string {
	s := string(wire)
	var b strings.Builder
	for {
		i := strings.Index(s, "signature")
		if i < 0 {
			return b.String() + s
		}
		i += len("signature") + 1
		b.WriteString(s[:i])
		s = strings.TrimLeft(s[i:], "0123456789abcdef*")
	}
}

// Any byte of the body changed must be refused before the final chunk is out.
func TestAlteredChunksAreNeverCompleted(t *testing.T) {
	for _, tt := range chunkClients {
		if tt.name == "many chunks" {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			c := tt.c
			c.creds = clientCreds
			for i, n := range c.sizes {
				c.sizes = slices.Clone(c.sizes)
				c.sizes[i] = min(n, 40)
			}
			c.build(t)
			keys := &Keys{}
			for i := range c.wire {
				for _, flip := range []byte{1, 0x20} {
					bad := bytes.Clone(c.wire)
					bad[i] ^= flip
					if c.sameMeaning(bad, i) {
						continue
					}
					got, err := c.transfer(t, bad, keys)
					if err == nil {
						t.Fatalf("byte %d of %q changed to %q and passed", i, c.wire, bad[i])
					}
					if bytes.Contains(got, []byte("0;chunk")) && !bytes.Contains(got, []byte("10;chunk")) {
						t.Fatalf("byte %d changed to %q: the final chunk went out: %q", i, bad[i], got)
					}
				}
			}
			for i := range c.wire {
				if _, err := c.transfer(t, c.wire[:i], keys); err == nil {
					t.Fatalf("cut at %d of %d and passed", i, len(c.wire))
				}
			}
			if _, err := c.transfer(t, append(bytes.Clone(c.wire), 'x'), keys); err == nil {
				t.Fatal("passed with a byte too many")
			}
		})
	}
}

// sameMeaning tells the changes that change nothing: the case of a size's
// digits and of a trailer's name.
func (c *chunkClient) sameMeaning(bad []byte, i int) bool {
	if !bytes.EqualFold(bad, c.wire) {
		return false
	}
	line := c.wire[bytes.LastIndexByte(c.wire[:i], '\n')+1:]
	in := i - (len(c.wire) - len(line))
	size := bytes.Index(line, []byte(";chunk-signature="))
	name := bytes.IndexByte(line, ':')
	return size >= in && size < 6 || bytes.HasPrefix(line, []byte("x-")) && in < name
}

func (c *chunkClient) transfer(t *testing.T, wire []byte, keys *Keys) ([]byte, error) {
	t.Helper()
	r := outgoing(c.r)
	r.RequestURI = c.r.RequestURI
	r.Body = io.NopCloser(bytes.NewReader(wire))
	v, err := parseAndVerify(r, clientCreds, VerifyOptions{Now: at(testNow), Keys: keys})
	if err != nil {
		t.Fatal(explain(err))
	}
	out := outgoing(r)
	if err := Resign(out, v, roleCreds, ResignOptions{Now: at(laterNow), Keys: keys}); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(out.Body)
	if (err == nil) != (v.BodyErr() == nil) {
		t.Fatalf("Read says %v, BodyErr says %v", err, v.BodyErr())
	}
	return got, err
}

func TestChunkLimits(t *testing.T) {
	c := chunkClient{creds: clientCreds, sizes: []int{1 << 20, 10}}
	c.build(t)
	if _, err := c.transfer(t, c.wire, nil); err != nil {
		t.Errorf("a chunk of 1 MiB: %v", err)
	}
	c = chunkClient{creds: clientCreds, sizes: []int{1<<20 + 1}}
	c.build(t)
	_, err := c.transfer(t, c.wire, nil)
	wantReason(t, err, ReasonTooLarge)

	c = chunkClient{creds: clientCreds, sizes: []int{4}}
	c.build(t)
	for name, wire := range map[string]string{
		"long header":    strings.Repeat("0", 5000),
		"many digits":    strings.Repeat("0", 16) + ";chunk-signature=" + strings.Repeat("0", 64) + "\r\n",
		"no size":        ";chunk-signature=" + strings.Repeat("0", 64) + "\r\n",
		"other name":     "4;chunk-signature-=" + strings.Repeat("0", 64) + "\r\n",
		"LF alone":       "4;chunk-signature=" + strings.Repeat("0", 64) + "\n",
		"two extensions": "4;a=b;chunk-signature=" + strings.Repeat("0", 60) + "\r\n",
	} {
		_, err := c.transfer(t, []byte(wire), nil)
		if err == nil {
			t.Errorf("%s: passed", name)
			continue
		}
		wantReason(t, err, ReasonChunk)
	}
}

func TestTrailersMustBeThoseAnnounced(t *testing.T) {
	c := chunkClient{creds: clientCreds, sizes: []int{4}, trailers: []string{"x-amz-checksum-crc32:AAAAAA=="}, headers: http.Header{}}
	c.build(t)
	// The request announces another name, and is signed so.
	r := outgoing(c.r)
	r.Header.Set("X-Amz-Trailer", "x-amz-checksum-sha1")
	r.Header.Del("Authorization")
	if err := Sign(r, clientCreds, SignOptions{Service: "s3", Region: "us-east-1", PayloadHash: r.Header.Get("X-Amz-Content-Sha256"), Now: at(testNow)}); err != nil {
		t.Fatal(err)
	}
	r.RequestURI = c.r.RequestURI
	v := mustVerify(t, r, clientCreds, testNow)
	v.sig.signature = c.seed()
	r.Body = io.NopCloser(bytes.NewReader(c.wire))
	v.body = r.Body
	_, err := v.Buffer(0)
	wantReason(t, err, ReasonChunk)
}

func (c *chunkClient) seed() string {
	_, s, _ := strings.Cut(c.r.Header.Get("Authorization"), "Signature=")
	return s
}

func TestDecodedLengthMustBeRight(t *testing.T) {
	for _, n := range []string{"3", "5"} {
		c := chunkClient{creds: clientCreds, sizes: []int{4}}
		c.build(t)
		r := outgoing(c.r)
		r.RequestURI = c.r.RequestURI
		v := mustVerify(t, r, clientCreds, testNow)
		v.sig.decodedLength, _ = strconv.ParseInt(n, 10, 64)
		_, err := v.Buffer(0)
		wantReason(t, err, ReasonChunk)
	}
}

// A chunk of a stream that never ends must come out as soon as it is complete.
func TestChunksAreNotHeldBack(t *testing.T) {
	c := chunkClient{creds: clientCreds, sizes: []int{100, 100}}
	c.build(t)
	pr, pw := io.Pipe()
	c.r.Body = pr
	v := mustVerify(t, c.r, clientCreds, testNow)
	out := mustResign(t, c.r, v, roleCreds, laterNow)
	first := len("64;chunk-signature=") + 64 + 2 + 100 + 2
	go func() { pw.Write(c.wire[:first]) }()
	got := make([]byte, first)
	if _, err := io.ReadFull(out.Body, got); err != nil {
		t.Fatal(err)
	}
	out.Body.Close()
	if _, err := out.Body.Read(got); err == nil {
		t.Error("the body goes on after Close")
	}
}
