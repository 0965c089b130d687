package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/countersign-proxy/countersign/audit"
	"github.com/countersign-proxy/countersign/identity"
)

// chrome is a headless Chromium in which nothing may go wrong: no script error, no
// violation of the Content-Security-Policy, no dialog.
type chrome struct {
	t   *testing.T
	ctx context.Context
	dir string // of screenshots

	mu   sync.Mutex
	said []string
}

// openChrome starts Chromium. Sign-in and console hosts of AWS lead to the sandbox.
func openChrome(t *testing.T, aws string) *chrome {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("there is no Chromium; .ci/tools should have installed it")
		}
		t.Skip("there is no Chromium: install Debian's chromium to run this")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.WindowSize(1280, 900), chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("ignore-certificate-errors", true),
		chromedp.Flag("host-resolver-rules", "MAP *.amazon.com "+aws),
		chromedp.Flag("no-proxy-server", true),
	)
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	timed, end := context.WithTimeout(ctx, 60*time.Second)
	c := &chrome{t: t, ctx: timed, dir: t.ArtifactDir()}
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits for the browser to be gone
		end()
		cancel()
		stop()
	})
	chromedp.ListenTarget(timed, c.hear)
	if err := chromedp.Run(timed, cdplog.Enable(), runtime.Enable()); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *chrome) hear(event any) {
	var text string
	switch e := event.(type) {
	case *cdplog.EventEntryAdded:
		text = fmt.Sprintf("%s %s: %s (%s)", e.Entry.Source, e.Entry.Level, e.Entry.Text, e.Entry.URL)
	case *runtime.EventExceptionThrown:
		text = "exception: " + e.ExceptionDetails.Error()
	case *runtime.EventConsoleAPICalled:
		text = "console." + string(e.Type)
	case *cdppage.EventJavascriptDialogOpening:
		text = "dialog: " + e.Message
	default:
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said = append(c.said, text)
}

// quiet fails if the browser complained of anything.
func (c *chrome) quiet() {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.said {
		c.t.Errorf("the browser says: %s", s)
	}
	c.said = nil
}

func (c *chrome) run(actions ...chromedp.Action) {
	c.t.Helper()
	if err := chromedp.Run(c.ctx, actions...); err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.t.Fatalf("%v; the browser says %q", err, c.said)
	}
}

// ask evaluates an expression.
func ask[T any](c *chrome, expression string) T {
	c.t.Helper()
	var out T
	c.run(chromedp.Evaluate(expression, &out))
	return out
}

// visit goes to an address and waits until a condition holds there. It does not wait
// for the load event, which chromedp can miss while the page is in the background.
func (c *chrome) visit(address, condition string) {
	c.t.Helper()
	c.run(cdppage.BringToFront(), chromedp.ActionFunc(func(ctx context.Context) error {
		_, _, failed, _, err := cdppage.Navigate(address).Do(ctx)
		if err == nil && failed != "" {
			err = errors.New(failed)
		}
		return err
	}))
	c.until(condition)
}

// until waits for an expression to be true. A page may go on to the next one
// meanwhile, so that it cannot be evaluated for a moment.
func (c *chrome) until(expression string) {
	c.t.Helper()
	for c.ctx.Err() == nil {
		var ok bool
		if err := chromedp.Run(c.ctx, chromedp.Evaluate(expression, &ok)); err == nil && ok {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t.Fatalf("%s did not come true; the browser says %q", expression, c.said)
}

func (c *chrome) shot(name string) {
	c.t.Helper()
	var png []byte
	c.run(chromedp.FullScreenshot(&png, 100))
	if err := os.WriteFile(filepath.Join(c.dir, name+".png"), png, 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// contrast finds text whose contrast with what is behind it is below 4.5 (WCAG 2.2,
// success criterion 1.4.3).
const contrast = `(() => {
  const parse = (c) => (c.match(/[\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const bad = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility() || e.closest(".sr, .skip, template")) continue;
    let at = e, ground = [0, 0, 0, 0];
    for (; at && (ground.length === 4 && ground[3] === 0); at = at.parentElement) ground = parse(getComputedStyle(at).backgroundColor);
    const a = light(parse(getComputedStyle(e).color)), b = light(ground);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) bad.push(e.tagName + " " + e.textContent.trim().slice(0, 20) + " " + ratio.toFixed(2));
  }
  return bad.join("; ");
})()`

// unnamed finds controls that a screen reader could not name.
const unnamed = `[...document.querySelectorAll("button, a, input:not([type=hidden]), select, summary")]
  .filter((e) => !(e.textContent.trim() || e.getAttribute("aria-label") || (e.labels && e.labels.length))).map((e) => e.outerHTML).join("; ")`

func TestBrowser(t *testing.T) {
	p := newPage(t, setup{})
	c := openChrome(t, p.cloud.sandbox.Address())

	// The one-time link leads to the page, and the cookie holds.
	c.visit(p.base+p.link("alice"), `location.pathname === "/console/" && document.querySelectorAll(".role").length === 3`)
	c.until(`document.getElementById("live").textContent === "live"`)
	c.quiet()
	if bad := ask[string](c, unnamed); bad != "" {
		t.Errorf("without a name: %s", bad)
	}
	if bad := ask[string](c, contrast); bad != "" {
		t.Errorf("hard to read: %s", bad)
	}
	if secret := ask[string](c, "document.cookie"); secret != "" {
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
		c.until(fmt.Sprintf(`document.querySelectorAll("#lines tbody tr").length === %d`, n+2)) // and the link's own
	}
	row := `document.querySelectorAll("#lines tbody tr")[1]`
	c.run(chromedp.Evaluate(row+`.querySelector("summary").click()`, nil))
	if text := ask[string](c, row+".innerText"); !strings.Contains(text, "s3:PutObject") || !strings.Contains(text, `"Resource": "arn:aws:s3:::shop-releases/app/v42.tar.gz"`) {
		t.Errorf("the denial says: %s", text)
	}
	c.shot("page")
	c.run(chromedp.Click("#denials"))
	if shown := ask[int](c, `[...document.querySelectorAll("#lines tbody tr")].filter((r) => r.checkVisibility()).length`); shown != 2 {
		t.Errorf("%d lines of 2 denials", shown)
	}

	// Filter and open with the keyboard alone.
	c.run(chromedp.Evaluate(`document.activeElement.blur(); scrollTo(0, 0)`, nil))
	c.visit(p.base+"/console/", `document.querySelectorAll(".role").length === 3`)
	press := func(keys ...string) {
		t.Helper()
		for _, k := range keys {
			c.run(chromedp.KeyEvent(k))
		}
	}
	focused := func() string {
		t.Helper()
		return ask[string](c, `(() => { const e = document.activeElement; return (e.id || e.name || e.textContent.trim()); })()`)
	}
	var way []string
	for range 5 {
		press(kb.Tab)
		way = append(way, focused())
	}
	if got := strings.Join(way[:4], " | "); got != "Skip to content | countersign | Signed in as alice | filter" {
		t.Errorf("the way of Tab is %s", got)
	}
	if outline := ask[string](c, `getComputedStyle(document.activeElement).outlineStyle`); outline == "none" {
		t.Error("what has the focus does not show it")
	}
	c.run(chromedp.Evaluate(`document.getElementById("filter").focus()`, nil))
	press("e", "n", "v", "=", "p", "r", "o", "d")
	if got := ask[string](c, `[...document.querySelectorAll(".role")].filter((r) => r.checkVisibility()).map((r) => r.querySelector("h3").innerText).join()`); got != "deploy" {
		t.Errorf("the filter leaves %q", got)
	}
	if got := ask[string](c, `document.getElementById("found").textContent`); got != "1 role fits" {
		t.Errorf("screen readers hear %q", got)
	}
	press(kb.Tab, kb.ArrowDown) // the list of places: S3 is the second
	if got := ask[string](c, `document.activeElement.value`); got != "s3" {
		t.Errorf("chose %q", got)
	}
	opened := chromedp.WaitNewTarget(c.ctx, func(i *target.Info) bool { return i.Type == "page" })
	press(kb.Tab, kb.Enter)
	select {
	case <-opened:
	case <-c.ctx.Done():
		t.Fatal("no console was opened")
	}
	var login *url.Values
	for range 500 {
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
	c.visit(p.base+"/console/", `document.querySelectorAll(".role").length === 3`)
	light := ask[string](c, `getComputedStyle(document.body).backgroundColor`)
	c.run(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}))
	if dark := ask[string](c, `getComputedStyle(document.body).backgroundColor`); dark == light {
		t.Errorf("the dark is as light as %s", dark)
	}
	c.run(chromedp.Evaluate(`document.querySelectorAll("details").forEach((d) => { d.open = true; })`, nil))
	if bad := ask[string](c, contrast); bad != "" {
		t.Errorf("hard to read in the dark: %s", bad)
	}
	c.run(chromedp.Evaluate(`document.querySelectorAll("details").forEach((d) => { d.open = false; })`, nil))
	c.shot("page-dark")
	c.run(chromedp.EmulateViewport(360, 740))
	if width := ask[int](c, "document.documentElement.scrollWidth"); width > 360 {
		t.Errorf("a phone has to scroll sideways: %d wide", width)
	}
	c.shot("page-narrow-dark")
	c.visit(p.base+"/console/terminal?role=deploy", `document.querySelector("h1").innerText === "Use deploy in a terminal"`)
	if width := ask[int](c, "document.documentElement.scrollWidth"); width > 360 {
		t.Errorf("a phone has to scroll sideways in the terminal's page: %d wide", width)
	}
	c.shot("terminal-narrow-dark")
	c.run(emulation.SetEmulatedMedia(), chromedp.EmulateViewport(1280, 900), chromedp.Click("form[action$=credentials] button"))
	c.until(`document.body.innerText.includes("AWS_SECRET_ACCESS_KEY")`)
	c.shot("terminal")
	c.quiet()

	// Signing out.
	c.run(chromedp.Click(".person summary"), chromedp.WaitVisible(".menu button"), chromedp.Click(".menu button"))
	c.until(`document.body.innerText.includes("stay signed in until their sessions expire")`)
	c.visit(p.base+"/console/", `document.querySelector("h1").innerText === "Sign in"`)
	c.shot("signin")
	c.quiet()
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
	c := openChrome(t, p.cloud.sandbox.Address())
	c.visit(p.base+p.link("bob"), `document.querySelectorAll("#lines tbody tr").length >= 2`)
	c.until(`document.getElementById("live").textContent === "live"`)
	entry.Error, entry.Reason = evil, evil
	if err := p.log.Write(entry); err != nil {
		t.Fatal(err)
	}
	c.until(`document.querySelectorAll("#lines tbody tr").length >= 3`)
	if n := ask[int](c, `document.querySelectorAll("main img").length + document.querySelectorAll("script").length`); n != 1 { // our own script
		t.Errorf("%d elements of others", n-1)
	}
	var statement struct{ Resource string }
	text := ask[string](c, `[...document.querySelectorAll("#lines tbody [data-is=statement]")].map((e) => e.textContent).find((s) => s)`)
	if err := json.Unmarshal([]byte(text), &statement); err != nil || !strings.Contains(statement.Resource, "<script>alert(1)</script>") {
		t.Errorf("the statement is %s", text)
	}
	c.shot("markup")
	c.quiet()
}
