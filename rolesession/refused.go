package rolesession

import (
	"errors"
	"time"
)

const (
	// refusedAfter is how old credentials have to be for their refusal to be taken for
	// a sign that others would do better. Where a region is not enabled for an account
	// it says the same of every session, and each request would be an STS call.
	refusedAfter = time.Minute
	// maxDropped bounds the access key ids that are remembered as refused.
	maxDropped = 1024
)

// sourceKey is the access key id of the source credentials, and since when it is theirs
// or was last refused.
type sourceKey struct {
	id    string
	since time.Time
}

// Refused takes note that AWS does not accept the credentials with this access key id,
// although they have not expired: the role was made anew, keys were replaced, or the
// clock is wrong. They are dropped, so that the next request fetches others, unless
// they are younger than a minute. However many requests report the same key, it is
// dropped once. again says that sending the same request again can help, since it would
// be signed with other credentials.
func (m *Manager) Refused(accessKeyID string) (again bool) {
	now := m.opt.Now()
	m.mu.Lock()
	if m.dropped.Contains(accessKeyID) {
		m.mu.Unlock()
		return true
	}
	held := m.entries.Values()
	m.mu.Unlock()
	for _, e := range held {
		if e.drop(accessKeyID, now) {
			again = true
		}
	}
	if again {
		m.mu.Lock()
		m.dropped.Add(accessKeyID, struct{}{})
		m.mu.Unlock()
		return true
	}
	// Source credentials may come back the same, so that one request at a time is to
	// be sent again on their account, and the others hear what AWS says.
	key := m.sourceKey.Load()
	if key == nil || key.id != accessKeyID || !oldEnough(key.since, now) || !m.sourceKey.CompareAndSwap(key, &sourceKey{accessKeyID, now}) {
		return false
	}
	m.source.Invalidate()
	return true
}

// oldEnough takes a time from ahead for old: the clock was set back.
func oldEnough(since, now time.Time) bool {
	age := now.Sub(since)
	return age >= refusedAfter || age < 0
}

// drop ends a session with this access key id, unless it is new.
func (e *entry) drop(accessKeyID string, now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.expires.IsZero() || e.session.Credentials.AccessKeyID != accessKeyID || !oldEnough(e.made, now) {
		return false
	}
	e.session, e.expires = Session{}, time.Time{}
	return true
}

// noticeSource remembers whose key requests are signed with where a role is the source
// credentials themselves.
func (m *Manager) noticeSource(accessKeyID string) {
	key := m.sourceKey.Load()
	if key == nil || key.id != accessKeyID {
		m.sourceKey.CompareAndSwap(key, &sourceKey{accessKeyID, m.opt.Now()})
	}
}

// isRefusal says whether STS did not accept the credentials that a call was signed with.
func isRefusal(err error) bool {
	var known *Error
	if !errors.As(err, &known) {
		return false
	}
	switch known.Code {
	case "ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException":
		return true
	}
	return false
}
