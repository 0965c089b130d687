package console

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

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
	Requested   bool      // Until was asked for with SessionDuration; else it is the role session's
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
	session, federated, err := f.session(ctx, req, policy, arns)
	if err != nil {
		return Login{}, err
	}
	now := f.opt.Now()
	login := Login{
		Role: req.Role.Name, RoleARN: session.RoleARN, SessionName: session.SessionName,
		Account: cmp.Or(session.AccountID, req.Role.Account()), Destination: destination,
		UseBefore: now.Add(tokenLife), Until: session.Credentials.Expires, Limited: !limits.none(),
	}
	duration := time.Duration(0)
	if !federated {
		duration = f.requestable(ctx, req.Role)
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
		login.Requested, login.Until = true, now.Add(duration)
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
	_, rest, _ := strings.Cut(arn, ":")
	name, _, _ := strings.Cut(rest, ":")
	return partitionNamed(name)
}

// session returns temporary credentials that can sign in, with enough of their life
// left. federated says that they came of GetFederationToken.
func (f *Federation) session(ctx context.Context, req Request, policy string, arns []string) (s rolesession.Session, federated bool, err error) {
	first := rolesession.Link{Role: req.Role.Name}
	if req.Role.ARN != "" {
		first.Policy, first.PolicyARNs = policy, arns
	}
	request := rolesession.Request{Principal: req.Principal, Links: []rolesession.Link{first}}
	limited := policy != "" || len(arns) > 0
	if s, err = f.opt.Sessions.Session(ctx, request); err != nil {
		return s, false, sessionError(ctx, err)
	}
	switch {
	case req.Role.ARN != "":
	case s.Credentials.SessionToken != "":
		if limited {
			return s, false, &Error{Kind: KindLimits, Message: fmt.Sprintf("The role %q is the proxy's own temporary credentials, which nothing can limit any further, but the proxy limits it. Give it an arn.", req.Role.Name)}
		}
		return s, false, nil // nothing can be made fresher here
	case !limited:
		return s, false, &Error{Kind: KindLongTerm, Message: fmt.Sprintf("The role %q is the keys of an IAM user, which cannot sign in to the console by themselves. Give it an arn to assume; or policies, which then go along with GetFederationToken.", req.Role.Name)}
	default:
		federated = true
		request.Links = append(request.Links, rolesession.Link{
			Operation: rolesession.OpGetFederationToken, SessionName: federatedName(req.Principal.Name),
			Duration: int32(cmp.Or(req.Role.Duration, time.Hour) / time.Second), Policy: policy, PolicyARNs: arns,
		})
		if s, err = f.opt.Sessions.Session(ctx, request); err != nil {
			return s, federated, sessionError(ctx, err)
		}
	}
	if s.Credentials.Expires.Sub(f.opt.Now()) < minSessionDuration {
		fresh, err := f.opt.Sessions.Assume(ctx, request)
		if err != nil {
			return s, federated, sessionError(ctx, err)
		}
		s = fresh.Session
	}
	return s, federated, nil
}

// requestable is the SessionDuration that AWS accepts for the role, or 0: it takes
// one only for roles that the long-term keys of an IAM user assumed.
func (f *Federation) requestable(ctx context.Context, role Role) time.Duration {
	if role.ARN == "" || role.Via != "" {
		return 0
	}
	_, arn, err := f.opt.Sessions.Caller(ctx)
	if err != nil || !userARN.MatchString(arn) {
		return 0
	}
	return min(max(cmp.Or(role.Duration, time.Hour), minSessionDuration), maxSessionDuration)
}

var (
	userARN       = regexp.MustCompile(`^arn:[a-z0-9-]+:iam::[0-9]{12}:user/`)
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
