package e2e

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// callers are programs that ask STS who they are, one call each, by the
// environment of a way alone. PROXY_CA names what the certificate of an https://
// proxy is checked against; only curl wants it apart.
func callers(t testing.TB) map[string]func(testing.TB, way, []string) result {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	if err := os.Symlink(nodeModules(t), filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	// What curl signs with is in a file that it reads, not in its command line.
	curl := write("curl.sh", `set -eu
printf 'user = "%s:%s"\n' "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY" >"$CURL_CONFIG"
[ -z "${AWS_SESSION_TOKEN-}" ] || printf 'header = "X-Amz-Security-Token: %s"\n' "$AWS_SESSION_TOKEN" >>"$CURL_CONFIG"
[ -z "${PROXY_CA-}" ] || printf 'proxy-cacert = "%s"\n' "$PROXY_CA" >>"$CURL_CONFIG"
exec curl --config "$CURL_CONFIG" --silent --show-error --fail --cacert "$AWS_CA_BUNDLE" --aws-sigv4 "aws:amz:$AWS_REGION:sts" \
	--data 'Action=GetCallerIdentity&Version=2011-06-15' "https://sts.$AWS_REGION.amazonaws.com/"
`)
	boto := write("caller.py", `import boto3, botocore.config
config = botocore.config.Config(retries={"total_max_attempts": 1})
print(boto3.client("sts", config=config).get_caller_identity()["Arn"])
`)
	js := write("caller.mjs", `import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";
import { NodeHttpHandler } from "@smithy/node-http-handler";
import { HttpsProxyAgent } from "https-proxy-agent";
const httpsAgent = new HttpsProxyAgent(process.env.HTTPS_PROXY);
const sts = new STSClient({ maxAttempts: 1, requestHandler: new NodeHttpHandler({ httpsAgent }) });
console.log((await sts.send(new GetCallerIdentityCommand({}))).Arn);
httpsAgent.destroy();
`)
	cli, node, interpreter := tool(t, "aws"), tool(t, "node"), python(t)
	tool(t, "curl")
	run := func(argv ...string) func(testing.TB, way, []string) result {
		return func(t testing.TB, w way, env []string) result {
			t.Helper()
			return w.run(t, dir, append(env, "CURL_CONFIG="+filepath.Join(dir, "curlrc"), "AWS_MAX_ATTEMPTS=1"), argv...)
		}
	}
	return map[string]func(testing.TB, way, []string) result{
		"curl":           run("sh", curl),
		"aws-cli":        run(cli, "sts", "get-caller-identity", "--query", "Arn", "--output", "text"),
		"boto3":          run(interpreter, boto),
		"Go SDK":         run(sdkClient, "caller"),
		"JavaScript SDK": run(node, js),
	}
}

// has tells which of the texts is in s.
func has(s string, texts ...string) (found []string) {
	for _, text := range texts {
		if text != "" && strings.Contains(s, text) {
			found = append(found, text)
		}
	}
	return found
}

// withKeysIn puts client credentials into a proxy's URL, as users do.
func withKeysIn(proxy *url.URL, c aws.Credentials) string {
	u := *proxy
	password := c.SecretAccessKey
	if c.SessionToken != "" {
		password += "." + c.SessionToken
	}
	u.User = url.UserPassword(c.AccessKeyID, password)
	return u.String()
}

// A line is what these tests look at of an audit line.
type line struct {
	Identity    string
	AccessKeyID string `json:"access_key_id"`
	Method      string
	Host        string
	Decision    string
	Reason      string
	Error       string
	Status      int
}

func (p *proxy) lines(t testing.TB) (lines []line) {
	t.Helper()
	for row := range strings.Lines(string(readRecord(t, p.audit))) {
		var l line
		if err := json.Unmarshal([]byte(row), &l); err != nil {
			t.Fatalf("%v: %s", err, row)
		}
		lines = append(lines, l)
	}
	return lines
}

// linesUntil reads them until they are enough, or patience ends.
func (p *proxy) linesUntil(t testing.TB, enough func([]line) bool) []line {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if lines := p.lines(t); enough(lines) || time.Now().After(deadline) {
			return lines
		}
	}
}

// metric is the value of a series; 0 where there is none.
func (p *proxy) metric(t testing.TB, series string) string {
	t.Helper()
	for row := range strings.Lines(p.metricsText(t)) {
		if value, ok := strings.CutPrefix(row, series+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return "0"
}

// ask opens a connection to the proxy and sends one head.
func (p *proxy) ask(t testing.TB, head string) string {
	t.Helper()
	c, err := net.Dial("tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, head+"\r\n\r\n")
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.StatusCode == http.StatusOK {
		return r.Status // a tunnel: what follows is not the proxy's
	}
	body, _ := io.ReadAll(io.LimitReader(r.Body, 4096))
	return r.Status + "\n" + string(body)
}

func basic(user, password string) string {
	return "\r\nProxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// Every client that can be given a proxy can be given credentials for it, static
// ones and minted ones, over both kinds of listener. Their secrets are nowhere else.
func TestProxyAuthentication(t *testing.T) {
	u := strictMoto(t)
	dir := t.TempDir()
	clients := callers(t)
	const debug = "log: {level: debug}\nproxy_authentication: all\n"
	plain := serve(t, u, debug)
	secure, port, certFile, _ := serveTLS(t, u, dir, debug+"identities: {ci: {roles: [deploy]}}\n")
	ci := clientKeys["ci"]

	// What `env` prints is what a user pastes; only the name of the machine is not in this test's certificate.
	var printed struct{ Set map[string]string }
	if err := json.Unmarshal([]byte(secure.command(t, "env", "--identity", "ci", "--format", "json")), &printed); err != nil {
		t.Fatal(err)
	}
	proxied, err := url.Parse(printed.Set["HTTPS_PROXY"])
	if err != nil || proxied.Scheme != "https" || proxied.Port() != port {
		t.Fatalf("`env` prints the proxy %v (%v)", proxied.Redacted(), err)
	}
	proxied.Host = "localhost:" + port
	bundle := joinFiles(t, filepath.Join(dir, "both.pem"), secure.bundle, certFile)
	minted := way{name: "minted, over TLS", env: slices.Concat(bareEnvironment(dir), trustEnvironment(bundle), []string{
		"HTTPS_PROXY=" + proxied.String(), "AWS_ACCESS_KEY_ID=" + printed.Set["AWS_ACCESS_KEY_ID"],
		"AWS_SECRET_ACCESS_KEY=" + printed.Set["AWS_SECRET_ACCESS_KEY"], "AWS_SESSION_TOKEN=" + printed.Set["AWS_SESSION_TOKEN"],
	})}
	static := plain.client("ci")
	static.name = "static"
	static.env = append(static.env, "HTTPS_PROXY="+withKeysIn(plain.url(), ci))
	nobody := plain.client("ci")
	for name, run := range clients {
		t.Run(name, func(t *testing.T) {
			for _, w := range []way{static, minted} {
				var env []string
				if w.name != "static" {
					env = []string{"PROXY_CA=" + certFile}
				}
				if r := run(t, w, env); r.code != 0 || !strings.Contains(r.stdout, "assumed-role/Deploy/ci") {
					t.Errorf("%s: the caller is %s%s", w.name, r.stdout, r.stderr)
				}
			}
			if r := run(t, nobody, nil); r.code == 0 {
				t.Error("without credentials for the proxy it works too")
			} else {
				t.Logf("without: %s", strings.TrimSpace(r.stderr[max(0, len(r.stderr)-300):]))
			}
		})
	}
	requests, refused := 0, 0
	// Of each client: a call, and one CONNECT at least that was refused.
	ended := func(lines []line) bool {
		decisions := map[string]int{}
		for _, l := range lines {
			decisions[l.Decision]++
		}
		return decisions["allow"] >= len(clients) && decisions["deny"] >= len(clients)
	}
	for _, l := range plain.linesUntil(t, ended) {
		switch {
		case l.Decision == "allow" && l.Identity == "ci":
			requests++
		case l == line{Method: "CONNECT", Host: "sts.us-east-1.amazonaws.com", Decision: "deny", Reason: "authentication", Status: 407, Error: l.Error} &&
			strings.HasPrefix(l.Error, "this proxy asks for client credentials: put them in HTTPS_PROXY\n"):
			refused++
		default:
			t.Errorf("unexpected line %+v", l)
		}
	}
	if requests != len(clients) || refused < len(clients) {
		t.Errorf("%d calls and %d refusals are recorded, want %d of each", requests, refused, len(clients))
	}

	// No secret is where it does not belong.
	secrets := []string{ci.SecretAccessKey, url.QueryEscape(ci.SecretAccessKey), printed.Set["AWS_SECRET_ACCESS_KEY"],
		printed.Set["AWS_SESSION_TOKEN"], base64.StdEncoding.EncodeToString([]byte(ci.AccessKeyID + ":" + ci.SecretAccessKey)), "Basic "}
	for _, p := range []*proxy{plain, secure} {
		audit, err := os.ReadFile(p.audit)
		if err != nil {
			t.Fatal(err)
		}
		if found := has(p.said()+string(audit)+p.metricsText(t), secrets...); len(found) > 0 {
			t.Errorf("log, record or metrics hold %d secrets", len(found))
		}
	}
}

func (p *proxy) metricsText(t testing.TB) string {
	t.Helper()
	response, err := http.Get("http://" + p.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// With `tunnels`, a pod that has no keys yet gets them, and whoever wants anything
// but AWS says who it is.
func TestProxyAuthenticationOfTunnels(t *testing.T) {
	u := strictMoto(t)
	issuer := startOIDC(t)
	// Tunnels lead to public addresses only. Behind another proxy that is its duty.
	beyond := tunnel(t, u)
	p := serveSessions(t, u, issuer, "proxy_authentication: tunnels\ntunnel: [\"*.example.com\"]\nupstream:\n  proxy: http://"+beyond+"\n"+
		strings.TrimPrefix(override(u.address, thePKI(t).rootFile), "upstream:\n  proxy: none\n"), "NO_PROXY=127.0.0.1")
	const connect = "CONNECT www.example.com:443 HTTP/1.1\r\nHost: www.example.com:443"
	ci, other := p.clients["ci"], p.clients["other"]

	// The gateway's main way in: no key at all, a token, five variables.
	pod := p.client("ci").withoutKeys()
	if out := pod.must(t, t.TempDir(), []string{"AWS_ROLE_ARN=" + podsARN, "AWS_WEB_IDENTITY_TOKEN_FILE=" + issuer.tokenFile(t, nil)}, sdkClient, "caller"); !strings.Contains(out, "assumed-role/Pods/") {
		t.Errorf("a pod without keys is %s", out)
	}
	clients := callers(t)
	for name, run := range clients {
		if r := run(t, p.client("ci"), nil); !strings.Contains(r.stdout, "assumed-role/Deploy/ci") {
			t.Errorf("%s without credentials for the proxy: %s%s", name, r.stdout, r.stderr)
		}
	}
	missing := p.metric(t, `countersign_proxy_authentication_failures_total{reason="missing"}`)
	if missing != "0" {
		t.Errorf("%s attempts are missing where none was asked for", missing)
	}

	for _, c := range []struct{ name, head, want, reason string }{
		{"nobody", connect, "407 this proxy asks for client credentials: put them in HTTPS_PROXY\n", "missing"},
		{"bearer", connect + "\r\nProxy-Authorization: Bearer x", "407 Proxy-Authorization is not one of type Basic", "malformed"},
		{"wrong secret", connect + basic(ci.AccessKeyID, other.SecretAccessKey), "407 The password is not the secret of " + ci.AccessKeyID + ".\n", "password"},
		{"unknown", connect + basic("somebody", "x"), "407 The access key id some", "unknown_key"},
		{"a key of AWS", connect + basic("AKIAIOSFODNN7EXAMPLE", "x"), "407 The access key id AKIA", "real_key"},
		{"plain http", "GET http://www.example.com/ HTTP/1.1\r\nHost: www.example.com", "407 Proxy Authentication Required\nthis proxy asks for client credentials", "missing"},
		{"not AWS and not tunnelled", "CONNECT other.example:443 HTTP/1.1\r\nHost: x", "407 ", "missing"},
		{"plain http, by ci", "GET http://www.example.com/ HTTP/1.1\r\nHost: www.example.com" + basic(ci.AccessKeyID, ci.SecretAccessKey), "403 Forbidden\nthis proxy handles https:// only", ""},
		{"not tunnelled, by ci", "CONNECT other.example:443 HTTP/1.1\r\nHost: x" + basic(ci.AccessKeyID, ci.SecretAccessKey), "403 other.example is not an AWS API endpoint", ""},
	} {
		before := p.metric(t, `countersign_proxy_authentication_failures_total{reason="`+c.reason+`"}`)
		if got := p.ask(t, c.head); !strings.HasPrefix(got, c.want) || strings.HasPrefix(got, "407") && !strings.Contains(got, "\nWrite HTTPS_PROXY=https://ACCESS_KEY_ID:SECRET@host:port") {
			t.Errorf("%s: %s", c.name, got)
		}
		if after := p.metric(t, `countersign_proxy_authentication_failures_total{reason="`+c.reason+`"}`); (c.reason != "") == (after == before) {
			t.Errorf("%s: %s failures became %s", c.name, before, after)
		}
	}
	isForeign := func(l line) bool { return l.Reason == "foreign host" }
	lines := p.linesUntil(t, func(lines []line) bool { return slices.ContainsFunc(lines, isForeign) })
	at := slices.IndexFunc(lines, isForeign)
	if at < 0 || lines[at].Identity != "ci" || lines[at].AccessKeyID != ci.AccessKeyID || lines[at].Status != 403 {
		t.Errorf("a refused CONNECT is recorded wrongly: %+v", lines)
	}

	// A tunnel names who opened it, when it ends.
	inside := func(keys aws.Credentials) error {
		way, err := url.Parse(withKeysIn(p.url(), keys))
		if err != nil {
			t.Fatal(err)
		}
		client := &http.Client{Timeout: patience, Transport: &http.Transport{
			DisableKeepAlives: true, Proxy: http.ProxyURL(way), TLSClientConfig: &tls.Config{RootCAs: thePKI(t).roots, ServerName: "strict.invalid"},
		}}
		response, err := client.Get("https://www.example.com/")
		if err == nil {
			response.Body.Close()
		}
		return err
	}
	if err := inside(ci); err != nil {
		t.Fatal(err)
	}
	want := line{Identity: "ci", AccessKeyID: ci.AccessKeyID, Method: "CONNECT", Host: "www.example.com", Decision: "allow", Reason: "done", Status: 200}
	eventually(t, fmt.Sprint(want), func() string {
		lines := p.lines(t)
		return fmt.Sprint(lines[len(lines)-1])
	})

	// Whoever signs is who calls, whoever opened the connection: a session of a role
	// is signed with other keys than the proxy was given. Keys that are no good at the
	// door keep nobody from an intercepted host.
	for name, door := range map[string]aws.Credentials{"another identity": other, "wrong keys": {AccessKeyID: ci.AccessKeyID, SecretAccessKey: "not the secret"}} {
		w := p.client("ci")
		w.env = append(w.env, "HTTPS_PROXY="+withKeysIn(p.url(), door))
		before := len(p.lines(t))
		if out := w.must(t, t.TempDir(), nil, sdkClient, "caller"); !strings.Contains(out, "assumed-role/Deploy/ci") {
			t.Errorf("%s at the door: %s", name, out)
		}
		lines := p.linesUntil(t, func(lines []line) bool { return len(lines) > before })
		if l := lines[len(lines)-1]; l.Identity != "ci" || l.AccessKeyID != ci.AccessKeyID {
			t.Errorf("%s at the door: the call is recorded as that of %+v", name, l)
		}
	}

	// What is taken back is taken back here too.
	p.command(t, "revoke", "ci")
	eventually(t, "407 The credentials "+ci.AccessKeyID+" of \"ci\" were revoked.", func() string {
		got := p.ask(t, connect+basic(ci.AccessKeyID, ci.SecretAccessKey))
		first, _, _ := strings.Cut(got, "\n")
		return first
	})
}

// A header for a proxy that a client sends too far inside is not for AWS.
func TestProxyAuthorizationStaysHere(t *testing.T) {
	upstream := record(t, nil)
	p := serve(t, &upstream.upstream, "roles: {source: {arn: \"\"}}\nproxy_authentication: tunnels\n"+
		"identities: {source: {roles: [source], credentials: [{access_key_id: "+clientKeys["source"].AccessKeyID+", secret_access_key_file: source.key}]}}\n")
	call := s3Call("GET", "bucket", "/key", "").sign(t, clientKeys["source"], time.Now())
	call.headers = append(call.headers, [2]string{"Proxy-Authorization", "Basic c2VjcmV0OnNlY3JldA=="})
	response, body := p.dial(t, call.host).send(t, call)
	expectStatus(t, response, body, http.StatusOK)
	if got := upstream.one(t); got.Header.Get("Proxy-Authorization") != "" {
		t.Errorf("AWS receives Proxy-Authorization: %v", got.Header)
	}
}

// `exec` goes through the same door.
func TestExecAuthenticatesAtItsProxy(t *testing.T) {
	u := strictMoto(t)
	home := t.TempDir()
	config := writeConfig(t, home, u, "proxy_authentication: all\naudit: {file: "+filepath.Join(home, "audit.jsonl")+"}\n")
	w := way{name: "exec", wrap: []string{program, "exec", "--config", config, "--role", deployARN, "--"}, env: append(bareEnvironment(home), keyEnvironment(u)...)}
	for name, run := range callers(t) {
		if r := run(t, w, nil); r.code != 0 || !strings.Contains(r.stdout, "assumed-role/Deploy/") {
			t.Errorf("%s: %s%s", name, r.stdout, r.stderr)
		}
	}
	out := w.must(t, home, nil, "sh", "-c", `curl -sS -o /dev/null -w '%{http_connect}' "https://sts.us-east-1.amazonaws.com/" --proxy "${HTTPS_PROXY%%//*}//${HTTPS_PROXY##*@}" || true`)
	if out != "407" {
		t.Errorf("without its credentials the private proxy answers %s", out)
	}
}
