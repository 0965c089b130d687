package console

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/countersign-proxy/countersign/identity"
)

// issuer is an OpenID provider that can be made to lie. It checks what a client
// sends it: client id, redirect URL, PKCE, and that a code is used once.
type issuer struct {
	t   *testing.T
	url string
	key *ecdsa.PrivateKey
	now func() time.Time

	mu     sync.Mutex
	codes  map[string]url.Values // parameters of the authorization request
	claims func(c map[string]any)
	signer *ecdsa.PrivateKey      // nil: key
	answer func(q url.Values)     // changes what goes back to the client
	token  func(m map[string]any) // changes the token endpoint's answer
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{t: t, key: key, now: time.Now, codes: map[string]url.Values{}}
	mux := http.NewServeMux()
	reply := func(w http.ResponseWriter, status int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		reply(w, 200, map[string]any{"issuer": i.url, "authorization_endpoint": i.url + "/authorize", "token_endpoint": i.url + "/token", "jwks_uri": i.url + "/keys",
			"id_token_signing_alg_values_supported": []string{"ES256"}, "authorization_response_iss_parameter_supported": true})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, r *http.Request) {
		reply(w, 200, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		i.mu.Lock()
		defer i.mu.Unlock()
		asked, ok := i.codes[r.PostForm.Get("code")]
		delete(i.codes, r.PostForm.Get("code"))
		sum := sha256.Sum256([]byte(r.PostForm.Get("code_verifier")))
		id, _, _ := r.BasicAuth()
		if id == "" {
			id = r.PostForm.Get("client_id")
		}
		if !ok || id != "console" || r.PostForm.Get("redirect_uri") != asked.Get("redirect_uri") || asked.Get("code_challenge_method") != "S256" ||
			base64.RawURLEncoding.EncodeToString(sum[:]) != asked.Get("code_challenge") {
			reply(w, 400, map[string]any{"error": "invalid_grant", "error_description": "SECRET DETAIL"})
			return
		}
		now := i.now()
		claims := map[string]any{"iss": i.url, "aud": "console", "sub": "carol", "nonce": asked.Get("nonce"), "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
			"email": "carol@example.com", "groups": []string{"deployers"}}
		if i.claims != nil {
			i.claims(claims)
		}
		signing := i.key
		if i.signer != nil {
			signing = i.signer
		}
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: signing, KeyID: "k"}}, nil)
		if err != nil {
			t.Error(err)
		}
		raw, err := jwt.Signed(signer).Claims(claims).Serialize()
		if err != nil {
			t.Error(err)
		}
		out := map[string]any{"access_token": "at", "token_type": "Bearer", "id_token": raw}
		if i.token != nil {
			i.token(out)
		}
		reply(w, 200, out)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	i.url = server.URL
	return i
}

// authorize is what the issuer does with an authorization request whose person said
// yes: the address that it sends the browser back to.
func (i *issuer) authorize(address string) string {
	i.t.Helper()
	u, err := url.Parse(address)
	if err != nil || !strings.HasPrefix(address, i.url+"/authorize?") {
		i.t.Fatalf("sent to %q, %v", address, err)
	}
	asked := u.Query()
	for _, name := range []string{"state", "nonce", "code_challenge"} {
		if len(asked.Get(name)) < 40 {
			i.t.Errorf("%s is %q", name, asked.Get(name))
		}
	}
	code := rand.Text()
	i.mu.Lock()
	i.codes[code] = asked
	i.mu.Unlock()
	q := url.Values{"code": {code}, "state": {asked.Get("state")}, "iss": {i.url}}
	if i.answer != nil {
		i.answer(q)
	}
	return asked.Get("redirect_uri") + "?" + q.Encode()
}

// newOIDCPage is a page where people sign in at the issuer.
func newOIDCPage(t *testing.T, i *issuer) *page {
	t.Helper()
	rules, err := identity.NewIssuer(identity.IssuerOptions{
		URL: i.url, Audience: []string{"console"}, Match: map[string][]string{"groups": {"deployers"}},
		Identity: "{{ .Claims.email }}", Attributes: map[string]string{"team": "{{ .Claims.sub }}"}, Roles: []string{"deploy"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return newPage(t, setup{issuers: []*identity.Issuer{rules}, options: func(o *Options) {
		o.OIDC = &OIDC{Issuer: i.url, ClientID: "console", RedirectURL: o.Base + "/console/callback", Client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	}})
}

// begin goes to the issuer and returns the way back, as a path of the page.
func (p *page) begin(i *issuer) string {
	p.t.Helper()
	got := p.get("/console/login")
	if got.status != http.StatusSeeOther {
		p.t.Fatalf("login answered %d: %s", got.status, got.body)
	}
	return strings.TrimPrefix(i.authorize(got.header.Get("Location")), p.base)
}

func TestOIDC(t *testing.T) {
	i := newIssuer(t)
	p := newOIDCPage(t, i)
	if body := p.get("/console/").body; !strings.Contains(body, `href="/console/login"`) || strings.Contains(body, "--link") {
		t.Error("the page does not offer to sign in")
	}
	back := p.begin(i)
	if got := p.get(back); got.status != http.StatusOK {
		t.Fatalf("the answer was not taken: %s", got.body)
	}
	home := p.get("/console/").body
	if !strings.Contains(home, "carol@example.com") || !strings.Contains(home, "Deploys the shop") || strings.Contains(home, "Account 333333333333") {
		t.Errorf("the page of somebody else: %s", home)
	}
	got := p.post("/console/open", url.Values{"csrf": {p.csrf()}, "role": {"deploy"}})
	if got.status != http.StatusOK || got.leadsTo() == "" {
		t.Fatalf("%d: %s", got.status, got.body)
	}
	if name := p.cloud.asked("AssumeRole")[0].Get("RoleSessionName"); name != "carol@example.com" {
		t.Errorf("the session is named %q", name)
	}
	if e := p.lines(2)[0]; e.Operation != "Login" || e.Identity != "carol@example.com" || e.Reason != "openid connect" {
		t.Errorf("recorded %+v", e)
	}
	body := p.get("/console/terminal?role=deploy").body
	if strings.Contains(body, "countersign env") {
		t.Error("commands that need the proxy's own key are offered to somebody at another machine")
	}
	body = p.post("/console/credentials", url.Values{"csrf": {p.csrf()}, "role": {"deploy"}}).body
	if !strings.Contains(body, "AWS_CA_BUNDLE=countersign-ca.pem") || !strings.Contains(body, "AWS_SESSION_TOKEN=CS1.") {
		t.Error("no credentials for a terminal elsewhere")
	}
	// A link, as of a configuration before, signs nobody in here.
	if got := p.get(p.link("alice")); got.status != http.StatusForbidden {
		t.Errorf("a link: %d", got.status)
	}
}

func TestOIDCRefused(t *testing.T) {
	foreign, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set := func(name string, v any) func(*issuer) {
		return func(i *issuer) { i.claims = func(c map[string]any) { c[name] = v } }
	}
	answer := func(name, v string) func(*issuer) {
		return func(i *issuer) { i.answer = func(q url.Values) { q.Set(name, v) } }
	}
	for _, test := range []struct {
		name   string
		lie    func(i *issuer)
		change func(p *page, i *issuer, back string) string
		reason string
	}{
		{name: "wrong state", lie: answer("state", "x"), reason: "state"},
		{name: "no state", lie: answer("state", ""), reason: "state"},
		{name: "wrong nonce", lie: set("nonce", "x"), reason: "nonce"},
		{name: "no nonce", lie: set("nonce", ""), reason: "nonce"},
		{name: "wrong audience", lie: set("aud", "other"), reason: "id token"},
		{name: "audience beside ours", lie: set("aud", []string{"console", "other"}), reason: "authorized party"},
		{name: "made for another party", lie: set("azp", "other"), reason: "authorized party"},
		{name: "wrong issuer in the token", lie: set("iss", "https://example.com"), reason: "id token"},
		{name: "wrong issuer in the answer", lie: answer("iss", "https://example.com"), reason: "issuer mix-up"},
		{name: "no issuer in the answer", lie: answer("iss", ""), reason: "issuer mix-up"},
		{name: "expired token", lie: set("exp", time.Now().Add(-time.Hour).Unix()), reason: "id token"},
		{name: "foreign key", lie: func(i *issuer) { i.signer = foreign }, reason: "id token"},
		{name: "no token", lie: func(i *issuer) { i.token = func(m map[string]any) { delete(m, "id_token") } }, reason: "no id token"},
		{name: "access token of somebody else", lie: func(i *issuer) {
			i.claims = func(c map[string]any) { c["at_hash"] = "AAAAAAAAAAAAAAAAAAAAAA" }
		}, reason: "access token"},
		{name: "nobody by the rules", lie: set("groups", []string{"visitors"}), reason: "not let in"},
		{name: "refused", lie: func(i *issuer) {
			i.answer = func(q url.Values) {
				q.Del("code")
				q.Set("error", "access_denied")
				q.Set("error_description", "<script>")
			}
		}, reason: "refused by issuer"},
		{name: "no code", lie: answer("code", ""), reason: "no code"},
		{name: "foreign code", lie: answer("code", "x"), reason: "code"},
		{name: "code of another sign-in", reason: "code", change: func(p *page, i *issuer, back string) string {
			// The attacker's code, put into the victim's answer: PKCE binds it.
			theirs := *p
			theirs.browser = p.newBrowser()
			a, err := url.Parse(theirs.begin(i))
			if err != nil {
				t.Fatal(err)
			}
			b, err := url.Parse(back)
			if err != nil {
				t.Fatal(err)
			}
			q := b.Query()
			q.Set("code", a.Query().Get("code"))
			b.RawQuery = q.Encode()
			return b.String()
		}},
		{name: "answer of another browser", reason: "no login", change: func(p *page, _ *issuer, back string) string {
			p.browser = p.newBrowser()
			return back
		}},
		{name: "replayed answer", reason: "no login", change: func(p *page, _ *issuer, back string) string {
			if got := p.get(back); got.status != http.StatusOK {
				t.Errorf("the first time: %d", got.status)
			}
			return back
		}},
		{name: "replayed code", reason: "code", change: func(p *page, _ *issuer, back string) string {
			kept := p.browser.Jar.Cookies(must(url.Parse(p.base)))
			if got := p.get(back); got.status != http.StatusOK {
				t.Errorf("the first time: %d", got.status)
			}
			p.browser = p.newBrowser()
			p.browser.Jar.SetCookies(must(url.Parse(p.base)), kept)
			return back
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			i := newIssuer(t)
			if test.lie != nil {
				test.lie(i)
			}
			p := newOIDCPage(t, i)
			back := p.begin(i)
			n := 1
			if test.change != nil {
				back = test.change(p, i, back)
				if strings.HasPrefix(test.name, "replayed") {
					n = 2
				}
			}
			got := p.get(back)
			if got.status != http.StatusForbidden || strings.Contains(got.body, "<script>") || strings.Contains(got.body, "SECRET DETAIL") {
				t.Errorf("status %d: %s", got.status, got.body)
			}
			for _, c := range got.header["Set-Cookie"] {
				if strings.Contains(c, cookieName) {
					t.Errorf("a cookie: %s", c)
				}
			}
			if e := p.last(n); e.Operation != "Login" || e.Reason != test.reason || strings.Contains(e.Error, "SECRET DETAIL") {
				t.Errorf("recorded %q: %s, want %q", e.Reason, e.Error, test.reason)
			}
		})
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// An issuer that is away keeps the proxy from nothing but sign-ins.
func TestOIDCIssuerAway(t *testing.T) {
	i := newIssuer(t)
	away := i.url
	i.url = "http://127.0.0.1:1"
	p := newOIDCPage(t, i)
	if got := p.get("/console/login"); got.status != http.StatusBadGateway {
		t.Errorf("status %d", got.status)
	}
	i.url = away
	p.server.oidc.opt.Issuer = away // it is back
	if got := p.get("/console/login"); got.status != http.StatusSeeOther {
		t.Errorf("status %d: %s", got.status, got.body)
	}
}

// A team behind one balancer signs in at the same time, and one of them sends
// whatever comes to mind.
func TestOIDCBehindABalancer(t *testing.T) {
	now := time.Now()
	i := newIssuer(t)
	p := newOIDCPage(t, i)
	p.server.limits.now = func() time.Time { return now }
	if got := p.get(p.begin(i)); got.status != http.StatusOK {
		t.Fatalf("the first: %d", got.status)
	}
	for n := range tryBurst + 10 {
		p.browser = p.newBrowser()
		want := http.StatusForbidden
		if n >= tryBurst {
			want = http.StatusTooManyRequests
		}
		if got := p.get("/console/callback?code=x&state=x"); got.status != want {
			t.Fatalf("answer %d: %d, want %d", n, got.status, want)
		}
	}
	for n := range begunBurst/2 - 1 {
		p.browser = p.newBrowser()
		if got := p.get(p.begin(i)); got.status != http.StatusOK {
			t.Fatalf("person %d: %d %s", n, got.status, got.body)
		}
	}
	if got := p.get("/console/login"); got.status != http.StatusTooManyRequests {
		t.Errorf("one more: %d", got.status)
	}
	now = now.Add(time.Second)
	if got := p.get(p.begin(i)); got.status != http.StatusOK {
		t.Errorf("after a while: %d", got.status)
	}
}

// However many wait for an issuer that is slow, it is asked once, and they wait once.
func TestOIDCDiscoveryIsShared(t *testing.T) {
	i := newIssuer(t)
	p := newOIDCPage(t, i)
	asked, answer := make(chan struct{}), make(chan struct{})
	client := p.server.oidc.client
	p.server.oidc.client = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		close(asked) // a second time would panic
		<-answer
		return client.Transport.RoundTrip(r)
	})}
	done := make(chan error, 1)
	go func() {
		_, err := p.server.oidc.discover(t.Context())
		done <- err
	}()
	<-asked
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.server.oidc.discover(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("who left: %v", err)
	}
	var waiting sync.WaitGroup
	for range 5 {
		waiting.Go(func() {
			if _, err := p.server.oidc.discover(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	close(answer)
	waiting.Wait()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestOIDCOptions(t *testing.T) {
	good := OIDC{Issuer: "https://issuer.example.com", ClientID: "console", RedirectURL: "https://gateway.example.com/console/callback"}
	for name, change := range map[string]func(o *OIDC){
		"other path":   func(o *OIDC) { o.RedirectURL = "https://gateway.example.com/" },
		"query":        func(o *OIDC) { o.RedirectURL += "?x" },
		"no issuer":    func(o *OIDC) { o.Issuer = "" },
		"no client id": func(o *OIDC) { o.ClientID = "" },
	} {
		o := good
		change(&o)
		if _, err := newRelyingParty(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := newRelyingParty(good); err != nil {
		t.Error(err)
	}
}
