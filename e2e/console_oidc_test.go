package e2e

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/countersign-proxy/countersign/e2e/browser"
)

// A broker is an OpenID provider behind TLS, as they stand, that may start later
// than those who rely on it.
type broker struct {
	issuer  string // URL
	root    string // file with what to trust
	backend *url.URL
}

func newBroker(t testing.TB) *broker {
	t.Helper()
	b := &broker{}
	front := httptest.NewTLSServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(b.backend)
		r.Out.Host = r.In.Host
		r.SetXForwarded()
	}})
	t.Cleanup(front.Close)
	b.issuer, b.root = front.URL, filepath.Join(t.TempDir(), "issuer.pem")
	if err := os.WriteFile(b.root, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return b
}

// start starts what stands behind the broker's address: a program that prints where
// it listens, and ends with its standard input.
func (b *broker) start(t testing.TB, input string, argv ...string) {
	t.Helper()
	command := exec.Command(argv[0], argv[1:]...)
	command.Env = bareEnvironment(t.TempDir())
	dieWithParent(command)
	var said bytes.Buffer
	command.Stderr = &said
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
		if t.Failed() {
			t.Logf("the broker said: %s", said.String())
		}
	})
	if _, err := io.WriteString(stdin, input); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("the broker did not start: %v", err)
	}
	if b.backend, err = url.Parse(strings.TrimSpace(line)); err != nil {
		t.Fatal(err)
	}
}

// serveBroker starts a proxy whose people sign in with a broker.
func serveBroker(t testing.TB, u *upstream, b *broker, match, more string) *proxy {
	t.Helper()
	secret := filepath.Join(t.TempDir(), "oidc.secret")
	if err := os.WriteFile(secret, []byte("secret of this test\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return serveWith(t, u, fmt.Sprintf(`roles:
  deploy: {arn: %q, labels: {env: prod}}
  hidden: {arn: "arn:aws:iam::444444444444:role/Hidden"}
identities:
  ci: {roles: [deploy], credentials: [{access_key_id: %s, secret_access_key_file: ci.key}]}
issuers:
  - url: %s
    audience: [countersign]
    match: {groups: [%s], email_verified: "true"}
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
`, deployARN, clientKeys["ci"].AccessKeyID, b.issuer, match, b.issuer, secret)+more, []string{"SSL_CERT_FILE=" + b.root})
}

// Dex itself, with its side of the example in docs/console.md.
func TestConsoleThroughDex(t *testing.T) {
	dex, web := tool(t, "dex"), fromEnvironment(t, "COUNTERSIGN_DEX_WEB", "dex-web")
	page, err := os.ReadFile(filepath.Join("..", "docs", "console.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(page), "```yaml\nissuer: https://dex.example.com\n")
	text, _, end := strings.Cut(text, "```")
	if !ok || !end {
		t.Fatal("docs/console.md has no example of Dex")
	}
	var side map[string]any
	if err := yaml.Unmarshal([]byte(text), &side); err != nil {
		t.Fatal(err)
	}
	b := newBroker(t)
	p := serveBroker(t, strictMoto(t), b, "authors", "")

	// What differs from the example: addresses, files, and who the people are.
	delete(side, "storage")
	delete(side, "web")
	side["issuer"] = b.issuer
	client := side["staticClients"].([]any)[0].(map[string]any)
	if client["id"] != "countersign" || client["secretEnv"] == nil {
		t.Errorf("the example's client is %v", client)
	}
	delete(client, "secretEnv") // newer than what can be built
	client["secret"] = "secret of this test"
	client["redirectURIs"] = []any{"http://" + p.admin + "/console/callback"}
	connectors := side["connectors"].([]any)
	if len(connectors) != 2 {
		t.Errorf("the example has %d connectors", len(connectors))
	}
	for _, c := range connectors {
		if own := c.(map[string]any)["config"].(map[string]any); own["ca"] != nil {
			own["ca"] = thePKI(t).rootFile
		}
	}
	side["connectors"] = append([]any{map[string]any{"type": "mockCallback", "id": "mock", "name": "Mock", "config": map[string]any{}}}, connectors...)
	input, err := json.Marshal(side)
	if err != nil {
		t.Fatal(err)
	}
	b.start(t, string(input), dex, web)

	// The mock signs Kilgore Trout of the authors in, whoever comes.
	trusted, err := os.ReadFile(b.root)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(trusted)
	browser := &http.Client{Jar: newJar(t), Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	defer browser.CloseIdleConnections()
	get := func(address string) (string, int, string) {
		t.Helper()
		response, err := browser.Get(address)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.Request.URL.String(), response.StatusCode, string(text)
	}
	at, status, body := get("http://" + p.admin + "/console/login")
	if status != http.StatusOK || !strings.HasPrefix(at, "http://"+p.admin+"/console/callback?") || !strings.Contains(body, "You are signed in") {
		t.Fatalf("ended at %s with %d: %s", at, status, body)
	}
	if _, _, home := get("http://" + p.admin + "/console/"); !strings.Contains(home, "kilgore@kilgore.trout") || !strings.Contains(home, "authors") || !strings.Contains(home, deployARN) || strings.Contains(home, "Hidden") {
		t.Errorf("the page is %s", home)
	}
	// Dex's answer is good once.
	if _, status, _ := get(at); status != http.StatusForbidden {
		t.Errorf("a replayed answer: %d", status)
	}
	var got []string
	for _, l := range consoleLines(t, p.audit, 2) {
		got = append(got, strings.TrimSpace(strings.Join([]string{l.Identity, l.Operation, l.Decision, l.Reason}, " ")))
	}
	if diff := cmp.Diff([]string{"kilgore@kilgore.trout Login allow openid connect", "Login deny no login"}, got); diff != "" {
		t.Error(diff)
	}
}

// People of an organization sign in with a certified provider, in a real browser, and
// get what the rules for its tokens give them.
func TestConsoleOpenIDConnect(t *testing.T) {
	t.Parallel()
	tool(t, "aws")
	modules := nodeModules(t)
	node := tool(t, "node")
	_, err := os.Stat(filepath.Join(modules, "oidc-provider"))
	needs(t, "oidc-provider", err)
	b := newBroker(t)
	b.start(t, "", node, filepath.Join("..", "console", "testdata", "provider.mjs"), modules, "60", b.issuer)
	u := strictMoto(t)
	signin := signinOf(t, u)
	p := serveBroker(t, u, b, `"aws-*", "example:aws-*"`, signingIn(t, u, signin))
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
	c.Until(`document.body.innerText.includes("the rules of this proxy grant you nothing")`)
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
	lines := consoleLines(t, p.audit, 3)
	for _, l := range lines {
		if l.Operation == "SignIn" && (l.Identity != "carol@example.com" || l.SessionName != "carol@example.com") {
			t.Errorf("recorded %+v", l)
		}
	}
	var reasons []string
	for _, l := range lines {
		reasons = append(reasons, l.Operation+" "+l.Decision+" "+l.Reason)
	}
	if got := strings.Join(reasons, ", "); got != "Login deny not let in, Login allow openid connect, SignIn allow signed in" {
		t.Errorf("recorded %s", got)
	}
}
