// Package ststest stands in for STS in tests: it verifies each request's
// signature with the SDK's own signer and issues sessions that it remembers.
// Like AWS it caps role chaining at an hour, and unlike AWS it has no policies:
// whom to refuse is up to the test.
package ststest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// The source credentials that every Server knows: an IAM user's.
const (
	SourceKeyID  = "AKIASOURCEUSER000000"
	SourceSecret = "source-secret-of-the-test-0123456789abcd"
	Account      = "123456789012"
)

// Source are the source credentials.
func Source() aws.Credentials {
	return aws.Credentials{AccessKeyID: SourceKeyID, SecretAccessKey: SourceSecret}
}

// Call is one request that STS accepted the signature of.
type Call struct {
	Action string
	Caller string // ARN
	Form   url.Values
}

// Failure is an answer of STS that is not a success.
type Failure struct {
	Status  int
	Code    string
	Message string
}

// principal is whom an access key id belongs to.
type principal struct {
	secret, token, arn string
	session            bool
}

// Server is a stand-in for STS.
type Server struct {
	URL string

	// Refuse, when set, is asked before each call is answered; nil accepts.
	// It may block. Set it before the first request.
	Refuse func(Call) *Failure
	// Now is the server's clock for expirations; nil is time.Now.
	Now func() time.Time

	server *httptest.Server

	mu     sync.Mutex
	known  map[string]principal
	calls  []Call
	issued []aws.Credentials
}

// New starts a Server that ends with the test.
func New(t testing.TB) *Server {
	s := &Server{known: map[string]principal{
		SourceKeyID: {secret: SourceSecret, arn: "arn:aws:iam::" + Account + ":user/source"},
	}}
	s.server = httptest.NewServer(s)
	s.URL = s.server.URL
	t.Cleanup(s.server.Close)
	return s
}

// Client is an HTTP client without idle connections to outlive the test.
func (s *Server) Client() *http.Client { return s.server.Client() }

// Calls returns the calls with a right signature so far.
func (s *Server) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Call(nil), s.calls...)
}

// Actions returns the actions of Calls.
func (s *Server) Actions() []string {
	var out []string
	for _, c := range s.Calls() {
		out = append(out, c.Action)
	}
	return out
}

// Issued returns all credentials that were handed out.
func (s *Server) Issued() []aws.Credentials {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]aws.Credentials(nil), s.issued...)
}

// AddRole makes known credentials that are themselves a role session.
func (s *Server) AddRole(c aws.Credentials, arn string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[c.AccessKeyID] = principal{secret: c.SecretAccessKey, token: c.SessionToken, arn: arn, session: true}
}

// Forget makes credentials unknown, as after their deletion.
func (s *Server) Forget(accessKeyID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, accessKeyID)
}

// Verify checks the signature of a request and returns the caller's ARN.
func (s *Server) Verify(r *http.Request, body []byte) (string, *Failure) {
	p, f := s.verify(r, body)
	return p.arn, f
}

func (s *Server) verify(r *http.Request, body []byte) (principal, *Failure) {
	auth := r.Header.Get("Authorization")
	rest, ok := strings.CutPrefix(auth, "AWS4-HMAC-SHA256 Credential=")
	scope, _, _ := strings.Cut(rest, ",")
	parts := strings.Split(scope, "/")
	if !ok || len(parts) != 5 {
		return principal{}, &Failure{403, "MissingAuthenticationToken", "Request is missing Authentication Token"}
	}
	s.mu.Lock()
	p, ok := s.known[parts[0]]
	s.mu.Unlock()
	if !ok || r.Header.Get("X-Amz-Security-Token") != p.token {
		return principal{}, &Failure{403, "InvalidClientTokenId", "The security token included in the request is invalid."}
	}
	signed := strings.Split(strings.TrimPrefix(strings.Split(rest, ", ")[1], "SignedHeaders="), ";")
	again, err := http.NewRequest(r.Method, "http://"+r.Host+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		return principal{}, &Failure{400, "ValidationError", err.Error()}
	}
	again.ContentLength = int64(len(body))
	for _, name := range signed {
		if name != "host" && name != "content-length" {
			again.Header[http.CanonicalHeaderKey(name)] = r.Header.Values(name)
		}
	}
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil {
		return principal{}, &Failure{400, "IncompleteSignature", "Date must be in ISO-8601 'basic format'."}
	}
	sum := sha256.Sum256(body)
	creds := aws.Credentials{AccessKeyID: parts[0], SecretAccessKey: p.secret, SessionToken: p.token}
	if err := v4.NewSigner().SignHTTP(r.Context(), creds, again, hex.EncodeToString(sum[:]), parts[3], parts[2], at); err != nil {
		return principal{}, &Failure{400, "IncompleteSignature", err.Error()}
	}
	if again.Header.Get("Authorization") != auth {
		return principal{}, &Failure{403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided."}
	}
	return p, nil
}

// ServeHTTP answers one STS request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		fail(w, Failure{400, "ValidationError", err.Error()})
		return
	}
	var p principal
	if form.Get("Action") != "AssumeRoleWithSAML" {
		var f *Failure
		if p, f = s.verify(r, body); f != nil {
			fail(w, *f)
			return
		}
	}
	call := Call{Action: form.Get("Action"), Caller: p.arn, Form: form}
	s.mu.Lock()
	s.calls = append(s.calls, call)
	s.mu.Unlock()
	if s.Refuse != nil {
		if f := s.Refuse(call); f != nil {
			fail(w, *f)
			return
		}
	}
	s.answer(w, p, form)
}

func (s *Server) answer(w http.ResponseWriter, p principal, form url.Values) {
	duration := 3600
	if d := form.Get("DurationSeconds"); d != "" {
		duration, _ = strconv.Atoi(d)
	}
	action := form.Get("Action")
	switch action {
	case "AssumeRole", "AssumeRoleWithSAML":
		if p.session && duration > 3600 {
			fail(w, Failure{400, "ValidationError", "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"})
			return
		}
		arn := form.Get("RoleArn")
		parts := strings.SplitN(arn, ":", 6)
		if len(parts) != 6 {
			fail(w, Failure{400, "ValidationError", arn + " is invalid"})
			return
		}
		name := form.Get("RoleSessionName")
		if action == "AssumeRoleWithSAML" {
			name = "saml-user"
		}
		role := parts[5][strings.LastIndexByte(parts[5], '/')+1:]
		assumed := fmt.Sprintf("arn:%s:sts::%s:assumed-role/%s/%s", parts[1], parts[4], role, name)
		extra := ""
		if id := form.Get("SourceIdentity"); id != "" {
			extra = "<SourceIdentity>" + id + "</SourceIdentity>"
		}
		if form.Get("Policy") != "" {
			extra += "<PackedPolicySize>6</PackedPolicySize>"
		}
		if action == "AssumeRoleWithSAML" {
			extra += "<Subject>saml-user</Subject><SubjectType>persistent</SubjectType><Issuer>https://idp.example/saml</Issuer><Audience>https://signin.aws.amazon.com/saml</Audience><NameQualifier>q=</NameQualifier>"
		}
		s.result(w, action, fmt.Sprintf("<AssumedRoleUser><Arn>%s</Arn><AssumedRoleId>AROATEST:%s</AssumedRoleId></AssumedRoleUser>%s", assumed, name, extra), assumed, duration)
	case "GetSessionToken":
		if p.session {
			fail(w, Failure{403, "AccessDenied", "Cannot call GetSessionToken with session credentials"})
			return
		}
		s.result(w, action, "", p.arn, duration)
	case "GetFederationToken":
		if p.session {
			fail(w, Failure{403, "AccessDenied", "Cannot call GetFederationToken with session credentials"})
			return
		}
		arn := "arn:aws:sts::" + Account + ":federated-user/" + form.Get("Name")
		s.result(w, action, fmt.Sprintf("<FederatedUser><Arn>%s</Arn><FederatedUserId>%s:%s</FederatedUserId></FederatedUser>", arn, Account, form.Get("Name")), arn, duration)
	case "AssumeRoot":
		s.result(w, action, "", "arn:aws:sts::"+form.Get("TargetPrincipal")+":assumed-root", duration)
	case "GetCallerIdentity":
		write(w, action, fmt.Sprintf("<Arn>%s</Arn><UserId>AIDATEST</UserId><Account>%s</Account>", p.arn, Account))
	default:
		fail(w, Failure{400, "InvalidAction", "Could not find operation " + action})
	}
}

// result issues a session and answers with it.
func (s *Server) result(w http.ResponseWriter, action, inner, arn string, duration int) {
	now := time.Now
	if s.Now != nil {
		now = s.Now
	}
	s.mu.Lock()
	n := len(s.issued) + 1
	c := aws.Credentials{
		AccessKeyID:     fmt.Sprintf("ASIA%016d", n),
		SecretAccessKey: fmt.Sprintf("real-secret-%028d", n),
		SessionToken:    fmt.Sprintf("real-session-token-%d-%s", n, strings.Repeat("x", 300)),
		CanExpire:       true,
		Expires:         now().UTC().Truncate(time.Second).Add(time.Duration(duration) * time.Second),
	}
	s.issued = append(s.issued, c)
	s.known[c.AccessKeyID] = principal{secret: c.SecretAccessKey, token: c.SessionToken, arn: arn, session: true}
	s.mu.Unlock()
	write(w, action, inner+fmt.Sprintf("<Credentials><AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken>%s</SessionToken><Expiration>%s</Expiration></Credentials>",
		c.AccessKeyID, c.SecretAccessKey, c.SessionToken, c.Expires.Format(time.RFC3339)))
}

func write(w http.ResponseWriter, action, inner string) {
	w.Header().Set("Content-Type", "text/xml")
	w.Header().Set("X-Amzn-Requestid", "ststest-"+action)
	fmt.Fprintf(w, `<%[1]sResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><%[1]sResult>%[2]s</%[1]sResult><ResponseMetadata><RequestId>ststest-%[1]s</RequestId></ResponseMetadata></%[1]sResponse>`, action, inner)
}

func fail(w http.ResponseWriter, f Failure) {
	w.Header().Set("Content-Type", "text/xml")
	w.Header().Set("X-Amzn-Requestid", "ststest-failed")
	w.WriteHeader(f.Status)
	var message bytes.Buffer
	_ = xml.EscapeText(&message, []byte(f.Message))
	fmt.Fprintf(w, `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error><RequestId>ststest-failed</RequestId></ErrorResponse>`, f.Code, message.String())
}
