package console

import (
	"context"
	"crypto/rand"
	"errors"
	"html"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-proxy/countersign/audit"
	"github.com/countersign-proxy/countersign/identity"
)

// Nothing that an attacker sends may reach AWS, sign somebody in or be quoted as
// markup. Each row is a way to try.
func TestAttacks(t *testing.T) {
	form := func(p *page, csrf string) url.Values {
		return url.Values{"csrf": {csrf}, "role": {"deploy"}, "destination": {"s3"}}
	}
	for _, test := range []struct {
		name   string
		send   func(p *page, csrf string) reply
		status int
		reason string // of the line in the record; "": none is written
	}{
		{"open redirect through the address", func(p *page, csrf string) reply {
			f := form(p, csrf)
			f.Set("address", "https://console.aws.amazon.com.evil.example/")
			return p.post("/console/open", f)
		}, 400, "destination"},
		{"open redirect through the region", func(p *page, csrf string) reply {
			f := form(p, csrf)
			f.Set("region", "evil.example/")
			return p.post("/console/open", f)
		}, 400, "destination"},
		{"role that is not granted", func(p *page, csrf string) reply {
			f := form(p, csrf)
			f.Set("role", "secret")
			return p.post("/console/open", f)
		}, 403, "not granted"},
		{"role that does not exist", func(p *page, csrf string) reply {
			f := form(p, csrf)
			f.Set("role", "<script>alert(1)</script>")
			return p.post("/console/open", f)
		}, 403, "not granted"},
		{"no token in the form", func(p *page, _ string) reply { return p.post("/console/open", form(p, "")) }, 403, "cross-site"},
		{"another person's token", func(p *page, _ string) reply {
			other := *p
			other.browser = p.newBrowser()
			return p.post("/console/open", form(p, other.signIn("bob")))
		}, 403, "cross-site"},
		{"token in the query", func(p *page, csrf string) reply {
			return p.post("/console/open?"+form(p, csrf).Encode(), url.Values{})
		}, 403, "cross-site"},
		{"form of another site", func(p *page, csrf string) reply {
			return p.post("/console/open", form(p, csrf), "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example")
		}, 403, "cross-site"},
		{"form of another port of this machine", func(p *page, csrf string) reply {
			return p.post("/console/open", form(p, csrf), "Sec-Fetch-Site", "same-site", "Origin", "http://127.0.0.1:9")
		}, 403, "cross-site"},
		{"form of another site by an old browser", func(p *page, csrf string) reply {
			return p.post("/console/open", form(p, csrf), "Sec-Fetch-Site", "", "Origin", "https://evil.example")
		}, 403, "cross-site"},
		{"link in place of a form", func(p *page, csrf string) reply { return p.get("/console/open?" + form(p, csrf).Encode()) }, 405, ""},
		{"form as plain text", func(p *page, csrf string) reply {
			return p.post("/console/open", form(p, csrf), "Content-Type", "text/plain")
		}, 403, "cross-site"},
		{"form as JSON", func(p *page, csrf string) reply {
			return p.post("/console/open", form(p, csrf), "Content-Type", "application/json")
		}, 403, "cross-site"},
		{"form in parts", func(p *page, csrf string) reply {
			return p.post("/console/open", form(p, csrf), "Content-Type", "multipart/form-data; boundary=x")
		}, 403, "cross-site"},
		{"credentials for another site's form", func(p *page, csrf string) reply {
			return p.post("/console/credentials", form(p, csrf), "Sec-Fetch-Site", "cross-site")
		}, 403, "cross-site"},
		{"signing out by another site's form", func(p *page, csrf string) reply {
			return p.post("/console/signout", form(p, csrf), "Sec-Fetch-Site", "cross-site")
		}, 403, "cross-site"},
		{"form of a page that was signed out since", func(p *page, csrf string) reply {
			p.browser = p.newBrowser()
			p.signIn("alice")
			return p.post("/console/open", form(p, csrf))
		}, 403, "cross-site"},
		{"method override", func(p *page, csrf string) reply {
			r := must(http.NewRequest(http.MethodGet, p.base+"/console/open?"+form(p, csrf).Encode(), nil))
			r.Header.Set("X-HTTP-Method-Override", "POST")
			return p.do(p.browser, r)
		}, 405, ""},
		{"form too large", func(p *page, csrf string) reply {
			f := form(p, csrf)
			f.Set("address", strings.Repeat("a", maxForm))
			return p.post("/console/open", f)
		}, 403, "cross-site"},
		{"forged cookie", func(p *page, csrf string) reply {
			p.cookie("CSIGAAAAAAAAAAAAAAAA.CS1.AAAA")
			return p.post("/console/open", form(p, csrf))
		}, 401, ""},
		{"empty cookie", func(p *page, csrf string) reply { p.cookie("."); return p.post("/console/open", form(p, csrf)) }, 401, ""},
		{"cookie longer than any of ours", func(p *page, csrf string) reply {
			p.browser = p.newBrowser()
			var all []*http.Cookie
			for n := range maxParts + 3 {
				all = append(all, &http.Cookie{Name: p.server.cookieNamed(cookieName) + "." + strconv.Itoa(n), Value: "CSIGAAAAAAAAAAAAAAAA.CS1." + strings.Repeat("A", cookiePart)})
			}
			p.browser.Jar.SetCookies(must(url.Parse(p.base)), all)
			return p.post("/console/open", form(p, csrf))
		}, 401, ""},
		{"cookie cut short", func(p *page, csrf string) reply {
			v := p.server.cookie(&http.Request{Header: http.Header{"Cookie": {cookieHeader(p)}}})
			p.cookie(v[:len(v)-1])
			return p.post("/console/open", form(p, csrf))
		}, 401, ""},
		{"cookie of another key", func(p *page, csrf string) reply {
			other := newPage(t, setup{options: func(o *Options) { o.Base = p.base }})
			key := must(identity.GenerateSealingKey(rand.Reader))
			store := must(identity.New(identity.Options{Identities: []identity.Identity{other.identity("alice")}, SealingKeys: []identity.SealingKey{key}}))
			v, _, err := mint(store, p.identity("alice"), purposeLinked, time.Now().Add(time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			p.cookie(v)
			return p.post("/console/open", form(p, csrf))
		}, 401, ""},
		{"link as a cookie", func(p *page, csrf string) reply {
			p.cookie(strings.TrimPrefix(p.link("alice"), "/console/start?t="))
			return p.post("/console/open", form(p, csrf))
		}, 401, ""},
		{"cookie of another way to sign in", func(p *page, csrf string) reply {
			v, _, err := mint(p.store, p.identity("alice"), purposeOIDC, time.Now().Add(time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			p.cookie(v)
			return p.post("/console/open", form(p, csrf))
		}, 401, ""},
		{"client credentials as a cookie", func(p *page, csrf string) reply {
			c, err := p.store.Mint(identity.Grant{Identity: p.identity("alice"), Role: "deploy", Expires: time.Now().Add(time.Hour)})
			if err != nil {
				t.Fatal(err)
			}
			p.cookie(c.AccessKeyID + "." + c.SessionToken)
			return p.post("/console/open", form(p, csrf))
		}, 401, ""},
		{"cookie as a link", func(p *page, _ string) reply {
			v := p.server.cookie(&http.Request{Header: http.Header{"Cookie": {cookieHeader(p)}}})
			p.browser = p.newBrowser()
			return p.get("/console/start?t=" + v)
		}, 403, "bad link"},
		{"link used twice", func(p *page, _ string) reply {
			link := p.link("alice")
			p.browser = p.newBrowser()
			if got := p.get(link); got.status != 200 {
				t.Errorf("the first time: %d", got.status)
			}
			p.browser = p.newBrowser()
			return p.get(link)
		}, 403, "bad link"},
		{"cookie as a ticket", func(p *page, csrf string) reply {
			v := p.server.cookie(&http.Request{Header: http.Header{"Cookie": {cookieHeader(p)}}})
			return p.post("/console/api/open", form(p, csrf), "Authorization", "Bearer "+v)
		}, 401, "bad ticket"},
		{"no ticket", func(p *page, csrf string) reply { return p.post("/console/api/open", form(p, csrf)) }, 401, "bad ticket"},
		{"ticket used twice", func(p *page, csrf string) reply {
			v, _, err := mint(p.store, p.identity("alice"), purposeTicket, time.Now().Add(time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			if got := p.post("/console/api/open", url.Values{"role": {"none"}}, "Authorization", "Bearer "+v); got.status != 403 {
				t.Errorf("the first time: %d", got.status)
			}
			return p.post("/console/api/open", form(p, csrf), "Authorization", "Bearer "+v)
		}, 401, "bad ticket"},
		{"callback without OpenID Connect", func(p *page, _ string) reply { return p.get("/console/callback?code=x&state=y") }, 404, ""},
		{"listing of files", func(p *page, _ string) reply { return p.get("/console/static/") }, 404, ""},
		{"path out of the files", func(p *page, _ string) reply { return p.get("/console/static/..%2fpages%2fhome.html") }, 404, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPage(t, setup{})
			csrf := p.signIn("alice")
			p.cloud.sandbox.Forget()
			before := len(p.lines(1))
			got := test.send(p, csrf)
			if got.status != test.status || strings.Contains(got.body, "<script>alert") {
				t.Errorf("status %d, want %d: %s", got.status, test.status, got.body)
			}
			if n := len(p.cloud.sandbox.Requests()); n != 0 || got.leadsTo() != "" || strings.Contains(got.body, "SigninToken") {
				t.Errorf("%d requests reached AWS, on to %q", n, got.leadsTo())
			}
			if test.reason != "" {
				// The last line is the one; how many came before it differs.
				var e audit.Entry
				for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); {
					if e = p.last(before + 1); strings.HasPrefix(e.Reason, test.reason) {
						break
					}
					time.Sleep(time.Millisecond)
				}
				if !strings.HasPrefix(e.Reason, test.reason) || e.Decision != audit.Deny || e.Service != "console" {
					t.Errorf("recorded %s %q, want %q", e.Decision, e.Reason, test.reason)
				}
			}
		})
	}
}

// cookie makes the browser hold a cookie that it was not given.
func (p *page) cookie(value string) {
	p.browser = p.newBrowser()
	p.browser.Jar.SetCookies(must(url.Parse(p.base)), []*http.Cookie{{Name: p.server.cookieNamed(cookieName) + ".0", Value: value}})
}

func cookieHeader(p *page) string {
	var out []string
	for _, c := range p.browser.Jar.Cookies(must(url.Parse(p.base))) {
		out = append(out, c.Name+"="+c.Value)
	}
	return strings.Join(out, "; ")
}

// One link lets one browser in, however many come at once, and looking at it does not
// count.
func TestLinkIsGoodOnce(t *testing.T) {
	p := newPage(t, setup{})
	link := p.link("alice")
	for range 3 {
		r := must(http.NewRequest(http.MethodHead, p.base+link, nil))
		if got := p.do(p.newBrowser(), r); got.status != http.StatusMethodNotAllowed || len(got.header["Set-Cookie"]) != 0 {
			t.Errorf("HEAD: %d", got.status)
		}
	}
	var in atomic.Int32
	var all sync.WaitGroup
	begin := make(chan struct{})
	for range tryBurst {
		all.Go(func() {
			r := must(http.NewRequest(http.MethodGet, p.base+link, nil))
			<-begin
			res, err := p.newBrowser().Do(r)
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			if res.StatusCode == http.StatusOK && len(res.Header["Set-Cookie"]) > 0 {
				in.Add(1)
			} else if res.StatusCode != http.StatusForbidden {
				t.Errorf("status %d", res.StatusCode)
			}
		})
	}
	close(begin)
	all.Wait()
	if n := in.Load(); n != 1 {
		t.Errorf("%d were let in", n)
	}
}

// Who plants a cookie of his own in somebody's browser does not find that person
// behind it later: signing in makes a new one.
func TestSessionFixation(t *testing.T) {
	p := newPage(t, setup{})
	p.signIn("bob")
	planted := p.browser.Jar.Cookies(must(url.Parse(p.base)))
	p.signIn("alice")
	if cookieHeader(p) == planted[0].Name+"="+planted[0].Value {
		t.Error("the cookie is still the planted one")
	}
	p.browser = p.newBrowser()
	p.browser.Jar.SetCookies(must(url.Parse(p.base)), planted)
	if home := p.get("/console/").body; strings.Contains(home, "Deploys the shop") || !strings.Contains(home, "bob") {
		t.Errorf("behind the planted cookie is %s", home)
	}
}

// What a client says of how it came decides nothing: where AWS leads back to, and how
// cookies are set, is as configured.
func TestForwardedHeadersAreNotBelieved(t *testing.T) {
	p := newPage(t, setup{})
	csrf := p.signIn("alice")
	forwarded := []string{"X-Forwarded-Host", "evil.example", "X-Forwarded-Proto", "https", "X-Forwarded-For", "192.0.2.9", "Forwarded", "for=192.0.2.9;host=evil.example", "X-Original-URL", "/console/", "X-Real-IP", "192.0.2.9"}
	got := p.post("/console/open", url.Values{"csrf": {csrf}, "role": {"deploy"}}, forwarded...)
	to := must(url.Parse(got.leadsTo()))
	if got.status != http.StatusOK || to.Query().Get("Issuer") != p.base+"/console/back" || strings.Contains(got.body, "evil") {
		t.Errorf("%d: AWS leads back to %q", got.status, to.Query().Get("Issuer"))
	}
	if e := p.last(2); !strings.HasPrefix(e.Client, "127.0.0.1:") || strings.Contains(p.record.String(), "evil") || strings.Contains(p.record.String(), "192.0.2.9") {
		t.Errorf("recorded %+v", e)
	}
}

// A page of an attacker that makes its own name point to 127.0.0.1 is of one origin
// with the console, as browsers see it. The name gives it away.
func TestDNSRebinding(t *testing.T) {
	p := newPage(t, setup{})
	csrf := p.signIn("alice")
	for _, path := range []string{"/console/", "/", "/console/events", "/console/static/console.js", p.link("alice")} {
		r := must(http.NewRequest(http.MethodGet, p.base+path, nil))
		r.Host = "rebound.evil.example"
		if got := p.do(p.browser, r); got.status != http.StatusMisdirectedRequest || strings.Contains(got.body, "deploy") {
			t.Errorf("%s: %d", path, got.status)
		}
	}
	r := must(http.NewRequest(http.MethodPost, p.base+"/console/open", strings.NewReader(url.Values{"csrf": {csrf}, "role": {"deploy"}}.Encode())))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Host = "rebound.evil.example"
	if got := p.do(p.browser, r); got.status != http.StatusMisdirectedRequest {
		t.Errorf("a form: %d", got.status)
	}
}

const evil = `"><script>alert(1)</script><img src=x onerror=alert(1)>'` + "`{{.}}" + `</template></textarea>`

// What others chose is shown as text: labels, attributes, names, keys, user agents.
func TestMarkupIsText(t *testing.T) {
	role := Role{Name: "deploy", ARN: deployARN, Labels: map[string]string{"env": evil, evil: "x", "aws_account_name": evil, "description": evil}}
	p := newPage(t, setup{
		roles:      []Role{role, {Name: evil, ARN: "arn:aws:iam::210987654321:role/Evil"}},
		identities: []identity.Identity{{Name: "alice" + evil, Roles: []string{"deploy", evil}, Attributes: map[string]string{"team" + evil: evil}}},
	})
	for _, e := range []audit.Entry{
		{Identity: evil, Service: "s3", Operation: "GetObject", Actions: []string{"s3:GetObject"}, Resources: []string{"arn:aws:s3:::b/" + evil}, Decision: audit.Deny, Reason: "implicit deny"},
		{Identity: evil, Host: evil, Method: evil, Role: evil, Region: evil, Decision: audit.Deny, Reason: evil, Error: "agent " + evil},
	} {
		if err := p.log.Write(e); err != nil {
			t.Fatal(err)
		}
	}
	p.lines(2)
	p.signIn("alice" + evil)
	for _, path := range []string{"/console/", "/console/?q=" + url.QueryEscape(evil), "/console/terminal?role=" + url.QueryEscape(evil)} {
		body := p.get(path).body
		if strings.Contains(body, "<script>alert") || strings.Contains(body, "<img src=x") || strings.Contains(body, "onerror=alert(1)>") {
			t.Errorf("%.40s has markup of others", path)
		}
		if !strings.Contains(body, "alert(1)") {
			t.Errorf("%.40s does not show the text at all", path)
		}
	}
	// So is what AWS says.
	p.cloud.intercept(func(_ *http.Request, body []byte) *http.Response {
		if !strings.Contains(string(body), "AssumeRole") {
			return nil
		}
		return response(http.StatusForbidden, "<ErrorResponse><Error><Code>AccessDenied</Code><Message>"+html.EscapeString(evil)+"</Message></Error></ErrorResponse>")
	})
	got := p.post("/console/open", url.Values{"csrf": {p.csrf()}, "role": {"deploy"}})
	if got.status != http.StatusBadGateway || strings.Contains(got.body, "<script>alert") || !strings.Contains(got.body, "alert(1)") {
		t.Errorf("%d: %s", got.status, got.body)
	}
}

// Who comes from another site is sent to this page once more, and nowhere else.
func TestComingFromElsewhere(t *testing.T) {
	p := newPage(t, setup{})
	for _, test := range []struct {
		path  string
		to    string // "": nowhere
		where []string
	}{
		{"/console/?q=a%20b&x=%22%3E", "/console/?q=a%20b&x=%22%3E", []string{"cross-site", "navigate"}},
		{"/console/terminal?role=//evil.example", "/console/terminal?role=//evil.example", []string{"cross-site", "navigate"}},
		{"/console/", "", []string{"same-origin", "navigate"}}, // it was sent
		{"/console/", "", []string{"none", "navigate"}},        // typed
		{"/console/", "", []string{"cross-site", "no-cors"}},
		{"/console/", "", []string{"", ""}},
	} {
		r := must(http.NewRequest(http.MethodGet, p.base+test.path, nil))
		r.Header.Set("Sec-Fetch-Site", test.where[0])
		r.Header.Set("Sec-Fetch-Mode", test.where[1])
		if got := p.do(p.newBrowser(), r); got.leadsTo() != test.to {
			t.Errorf("%s, %q: leads to %q", test.path, test.where, got.leadsTo())
		}
	}
	// A form of another site is not sent again.
	if got := p.post("/console/open", url.Values{}, "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"); got.status != http.StatusUnauthorized || got.leadsTo() != "" {
		t.Errorf("a form: %d to %q", got.status, got.leadsTo())
	}
}

// What is wrong is answered so often and not more, and a flood of it is one line of the
// record. What is right is let in meanwhile, since anybody can send what is wrong: on
// loopback every web page, behind a balancer everybody.
func TestRateLimits(t *testing.T) {
	now := time.Now()
	p := newPage(t, setup{options: func(o *Options) { o.Now = func() time.Time { return now } }})
	p.signIn("alice")
	for range tryBurst {
		if got := p.get("/console/start?t=x"); got.status != http.StatusSeeOther {
			t.Fatalf("status %d", got.status) // to the page, since somebody is signed in
		}
	}
	for range 10 {
		if got := p.get("/console/start?t=x"); got.status != http.StatusTooManyRequests || got.header.Get("Retry-After") == "" {
			t.Errorf("links: status %d", got.status)
		}
		if got := p.post("/console/api/open", url.Values{}, "Authorization", "Bearer x"); got.status != http.StatusTooManyRequests {
			t.Errorf("tickets: status %d", got.status)
		}
		if got := p.post("/console/open", url.Values{}); got.status != http.StatusForbidden {
			t.Errorf("forms: status %d", got.status)
		}
	}
	if _, err := Ask(t.Context(), p.base, p.store, p.identity("bob"), "partner", "", ""); err != nil {
		t.Errorf("the command line is locked out: %v", err)
	}
	if got := p.get(p.link("bob")); got.status != http.StatusOK {
		t.Errorf("a link is locked out: %d", got.status)
	}
	p.browser = p.newBrowser()
	csrf := p.signIn("alice")
	counts := map[string]int{}
	for _, e := range p.lines(tryBurst + 5) {
		counts[e.Operation+" "+e.Reason]++
	}
	want := map[string]int{"Link one-time link": 3, "Link bad link": tryBurst, "Link rate": 1, "SignIn signed in": 1}
	if diff := cmp.Diff(want, counts); diff != "" {
		t.Error(diff)
	}
	for range openingBurst {
		if got := p.post("/console/open", url.Values{"csrf": {csrf}, "role": {"secret"}}); got.status != http.StatusForbidden {
			t.Fatalf("status %d", got.status)
		}
	}
	if got := p.post("/console/open", url.Values{"csrf": {csrf}, "role": {"deploy"}}); got.status != http.StatusTooManyRequests {
		t.Errorf("sign-ins: status %d", got.status)
	}
	now = now.Add(3 * time.Second)
	if got := p.post("/console/open", url.Values{"csrf": {csrf}, "role": {"deploy"}}); got.status != http.StatusOK {
		t.Errorf("after a while: status %d", got.status)
	}
	if got := p.post("/console/api/open", url.Values{}, "Authorization", "Bearer x"); got.status != http.StatusUnauthorized {
		t.Errorf("a ticket after a while: status %d", got.status)
	}
}

func TestAddressesAreCountedByNetwork(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.1:1234": "192.0.2.1", "[::ffff:192.0.2.1]:1234": "192.0.2.1",
		"[2001:db8:1:2:3:4:5:6]:1234": "2001:db8:1:2::/64", "[fe80::1%eth0]:1": "fe80::/64", "@": "@",
	} {
		if got := address(remote); got != want {
			t.Errorf("%s: %s, want %s", remote, got, want)
		}
	}
}

// A restart forgets which links were used, so links from before it are refused.
func TestLinkFromBeforeTheStart(t *testing.T) {
	p := newPage(t, setup{options: func(o *Options) {
		first := true
		o.Now = func() time.Time {
			if first {
				first = false
				return time.Now().Add(time.Minute) // the start
			}
			return time.Now()
		}
	}})
	if got := p.get(p.link("alice")); got.status != http.StatusForbidden {
		t.Errorf("status %d", got.status)
	}
}

// Where the record is required, nothing is given out that it cannot hold.
func TestNothingWithoutARecord(t *testing.T) {
	broken := errors.New("disk full")
	p := newPage(t, setup{options: func(o *Options) {
		log, err := audit.Open(audit.Options{Writer: failing{broken}, Required: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = log.Close(expired()) })
		_ = log.Write(audit.Entry{Time: time.Now(), Decision: audit.Deny})
		for log.Ready() == nil {
			time.Sleep(time.Millisecond)
		}
		o.Audit = log
	}})
	if got := p.get(p.link("alice")); got.status != http.StatusServiceUnavailable || len(got.header["Set-Cookie"]) != 0 {
		t.Errorf("the link: %d", got.status)
	}
	v, _, err := mint(p.store, p.identity("alice"), purposeLinked, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	p.cookie(v)
	csrf := p.csrf()
	for _, path := range []string{"/console/open", "/console/credentials"} {
		if got := p.post(path, url.Values{"csrf": {csrf}, "role": {"deploy"}}); got.status != http.StatusServiceUnavailable || strings.Contains(got.body, "CSIG") {
			t.Errorf("%s: %d", path, got.status)
		}
	}
	for _, r := range p.cloud.sandbox.Requests() {
		if r.Operation != "GetCallerIdentity" { // which the page asks for, to say how long sessions are
			t.Errorf("%s reached AWS", r.Operation)
		}
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func expired() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// A role's boundary must not get lost between two reloads.
func TestBoundaryThatWasNotLoaded(t *testing.T) {
	boundary := document("b.json", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}`)
	for _, loaded := range []bool{false, true} {
		p := newPage(t, setup{identities: []identity.Identity{{Name: "alice", Roles: []string{"deploy"}, Boundary: "/etc/b.json"}}, state: func(s *State) {
			if loaded {
				s.Boundaries = map[string]Document{"/etc/b.json": boundary}
			}
		}})
		got := p.post("/console/open", url.Values{"csrf": {p.signIn("alice")}, "role": {"deploy"}})
		if (got.status == http.StatusOK) != loaded {
			t.Errorf("loaded %v: status %d", loaded, got.status)
		}
		if calls := p.cloud.asked("AssumeRole"); loaded && (len(calls) != 1 || !strings.Contains(calls[0].Get("Policy"), "s3:*")) || !loaded && len(calls) != 0 {
			t.Errorf("loaded %v: asked %v", loaded, calls)
		}
	}
}
