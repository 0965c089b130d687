package pipeline

import (
	"bytes"
	"compress/gzip"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/countersign-proxy/countersign/audit"
	"github.com/countersign-proxy/countersign/metrics"
)

func TestOutgoingURLKeepsTheBytes(t *testing.T) {
	for _, target := range []string{
		"/", "/?", "/a?b", "/a%2Fb", "/a%2fb", "/a b"[:2], "/%C3%A9", "/a^b", "/a|b", "/{x}", "/x/../y", "/x//y", "/.", "/..",
		"/a+b", "/a%20b", "/~", "/%7E", "/a;b", "/a:b", "/a@b", "/a!$&'()*,=b", "/%zz", "/%", "/a?b?c", "/a?x=%zz", "/a?a;b", "/a#b"[:2], "//", "//a", "//a/b", "/a?q=\"'`",
		"/\"quoted\"",
	} {
		u, ok := outgoingURL(target, "host")
		if !ok {
			t.Errorf("%q: refused", target)
			continue
		}
		if got := u.RequestURI(); got != target || u.Host != "host" || u.Scheme != "https" {
			t.Errorf("%q goes out as %q", target, got)
		}
	}
	for _, target := range []string{"", "a", "*", "https://host/", "//a^b", "//%zz"} {
		if u, ok := outgoingURL(target, "host"); ok {
			t.Errorf("%q is accepted as %q", target, u.RequestURI())
		}
	}
}

func FuzzOutgoingURL(f *testing.F) {
	for _, s := range []string{"/", "/a?b", "//a", "/a^b", "/%zz", "/a%2Fb?c=d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, target string) {
		if u, ok := outgoingURL(target, "host"); ok && u.RequestURI() != target {
			t.Errorf("%q goes out as %q", target, u.RequestURI())
		}
	})
}

// Go's stack drops these or adds to them, unless told not to.
func TestHeadersThatGoWouldChange(t *testing.T) {
	h := setup(t, nil, nil)
	c := get("/key").with(func(c *call) {
		c.header = http.Header{
			"X-Forwarded-For": {"10.0.0.1"}, "X-Forwarded-Host": {"a.example"}, "X-Forwarded-Proto": {"gopher"}, "Forwarded": {"for=x"},
			"Accept-Encoding": {"br"}, "User-Agent": {"mine/1.0"}, "Range": {"bytes=0-1"},
		}
	})
	if res, body := h.send(c, nil); res.StatusCode != 200 {
		t.Fatalf("%s %s", res.Status, body)
	}
	got := h.arrived()[0].Header
	for name, want := range c.header {
		if strings.Join(got[name], "|") != want[0] {
			t.Errorf("%s arrived as %q, not %q", name, got[name], want)
		}
	}
	for _, name := range []string{"Via", "X-Real-Ip"} {
		if v, ok := got[name]; ok {
			t.Errorf("%s: %q was added", name, v)
		}
	}
}

func TestNoUserAgentStaysNone(t *testing.T) {
	h := setup(t, nil, nil)
	h.send(get("/key"), nil)
	if v, ok := h.arrived()[0].Header["User-Agent"]; ok {
		t.Errorf("User-Agent: %q was added", v)
	}
}

func TestAnswersArriveAsTheyWere(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write([]byte("<html>not to be guessed</html>"))
	_ = z.Close()
	h := setup(t, nil, func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Type"] = nil
		w.Header().Set("Content-Encoding", "gzip")
		w.Header()["x-amz-meta-who"] = []string{"me"}
		w.Header().Set("Server", "AmazonS3")
		_, _ = w.Write(packed.Bytes())
	})
	res, body := h.send(get("/key").with(func(c *call) { c.header = http.Header{"Accept-Encoding": {"gzip"}} }), nil)
	if body != packed.String() || res.Header.Get("Content-Encoding") != "gzip" || res.Header.Get("Server") != "AmazonS3" {
		t.Errorf("%v %q", res.Header, body)
	}
	if v, ok := res.Header["Content-Type"]; ok {
		t.Errorf("Content-Type %q was guessed", v)
	}
}

func TestNominatedSignedHeadersAreRefused(t *testing.T) {
	h := setup(t, nil, nil)
	c := get("/key").with(func(c *call) { c.header = http.Header{"X-Amz-Acl": {"private"}} })
	res, body := h.send(c, func(hd http.Header) { hd.Set("Connection", "x-amz-acl") })
	if res.StatusCode != 400 || len(h.arrived()) != 0 {
		t.Errorf("%s %s, %d arrived", res.Status, body, len(h.arrived()))
	}
}

// Behind an upgrade to HTTP/2 further requests would pass without being judged.
func TestUpgradesOtherThanToWebSocketsAreNotOffered(t *testing.T) {
	for upgrade, want := range map[string]string{"h2c": "", "h2c, websocket": "", "TLS/1.0": "", "websocket": "websocket", "WebSocket": "WebSocket"} {
		h := setup(t, nil, nil)
		res, body := h.send(get("/key"), func(hd http.Header) {
			hd.Set("Connection", "Upgrade, HTTP2-Settings")
			hd.Set("Upgrade", upgrade)
			hd.Set("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA")
		})
		seen := h.arrived()
		if res.StatusCode != http.StatusOK || len(seen) != 1 {
			t.Fatalf("%s: %s %s", upgrade, res.Status, body)
		}
		if got := seen[0].Header.Get("Upgrade"); got != want || (seen[0].Header.Get("Connection") != "") != (want != "") || seen[0].Header.Get("HTTP2-Settings") != "" {
			t.Errorf("%s: %v", upgrade, seen[0].Header)
		}
	}
}

func TestErrorsOfAWSPassThrough(t *testing.T) {
	h := setup(t, nil, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte("<Error><Code>NoSuchKey</Code></Error>"))
	})
	res, body := h.send(get("/key"), nil)
	if res.StatusCode != 404 || !strings.Contains(body, "NoSuchKey") {
		t.Errorf("%s %s", res.Status, body)
	}
	if lines := h.lines(); len(lines) != 1 || lines[0].Decision != "allow" || lines[0].Status != 404 {
		t.Errorf("%+v", lines)
	}
}

func TestUpstreamThatCannotBeReached(t *testing.T) {
	h := setup(t, func(o *Options) {
		o.Transport = NewTransport(TransportOptions{Overrides: []Override{{Match: func(string) bool { return true }, Address: "127.0.0.1:1"}}})
	}, nil)
	res, body := h.send(get("/key"), nil)
	if res.StatusCode != 503 || !strings.Contains(body, "bucket.s3.us-east-1.amazonaws.com: no connection") {
		t.Errorf("%s %s", res.Status, body)
	}
}

// A client that gives up before there is an answer is no failure of AWS or of the
// way to it, and is counted apart.
func TestAClientThatLeavesIsNoFailure(t *testing.T) {
	counted := metrics.New(metrics.Options{Roles: []string{"source"}, Services: []string{"s3"}})
	arrived, left := make(chan struct{}), make(chan struct{})
	h := setup(t, func(o *Options) { o.Metrics = counted }, func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done() // the proxy has hung up
		close(left)
	})
	c := get("/key")
	var head strings.Builder
	head.WriteString("GET /key HTTP/1.1\r\nHost: " + c.host + "\r\n")
	_ = c.sign(t).Write(&head)
	conn, err := net.Dial("tcp", h.front.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, head.String()+"\r\n"); err != nil {
		t.Fatal(err)
	}
	<-arrived
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	<-left
	lines := h.lines()
	if len(lines) != 1 || lines[0].Status != 0 || lines[0].Error != "the client left" || lines[0].Decision != audit.Allow {
		t.Errorf("%+v", lines)
	}
	if err := testutil.GatherAndCompare(counted.Registry(), strings.NewReader(`
# HELP countersign_requests_total Requests of intercepted hosts, by role, service, decision and class of the status that the client got.
# TYPE countersign_requests_total counter
countersign_requests_total{code="left",decision="allow",role="source",service="s3"} 1
`), "countersign_requests_total"); err != nil {
		t.Error(err)
	}
}
