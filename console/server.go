package console

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/countersign-proxy/countersign/audit"
	"github.com/countersign-proxy/countersign/identity"
	"github.com/countersign-proxy/countersign/rolesession"
)

// DefaultLifetime is how long a browser stays signed in to the page.
const DefaultLifetime = 8 * time.Hour

// State is the configuration in force.
type State struct {
	Identities *identity.Store
	Sessions   *rolesession.Manager
	Federation *Federation
	Roles      []Role // in the order of the configuration
	// Boundaries are the documents that identities' boundaries name. A boundary that
	// is not among them refuses the sign-in.
	Boundaries map[string]Document
}

func (s State) role(name string) (Role, bool) {
	for _, r := range s.Roles {
		if r.Name == name {
			return r, true
		}
	}
	return Role{}, false
}

// Options of a Server. Current and Audit are required.
type Options struct {
	// Current is asked at each request, so that a reload takes effect.
	Current func() State
	Audit   *audit.Log
	// Base is how people reach the listener, such as http://127.0.0.1:8801. It is not
	// taken from requests. "": there is no page, only SignIn.
	Base string
	// Local says that the listener is on loopback: one-time links sign in (unless OIDC
	// is set), and the command line may ask for sign-ins.
	Local bool
	OIDC  *OIDC         // nil: one-time links alone
	Life  time.Duration // of a browser's sign-in to the page; 0 is DefaultLifetime
	// Revoke takes back what was minted. Nil: signing out forgets the cookie alone.
	Revoke   func(identity.Revocation) error
	Terminal Terminal
	// Patience is how long a page waits for STS to say who the proxy is, before it is
	// shown without what follows from that; 0 is DefaultPatience.
	Patience time.Duration
	Now      func() time.Time
	Rand     io.Reader // nil is crypto/rand
}

// Server is the console's web page. Close ends what it started; it must come before
// the shutdown of the HTTP server, which would wait for streams of live activity.
type Server struct {
	opt      Options
	base     *url.URL
	secure   bool // cookies are for TLS
	mux      *http.ServeMux
	pages    *template.Template
	csrf     *http.CrossOriginProtection
	oidc     *relyingParty // nil: none
	links    *spent
	limits   *limits
	activity *activity
	started  time.Time

	mu      sync.Mutex
	opened  []opened       // console sessions, oldest first
	streams map[string]int // of live activity, by browser and by person

	ctx    context.Context
	cancel context.CancelFunc
}

// opened is a console session that somebody was signed in to.
type opened struct {
	Identity, Role, Account string
	Until                   time.Time
	Basis                   Basis
}

const maxOpened = 1000

//go:embed pages/*.html
var pageFiles embed.FS

//go:embed static
var staticFiles embed.FS

// NewServer returns the page's handler, to be mounted at / of the admin listener
// (see Handlers).
func NewServer(opt Options) (*Server, error) {
	if opt.Current == nil || opt.Audit == nil {
		return nil, errors.New("console: Options.Current and Options.Audit are needed")
	}
	base, err := url.Parse(opt.Base)
	if opt.Base != "" && (err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" || strings.Trim(base.Path, "/") != "" || base.User != nil) {
		return nil, fmt.Errorf("console: %q is not how people reach the page; expected such as http://127.0.0.1:8801", opt.Base)
	}
	opt.Life, opt.Patience = cmp.Or(opt.Life, DefaultLifetime), cmp.Or(opt.Patience, DefaultPatience)
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Rand == nil {
		opt.Rand = rand.Reader
	}
	s := &Server{
		opt: opt, base: &url.URL{Scheme: base.Scheme, Host: base.Host}, secure: base.Scheme == "https",
		csrf: http.NewCrossOriginProtection(), links: &spent{seen: map[string]time.Time{}}, limits: newLimits(opt.Now),
		started: opt.Now(), streams: map[string]int{},
	}
	if s.pages, err = template.New("").Funcs(template.FuncMap{"path": func(p string) string { return "/console/" + p }, "emptyLine": func() line { return line{} }, "until": func(t time.Time) string { return untilWhen(t, opt.Now()) }}).ParseFS(pageFiles, "pages/*.html"); err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	if opt.OIDC != nil {
		if s.oidc, err = newRelyingParty(*opt.OIDC); err != nil {
			return nil, err
		}
	}
	static, err := fs.Sub(staticFiles, "static")
	if err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.activity = newActivity(opt.Audit)
	files := http.StripPrefix("/console/static/", http.FileServerFS(static))
	s.mux = http.NewServeMux()
	s.mux.Handle("GET /console/static/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/") {
			http.NotFound(w, r) // no listings
			return
		}
		files.ServeHTTP(w, r)
	}))
	for pattern, h := range map[string]http.HandlerFunc{
		"GET /{$}": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/console/", http.StatusSeeOther)
		},
		"GET /console/{$}":          s.home,
		"GET /console/back":         s.back,
		"GET /console/start":        s.start,
		"GET /console/login":        s.login,
		"GET /console/callback":     s.callback,
		"GET /console/terminal":     s.person(s.terminal),
		"GET /console/events":       s.person(s.events),
		"GET /console/roles":        s.person(s.roles),
		"GET /console/sessions":     s.person(s.sessions),
		"GET /console/ca.pem":       s.caPEM,
		"POST /console/open":        s.person(s.open),
		"POST /console/credentials": s.person(s.credentials),
		"POST /console/signout":     s.person(s.signOut),
		"POST /console/api/open":    s.apiOpen,
	} {
		s.mux.Handle(pattern, h)
	}
	return s, nil
}

// Handlers are the patterns and handlers for the admin listener, which checks the
// Host header (DNS rebinding).
func (s *Server) Handlers() map[string]http.Handler {
	return map[string]http.Handler{"/{$}": s, "/console/": s}
}

// Close ends the streams of live activity.
func (s *Server) Close() {
	s.cancel()
	s.activity.close()
}

// contentSecurityPolicy allows what the page itself has. Browsers hold every redirect
// of a form against form-action too, and AWS's own sign-in redirects as it likes; so
// the way there is a page that goes on by itself (see open), and no form leads away.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"

const maxForm = 32 << 10

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", contentSecurityPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	if s.secure {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	s.mux.ServeHTTP(w, r)
}

// view is what every page shows.
type view struct {
	Title   string
	Person  *person // nil: nobody
	OIDC    bool
	Local   bool
	Refresh string // where to go on to at once; "": stay
	Data    any
}

// render writes a page. It is made as a whole first, so that a failure is not half a
// page.
func (s *Server) render(w http.ResponseWriter, status int, page string, v view) {
	v.OIDC, v.Local = s.oidc != nil, s.opt.Local
	s.renderData(w, status, page, v)
}

// renderData writes a page, or a part of one.
func (s *Server) renderData(w http.ResponseWriter, status int, page string, data any) {
	var b bytes.Buffer
	if err := s.pages.ExecuteTemplate(&b, page, data); err != nil {
		http.Error(w, "The page cannot be shown.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // who is gone needs no answer
}

// fail shows why something did not happen.
func (s *Server) fail(w http.ResponseWriter, status int, who *person, title, message string) {
	s.render(w, status, "message.html", view{Title: title, Person: who, Data: message})
}

// back is where the AWS console leads people whose session ended. That navigation
// comes from another site, so it carries no SameSite=Strict cookie; the next one,
// from this page, does.
func (s *Server) back(w http.ResponseWriter, _ *http.Request) {
	s.render(w, http.StatusOK, "message.html", view{Title: "Back from the AWS console", Refresh: "/console/", Data: "Your roles are on the next page."})
}

// issuer is the address that the AWS console leads back to; "": there is none.
func (s *Server) issuer() string {
	if s.base.Host == "" {
		return ""
	}
	return s.base.String() + "/console/back"
}

// remember keeps a console session for the person's list.
func (s *Server) remember(o opened) {
	now := s.opt.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := s.opened[:0]
	for _, old := range s.opened {
		if now.Before(old.Until) {
			kept = append(kept, old)
		}
	}
	if len(kept) >= maxOpened {
		kept = append(kept[:0], kept[1:]...)
	}
	s.opened = append(kept, o)
}

func (s *Server) openedBy(name string) []opened {
	now := s.opt.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []opened
	for _, o := range s.opened {
		if o.Identity == name && now.Before(o.Until) {
			out = append(out, o)
		}
	}
	return out
}
