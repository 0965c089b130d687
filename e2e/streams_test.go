package e2e

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// httpClient is a Go client that goes through the proxy; h2 where it offers it.
func (p *proxy) httpClient(t testing.TB) *http.Client {
	t.Helper()
	transport := &http.Transport{
		Proxy:               http.ProxyURL(p.url()),
		TLSClientConfig:     &tls.Config{RootCAs: p.roots},
		ForceAttemptHTTP2:   true,
		DisableCompression:  true,
		MaxIdleConnsPerHost: 64,
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// unsignedPayload makes a request whose body is not signed, so that it can be
// written while it is made.
func unsignedPayload(t testing.TB, method, target string, body io.Reader) *http.Request {
	t.Helper()
	return unsignedPayloadBy(t, clientKeys["source"], method, target, body)
}

func unsignedPayloadBy(t testing.TB, keys aws.Credentials, method, target string, body io.Reader) *http.Request {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, target, body)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	if err := signer.SignHTTP(t.Context(), keys, request, "UNSIGNED-PAYLOAD", "s3", region, time.Now()); err != nil {
		t.Fatal(err)
	}
	return request
}

const objectURL = "https://bucket.s3.us-east-1.amazonaws.com/stream"

// Every piece of an answer reaches the client before the next one is made.
func TestAnswersAreNotHeldBack(t *testing.T) {
	next := make(chan string)
	upstream := record(t, func(w http.ResponseWriter, r *http.Request) {
		for piece := range next {
			io.WriteString(w, piece)
			w.(http.Flusher).Flush()
		}
	})
	p := serve(t, &upstream.upstream, "")
	responses := make(chan *http.Response, 1)
	client := p.httpClient(t)
	request := unsignedPayload(t, "GET", objectURL, nil)
	go func() {
		response, err := client.Do(request)
		if err != nil {
			t.Error(err)
		}
		responses <- response
	}()
	next <- "one"
	response := <-responses
	if response == nil {
		return
	}
	defer response.Body.Close()
	for _, piece := range []string{"one", "two", "three"} {
		if piece != "one" {
			next <- piece
		}
		got := make([]byte, len(piece))
		if _, err := io.ReadFull(response.Body, got); err != nil || string(got) != piece {
			t.Fatalf("got %q, %v; want %q", got, err, piece)
		}
	}
	close(next)
	if rest, err := io.ReadAll(response.Body); len(rest) != 0 || err != nil {
		t.Errorf("then came %q, %v", rest, err)
	}
}

// An upload goes on after the answer has begun, on HTTP/1.1 too: that is how
// media and event streams work.
func TestBothDirectionsAtOnce(t *testing.T) {
	upstream := recordRaw(t, func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		if err := control.EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusOK)
		control.Flush()
		piece := make([]byte, 1024)
		for {
			n, err := r.Body.Read(piece)
			w.Write(piece[:n])
			control.Flush()
			if err != nil {
				return
			}
		}
	})
	p := serve(t, &upstream.upstream, "")
	// HTTP/1.1 by hand, since Go's own client does not wait for its upload then.
	w := p.dial(t, "bucket.s3.us-east-1.amazonaws.com")
	c := s3Call("PUT", "bucket", "/stream", "")
	c.payloadHash = "UNSIGNED-PAYLOAD"
	c = c.with([2]string{"Transfer-Encoding", "chunked"}).sign(t, clientKeys["source"], time.Now())
	io.WriteString(w, c.head()+"3\r\none\r\n")
	response, err := http.ReadResponse(w.reader, &http.Request{Method: "PUT"})
	if err != nil {
		t.Fatal(err)
	}
	for i, piece := range []string{"one", "two", "three"} {
		if i > 0 {
			io.WriteString(w, []string{"", "3\r\ntwo\r\n", "5\r\nthree\r\n"}[i])
		}
		got := make([]byte, len(piece))
		if _, err := io.ReadFull(response.Body, got); err != nil || string(got) != piece {
			t.Fatalf("got %q, %v; want %q", got, err, piece)
		}
	}
	io.WriteString(w, "0\r\n\r\n")
	if rest, err := io.ReadAll(response.Body); len(rest) != 0 || err != nil {
		t.Errorf("then came %q, %v", rest, err)
	}
}

// A client that leaves ends the call upstream.
func TestClientThatLeavesCancelsUpstream(t *testing.T) {
	arrived, ended := make(chan struct{}), make(chan struct{})
	upstream := record(t, func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		select {
		case <-r.Context().Done():
			close(ended)
		case <-time.After(patience):
		}
	})
	p := serve(t, &upstream.upstream, "")
	ctx, leave := context.WithCancel(t.Context())
	request := unsignedPayload(t, "GET", objectURL, nil).WithContext(ctx)
	client := p.httpClient(t)
	go func() {
		if response, err := client.Do(request); err == nil {
			response.Body.Close()
		}
	}()
	<-arrived
	leave()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Errorf("the call upstream went on for %s after its client had left", patience)
	}
	if lines := waitForAudit(t, p.audit, 1); lines[0].Error == "" {
		t.Errorf("audit line: %+v", lines[0])
	}
}

// Hosts with calls that need HTTP/2 offer it to clients and are spoken to in it.
func TestHTTP2(t *testing.T) {
	upstream := recordH2(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "answer") })
	p := serve(t, &upstream.upstream, "")
	request, err := http.NewRequestWithContext(t.Context(), "POST", "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/invoke", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	if err := v4.NewSigner().SignHTTP(t.Context(), clientKeys["source"], request, digest([]byte("{}")), "bedrock", region, time.Now()); err != nil {
		t.Fatal(err)
	}
	response, err := p.httpClient(t).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || string(body) != "answer" || response.ProtoMajor != 2 {
		t.Errorf("%s %s %q, %v", response.Proto, response.Status, body, err)
	}
	got := upstream.one(t)
	if got.Target != "/model/m/invoke" || got.Body != 2 || got.ContentLength != 2 {
		t.Errorf("arrived as %+v", got)
	}
}

// An answer without a body keeps the length that it speaks of.
func TestHeadKeepsContentLength(t *testing.T) {
	upstream := record(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "123456789")
		w.Header()["Content-Type"] = nil
	})
	p := serve(t, &upstream.upstream, "")
	c := s3Call("HEAD", "bucket", "/key", "").sign(t, clientKeys["source"], time.Now())
	response, _ := p.dial(t, c.host).send(t, c)
	if response.ContentLength != 123456789 || len(response.Header.Values("Content-Type")) != 0 {
		t.Errorf("got %s %v", response.Status, response.Header)
	}
}

// Nothing of the proxy is added to a request or an answer.
func TestNothingIsAdded(t *testing.T) {
	upstream := record(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Type"] = nil // sniffed by net/http otherwise
		w.Header()["Date"] = []string{"Sun, 01 Nov 2026 00:00:00 GMT"}
		w.Header()["x-amz-request-id"] = []string{"REQUEST"}
		io.WriteString(w, "<html>")
	})
	p := serve(t, &upstream.upstream, "")
	c := s3Call("PUT", "bucket", "/key", "body").sign(t, clientKeys["source"], time.Now())
	response, body := p.dial(t, c.host).send(t, c)
	expectStatus(t, response, body, http.StatusOK)
	var names []string
	for name := range upstream.one(t).Header {
		names = append(names, name)
	}
	if got, want := sorted(names), "Authorization Content-Length X-Amz-Content-Sha256 X-Amz-Date"; got != want {
		t.Errorf("the request arrived with %s, want %s", got, want)
	}
	names = nil
	for name := range response.Header {
		names = append(names, name)
	}
	if got, want := sorted(names), "Content-Length Date X-Amz-Request-Id"; got != want {
		t.Errorf("the answer arrived with %s, want %s", got, want)
	}
	if got := response.Header.Get("Date"); got != "Sun, 01 Nov 2026 00:00:00 GMT" {
		t.Errorf("Date %q", got)
	}
}

// The way out leads through a proxy that wants a password, if that is how it is
// configured.
func TestThroughAnotherProxy(t *testing.T) {
	upstream := record(t, nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	connects := make(chan string, 16)
	outer := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		connects <- r.Method + " " + r.RequestURI + " " + r.Header.Get("Proxy-Authorization")
		passThrough(w, upstream.address)
	})}
	go outer.Serve(listener)
	defer outer.Close()
	p := serveWith(t, &upstream.upstream, "upstream: {proxy: \"http://user:pa%20ss@"+listener.Addr().String()+"\"}\n",
		[]string{"SSL_CERT_FILE=" + thePKI(t).rootFile})
	c := s3Call("GET", "bucket", "/key", "").sign(t, clientKeys["source"], time.Now())
	response, body := p.dial(t, c.host).send(t, c)
	expectStatus(t, response, body, http.StatusOK)
	upstream.one(t)
	// base64 of "user:pa ss"
	if got, want := <-connects, "CONNECT bucket.s3.us-east-1.amazonaws.com:443 Basic dXNlcjpwYSBzcw=="; got != want {
		t.Errorf("the outer proxy was asked %q, want %q", got, want)
	}
}
