// Package browser drives the Chromium of the system for tests of the console's page.
// In it nothing may go wrong: a script error, a violation of the
// Content-Security-Policy, a dialog or a message of the browser fails the test that
// asks (see Browser.Quiet).
package browser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	"github.com/chromedp/cdproto/storage"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
)

// Screenshots is the variable that names the folder which screenshots go to, for a
// person to look at. Without it they are artifacts of the test (go test -artifacts).
const Screenshots = "COUNTERSIGN_SCREENSHOTS"

// Browser is a headless Chromium with one page.
type Browser struct {
	t   testing.TB
	ctx context.Context
	dir string // of screenshots

	mu   sync.Mutex
	said []string
}

// Open starts Chromium, which ends with the test. Names below amazon.com lead to the
// address of a stand-in for AWS, whatever its certificate.
func Open(t testing.TB, aws string) *Browser {
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
	dir := os.Getenv(Screenshots)
	if dir == "" {
		dir = t.ArtifactDir()
	} else if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.WSURLReadTimeout(2*time.Minute), chromedp.NoSandbox, chromedp.WindowSize(1280, 900), chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("ignore-certificate-errors", true),
		chromedp.Flag("host-resolver-rules", "MAP *.amazon.com "+aws),
		chromedp.Flag("no-proxy-server", true),
	)
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	timed, end := context.WithTimeout(ctx, 10*time.Minute)
	b := &Browser{t: t, ctx: timed, dir: dir}
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits for the browser to be gone
		end()
		cancel()
		stop()
	})
	chromedp.ListenTarget(timed, b.hear)
	b.Run(cdplog.Enable(), runtime.Enable())
	return b
}

func (b *Browser) hear(event any) {
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
	b.mu.Lock()
	defer b.mu.Unlock()
	b.said = append(b.said, text)
}

func (b *Browser) heard() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.said
}

// Quiet fails the test if the browser complained of anything since it was last asked.
func (b *Browser) Quiet() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.said {
		b.t.Errorf("the browser says: %s", s)
	}
	b.said = nil
}

// Complaints returns what the browser complained of since it was last asked.
func (b *Browser) Complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	said := b.said
	b.said = nil
	return said
}

// ToFront brings the page to the front, where another one was opened.
func ToFront(ctx context.Context) error { return cdppage.BringToFront().Do(ctx) }

// ForgetCookies makes the browser a new one for all sites.
func ForgetCookies(ctx context.Context) error { return storage.ClearCookies().Do(ctx) }

// Run does what is asked, or ends the test.
func (b *Browser) Run(actions ...chromedp.Action) {
	b.t.Helper()
	if err := chromedp.Run(b.ctx, actions...); err != nil {
		b.t.Fatalf("%v; the browser says %q", err, b.heard())
	}
}

// Do evaluates an expression for what it does.
func (b *Browser) Do(expression string) {
	b.t.Helper()
	b.Run(chromedp.Evaluate(expression, nil))
}

// Ask evaluates an expression, or what it promises.
func Ask[T any](b *Browser, expression string) T {
	b.t.Helper()
	var out T
	b.Run(chromedp.Evaluate(expression, &out, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
	return out
}

// Visit goes to an address and waits until a condition holds there. It does not wait
// for the load event, which chromedp can miss while the page is in the background.
func (b *Browser) Visit(address, condition string) {
	b.t.Helper()
	b.Run(cdppage.BringToFront(), chromedp.ActionFunc(func(ctx context.Context) error {
		_, _, failed, _, err := cdppage.Navigate(address).Do(ctx)
		if err == nil && failed != "" {
			err = errors.New(failed)
		}
		return err
	}))
	b.Until(condition)
}

// Until waits for an expression to be true on a page that is there as a whole: before
// its style and scripts are, nothing is where it will be. A page may go on to the next
// one meanwhile, so that it cannot be evaluated for a moment.
func (b *Browser) Until(expression string) {
	b.t.Helper()
	whole := `document.readyState === "complete" && (` + expression + `)`
	for b.ctx.Err() == nil {
		var ok bool
		if err := chromedp.Run(b.ctx, chromedp.Evaluate(whole, &ok)); err == nil && ok {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	b.t.Fatalf("%s did not come true; the browser says %q", expression, b.heard())
}

// Press presses keys, one after the other.
func (b *Browser) Press(keys ...string) {
	b.t.Helper()
	for _, k := range keys {
		b.Run(chromedp.KeyEvent(k))
	}
}

// Opened returns a channel that says that a new tab was opened.
func (b *Browser) Opened() <-chan target.ID {
	return chromedp.WaitNewTarget(b.ctx, func(i *target.Info) bool { return i.Type == "page" })
}

// Shot writes a picture of the whole page.
func (b *Browser) Shot(name string) {
	b.t.Helper()
	var png []byte
	b.Run(chromedp.FullScreenshot(&png, 100))
	file := filepath.Join(b.dir, name+".png")
	if err := os.WriteFile(file, png, 0o600); err != nil {
		b.t.Fatal(err)
	}
	b.t.Logf("screenshot: %s", file)
}

// Dark makes the system prefer dark colours, or not.
func (b *Browser) Dark(on bool) {
	b.t.Helper()
	media := emulation.SetEmulatedMedia()
	if on {
		media = media.WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}})
	}
	b.Run(media)
}

// Size makes the window as wide and high as given, in CSS pixels.
func (b *Browser) Size(width, height int64) {
	b.t.Helper()
	b.Run(chromedp.EmulateViewport(width, height))
}

// Fits fails the test if a page has to be scrolled sideways.
func (b *Browser) Fits() {
	b.t.Helper()
	if wide := Ask[[]int](b, "[document.documentElement.scrollWidth, innerWidth]"); wide[0] > wide[1] {
		b.t.Errorf("the page is %d wide in a window of %d", wide[0], wide[1])
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

// Readable fails the test for text that is hard to read and controls without a name.
func (b *Browser) Readable() {
	b.t.Helper()
	for what, expression := range map[string]string{"hard to read": contrast, "without a name": unnamed} {
		if bad := Ask[string](b, expression); bad != "" {
			b.t.Errorf("%s: %s", what, bad)
		}
	}
}

// Axe fails the test for what axe-core (npm, below the folder of modules) finds wrong
// with the page by WCAG 2.2, levels A and AA, and by its best practices.
func (b *Browser) Axe(modules string) {
	b.t.Helper()
	source, err := os.ReadFile(filepath.Join(modules, "axe-core", "axe.min.js"))
	if err != nil && os.Getenv("CI") != "true" {
		b.t.Logf("axe-core is missing (make tools installs it): %v", err)
		return
	} else if err != nil {
		b.t.Fatal(err)
	}
	// The debugger's scripts are not held against the page's policy.
	b.Do(string(source) + "; undefined")
	var found []struct {
		ID, Impact, Help string
		Nodes            []struct {
			HTML           string
			FailureSummary string
		}
	}
	text := Ask[string](b, `axe.run().then((r) => JSON.stringify(r.violations))`)
	if err := json.Unmarshal([]byte(text), &found); err != nil {
		b.t.Fatal(err)
	}
	for _, v := range found {
		var where []string
		for _, n := range v.Nodes {
			where = append(where, n.HTML+": "+n.FailureSummary)
		}
		b.t.Errorf("axe: %s (%s): %s\n%s", v.ID, v.Impact, v.Help, strings.Join(where, "\n"))
	}
}
