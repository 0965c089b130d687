package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign-proxy/countersign/ca"
	"github.com/countersign-proxy/countersign/config"
	"github.com/countersign-proxy/countersign/identity"
	"github.com/countersign-proxy/countersign/shell"
)

func newEnv(a *app) *cobra.Command {
	var role, format string
	var renew bool
	c := &cobra.Command{
		Use:   "env [--role R] [--format F]",
		Short: "Print settings for a running proxy",
		Long: "Print the environment that makes AWS tools use the proxy of this configuration.\nThe credentials in it expire after 12 hours. With --renew, programs fetch them from the\n" +
			"running proxy instead, and renew them by themselves.",
		Example: "  eval \"$(countersign env)\"\n  countersign env --format fish | source\n  countersign env --format powershell | Out-String | Invoke-Expression",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if a.output == "json" {
				format = "json"
			}
			w, ok := envFormats[format]
			if !ok {
				return usagef("--format is %q; it can be %s", format, strings.Join(sortedNames(envFormats), ", "))
			}
			s, cfg, err := a.clientSettings(role, renew)
			if err != nil {
				return err
			}
			s.Region = a.region(c.Context(), cfg)
			return w(a, s)
		},
	}
	c.Flags().StringVar(&role, "role", "", "`role` of the credentials (default: the identity's first)")
	c.Flags().BoolVar(&renew, "renew", false, "settings by which programs fetch and renew their credentials")
	c.Flags().StringVar(&format, "format", defaultShell(a), "bash, fish, powershell, cmd, dotenv or json")
	return c
}

func defaultShell(a *app) string {
	switch filepath.Base(a.getenv("SHELL")) {
	case "fish":
		return "fish"
	case "pwsh":
		return "powershell"
	}
	return "bash"
}

// mint makes client credentials for an identity of the configuration. Whoever
// can read the sealing key may do so: it is what the proxy itself trusts.
func (a *app) mint(cfg *config.Config, role string, lifetime time.Duration) (identity.Credentials, string, error) {
	g := newGrants(cfg, a.getenv)
	id, err := g.identity(a.identity)
	if err != nil {
		return identity.Credentials{}, "", err
	}
	if role, err = g.role(id, role); err != nil {
		return identity.Credentials{}, "", err
	}
	store, err := newIdentities(cfg, g, nil, nil)
	if err != nil {
		return identity.Credentials{}, "", err
	}
	if err := store.Ready(); err != nil {
		return identity.Credentials{}, "", err
	}
	now := time.Now()
	creds, err := store.Mint(identity.Grant{Identity: id, Role: role, Expires: now.Add(lifetime)})
	if err != nil {
		return identity.Credentials{}, "", err
	}
	// What a proxy would refuse, because the identity is revoked, is not handed out.
	if _, _, err := store.Lookup(creds.AccessKeyID, creds.SessionToken, now); err != nil {
		return identity.Credentials{}, "", fmt.Errorf("identity %q gets no credentials: %w", id.Name, err)
	}
	return creds, role, nil
}

// How long minted credentials live. Those of env are pasted and used for a
// working day; those of credential_process are renewed by the SDK.
const (
	envLifetime     = 12 * time.Hour
	processLifetime = time.Hour
)

// clientSettings are what a client of the configured proxy needs.
func (a *app) clientSettings(role string, renew bool) (settings, *config.Config, error) {
	cfg, err := a.load()
	if err != nil {
		return settings{}, nil, err
	}
	s := settings{ProxyURL: proxyURL(cfg)}
	var granted string
	if s.Credentials, granted, err = a.mint(cfg, role, envLifetime); err != nil {
		return settings{}, nil, err
	}
	s.ProxyURL = withCredentials(cfg, s.ProxyURL, s.Credentials)
	if renew {
		if cfg.Admin.Listen == "" || !config.LoopbackAddress(cfg.Admin.Listen) || a.identity != localIdentity {
			return settings{}, nil, errors.New("--renew is for the identity \"local\" and needs admin.listen on a loopback address, where the proxy hands out credentials")
		}
		if _, err := adminToken(cfg); err != nil {
			return settings{}, nil, err
		}
		s.Endpoint, s.TokenFile = "http://"+cfg.Admin.Listen+"/credentials?role="+url.QueryEscape(granted), adminTokenFile(cfg)
	}
	authority, err := openAuthority(cfg, authorityOptions(cfg))
	if err != nil {
		return settings{}, nil, err
	}
	s.Trust, err = a.publishTrust(authority, cfg)
	return s, cfg, err
}

// publishTrust writes the bundles that clients of the configured proxy use:
// beside the CA or, where that is a read-only mount, into the state directory.
// Both are closed to the users of the machine, and certificates are public: where
// systemd has made a folder for what the service tells others (RuntimeDirectory=,
// /run/countersign), they are written there as well.
func (a *app) publishTrust(authority *ca.Authority, cfg *config.Config) (trustFiles, error) {
	getenv := a.outerTrust(cfg)
	roots, err := ca.EnvironmentRoots(ca.TrustOptions{Getenv: getenv})
	if err != nil {
		return trustFiles{}, err
	}
	t, err := writeTrust(authority, cfg.CA.Dir, 0o600, roots, getenv)
	if errors.Is(err, fs.ErrPermission) || isReadOnly(err) {
		if err = config.MakeStateDir(cfg.StateDir); err == nil {
			t, err = writeTrust(authority, cfg.StateDir, 0o600, roots, getenv)
		}
	}
	if dir, _, _ := strings.Cut(a.getenv("RUNTIME_DIRECTORY"), ":"); dir != "" {
		_, forAll := writeTrust(authority, dir, 0o644, roots, getenv)
		err = errors.Join(err, forAll)
	}
	return t, err
}

// outerTrust hides variables that point at our own bundles, as they do in a
// shell that has taken up an earlier `env`: the bundle must not feed on itself.
func (a *app) outerTrust(cfg *config.Config) func(string) string {
	return func(name string) string {
		v := a.getenv(name)
		for _, dir := range []string{cfg.CA.Dir, cfg.StateDir} {
			if slices.Contains(ca.TrustVariables(), name) && filepath.Dir(v) == dir {
				return ""
			}
			if slices.Contains(ca.JavaVariables(), name) && strings.Contains(v, dir) {
				return ""
			}
		}
		return v
	}
}

// proxyURL is where clients find the proxy of a configuration.
func proxyURL(cfg *config.Config) string {
	scheme := "http"
	if cfg.TLS.Enabled() && !config.LoopbackAddress(cfg.Listen) {
		scheme = "https"
	}
	address := cfg.Listen
	if host, port, err := net.SplitHostPort(address); err == nil && everywhere(host) {
		address = net.JoinHostPort("127.0.0.1", port)
		if name, err := os.Hostname(); err == nil && scheme == "https" {
			address = net.JoinHostPort(name, port) // the certificate names the machine
		}
	}
	return scheme + "://" + address
}

// short are the settings that the AWS CLI and most SDKs need.
func (s settings) short() []variable {
	out := []variable{{"HTTPS_PROXY", s.ProxyURL}, {"NO_PROXY", strings.Join(noProxy, ",")}, {"AWS_CA_BUNDLE", s.Trust.Bundle}}
	return append(out, s.keys()...)
}

// unset are the variables to remove, of those that env knows by name.
func (s settings) unset(set []variable) []string {
	var out []string
	for _, name := range credentialVariables {
		if !slices.ContainsFunc(set, func(v variable) bool { return v.Name == name }) {
			out = append(out, name)
		}
	}
	if s.Endpoint != "" { // keys in the environment win over fetched ones
		out = append(out, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
	}
	return append(out, "AWS_ENDPOINT_URL")
}

// envFormats print settings for a shell, or for a program.
var envFormats = map[string]func(*app, settings) error{
	"bash": func(a *app, s settings) error {
		set := s.variables(a.getenv)
		for _, v := range set {
			fmt.Fprintln(a.stdout, shell.SetPOSIX(v.Name, v.Value))
		}
		fmt.Fprintf(a.stdout, "unset %s\n", strings.Join(s.unset(set), " "))
		return nil
	},
	"fish": func(a *app, s settings) error {
		set := s.variables(a.getenv)
		for _, v := range set {
			fmt.Fprintln(a.stdout, shell.SetFish(v.Name, v.Value))
		}
		for _, name := range s.unset(set) {
			fmt.Fprintf(a.stdout, "set -e %s\n", name)
		}
		return nil
	},
	"powershell": func(a *app, s settings) error {
		set := s.variables(a.getenv)
		for _, v := range set {
			fmt.Fprintln(a.stdout, shell.SetPowerShell(v.Name, v.Value))
		}
		for _, name := range s.unset(set) {
			fmt.Fprintf(a.stdout, "Remove-Item Env:%s -ErrorAction SilentlyContinue\n", name)
		}
		return nil
	},
	"cmd": func(a *app, s settings) error {
		set := s.variables(a.getenv)
		for _, v := range set {
			fmt.Fprintf(a.stdout, "set \"%s=%s\"\r\n", v.Name, strings.ReplaceAll(v.Value, "%", "%%"))
		}
		for _, name := range s.unset(set) {
			fmt.Fprintf(a.stdout, "set \"%s=\"\r\n", name)
		}
		return nil
	},
	"dotenv": func(a *app, s settings) error {
		for _, v := range s.variables(a.getenv) {
			fmt.Fprintf(a.stdout, "%s=%s\n", v.Name, quoteDotenv(v.Value))
		}
		return nil
	},
	"json": func(a *app, s settings) error {
		set := map[string]string{}
		variables := s.variables(a.getenv)
		for _, v := range variables {
			set[v.Name] = v.Value
		}
		return a.printJSON(map[string]any{"set": set, "unset": s.unset(variables), "expiration": s.Credentials.Expires.UTC().Format(time.RFC3339)})
	},
}

// quoteDotenv quotes where a reader of the file could take a value apart.
func quoteDotenv(v string) string {
	if strings.ContainsAny(v, " \t#'\"$\\|[]") {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`).Replace(v) + `"`
	}
	return v
}
