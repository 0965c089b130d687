package identity

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	// MaxWebIdentityToken is the largest OIDC token that is looked at, in bytes;
	// STS has the same limit.
	MaxWebIdentityToken = 20000
	tokenLeeway         = time.Minute // clocks of issuer and proxy
)

// tokenAlgorithms are those whose keys are public. Neither "none" nor the HMAC
// algorithms are among them, so a public key is never taken for a shared secret
// (RFC 8725 sections 2.1 and 3.1).
var tokenAlgorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
	jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// IssuerOptions say which tokens of an OIDC issuer are accepted and whom they
// stand for. URL and Audience are required.
//
// Identity, Roles and the values of Attributes are text/template templates over
// .Claims, such as `{{ .Claims.sub }}` or `{{ index .Claims "kubernetes.io" "namespace" }}`.
// A claim that is missing refuses the token.
type IssuerOptions struct {
	URL      string   // exactly as the tokens' "iss" has it
	Audience []string // one of them must be in the token's "aud"
	// Match holds conditions on claims, all of which must be met: a claim's name,
	// or an RFC 6901 pointer into nested claims (/kubernetes.io/namespace), and
	// patterns of which one must fit, where * stands for any characters (also for
	// none, and for separators) and ? for one. Of a list, one element must fit.
	Match      map[string][]string
	Identity   string // "" is {{ .Claims.sub }}
	Attributes map[string]string
	// Roles render to names of configured roles or role ARNs, separated by white
	// space or commas. Those that RoleName does not know are left out.
	Roles    []string
	Boundary string // of every identity that the issuer vouches for

	// RoleName turns what Roles rendered to into the name of a configured role.
	// Nil: it is that name.
	RoleName func(nameOrARN string) (name string, ok bool)

	JWKSURL string // "": as the issuer's discovery document says
	// Token, if not nil, returns the bearer token by which discovery document and
	// key set are read; it is called for each fetch. It goes to the issuer, to
	// JWKSURL and to where the discovery document says, by https alone: HTTPClient
	// must trust none but the issuer's own authority.
	Token func() (string, error)
	// HTTPClient reaches the issuer; nil is http.DefaultClient's transport.
	// Redirects are not followed.
	HTTPClient *http.Client
}

// Issuer turns the tokens of one OIDC issuer into identities. It is safe for
// concurrent use; its keys are kept between uses, so keep it across reloads
// whose options are the same.
type Issuer struct {
	opt        IssuerOptions
	keys       *keySet
	match      []condition
	identity   *template.Template
	attributes map[string]*template.Template
	roles      []*template.Template
}

type condition struct {
	claim    string
	patterns []string
}

// NewIssuer checks the options. Nothing is fetched before the first token.
func NewIssuer(opt IssuerOptions) (*Issuer, error) {
	fail := func(format string, args ...any) (*Issuer, error) {
		return nil, fmt.Errorf("issuers: %s: %s", opt.URL, fmt.Sprintf(format, args...))
	}
	if len(opt.URL) > MaxNameLength {
		return fail("url: longer than %d bytes", MaxNameLength)
	}
	if err := checkIssuerURL(opt.URL); err != nil {
		return fail("url: %v", err)
	}
	if opt.JWKSURL != "" {
		if err := checkIssuerURL(opt.JWKSURL); err != nil {
			return fail("jwks_url: %v", err)
		}
	}
	if len(opt.Audience) == 0 || slices.Contains(opt.Audience, "") {
		return fail("audience: at least one is needed, so that tokens made for somebody else are refused")
	}
	if len(opt.Roles) == 0 {
		return fail("roles: at least one is needed")
	}
	if len(opt.Attributes) > MaxAttributes || len(opt.Roles) > MaxRoles {
		return fail("at most %d attributes and %d roles", MaxAttributes, MaxRoles)
	}
	i := &Issuer{opt: opt, attributes: make(map[string]*template.Template, len(opt.Attributes))}
	for _, claim := range slices.Sorted(maps.Keys(opt.Match)) {
		if claim == "" || len(opt.Match[claim]) == 0 {
			return fail("match: %q: expected a claim and at least one pattern", claim)
		}
		i.match = append(i.match, condition{claim, opt.Match[claim]})
	}
	if opt.Identity == "" {
		opt.Identity = "{{ .Claims.sub }}"
	}
	var err error
	if i.identity, err = parseClaimTemplate(opt.Identity); err != nil {
		return fail("identity: %v", err)
	}
	for k, v := range opt.Attributes {
		if i.attributes[k], err = parseClaimTemplate(v); err != nil {
			return fail("attributes: %s: %v", k, err)
		}
	}
	for _, r := range opt.Roles {
		t, err := parseClaimTemplate(r)
		if err != nil {
			return fail("roles: %v", err)
		}
		i.roles = append(i.roles, t)
	}
	i.keys = newKeySet(opt.URL, opt.JWKSURL, opt.Token, opt.HTTPClient)
	return i, nil
}

// URL is the issuer's identifier, as its tokens carry it in "iss".
func (i *Issuer) URL() string { return i.opt.URL }

// checkIssuerURL demands TLS, except of this machine's own loopback.
func checkIssuerURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return errors.New("expected an https URL")
	}
	ip := net.ParseIP(u.Hostname())
	if u.Scheme == "https" || (u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback())) {
		return nil
	}
	return errors.New("expected an https URL: keys that arrive unprotected could be anybody's")
}

func parseClaimTemplate(text string) (*template.Template, error) {
	t, err := template.New("").Option("missingkey=error").Parse(text)
	if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "template: :"))
	}
	return t, nil
}

// TokenReason says why an OIDC token was not accepted. The set is closed.
type TokenReason string

// The reasons.
const (
	TokenMalformed     TokenReason = "malformed"      // no signed token of an accepted algorithm
	TokenUnknownIssuer TokenReason = "unknown_issuer" // not one that is configured
	TokenBadSignature  TokenReason = "bad_signature"
	TokenExpired       TokenReason = "expired"
	TokenWrong         TokenReason = "wrong"       // audience or times
	TokenNoMatch       TokenReason = "no_match"    // genuine, but nobody that is let in
	TokenRevoked       TokenReason = "revoked"     // genuine, but the identity was revoked
	TokenUnavailable   TokenReason = "unavailable" // the issuer's keys or the revocations cannot be had
)

// TokenError says why an OIDC token was not accepted. The message holds nothing
// of the token but, of a genuine one, names.
type TokenError struct {
	Reason  TokenReason
	Issuer  string // configured issuer, once known
	Message string
}

func (e *TokenError) Error() string { return e.Message }

// WebIdentity is whom a genuine OIDC token stands for.
type WebIdentity struct {
	Identity Identity
	Subject  string    // "sub"
	Audience string    // the one of "aud" that was accepted
	Expires  time.Time // "exp"
}

// WebIdentity verifies an OIDC token and returns whom it stands for by the rules
// of its issuer. Errors are of type *[TokenError], or the context's.
func (s *Store) WebIdentity(ctx context.Context, token string, now time.Time) (WebIdentity, error) {
	refuse := func(reason TokenReason, issuer, format string, args ...any) (WebIdentity, error) {
		return WebIdentity{}, &TokenError{Reason: reason, Issuer: issuer, Message: fmt.Sprintf(format, args...)}
	}
	if err := s.revocations.ready(now); err != nil {
		return refuse(TokenUnavailable, "", "No credentials are accepted: %v.", err)
	}
	if len(token) > MaxWebIdentityToken {
		return refuse(TokenMalformed, "", "The web identity token is longer than %d bytes.", MaxWebIdentityToken)
	}
	parsed, err := jwt.ParseSigned(token, tokenAlgorithms)
	if err != nil || len(parsed.Headers) != 1 {
		return refuse(TokenMalformed, "", "The web identity token is not a JSON web token signed with a public-key algorithm.")
	}
	var claimed struct {
		Issuer string `json:"iss"`
	}
	if err := parsed.UnsafeClaimsWithoutVerification(&claimed); err != nil {
		return refuse(TokenMalformed, "", "The web identity token holds no claims that can be read.")
	}
	issuer := s.issuers[claimed.Issuer]
	if issuer == nil {
		return refuse(TokenUnknownIssuer, "", "The issuer of the web identity token is not one that this proxy is configured for.")
	}
	who, err := issuer.verify(ctx, parsed, now)
	if err != nil {
		return WebIdentity{}, err
	}
	if _, taken := s.identities[who.Identity.Name]; taken {
		return refuse(TokenNoMatch, issuer.URL(), "The web identity token stands for %q, which is the name of a configured identity.", who.Identity.Name)
	}
	if s.revocations.revoked(Grant{Identity: who.Identity, Issued: now, Expires: who.Expires}) {
		return refuse(TokenRevoked, issuer.URL(), "The identity %q was revoked.", who.Identity.Name)
	}
	return who, nil
}

// verify holds a token against keys, times, audience and conditions, in this order.
func (i *Issuer) verify(ctx context.Context, token *jwt.JSONWebToken, now time.Time) (WebIdentity, error) {
	refuse := func(reason TokenReason, format string, args ...any) (WebIdentity, error) {
		return WebIdentity{}, &TokenError{Reason: reason, Issuer: i.URL(), Message: fmt.Sprintf(format, args...)}
	}
	header := token.Headers[0]
	keys, err := i.keys.find(ctx, header.KeyID, header.Algorithm, now)
	if ctx.Err() != nil {
		return WebIdentity{}, ctx.Err()
	}
	if err != nil {
		return refuse(TokenUnavailable, "The keys of the issuer %s are not available: %v.", i.URL(), err)
	}
	var std jwt.Claims
	var claims map[string]any
	verified := false
	for _, k := range keys {
		if token.Claims(k, &std, &claims) == nil {
			verified = true
			break
		}
	}
	if !verified {
		return refuse(TokenBadSignature, "The web identity token is not signed by %s.", i.URL())
	}
	if std.Issuer != i.URL() {
		return refuse(TokenWrong, "The web identity token was not issued by %s.", i.URL())
	}
	audience := ""
	for _, a := range i.opt.Audience {
		if std.Audience.Contains(a) {
			audience = a
			break
		}
	}
	switch {
	case audience == "":
		return refuse(TokenWrong, "The web identity token was issued for another audience; this proxy accepts %s.", quoted(i.opt.Audience))
	case std.Expiry == nil:
		return refuse(TokenWrong, "The web identity token has no expiry.")
	case !now.Before(std.Expiry.Time()):
		return refuse(TokenExpired, "The web identity token expired at %s.", std.Expiry.Time().UTC().Format(time.RFC3339))
	case std.NotBefore != nil && now.Add(tokenLeeway).Before(std.NotBefore.Time()),
		std.IssuedAt != nil && now.Add(tokenLeeway).Before(std.IssuedAt.Time()):
		return refuse(TokenWrong, "The web identity token is not valid yet: the issuer's clock or this proxy's is wrong.")
	}
	for _, c := range i.match {
		if !c.met(claims) {
			return refuse(TokenNoMatch, "The web identity token is genuine, but its claim %q does not match the rules for %s.", c.claim, i.URL())
		}
	}
	id, err := i.identify(claims)
	if err != nil {
		return refuse(TokenNoMatch, "The web identity token is genuine, but the rules for %s give it no identity: %v.", i.URL(), err)
	}
	return WebIdentity{Identity: id, Subject: std.Subject, Audience: audience, Expires: std.Expiry.Time().UTC()}, nil
}

// identify renders the identity of verified claims.
func (i *Issuer) identify(claims map[string]any) (Identity, error) {
	id := Identity{Issuer: i.URL(), Boundary: i.opt.Boundary, Attributes: make(map[string]string, len(i.attributes))}
	var err error
	if id.Name, err = renderClaims(i.identity, claims); err != nil {
		return Identity{}, fmt.Errorf("identity: %w", err)
	}
	for k, t := range i.attributes {
		if id.Attributes[k], err = renderClaims(t, claims); err != nil {
			return Identity{}, fmt.Errorf("attributes: %s: %w", k, err)
		}
	}
	for _, t := range i.roles {
		text, err := renderClaims(t, claims)
		if err != nil {
			return Identity{}, fmt.Errorf("roles: %w", err)
		}
		for _, r := range strings.FieldsFunc(text, func(c rune) bool { return c == ',' || c == ' ' || c == '\t' || c == '\n' || c == '\r' }) {
			if i.opt.RoleName != nil {
				var ok bool
				if r, ok = i.opt.RoleName(r); !ok {
					continue
				}
			}
			if !id.HasRole(r) {
				id.Roles = append(id.Roles, r)
			}
		}
	}
	if len(id.Roles) == 0 {
		return Identity{}, errors.New("roles: none that is configured")
	}
	return id, checkIdentity(id)
}

// maxClaimText bounds what a template may write, in bytes.
const maxClaimText = 64 << 10

type boundedText struct{ b strings.Builder }

func (w *boundedText) Write(p []byte) (int, error) {
	if w.b.Len()+len(p) > maxClaimText {
		return 0, fmt.Errorf("longer than %d bytes", maxClaimText)
	}
	return w.b.Write(p)
}

func renderClaims(t *template.Template, claims map[string]any) (string, error) {
	var w boundedText
	if err := t.Execute(&w, struct{ Claims map[string]any }{claims}); err != nil {
		text := err.Error()
		if _, after, ok := strings.Cut(text, `executing "" `); ok {
			text = after
		}
		return "", errors.New(text)
	}
	// What index finds in a map that lacks the key prints as this.
	if strings.Contains(w.b.String(), "<no value>") {
		return "", errors.New("a claim is missing")
	}
	return w.b.String(), nil
}

func (c condition) met(claims map[string]any) bool {
	value, ok := claimAt(claims, c.claim)
	if !ok {
		return false
	}
	list, isList := value.([]any)
	if !isList {
		list = []any{value}
	}
	for _, v := range list {
		text, ok := claimText(v)
		if !ok {
			continue
		}
		for _, p := range c.patterns {
			if Wildcard(p, text) {
				return true
			}
		}
	}
	return false
}

// claimAt finds a claim by name or, after a slash, by JSON pointer.
func claimAt(claims map[string]any, path string) (any, bool) {
	if !strings.HasPrefix(path, "/") {
		v, ok := claims[path]
		return v, ok
	}
	var at any = claims
	for _, step := range strings.Split(path[1:], "/") {
		step = strings.NewReplacer("~1", "/", "~0", "~").Replace(step)
		object, ok := at.(map[string]any)
		if !ok {
			return nil, false
		}
		if at, ok = object[step]; !ok {
			return nil, false
		}
	}
	return at, true
}

func claimText(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	}
	return "", false
}

// Wildcard matches text against a pattern with * (any bytes, also none) and ? (one),
// in time proportional to the product of their lengths at worst.
func Wildcard(pattern, text string) bool {
	star, mark := -1, 0
	p, t := 0, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, t
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == text[t]):
			p++
			t++
		case star >= 0:
			mark++
			p, t = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}
