package console

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/countersign-proxy/countersign/audit"
	"github.com/countersign-proxy/countersign/e2e/browser"
	"github.com/countersign-proxy/countersign/identity"
)

func TestBrowser(t *testing.T) {
	p := newPage(t, setup{})
	c := browser.Open(t, p.cloud.sandbox.Address())

	// The one-time link leads to the page, and the cookie holds.
	c.Visit(p.base+p.link("alice"), `location.pathname === "/console/" && document.querySelectorAll(".role").length === 3`)
	c.Until(`document.getElementById("live").textContent === "live"`)
	c.Quiet()
	c.Readable()
	if secret := browser.Ask[string](c, "document.cookie"); secret != "" {
		t.Errorf("scripts see the cookie %q", secret)
	}

	// Calls appear as they happen, and a denial with what would allow it.
	for n, e := range []audit.Entry{
		{Identity: "alice", Role: "deploy", Service: "s3", Operation: "ListBuckets", Region: "eu-west-1", Decision: audit.Allow, Reason: "allowed"},
		{Identity: "alice", Role: "deploy", Service: "s3", Operation: "PutObject", Region: "eu-west-1", Actions: []string{"s3:PutObject"},
			Resources: []string{"arn:aws:s3:::shop-releases/app/v42.tar.gz"}, Decision: audit.Deny, Reason: "implicit deny"},
		{Identity: "alice", Role: "audit", Service: "ec2", Operation: "TerminateInstances", Region: "eu-west-1", Actions: []string{"ec2:TerminateInstances"}, Decision: audit.Deny, Reason: "read only"},
	} {
		e.Time = time.Now()
		if err := p.log.Write(e); err != nil {
			t.Fatal(err)
		}
		c.Until(fmt.Sprintf(`document.querySelectorAll("#lines tbody tr").length === %d`, n+2)) // and the link's own
	}
	row := `document.querySelectorAll("#lines tbody tr")[1]`
	c.Do(row + `.querySelector("summary").click()`)
	if text := browser.Ask[string](c, row+".innerText"); !strings.Contains(text, "s3:PutObject") || !strings.Contains(text, `"Resource": "arn:aws:s3:::shop-releases/app/v42.tar.gz"`) {
		t.Errorf("the denial says: %s", text)
	}
	c.Do(`navigator.clipboard.writeText = async (text) => { window.copied = text; }; ` + row + `.querySelector(".copy").click()`)
	c.Until(`window.copied === ` + row + `.querySelector("pre").textContent`)
	if n := browser.Ask[int](c, `[...document.querySelectorAll("#lines .copy")].filter((e) => e.checkVisibility()).length`); n != 1 {
		t.Errorf("%d statements can be copied", n)
	}
	c.Shot("page")
	c.Run(chromedp.Click("#denials"))
	if shown := browser.Ask[int](c, `[...document.querySelectorAll("#lines tbody tr")].filter((r) => r.checkVisibility()).length`); shown != 2 {
		t.Errorf("%d lines of 2 denials", shown)
	}

	// Filter and open with the keyboard alone.
	c.Do(`document.activeElement.blur(); scrollTo(0, 0)`)
	c.Visit(p.base+"/console/", `document.querySelectorAll(".role").length === 3`)
	focused := func() string {
		t.Helper()
		return browser.Ask[string](c, `(() => { const e = document.activeElement; return (e.id || e.name || e.textContent.trim()); })()`)
	}
	var way []string
	for range 5 {
		c.Press(kb.Tab)
		way = append(way, focused())
	}
	if got := strings.Join(way[:4], " | "); got != "Skip to content | countersign | Signed in as alice | filter" {
		t.Errorf("the way of Tab is %s", got)
	}
	if outline := browser.Ask[string](c, `getComputedStyle(document.activeElement).outlineStyle`); outline == "none" {
		t.Error("what has the focus does not show it")
	}
	c.Do(`document.getElementById("filter").focus()`)
	c.Press("e", "n", "v", "=", "p", "r", "o", "d")
	if got := browser.Ask[string](c, `[...document.querySelectorAll(".role")].filter((r) => r.checkVisibility()).map((r) => r.querySelector("h3").innerText).join()`); got != "deploy" {
		t.Errorf("the filter leaves %q", got)
	}
	if got := browser.Ask[string](c, `document.getElementById("found").textContent`); got != "1 role fits" {
		t.Errorf("screen readers hear %q", got)
	}
	c.Press(kb.Tab, kb.ArrowDown) // the list of places: S3 is the second
	if got := browser.Ask[string](c, `document.activeElement.value`); got != "s3" {
		t.Errorf("chose %q", got)
	}
	opened := c.Opened()
	c.Press(kb.Tab, kb.Enter)
	if <-opened == "" {
		t.Fatal("no console was opened")
	}
	var login *url.Values
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); {
		if forms := p.cloud.asked("Login"); len(forms) > 0 {
			login = &forms[0]
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if login == nil || login.Get("Destination") != "https://eu-west-1.console.aws.amazon.com/s3/home?region=eu-west-1" {
		t.Fatalf("AWS was asked %v", login)
	}
	for _, r := range p.cloud.sandbox.Requests() {
		if r.Operation == "Login" && (r.Status != 302 || r.Header.Get("Referer") != "" || r.Header.Get("Cookie") != "") {
			t.Errorf("the browser came with %v and got %d", r.Header, r.Status)
		}
	}

	// A phone, and the dark.
	c.Visit(p.base+"/console/", `document.querySelectorAll(".role").length === 3`)
	light := browser.Ask[string](c, `getComputedStyle(document.body).backgroundColor`)
	c.Dark(true)
	if dark := browser.Ask[string](c, `getComputedStyle(document.body).backgroundColor`); dark == light {
		t.Errorf("the dark is as light as %s", dark)
	}
	c.Do(`document.querySelectorAll("details").forEach((d) => { d.open = true; })`)
	c.Readable()
	c.Do(`document.querySelectorAll("details").forEach((d) => { d.open = false; })`)
	c.Shot("page-dark")
	c.Size(360, 740)
	c.Fits()
	c.Shot("page-narrow-dark")
	c.Visit(p.base+"/console/terminal?role=deploy", `document.querySelector("h1").innerText === "Use deploy in a terminal"`)
	c.Fits()
	c.Shot("terminal-narrow-dark")
	c.Dark(false)
	c.Size(1280, 900)
	c.Run(chromedp.Click("form[action$=credentials] button"))
	c.Until(`document.body.innerText.includes("AWS_SECRET_ACCESS_KEY")`)
	c.Shot("terminal")
	c.Quiet()

	// Signing out.
	c.Run(chromedp.Click(".person summary"), chromedp.WaitVisible(".menu button"), chromedp.Click(".menu button"))
	c.Until(`document.body.innerText.includes("stay signed in until their sessions expire")`)
	c.Visit(p.base+"/console/", `document.querySelector("h1").innerText === "Sign in"`)
	c.Shot("signin")
	c.Quiet()
}

// While STS is slow the page is there with what is known; the rest comes by itself.
func TestBrowserLearnsMore(t *testing.T) {
	answer := make(chan struct{})
	p := newPage(t, setup{
		roles:      []Role{{Name: "deploy", ARN: deployARN, Duration: 4 * time.Hour}},
		identities: []identity.Identity{{Name: "alice", Roles: []string{"deploy"}}},
		options:    func(o *Options) { o.Patience = time.Millisecond },
	})
	p.cloud.intercept(func(_ *http.Request, body []byte) *http.Response {
		if strings.Contains(string(body), "GetCallerIdentity") {
			<-answer
		}
		return nil
	})
	c := browser.Open(t, p.cloud.sandbox.Address())
	c.Visit(p.base+p.link("alice"), `location.pathname === "/console/" && document.querySelector(".role") !== null`)
	if text := browser.Ask[string](c, `document.querySelector(".role").innerText`); !strings.Contains(text, "Console sessions of up to 4h.") {
		t.Errorf("the page says %s", text)
	}
	close(answer)
	c.Until(`document.querySelector(".role").innerText.includes("Console sessions of 4h.")`)
	c.Until(`!("unsure" in document.getElementById("roles").dataset)`)
	c.Quiet()
}

// Windows that nobody looks at hold no connection, of which browsers have six for a
// host; when somebody looks again, what happened meanwhile is there.
func TestBrowserLetsGoOfItsStream(t *testing.T) {
	p := newPage(t, setup{})
	c := browser.Open(t, p.cloud.sandbox.Address())
	c.Visit(p.base+p.link("alice"), `location.pathname === "/console/" && document.getElementById("live").textContent === "live"`)
	look := func(hidden bool) {
		c.Do(fmt.Sprintf(`Object.defineProperty(document, "hidden", {value: %v, configurable: true}); document.dispatchEvent(new Event("visibilitychange"))`, hidden))
	}
	look(true)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		p.server.mu.Lock()
		n := len(p.server.streams)
		p.server.mu.Unlock()
		if n == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the stream is held")
		}
	}
	for _, operation := range []string{"First", "Second"} {
		if err := p.log.Write(audit.Entry{Time: time.Now(), Identity: "alice", Service: "s3", Operation: operation, Decision: audit.Allow}); err != nil {
			t.Fatal(err)
		}
	}
	look(false)
	c.Until(`[...document.querySelectorAll("#lines tbody [data-is=call]")].map((e) => e.textContent).join() === "s3:Second,s3:First,console:Link"`)
	c.Quiet()
}

// What a browser does with the cookie beyond the page's own port. The first of these
// is a limit that docs/security.md names; should it fall, so should the sentence there.
func TestBrowserAndOtherPorts(t *testing.T) {
	p := newPage(t, setup{})
	c := browser.Open(t, p.cloud.sandbox.Address())
	c.Visit(p.base+p.link("alice"), `location.pathname === "/console/" && document.querySelectorAll(".role").length === 3`)
	var mu sync.Mutex
	cookies := map[string]string{} // by path
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		cookies[r.URL.Path] = r.Header.Get("Cookie")
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<!doctype html><link rel=icon href=data:,><title>other</title>
<form id=f method=post action="%s/console/open"><input name=role value=deploy></form><iframe id=i src="%[1]s/console/"></iframe>`, p.base)
	}))
	t.Cleanup(other.Close)
	sent := func(path string) string {
		mu.Lock()
		defer mu.Unlock()
		return cookies[path]
	}
	// Navigation there takes the cookie along: to browsers ports are of one site.
	name := p.server.cookieNamed(cookieName) + ".0="
	c.Visit(other.URL+"/visited", `document.title === "other"`)
	if got := sent("/visited"); !strings.Contains(got, name) {
		t.Errorf("another port gets %q: docs/security.md says that it gets the cookie", got)
	}
	// Scripts there see neither the cookie nor the page, and cannot make it do anything.
	if got := browser.Ask[string](c, "document.cookie"); got != "" {
		t.Errorf("a script of another port sees %q", got)
	}
	read := browser.Ask[string](c, fmt.Sprintf(`fetch(%q, {credentials: "include"}).then((r) => r.text(), (e) => "failed")`, p.base+"/console/"))
	framed := browser.Ask[string](c, `(() => { try { return document.getElementById("i").contentDocument.body.innerText } catch { return "" } })()`)
	if read != "failed" || strings.Contains(framed, "deploy") {
		t.Errorf("another port reads %.60q, frames %.60q", read, framed)
	}
	c.Complaints() // about the frame and the fetch
	c.Do(`document.getElementById("f").submit()`)
	c.Until(`document.body.innerText.includes("did not come from this page")`)
	c.Complaints()
	if forms := p.cloud.asked("GetSigninToken"); len(forms) != 0 {
		t.Error("another port opened a console")
	}
	// Another name of the same machine is another site.
	c.Visit(strings.Replace(other.URL, "127.0.0.1", "localhost", 1)+"/name", `document.title === "other"`)
	if got := sent("/name"); got != "" {
		t.Errorf("localhost gets %q", got)
	}
	c.Complaints()
	// A link of another site leads to the page, not to its door.
	for _, path := range []string{"/console/?q=deploy", "/console/terminal?role=deploy"} {
		c.Visit(strings.Replace(other.URL, "127.0.0.1", "localhost", 1)+"/link", `document.title === "other"`)
		c.Do(fmt.Sprintf(`(() => { const a = document.createElement("a"); a.href = %q; document.body.append(a); a.click(); })()`, p.base+path))
		c.Until(fmt.Sprintf(`location.href === %q && document.querySelector(".person") !== null`, p.base+path))
		c.Complaints()
	}
}

// What others chose must do nothing in a real browser, drawn by the server or by the
// script.
func TestBrowserRunsNoMarkup(t *testing.T) {
	role := Role{Name: "deploy", ARN: deployARN, Labels: map[string]string{"env": evil, evil: "x", "aws_account_name": evil, "description": evil}}
	p := newPage(t, setup{roles: []Role{role}, identities: []identity.Identity{{Name: "bob", Roles: []string{"deploy"}, Attributes: map[string]string{"team": evil}}}})
	entry := audit.Entry{Time: time.Now(), Identity: "alice", Service: "s3", Operation: evil, Role: evil, Region: evil, Actions: []string{"s3:GetObject" + evil}, Resources: []string{"arn:aws:s3:::b/" + evil},
		Decision: audit.Deny, Reason: "implicit deny"}
	if err := p.log.Write(entry); err != nil {
		t.Fatal(err)
	}
	p.lines(1)
	c := browser.Open(t, p.cloud.sandbox.Address())
	c.Visit(p.base+p.link("bob"), `document.querySelectorAll("#lines tbody tr").length >= 2`)
	c.Until(`document.getElementById("live").textContent === "live"`)
	entry.Error, entry.Reason = evil, evil
	if err := p.log.Write(entry); err != nil {
		t.Fatal(err)
	}
	c.Until(`document.querySelectorAll("#lines tbody tr").length >= 3`)
	if n := browser.Ask[int](c, `document.querySelectorAll("main img").length + document.querySelectorAll("script").length`); n != 1 { // our own script
		t.Errorf("%d elements of others", n-1)
	}
	var statement struct{ Resource string }
	text := browser.Ask[string](c, `[...document.querySelectorAll("#lines tbody [data-is=statement]")].map((e) => e.textContent).find((s) => s)`)
	if err := json.Unmarshal([]byte(text), &statement); err != nil || !strings.Contains(statement.Resource, "<script>alert(1)</script>") {
		t.Errorf("the statement is %s", text)
	}
	c.Shot("markup")
	c.Quiet()
}
