package main

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/countersign-proxy/countersign/config"
	"github.com/countersign-proxy/countersign/identity"
	"github.com/countersign-proxy/countersign/pipeline"
	"github.com/countersign-proxy/countersign/policy"
	"github.com/countersign-proxy/countersign/rolesession"
	"github.com/countersign-proxy/countersign/safefile"
	"github.com/countersign-proxy/countersign/virtualsts"
)

// Names that exist without being configured.
const (
	localIdentity = "local"  // whoever can read this user's files
	sourceRole    = "source" // the source credentials themselves
)

// anyRole lets a client chain from a role that nobody configured: like its
// calls, such a role is limited by AWS alone, which is to say by the trust
// policies of the roles that it asks for.
var anyRole = []string{"arn:*:iam::*:role/*"}

// grants are the roles and identities in force: what the configuration says,
// and what a laptop needs without one.
type grants struct {
	roles      map[string]config.Role
	order      []string // of roles
	identities map[string]config.Identity
}

// newGrants adds to the configuration what it leaves implicit. Without any role
// there is one that signs with the source credentials. On a loopback listener,
// the identity "local" stands for the operating system's user and may use every
// role, unless the configuration defines it or any other identity: then who may
// use what has been decided on purpose.
func newGrants(cfg *config.Config, getenv func(string) string) grants {
	g := grants{roles: map[string]config.Role{}, order: cfg.RoleNames(), identities: map[string]config.Identity{}}
	for name, r := range cfg.Roles {
		g.roles[name] = r
	}
	if len(g.roles) == 0 {
		g.addRole(sourceRole, config.Role{Enforcement: config.Enforce, Assume: anyRole})
	}
	for name, id := range cfg.Identities {
		g.identities[name] = id
	}
	if len(g.identities) == 0 && len(cfg.Issuers) == 0 && config.LoopbackAddress(cfg.Listen) {
		g.addLocal(getenv)
	}
	return g
}

func (g *grants) addRole(name string, r config.Role) {
	g.roles[name] = r
	g.order = append(g.order, name)
}

// addLocal lets the operating system's user use every role.
func (g *grants) addLocal(getenv func(string) string) {
	g.identities[localIdentity] = config.Identity{
		Attributes: map[string]string{"user": osUser(getenv)},
		Roles:      slices.Clone(g.order),
	}
}

// osUser is the name of the operating system's user.
func osUser(getenv func(string) string) string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		name := u.Username
		if i := strings.LastIndexByte(name, '\\'); i >= 0 { // DOMAIN\name
			name = name[i+1:]
		}
		return name
	}
	for _, name := range []string{"USER", "USERNAME", "LOGNAME"} {
		if v := getenv(name); v != "" {
			return v
		}
	}
	return "unknown"
}

// identity returns a configured or implicit identity.
func (g *grants) identity(name string) (identity.Identity, error) {
	id, ok := g.identities[name]
	if !ok {
		names := sortedNames(g.identities)
		if len(names) == 0 {
			return identity.Identity{}, fmt.Errorf("there is no identity %q, and none is configured", name)
		}
		return identity.Identity{}, fmt.Errorf("there is no identity %q; --identity takes one of: %s", name, strings.Join(names, ", "))
	}
	return identityOf(name, id), nil
}

func identityOf(name string, id config.Identity) identity.Identity {
	return identity.Identity{Name: name, Attributes: id.Attributes, Roles: id.Roles, Boundary: id.Boundary}
}

// role resolves --role for an identity: a configured name, the ARN of a
// configured role, or "" for the identity's default.
func (g *grants) role(id identity.Identity, role string) (string, error) {
	if len(id.Roles) == 0 {
		return "", fmt.Errorf("identity %q may not use any role; give it some in identities.%s.roles", id.Name, id.Name)
	}
	if role == "" {
		return id.Roles[0], nil
	}
	for _, name := range id.Roles {
		if name == role || g.roles[name].ARN == role && role != "" {
			return name, nil
		}
	}
	return "", fmt.Errorf("identity %q may not use the role %q; it may use: %s", id.Name, role, strings.Join(id.Roles, ", "))
}

func sortedNames[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for name := range m {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// issuerTimeout bounds one fetch from an OIDC issuer.
const issuerTimeout = 15 * time.Second

// newIdentities makes the store of client credentials.
// transports reach OIDC issuers, by URL; nil: none will be asked.
func newIdentities(cfg *config.Config, g grants, static []identity.Static, transports map[string]http.RoundTripper) (*identity.Store, error) {
	out := identity.Options{Static: slices.Clone(static)}
	var err error
	if out.Issuers, err = newIssuers(cfg, g, transports); err != nil {
		return nil, err
	}
	for _, name := range sortedNames(g.identities) {
		id := g.identities[name]
		out.Identities = append(out.Identities, identityOf(name, id))
		for _, c := range id.Credentials {
			secret, err := safefile.ReadSecret(c.SecretAccessKeyFile)
			if err != nil {
				return nil, err
			}
			out.Static = append(out.Static, identity.Static{AccessKeyID: c.AccessKeyID, SecretAccessKey: secret, Identity: name, Role: c.Role})
		}
	}
	if static != nil {
		// A private proxy (exec) needs no files: what it mints for its child dies
		// with it.
		key, err := identity.GenerateSealingKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		out.SealingKeys = []identity.SealingKey{key}
		return identity.New(out)
	}
	if out.SealingKeys, err = sealingKeys(cfg); err != nil {
		return nil, err
	}
	if out.Revocations, err = identity.OpenRevocations(cfg.Revocations); err != nil {
		return nil, err
	}
	return identity.New(out)
}

// newIssuers makes the OIDC issuers. transports reach them, by URL.
func newIssuers(cfg *config.Config, g grants, transports map[string]http.RoundTripper) ([]*identity.Issuer, error) {
	var out []*identity.Issuer
	for _, i := range cfg.Issuers {
		opt := identity.IssuerOptions{
			URL: i.URL, JWKSURL: i.JWKSURL, Audience: i.Audience, Match: claimPatterns(i.Match), Identity: i.Identity,
			Attributes: i.Attributes, Roles: i.Roles, RoleName: g.roleName,
			HTTPClient: &http.Client{Transport: transports[i.URL], Timeout: issuerTimeout},
		}
		if i.TokenFile != "" {
			opt.Token = func() (string, error) { return safefile.ReadToken(i.TokenFile) }
		}
		issuer, err := identity.NewIssuer(opt)
		if err != nil {
			return nil, err
		}
		out = append(out, issuer)
	}
	return out, nil
}

func claimPatterns(match map[string]config.Strings) map[string][]string {
	out := make(map[string][]string, len(match))
	for claim, patterns := range match {
		out[claim] = patterns
	}
	return out
}

// roleName finds the configured role that a name or an ARN means.
func (g grants) roleName(nameOrARN string) (string, bool) {
	if _, ok := g.roles[nameOrARN]; ok {
		return nameOrARN, true
	}
	for _, name := range g.order {
		if g.roles[name].ARN == nameOrARN && nameOrARN != "" {
			return name, true
		}
	}
	return "", false
}

// sealingKeys reads the keys of the configuration, or the one of the state
// directory, which is made on first use.
func sealingKeys(cfg *config.Config) ([]identity.SealingKey, error) {
	if len(cfg.SealingKeys) == 0 {
		if err := config.MakeStateDir(cfg.StateDir); err != nil {
			return nil, err
		}
		k, err := identity.LoadOrCreateSealingKey(filepath.Join(cfg.StateDir, "sealing.key"), rand.Reader)
		if err != nil {
			return nil, err
		}
		return []identity.SealingKey{k}, nil
	}
	var keys []identity.SealingKey
	for _, path := range cfg.SealingKeys {
		k, err := identity.LoadSealingKey(path)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// sessionRoles are the roles as rolesession takes them.
func sessionRoles(g grants) (map[string]rolesession.Role, error) {
	out := make(map[string]rolesession.Role, len(g.roles))
	for name, r := range g.roles {
		entry := rolesession.Role{
			Name: name, ARN: r.ARN, Via: r.Via, ExternalID: r.ExternalID, Duration: r.Duration,
			SessionName: r.SessionName, SourceIdentity: r.SourceIdentity, Tags: r.Tags,
			SessionPolicyARNs: r.SessionPolicyARNs, ClientSessionName: r.ClientSessionName,
		}
		if r.SessionPolicy != "" {
			text, err := os.ReadFile(r.SessionPolicy)
			if err != nil {
				return nil, fmt.Errorf("roles.%s.session_policy: %w", name, err)
			}
			entry.SessionPolicy = string(text)
		}
		out[name] = entry
	}
	return out, nil
}

// virtualRoles are the roles as virtualsts takes them.
func virtualRoles(g grants) map[string]virtualsts.Role {
	out := make(map[string]virtualsts.Role, len(g.roles))
	for name, r := range g.roles {
		out[name] = virtualsts.Role{ARN: r.ARN, Assume: r.Assume, SAML: r.SAML}
	}
	return out
}

// pipelineRoles compiles the policies of every role, alone and with the
// boundary of each identity that may use it.
func pipelineRoles(g grants) (map[string]pipeline.Role, error) {
	files := map[string]*policy.Policy{}
	load := func(path string) (*policy.Policy, error) {
		if p, ok := files[path]; ok {
			return p, nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		p, err := policy.Parse(filepath.Base(path), text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		files[path] = p
		return p, nil
	}
	out := make(map[string]pipeline.Role, len(g.roles))
	for name, r := range g.roles {
		opt := policy.Options{Name: name, ReadOnly: r.ReadOnly, Regions: r.Regions, Services: r.Services}
		for _, path := range r.Policies {
			p, err := load(path)
			if err != nil {
				return nil, fmt.Errorf("roles.%s.policies: %w", name, err)
			}
			opt.Policies = append(opt.Policies, p)
		}
		sets := map[string]*policy.Set{}
		boundaries := []string{""}
		for _, id := range g.identities {
			if id.Boundary != "" && slices.Contains(id.Roles, name) && !slices.Contains(boundaries, id.Boundary) {
				boundaries = append(boundaries, id.Boundary)
			}
		}
		for _, path := range boundaries {
			bounded := opt
			if path != "" {
				b, err := load(path)
				if err != nil {
					return nil, fmt.Errorf("boundary: %w", err)
				}
				bounded.Boundary = b
			}
			set, err := policy.Compile(bounded)
			if err != nil {
				return nil, err
			}
			sets[path] = set
		}
		out[name] = pipeline.Role{
			ARN: r.ARN, Policed: len(r.Policies) > 0 || len(boundaries) > 1, Report: r.Enforcement == config.Report,
			Judge: func(boundary string) (*policy.Set, error) {
				set, ok := sets[boundary]
				if !ok {
					return nil, fmt.Errorf("the boundary %s was not loaded for the role", filepath.Base(boundary))
				}
				return set, nil
			},
		}
	}
	return out, nil
}
