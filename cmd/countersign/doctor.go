package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/spf13/cobra"

	"github.com/countersign-proxy/countersign/awsapi"
	"github.com/countersign-proxy/countersign/ca"
	"github.com/countersign-proxy/countersign/config"
	"github.com/countersign-proxy/countersign/identity"
	"github.com/countersign-proxy/countersign/rolesession"
)

func newDoctor(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Say what is wrong, and how to fix it",
		Long: "Check everything that has to be right: configuration, state, CA, source credentials, each\n" +
			"role's AssumeRole, the clock, the ports, and the environment of this shell. Nothing is\n" +
			"changed; STS is called once for the source credentials and once for each role.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.doctor(c.Context()) },
	}
}

// finding is what doctor says about one thing.
type finding struct {
	Check string `json:"check"`
	State string `json:"state"` // ok, warning, error
	Text  string `json:"text"`
	Mend  string `json:"mend,omitempty"`
}

// The states of a finding.
const (
	fine    = "ok"
	warning = "warning"
	broken  = "error"
)

// examination collects findings.
type examination struct{ findings []finding }

func (e *examination) add(check, state, text, mend string) {
	e.findings = append(e.findings, finding{check, state, text, mend})
}

func (a *app) doctor(ctx context.Context) error {
	e := &examination{}
	cfg, err := a.load()
	if err != nil {
		for _, line := range strings.Split(err.Error(), "\n") {
			e.add("configuration", broken, line, "see docs/configuration.md, or `countersign config example`")
		}
	} else {
		where := cfg.Path
		if where == "" {
			where = "none (defaults and environment)"
		}
		e.add("configuration", fine, where, "")
		g := newGrants(cfg, a.getenv)
		for _, err := range checkWiring(cfg, g) {
			e.add("configuration", broken, err.Error(), "")
		}
		e.state(cfg, a)
		e.authority(cfg)
		e.aws(ctx, cfg, g, a)
		e.listener(ctx, cfg)
		e.environment(cfg, a)
	}
	if a.output == "json" {
		if err := a.printJSON(e.findings); err != nil {
			return err
		}
	} else {
		for _, f := range e.findings {
			fmt.Fprintf(a.stdout, "%-8s %-20s %s\n", f.State, f.Check, strings.ReplaceAll(f.Text, "\n", "\n"+strings.Repeat(" ", 30)))
			if f.Mend != "" {
				fmt.Fprintf(a.stdout, "%30s→ %s\n", "", f.Mend)
			}
		}
	}
	for _, f := range e.findings {
		if f.State == broken {
			return &exitError{exitFindings, nil}
		}
	}
	return nil
}

// state looks at what is kept on disk.
func (e *examination) state(cfg *config.Config, a *app) {
	if err := config.CheckStateDir(cfg.StateDir); err != nil {
		e.add("state directory", broken, err.Error(), "chmod 700 "+cfg.StateDir)
		return
	}
	if _, err := os.Stat(cfg.StateDir); errors.Is(err, os.ErrNotExist) {
		e.add("state directory", fine, cfg.StateDir+" (made on first use)", "")
		return
	}
	e.add("state directory", fine, cfg.StateDir, "")
}

// authority looks at the CA.
func (e *examination) authority(cfg *config.Config) {
	authority, err := ca.Load(cfg.CA.Dir, authorityOptions(cfg))
	var caErr *ca.Error
	switch {
	case errors.As(err, &caErr) && caErr.Reason == ca.Missing:
		e.add("CA", fine, "made on first use, in "+cfg.CA.Dir, "")
	case err != nil:
		e.add("CA", broken, err.Error(), "")
	case authority.NeedsRotation():
		e.add("CA", warning, "expires "+authority.Expires().Format(time.RFC3339), "countersign ca rotate --overlap 24h, then give clients the new bundle")
	default:
		e.add("CA", fine, "valid until "+authority.Expires().Format(time.DateOnly), "")
	}
}

// aws looks at the source credentials, the clock and each role.
func (e *examination) aws(ctx context.Context, cfg *config.Config, g grants, a *app) {
	roots, err := upstreamRoots(a.getenv)
	if err != nil {
		e.add("trust", broken, err.Error(), "")
		return
	}
	transport, err := newTransport(cfg, roots)
	if err != nil {
		return // said under configuration
	}
	defer transport.CloseIdleConnections()
	source := aws.NewCredentialsCache(sourceCredentials(ctx, cfg, transport))
	roles, err := sessionRoles(g)
	if err != nil {
		return
	}
	m, err := rolesession.New(rolesession.Options{
		Roles: roles, Source: source, Profile: cfg.Source.Profile, Region: cfg.Source.STSRegion,
		HTTPClient: &http.Client{Transport: transport}, CallTimeout: 10 * time.Second,
	})
	if err != nil {
		return
	}
	defer m.Close()
	e.clock(ctx, cfg, transport)
	account, arn, err := m.Caller(ctx)
	if err != nil {
		e.add("source credentials", broken, err.Error(), "")
		return
	}
	e.add("source credentials", fine, fmt.Sprintf("%s in account %s", arn, account), "")
	if c, err := source.Retrieve(ctx); err == nil {
		e.sourceKind(c)
	}
	id, err := g.identity(a.identity)
	if err != nil {
		id = identity.Identity{Name: a.identity, Attributes: map[string]string{"user": osUser(a.getenv)}}
	}
	for _, name := range g.order {
		if g.roles[name].ARN == "" {
			continue
		}
		s, err := m.Credentials(ctx, name, rolesession.Principal{Name: id.Name, Attributes: id.Attributes})
		if err != nil {
			e.add("role "+name, broken, err.Error(), "")
			continue
		}
		e.add("role "+name, fine, fmt.Sprintf("%s as %s, until %s", s.RoleARN, s.SessionName, s.Credentials.Expires.Format(time.RFC3339)), "")
	}
}

// sourceKind warns of source credentials that end soon.
func (e *examination) sourceKind(c aws.Credentials) {
	if c.CanExpire && time.Until(c.Expires) < 15*time.Minute {
		e.add("source credentials", warning, "they expire at "+c.Expires.Format(time.RFC3339), "a proxy renews them if their source can (SSO, roles); environment variables cannot be renewed")
	}
}

// clock compares this machine's time with that of STS, since a signature is
// good for a few minutes only.
func (e *examination) clock(ctx context.Context, cfg *config.Config, transport http.RoundTripper) {
	host, ok := awsapi.EndpointFor("sts", cfg.Source.STSRegion)
	if !ok {
		e.add("STS", broken, "there is no STS endpoint in region "+cfg.Source.STSRegion, "set source.sts_region")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/", nil)
	if err != nil {
		return
	}
	before := time.Now()
	res, err := transport.RoundTrip(r)
	if err != nil {
		e.add("STS", broken, fmt.Sprintf("cannot reach %s: %v", host, err), "check the network, upstream.proxy, HTTPS_PROXY and NO_PROXY; a TLS error means that something in between inspects TLS: add its CA to AWS_CA_BUNDLE or SSL_CERT_FILE")
		return
	}
	_ = res.Body.Close()
	date, err := http.ParseTime(res.Header.Get("Date"))
	if err != nil {
		return
	}
	off := before.Add(time.Since(before) / 2).Sub(date).Round(time.Second)
	if off.Abs() > time.Minute {
		e.add("clock", broken, fmt.Sprintf("this machine is %v off the time of %s", off, host), "synchronise the clock (NTP); AWS refuses signatures that are minutes off")
		return
	}
	e.add("clock", fine, "agrees with "+host, "")
}

// listener looks whether the proxy runs, or could.
func (e *examination) listener(ctx context.Context, cfg *config.Config) {
	for _, x := range []struct{ key, address string }{
		{"listen", cfg.Listen}, {"endpoint.listen", cfg.Endpoint.Listen}, {"admin.listen", cfg.Admin.Listen}, {"metrics.listen", cfg.Metrics.Listen},
	} {
		if x.address == "" {
			continue
		}
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", x.address)
		if err == nil {
			_ = l.Close()
			e.add(x.key, fine, x.address+" is free: no proxy runs there", "")
			continue
		}
		if x.key == "listen" && isRunning(ctx, cfg) {
			e.add(x.key, fine, "a countersign proxy answers on "+x.address, "")
			continue
		}
		if x.key == "listen" {
			e.add(x.key, broken, fmt.Sprintf("%s cannot be used: %v", x.address, err), "stop the program that listens there, or choose another address for `listen`")
			continue
		}
		e.add(x.key, fine, x.address+" is in use (by the running proxy, if there is one)", "")
	}
}

// isRunning asks the listener of metrics whose they are.
func isRunning(ctx context.Context, cfg *config.Config) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	base, transport := listenerURL(cfg, healthAddress(cfg))
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/metrics", nil)
	if err != nil {
		return false
	}
	res, err := transport.RoundTrip(r)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	return err == nil && bytes.Contains(text, []byte("countersign_build_info"))
}

// environment looks at what clients started from this shell would do.
func (e *examination) environment(cfg *config.Config, a *app) {
	proxied := ""
	for _, name := range []string{"HTTPS_PROXY", "https_proxy"} {
		if _, ok := leadsTo(a.getenv(name), cfg.Listen); ok {
			proxied = name
		}
	}
	if proxied == "" {
		e.add("environment", fine, "this shell does not use the proxy (`countersign env` prints what it needs)", "")
		return
	}
	id := a.getenv("AWS_ACCESS_KEY_ID")
	switch {
	case identity.IsRealKeyID(id):
		e.add("environment", broken, "AWS_ACCESS_KEY_ID holds a key of AWS ("+identity.Mask(id)+"), which the proxy refuses", "eval \"$(countersign env)\"")
	case a.getenv("AWS_PROFILE") != "":
		e.add("environment", warning, "AWS_PROFILE is set and may win over the client credentials", "unset AWS_PROFILE")
	case id == "":
		e.add("environment", warning, proxied+" points at the proxy but there are no client credentials", "eval \"$(countersign env)\"")
	}
	if bundle := a.getenv("AWS_CA_BUNDLE"); bundle == "" {
		e.add("environment", broken, "AWS_CA_BUNDLE is not set, so clients do not trust the proxy's CA", "eval \"$(countersign env)\"")
	} else if !trusts(bundle, cfg) {
		e.add("environment", broken, bundle+" does not hold the proxy's CA", "eval \"$(countersign env)\"")
	}
	for _, entry := range strings.FieldsFunc(a.getenv("NO_PROXY")+","+a.getenv("no_proxy"), func(r rune) bool { return r == ',' || r == ' ' }) {
		if coversAWS(entry) {
			e.add("environment", broken, fmt.Sprintf("NO_PROXY holds %q, so calls to AWS go around the proxy", entry), "take it out of NO_PROXY")
		}
	}
}

// trusts says whether a bundle holds our root.
func trusts(bundle string, cfg *config.Config) bool {
	authority, err := ca.Load(cfg.CA.Dir, authorityOptions(cfg))
	if err != nil {
		return true // said under CA
	}
	text, err := os.ReadFile(bundle)
	return err == nil && strings.Contains(string(text), strings.TrimSpace(string(authority.RootPEM())))
}
