// Package virtualsts answers STS in client credentials: whoever asks for a role
// session through the proxy gets keys that stand for it, and the session stays here.
//
// A [Service] takes an STS call that was verified, understood and allowed, makes
// the real call, and answers in the shape of the real answer with minted
// credentials in place of the real ones. Their session token says how the session
// is made again, so any replica that holds the sealing key serves them. A session
// that cannot be made again (it needed an MFA code or a SAML assertion) travels
// inside the token, sealed.
//
// CreateSession of S3 Express hands out keys as well, but only S3 can make them. It
// goes to AWS, and [Service.S3Session] rewrites the answer.
//
// Traps:
//   - The pipeline's policies decide whether sts:AssumeRole is allowed at all. Here
//     is decided which roles it may lead to: those that the identity was granted,
//     and those that match the assume patterns of the role in force.
//   - A session that was narrowed by a session policy must not lead back to what it
//     was narrowed from. Granted roles are made from the source credentials, where
//     the session policy does not hold, so such a session reaches them no more.
//   - The web identity token of a client is for this proxy. It is verified here and
//     never sent to AWS.
package virtualsts

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/countersign-proxy/countersign/awsapi"
	"github.com/countersign-proxy/countersign/identity"
	"github.com/countersign-proxy/countersign/rolesession"
)

// The STS operations that are answered here.
const (
	opAssumeRole                = "AssumeRole"
	opAssumeRoleWithWebIdentity = "AssumeRoleWithWebIdentity"
	opAssumeRoleWithSAML        = "AssumeRoleWithSAML"
	opAssumeRoot                = "AssumeRoot"
	opGetSessionToken           = "GetSessionToken"
	opGetFederationToken        = "GetFederationToken"
)

// Role is what the service needs to know of a configured role.
type Role struct {
	// ARN is "" for the source credentials themselves.
	ARN string
	// Assume are patterns of ARNs that may be chained from this role: six parts
	// between colons, where * stands for any characters of a part and ? for one.
	// arn:aws:iam::ACCOUNT:root admits AssumeRoot.
	Assume []string
	// SAML is the configured identity that sessions of AssumeRoleWithSAML for this
	// role belong to; "" refuses them.
	SAML string
}

// Options are what a Service is made of. Identities and Sessions are required.
type Options struct {
	Identities *identity.Store
	Sessions   *rolesession.Manager
	Roles      map[string]Role
	// Remember bounds the list that Issued returns; 0 is 4096.
	Remember int
	Now      func() time.Time // nil is time.Now
}

// Service answers STS. It is safe for concurrent use.
type Service struct {
	opt   Options
	roles map[string]compiledRole

	mu     sync.Mutex
	issued *simplelru.LRU[string, Issued]
}

type compiledRole struct {
	Role
	assume []arnPattern
}

// Issued is a set of client credentials that this process handed out.
type Issued struct {
	AccessKeyID string
	Identity    string
	Role        string // configured role in force
	RoleARN     string // of the session; "" for the source credentials
	SessionName string
	Operation   string // STS operation, or "credentials" for the credentials endpoint
	Issued      time.Time
	Expires     time.Time
}

// New checks the options. The error names the role and key that is wrong.
func New(opt Options) (*Service, error) {
	if opt.Identities == nil || opt.Sessions == nil {
		return nil, errors.New("virtualsts: Identities and Sessions are required")
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Remember <= 0 {
		opt.Remember = 4096
	}
	issued, err := simplelru.NewLRU[string, Issued](opt.Remember, nil)
	if err != nil {
		return nil, fmt.Errorf("virtualsts: %w", err)
	}
	s := &Service{opt: opt, roles: make(map[string]compiledRole, len(opt.Roles)), issued: issued}
	for name, r := range opt.Roles {
		c := compiledRole{Role: r}
		for _, text := range r.Assume {
			p, err := parseARNPattern(text)
			if err != nil {
				return nil, fmt.Errorf("roles.%s.assume: %w", name, err)
			}
			c.assume = append(c.assume, p)
		}
		if r.SAML != "" && r.ARN == "" {
			return nil, fmt.Errorf("roles.%s.saml: has no effect without an arn", name)
		}
		s.roles[name] = c
	}
	return s, nil
}

// Handles says whether a call is answered here rather than by AWS.
func (s *Service) Handles(c *awsapi.Call) bool {
	if c.Service != "sts" {
		return false
	}
	switch c.Operation {
	case opAssumeRole, opAssumeRoleWithWebIdentity, opAssumeRoot, opGetSessionToken, opGetFederationToken:
		return true
	case opAssumeRoleWithSAML:
		for _, r := range s.roles {
			if r.SAML != "" {
				return true
			}
		}
	}
	return false
}

// Unsigned says whether a call that Handles accepts comes without a signature:
// its proof is inside, and Grant stays empty.
func Unsigned(c *awsapi.Call) bool {
	return c.Operation == opAssumeRoleWithWebIdentity || c.Operation == opAssumeRoleWithSAML
}

// Request is an STS call to be answered. Unless it is [Unsigned], it was verified
// under Grant, and the policies of the role in force allow it.
type Request struct {
	Call *awsapi.Call
	HTTP *http.Request // for method, query string and headers; its body is left alone
	Body []byte
	// Grant is whom the request was verified for; empty for unsigned calls.
	Grant     identity.Grant
	RequestID string // the proxy's own; what the client sees unless AWS gave one
}

// Answer is what the client gets, and what the record needs to know of it.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte

	Err *Error // nil: credentials were handed out

	Identity     string // who got them
	Role         string // configured role in force for them
	AccessKeyID  string // of the client credentials handed out
	RoleARN      string // of the real session
	SessionName  string
	AWSRequestID string // of the real call
	Expires      time.Time
}

// Reason says why no credentials were handed out. The set is closed.
type Reason string

// The reasons.
const (
	ReasonInvalid     Reason = "invalid_parameter"
	ReasonNotGranted  Reason = "role_not_granted"
	ReasonToken       Reason = "web_identity" // the web identity token was not accepted
	ReasonSTS         Reason = "sts"          // STS refused, or could not be reached
	ReasonUnsupported Reason = "unsupported"
	ReasonInternal    Reason = "internal"
)

// Error says why no credentials were handed out.
type Error struct {
	Reason    Reason
	Status    int
	Code      string // of the STS API
	Message   string
	RequestID string // of the STS call, where there was one
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

func invalid(format string, args ...any) *Error {
	return &Error{Reason: ReasonInvalid, Status: http.StatusBadRequest, Code: "ValidationError", Message: fmt.Sprintf(format, args...)}
}

func denied(reason Reason, format string, args ...any) *Error {
	return &Error{Reason: reason, Status: http.StatusForbidden, Code: "AccessDenied", Message: fmt.Sprintf(format, args...)}
}

// Answer answers an STS call. It always returns something to send.
func (s *Service) Answer(ctx context.Context, r Request) Answer {
	a, out, err := s.answer(ctx, r)
	if err != nil {
		id := err.RequestID
		if id == "" {
			id = r.RequestID
		}
		a.Err, a.AWSRequestID = err, err.RequestID
		a.Status, a.Header, a.Body = errorResponse(r.HTTP, err, id)
		return a
	}
	id := a.AWSRequestID
	if id == "" {
		id = r.RequestID
	}
	a.Status, a.Header, a.Body = response(r.HTTP, r.Call.Operation, out, id)
	return a
}

func (s *Service) answer(ctx context.Context, r Request) (Answer, *output, *Error) {
	if !s.Handles(r.Call) || r.Call.Unknown != "" {
		return Answer{}, nil, &Error{Reason: ReasonUnsupported, Status: http.StatusForbidden, Code: "AccessDenied", Message: "The proxy does not support this STS call: use a role of its configuration instead."}
	}
	p, err := parseParameters(r.HTTP, r.Body, r.Call.Operation)
	if err != nil {
		return Answer{}, nil, err
	}
	if Unsigned(r.Call) {
		if r.Call.Operation == opAssumeRoleWithSAML {
			return s.saml(ctx, p)
		}
		return s.webIdentity(ctx, p)
	}
	if r.Grant.AccessKeyID == "" || !r.Grant.Identity.HasRole(r.Grant.Role) {
		return Answer{}, nil, denied(ReasonNotGranted, "The request is not signed by an identity that may use this role.")
	}
	return s.signed(ctx, r, p)
}

// signed answers a call that was made under a grant.
func (s *Service) signed(ctx context.Context, r Request, p *parameters) (Answer, *output, *Error) {
	g := r.Grant
	state, serr := decodeState(g.Session)
	if serr != nil {
		return Answer{}, nil, &Error{Reason: ReasonInternal, Status: http.StatusForbidden, Code: "AccessDenied", Message: serr.Error()}
	}
	if state.Bucket != "" {
		return Answer{}, nil, denied(ReasonNotGranted, "The credentials are those of a session of the directory bucket %s, and cannot be used for STS calls.", state.Bucket)
	}
	if err := s.withdrawn(g, state); err != nil {
		return Answer{}, nil, denied(ReasonNotGranted, "%s", err.Message)
	}
	role := g.Role
	var links []rolesession.Link
	var base *rolesession.Session
	link := p.link()

	switch r.Call.Operation {
	case opAssumeRole:
		if granted, ok := s.granted(g, state, p.roleARN); ok {
			role = granted
			link.Role = granted
			links = []rolesession.Link{link}
			break
		}
		if !s.mayChain(g.Role, p.roleARN) {
			return Answer{}, nil, s.notGranted(g, state, p.roleARN)
		}
		links, base = state.chain(g.Role, link)
	case opAssumeRoot:
		target := rootARN(r.Call.Host.Partition, p.targetPrincipal)
		if !s.mayChain(g.Role, target) {
			return Answer{}, nil, denied(ReasonNotGranted, "The identity %q may not assume root of %s: `assume` of the role %q has no pattern for %s.", g.Identity.Name, p.targetPrincipal, g.Role, target)
		}
		link.Operation = rolesession.OpAssumeRoot
		links, base = state.chain(g.Role, link)
	case opGetSessionToken:
		link.Operation = rolesession.OpGetSessionToken
		links, base = state.chain(g.Role, link)
	case opGetFederationToken:
		link.Operation = rolesession.OpGetFederationToken
		links, base = state.chain(g.Role, link)
	}
	return s.hand(ctx, handing{
		operation: r.Call.Operation, id: g.Identity, role: role, links: links, base: base, narrowed: state.narrowed(),
		parents: append(slices.Clone(g.Parents), g.AccessKeyID),
	})
}

// granted finds the configured role with this ARN that the identity may use.
func (s *Service) granted(g identity.Grant, state *state, arn string) (string, bool) {
	if arn == "" || state.narrowed() {
		return "", false
	}
	return s.roleWithARN(g.Identity, g.Role, arn)
}

// roleWithARN prefers the role in force where several entries have the same ARN.
func (s *Service) roleWithARN(id identity.Identity, inForce, arn string) (string, bool) {
	if inForce != "" && s.roles[inForce].ARN == arn {
		return inForce, true
	}
	for _, name := range id.Roles {
		if r, ok := s.roles[name]; ok && r.ARN == arn {
			return name, true
		}
	}
	return "", false
}

// mayChain says whether the assume patterns of the role in force admit the ARN.
func (s *Service) mayChain(role, arn string) bool {
	return slices.ContainsFunc(s.roles[role].assume, func(p arnPattern) bool { return p.match(arn) })
}

func (s *Service) notGranted(g identity.Grant, state *state, arn string) *Error {
	if state.narrowed() {
		if _, ok := s.roleWithARN(g.Identity, g.Role, arn); ok {
			return denied(ReasonNotGranted, "User: %s is not authorized to perform: sts:AssumeRole on resource: %s: the session in force was narrowed by a session policy, and this role would lead out of it.", g.Identity.Name, arn)
		}
	}
	return denied(ReasonNotGranted, "User: %s is not authorized to perform: sts:AssumeRole on resource: %s: countersign grants the identity no role with this ARN, and `assume` of the role %q has no pattern for it.", g.Identity.Name, arn, g.Role)
}

// handing is what is needed to hand out credentials.
type handing struct {
	operation string
	id        identity.Identity
	role      string
	links     []rolesession.Link
	base      *rolesession.Session
	narrowed  bool // the session that asks; the links do not tell of one that is sealed
	parents   []string
}

func principal(id identity.Identity) rolesession.Principal {
	return rolesession.Principal{Name: id.Name, Attributes: id.Attributes}
}

// hand makes the real session and the credentials that stand for it.
func (s *Service) hand(ctx context.Context, h handing) (Answer, *output, *Error) {
	result, err := s.opt.Sessions.Assume(ctx, rolesession.Request{Principal: principal(h.id), Links: h.links, Base: h.base})
	if err != nil {
		return Answer{Identity: h.id.Name, Role: h.role}, nil, sessionError(err)
	}
	return s.mint(h, result)
}

// mint makes the client credentials that stand for a session that was just made.
func (s *Service) mint(h handing, result rolesession.Result) (Answer, *output, *Error) {
	fail := func(err error) (Answer, *output, *Error) {
		return Answer{Identity: h.id.Name, Role: h.role}, nil,
			&Error{Reason: ReasonInternal, Status: http.StatusForbidden, Code: "AccessDenied", Message: fmt.Sprintf("STS created the session, but the proxy could not issue client credentials for it: %v.", err), RequestID: result.RequestID}
	}
	next := state{Links: h.links}
	if !result.Repeatable {
		next = state{Sealed: seal(result.Session), Narrowed: h.narrowed || narrowed(h.links)}
	}
	session, err := next.encode()
	if err != nil {
		return fail(err)
	}
	expires := result.Credentials.Expires
	if most := s.opt.Now().Add(s.opt.Identities.MaxLifetime()); expires.After(most) {
		expires = most
	}
	c, err := s.opt.Identities.Mint(identity.Grant{Identity: h.id, Role: h.role, Expires: expires, Parents: h.parents, Session: session})
	if err != nil {
		return fail(err)
	}
	s.remember(Issued{
		AccessKeyID: c.AccessKeyID, Identity: h.id.Name, Role: h.role, RoleARN: result.RoleARN, SessionName: result.SessionName,
		Operation: h.operation, Issued: s.opt.Now(), Expires: c.Expires,
	})
	return Answer{
			Identity: h.id.Name, Role: h.role, AccessKeyID: c.AccessKeyID, RoleARN: result.RoleARN, SessionName: result.SessionName,
			AWSRequestID: result.RequestID, Expires: c.Expires,
		}, &output{
			credentials: c, arn: result.ARN, id: result.ID, sourceIdentity: result.SourceIdentity, packedPolicySize: result.PackedPolicySize,
		}, nil
}

// Session returns the real session that a grant stands for: that of its role, or
// the one that its session token says how to make. Errors are of type
// *rolesession.Error, or the context's.
func (s *Service) Session(ctx context.Context, g identity.Grant) (rolesession.Session, error) {
	if len(g.Session) == 0 {
		return s.opt.Sessions.Credentials(ctx, g.Role, principal(g.Identity))
	}
	state, err := decodeState(g.Session)
	if err != nil {
		return rolesession.Session{}, &rolesession.Error{Kind: rolesession.KindBadInput, Role: g.Role, Message: err.Error()}
	}
	if err := s.withdrawn(g, state); err != nil {
		return rolesession.Session{}, err
	}
	if state.Sealed != nil {
		session := state.Sealed.session()
		if !s.opt.Now().Before(session.Credentials.Expires) {
			return rolesession.Session{}, &rolesession.Error{Kind: rolesession.KindBadInput, Role: g.Role, Message: "The session has expired."}
		}
		return session, nil
	}
	return s.opt.Sessions.Session(ctx, rolesession.Request{Principal: principal(g.Identity), Links: state.Links, Until: g.Expires})
}

// withdrawn says whether the configuration no longer leads to where a virtual session
// is: a pattern of assume was taken away, or the role has another ARN.
func (s *Service) withdrawn(g identity.Grant, state *state) *rolesession.Error {
	admits := func(arn string) bool { return arn == s.roles[g.Role].ARN || s.mayChain(g.Role, arn) }
	refuse := func(arn string) *rolesession.Error {
		return &rolesession.Error{Kind: rolesession.KindDenied, Role: g.Role, RoleARN: arn,
			Message: fmt.Sprintf("The session is no longer valid: the role %q may no longer assume %s.", g.Role, arn)}
	}
	if state.Sealed != nil {
		if arn := state.Sealed.RoleARN; arn != "" && !admits(arn) {
			return refuse(arn)
		}
		return nil
	}
	for _, l := range state.Links[min(1, len(state.Links)):] {
		switch l.Operation {
		case rolesession.OpAssumeRole, "":
			if !admits(l.RoleARN) {
				return refuse(l.RoleARN)
			}
		case rolesession.OpAssumeRoot:
			partition, _, _ := strings.Cut(strings.TrimPrefix(l.TaskPolicyARN, "arn:"), ":")
			if arn := rootARN(partition, l.TargetPrincipal); !s.mayChain(g.Role, arn) {
				return refuse(arn)
			}
		}
	}
	return nil
}

// rootARN is the ARN of the root of an account, which STS takes by its number as well.
func rootARN(partition, target string) string {
	if accountPattern.MatchString(target) {
		return "arn:" + partition + ":iam::" + target + ":root"
	}
	return target
}

// Issued returns the credentials that this process handed out and that have not
// expired, the most recent last. The list is bounded; the oldest are forgotten.
func (s *Service) Issued() []Issued {
	now := s.opt.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(s.issued.Values(), func(i Issued) bool { return !now.Before(i.Expires) })
}

func (s *Service) remember(i Issued) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i.Expires = i.Expires.Round(0) // by the wall clock: the monotonic one stands still while the machine sleeps
	s.issued.Add(i.AccessKeyID, i)
}

// sessionError turns what rolesession says into what STS would say.
func sessionError(err error) *Error {
	var e *rolesession.Error
	if !errors.As(err, &e) {
		return &Error{Reason: ReasonSTS, Status: http.StatusServiceUnavailable, Code: "ServiceUnavailable", Message: "The request was cancelled before STS answered."}
	}
	out := &Error{Reason: ReasonSTS, Status: http.StatusForbidden, Code: "AccessDenied", Message: e.Message, RequestID: e.RequestID}
	switch e.Kind {
	case rolesession.KindBadInput:
		out.Status, out.Code = http.StatusBadRequest, "ValidationError"
		if e.Code != "" {
			out.Code = e.Code
		}
	case rolesession.KindRegionDisabled:
		out.Code = "RegionDisabledException"
	case rolesession.KindThrottled:
		out.Status, out.Code = http.StatusBadRequest, "Throttling"
	case rolesession.KindUnreachable, rolesession.KindClosed:
		out.Status, out.Code = http.StatusServiceUnavailable, "ServiceUnavailable"
	}
	return out
}

var accountPattern = regexp.MustCompile(`^[0-9]{12}$`)

// arnPattern is a pattern whose wildcards do not reach over a colon.
type arnPattern [6]string

func parseARNPattern(text string) (arnPattern, error) {
	parts := strings.Split(text, ":")
	if len(parts) != 6 || parts[0] != "arn" || parts[2] != "iam" || parts[3] != "" {
		return arnPattern{}, fmt.Errorf("%q is not a pattern of role ARNs, such as arn:aws:iam::*:role/Deploy", text)
	}
	if account := parts[4]; !accountPattern.MatchString(account) && !strings.ContainsAny(account, "*?") {
		return arnPattern{}, fmt.Errorf("%q: an account has twelve digits", text)
	}
	return arnPattern(parts), nil
}

func (p arnPattern) match(arn string) bool {
	parts := strings.Split(arn, ":")
	if len(parts) != 6 {
		return false
	}
	for i := range parts {
		if !identity.Wildcard(p[i], parts[i]) {
			return false
		}
	}
	return true
}
