package console

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/countersign-proxy/countersign/rolesession"
)

// Role is a configured role as the console needs it.
type Role struct {
	Name     string
	ARN      string // "": the source credentials themselves
	Via      string // role that is assumed first
	Duration time.Duration
	Labels   map[string]string
	Tags     []string // keys of its session tags
	Limits   Limits
	Federate *Federate // nil: the keys of an IAM user do not sign in by themselves
}

// Federate asks for GetFederationToken where a role has no ARN and the source
// credentials are long-term keys.
type Federate struct {
	// Policy and PolicyARNs are what the federated user may do; with neither, the
	// role's limits are. STS takes 2048 characters and 10 ARNs.
	Policy     *Document
	PolicyARNs []string
	// Duration is 15 minutes to 36 hours; 0 is the role's. For keys of the root user
	// AWS grants an hour at most.
	Duration time.Duration
}

// Basis is what decides when a console session ends. The set is closed.
type Basis string

// What a console session's end can follow from.
const (
	BasisRequested  Basis = "SessionDuration"    // it was asked for
	BasisRole       Basis = "role session"       // the role session's own end
	BasisChained    Basis = "role chaining"      // the same, an hour at most
	BasisFederation Basis = "federation token"   // the federated user's session
	BasisSource     Basis = "source credentials" // the proxy's own session
	BasisUnknown    Basis = "unknown"            // STS has not said whose the proxy's credentials are
)

// Explain says for people what the end of a console session follows from.
func (b Basis) Explain() string {
	switch b {
	case BasisRequested:
		return "the end of the role's duration, asked for with SessionDuration"
	case BasisChained:
		return "the end of the role session, an hour at most where roles are chained"
	case BasisFederation:
		return "the end of the federated user's session"
	case BasisSource:
		return "the end of the proxy's own credentials"
	case BasisUnknown:
		return "what STS says of the proxy's own credentials, which it has not said yet"
	default:
		return "the end of the role session"
	}
}

// Account is the account that the role is in, as far as it can be told without
// asking AWS.
func (r Role) Account() string {
	if id := r.Labels["aws_account_id"]; id != "" {
		return id
	}
	if parts := strings.SplitN(r.ARN, ":", 6); len(parts) == 6 {
		return parts[4]
	}
	return ""
}

// FederationOptions say how role sessions and sign-in tokens are had. Sessions is
// required.
type FederationOptions struct {
	Sessions *rolesession.Manager
	// Client reaches the sign-in endpoints; nil is net/http's, which knows nothing of
	// upstream.override.
	Client *http.Client
	// Region is the proxy's own, whose sign-in endpoint is used; "": one of the
	// role's partition.
	Region string
	Now    func() time.Time
}

// Federation makes sign-in URLs of role sessions. It is safe for concurrent use.
type Federation struct {
	opt    FederationOptions
	signin *signin
}

// NewFederation returns a Federation.
func NewFederation(opt FederationOptions) *Federation {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	return &Federation{opt: opt, signin: newSignin(opt.Client)}
}

// Request says who wants to be signed in, and where to.
type Request struct {
	Principal   rolesession.Principal
	Role        Role
	Boundary    *Document // of the identity, beside the role's limits; nil: none
	Destination string    // as in ParseDestination
	Region      string    // where a service is shown; "": the proxy's own
	Issuer      string    // address that the console leads back to when the session ends
}

// Login is a sign-in that was prepared. URL is a credential: see the package
// comment. No verb of fmt prints it; encoding/json does.
type Login struct {
	URL         string
	Role        string
	RoleARN     string
	SessionName string
	Account     string
	Destination Destination
	UseBefore   time.Time // until then the URL can be used
	Until       time.Time // end of the console session
	Basis       Basis     // what Until follows from
	Limited     bool      // the proxy's limits went along as a session policy
}

// String names the login without its URL.
func (l Login) String() string {
	return "console sign-in as " + cmp.Or(l.RoleARN, "the source credentials")
}

// GoString keeps %#v from printing the URL.
func (l Login) GoString() string { return l.String() }

// Format keeps every verb from printing the URL.
func (l Login) Format(f fmt.State, _ rune) { fmt.Fprint(f, l.String()) }

// SignIn prepares a sign-in. Errors are of type *[Error], or the context's.
func (f *Federation) SignIn(ctx context.Context, req Request) (Login, error) {
	p, err := f.partition(ctx, req.Role)
	if err != nil {
		return Login{}, err
	}
	region := req.Region
	if region == "" && p.has(f.opt.Region) {
		region = f.opt.Region
	}
	destination, err := ParseDestination(req.Destination, p.name, region)
	if err != nil {
		return Login{}, err
	}
	limits := req.Role.Limits
	if req.Boundary != nil {
		limits.Boundary = req.Boundary
	}
	policy, arns, err := limits.sessionPolicy(p.name, req.Role.Tags)
	if err != nil {
		return Login{}, err
	}
	session, basis, err := f.session(ctx, req, policy, arns)
	if err != nil {
		return Login{}, err
	}
	now := f.opt.Now()
	login := Login{
		Role: req.Role.Name, RoleARN: session.RoleARN, SessionName: session.SessionName,
		Account: cmp.Or(session.AccountID, req.Role.Account()), Destination: destination,
		UseBefore: now.Add(tokenLife), Until: session.Credentials.Expires, Basis: basis, Limited: !limits.none() || basis == BasisFederation,
	}
	duration := time.Duration(0)
	if basis == BasisRequested {
		login.Basis = BasisRole
		duration = requestedDuration(req.Role)
	}
	hosts := p.signinHosts(f.opt.Region)
	token, host, err := f.signin.token(ctx, hosts, session.Credentials, duration)
	if duration > 0 && badRequest(err) {
		// A user's keys that came of GetSessionToken look like long-term ones here.
		duration = 0
		token, host, err = f.signin.token(ctx, hosts, session.Credentials, 0)
	}
	if err != nil {
		return Login{}, err
	}
	if duration > 0 {
		login.Basis, login.Until = BasisRequested, now.Add(duration)
	}
	login.URL = loginURL(host, token, req.Issuer, destination.URL)
	return login, nil
}

// partition is that of the role, or of the proxy's own credentials.
func (f *Federation) partition(ctx context.Context, role Role) (partition, error) {
	arn := role.ARN
	if arn == "" {
		var err error
		if _, arn, err = f.opt.Sessions.Caller(ctx); err != nil {
			return partition{}, sessionError(ctx, err)
		}
	}
	return partitionNamed(partitionOf(arn))
}

// partitionOf is the second part of an ARN.
func partitionOf(arn string) string {
	_, rest, _ := strings.Cut(arn, ":")
	name, _, _ := strings.Cut(rest, ":")
	return name
}

// Expect says how long a console session of the role will be, and what that follows
// from, as far as it can be told without making one. 0 is as long as the proxy's own
// credentials live, or not known. An error says that nobody can be signed in as the
// role. It may have to ask STS who the proxy is, once; until ctx ends it waits for that,
// and then says what holds whatever STS may say.
func (f *Federation) Expect(ctx context.Context, role Role) (time.Duration, Basis, error) {
	basis := f.basis(ctx, role)
	switch {
	case basis == BasisUnknown:
		return 0, basis, nil
	case basis == BasisSource && role.Federate != nil:
		return 0, basis, noFederation(role)
	case basis == BasisFederation && role.Federate == nil:
		return 0, basis, longTerm(role)
	case basis == BasisFederation:
		_, arn, _ := f.opt.Sessions.Caller(ctx)
		return federatedDuration(role, arn), basis, nil
	case basis == BasisRequested:
		return requestedDuration(role), basis, nil
	case basis == BasisChained:
		return min(cmp.Or(role.Duration, time.Hour), time.Hour), basis, nil
	case basis == BasisRole:
		return cmp.Or(role.Duration, time.Hour), basis, nil
	}
	return 0, basis, nil
}

// basis is what a console session of the role will follow from, going by who the
// source credentials are. AWS takes SessionDuration only for roles that the
// long-term keys of an IAM user assumed.
func (f *Federation) basis(ctx context.Context, role Role) Basis {
	if role.Via != "" {
		return BasisChained
	}
	_, arn, err := f.opt.Sessions.Caller(ctx)
	longTerm := err == nil && (userARN.MatchString(arn) || rootARN.MatchString(arn))
	switch {
	case role.ARN == "" && err != nil:
		return BasisUnknown
	case role.ARN == "" && longTerm:
		return BasisFederation
	case role.ARN == "":
		return BasisSource
	case err == nil && userARN.MatchString(arn):
		return BasisRequested
	case err == nil && assumedARN.MatchString(arn):
		return BasisChained
	}
	return BasisRole
}

// requestedDuration is within what AWS accepts as SessionDuration.
func requestedDuration(role Role) time.Duration {
	return min(max(cmp.Or(role.Duration, time.Hour), minSessionDuration), maxSessionDuration)
}

// federatedDuration is how long a federated user's session is asked for. STS cuts
// that of a root user without saying so.
func federatedDuration(role Role, arn string) time.Duration {
	longest := maxFederation
	if rootARN.MatchString(arn) {
		longest = maxRootFederation
	}
	return min(max(cmp.Or(role.Federate.Duration, role.Duration, time.Hour), minSessionDuration), longest)
}

func longTerm(role Role) error {
	return &Error{Kind: KindLongTerm, Message: fmt.Sprintf("The role %q is the keys of an IAM user, which cannot sign in to the console by themselves. Give it an arn to assume; or a federation_policy, with which GetFederationToken makes a session of them.", role.Name)}
}

func noFederation(role Role) error {
	return &Error{Kind: KindLimits, Message: fmt.Sprintf("The role %q asks for GetFederationToken, which needs the long-term keys of an IAM user, but the proxy's own credentials are temporary. Give it an arn to assume, or the proxy other credentials.", role.Name)}
}

// session returns temporary credentials that can sign in, with enough of their life
// left, and what the end of the console session follows from.
func (f *Federation) session(ctx context.Context, req Request, policy string, arns []string) (s rolesession.Session, basis Basis, err error) {
	first := rolesession.Link{Role: req.Role.Name}
	if req.Role.ARN != "" {
		first.Policy, first.PolicyARNs = policy, arns
	}
	request := rolesession.Request{Principal: req.Principal, Links: []rolesession.Link{first}}
	if s, err = f.opt.Sessions.Session(ctx, request); err != nil {
		return s, "", sessionError(ctx, err)
	}
	switch {
	case req.Role.ARN != "":
		basis = f.basis(ctx, req.Role)
	case s.Credentials.SessionToken != "":
		if req.Role.Federate != nil {
			return s, "", noFederation(req.Role)
		}
		if policy != "" || len(arns) > 0 {
			return s, "", &Error{Kind: KindLimits, Message: fmt.Sprintf("The role %q is the proxy's own temporary credentials, which nothing can limit any further, but the proxy limits it. Give it an arn.", req.Role.Name)}
		}
		return s, BasisSource, nil // nothing can be made fresher here
	default:
		basis = BasisFederation
		link, err := f.federationLink(ctx, req, policy, arns)
		if err != nil {
			return s, "", err
		}
		request.Links = append(request.Links, link)
		if s, err = f.opt.Sessions.Session(ctx, request); err != nil {
			return s, "", sessionError(ctx, err)
		}
	}
	// Of the shortest sessions one that was made just now has less than that too.
	asked := cmp.Or(req.Role.Duration, time.Hour)
	if basis == BasisFederation {
		asked = cmp.Or(req.Role.Federate.Duration, asked)
	}
	if s.Credentials.Expires.Sub(f.opt.Now()) < min(minSessionDuration, asked-time.Minute) {
		fresh, err := f.opt.Sessions.Assume(ctx, request)
		if err != nil {
			return s, "", sessionError(ctx, err)
		}
		s = fresh.Session
	}
	return s, basis, nil
}

// federationLink is the call of GetFederationToken. A federated user may do what both
// the IAM user and the policy that is passed allow, so without one it may do nothing
// ("GetFederationToken" of the STS API reference).
func (f *Federation) federationLink(ctx context.Context, req Request, policy string, arns []string) (rolesession.Link, error) {
	own := req.Role.Federate
	if own == nil {
		return rolesession.Link{}, longTerm(req.Role)
	}
	// Limits beside a policy of its own were refused before: see Limits.OwnPolicy.
	if own.Policy != nil || len(own.PolicyARNs) > 0 {
		policy, arns = "", own.PolicyARNs
		if own.Policy != nil {
			var compact bytes.Buffer
			if err := json.Compact(&compact, own.Policy.Text); err != nil {
				return rolesession.Link{}, &Error{Kind: KindLimits, Err: err, Message: fmt.Sprintf("%s is not JSON: %v.", own.Policy.Name, err)}
			}
			if policy = compact.String(); utf8.RuneCountInString(policy) > maxSessionPolicy {
				return rolesession.Link{}, &Error{Kind: KindLimits, Message: fmt.Sprintf("%s comes to %d characters, and a session policy has at most %d.", own.Policy.Name, utf8.RuneCountInString(policy), maxSessionPolicy)}
			}
		}
	}
	if policy == "" && len(arns) == 0 {
		return rolesession.Link{}, &Error{Kind: KindLimits, Message: fmt.Sprintf("The role %q gives a federated user no policy, so that it could do nothing. Give it a federation_policy.", req.Role.Name)}
	}
	_, arn, err := f.opt.Sessions.Caller(ctx)
	if err != nil {
		return rolesession.Link{}, sessionError(ctx, err)
	}
	return rolesession.Link{
		Operation: rolesession.OpGetFederationToken, SessionName: federatedName(req.Principal.Name),
		Duration: int32(federatedDuration(req.Role, arn) / time.Second), Policy: policy, PolicyARNs: arns,
	}, nil
}

var (
	userARN       = regexp.MustCompile(`^arn:[a-z0-9-]+:iam::[0-9]{12}:user/`)
	rootARN       = regexp.MustCompile(`^arn:[a-z0-9-]+:iam::[0-9]{12}:root$`)
	assumedARN    = regexp.MustCompile(`^arn:[a-z0-9-]+:sts::[0-9]{12}:assumed-role/`)
	federatedUser = regexp.MustCompile(`^[\w+=,.@-]{2,32}$`)
	notFederated  = regexp.MustCompile(`[^\w+=,.@-]`)
	lowerBase32   = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
)

// federatedPrefix is what remains of a name beside its hash: 32 characters in all.
const federatedPrefix = 32 - len("=") - 12

// federatedName makes a name that GetFederationToken accepts, which is shorter than
// a session name. A name that has to be changed gets a hash of the whole.
func federatedName(name string) string {
	if federatedUser.MatchString(name) && !strings.Contains(name, "=") {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	kept := notFederated.ReplaceAllString(name, "-")
	return kept[:min(len(kept), federatedPrefix)] + "=" + lowerBase32.EncodeToString(sum[:])[:12]
}

func sessionError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &Error{Kind: KindSession, Message: err.Error(), Err: err}
}
