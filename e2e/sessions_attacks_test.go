package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const stsHost = "sts.us-east-1.amazonaws.com"

// stsForm is an STS call with a form in its body.
func stsForm(form string) call {
	return call{
		method: "POST", host: stsHost, target: "/", service: "sts", region: region, hashNotInHead: true, body: form,
		headers: [][2]string{{"Content-Type", "application/x-www-form-urlencoded; charset=utf-8"}},
	}
}

// stsQuery is an STS call with its parameters in the query string.
func stsQuery(query string) call {
	return call{method: "GET", host: stsHost, target: "/?" + query, service: "sts", region: region, hashNotInHead: true}
}

func assumeForm(role string, more ...string) string {
	return "Action=AssumeRole&Version=2011-06-15&RoleSessionName=attack&RoleArn=" + url.QueryEscape(role) + strings.Join(more, "")
}

// altered changes one character of a sealed token, in the middle of what is sealed.
func altered(token string, at int) string {
	bytes := []byte(token)
	if bytes[at] == 'A' {
		bytes[at] = 'B'
	} else {
		bytes[at] = 'A'
	}
	return string(bytes)
}

// What an attacker with a client's credentials may try. Nothing of it reaches AWS,
// and all that is told of a token that is not ours is that it is not.
func TestAttacksOnSessions(t *testing.T) {
	u := strictMoto(t)
	issuer := startOIDC(t)
	p := serveSessions(t, u, issuer, "")
	foreign := serveSessions(t, u, issuer, "") // the same configuration, other sealing keys
	client := p.httpClient(t)
	ci, other := clientKeys["ci"], keysFor("other")

	deploy := assume(t, client, ci, sts.AssumeRoleInput{RoleArn: aws.String(deployARN)})
	read := assume(t, client, ci, sts.AssumeRoleInput{RoleArn: aws.String(readARN)})
	spoke := assume(t, client, deploy, sts.AssumeRoleInput{RoleArn: aws.String(spokeARN("222222222222"))})
	narrowed := assume(t, client, ci, sts.AssumeRoleInput{RoleArn: aws.String(deployARN), Policy: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}]}`)})
	theirs := assume(t, foreign.httpClient(t), ci, sts.AssumeRoleInput{RoleArn: aws.String(deployARN)})

	waitForAudit(t, p.audit, 4) // of the sessions that p made

	with := func(keys aws.Credentials, token string) aws.Credentials { keys.SessionToken = token; return keys }
	identityCall := stsForm("Action=GetCallerIdentity&Version=2011-06-15")
	unsigned := func(form string) func() call { return func() call { return stsForm(form) } }
	signed := func(c call, keys aws.Credentials) func() call {
		return func() call { return c.sign(t, keys, time.Now()) }
	}
	webIdentity := func(role, token string) func() call {
		return unsigned("Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleSessionName=attack&RoleArn=" + url.QueryEscape(role) + "&WebIdentityToken=" + url.QueryEscape(token))
	}
	middle := len(deploy.SessionToken) / 2

	for _, test := range []struct {
		name   string
		call   func() call
		status int
		code   string
		says   string
	}{
		{"token of another session", signed(identityCall, with(deploy, read.SessionToken)), 403, "InvalidClientTokenId", ""},
		{"token of another session, the other way", signed(identityCall, with(read, deploy.SessionToken)), 403, "InvalidClientTokenId", ""},
		{"key id of another session", signed(identityCall, aws.Credentials{AccessKeyID: deploy.AccessKeyID, SecretAccessKey: read.SecretAccessKey, SessionToken: read.SessionToken}), 403, "InvalidClientTokenId", ""},
		{"secret of another session", signed(identityCall, aws.Credentials{AccessKeyID: deploy.AccessKeyID, SecretAccessKey: read.SecretAccessKey, SessionToken: deploy.SessionToken}), 403, "SignatureDoesNotMatch", ""},
		{"static key with somebody's token", signed(identityCall, with(other, deploy.SessionToken)), 403, "InvalidClientTokenId", ""},
		{"session without its token", signed(identityCall, with(deploy, "")), 403, "InvalidClientTokenId", ""},
		{"token of a proxy with other keys", signed(identityCall, theirs), 403, "InvalidClientTokenId", ""},
		{"token with its key id altered", signed(identityCall, with(deploy, altered(deploy.SessionToken, 6))), 403, "InvalidClientTokenId", ""},
		{"token with its record altered, such as its expiry", signed(identityCall, with(deploy, altered(deploy.SessionToken, middle))), 403, "InvalidClientTokenId", ""},
		{"token with its tag altered", signed(identityCall, with(deploy, altered(deploy.SessionToken, len(deploy.SessionToken)-2))), 403, "InvalidClientTokenId", ""},
		{"token cut off", signed(identityCall, with(deploy, deploy.SessionToken[:middle])), 403, "InvalidClientTokenId", ""},
		{"token cut to its prefix", signed(identityCall, with(deploy, deploy.SessionToken[:4])), 403, "InvalidClientTokenId", ""},
		{"token with more behind it", signed(identityCall, with(deploy, deploy.SessionToken+"AAAA")), 403, "InvalidClientTokenId", ""},
		{"token of 16 KiB", signed(identityCall, with(deploy, deploy.SessionToken+strings.Repeat("A", 16<<10))), 403, "InvalidClientTokenId", ""},
		{"token that is none", signed(identityCall, with(deploy, "CS1.")), 403, "InvalidClientTokenId", ""},
		{"token as AWS has them", signed(identityCall, with(deploy, "FwoGZXIvYXdzEXAMPLE")), 403, "InvalidClientTokenId", ""},

		{"role of somebody else", signed(stsForm(assumeForm(deployARN)), other), 403, "AccessDenied", "not authorized to perform: sts:AssumeRole on resource: " + deployARN},
		{"chain of somebody else's role", signed(stsForm(assumeForm(spokeARN("222222222222"))), other), 403, "AccessDenied", "not authorized to perform: sts:AssumeRole"},
		{"role that nobody was granted", signed(stsForm(assumeForm(adminARN)), ci), 403, "AccessDenied", "grants the identity no role with this ARN"},
		{"role that nobody was granted, from a session", signed(stsForm(assumeForm(adminARN)), spoke), 403, "AccessDenied", ""},
		{"role that looks like a pattern's", signed(stsForm(assumeForm("arn:aws:iam::222222222222:role/x/Spoke")), ci), 403, "AccessDenied", ""},
		{"pattern as a role", signed(stsForm(assumeForm("arn:aws:iam::*:role/Spoke")), ci), 400, "ValidationError", ""},
		{"out of a narrowed session", signed(stsForm(assumeForm(readARN)), narrowed), 403, "AccessDenied", "narrowed by a session policy"},
		{"root of an account", signed(stsForm("Action=AssumeRoot&Version=2011-06-15&TargetPrincipal=222222222222&TaskPolicyArn.arn=arn:aws:iam::aws:policy/root-task/IAMAuditRootUserCredentials"), ci), 403, "AccessDenied", ""},

		{"duration beyond STS", signed(stsForm(assumeForm(deployARN, "&DurationSeconds=999999")), ci), 400, "ValidationError", "DurationSeconds"},
		{"duration beyond STS in the query string", signed(stsQuery(assumeForm(deployARN, "&DurationSeconds=999999")), ci), 400, "ValidationError", "DurationSeconds"},
		{"duration that is no number", signed(stsForm(assumeForm(deployARN, "&DurationSeconds=1e9")), ci), 400, "ValidationError", "DurationSeconds"},
		{"duration twice", signed(stsForm(assumeForm(deployARN, "&DurationSeconds=900&DurationSeconds=43200")), ci), 400, "ValidationError", "occurs twice"},
		{"role twice", signed(stsForm(assumeForm(deployARN, "&RoleArn="+url.QueryEscape(adminARN))), ci), 400, "ValidationError", "occurs twice"},
		{"parameters in body and query string", signed(func() call {
			c := stsForm(assumeForm(deployARN))
			c.target = "/?DurationSeconds=43200"
			return c
		}(), ci), 400, "ValidationError", "the call has parameters in the query string and in the body"},
		{"X-Amz-Target beside the form", signed(func() call {
			c := stsForm(assumeForm(adminARN))
			return c.with([2]string{"X-Amz-Target", "AWSSecurityTokenServiceV20110615.GetCallerIdentity"})
		}(), clientKeys["source"]), 400, "ValidationError", "X-Amz-Target"},
		{"parameter that is not known", signed(stsForm(assumeForm(deployARN, "&Reveal=true")), ci), 400, "ValidationError", "Reveal"},

		{"unsigned", unsigned(assumeForm(deployARN)), 403, "MissingAuthenticationToken", ""},
		{"unsigned, in the query string", func() call { return stsQuery(assumeForm(deployARN)) }, 403, "MissingAuthenticationToken", ""},
		{"unsigned GetSessionToken", unsigned("Action=GetSessionToken&Version=2011-06-15"), 403, "MissingAuthenticationToken", ""},
		{"unsigned SAML", unsigned("Action=AssumeRoleWithSAML&Version=2011-06-15&SAMLAssertion=AAAA&PrincipalArn=arn:aws:iam::" + account + ":saml-provider/x&RoleArn=" + url.QueryEscape(deployARN)), 403, "", ""},

		{"web identity for a role of somebody else", webIdentity(deployARN, issuer.token(t, nil)), 403, "AccessDenied", ""},
		{"web identity of another audience", webIdentity(podsARN, issuer.token(t, map[string]any{"aud": "sts.amazonaws.com"})), 400, "InvalidIdentityToken", ""},
		{"web identity of another namespace", webIdentity(podsARN, issuer.token(t, map[string]any{"kubernetes.io": map[string]any{"namespace": "dev"}})), 403, "AccessDenied", ""},
		{"web identity that has expired", webIdentity(podsARN, issuer.token(t, map[string]any{"exp": time.Now().Add(-time.Hour).Unix()})), 400, "ExpiredTokenException", ""},
		{"web identity of another issuer", webIdentity(podsARN, issuer.token(t, map[string]any{"iss": "https://127.0.0.1:1"})), 400, "InvalidIdentityToken", ""},
		{"web identity as a configured one", webIdentity(podsARN, issuer.token(t, map[string]any{"sub": "ci"})), 403, "AccessDenied", ""},
		{"web identity without a signature", webIdentity(podsARN, unsignedToken(issuer)), 400, "InvalidIdentityToken", ""},
		{"web identity signed with the public key", webIdentity(podsARN, confusedToken(t, issuer)), 400, "InvalidIdentityToken", ""},
		{"web identity of 40 KB", webIdentity(podsARN, issuer.token(t, map[string]any{"more": strings.Repeat("x", 40000)})), 400, "InvalidIdentityToken", ""},
		{"web identity altered", webIdentity(podsARN, altered(issuer.token(t, nil), 200)), 400, "InvalidIdentityToken", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			mark, before := u.mark(t), len(readAudit(t, p.audit))
			c := test.call()
			response, body := p.dial(t, stsHost).send(t, c)
			if response.StatusCode != test.status || !strings.Contains(body, "<Code>"+test.code) || !strings.Contains(body, test.says) {
				t.Errorf("want %d %s %q, got %s\n%s", test.status, test.code, test.says, response.Status, body)
			}
			if strings.Contains(body, "AccessKeyId") || strings.Contains(body, "SecretAccessKey") {
				t.Errorf("the answer holds credentials: %s", body)
			}
			for _, s := range u.since(t, mark) {
				t.Errorf("sent upstream: %s %s%s by %s", s.Method, s.Host, s.Target, s.ARN)
			}
			line := waitForAudit(t, p.audit, before+1)[before]
			if line.Decision != "deny" || line.Reason == "" || line.Status != test.status {
				t.Errorf("audit line %+v", line)
			}
			for _, secret := range []string{deploy.SessionToken, deploy.SecretAccessKey, ci.SecretAccessKey} {
				// The canonical request of a wrong signature holds the token that was sent.
				echo := test.code == "SignatureDoesNotMatch" && secret == deploy.SessionToken
				if strings.Contains(body, secret) && !echo || strings.Contains(line.Error, secret) {
					t.Errorf("a secret is repeated: %s %+v", body, line)
				}
			}
		})
	}

	// All of the wrong tokens are told the same.
	answers := map[string]bool{}
	for _, token := range []string{altered(deploy.SessionToken, middle), deploy.SessionToken[:middle], theirs.SessionToken, read.SessionToken, "CS1.x"} {
		_, body := p.dial(t, stsHost).send(t, identityCall.sign(t, with(deploy, token), time.Now()))
		_, message, _ := strings.Cut(body, "<Message>")
		message, _, _ = strings.Cut(message, "</Message>")
		answers[message] = true
	}
	if len(answers) != 1 {
		t.Errorf("tokens that are not ours are told apart: %v", answers)
	}

	// The longest session is that of the role's entry, however it is asked for.
	for name, c := range map[string]call{
		"in the body":         stsForm(assumeForm(deployARN, "&DurationSeconds=43200")),
		"in the query string": stsQuery(assumeForm(deployARN, "&DurationSeconds=43200")),
	} {
		response, body := p.dial(t, stsHost).send(t, c.sign(t, ci, time.Now()))
		expectStatus(t, response, body, 200)
		_, text, _ := strings.Cut(body, "<Expiration>")
		text, _, _ = strings.Cut(text, "</Expiration>")
		until, err := time.Parse(time.RFC3339, text)
		if left := time.Until(until); err != nil || left > 2*time.Hour || left < 110*time.Minute {
			t.Errorf("%s: 12 hours became %v (%v)\n%s", name, left, err, body)
		}
	}
}

func unsignedToken(i *oidc) string {
	part := func(v any) string {
		text, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(text)
	}
	return part(map[string]string{"alg": "none", "kid": "one"}) + "." + part(map[string]any{
		"iss": i.server.URL, "aud": "countersign", "sub": "system:serviceaccount:prod:web", "exp": time.Now().Add(time.Hour).Unix(),
		"kubernetes.io": map[string]any{"namespace": "prod"},
	}) + "."
}

// confusedToken is signed with the bytes of the public key as a shared secret.
func confusedToken(t testing.TB, i *oidc) string {
	t.Helper()
	public, err := json.Marshal(jose.JSONWebKey{Key: i.key.Public(), KeyID: "one"})
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: public}, (&jose.SignerOptions{}).WithHeader("kid", "one"))
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(map[string]any{
		"iss": i.server.URL, "aud": "countersign", "sub": "system:serviceaccount:prod:web", "exp": time.Now().Add(time.Hour).Unix(),
		"kubernetes.io": map[string]any{"namespace": "prod"},
	}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// Terraform with an alias for each of a hundred accounts holds as many sessions at
// once, all of them on one port.
func TestAHundredAccountsAtOnce(t *testing.T) {
	t.Parallel()
	const accounts = 100
	u := strictMoto(t)
	// Client, proxy and AWS share the cores.
	p := serveSessions(t, u, startOIDC(t), "limits: {connect_timeout: 2m, tls_timeout: 2m, header_timeout: 2m}\n")
	client := p.httpClient(t)
	var all sync.WaitGroup
	keys := make([]aws.Credentials, accounts)
	each := func(do func(i int, account string) error) {
		for i := range accounts {
			all.Go(func() {
				if err := do(i, fmt.Sprintf("%012d", 700000000000+i)); err != nil {
					t.Errorf("account %d: %v", i, err)
				}
			})
		}
		all.Wait()
	}
	each(func(i int, account string) error {
		answer, err := stsClient(client, clientKeys["ci"]).AssumeRole(t.Context(), &sts.AssumeRoleInput{RoleArn: aws.String(spokeARN(account)), RoleSessionName: aws.String("test")})
		if err == nil {
			keys[i] = keysOf(answer.Credentials)
		}
		return err
	})
	if t.Failed() {
		return
	}
	for range 3 {
		each(func(i int, account string) error {
			answer, err := stsClient(client, keys[i]).GetCallerIdentity(t.Context(), nil)
			if err == nil && (*answer.Account != account || *answer.Arn != "arn:aws:sts::"+account+":assumed-role/Spoke/test") {
				err = fmt.Errorf("it is %s", *answer.Arn)
			}
			return err
		})
	}
	ids := map[string]bool{}
	for _, k := range keys {
		ids[k.AccessKeyID] = true
	}
	if len(ids) != accounts {
		t.Errorf("%d key ids for %d sessions", len(ids), accounts)
	}
	var list struct{ Issued []json.RawMessage }
	if err := json.NewDecoder(bytes.NewReader([]byte(p.command(t, "sessions", "--output", "json")))).Decode(&list); err != nil || len(list.Issued) != accounts {
		t.Errorf("`sessions` lists %d, %v", len(list.Issued), err)
	}
}
