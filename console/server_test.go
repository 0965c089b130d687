package console

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/countersign-proxy/countersign/audit"
	"github.com/countersign-proxy/countersign/identity"
)

func TestLinkSignsInAndOpensTheConsole(t *testing.T) {
	p := newPage(t, setup{})
	if got := p.get("/"); got.status != http.StatusSeeOther || got.header.Get("Location") != "/console/" {
		t.Errorf("/ answered %d to %q", got.status, got.header.Get("Location"))
	}
	if got := p.get("/console/"); !strings.Contains(got.body, "countersign console --link") || strings.Contains(got.body, "deploy") {
		t.Error("a stranger's page")
	}
	csrf := p.signIn("alice")
	home := p.get("/console/").body
	for _, want := range []string{"deploy", "Deploys the shop", "Shop <span class=\"number\">210987654321</span>", "Account <span class=\"number\">333333333333</span>", "<li class=\"chip grave\">prod</li>", "platform", "session policy"} {
		if !strings.Contains(home, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(home, "999999999999") {
		t.Error("the page shows a role that is not granted")
	}
	got := p.post("/console/open", url.Values{"csrf": {csrf}, "role": {"audit"}, "destination": {"s3"}, "region": {"eu-central-1"}})
	if got.status != http.StatusOK || got.header.Get("Referrer-Policy") != "no-referrer" || got.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("status %d, %v: %s", got.status, got.header, got.body)
	}
	status, location, signedIn := p.cloud.browse(got.leadsTo())
	if status != http.StatusFound || location != "https://eu-central-1.console.aws.amazon.com/s3/home?region=eu-central-1" || signedIn.Principal != "arn:aws:sts::210987654321:assumed-role/Audit/alice" {
		t.Errorf("AWS answered %d to %s as %s", status, location, signedIn.Principal)
	}
	if issuer := signedIn.Form.Get("Issuer"); issuer != p.base+"/console/back" {
		t.Errorf("the console leads back to %q", issuer)
	}
	if assumed := p.cloud.asked("AssumeRole"); assumed[0].Get("PolicyArns.member.1.arn") != "arn:aws:iam::aws:policy/ReadOnlyAccess" {
		t.Errorf("the limits did not go along: %v", assumed[0])
	}
	lines := p.lines(2)
	want := []audit.Entry{
		{Identity: "alice", Method: "GET", Service: "console", Operation: "Link", Decision: audit.Allow, Reason: "one-time link", Status: 200},
		{Identity: "alice", Role: "audit", RoleARN: "arn:aws:iam::210987654321:role/Audit", SessionName: "alice", Method: "POST", Service: "console", Region: "eu-central-1",
			Operation: "SignIn", Resources: []string{"https://eu-central-1.console.aws.amazon.com/s3/home"}, Decision: audit.Allow, Reason: "signed in", Status: 200},
	}
	ignore := cmpopts.IgnoreFields(audit.Entry{}, "Time", "RequestID", "AccessKeyID", "Client", "Host", "Duration")
	if diff := cmp.Diff(want, lines, ignore, cmpopts.EquateEmpty(), cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "Error" }, cmp.Comparer(func(a, b string) bool {
		return a == b || strings.HasPrefix(a+b, "until 20")
	}))); diff != "" {
		t.Error(diff)
	}
	if secret := "SigninToken"; strings.Contains(p.record.String(), secret) {
		t.Error("the record holds a sign-in URL")
	}
	home = p.get("/console/").body
	if !strings.Contains(home, "AWS console</span>") || !strings.Contains(home, "Role session</span>") {
		t.Error("the page does not list the live sessions")
	}
	// Back from a session that ended: a page and not a redirect, for the cookie's sake.
	if got := p.get("/console/back"); got.status != http.StatusOK || !strings.Contains(got.body, `content="0;url=/console/"`) {
		t.Errorf("the way back answered %d", got.status)
	}
}

// Before a console is opened the page says how long it will be and why, and with it
// until when.
func TestPageSaysUntilWhen(t *testing.T) {
	at := time.Now().UTC().Truncate(time.Minute) // AWS's signatures are of today
	policy := []string{"arn:aws:iam::aws:policy/ReadOnlyAccess"}
	for _, test := range []struct {
		name           string
		role           Role
		source         func(c *cloud) aws.Credentials
		before, during string
		until          time.Duration // 0: cannot be opened
	}{
		{"keys of a user", Role{ARN: deployARN, Duration: 12 * time.Hour}, nil, "Console sessions of 12h.", "the end of the role&#39;s duration, asked for with SessionDuration", 12 * time.Hour},
		{"the shortest", Role{ARN: deployARN, Duration: 15 * time.Minute}, nil, "Console sessions of 15m.", "the end of the role&#39;s duration, asked for with SessionDuration", 15 * time.Minute},
		{"chained by via", Role{ARN: deployARN, Via: "via"}, nil, "Console sessions of up to 1h.", "the end of the role session, an hour at most where roles are chained", time.Hour},
		{"chained by the source", Role{ARN: deployARN, Duration: 12 * time.Hour}, machine, "Console sessions of up to 1h.", "the end of the role session, an hour at most where roles are chained", time.Hour},
		{"the source itself", Role{}, machine, "Console sessions as long as the proxy&#39;s own credentials live.", "the end of the proxy&#39;s own credentials", time.Hour},
		{"federated user", Role{Federate: &Federate{PolicyARNs: policy, Duration: 36 * time.Hour}}, nil, "Console sessions of 36h, as a federated user.", "the end of the federated user&#39;s session", 36 * time.Hour},
		{"keys of a user alone", Role{}, nil, "Not in the console.", "cannot sign in to the console by themselves", 0},
		{"limits that cannot go along", Role{ARN: deployARN, Limits: Limits{ReadOnly: true, Policies: []Document{document("p.json", "{}")}}}, nil, "Not in the console.", "read_only", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.role.Name = "role"
			p := newPage(t, setup{now: func() time.Time { return at }, source: test.source,
				roles: []Role{test.role, {Name: "via", ARN: "arn:aws:iam::123456789012:role/Via"}}, identities: []identity.Identity{{Name: "alice", Roles: []string{"role"}}}})
			if got := p.get(p.linkAt("alice", at)); got.status != http.StatusOK {
				t.Fatalf("the link answered %d: %s", got.status, got.body)
			}
			csrf := p.csrf()
			home := p.get("/console/").body
			if !strings.Contains(home, test.before) {
				t.Errorf("before, the page lacks %q: %s", test.before, home)
			}
			if button := strings.Contains(home, "Open console"); button != (test.until > 0) {
				t.Errorf("there is a button: %v", button)
			}
			got := p.post("/console/open", url.Values{"csrf": {csrf}, "role": {"role"}})
			if !strings.Contains(got.body, test.during) || (got.status == http.StatusOK) != (test.until > 0) {
				t.Errorf("status %d, without %q: %s", got.status, test.during, got.body)
			}
			if test.until == 0 {
				return
			}
			until := at.Add(test.until).Format("15:04 UTC")
			if at.Add(test.until).Day() != at.Day() {
				until = at.Add(test.until).Format("2 Jan 15:04 UTC")
			}
			if !strings.Contains(got.body, "until "+until) {
				t.Errorf("not until %s: %s", until, got.body)
			}
			part := p.get("/console/sessions").body
			if !strings.Contains(part, until) || !strings.Contains(part, test.during) {
				t.Errorf("the sessions are %s", part)
			}
			if e := p.last(2); e.Error != "until "+at.Add(test.until).Format(time.RFC3339) {
				t.Errorf("recorded %q", e.Error)
			}
		})
	}
}

func TestHeaders(t *testing.T) {
	p := newPage(t, setup{})
	p.signIn("alice")
	for _, path := range []string{"/console/", "/console/terminal?role=deploy", "/console/static/console.js", "/console/nothing"} {
		h := p.get(path).header
		policy := h.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
			if !strings.Contains(policy, want) {
				t.Errorf("%s: the policy lacks %q", path, want)
			}
		}
		if strings.Contains(policy, "unsafe") || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("X-Frame-Options") != "DENY" || h.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %v", path, h)
		}
	}
	for _, page := range []string{"/console/", "/console/terminal?role=deploy", "/console/back"} {
		body := p.get(page).body
		for _, inline := range []string{"<style", "style=", "onclick", "onload", "javascript:"} {
			if strings.Contains(body, inline) {
				t.Errorf("%s has %q", page, inline)
			}
		}
	}
}

func TestCookies(t *testing.T) {
	for _, test := range []struct{ base, want string }{
		{"http://127.0.0.1:8801", "countersign-console-8801.0=VALUE; Path=/; Expires=Thu, 01 Jan 2026 00:00:00 GMT; HttpOnly; SameSite=Strict"},
		{"https://gateway.example.com", "__Host-countersign-console.0=VALUE; Path=/; Expires=Thu, 01 Jan 2026 00:00:00 GMT; HttpOnly; Secure; SameSite=Strict"},
	} {
		p := newPage(t, setup{options: func(o *Options) { o.Base = test.base }})
		w := recorder()
		p.server.setCookie(w, "VALUE", time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
		cookies := w.Header()["Set-Cookie"]
		if len(cookies) != maxParts || cookies[0] != test.want || !strings.Contains(cookies[1], "Max-Age=0") {
			t.Errorf("%s: %q", test.base, cookies)
		}
	}
}

// An identity with many attributes has a token longer than a browser takes as one cookie.
func TestLongCookie(t *testing.T) {
	p := newPage(t, setup{})
	w := recorder()
	value := strings.Repeat("abcdefghij", 800)
	p.server.setCookie(w, value, time.Now().Add(time.Hour))
	r, err := http.NewRequest(http.MethodGet, "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range (&http.Response{Header: w.Header()}).Cookies() {
		r.AddCookie(c)
	}
	if got := p.server.cookie(r); got != value {
		t.Errorf("%d bytes came back of %d", len(got), len(value))
	}
}

func TestFilter(t *testing.T) {
	p := newPage(t, setup{})
	p.signIn("alice")
	for query, want := range map[string]string{"prod": "deploy", "env=TEST partner": "partner", "3333": "partner", "nothing": ""} {
		body := p.get("/console/?q=" + url.QueryEscape(query)).body
		for _, name := range []string{"deploy", "audit", "partner"} {
			if shown := strings.Contains(body, `name="role" value="`+name+`"`); shown != (name == want) {
				t.Errorf("%q: %s shown %v", query, name, shown)
			}
		}
	}
}

func TestTerminal(t *testing.T) {
	p := newPage(t, setup{})
	csrf := p.signIn("alice")
	body := p.get("/console/terminal?role=deploy").body
	for _, want := range []string{
		"countersign exec --identity alice --role deploy -- aws sts get-caller-identity",
		"eval &#34;$(countersign env --identity alice --role deploy)&#34;",
		"countersign env --identity alice --role deploy --format fish | source",
		"countersign env --identity alice --role deploy --format powershell | Out-String | Invoke-Expression",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(body, "AWS_SECRET_ACCESS_KEY") {
		t.Error("secrets are shown without being asked for")
	}
	if got := p.get("/console/terminal?role=secret"); got.status != http.StatusForbidden {
		t.Errorf("a role that is not granted: %d", got.status)
	}
	if got := p.post("/console/credentials", url.Values{"csrf": {csrf}, "role": {"secret"}}); got.status != http.StatusForbidden || strings.Contains(got.body, "CSIG") {
		t.Errorf("credentials of a role that is not granted: %d", got.status)
	}
	got := p.post("/console/credentials", url.Values{"csrf": {csrf}, "role": {"deploy"}})
	if got.status != http.StatusOK || got.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("status %d", got.status)
	}
	value := func(name string) string {
		_, rest, _ := strings.Cut(got.body, "export "+name+"=")
		v, _, _ := strings.Cut(rest, "\n")
		return strings.TrimSuffix(v, "</code></pre></details>")
	}
	id, token := value("AWS_ACCESS_KEY_ID"), value("AWS_SESSION_TOKEN")
	g, secret, err := p.store.Lookup(id, token, time.Now())
	if err != nil || secret != value("AWS_SECRET_ACCESS_KEY") || g.Role != "deploy" || g.Session != nil || g.Identity.Name != "alice" {
		t.Errorf("%v: role %q of %q, session %q", err, g.Role, g.Identity.Name, g.Session)
	}
	if value("AWS_CA_BUNDLE") != "/state/ca.pem" || value("HTTPS_PROXY") != "http://127.0.0.1:8800" || !strings.Contains(got.body, "set -gx AWS_REGION &#39;eu-west-1&#39;") || !strings.Contains(got.body, "$Env:AWS_REGION = &#39;eu-west-1&#39;") {
		t.Error("the lines are not complete")
	}
	last := p.last(3)
	if last.Operation != "Credentials" || last.Resources[0] != id || strings.Contains(p.record.String(), secret) || strings.Contains(p.record.String(), token) {
		t.Errorf("recorded %+v", last)
	}
	// What signs calls does not sign in.
	if _, _, err := open(p.store, id+"."+token, time.Now(), purposeLinked, purposeOIDC, purposeLink, purposeTicket); !errors.Is(err, errNotSignedIn) {
		t.Errorf("client credentials open the page: %v", err)
	}
	if got := p.get("/console/ca.pem"); got.body != "PEM" {
		t.Errorf("the CA: %d %q", got.status, got.body)
	}
}

func TestSignOut(t *testing.T) {
	for _, everything := range []bool{false, true} {
		p := newPage(t, setup{})
		csrf := p.signIn("alice")
		u, err := url.Parse(p.base)
		if err != nil {
			t.Fatal(err)
		}
		before := p.browser.Jar.Cookies(u)
		creds, err := p.store.Mint(identity.Grant{Identity: p.identity("alice"), Role: "deploy", Expires: time.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		if got := p.post("/console/open", url.Values{"csrf": {csrf}, "role": {"deploy"}}); got.status != http.StatusOK {
			t.Fatalf("no console: %d", got.status)
		}
		form := url.Values{"csrf": {csrf}}
		if everything {
			form.Set("everything", "1")
		}
		got := p.post("/console/signout", form)
		if got.status != http.StatusOK || !strings.Contains(got.body, "stay signed in until their sessions expire") || len(p.browser.Jar.Cookies(u)) != 0 {
			t.Errorf("status %d, %d cookies: %s", got.status, len(p.browser.Jar.Cookies(u)), got.body)
		}
		if held := p.state.Sessions.Sessions(); (len(held) == 0) != everything {
			t.Errorf("everything %v: the proxy holds %+v", everything, held)
		}
		// Revocations are read at most four times a second.
		later := time.Now().Add(time.Second)
		if _, _, err := p.store.Lookup(creds.AccessKeyID, creds.SessionToken, later); (err != nil) != everything {
			t.Errorf("everything %v: client credentials: %v", everything, err)
		}
		p.browser.Jar.SetCookies(u, before)
		if got := p.get("/console/"); strings.Contains(got.body, "deploy") {
			t.Error("a copy of the cookie still signs in")
		}
	}
}

func TestExpiry(t *testing.T) {
	now := time.Now()
	p := newPage(t, setup{options: func(o *Options) { o.Now = func() time.Time { return now } }})
	csrf := p.signIn("alice")
	now = now.Add(DefaultLifetime - time.Second)
	if got := p.get("/console/terminal?role=deploy"); got.status != http.StatusOK {
		t.Fatalf("just in time: %d", got.status)
	}
	now = now.Add(2 * time.Second)
	if got := p.get("/console/terminal?role=deploy"); got.status != http.StatusUnauthorized {
		t.Errorf("late: %d", got.status)
	}
	if got := p.post("/console/open", url.Values{"csrf": {csrf}, "role": {"deploy"}}); got.status != http.StatusUnauthorized {
		t.Errorf("late: %d", got.status)
	}
}

func TestActivityIsLive(t *testing.T) {
	p := newPage(t, setup{})
	p.signIn("alice")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.base+"/console/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := p.browser.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got := res.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Fatalf("%d %s", res.StatusCode, got)
	}
	lines := bufio.NewScanner(res.Body)
	lines.Scan() // ": live": the subscription is there
	denied := audit.Entry{Time: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC), Identity: "alice", Role: "deploy", Service: "s3", Operation: "PutObject", Region: "eu-west-1",
		Actions: []string{"s3:PutObject"}, Resources: []string{"arn:aws:s3:::b/k*<script>"}, Decision: audit.Deny, Reason: "implicit deny"}
	if err := p.log.Write(denied); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
		text, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var got line
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatal(err)
		}
		if got.Call == "console:Link" {
			continue // the test's own
		}
		want := line{Time: "2026-03-04T05:06:07Z", Clock: "05:06:07", Who: "alice", Role: "deploy", Call: "s3:PutObject", Where: "eu-west-1", Resource: "arn:aws:s3:::b/k*<script>",
			Decision: "deny", Denied: true, Reason: "implicit deny", Advice: "No statement allows this. One that would:",
			Statement: "{\n  \"Effect\": \"Allow\",\n  \"Action\": \"s3:PutObject\",\n  \"Resource\": \"arn:aws:s3:::b/k${*}<script>\"\n}"}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(line{})); diff != "" {
			t.Error(diff)
		}
		break
	}
	// The proxy's shutdown must not wait for pages that are open.
	p.server.Close()
	for lines.Scan() {
	}
	if err := lines.Err(); err != nil {
		t.Error(err)
	}
}

// stream opens a stream of live activity; its status says whether there is one.
func (p *page) stream(path, last string) *http.Response {
	p.t.Helper()
	r := must(http.NewRequestWithContext(p.t.Context(), http.MethodGet, p.base+path, nil))
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	res, err := p.browser.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { res.Body.Close() })
	return res
}

var pageMark = regexp.MustCompile(`data-mark="([^"]*)"`)

// Between the page and its stream, and while a stream is broken off, calls go on.
func TestActivityHasNoGap(t *testing.T) {
	p := newPage(t, setup{})
	p.signIn("alice")
	write := func(operation string) {
		t.Helper()
		if err := p.log.Write(audit.Entry{Time: time.Now(), Identity: "alice", Service: "s3", Operation: operation, Decision: audit.Allow}); err != nil {
			t.Fatal(err)
		}
	}
	// next is what the stream sends first that is not the test's own sign-in.
	next := func(path, last string) (call, id string) {
		t.Helper()
		lines := bufio.NewScanner(p.stream(path, last).Body)
		for lines.Scan() {
			if v, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
				id = v
			} else if v, ok := strings.CutPrefix(lines.Text(), "data: "); ok && !strings.Contains(v, "console:Link") {
				var got line
				if err := json.Unmarshal([]byte(v), &got); err != nil {
					t.Fatal(err)
				}
				return got.Call, id
			}
		}
		t.Fatal("the stream ended")
		return "", ""
	}
	home := p.get("/console/").body
	write("First")
	path := "/console/events?after=" + url.QueryEscape(pageMark.FindStringSubmatch(home)[1])
	call, id := next(path, "")
	if call != "s3:First" {
		t.Errorf("the stream begins with %s", call)
	}
	write("Second")
	if call, _ := next(path, id); call != "s3:Second" {
		t.Errorf("the stream goes on with %s", call)
	}
	if home := p.get("/console/").body; strings.Contains(home, id) {
		t.Error("the page's mark is not of the latest call")
	}
}

func TestStreamsAreBounded(t *testing.T) {
	p := newPage(t, setup{})
	p.signIn("alice")
	first := p.stream("/console/events", "")
	for n := 1; n < maxBrowserStreams; n++ {
		if got := p.stream("/console/events", ""); got.StatusCode != http.StatusOK {
			t.Fatalf("stream %d: %d", n+1, got.StatusCode)
		}
	}
	if got := p.stream("/console/events", ""); got.StatusCode != http.StatusTooManyRequests {
		t.Errorf("one more in this browser: %d", got.StatusCode)
	}
	for n := maxBrowserStreams; n < maxPersonStreams; n++ {
		if n%maxBrowserStreams == 0 {
			p.browser = p.newBrowser()
			p.signIn("alice")
		}
		if got := p.stream("/console/events", ""); got.StatusCode != http.StatusOK {
			t.Fatalf("stream %d: %d", n+1, got.StatusCode)
		}
	}
	p.browser = p.newBrowser()
	p.signIn("alice")
	if got := p.stream("/console/events", ""); got.StatusCode != http.StatusTooManyRequests {
		t.Errorf("one more of this person: %d", got.StatusCode)
	}
	first.Body.Close()
	for deadline := time.Now().Add(time.Minute); p.stream("/console/events", "").StatusCode != http.StatusOK; {
		if time.Now().After(deadline) {
			t.Fatal("a stream that ended is still counted")
		}
	}
	p.browser = p.newBrowser()
	p.signIn("bob")
	if got := p.stream("/console/events", ""); got.StatusCode != http.StatusOK {
		t.Errorf("of another person: %d", got.StatusCode)
	}
}

func TestWhoSeesWhat(t *testing.T) {
	entry := audit.Entry{Identity: "alice"}
	for _, test := range []struct {
		who  person
		want bool
	}{
		{person{Identity: identity.Identity{Name: "alice"}}, true},
		{person{Identity: identity.Identity{Name: "bob"}}, false},
		{person{Identity: identity.Identity{Name: "bob"}, Everything: true}, true},
	} {
		if visible(entry, &test.who) != test.want {
			t.Errorf("%s sees it: %v", test.who.Name, !test.want)
		}
	}
}

func TestRemedy(t *testing.T) {
	for _, test := range []struct {
		entry             audit.Entry
		statement, advice string
	}{
		{audit.Entry{Reason: "implicit deny", Actions: []string{"s3:GetObject", "s3:PutObject", "s3:GetObject"}, Resources: []string{"arn:aws:s3:::a/*", "…(+3 more)"}},
			`{"Effect":"Allow","Action":["s3:GetObject","s3:PutObject"],"Resource":"arn:aws:s3:::a/*"}`, "No statement allows this. One that would:"},
		{audit.Entry{Reason: "boundary", Actions: []string{"sts:GetCallerIdentity"}}, `{"Effect":"Allow","Action":"sts:GetCallerIdentity","Resource":"*"}`, "The identity's boundary does not allow this. A statement of the boundary that would:"},
		{audit.Entry{Reason: "explicit deny", Actions: []string{"s3:GetObject"}, Policy: "deploy.json", Statement: "NoSecrets"}, "", "A Deny applies (deploy.json NoSecrets). No Allow helps against it: change that statement."},
		{audit.Entry{Reason: "signature", Error: "the signature is wrong"}, "", "the signature is wrong"},
	} {
		statement, advice := remedy(test.entry)
		var compact string
		if statement != "" {
			var v struct {
				Effect   string
				Action   any
				Resource any
			}
			if err := json.Unmarshal([]byte(statement), &v); err != nil {
				t.Fatal(err)
			}
			b, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			compact = string(b)
		}
		if compact != test.statement || advice != test.advice {
			t.Errorf("%s: %s, %q", test.entry.Reason, compact, advice)
		}
	}
}

func TestAskForTheCommandLine(t *testing.T) {
	p := newPage(t, setup{})
	got, err := Ask(t.Context(), p.base, p.store, p.identity("alice"), "partner", "ec2", "")
	if err != nil || got.Role != "partner" || got.Account != "333333333333" || !strings.HasPrefix(got.URL, "https://eu-west-1.signin.aws.amazon.com/federation?") {
		t.Fatalf("%v: %s in %s", err, got.Role, got.Account)
	}
	if e := p.last(1); e.Operation != "SignIn" || e.Identity != "alice" || e.Decision != audit.Allow {
		t.Errorf("recorded %+v", e)
	}
	if _, err := Ask(t.Context(), p.base, p.store, p.identity("alice"), "secret", "", ""); err == nil || !strings.Contains(err.Error(), `may not use a role "secret"`) {
		t.Errorf("a role that is not granted: %v", err)
	}
	if _, err := Ask(t.Context(), "http://127.0.0.1:1", p.store, p.identity("alice"), "", "", ""); !errors.Is(err, ErrNoServer) {
		t.Errorf("no proxy: %v", err)
	}
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Ask(stopped, p.base, p.store, p.identity("alice"), "", "", ""); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// STS may be slow or away: the page is there all the same, says nothing that may turn
// out to be wrong, and its part has the rest once STS has answered.
func TestPageDoesNotWaitForSTS(t *testing.T) {
	policy := []string{"arn:aws:iam::aws:policy/ReadOnlyAccess"}
	answer := make(chan struct{})
	p := newPage(t, setup{
		roles:      []Role{{Name: "deploy", ARN: deployARN, Duration: 4 * time.Hour}, {Name: "people", Federate: &Federate{PolicyARNs: policy, Duration: 8 * time.Hour}}, {Name: "keys"}},
		identities: []identity.Identity{{Name: "alice", Roles: []string{"deploy", "people", "keys"}}},
		options:    func(o *Options) { o.Patience = time.Millisecond },
	})
	p.cloud.intercept(func(r *http.Request, body []byte) *http.Response {
		if strings.Contains(string(body), "GetCallerIdentity") {
			<-answer
		}
		return nil
	})
	p.signIn("alice")
	home := p.get("/console/?q=e").body
	for _, want := range []string{`<div id="roles" data-unsure data-from="/console/roles?q=e">`, "Console sessions of up to 4h.", "How long console sessions last is not known yet."} {
		if !strings.Contains(home, want) {
			t.Errorf("the page lacks %q: %s", want, home)
		}
	}
	if strings.Contains(home, "Not in the console") {
		t.Errorf("a role is refused before STS has answered: %s", home)
	}
	close(answer)
	part := p.get("/console/roles?q=e").body
	for _, want := range []string{`<div id="roles" data-from="/console/roles?q=e">`, "Console sessions of 4h.", "Console sessions of 8h, as a federated user.", "cannot sign in to the console by themselves"} {
		if !strings.Contains(part, want) {
			t.Errorf("the part lacks %q: %s", want, part)
		}
	}
}
