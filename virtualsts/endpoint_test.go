package virtualsts

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"

	"github.com/countersign-proxy/countersign/identity"
	"github.com/countersign-proxy/countersign/rolesession"
)

const childToken = "a-child-token-of-thirty-two-characters"

func testEndpoint(t testing.TB, r *replica) http.Handler {
	t.Helper()
	h, err := r.Endpoint(EndpointOptions{Bearers: []Bearer{
		{Token: childToken, Identity: "ci", Role: "read", Attributes: map[string]string{"user": "ann"}},
		{Token: childToken + "2", Identity: "guest"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestSDKFetchesCredentialsFromTheEndpoint(t *testing.T) {
	in := newSetup(t)
	r := newReplica(t, in)
	server := httptest.NewServer(testEndpoint(t, r))
	defer server.Close()
	for _, tt := range []struct{ name, authorization, identity, role string }{
		{"child", childToken, "ci", "read"},
		{"child, as bearer", "Bearer " + childToken, "ci", "read"},
		{"other child", childToken + "2", "guest", "read"},
		{"pod", in.issuer.token(t, nil), "pod:system:serviceaccount:prod:app", "read"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := endpointcreds.New(server.URL+"/v1/credentials", func(o *endpointcreds.Options) {
				o.HTTPClient = server.Client()
				o.AuthorizationTokenProvider = endpointcreds.TokenProviderFunc(func() (string, error) { return tt.authorization, nil })
			})
			c, err := p.Retrieve(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			now := time.Unix(0, r.now.Load()).UTC()
			if !c.CanExpire || !c.Expires.Equal(now.Add(time.Hour)) {
				t.Errorf("expires %s", c.Expires)
			}
			g, secret, err := r.store.Lookup(c.AccessKeyID, c.SessionToken, now)
			if err != nil || secret != c.SecretAccessKey || g.Identity.Name != tt.identity || g.Role != tt.role {
				t.Errorf("%+v %v", g, err)
			}
			if s, err := r.Session(t.Context(), g); err != nil || s.RoleARN != readARN {
				t.Errorf("%v %v", s, err)
			}
		})
	}
	if n := len(r.Issued()); n != 4 {
		t.Errorf("%d listed", n)
	}
}

func TestRoleOfTheEndpointCanBeChosenAmongThoseGranted(t *testing.T) {
	r := newReplica(t, newSetup(t))
	h := testEndpoint(t, r)
	for query, want := range map[string]int{"": 200, "?role=": 200, "?role=deploy": 200, "?role=saml": 403, "?role=nonsense": 403, "?role=deploy&role=read": 400} {
		q := httptest.NewRequest("GET", "/credentials"+query, nil)
		q.Header.Set("Authorization", childToken)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, q)
		if w.Code != want {
			t.Errorf("%q: %d %s", query, w.Code, w.Body)
		}
		if query == "?role=deploy" && r.Issued()[len(r.Issued())-1].Role != "deploy" {
			t.Error("another role than asked for")
		}
	}
}

func TestEndpointRefusals(t *testing.T) {
	in := newSetup(t)
	r := newReplica(t, in)
	type outcome struct {
		status int
		err    error
	}
	var recorded []outcome
	h, err := r.Endpoint(EndpointOptions{
		Bearers: []Bearer{{Token: childToken, Identity: "ci"}, {Token: childToken + "gone", Identity: "gone"}},
		Record: func(_ *http.Request, _ Issued, status int, err error) {
			recorded = append(recorded, outcome{status, err})
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	header := func(pairs ...string) http.Header {
		h := http.Header{}
		for i := 0; i < len(pairs); i += 2 {
			h.Add(pairs[i], pairs[i+1])
		}
		return h
	}
	const unknown = "The authorization token is not one that this proxy accepts."
	for _, tt := range []struct {
		name, method string
		header       http.Header
		status       int
		code, has    string
	}{
		{"no authorization", "GET", nil, 401, "AccessDeniedException", "AWS_CONTAINER_AUTHORIZATION_TOKEN"},
		{"empty", "GET", header("Authorization", " "), 401, "AccessDeniedException", "no Authorization"},
		{"two", "GET", header("Authorization", childToken, "Authorization", childToken), 401, "AccessDeniedException", ""},
		{"wrong", "GET", header("Authorization", childToken[:37]+"x"), 401, "AccessDeniedException", unknown},
		{"cut", "GET", header("Authorization", childToken[:37]), 401, "AccessDeniedException", unknown},
		{"forged", "GET", header("Authorization", newIssuer(t).token(t, map[string]any{"iss": in.issuer.server.URL})), 401, "AccessDeniedException", unknown},
		{"foreign issuer", "GET", header("Authorization", newIssuer(t).token(t, nil)), 401, "AccessDeniedException", unknown},
		{"expired", "GET", header("Authorization", in.issuer.token(t, map[string]any{"exp": time.Now().Add(-time.Minute).Unix()})), 401, "ExpiredTokenException", "expired at"},
		{"no match", "GET", header("Authorization", in.issuer.token(t, map[string]any{"sub": "system:serviceaccount:dev:x"})), 403, "AccessDeniedException", "sub"},
		{"identity that is gone", "GET", header("Authorization", childToken+"gone"), 403, "AccessDeniedException", `"gone" is not configured`},
		{"post", "POST", header("Authorization", childToken), 405, "InvalidRequestException", "GET"},
		{"a web page", "GET", header("Authorization", childToken, "Origin", "https://evil.example"), 403, "AccessDeniedException", "web pages"},
		{"a web page's image", "GET", header("Authorization", childToken, "Sec-Fetch-Site", "cross-site"), 403, "AccessDeniedException", "web pages"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q := httptest.NewRequest(tt.method, "/credentials", nil)
			if tt.header != nil {
				q.Header = tt.header
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, q)
			var got errorDocument
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if w.Code != tt.status || got.Code != tt.code || !strings.Contains(got.Message, tt.has) || w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("%d %+v", w.Code, got)
			}
			if last := recorded[len(recorded)-1]; last.err == nil || last.status != tt.status {
				t.Errorf("recorded as %d: %v", last.status, last.err)
			}
			if strings.Contains(w.Body.String(), "SecretAccessKey") {
				t.Error("credentials beside an error")
			}
		})
	}
	if n := len(r.Issued()); n != 0 {
		t.Errorf("%d sets of credentials were handed out", n)
	}
}

func TestEndpointOptionsThatAreRefused(t *testing.T) {
	r := newReplica(t, newSetup(t))
	if _, err := r.Endpoint(EndpointOptions{Bearers: []Bearer{{Token: "guessable", Identity: "ci"}}}); err == nil || strings.Contains(err.Error(), "guessable") {
		t.Errorf("%v", err)
	}
	if _, err := r.Endpoint(EndpointOptions{Lifetime: 48 * time.Hour}); err == nil {
		t.Error("credentials that outlive their limit")
	}
}

func TestRevocationReachesTheEndpoint(t *testing.T) {
	in := newSetup(t)
	r := newReplica(t, in)
	h := testEndpoint(t, r)
	token := in.issuer.token(t, nil)
	if err := identity.Revoke(in.revocations, time.Now(), identity.Revocation{Identity: "pod:system:serviceaccount:prod:app"}); err != nil {
		t.Fatal(err)
	}
	r.now.Add(int64(time.Second))
	q := httptest.NewRequest("GET", "/", nil)
	q.Header.Set("Authorization", token)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, q)
	if w.Code != 403 || !strings.Contains(w.Body.String(), "revoked") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func BenchmarkEndpoint(b *testing.B) {
	in := newSetup(b)
	r := newReplica(b, in)
	h := testEndpoint(b, r)
	for name, authorization := range map[string]string{"child": childToken, "pod": in.issuer.token(b, nil)} {
		b.Run(name, func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					q := httptest.NewRequest("GET", "/", nil)
					q.Header.Set("Authorization", authorization)
					w := httptest.NewRecorder()
					if h.ServeHTTP(w, q); w.Code != 200 {
						b.Fatal(w.Body)
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
		})
	}
}

func BenchmarkVirtualSession(b *testing.B) {
	r := newReplica(b, newSetup(b))
	g, _, err := r.store.Lookup("CSIGDEPLOYAAAAAAAAAA", "", time.Unix(0, r.now.Load()))
	if err != nil {
		b.Fatal(err)
	}
	g.Session, err = state{Links: []rolesession.Link{{Role: "deploy"}, {RoleARN: spokeARN, SessionName: "terraform", ExternalID: "external", Duration: 3600}}}.encode()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Session(context.Background(), g); err != nil {
			b.Fatal(err)
		}
	}
}
