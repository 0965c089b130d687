package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Requests a second that the credentials endpoint of a running proxy answers, each
// with its audit line, to clients on the same machine.
func TestFiguresCredentialsEndpoint(t *testing.T) {
	issuer := startOIDC(t)
	upstream := record(t, nil)
	p := serveSessions(t, &upstream.upstream, issuer, "")
	secret, err := os.ReadFile(filepath.Join(p.state, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	duration, parallel := 100*time.Millisecond, 16
	if bench() {
		duration = 3 * time.Second
	}
	for name, token := range map[string]string{"bearer secret": strings.TrimSpace(string(secret)), "ES256 token": issuer.token(t, nil)} {
		client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: parallel}}
		var served atomic.Int64
		var all sync.WaitGroup
		started := time.Now()
		for range parallel {
			all.Go(func() {
				for time.Since(started) < duration {
					request, _ := http.NewRequest(http.MethodGet, "http://"+p.admin+"/credentials", nil)
					request.Header.Set("Authorization", token)
					response, err := client.Do(request)
					if err != nil {
						t.Error(err)
						return
					}
					var c struct{ AccessKeyID, SecretAccessKey, Token, Expiration string }
					err = json.NewDecoder(response.Body).Decode(&c)
					response.Body.Close()
					if err != nil || response.StatusCode != http.StatusOK || !strings.HasPrefix(c.AccessKeyID, "CSIG") || c.Token == "" {
						t.Errorf("%s: %+v, %v", response.Status, c, err)
						return
					}
					served.Add(1)
				}
			})
		}
		all.Wait()
		client.CloseIdleConnections()
		rate := float64(served.Load()) / time.Since(started).Seconds()
		t.Logf("%s: %.0f requests/s", name, rate)
		if bench() && name == "bearer secret" && rate < 5000 {
			t.Errorf("that is less than 5,000")
		}
	}
}
