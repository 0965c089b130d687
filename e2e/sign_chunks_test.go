package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// A chunkedPut is an upload whose chunks are signed one by one, which today's SDKs
// make over plain HTTP only.
type chunkedPut struct {
	bucket, key string
	data        []byte
	size        int // of all chunks but the last
	trailer     bool
	coded       bool // sent in HTTP's chunked coding, so without a Content-Length
	// alter spoils the upload after it was signed.
	alter func(parts *chunkParts)
}

// chunkParts is a body before it is put together.
type chunkParts struct {
	chunks  []chunkPart
	trailer [][2]string // "" without one
	tail    string      // after the end
}

type chunkPart struct {
	data      []byte
	signature string
}

func (p *chunkParts) bytes() []byte {
	var b bytes.Buffer
	for i, c := range p.chunks {
		fmt.Fprintf(&b, "%x;chunk-signature=%s\r\n%s", len(c.data), c.signature, c.data)
		if i < len(p.chunks)-1 || len(p.trailer) == 0 {
			b.WriteString("\r\n")
		}
	}
	for _, t := range p.trailer {
		b.WriteString(t[0] + ":" + t[1] + "\r\n")
	}
	if len(p.trailer) > 0 {
		b.WriteString("\r\n")
	}
	b.WriteString(p.tail)
	return b.Bytes()
}

const crcTrailer = "x-amz-checksum-crc32"

func checksum(data []byte) string {
	sum := crc32.ChecksumIEEE(data)
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum))
}

// parts makes the body without signatures.
func (c chunkedPut) parts() (parts chunkParts) {
	none := strings.Repeat("0", 64)
	for piece := range slices.Chunk(c.data, c.size) {
		parts.chunks = append(parts.chunks, chunkPart{slices.Clone(piece), none})
	}
	parts.chunks = append(parts.chunks, chunkPart{nil, none})
	if c.trailer {
		parts.trailer = [][2]string{{crcTrailer, checksum(c.data)}, {"x-amz-trailer-signature", none}}
	}
	return parts
}

// sign makes the head and the body.
func (c chunkedPut) sign(t testing.TB, keys aws.Credentials) (call, []byte) {
	t.Helper()
	parts, length := c.parts(), 0
	if shape := c.parts(); c.alter != nil {
		c.alter(&shape)
		length = len(shape.bytes())
	} else {
		length = len(shape.bytes())
	}
	request := s3Call("PUT", c.bucket, "/"+c.key, "", [2]string{"Content-Encoding", "aws-chunked"}, [2]string{"Content-Type", "application/octet-stream"},
		[2]string{"X-Amz-Decoded-Content-Length", fmt.Sprint(len(c.data))}, [2]string{"X-Amz-Meta-Mode", "chunks  of mine"})
	request.payloadHash = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	if c.trailer {
		request.payloadHash += "-TRAILER"
		request = request.with([2]string{"X-Amz-Trailer", crcTrailer})
	}
	at := time.Now()
	if c.coded {
		request = request.sign(t, keys, at).with([2]string{"Transfer-Encoding", "chunked"})
	} else {
		request.body = string(make([]byte, length))
		request = request.sign(t, keys, at).with([2]string{"Content-Length", fmt.Sprint(length)})
		request.body = ""
	}
	_, seed, _ := strings.Cut(request.header("Authorization"), "Signature=")
	chain := newChunkChain(keys.SecretAccessKey, at, region, "s3", seed)
	for i := range parts.chunks {
		parts.chunks[i].signature = chain.chunk(parts.chunks[i].data)
	}
	if c.trailer {
		parts.trailer[1][1] = chain.trailer(crcTrailer + ":" + parts.trailer[0][1] + "\n")
	}
	if c.alter != nil {
		c.alter(&parts)
	}
	return request, parts.bytes()
}

func (c call) header(name string) string {
	for _, h := range c.headers {
		if strings.EqualFold(h[0], name) {
			return h[1]
		}
	}
	return ""
}

// put sends an upload through the proxy. A proxy that refuses need not read it to
// its end.
func (p *proxy) put(t testing.TB, c chunkedPut, keys aws.Credentials) (*http.Response, string, call, []byte) {
	t.Helper()
	request, body := c.sign(t, keys)
	w := p.dial(t, request.host)
	go func() {
		io.WriteString(w, request.head())
		if !c.coded {
			w.Write(body)
			return
		}
		for piece := range slices.Chunk(body, 10000) {
			fmt.Fprintf(w, "%x\r\n%s\r\n", len(piece), piece)
		}
		io.WriteString(w, "0\r\n\r\n")
	}()
	response, text := w.read(t, "PUT")
	return response, text, request, body
}

var chunkSignature = regexp.MustCompile(`(chunk-signature=|x-amz-trailer-signature:)[0-9a-f]{64}`)

// Chunks arrive with the sizes, the bytes and the trailers that the client sent,
// under signatures that verify with the keys of the proxy.
func TestChunkedUploadsArrive(t *testing.T) {
	server := stand(t, nil)
	p := serveStandIn(t, server, "")
	data := random(2<<20 + 12345)
	for _, size := range []int{8 << 10, 64<<10 + 1, 1 << 20} {
		for _, trailer := range []bool{false, true} {
			for _, coded := range []bool{false, true} {
				c := chunkedPut{bucket: "bucket", key: "a%20b/c", data: data, size: size, trailer: trailer, coded: coded}
				t.Run(fmt.Sprintf("%d trailer=%v coded=%v", size, trailer, coded), func(t *testing.T) {
					server.forget()
					response, text, request, body := p.put(t, c, p.clients["source"])
					expectStatus(t, response, text, http.StatusOK)
					got := server.the(t)
					sameMeaning(t, "PUT", request.target, request.headers, got)
					if coded != (got.Length < 0) || !coded && got.Length != int64(len(body)) {
						t.Errorf("Content-Length %d, want %d", got.Length, len(body))
					}
					mask := func(b []byte) []byte { return chunkSignature.ReplaceAll(b, []byte("$1")) }
					if !bytes.Equal(mask(got.Body), mask(body)) || len(got.Body) != len(body) {
						t.Errorf("%d bytes arrived, not those %d that were sent but for signatures", len(got.Body), len(body))
					}
					head, err := server.verify(&got, "X-Amz-Security-Token")
					if err != nil {
						t.Fatal(err)
					}
					verifyChunks(t, head, got.Body, data, trailer)
				})
			}
		}
	}
	t.Run("one byte", func(t *testing.T) {
		server.forget()
		response, text, _, _ := p.put(t, chunkedPut{bucket: "bucket", key: "k", data: []byte("x"), size: 8 << 10, trailer: true}, p.clients["source"])
		expectStatus(t, response, text, http.StatusOK)
		got := server.the(t)
		head, err := server.verify(&got, "X-Amz-Security-Token")
		if err != nil {
			t.Fatal(err)
		}
		verifyChunks(t, head, got.Body, []byte("x"), true)
	})
}

func verifyChunks(t *testing.T, head arrivedSignature, body, data []byte, trailer bool) {
	t.Helper()
	c, err := parseChunked(body, trailer)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(c.data, data) {
		t.Errorf("the chunks hold %d bytes, not the %d that were sent", len(c.data), len(data))
	}
	chain := newChunkChain(head.keys.SecretAccessKey, head.at, head.region, head.service, head.hex)
	at := 0
	for i, size := range c.sizes {
		if want := chain.chunk(c.data[at : at+size]); c.signatures[i] != want {
			t.Fatalf("the signature of chunk %d of %d is wrong", i, len(c.sizes))
		}
		at += size
	}
	if trailer {
		last := len(c.trailers) - 1
		var lines string
		for _, h := range c.trailers[:last] {
			lines += h[0] + ":" + h[1] + "\n"
		}
		if c.trailers[last] != [2]string{"x-amz-trailer-signature", chain.trailer(lines)} {
			t.Errorf("trailers %v", c.trailers)
		}
	}
}

// strict moto and versitygw verify every chunk and trailer themselves.
func TestChunkedUploadsAreAccepted(t *testing.T) {
	for _, u := range []*upstream{strictMoto(t), versity(t)} {
		t.Run(u.name, func(t *testing.T) {
			p, keys := serve(t, u, ""), clientKeys["ci"]
			if u.admin == nil {
				keys = clientKeys["source"] // versitygw knows no sessions
			}
			const bucket = "sign-chunks"
			newBucket(t, p, keys, bucket)
			for _, size := range []int{8 << 10, 100_000, 1 << 20} {
				for _, trailer := range []bool{false, true} {
					for _, coded := range []bool{false, true} {
						name := fmt.Sprintf("size-%d-trailer-%v-coded-%v", size, trailer, coded)
						t.Run(name, func(t *testing.T) {
							want := append(random(3<<20+77), name...)
							response, text, _, _ := p.put(t, chunkedPut{bucket: bucket, key: name, data: want, size: size, trailer: trailer, coded: coded}, keys)
							expectStatus(t, response, text, http.StatusOK)
							if got := readObject(t, p, keys, bucket, name); got != string(want) {
								t.Errorf("read back %d bytes, not the %d that were written", len(got), len(want))
							}
						})
					}
				}
			}
		})
	}
}

// The same client, spoilt and without the proxy: versitygw does verify.
func TestVersityRefusesAlteredChunks(t *testing.T) {
	u := versity(t)
	direct := &proxy{address: tunnel(t, u), roots: thePKI(t).roots}
	newBucket(t, direct, u.keys, "sign-chunks")
	for name, alter := range chunkAlterations {
		if strings.Contains(name, "over") || strings.Contains(name, "garbage") {
			continue // which versitygw does not mind
		}
		t.Run(name, func(t *testing.T) {
			response, text, _, _ := direct.put(t, chunkedPut{bucket: "sign-chunks", key: "spoilt", data: random(100_000), size: 8 << 10, trailer: true, alter: alter.do}, u.keys)
			if response.StatusCode < 400 {
				t.Errorf("versitygw accepted it: %s %s", response.Status, text)
			}
		})
	}
}

func newBucket(t testing.TB, p *proxy, keys aws.Credentials, bucket string) {
	t.Helper()
	c := s3Call("PUT", bucket, "/", "").sign(t, keys, time.Now())
	response, body := p.dial(t, c.host).send(t, c)
	if response.StatusCode != http.StatusOK && !strings.Contains(body, "AlreadyOwnedByYou") {
		t.Fatalf("%s %s", response.Status, body)
	}
}

func readObject(t *testing.T, p *proxy, keys aws.Credentials, bucket, key string) string {
	t.Helper()
	c := s3Call("GET", bucket, "/"+key, "").sign(t, keys, time.Now())
	response, body := p.dial(t, c.host).send(t, c)
	expectStatus(t, response, "", http.StatusOK)
	return body
}

// What may be wrong with a body of chunks, and what it is called.
var chunkAlterations = map[string]struct {
	do           func(*chunkParts)
	reason, says string
}{
	"first chunk":            {func(p *chunkParts) { p.chunks[0].data[0] ^= 1 }, "chunk-signature", "chunk"},
	"middle chunk":           {func(p *chunkParts) { p.chunks[6].data[4000] ^= 1 }, "chunk-signature", "chunk"},
	"last chunk with data":   {func(p *chunkParts) { p.chunks[12].data[100] ^= 1 }, "chunk-signature", "chunk"},
	"signature of a chunk":   {func(p *chunkParts) { p.chunks[3].signature = strings.Repeat("a", 64) }, "chunk-signature", "chunk"},
	"final chunk":            {func(p *chunkParts) { p.chunks[13].signature = strings.Repeat("b", 64) }, "chunk-signature", "chunk"},
	"chunks exchanged":       {func(p *chunkParts) { p.chunks[2], p.chunks[3] = p.chunks[3], p.chunks[2] }, "chunk-signature", "chunk"},
	"chunk left out":         {func(p *chunkParts) { p.chunks = slices.Delete(p.chunks, 4, 5) }, "chunk-signature", "chunk"},
	"no final chunk":         {func(p *chunkParts) { p.chunks, p.trailer = p.chunks[:13], nil }, "incomplete", "end"},
	"value of the trailer":   {func(p *chunkParts) { p.trailer[0][1] = "AAAAAA==" }, "chunk-signature", "trailer"},
	"signature of a trailer": {func(p *chunkParts) { p.trailer[1][1] = strings.Repeat("c", 64) }, "chunk-signature", "trailer"},
	"no trailer":             {func(p *chunkParts) { p.trailer = nil }, "", ""},
	"another trailer":        {func(p *chunkParts) { p.trailer[0][0] = "x-amz-checksum-crc64" }, "", ""},
	"garbage after the end":  {func(p *chunkParts) { p.tail = "GET / HTTP/1.1\r\n" }, "chunk", "goes on"},
	"chunk over the limit": {func(p *chunkParts) {
		p.chunks[0].data = bytes.Repeat([]byte("x"), 300<<10)
	}, "too-large", "limit of 262144"},
}

// A body that is not what was signed is never completed upstream, and the client
// hears why.
func TestAlteredChunks(t *testing.T) {
	for _, coded := range []bool{false, true} {
		server := stand(t, nil)
		p := serveStandIn(t, server, "limits: {chunk: 256KiB}\n")
		n, names := 0, map[string]string{}
		for name, alter := range chunkAlterations {
			key := strings.ReplaceAll(name, " ", "-")
			names["/"+key] = name
			t.Run(fmt.Sprintf("%s coded=%v", name, coded), func(t *testing.T) {
				c := chunkedPut{bucket: "bucket", key: key, data: random(100_000), size: 8 << 10, trailer: true, coded: coded, alter: alter.do}
				response, text, _, _ := p.put(t, c, p.clients["source"])
				n++
				if response.StatusCode < 400 || response.StatusCode >= 500 || !strings.Contains(text, "<Error><Code>") {
					t.Errorf("%s %s", response.Status, text)
				}
				line := waitForAudit(t, p.audit, n)[n-1]
				if line.Decision != "deny" || alter.reason != "" && line.Reason != alter.reason || !strings.Contains(line.Error, alter.says) || line.Signature != "header-chunked-trailer" {
					t.Errorf("audit line %+v, want reason %q", line, alter.reason)
				}
			})
		}
		if err := server.settle(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, a := range server.arrivals() {
			if a.BodyErr == nil {
				t.Errorf("%s: a whole body of %d bytes arrived", a.Target, len(a.Body))
			}
		}
	}
}
