package rolesession

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/countersign-proxy/countersign/rolesession/ststest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const deployARN = "arn:aws:iam::123456789012:role/Deploy"

var alice = Principal{Name: "alice", Attributes: map[string]string{"team": "platform"}}

// clock is a clock that the test moves.
type clock struct{ at atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	// Not fixed: the SDK signs with the machine's clock.
	c.at.Store(time.Now().UTC().Truncate(time.Second).UnixNano())
	return c
}

func (c *clock) Now() time.Time          { return time.Unix(0, c.at.Load()).UTC() }
func (c *clock) Advance(d time.Duration) { c.at.Add(int64(d)) }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type fixture struct {
	*Manager
	server *ststest.Server
	clock  *clock
	events *eventLog
}

type eventLog struct {
	mu   sync.Mutex
	list []Event
	seen chan struct{}
}

func (l *eventLog) add(e Event) {
	l.mu.Lock()
	l.list = append(l.list, e)
	l.mu.Unlock()
	l.seen <- struct{}{}
}

// wait waits until n calls were reported in all.
func (l *eventLog) wait(t *testing.T, n int) []Event {
	t.Helper()
	for {
		l.mu.Lock()
		list := slices.Clone(l.list)
		l.mu.Unlock()
		if len(list) >= n {
			return list
		}
		select {
		case <-l.seen:
		case <-time.After(30 * time.Second):
			t.Fatalf("%d STS calls, expected %d", len(list), n)
		}
	}
}

func newFixture(t *testing.T, roles map[string]Role, change ...func(*Options)) *fixture {
	t.Helper()
	f := &fixture{server: ststest.New(t), clock: newClock(), events: &eventLog{seen: make(chan struct{}, 1<<16)}}
	f.server.Now = f.clock.Now
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	opt := Options{
		Roles:      roles,
		Source:     aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return ststest.Source(), nil }),
		Endpoint:   f.server.URL,
		HTTPClient: &http.Client{Transport: transport},
		Client:     func(o *sts.Options) { o.RetryMaxAttempts = 1; o.Retryer = aws.NopRetryer{} },
		Now:        f.clock.Now,
		Rand:       zeros{},
		Observe:    f.events.add,
	}
	for _, c := range change {
		c(&opt)
	}
	m, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	f.Manager = m
	return f
}

func (f *fixture) mustCredentials(t *testing.T, role string, p Principal) Session {
	t.Helper()
	s, err := f.Credentials(t.Context(), role, p)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func kindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return ""
}

func TestEverythingOfAnEntryGoesIntoTheCall(t *testing.T) {
	f := newFixture(t, map[string]Role{"deploy": {
		ARN: deployARN, ExternalID: "ext:1", Duration: 2 * time.Hour,
		SessionName: "cs-{{ .Identity.Name }}", SourceIdentity: "{{ .Identity.Name }}@{{ .Role }}",
		Tags:              map[string]string{"team": "{{ .Identity.Attributes.team }}", "app": "countersign"},
		TransitiveTagKeys: []string{"team"},
		SessionPolicy:     `{"Version":"2012-10-17","Statement":[]}`,
		SessionPolicyARNs: []string{"arn:aws:iam::aws:policy/ReadOnlyAccess"},
	}})
	got := f.mustCredentials(t, "deploy", alice)
	want := map[string][]string{
		"Action": {"AssumeRole"}, "Version": {"2011-06-15"},
		"RoleArn": {deployARN}, "RoleSessionName": {"cs-alice"}, "DurationSeconds": {"7200"}, "ExternalId": {"ext:1"},
		"SourceIdentity":    {"alice@deploy"},
		"Tags.member.1.Key": {"app"}, "Tags.member.1.Value": {"countersign"},
		"Tags.member.2.Key": {"team"}, "Tags.member.2.Value": {"platform"},
		"TransitiveTagKeys.member.1": {"team"},
		"Policy":                     {`{"Version":"2012-10-17","Statement":[]}`},
		"PolicyArns.member.1.arn":    {"arn:aws:iam::aws:policy/ReadOnlyAccess"},
	}
	calls := f.server.Calls()
	if len(calls) != 1 {
		t.Fatalf("%d calls", len(calls))
	}
	if diff := cmp.Diff(want, map[string][]string(calls[0].Form)); diff != "" {
		t.Error(diff)
	}
	issued := f.server.Issued()[0]
	issued.Source = "countersign"
	wantSession := Session{
		Credentials: issued, RoleARN: deployARN, SessionName: "cs-alice", AccountID: "123456789012",
		ARN: "arn:aws:sts::123456789012:assumed-role/Deploy/cs-alice",
	}
	if diff := cmp.Diff(wantSession, got); diff != "" {
		t.Error(diff)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d"} {
		if text := fmt.Sprintf(verb, got); strings.Contains(text, issued.SecretAccessKey) || strings.Contains(text, issued.SessionToken) {
			t.Errorf("%s prints the credentials: %s", verb, text)
		}
	}
}

func TestAThousandFirstRequestsMakeOneCall(t *testing.T) {
	f := newFixture(t, map[string]Role{"deploy": {ARN: deployARN}})
	release := make(chan struct{})
	f.server.Refuse = func(ststest.Call) *ststest.Failure { <-release; return nil }
	var wg sync.WaitGroup
	var sessions sync.Map
	for range 1000 {
		wg.Go(func() {
			s, err := f.Credentials(t.Context(), "deploy", alice)
			if err != nil {
				t.Error(err)
			}
			sessions.Store(s.Credentials.AccessKeyID, true)
		})
	}
	// One of them leaves, and takes nobody along.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Credentials(ctx, "deploy", alice); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled caller: %v", err)
	}
	close(release)
	wg.Wait()
	n := 0
	sessions.Range(func(any, any) bool { n++; return true })
	if n != 1 || len(f.server.Calls()) != 1 {
		t.Errorf("%d sessions by %d calls", n, len(f.server.Calls()))
	}
}

func TestTheCallerWhoBeganACallMayLeave(t *testing.T) {
	f := newFixture(t, map[string]Role{"deploy": {ARN: deployARN}})
	arrived, release := make(chan struct{}), make(chan struct{})
	f.server.Refuse = func(ststest.Call) *ststest.Failure { close(arrived); <-release; return nil }
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error)
	go func() { _, err := f.Credentials(ctx, "deploy", alice); first <- err }()
	<-arrived
	second := make(chan error)
	go func() { _, err := f.Credentials(context.Background(), "deploy", alice); second <- err }()
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("first: %v", err)
	}
	close(release)
	if err := <-second; err != nil {
		t.Errorf("second: %v", err)
	}
	if n := len(f.server.Calls()); n != 1 {
		t.Errorf("%d calls", n)
	}
}

func TestWhatGoesIntoTheCallSeparatesSessions(t *testing.T) {
	base := Role{ARN: deployARN}
	roles := map[string]Role{"base": base, "same": base}
	for name, change := range map[string]func(*Role){
		"arn":    func(r *Role) { r.ARN = "arn:aws:iam::123456789012:role/Other" },
		"ext":    func(r *Role) { r.ExternalID = "xx" },
		"length": func(r *Role) { r.Duration = 30 * time.Minute },
		"name":   func(r *Role) { r.SessionName = "fixed" },
		"source": func(r *Role) { r.SourceIdentity = "fixed" },
		"tags":   func(r *Role) { r.Tags = map[string]string{"a": "b"} },
		"policy": func(r *Role) { r.SessionPolicy = "{}" },
		"arns":   func(r *Role) { r.SessionPolicyARNs = []string{"arn:aws:iam::aws:policy/ReadOnlyAccess"} },
		"via":    func(r *Role) { r.Via = "base" },
	} {
		r := base
		change(&r)
		roles[name] = r
	}
	f := newFixture(t, roles)
	seen := map[string]string{}
	for _, name := range sortedKeys(roles) {
		for _, p := range []Principal{alice, {Name: "bob"}, {Name: "alice", Attributes: map[string]string{"team": "other"}}} {
			s := f.mustCredentials(t, name, p)
			id := fmt.Sprint(name, p)
			if other, ok := seen[s.Credentials.AccessKeyID]; ok && !(strings.HasPrefix(other, "base") && name == "same") {
				t.Errorf("%s shares a session with %s", id, other)
			}
			seen[s.Credentials.AccessKeyID] = id
		}
	}
	// "same" is the same call as "base", and via needs base's session, which is there.
	if got, want := len(f.server.Calls()), (len(roles)-1)*3; got != want {
		t.Errorf("%d calls, expected %d", got, want)
	}
}

func TestSessionIsRefreshedInTheBackgroundWellBeforeItsEnd(t *testing.T) {
	f := newFixture(t, map[string]Role{"deploy": {ARN: deployARN}})
	first := f.mustCredentials(t, "deploy", alice)
	f.clock.Advance(44 * time.Minute)
	if s := f.mustCredentials(t, "deploy", alice); s.Credentials != first.Credentials || len(f.server.Calls()) != 1 {
		t.Fatal("refreshed too early")
	}
	f.clock.Advance(2 * time.Minute)
	if s := f.mustCredentials(t, "deploy", alice); s.Credentials != first.Credentials {
		t.Fatal("a caller had to wait for the refresh")
	}
	events := f.events.wait(t, 2)
	if !events[1].Background || events[1].Outcome != OutcomeOK {
		t.Errorf("event %+v", events[1])
	}
	f.Close() // waits for the refresh to be stored
	infos := f.Sessions()
	if len(infos) != 0 {
		t.Errorf("after Close: %v", infos)
	}
}

func TestRefreshedSessionTakesOver(t *testing.T) {
	f := newFixture(t, map[string]Role{"deploy": {ARN: deployARN}})
	first := f.mustCredentials(t, "deploy", alice)
	f.clock.Advance(50 * time.Minute)
	f.mustCredentials(t, "deploy", alice)
	f.events.wait(t, 2)
	f.work.Wait()
	if s := f.mustCredentials(t, "deploy", alice); s.Credentials.AccessKeyID == first.Credentials.AccessKeyID {
		t.Error("the old session still serves")
	}
	want := []Info{{Role: "deploy", Principal: "alice", RoleARN: deployARN, SessionName: "alice", Expires: f.clock.Now().Add(time.Hour)}}
	if diff := cmp.Diff(want, f.Sessions()); diff != "" {
		t.Error(diff)
	}
}

func TestJitterMovesTheRefreshEarlier(t *testing.T) {
	e := &entry{}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := Session{Credentials: aws.Credentials{Expires: now.Add(time.Hour)}}
	for jitter, want := range map[float64]time.Duration{0: 45 * time.Minute, 0.5: 42 * time.Minute, 1: 39 * time.Minute} {
		if e.store(s, now, jitter); e.refreshAt.Sub(now) != want {
			t.Errorf("jitter %v: refresh after %s, expected %s", jitter, e.refreshAt.Sub(now), want)
		}
	}
}

func TestValidSessionServesWhileSTSIsDownAndAnExpiredOneNever(t *testing.T) {
	f := newFixture(t, map[string]Role{"deploy": {ARN: deployARN}})
	var down atomic.Bool
	f.server.Refuse = func(ststest.Call) *ststest.Failure {
		if down.Load() {
			return &ststest.Failure{Status: 503, Code: "ServiceUnavailable", Message: "down"}
		}
		return nil
	}
	first := f.mustCredentials(t, "deploy", alice)
	down.Store(true)
	f.clock.Advance(50 * time.Minute)
	for range 100 {
		if s := f.mustCredentials(t, "deploy", alice); s.Credentials != first.Credentials {
			t.Fatal("another session")
		}
	}
	f.events.wait(t, 2)
	f.work.Wait()
	for range 100 {
		f.mustCredentials(t, "deploy", alice)
	}
	f.work.Wait()
	if n := len(f.server.Calls()); n != 2 {
		t.Errorf("%d calls: a failed refresh must be tried again only after a pause", n)
	}
	f.clock.Advance(10*time.Minute - 11*time.Second)
	f.mustCredentials(t, "deploy", alice)
	f.work.Wait()
	f.clock.Advance(2 * time.Second)
	if _, err := f.Credentials(t.Context(), "deploy", alice); kindOf(err) != KindUnreachable {
		t.Errorf("near its end: %v", err)
	}
	down.Store(false)
	f.clock.Advance(time.Minute)
	if s := f.mustCredentials(t, "deploy", alice); s.Credentials.AccessKeyID == first.Credentials.AccessKeyID {
		t.Error("the expired session is served")
	}
}

func TestRefusedRoleDoesNotHammerSTS(t *testing.T) {
	f := newFixture(t, map[string]Role{"deploy": {ARN: deployARN}})
	f.server.Refuse = func(ststest.Call) *ststest.Failure {
		return &ststest.Failure{Status: 403, Code: "AccessDenied", Message: "User: arn:aws:iam::123456789012:user/source is not authorized to perform: sts:AssumeRole on resource: " + deployARN}
	}
	for range 50 {
		if _, err := f.Credentials(t.Context(), "deploy", alice); kindOf(err) != KindDenied {
			t.Fatal(err)
		}
	}
	if n := len(f.server.Calls()); n != 1 {
		t.Errorf("%d calls", n)
	}
	// The pause doubles: 5, 10, 20, 40, 60, 60 … seconds.
	for range 3600 {
		f.clock.Advance(time.Second)
		f.Credentials(t.Context(), "deploy", alice)
	}
	if n := len(f.server.Calls()); n < 55 || n > 70 {
		t.Errorf("%d calls in an hour", n)
	}
}

func TestFailuresSayWhatHappenedAndWhatToDo(t *testing.T) {
	user := "User: arn:aws:iam::123456789012:user/source is not authorized to perform: sts:AssumeRole on resource: " + deployARN
	for _, tt := range []struct {
		name    string
		failure ststest.Failure
		want    Error
		has     []string
		retry   bool
	}{
		{"denied", ststest.Failure{Status: 403, Code: "AccessDenied", Message: user},
			Error{Kind: KindDenied, Caller: "arn:aws:iam::123456789012:user/source", Code: "AccessDenied", Detail: user},
			[]string{deployARN, "trust policy", "sts:TagSession", "sts:SetSourceIdentity", "external id"}, false},
		{"bad duration", ststest.Failure{Status: 400, Code: "ValidationError", Message: "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."},
			Error{Kind: KindBadInput, Code: "ValidationError", Detail: "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."},
			[]string{"maximum session duration"}, false},
		{"packed policy", ststest.Failure{Status: 400, Code: "PackedPolicyTooLarge", Message: "Packed size 108%"},
			Error{Kind: KindBadInput, Code: "PackedPolicyTooLarge", Detail: "Packed size 108%"}, []string{"Shorten the session policy"}, false},
		{"region", ststest.Failure{Status: 403, Code: "RegionDisabledException", Message: "STS is not activated in this region"},
			Error{Kind: KindRegionDisabled, Code: "RegionDisabledException", Detail: "STS is not activated in this region"}, []string{"source.sts_region", "us-east-1"}, false},
		{"throttled", ststest.Failure{Status: 400, Code: "Throttling", Message: "Rate exceeded"},
			Error{Kind: KindThrottled, Code: "Throttling", Detail: "Rate exceeded"}, []string{"rate"}, true},
		{"down", ststest.Failure{Status: 500, Code: "InternalFailure", Message: "oops"},
			Error{Kind: KindUnreachable, Code: "InternalFailure", Detail: "oops"}, []string{"oops"}, true},
		{"expired source", ststest.Failure{Status: 403, Code: "ExpiredToken", Message: "The security token included in the request is expired"},
			Error{Kind: KindSource, Code: "ExpiredToken", Detail: "The security token included in the request is expired"}, []string{"renew"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, map[string]Role{"deploy": {ARN: deployARN, SourceIdentity: "x1", Tags: map[string]string{"a": "b"}, ExternalID: "e1"}})
			f.server.Refuse = func(ststest.Call) *ststest.Failure { return &tt.failure }
			_, err := f.Credentials(t.Context(), "deploy", alice)
			var got *Error
			if !errors.As(err, &got) {
				t.Fatal(err)
			}
			for _, word := range tt.has {
				if !strings.Contains(got.Message, word) {
					t.Errorf("%q is missing in: %s", word, got.Message)
				}
			}
			if got.Retryable() != tt.retry {
				t.Errorf("Retryable() = %v", got.Retryable())
			}
			tt.want.Role, tt.want.RoleARN, tt.want.RequestID, tt.want.Message = "deploy", deployARN, "ststest-failed", got.Message
			if diff := cmp.Diff(tt.want, *got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestUnreachableSTSIsRetryable(t *testing.T) {
	f := newFixture(t, map[string]Role{"deploy": {ARN: deployARN}}, func(o *Options) { o.Endpoint = "http://127.0.0.1:1" })
	_, err := f.Credentials(t.Context(), "deploy", alice)
	var e *Error
	if !errors.As(err, &e) || e.Kind != KindUnreachable || !e.Retryable() || !strings.Contains(e.Message, deployARN) {
		t.Errorf("%v", err)
	}
}

func TestSourceCredentialFailures(t *testing.T) {
	secret := "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	for _, tt := range []struct {
		name string
		err  error
		has  string
	}{
		{"sso", errors.New("failed to refresh cached credentials, the SSO session has expired or is invalid"), `Run "aws sso login --profile dev"`},
		{"nothing", errors.New("failed to refresh cached credentials, no EC2 IMDS role found"), "AWS_PROFILE"},
		{"profile", errors.New("failed to get shared config profile, dev"), "source.profile"},
		{"process output", errors.New(`error in credential_process: parse failed of process output: {"SecretAccessKey":"` + secret + `"}, error: unexpected EOF`), "withheld"},
		{"key in text", errors.New("could not use AKIAIOSFODNN7EXAMPLE with " + secret), "withheld"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fail := atomic.Bool{}
			fail.Store(true)
			f := newFixture(t, map[string]Role{"deploy": {ARN: deployARN}, "own": {}}, func(o *Options) {
				o.Profile = "dev"
				o.Source = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
					if fail.Load() {
						return aws.Credentials{}, tt.err
					}
					return ststest.Source(), nil
				})
			})
			for _, role := range []string{"deploy", "own"} {
				_, err := f.Credentials(t.Context(), role, alice)
				var e *Error
				if !errors.As(err, &e) || e.Kind != KindSource || e.Role != role || !strings.Contains(e.Message, tt.has) {
					t.Errorf("%s: %v", role, err)
				}
				if strings.Contains(fmt.Sprint(err), secret) {
					t.Error("the message holds the secret")
				}
			}
			// After somebody logged in, it works within the short pause.
			fail.Store(false)
			f.clock.Advance(time.Second)
			f.mustCredentials(t, "deploy", alice)
			f.mustCredentials(t, "own", alice)
		})
	}
}

func TestExpiredSourceCredentialsAreNotUsed(t *testing.T) {
	var expires atomic.Int64
	f := newFixture(t, map[string]Role{"own": {}}, func(o *Options) {
		o.Source = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			c := ststest.Source()
			c.CanExpire, c.Expires = true, time.Unix(expires.Load(), 0)
			return c, nil
		})
	})
	expires.Store(f.clock.Now().Add(time.Minute).Unix())
	f.mustCredentials(t, "own", alice)
	f.clock.Advance(time.Minute)
	if _, err := f.Credentials(t.Context(), "own", alice); kindOf(err) != KindSource || !strings.Contains(err.Error(), "expired at") {
		t.Errorf("%v", err)
	}
	expires.Store(f.clock.Now().Add(time.Hour).Unix())
	f.mustCredentials(t, "own", alice)
}

func TestViaChainsAndCapsAtAnHour(t *testing.T) {
	f := newFixture(t, map[string]Role{
		"hub":   {ARN: "arn:aws:iam::111111111111:role/Hub", Duration: 4 * time.Hour},
		"spoke": {ARN: "arn:aws:iam::222222222222:role/Spoke", Via: "hub"},
		"rim":   {ARN: "arn:aws:iam::333333333333:role/Rim", Via: "spoke"},
	})
	if s := f.mustCredentials(t, "rim", alice); s.AccountID != "333333333333" {
		t.Errorf("%+v", s)
	}
	var got [][3]string
	for _, c := range f.server.Calls() {
		got = append(got, [3]string{c.Caller, c.Form.Get("RoleArn"), c.Form.Get("DurationSeconds")})
	}
	want := [][3]string{
		{"arn:aws:iam::123456789012:user/source", "arn:aws:iam::111111111111:role/Hub", "14400"},
		{"arn:aws:sts::111111111111:assumed-role/Hub/alice", "arn:aws:iam::222222222222:role/Spoke", "3600"},
		{"arn:aws:sts::222222222222:assumed-role/Spoke/alice", "arn:aws:iam::333333333333:role/Rim", "3600"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	f.mustCredentials(t, "spoke", alice)
	f.mustCredentials(t, "hub", alice)
	if n := len(f.server.Calls()); n != 3 {
		t.Errorf("%d calls: the sessions on the way serve by themselves", n)
	}
}

func TestSourceThatIsARoleSessionLowersTheDuration(t *testing.T) {
	role := aws.Credentials{AccessKeyID: "ASIAINSTANCEROLE0000", SecretAccessKey: "s3cret", SessionToken: "tok"}
	f := newFixture(t, map[string]Role{"deploy": {ARN: deployARN, Duration: 4 * time.Hour}}, func(o *Options) {
		o.Source = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return role, nil })
	})
	f.server.AddRole(role, "arn:aws:sts::123456789012:assumed-role/Instance/i-1")
	s := f.mustCredentials(t, "deploy", alice)
	if want := f.clock.Now().Add(time.Hour); !s.Credentials.Expires.Equal(want) {
		t.Errorf("expires %s, expected %s", s.Credentials.Expires, want)
	}
	f.mustCredentials(t, "deploy", Principal{Name: "bob"})
	var got []string
	for _, c := range f.server.Calls() {
		got = append(got, c.Form.Get("DurationSeconds"))
	}
	if diff := cmp.Diff([]string{"14400", "3600", "3600"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestAssumeChainsFromASessionAndKeepsTheResult(t *testing.T) {
	f := newFixture(t, map[string]Role{"deploy": {
		ARN: deployARN, SourceIdentity: "{{ .Identity.Name }}", Tags: map[string]string{"team": "platform"}, ClientSessionName: PrefixSessionName,
	}})
	target := "arn:aws:iam::999999999999:role/Target"
	req := Request{Principal: alice, Links: []Link{{Role: "deploy"}, {
		RoleARN: target, SessionName: "terraform", ExternalID: "theirs", Duration: 7200, SourceIdentity: "mallory",
		Tags: []Tag{{"Team", "root"}, {"run", "7"}}, TransitiveTagKeys: []string{"run", "team"}, Policy: `{"p":1}`,
	}}}
	got, err := f.Assume(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	call := f.server.Calls()[1]
	want := map[string][]string{
		"Action": {"AssumeRole"}, "Version": {"2011-06-15"}, "RoleArn": {target}, "RoleSessionName": {"alice.terraform"},
		"ExternalId": {"theirs"}, "DurationSeconds": {"3600"}, "SourceIdentity": {"alice"}, "Policy": {`{"p":1}`},
		"Tags.member.1.Key": {"run"}, "Tags.member.1.Value": {"7"}, "Tags.member.2.Key": {"team"}, "Tags.member.2.Value": {"platform"},
		"TransitiveTagKeys.member.1": {"run"},
	}
	if diff := cmp.Diff(want, map[string][]string(call.Form)); diff != "" {
		t.Error(diff)
	}
	if call.Caller != "arn:aws:sts::123456789012:assumed-role/Deploy/alice" {
		t.Errorf("caller %s", call.Caller)
	}
	if got.SourceIdentity != "alice" || got.ID != "AROATEST:alice.terraform" || got.PackedPolicySize == nil || !got.Repeatable || got.AccountID != "999999999999" {
		t.Errorf("%+v", got)
	}
	s, err := f.Session(t.Context(), req)
	if err != nil || s.Credentials != got.Credentials || len(f.server.Calls()) != 2 {
		t.Errorf("%v, %v after %d calls", s, err, len(f.server.Calls()))
	}
	// What the client asked for is asked for again each time it asks.
	again, err := f.Assume(t.Context(), req)
	if err != nil || again.Credentials.AccessKeyID == got.Credentials.AccessKeyID {
		t.Errorf("%v, %v", again, err)
	}
	// And once forgotten (a restart, another replica), the same call makes it again.
	f.Invalidate()
	if _, err := f.Session(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	last := f.server.Calls()[len(f.server.Calls())-1]
	if diff := cmp.Diff(call, last); diff != "" {
		t.Error(diff)
	}
}

func TestSessionThatOutlivesItsUseIsNotRefreshed(t *testing.T) {
	f := newFixture(t, map[string]Role{"deploy": {ARN: deployARN}})
	req := Request{Principal: alice, Links: []Link{{Role: "deploy", SessionName: "tf"}}}
	got, err := f.Assume(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	req.Until = got.Credentials.Expires
	f.clock.Advance(55 * time.Minute)
	if _, err := f.Session(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	f.work.Wait()
	if n := len(f.server.Calls()); n != 1 {
		t.Errorf("%d calls", n)
	}
}

func TestClientCannotWidenAnEntry(t *testing.T) {
	f := newFixture(t, map[string]Role{
		"deploy": {ARN: deployARN, Duration: time.Hour, SessionPolicy: `{"own":1}`, ExternalID: "own"},
		"own":    {},
	})
	for name, link := range map[string]Link{
		"policy":        {Role: "deploy", Policy: `{"client":1}`},
		"policy arns":   {Role: "deploy", PolicyARNs: []string{"arn:aws:iam::aws:policy/AdministratorAccess"}},
		"other role":    {Role: "deploy", RoleARN: "arn:aws:iam::123456789012:role/Admin"},
		"operation":     {Role: "deploy", Operation: OpGetFederationToken},
		"source":        {Role: "own", SessionName: "x"},
		"repeated tags": {Role: "deploy", Tags: []Tag{{"a", "1"}, {"A", "2"}}},
	} {
		if _, err := f.Assume(t.Context(), Request{Principal: alice, Links: []Link{link}}); kindOf(err) != KindBadInput {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(f.server.Calls()); n != 0 {
		t.Fatalf("%d calls", n)
	}
	_, err := f.Assume(t.Context(), Request{Principal: alice, Links: []Link{{Role: "deploy", Duration: 43200, ExternalID: "theirs"}}})
	if err != nil {
		t.Fatal(err)
	}
	form := f.server.Calls()[0].Form
	if form.Get("DurationSeconds") != "3600" || form.Get("ExternalId") != "own" || form.Get("Policy") != `{"own":1}` {
		t.Errorf("%v", form)
	}
	// The entry's session policy holds on the next hop too.
	chain := []Link{{Role: "deploy"}, {RoleARN: "arn:aws:iam::999999999999:role/Target"}}
	if _, err := f.Assume(t.Context(), Request{Principal: alice, Links: chain}); err != nil {
		t.Fatal(err)
	}
	if got := f.server.Calls()[1].Form.Get("Policy"); got != `{"own":1}` {
		t.Errorf("chained without the entry's policy: %q", got)
	}
}

func TestMFAIsForOneCall(t *testing.T) {
	f := newFixture(t, map[string]Role{"own": {}})
	req := Request{Principal: alice, Links: []Link{{Role: "own"}, {Operation: OpGetSessionToken, SerialNumber: "arn:aws:iam::123456789012:mfa/me", TokenCode: "123456"}}}
	got, err := f.Assume(t.Context(), req)
	if err != nil || got.Repeatable {
		t.Fatalf("%+v, %v", got, err)
	}
	if form := f.server.Calls()[0].Form; form.Get("TokenCode") != "123456" || form.Get("SerialNumber") == "" {
		t.Errorf("%v", form)
	}
	if e := f.events.wait(t, 1); len(e) != 1 || !e[0].Once {
		t.Errorf("it is reported as one that is renewed: %+v", e)
	}
	if _, err := f.Session(t.Context(), req); kindOf(err) != KindBadInput {
		t.Errorf("%v", err)
	}
	req.Links = append(req.Links, Link{RoleARN: deployARN})
	if _, err := f.Assume(t.Context(), req); kindOf(err) != KindBadInput {
		t.Errorf("%v", err)
	}
}

func TestAccountOfTheSourceCredentialsIsAskedForOnce(t *testing.T) {
	f := newFixture(t, map[string]Role{"own": {}, "deploy": {ARN: deployARN}})
	if got := f.AccountID(t.Context(), "deploy"); got != "123456789012" || len(f.server.Calls()) != 0 {
		t.Errorf("%q", got)
	}
	if s := f.mustCredentials(t, "own", alice); s.AccountID != "" || s.Credentials.AccessKeyID != ststest.SourceKeyID {
		t.Errorf("%+v", s)
	}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if got := f.AccountID(t.Context(), "own"); got != ststest.Account {
				t.Errorf("%q", got)
			}
		})
	}
	wg.Wait()
	if s := f.mustCredentials(t, "own", alice); s.AccountID != ststest.Account {
		t.Errorf("%+v", s)
	}
	if account, arn, err := f.Caller(t.Context()); account != ststest.Account || arn != "arn:aws:iam::123456789012:user/source" || err != nil {
		t.Errorf("%q %q %v", account, arn, err)
	}
	if diff := cmp.Diff([]string{"GetCallerIdentity"}, f.server.Actions()); diff != "" {
		t.Error(diff)
	}
}

// Who does not want to wait for STS does not have to, and finds the answer later.
func TestCallerIsAskedInTheBackground(t *testing.T) {
	f := newFixture(t, map[string]Role{"own": {}})
	asked, answer := make(chan struct{}), make(chan struct{})
	f.server.Refuse = func(ststest.Call) *ststest.Failure {
		close(asked) // a second call would panic
		<-answer
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	if _, _, err := f.Caller(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	close(answer)
	if account, _, err := f.Caller(t.Context()); account != ststest.Account || err != nil {
		t.Errorf("%q, %v", account, err)
	}
}

func TestForgetsOnePrincipal(t *testing.T) {
	f := newFixture(t, map[string]Role{"deploy": {ARN: deployARN}})
	bob := Principal{Name: "bob"}
	before := f.mustCredentials(t, "deploy", alice)
	kept := f.mustCredentials(t, "deploy", bob)
	f.Forget(alice.Name)
	held := f.Sessions()
	if len(held) != 1 || held[0].Principal != "bob" {
		t.Errorf("held: %+v", held)
	}
	if s := f.mustCredentials(t, "deploy", bob); s.Credentials.AccessKeyID != kept.Credentials.AccessKeyID {
		t.Error("another's session was dropped")
	}
	if s := f.mustCredentials(t, "deploy", alice); s.Credentials.AccessKeyID == before.Credentials.AccessKeyID {
		t.Error("the session is still there")
	}
}

func TestUnknownAccountIsTolerated(t *testing.T) {
	f := newFixture(t, map[string]Role{"own": {}})
	f.server.Refuse = func(ststest.Call) *ststest.Failure {
		return &ststest.Failure{Status: 403, Code: "AccessDenied", Message: "no"}
	}
	for range 10 {
		if got := f.AccountID(t.Context(), "own"); got != "" {
			t.Errorf("%q", got)
		}
	}
	f.mustCredentials(t, "own", alice)
	if n := len(f.server.Calls()); n != 1 {
		t.Errorf("%d calls", n)
	}
}

func TestReloadKeepsWhatDidNotChange(t *testing.T) {
	roles := map[string]Role{"deploy": {ARN: deployARN}, "gone": {ARN: "arn:aws:iam::123456789012:role/Gone"}}
	f := newFixture(t, roles)
	before := f.mustCredentials(t, "deploy", alice)
	if err := f.SetRoles(map[string]Role{"deploy": {ARN: "nonsense"}}); err == nil || !strings.Contains(err.Error(), "roles.deploy.arn") {
		t.Errorf("%v", err)
	}
	f.mustCredentials(t, "gone", alice)
	if err := f.SetRoles(map[string]Role{"deploy": {ARN: deployARN}}); err != nil {
		t.Fatal(err)
	}
	if s := f.mustCredentials(t, "deploy", alice); s.Credentials != before.Credentials {
		t.Error("the session was made again")
	}
	if _, err := f.Credentials(t.Context(), "gone", alice); kindOf(err) != KindUnknownRole {
		t.Errorf("%v", err)
	}
}

func TestCacheIsBounded(t *testing.T) {
	f := newFixture(t, map[string]Role{"deploy": {ARN: deployARN}}, func(o *Options) { o.CacheSize = 3 })
	for i := range 10 {
		f.mustCredentials(t, "deploy", Principal{Name: fmt.Sprint("user", i)})
	}
	if n := len(f.Sessions()); n != 3 {
		t.Errorf("%d sessions", n)
	}
}

func TestCloseEndsCallsUnderWay(t *testing.T) {
	f := newFixture(t, map[string]Role{"deploy": {ARN: deployARN}})
	arrived, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	f.server.Refuse = func(ststest.Call) *ststest.Failure { close(arrived); <-release; return nil }
	got := make(chan error)
	go func() { _, err := f.Credentials(context.Background(), "deploy", alice); got <- err }()
	<-arrived
	f.Close()
	if err := <-got; kindOf(err) != KindClosed {
		t.Errorf("%v", err)
	}
	if _, err := f.Credentials(t.Context(), "deploy", alice); kindOf(err) != KindClosed {
		t.Errorf("%v", err)
	}
}

func TestRegionalEndpointOfThePartition(t *testing.T) {
	for _, tt := range []struct{ region, arn, host string }{
		{"", deployARN, "sts.us-east-1.amazonaws.com"},
		{"eu-central-1", deployARN, "sts.eu-central-1.amazonaws.com"},
		{"cn-north-1", "arn:aws-cn:iam::123456789012:role/R", "sts.cn-north-1.amazonaws.com.cn"},
		{"us-gov-west-1", "arn:aws-us-gov:iam::123456789012:role/R", "sts.us-gov-west-1.amazonaws.com"},
	} {
		var host string
		f := newFixture(t, map[string]Role{"r": {ARN: tt.arn}}, func(o *Options) {
			o.Region, o.Endpoint = tt.region, ""
			o.HTTPClient = doer(func(r *http.Request) (*http.Response, error) {
				host = r.URL.Host
				return nil, errors.New("stop here")
			})
		})
		f.Credentials(t.Context(), "r", alice)
		f.Close()
		if host != tt.host {
			t.Errorf("%s: %s, expected %s", tt.region, host, tt.host)
		}
	}
}

type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }

func BenchmarkCachedCredentials(b *testing.B) {
	server := ststest.New(b)
	m, err := New(Options{
		Roles: map[string]Role{"deploy": {ARN: deployARN}}, Endpoint: server.URL, HTTPClient: server.Client(),
		Source: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return ststest.Source(), nil }),
	})
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Credentials(b.Context(), "deploy", alice); err != nil {
			b.Fatal(err)
		}
	}
}
