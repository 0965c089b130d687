package rolesession

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"time"
)

const (
	// expiryMargin is how long before its expiration a session is no longer
	// handed out: the request that it signs has yet to reach AWS.
	expiryMargin = 10 * time.Second
	// A session is refreshed when a quarter of its life is left, or up to a tenth
	// of its life earlier, so that sessions made together are not refreshed together.
	refreshFraction = 4
	jitterFraction  = 10
)

// How long a failure is remembered, so that a refused role does not make every
// request an STS call. It doubles with each failure up to the limit.
var backoff = map[Kind]struct{ first, most time.Duration }{
	KindDenied:         {5 * time.Second, time.Minute},
	KindBadInput:       {5 * time.Second, time.Minute},
	KindRegionDisabled: {5 * time.Second, time.Minute},
	KindSource:         {time.Second, 5 * time.Second}, // somebody may be logging in
	KindThrottled:      {time.Second, 15 * time.Second},
	KindUnreachable:    {time.Second, 10 * time.Second},
}

// entry is a session in the cache, or why there is none.
type entry struct {
	role      string
	principal string

	mu        sync.Mutex
	session   Session
	made      time.Time
	expires   time.Time // zero: there is no session
	refreshAt time.Time
	flight    *flight // the STS call under way, or nil
	failure   error   // of the last attempt; nil after a success
	failures  int     // in a row
	retryAt   time.Time
}

// flight is one attempt that any number of callers wait for.
type flight struct {
	done    chan struct{}
	session Session
	err     error
}

// usable says whether the session may be handed out. Call with mu held.
func (e *entry) usable(now time.Time) bool {
	return !e.expires.IsZero() && now.Before(e.expires.Add(-expiryMargin))
}

func (e *entry) info(now time.Time) (Info, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.expires.IsZero() || !now.Before(e.expires) {
		return Info{}, false
	}
	return Info{Role: e.role, Principal: e.principal, RoleARN: e.session.RoleARN, SessionName: e.session.SessionName, Expires: e.expires}, true
}

// store keeps a session that was just made. Call with mu held.
func (e *entry) store(s Session, now time.Time, jitter float64) {
	life := s.Credentials.Expires.Sub(now)
	e.session, e.made, e.expires = s, now, s.Credentials.Expires
	e.refreshAt = e.expires.Add(-life/refreshFraction - time.Duration(jitter*float64(life/jitterFraction)))
	e.failure, e.failures, e.retryAt = nil, 0, time.Time{}
}

// fail remembers a failure. Call with mu held.
func (e *entry) fail(err error, now time.Time) {
	var known *Error
	if !errors.As(err, &known) || known.Kind == KindClosed {
		return
	}
	pause := backoff[known.Kind]
	wait := pause.first << min(e.failures, 16)
	e.failures++
	e.failure, e.retryAt = err, now.Add(min(wait, pause.most))
}

// Session returns the session that a request describes: from the cache, or by
// STS calls. Links that cannot be repeated are refused: see Assume. Errors are of
// type *[Error], or the context's.
func (m *Manager) Session(ctx context.Context, req Request) (Session, error) {
	for _, l := range req.Links {
		if !l.Repeatable() {
			return Session{}, badInput(req.Links[0].Role, "A session that needed an MFA code cannot be made again.")
		}
	}
	if req.Base != nil {
		return Session{}, badInput("", "A session that was made from one that cannot be made again cannot be made again either.")
	}
	p, err := resolve(*m.roles.Load(), req)
	if err != nil {
		return Session{}, err
	}
	return m.session(ctx, p, len(p.calls), false)
}

// session returns the session that the first n calls of the plan make.
func (m *Manager) session(ctx context.Context, p *plan, n int, background bool) (Session, error) {
	if n == 0 {
		creds, err := m.sourceCredentials(ctx)
		if err != nil {
			return Session{}, withRole(err, p.role)
		}
		return Session{Credentials: creds, AccountID: m.knownAccount(creds)}, nil
	}
	e, err := m.entry(p, n)
	if err != nil {
		return Session{}, err
	}
	now := m.opt.Now()
	e.mu.Lock()
	if e.usable(now) {
		s := e.session
		if now.Before(e.refreshAt) || e.flight != nil || now.Before(e.retryAt) || (!p.until.IsZero() && !p.until.After(e.expires)) {
			e.mu.Unlock()
			return s, nil
		}
		m.start(e, p, n, true)
		e.mu.Unlock()
		return s, nil // a failure to begin is no reason not to serve what is valid
	}
	if e.flight == nil {
		if e.failure != nil && now.Before(e.retryAt) {
			err := e.failure
			e.mu.Unlock()
			return Session{}, err
		}
		m.start(e, p, n, background)
	}
	f := e.flight
	e.mu.Unlock()
	if f == nil {
		return Session{}, closedError()
	}
	select {
	case <-f.done:
		return f.session, f.err
	case <-ctx.Done():
		return Session{}, ctx.Err()
	}
}

// entry finds or makes the cache's entry.
func (m *Manager) entry(p *plan, n int) (*entry, error) {
	k := p.key(n)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, closedError()
	}
	if e, ok := m.entries.Get(k); ok {
		return e, nil
	}
	e := &entry{role: p.role, principal: p.principal.Name}
	m.entries.Add(k, e)
	return e, nil
}

// start begins an attempt in the background, detached from the caller. Call with
// e.mu held. It leaves e.flight nil when the manager was closed.
func (m *Manager) start(e *entry, p *plan, n int, background bool) {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return
	}
	m.work.Add(1)
	m.mu.Unlock()
	f := &flight{done: make(chan struct{})}
	e.flight = f
	go func() {
		defer m.work.Done()
		ctx, cancel := context.WithTimeout(m.ctx, m.opt.CallTimeout)
		defer cancel()
		result, err := m.make(ctx, p, n, background)
		now := m.opt.Now()
		if err == nil && !now.Before(result.Credentials.Expires.Add(-expiryMargin)) {
			err = &Error{Kind: KindUnreachable, Role: p.role, RoleARN: p.calls[n-1].RoleARN,
				Message: "STS answered with a session that has already expired: check the clock of the machine that the proxy runs on."}
		}
		if err != nil && m.ctx.Err() != nil {
			err = closedError()
		}
		e.mu.Lock()
		if err == nil {
			e.store(result.Session, now, m.jitter())
			f.session = result.Session
		} else {
			e.fail(err, now)
			f.err = err
		}
		e.flight = nil
		e.mu.Unlock()
		close(f.done)
	}()
}

// Assume makes the session that a request describes with a fresh call for its
// last link, and keeps it for Session where it can be made again. The links
// before come from the cache. Errors are of type *[Error], or the context's.
func (m *Manager) Assume(ctx context.Context, req Request) (Result, error) {
	for _, l := range req.Links[:max(len(req.Links)-1, 0)] {
		if !l.Repeatable() {
			return Result{}, badInput(req.Links[0].Role, "A session that needed an MFA code cannot be made again, so nothing can be chained from it here.")
		}
	}
	p, err := resolve(*m.roles.Load(), req)
	if err != nil {
		return Result{}, err
	}
	if p.base != nil && len(p.calls) != 1 {
		return Result{}, badInput(p.role, "From a session that cannot be made again, one call at a time can be made.")
	}
	return m.assume(ctx, p, req.Links[len(req.Links)-1].Repeatable() && p.base == nil)
}

func (m *Manager) assume(ctx context.Context, p *plan, repeatable bool) (Result, error) {
	if len(p.calls) == 0 {
		return Result{}, badInput(p.role, "The role %q is the source credentials themselves: there is nothing to assume.", p.role)
	}
	n := len(p.calls)
	p.once = !repeatable
	var e *entry
	if repeatable {
		var err error
		if e, err = m.entry(p, n); err != nil {
			return Result{}, err
		}
	}
	timed, cancel := context.WithTimeout(ctx, m.opt.CallTimeout)
	defer cancel()
	result, err := m.make(timed, p, n, false)
	if ctx.Err() != nil {
		return Result{}, ctx.Err()
	}
	if err != nil {
		return Result{}, err
	}
	result.Repeatable = repeatable
	if !repeatable {
		return result, nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.store(result.Session, m.opt.Now(), m.jitter())
	return result, nil
}

// make makes the session of call n, with the sessions before it from the cache. If
// AWS takes the one before for invalid, another is made, once.
func (m *Manager) make(ctx context.Context, p *plan, n int, background bool) (Result, error) {
	result, base, err := m.attempt(ctx, p, n, background)
	if n > 1 && isRefusal(err) && m.Refused(base.Credentials.AccessKeyID) {
		result, _, err = m.attempt(ctx, p, n, background)
	}
	return result, err
}

// attempt returns the session that signed the call, too.
func (m *Manager) attempt(ctx context.Context, p *plan, n int, background bool) (Result, Session, error) {
	var base Session
	var err error
	if n == 1 && p.base != nil {
		base = *p.base
	} else {
		base, err = m.session(ctx, p, n-1, background)
	}
	if err != nil {
		if ctx.Err() != nil {
			return Result{}, base, &Error{Kind: KindUnreachable, Role: p.role, RoleARN: p.calls[n-1].RoleARN,
				Message: "The proxy's own AWS credentials, or those of the role before this one, were not available in time."}
		}
		return Result{}, base, err
	}
	select {
	case m.slots <- struct{}{}:
		defer func() { <-m.slots }()
	case <-ctx.Done():
		return Result{}, base, &Error{Kind: KindThrottled, Role: p.role, RoleARN: p.calls[n-1].RoleARN,
			Message: "Too many STS calls are in progress in the proxy: try again."}
	}
	result, err := m.call(ctx, p, n, base, background)
	return result, base, err
}

// jitter returns a number from 0 to 1.
func (m *Manager) jitter() float64 {
	var b [4]byte
	if _, err := io.ReadFull(m.opt.Rand, b[:]); err != nil {
		return 0.5
	}
	return float64(binary.BigEndian.Uint32(b[:])) / (1 << 32)
}

// withRole fills in whom an error concerns.
func withRole(err error, role string) error {
	var known *Error
	if errors.As(err, &known) && known.Role == "" {
		out := *known
		out.Role = role
		return &out
	}
	return err
}
