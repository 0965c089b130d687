package console

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/countersign-proxy/countersign/identity"
)

// OIDC is how people sign in to the page with OpenID Connect. Who they are and what
// they may do follows from the rules that identity has for the issuer, whose
// audience must name the client id.
type OIDC struct {
	Issuer       string
	ClientID     string
	ClientSecret string   // "": a public client, with PKCE alone
	RedirectURL  string   // Options.Base and /console/callback
	Scopes       []string // nil: openid profile email
	// Client reaches the issuer; nil is net/http's. Redirects are not followed.
	Client *http.Client
}

const (
	loginLife     = 10 * time.Minute // from leaving for the issuer to coming back
	loginCookie   = "countersign-login"
	issuerTimeout = 15 * time.Second
	maxCode       = 4096
	callbackPath  = "/console/callback"
)

// relyingParty signs people in at an issuer. The provider's metadata is had at the
// first sign-in, so that an issuer that is away keeps nothing else from starting.
type relyingParty struct {
	opt    OIDC
	client *http.Client

	mu       sync.Mutex
	provider *oidc.Provider
	strict   bool       // the issuer names itself in its answers (RFC 9207)
	asking   *discovery // under way; nil: none
}

// discovery is one request for the provider's metadata, however many wait for it.
type discovery struct {
	done     chan struct{}
	provider *oidc.Provider
	err      error
}

func newRelyingParty(opt OIDC) (*relyingParty, error) {
	u, err := url.Parse(opt.RedirectURL)
	if err != nil || u.Path != callbackPath || u.RawQuery != "" {
		return nil, fmt.Errorf("console.oidc.redirect_url: %q does not lead to the console: expected the page's address and %s", opt.RedirectURL, callbackPath)
	}
	if opt.Issuer == "" || opt.ClientID == "" {
		return nil, errors.New("console.oidc: issuer and client_id are needed")
	}
	if len(opt.Scopes) == 0 {
		opt.Scopes = []string{oidc.ScopeOpenID, "profile", "email"}
	}
	client := &http.Client{}
	if opt.Client != nil {
		*client = *opt.Client
	}
	client.Timeout = cmp.Or(client.Timeout, issuerTimeout)
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &relyingParty{opt: opt, client: client}, nil
}

// discover returns the provider, whose metadata is fetched once.
func (p *relyingParty) discover(ctx context.Context) (*oidc.Provider, error) {
	p.mu.Lock()
	if p.provider != nil {
		defer p.mu.Unlock()
		return p.provider, nil
	}
	if d := p.asking; d != nil {
		p.mu.Unlock()
		select {
		case <-d.done:
			return d.provider, d.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	d := &discovery{done: make(chan struct{})}
	p.asking = d
	p.mu.Unlock()
	strict := false
	d.provider, strict, d.err = p.fetch()
	p.mu.Lock()
	p.provider, p.strict, p.asking = d.provider, strict, nil
	p.mu.Unlock()
	close(d.done)
	return d.provider, d.err
}

func (p *relyingParty) fetch() (provider *oidc.Provider, strict bool, err error) {
	// The provider keeps this context for fetching keys, so it must not end with a
	// request. The client's time-out bounds it.
	if provider, err = oidc.NewProvider(oidc.ClientContext(context.Background(), p.client), p.opt.Issuer); err != nil {
		return nil, false, err
	}
	var metadata struct {
		Strict bool `json:"authorization_response_iss_parameter_supported"`
	}
	if err := provider.Claims(&metadata); err != nil {
		return nil, false, err
	}
	return provider, metadata.Strict, nil
}

func (p *relyingParty) config(provider *oidc.Provider) *oauth2.Config {
	endpoint := provider.Endpoint()
	if p.opt.ClientSecret == "" {
		// A public client names itself in the form. Left alone, the library would try
		// HTTP Basic with an empty secret first.
		endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	return &oauth2.Config{ClientID: p.opt.ClientID, ClientSecret: p.opt.ClientSecret, Endpoint: endpoint, RedirectURL: p.opt.RedirectURL, Scopes: p.opt.Scopes}
}

// pending is what this browser carries to the issuer and back, in a cookie. It is
// good for one answer, since the answer removes it.
type pending struct {
	State    string `json:"s"`
	Nonce    string `json:"n"`
	Verifier string `json:"v"` // PKCE (RFC 7636)
	At       int64  `json:"t"`
}

func random() string {
	var b [32]byte
	rand.Read(b[:]) // never fails, see crypto/rand
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// login sends the browser to the issuer.
func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	if s.oidc == nil {
		s.fail(w, http.StatusNotFound, nil, "No sign-in here", "Sign-in with OpenID Connect is not configured (console.oidc).")
		return
	}
	if v := s.limits.begin(r.RemoteAddr); !v.ok {
		s.tooMany(w, r, "Login", v)
		return
	}
	provider, err := s.oidc.discover(r.Context())
	if err != nil {
		if v := s.limits.try(r.RemoteAddr); v.ok {
			s.record(r, entry{operation: "Login", deny: "issuer", status: http.StatusBadGateway, err: err})
		} else {
			s.recordFirst(r, "Login", v)
		}
		s.fail(w, http.StatusBadGateway, nil, "The issuer cannot be reached", "Sign-in is not possible now, because the issuer's configuration cannot be fetched. Try again; if it keeps failing, the proxy's log and audit record say more.")
		return
	}
	p := pending{State: random(), Nonce: random(), Verifier: oauth2.GenerateVerifier(), At: s.opt.Now().Unix()}
	text, err := json.Marshal(p)
	if err != nil {
		s.fail(w, http.StatusInternalServerError, nil, "No sign-in", "Sign-in failed.")
		return
	}
	// Lax and not Strict: the issuer's answer is a navigation from another site.
	http.SetCookie(w, &http.Cookie{Name: s.cookieNamed(loginCookie), Value: base64.RawURLEncoding.EncodeToString(text), Path: "/",
		MaxAge: int(loginLife / time.Second), Secure: s.secure, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	w.Header().Set("Referrer-Policy", "no-referrer")
	http.Redirect(w, r, s.oidc.config(provider).AuthCodeURL(p.State, oidc.Nonce(p.Nonce), oauth2.S256ChallengeOption(p.Verifier)), http.StatusSeeOther)
}

// callback takes the issuer's answer.
func (s *Server) callback(w http.ResponseWriter, r *http.Request) {
	if s.oidc == nil {
		s.fail(w, http.StatusNotFound, nil, "No sign-in here", "Sign-in with OpenID Connect is not configured (console.oidc).")
		return
	}
	http.SetCookie(w, &http.Cookie{Name: s.cookieNamed(loginCookie), Path: "/", MaxAge: -1, Secure: s.secure, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	who, err := s.identify(r)
	if err != nil {
		var known *loginError
		if !errors.As(err, &known) {
			known = &loginError{reason: "issuer", message: "Sign-in failed at the issuer."}
		}
		v := s.limits.try(r.RemoteAddr)
		if known.limit != nil {
			v = *known.limit
		}
		if !v.ok {
			s.tooMany(w, r, "Login", v)
			return
		}
		s.record(r, entry{operation: "Login", identity: known.name, deny: known.reason, status: http.StatusForbidden, err: err})
		s.fail(w, http.StatusForbidden, nil, "You are not signed in", known.message)
		return
	}
	s.admit(w, r, who, purposeOIDC, "Login", "openid connect")
}

// loginError says why somebody was not let in. The message is for whoever tries, who
// may be anybody; the cause is for the record.
type loginError struct {
	reason  string
	message string
	name    string   // identity, where it is known
	limit   *verdict // that let nobody through; nil: it was not for a limit
	err     error
}

func (e *loginError) Error() string {
	if e.err != nil {
		return e.reason + ": " + e.err.Error()
	}
	return e.reason
}

func (e *loginError) Unwrap() error { return e.err }

// identify turns the issuer's answer into an identity.
func (s *Server) identify(r *http.Request) (identity.Identity, error) {
	refuse := func(reason, message string, err error) (identity.Identity, error) {
		return identity.Identity{}, &loginError{reason: reason, message: message, err: err}
	}
	const again = " Go to the start page and sign in again."
	now := s.opt.Now()
	query := r.URL.Query()
	mine, ok := s.pendingLogin(r, now)
	if !ok {
		return refuse("no login", "No sign-in is under way in this browser, or it took too long."+again, nil)
	}
	if subtle.ConstantTimeCompare([]byte(query.Get("state")), []byte(mine.State)) != 1 {
		return refuse("state", "The answer does not belong to the sign-in of this browser."+again, nil)
	}
	provider, err := s.oidc.discover(r.Context())
	if err != nil {
		return refuse("issuer", "The issuer cannot be reached."+again, err)
	}
	if iss := query.Get("iss"); iss != s.oidc.opt.Issuer && (iss != "" || s.oidc.strict) {
		return refuse("issuer mix-up", "The answer comes from another issuer."+again, nil)
	}
	if problem := query.Get("error"); problem != "" {
		return refuse("refused by issuer", "The issuer did not sign you in. It may know more about why.", fmt.Errorf("%.100q: %.300q", problem, query.Get("error_description")))
	}
	code := query.Get("code")
	if code == "" || len(code) > maxCode {
		return refuse("no code", "The issuer's answer is not complete."+again, nil)
	}
	if v := s.limits.begin(r.RemoteAddr); !v.ok {
		return identity.Identity{}, &loginError{reason: "rate", limit: &v}
	}
	ctx := oidc.ClientContext(r.Context(), s.oidc.client)
	token, err := s.oidc.config(provider).Exchange(ctx, code, oauth2.VerifierOption(mine.Verifier))
	if err != nil {
		return refuse("code", "The issuer does not accept the answer that it gave: it is used, or too old."+again, exchangeError(err))
	}
	raw, _ := token.Extra("id_token").(string)
	if raw == "" {
		return refuse("no id token", "The issuer did not say who you are.", nil)
	}
	verified, err := provider.VerifierContext(ctx, &oidc.Config{ClientID: s.oidc.opt.ClientID, Now: s.opt.Now}).Verify(ctx, raw)
	if err != nil {
		return refuse("id token", "What the issuer says of you cannot be trusted.", err)
	}
	if subtle.ConstantTimeCompare([]byte(verified.Nonce), []byte(mine.Nonce)) != 1 {
		return refuse("nonce", "The answer was made for another sign-in."+again, nil)
	}
	var claims struct {
		Party string `json:"azp"`
	}
	// OpenID Connect Core, section 3.1.3.7, items 4 and 5.
	if err := verified.Claims(&claims); err != nil || claims.Party != "" && claims.Party != s.oidc.opt.ClientID || claims.Party == "" && len(verified.Audience) > 1 {
		return refuse("authorized party", "The answer was made for another application.", err)
	}
	if verified.AccessTokenHash != "" {
		if err := verified.VerifyAccessToken(token.AccessToken); err != nil {
			return refuse("access token", "What the issuer says of you cannot be trusted.", err)
		}
	}
	found, err := s.opt.Current().Identities.WebIdentity(ctx, raw, now)
	if err != nil {
		return refuse("not let in", "You are who you say you are, but the rules of this proxy grant you nothing. Ask its operator about `issuers` in the configuration.", err)
	}
	if found.Identity.Issuer != s.oidc.opt.Issuer {
		return refuse("issuer", "The answer comes from another issuer."+again, nil)
	}
	return found.Identity, nil
}

// pendingLogin is what login left in the browser.
func (s *Server) pendingLogin(r *http.Request, now time.Time) (pending, bool) {
	c, err := r.Cookie(s.cookieNamed(loginCookie))
	if err != nil {
		return pending{}, false
	}
	text, err := base64.RawURLEncoding.DecodeString(c.Value)
	if err != nil {
		return pending{}, false
	}
	var p pending
	if json.Unmarshal(text, &p) != nil || p.State == "" || p.Nonce == "" || p.Verifier == "" {
		return pending{}, false
	}
	age := now.Sub(time.Unix(p.At, 0))
	return p, age >= -time.Minute && age < loginLife
}

// exchangeError leaves out the issuer's body, which may repeat what it was sent.
func exchangeError(err error) error {
	var r *oauth2.RetrieveError
	if errors.As(err, &r) {
		status := 0
		if r.Response != nil {
			status = r.Response.StatusCode
		}
		return fmt.Errorf("token endpoint: %d %.60q", status, r.ErrorCode)
	}
	return fmt.Errorf("token endpoint: %w", plainError(errors.New(strings.SplitN(err.Error(), "\n", 2)[0])))
}
