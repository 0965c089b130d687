package e2e

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/aws/smithy-go"
)

// stsClient is the SDK's client through the proxy.
func stsClient(client *http.Client, keys aws.Credentials) *sts.Client {
	options := sts.Options{Region: region, HTTPClient: client, RetryMaxAttempts: 1}
	if keys.AccessKeyID != "" {
		options.Credentials = credentials.StaticCredentialsProvider{Value: keys}
	}
	return sts.New(options)
}

// caller is whom the keys stand for at AWS, or the error's code.
func caller(t testing.TB, client *http.Client, keys aws.Credentials) string {
	t.Helper()
	answer, err := stsClient(client, keys).GetCallerIdentity(t.Context(), nil)
	if err != nil {
		return codeOf(err)
	}
	return *answer.Arn
}

func codeOf(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return err.Error()
}

func keysOf(c *types.Credentials) aws.Credentials {
	return aws.Credentials{AccessKeyID: *c.AccessKeyId, SecretAccessKey: *c.SecretAccessKey, SessionToken: *c.SessionToken, CanExpire: true, Expires: *c.Expiration}
}

// assume asks for a role.
func assume(t testing.TB, client *http.Client, keys aws.Credentials, in sts.AssumeRoleInput) aws.Credentials {
	t.Helper()
	if in.RoleSessionName == nil {
		in.RoleSessionName = aws.String("test")
	}
	answer, err := stsClient(client, keys).AssumeRole(t.Context(), &in)
	if err != nil {
		t.Fatal(err)
	}
	return keysOf(answer.Credentials)
}

// command runs one of countersign's commands with the proxy's configuration.
func (p *proxy) command(t testing.TB, argv ...string) string {
	t.Helper()
	argv = append([]string{program}, append(argv, "--config", p.config)...)
	return way{env: p.env}.must(t, t.TempDir(), nil, argv...)
}

// eventually asks until the answer is the wanted one: a revocation takes effect
// within a second, on a machine that has nothing else to do.
func eventually(t testing.TB, want string, ask func() string) {
	t.Helper()
	var got string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if got = ask(); got == want {
			return
		}
	}
	t.Errorf("still %q, want %q", got, want)
}

// Two proxies that share nothing but files that never change, and the revocations.
func TestReplicasShareSessions(t *testing.T) {
	u := strictMoto(t)
	issuer := startOIDC(t)
	shared := t.TempDir()
	sealing := filepath.Join(shared, "sealing.key")
	var key [32]byte
	rand.Read(key[:])
	if err := os.WriteFile(sealing, []byte(base64.StdEncoding.EncodeToString(key[:])+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	more := "sealing_keys: [" + sealing + "]\nrevocations: " + filepath.Join(shared, "revocations") + "\n"
	first := serveSessions(t, u, issuer, more)
	if output, err := exec.Command("cp", "-pR", filepath.Join(first.state, "ca"), filepath.Join(shared, "ca")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	second := serveSessions(t, u, issuer, more+"ca: {dir: "+filepath.Join(shared, "ca")+"}\n")
	// One trust bundle serves both: what a client has of the first is enough.
	second.roots = first.roots
	at := map[string]*http.Client{"first": first.httpClient(t), "second": second.httpClient(t)}

	ci := clientKeys["ci"]
	deploy := assume(t, at["first"], ci, sts.AssumeRoleInput{RoleArn: aws.String(deployARN)})
	spoke := assume(t, at["second"], deploy, sts.AssumeRoleInput{RoleArn: aws.String(spokeARN("222222222222"))})
	// A grant that cannot be repeated travels in its token, sealed.
	mfa := assume(t, at["first"], ci, sts.AssumeRoleInput{RoleArn: aws.String(deployARN), RoleSessionName: aws.String("mfa"),
		SerialNumber: aws.String("arn:aws:iam::" + account + ":mfa/ci"), TokenCode: aws.String("123456")})
	web, err := stsClient(at["first"], aws.Credentials{}).AssumeRoleWithWebIdentity(t.Context(), &sts.AssumeRoleWithWebIdentityInput{
		RoleArn: aws.String(podsARN), RoleSessionName: aws.String("web"), WebIdentityToken: aws.String(issuer.token(t, nil))})
	if err != nil {
		t.Fatal(err)
	}
	pod := keysOf(web.Credentials)
	process := credentialProcess(t, first, "local")

	prefix := "arn:aws:sts::" + account + ":assumed-role/"
	sessions := map[string]struct {
		keys aws.Credentials
		arn  string
	}{
		"assumed":            {deploy, prefix + "Deploy/test"},
		"chained":            {spoke, "arn:aws:sts::222222222222:assumed-role/Spoke/test"},
		"with an MFA code":   {mfa, prefix + "Deploy/mfa"},
		"by web identity":    {pod, *web.AssumedRoleUser.Arn},
		"credential_process": {process, prefix + "Deploy/local"},
	}
	signedBy := map[string]bool{}
	everywhere := func(when string) {
		t.Helper()
		for name, s := range sessions {
			for where, client := range at {
				mark := u.mark(t)
				if got := caller(t, client, s.keys); got != s.arn {
					t.Errorf("%s: session %s at the %s proxy is %s, want %s", when, name, where, got, s.arn)
				}
				if requests := u.since(t, mark); name == "with an MFA code" {
					if len(requests) != 1 {
						t.Errorf("%s: %d requests for a session that is in the token", when, len(requests))
					}
					signedBy[requests[len(requests)-1].AccessKeyID] = true
				}
			}
		}
	}
	everywhere("before a restart")

	var list struct {
		Issued []struct {
			AccessKeyID string `json:"access_key_id"`
			Identity    string
			RoleARN     string `json:"role_arn"`
			SessionName string `json:"session_name"`
			Operation   string
		}
	}
	if err := json.Unmarshal([]byte(first.command(t, "sessions", "--output", "json")), &list); err != nil {
		t.Fatal(err)
	}
	var held []string
	for _, s := range list.Issued {
		held = append(held, strings.Join([]string{s.AccessKeyID, s.Identity, s.Operation, s.RoleARN, s.SessionName}, " "))
	}
	want := []string{
		deploy.AccessKeyID + " ci AssumeRole " + deployARN + " test",
		mfa.AccessKeyID + " ci AssumeRole " + deployARN + " mfa",
	}
	if len(held) != 3 || !slices.Equal(held[:2], want) || !strings.HasPrefix(held[2], pod.AccessKeyID+" system:serviceaccount:prod:web AssumeRoleWithWebIdentity "+podsARN) {
		t.Errorf("`sessions` says\n%s\nwant\n%s", strings.Join(held, "\n"), strings.Join(want, "\n"))
	}

	first.restart(t)
	second.restart(t)
	at["first"], at["second"] = first.httpClient(t), second.httpClient(t)
	everywhere("after a restart")
	if len(signedBy) != 1 {
		t.Errorf("the session in the token is signed with %d different real keys", len(signedBy))
	}

	// Of the first proxy it is known by its own file, of the second by that file's change.
	revoked := func(names ...string) {
		t.Helper()
		for where, client := range at {
			for _, name := range names {
				eventually(t, "InvalidClientTokenId", func() string {
					code := caller(t, client, sessions[name].keys)
					if code == "ExpiredToken" {
						return "InvalidClientTokenId"
					}
					return code
				})
				if t.Failed() {
					t.Fatalf("session %s at the %s proxy was not revoked", name, where)
				}
			}
		}
		for _, name := range names {
			delete(sessions, name)
		}
	}
	first.command(t, "revoke", deploy.AccessKeyID)
	revoked("assumed", "chained") // what came of it is taken back with it
	everywhere("after another one was revoked")
	second.command(t, "revoke", "system:serviceaccount:prod:web")
	revoked("by web identity")
	first.command(t, "revoke", "ci")
	revoked("with an MFA code")
	for where, client := range at {
		eventually(t, "InvalidClientTokenId", func() string { return caller(t, client, ci) })
		if _, err := stsClient(client, ci).AssumeRole(t.Context(), &sts.AssumeRoleInput{RoleArn: aws.String(deployARN), RoleSessionName: aws.String("again")}); err == nil {
			t.Errorf("a revoked identity gets sessions of the %s proxy", where)
		}
	}
	everywhere("after identity ci was revoked")
	first.restart(t)
	at["first"] = first.httpClient(t)
	if got := caller(t, at["first"], deploy); got == prefix+"Deploy/test" {
		t.Error("a restart forgets what was revoked")
	}
}

// credentialProcess runs `countersign credentials`.
func credentialProcess(t testing.TB, p *proxy, identity string) aws.Credentials {
	t.Helper()
	var c struct{ AccessKeyID, SecretAccessKey, SessionToken string }
	if err := json.Unmarshal([]byte(p.command(t, "credentials", "--identity", identity)), &c); err != nil {
		t.Fatal(err)
	}
	return aws.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, SessionToken: c.SessionToken}
}
