package console

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/countersign-proxy/countersign/audit"
	"github.com/countersign-proxy/countersign/identity"
)

// startProvider starts a certified OpenID provider, which is not ours. Its codes and ID tokens live for so many seconds. It counts in whole ones, so that
// what lives for one may be over at once.
func startProvider(t *testing.T, code, token int) string {
	t.Helper()
	missing := func(what string) {
		if os.Getenv("CI") == "true" {
			t.Fatalf("there is no %s; .ci/tools should have installed it", what)
		}
		t.Skipf("there is no %s: `make test` installs it", what)
	}
	node, err := exec.LookPath("node")
	if err != nil {
		missing("node")
	}
	modules := os.Getenv("COUNTERSIGN_NODE_MODULES")
	if _, err := os.Stat(filepath.Join(modules, "oidc-provider")); err != nil || modules == "" {
		missing("oidc-provider in COUNTERSIGN_NODE_MODULES")
	}
	c := exec.Command(node, "testdata/provider.mjs", modules, fmt.Sprintf("%d,%d", code, token))
	var said bytes.Buffer
	c.Stderr = &said
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = c.Wait() // its exit code says nothing about the test
		if t.Failed() {
			t.Logf("the provider said: %s", said.String())
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the provider did not start: %v", err)
	}
	return strings.TrimSpace(line)
}

var (
	formAction  = regexp.MustCompile(`<form[^>]* action="([^"]+)"`)
	hiddenField = regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)"`)
)

// consent goes through the provider's own pages as a person would, and returns the
// address that it sends the browser back to.
func consent(t *testing.T, browser *http.Client, who, address, back string) string {
	t.Helper()
	at := must(url.Parse(address))
	r := must(http.NewRequest(http.MethodGet, address, nil))
	for range 20 {
		res, err := browser.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if to := res.Header.Get("Location"); to != "" {
			next := must(at.Parse(to))
			if strings.HasPrefix(next.String(), back) {
				return next.String()
			}
			at, r = next, must(http.NewRequest(http.MethodGet, next.String(), nil))
			continue
		}
		action := formAction.FindStringSubmatch(string(body))
		if res.StatusCode != http.StatusOK || action == nil {
			t.Fatalf("the provider answered %d: %s", res.StatusCode, body)
		}
		form := url.Values{"login": {who}, "password": {"x"}}
		for _, m := range hiddenField.FindAllStringSubmatch(string(body), -1) {
			form.Set(m[1], m[2])
		}
		at = must(at.Parse(action[1]))
		r = must(http.NewRequest(http.MethodPost, at.String(), strings.NewReader(form.Encode())))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	t.Fatal("the provider goes in circles")
	return ""
}

// certified is a page whose people sign in at a certified provider. Answers of its
// token endpoint pass through exchanged, if it is set.
type certified struct {
	*page
	issuer    string
	who       string // "": carol
	exchanged func(answer map[string]any)
}

func newCertified(t *testing.T, issuer string, change func(o *OIDC)) *certified {
	t.Helper()
	c := &certified{issuer: issuer}
	plain := &http.Transport{DisableKeepAlives: true}
	client := &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		res, err := plain.RoundTrip(r)
		if err != nil || c.exchanged == nil || r.URL.Path != "/token" {
			return res, err
		}
		defer res.Body.Close()
		var answer map[string]any
		if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
			return nil, err
		}
		if _, ok := answer["id_token"]; ok {
			c.exchanged(answer)
		}
		text, err := json.Marshal(answer)
		res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
		return res, err
	})}
	o := OIDC{Issuer: issuer, ClientID: "console", Client: client, Scopes: []string{"openid", "profile", "email", "groups"}}
	if change != nil {
		change(&o)
	}
	rules, err := identity.NewIssuer(identity.IssuerOptions{
		URL: issuer, Audience: []string{o.ClientID}, Match: map[string][]string{"groups": {"aws-*", "example:aws-*"}, "email_verified": {"true"}},
		Identity: "{{ .Claims.email }}", Attributes: map[string]string{"team": "{{ index .Claims.groups 0 }}"}, Roles: []string{"deploy"}, HTTPClient: client,
	})
	if err != nil {
		t.Fatal(err)
	}
	c.page = newPage(t, setup{issuers: []*identity.Issuer{rules}, options: func(opt *Options) {
		o.RedirectURL = opt.Base + "/console/callback"
		opt.OIDC = &o
	}})
	return c
}

// answer signs in at the provider, after what the page asks of it was changed, and
// returns the path that the provider sends the browser back to.
func (c *certified) answer(change func(q url.Values)) string {
	c.t.Helper()
	got := c.get("/console/login")
	if got.status != http.StatusSeeOther {
		c.t.Fatalf("login answered %d: %s", got.status, got.body)
	}
	to := must(url.Parse(got.header.Get("Location")))
	if change != nil {
		q := to.Query()
		change(q)
		to.RawQuery = q.Encode()
	}
	return strings.TrimPrefix(consent(c.t, c.browser, cmp.Or(c.who, "carol"), to.String(), c.base+"/console/callback"), c.base)
}

// token is what the provider says of a person to another application of its own.
func token(t *testing.T, issuer, client, nonce string) string {
	t.Helper()
	jar := must(cookiejar.New(nil))
	browser := &http.Client{Jar: jar, Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	config := &oauth2.Config{ClientID: client, RedirectURL: "http://127.0.0.1:9/console/callback", Scopes: []string{"openid", "email", "groups"},
		Endpoint: oauth2.Endpoint{AuthURL: issuer + "/auth", TokenURL: issuer + "/token", AuthStyle: oauth2.AuthStyleInParams}}
	verifier := oauth2.GenerateVerifier()
	back := must(url.Parse(consent(t, browser, "carol", config.AuthCodeURL("state", oauth2.S256ChallengeOption(verifier), oauth2.SetAuthURLParam("nonce", nonce)), config.RedirectURL)))
	ctx := context.WithValue(t.Context(), oauth2.HTTPClient, browser)
	got, err := config.Exchange(ctx, back.Query().Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	return got.Extra("id_token").(string)
}

// What a broker such as Dex is told of this client, and what it says of people.
func TestCertifiedProvider(t *testing.T) {
	issuer := startProvider(t, 60, 60)
	for name, change := range map[string]func(o *OIDC){
		"public client":    nil,
		"client of broker": func(o *OIDC) { o.ClientID, o.ClientSecret = "countersign", "secret of this test" },
	} {
		t.Run(name, func(t *testing.T) {
			p := newCertified(t, issuer, change)
			if got := p.get(p.answer(nil)); got.status != http.StatusOK {
				t.Fatalf("the answer was not taken: %d %s\n%s", got.status, got.body, p.record)
			}
			home := p.get("/console/").body
			for _, want := range []string{"carol@example.com", "Deploys the shop", "aws-deployers"} {
				if !strings.Contains(home, want) {
					t.Errorf("the page lacks %q: %s", want, home)
				}
			}
			if e := p.last(1); e.Operation != "Login" || e.Identity != "carol@example.com" || e.Decision != audit.Allow {
				t.Errorf("recorded %+v", e)
			}
			// Signing out here: the cookie is worth nothing any more.
			jar := p.browser.Jar.Cookies(must(url.Parse(p.base)))
			if got := p.post("/console/signout", url.Values{"csrf": {p.csrf()}}); got.status != http.StatusOK {
				t.Errorf("signing out: %d", got.status)
			}
			p.browser.Jar.SetCookies(must(url.Parse(p.base)), jar)
			// Revocations are read at most four times a second.
			for deadline := time.Now().Add(2 * time.Minute); strings.Contains(p.get("/console/").body, "Deploys the shop"); {
				if time.Now().After(deadline) {
					t.Fatal("a copy of the cookie still signs in")
				}
			}
		})
	}
}

// Answers and tokens of a real provider that are not for this sign-in.
func TestCertifiedProviderRefused(t *testing.T) {
	issuer, briefCodes, briefTokens := startProvider(t, 60, 60), startProvider(t, 1, 60), startProvider(t, 60, 1)
	set := func(path, name, value string) string {
		u := must(url.Parse(path))
		q := u.Query()
		q.Set(name, value)
		u.RawQuery = q.Encode()
		return u.String()
	}
	const long = 2100 * time.Millisecond // more than what lives for a second
	for _, test := range []struct {
		name   string
		issuer string
		client func(o *OIDC)
		send   func(p *certified) string // the answer that the browser brings
		reason string
		text   string // in the record beside the reason
	}{
		{"state", issuer, nil, func(p *certified) string { return set(p.answer(nil), "state", random()) }, "state", ""},
		{"nonce", issuer, nil, func(p *certified) string {
			return p.answer(func(q url.Values) { q.Set("nonce", random()) })
		}, "nonce", ""},
		{"no nonce", issuer, nil, func(p *certified) string { return p.answer(func(q url.Values) { q.Del("nonce") }) }, "nonce", ""},
		{"code of another application", issuer, nil, func(p *certified) string {
			return p.answer(func(q url.Values) { q.Set("client_id", "other") })
		}, "code", "invalid_grant"},
		{"token of another application", issuer, nil, func(p *certified) string {
			var nonce string
			back := p.answer(func(q url.Values) { nonce = q.Get("nonce") })
			p.exchanged = func(a map[string]any) { a["id_token"] = token(t, issuer, "other", nonce) }
			return back
		}, "id token", `expected audience "console" got ["other"]`},
		{"token of another issuer", issuer, nil, func(p *certified) string {
			var nonce string
			back := p.answer(func(q url.Values) { nonce = q.Get("nonce") })
			p.exchanged = func(a map[string]any) { a["id_token"] = token(t, briefTokens, "console", nonce) }
			return back
		}, "id token", "different provider"},
		{"token that was changed", issuer, nil, func(p *certified) string {
			back := p.answer(nil)
			p.exchanged = func(a map[string]any) {
				parts := strings.Split(a["id_token"].(string), ".")
				claims := must(base64.RawURLEncoding.DecodeString(parts[1]))
				parts[1] = base64.RawURLEncoding.EncodeToString(bytes.Replace(claims, []byte("carol@"), []byte("admin@"), 1))
				a["id_token"] = strings.Join(parts, ".")
			}
			return back
		}, "id token", "signature"},
		{"token without signature", issuer, nil, func(p *certified) string {
			back := p.answer(nil)
			p.exchanged = func(a map[string]any) {
				parts := strings.Split(a["id_token"].(string), ".")
				a["id_token"] = base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + "."
			}
			return back
		}, "id token", "none"},
		{"answer of another issuer", issuer, nil, func(p *certified) string { return set(p.answer(nil), "iss", briefTokens) }, "issuer mix-up", ""},
		{"expired code", briefCodes, nil, func(p *certified) string {
			back := p.answer(nil)
			time.Sleep(long)
			return back
		}, "code", "invalid_grant"},
		{"expired token", briefTokens, nil, func(p *certified) string {
			p.exchanged = func(map[string]any) { time.Sleep(long) }
			return p.answer(nil)
		}, "id token", "expired"},
		{"replayed code", issuer, nil, func(p *certified) string {
			back := p.answer(nil)
			jar := p.browser.Jar.Cookies(must(url.Parse(p.base)))
			if got := p.get(back); got.status != http.StatusOK {
				t.Errorf("the first time: %d", got.status)
			}
			p.browser = p.newBrowser()
			p.browser.Jar.SetCookies(must(url.Parse(p.base)), jar)
			return back
		}, "code", "invalid_grant"},
		{"stolen code", issuer, nil, func(p *certified) string {
			stolen := must(url.Parse(p.answer(nil))).Query().Get("code")
			p.browser = p.newBrowser()
			return set(p.answer(nil), "code", stolen)
		}, "code", "invalid_grant"},
		{"wrong secret", issuer, func(o *OIDC) { o.ClientID, o.ClientSecret = "countersign", "not the secret" }, func(p *certified) string { return p.answer(nil) }, "code", "invalid_client"},
		{"address that nobody verified", issuer, nil, func(p *certified) string {
			p.who = "mallory"
			return p.answer(nil)
		}, "not let in", "email_verified"},
		{"refused at the provider", issuer, nil, func(p *certified) string {
			back := must(url.Parse(p.answer(nil)))
			q := url.Values{"state": {back.Query().Get("state")}, "iss": {issuer}, "error": {"access_denied"}}
			return back.Path + "?" + q.Encode()
		}, "refused by issuer", "access_denied"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newCertified(t, test.issuer, test.client)
			got := p.get(test.send(p))
			if got.status != http.StatusForbidden {
				t.Errorf("status %d: %s", got.status, got.body)
			}
			for _, c := range got.header["Set-Cookie"] {
				if strings.Contains(c, cookieName) {
					t.Errorf("a cookie: %s", c)
				}
			}
			n := 1
			if test.name == "replayed code" {
				n = 2
			}
			if e := p.last(n); e.Decision != audit.Deny || e.Reason != test.reason || !strings.Contains(e.Error, test.text) {
				t.Errorf("recorded %q: %s; want %q with %q", e.Reason, e.Error, test.reason, test.text)
			}
			if home := p.get("/console/").body; strings.Contains(home, "Deploys the shop") {
				t.Error("somebody is signed in")
			}
		})
	}
}
