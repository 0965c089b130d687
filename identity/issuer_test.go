package identity

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-cmp/cmp"
)

// idp is an OIDC issuer of the test.
type idp struct {
	server    *httptest.Server
	discovery atomic.Int64
	fetches   atomic.Int64
	down      atomic.Bool

	mu   sync.Mutex
	keys []jose.JSONWebKey // public ones, or raw oct keys
}

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func newIDP(t *testing.T) *idp {
	p := &idp{}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		p.discovery.Add(1)
		if p.down.Load() {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		json.NewEncoder(w).Encode(map[string]string{"issuer": p.server.URL, "jwks_uri": p.server.URL + "/jwks"})
	})
	mux.HandleFunc("/jwks", func(w http.ResponseWriter, _ *http.Request) {
		p.fetches.Add(1)
		p.mu.Lock()
		defer p.mu.Unlock()
		json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: p.keys})
	})
	p.server = httptest.NewServer(mux)
	t.Cleanup(p.server.Close)
	return p
}

func (p *idp) publish(id string, key any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = append(p.keys, jose.JSONWebKey{Key: key, KeyID: id})
}

func sign(t testing.TB, alg jose.SignatureAlgorithm, id string, key any, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: id}}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func (p *idp) claims(change ...func(map[string]any)) map[string]any {
	c := map[string]any{
		"iss": p.server.URL, "aud": []string{"someone", "countersign"}, "sub": "repo:octo/app:ref:refs/heads/main",
		"exp": noon.Add(time.Hour).Unix(), "iat": noon.Unix(), "nbf": noon.Unix(),
		"groups": []string{"dev", "ops"}, "admin": true,
		"kubernetes.io": map[string]any{"namespace": "prod", "a/b": map[string]any{"name": "app"}},
	}
	for _, f := range change {
		f(c)
	}
	return c
}

func (p *idp) options() IssuerOptions {
	return IssuerOptions{
		URL: p.server.URL, Audience: []string{"countersign"}, Roles: []string{"deploy"}, HTTPClient: p.server.Client(),
	}
}

func issuerStore(t *testing.T, opt IssuerOptions, change ...func(*Options)) *Store {
	t.Helper()
	issuer, err := NewIssuer(opt)
	if err != nil {
		t.Fatal(err)
	}
	return testStore(t, append([]func(*Options){func(o *Options) { o.Issuers = []*Issuer{issuer} }}, change...)...)
}

func tokenReason(err error) TokenReason {
	var e *TokenError
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}

func TestTokenBecomesAnIdentity(t *testing.T) {
	p := newIDP(t)
	p.publish("k1", rsaKey().Public())
	opt := p.options()
	opt.Match = map[string][]string{
		"sub": {"repo:octo/app:*"}, "groups": {"nobody", "op?"}, "admin": {"true"}, "/kubernetes.io/namespace": {"prod"}, "/kubernetes.io/a~1b/name": {"app"},
	}
	opt.Identity = `{{ index .Claims "kubernetes.io" "namespace" }}/{{ .Claims.sub }}`
	opt.Attributes = map[string]string{"ns": `{{ index .Claims "kubernetes.io" "namespace" }}`}
	opt.Roles = []string{`{{ range .Claims.groups }}team-{{ . }} {{ end }}`, "arn:aws:iam::1:role/Read,team-dev"}
	opt.Boundary = "limit"
	opt.RoleName = func(s string) (string, bool) {
		switch s {
		case "arn:aws:iam::1:role/Read":
			return "read", true
		case "team-dev":
			return s, true
		}
		return "", false
	}
	s := issuerStore(t, opt)
	got, err := s.WebIdentity(t.Context(), sign(t, jose.RS256, "k1", rsaKey(), p.claims()), noon)
	if err != nil {
		t.Fatal(err)
	}
	want := WebIdentity{
		Identity: Identity{Name: "prod/repo:octo/app:ref:refs/heads/main", Issuer: p.server.URL, Boundary: "limit",
			Attributes: map[string]string{"ns": "prod"}, Roles: []string{"team-dev", "read"}},
		Subject: "repo:octo/app:ref:refs/heads/main", Audience: "countersign", Expires: noon.Add(time.Hour),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// What was vouched for travels in the credentials, without the issuer being asked again.
	c := mint(t, s, Grant{Identity: got.Identity, Role: "read"})
	p.down.Store(true)
	g, _, err := s.Lookup(c.AccessKeyID, c.SessionToken, noon)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.Identity, g.Identity); diff != "" {
		t.Error(diff)
	}
	if _, _, err := testStore(t).Lookup(c.AccessKeyID, c.SessionToken, noon); reasonOf(err) != ReasonRevoked {
		t.Errorf("without the issuer: %v", err)
	}
}

func TestAcceptedAlgorithms(t *testing.T) {
	p := newIDP(t)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p.publish("rsa", rsaKey().Public())
	p.publish("ec", ec.Public())
	p.publish("ed", ed.Public())
	s := issuerStore(t, p.options())
	for _, tt := range []struct {
		alg jose.SignatureAlgorithm
		id  string
		key any
	}{{jose.RS256, "rsa", rsaKey()}, {jose.PS512, "rsa", rsaKey()}, {jose.ES256, "ec", ec}, {jose.EdDSA, "ed", ed}, {jose.ES256, "", ec}} {
		if _, err := s.WebIdentity(t.Context(), sign(t, tt.alg, tt.id, tt.key, p.claims()), noon); err != nil {
			t.Errorf("%s: %v", tt.alg, err)
		}
	}
}

// raw builds a token without the help, and the checks, of a library.
func raw(t *testing.T, header map[string]any, payload string, mac func(input []byte) []byte) string {
	t.Helper()
	h, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	input := base64.RawURLEncoding.EncodeToString(h) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	return input + "." + base64.RawURLEncoding.EncodeToString(mac([]byte(input)))
}

func TestTokensThatAreRefused(t *testing.T) {
	p := newIDP(t)
	p.publish("k1", rsaKey().Public())
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p.publish("ec", ec.Public())
	// A symmetric key in a key set is anybody's key.
	p.publish("oct", []byte("anybody's key, 32 bytes long ok!"))
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	opt := p.options()
	opt.Match = map[string][]string{"sub": {"repo:octo/app:*"}}
	s := issuerStore(t, opt)
	claims := func(change ...func(map[string]any)) string {
		b, err := json.Marshal(p.claims(change...))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	public, err := x509.MarshalPKIXPublicKey(rsaKey().Public())
	if err != nil {
		t.Fatal(err)
	}
	hs := func(key []byte) func([]byte) []byte {
		return func(in []byte) []byte { m := hmac.New(sha256.New, key); m.Write(in); return m.Sum(nil) }
	}
	rs := func(in []byte) []byte {
		sum := sha256.Sum256(in)
		sig, err := rsa.SignPKCS1v15(rand.Reader, rsaKey(), crypto.SHA256, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
	good := sign(t, jose.RS256, "k1", rsaKey(), p.claims())
	parts := strings.Split(good, ".")
	set := func(k string, v any) func(map[string]any) { return func(c map[string]any) { c[k] = v } }
	drop := func(k string) func(map[string]any) { return func(c map[string]any) { delete(c, k) } }
	ours := func(change ...func(map[string]any)) string {
		return sign(t, jose.RS256, "k1", rsaKey(), p.claims(change...))
	}
	for _, tt := range []struct {
		name, token string
		want        TokenReason
	}{
		{"good", good, ""},
		{"empty", "", TokenMalformed},
		{"no token", "a.b.c", TokenMalformed},
		{"alg none", raw(t, map[string]any{"alg": "none"}, claims(), func([]byte) []byte { return nil }), TokenMalformed},
		{"alg None", raw(t, map[string]any{"alg": "None", "kid": "k1"}, claims(), func([]byte) []byte { return nil }), TokenMalformed},
		{"public key as HMAC secret", raw(t, map[string]any{"alg": "HS256", "kid": "k1"}, claims(), hs(public)), TokenMalformed},
		{"symmetric key of the set", raw(t, map[string]any{"alg": "HS256", "kid": "oct"}, claims(), hs([]byte("anybody's key, 32 bytes long ok!"))), TokenMalformed},
		{"RSA algorithm, EC key id", raw(t, map[string]any{"alg": "RS256", "kid": "ec"}, claims(), rs), TokenBadSignature},
		{"EC algorithm, RSA key id", raw(t, map[string]any{"alg": "ES256", "kid": "k1"}, claims(), rs), TokenBadSignature},
		{"key brought along", sign(t, jose.RS256, "k9", stranger, p.claims()), TokenBadSignature},
		{"embedded key", raw(t, map[string]any{"alg": "RS256", "jwk": jose.JSONWebKey{Key: stranger.Public()}}, claims(), hs(nil)), TokenBadSignature},
		{"stranger's signature", sign(t, jose.RS256, "k1", stranger, p.claims()), TokenBadSignature},
		{"payload swapped", parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(claims(set("sub", "repo:octo/app:x")))) + "." + parts[2], TokenBadSignature},
		{"signature cut", parts[0] + "." + parts[1] + "." + parts[2][:20], TokenBadSignature},
		{"unknown critical header", raw(t, map[string]any{"alg": "RS256", "kid": "k1", "crit": []string{"x"}, "x": 1}, claims(), rs), TokenBadSignature},
		{"oversized", ours(set("pad", strings.Repeat("x", MaxWebIdentityToken))), TokenMalformed},
		{"another issuer", ours(set("iss", "https://evil.example")), TokenUnknownIssuer},
		{"issuer with a slash", ours(set("iss", p.server.URL+"/")), TokenUnknownIssuer},
		{"issuer twice", raw(t, map[string]any{"alg": "RS256", "kid": "k1"}, strings.Replace(claims(), "{", `{"iss":"https://evil.example",`, 1), rs), TokenMalformed},
		{"issuer in capitals only", ours(drop("iss"), set("ISS", p.server.URL)), TokenUnknownIssuer},
		{"audience of another", ours(set("aud", "someone")), TokenWrong},
		{"audience in capitals only", ours(drop("aud"), set("AUD", "countersign")), TokenWrong},
		{"no audience", ours(drop("aud")), TokenWrong},
		{"no expiry", ours(drop("exp")), TokenWrong},
		{"expired", ours(set("exp", noon.Unix())), TokenExpired},
		{"not yet", ours(set("nbf", noon.Add(2*time.Minute).Unix())), TokenWrong},
		{"issued in the future", ours(set("iat", noon.Add(2*time.Minute).Unix())), TokenWrong},
		{"no match", ours(set("sub", "repo:octopus/app:x")), TokenNoMatch},
		{"subject that is no text", ours(set("sub", []any{1, nil, map[string]any{}})), TokenBadSignature},
		{"no subject", ours(drop("sub")), TokenNoMatch},
		{"name with a line break", ours(set("sub", "repo:octo/app:x\nfake")), TokenNoMatch},
		{"name too long", ours(set("sub", "repo:octo/app:"+strings.Repeat("x", 300))), TokenNoMatch},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := s.WebIdentity(t.Context(), tt.token, noon)
			if tokenReason(err) != tt.want {
				t.Errorf("%v", err)
			}
			if tt.want != "" && (err == nil || got.Identity.Name != "") {
				t.Errorf("let in as %+v", got)
			}
		})
	}
}

func TestIdentityOfAnIssuerCannotBeAConfiguredOne(t *testing.T) {
	p := newIDP(t)
	p.publish("k1", rsaKey().Public())
	s := issuerStore(t, p.options())
	token := sign(t, jose.RS256, "k1", rsaKey(), p.claims(func(c map[string]any) { c["sub"] = "ci" }))
	if _, err := s.WebIdentity(t.Context(), token, noon); tokenReason(err) != TokenNoMatch || !strings.Contains(err.Error(), "configured identity") {
		t.Errorf("%v", err)
	}
}

func TestRevokedIdentityOfAnIssuer(t *testing.T) {
	p := newIDP(t)
	p.publish("k1", rsaKey().Public())
	path := filepath.Join(t.TempDir(), "revocations")
	write(t, path, `{"identity":"repo:octo/app:ref:refs/heads/main"}`)
	r, err := OpenRevocations(path)
	if err != nil {
		t.Fatal(err)
	}
	s := issuerStore(t, p.options(), func(o *Options) { o.Revocations = r })
	if _, err := s.WebIdentity(t.Context(), sign(t, jose.RS256, "k1", rsaKey(), p.claims()), noon); tokenReason(err) != TokenRevoked {
		t.Errorf("%v", err)
	}
}

func TestKeysAreFetchedOnceAndAgainForAnUnknownKeyIDWithinBounds(t *testing.T) {
	p := newIDP(t)
	p.publish("k1", rsaKey().Public())
	s := issuerStore(t, p.options())
	old := sign(t, jose.RS256, "k1", rsaKey(), p.claims(func(c map[string]any) { c["exp"] = noon.Add(72 * time.Hour).Unix() }))
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := s.WebIdentity(t.Context(), old, noon); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := p.fetches.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
	next, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p.publish("k2", next.Public())
	rotated := sign(t, jose.ES256, "k2", next, p.claims())
	if _, err := s.WebIdentity(t.Context(), rotated, noon.Add(time.Second)); tokenReason(err) != TokenBadSignature {
		t.Errorf("within the interval: %v", err)
	}
	if _, err := s.WebIdentity(t.Context(), rotated, noon.Add(10*time.Second)); err != nil {
		t.Errorf("after it: %v", err)
	}
	// Whoever invents key ids does not make the proxy ask each time.
	for range 100 {
		s.WebIdentity(t.Context(), sign(t, jose.ES256, "invented", next, p.claims()), noon.Add(11*time.Second))
	}
	if n := p.fetches.Load(); n != 2 {
		t.Errorf("%d fetches", n)
	}
	// While the issuer is away the keys serve for a day, and no longer.
	p.down.Store(true)
	if _, err := s.WebIdentity(t.Context(), old, noon.Add(23*time.Hour)); err != nil {
		t.Errorf("%v", err)
	}
	if _, err := s.WebIdentity(t.Context(), old, noon.Add(25*time.Hour)); tokenReason(err) != TokenUnavailable {
		t.Errorf("%v", err)
	}
}

func TestIssuerThatCannotBeReached(t *testing.T) {
	p := newIDP(t)
	p.down.Store(true)
	p.publish("k1", rsaKey().Public())
	s := issuerStore(t, p.options())
	token := sign(t, jose.RS256, "k1", rsaKey(), p.claims())
	for range 20 {
		if _, err := s.WebIdentity(t.Context(), token, noon); tokenReason(err) != TokenUnavailable || !strings.Contains(err.Error(), "503") {
			t.Fatalf("%v", err)
		}
	}
	if n := p.discovery.Load(); n != 1 {
		t.Errorf("%d attempts", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.WebIdentity(ctx, token, noon); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestKeySetsThatAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		want    string
	}{
		{"too long", func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, maxKeySetBody+1)) }, "longer than"},
		{"not JSON", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<html>")) }, "invalid character"},
		{"no keys", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(`{"keys":[]}`)) }, "no public signing key"},
		{"symmetric key", func(w http.ResponseWriter, _ *http.Request) {
			w.Write([]byte(`{"keys":[{"kty":"oct","k":"AAAA","kid":"k1"}]}`))
		}, "no public signing key"},
		{"too many", func(w http.ResponseWriter, _ *http.Request) {
			w.Write([]byte(`{"keys":[` + strings.Repeat("{},", 100) + `{}]}`))
		}, "101 keys, at most 100"},
		{"redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, "redirect"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(tt.handler)
			defer server.Close()
			s := issuerStore(t, IssuerOptions{URL: "https://issuer.example", JWKSURL: server.URL, Audience: []string{"a"}, Roles: []string{"r"}, HTTPClient: server.Client()})
			token := sign(t, jose.RS256, "k1", rsaKey(), map[string]any{"iss": "https://issuer.example"})
			if _, err := s.WebIdentity(t.Context(), token, noon); tokenReason(err) != TokenUnavailable || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestDiscoveryOfAnotherIssuerIsRefused(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte(`{"issuer":"https://other.example","jwks_uri":"https://other.example/jwks"}`))
	}))
	defer server.Close()
	s := issuerStore(t, IssuerOptions{URL: server.URL, Audience: []string{"a"}, Roles: []string{"r"}, HTTPClient: server.Client()})
	token := sign(t, jose.RS256, "k1", rsaKey(), map[string]any{"iss": server.URL})
	if _, err := s.WebIdentity(t.Context(), token, noon); !strings.Contains(err.Error(), `that of "https://other.example"`) {
		t.Errorf("%v", err)
	}
}

func TestIssuerOptionsThatAreRefused(t *testing.T) {
	good := IssuerOptions{URL: "https://issuer.example", Audience: []string{"a"}, Roles: []string{"r"}}
	for _, tt := range []struct {
		change func(*IssuerOptions)
		want   string
	}{
		{func(o *IssuerOptions) { o.URL = "http://issuer.example" }, "issuers: http://issuer.example: url: expected an https URL: keys that arrive unprotected could be anybody's"},
		{func(o *IssuerOptions) { o.URL = "issuer" }, "issuers: issuer: url: expected an https URL"},
		{func(o *IssuerOptions) { o.JWKSURL = "ftp://x" }, "issuers: https://issuer.example: jwks_url: expected an https URL: keys that arrive unprotected could be anybody's"},
		{func(o *IssuerOptions) { o.Audience = nil }, "issuers: https://issuer.example: audience: at least one is needed, so that tokens made for somebody else are refused"},
		{func(o *IssuerOptions) { o.Roles = nil }, "issuers: https://issuer.example: roles: at least one is needed"},
		{func(o *IssuerOptions) { o.Match = map[string][]string{"sub": nil} }, `issuers: https://issuer.example: match: "sub": expected a claim and at least one pattern`},
		{func(o *IssuerOptions) { o.Identity = "{{" }, "issuers: https://issuer.example: identity: 1: unclosed action"},
		{func(o *IssuerOptions) { o.Attributes = map[string]string{"a": "{{ x }}"} }, `issuers: https://issuer.example: attributes: a: 1: function "x" not defined`},
	} {
		o := good
		tt.change(&o)
		if _, err := NewIssuer(o); err == nil || err.Error() != tt.want {
			t.Errorf("\n got %v\nwant %s", err, tt.want)
		}
	}
}

func TestWildcard(t *testing.T) {
	for _, tt := range []struct {
		pattern, text string
		want          bool
	}{
		{"", "", true}, {"", "a", false}, {"*", "", true}, {"*", "anything/at:all", true}, {"a*b", "ab", true}, {"a*b", "a--b", true},
		{"a*b", "a--bc", false}, {"a?c", "abc", true}, {"a?c", "ac", false}, {"*a*b*", "xxaxxbxx", true}, {"*a*b*", "xxbxxaxx", false},
		{"repo:octo/*:ref:refs/heads/main", "repo:octo/app:ref:refs/heads/main", true}, {"repo:octo/*", "repo:octopus/x", false}, {"A", "a", false},
	} {
		if got := Wildcard(tt.pattern, tt.text); got != tt.want {
			t.Errorf("%q %q: %v", tt.pattern, tt.text, got)
		}
	}
	// With exponential matching this would outlive the test binary.
	if Wildcard(strings.Repeat("*a", 200)+"b", strings.Repeat("a", 20000)) {
		t.Error("a text without a b matched")
	}
}

// An issuer such as that of a Kubernetes cluster publishes its keys to those
// alone who show a token: one that is read again for each fetch, since it is
// renewed where it lies.
func TestKeysThatNeedAToken(t *testing.T) {
	var asked []string
	var mu sync.Mutex
	var issuer *httptest.Server
	mux := http.NewServeMux()
	guard := func(document func() any) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			asked = append(asked, r.URL.Path+" "+r.Header.Get("Authorization"))
			mu.Unlock()
			if !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer service-account-") {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			// As Kubernetes has it: the key set is served as what it is, or not at all.
			want := "application/json"
			if r.URL.Path == "/openid/v1/jwks" {
				want = "application/jwk-set+json"
			}
			if !slices.Contains(strings.Split(r.Header.Get("Accept"), ", "), want) {
				w.WriteHeader(http.StatusNotAcceptable)
				return
			}
			json.NewEncoder(w).Encode(document())
		}
	}
	mux.HandleFunc("/.well-known/openid-configuration", guard(func() any {
		return map[string]string{"issuer": issuer.URL, "jwks_uri": issuer.URL + "/openid/v1/jwks"}
	}))
	mux.HandleFunc("/openid/v1/jwks", guard(func() any {
		return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: rsaKey().Public(), KeyID: "k1"}}}
	}))
	issuer = httptest.NewTLSServer(mux)
	defer issuer.Close()
	plain := httptest.NewServer(mux)
	defer plain.Close()
	reads := 0
	token := func() (string, error) {
		reads++
		return fmt.Sprintf("service-account-%d", reads), nil
	}
	for _, x := range []struct {
		name    string
		change  func(*IssuerOptions)
		asked   []string
		reason  TokenReason
		message string
	}{
		{name: "by discovery", asked: []string{"/.well-known/openid-configuration Bearer service-account-1", "/openid/v1/jwks Bearer service-account-2"},
			change: func(o *IssuerOptions) { o.Token = token }},
		{name: "keys alone", asked: []string{"/openid/v1/jwks Bearer service-account-1"},
			change: func(o *IssuerOptions) { o.Token, o.JWKSURL = token, issuer.URL+"/openid/v1/jwks" }},
		{name: "without a token", asked: []string{"/openid/v1/jwks "}, reason: TokenUnavailable,
			change:  func(o *IssuerOptions) { o.JWKSURL = issuer.URL + "/openid/v1/jwks" },
			message: "The keys of the issuer ISSUER are not available: GET ISSUER/openid/v1/jwks: 403 Forbidden; it asks for a token, such as token_file gives."},
		{name: "no TLS", reason: TokenUnavailable,
			change:  func(o *IssuerOptions) { o.Token, o.JWKSURL = token, plain.URL+"/openid/v1/jwks" },
			message: "The keys of the issuer ISSUER are not available: GET PLAIN/openid/v1/jwks: the token for it is sent over https only."},
		{name: "no token to be had", reason: TokenUnavailable,
			change: func(o *IssuerOptions) {
				o.Token, o.JWKSURL = func() (string, error) { return "", errors.New("it is gone") }, issuer.URL+"/openid/v1/jwks"
			},
			message: "The keys of the issuer ISSUER are not available: the token for it: it is gone."},
	} {
		t.Run(x.name, func(t *testing.T) {
			asked, reads = nil, 0
			opt := IssuerOptions{URL: issuer.URL, Audience: []string{"countersign"}, Roles: []string{"deploy"}, HTTPClient: issuer.Client()}
			x.change(&opt)
			claims := map[string]any{"iss": issuer.URL, "aud": "countersign", "sub": "system:serviceaccount:shop:web", "exp": noon.Add(time.Hour).Unix()}
			_, err := issuerStore(t, opt).WebIdentity(t.Context(), sign(t, jose.RS256, "k1", rsaKey(), claims), noon)
			if got := tokenReason(err); got != x.reason || (err != nil) != (x.reason != "") {
				t.Fatalf("%q: %v", got, err)
			}
			if want := strings.NewReplacer("ISSUER", issuer.URL, "PLAIN", plain.URL).Replace(x.message); err != nil && err.Error() != want {
				t.Errorf("got  %s\nwant %s", err, want)
			}
			if diff := cmp.Diff(x.asked, asked); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The monotonic clock stands still while the machine sleeps, and the wall clock may be
// set back: keys are not taken for fresh by either.
func TestKeysGrowOldByTheWallClock(t *testing.T) {
	p := newIDP(t)
	p.publish("k1", rsaKey().Public())
	keys := newKeySet(p.server.URL, "", nil, p.server.Client())
	now := time.Now()
	for _, c := range []struct {
		name    string
		at      time.Time
		fetches int64
	}{
		{"the first time", now, 1},
		{"the one who waited", now.Add(-time.Second), 1},
		{"within the hour", now.Add(time.Minute), 1},
		{"set back", now.Add(-2 * time.Minute), 2},
		{"and again", now.Add(-time.Minute), 2},
		{"an hour later", now.Add(time.Hour), 3},
	} {
		if found, err := keys.find(t.Context(), "k1", "RS256", c.at); err != nil || len(found) != 1 || p.fetches.Load() != c.fetches {
			t.Errorf("%s: %d keys, %v, %d fetches, expected %d", c.name, len(found), err, p.fetches.Load(), c.fetches)
		}
		if strings.Contains(keys.fetched.String(), " m=") || strings.Contains(keys.tried.String(), " m=") {
			t.Errorf("%s: fetched %s, tried %s", c.name, keys.fetched, keys.tried)
		}
	}
}
