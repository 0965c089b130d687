package audit

import (
	"strings"
	"time"
)

// Decision says what became of a request.
type Decision string

// The decisions.
const (
	Allow  Decision = "allow"  // let through, or tunnelled
	Deny   Decision = "deny"   // refused here, for whatever reason: signature, host, policy, a failure
	Report Decision = "report" // let through although the policy denies it, because enforcement is "report"
)

// Entry is one audit record. Its fields are those of the line, in the order of
// the line; see docs/audit.md for what each means.
//
// Never put a secret, a token, a signature, a body or the value of a query
// parameter in it. Key ids of real AWS credentials are masked on the way out
// wherever they stand, but that is a last line of defence.
type Entry struct {
	Time          time.Time     // when the request arrived
	RequestID     string        // ours; the client got it too
	Identity      string        // who holds the client credentials; "" when not known
	AccessKeyID   string        // client credentials that signed; "" when there were none
	Role          string        // configured name
	RoleARN       string        // the AWS role that signed upstream
	SessionName   string        // its session name, as CloudTrail shows it
	Client        string        // address and port of the peer
	Method        string        // HTTP method; CONNECT for tunnels and refused CONNECTs
	Host          string        // host asked for, without port 443
	Service       string        // as in the IAM action prefix or the signing name
	Region        string        //
	Operation     string        // such as GetObject
	Actions       []string      // IAM actions, such as s3:GetObject
	Resources     []string      // ARNs
	Decision      Decision      // allow, deny, report
	Reason        string        // why, in a word or a few
	Policy        string        // policy that decided
	Statement     string        // its statement
	Status        int           // HTTP status that the client got; 0: none was sent
	AWSRequestID  string        // request id that AWS answered with
	RequestBytes  int64         // body bytes from the client
	ResponseBytes int64         // body bytes to the client
	Duration      time.Duration // whole request; written in milliseconds
	Overhead      time.Duration // part of it spent here; written in microseconds
	Signature     string        // form of the client's signature
	Error         string        // what failed, for people; "" when nothing did
}

// Limits of a line. They are counted as encoded, so that no choice of
// characters makes a line longer than MaxLine.
const (
	MaxLine = 32 << 10 // bytes, newline included

	maxText      = 512     // most fields
	maxLongText  = 2 << 10 // error, role_arn, one action or resource
	maxReason    = 1 << 10
	maxActions   = 4 << 10  // the list of actions
	maxResources = 12 << 10 // the list of resources
)

// clean returns e as it may be written: real key ids masked, texts and lists
// cut to their limits. It shares with e whatever needed no change, and changes
// nothing in place.
func (e Entry) clean() Entry {
	for _, f := range []struct {
		s   *string
		max int
	}{
		{&e.RequestID, maxText}, {&e.Identity, maxText}, {&e.AccessKeyID, maxText},
		{&e.Role, maxText}, {&e.RoleARN, maxLongText}, {&e.SessionName, maxText},
		{&e.Client, maxText}, {&e.Method, maxText}, {&e.Host, maxText},
		{&e.Service, maxText}, {&e.Region, maxText}, {&e.Operation, maxText},
		{(*string)(&e.Decision), maxText}, {&e.Reason, maxReason},
		{&e.Policy, maxText}, {&e.Statement, maxText}, {&e.AWSRequestID, maxText},
		{&e.Signature, maxText}, {&e.Error, maxLongText},
	} {
		*f.s = cleanText(*f.s, f.max)
	}
	e.Actions = cleanList(e.Actions, maxActions)
	e.Resources = cleanList(e.Resources, maxResources)
	return e
}

func cleanText(s string, max int) string {
	return truncate(maskKeys(s), max)
}

// cleanList cleans each text and drops from the end what would make the
// encoded list longer than max bytes, leaving "…(+N more)" in its place.
func cleanList(list []string, max int) []string {
	const room = 32 // for the marker
	total := 0
	var out []string // nil: as given so far
	for i, s := range list {
		c := cleanText(s, maxLongText)
		total += encodedLen(c) + len(`"",`)
		if total > max-room {
			out = append(append(make([]string, 0, i+1), pick(out, list, i)...), more(len(list)-i))
			return out
		}
		if out == nil && c != s {
			out = append(make([]string, 0, len(list)), list[:i]...)
		}
		if out != nil {
			out = append(out, c)
		}
	}
	if out != nil {
		return out
	}
	return list
}

func pick(out, list []string, n int) []string {
	if out != nil {
		return out[:n]
	}
	return list[:n]
}

// maskKeys hides the middle of anything that looks like the access key id of
// real AWS credentials (AKIA… and ASIA… and 12 or more letters and digits), so
// that such an id is never repeated whole.
func maskKeys(s string) string {
	if !strings.Contains(s, "AKIA") && !strings.Contains(s, "ASIA") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		if !strings.HasPrefix(s[i:], "AKIA") && !strings.HasPrefix(s[i:], "ASIA") {
			b.WriteByte(s[i])
			i++
			continue
		}
		end := i + 4
		for end < len(s) && (s[end] >= 'A' && s[end] <= 'Z' || s[end] >= '0' && s[end] <= '9') {
			end++
		}
		if end-i >= 16 {
			b.WriteString(s[i : i+4])
			b.WriteString("…")
			b.WriteString(s[end-4 : end])
		} else {
			b.WriteString(s[i:end])
		}
		i = end
	}
	return b.String()
}
