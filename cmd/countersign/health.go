package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/countersign-proxy/countersign/config"
	"github.com/countersign-proxy/countersign/safefile"
)

// checkHealth asks a running proxy whether it is ready: the HEALTHCHECK of an
// image that has no shell and no curl.
//
// The running proxy may have outlived the configuration on disk: a file that is
// broken by now is none of its faults. So it leaves its address in the state
// directory, and where the file cannot be read, that is where it is asked.
func (a *app) checkHealth(ctx context.Context) error {
	cfg, err := a.load()
	var base string
	var transport *http.Transport
	if err != nil {
		environment := slices.DeleteFunc(a.environ(), func(kv string) bool { return strings.HasPrefix(kv, "COUNTERSIGN_CONFIG=") })
		bare, bareErr := config.Load(config.Options{Env: environment})
		if bareErr != nil {
			return err
		}
		left, leftErr := os.ReadFile(healthFile(bare))
		if leftErr != nil {
			return err
		}
		base, transport = strings.TrimSpace(string(left)), localTransport()
	} else {
		if healthAddress(cfg) == "" {
			return errors.New("neither admin.listen nor metrics.listen is set, so there is nobody to ask")
		}
		base, transport = listenerURL(cfg, healthAddress(cfg))
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/readyz", nil)
	if err != nil {
		return err
	}
	res, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		return fmt.Errorf("the proxy does not answer: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("the proxy is not ready: %s", res.Status)
	}
	return nil
}

// healthFile is where a running proxy leaves the URL of its health listener.
func healthFile(cfg *config.Config) string { return filepath.Join(cfg.StateDir, "health.url") }

// leaveHealthURL writes it. A state directory that cannot be written only costs
// the answer to --health while the configuration is broken.
func (p *proxy) leaveHealthURL(cfg *config.Config, address string) {
	base, _ := listenerURL(cfg, address)
	if err := safefile.Write(healthFile(cfg), []byte(base+"\n"), 0o600); err != nil {
		p.log.Debug("health.url was not written", zap.Error(err))
	}
}

// healthAddress is the listener to ask for health and metrics, "" where there is none.
func healthAddress(cfg *config.Config) string { return cmp.Or(cfg.Metrics.Listen, cfg.Admin.Listen) }

// localTransport reaches listeners of this machine. The certificate names the
// proxy as others see it, and these requests do not leave the machine.
func localTransport() *http.Transport {
	return &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}}
}

// adminURL is how commands of this machine reach the admin listener.
func adminURL(cfg *config.Config) (string, *http.Transport) {
	return listenerURL(cfg, cfg.Admin.Listen)
}

// listenerURL is how this machine reaches a listener of the proxy.
func listenerURL(cfg *config.Config, address string) (string, *http.Transport) {
	transport := localTransport()
	scheme := "http"
	if cfg.TLS.Enabled() && !config.LoopbackAddress(address) {
		scheme = "https"
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return scheme + "://" + address, transport
	}
	if everywhere(host) {
		host = "127.0.0.1"
	}
	return scheme + "://" + net.JoinHostPort(host, port), transport
}

// everywhere says whether a listener with this host takes connections to every
// address of the machine.
func everywhere(host string) bool { return host == "" || host == "0.0.0.0" || host == "::" }
