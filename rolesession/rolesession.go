// Package rolesession makes and keeps role sessions: the real, short-lived
// credentials that requests are signed with.
//
// A session is described by a [Request], a plain value: who it is for and the STS
// calls that lead to it. Everything that goes into those calls is the key of the
// cache, so two requests share a session only if AWS could not tell them apart.
//
// Traps:
//   - A [Session] holds real credentials. It must never be formatted, logged or
//     sent to a client; its String method leaves them out, encoding/json does not.
//   - AssumeRole reports success for a session policy or tag that allows less than
//     hoped, and AccessDenied for a trust policy that lacks sts:TagSession or
//     sts:SetSourceIdentity. The messages of [Error] say so.
//   - AWS caps a role that was assumed by another role at one hour, whatever the
//     role's own maximum is ("role chaining" in the IAM user guide). Credentials
//     from EC2, ECS, EKS and SSO are role sessions already.
package rolesession

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Principal is whom a session is made for.
type Principal struct {
	Name       string            `json:"name"`
	Attributes map[string]string `json:"attributes,omitempty"`
}

// Session is a role session, or the source credentials where a role has no ARN.
type Session struct {
	Credentials aws.Credentials
	RoleARN     string // "" for source credentials
	SessionName string // "" for source credentials
	AccountID   string // "" where it is not known without asking STS: see Manager.AccountID
	ARN         string // of the session itself: assumed role or federated user; "" for source credentials
}

// String names the session without its credentials.
func (s Session) String() string {
	if s.ARN == "" {
		return "session of the source credentials"
	}
	return "session " + s.ARN
}

// GoString keeps %#v from printing the credentials.
func (s Session) GoString() string { return s.String() }

// Format keeps every verb from printing the credentials.
func (s Session) Format(f fmt.State, _ rune) { fmt.Fprint(f, s.String()) }

// Tag is a session tag.
type Tag struct {
	Key   string `json:"k"`
	Value string `json:"v"`
}

// The STS operations that a Link can stand for.
const (
	OpAssumeRole         = "AssumeRole"
	OpGetSessionToken    = "GetSessionToken"
	OpGetFederationToken = "GetFederationToken"
	OpAssumeRoot         = "AssumeRoot"
)

// Link is one STS call of a Request. The first link names a configured role,
// whose entry says how it is assumed; the other fields add what a client asked
// for, and where the entry sets the same thing, the entry wins. The links after
// it are chained: each call is signed with the session that the one before made.
type Link struct {
	Operation string `json:"op,omitempty"`   // "" is AssumeRole
	Role      string `json:"role,omitempty"` // first link: name of a configured role
	RoleARN   string `json:"arn,omitempty"`  // AssumeRole of a later link

	SessionName       string   `json:"name,omitempty"` // also the Name of GetFederationToken
	ExternalID        string   `json:"external_id,omitempty"`
	Duration          int32    `json:"duration,omitempty"` // seconds; 0: the entry's, or an hour
	SourceIdentity    string   `json:"source_identity,omitempty"`
	Tags              []Tag    `json:"tags,omitempty"`
	TransitiveTagKeys []string `json:"transitive,omitempty"`
	Policy            string   `json:"policy,omitempty"`
	PolicyARNs        []string `json:"policy_arns,omitempty"`
	TargetPrincipal   string   `json:"target,omitempty"` // AssumeRoot
	TaskPolicyARN     string   `json:"task,omitempty"`   // AssumeRoot

	// A code of an MFA device is good for one call: a link that has one can be
	// made by Assume, and never again.
	SerialNumber string `json:"-"`
	TokenCode    string `json:"-"`
}

// Repeatable says whether the call of the link can be made again later.
func (l Link) Repeatable() bool { return l.TokenCode == "" && l.SerialNumber == "" }

// Request describes a session.
type Request struct {
	Principal Principal
	Links     []Link
	// Base, if set, is a session that signs the first call in place of the source
	// credentials: one that cannot be made again, and that the caller kept. The
	// first link then only names the entry in force. For Assume alone.
	Base *Session
	// Until is when nobody will ask for the session any more, such as the expiry
	// of the client credentials that stand for it. A session that lives until then
	// is not refreshed. Zero: refresh it for as long as it is used.
	Until time.Time
}

// Result is a session that was made just now, with what STS said of it.
type Result struct {
	Session
	ID               string // AssumedRoleId or FederatedUserId
	SourceIdentity   string
	PackedPolicySize *int32
	RequestID        string // of the STS call
	Repeatable       bool   // Session can make it again from the same Request
}

// Outcome says how an STS call went: "ok" or a Kind. The set is closed.
type Outcome string

// OutcomeOK is the outcome of a call that succeeded.
const OutcomeOK Outcome = "ok"

// Event is one STS call, for metrics and logs.
type Event struct {
	Role       string // configured role that the call was made for
	RoleARN    string // what was asked for; may come from a client
	Operation  string
	Outcome    Outcome
	Duration   time.Duration
	Expires    time.Time // of the session made
	Background bool      // a refresh that nobody waits for
	Once       bool      // the session cannot be made again, and so is not renewed
	Err        error     // nil, or *Error
}

// Info describes a session that is held now.
type Info struct {
	Role        string // configured role
	Principal   string
	RoleARN     string
	SessionName string
	Expires     time.Time
}

// Credentials returns the session of a configured role for a principal: from the
// cache, or by the STS calls that its entry asks for. However many callers wait,
// one call is made; a caller whose context ends stops waiting and harms nobody.
// Errors are of type *[Error], or the context's.
func (m *Manager) Credentials(ctx context.Context, role string, p Principal) (Session, error) {
	return m.Session(ctx, Request{Principal: p, Links: []Link{{Role: role}}})
}
