package metrics

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// AdminOptions says what the admin listener serves.
type AdminOptions struct {
	Gatherer prometheus.Gatherer // of /metrics; required

	// Ready returns nil when the process can take requests, else an error whose
	// text says why not; it must not depend on AWS. nil: always ready.
	Ready func() error

	// Extra adds handlers by pattern (see http.ServeMux), such as the console
	// and the credentials endpoint. They are guarded against DNS rebinding: a
	// web page can make a browser send requests to a loopback address under the
	// page's own name, so they answer only to loopback names, IP literals and Hosts.
	Extra map[string]http.Handler
	// Hosts are names by which Extra may be addressed as well.
	Hosts []string
}

// NewAdmin returns the handler of /metrics, /healthz, /readyz and Extra.
// Metrics and health answer to any Host: scrapers and kubelets use what they like.
func NewAdmin(o AdminOptions) http.Handler {
	ready := o.Ready
	if ready == nil {
		ready = func() error { return nil }
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", readOnly(promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{
		MaxRequestsInFlight: 8,
		Timeout:             10 * time.Second,
		EnableOpenMetrics:   true,
	})))
	mux.Handle("/healthz", readOnly(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, "ok")
	})))
	mux.Handle("/readyz", readOnly(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			answer(w, http.StatusServiceUnavailable, "not ready: "+err.Error())
			return
		}
		answer(w, http.StatusOK, "ready")
	})))
	hosts := make([]string, len(o.Hosts))
	for i, h := range o.Hosts {
		hosts[i] = strings.ToLower(strings.TrimSuffix(h, "."))
	}
	for pattern, h := range o.Extra {
		mux.Handle(pattern, hostCheck(hosts, h))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		mux.ServeHTTP(w, r)
	})
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintln(w, text)
}

func readOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			answer(w, http.StatusMethodNotAllowed, "only GET and HEAD")
			return
		}
		h.ServeHTTP(w, r)
	})
}

func hostCheck(names []string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !hostAllowed(r.Host, names) {
			answer(w, http.StatusMisdirectedRequest,
				"this name is not one of the proxy's: use localhost or an IP address, or add the name to admin.hosts")
			return
		}
		h.ServeHTTP(w, r)
	})
}

// hostAllowed reports whether host (with or without port) is a loopback name,
// an IP literal, or one of names.
func hostAllowed(host string, names []string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	} else if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	// RFC 6761, section 6.3: names below localhost are loopback as well.
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || slices.Contains(names, host)
}

// NewServer returns a server for h with every limit set. A handler that
// streams extends its own deadlines with http.ResponseController.
func NewServer(h http.Handler, errorLog *log.Logger) *http.Server {
	return &http.Server{
		Handler:           http.MaxBytesHandler(h, 1<<20),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          errorLog,
	}
}
