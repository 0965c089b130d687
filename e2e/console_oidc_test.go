package e2e

import (
	"bufio"
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/countersign-proxy/countersign/e2e/browser"
)

// startProvider starts a certified OpenID provider behind TLS, as brokers stand, and
// returns its URL and the file that holds its root.
func startProvider(t testing.TB) (issuer, root string) {
	t.Helper()
	node, modules := tool(t, "node"), nodeModules(t)
	_, err := os.Stat(filepath.Join(modules, "oidc-provider"))
	needs(t, "oidc-provider", err)
	var backend *url.URL
	front := httptest.NewUnstartedServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(backend)
		r.Out.Host = r.In.Host
		r.SetXForwarded()
	}})
	front.StartTLS()
	t.Cleanup(front.Close)
	command := exec.Command(node, filepath.Join("..", "console", "testdata", "provider.mjs"), modules, "60", front.URL)
	command.Env = bareEnvironment(t.TempDir())
	dieWithParent(command)
	stdin, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		command.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("the provider did not start: %v", err)
	}
	if backend, err = url.Parse(strings.TrimSpace(line)); err != nil {
		t.Fatal(err)
	}
	root = filepath.Join(t.TempDir(), "issuer.pem")
	if err := os.WriteFile(root, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return front.URL, root
}

// People of an organization sign in with a certified provider, in a real browser, and
// get what the rules for its tokens give them.
func TestConsoleOpenIDConnect(t *testing.T) {
	tool(t, "aws")
	modules := nodeModules(t)
	issuer, root := startProvider(t)
	u := strictMoto(t)
	signin := signinOf(t, u)
	secret := filepath.Join(t.TempDir(), "oidc.secret")
	if err := os.WriteFile(secret, []byte("secret of this test\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := serveWith(t, u, fmt.Sprintf(`roles:
  deploy: {arn: %q, labels: {env: prod}}
  hidden: {arn: "arn:aws:iam::444444444444:role/Hidden"}
identities:
  ci: {roles: [deploy], credentials: [{access_key_id: %s, secret_access_key_file: ci.key}]}
issuers:
  - url: %s
    audience: [countersign]
    match: {groups: ["aws-*", "example:aws-*"], email_verified: "true"}
    identity: "{{ .Claims.email }}"
    attributes: {team: "{{ index .Claims.groups 0 }}"}
    roles: [deploy]
console:
  oidc:
    issuer: %s
    client_id: countersign
    client_secret_file: %s
    redirect_url: http://`+adminAddress+`/console/callback
    scopes: [openid, profile, email, groups]
`, deployARN, clientKeys["ci"].AccessKeyID, issuer, issuer, secret)+signingIn(t, u, signin), []string{"SSL_CERT_FILE=" + root})
	home := "http://" + p.admin + "/console/"
	c := browser.Open(t, signin.Address())

	signIn := func(who string) {
		t.Helper()
		c.Visit(home, `document.querySelector("h1").innerText === "Sign in"`)
		c.Axe(modules)
		c.Shot("console-sign-in")
		c.Run(chromedp.Click("main a.button"))
		// The provider's own pages: who, and whether this application may know.
		c.Until(`document.querySelector("input[name=login]") !== null`)
		c.Do(fmt.Sprintf(`document.querySelector("input[name=login]").value = %q; document.querySelector("input[name=password]").value = "x"; document.querySelector("form").submit()`, who))
		c.Until(`document.querySelector("input[name=prompt][value=consent]") !== null`)
		c.Do(`document.querySelector("form").submit()`)
	}
	signIn("mallory") // whose address nobody verified
	c.Until(`document.body.innerText.includes("the rules of this proxy give you nothing")`)
	c.Complaints() // of the answer's status, and the provider's own pages
	c.Run(chromedp.ActionFunc(browser.ForgetCookies))

	signIn("carol")
	c.Until(`location.pathname === "/console/" && document.getElementById("live") !== null && document.getElementById("live").textContent === "live"`)
	if who := browser.Ask[string](c, `document.querySelector(".person > summary").innerText`); !strings.HasSuffix(who, "carol@example.com") {
		t.Errorf("signed in as %s", who)
	}
	if roles := browser.Ask[string](c, `[...document.querySelectorAll("h3")].map((e) => e.innerText).join()`); roles != "deploy" {
		t.Errorf("the roles are %s", roles)
	}
	c.Complaints()
	// What others do is not carol's to see; what she does is.
	p.client("ci").must(t, t.TempDir(), nil, "aws", "sts", "get-caller-identity")
	opened := c.Opened()
	c.Run(chromedp.Click(".role form button"))
	if <-opened == "" {
		t.Fatal("no tab was opened")
	}
	c.Run(chromedp.ActionFunc(browser.ToFront))
	c.Until(`document.getElementById("lines").innerText.includes("console:SignIn")`)
	if lines := browser.Ask[string](c, `document.getElementById("lines").innerText`); strings.Contains(lines, "GetCallerIdentity") || strings.Contains(lines, "mallory") {
		t.Errorf("carol sees %s", lines)
	}
	c.Until(`document.getElementById("live-sessions").innerText.includes("AWS console")`)
	c.Quiet()
	c.Shot("console-oidc")
	if forms := asked(signin, "GetSigninToken"); len(forms) != 1 {
		t.Errorf("%d sign-ins at AWS", len(forms))
	}
	for _, l := range consoleLines(t, p.audit) {
		if l.Operation == "SignIn" && (l.Identity != "carol@example.com" || l.SessionName != "carol@example.com") {
			t.Errorf("recorded %+v", l)
		}
	}
	var reasons []string
	for _, l := range consoleLines(t, p.audit) {
		reasons = append(reasons, l.Operation+" "+l.Decision+" "+l.Reason)
	}
	if got := strings.Join(reasons, ", "); got != "Login deny not let in, Login allow openid connect, SignIn allow signed in" {
		t.Errorf("recorded %s", got)
	}
}
