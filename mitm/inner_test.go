package mitm

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%s %s %q %v", r.Method, r.RequestURI, body, err)
}

// What net/http lets through, and what is refused before the handler.
func TestInnerRequests(t *testing.T) {
	const host = "Host: host.example\r\n"
	const form = "the target of a request inside a CONNECT must be a path beginning with '/': send the URL's path, and its host as Host"
	const malformed = "the connection to host.example ended in something that is not a request of HTTP/1.1, or is beyond a limit"
	for name, test := range map[string]struct {
		raw    string
		status int
		body   string // of what the handler answered
		event  Event
	}{
		"HTTP/1.0":      {raw: "GET /x HTTP/1.0\r\n" + host + "\r\n", status: 200, body: `GET /x "" <nil>`},
		"double slash":  {raw: "GET //evil.example/x HTTP/1.1\r\n" + host + "\r\n", status: 200, body: `GET //evil.example/x "" <nil>`},
		"dot segments":  {raw: "GET /a/../b/./c HTTP/1.1\r\n" + host + "\r\n", status: 200, body: `GET /a/../b/./c "" <nil>`},
		"chunked body":  {raw: "PUT / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", status: 200, body: `PUT / "abc" <nil>`},
		"equal lengths": {raw: "PUT / HTTP/1.1\r\n" + host + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", status: 200, body: `PUT / "abc" <nil>`},
		"chunked beside a length": {raw: "PUT / HTTP/1.1\r\n" + host + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
			status: 200, body: `PUT / "abc" <nil>`},

		"HTTP/1.0 without Host": {raw: "GET /x HTTP/1.0\r\n\r\n", status: 400,
			event: Event{Kind: KindRequest, Code: CodeAuthority, Reason: "the request names no host: send Host (or :authority)", Method: "GET", Status: 400}},
		"absolute form": {raw: "GET https://host.example/x HTTP/1.1\r\n" + host + "\r\n", status: 400,
			event: Event{Kind: KindRequest, Code: CodeTargetForm, Reason: form, Method: "GET", Status: 400}},
		"absolute form of another host": {raw: "GET https://host.example/x HTTP/1.1\r\nHost: evil.example\r\n\r\n", status: 400,
			event: Event{Kind: KindRequest, Code: CodeTargetForm, Reason: form, Method: "GET", Status: 400}},
		"OPTIONS *": {raw: "OPTIONS * HTTP/1.1\r\n" + host + "\r\n", status: 400,
			event: Event{Kind: KindRequest, Code: CodeTargetForm, Reason: form, Method: "OPTIONS", Status: 400}},
		"CONNECT": {raw: "CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n", status: 400,
			event: Event{Kind: KindRequest, Code: CodeTargetForm, Reason: form, Method: "CONNECT", Status: 400}},
		"h2 preface": {raw: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", status: 400,
			event: Event{Kind: KindRequest, Code: CodeTargetForm, Reason: form, Method: "PRI", Status: 400}},

		"no Host":             {raw: "GET /x HTTP/1.1\r\n\r\n", status: 400, event: Event{Kind: KindMalformed, Code: CodeNotHTTP, Reason: malformed}},
		"two Hosts":           {raw: "GET /x HTTP/1.1\r\n" + host + host + "\r\n", status: 400, event: Event{Kind: KindMalformed, Code: CodeNotHTTP, Reason: malformed}},
		"userinfo in Host":    {raw: "GET /x HTTP/1.1\r\nHost: host.example@evil.example\r\n\r\n", status: 400, event: Event{Kind: KindMalformed, Code: CodeNotHTTP, Reason: malformed}},
		"folded Host":         {raw: "GET /x HTTP/1.1\r\n" + host + " evil.example\r\n\r\n", status: 400, event: Event{Kind: KindMalformed, Code: CodeNotHTTP, Reason: malformed}},
		"two lengths":         {raw: "PUT /x HTTP/1.1\r\n" + host + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", status: 400, event: Event{Kind: KindMalformed, Code: CodeNotHTTP, Reason: malformed}},
		"signed length":       {raw: "PUT /x HTTP/1.1\r\n" + host + "Content-Length: +3\r\n\r\nabc", status: 400, event: Event{Kind: KindMalformed, Code: CodeNotHTTP, Reason: malformed}},
		"odd coding":          {raw: "PUT /x HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", status: 501, event: Event{Kind: KindMalformed, Code: CodeNotHTTP, Reason: malformed}},
		"coding twice":        {raw: "PUT /x HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", status: 501, event: Event{Kind: KindMalformed, Code: CodeNotHTTP, Reason: malformed}},
		"space before colon":  {raw: "GET /x HTTP/1.1\r\n" + host + "X : y\r\n\r\n", status: 400, event: Event{Kind: KindMalformed, Code: CodeNotHTTP, Reason: malformed}},
		"unknown version":     {raw: "GET /x HTTP/3.0\r\n" + host + "\r\n", status: 505, event: Event{Kind: KindMalformed, Code: CodeNotHTTP, Reason: malformed}},
		"no HTTP":             {raw: "hello\r\n\r\n", status: 400, event: Event{Kind: KindMalformed, Code: CodeNotHTTP, Reason: malformed}},
		"unknown expectation": {raw: "PUT /x HTTP/1.1\r\n" + host + "Expect: 200-ok\r\nContent-Length: 0\r\n\r\n", status: 417, event: Event{Kind: KindMalformed, Code: CodeNotHTTP, Reason: malformed}},
		"a head beyond the limit": {raw: "GET /x HTTP/1.1\r\n" + host + "X: " + strings.Repeat("x", 70<<10) + "\r\n\r\n", status: 431,
			event: Event{Kind: KindMalformed, Code: CodeNotHTTP, Reason: malformed}},
	} {
		t.Run(name, func(t *testing.T) {
			p := startProxy(t, Options{Handler: http.HandlerFunc(echo)})
			resp := p.exchange(test.raw)
			body := readAll(t, resp.Body)
			if resp.StatusCode != test.status || test.body != "" && body != test.body {
				t.Errorf("got %d %q", resp.StatusCode, body)
			}
			if test.event.Kind == "" {
				p.noEvent()
				return
			}
			want := test.event
			want.Host, want.Port = "host.example", 443
			if want.Method == "" {
				want.Method = "CONNECT" // no request was understood
			}
			p.wantEvent(want)
			p.noEvent()
		})
	}
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	p := startProxy(t, Options{Handler: http.HandlerFunc(echo)})
	c := p.intercepted("host.example:443", "host.example")
	io.WriteString(c, "PUT /1 HTTP/1.1\r\nHost: host.example\r\nContent-Length: 3\r\n\r\none"+
		"GET /2 HTTP/1.1\r\nHost: host.example\r\n\r\nGET /3 HTTP/1.1\r\nHost: evil.example\r\n\r\nGET /4 HTTP/1.1\r\nHost: host.example\r\n\r\n")
	br := bufio.NewReader(c)
	for _, want := range []string{`PUT /1 "one" <nil>`, `GET /2 "" <nil>`, "the request is for evil.example, but the CONNECT was for host.example: they must agree, in host and port\n"} {
		if body := readAll(t, p.response(br).Body); body != want {
			t.Errorf("got %q, want %q", body, want)
		}
	}
	if rest := readAll(t, br); rest != "" { // the connection ended with the refusal
		t.Errorf("got %q", rest)
	}
}

// h2conn speaks HTTP/2 by hand.
type h2conn struct {
	*http2.Framer
	t   *testing.T
	buf strings.Builder
	enc *hpack.Encoder
	id  uint32
}

func openH2(t *testing.T, p *proxy) *h2conn {
	c := p.intercepted("host.example:443", "host.example", "h2")
	io.WriteString(c, http2.ClientPreface)
	h := &h2conn{Framer: http2.NewFramer(c, c), t: t, id: 1}
	h.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	h.enc = hpack.NewEncoder(&h.buf)
	if err := h.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return h
}

// headers begins a stream.
func (h *h2conn) headers(end bool, fields ...string) uint32 {
	h.buf.Reset()
	for i := 0; i < len(fields); i += 2 {
		h.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	id := h.id
	h.id += 2
	if err := h.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte(h.buf.String()), EndHeaders: true, EndStream: end}); err != nil {
		h.t.Fatal(err)
	}
	return id
}

// answer waits for the status of a stream, or for its reset.
func (h *h2conn) answer(id uint32) string {
	for {
		f, err := h.ReadFrame()
		if err != nil {
			h.t.Fatal(err)
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			if f.StreamID == id {
				return f.PseudoValue("status")
			}
		case *http2.RSTStreamFrame:
			if f.StreamID == id {
				return f.ErrCode.String()
			}
		case *http2.GoAwayFrame:
			return "GOAWAY " + f.ErrCode.String()
		}
	}
}

func TestInnerRequestsOfHTTP2(t *testing.T) {
	for name, test := range map[string]struct {
		fields []string
		want   string
		code   string
	}{
		"plain":           {[]string{":method", "GET", ":scheme", "https", ":authority", "host.example", ":path", "/"}, "204", ""},
		"same Host too":   {[]string{":method", "GET", ":scheme", "https", ":authority", "host.example", ":path", "/", "host", "HOST.example:443"}, "204", ""},
		"Host only":       {[]string{":method", "GET", ":scheme", "https", ":path", "/", "host", "host.example"}, "204", ""},
		"other authority": {[]string{":method", "GET", ":scheme", "https", ":authority", "evil.example", ":path", "/"}, "421", CodeAuthority},
		"other port":      {[]string{":method", "GET", ":scheme", "https", ":authority", "host.example:8443", ":path", "/"}, "421", CodeAuthority},
		"other Host":      {[]string{":method", "GET", ":scheme", "https", ":authority", "host.example", ":path", "/", "host", "evil.example"}, "421", CodeAuthority},
		"one Host of two": {[]string{":method", "GET", ":scheme", "https", ":authority", "host.example", ":path", "/", "host", "host.example", "host", "evil.example"}, "421", CodeAuthority},
		"no authority":    {[]string{":method", "GET", ":scheme", "https", ":path", "/"}, "400", CodeAuthority},
		"scheme http":     {[]string{":method", "GET", ":scheme", "http", ":authority", "host.example", ":path", "/"}, "204", ""}, // it is TLS all the same
		"absolute path":   {[]string{":method", "GET", ":scheme", "https", ":authority", "host.example", ":path", "https://evil.example/"}, "400", CodeTargetForm},
		"asterisk":        {[]string{":method", "OPTIONS", ":scheme", "https", ":authority", "host.example", ":path", "*"}, "400", CodeTargetForm},
		"CONNECT":         {[]string{":method", "CONNECT", ":authority", "169.254.169.254:80"}, "400", CodeTargetForm},
		"space":           {[]string{":method", "GET", ":scheme", "https", ":authority", "host.example", ":path", "/a HTTP/1.1"}, "400", CodeTargetForm},
		"two lengths": {[]string{":method", "PUT", ":scheme", "https", ":authority", "host.example", ":path", "/", "content-length", "0", "content-length", "5"},
			"400", CodeFraming},
		"userinfo":           {[]string{":method", "GET", ":scheme", "https", ":authority", "host.example@evil.example", ":path", "/"}, "PROTOCOL_ERROR", "-"},
		"connection headers": {[]string{":method", "GET", ":scheme", "https", ":authority", "host.example", ":path", "/", "connection", "x-amz-date"}, "400", "-"},
	} {
		t.Run(name, func(t *testing.T) {
			p := startProxy(t, Options{})
			h := openH2(t, p)
			if got := h.answer(h.headers(true, test.fields...)); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
			switch test.code {
			case "":
				p.noEvent()
			case "-": // net/http refused it, and only counts
			default:
				if e := p.event(); e.Kind != KindRequest || e.Code != test.code {
					t.Errorf("event %+v", e)
				}
				// The connection goes on.
				if got := h.answer(h.headers(true, ":method", "GET", ":scheme", "https", ":authority", "host.example", ":path", "/")); got != "204" {
					t.Errorf("the next request: got %s", got)
				}
			}
		})
	}
}

func TestContinueIsSentWhenTheBodyIsRead(t *testing.T) {
	for name, test := range map[string]struct {
		read bool
		want string
	}{
		"read":   {true, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"},
		"denied": {false, "HTTP/1.1 403 Forbidden\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int32
			answered := make(chan struct{})
			p := startProxy(t, Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				calls.Add(1)
				if test.read {
					if b, err := io.ReadAll(r.Body); err != nil || len(b) != 54 {
						t.Errorf("body %q, %v", b, err)
					}
					return
				}
				w.WriteHeader(http.StatusForbidden)
				w.(http.Flusher).Flush()
				<-answered // the answer does not wait for the body
			})})
			c := p.intercepted("host.example:443", "host.example")
			io.WriteString(c, "PUT / HTTP/1.1\r\nHost: host.example\r\nExpect: 100-continue\r\nContent-Length: 54\r\n\r\n")
			br := bufio.NewReader(c)
			var got strings.Builder
			for got.Len() < len(test.want) {
				if !test.read && got.Len() > 0 {
					break
				}
				line, err := br.ReadString('\n')
				if err != nil {
					t.Fatal(err)
				}
				got.WriteString(line)
				if line == "\r\n" && test.read { // told to continue: the body that looks like a request
					io.WriteString(c, "GET /eaten HTTP/1.1\r\nHost: host.example\r\nX: 012345\r\n\r\n")
				}
			}
			if got.String() != test.want {
				t.Errorf("got %q, want %q", got.String(), test.want)
			}
			close(answered)
			if !test.read {
				// The body comes all the same, and the connection ends without
				// taking it for a request.
				io.WriteString(c, "GET /eaten HTTP/1.1\r\nHost: host.example\r\nX: 012345\r\n\r\n")
				if rest := readAll(t, br); strings.Contains(rest, "HTTP/1.1 ") {
					t.Errorf("then came %q", rest)
				}
			}
			if n := calls.Load(); n != 1 {
				t.Errorf("the handler was called %d times", n)
			}
		})
	}
}

// A denied request whose small body never comes must not hold its answer back
// beyond the limits, nor its connection.
func TestAnswerBeforeTheBody(t *testing.T) {
	for name, test := range map[string]struct {
		limits Limits
		write  func(http.ResponseWriter)
	}{
		"net/http reads the body before the head": {Limits{Body: 20 * time.Millisecond}, func(w http.ResponseWriter) {
			w.WriteHeader(403)
			http.NewResponseController(w).Flush()
		}},
		"a long answer": {Limits{Body: 20 * time.Millisecond}, func(w http.ResponseWriter) {
			w.WriteHeader(403)
			w.Write(make([]byte, 10<<10))
		}},
		"net/http reads the body after the handler": {Limits{Header: brief}, func(w http.ResponseWriter) {
			w.WriteHeader(403)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startProxy(t, Options{Limits: test.limits, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { test.write(w) })})
			c := p.intercepted("host.example:443", "host.example")
			io.WriteString(c, "PUT / HTTP/1.1\r\nHost: host.example\r\nContent-Length: 100\r\n\r\nfew")
			if got := readAll(t, c); !strings.HasPrefix(got, "HTTP/1.1 403 ") { // ends
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestRefusedRequestWhoseBodyNeverComes(t *testing.T) {
	p := startProxy(t, Options{})
	c := p.intercepted("host.example:443", "host.example")
	io.WriteString(c, "PUT / HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 100\r\n\r\nfew")
	if got := readAll(t, c); !strings.HasPrefix(got, "HTTP/1.1 421 ") { // ends
		t.Errorf("got %q", got)
	}
}

// What is left of a body, or follows a broken one, must not be taken for a
// request; net/http does not see to that in full duplex.
func TestFullDuplexWithABodyThatIsNotReadToItsEnd(t *testing.T) {
	const smuggled = "GET /smuggled HTTP/1.1\r\nHost: host.example\r\n\r\n"
	for name, test := range map[string]struct {
		head, rest string
		read       bool
		limits     Limits
		reused     bool
	}{
		"unread, and never sent":  {"Content-Length: 100\r\n\r\nfew", "", false, Limits{Header: brief}, false},
		"unread, and sent later":  {"Content-Length: 100\r\n\r\nfew", smuggled, false, Limits{Header: brief}, false},
		"unread, but all there":   {"Content-Length: 3\r\n\r\nall", "", false, Limits{}, false},
		"unread and broken":       {"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + smuggled, "", false, Limits{}, false},
		"unread, and of any size": {"Content-Length: 1000000\r\n\r\nfew", "", false, Limits{}, false},
		"a pause while reading":   {"Content-Length: 100\r\n\r\nfew", "", true, Limits{Body: 20 * time.Millisecond}, false},
		"a broken chunk":          {"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + smuggled, "", true, Limits{}, false},
		"read to its end":         {"Content-Length: 3\r\n\r\nall", "", true, Limits{}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			paths := make(chan string, 10)
			p := startProxy(t, Options{Limits: test.limits, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				paths <- r.URL.Path
				if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
					t.Error(err)
				}
				if test.read {
					io.Copy(io.Discard, r.Body)
				}
				w.Header().Set("Content-Length", "4")
				w.WriteHeader(403)
				w.(http.Flusher).Flush()
				io.WriteString(w, "nope")
			})})
			c := p.intercepted("host.example:443", "host.example")
			io.WriteString(c, "PUT /first HTTP/1.1\r\nHost: host.example\r\n"+test.head)
			br := bufio.NewReader(c)
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			if body := readAll(t, resp.Body); resp.StatusCode != 403 || body != "nope" || resp.Close == test.reused {
				t.Errorf("got %d %q, close %v", resp.StatusCode, body, resp.Close)
			}
			if test.rest != "" {
				time.Sleep(brief * 5 / 4)
				io.WriteString(c, test.rest)
			}
			if test.reused {
				io.WriteString(c, "GET /second HTTP/1.1\r\nHost: host.example\r\nConnection: close\r\n\r\n")
			}
			rest := readAll(t, br) // ends
			if again := strings.HasPrefix(rest, "HTTP/1.1 403 "); again != test.reused {
				t.Errorf("then came %q", rest)
			}
			close(paths)
			got := ""
			for path := range paths {
				got += path
			}
			if want := map[bool]string{false: "/first", true: "/first/second"}[test.reused]; got != want {
				t.Errorf("the handler saw %q, want %q", got, want)
			}
		})
	}
}

// An answer that cannot say so ends the connection all the same.
func TestFullDuplexThatSucceedsWithoutItsBody(t *testing.T) {
	var calls atomic.Int32
	p := startProxy(t, Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(200)
	})})
	c := p.intercepted("host.example:443", "host.example")
	io.WriteString(c, "PUT / HTTP/1.1\r\nHost: host.example\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nGET /smuggled HTTP/1.1\r\nHost: host.example\r\n\r\n")
	if got := readAll(t, c); strings.Count(got, "HTTP/1.1 ") != 1 || !strings.HasPrefix(got, "HTTP/1.1 200 ") {
		t.Errorf("got %q", got)
	}
	if n := calls.Load(); n != 1 {
		t.Errorf("the handler was called %d times", n)
	}
}

func TestPauseInABody(t *testing.T) {
	start := func(t *testing.T) (*proxy, <-chan error) {
		t.Parallel()
		read := make(chan error, 1)
		return startProxy(t, Options{Limits: Limits{Body: brief}, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, err := io.ReadAll(r.Body)
			if string(b) != "few" {
				t.Errorf("got %q", b)
			}
			read <- err
		})}), read
	}
	t.Run("h1", func(t *testing.T) {
		p, read := start(t)
		c := p.intercepted("host.example:443", "host.example")
		io.WriteString(c, "PUT / HTTP/1.1\r\nHost: host.example\r\nContent-Length: 100\r\n\r\nfew")
		if err := <-read; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the body ended in %v", err)
		}
		readAll(t, c) // ends
	})
	t.Run("h2", func(t *testing.T) {
		p, read := start(t)
		h := openH2(t, p)
		id := h.headers(false, ":method", "PUT", ":scheme", "https", ":authority", "host.example", ":path", "/")
		h.WriteData(id, false, []byte("few"))
		if err := <-read; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the body ended in %v", err)
		}
	})
}

// The handshake's limit ends with the handshake.
func TestAnswerLaterThanTheHandshakeLimit(t *testing.T) {
	t.Parallel()
	p := startProxy(t, Options{Limits: Limits{Handshake: brief}, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(brief * 5 / 4)
		io.WriteString(w, "late")
	})})
	var both sync.WaitGroup
	for _, h2 := range []bool{false, true} {
		both.Go(func() {
			resp, err := p.client(h2).Get("https://host.example/")
			if err != nil {
				t.Error(err)
				return
			}
			if body, err := io.ReadAll(resp.Body); string(body) != "late" {
				t.Errorf("got %q, %v", body, err)
			}
			resp.Body.Close()
		})
	}
	both.Wait()
}

// A handler may rest between reads, and after the body's end, longer than a
// client may pause.
func TestHandlerMayRest(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("h2 %v", h2), func(t *testing.T) {
			t.Parallel()
			p := startProxy(t, Options{Limits: Limits{Body: brief}, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				b := make([]byte, 4)
				for range 2 {
					if _, err := io.ReadFull(r.Body, b); err != nil {
						t.Error(err)
					}
					time.Sleep(brief * 5 / 4)
				}
				if n, err := r.Body.Read(b); n != 0 || err != io.EOF {
					t.Errorf("at the end: %d, %v", n, err)
				}
				time.Sleep(brief * 5 / 4)
				if err := r.Context().Err(); err != nil {
					t.Errorf("the request was cancelled: %v", err)
				}
				fmt.Fprint(w, "done")
			})})
			resp, err := p.client(h2).Post("https://host.example/", "", strings.NewReader("12345678"))
			if err != nil {
				t.Fatal(err)
			}
			if body := readAll(t, resp.Body); body != "done" {
				t.Errorf("got %q", body)
			}
			resp.Body.Close()
		})
	}
}

func TestFullDuplexOverHTTP1(t *testing.T) {
	p := startProxy(t, Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		if err := rc.EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		b := make([]byte, 1)
		for {
			n, err := r.Body.Read(b)
			if n > 0 {
				w.Write(b)
				rc.Flush()
			}
			if err != nil {
				return
			}
		}
	})})
	c := p.intercepted("host.example:443", "host.example")
	io.WriteString(c, "PUT / HTTP/1.1\r\nHost: host.example\r\nContent-Length: 3\r\n\r\n")
	br := bufio.NewReader(c)
	var resp *http.Response
	for _, want := range "abc" {
		io.WriteString(c, string(want))
		if resp == nil {
			var err error
			if resp, err = http.ReadResponse(br, nil); err != nil {
				t.Fatal(err)
			}
		}
		got := make([]byte, 1)
		if _, err := io.ReadFull(resp.Body, got); err != nil || rune(got[0]) != want {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	if rest := readAll(t, resp.Body); rest != "" {
		t.Errorf("got %q", rest)
	}
	// The connection can be used again.
	io.WriteString(c, "PUT / HTTP/1.1\r\nHost: host.example\r\nContent-Length: 1\r\n\r\nx")
	if body := readAll(t, p.response(br).Body); body != "x" {
		t.Errorf("got %q", body)
	}
}

func TestClientThatStopsReadingIsLetGo(t *testing.T) {
	failed := make(chan error, 1)
	p := startProxy(t, Options{Limits: Limits{Write: 50 * time.Millisecond}, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(w, zeros{})
		failed <- err
	})})
	c := p.intercepted("host.example:443", "host.example")
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: host.example\r\n\r\n")
	select {
	case err := <-failed:
		if err == nil {
			t.Error("writing for ever succeeded")
		}
	case <-time.After(guard):
		t.Error("the handler is still writing")
	}
}

func TestClientThatLeavesCancelsTheRequest(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("h2 %v", h2), func(t *testing.T) {
			called, cancelled := make(chan struct{}), make(chan error, 1)
			p := startProxy(t, Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.ReadAll(r.Body)
				close(called)
				<-r.Context().Done()
				cancelled <- r.Context().Err()
				// An answer could reach the client between the end of TLS, which ended the
				// call here, and that of the connection; net/http takes it.
				panic(http.ErrAbortHandler)
			})})
			ctx, leave := context.WithCancel(context.Background())
			go func() { <-called; leave() }()
			req, _ := http.NewRequestWithContext(ctx, "PUT", "https://host.example/", strings.NewReader("body"))
			if _, err := p.client(h2).Do(req); !errors.Is(err, context.Canceled) {
				t.Errorf("the client got %v", err)
			}
			if err := <-cancelled; err != context.Canceled {
				t.Errorf("the handler got %v", err)
			}
		})
	}
}

func TestPanicCostsOneRequest(t *testing.T) {
	p := startProxy(t, Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/before":
			panic("boom")
		case "/after":
			io.WriteString(w, "beg")
			http.NewResponseController(w).Flush()
			panic(errors.New("boom"))
		case "/abort":
			panic(http.ErrAbortHandler)
		case "/early":
			w.WriteHeader(http.StatusEarlyHints)
			panic("boom")
		}
		io.WriteString(w, "fine")
	})})
	const reason = "an error in the proxy itself cost this request: its log has the stack"
	for _, h2 := range []bool{false, true} {
		for path, test := range map[string]struct {
			status int // 0: cut off
			body   string
			event  bool
		}{
			"/before": {500, "the proxy failed while answering this request\n", true},
			"/early":  {500, "the proxy failed while answering this request\n", true},
			"/after":  {0, "beg", true},
			"/abort":  {0, "", false},
			"/fine":   {200, "fine", false},
		} {
			t.Run(fmt.Sprintf("h2 %v %s", h2, path), func(t *testing.T) {
				resp, err := p.client(h2).Get("https://host.example" + path)
				var body []byte
				if err == nil {
					body, err = io.ReadAll(resp.Body)
					resp.Body.Close()
				}
				if cut := err != nil; cut != (test.status == 0) || string(body) != test.body || !cut && resp.StatusCode != test.status {
					t.Errorf("got %v %q %v", resp, body, err)
				}
				if !test.event {
					p.noEvent()
					return
				}
				e := p.wantEvent(Event{Kind: KindPanic, Code: CodePanic, Reason: reason, Host: "host.example", Port: 443, Method: "GET", Status: test.status})
				if e.Err == nil || e.Err.Error() != "panic: boom" {
					t.Errorf("error %v", e.Err)
				}
			})
		}
	}
	if s := p.Stats(); s.Panics != 6 || s.Requests != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestConnectionCloseIsHonoured(t *testing.T) {
	p := startProxy(t, Options{})
	c := p.intercepted("host.example:443", "host.example")
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: host.example\r\nConnection: close\r\n\r\n")
	if got := readAll(t, c); !strings.Contains(got, "\r\nConnection: close\r\n") {
		t.Errorf("got %q", got)
	}
	until(t, "the connection is gone", func() bool { s := p.Stats(); return s.Connections == 0 && s.Intercepted == 0 })
}

// Connection, and what it nominates, is the handler's to judge.
func TestHandlerSeesHopByHopHeaders(t *testing.T) {
	got := make(chan http.Header, 1)
	p := startProxy(t, Options{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.Header })})
	p.exchange("GET / HTTP/1.1\r\nHost: host.example\r\nConnection: X-Amz-Date\r\nX-Amz-Date: now\r\nTe: trailers\r\nProxy-Authorization: Basic x\r\n\r\n")
	h := <-got
	for name, want := range map[string]string{"Connection": "X-Amz-Date", "X-Amz-Date": "now", "Te": "trailers", "Proxy-Authorization": "Basic x"} {
		if h.Get(name) != want {
			t.Errorf("%s is %q", name, h.Get(name))
		}
	}
}

// An upgraded connection belongs to the handler, until Shutdown.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	p := startProxy(t, Options{Limits: Limits{Header: brief}, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		io.Copy(c, rw)
	})})
	c := p.intercepted("host.example:443", "host.example")
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: host.example\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	br := bufio.NewReader(c)
	if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != 101 {
		t.Fatal(resp, err)
	}
	time.Sleep(brief * 5 / 4) // no deadline of the server is left
	io.WriteString(c, "ping")
	got := make([]byte, 4)
	if _, err := io.ReadFull(br, got); err != nil || string(got) != "ping" {
		t.Errorf("got %q, %v", got, err)
	}
	if n := p.Stats().Intercepted; n != 0 {
		t.Errorf("Intercepted is %d", n)
	}
	if err := p.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadAll(br); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !strings.Contains(err.Error(), "reset") {
		t.Errorf("after Shutdown: %v", err)
	}
}

// A client whose connection is idle when the proxy begins to drain may send one
// more request on it, and learns from the answer to use another. It would have met
// the end of the connection, and may not send a POST again by itself.
func TestDrainAnswersOnIdleConnections(t *testing.T) {
	p := startProxy(t, Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/empty" {
			return
		}
		io.WriteString(w, "done")
	})})
	post := func(path string) string {
		return "POST " + path + " HTTP/1.1\r\nHost: host.example\r\nContent-Length: 2\r\n\r\nhi"
	}
	for _, path := range []string{"/", "/empty"} {
		c := p.intercepted("host.example:443", "host.example")
		br := bufio.NewReader(c)
		io.WriteString(c, post(path))
		if resp := p.response(br); resp.Close || resp.StatusCode != http.StatusOK {
			t.Fatalf("before draining: %+v", resp)
		}
		p.Drain()
		io.WriteString(c, post(path))
		if resp := p.response(br); !resp.Close || resp.StatusCode != http.StatusOK {
			t.Errorf("%s on a connection that was idle: %+v", path, resp)
		}
		if rest := readAll(t, br); rest != "" {
			t.Errorf("after the last answer: %q", rest)
		}
		p.lame.Store(false)
	}
	// The same in HTTP/2: GOAWAY, which a client obeys by connecting anew.
	h2 := p.client(true)
	ask := func() {
		t.Helper()
		resp, err := h2.Post("https://host.example/", "text/plain", strings.NewReader("hi"))
		if err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, resp.Body); got != "done" || resp.ProtoMajor != 2 || resp.Header.Get("Connection") != "" {
			t.Errorf("got %q: %+v", got, resp)
		}
		resp.Body.Close()
	}
	ask()
	ask()
	connections := p.Stats().TotalConnections
	p.Drain()
	for n := range 3 {
		ask()
		until(t, "the connection is left", func() bool { return p.Stats().Intercepted == 0 })
		if got := p.Stats().TotalConnections; got != connections+int64(n) {
			t.Errorf("%d connections for request %d, want %d", got, n, connections+int64(n))
		}
	}
}

// While requests are under way, others are answered that come on connections
// which were idle.
func TestShutdownClosesIdleConnectionsLast(t *testing.T) {
	called, finish := make(chan struct{}), make(chan struct{})
	p := startProxy(t, Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(called)
			<-finish
		}
		io.WriteString(w, "done")
	})})
	request := func(path string) string {
		return "POST " + path + " HTTP/1.1\r\nHost: host.example\r\nContent-Length: 0\r\n\r\n"
	}
	idle, slow := p.intercepted("host.example:443", "host.example"), p.intercepted("host.example:443", "host.example")
	idleBytes, slowBytes := bufio.NewReader(idle), bufio.NewReader(slow)
	io.WriteString(idle, request("/"))
	p.response(idleBytes)
	io.WriteString(slow, request("/slow"))
	<-called
	down := make(chan error, 1)
	go func() { down <- p.Shutdown(context.Background()) }()
	until(t, "the listener is closed", func() bool {
		c, err := net.Dial("tcp", p.addr)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	io.WriteString(idle, request("/"))
	if resp := p.response(idleBytes); resp.StatusCode != http.StatusOK || !resp.Close {
		t.Errorf("on a connection that was idle: %+v", resp)
	}
	close(finish)
	if resp := p.response(slowBytes); resp.StatusCode != http.StatusOK || !resp.Close {
		t.Errorf("the request under way: %+v", resp)
	}
	if err := <-down; err != nil {
		t.Error(err)
	}
}

// Requests under way are answered, new connections are not taken, and idle ones end.
func TestShutdownDrains(t *testing.T) {
	called, finish := make(chan struct{}), make(chan struct{})
	// No limit of time ends a connection during this test.
	p := startProxy(t, Options{Limits: Limits{Handshake: time.Hour, Header: time.Hour, Idle: time.Hour}, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(called)
			<-finish
		}
		io.WriteString(w, "done")
	})})
	ready := p.intercepted("host.example:443", "host.example") // no request yet
	half := p.connect("host.example:443")                      // no TLS yet
	fresh := p.dial()                                          // no CONNECT yet
	idle := p.client(true)
	resp, err := idle.Get("https://host.example/")
	if err != nil {
		t.Fatal(err)
	}
	readAll(t, resp.Body)
	resp.Body.Close()
	answers := make(chan string, 1)
	slow := p.client(false)
	go func() {
		resp, err := slow.Get("https://host.example/slow")
		if err != nil {
			answers <- err.Error()
			return
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		answers <- string(b)
	}()
	<-called
	down := make(chan error, 1)
	go func() { down <- p.Shutdown(context.Background()) }()
	readAll(t, ready) // these three end soon
	readAll(t, half)
	readAll(t, fresh)
	select {
	case err := <-down:
		t.Errorf("Shutdown returned %v before the request was answered", err)
	default:
	}
	close(finish)
	if got := <-answers; got != "done" {
		t.Errorf("the request under way got %q", got)
	}
	if err := <-down; err != nil {
		t.Errorf("Shutdown returned %v", err)
	}
	if s := p.Stats(); s.Connections != 0 || s.Requests != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestShutdownCutsOffWhenItsContextEnds(t *testing.T) {
	called, cancelled := make(chan struct{}), make(chan struct{})
	p := startProxy(t, Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(called)
		<-r.Context().Done()
		close(cancelled)
	})})
	c := p.intercepted("host.example:443", "host.example")
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: host.example\r\n\r\n")
	<-called
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := p.Shutdown(ctx); err != context.Canceled {
		t.Errorf("Shutdown returned %v", err)
	}
	<-cancelled
}

// A CONNECT that arrives on a connection already open is refused while draining.
func TestConnectWhileDraining(t *testing.T) {
	p := startProxy(t, Options{})
	p.draining.Store(true)
	got := p.raw("CONNECT host.example:443 HTTP/1.1\r\nHost: x\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 503 the proxy is shutting down: try again, or use another one\r\n") {
		t.Errorf("got %q", got)
	}
	if e := p.event(); e.Code != CodeDraining {
		t.Errorf("event %+v", e)
	}
}

// TLS sessions are resumed, for any host and only with the right CONNECT.
func TestSessionResumption(t *testing.T) {
	p := startProxy(t, Options{})
	cache := tls.NewLRUClientSessionCache(4)
	for i, resumed := range []bool{false, true} {
		c := tls.Client(p.connect("host.example:443"), &tls.Config{ServerName: "host.example", RootCAs: testCA().pool, ClientSessionCache: cache})
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: host.example\r\nConnection: close\r\n\r\n")
		readAll(t, c)
		if got := c.ConnectionState().DidResume; got != resumed {
			t.Errorf("connection %d: resumed %v", i, got)
		}
	}
	c := tls.Client(p.connect("other.example:443"), &tls.Config{ServerName: "host.example", RootCAs: testCA().pool, ClientSessionCache: cache})
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: host.example\r\nConnection: close\r\n\r\n")
	if got := readAll(t, c); !strings.HasPrefix(got, "HTTP/1.1 421 ") {
		t.Errorf("got %q", got)
	}
}
