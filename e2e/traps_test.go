package e2e

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// The traps below are taken from the bug reports of other proxies for AWS.

func expectStatus(t *testing.T, response *http.Response, body string, want int) {
	t.Helper()
	if response.StatusCode != want {
		t.Errorf("status %d, want %d:\n%s", response.StatusCode, want, body)
	}
}

func TestForwardedHostDoesNotLeadTheRequestAway(t *testing.T) {
	evil := [2]string{"X-Forwarded-Host", "evil.example://s3.amazonaws.com"}
	get := s3Call("GET", "bucket", "/key", "")
	for name, c := range map[string]call{
		"unsigned": get.sign(t, clientKeys["source"], time.Now()).with(evil),
		"signed":   get.with(evil).sign(t, clientKeys["source"], time.Now()),
	} {
		t.Run(name, func(t *testing.T) {
			upstream := record(t, nil)
			p := serve(t, &upstream.upstream, "")
			response, body := p.dial(t, c.host).send(t, c)
			expectStatus(t, response, body, http.StatusOK)
			got := upstream.one(t)
			if got.Host != c.host || got.Target != c.target {
				t.Errorf("arrived as %s%s", got.Host, got.Target)
			}
			if name == "signed" && got.Header.Get(evil[0]) != evil[1] {
				t.Errorf("the signed header arrived as %q", got.Header.Get(evil[0]))
			}
		})
	}
}

// Hosts whose names only look like AWS's are not signed for, however the suffix
// is arranged.
func TestLookAlikeHostsAreNotIntercepted(t *testing.T) {
	upstream := record(t, nil)
	p := serve(t, &upstream.upstream, "tunnel: none\n")
	for i, host := range []string{
		"s3.amazonaws.com.evil.example",
		"evilamazonaws.com",
		"s3.us-east-1.evilamazonaws.com",
		"amazonaws.com.evil.example",
		"s3-us-east-1.amazonaws.com.evil",
		"example.com",
		"bucket.s3-website-us-east-1.amazonaws.com",
		"abc123.execute-api.us-east-1.amazonaws.com",
		"my-lb-1234.us-east-1.elb.amazonaws.com",
		"db.abc.us-east-1.rds.amazonaws.com",
		"ec2-1-2-3-4.compute-1.amazonaws.com",
		"nosuchservice.us-east-1.amazonaws.com",
		"169.254.169.254",
		"localhost",
	} {
		_, response := p.connect(t, host+":443")
		if response.StatusCode < 400 || response.StatusCode > 499 {
			t.Errorf("CONNECT %s: %s", host, response.Status)
		}
		line := waitForAudit(t, p.audit, i+1)[i]
		if line.Decision != "deny" || line.Method != "CONNECT" || line.Host != host {
			t.Errorf("CONNECT %s left the audit line %+v", host, line)
		}
	}
	if seen := upstream.seen(); len(seen) != 0 {
		t.Errorf("arrived upstream: %+v", seen)
	}
}

// CONNECT, SNI and Host must agree: what is signed for is the host that was
// judged, and no other.
func TestHostsMustAgree(t *testing.T) {
	upstream := record(t, nil)
	p := serve(t, &upstream.upstream, "")
	good := s3Call("GET", "bucket", "/key", "").sign(t, clientKeys["source"], time.Now())
	other := s3Call("GET", "other", "/key", "").sign(t, clientKeys["source"], time.Now())

	response, _ := p.dial(t, good.host).send(t, other)
	if response.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("Host differs from CONNECT: %s", response.Status)
	}

	conn, answer := p.connect(t, good.host+":443")
	if answer.StatusCode != http.StatusOK {
		t.Fatal(answer.Status)
	}
	secured := tls.Client(conn, &tls.Config{ServerName: other.host, RootCAs: p.roots})
	if err := secured.Handshake(); err == nil {
		io.WriteString(secured, other.head())
		_ = secured.SetReadDeadline(time.Now().Add(patience))
		head := make([]byte, 64)
		n, _ := secured.Read(head)
		if !strings.HasPrefix(string(head[:n]), "HTTP/1.1 421 ") && n > 0 {
			t.Errorf("SNI differs from CONNECT: %q", head[:n])
		}
	}

	absolute := good
	absolute.target = "https://" + other.host + "/key"
	response, _ = p.dial(t, good.host).send(t, absolute)
	if response.StatusCode < 400 {
		t.Errorf("absolute-form target for another host: %s", response.Status)
	}
	if seen := upstream.seen(); len(seen) != 0 {
		t.Errorf("arrived upstream: %+v", seen)
	}
}

// Java SDK v1 signs User-Agent, which other proxies replace.
func TestSignedUserAgent(t *testing.T) {
	u := strictMoto(t)
	p := serve(t, u, "")
	agent := "aws-sdk-java/1.12.797 Linux/6.1 OpenJDK_64-Bit_Server_VM/17.0.15"
	c := call{method: "GET", host: "s3.us-east-1.amazonaws.com", target: "/?x=signed-user-agent", service: "s3", region: region,
		headers: [][2]string{{"User-Agent", agent}}}
	mark := u.mark(t)
	response, body := p.dial(t, c.host).send(t, c.signExactly(clientKeys["ci"], time.Now(), "user-agent"))
	expectStatus(t, response, body, http.StatusOK)
	for _, s := range u.since(t, mark) {
		if strings.Contains(s.Target, "signed-user-agent") {
			if !slices.Equal(s.header("User-Agent"), []string{agent}) || !strings.Contains(s.header("Authorization")[0], "user-agent") {
				t.Errorf("arrived with %q, signed %q", s.header("User-Agent"), s.header("Authorization"))
			}
			return
		}
	}
	t.Error("the request did not arrive")
}

// Athena's ODBC driver sends Expect without signing it.
func TestUnsignedExpect(t *testing.T) {
	upstream := record(t, nil)
	p := serve(t, &upstream.upstream, "")
	c := s3Call("PUT", "bucket", "/key", "0123456789").sign(t, clientKeys["source"], time.Now()).with([2]string{"Expect", "100-continue"})
	w := p.dial(t, c.host)
	if _, err := io.WriteString(w, c.head()); err != nil {
		t.Fatal(err)
	}
	interim, _ := w.read(t, "PUT")
	if interim.StatusCode != http.StatusContinue {
		t.Fatalf("%s before the body was sent", interim.Status)
	}
	if _, err := io.WriteString(w, c.body); err != nil {
		t.Fatal(err)
	}
	response, body := w.read(t, "PUT")
	expectStatus(t, response, body, http.StatusOK)
	if got := upstream.one(t); got.BodySHA256 != digest([]byte(c.body)) {
		t.Errorf("arrived: %+v", got)
	}
}

// A refused request with Expect gets its answer before its body, and that body
// is not taken for the next request.
func TestDeniedExpectBodyIsNotTheNextRequest(t *testing.T) {
	upstream := record(t, nil)
	p := serve(t, &upstream.upstream, "")
	smuggled := s3Call("GET", "bucket", "/smuggled", "").sign(t, clientKeys["source"], time.Now())
	c := s3Call("PUT", "bucket", "/key", smuggled.head())
	wrong := clientKeys["source"]
	wrong.SecretAccessKey = "not the secret"
	c = c.sign(t, wrong, time.Now()).with([2]string{"Expect", "100-continue"})
	w := p.dial(t, c.host)
	if _, err := io.WriteString(w, c.head()); err != nil {
		t.Fatal(err)
	}
	response, body := w.read(t, "PUT")
	expectStatus(t, response, body, http.StatusForbidden)
	// The client may have begun to send its body by then.
	io.WriteString(w, c.body)
	w.SetReadDeadline(time.Now().Add(patience))
	rest, err := io.ReadAll(w.reader)
	var timeout net.Error
	if len(rest) != 0 || (errors.As(err, &timeout) && timeout.Timeout()) {
		t.Errorf("after the refusal came %q, %v; want the connection closed", rest, err)
	}
	if seen := upstream.seen(); len(seen) != 0 {
		t.Errorf("arrived upstream: %+v", seen)
	}
	waitForAudit(t, p.audit, 1)
}

// Path and query bytes arrive as they were sent, even those that a URL library
// writes differently.
func TestTargetBytesArriveUnchanged(t *testing.T) {
	upstream := record(t, nil)
	p := serve(t, &upstream.upstream, "")
	for _, target := range []string{
		"/a^b",
		"/a%5Eb%5e",
		"/a|b`c{d}\"e",
		"/a%2Fb%2fc",
		"/dbl//slash",
		"/x/../y/./z",
		"//leading",
		"/trailing/",
		"/a+b%20c",
		"/!$&'()*,;=:@",
		"/%E6%97%A5%e6%9c%ac",
		"/?list-type=2&prefix=a%20b%2Bc&delimiter=%2F",
		"/?uploads",
		"/?uploads=",
		"/?z=1&a=2&b=1",
		"/?b=%7e~&a=%2f",
		"/k?versionId=a+b",
	} {
		t.Run(target, func(t *testing.T) {
			upstream.forget()
			c := s3Call("GET", "bucket", target, "").signExactly(clientKeys["source"], time.Now())
			response, body := p.dial(t, c.host).send(t, c)
			expectStatus(t, response, body, http.StatusOK)
			if got := upstream.one(t); got.Target != target {
				t.Errorf("arrived as %q", got.Target)
			}
		})
	}
}

// A transport that asks for gzip on its own unpacks the answer and hides that
// it did.
func TestCompressionIsLeftAlone(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	io.WriteString(z, strings.Repeat("countersign ", 1000))
	z.Close()
	upstream := record(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.Write(packed.Bytes())
	})
	p := serve(t, &upstream.upstream, "")
	for _, headers := range [][][2]string{nil, {{"Accept-Encoding", "gzip"}}, {{"Accept-Encoding", "identity"}}, {{"Accept-Encoding", "br;q=1.0, gzip;q=0.5"}}} {
		c := s3Call("GET", "bucket", "/gzip", "", headers...).sign(t, clientKeys["source"], time.Now())
		response, body := p.dial(t, c.host).send(t, c)
		expectStatus(t, response, body, http.StatusOK)
		if body != packed.String() || response.Header.Get("Content-Encoding") != "gzip" || response.Uncompressed {
			t.Errorf("%v: got %d bytes, headers %v", headers, len(body), response.Header)
		}
		seen := upstream.seen()
		if got := seen[len(seen)-1].Header.Values("Accept-Encoding"); len(got) != len(headers) || len(got) == 1 && got[0] != headers[0][1] {
			t.Errorf("%v arrived as %v", headers, got)
		}
	}
}

// Lambda takes zips of 50 MB, which in base64 and JSON is this many bytes, and
// its SDKs send no payload hash: the whole body is read before the decision.
func TestLargestLambdaZip(t *testing.T) {
	const size = 70_167_211
	upstream := record(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusCreated) })
	p := serve(t, &upstream.upstream, "")
	frame := `{"FunctionName":"f","Code":{"ZipFile":"%s"}}`
	zip := base64.StdEncoding.EncodeToString(random(3 << 20))
	body := fmt.Sprintf(frame, strings.Repeat(zip, size/len(zip)+1)[:size-len(frame)+2])
	if len(body) != size {
		t.Fatalf("the test made %d bytes", len(body))
	}
	c := call{method: "POST", host: "lambda.us-east-1.amazonaws.com", target: "/2015-03-31/functions", service: "lambda", region: region, body: body,
		headers: [][2]string{{"Content-Type", "application/json"}}, hashNotInHead: true}
	c = c.sign(t, clientKeys["source"], time.Now())
	response, text := p.dial(t, c.host).send(t, c)
	expectStatus(t, response, text, http.StatusCreated)
	if got := upstream.one(t); got.Body != size || got.BodySHA256 != digest([]byte(body)) {
		t.Errorf("%d bytes arrived", got.Body)
	}
}

// A client that closes after each request must not make the proxy do the same
// upstream, nor leave connections behind.
func TestConnectionCloseDoesNotLeakUpstream(t *testing.T) {
	upstream := record(t, nil)
	p := serve(t, &upstream.upstream, "")
	const requests = 30
	for i := range requests {
		c := s3Call("GET", "bucket", fmt.Sprintf("/key-%d", i), "").sign(t, clientKeys["source"], time.Now()).with([2]string{"Connection", "close"})
		w := p.dial(t, c.host)
		response, body := w.send(t, c)
		expectStatus(t, response, body, http.StatusOK)
		if !response.Close {
			t.Error("the client's wish to close was not answered")
		}
	}
	for _, got := range upstream.seen() {
		if len(got.Header.Values("Connection")) != 0 {
			t.Fatalf("Connection %q arrived upstream", got.Header.Values("Connection"))
		}
	}
	if open, opened := upstream.connections(); opened > 3 || open > opened {
		t.Errorf("%d connections were opened upstream for %d requests in turn, %d are open", opened, requests, open)
	}
}

// A header nominated by Connection would vanish after the decision.
func TestNominatedHeadersAreRefused(t *testing.T) {
	upstream := record(t, nil)
	p := serve(t, &upstream.upstream, "")
	for _, nominated := range []string{"x-amz-acl", "X-Amz-Content-Sha256", "close, x-amz-acl", "host", "authorization"} {
		c := s3Call("PUT", "bucket", "/key", "body", [2]string{"X-Amz-Acl", "private"}).sign(t, clientKeys["source"], time.Now()).with([2]string{"Connection", nominated})
		response, body := p.dial(t, c.host).send(t, c)
		if response.StatusCode < 400 || response.StatusCode >= 500 {
			t.Errorf("Connection: %s: %s\n%s", nominated, response.Status, body)
		}
	}
	if seen := upstream.seen(); len(seen) != 0 {
		t.Errorf("arrived upstream: %+v", seen)
	}
}

// Bodies whose end does not come, or comes wrong, never look whole upstream.
func TestBodiesThatEndWrongAreCutOffUpstream(t *testing.T) {
	const size = 4 << 20
	content := string(random(size))
	for name, spoil := range map[string]func(t *testing.T, p *proxy, c call){
		"last byte altered": func(t *testing.T, p *proxy, c call) {
			c.body = c.body[:size-1] + string(c.body[size-1]^1)
			w := p.dial(t, c.host)
			response, body := w.send(t, c)
			if response.StatusCode != http.StatusBadRequest || !strings.Contains(body, "XAmzContentSHA256Mismatch") {
				t.Errorf("%s\n%s", response.Status, body)
			}
		},
		"client leaves": func(t *testing.T, p *proxy, c call) {
			w := p.dial(t, c.host)
			io.WriteString(w, c.head()+c.body[:size/2])
			w.Close()
		},
		"client closes after all but the last byte": func(t *testing.T, p *proxy, c call) {
			w := p.dial(t, c.host)
			io.WriteString(w, c.head()+c.body[:size-1])
			w.CloseWrite()
			io.Copy(io.Discard, w)
		},
	} {
		t.Run(name, func(t *testing.T) {
			upstream := record(t, nil)
			p := serve(t, &upstream.upstream, "")
			spoil(t, p, s3Call("PUT", "bucket", "/key", content).sign(t, clientKeys["source"], time.Now()))
			lines := waitForAudit(t, p.audit, 1)
			if lines[0].Status < 400 && lines[0].Error == "" {
				t.Errorf("audit line: %+v", lines[0])
			}
			for _, got := range upstream.seen() {
				if got.BodyErr == nil {
					t.Errorf("a whole request arrived: %+v", got)
				}
			}
		})
	}
}
