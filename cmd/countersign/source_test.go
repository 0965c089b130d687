package main

import (
	"context"
	"encoding/pem"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

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

// Login tools write keys for an hour into ~/.aws/credentials.
func TestKeysOfAProfileThatWereReplaced(t *testing.T) {
	file := filepath.Join(t.TempDir(), "credentials")
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_CA_BUNDLE"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
	cfg, err := config.Load(config.Options{Env: []string{}, Home: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Source.Profile = "work"
	cache := aws.NewCredentialsCache(sourceCredentials(t.Context(), cfg, nil))
	if _, err := cache.Retrieve(t.Context()); err == nil || !strings.Contains(err.Error(), "failed to get shared config profile, work") {
		t.Errorf("%v", err)
	}
	for _, id := range []string{"AKIAFIRST00000000000", "AKIASECOND0000000000"} {
		text := "[work]\naws_access_key_id = " + id + "\naws_secret_access_key = secret\naws_session_token = token\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cache.Invalidate() // as rolesession does when STS refuses them
		for range 2 {
			if creds, err := cache.Retrieve(t.Context()); err != nil || creds.AccessKeyID != id {
				t.Errorf("%s: %s, %v", id, creds.AccessKeyID, err)
			}
		}
	}
}

// Providers that renew what expires know more than one that is new: where EC2 does not
// answer, its own goes on with what it had.
func TestSourceKeepsAProviderWhoseCredentialsExpire(t *testing.T) {
	loads, fetches := 0, 0
	var life time.Duration
	var failure error
	s := &source{load: func(context.Context) (aws.CredentialsProvider, error) {
		loads++
		return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			fetches++
			return aws.Credentials{AccessKeyID: "A", SecretAccessKey: "S", CanExpire: true, Expires: time.Now().Add(life)}, failure
		}), nil
	}}
	for _, c := range []struct {
		name           string
		life           time.Duration
		failure        error
		loads, fetches int
	}{
		{"the first", -time.Hour, nil, 1, 1},
		{"after they expired", time.Hour, nil, 1, 2},
		{"after they were refused", -time.Hour, nil, 2, 3},
		{"a failure", -time.Hour, errors.New("no SSO session"), 2, 4},
		{"after it", time.Hour, nil, 3, 5},
	} {
		life, failure = c.life, c.failure
		if _, err := s.Retrieve(t.Context()); err != c.failure || loads != c.loads || fetches != c.fetches {
			t.Errorf("%s: %v, %d loads, %d fetches", c.name, err, loads, fetches)
		}
	}
}
