package main

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/countersign-proxy/countersign/config"
)

// A gateway listens on every address, with TLS, and may have its metrics elsewhere.
func TestDoctorFindsTheRunningProxy(t *testing.T) {
	countersign := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "countersign_build_info 1") })
	plain, secure := httptest.NewServer(countersign), httptest.NewTLSServer(countersign)
	defer plain.Close()
	defer secure.Close()
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	everywhere := func(s *httptest.Server) string {
		_, port, err := net.SplitHostPort(s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return "0.0.0.0:" + port
	}
	certificate := config.TLS{CertFile: "tls.crt", KeyFile: "tls.key"}
	for name, c := range map[string]struct {
		cfg  config.Config
		want bool
	}{
		"on loopback":        {config.Config{Admin: config.Admin{Listen: plain.Listener.Addr().String()}}, true},
		"everywhere":         {config.Config{TLS: certificate, Admin: config.Admin{Listen: everywhere(secure)}}, true},
		"metrics by its own": {config.Config{Admin: config.Admin{Listen: other.Listener.Addr().String()}, Metrics: config.Metrics{Listen: everywhere(plain)}}, true},
		"something else":     {config.Config{Admin: config.Admin{Listen: other.Listener.Addr().String()}}, false},
		"nobody to ask":      {config.Config{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := isRunning(t.Context(), &c.cfg); got != c.want {
				t.Errorf("%v", got)
			}
		})
	}
}
