package virtualsts

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/countersign-proxy/countersign/identity"
)

// DefaultLifetime is how long credentials from the endpoint live. SDKs fetch new
// ones some minutes before the end.
const DefaultLifetime = time.Hour

// Bearer is a secret that the credentials endpoint takes for an identity, such as
// that of a child process.
type Bearer struct {
	Token    string
	Identity string // a configured identity
	Role     string // one of its roles; "" is its first one
	// Attributes are added to the identity's own.
	Attributes map[string]string
}

// EndpointOptions say who is served.
type EndpointOptions struct {
	Bearers  []Bearer
	Lifetime time.Duration // 0 is DefaultLifetime
	// Record is called once for each request, with the status of the answer that is
	// about to be sent; nil: not. It must not block.
	Record func(r *http.Request, issued Issued, status int, err error)
}

// minBearer is the least length of a bearer secret.
const minBearer = 32

type bearer struct {
	sum [sha256.Size]byte
	Bearer
}

type endpoint struct {
	s       *Service
	opt     EndpointOptions
	bearers []bearer
}

// Endpoint serves client credentials as the agents of ECS and of EKS Pod Identity
// serve theirs: GET with an Authorization header answers JSON with AccessKeyId,
// SecretAccessKey, Token and Expiration. The authorization is a Bearer secret, or a
// token of a configured OIDC issuer, such as a pod's projected service account
// token; with or without "Bearer " before it. The parameter role asks for another
// of the identity's roles than its first one.
//
// The handler takes any path. It must be reached by TLS or over loopback.
func (s *Service) Endpoint(opt EndpointOptions) (http.Handler, error) {
	if opt.Lifetime <= 0 {
		opt.Lifetime = DefaultLifetime
	}
	if most := s.opt.Identities.MaxLifetime(); opt.Lifetime > most {
		return nil, fmt.Errorf("virtualsts: the endpoint's credentials live %s, at most %s", opt.Lifetime, most)
	}
	e := &endpoint{s: s, opt: opt}
	for _, b := range opt.Bearers {
		if len(b.Token) < minBearer {
			return nil, fmt.Errorf("virtualsts: the endpoint's token for %q has %d characters, at least %d", b.Identity, len(b.Token), minBearer)
		}
		e.bearers = append(e.bearers, bearer{sha256.Sum256([]byte(b.Token)), b})
	}
	return e, nil
}

// credentialsDocument is what SDKs read.
type credentialsDocument struct {
	AccessKeyID     string `json:"AccessKeyId"`
	SecretAccessKey string `json:"SecretAccessKey"`
	Token           string `json:"Token"`
	Expiration      string `json:"Expiration"`
}

// errorDocument is what SDKs show of a failure.
type errorDocument struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

type endpointError struct {
	status  int
	code    string
	message string
}

func (e *endpointError) Error() string { return e.message }

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	c, issued, err := e.serve(r)
	status := http.StatusOK
	refusal := &endpointError{http.StatusInternalServerError, "InternalServerException", "The credentials could not be made."}
	if err != nil {
		errors.As(err, &refusal)
		status = refusal.status
	}
	if e.opt.Record != nil {
		e.opt.Record(r, issued, status, err)
	}
	if status == http.StatusMethodNotAllowed {
		h.Set("Allow", http.MethodGet)
	}
	var body []byte
	if err != nil {
		body, err = json.Marshal(errorDocument{refusal.code, refusal.message})
	} else {
		body, err = json.Marshal(credentialsDocument{c.AccessKeyID, c.SecretAccessKey, c.SessionToken, c.Expires.UTC().Format(time.RFC3339)})
	}
	if err != nil {
		panic(err) // texts always marshal
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that left is its own loss
}

func (e *endpoint) serve(r *http.Request) (identity.Credentials, Issued, error) {
	fail := func(status int, code, format string, args ...any) (identity.Credentials, Issued, error) {
		return identity.Credentials{}, Issued{}, &endpointError{status, code, fmt.Sprintf(format, args...)}
	}
	if r.Method != http.MethodGet {
		return fail(http.StatusMethodNotAllowed, "InvalidRequestException", "Credentials are fetched with GET.")
	}
	// A page in a browser has no business here, whatever it knows.
	if r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" && r.Header.Get("Sec-Fetch-Site") != "none" {
		return fail(http.StatusForbidden, "AccessDeniedException", "Credentials are not served to web pages.")
	}
	given := r.Header.Values("Authorization")
	if len(given) != 1 || strings.TrimSpace(given[0]) == "" {
		return fail(http.StatusUnauthorized, "AccessDeniedException", "The request has no Authorization header: set AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE or AWS_CONTAINER_AUTHORIZATION_TOKEN.")
	}
	token := strings.TrimSpace(given[0])
	if scheme, rest, ok := strings.Cut(token, " "); ok && strings.EqualFold(scheme, "Bearer") {
		token = strings.TrimSpace(rest)
	}
	now := e.s.opt.Now()
	id, role, err := e.who(r, token, now)
	if err != nil {
		return identity.Credentials{}, Issued{}, err
	}
	roles := r.URL.Query()["role"]
	if len(roles) > 1 {
		return fail(http.StatusBadRequest, "InvalidRequestException", "The parameter role is given twice.")
	}
	if len(roles) == 1 && roles[0] != "" {
		if !slices.Contains(e.rolesOf(id), roles[0]) {
			return fail(http.StatusForbidden, "AccessDeniedException", "The identity %q has no role %.64q.", id.Name, roles[0])
		}
		role = roles[0]
	}
	c, err := e.s.opt.Identities.Mint(identity.Grant{Identity: id, Role: role, Expires: now.Add(e.opt.Lifetime)})
	if err != nil {
		return fail(http.StatusForbidden, "AccessDeniedException", "The proxy could not issue credentials: %v.", err)
	}
	issued := Issued{AccessKeyID: c.AccessKeyID, Identity: id.Name, Role: role, RoleARN: e.s.roles[role].ARN, Operation: "credentials", Issued: now, Expires: c.Expires}
	e.s.remember(issued)
	return c, issued, nil
}

// who finds out whom the authorization stands for, and the role by default.
func (e *endpoint) who(r *http.Request, token string, now time.Time) (identity.Identity, string, error) {
	// Every secret is compared, so the time does not tell which one came near.
	sum := sha256.Sum256([]byte(token))
	found := -1
	for i := range e.bearers {
		if subtle.ConstantTimeCompare(sum[:], e.bearers[i].sum[:]) == 1 {
			found = i
		}
	}
	if found >= 0 {
		b := e.bearers[found]
		id := identity.Identity{Name: b.Identity, Attributes: b.Attributes}
		role := b.Role
		if role == "" {
			if roles := e.rolesOf(id); len(roles) > 0 {
				role = roles[0]
			}
		}
		return id, role, nil
	}
	who, err := e.s.opt.Identities.WebIdentity(r.Context(), token, now)
	if err == nil {
		return who.Identity, who.Identity.Roles[0], nil
	}
	var te *identity.TokenError
	switch {
	case !errors.As(err, &te):
		return identity.Identity{}, "", &endpointError{http.StatusServiceUnavailable, "ServiceUnavailableException", "The request was given up."}
	case te.Reason == identity.TokenUnavailable:
		return identity.Identity{}, "", &endpointError{http.StatusServiceUnavailable, "ServiceUnavailableException", te.Message}
	case te.Reason == identity.TokenMalformed, te.Reason == identity.TokenUnknownIssuer, te.Reason == identity.TokenBadSignature:
		// One answer for all of them: whoever guesses learns nothing.
		return identity.Identity{}, "", &endpointError{http.StatusUnauthorized, "AccessDeniedException", "The authorization token is not one that this proxy accepts."}
	case te.Reason == identity.TokenExpired:
		return identity.Identity{}, "", &endpointError{http.StatusUnauthorized, "ExpiredTokenException", te.Message}
	}
	return identity.Identity{}, "", &endpointError{http.StatusForbidden, "AccessDeniedException", te.Message}
}

func (e *endpoint) rolesOf(id identity.Identity) []string {
	if id.Issuer != "" {
		return id.Roles
	}
	return e.s.opt.Identities.RolesOf(id.Name)
}
