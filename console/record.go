package console

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/countersign-proxy/countersign/audit"
)

// entry is what happened at the page, for the record.
type entry struct {
	who       *person // nil: not known
	identity  string  // where who is nil but a name is known
	operation string  // SignIn, Credentials, Link, Login, SignOut, Form
	role      string
	login     *Login // of a sign-in that was prepared
	resource  string
	reason    string // of what was done
	deny      string // reason why not; "": done
	status    int
	err       error
}

// line is the audit line of what happened; r is nil where it was the command line. Sign-in URLs, tokens, and what an address
// holds beside its path have no place in it.
func (s *Server) line(r *http.Request, began time.Time, e entry) audit.Entry {
	a := audit.Entry{
		Time: began.UTC(), RequestID: audit.NewRequestID(), Identity: e.identity, Role: e.role,
		Service: "console", Operation: e.operation, Decision: audit.Allow, Reason: e.reason, Duration: s.opt.Now().Sub(began),
	}
	if r != nil {
		a.Client, a.Method, a.Host, a.Status = r.RemoteAddr, r.Method, r.Host, e.status
	}
	if e.who != nil {
		a.Identity, a.AccessKeyID = e.who.Name, e.who.ID
	}
	if l := e.login; l != nil {
		a.RoleARN, a.SessionName, a.Region = l.RoleARN, l.SessionName, l.Destination.Region
		a.Resources = []string{l.Destination.Recorded()}
		a.Reason, a.Error = "signed in", "until "+l.Until.UTC().Format(time.RFC3339)
	} else if e.resource != "" {
		a.Resources = []string{e.resource}
	}
	if e.deny != "" {
		a.Decision, a.Reason = audit.Deny, e.deny
	}
	if e.err != nil {
		a.Error = e.err.Error()
	}
	return a
}

// record writes a line of something that gave nothing away.
func (s *Server) record(r *http.Request, e entry) {
	// A lost line is counted by the log, and shows in its metrics.
	_ = s.opt.Audit.Write(s.line(r, s.opt.Now(), e))
}

// reserve makes sure that a line can be written before what it records is done.
func (s *Server) reserve(ctx context.Context) (*audit.Pending, error) {
	pending, err := s.opt.Audit.Begin(ctx)
	if err != nil {
		return nil, &Error{Kind: KindRecord, Err: err, Message: fmt.Sprintf("Nobody is signed in while %v.", err)}
	}
	return pending, nil
}
