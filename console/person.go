package console

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/countersign-proxy/countersign/identity"
)

// Everything that a browser or command line presents here is a session token of
// identity with one of these as its Session, so that it is sealed, expires, can be
// revoked, and no one kind passes for another. The token alone signs no call: the
// secret of its pair is never handed out.
const (
	purposeLink   = "console link 1"            // opens the page once
	purposeTicket = "console ticket 1"          // one sign-in for the command line
	purposeLinked = "console browser 1 by link" // cookie
	purposeOIDC   = "console browser 1 by oidc" // cookie
)

// Lifetimes of what the command line makes.
const (
	LinkLife   = 10 * time.Minute
	ticketLife = time.Minute
)

// person is who is asking.
type person struct {
	identity.Identity
	ID   string // access key id of the token, for the record
	CSRF string
	// Everything says that the person may see what others do: whoever got a link can
	// read the record's file as well.
	Everything bool
	expires    time.Time
}

// mint seals a purpose for an identity.
func mint(store *identity.Store, who identity.Identity, purpose string, expires time.Time) (value, id string, err error) {
	if len(who.Roles) == 0 {
		return "", "", fmt.Errorf("the identity %q may not use any role", who.Name)
	}
	c, err := store.Mint(identity.Grant{Identity: who, Role: who.Roles[0], Expires: expires, Session: []byte(purpose)})
	if err != nil {
		return "", "", err
	}
	return c.AccessKeyID + "." + c.SessionToken, c.AccessKeyID, nil
}

var errNotSignedIn = errors.New("not signed in")

// open reads what mint made.
func open(store *identity.Store, value string, now time.Time, purposes ...string) (*person, identity.Grant, error) {
	id, token, ok := strings.Cut(value, ".")
	if !ok || token == "" {
		return nil, identity.Grant{}, errNotSignedIn
	}
	g, secret, err := store.Lookup(id, token, now)
	if err != nil {
		return nil, identity.Grant{}, err
	}
	for _, p := range purposes {
		if string(g.Session) == p && !g.Static() {
			mac := hmac.New(sha256.New, []byte(secret))
			mac.Write([]byte("console csrf"))
			return &person{
				Identity: g.Identity, ID: g.AccessKeyID, CSRF: base64.RawURLEncoding.EncodeToString(mac.Sum(nil)),
				Everything: p == purposeLinked, expires: g.Expires,
			}, g, nil
		}
	}
	return nil, identity.Grant{}, errNotSignedIn
}

// NewLink makes a one-time link to the page for an identity. base is Options.Base.
func NewLink(store *identity.Store, who identity.Identity, base string, now time.Time) (string, error) {
	value, _, err := mint(store, who, purposeLink, now.Add(LinkLife))
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(base, "/") + "/console/start?t=" + value, nil
}

// spent remembers what was used until it would have expired.
type spent struct {
	mu   sync.Mutex
	seen map[string]time.Time
}

const maxSpent = 100_000

// use says whether id is used for the first time.
func (s *spent) use(id string, expires, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, used := s.seen[id]; used {
		return false
	}
	if len(s.seen) >= maxSpent {
		for old, end := range s.seen {
			if now.After(end) {
				delete(s.seen, old)
			}
		}
		if len(s.seen) >= maxSpent {
			return false
		}
	}
	s.seen[id] = expires
	return true
}

// Cookies. Browsers take about 4096 bytes of one; a session token has up to 8192.
const (
	cookieName = "countersign-console"
	cookiePart = 3500
	maxParts   = 3
)

// cookieNamed returns the name under which a cookie is set: with the prefix that
// keeps other hosts and plain connections from setting it, where there is TLS (RFC
// 6265bis, section 4.1.3.2); else with the port, which cookies do not tell apart.
func (s *Server) cookieNamed(name string) string {
	if s.secure {
		return "__Host-" + name
	}
	return name + "-" + s.base.Port()
}

// setCookie stores value, or removes what is stored when it is "".
func (s *Server) setCookie(w http.ResponseWriter, value string, expires time.Time) {
	for i := range maxParts {
		part := value[:min(len(value), cookiePart)]
		value = value[len(part):]
		c := &http.Cookie{Name: s.cookieNamed(cookieName) + "." + strconv.Itoa(i), Value: part, Path: "/", Secure: s.secure, HttpOnly: true, SameSite: http.SameSiteStrictMode, Expires: expires}
		if part == "" {
			c.Expires, c.MaxAge = time.Time{}, -1
		}
		http.SetCookie(w, c)
	}
}

func (s *Server) cookie(r *http.Request) string {
	var value strings.Builder
	for i := range maxParts {
		c, err := r.Cookie(s.cookieNamed(cookieName) + "." + strconv.Itoa(i))
		if err != nil {
			break
		}
		value.WriteString(c.Value)
	}
	return value.String()
}

// who tells who sends a request, by its cookie.
func (s *Server) who(r *http.Request) (*person, error) {
	value := s.cookie(r)
	if value == "" {
		return nil, errNotSignedIn
	}
	// What the way of signing in is not configured for any more is not accepted.
	purpose := purposeLinked
	if s.oidc != nil {
		purpose = purposeOIDC
	} else if !s.opt.Local {
		return nil, errNotSignedIn
	}
	p, _, err := open(s.opt.Current().Identities, value, s.opt.Now(), purpose)
	return p, err
}

// person wraps a handler that needs to know who asks. What changes something must
// come from a page of ours: the browser says so, and the form carries a token that
// only our pages have.
func (s *Server) person(h func(http.ResponseWriter, *http.Request, *person)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p, err := s.who(r)
		if err != nil && s.fromElsewhere(r) {
			s.knock(w, r)
			return
		}
		if err != nil {
			s.fail(w, http.StatusUnauthorized, nil, "You are not signed in", "Your sign-in to this page has ended, or was never made. Go to the start page to sign in.")
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			if err := s.ownForm(r, p); err != nil {
				if v := s.limits.try(r.RemoteAddr); v.ok {
					s.record(r, entry{who: p, operation: "Form", deny: "cross-site", status: http.StatusForbidden, err: err})
				} else {
					s.recordFirst(r, "Form", v)
				}
				s.fail(w, http.StatusForbidden, p, "That did not come from this page", "The request was refused, because it came from another page or from one that is out of date. Reload the start page and try again.")
				return
			}
		}
		h(w, r, p)
	}
}

// fromElsewhere says whether a link of another site, a chat or a bookmark of one, led
// here. That navigation carries no SameSite=Strict cookie, whoever it is (RFC 6265bis,
// section 5.2); see Fetch Metadata Request Headers, section 2, for what browsers say.
func (s *Server) fromElsewhere(r *http.Request) bool {
	return r.Method == http.MethodGet && r.Header.Get("Sec-Fetch-Site") == "cross-site" && r.Header.Get("Sec-Fetch-Mode") == "navigate" && s.cookie(r) == ""
}

// knock has the browser come again, from a page of ours. It comes with its cookie then,
// and not from elsewhere.
func (s *Server) knock(w http.ResponseWriter, r *http.Request) {
	s.render(w, http.StatusOK, "message.html", view{Title: "One moment", Refresh: r.URL.RequestURI(), Data: "Your roles are on the next page."})
}

// ownForm says why a form is not one of ours, or nil.
func (s *Server) ownForm(r *http.Request, p *person) error {
	if err := s.csrf.Check(r); err != nil {
		return err
	}
	if err := r.ParseForm(); err != nil {
		return errors.New("the form cannot be read")
	}
	if !hmac.Equal([]byte(r.PostForm.Get("csrf")), []byte(p.CSRF)) {
		return errors.New("the form's token is not the page's")
	}
	return nil
}
