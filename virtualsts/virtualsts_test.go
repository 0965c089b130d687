package virtualsts

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/aws/smithy-go"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/countersign-proxy/countersign/awsapi"
	"github.com/countersign-proxy/countersign/identity"
	"github.com/countersign-proxy/countersign/rolesession"
	"github.com/countersign-proxy/countersign/rolesession/ststest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	deployARN = "arn:aws:iam::123456789012:role/Deploy"
	readARN   = "arn:aws:iam::123456789012:role/Read"
	spokeARN  = "arn:aws:iam::222222222222:role/Spoke"
	adminARN  = "arn:aws:iam::123456789012:role/Admin"
	samlARN   = "arn:aws:iam::123456789012:role/Saml"
	secret    = "a-static-secret-of-the-test"
)

// replica is one proxy: a store, a manager and a service, behind a handler that
// does what a pipeline does before and after.
type replica struct {
	*Service
	store    *identity.Store
	sessions *rolesession.Manager
	sts      *ststest.Server
	now      atomic.Int64
	handler  http.Handler
	client   aws.HTTPClient

	mu      sync.Mutex
	answers []Answer
	sent    bytes.Buffer // every byte that clients received
}

type issuer struct {
	server *httptest.Server
	key    *ecdsa.PrivateKey
}

func newIssuer(t testing.TB) *issuer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{key: key}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(map[string]string{"issuer": i.server.URL, "jwks_uri": i.server.URL + "/keys"})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "1"}}})
	})
	i.server = httptest.NewServer(mux)
	t.Cleanup(i.server.Close)
	return i
}

func (i *issuer) token(t testing.TB, claims map[string]any) string {
	all := map[string]any{"iss": i.server.URL, "aud": "countersign", "sub": "system:serviceaccount:prod:app", "exp": time.Now().Add(time.Hour).Unix()}
	for k, v := range claims {
		all[k] = v
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: i.key, KeyID: "1"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(all).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

type setup struct {
	sts         *ststest.Server
	issuer      *issuer
	revocations string
}

func newSetup(t testing.TB) setup {
	s := setup{sts: ststest.New(t), issuer: newIssuer(t)}
	if dir := t.TempDir(); dir != "" {
		s.revocations = filepath.Join(dir, "revocations")
	}
	return s
}

func newReplica(t testing.TB, in setup) *replica {
	t.Helper()
	r := &replica{sts: in.sts}
	r.now.Store(time.Now().Truncate(time.Second).UnixNano())
	now := func() time.Time { return time.Unix(0, r.now.Load()).UTC() }
	key, err := identity.NewSealingKey(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	i, err := identity.NewIssuer(identity.IssuerOptions{
		URL: in.issuer.server.URL, Audience: []string{"countersign"}, HTTPClient: in.issuer.server.Client(),
		Identity: `pod:{{ .Claims.sub }}`, Roles: []string{"read"}, Match: map[string][]string{"sub": {"system:serviceaccount:prod:*"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	revocations, err := identity.OpenRevocations(in.revocations)
	if err != nil {
		t.Fatal(err)
	}
	pair := func(id, name, role string) identity.Static {
		return identity.Static{AccessKeyID: id, SecretAccessKey: secret, Identity: name, Role: role}
	}
	r.store, err = identity.New(identity.Options{
		Identities: []identity.Identity{
			{Name: "ci", Roles: []string{"deploy", "read", "own"}, Attributes: map[string]string{"team": "platform"}},
			{Name: "guest", Roles: []string{"read"}}, {Name: "federated", Roles: []string{"saml"}},
		},
		Static: []identity.Static{
			pair("CSIGDEPLOYAAAAAAAAAA", "ci", "deploy"), pair("CSIGREADAAAAAAAAAAAA", "ci", "read"),
			pair("CSIGOWNAAAAAAAAAAAAA", "ci", "own"), pair("CSIGGUESTAAAAAAAAAAA", "guest", "read"),
		},
		SealingKeys: []identity.SealingKey{key}, Revocations: revocations, Issuers: []*identity.Issuer{i}, Now: now,
	})
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	roles := map[string]rolesession.Role{
		"deploy": {ARN: deployARN, SourceIdentity: "{{ .Identity.Name }}", Tags: map[string]string{"team": "{{ .Identity.Attributes.team }}"}},
		"read":   {ARN: readARN, ClientSessionName: rolesession.PrefixSessionName},
		"own":    {},
		"saml":   {ARN: samlARN},
	}
	r.sessions, err = rolesession.New(rolesession.Options{
		Roles: roles, Endpoint: in.sts.URL, HTTPClient: &http.Client{Transport: transport}, Now: now,
		Client: func(o *sts.Options) { o.Retryer = aws.NopRetryer{} },
		Source: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return ststest.Source(), nil }),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.sessions.Close() })
	r.Service, err = New(Options{Identities: r.store, Sessions: r.sessions, Now: now, Roles: map[string]Role{
		"deploy": {ARN: deployARN, Assume: []string{"arn:aws:iam::2222*:role/Spoke*", "arn:aws:iam::333333333333:root"}},
		"read":   {ARN: readARN}, "own": {}, "saml": {ARN: samlARN, SAML: "federated"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	r.handler = http.HandlerFunc(r.serve)
	r.client = doer(func(q *http.Request) (*http.Response, error) {
		w := httptest.NewRecorder()
		in := q.Clone(q.Context())
		in.RequestURI = q.URL.RequestURI()
		in.Host = q.URL.Host
		if q.Body != nil {
			in.Body = q.Body
		}
		r.handler.ServeHTTP(w, in)
		return w.Result(), nil
	})
	return r
}

type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }

// serve does what a pipeline does: whose key is it, what is asked, and the answer.
// (That the signature is right is the business of another package.)
func (r *replica) serve(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(q.Body)
	if err != nil {
		panic(err)
	}
	host, _ := awsapi.LookupHost("sts.us-east-1.amazonaws.com")
	call := awsapi.Identify(awsapi.Input{Host: host, Request: q, Body: body, Region: "us-east-1"})
	request := Request{Call: call, HTTP: q, Body: body, RequestID: "proxy-request-id"}
	if auth := q.Header.Get("Authorization"); auth != "" {
		id, _, _ := strings.Cut(strings.TrimPrefix(auth, "AWS4-HMAC-SHA256 Credential="), "/")
		g, _, err := r.store.Lookup(id, q.Header.Get("X-Amz-Security-Token"), time.Unix(0, r.now.Load()))
		if err != nil {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, "<ErrorResponse><Error><Code>InvalidClientTokenId</Code><Message>%s</Message></Error></ErrorResponse>", err)
			return
		}
		request.Grant = g
	}
	a := r.Answer(q.Context(), request)
	r.mu.Lock()
	r.answers = append(r.answers, a)
	r.sent.Write(a.Body)
	r.mu.Unlock()
	for k, v := range a.Header {
		w.Header()[k] = v
	}
	w.WriteHeader(a.Status)
	w.Write(a.Body)
}

func (r *replica) as(c aws.Credentials) *sts.Client {
	return sts.New(sts.Options{Region: "us-east-1", HTTPClient: r.client, Retryer: aws.NopRetryer{},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return c, nil })})
}

func (r *replica) static(id string) *sts.Client {
	return r.as(aws.Credentials{AccessKeyID: id, SecretAccessKey: secret})
}

func (r *replica) last() Answer {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.answers[len(r.answers)-1]
}

func creds(c *types.Credentials) aws.Credentials {
	return aws.Credentials{AccessKeyID: *c.AccessKeyId, SecretAccessKey: *c.SecretAccessKey, SessionToken: *c.SessionToken}
}

// session is the real session that client credentials stand for.
func (r *replica) session(t testing.TB, c aws.Credentials) (rolesession.Session, error) {
	t.Helper()
	g, secret, err := r.store.Lookup(c.AccessKeyID, c.SessionToken, time.Unix(0, r.now.Load()))
	if err != nil {
		return rolesession.Session{}, err
	}
	if secret != c.SecretAccessKey {
		t.Fatal("the secret handed out is not the one that verifies")
	}
	return r.Session(t.Context(), g)
}

func codeOf(err error) string {
	var e smithy.APIError
	if errors.As(err, &e) {
		return e.ErrorCode()
	}
	return fmt.Sprint(err)
}

// leaked searches what clients received for real credentials.
func (r *replica) leaked(t testing.TB) {
	t.Helper()
	text := r.sent.String()
	for _, c := range append(r.sts.Issued(), ststest.Source()) {
		for _, s := range []string{c.AccessKeyID, c.SecretAccessKey, c.SessionToken} {
			if s != "" && strings.Contains(text, s) {
				t.Errorf("a client received %.12s…", s)
			}
		}
	}
}

func TestGrantedRoleIsAssumedAsItsEntrySays(t *testing.T) {
	r := newReplica(t, newSetup(t))
	out, err := r.static("CSIGREADAAAAAAAAAAAA").AssumeRole(t.Context(), &sts.AssumeRoleInput{
		RoleArn: aws.String(deployARN), RoleSessionName: aws.String("terraform"), ExternalId: aws.String("ext"), DurationSeconds: aws.Int32(43200),
		Policy: aws.String("{}"), Tags: []types.Tag{{Key: aws.String("team"), Value: aws.String("root")}, {Key: aws.String("run"), Value: aws.String("7")}},
		SourceIdentity: aws.String("mallory"),
	})
	if err != nil {
		t.Fatal(err)
	}
	issued := r.sts.Issued()
	if len(issued) != 1 {
		t.Fatalf("%d sessions", len(issued))
	}
	wantForm := url.Values{
		"Action": {"AssumeRole"}, "Version": {"2011-06-15"}, "RoleArn": {deployARN}, "RoleSessionName": {"terraform"}, "ExternalId": {"ext"},
		"DurationSeconds": {"3600"}, "Policy": {"{}"}, "SourceIdentity": {"ci"},
		"Tags.member.1.Key": {"run"}, "Tags.member.1.Value": {"7"}, "Tags.member.2.Key": {"team"}, "Tags.member.2.Value": {"platform"},
	}
	if diff := cmp.Diff(wantForm, r.sts.Calls()[0].Form); diff != "" {
		t.Error(diff)
	}
	c := creds(out.Credentials)
	want := &sts.AssumeRoleOutput{
		AssumedRoleUser: &types.AssumedRoleUser{Arn: aws.String("arn:aws:sts::123456789012:assumed-role/Deploy/terraform"), AssumedRoleId: aws.String("AROATEST:terraform")},
		Credentials:     &types.Credentials{AccessKeyId: &c.AccessKeyID, SecretAccessKey: &c.SecretAccessKey, SessionToken: &c.SessionToken, Expiration: aws.Time(issued[0].Expires)},
		SourceIdentity:  aws.String("ci"),
		//lint:ignore SA1019 clients read it
		PackedPolicySize: aws.Int32(6),
	}
	if diff := cmp.Diff(want, out, cmp.FilterPath(func(p cmp.Path) bool {
		return strings.HasSuffix(p.String(), "ResultMetadata") || strings.HasSuffix(p.String(), "noSmithyDocumentSerde")
	}, cmp.Ignore())); diff != "" {
		t.Error(diff)
	}
	if !strings.HasPrefix(c.AccessKeyID, "CSIG") {
		t.Errorf("access key id %s", c.AccessKeyID)
	}
	got, err := r.session(t, c)
	if err != nil {
		t.Fatal(err)
	}
	if got.Credentials.SecretAccessKey != issued[0].SecretAccessKey || got.SessionName != "terraform" || len(r.sts.Calls()) != 1 {
		t.Errorf("%v after %d calls", got, len(r.sts.Calls()))
	}
	a := r.last()
	if a.Identity != "ci" || a.Role != "deploy" || a.AccessKeyID != c.AccessKeyID || a.RoleARN != deployARN || a.SessionName != "terraform" || a.AWSRequestID != "ststest-AssumeRole" {
		t.Errorf("%+v", a)
	}
	if diff := cmp.Diff([]Issued{{AccessKeyID: c.AccessKeyID, Identity: "ci", Role: "deploy", RoleARN: deployARN, SessionName: "terraform", Operation: "AssumeRole",
		Issued: time.Unix(0, r.now.Load()).UTC(), Expires: issued[0].Expires}}, r.Issued()); diff != "" {
		t.Error(diff)
	}
	r.leaked(t)
}

func TestChainsFromTheSessionInForce(t *testing.T) {
	r := newReplica(t, newSetup(t))
	first, err := r.static("CSIGDEPLOYAAAAAAAAAA").AssumeRole(t.Context(), &sts.AssumeRoleInput{RoleArn: aws.String(spokeARN), RoleSessionName: aws.String("one")})
	if err != nil {
		t.Fatal(err)
	}
	second, err := r.as(creds(first.Credentials)).AssumeRole(t.Context(), &sts.AssumeRoleInput{RoleArn: aws.String(spokeARN + "2"), RoleSessionName: aws.String("two"), DurationSeconds: aws.Int32(7200)})
	if err != nil {
		t.Fatal(err)
	}
	var got [][4]string
	for _, c := range r.sts.Calls() {
		got = append(got, [4]string{c.Caller, c.Form.Get("RoleArn"), c.Form.Get("DurationSeconds"), c.Form.Get("SourceIdentity")})
	}
	want := [][4]string{
		{"arn:aws:iam::123456789012:user/source", deployARN, "3600", "ci"},
		{"arn:aws:sts::123456789012:assumed-role/Deploy/ci", spokeARN, "3600", "ci"},
		{"arn:aws:sts::222222222222:assumed-role/Spoke/one", spokeARN + "2", "3600", "ci"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	s, err := r.session(t, creds(second.Credentials))
	if err != nil || s.ARN != "arn:aws:sts::222222222222:assumed-role/Spoke2/two" {
		t.Errorf("%v %v", s, err)
	}
	r.leaked(t)
}

func TestReplicasMakeEachOthersSessionsAgain(t *testing.T) {
	in := newSetup(t)
	one, other := newReplica(t, in), newReplica(t, in)
	out, err := one.static("CSIGDEPLOYAAAAAAAAAA").AssumeRole(t.Context(), &sts.AssumeRoleInput{RoleArn: aws.String(spokeARN), RoleSessionName: aws.String("one")})
	if err != nil {
		t.Fatal(err)
	}
	before := len(in.sts.Calls())
	s, err := other.session(t, creds(out.Credentials))
	if err != nil || s.ARN != "arn:aws:sts::222222222222:assumed-role/Spoke/one" {
		t.Fatalf("%v %v", s, err)
	}
	calls := in.sts.Calls()
	if diff := cmp.Diff([]ststest.Call{calls[0], calls[1]}, calls[before:]); diff != "" {
		t.Errorf("the other replica asked for something else: %s", diff)
	}
	if err := identity.Revoke(in.revocations, time.Now(), identity.Revocation{ID: "CSIGDEPLOYAAAAAAAAAA"}); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*replica{one, other} {
		r.now.Add(int64(time.Second))
		var e *identity.Error
		if _, err := r.session(t, creds(out.Credentials)); !errors.As(err, &e) || e.Reason != identity.ReasonRevoked {
			t.Errorf("derived from a revoked key: %v", err)
		}
	}
}

// What the configuration no longer lets a role lead to ends for the sessions that
// were made while it did, those that travel in their tokens included.
func TestSessionsEndWithThePatternThatAdmittedThem(t *testing.T) {
	in := newSetup(t)
	r := newReplica(t, in)
	root := func(ctx context.Context, c *sts.Client) (*types.Credentials, error) {
		out, err := c.AssumeRoot(ctx, &sts.AssumeRootInput{TargetPrincipal: aws.String("333333333333"),
			TaskPolicyArn: &types.PolicyDescriptorType{Arn: aws.String("arn:aws:iam::aws:policy/root-task/S3UnlockBucketPolicy")}})
		if err != nil {
			return nil, err
		}
		return out.Credentials, nil
	}
	assume := func(arn string, change ...func(*sts.AssumeRoleInput)) *types.Credentials {
		t.Helper()
		in := &sts.AssumeRoleInput{RoleArn: aws.String(arn), RoleSessionName: aws.String("one")}
		for _, c := range change {
			c(in)
		}
		out, err := r.static("CSIGDEPLOYAAAAAAAAAA").AssumeRole(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		return out.Credentials
	}
	mfa := func(in *sts.AssumeRoleInput) {
		in.SerialNumber, in.TokenCode = aws.String("arn:aws:iam::123456789012:mfa/me"), aws.String("123456")
	}
	account, err := root(t.Context(), r.static("CSIGDEPLOYAAAAAAAAAA"))
	if err != nil {
		t.Fatal(err)
	}
	chained := map[string]*types.Credentials{"chained": assume(spokeARN), "chained, sealed": assume(spokeARN, mfa), "root": account}
	kept := map[string]*types.Credentials{"granted": assume(deployARN), "granted, sealed": assume(readARN, mfa)}
	for _, all := range []map[string]*types.Credentials{chained, kept} {
		for name, c := range all {
			if _, err := r.session(t, creds(c)); err != nil {
				t.Errorf("%s, before: %v", name, err)
			}
		}
	}
	r.Service, err = New(Options{Identities: r.store, Sessions: r.sessions, Now: r.opt.Now, Roles: map[string]Role{
		"deploy": {ARN: deployARN}, "read": {ARN: readARN}, "own": {}, "saml": {ARN: samlARN},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range kept {
		if _, err := r.session(t, creds(c)); err != nil {
			t.Errorf("%s, after: %v", name, err)
		}
	}
	before := len(in.sts.Calls())
	for name, c := range chained {
		var e *rolesession.Error
		if _, err := r.session(t, creds(c)); !errors.As(err, &e) || e.Kind != rolesession.KindDenied {
			t.Errorf("%s, after: %v", name, err)
		}
		if _, err := r.as(creds(c)).AssumeRole(t.Context(), &sts.AssumeRoleInput{RoleArn: aws.String(deployARN), RoleSessionName: aws.String("on")}); codeOf(err) != "AccessDenied" {
			t.Errorf("%s, as the start of another: %v", name, err)
		}
	}
	if calls := in.sts.Calls()[before:]; len(calls) != 0 {
		t.Errorf("STS was asked: %v", calls)
	}
}

func TestAttacks(t *testing.T) {
	r := newReplica(t, newSetup(t))
	assume := func(id, arn string, change ...func(*sts.AssumeRoleInput)) func(context.Context) error {
		return func(ctx context.Context) error {
			in := &sts.AssumeRoleInput{RoleArn: &arn, RoleSessionName: aws.String("xx")}
			for _, c := range change {
				c(in)
			}
			_, err := r.static(id).AssumeRole(ctx, in)
			return err
		}
	}
	narrow, err := r.static("CSIGDEPLOYAAAAAAAAAA").AssumeRole(t.Context(), &sts.AssumeRoleInput{RoleArn: aws.String(deployARN), RoleSessionName: aws.String("xx"), Policy: aws.String(`{"narrow":1}`)})
	if err != nil {
		t.Fatal(err)
	}
	// Of a session that MFA made nothing but the session itself is left to tell.
	narrowMFA, err := r.static("CSIGDEPLOYAAAAAAAAAA").AssumeRole(t.Context(), &sts.AssumeRoleInput{RoleArn: aws.String(deployARN), RoleSessionName: aws.String("xx"), Policy: aws.String(`{"narrow":1}`),
		SerialNumber: aws.String("arn:aws:iam::123456789012:mfa/bob"), TokenCode: aws.String("123456")})
	if err != nil {
		t.Fatal(err)
	}
	chained, err := r.as(creds(narrowMFA.Credentials)).AssumeRole(t.Context(), &sts.AssumeRoleInput{RoleArn: aws.String(spokeARN), RoleSessionName: aws.String("xx")})
	if err != nil {
		t.Fatal(err)
	}
	federated, err := r.static("CSIGOWNAAAAAAAAAAAAA").GetFederationToken(t.Context(), &sts.GetFederationTokenInput{Name: aws.String("bob")})
	if err != nil {
		t.Fatal(err)
	}
	before := len(r.sts.Calls())
	for _, tt := range []struct {
		name string
		do   func(context.Context) error
		want string
	}{
		{"role of nobody", assume("CSIGDEPLOYAAAAAAAAAA", adminARN), "AccessDenied"},
		{"role of another identity", assume("CSIGGUESTAAAAAAAAAAA", deployARN), "AccessDenied"},
		{"pattern of another role", assume("CSIGREADAAAAAAAAAAAA", spokeARN), "AccessDenied"},
		{"pattern does not cross a colon", assume("CSIGDEPLOYAAAAAAAAAA", "arn:aws:iam::222233334444:role/x:role/Spoke"), "ValidationError"},
		{"pattern names the path", assume("CSIGDEPLOYAAAAAAAAAA", "arn:aws:iam::222222222222:role/evil/Spoke"), "AccessDenied"},
		{"other partition", assume("CSIGDEPLOYAAAAAAAAAA", "arn:aws-cn:iam::222222222222:role/Spoke"), "AccessDenied"},
		{"too short", assume("CSIGDEPLOYAAAAAAAAAA", deployARN, func(in *sts.AssumeRoleInput) { in.DurationSeconds = aws.Int32(1) }), "ValidationError"},
		{"name of something else", assume("CSIGDEPLOYAAAAAAAAAA", deployARN, func(in *sts.AssumeRoleInput) { in.RoleSessionName = aws.String("a b") }), "ValidationError"},
		{"context assertions", assume("CSIGDEPLOYAAAAAAAAAA", deployARN, func(in *sts.AssumeRoleInput) {
			in.ProvidedContexts = []types.ProvidedContext{{ProviderArn: aws.String("arn:aws:iam::aws:contextProvider/IdentityCenter"), ContextAssertion: aws.String("abcd")}}
		}), "ValidationError"},
		{"out of a session policy", func(ctx context.Context) error {
			_, err := r.as(creds(narrow.Credentials)).AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: aws.String(deployARN), RoleSessionName: aws.String("xx")})
			return err
		}, "AccessDenied"},
		{"out of a session policy behind MFA", func(ctx context.Context) error {
			_, err := r.as(creds(narrowMFA.Credentials)).AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: aws.String(deployARN), RoleSessionName: aws.String("xx")})
			return err
		}, "AccessDenied"},
		{"out of a session policy behind MFA, by a chain", func(ctx context.Context) error {
			_, err := r.as(creds(chained.Credentials)).AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: aws.String(deployARN), RoleSessionName: aws.String("xx")})
			return err
		}, "AccessDenied"},
		{"out of a federation token", func(ctx context.Context) error {
			_, err := r.as(creds(federated.Credentials)).AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: aws.String(deployARN), RoleSessionName: aws.String("xx")})
			return err
		}, "AccessDenied"},
		{"root without a pattern", func(ctx context.Context) error {
			_, err := r.static("CSIGDEPLOYAAAAAAAAAA").AssumeRoot(ctx, &sts.AssumeRootInput{TargetPrincipal: aws.String("444444444444"),
				TaskPolicyArn: &types.PolicyDescriptorType{Arn: aws.String("arn:aws:iam::aws:policy/root-task/S3UnlockBucketPolicy")}})
			return err
		}, "AccessDenied"},
		{"unsigned", func(context.Context) error {
			return r.raw("POST", "/", "Action=AssumeRole&Version=2011-06-15&RoleSessionName=xx&RoleArn="+url.QueryEscape(deployARN))
		}, "AccessDenied"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.do(t.Context()); codeOf(err) != tt.want {
				t.Errorf("%v", err)
			}
		})
	}
	if calls := r.sts.Calls()[before:]; len(calls) != 0 {
		t.Errorf("STS was asked: %v", calls)
	}
	r.leaked(t)
}

// raw sends an unsigned request and returns its error as the SDK would see it.
func (r *replica) raw(method, target, body string) error {
	q := httptest.NewRequest(method, "https://sts.us-east-1.amazonaws.com"+target, strings.NewReader(body))
	q.RequestURI = target
	if body != "" {
		q.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	}
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, q)
	if w.Code == http.StatusOK {
		return nil
	}
	_, rest, _ := strings.Cut(w.Body.String(), "<Code>")
	code, _, _ := strings.Cut(rest, "</Code>")
	return &smithy.GenericAPIError{Code: code, Message: w.Body.String()}
}

// A client that asks for more than the cap gets the cap, by query string and by body.
func TestDurationIsLoweredHoweverItIsAskedFor(t *testing.T) {
	r := newReplica(t, newSetup(t))
	g, _, err := r.store.Lookup("CSIGDEPLOYAAAAAAAAAA", "", time.Unix(0, r.now.Load()))
	if err != nil {
		t.Fatal(err)
	}
	form := "Action=AssumeRole&Version=2011-06-15&RoleSessionName=xx&DurationSeconds=43200&RoleArn=" + url.QueryEscape(deployARN)
	for name, q := range map[string]*http.Request{
		"body":  httptest.NewRequest("POST", "https://sts.us-east-1.amazonaws.com/", nil),
		"query": httptest.NewRequest("GET", "https://sts.us-east-1.amazonaws.com/?"+form+"&X-Amz-Signature=abc", nil),
	} {
		body := ""
		if name == "body" {
			body = form
			q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		a := r.Answer(t.Context(), Request{Call: &awsapi.Call{Service: "sts", Operation: "AssumeRole"}, HTTP: q, Body: []byte(body), Grant: g})
		if a.Err != nil {
			t.Fatalf("%s: %v", name, a.Err)
		}
		calls := r.sts.Calls()
		if got := calls[len(calls)-1].Form.Get("DurationSeconds"); got != "3600" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestParametersThatCanBeReadInTwoWaysAreRefused(t *testing.T) {
	const arn = "arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2FDeploy"
	post := func(target, body, kind string) *http.Request {
		q := httptest.NewRequest("POST", "https://sts.us-east-1.amazonaws.com"+target, strings.NewReader(body))
		q.Header.Set("Content-Type", kind)
		return q
	}
	const form = "application/x-www-form-urlencoded"
	good := "Action=AssumeRole&Version=2011-06-15&RoleSessionName=xx&RoleArn=" + arn
	for _, tt := range []struct {
		name         string
		target, body string
		kind         string
		ok           bool
	}{
		{"good", "/", good, form, true},
		{"empty lists", "/", good + "&Tags=&PolicyArns=&TransitiveTagKeys=", form, true},
		{"empty values", "/", good + "&ExternalId=&Policy=", form, true},
		{"tags", "/", good + "&Tags.member.1.Key=a&Tags.member.1.Value=", form, true},
		{"twice", "/", good + "&RoleArn=" + arn, form, false},
		{"in query and body", "/?RoleArn=" + arn, good, form, false},
		{"semicolon", "/", good + ";ExternalId=x", form, false},
		{"plus in the query", "/?ExternalId=a+b", good, form, false},
		{"unknown parameter", "/", good + "&Future=1", form, false},
		{"unknown member", "/", good + "&Policy.Extra=1", form, false},
		{"gap in a list", "/", good + "&TransitiveTagKeys.member.2=a", form, false},
		{"list without members", "/", good + "&Tags=x", form, false},
		{"tag without a value", "/", good + "&Tags.member.1.Key=a", form, false},
		{"value without a tag", "/", good + "&Tags.member.1.Value=a", form, false},
		{"not a form", "/", good, "application/json", false},
		{"broken escape", "/", good + "&ExternalId=%zz", form, false},
		{"not text", "/", good + "&ExternalId=%ff", form, false},
		{"another action", "/", strings.Replace(good, "AssumeRole", "AssumeRoot", 1), form, false},
		{"code without device", "/", good + "&TokenCode=123456", form, false},
		{"negative duration", "/", good + "&DurationSeconds=-900", form, false},
		{"long duration", "/", good + "&DurationSeconds=4294968196", form, false},
		{"no role", "/", "Action=AssumeRole&RoleSessionName=xx", form, false},
		{"eleven policies", "/", good + manyPolicies(11), form, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := parseParameters(post(tt.target, tt.body, tt.kind), []byte(tt.body), "AssumeRole")
			if (err == nil) != tt.ok {
				t.Errorf("%v", err)
			}
			if err != nil && (err.Status != 400 || err.Code != "ValidationError" || p != nil) {
				t.Errorf("%+v %v", err, p)
			}
		})
	}
}

func manyPolicies(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "&PolicyArns.member.%d.arn=%s", i+1, url.QueryEscape("arn:aws:iam::aws:policy/ReadOnlyAccess"))
	}
	return b.String()
}

func FuzzParameters(f *testing.F) {
	f.Add("Action=AssumeRole&RoleSessionName=xx&RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2FDeploy", "DurationSeconds=900")
	f.Add("Action=AssumeRole&Tags.member.1.Key=a&Tags.member.1.Value=b", "")
	f.Fuzz(func(t *testing.T, body, query string) {
		q := &http.Request{Method: "POST", URL: &url.URL{RawQuery: query}, Header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}}
		p, err := parseParameters(q, []byte(body), "AssumeRole")
		if (p == nil) == (err == nil) {
			t.Fatal("neither or both")
		}
		if p != nil && (!rolePattern.MatchString(p.roleARN) || !namePattern.MatchString(p.sessionName) || p.duration != 0 && p.duration < 900) {
			t.Errorf("%+v", p)
		}
	})
}

func TestSessionTokensOfAUser(t *testing.T) {
	in := newSetup(t)
	r := newReplica(t, in)
	own := r.static("CSIGOWNAAAAAAAAAAAAA")
	plain, err := own.GetSessionToken(t.Context(), &sts.GetSessionTokenInput{})
	if err != nil {
		t.Fatal(err)
	}
	if got := r.last().RoleARN; got != "" {
		t.Errorf("role %s", got)
	}
	again := newReplica(t, in)
	if _, err := again.session(t, creds(plain.Credentials)); err != nil || len(in.sts.Calls()) != 2 {
		t.Errorf("made again: %v", err)
	}
	// With an MFA code it cannot be made again, and travels in the token.
	mfa, err := own.GetSessionToken(t.Context(), &sts.GetSessionTokenInput{SerialNumber: aws.String("arn:aws:iam::123456789012:mfa/me"), TokenCode: aws.String("123456")})
	if err != nil {
		t.Fatal(err)
	}
	before := len(in.sts.Calls())
	real := in.sts.Issued()[len(in.sts.Issued())-1]
	s, err := again.session(t, creds(mfa.Credentials))
	if err != nil || s.Credentials.AccessKeyID != real.AccessKeyID || s.Credentials.SessionToken != real.SessionToken || len(in.sts.Calls()) != before {
		t.Errorf("%v %v", s, err)
	}
	// And a role is chained from it as it is.
	again.now.Store(r.now.Load())
	admitting := compiledRole{Role: Role{}, assume: []arnPattern{mustPattern(t, "arn:aws:iam::222222222222:role/*")}}
	r.roles["own"], again.roles["own"] = admitting, admitting
	chained, err := r.as(creds(mfa.Credentials)).AssumeRole(t.Context(), &sts.AssumeRoleInput{RoleArn: aws.String(spokeARN), RoleSessionName: aws.String("mfa")})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := again.session(t, creds(chained.Credentials)); err != nil || s.ARN != "arn:aws:sts::222222222222:assumed-role/Spoke/mfa" {
		t.Errorf("%v %v", s, err)
	}
	if got := codeOf(func() error {
		_, err := r.static("CSIGDEPLOYAAAAAAAAAA").GetSessionToken(t.Context(), &sts.GetSessionTokenInput{})
		return err
	}()); got != "AccessDenied" {
		t.Errorf("of a role: %s", got)
	}
	r.leaked(t)
}

func mustPattern(t *testing.T, s string) arnPattern {
	t.Helper()
	p, err := parseARNPattern(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestFederationTokenAndRoot(t *testing.T) {
	r := newReplica(t, newSetup(t))
	fed, err := r.static("CSIGOWNAAAAAAAAAAAAA").GetFederationToken(t.Context(), &sts.GetFederationTokenInput{Name: aws.String("bob"), DurationSeconds: aws.Int32(129600), Policy: aws.String("{}")})
	if err != nil {
		t.Fatal(err)
	}
	if *fed.FederatedUser.Arn != "arn:aws:sts::123456789012:federated-user/bob" || *fed.FederatedUser.FederatedUserId != "123456789012:bob" {
		t.Errorf("%+v", fed.FederatedUser)
	}
	if form := r.sts.Calls()[0].Form; form.Get("DurationSeconds") != "129600" || form.Get("Name") != "bob" || form.Get("Policy") != "{}" {
		t.Errorf("%v", form)
	}
	root, err := r.static("CSIGDEPLOYAAAAAAAAAA").AssumeRoot(t.Context(), &sts.AssumeRootInput{TargetPrincipal: aws.String("333333333333"),
		TaskPolicyArn: &types.PolicyDescriptorType{Arn: aws.String("arn:aws:iam::aws:policy/root-task/S3UnlockBucketPolicy")}})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := r.session(t, creds(root.Credentials)); err != nil || s.AccountID != "333333333333" {
		t.Errorf("%v %v", s, err)
	}
	r.leaked(t)
}

func TestWebIdentityIsAnsweredByTheIssuersRules(t *testing.T) {
	in := newSetup(t)
	r := newReplica(t, in)
	token := in.issuer.token(t, nil)
	anonymous := r.as(aws.Credentials{})
	out, err := anonymous.AssumeRoleWithWebIdentity(t.Context(), &sts.AssumeRoleWithWebIdentityInput{RoleArn: aws.String(readARN), RoleSessionName: aws.String("botocore"), WebIdentityToken: &token})
	if err != nil {
		t.Fatal(err)
	}
	if *out.SubjectFromWebIdentityToken != "system:serviceaccount:prod:app" || *out.Audience != "countersign" || *out.Provider != in.issuer.server.URL {
		t.Errorf("%+v", out)
	}
	call := r.sts.Calls()[0]
	if call.Action != "AssumeRole" || !strings.HasPrefix(call.Form.Get("RoleSessionName"), "pod-system-serviceaccount-prod-app") {
		t.Errorf("%+v", call)
	}
	for _, values := range call.Form {
		if strings.Contains(strings.Join(values, ""), token[:20]) {
			t.Error("the token was sent to AWS")
		}
	}
	if s, err := r.session(t, creds(out.Credentials)); err != nil || s.RoleARN != readARN {
		t.Errorf("%v %v", s, err)
	}
	before := len(r.sts.Calls())
	for _, tt := range []struct {
		name, arn, token, want string
	}{
		{"role not granted", deployARN, token, "AccessDenied"},
		{"role of nobody", adminARN, token, "AccessDenied"},
		{"somebody else", readARN, in.issuer.token(t, map[string]any{"sub": "system:serviceaccount:dev:app"}), "AccessDenied"},
		{"expired", readARN, in.issuer.token(t, map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}), "ExpiredTokenException"},
		{"audience", readARN, in.issuer.token(t, map[string]any{"aud": "sts.amazonaws.com"}), "InvalidIdentityToken"},
		{"nonsense", readARN, "not a token", "InvalidIdentityToken"},
		{"oversized", readARN, in.issuer.token(t, map[string]any{"pad": strings.Repeat("x", 20000)}), "InvalidIdentityToken"},
	} {
		_, err := anonymous.AssumeRoleWithWebIdentity(t.Context(), &sts.AssumeRoleWithWebIdentityInput{RoleArn: &tt.arn, RoleSessionName: aws.String("xx"), WebIdentityToken: &tt.token})
		if codeOf(err) != tt.want {
			t.Errorf("%s: %v", tt.name, err)
		}
		if strings.Contains(fmt.Sprint(err), tt.token) {
			t.Errorf("%s: the message repeats the token", tt.name)
		}
	}
	if n := len(r.sts.Calls()); n != before {
		t.Errorf("%d more calls", n-before)
	}
	r.leaked(t)
}

func TestSAMLWhereARoleAllowsIt(t *testing.T) {
	r := newReplica(t, newSetup(t))
	out, err := r.as(aws.Credentials{}).AssumeRoleWithSAML(t.Context(), &sts.AssumeRoleWithSAMLInput{
		RoleArn: aws.String(samlARN), PrincipalArn: aws.String("arn:aws:iam::123456789012:saml-provider/Idp"), SAMLAssertion: aws.String("PHNhbWw+"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if *out.Subject != "saml-user" || *out.SubjectType != "persistent" || *out.Issuer != "https://idp.example/saml" || *out.NameQualifier != "q=" || *out.AssumedRoleUser.Arn != "arn:aws:sts::123456789012:assumed-role/Saml/saml-user" {
		t.Errorf("%+v", out)
	}
	if s, err := r.session(t, creds(out.Credentials)); err != nil || s.SessionName != "saml-user" || s.Credentials.AccessKeyID != r.sts.Issued()[0].AccessKeyID {
		t.Errorf("%v %v", s, err)
	}
	_, err = r.as(aws.Credentials{}).AssumeRoleWithSAML(t.Context(), &sts.AssumeRoleWithSAMLInput{
		RoleArn: aws.String(deployARN), PrincipalArn: aws.String("arn:aws:iam::123456789012:saml-provider/Idp"), SAMLAssertion: aws.String("PHNhbWw+"),
	})
	if codeOf(err) != "AccessDenied" || len(r.sts.Calls()) != 1 {
		t.Errorf("%v", err)
	}
	r.leaked(t)
}

func TestErrorsOfSTSArriveAsTheyAre(t *testing.T) {
	for _, tt := range []struct {
		failure ststest.Failure
		status  int
		code    string
	}{
		{ststest.Failure{Status: 403, Code: "AccessDenied", Message: "User: arn:aws:iam::1:user/x is not authorized"}, 403, "AccessDenied"},
		{ststest.Failure{Status: 400, Code: "MalformedPolicyDocument", Message: "Syntax errors <in> policy"}, 400, "MalformedPolicyDocument"},
		{ststest.Failure{Status: 400, Code: "PackedPolicyTooLarge", Message: "108%"}, 400, "PackedPolicyTooLarge"},
		{ststest.Failure{Status: 403, Code: "RegionDisabledException", Message: "STS is not activated"}, 403, "RegionDisabledException"},
		{ststest.Failure{Status: 400, Code: "Throttling", Message: "rate"}, 400, "Throttling"},
		{ststest.Failure{Status: 500, Code: "InternalFailure", Message: "oops"}, 503, "ServiceUnavailable"},
		{ststest.Failure{Status: 403, Code: "ExpiredToken", Message: "expired"}, 403, "AccessDenied"},
	} {
		in := newSetup(t)
		in.sts.Refuse = func(ststest.Call) *ststest.Failure { return &tt.failure }
		r := newReplica(t, in)
		_, err := r.static("CSIGDEPLOYAAAAAAAAAA").AssumeRole(t.Context(), &sts.AssumeRoleInput{RoleArn: aws.String(deployARN), RoleSessionName: aws.String("xx")})
		var e smithy.APIError
		if !errors.As(err, &e) || e.ErrorCode() != tt.code || !strings.Contains(e.ErrorMessage(), tt.failure.Message) {
			t.Errorf("%s: %v", tt.failure.Code, err)
		}
		if a := r.last(); a.Status != tt.status || a.Err == nil || a.Err.Reason != ReasonSTS || a.AWSRequestID != "ststest-failed" {
			t.Errorf("%s: %d %+v", tt.failure.Code, a.Status, a.Err)
		}
	}
}

func TestJSONForWhoeverAcceptsNothingElse(t *testing.T) {
	r := newReplica(t, newSetup(t))
	g, _, err := r.store.Lookup("CSIGDEPLOYAAAAAAAAAA", "", time.Unix(0, r.now.Load()))
	if err != nil {
		t.Fatal(err)
	}
	ask := func(arn string) Answer {
		q := httptest.NewRequest("GET", "https://sts.us-east-1.amazonaws.com/?Action=AssumeRole&RoleSessionName=xx&RoleArn="+url.QueryEscape(arn), nil)
		q.Header.Set("Accept", "application/json")
		return r.Answer(t.Context(), Request{Call: &awsapi.Call{Service: "sts", Operation: "AssumeRole"}, HTTP: q, Grant: g, RequestID: "proxy"})
	}
	a := ask(deployARN)
	var got struct {
		AssumeRoleResponse struct {
			AssumeRoleResult struct {
				Credentials struct {
					AccessKeyId string
					Expiration  int64
				}
				AssumedRoleUser struct{ Arn string }
			}
			ResponseMetadata struct{ RequestId string }
		}
	}
	if err := json.Unmarshal(a.Body, &got); err != nil {
		t.Fatal(err)
	}
	result := got.AssumeRoleResponse.AssumeRoleResult
	if result.Credentials.AccessKeyId != a.AccessKeyID || result.Credentials.Expiration != a.Expires.Unix() || result.AssumedRoleUser.Arn == "" || got.AssumeRoleResponse.ResponseMetadata.RequestId != "ststest-AssumeRole" {
		t.Errorf("%s", a.Body)
	}
	if a := ask(adminARN); a.Status != 403 || !bytes.Contains(a.Body, []byte(`"Code":"AccessDenied"`)) || !bytes.Contains(a.Body, []byte(`"RequestId":"proxy"`)) {
		t.Errorf("%s", a.Body)
	}
}

func TestAHundredSessionsAtOnce(t *testing.T) {
	r := newReplica(t, newSetup(t))
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			arn := fmt.Sprintf("arn:aws:iam::2222%08d:role/Spoke", i)
			out, err := r.static("CSIGDEPLOYAAAAAAAAAA").AssumeRole(t.Context(), &sts.AssumeRoleInput{RoleArn: &arn, RoleSessionName: aws.String("tf")})
			if err != nil {
				t.Error(err)
				return
			}
			if s, err := r.session(t, creds(out.Credentials)); err != nil || s.RoleARN != arn {
				t.Errorf("%v %v", s, err)
			}
		})
	}
	wg.Wait()
	if n := len(r.sts.Calls()); n != 101 {
		t.Errorf("%d STS calls", n)
	}
	if n := len(r.Issued()); n != 100 {
		t.Errorf("%d sessions listed", n)
	}
	r.leaked(t)
}

func TestStateOfAnotherVersionIsRefused(t *testing.T) {
	r := newReplica(t, newSetup(t))
	for _, text := range []string{"{}", "[]", `{"links":[]}`, `{"links":[{"role":"deploy"}],"sealed":{"k":"x"}}`, "\x00"} {
		g := identity.Grant{Identity: identity.Identity{Name: "ci", Roles: []string{"deploy"}}, Role: "deploy", Session: []byte(text)}
		if s, err := r.Session(t.Context(), g); err == nil {
			t.Errorf("%s: %v", text, s)
		}
	}
	expired := &sealed{AccessKeyID: "k", Expires: 1}
	b, err := state{Sealed: expired}.encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Session(t.Context(), identity.Grant{Role: "deploy", Session: b}); err == nil {
		t.Error("an expired session is served")
	}
	for _, verb := range []string{"%v", "%+v", "%#v"} {
		if text := fmt.Sprintf(verb, seal(rolesession.Session{Credentials: aws.Credentials{SecretAccessKey: "s3cr3t"}})); strings.Contains(text, "s3cr3t") {
			t.Errorf("%s prints the secret", verb)
		}
	}
}

func TestOptionsThatAreRefused(t *testing.T) {
	r := newReplica(t, newSetup(t))
	for pattern, want := range map[string]string{
		"*":                           `roles.r.assume: "*" is not a pattern of role ARNs, such as arn:aws:iam::*:role/Deploy`,
		"arn:aws:s3:::bucket":         `roles.r.assume: "arn:aws:s3:::bucket" is not a pattern of role ARNs, such as arn:aws:iam::*:role/Deploy`,
		"arn:aws:iam::12345:role/X":   `roles.r.assume: "arn:aws:iam::12345:role/X": an account has twelve digits`,
		"arn:aws:iam::1?3:role/x:foo": `roles.r.assume: "arn:aws:iam::1?3:role/x:foo" is not a pattern of role ARNs, such as arn:aws:iam::*:role/Deploy`,
	} {
		_, err := New(Options{Identities: r.store, Sessions: r.sessions, Roles: map[string]Role{"r": {Assume: []string{pattern}}}})
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v", pattern, err)
		}
	}
	if _, err := New(Options{}); err == nil {
		t.Error("made of nothing")
	}
}
