package policy

import (
	"fmt"
	"strings"
)

// refuse completes a denial with its message.
func (s *Set) refuse(q *Query, d Decision) Decision {
	d.Allow = false
	d.Message = s.message(q, &d)
	return d
}

// message follows the form of AWS's own denials (troubleshoot_access-denied), so
// that tools and people who read those can read these.
func (s *Set) message(q *Query, d *Decision) string {
	var b strings.Builder
	who := q.PrincipalARN
	if who == "" {
		who = q.Username
	}
	if who != "" {
		fmt.Fprintf(&b, "User: %s is not authorized to perform: ", who)
	} else {
		b.WriteString("Not authorized to perform: ")
	}
	switch {
	case d.Action != "":
		b.WriteString(d.Action)
	case q.Call != nil && q.Call.Operation != "":
		fmt.Fprintf(&b, "%s %s", q.Call.Service, q.Call.Operation)
	case q.Call != nil && q.Call.Host.Service != "":
		fmt.Fprintf(&b, "an unknown operation of %s", q.Call.Host.Service)
	default:
		b.WriteString("this call")
	}
	if d.Resource != "" && d.Resource != "*" {
		fmt.Fprintf(&b, " on resource: %s", d.Resource)
	}
	b.WriteByte(' ')
	b.WriteString(s.because(q, d))
	return b.String()
}

func (s *Set) because(q *Query, d *Decision) string {
	role, statement := "the role", ""
	if s != nil && s.name != "" {
		role = "role " + s.name
	}
	if d.Statement != "" {
		statement = fmt.Sprintf("statement %s of policy %s", d.Statement, d.Policy)
	}
	unknown := ""
	if d.Unknown != "" {
		unknown = fmt.Sprintf(" (%s is not known here)", d.Unknown)
	}
	switch d.Reason {
	case ReasonExplicitDeny:
		return fmt.Sprintf("with an explicit deny in %s of %s", statement, role)
	case ReasonPossibleDeny:
		return fmt.Sprintf("because a deny in %s of %s cannot be ruled out%s", statement, role, unknown)
	case ReasonBoundary:
		if d.Statement != "" && unknown == "" {
			return fmt.Sprintf("because the identity's boundary denies it in %s", statement)
		}
		if d.Statement != "" {
			return fmt.Sprintf("because it cannot be told whether the identity's boundary allows it by %s%s", statement, unknown)
		}
		return fmt.Sprintf("because the identity's boundary %s does not allow the %s action", d.Policy, d.Action)
	case ReasonUnknownCall:
		why := "the call could not be understood"
		if q.Call != nil && q.Call.Unknown != "" {
			why += ": " + q.Call.Unknown
		}
		if statement != "" {
			return fmt.Sprintf("because %s, so that a deny in %s of %s cannot be ruled out", why, statement, role)
		}
		return fmt.Sprintf("because %s; only an Allow of Action \"*\" on Resource \"*\" without conditions lets it pass", why)
	case ReasonReadOnly:
		level := "of unknown access level"
		if q.Call != nil && q.Call.AccessLevel != "" {
			level = "of access level " + q.Call.AccessLevel
		}
		return fmt.Sprintf("because %s is read-only and the call is %s", role, level)
	case ReasonRegion:
		region := "an unknown region"
		if q.Call != nil && q.Call.Region != "" {
			region = "region " + q.Call.Region
		}
		return fmt.Sprintf("because %s is not among the regions of %s", region, role)
	case ReasonService:
		return fmt.Sprintf("because the service is not among the services of %s", role)
	}
	switch {
	case s == nil || !s.compiled:
		return "because no policy is loaded"
	case q.Call == nil:
		return "because there is no call to judge"
	case d.Statement != "":
		return fmt.Sprintf("because no policy of %s allows the %s action for certain: %s might%s", role, d.Action, statement, unknown)
	}
	return fmt.Sprintf("because no policy of %s allows the %s action", role, d.Action)
}
