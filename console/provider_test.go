package console

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/countersign-proxy/countersign/identity"
)

// startProvider starts a certified OpenID provider, which is not ours.
func startProvider(t *testing.T) string {
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
	c := exec.Command(node, "testdata/provider.mjs", modules)
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
func consent(t *testing.T, browser *http.Client, address, back string) string {
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
		form := url.Values{"login": {"carol"}, "password": {"x"}}
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

func TestCertifiedProvider(t *testing.T) {
	issuer := startProvider(t)
	transport := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	rules, err := identity.NewIssuer(identity.IssuerOptions{
		URL: issuer, Audience: []string{"console"}, Match: map[string][]string{"groups": {"deployers"}},
		Identity: "{{ .Claims.email }}", Roles: []string{"deploy"}, HTTPClient: transport,
	})
	if err != nil {
		t.Fatal(err)
	}
	p := newPage(t, setup{issuers: []*identity.Issuer{rules}, options: func(o *Options) {
		o.OIDC = &OIDC{Issuer: issuer, ClientID: "console", RedirectURL: o.Base + "/console/callback", Client: transport}
	}})
	back := func(p *page) string {
		t.Helper()
		got := p.get("/console/login")
		if got.status != http.StatusSeeOther {
			t.Fatalf("login answered %d: %s", got.status, got.body)
		}
		return strings.TrimPrefix(consent(t, p.browser, got.header.Get("Location"), p.base+"/console/callback"), p.base)
	}
	answer := back(p)
	jar := p.browser.Jar.Cookies(must(url.Parse(p.base)))
	if got := p.get(answer); got.status != http.StatusOK {
		t.Fatalf("the answer was not taken: %d %s\n%s", got.status, got.body, p.record)
	}
	if home := p.get("/console/").body; !strings.Contains(home, "carol@example.com") || !strings.Contains(home, "Deploys the shop") {
		t.Errorf("the page is %s", home)
	}
	// The same answer again, with all that the browser had.
	p.browser = p.newBrowser()
	p.browser.Jar.SetCookies(must(url.Parse(p.base)), jar)
	if got := p.get(answer); got.status != http.StatusForbidden || p.last(2).Reason != "code" {
		t.Errorf("a replayed code: %d, %q", got.status, p.last(2).Reason)
	}
	// A code that was stolen on its way, used from another browser's sign-in.
	p.browser = p.newBrowser()
	stolen := must(url.Parse(back(p)))
	p.browser = p.newBrowser()
	own := must(url.Parse(back(p)))
	q := own.Query()
	q.Set("code", stolen.Query().Get("code"))
	own.RawQuery = q.Encode()
	if got := p.get(own.String()); got.status != http.StatusForbidden || p.last(3).Reason != "code" {
		t.Errorf("a stolen code: %d, %q", got.status, p.last(3).Reason)
	}
}
