package pipeline

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// A client of its own kind takes the same ways: overridden hosts by TLS with the
// override's CA and the AWS name as SNI, or in plain HTTP.
func TestConfigureTakesTheSameWays(t *testing.T) {
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := "plain"
		if r.TLS != nil {
			name = r.TLS.ServerName
		}
		_, _ = io.WriteString(w, name+" "+r.Host)
	})
	secure := httptest.NewUnstartedServer(answer)
	secure.StartTLS()
	defer secure.Close()
	plain := httptest.NewServer(answer)
	defer plain.Close()
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	transport := NewTransport(TransportOptions{RootCAs: x509.NewCertPool(), Overrides: []Override{
		// httptest's certificate is for example.com.
		{Match: func(n string) bool { return n == "example.com" }, Address: secure.Listener.Addr().String(), RootCAs: roots, TLS: true},
		{Match: func(n string) bool { return n == "plain.example" }, Address: plain.Listener.Addr().String()},
	}})
	defer transport.CloseIdleConnections()
	other := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	transport.Configure(other)
	defer other.CloseIdleConnections()
	for _, client := range []http.RoundTripper{transport, other} {
		for url, want := range map[string]string{"https://example.com/": "example.com example.com", "https://plain.example/": "plain plain.example"} {
			r, err := http.NewRequest("GET", url, nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := client.RoundTrip(r)
			if err != nil {
				t.Fatalf("%s: %v", url, err)
			}
			body, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			if string(body) != want {
				t.Errorf("%T %s: %q, want %q", client, url, body, want)
			}
		}
	}
}
