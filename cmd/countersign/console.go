package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/term"

	"github.com/countersign-proxy/countersign/audit"
	"github.com/countersign-proxy/countersign/config"
	"github.com/countersign-proxy/countersign/console"
	"github.com/countersign-proxy/countersign/identity"
	"github.com/countersign-proxy/countersign/policy"
	"github.com/countersign-proxy/countersign/rolesession"
	"github.com/countersign-proxy/countersign/shell"
)

func newConsole(a *app) *cobra.Command {
	var opt consoleOptions
	c := &cobra.Command{
		Use:   "console [--role R] [--destination U] [--print]",
		Short: "Sign in to the AWS console",
		Long: "Open the AWS console in a browser, signed in under a role. A running proxy of this\n" +
			"configuration prepares the sign-in; without one, this command does it with the source\n" +
			"credentials that it finds itself. What --print writes is a credential for fifteen\n" +
			"minutes: whoever opens it is the role.",
		Example: "  countersign console\n  countersign console --role deploy --destination s3\n" +
			"  countersign console --destination 'https://console.aws.amazon.com/ec2/home?region=eu-west-1#Instances:'\n" +
			"  countersign console --link",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.console(c.Context(), opt) },
	}
	c.Flags().StringVar(&opt.role, "role", "", "`role` to sign in as (default: choose, or the identity's first)")
	c.Flags().StringVar(&opt.destination, "destination", "", "`page` to open: a service such as s3, or the address of a console page")
	c.Flags().BoolVar(&opt.print, "print", false, "print the sign-in URL instead of opening a browser")
	c.Flags().BoolVar(&opt.link, "link", false, "print a one-time link to the running proxy's page of roles and activity instead")
	return c
}

type consoleOptions struct {
	role, destination string
	print, link       bool
}

func (a *app) console(ctx context.Context, opt consoleOptions) error {
	cfg, err := a.load()
	if err != nil {
		return err
	}
	g := newGrants(cfg, a.getenv)
	who, err := g.identity(a.identity)
	if err != nil {
		return err
	}
	store, err := newIdentities(cfg, g, nil, nil)
	if err != nil {
		return err
	}
	if err := store.Ready(); err != nil {
		return err
	}
	if opt.link {
		return a.consoleLink(ctx, cfg, store, who)
	}
	if opt.role == "" && len(who.Roles) > 1 && a.interactive() {
		if opt.role, err = a.pickRole(g, who); err != nil {
			return err
		}
	}
	role, err := g.role(who, opt.role)
	if err != nil {
		// The one who signs in refuses it as well, and records that.
		_, _ = a.signIn(ctx, cfg, g, store, who, opt.role, opt.destination)
		return err
	}
	got, err := a.signIn(ctx, cfg, g, store, who, role, opt.destination)
	if err != nil {
		return err
	}
	if a.output == "json" {
		return a.printJSON(got)
	}
	account := ""
	if got.Account != "" {
		account = " in account " + got.Account
	}
	until, layout := got.Until.Local(), "15:04"
	if until.Format(time.DateOnly) != time.Now().Format(time.DateOnly) {
		layout = "2006-01-02 15:04"
	}
	fmt.Fprintf(a.stderr, "Signed in as %s%s, until %s%s.\n", got.Role, account, until.Format(layout), sessionNote(got))
	if opt.print {
		_, err := fmt.Fprintln(a.stdout, got.URL)
		return err
	}
	return a.openOnce(ctx, got.URL, a.openBrowser)
}

// sessionNote says what decided how long a console session lasts.
func sessionNote(o console.Opened) string {
	notes := []string{o.Basis.Explain()}
	if o.Limited {
		notes = append(notes, "limited by a session policy")
	}
	return " (" + strings.Join(notes, "; ") + ")"
}

// signIn asks the running proxy for a sign-in, or prepares it here where none runs.
func (a *app) signIn(ctx context.Context, cfg *config.Config, g grants, store *identity.Store, who identity.Identity, role, destination string) (console.Opened, error) {
	region := a.getenv("AWS_REGION")
	if region == "" {
		region = a.getenv("AWS_DEFAULT_REGION")
	}
	base := ""
	if cfg.Admin.Listen != "" && config.LoopbackAddress(cfg.Admin.Listen) {
		base, _ = adminURL(cfg)
		got, err := console.Ask(ctx, base, store, who, role, destination, region)
		if !errors.Is(err, console.ErrNoServer) {
			return got, err
		}
		base = "" // there is no page that AWS could lead back to
	}
	state, err := consoleState(g)
	if err != nil {
		return console.Opened{}, err
	}
	roots, err := upstreamRoots(a.getenv)
	if err != nil {
		return console.Opened{}, err
	}
	transport, err := newTransport(cfg, roots)
	if err != nil {
		return console.Opened{}, err
	}
	defer transport.CloseIdleConnections()
	roles, err := sessionRoles(g)
	if err != nil {
		return console.Opened{}, err
	}
	client := &http.Client{Transport: transport}
	state.Sessions, err = rolesession.New(rolesession.Options{
		Roles: roles, Source: sourceCredentials(ctx, cfg, transport), Profile: cfg.Source.Profile, Region: cfg.Source.STSRegion, HTTPClient: client,
	})
	if err != nil {
		return console.Opened{}, err
	}
	defer state.Sessions.Close()
	state.Identities = store
	state.Federation = console.NewFederation(console.FederationOptions{Sessions: state.Sessions, Client: client, Region: cfg.Source.Region})
	where, err := a.execAudit(cfg)
	if err != nil {
		return console.Opened{}, err
	}
	record, err := audit.Open(where)
	if err != nil {
		return console.Opened{}, err
	}
	server, err := console.NewServer(console.Options{Current: func() console.State { return state }, Audit: record, Base: base})
	if err != nil {
		return console.Opened{}, errors.Join(err, record.Close(ctx))
	}
	login, err := server.SignIn(ctx, who, role, destination, region)
	server.Close()
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := errors.Join(err, record.Close(end)); err != nil {
		return console.Opened{}, err
	}
	return console.NewOpened(login), nil
}

// consoleLink prints a one-time link to the page of the running proxy.
func (a *app) consoleLink(ctx context.Context, cfg *config.Config, store *identity.Store, who identity.Identity) error {
	if cfg.Admin.Listen == "" || !config.LoopbackAddress(cfg.Admin.Listen) {
		return errors.New("one-time links work where admin.listen is on loopback; elsewhere people sign in with OpenID Connect (console.oidc)")
	}
	if cfg.Console.OIDC.Issuer != "" {
		return errors.New("people sign in with OpenID Connect here (console.oidc): open the page itself")
	}
	base, _ := adminURL(cfg)
	// A link is good for the proxy that runs, and not for one that is started later.
	if err := answering(ctx, base); err != nil {
		return fmt.Errorf("no proxy answers at %s (%w): start countersign serve with this configuration, which prints a link too", base, err)
	}
	link, err := console.NewLink(store, who, base, time.Now())
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stderr, "This link signs %s in, once, within %s:\n", who.Name, shortDuration(console.LinkLife))
	_, err = fmt.Fprintln(a.stdout, link)
	return err
}

// answering says why nobody answers HTTP at an address of this machine, or nil.
func answering(ctx context.Context, base string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/healthz", nil)
	if err != nil {
		return err
	}
	// Not through a proxy of the environment, which may be this one.
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

// interactive says whether somebody can be asked.
func (a *app) interactive() bool {
	for _, stream := range []any{a.stdin, a.stderr} {
		if f, ok := stream.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
			return false
		}
	}
	return true
}

// pickRole asks for one of the identity's roles, by number or name.
func (a *app) pickRole(g grants, who identity.Identity) (string, error) {
	width := 0
	for _, name := range who.Roles {
		width = max(width, len(name))
	}
	for i, name := range who.Roles {
		r := g.roles[name]
		about := r.ARN
		if about == "" {
			about = "the source credentials themselves"
		}
		for _, k := range sortedNames(r.Labels) {
			about += " " + k + "=" + r.Labels[k]
		}
		fmt.Fprintf(a.stderr, "%3d  %-*s  %s\n", i+1, width, name, printable(about))
	}
	in := bufio.NewReader(a.stdin)
	for range 5 {
		fmt.Fprintf(a.stderr, "Role [1: %s]: ", who.Roles[0])
		text, err := in.ReadString('\n')
		text = strings.TrimSpace(text)
		if n, bad := strconv.Atoi(text); bad == nil && n >= 1 && n <= len(who.Roles) {
			return who.Roles[n-1], nil
		}
		if slices.Contains(who.Roles, text) {
			return text, nil
		}
		if err != nil {
			break
		}
		if text == "" {
			return who.Roles[0], nil
		}
		fmt.Fprintf(a.stderr, "There is no %s; give a number or a name.\n", strconv.Quote(text))
	}
	return "", errors.New("no role was chosen")
}

// printable keeps what stands in a configuration from moving the cursor.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

const onceTimeout = 2 * time.Minute

// openOnce lets a browser have an address without showing it: command lines are seen
// by every user of a machine, and a sign-in URL is a credential. The browser is
// given an address on loopback that leads on once.
func (a *app) openOnce(ctx context.Context, target string, open func(ctx context.Context, address string) (ended <-chan error, err error)) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var b [20]byte
	rand.Read(b[:]) // never fails, see crypto/rand
	path := "/" + hex.EncodeToString(b[:])
	served := make(chan struct{})
	var once sync.Once
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.Path != path || r.Host != l.Addr().String() {
			http.NotFound(w, r)
			return
		}
		first := false
		once.Do(func() { first = true })
		if !first {
			http.Error(w, "This address led on once already. Run countersign console again.", http.StatusGone)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Referrer-Policy", "no-referrer")
		w.Header().Set("Location", target)
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusSeeOther)
		close(served)
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // ends with Shutdown
	}()
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = server.Shutdown(end)
		<-done
	}()
	ended, err := open(ctx, "http://"+l.Addr().String()+path)
	if err != nil {
		return fmt.Errorf("no browser can be opened here: %w; use --print", err)
	}
	ctx, cancel := context.WithTimeout(ctx, onceTimeout)
	defer cancel()
	for {
		select {
		case <-served:
			return nil
		case err := <-ended:
			select {
			case <-served:
				return nil
			default:
			}
			if err != nil {
				return fmt.Errorf("the browser ended before it asked for the page: %w; use --print to have the sign-in URL", err)
			}
			ended = nil // it handed the address to one that runs
		case <-ctx.Done():
			return errors.New("the browser did not ask for the page; use --print to have the sign-in URL")
		}
	}
}

// openBrowser starts the browser that the system or BROWSER names. ended says how it
// ended; it may stay.
func (a *app) openBrowser(ctx context.Context, address string) (ended <-chan error, err error) {
	var command []string
	switch {
	case a.getenv("BROWSER") != "":
		command = append(strings.Fields(a.getenv("BROWSER")), address)
	case runtime.GOOS == "darwin":
		command = []string{"open", address}
	case runtime.GOOS == "windows":
		command = []string{"rundll32", "url.dll,FileProtocolHandler", address}
	default:
		command = []string{"xdg-open", address}
	}
	path, err := exec.LookPath(command[0])
	if err != nil {
		return nil, err
	}
	c := exec.CommandContext(context.WithoutCancel(ctx), path, command[1:]...)
	if err := c.Start(); err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	go func() {
		err := c.Wait()
		if err != nil {
			err = fmt.Errorf("%s: %w", command[0], err)
		}
		done <- err
	}()
	return done, nil
}

func newLogout(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "logout",
		Short: "End all sessions of an identity",
		Long: "End the client credentials and page sign-ins of an identity that were made until now. AWS\n" +
			"console sessions that are open live until they expire.",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := a.load()
			if err != nil {
				return err
			}
			g := newGrants(cfg, a.getenv)
			who, err := g.identity(a.identity)
			if err != nil {
				return err
			}
			now := time.Now().UTC()
			err = revokeOwn(cfg)(identity.Revocation{Identity: who.Name, Before: &now, At: now, By: osUser(a.getenv), Note: "logout"})
			if err != nil {
				return err
			}
			fmt.Fprintf(a.stderr, "All sessions of %q that were made until now have ended here.\n"+
				"AWS console sessions live until they expire: sign out in the console too.\n", who.Name)
			return nil
		},
	}
}

// revokeOwn writes revocations that people make for themselves. A revocation of all
// that an identity holds would take its static pairs too, for good.
func revokeOwn(cfg *config.Config) func(identity.Revocation) error {
	return func(r identity.Revocation) error {
		if r.Identity != "" && len(cfg.Identities[r.Identity].Credentials) > 0 {
			return fmt.Errorf("identity %q has static credentials in the configuration, which would be revoked for good: revoke what was minted one by one (countersign sessions, countersign revoke ID)", r.Identity)
		}
		return identity.Revoke(cfg.Revocations, time.Now(), r)
	}
}

// consoleState is what the console needs of roles and identities. Identities,
// Sessions and Federation are left to the caller.
func consoleState(g grants) (console.State, error) {
	state := console.State{Boundaries: map[string]console.Document{}}
	document := func(path string) (console.Document, error) {
		text, err := os.ReadFile(path)
		if err != nil {
			return console.Document{}, err
		}
		d := console.Document{Name: filepath.Base(path), Text: text}
		_, err = policy.Parse(d.Name, text)
		return d, err
	}
	for _, name := range g.order {
		r := g.roles[name]
		role := console.Role{Name: name, ARN: r.ARN, Via: r.Via, Duration: r.Duration, Labels: r.Labels, Tags: sortedNames(r.Tags)}
		// What report lets through here, the console may do too.
		if r.Enforcement != config.Report {
			role.Limits = console.Limits{ReadOnly: r.ReadOnly, Regions: r.Regions, Services: r.Services}
			for _, path := range r.Policies {
				d, err := document(path)
				if err != nil {
					return state, fmt.Errorf("roles.%s.policies: %w", name, err)
				}
				role.Limits.Policies = append(role.Limits.Policies, d)
			}
		}
		if r.Federated() {
			role.Federate = &console.Federate{PolicyARNs: r.FederationPolicyARNs, Duration: r.FederationDuration}
			if r.FederationPolicy != "" {
				d, err := document(r.FederationPolicy)
				if err != nil {
					return state, fmt.Errorf("roles.%s.federation_policy: %w", name, err)
				}
				role.Federate.Policy = &d
			}
		}
		role.Limits.OwnPolicy = r.SessionPolicy != "" || len(r.SessionPolicyARNs) > 0 || r.FederationPolicy != "" || len(r.FederationPolicyARNs) > 0
		state.Roles = append(state.Roles, role)
	}
	for _, name := range sortedNames(g.identities) {
		if path := g.identities[name].Boundary; path != "" {
			d, err := document(path)
			if err != nil {
				return state, fmt.Errorf("identities.%s.boundary: %w", name, err)
			}
			state.Boundaries[path] = d
		}
	}
	return state, nil
}

// newConsoleServer makes the page of the admin listener, which listens on address.
func (p *proxy) newConsoleServer(cfg *config.Config, address string) (*console.Server, error) {
	var mu sync.Mutex
	var of *engine
	var state console.State
	take := func(e *engine) error {
		next, err := consoleState(e.grants)
		if err != nil {
			return err
		}
		next.Identities, next.Sessions = e.identities, e.sessions
		next.Federation = console.NewFederation(console.FederationOptions{Sessions: e.sessions, Client: &http.Client{Transport: e.transport}, Region: e.cfg.Source.Region})
		of, state = e, next
		return nil
	}
	if err := take(p.engine.Load()); err != nil {
		return nil, err
	}
	local := config.LoopbackAddress(cfg.Admin.Listen)
	opt := console.Options{
		Audit: p.audit, Local: local, Base: consoleBase(cfg, address), Revoke: revokeOwn(cfg),
		Current: func() console.State {
			mu.Lock()
			defer mu.Unlock()
			if e := p.engine.Load(); e != of {
				// A policy file that vanished since the reload: nobody has a role.
				if err := take(e); err != nil {
					p.log.Error("the console offers no role", zap.Error(err))
					return console.State{Identities: e.identities, Sessions: e.sessions, Federation: state.Federation}
				}
			}
			return state
		},
		Terminal: console.Terminal{ProxyURL: proxyURL(cfg),
			ProxyFor: func(c identity.Credentials) string {
				now := p.engine.Load().cfg
				return withCredentials(now, proxyURL(now), c)
			},
			NoProxy: strings.Join(noProxy, ","), Region: cfg.Source.Region,
			Bundle: p.trust.Bundle, CA: func() []byte { return p.authority.Load().RootPEM() }},
	}
	if cfg.Path != "" {
		opt.Terminal.Flags = "--config " + shell.QuotePOSIX(cfg.Path)
	}
	if o := cfg.Console.OIDC; o.Issuer != "" {
		secret := ""
		if o.ClientSecretFile != "" {
			var err error
			if secret, err = config.ReadSecret(o.ClientSecretFile); err != nil {
				return nil, err
			}
		}
		opt.OIDC = &console.OIDC{Issuer: o.Issuer, ClientID: o.ClientID, ClientSecret: secret, RedirectURL: o.RedirectURL, Scopes: o.Scopes,
			Client: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) { return p.engine.Load().issuers[o.Issuer].RoundTrip(r) })}}
	}
	return console.NewServer(opt)
}

// roundTrip is a transport that is looked up at each request.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// consoleBase is how people reach the admin listener.
func consoleBase(cfg *config.Config, address string) string {
	if u, err := url.Parse(cfg.Console.OIDC.RedirectURL); err == nil && u.Host != "" {
		return u.Scheme + "://" + u.Host
	}
	base, _ := adminURL(cfg)
	u, err := url.Parse(base)
	_, port, split := net.SplitHostPort(address)
	if err != nil || split != nil {
		return base
	}
	host := u.Hostname()
	if len(cfg.Admin.Hosts) > 0 && !config.LoopbackAddress(cfg.Admin.Listen) {
		host = cfg.Admin.Hosts[0]
	}
	return u.Scheme + "://" + net.JoinHostPort(host, port)
}
