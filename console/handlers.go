package console

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/countersign-proxy/countersign/audit"
	"github.com/countersign-proxy/countersign/identity"
	"github.com/countersign-proxy/countersign/rolesession"
	"github.com/countersign-proxy/countersign/words"
)

// openTimeout bounds STS and sign-in endpoint together; it is below the write
// timeout of the admin listener.
const openTimeout = 45 * time.Second

// account is one group of the page.
type account struct {
	ID     string // "": not known
	Name   string
	Roles  []roleView
	Anchor string
}

type roleView struct {
	Role
	Purpose string
	Length  string // of console sessions
	Basis   string // what they end with
	Blocked string // why nobody can be signed in to the console; "": somebody can
	Limited bool   // limits go along
	Chips   []chip // labels that say more than account and purpose
	Default bool
}

// chip is a label as it is shown. Grave ones ask for care.
type chip struct {
	Text  string
	Grave bool
}

// STS says who the proxy is, which only says more about roles. A page does not wait
// for it; the page's script does.
const (
	DefaultPatience = 300 * time.Millisecond
	expectTimeout   = 10 * time.Second
)

// granted are the roles that a person may use and that a query fits.
type granted struct {
	Accounts []account // in the order of the configuration
	Query    string
	Places   []Place
	CSRF     string
	Unsure   bool // STS was not waited for
}

func (s *Server) granted(r *http.Request, p *person, patience time.Duration) granted {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	state, query := s.opt.Current(), r.URL.Query().Get("q")
	var out []account
	for _, r := range state.Roles {
		if !p.HasRole(r.Name) || !matches(r, query) {
			continue
		}
		v := roleView{Role: r, Purpose: cmp.Or(r.Labels["description"], r.Labels["purpose"]), Default: p.Roles[0] == r.Name}
		for _, k := range sortedKeys(r.Labels) {
			switch k {
			case "aws_account_id", "aws_account_name", "description", "purpose":
			case "env", "environment", "stage":
				value := strings.ToLower(r.Labels[k])
				v.Chips = append(v.Chips, chip{r.Labels[k], value == "prod" || value == "production" || value == "live"})
			default:
				v.Chips = append(v.Chips, chip{k + "=" + r.Labels[k], false})
			}
		}
		limits := r.Limits
		if b, ok := state.Boundaries[p.Boundary]; ok && p.Boundary != "" {
			limits.Boundary = &b
		}
		length, basis, err := state.Federation.Expect(ctx, r)
		v.Length, v.Basis = expectation(length, basis), basis.Explain()
		if _, _, wrong := limits.sessionPolicy("aws", r.Tags); wrong != nil {
			err = wrong
		}
		if _, wrong := partitionNamed(partitionOf(r.ARN)); r.ARN != "" && wrong != nil {
			err = wrong
		}
		if err != nil {
			v.Blocked, v.Basis = err.Error(), ""
		}
		v.Limited = !limits.none()
		id := r.Account()
		i := slices.IndexFunc(out, func(a account) bool { return a.ID == id })
		if i < 0 {
			i = len(out)
			out = append(out, account{ID: id, Anchor: fmt.Sprintf("account-%d", i)})
		}
		out[i].Name = cmp.Or(out[i].Name, r.Labels["aws_account_name"])
		out[i].Roles = append(out[i].Roles, v)
	}
	return granted{Accounts: out, Query: query, Places: Places(), CSRF: p.CSRF, Unsure: ctx.Err() != nil}
}

// expectation says how long a console session will be.
func expectation(length time.Duration, basis Basis) string {
	switch basis {
	case BasisRequested:
		return "Console sessions of " + words.Duration(length)
	case BasisFederation:
		return "Console sessions of " + words.Duration(length) + ", as a federated user"
	case BasisSource:
		return "Console sessions as long as the proxy's own credentials live"
	case BasisUnknown:
		return "How long console sessions last is not known yet"
	default:
		return "Console sessions of up to " + words.Duration(length)
	}
}

// matches says whether every word of a query is somewhere in what is shown of a role.
func matches(r Role, query string) bool {
	text := strings.ToLower(searchText(r))
	for _, word := range strings.Fields(strings.ToLower(query)) {
		if !strings.Contains(text, word) {
			return false
		}
	}
	return true
}

func searchText(r Role) string {
	words := []string{r.Name, r.ARN, r.Account()}
	for _, k := range sortedKeys(r.Labels) {
		words = append(words, k+"="+r.Labels[k])
	}
	return strings.Join(words, " ")
}

// Search is what the filter of the page looks at.
func (v roleView) Search() string { return strings.ToLower(searchText(v.Role)) }

// home is the page.
func (s *Server) home(w http.ResponseWriter, r *http.Request) {
	p, err := s.who(r)
	if err != nil && s.fromElsewhere(r) {
		s.knock(w, r)
		return
	}
	if err != nil {
		command := "countersign console --link"
		if flags := s.opt.Terminal.Flags; flags != "" {
			command += " " + flags
		}
		s.render(w, http.StatusOK, "signin.html", view{Title: "Sign in", Data: command})
		return
	}
	lines, mark, _ := s.activity.since("", p)
	s.render(w, http.StatusOK, "home.html", view{Title: "AWS roles", Person: p, Data: struct {
		Granted granted
		Live    liveSessions
		Lines   []line
		Mark    string
	}{s.granted(r, p, s.opt.Patience), s.liveSessions(s.opt.Current(), p), lines, mark}})
}

// roles is the page's part that says more once STS has answered.
func (s *Server) roles(w http.ResponseWriter, r *http.Request, p *person) {
	s.renderData(w, http.StatusOK, "roles", s.granted(r, p, expectTimeout))
}

// liveSessions are a person's own.
type liveSessions struct {
	Opened   []opened // at AWS's console
	Sessions []rolesession.Info
}

func (s *Server) liveSessions(state State, p *person) liveSessions {
	out := liveSessions{Opened: s.openedBy(p.Name)}
	for _, i := range state.Sessions.Sessions() {
		if i.Principal != p.Name {
			continue
		}
		// One role can have several, each with another session policy.
		same := func(o rolesession.Info) bool { return o.Role == i.Role && o.SessionName == i.SessionName }
		if at := slices.IndexFunc(out.Sessions, same); at < 0 {
			out.Sessions = append(out.Sessions, i)
		} else if i.Expires.After(out.Sessions[at].Expires) {
			out.Sessions[at] = i
		}
	}
	slices.SortFunc(out.Sessions, func(a, b rolesession.Info) int {
		return cmp.Or(cmp.Compare(a.Role, b.Role), a.Expires.Compare(b.Expires))
	})
	return out
}

// sessions is the page's part that changes as calls are made.
func (s *Server) sessions(w http.ResponseWriter, _ *http.Request, p *person) {
	s.renderData(w, http.StatusOK, "sessions", s.liveSessions(s.opt.Current(), p))
}

// start takes a one-time link.
func (s *Server) start(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet { // HEAD, with which some programs look before a person goes
		w.Header().Set("Allow", http.MethodGet)
		s.fail(w, http.StatusMethodNotAllowed, nil, "Not this way", "A link is opened in a browser.")
		return
	}
	if s.oidc != nil || !s.opt.Local {
		s.fail(w, http.StatusForbidden, nil, "Links are not accepted here", "This page is not on this machine's own address, so one-time links do not sign in. Go to the start page.")
		return
	}
	state, now := s.opt.Current(), s.opt.Now()
	p, g, err := open(state.Identities, r.URL.Query().Get("t"), now, purposeLink)
	if err == nil && g.Issued.Before(s.started.Truncate(time.Millisecond)) {
		// Which links were used is remembered by this process alone.
		err = errors.New("the link was made before the proxy was started")
	}
	if err == nil && !s.links.use(g.AccessKeyID, g.Expires, now) {
		err = errors.New("the link was used already")
	}
	if err != nil {
		if v := s.limits.try(r.RemoteAddr); !v.ok {
			s.tooMany(w, r, "Link", v)
			return
		}
		e := entry{operation: "Link", deny: "bad link", status: http.StatusForbidden, err: err}
		if p != nil {
			e.identity = p.Name
		}
		s.record(r, e)
		if _, signedIn := s.who(r); signedIn == nil {
			http.Redirect(w, r, "/console/", http.StatusSeeOther)
			return
		}
		s.fail(w, http.StatusForbidden, nil, "This link does not work any more", "A link signs in once, within ten minutes. Run “countersign console --link” for a new one.")
		return
	}
	s.admit(w, r, g.Identity, purposeLinked, "Link", "one-time link")
}

// admit signs a browser in to the page. The cookie is SameSite=Strict, and this
// answer may be to a navigation from elsewhere, so the way on is a page and not a
// redirect.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, who identity.Identity, purpose, operation, reason string) {
	now := s.opt.Now()
	pending, err := s.reserve(r.Context())
	if err != nil {
		s.fail(w, http.StatusServiceUnavailable, nil, "Not signed in", err.Error())
		return
	}
	value, id, err := mint(s.opt.Current().Identities, who, purpose, now.Add(s.opt.Life))
	if err == nil && len(value) > cookiePart*maxParts {
		err = errors.New("the identity has more attributes and roles than cookies can hold")
	}
	if err != nil {
		pending.Finish(s.line(r, now, entry{identity: who.Name, operation: operation, deny: "no session", status: http.StatusForbidden, err: err}))
		s.fail(w, http.StatusForbidden, nil, "Not signed in", "You are known, but cannot use this page: "+err.Error()+".")
		return
	}
	s.setCookie(w, value, now.Add(s.opt.Life))
	pending.Finish(s.line(r, now, entry{who: &person{Identity: who, ID: id}, operation: operation, reason: reason, status: http.StatusOK}))
	s.render(w, http.StatusOK, "message.html", view{Title: "Signed in", Refresh: "/console/", Data: "You are signed in."})
}

func (s *Server) tooMany(w http.ResponseWriter, r *http.Request, operation string, v verdict) {
	s.recordFirst(r, operation, v)
	w.Header().Set("Retry-After", "10")
	s.fail(w, http.StatusTooManyRequests, nil, "Too many tries", "Wait a little, and try again.")
}

// recordFirst records the first of a row of refusals.
func (s *Server) recordFirst(r *http.Request, operation string, v verdict) {
	if v.first {
		s.record(r, entry{operation: operation, deny: "rate", status: http.StatusTooManyRequests})
	}
}

// prepare makes a sign-in for somebody and records it, whatever comes of it.
func (s *Server) prepare(ctx context.Context, r *http.Request, p *person, role, destination, region string) (Login, int, error) {
	began := s.opt.Now()
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if role == "" && len(p.Roles) > 0 {
		role = p.Roles[0]
	}
	pending, err := s.reserve(ctx)
	if err != nil {
		return Login{}, http.StatusServiceUnavailable, err
	}
	e := entry{who: p, operation: "SignIn", role: role, status: http.StatusOK}
	login, err := s.signInAs(ctx, p, role, destination, region)
	if err == nil {
		e.login = &login
	} else {
		e.deny, e.err, e.status = "failed", err, http.StatusBadGateway
		if known := (*Error)(nil); errors.As(err, &known) {
			e.deny = string(known.Kind)
			switch known.Kind {
			case KindNotGranted, KindLimits, KindPartition, KindLongTerm:
				e.status = http.StatusForbidden
			case KindDestination:
				e.status = http.StatusBadRequest
			case KindRate:
				e.status = http.StatusTooManyRequests
			}
		}
	}
	pending.Finish(s.line(r, began, e))
	if err == nil {
		s.remember(opened{Identity: p.Name, Role: role, Account: login.Account, Until: login.Until, Basis: login.Basis})
	}
	return login, e.status, err
}

// signInAs prepares a sign-in of somebody who may use the role.
func (s *Server) signInAs(ctx context.Context, p *person, name, destination, region string) (Login, error) {
	if !s.limits.opening(p.Name) {
		return Login{}, &Error{Kind: KindRate, Message: "Too many sign-ins in a short time. Wait a little, and try again."}
	}
	state := s.opt.Current()
	role, ok := state.role(name)
	if !ok || !p.HasRole(name) {
		return Login{}, &Error{Kind: KindNotGranted, Message: fmt.Sprintf("%q may not use a role %.80q.", p.Name, name)}
	}
	req := Request{
		Principal: rolesession.Principal{Name: p.Name, Attributes: p.Attributes},
		Role:      role, Destination: destination, Region: region, Issuer: s.issuer(),
	}
	if p.Boundary != "" {
		boundary, ok := state.Boundaries[p.Boundary]
		if !ok {
			return Login{}, &Error{Kind: KindLimits, Message: fmt.Sprintf("The boundary of %q was not loaded, so nobody is signed in without it.", p.Name)}
		}
		req.Boundary = &boundary
	}
	return state.Federation.SignIn(ctx, req)
}

// SignIn prepares a sign-in without a browser's request, and records it. The caller
// has made sure of the identity. Errors are of type *[Error], or the context's.
func (s *Server) SignIn(ctx context.Context, who identity.Identity, role, destination, region string) (Login, error) {
	login, _, err := s.prepare(ctx, nil, &person{Identity: who}, role, destination, region)
	return login, err
}

// open sends the browser to AWS, signed in, by a page that is kept nowhere.
func (s *Server) open(w http.ResponseWriter, r *http.Request, p *person) {
	form := r.PostForm
	destination := cmp.Or(strings.TrimSpace(form.Get("address")), form.Get("destination"))
	login, status, err := s.prepare(r.Context(), r, p, form.Get("role"), destination, strings.TrimSpace(form.Get("region")))
	if err != nil {
		s.fail(w, status, p, "The console cannot be opened", err.Error())
		return
	}
	w.Header().Set("Referrer-Policy", "no-referrer")
	s.render(w, status, "goon.html", view{Title: "Opening the AWS console", Person: p, Refresh: login.URL, Data: login})
}

// Opened is what the command line gets when it asks a running proxy for a sign-in.
type Opened struct {
	URL         string    `json:"url,omitempty"`
	Role        string    `json:"role,omitempty"`
	RoleARN     string    `json:"role_arn,omitempty"`
	Account     string    `json:"account,omitempty"`
	SessionName string    `json:"session_name,omitempty"`
	Destination string    `json:"destination,omitempty"`
	Until       time.Time `json:"until,omitzero"`
	Basis       Basis     `json:"basis,omitempty"`
	Limited     bool      `json:"limited,omitempty"`
	Error       string    `json:"error,omitempty"`
}

// NewOpened is a login as the command line shows it.
func NewOpened(l Login) Opened {
	return Opened{URL: l.URL, Role: l.Role, RoleARN: l.RoleARN, Account: l.Account, SessionName: l.SessionName,
		Destination: l.Destination.URL, Until: l.Until.UTC(), Basis: l.Basis, Limited: l.Limited}
}

// apiOpen signs in for the command line of this machine, which shows a ticket that
// it sealed with the proxy's own key.
func (s *Server) apiOpen(w http.ResponseWriter, r *http.Request) {
	answer := func(status int, o Opened) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(o) // who is gone needs no answer
	}
	if !s.opt.Local {
		answer(http.StatusForbidden, Opened{Error: "The proxy's admin listener is not on loopback."})
		return
	}
	ticket, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	now := s.opt.Now()
	p, g, err := open(s.opt.Current().Identities, ticket, now, purposeTicket)
	if err == nil && (g.Issued.Before(s.started.Truncate(time.Millisecond)) || !s.links.use(g.AccessKeyID, g.Expires, now)) {
		err = errors.New("the ticket was used already")
	}
	if err == nil {
		err = r.ParseForm()
	}
	if err != nil {
		if v := s.limits.try(r.RemoteAddr); !v.ok {
			s.recordFirst(r, "Ticket", v)
			answer(http.StatusTooManyRequests, Opened{Error: "Too many tries. Wait a little."})
			return
		}
		s.record(r, entry{operation: "Ticket", deny: "bad ticket", status: http.StatusUnauthorized, err: err})
		answer(http.StatusUnauthorized, Opened{Error: "The proxy does not accept this command's ticket. Do both use the same configuration and state directory?"})
		return
	}
	login, status, err := s.prepare(r.Context(), r, p, r.PostForm.Get("role"), r.PostForm.Get("destination"), r.PostForm.Get("region"))
	if err != nil {
		answer(status, Opened{Error: err.Error()})
		return
	}
	answer(http.StatusOK, NewOpened(login))
}

// signOut forgets the browser, and everything else of the person where asked to.
func (s *Server) signOut(w http.ResponseWriter, r *http.Request, p *person) {
	now := s.opt.Now()
	e := entry{who: p, operation: "SignOut", reason: "this browser", status: http.StatusOK}
	message := "This browser is signed out of this page."
	revocation := identity.Revocation{ID: p.ID, At: now, By: p.Name, Note: "signed out", Until: &p.expires}
	if r.PostForm.Get("everything") != "" {
		e.reason = "all sessions"
		message = "This browser is signed out, and all client credentials that were minted for you have ended. Programs that use them need new ones."
		revocation.ID, revocation.Identity, revocation.Before, revocation.Until = "", p.Name, &now, nil
	}
	err := errors.New("this proxy cannot revoke from the page")
	if s.opt.Revoke != nil {
		err = s.opt.Revoke(revocation)
	}
	if err != nil {
		message = "This browser has forgotten its sign-in, but what was minted before could not be ended: " + err.Error() + "."
		e.deny, e.err, e.status = "failed", err, http.StatusInternalServerError
	}
	if r.PostForm.Get("everything") != "" {
		s.opt.Current().Sessions.Forget(p.Name)
	}
	s.setCookie(w, "", time.Time{})
	s.record(r, e)
	message += " Consoles that are open at AWS stay signed in until their sessions expire; sign out there as well."
	s.render(w, e.status, "message.html", view{Title: "Signed out", Data: message})
}

func (s *Server) caPEM(w http.ResponseWriter, r *http.Request) {
	if s.opt.Terminal.CA == nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/x-pem-file")
	w.Header().Set("Content-Disposition", `attachment; filename="countersign-ca.pem"`)
	_, _ = w.Write(s.opt.Terminal.CA())
}

// Streams of live activity hold a connection each. Browsers have six for a host, all
// windows together, and wait without a word when those are taken; so the page lets go
// of its stream while nobody sees it, and one more is refused.
const (
	maxBrowserStreams = 4
	maxPersonStreams  = 12
	streamPace        = 100 * time.Millisecond // between what a stream sends
	streamBeat        = 10 * time.Second
)

// enter counts a stream, unless there are too many. leave must be called after it.
func (s *Server) enter(p *person) (leave func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	browser, name := "browser "+p.ID, "person "+p.Name
	if s.streams[browser] >= maxBrowserStreams || s.streams[name] >= maxPersonStreams || s.ctx.Err() != nil {
		return nil, false
	}
	s.streams[browser]++
	s.streams[name]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, key := range []string{browser, name} {
			if s.streams[key]--; s.streams[key] == 0 {
				delete(s.streams, key)
			}
		}
	}, true
}

// events streams what happens, as server-sent events (HTML Living Standard, section 9.2),
// from the mark on that the page has.
func (s *Server) events(w http.ResponseWriter, r *http.Request, p *person) {
	leave, ok := s.enter(p)
	if !ok {
		http.Error(w, "too many windows show this page", http.StatusTooManyRequests)
		return
	}
	defer leave()
	control := http.NewResponseController(w)
	// The listener's own deadlines are for requests that end.
	_ = control.SetReadDeadline(time.Time{})
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	send := func(text string) bool {
		_ = control.SetWriteDeadline(time.Now().Add(30 * time.Second))
		if _, err := io.WriteString(w, text); err != nil {
			return false
		}
		return control.Flush() == nil
	}
	if !send(": live\n\n") {
		return
	}
	beat := time.NewTicker(streamBeat)
	defer beat.Stop()
	pace := time.NewTicker(streamPace)
	defer pace.Stop()
	mark := cmp.Or(r.Header.Get("Last-Event-ID"), r.URL.Query().Get("after"))
	for {
		lines, next, news := s.activity.since(mark, p)
		mark = next
		var text strings.Builder
		for _, l := range slices.Backward(lines) {
			data, err := json.Marshal(l)
			if err != nil {
				return
			}
			fmt.Fprintf(&text, "id: %s\ndata: %s\n\n", l.mark, data)
		}
		if text.Len() > 0 && !send(text.String()) {
			return
		}
		if !s.waitForNews(r, news, pace.C, beat.C, send) {
			return
		}
	}
}

// waitForNews waits until there is more to send, and the pace allows it. It returns
// false when the stream is over.
func (s *Server) waitForNews(r *http.Request, news <-chan struct{}, pace, beat <-chan time.Time, send func(string) bool) bool {
	for next := news; ; {
		select {
		case <-r.Context().Done():
			return false
		case <-s.ctx.Done():
			return false
		case <-beat:
			// A sign-in that ended or was revoked sees nothing more.
			if _, err := s.who(r); err != nil || !send(": beat\n\n") {
				return false
			}
		case <-next:
			next = nil // and now the pace
		case <-pace:
			if next == nil {
				return true
			}
		}
	}
}

// visible says whether a person may see a line.
func visible(e audit.Entry, p *person) bool { return p.Everything || e.Identity == p.Name }
