package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/countersign-proxy/countersign/audit"
	"github.com/countersign-proxy/countersign/config"
	"github.com/countersign-proxy/countersign/console"
	"github.com/countersign-proxy/countersign/identity"
	"github.com/countersign-proxy/countersign/rolesession"
	"github.com/countersign-proxy/countersign/words"
)

func newConsole(a *app) *cobra.Command {
	var opt consoleOptions
	c := &cobra.Command{
		Use:   "console [--role R] [--destination U] [--print]",
		Short: "Sign in to the AWS console",
		Long: "Open the AWS console in a browser, signed in under a role. A running proxy of this\n" +
			"configuration prepares the sign-in; without one, this command does so itself, with the\n" +
			"source credentials that it finds. What --print writes is a credential for fifteen\n" +
			"minutes: whoever opens it is signed in as the role.",
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
	fmt.Fprintf(a.stderr, "This link signs %s in, once, within %s:\n", who.Name, words.Duration(console.LinkLife))
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
