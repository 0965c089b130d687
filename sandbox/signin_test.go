package sandbox_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/countersign-proxy/countersign/sandbox"
)

const federation = "https://eu-west-1.signin.aws.amazon.com/federation"

func session(c aws.Credentials) string {
	b, _ := json.Marshal(map[string]string{"sessionId": c.AccessKeyID, "sessionKey": c.SecretAccessKey, "sessionToken": c.SessionToken})
	return string(b)
}

// send sends the parameters by the given method and returns status, body and Location.
func send(t *testing.T, s *sandbox.Server, method string, form url.Values) (int, string, string) {
	t.Helper()
	address, body := federation, ""
	if method == http.MethodPost {
		body = form.Encode()
	} else {
		address += "?" + form.Encode()
	}
	r, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	response, err := client(t, s).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(b), response.Header.Get("Location")
}

func TestSigninToken(t *testing.T) {
	s := start(t, sandbox.Options{})
	first := assume(t, config(t, s, s.Credentials()), role, "alice")
	chained := assume(t, config(t, s, first), role, "bob")
	forged := first
	forged.SecretAccessKey = strings.Repeat("x", 40)
	for _, test := range []struct {
		name string
		form url.Values
		want int
	}{
		{"plain", url.Values{"Session": {session(first)}}, 200},
		{"with type", url.Values{"Session": {session(first)}, "SessionType": {"json"}}, 200},
		{"with duration", url.Values{"Session": {session(first)}, "SessionDuration": {"43200"}}, 200},
		{"chained", url.Values{"Session": {session(chained)}}, 200},
		{"chained with duration", url.Values{"Session": {session(chained)}, "SessionDuration": {"3600"}}, 400},
		{"too short", url.Values{"Session": {session(first)}, "SessionDuration": {"899"}}, 400},
		{"too long", url.Values{"Session": {session(first)}, "SessionDuration": {"43201"}}, 400},
		{"other type", url.Values{"Session": {session(first)}, "SessionType": {"xml"}}, 400},
		{"long-term keys", url.Values{"Session": {session(s.Credentials())}}, 400},
		{"wrong secret", url.Values{"Session": {session(forged)}}, 403},
		{"no JSON", url.Values{"Session": {"x"}}, 400},
		{"two JSON values", url.Values{"Session": {session(first) + "{}"}}, 400},
		{"no session", url.Values{}, 400},
		{"unknown parameter", url.Values{"Session": {session(first)}, "Destination": {"https://console.aws.amazon.com/"}}, 400},
		{"repeated parameter", url.Values{"Session": {session(first), session(first)}}, 400},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			t.Run(test.name+" "+method, func(t *testing.T) {
				test.form.Set("Action", "getSigninToken")
				status, body, _ := send(t, s, method, test.form)
				if status != test.want {
					t.Fatalf("got %d, want %d: %s", status, test.want, body)
				}
				var out struct{ SigninToken string }
				if err := json.Unmarshal([]byte(body), &out); (err == nil && out.SigninToken != "") != (test.want == 200) {
					t.Errorf("body %s", body)
				}
			})
		}
	}
}

func TestLogin(t *testing.T) {
	var skew atomic.Int64
	s := start(t, sandbox.Options{Now: func() time.Time { return time.Now().Add(time.Duration(skew.Load())) }})
	credentials := assume(t, config(t, s, s.Credentials()), role, "alice")
	_, body, _ := send(t, s, http.MethodPost, url.Values{"Action": {"getSigninToken"}, "Session": {session(credentials)}})
	var out struct{ SigninToken string }
	if err := json.Unmarshal([]byte(body), &out); err != nil {
		t.Fatal(err)
	}
	const destination = "https://eu-west-1.console.aws.amazon.com/s3/home?region=eu-west-1#x"
	for _, test := range []struct {
		name, token, destination string
		later                    time.Duration
		want                     int
	}{
		{"as it should be", out.SigninToken, destination, 0, 302},
		{"just in time", out.SigninToken, destination, 14 * time.Minute, 302},
		{"late", out.SigninToken, destination, 15 * time.Minute, 400},
		{"unknown token", "x", destination, 0, 400},
		{"foreign destination", out.SigninToken, "https://console.aws.amazon.com.example.com/", 0, 400},
		{"destination without TLS", out.SigninToken, "http://console.aws.amazon.com/", 0, 400},
	} {
		t.Run(test.name, func(t *testing.T) {
			skew.Store(int64(test.later))
			defer skew.Store(0)
			status, body, location := send(t, s, http.MethodPost, url.Values{"Action": {"login"}, "Issuer": {"https://sso.example.org/"}, "Destination": {test.destination}, "SigninToken": {test.token}})
			if status != test.want || (location == test.destination) != (test.want == 302) {
				t.Errorf("got %d to %q, want %d: %s", status, location, test.want, body)
			}
			if test.want == 302 {
				records := s.Requests()
				if got := records[len(records)-1].Principal; got != "arn:aws:sts::210987654321:assumed-role/Deploy/alice" {
					t.Errorf("signed in as %q", got)
				}
			}
		})
	}
}

func TestFederatedUser(t *testing.T) {
	s := start(t, sandbox.Options{})
	client := sts.NewFromConfig(config(t, s, s.Credentials()))
	for _, test := range []struct {
		name string
		in   sts.GetFederationTokenInput
		want string
		life time.Duration
	}{
		{"default", sts.GetFederationTokenInput{Name: aws.String("alice"), Policy: aws.String("{}")}, "", 12 * time.Hour},
		{"longest", sts.GetFederationTokenInput{Name: aws.String("alice"), DurationSeconds: aws.Int32(129600)}, "", 36 * time.Hour},
		{"too long", sts.GetFederationTokenInput{Name: aws.String("alice"), DurationSeconds: aws.Int32(129601)}, "ValidationError", 0},
		{"too short", sts.GetFederationTokenInput{Name: aws.String("alice"), DurationSeconds: aws.Int32(899)}, "ValidationError", 0},
		{"long name", sts.GetFederationTokenInput{Name: aws.String(strings.Repeat("a", 33))}, "ValidationError", 0},
		{"no policy", sts.GetFederationTokenInput{Name: aws.String("alice"), Policy: aws.String("x")}, "MalformedPolicyDocument", 0},
		{"long policy", sts.GetFederationTokenInput{Name: aws.String("alice"), Policy: aws.String(`"` + strings.Repeat("x", 2047) + `"`)}, "MalformedPolicyDocument", 0},
	} {
		before := time.Now()
		out, err := client.GetFederationToken(t.Context(), &test.in)
		if code(err) != test.want {
			t.Errorf("%s: %v", test.name, err)
		}
		if test.want != "" {
			continue
		}
		if until := *out.Credentials.Expiration; until.Before(before.Add(test.life-2*time.Second)) || until.After(time.Now().Add(test.life+2*time.Second)) {
			t.Errorf("%s: lives for %s", test.name, until.Sub(before))
		}
		own := aws.Credentials{AccessKeyID: *out.Credentials.AccessKeyId, SecretAccessKey: *out.Credentials.SecretAccessKey, SessionToken: *out.Credentials.SessionToken}
		federated := sts.NewFromConfig(config(t, s, own))
		if who, err := federated.GetCallerIdentity(t.Context(), nil); err != nil || *who.Arn != "arn:aws:sts::123456789012:federated-user/alice" || *who.Arn != *out.FederatedUser.Arn {
			t.Errorf("%s: is %v, %v", test.name, who, err)
		}
		if _, err := federated.AssumeRole(t.Context(), &sts.AssumeRoleInput{RoleArn: aws.String(role), RoleSessionName: aws.String("x2")}); code(err) != "AccessDenied" {
			t.Errorf("%s: assumes a role: %v", test.name, err)
		}
		if _, err := federated.GetFederationToken(t.Context(), &test.in); code(err) != "AccessDenied" {
			t.Errorf("%s: federates again: %v", test.name, err)
		}
		for duration, want := range map[string]int{"": 200, "3600": 400} {
			form := url.Values{"Action": {"getSigninToken"}, "Session": {session(own)}}
			if duration != "" {
				form.Set("SessionDuration", duration)
			}
			if status, body, _ := send(t, s, http.MethodPost, form); status != want {
				t.Errorf("%s: SessionDuration %q: %d %s", test.name, duration, status, body)
			}
		}
	}
}

// Sessions of another stand-in sign in like the sandbox's own, and no others.
func TestForeignSessions(t *testing.T) {
	now := time.Now()
	known := aws.Credentials{AccessKeyID: "ASIAFOREIGN", SecretAccessKey: "secret", SessionToken: "token", Expires: now.Add(time.Hour)}
	sessions := map[string]sandbox.Session{
		"ASIAFOREIGN": {Credentials: known, ARN: "arn:aws:sts::123456789012:assumed-role/A/a"},
		"ASIACHAINED": {Credentials: known, ARN: "arn:aws:sts::123456789012:assumed-role/A/a", Chained: true},
		"ASIAUSER":    {Credentials: known, ARN: "arn:aws:iam::123456789012:user/a"},
		"ASIAEXPIRED": {Credentials: aws.Credentials{SecretAccessKey: "secret", SessionToken: "token", Expires: now.Add(-time.Second)}, ARN: "arn:aws:sts::123456789012:assumed-role/A/a"},
	}
	s := start(t, sandbox.Options{Foreign: func(id string) (sandbox.Session, bool) { got, ok := sessions[id]; return got, ok }})
	for _, test := range []struct {
		id, secret, token, duration string
		want                        int
	}{
		{"ASIAFOREIGN", "secret", "token", "", 200},
		{"ASIAFOREIGN", "secret", "token", "3600", 200},
		{"ASIACHAINED", "secret", "token", "", 200},
		{"ASIACHAINED", "secret", "token", "3600", 400},
		{"ASIAFOREIGN", "wrong", "token", "", 403},
		{"ASIAFOREIGN", "secret", "wrong", "", 403},
		{"ASIAUSER", "secret", "token", "", 400}, // of GetSessionToken
		{"ASIAEXPIRED", "secret", "token", "", 403},
		{"ASIANOBODY", "secret", "token", "", 403},
	} {
		form := url.Values{"Action": {"getSigninToken"}, "Session": {session(aws.Credentials{AccessKeyID: test.id, SecretAccessKey: test.secret, SessionToken: test.token})}}
		if test.duration != "" {
			form.Set("SessionDuration", test.duration)
		}
		if status, body, _ := send(t, s, http.MethodPost, form); status != test.want {
			t.Errorf("%+v: %d %s", test, status, body)
		}
	}
}
