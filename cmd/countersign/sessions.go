package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/countersign-proxy/countersign/config"
	"github.com/countersign-proxy/countersign/safefile"
)

func newSessions(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "sessions",
		Short: "List who holds what, until when, under which role",
		Long: "List the client credentials that the running proxy has handed out through STS and the\n" +
			"credentials endpoint, and the role sessions that it holds. Each replica lists its own.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.sessions(c.Context()) },
	}
}

// sessionList is what the running proxy answers, and what --output json prints.
type sessionList struct {
	Issued []issuedRow  `json:"issued"`
	Roles  []sessionRow `json:"role_sessions"`
}

type issuedRow struct {
	AccessKeyID string    `json:"access_key_id"`
	Identity    string    `json:"identity"`
	Role        string    `json:"role"`
	RoleARN     string    `json:"role_arn,omitempty"`
	SessionName string    `json:"session_name,omitempty"`
	Operation   string    `json:"operation"`
	Issued      time.Time `json:"issued"`
	Expires     time.Time `json:"expires"`
}

type sessionRow struct {
	Role        string    `json:"role"`
	Identity    string    `json:"identity"`
	RoleARN     string    `json:"role_arn"`
	SessionName string    `json:"session_name"`
	Expires     time.Time `json:"expires"`
}

func (a *app) sessions(ctx context.Context) error {
	cfg, err := a.load()
	if err != nil {
		return err
	}
	body, err := askProxy(ctx, cfg, http.MethodGet, "/sessions")
	if err != nil {
		return err
	}
	var list sessionList
	if err := json.Unmarshal(body, &list); err != nil {
		return fmt.Errorf("the answer of %s cannot be read: %w", cfg.Admin.Listen, err)
	}
	if a.output == "json" {
		return a.printJSON(list)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CLIENT KEY\tIDENTITY\tROLE\tBY\tUNTIL\tSESSION")
	for _, s := range list.Issued {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", s.AccessKeyID, s.Identity, s.Role, s.Operation, s.Expires.Local().Format(time.DateTime), dash(s.SessionName))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w, "\nROLE\tIDENTITY\tUNTIL\tSESSION\tARN")
	for _, s := range list.Roles {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", s.Role, s.Identity, s.Expires.Local().Format(time.DateTime), dash(s.SessionName), s.RoleARN)
	}
	return w.Flush()
}

// askProxy sends a request to the running proxy of a configuration, with the secret
// that shows it to be the same user's, and returns the body of the answer.
func askProxy(ctx context.Context, cfg *config.Config, method, target string) ([]byte, error) {
	token, err := safefile.ReadSecret(adminTokenFile(cfg))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no proxy has run with this configuration (%s is missing); start it with `countersign serve`, or give its configuration with --config", adminTokenFile(cfg))
	}
	if err != nil {
		return nil, err
	}
	if cfg.Admin.Listen == "" {
		return nil, errors.New("admin.listen is empty, so the running proxy cannot be asked")
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	base, transport := adminURL(cfg)
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, method, base+target, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	res, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		return nil, fmt.Errorf("the proxy does not answer on %s: %w", cfg.Admin.Listen, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 16<<20))
	if err != nil {
		return nil, err
	}
	if res.StatusCode/100 != 2 {
		return nil, fmt.Errorf("the proxy on %s refused: %s", cfg.Admin.Listen, strings.TrimSpace(string(body)))
	}
	return body, nil
}

// forgetSessions drops the role sessions that are held for an identity. Nothing is taken
// from anybody by it: who is still let in has them made again.
func (p *proxy) forgetSessions(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Query().Get("identity")
	if name == "" {
		http.Error(w, "whose sessions? say ?identity=NAME", http.StatusBadRequest)
		return
	}
	p.engine.Load().sessions.Forget(name)
	p.log.Info("role sessions were dropped", zap.String("identity", name))
	w.WriteHeader(http.StatusNoContent)
}

// listSessions answers the command of that name.
func (p *proxy) listSessions(w http.ResponseWriter, _ *http.Request) {
	e := p.engine.Load()
	list := sessionList{Issued: []issuedRow{}, Roles: []sessionRow{}}
	for _, i := range e.sts.Issued() {
		list.Issued = append(list.Issued, issuedRow(i))
	}
	for _, s := range e.sessions.Sessions() {
		list.Roles = append(list.Roles, sessionRow{s.Role, s.Principal, s.RoleARN, s.SessionName, s.Expires})
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(list) // the client may have left
}

// adminTokenFile holds the secret by which commands of the same user prove
// themselves to the running proxy.
func adminTokenFile(cfg *config.Config) string { return filepath.Join(cfg.StateDir, "admin.token") }

// adminToken reads the secret, or makes it on first use. Of two processes that
// do so at once, both use the one that was there first.
func adminToken(cfg *config.Config) (string, error) {
	path := adminTokenFile(cfg)
	if token, err := safefile.ReadSecret(path); !errors.Is(err, fs.ErrNotExist) {
		return token, err
	}
	if err := config.MakeStateDir(cfg.StateDir); err != nil {
		return "", err
	}
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand crashes the program instead
	// Without a newline: SDKs send the file as it is, and refuse one that has any.
	if err := safefile.Create(path, []byte(hex.EncodeToString(b[:]))); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return safefile.ReadSecret(path)
}

// withToken lets only those through who hold the secret.
func withToken(token string, h http.HandlerFunc) http.Handler {
	want := sha256.Sum256([]byte("Bearer " + token))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := sha256.Sum256([]byte(r.Header.Get("Authorization")))
		if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			http.Error(w, "this needs the secret in admin.token of the state directory", http.StatusUnauthorized)
			return
		}
		h(w, r)
	})
}
