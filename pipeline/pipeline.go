// Package pipeline takes one AWS request from the client's signature to the
// role's, and its answer back.
//
// A Pipeline is an http.Handler that reads top to bottom as the way of one
// request: parse and verify the client's signature, understand the call, judge
// it, fetch the role's credentials, sign again, stream. It knows nothing of
// CONNECT, certificates or flags.
//
// # What it promises
//
// Nothing is signed that was not verified and allowed, and nothing is signed
// while the record cannot be kept. What goes out is what the client signed:
// the path and query bytes, the signed headers and the body are never decoded
// or re-escaped here. Every request ends in exactly one audit entry.
//
// # Traps
//
//   - net/http decides by the type of Request.Body whether an unread body of an
//     Expect request may be drained: the original request is never changed, only
//     a copy of it.
//   - httputil.ReverseProxy drops signed X-Forwarded-* headers and unparsable
//     query parameters; they are restored from the request as received.
//   - A body that turns out not to be the one that was signed is noticed while
//     it is on its way. The signer withholds its end, the transport then aborts
//     the request, and only afterwards does the client get its answer.
package pipeline

import (
	"context"
	"errors"
	"net/http"
	"net/http/httputil"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/countersign-proxy/countersign/audit"
	"github.com/countersign-proxy/countersign/awsapi"
	"github.com/countersign-proxy/countersign/identity"
	"github.com/countersign-proxy/countersign/metrics"
	"github.com/countersign-proxy/countersign/policy"
	"github.com/countersign-proxy/countersign/rolesession"
	"github.com/countersign-proxy/countersign/signer"
	"github.com/countersign-proxy/countersign/virtualsts"
)

// Options is what a Pipeline is made of. Identities, Sessions, STS, Audit and
// Transport are required.
type Options struct {
	// Identities tells who holds the client credentials of a signature.
	Identities *identity.Store
	// Sessions makes the credentials that requests are signed with.
	Sessions *rolesession.Manager
	// STS answers the calls that would hand out role sessions.
	STS *virtualsts.Service
	// Roles are the configured roles by name. A role that is not here is refused.
	Roles map[string]Role
	// Audit receives one entry a request.
	Audit *audit.Log
	// Metrics counts; nil counts into collectors that nobody gathers.
	Metrics *metrics.Metrics
	// Transport sends what was signed. It must not follow redirects, decompress,
	// or add headers; see NewTransport.
	Transport http.RoundTripper

	// Hosts are endpoints to sign for beside those of the tables.
	Hosts []HostRule
	// Unsigned lets requests without a signature of ours through, untouched.
	Unsigned []UnsignedRule
	// CredentialCalls are operations whose answers carry AWS keys and that are
	// let through all the same, as "service:Operation", any case.
	CredentialCalls []string

	// BodyBuffer bounds, in bytes, a body that has to be held in memory before
	// the decision; 0 is signer.DefaultBodyLimit. BodyBufferSum bounds all of
	// them together; 0 is 1 GiB. Bodies that nobody signed get a sixteenth of it.
	BodyBuffer, BodyBufferSum int64
	// Chunk and Event bound one signed chunk and one event of a stream; 0 is
	// the signer's default.
	Chunk, Event int64

	// Observe is called with each call that may pass, before it is signed; nil:
	// not. The call must not be changed.
	Observe func(*awsapi.Call)

	Now    func() time.Time // nil: time.Now
	Logger *zap.Logger      // for faults of the proxy itself; nil: none
}

// Role is what the pipeline needs to know of a configured role.
type Role struct {
	ARN string // "" for the source credentials themselves
	// Policed says that policies may ask for resources, so that the account has
	// to be known even where STS must be asked for it, once.
	Policed bool
	// Judge returns the compiled policies for an identity with the named
	// boundary ("" for none). An error refuses the request.
	Judge func(boundary string) (*policy.Set, error)
	// Report lets denied requests pass and records them as such.
	Report bool
}

// HostRule names hosts to sign for that the tables do not know, or that are
// customers' own. Names are in lower case and without a port.
type HostRule struct {
	Match   func(name string) bool
	Service string // signing name
	Region  string // "": any of the partition, as the client signs
}

// UnsignedRule lets requests pass that carry no signature of ours.
type UnsignedRule struct {
	Match   func(name string) bool
	Methods []string // empty: GET and HEAD
}

// Pipeline handles requests of intercepted hosts. It is immutable after New and
// safe for concurrent use.
type Pipeline struct {
	opt         Options
	keys        *signer.Keys
	budget      budget
	strangers   budget // for calls that nobody signed
	credentials map[string]bool
	proxy       *httputil.ReverseProxy
}

// New makes a Pipeline. It fails when something required is missing.
func New(opt Options) (*Pipeline, error) {
	switch {
	case opt.Identities == nil, opt.Sessions == nil, opt.STS == nil, opt.Audit == nil, opt.Transport == nil:
		return nil, errors.New("pipeline: Identities, Sessions, STS, Audit and Transport are required")
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Metrics == nil {
		opt.Metrics = metrics.New(metrics.Options{})
	}
	if opt.Logger == nil {
		opt.Logger = zap.NewNop()
	}
	if opt.BodyBuffer <= 0 {
		opt.BodyBuffer = signer.DefaultBodyLimit
	}
	if opt.BodyBufferSum <= 0 {
		opt.BodyBufferSum = 1 << 30
	}
	p := &Pipeline{opt: opt, keys: new(signer.Keys), credentials: make(map[string]bool)}
	p.budget.left.Store(opt.BodyBufferSum)
	p.strangers.left.Store(opt.BodyBufferSum / 16)
	for _, c := range opt.CredentialCalls {
		p.credentials[strings.ToLower(c)] = true
	}
	p.proxy = newReverseProxy(p)
	return p, nil
}

// ServeHTTP handles a request whose Host is the AWS host that the client means.
func (p *Pipeline) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.serve(w, r, nil)
}

// serve is the way of one request. endpoint is nil for requests whose Host is
// AWS's; otherwise it finds the AWS host for the signature.
func (p *Pipeline) serve(w http.ResponseWriter, r *http.Request, endpoint func(*signer.Signature) (awsapi.Host, *refusal)) {
	x := p.begin(w, r)
	defer x.end()

	if endpoint == nil {
		if ref := p.findHost(x); ref != nil {
			x.refuse(ref)
			return
		}
	}
	if ref := framed(r); ref != nil {
		x.refuse(ref)
		return
	}
	sig, ref := p.parse(x)
	if ref == nil && sig != nil && endpoint != nil {
		x.host, ref = endpoint(sig)
		x.outHost = x.host.Name
		x.name(x.host)
	}
	if ref != nil {
		x.refuse(ref)
		return
	}
	if sig == nil {
		switch ref := p.unsigned(x); {
		case ref != nil:
			x.refuse(ref)
		case x.call != nil && p.opt.STS.Handles(x.call):
			p.answer(x)
		default:
			p.forward(x)
		}
		return
	}
	for _, step := range []func(*exchange) *refusal{
		p.scope,      // is the signature one for this host, of now?
		p.identify,   // whose key is it?
		p.verify,     // did its holder sign this request?
		p.understand, // what does the request ask for?
		p.judge,      // may this identity, under this role, do it?
		p.record,     // can it be recorded?
	} {
		if ref := step(x); ref != nil {
			x.refuse(ref)
			return
		}
	}
	if p.opt.STS.Handles(x.call) {
		p.answer(x)
		return
	}
	if ref := p.credentialsFor(x); ref != nil { // what is it to be signed with?
		x.refuse(ref)
		return
	}
	p.forward(x)
}

// framed refuses requests that net/http reads in another way than their sender may
// have meant, and methods that are not for servers.
func framed(r *http.Request) *refusal {
	switch r.Method {
	case http.MethodConnect, http.MethodTrace:
		// The answer to TRACE is the request, session token and all (RFC 9110, 9.3.8).
		return refuse(awsapi.ErrInvalidRequest, "target form", "%s is a method that no AWS API has", r.Method)
	case http.MethodGet, http.MethodHead:
		return nil
	}
	if !r.ProtoAtLeast(1, 1) && len(r.Header["Content-Length"]) == 0 {
		// net/http ignores Transfer-Encoding there, and with it the body (RFC 9112, 6.1).
		return refuse(awsapi.ErrInvalidRequest, "framing", "a %s request of HTTP/1.0 without Content-Length cannot be passed on: whether it has a body is not known; use HTTP/1.1", r.Method)
	}
	return nil
}

// findHost tells whose endpoint the request is addressed to.
func (p *Pipeline) findHost(x *exchange) *refusal {
	name, _ := splitPort(x.in.Host)
	x.outHost = x.in.Host
	host, verdict := p.lookup(name)
	x.name(host)
	if verdict == awsapi.HostAPI {
		x.host = host
		return nil
	}
	x.host.Name = strings.ToLower(name)
	if verdict == awsapi.HostUnknown {
		return refuse(awsapi.ErrAccessDenied, "unknown host", "%s has the shape of an AWS endpoint but is not in countersign's tables, so nothing is signed for it; "+
			"a rule in `hosts` admits it: {pattern: %q, service: SERVICE, region: REGION}", name, name)
	}
	// A host that no table knows is reached only by rules for unsigned requests.
	for _, u := range p.opt.Unsigned {
		if u.Match(x.host.Name) {
			return nil
		}
	}
	return refuse(awsapi.ErrAccessDenied, "foreign host", "%s is not an AWS API endpoint, so nothing is signed for it; a rule in `hosts` admits it if it is yours", name)
}

// lookup finds a host by the rules, then by the tables.
func (p *Pipeline) lookup(name string) (awsapi.Host, awsapi.Verdict) {
	host, verdict := awsapi.LookupHost(name)
	for _, h := range p.opt.Hosts {
		if h.Match(strings.ToLower(name)) {
			return awsapi.HostForRule(name, h.Service, h.Region), awsapi.HostAPI
		}
	}
	return host, verdict
}

// parse reads the signature without proving it. It returns nil without a
// refusal when there is none of ours and a rule may let the request pass.
func (p *Pipeline) parse(x *exchange) (*signer.Signature, *refusal) {
	sig, err := signer.Parse(x.in)
	if errors.Is(err, signer.ErrNoSignature) && (x.host.S3 || x.host.Name == "") && signer.IsPost(x.in) {
		// An upload by an HTML form is signed in its body, as far as the file.
		sig, err = signer.ParsePost(x.in)
	}
	switch {
	case errors.Is(err, signer.ErrNoSignature):
		return nil, nil
	case err != nil:
		return nil, refuseSignature(err)
	}
	x.sig = sig
	x.entry.Signature = sig.Label()
	x.entry.AccessKeyID = identity.Mask(sig.AccessKeyID)
	// A URL or form that somebody else presigned is not ours to sign, but a rule
	// may let it pass as it is.
	if sig.Form != signer.FormHeader && p.unsignedRule(x) && p.foreignKey(sig) {
		x.sig = nil
		return nil, nil
	}
	return sig, nil
}

// foreignKey says whether the access key id is none of ours.
func (p *Pipeline) foreignKey(sig *signer.Signature) bool {
	_, _, err := p.opt.Identities.Lookup(sig.AccessKeyID, sig.SecurityToken, p.opt.Now())
	var e *identity.Error
	return errors.As(err, &e) && (e.Reason == identity.ReasonUnknownKey || e.Reason == identity.ReasonRealKey)
}

// scope refuses, before any body is read, a signature that is not of now or not
// for this host.
func (p *Pipeline) scope(x *exchange) *refusal {
	if err := signer.CheckTime(x.sig, p.opt.Now(), 0); err != nil {
		return refuseSignature(err)
	}
	return matchScope(x.host, x.sig)
}

// matchScope holds the credential scope against the host: AWS would take the
// signature for no other service or region, and neither may we.
func matchScope(h awsapi.Host, sig *signer.Signature) *refusal {
	if h.Accepts(sig.Service, sig.Region) {
		return nil
	}
	ref := scopeMismatch(h, sig)
	if sig.Service != h.Service {
		return ref // signing for another region would not help
	}
	ref.region = h.Region
	if h.S3 && h.Region == "" && h.Partition == "aws" {
		ref.region = "us-east-1" // the region of S3's global host
	}
	return ref
}

func scopeMismatch(h awsapi.Host, sig *signer.Signature) *refusal {
	switch {
	case sig.Service != h.Service:
		return refuse(awsapi.ErrScopeMismatch, "scope", "Credential should be scoped to correct service: %q. %s does not serve %q.", h.Service, h.Name, sig.Service)
	case sig.Region == "":
		return refuse(awsapi.ErrScopeMismatch, "scope", "%s takes no %s signatures; sign with %s", h.Name, signer.AlgorithmECDSA, signer.AlgorithmHMAC)
	case h.Region != "":
		return refuse(awsapi.ErrScopeMismatch, "scope", "Credential should be scoped to a valid region. %s expects %q, the signature says %q.", h.Name, h.Region, sig.Region)
	}
	return refuse(awsapi.ErrScopeMismatch, "scope", "Credential should be scoped to a valid region. %s is in partition %q, region %q is not.", h.Name, h.Partition, sig.Region)
}

// identify finds the holder of the access key id and the secret to verify with.
func (p *Pipeline) identify(x *exchange) *refusal {
	grant, secret, err := p.opt.Identities.Lookup(x.sig.AccessKeyID, x.sig.SecurityToken, p.opt.Now())
	if err != nil {
		return refuseIdentity(err)
	}
	x.grant, x.secret = grant, secret
	return x.confined()
}

// verify proves that the holder of the secret signed this request. Only from
// here on does the audit entry name the identity: before, anybody could have
// written its key id into a request.
func (p *Pipeline) verify(x *exchange) *refusal {
	token := x.sig.SecurityToken
	v, err := signer.Verify(x.in, x.sig, signer.Secret{AccessKeyID: x.sig.AccessKeyID, SecretAccessKey: x.secret, SessionToken: token}, signer.VerifyOptions{
		Now: p.opt.Now, BodyLimit: p.opt.BodyBuffer, ChunkLimit: p.opt.Chunk, EventLimit: p.opt.Event,
		Reserve: x.reserve, Keys: p.keys,
	})
	x.secret = ""
	if err != nil {
		return refuseSignature(err)
	}
	x.verified = v
	x.entry.AccessKeyID = x.grant.AccessKeyID
	x.entry.Identity = x.grant.Identity.Name
	x.entry.Signature = x.sig.Label()

	role, ok := p.opt.Roles[x.grant.Role]
	if !ok || !x.grant.Identity.HasRole(x.grant.Role) {
		return refuse(awsapi.ErrAccessDenied, "role", "identity %q may not use a role named %q; `countersign roles` lists those it may use", x.grant.Identity.Name, x.grant.Role)
	}
	x.role, x.entry.Role, x.entry.RoleARN = role, x.grant.Role, role.ARN
	return nil
}

// understand tells which operation the request asks for, and refuses those that
// would hand AWS keys to the client.
func (p *Pipeline) understand(x *exchange) *refusal {
	if awsapi.NeedsBody(x.host, x.in) {
		switch x.sig.Payload {
		case signer.PayloadChunked, signer.PayloadChunkedTrailer, signer.PayloadUnsignedTrailer:
			if !x.host.S3 {
				// A service that does not know the framing would read it as part of
				// the text, trailers and all: another call than the one judged here.
				return refuse(awsapi.ErrInvalidRequest, string(signer.ReasonUnsupported), "the body is sent in chunks (aws-chunked), which only S3 takes")
			}
		}
		body, err := x.verified.Buffer(p.opt.BodyBuffer)
		if err != nil {
			return refuseSignature(err)
		}
		if body == nil {
			body = []byte{} // read, and empty: nil would say that it was not read
		}
		x.bodyRead = body
	}
	region := x.sig.Region
	if region == "" {
		region = x.host.Region
	}
	if ref := p.account(x); ref != nil {
		return ref
	}
	in := awsapi.Input{Host: x.host, Request: x.in, Body: x.bodyRead, Region: region, AccountID: x.accountID}
	if x.sig.Form == signer.FormPost {
		x.call = identifyForm(in, x.sig.Post)
		x.describe()
	} else if ref := x.identifyCall(in); ref != nil {
		return ref
	}
	if ref := ambiguousCall(x.call); ref != nil {
		return ref
	}
	return p.credentialCall(x)
}

// identifyCall understands the request, with the memory that all requests share: a
// body of some kilobytes may unpack to megabytes.
func (x *exchange) identifyCall(in awsapi.Input) *refusal {
	var full error
	in.Reserve = func(n int64) error {
		err := x.reserve(n)
		if full == nil {
			full = err
		}
		return err
	}
	x.call = awsapi.Identify(in)
	x.describe()
	if full != nil {
		return refuse(awsapi.ErrThrottled, string(signer.ReasonNoMemory), "there is no memory to decompress the body now: %v", full)
	}
	return nil
}

// account finds out whose resources the call is about. A virtual session may act
// in another account than its role, and only the session knows.
func (p *Pipeline) account(x *exchange) *refusal {
	start := time.Now()
	defer func() { x.elsewhere += time.Since(start) }()
	switch {
	case len(x.grant.Session) > 0:
		if ref := p.credentialsFor(x); ref != nil {
			return ref
		}
		x.accountID = x.session.AccountID
	case x.role.ARN != "" || x.role.Policed:
		x.accountID = p.opt.Sessions.AccountID(x.in.Context(), x.grant.Role)
	}
	return nil
}

// ambiguousCall refuses a request that can be read in two ways. No policy can mean
// both, and nobody but AWS knows which of them it would do.
func ambiguousCall(c *awsapi.Call) *refusal {
	if !c.Ambiguous {
		return nil
	}
	return refuse(awsapi.ErrInvalidRequest, string(signer.ReasonAmbiguous), "the request can be read in two ways, so it is not sent: %s", c.Unknown)
}

// credentialCall refuses calls of tier A, whose answers carry AWS keys, except
// those that are answered with client credentials.
func (p *Pipeline) credentialCall(x *exchange) *refusal {
	if x.call.CredentialTier != "A" || p.opt.STS.Handles(x.call) || x.makesS3Session() {
		return nil
	}
	name := x.call.Service + ":" + x.call.Operation
	if x.call.Operation != "" && p.credentials[strings.ToLower(name)] {
		x.note("credential call let through by configuration")
		p.opt.Logger.Warn("a call whose answer carries AWS keys is let through, because credential_calls names it",
			zap.String("call", name), zap.String("identity", x.entry.Identity), zap.String("request_id", x.entry.RequestID))
		return nil
	}
	if x.call.Operation == "" {
		return refuse(awsapi.ErrAccessDenied, "credential call", "the call could not be understood (%s), and its answer might carry AWS credentials out of countersign, which never lets them leave", x.call.Unknown)
	}
	return refuse(awsapi.ErrAccessDenied, "credential call", "the answer to %s would carry AWS credentials out of countersign, which never lets them leave; "+
		"use a configured role instead (`--role`), or name the call in `credential_calls` if the client may really hold the keys", name)
}

// judge asks the role's policies.
func (p *Pipeline) judge(x *exchange) *refusal {
	set, err := x.role.Judge(x.grant.Identity.Boundary)
	if err != nil {
		p.opt.Logger.Error("no policies for role", zap.String("role", x.grant.Role), zap.Error(err))
		return refuse(awsapi.ErrAccessDenied, "policy unavailable", "the policies of role %q cannot be applied, so nothing is allowed: %v", x.grant.Role, err)
	}
	d := set.Decide(x.query(p.opt.Now()))
	x.entry.Reason, x.entry.Policy, x.entry.Statement = string(d.Reason), d.Policy, d.Statement
	if !d.Allow && x.role.Report {
		x.entry.Decision = audit.Report
	} else if !d.Allow {
		x.entry.Decision = audit.Deny
	}
	p.opt.Metrics.PolicyDecision(x.grant.Role, string(x.entry.Decision), string(d.Reason))
	if x.entry.Decision != audit.Deny {
		if p.opt.Observe != nil {
			p.opt.Observe(x.call)
		}
		return nil
	}
	ref := refuse(awsapi.ErrAccessDenied, string(d.Reason), "%s", d.Message)
	ref.policy, ref.statement = d.Policy, d.Statement
	return ref
}

// record reserves the line of the record. Where the record is required, nothing
// is signed without.
func (p *Pipeline) record(x *exchange) *refusal {
	pending, err := p.opt.Audit.Begin(x.in.Context())
	if err != nil {
		r := refuse(awsapi.ErrServiceUnavailable, "audit unavailable", "countersign signs nothing while its audit record cannot be written; its operator finds the cause in its log")
		r.cause = err
		return r
	}
	x.pending = pending
	return nil
}

// credentialsFor fetches the role session, or the virtual session's.
func (p *Pipeline) credentialsFor(x *exchange) *refusal {
	if x.session.Credentials.HasKeys() {
		return nil
	}
	start := time.Now()
	s, err := p.opt.STS.Session(x.in.Context(), x.grant)
	x.elsewhere += time.Since(start)
	if err != nil {
		return refuseSession(err)
	}
	x.session = s
	x.entry.SessionName = s.SessionName
	if s.RoleARN != "" {
		x.entry.RoleARN = s.RoleARN
	}
	return nil
}

// answer lets the STS of the proxy answer in place of AWS's.
func (p *Pipeline) answer(x *exchange) {
	start := time.Now()
	a := p.opt.STS.Answer(x.in.Context(), virtualsts.Request{
		Call: x.call, HTTP: x.in, Body: x.bodyRead, Grant: x.grant, RequestID: x.entry.RequestID,
	})
	x.elsewhere += time.Since(start)
	e := &x.entry
	e.AWSRequestID = a.AWSRequestID
	if a.Identity != "" {
		e.Identity = a.Identity
	}
	if a.Role != "" {
		e.Role = a.Role
	}
	if a.RoleARN != "" {
		e.RoleARN, e.SessionName = a.RoleARN, a.SessionName
	}
	if a.Err != nil {
		e.Decision, e.Reason = audit.Deny, string(a.Err.Reason)
		x.note(a.Err.Message)
	} else {
		x.note("client credentials " + a.AccessKeyID + " until " + a.Expires.UTC().Format(time.RFC3339))
	}
	h := x.w.Header()
	for name, values := range a.Header {
		h[name] = values
	}
	x.w.WriteHeader(a.Status)
	_, _ = x.w.Write(a.Body) // the client may have left
}

// unsigned decides about a request that carries no signature of ours: it is one
// of the STS calls that prove themselves by a token, or a rule names it.
func (p *Pipeline) unsigned(x *exchange) *refusal {
	if x.entry.Signature == "" {
		x.entry.Signature = "none"
	}
	rule := p.unsignedRule(x)
	if x.host.Service == "sts" || rule && x.host.Service != "" {
		if ref := p.unsignedCall(x); ref != nil {
			return ref
		}
		if p.opt.STS.Handles(x.call) && virtualsts.Unsigned(x.call) {
			x.entry.Reason = "web identity"
			return p.record(x)
		}
	}
	switch {
	case rule && (x.call == nil || !p.opt.STS.Handles(x.call)):
		x.entry.Reason = "unsigned rule"
		return p.record(x)
	case x.host.Name == "": // the endpoint listener learns from the signature which host is meant
		return refuse(awsapi.ErrMissingAuthentication, "unsigned", "the request carries no signature; sign it with countersign's client credentials (`countersign env` shows them)")
	case x.host.Service == "":
		return refuse(awsapi.ErrAccessDenied, "foreign host", "%s is not an AWS API endpoint and no rule in `unsigned` names it for %s", x.host.Name, x.in.Method)
	}
	return refuse(awsapi.ErrMissingAuthentication, "unsigned", "the request carries no signature; sign it with countersign's client credentials (`countersign env` shows them), "+
		"or name %s and %s in `unsigned` if it needs none", x.host.Name, x.in.Method)
}

// unsignedBody bounds the body of an unsigned call that has to be read: the longest
// is a SAML assertion of 100,000 characters, percent-encoded.
const unsignedBody = 1 << 20

// unsignedCall tells what an unsigned request asks for, and refuses what would
// hand AWS keys to whoever asks.
func (p *Pipeline) unsignedCall(x *exchange) *refusal {
	if awsapi.NeedsBody(x.host, x.in) {
		var ref *refusal
		x.budget = &p.strangers
		if x.bodyRead, ref = x.holdBody(min(p.opt.BodyBuffer, unsignedBody)); ref != nil {
			return ref
		}
	}
	if ref := x.identifyCall(awsapi.Input{Host: x.host, Request: x.in, Body: x.bodyRead, Region: x.host.Region}); ref != nil {
		return ref
	}
	if ref := ambiguousCall(x.call); ref != nil {
		return ref
	}
	return p.credentialCall(x)
}

func (p *Pipeline) unsignedRule(x *exchange) bool {
	for _, u := range p.opt.Unsigned {
		if u.Match(x.host.Name) && u.matchesMethod(x.in.Method) {
			return true
		}
	}
	return false
}

func (u *UnsignedRule) matchesMethod(m string) bool {
	if len(u.Methods) == 0 {
		return m == http.MethodGet || m == http.MethodHead
	}
	for _, allowed := range u.Methods {
		if strings.EqualFold(allowed, m) {
			return true
		}
	}
	return false
}

// contextKey finds the exchange in the context of the outgoing request.
type contextKey struct{}

func exchangeOf(ctx context.Context) *exchange { return ctx.Value(contextKey{}).(*exchange) }
