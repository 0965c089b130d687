package main

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/countersign-proxy/countersign/config"
)

func TestForgetSessionsAsksForTheTokenAndAName(t *testing.T) {
	cfg, p, err := assemble(t, t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	token, err := adminToken(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h := withToken(token, p.forgetSessions)
	for _, c := range []struct {
		target, authorization string
		want                  int
	}{
		{"/sessions?identity=local", "", http.StatusUnauthorized},
		{"/sessions?identity=local", "Bearer " + token + "0", http.StatusUnauthorized},
		{"/sessions", "Bearer " + token, http.StatusBadRequest},
		{"/sessions?identity=local", "Bearer " + token, http.StatusNoContent},
		{"/sessions?identity=nobody", "Bearer " + token, http.StatusNoContent},
	} {
		r := httptest.NewRequest(http.MethodDelete, c.target, nil)
		r.Header.Set("Authorization", c.authorization)
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != c.want {
			t.Errorf("%s %q: %d %s", c.target, c.authorization, w.Code, w.Body)
		}
	}
}

func TestAskProxy(t *testing.T) {
	status := http.StatusOK
	var asked string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.Method + " " + r.RequestURI + " " + r.Header.Get("Authorization")
		w.WriteHeader(status)
		if status != http.StatusNoContent {
			_, _ = w.Write([]byte("said\n"))
		}
	}))
	defer server.Close()
	cfg := &config.Config{StateDir: filepath.Join(t.TempDir(), "state")}
	cfg.Admin.Listen = server.Listener.Addr().String()
	if _, err := askProxy(t.Context(), cfg, http.MethodGet, "/x"); err == nil || !strings.Contains(err.Error(), "no proxy has run") {
		t.Errorf("without a token: %v", err)
	}
	token, err := adminToken(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		status int
		body   string
		err    string
	}{
		{http.StatusOK, "said\n", ""},
		{http.StatusNoContent, "", ""},
		{http.StatusUnauthorized, "", "refused: said"},
		{http.StatusMethodNotAllowed, "", "refused: said"}, // a proxy of another release
	} {
		status = c.status
		body, err := askProxy(t.Context(), cfg, http.MethodDelete, "/x?y=z")
		if string(body) != c.body || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) || asked != "DELETE /x?y=z Bearer "+token {
			t.Errorf("%d: %q, %v, asked %s", c.status, body, err, strings.ReplaceAll(asked, token, "TOKEN"))
		}
	}
	server.Close()
	if _, err := askProxy(t.Context(), cfg, http.MethodGet, "/x"); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("nobody there: %v", err)
	}
	cfg.Admin.Listen = ""
	if _, err := askProxy(t.Context(), cfg, http.MethodGet, "/x"); err == nil || !strings.Contains(err.Error(), "admin.listen is empty") {
		t.Errorf("no listener: %v", err)
	}
}
