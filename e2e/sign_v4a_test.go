package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/aws-http-auth/credentials"
	"github.com/aws/smithy-go/aws-http-auth/sigv4a"
)

const (
	ecdsaAlgorithm = "AWS4-ECDSA-P256-SHA256"
	mrapARN        = "arn:aws:s3::" + account + ":accesspoint/mfzwi23gnjvgw.mrap"
	mrapHost       = "mfzwi23gnjvgw.mrap.accesspoint.s3-global.amazonaws.com"
	eventsHost     = "abcde.veo.endpoint.events.amazonaws.com"
)

// ecdsaKey derives the key of SigV4A from a secret, as the IAM guide tells it.
func ecdsaKey(t testing.TB, keys aws.Credentials) *ecdsa.PrivateKey {
	t.Helper()
	curve := elliptic.P256()
	limit := new(big.Int).Sub(curve.Params().N, big.NewInt(2))
	for counter := byte(1); counter < 255; counter++ {
		input := "\x00\x00\x00\x01" + ecdsaAlgorithm + "\x00" + keys.AccessKeyID + string([]byte{counter}) + "\x00\x00\x01\x00"
		candidate := new(big.Int).SetBytes(hmacSHA256([]byte("AWS4A"+keys.SecretAccessKey), input))
		if candidate.Cmp(limit) > 0 {
			continue
		}
		key, err := ecdsa.ParseRawPrivateKey(curve, candidate.Add(candidate, big.NewInt(1)).FillBytes(make([]byte, 32)))
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	t.Fatal("no key can be derived")
	return nil
}

// verifyV4A checks the SigV4A signature of what arrived, in the header or the query,
// and returns the time, the region set and the signature.
func verifyV4A(t testing.TB, keys aws.Credentials, a arrival, service string) (at, regions, signature string, err error) {
	t.Helper()
	path, query, _ := strings.Cut(a.Target, "?")
	credential, signed, hash := "", "", a.Header.Get("X-Amz-Content-Sha256")
	at, regions = a.Header.Get("X-Amz-Date"), a.Header.Get("X-Amz-Region-Set")
	if text, ok := strings.CutPrefix(a.Header.Get("Authorization"), ecdsaAlgorithm+" "); ok {
		for part := range strings.SplitSeq(text, ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
			switch name {
			case "Credential":
				credential = value
			case "SignedHeaders":
				signed = value
			case "Signature":
				signature = value
			}
		}
	} else {
		values, err := url.ParseQuery(query)
		if err != nil || values.Get("X-Amz-Algorithm") != ecdsaAlgorithm {
			return at, regions, "", fmt.Errorf("no SigV4A signature: %v, %s", err, a.Target)
		}
		credential, signed, signature = values.Get("X-Amz-Credential"), values.Get("X-Amz-SignedHeaders"), values.Get("X-Amz-Signature")
		at, regions, hash = values.Get("X-Amz-Date"), values.Get("X-Amz-Region-Set"), "UNSIGNED-PAYLOAD"
		query = strings.Join(slices.DeleteFunc(strings.Split(query, "&"), func(pair string) bool { return strings.HasPrefix(pair, "X-Amz-Signature=") }), "&")
	}
	scope := at[:min(8, len(at))] + "/" + service + "/aws4_request"
	if credential != keys.AccessKeyID+"/"+scope {
		return at, regions, signature, fmt.Errorf("the credential is %s, want %s/%s", credential, keys.AccessKeyID, scope)
	}
	if body := digest(a.Body); hash == "" {
		hash = body
	} else if len(hash) == 64 && hash != body {
		return at, regions, signature, errors.New("the body is not the one that was signed")
	}
	if service != "s3" {
		path = (&url.URL{Path: path}).EscapedPath()
	}
	canonical := a.Method + "\n" + path + "\n" + canonicalQuery(query) + "\n"
	for name := range strings.SplitSeq(signed, ";") {
		values := a.Header.Values(name)
		switch name {
		case "host":
			values = []string{a.Host}
		case "content-length":
			values = []string{fmt.Sprint(a.Length)}
		}
		if len(values) == 0 {
			return at, regions, signature, fmt.Errorf("%s is signed and did not arrive", name)
		}
		for i, v := range values {
			values[i] = strings.Join(strings.Fields(v), " ")
		}
		canonical += name + ":" + strings.Join(values, ",") + "\n"
	}
	canonical += "\n" + signed + "\n" + hash
	return at, regions, signature, checkECDSA(t, keys, signature, ecdsaAlgorithm+"\n"+at+"\n"+scope+"\n"+digest([]byte(canonical)))
}

func checkECDSA(t testing.TB, keys aws.Credentials, signature, text string) error {
	t.Helper()
	der, err := hex.DecodeString(signature)
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(text))
	if !ecdsa.VerifyASN1(&ecdsaKey(t, keys).PublicKey, sum[:], der) {
		return fmt.Errorf("the signature of %q is wrong", text)
	}
	return nil
}

// The SDK's S3 client at a multi-region access point: header form and links.
func TestMultiRegionAccessPoint(t *testing.T) {
	objects := map[string][]byte{}
	server := stand(t, func(s *standIn, w http.ResponseWriter, a *arrival) {
		s.mu.Lock()
		defer s.mu.Unlock()
		path, _, _ := strings.Cut(a.Target, "?")
		if a.Method == http.MethodPut {
			c, err := parseChunked(a.Body, true)
			if err != nil {
				c.data = a.Body
			}
			objects[path] = c.data
			return
		}
		w.Write(objects[path])
	})
	p := serveStandIn(t, server, "")
	keys := p.clients["source"]
	client := s3.New(s3.Options{Region: region, HTTPClient: p.httpClient(t), RetryMaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return keys, nil })})
	want, bucket, key := random(200_000), aws.String(mrapARN), aws.String("a b/c+d")
	if _, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: bucket, Key: key, Body: bytes.NewReader(want), ContentType: aws.String("text/x")}); err != nil {
		t.Fatal(err)
	}
	got, err := client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: bucket, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	if data, err := io.ReadAll(got.Body); err != nil || !bytes.Equal(data, want) {
		t.Errorf("read back %d bytes, %v", len(data), err)
	}
	// The SDK escapes the path of such a link twice, so S3 would take no other key.
	server.mu.Lock()
	objects["/plain/key"] = want
	server.mu.Unlock()
	link, err := s3.NewPresignClient(client).PresignGetObject(t.Context(), &s3.GetObjectInput{Bucket: bucket, Key: aws.String("plain/key")})
	if err != nil {
		t.Fatal(err)
	}
	response, err := p.httpClient(t).Get(link.URL)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(response.Body)
	response.Body.Close()
	if err != nil || response.StatusCode != http.StatusOK || !bytes.Equal(data, want) {
		t.Errorf("by the link: %s, %d bytes, %v", response.Status, len(data), err)
	}
	all := server.arrivals()
	if len(all) != 3 {
		t.Fatalf("%d requests arrived, want 3", len(all))
	}
	for i, a := range all {
		_, regions, _, err := verifyV4A(t, server.keys, a, "s3")
		if err != nil || regions != "*" || a.Host != mrapHost || !strings.HasPrefix(a.Target, []string{"/a%20b/c%2Bd?", "/a%20b/c%2Bd?", "/plain/key?"}[i]) {
			t.Errorf("%s %s%s for regions %q: %v", a.Method, a.Host, a.Target, regions, err)
		}
		a.Body, a.Target = append(a.Body, 'x'), a.Target+"&x"
		if _, _, _, err := verifyV4A(t, server.keys, a, "s3"); err == nil {
			t.Errorf("request %d: the verifier accepts anything", i)
		}
	}
	if got, want := withoutKeys(all[2].Target), withoutKeys(strings.TrimPrefix(link.URL, "https://"+mrapHost)); got != want {
		t.Errorf("the link arrived as %s, want %s", got, want)
	}
	for i, line := range waitForAudit(t, p.audit, 3) {
		label := []string{"header-v4a", "header-v4a", "query-v4a"}[i]
		if !strings.HasPrefix(line.Signature, label) || line.Decision != "allow" || line.Operation != []string{"PutObject", "GetObject", "GetObject"}[i] {
			t.Errorf("audit line %+v, want %s", line, label)
		}
	}
}

// The global endpoint of EventBridge, by smithy-go's signer; region sets stay as
// they are, and what is not what was signed is refused.
func TestEventBridgeGlobalEndpoint(t *testing.T) {
	server := stand(t, nil)
	p := serveStandIn(t, server, "")
	if conn, response := serveStandIn(t, server, "").connect(t, eventsHost+":443"); response.StatusCode != http.StatusOK {
		needs(t, eventsHost+" in the tables of hosts", errors.New(response.Status))
	} else {
		conn.Close()
	}
	keys := p.clients["source"]
	wrong := keys
	wrong.SecretAccessKey += "x"
	const body = `{"EndpointId":"abcde.veo","Entries":[{"Source":"e2e","DetailType":"t","Detail":"{}"}]}`
	lines := 0
	for _, tt := range []struct {
		name    string
		keys    aws.Credentials
		regions []string
		host    string
		alter   func(*call)
		status  int
		reason  string
	}{
		{"all regions", keys, []string{"*"}, eventsHost, nil, 200, ""},
		{"two regions", keys, []string{"us-east-1", "eu-west-1"}, eventsHost, nil, 200, ""},
		{"another secret", wrong, []string{"*"}, eventsHost, nil, 400, "signature"},
		{"altered body", keys, []string{"*"}, eventsHost, func(c *call) { c.body = strings.Replace(c.body, "e2e", "you", 1) }, 400, "signature"},
		{"altered region set", keys, []string{"us-east-1"}, eventsHost, func(c *call) {
			for i, h := range c.headers {
				if h[0] == "X-Amz-Region-Set" {
					c.headers[i][1] = "*"
				}
			}
		}, 400, "signature"},
		{"a host of one region", keys, []string{"*"}, "events.us-east-1.amazonaws.com", nil, 400, "scope"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server.forget()
			request, err := http.NewRequest("POST", "https://"+tt.host+"/", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("X-Amz-Target", "AWSEvents.PutEvents")
			request.Header.Set("Content-Type", "application/x-amz-json-1.1")
			err = sigv4a.New().SignRequest(&sigv4a.SignRequestInput{
				Request: request, Service: "events", RegionSet: tt.regions, PayloadHash: sha256Of(body), Time: time.Now(),
				Credentials: credentials.Credentials{AccessKeyID: tt.keys.AccessKeyID, SecretAccessKey: tt.keys.SecretAccessKey},
			})
			if err != nil {
				t.Fatal(err)
			}
			c := call{method: "POST", host: tt.host, target: "/", body: body}
			for name, values := range request.Header {
				if name != "Host" {
					c.headers = append(c.headers, [2]string{name, values[0]})
				}
			}
			sent := call{headers: slices.Clone(c.headers)}
			if tt.alter != nil {
				tt.alter(&c)
			}
			response, text := p.dial(t, tt.host).send(t, c)
			if response.StatusCode != tt.status && !(tt.status == 400 && response.StatusCode == 403) {
				t.Errorf("%s %s", response.Status, text)
			}
			lines++
			line := waitForAudit(t, p.audit, lines)[lines-1]
			if line.Reason != tt.reason && tt.reason != "" || line.Signature != "header-v4a" || line.Service == "" {
				t.Errorf("audit line %+v, want reason %q", line, tt.reason)
			}
			if tt.status != 200 {
				if n := len(server.arrivals()); n != 0 {
					t.Errorf("%d requests arrived", n)
				}
				return
			}
			got := server.the(t)
			sameMeaning(t, "POST", "/", sent.headers, got)
			if string(got.Body) != body {
				t.Errorf("the body arrived as %s", got.Body)
			}
			_, regions, _, err := verifyV4A(t, server.keys, got, "events")
			if err != nil || regions != strings.Join(tt.regions, ",") {
				t.Errorf("regions %q: %v", regions, err)
			}
			if line.Operation != "PutEvents" || line.Decision != "allow" {
				t.Errorf("audit line %+v", line)
			}
		})
	}
}

func sha256Of(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}

// Chunks under SigV4A: their signatures are padded, so that the length stays.
func TestChunksUnderSigV4A(t *testing.T) {
	server := stand(t, nil)
	p := serveStandIn(t, server, "")
	data := random(150_000)
	for _, altered := range []bool{false, true} {
		server.forget()
		request, body := v4aUpload(t, p.clients["source"], data, altered)
		w := p.dial(t, mrapHost)
		go func() { io.WriteString(w, request.head()); w.Write(body) }()
		response, text := w.read(t, "PUT")
		line := waitForAudit(t, p.audit, map[bool]int{false: 1, true: 2}[altered])
		if got := line[len(line)-1]; got.Signature != "header-v4a-chunked-trailer" || altered != (got.Reason == "chunk-signature") {
			t.Errorf("audit line %+v", got)
		}
		if altered {
			if response.StatusCode != http.StatusForbidden {
				t.Errorf("%s %s", response.Status, text)
			}
			if err := server.settle(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, a := range server.arrivals() {
				if a.BodyErr == nil {
					t.Error("the altered upload arrived whole")
				}
			}
			continue
		}
		expectStatus(t, response, text, http.StatusOK)
		got := server.the(t)
		sameMeaning(t, "PUT", "/k", request.headers, got)
		if len(got.Body) != len(body) {
			t.Errorf("%d bytes arrived, want %d", len(got.Body), len(body))
		}
		at, _, prev, err := verifyV4A(t, server.keys, got, "s3")
		if err != nil {
			t.Fatal(err)
		}
		c, err := parseChunked(got.Body, true)
		if err != nil || !bytes.Equal(c.data, data) {
			t.Fatalf("%d bytes in the chunks, %v", len(c.data), err)
		}
		scope, offset := at[:8]+"/s3/aws4_request", 0
		for i, size := range c.sizes {
			signature := strings.TrimRight(c.signatures[i], "*")
			if err := checkECDSA(t, server.keys, signature, ecdsaAlgorithm+"-PAYLOAD\n"+at+"\n"+scope+"\n"+prev+"\n"+digest(nil)+"\n"+digest(data[offset:offset+size])); err != nil || len(c.signatures[i]) != 144 {
				t.Fatalf("chunk %d: %v", i, err)
			}
			prev, offset = signature, offset+size
		}
		if len(c.trailers) != 2 || c.trailers[0] != [2]string{crcTrailer, checksum(data)} {
			t.Fatalf("trailers %v", c.trailers)
		}
		if err := checkECDSA(t, server.keys, strings.TrimRight(c.trailers[1][1], "*"), ecdsaAlgorithm+"-TRAILER\n"+at+"\n"+scope+"\n"+prev+"\n"+digest([]byte(crcTrailer+":"+checksum(data)+"\n"))); err != nil {
			t.Error(err)
		}
	}
}

// v4aUpload makes an upload of signed chunks with a signed trailer.
func v4aUpload(t *testing.T, keys aws.Credentials, data []byte, altered bool) (call, []byte) {
	t.Helper()
	key := ecdsaKey(t, keys)
	pad := func(text string) (string, string) {
		sum := sha256.Sum256([]byte(text))
		der, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		s := hex.EncodeToString(der)
		return s, s + strings.Repeat("*", 144-len(s))
	}
	at := time.Now().UTC().Format("20060102T150405Z")
	scope := at[:8] + "/s3/aws4_request"
	headers := [][2]string{
		{"Content-Encoding", "aws-chunked"}, {"X-Amz-Content-Sha256", "STREAMING-" + ecdsaAlgorithm + "-PAYLOAD-TRAILER"}, {"X-Amz-Date", at},
		{"X-Amz-Decoded-Content-Length", fmt.Sprint(len(data))}, {"X-Amz-Region-Set", "*"}, {"X-Amz-Trailer", crcTrailer},
	}
	signed, canonical := "host", "host:"+mrapHost+"\n"
	for i, h := range headers {
		name := strings.ToLower(h[0])
		if i == 0 {
			signed, canonical = name+";"+signed, name+":"+h[1]+"\n"+canonical
			continue
		}
		signed, canonical = signed+";"+name, canonical+name+":"+h[1]+"\n"
	}
	prev, _ := pad(ecdsaAlgorithm + "\n" + at + "\n" + scope + "\n" + digest([]byte("PUT\n/k\n\n"+canonical+"\n"+signed+"\n"+headers[1][1])))
	headers = append(headers, [2]string{"Authorization", ecdsaAlgorithm + " Credential=" + keys.AccessKeyID + "/" + scope + ", SignedHeaders=" + signed + ", Signature=" + prev})
	parts := chunkedPut{data: data, size: 64 << 10, trailer: true}.parts()
	for i := range parts.chunks {
		c := &parts.chunks[i]
		prev, c.signature = pad(ecdsaAlgorithm + "-PAYLOAD\n" + at + "\n" + scope + "\n" + prev + "\n" + digest(nil) + "\n" + digest(c.data))
	}
	_, parts.trailer[1][1] = pad(ecdsaAlgorithm + "-TRAILER\n" + at + "\n" + scope + "\n" + prev + "\n" + digest([]byte(crcTrailer+":"+checksum(data)+"\n")))
	if altered {
		parts.chunks[1].data[5] ^= 1
	}
	body := parts.bytes()
	return call{method: "PUT", host: mrapHost, target: "/k", headers: append(headers, [2]string{"Content-Length", fmt.Sprint(len(body))})}, body
}
