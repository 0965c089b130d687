package console

import (
	"bytes"
	"context"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/countersign-proxy/countersign/audit"
	"github.com/countersign-proxy/countersign/identity"
	"github.com/countersign-proxy/countersign/metrics"
)

// page is a running console page on a listener like the proxy's own.
type page struct {
	t       *testing.T
	cloud   *cloud
	server  *Server
	base    string
	store   *identity.Store
	state   State
	log     *audit.Log
	record  *lockedBuffer
	browser *http.Client // keeps cookies, follows nothing
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// setup says how a page differs from the plain one.
type setup struct {
	roles      []Role
	identities []identity.Identity
	issuers    []*identity.Issuer
	options    func(o *Options)
	state      func(s *State)
	now        func() time.Time // of the sandbox and the page; nil: the real one
	source     func(c *cloud) aws.Credentials
}

var testRoles = []Role{
	{Name: "deploy", ARN: deployARN, Duration: time.Hour, Labels: map[string]string{"env": "prod", "aws_account_name": "Shop", "description": "Deploys the shop"}},
	{Name: "audit", ARN: "arn:aws:iam::210987654321:role/Audit", Limits: Limits{ReadOnly: true}},
	{Name: "partner", ARN: "arn:aws:iam::333333333333:role/Partner", Labels: map[string]string{"env": "test"}},
	{Name: "secret", ARN: "arn:aws:iam::999999999999:role/Secret"},
}

func newPage(t *testing.T, how setup) *page {
	t.Helper()
	p := &page{t: t, cloud: newCloudAt(t, nil, how.now), record: &lockedBuffer{}}
	if how.roles == nil {
		how.roles = testRoles
	}
	if how.identities == nil {
		how.identities = []identity.Identity{
			{Name: "alice", Roles: []string{"deploy", "audit", "partner"}, Attributes: map[string]string{"team": "platform"}},
			{Name: "bob", Roles: []string{"partner"}},
		}
	}
	key, err := identity.GenerateSealingKey(rander{})
	if err != nil {
		t.Fatal(err)
	}
	revocations := filepath.Join(t.TempDir(), "revocations.jsonl")
	read, err := identity.OpenRevocations(revocations)
	if err != nil {
		t.Fatal(err)
	}
	if p.store, err = identity.New(identity.Options{Identities: how.identities, SealingKeys: []identity.SealingKey{key}, Revocations: read, Issuers: how.issuers}); err != nil {
		t.Fatal(err)
	}
	if p.log, err = audit.Open(audit.Options{Writer: p.record, Required: true}); err != nil {
		t.Fatal(err)
	}
	source := p.cloud.sandbox.Credentials()
	if how.source != nil {
		source = how.source(p.cloud)
	}
	sessions := p.cloud.sessions(source, how.roles...)
	p.state = State{Identities: p.store, Sessions: sessions, Federation: p.cloud.federation(sessions), Roles: how.roles}
	if how.now != nil {
		p.state.Federation.opt.Now = how.now
	}
	if how.state != nil {
		how.state(&p.state)
	}
	web := httptest.NewUnstartedServer(nil)
	p.base = "http://" + web.Listener.Addr().String()
	opt := Options{
		Current: func() State { return p.state }, Audit: p.log, Base: p.base, Local: true, Now: how.now, Patience: time.Minute,
		Revoke:   func(r identity.Revocation) error { return identity.Revoke(revocations, time.Now(), r) },
		Terminal: Terminal{ProxyURL: "http://127.0.0.1:8800", Bundle: "/state/ca.pem", NoProxy: "localhost", Region: "eu-west-1", CA: func() []byte { return []byte("PEM") }},
	}
	if how.options != nil {
		how.options(&opt)
	}
	if p.server, err = NewServer(opt); err != nil {
		t.Fatal(err)
	}
	admin := metrics.NewAdmin(metrics.AdminOptions{Gatherer: prometheus.NewRegistry(), Extra: p.server.Handlers()})
	web.Config = metrics.NewServer(admin, nil)
	web.Start()
	p.browser = p.newBrowser()
	t.Cleanup(func() {
		p.server.Close()
		web.Close()
		if err := p.log.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return p
}

type rander struct{}

func (rander) Read(b []byte) (int, error) {
	return strings.NewReader(strings.Repeat("k", len(b))).Read(b)
}

func (p *page) newBrowser() *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		p.t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	return &http.Client{Jar: jar, Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// reply is an answer as the tests look at it.
type reply struct {
	status int
	header http.Header
	body   string
}

func (p *page) do(c *http.Client, r *http.Request) reply {
	p.t.Helper()
	res, err := c.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return reply{res.StatusCode, res.Header, string(body)}
}

func (p *page) get(path string) reply {
	p.t.Helper()
	r, err := http.NewRequest(http.MethodGet, p.base+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return p.do(p.browser, r)
}

func (p *page) post(path string, form url.Values, header ...string) reply {
	p.t.Helper()
	r, err := http.NewRequest(http.MethodPost, p.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return p.do(p.browser, r)
}

func (p *page) identity(name string) identity.Identity {
	p.t.Helper()
	for _, id := range p.store.Identities() {
		if id.Name == name {
			return id
		}
	}
	p.t.Fatalf("no identity %q", name)
	return identity.Identity{}
}

func (p *page) link(name string) string {
	p.t.Helper()
	return p.linkAt(name, time.Now())
}

func (p *page) linkAt(name string, at time.Time) string {
	p.t.Helper()
	link, err := NewLink(p.store, p.identity(name), p.base, at)
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.TrimPrefix(link, p.base)
}

var csrfField = regexp.MustCompile(`name="csrf" value="([^"]+)"`)

// signIn signs the browser in by a link and returns the token of its forms.
func (p *page) signIn(name string) string {
	p.t.Helper()
	if got := p.get(p.link(name)); got.status != http.StatusOK || !strings.Contains(got.body, `content="0;url=/console/"`) {
		p.t.Fatalf("the link answered %d: %s", got.status, got.body)
	}
	return p.csrf()
}

func (p *page) csrf() string {
	p.t.Helper()
	m := csrfField.FindStringSubmatch(p.get("/console/").body)
	if m == nil {
		p.t.Fatal("the page has no form")
	}
	return m[1]
}

// lines returns the record so far, once it has at least n lines.
func (p *page) lines(n int) []audit.Entry {
	p.t.Helper()
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); {
		var out []audit.Entry
		for e, err := range audit.Lines(strings.NewReader(p.record.String())) {
			if err == nil {
				out = append(out, e)
			}
		}
		if len(out) >= n {
			return out
		}
		time.Sleep(time.Millisecond)
	}
	p.t.Fatalf("the record has fewer than %d lines:\n%s", n, p.record.String())
	return nil
}

func (p *page) last(n int) audit.Entry {
	p.t.Helper()
	lines := p.lines(n)
	return lines[len(lines)-1]
}

func recorder() *httptest.ResponseRecorder { return httptest.NewRecorder() }

var refresh = regexp.MustCompile(`<meta http-equiv="refresh" content="0;url=([^"]+)">`)

// leadsTo is where a page goes on to by itself; "": it stays.
func (r reply) leadsTo() string {
	m := refresh.FindStringSubmatch(r.body)
	if m == nil {
		return ""
	}
	return html.UnescapeString(m[1])
}
