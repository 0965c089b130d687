package main

import (
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/countersign-proxy/countersign/config"
)

// The SDK takes no HTTP client but its own kind where AWS_CA_BUNDLE is set, and
// then there were no source credentials at all.
func TestSourceCredentialsWithACABundle(t *testing.T) {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	bundle := filepath.Join(t.TempDir(), "bundle.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(bundle, text, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CA_BUNDLE", bundle)
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIASOURCEUSER000000")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "source-secret")
	cfg, err := config.Load(config.Options{Env: []string{}, Home: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	transport, err := newTransport(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	creds, err := sourceCredentials(t.Context(), cfg, transport).Retrieve(t.Context())
	if err != nil || creds.AccessKeyID != "AKIASOURCEUSER000000" {
		t.Errorf("%v, %v", creds.AccessKeyID, err)
	}
}
