package metrics

import (
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func get(h http.Handler, method, path, host string) *http.Response {
	r := httptest.NewRequest(method, path, nil)
	r.Host = host
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestAdminEndpoints(t *testing.T) {
	var notReady error
	m := New(options())
	h := NewAdmin(AdminOptions{Gatherer: m.Registry(), Ready: func() error { return notReady }})
	for _, c := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "/healthz", 200, "ok\n"},
		{"HEAD", "/healthz", 200, "ok\n"}, // a recorder does not cut the body off; a server does
		{"GET", "/readyz", 200, "ready\n"},
		{"POST", "/healthz", 405, "only GET and HEAD\n"},
		{"DELETE", "/readyz", 405, "only GET and HEAD\n"},
		{"POST", "/metrics", 405, "only GET and HEAD\n"},
		{"GET", "/", 404, "404 page not found\n"},
		{"GET", "/debug/pprof/", 404, "404 page not found\n"},
		{"GET", "/healthz/", 404, "404 page not found\n"},
	} {
		r := get(h, c.method, c.path, "127.0.0.1")
		if got := body(t, r); r.StatusCode != c.status || got != c.body {
			t.Errorf("%s %s: %d %q", c.method, c.path, r.StatusCode, got)
		}
		if r.Header.Get("Cache-Control") != "no-store" || r.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s %s: %v", c.method, c.path, r.Header)
		}
		if c.status == 405 && r.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s %s: %v", c.method, c.path, r.Header)
		}
	}
	notReady = errors.New("draining")
	r := get(h, "GET", "/readyz", "127.0.0.1")
	if got := body(t, r); r.StatusCode != 503 || got != "not ready: draining\n" {
		t.Errorf("%d %q", r.StatusCode, got)
	}
	if r := get(h, "GET", "/healthz", "127.0.0.1"); r.StatusCode != 200 {
		t.Errorf("draining is not unhealthy: %d", r.StatusCode)
	}
	r = get(h, "GET", "/metrics", "127.0.0.1")
	if got := body(t, r); r.StatusCode != 200 || !strings.Contains(got, `countersign_build_info{goversion=`) {
		t.Errorf("%d %s", r.StatusCode, got)
	}
}

// A web page that makes its own name resolve to 127.0.0.1 sends requests here
// with that name as Host.
func TestHostCheck(t *testing.T) {
	extra := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "secret") })
	h := NewAdmin(AdminOptions{
		Gatherer: New(Options{}).Registry(),
		Extra:    map[string]http.Handler{"/": extra, "POST /credentials": extra},
		Hosts:    []string{"Countersign.Example.com."},
	})
	for host, ok := range map[string]bool{
		"127.0.0.1": true, "127.0.0.1:8801": true, "[::1]": true, "[::1]:8801": true, "10.0.0.7:8801": true,
		"localhost": true, "LOCALHOST:8801": true, "localhost.": true, "app.localhost:8801": true,
		"countersign.example.com": true, "COUNTERSIGN.example.com:8801": true, "countersign.example.com.": true,
		"evil.example": false, "evil.example:8801": false, "localhost.evil.example": false, "notlocalhost": false,
		"127.0.0.1.nip.io": false, "127.0.0.1.": false, "x.countersign.example.com": false, "": false, "::1": true,
		"127.1": false, "0x7f000001": false, "2130706433": false, "[::1": false, "localhost:80:80": false,
		"evil.example@127.0.0.1": false, "127.0.0.1 evil.example": false,
	} {
		for _, path := range []string{"/", "/console", "/healthz/../console"} {
			r := get(h, "GET", path, host)
			got := body(t, r)
			if leaked := strings.Contains(got, "secret"); leaked && !ok || !leaked && ok && r.StatusCode == 200 || !ok && r.StatusCode == 200 {
				t.Errorf("%q %s: %d %q", host, path, r.StatusCode, got)
			}
			if path == "/" && ok && got != "secret" {
				t.Errorf("%q: %d %q", host, r.StatusCode, got)
			}
			if path == "/" && !ok && r.StatusCode != http.StatusMisdirectedRequest {
				t.Errorf("%q: %d %q", host, r.StatusCode, got)
			}
		}
		if r := get(h, "POST", "/credentials", host); (r.StatusCode == 200) != ok {
			t.Errorf("credentials at %q: %d", host, r.StatusCode)
		}
		for _, path := range []string{"/metrics", "/healthz", "/readyz"} {
			if r := get(h, "GET", path, host); r.StatusCode != 200 {
				t.Errorf("%q %s: %d", host, path, r.StatusCode)
			}
		}
	}
}

func TestServerLimits(t *testing.T) {
	h := NewAdmin(AdminOptions{
		Gatherer: New(Options{}).Registry(),
		Extra: map[string]http.Handler{"POST /upload": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n, err := io.Copy(io.Discard, r.Body)
			if err == nil || n > 1<<20 {
				t.Errorf("%d bytes, %v", n, err)
			}
		})},
	})
	s := NewServer(h, log.New(io.Discard, "", 0))
	for name, d := range map[string]time.Duration{
		"head": s.ReadHeaderTimeout, "read": s.ReadTimeout, "write": s.WriteTimeout, "idle": s.IdleTimeout,
	} {
		if d <= 0 {
			t.Errorf("no %s timeout", name)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	defer func() {
		s.Close()
		<-done
	}()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	url := "http://" + l.Addr().String()

	r, err := client.Head(url + "/healthz")
	if err != nil || r.StatusCode != 200 || body(t, r) != "" {
		t.Errorf("%v %v", r, err)
	}
	req, _ := http.NewRequest("GET", url+"/healthz", nil)
	req.Header.Set("X", strings.Repeat("x", 64<<10))
	if r, err = client.Do(req); err != nil || r.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("%v %v", r, err)
	} else {
		r.Body.Close()
	}
	if r, err = client.Post(url+"/upload", "", strings.NewReader(strings.Repeat("x", 2<<20))); err == nil {
		r.Body.Close()
	}
}
