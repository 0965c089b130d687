package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/countersign-proxy/countersign/e2e/browser"
)

// What people of the page below can do in S3, before one of them helps himself.
const consolePolicy = `{"Version": "2012-10-17", "Statement": [
  {"Sid": "Buckets", "Effect": "Allow", "Action": ["s3:ListAllMyBuckets", "s3:CreateBucket", "s3:PutObject"], "Resource": "*"}%s]}`

// markup are texts that would be noticed if a browser took them for more than text.
var markup = []string{`<img src=x onerror=alert(1)>`, `"><script>alert(2)</script>`, `'><svg onload=alert(3)>`}

// consoleRoles are roles of three accounts, one of which is another company's.
const consoleRoles = `roles:
  deploy:
    arn: arn:aws:iam::123456789012:role/Deploy
    duration: 2h
    policies: [%[1]s]
    labels: {aws_account_name: Shop, env: prod, description: Deploys the shop and its buckets}
  people: {arn: "", federation_policy: %[1]s, federation_duration: 8h, labels: {aws_account_id: "123456789012", description: "People without a role, as federated users"}}
  audit: {arn: "arn:aws:iam::210987654321:role/Audit", read_only: true, labels: {aws_account_name: Shop tests, env: test, owner: '<img src=x onerror=alert(1)>'}}
  chained: {arn: "arn:aws:iam::210987654321:role/Chained", via: deploy, labels: {env: test}}
  partner: {arn: "arn:aws:iam::333333333333:role/Partner", external_id: partner-7f3a, labels: {aws_account_name: '"><script>alert(2)</script>'}}
  hidden: {arn: "arn:aws:iam::444444444444:role/Hidden"}
identities:
  local: {roles: [deploy, people, audit, chained, partner], attributes: {team: "'><svg onload=alert(3)>"}}
  other: {roles: [hidden]}
`

var consoleVariables = regexp.MustCompile(`(?m)^export (\w+)=(.*)$`)

// A person's way through the page in a real browser, beside real calls of the AWS CLI
// through the proxy.
func TestConsolePage(t *testing.T) {
	t.Parallel()
	tool(t, "aws")
	modules := nodeModules(t)
	u := strictMoto(t)
	signin := signinOf(t, u)
	policyFile := filepath.Join(t.TempDir(), "deploy.json")
	write := func(more string) {
		t.Helper()
		if err := os.WriteFile(policyFile, fmt.Appendf(nil, consolePolicy, more), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	p := serve(t, u, fmt.Sprintf(consoleRoles, policyFile)+signingIn(t, u, signin)+"log: {level: debug, format: json}\n")
	home := "http://" + p.admin + "/console/"
	c := browser.Open(t, signin.Address())

	// The one-time link, and what there is.
	link := strings.TrimSpace(p.person().must(t, t.TempDir(), nil, "console", "--link"))
	c.Visit(link, `location.pathname === "/console/" && document.getElementById("live").textContent === "live"`)
	c.Until(`!("unsure" in document.getElementById("roles").dataset)`)
	c.Quiet()
	accounts := browser.Ask[[]string](c, `[...document.querySelectorAll(".account")].map((a) => a.querySelector("h2").innerText + ": " + [...a.querySelectorAll("h3")].map((r) => r.innerText).join(" "))`)
	if diff := cmp.Diff([]string{"Shop 123456789012: deploy people", "Shop tests 210987654321: audit chained", `"><script>alert(2)</script> 333333333333: partner`}, accounts); diff != "" {
		t.Error(diff)
	}
	lengths := browser.Ask[[]string](c, `[...document.querySelectorAll(".role")].map((r) => [...r.querySelectorAll(":scope > p.quiet")].map((e) => e.innerText).join())`)
	if diff := cmp.Diff([]string{"Console sessions of 2h; limits of this role go along as a session policy.", "Console sessions of 8h, as a federated user.",
		"Console sessions of 1h; limits of this role go along as a session policy.", "Console sessions of up to 1h.", "Console sessions of 1h."}, lengths); diff != "" {
		t.Error(diff)
	}
	c.Readable()
	c.Axe(modules)

	// The lines for a terminal work as they are shown.
	c.Visit("http://"+p.admin+"/console/terminal?role=deploy", `document.querySelector("h1").innerText === "Use deploy in a terminal"`)
	c.Run(chromedp.Click("form[action$=credentials] button"))
	c.Until(`document.body.innerText.includes("AWS_SECRET_ACCESS_KEY")`)
	c.Axe(modules)
	c.Shot("console-terminal")
	text := browser.Ask[string](c, `[...document.querySelectorAll("pre")].map((e) => e.textContent).find((s) => s.startsWith("export"))`)
	shown := map[string]string{}
	for _, m := range consoleVariables.FindAllStringSubmatch(text, -1) {
		shown[m[1]] = m[2]
	}
	keys := aws.Credentials{AccessKeyID: shown["AWS_ACCESS_KEY_ID"], SecretAccessKey: shown["AWS_SECRET_ACCESS_KEY"], SessionToken: shown["AWS_SESSION_TOKEN"]}
	terminal := way{name: "terminal", wrap: []string{"sh", "-c", text + "\nexec \"$@\"", "sh"}, env: bareEnvironment(t.TempDir())}
	dir := t.TempDir()
	if who := terminal.must(t, dir, nil, "aws", "sts", "get-caller-identity", "--query", "Arn", "--output", "text"); who != "arn:aws:sts::123456789012:assumed-role/Deploy/local\n" {
		t.Errorf("the page's variables make %s", who)
	}
	if err := os.Symlink(program, filepath.Join(dir, "countersign")); err != nil {
		t.Fatal(err)
	}
	for _, line := range browser.Ask[[]string](c, `[...document.querySelectorAll("pre")].map((e) => e.textContent).filter((s) => s.startsWith("countersign exec") || s.startsWith("eval"))`) {
		at := way{name: line, wrap: []string{"sh", "-c", line + "\n" + `aws sts get-caller-identity --query Arn --output text`}, env: append(slices.Clone(p.env), "PATH="+dir+":"+filepath.Dir(tool(t, "aws"))+":"+os.Getenv("PATH"))}
		if strings.HasPrefix(line, "countersign exec") {
			at.wrap[2] = line
		}
		if who := at.must(t, dir, nil); !strings.Contains(who, "arn:aws:sts::123456789012:assumed-role/Deploy/local") {
			t.Errorf("%s makes %s", line, who)
		}
	}
	c.Run(chromedp.Click(".copy"))
	c.Until(`[...document.querySelectorAll(".copy")].some((b) => b.textContent !== "Copy")`)
	c.Quiet()

	// Calls appear as they are made, without anything being pressed.
	c.Visit(home, `document.getElementById("live").textContent === "live"`)
	rows := func(condition string) string {
		return `[...document.querySelectorAll("#lines tbody tr")].filter((r) => ` + condition + `)`
	}
	is := func(name string) string {
		return `r.querySelector("[data-is=call]").textContent === ` + fmt.Sprintf("%q", name)
	}
	terminal.must(t, dir, nil, "aws", "s3", "mb", "s3://countersign-console")
	c.Until(rows(is("s3:CreateBucket")+` && !r.classList.contains("denied")`) + ".length === 1")
	if err := os.WriteFile(filepath.Join(dir, "body"), []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, key := range markup {
		terminal.must(t, dir, nil, "aws", "s3api", "put-object", "--bucket", "countersign-console", "--key", key, "--body", "body")
		c.Until(fmt.Sprintf("%s.length === %d", rows(is("s3:PutObject")), i+1))
	}
	resources := browser.Ask[[]string](c, rows(is("s3:PutObject"))+`.map((r) => r.querySelector("[data-is=resource]").textContent)`)
	slices.Reverse(resources)
	for i, key := range markup {
		if resources[i] != "arn:aws:s3:::countersign-console/"+key {
			t.Errorf("the key %s is shown as %s", key, resources[i])
		}
	}
	// A program may call itself what it likes.
	agent := s3Call("PUT", "countersign-console", "/agent", "x", [2]string{"User-Agent", markup[1]}).sign(t, keys, time.Now())
	response, body := p.dial(t, agent.host).send(t, agent)
	expectStatus(t, response, body, http.StatusOK)
	c.Until(rows(is("s3:PutObject")) + ".length === 4")

	// A denial says what would allow it, and that does.
	const denied = "arn:aws:s3:::countersign-console"
	if r := terminal.run(t, dir, nil, "aws", "s3api", "get-bucket-location", "--bucket", "countersign-console"); r.code == 0 || !strings.Contains(r.stderr, "AccessDenied") {
		t.Errorf("allowed: %+v", r)
	}
	c.Until(rows(is("s3:GetBucketLocation")+` && r.classList.contains("denied")`) + ".length === 1")
	row := rows(is("s3:GetBucketLocation")) + "[0]"
	c.Do(row + `.querySelector("summary").click()`)
	statement := browser.Ask[string](c, row+`.querySelector("[data-is=statement]").textContent`)
	var allow struct{ Effect, Action, Resource string }
	if err := json.Unmarshal([]byte(statement), &allow); err != nil || allow.Effect != "Allow" || allow.Action != "s3:GetBucketLocation" || allow.Resource != denied {
		t.Errorf("%v: the statement is %s", err, statement)
	}
	if why := browser.Ask[string](c, row+`.querySelector(".decision").innerText`); !strings.Contains(why, "implicit deny") || !strings.Contains(why, "No statement allows this") {
		t.Errorf("the reason is %s", why)
	}
	c.Shot("console-page")
	write(",\n" + statement)
	for deadline := time.Now().Add(patience); terminal.run(t, dir, nil, "aws", "s3api", "get-bucket-location", "--bucket", "countersign-console").code != 0; {
		if time.Now().After(deadline) {
			t.Fatal("the statement of the page does not allow the call")
		}
	}
	c.Until(rows(is("s3:GetBucketLocation")+` && !r.classList.contains("denied")`) + ".length === 1")
	if n := browser.Ask[int](c, `document.querySelectorAll("main img, main svg, main script:not([src$='/static/console.js'])").length`); n != 0 {
		t.Errorf("%d elements of others", n)
	}
	c.Quiet()

	// With the keyboard alone: only denials, then the console at S3.
	c.Visit(home, `document.getElementById("live").textContent === "live"`)
	tabTo := func(selector string) {
		t.Helper()
		for range 80 {
			c.Press(kb.Tab)
			if browser.Ask[bool](c, fmt.Sprintf("document.activeElement.matches(%q)", selector)) {
				if outline := browser.Ask[string](c, `getComputedStyle(document.activeElement).outlineStyle`); outline == "none" {
					t.Errorf("%s does not show that it has the focus", selector)
				}
				return
			}
		}
		t.Fatalf("no way by Tab to %s", selector)
	}
	tabTo("#denials")
	c.Press(" ")
	visible := `.filter((r) => r.checkVisibility()).length`
	if all, some := browser.Ask[int](c, rows("true")+visible), browser.Ask[int](c, rows(`r.classList.contains("denied")`)+visible); some == 0 || all != some {
		t.Errorf("of %d lines that are shown %d are denials", all, some)
	}
	c.Press(" ")
	c.Do(`document.activeElement.blur(); scrollTo(0, 0)`)
	tabTo("#filter")
	for _, k := range "prod" {
		c.Press(string(k))
	}
	tabTo(".role:not([hidden]) select")
	c.Press(kb.ArrowDown)
	opened := c.Opened()
	tabTo(".role:not([hidden]) form button")
	c.Press(kb.Enter)
	if <-opened == "" {
		t.Fatal("no tab was opened")
	}
	signedIn := func(n int) url.Values {
		t.Helper()
		for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			if forms := asked(signin, "Login"); len(forms) >= n {
				return forms[n-1]
			} else if time.Now().After(deadline) {
				t.Fatalf("AWS saw %d sign-ins, not %d", len(forms), n)
			}
		}
	}
	login := signedIn(1)
	token := login.Get("SigninToken")
	login.Del("SigninToken")
	if diff := cmp.Diff(url.Values{"Action": {"login"}, "Issuer": {"http://" + p.admin + "/console/back"}, "Destination": {"https://us-east-1.console.aws.amazon.com/s3/home?region=us-east-1"}}, login); diff != "" || len(token) < 40 {
		t.Errorf("AWS was asked, with a token of %d: %s", len(token), diff)
	}
	asks := asked(signin, "GetSigninToken")[0]
	if asks.Get("SessionDuration") != "7200" {
		t.Errorf("SessionDuration %q", asks.Get("SessionDuration"))
	}
	for _, r := range signin.Requests() {
		if r.Operation == "GetSigninToken" && (r.Method != http.MethodPost || strings.Contains(r.Target, "?")) {
			t.Errorf("the session went in %s %s", r.Method, strings.SplitN(r.Target, "?", 2)[0])
		}
		if r.Operation == "Login" && (r.Header.Get("Referer") != "" || r.Header.Get("Cookie") != "" || r.Host != "us-east-1.signin.aws.amazon.com") {
			t.Errorf("the browser came to %s with %v", r.Host, r.Header)
		}
	}

	// The list of sessions knows it without being asked again.
	c.Visit(home, `document.getElementById("live").textContent === "live" && document.getElementById("live-sessions").innerText.includes("AWS console")`)
	sessions := browser.Ask[string](c, `document.getElementById("live-sessions").innerText`)
	if !strings.Contains(sessions, "deploy in 123456789012") || !strings.Contains(sessions, "asked for with SessionDuration") || !strings.Contains(sessions, "deploy as local") {
		t.Errorf("the sessions are %s", sessions)
	}
	page := `document.getElementById("live-sessions").innerText`
	for i, test := range []struct{ role, seen, duration, principal string }{
		{"people", "the end of the federated user's session", "", "arn:aws:sts::123456789012:federated-user/local"},
		{"chained", "an hour at most where roles are chained", "", "arn:aws:sts::210987654321:assumed-role/Chained/local"},
		{"partner", "partner in 333333333333", "3600", "arn:aws:sts::333333333333:assumed-role/Partner/local"},
		{"audit", "audit in 210987654321", "3600", "arn:aws:sts::210987654321:assumed-role/Audit/local"},
	} {
		tab := c.Opened()
		c.Do(fmt.Sprintf(`[...document.querySelectorAll(".role")].find((r) => r.querySelector("h3").innerText === %q).querySelector("form button").click()`, test.role))
		if <-tab == "" {
			t.Fatal("no tab was opened")
		}
		signedIn(i + 2)
		c.Run(chromedp.ActionFunc(browser.ToFront))
		c.Until(page + fmt.Sprintf(".includes(%q)", test.seen))
		all := asked(signin, "GetSigninToken")
		if got := all[len(all)-1].Get("SessionDuration"); got != test.duration {
			t.Errorf("%s: SessionDuration %q, want %q", test.role, got, test.duration)
		}
		requests := signin.Requests()
		j := len(requests) - 1
		for requests[j].Operation != "Login" {
			j--
		}
		if requests[j].Principal != test.principal {
			t.Errorf("%s: signed in as %s", test.role, requests[j].Principal)
		}
	}
	c.Quiet()

	// A role of somebody else, written into the form.
	c.Do(`(() => { const f = document.querySelector(".role form"); f.target = ""; f.querySelector("[name=role]").value = "hidden"; f.querySelector("button").click(); })()`)
	c.Until(`document.body.innerText.includes("may not use a role")`)
	if said := c.Complaints(); len(said) != 1 || !strings.Contains(said[0], "403") {
		t.Errorf("the browser says %q", said)
	}

	// A phone, and the dark.
	c.Visit(home, `document.getElementById("live").textContent === "live"`)
	c.Dark(true)
	c.Readable()
	c.Axe(modules)
	c.Shot("console-dark")
	c.Size(360, 740)
	c.Fits()
	c.Do(`document.querySelectorAll("details:not(.person)").forEach((d) => { d.open = !d.hidden; })`)
	c.Fits()
	c.Axe(modules)
	c.Shot("console-phone-dark-open")
	c.Do(`document.querySelectorAll("details").forEach((d) => { d.open = false; })`)
	c.Shot("console-phone-dark")
	c.Dark(false)
	c.Shot("console-phone")
	c.Size(1280, 900)

	// Signing out ends what programs were given, and says what it does not end.
	c.Do(`document.activeElement.blur(); scrollTo(0, 0)`)
	tabTo(".person > summary")
	c.Press(kb.Enter)
	c.Until(`document.querySelector(".person").open`)
	c.Press(kb.Escape)
	c.Until(`!document.querySelector(".person").open && document.activeElement.matches(".person > summary")`)
	c.Press(kb.Enter)
	tabTo("button[name=everything]")
	c.Shot("console-menu")
	c.Press(kb.Enter)
	c.Until(`document.body.innerText.includes("Consoles that are open at AWS stay signed in until their sessions expire")`)
	for deadline := time.Now().Add(patience); ; {
		if r := terminal.run(t, dir, nil, "aws", "s3api", "list-buckets"); r.code != 0 && strings.Contains(r.stderr, "InvalidAccessKeyId") {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("the page's credentials still work: %+v", r)
		}
	}
	c.Visit(home, `document.querySelector("h1").innerText === "Sign in"`)
	c.Axe(modules)
	c.Shot("console-signed-out")
	c.Visit(link, `document.body.innerText.includes("does not work any more")`)
	if said := c.Complaints(); len(said) != 1 || !strings.Contains(said[0], "403") {
		t.Errorf("the browser says %q", said)
	}

	// The record says who, as what, where to and until when, and nothing secret.
	var got []auditLine
	for _, l := range consoleLines(t, p.audit, 9) {
		if strings.HasPrefix(l.Error, "until 20") {
			l.Error = "until"
		}
		got = append(got, l)
	}
	in := func(role, account, name, duration string) auditLine {
		arn := "arn:aws:iam::" + account + ":role/" + name
		if name == "" {
			arn = ""
		}
		return auditLine{Identity: "local", Role: role, RoleARN: arn, SessionName: "local", Method: "POST", Region: region, Service: "console", Operation: "SignIn",
			Resources: []string{"https://us-east-1.console.aws.amazon.com/console/home"}, Decision: "allow", Reason: "signed in", Status: 200, Error: "until"}
	}
	s3 := in("deploy", account, "Deploy", "")
	s3.Resources = []string{"https://us-east-1.console.aws.amazon.com/s3/home"}
	want := []auditLine{
		{Identity: "local", Method: "GET", Service: "console", Operation: "Link", Decision: "allow", Reason: "one-time link", Status: 200},
		{Identity: "local", Role: "deploy", Method: "POST", Service: "console", Operation: "Credentials", Resources: []string{keys.AccessKeyID}, Decision: "allow", Reason: "client credentials", Status: 200},
		s3, in("people", account, "", ""), in("chained", "210987654321", "Chained", ""), in("partner", "333333333333", "Partner", ""), in("audit", "210987654321", "Audit", ""),
		{Identity: "local", Role: "hidden", Method: "POST", Service: "console", Operation: "SignIn", Decision: "deny", Reason: "not granted", Status: 403, Error: `"local" may not use a role "hidden".`},
		{Identity: "local", Method: "POST", Service: "console", Operation: "SignOut", Decision: "allow", Reason: "all sessions", Status: 200},
	}
	if n := len(want); len(got) == n+1 && got[n].Operation == "Link" && got[n].Decision == "deny" {
		got = got[:n]
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(auditLine{}, "Time", "RequestID", "AccessKeyID", "Client", "Host", "DurationMS", "OverheadUS")); diff != "" {
		t.Error(diff)
	}
	record, err := os.ReadFile(p.audit)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range append(u.secrets(t), token, keys.SecretAccessKey, keys.SessionToken, "SigninToken", strings.SplitN(link, "t=", 2)[1]) {
		if strings.Contains(string(record), secret) || strings.Contains(p.said(), secret) {
			t.Errorf("record or log hold %.12q…", secret)
		}
	}
}
