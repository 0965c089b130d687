package rolesession

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

const (
	callerTimeout = 5 * time.Second
	callerBackoff = time.Minute // after a failure; the account is a convenience
)

// callerState is what GetCallerIdentity said of the source credentials.
type callerState struct {
	accessKeyID string
	account     string
	arn         string
	retryAt     time.Time
	failure     error
	busy        chan struct{} // closed when the call under way has ended
}

// knownAccount is the account of the source credentials if no call is needed to know it.
func (m *Manager) knownAccount(creds aws.Credentials) string {
	if creds.AccountID != "" {
		return creds.AccountID
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.caller.accessKeyID == creds.AccessKeyID {
		return m.caller.account
	}
	return ""
}

// AccountID returns the account that a configured role acts in. For a role with
// an ARN it is the ARN's; for the source credentials STS may have to be asked,
// once. "" means that it could not be found out.
func (m *Manager) AccountID(ctx context.Context, name string) string {
	r, ok := (*m.roles.Load())[name]
	if !ok {
		return ""
	}
	if r.ARN != "" {
		return accountOf(r.ARN)
	}
	creds, err := m.sourceCredentials(ctx)
	if err != nil {
		return ""
	}
	if known := m.knownAccount(creds); known != "" {
		return known
	}
	account, _, _ := m.callerIdentity(ctx, creds)
	return account
}

// Caller asks STS who the source credentials are. The answer is kept for as long
// as they are the same, also where it comes after ctx has ended. Errors are of
// type *[Error], or the context's.
func (m *Manager) Caller(ctx context.Context) (account, arn string, err error) {
	creds, err := m.sourceCredentials(ctx)
	if err != nil {
		return "", "", err
	}
	return m.callerIdentity(ctx, creds)
}

func (m *Manager) callerIdentity(ctx context.Context, creds aws.Credentials) (account, arn string, err error) {
	for {
		m.mu.Lock()
		state := &m.caller
		if state.accessKeyID == creds.AccessKeyID && state.arn != "" {
			defer m.mu.Unlock()
			return state.account, state.arn, nil
		}
		if state.accessKeyID == creds.AccessKeyID && state.failure != nil && m.opt.Now().Before(state.retryAt) {
			defer m.mu.Unlock()
			return "", "", state.failure
		}
		busy := state.busy
		if busy == nil {
			if m.closed {
				defer m.mu.Unlock()
				return "", "", closedError()
			}
			busy = make(chan struct{})
			state.busy = busy
			// The answer serves everybody who waits, so it does not end with one of them,
			// and nobody has to wait for it for longer than it wants to.
			m.work.Go(func() { m.askCaller(creds, busy) })
		}
		m.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return "", "", ctx.Err()
		}
	}
}

// askCaller makes the call and leaves what came of it in m.caller.
func (m *Manager) askCaller(creds aws.Credentials, busy chan struct{}) {
	ctx, cancel := context.WithTimeout(m.ctx, callerTimeout)
	defer cancel()
	c := &call{Operation: "GetCallerIdentity"}
	begin := m.opt.Now()
	out, err := m.client(creds).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	event := Event{Operation: c.Operation, Outcome: OutcomeOK, Duration: m.opt.Now().Sub(begin)}
	next := callerState{accessKeyID: creds.AccessKeyID}
	if err != nil {
		known := m.callError(err, c, "", true)
		event.Outcome, event.Err = Outcome(known.Kind), known
		next.failure, next.retryAt = known, m.opt.Now().Add(callerBackoff)
	} else {
		next.account, next.arn = aws.ToString(out.Account), aws.ToString(out.Arn)
	}
	m.opt.Observe(event)
	m.mu.Lock()
	m.caller = next
	m.mu.Unlock()
	close(busy)
}
