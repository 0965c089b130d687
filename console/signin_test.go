package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"

	"github.com/countersign-proxy/countersign/rolesession"
)

const deployARN = "arn:aws:iam::210987654321:role/Deploy"

var alice = rolesession.Principal{Name: "alice"}

func TestSignIn(t *testing.T) {
	deploy := Role{Name: "deploy", ARN: deployARN, Duration: 2 * time.Hour}
	jump := Role{Name: "jump", ARN: "arn:aws:iam::123456789012:role/Jump"}
	chained := Role{Name: "chained", ARN: deployARN, Via: "jump"}
	for _, test := range []struct {
		name        string
		source      func(c *cloud) aws.Credentials
		roles       []Role
		destination string
		region      string
		want        Login
		life        time.Duration
		duration    []string // SessionDuration of each getSigninToken
	}{
		{name: "keys of a user", roles: []Role{deploy}, life: 2 * time.Hour, duration: []string{"7200"},
			want: Login{Role: "deploy", RoleARN: deployARN, SessionName: "alice", Account: "210987654321", Basis: BasisRequested,
				Destination: Destination{URL: "https://eu-west-1.console.aws.amazon.com/console/home?region=eu-west-1", Region: "eu-west-1"}}},
		{name: "chained by via", roles: []Role{chained, jump}, life: time.Hour, duration: []string{""}, destination: "s3",
			want: Login{Role: "chained", RoleARN: deployARN, SessionName: "alice", Account: "210987654321", Basis: BasisChained,
				Destination: Destination{URL: "https://eu-west-1.console.aws.amazon.com/s3/home?region=eu-west-1", Region: "eu-west-1"}}},
		{name: "chained by the source", roles: []Role{deploy}, life: time.Hour, duration: []string{""}, destination: "logs", region: "us-east-2",
			source: func(c *cloud) aws.Credentials { return c.assume(c.sandbox.Credentials(), jump.ARN, "machine") },
			want: Login{Role: "deploy", RoleARN: deployARN, SessionName: "alice", Account: "210987654321", Basis: BasisChained,
				Destination: Destination{URL: "https://us-east-2.console.aws.amazon.com/cloudwatch/home?region=us-east-2#logsV2:log-groups", Region: "us-east-2"}}},
		{name: "source that is a role session", roles: []Role{{Name: "source"}}, life: time.Hour, duration: []string{""},
			source: func(c *cloud) aws.Credentials { return c.assume(c.sandbox.Credentials(), jump.ARN, "machine") },
			want: Login{Role: "source", Account: "123456789012", Basis: BasisSource,
				Destination: Destination{URL: "https://eu-west-1.console.aws.amazon.com/console/home?region=eu-west-1", Region: "eu-west-1"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCloud(t, nil)
			source := c.sandbox.Credentials()
			if test.source != nil {
				source = test.source(c)
			}
			f := c.federation(c.sessions(source, test.roles...))
			before := time.Now()
			got, err := f.SignIn(t.Context(), Request{Principal: alice, Role: test.roles[0], Destination: test.destination, Region: test.region, Issuer: "http://127.0.0.1:8801/console/back"})
			if err != nil {
				t.Fatal(err)
			}
			if end := got.Until.Sub(before); end < test.life-time.Minute || end > test.life+time.Minute {
				t.Errorf("the session lasts %s, want %s", end, test.life)
			}
			if left := got.UseBefore.Sub(before); left < 14*time.Minute || left > 16*time.Minute {
				t.Errorf("the URL can be used for %s", left)
			}
			var durations []string
			for _, form := range c.asked("GetSigninToken") {
				durations = append(durations, form.Get("SessionDuration"))
			}
			if diff := cmp.Diff(test.duration, durations); diff != "" {
				t.Errorf("SessionDuration: %s", diff)
			}
			u, err := url.Parse(got.URL)
			if err != nil {
				t.Fatal(err)
			}
			query := u.Query()
			if len(query.Get("SigninToken")) < 40 {
				t.Error("no token")
			}
			query.Del("SigninToken")
			wantQuery := url.Values{"Action": {"login"}, "Issuer": {"http://127.0.0.1:8801/console/back"}, "Destination": {test.want.Destination.URL}}
			if diff := cmp.Diff(wantQuery, query); diff != "" || u.Host != "eu-west-1.signin.aws.amazon.com" || u.Path != "/federation" {
				t.Errorf("URL at %s%s: %s", u.Host, u.Path, diff)
			}
			status, location, _ := c.browse(got.URL)
			if status != http.StatusFound || location != test.want.Destination.URL {
				t.Errorf("the browser got %d to %q", status, location)
			}
			got.URL, got.Until, got.UseBefore, got.Destination.partition = "", time.Time{}, time.Time{}, partition{}
			if got != test.want {
				t.Errorf("got %#v %+v", got, struct{ A, B, C, D any }{got.Role, got.RoleARN, got.Account, got.Destination})
			}
		})
	}
}

// Temporary keys of GetSessionToken carry the ARN of a user like long-term ones,
// but a role assumed with them does not take SessionDuration.
func TestSessionDurationRefused(t *testing.T) {
	c := newCloud(t, nil)
	role := Role{Name: "deploy", ARN: deployARN}
	c.intercept(func(r *http.Request, body []byte) *http.Response {
		if strings.Contains(string(body), "SessionDuration") {
			return response(http.StatusBadRequest, "<html>")
		}
		return nil
	})
	login, err := c.federation(c.sessions(c.sandbox.Credentials(), role)).SignIn(t.Context(), Request{Principal: alice, Role: role})
	if err != nil || login.Basis != BasisRole {
		t.Fatalf("%v, %q", err, login.Basis)
	}
	if status, _, _ := c.browse(login.URL); status != http.StatusFound {
		t.Errorf("status %d", status)
	}
}

func TestFreshSessionWhenLittleIsLeft(t *testing.T) {
	c := newCloud(t, nil)
	role := Role{Name: "deploy", ARN: deployARN}
	m := c.sessions(c.sandbox.Credentials(), role)
	f := c.federation(m)
	held, err := m.Credentials(t.Context(), "deploy", alice)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		later time.Duration
		fresh bool
	}{{44 * time.Minute, false}, {46 * time.Minute, true}} {
		// SDK and sandbox go by the real clock, so it is the console's that is ahead.
		f.opt.Now = func() time.Time { return time.Now().Add(test.later) }
		if _, err := f.SignIn(t.Context(), Request{Principal: alice, Role: role}); err != nil {
			t.Fatal(err)
		}
		records := c.sandbox.Requests()
		i := len(records) - 1
		for records[i].Operation != "GetSigninToken" {
			i--
		}
		if fresh := records[i].AccessKeyID != held.Credentials.AccessKeyID; fresh != test.fresh {
			t.Errorf("after %s: fresh session %v, want %v", test.later, fresh, test.fresh)
		}
	}
}

// The keys of an IAM user sign in by GetFederationToken, where the role asks for it.
func TestFederationToken(t *testing.T) {
	allow := document("p.json", `{"Version": "2012-10-17", "Statement": {"Sid": "A", "Effect": "Allow", "Action": "s3:*", "Resource": "*"}}`)
	for _, test := range []struct {
		name string
		role Role
		who  rolesession.Principal
		want url.Values
		life time.Duration
	}{
		{"policy", Role{Federate: &Federate{Policy: &allow}, Limits: Limits{OwnPolicy: true}, Duration: 2 * time.Hour}, alice,
			url.Values{"Name": {"alice"}, "DurationSeconds": {"7200"}, "Policy": {`{"Version":"2012-10-17","Statement":{"Sid":"A","Effect":"Allow","Action":"s3:*","Resource":"*"}}`}}, 2 * time.Hour},
		{"managed policies for longer than a console session of a role", Role{Federate: &Federate{PolicyARNs: []string{"arn:aws:iam::aws:policy/B", "arn:aws:iam::aws:policy/A"}, Duration: 36 * time.Hour}}, rolesession.Principal{Name: "Ann Other"},
			url.Values{"Name": {"Ann-Other=dkgjxiqwqeab"}, "DurationSeconds": {"129600"}, "PolicyArns.member.1.arn": {"arn:aws:iam::aws:policy/A"}, "PolicyArns.member.2.arn": {"arn:aws:iam::aws:policy/B"}}, 36 * time.Hour},
		{"the role's limits", Role{Federate: &Federate{Duration: 15 * time.Minute}, Limits: Limits{Policies: []Document{allow}}}, alice,
			url.Values{"Name": {"alice"}, "DurationSeconds": {"900"}, "Policy": {`{"Version":"2012-10-17","Statement":[{"Action":"s3:*","Effect":"Allow","Resource":"*"}]}`}}, 15 * time.Minute},
		{"read only", Role{Federate: &Federate{Duration: time.Hour}, Limits: Limits{ReadOnly: true}}, alice,
			url.Values{"Name": {"alice"}, "DurationSeconds": {"3600"}, "PolicyArns.member.1.arn": {"arn:aws:iam::aws:policy/ReadOnlyAccess"}}, time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCloud(t, nil)
			test.role.Name = "source"
			f := c.federation(c.sessions(c.sandbox.Credentials(), test.role))
			before := time.Now()
			login, err := f.SignIn(t.Context(), Request{Principal: test.who, Role: test.role})
			if err != nil {
				t.Fatal(err)
			}
			test.want.Set("Action", "GetFederationToken")
			test.want.Set("Version", "2011-06-15")
			if diff := cmp.Diff([]url.Values{test.want}, c.asked("GetFederationToken")); diff != "" {
				t.Error(diff)
			}
			if signin := c.asked("GetSigninToken"); len(signin) != 1 || signin[0].Has("SessionDuration") {
				t.Error("SessionDuration fails the sign-in of a federated user")
			}
			if at := login.Until; at.Before(before.Add(test.life-time.Second)) || at.After(time.Now().Add(test.life+time.Second)) {
				t.Errorf("lasts until %s, want %s from %s on", at, test.life, before)
			}
			if login.Account != "123456789012" || !login.Limited || login.Basis != BasisFederation || login.SessionName != test.want.Get("Name") {
				t.Errorf("account %s, limited %v, by %s, named %s", login.Account, login.Limited, login.Basis, login.SessionName)
			}
			status, _, record := c.browse(login.URL)
			if status != http.StatusFound || record.Principal != "arn:aws:sts::123456789012:federated-user/"+test.want.Get("Name") {
				t.Errorf("AWS answered %d to %s", status, record.Principal)
			}
		})
	}
}

// STS silently gives a root user's federated session an hour, so no more is asked.
func TestFederationOfTheRootUser(t *testing.T) {
	c := newCloud(t, nil)
	c.intercept(func(r *http.Request, body []byte) *http.Response {
		if !strings.Contains(string(body), "Action=GetCallerIdentity") {
			return nil
		}
		return response(http.StatusOK, `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:root</Arn><UserId>123456789012</UserId><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`)
	})
	role := Role{Name: "source", Federate: &Federate{PolicyARNs: []string{"arn:aws:iam::aws:policy/ReadOnlyAccess"}, Duration: 8 * time.Hour}}
	f := c.federation(c.sessions(c.sandbox.Credentials(), role))
	if length, basis, err := f.Expect(t.Context(), role); length != time.Hour || basis != BasisFederation || err != nil {
		t.Errorf("expects %s by %s, %v", length, basis, err)
	}
	if _, err := f.SignIn(t.Context(), Request{Principal: alice, Role: role}); err != nil {
		t.Fatal(err)
	}
	if got := c.asked("GetFederationToken")[0].Get("DurationSeconds"); got != "3600" {
		t.Errorf("asked for %s seconds", got)
	}
}

// What a page says before it is done must be what comes.
func TestExpect(t *testing.T) {
	policy := []string{"arn:aws:iam::aws:policy/ReadOnlyAccess"}
	for _, test := range []struct {
		name   string
		role   Role
		source func(c *cloud) aws.Credentials
		length time.Duration
		basis  Basis
		kind   Kind
	}{
		{"keys of a user", Role{ARN: deployARN, Duration: 4 * time.Hour}, nil, 4 * time.Hour, BasisRequested, ""},
		{"via another role", Role{ARN: deployARN, Via: "via"}, nil, time.Hour, BasisChained, ""},
		{"a source that is a role", Role{ARN: deployARN, Duration: 4 * time.Hour}, machine, time.Hour, BasisChained, ""},
		{"the source itself", Role{}, machine, 0, BasisSource, ""},
		{"federation", Role{Federate: &Federate{PolicyARNs: policy, Duration: 36 * time.Hour}}, nil, 36 * time.Hour, BasisFederation, ""},
		{"federation of a role", Role{Federate: &Federate{PolicyARNs: policy}}, machine, 0, BasisSource, KindLimits},
		{"keys of a user alone", Role{}, nil, 0, BasisFederation, KindLongTerm},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCloud(t, nil)
			source := c.sandbox.Credentials()
			if test.source != nil {
				source = test.source(c)
			}
			test.role.Name = "r"
			f := c.federation(c.sessions(source, test.role, Role{Name: "via", ARN: "arn:aws:iam::123456789012:role/Via"}))
			length, basis, err := f.Expect(t.Context(), test.role)
			var known *Error
			if errors.As(err, &known); length != test.length || basis != test.basis || (err == nil) != (test.kind == "") || known != nil && known.Kind != test.kind {
				t.Fatalf("expects %s by %q, %v", length, basis, err)
			}
			before := time.Now()
			login, err := f.SignIn(t.Context(), Request{Principal: alice, Role: test.role})
			if test.kind != "" {
				if errors.As(err, &known); known == nil || known.Kind != test.kind {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil || login.Basis != basis {
				t.Fatalf("%v, by %q", err, login.Basis)
			}
			// AWS counts in seconds.
			if at := login.Until; length > 0 && (at.Before(before.Add(length-time.Second)) || at.After(time.Now().Add(length+time.Second))) {
				t.Errorf("lasts until %s, expected %s from %s on", at, length, before)
			}
		})
	}
}

// machine makes the source a role session, as on EC2 or with SSO.
func machine(c *cloud) aws.Credentials {
	return c.assume(c.sandbox.Credentials(), "arn:aws:iam::123456789012:role/Machine", "machine")
}

func TestSignInRefused(t *testing.T) {
	document := []Document{{"p.json", []byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`)}}
	unreachable := func(*http.Request, []byte) *http.Response { return response(http.StatusServiceUnavailable, "") }
	federationAnswers := func(status int, body string) func(r *http.Request, _ []byte) *http.Response {
		return func(r *http.Request, _ []byte) *http.Response {
			if r.URL.Path != "/federation" {
				return nil
			}
			return response(status, body)
		}
	}
	for _, test := range []struct {
		name        string
		role        Role
		source      func(c *cloud) aws.Credentials
		answer      func(r *http.Request, body []byte) *http.Response
		destination string
		kind        Kind
		text        string
		tries       int // at sign-in endpoints
	}{
		{name: "keys of a user alone", role: Role{Name: "source"}, kind: KindLongTerm, text: "GetFederationToken"},
		{name: "keys of a user with policies that nobody asked to federate", role: Role{Name: "source", Limits: Limits{Policies: document}}, kind: KindLongTerm, text: "federation_policy"},
		{name: "federation without a policy", role: Role{Name: "source", Federate: &Federate{Duration: time.Hour}}, kind: KindLimits, text: "could do nothing"},
		{name: "federation with a policy and limits", role: Role{Name: "source", Federate: &Federate{Policy: &document[0]}, Limits: Limits{Policies: document, OwnPolicy: true}}, kind: KindLimits, text: "do not intersect"},
		{name: "federation with a policy that is too long", role: Role{Name: "source", Federate: &Federate{Policy: &Document{"long.json", []byte(`{"Version":"2012-10-17","Id":"` + strings.Repeat("x", 2048) + `"}`)}}}, kind: KindLimits, text: "at most 2048"},
		{name: "federation with temporary keys", role: Role{Name: "source", Federate: &Federate{Policy: &document[0]}}, kind: KindLimits, text: "long-term keys", source: machine},
		{name: "limits on temporary source credentials", role: Role{Name: "source", Limits: Limits{Policies: document}}, kind: KindLimits, text: "Give it an arn",
			source: func(c *cloud) aws.Credentials { return c.assume(c.sandbox.Credentials(), deployARN, "machine") }},
		{name: "limits that cannot be told", role: Role{Name: "r", ARN: deployARN, Limits: Limits{Policies: document, ReadOnly: true}}, kind: KindLimits, text: "read_only"},
		{name: "foreign destination", role: Role{Name: "r", ARN: deployARN}, destination: "https://example.com/", kind: KindDestination, text: "not the AWS console"},
		{name: "STS does not answer", role: Role{Name: "r", ARN: deployARN}, answer: unreachable, kind: KindSession, text: "STS"},
		{name: "server errors", role: Role{Name: "r", ARN: deployARN, Via: "via"}, answer: federationAnswers(503, "x"), kind: KindUnreachable, text: "(503 Service Unavailable). Try again.", tries: 3},
		{name: "forbidden", role: Role{Name: "r", ARN: deployARN, Via: "via"}, answer: federationAnswers(403, "x"), kind: KindRefused, text: "revoked", tries: 1},
		{name: "bad request", role: Role{Name: "r", ARN: deployARN, Via: "via"}, answer: federationAnswers(400, "secret"), kind: KindRefused, text: "(400 Bad Request)", tries: 1},
		{name: "redirect", role: Role{Name: "r", ARN: deployARN, Via: "via"}, answer: federationAnswers(302, ""), kind: KindRefused, text: "302", tries: 1},
		{name: "no JSON", role: Role{Name: "r", ARN: deployARN, Via: "via"}, answer: federationAnswers(200, "<html>"), kind: KindRefused, text: "something else", tries: 1},
		{name: "no token", role: Role{Name: "r", ARN: deployARN, Via: "via"}, answer: federationAnswers(200, "{}"), kind: KindRefused, text: "something else", tries: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCloud(t, nil)
			source := c.sandbox.Credentials()
			if test.source != nil {
				source = test.source(c)
			}
			m := c.sessions(source, test.role, Role{Name: "via", ARN: "arn:aws:iam::123456789012:role/Via"})
			c.intercept(test.answer)
			login, err := c.federation(m).SignIn(t.Context(), Request{Principal: alice, Role: test.role, Destination: test.destination})
			var known *Error
			if !errors.As(err, &known) || known.Kind != test.kind || !strings.Contains(known.Message, test.text) {
				t.Fatalf("got %v, want %s with %q", err, test.kind, test.text)
			}
			if login != (Login{}) || strings.Contains(err.Error(), "secret") {
				t.Errorf("a failure came with %v: %v", login.URL != "", err)
			}
			var tried []string
			for _, h := range c.hosts {
				if strings.Contains(h, "signin") {
					tried = append(tried, h)
				}
			}
			want := []string{"eu-west-1.signin.aws.amazon.com", "signin.aws.amazon.com", "eu-west-1.signin.aws.amazon.com"}[:test.tries]
			if !slices.Equal(tried, want) {
				t.Errorf("tried %v, want %v", tried, want)
			}
		})
	}
}

// A second attempt at the endpoint that needs no region must log in there too: a
// token is good where it was had.
func TestSignInFallsBack(t *testing.T) {
	c := newCloud(t, nil)
	role := Role{Name: "r", ARN: deployARN, Via: "via"}
	m := c.sessions(c.sandbox.Credentials(), role, Role{Name: "via", ARN: "arn:aws:iam::123456789012:role/Via"})
	c.intercept(func(r *http.Request, _ []byte) *http.Response {
		if r.URL.Host == "eu-west-1.signin.aws.amazon.com" {
			return response(http.StatusBadGateway, "")
		}
		return nil
	})
	login, err := c.federation(m).SignIn(t.Context(), Request{Principal: alice, Role: role})
	if err != nil || !strings.HasPrefix(login.URL, "https://signin.aws.amazon.com/federation?") {
		t.Fatalf("%v", err)
	}
}

func TestSignInEndsWithItsContext(t *testing.T) {
	c := newCloud(t, nil)
	role := Role{Name: "r", ARN: deployARN}
	f := c.federation(c.sessions(c.sandbox.Credentials(), role))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.SignIn(ctx, Request{Principal: alice, Role: role}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestLoginIsNotPrinted(t *testing.T) {
	l := Login{URL: "https://signin.aws.amazon.com/federation?SigninToken=SECRET", RoleARN: deployARN}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		if got := fmt.Sprintf(verb, l); got != "console sign-in as "+deployARN {
			t.Errorf("%s printed %q", verb, got)
		}
	}
}

func TestFederatedName(t *testing.T) {
	for in, want := range map[string]string{
		"alice":                             "alice",
		"alice@example.com":                 "alice@example.com",
		"x":                                 "x=fvyrmqvxe2ye",
		"a very long name with spaces, too": "a-very-long-name-wi=q5wznxddjnys",
		"zürich/é":                          "z-rich--=kkw5afccr7rg",
		"a=b":                               "a=b=iike6ojzyp73",
	} {
		if got := federatedName(in); got != want || !federatedUser.MatchString(got) {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}
