package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"

	"github.com/countersign-proxy/countersign/sandbox"
)

const commandRoles = `roles:
  deploy: {arn: "arn:aws:iam::123456789012:role/Deploy", duration: 2h, labels: {env: prod}}
  audit: {arn: "arn:aws:iam::210987654321:role/Audit"}
  partner: {arn: "arn:aws:iam::333333333333:role/Partner"}
  hidden: {arn: "arn:aws:iam::444444444444:role/Hidden"}
identities:
  local: {roles: [deploy, audit, partner]}
  other: {roles: [hidden]}
`

// `countersign console` says the same whether a proxy runs or not.
func TestConsoleCommand(t *testing.T) {
	u := strictMoto(t)
	signin := signinOf(t, u)
	p := serve(t, u, commandRoles+signingIn(t, u, signin))
	alone := t.TempDir()
	text := "admin: {listen: \"\"}\naudit: {file: " + filepath.Join(alone, "audit.jsonl") + "}\nstate_dir: " + filepath.Join(alone, "state") +
		"\nsource: {region: " + region + "}\n" + commandRoles + signingIn(t, u, signin)
	file := filepath.Join(alone, "countersign.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	env := append(bareEnvironment(alone), keyEnvironment(u)...)
	for name, w := range map[string]struct {
		way   way
		audit string
	}{
		"of a running proxy": {p.person(), p.audit},
		"by itself":          {way{name: "alone", wrap: []string{program}, env: append(env, "COUNTERSIGN_CONFIG="+file)}, filepath.Join(alone, "audit.jsonl")},
	} {
		t.Run(name, func(t *testing.T) {
			for _, test := range []struct {
				args              []string
				host, destination string
				says              string
			}{
				{nil, "us-east-1.signin.aws.amazon.com", "https://us-east-1.console.aws.amazon.com/console/home?region=us-east-1", "Signed in as deploy in account 123456789012, until "},
				{[]string{"--role", "deploy", "--destination", "s3"}, "us-east-1.signin.aws.amazon.com", "https://us-east-1.console.aws.amazon.com/s3/home?region=us-east-1", "(the end of the role's duration, asked for with SessionDuration)"},
				{[]string{"--role", "arn:aws:iam::123456789012:role/Deploy", "--destination", "https://eu-west-1.console.aws.amazon.com/ec2/home?region=eu-west-1#Instances:v=3"}, "us-east-1.signin.aws.amazon.com",
					"https://eu-west-1.console.aws.amazon.com/ec2/home?region=eu-west-1#Instances:v=3", "account 123456789012"},
			} {
				r := w.way.run(t, alone, nil, append([]string{"console", "--print"}, test.args...)...)
				got, err := url.Parse(strings.TrimSpace(r.stdout))
				if r.code != 0 || err != nil {
					t.Fatalf("%q: %v, %+v", test.args, err, r)
				}
				if got.Host != test.host || got.Path != "/federation" || got.Query().Get("Destination") != test.destination || !strings.Contains(r.stderr, test.says) || strings.Contains(r.stderr, "SigninToken") {
					t.Errorf("%q: %s to %s, said %s", test.args, got.Host, got.Query().Get("Destination"), r.stderr)
				}
				// What was printed signs in.
				if status, to := follow(t, signin, r.stdout); status != http.StatusFound || to != test.destination {
					t.Errorf("%q: AWS answered %d to %s", test.args, status, to)
				}
			}
			for _, test := range []struct {
				args []string
				says string
			}{
				{[]string{"--role", "hidden"}, `it may use: deploy, audit, partner`},
				{[]string{"--destination", "https://console.aws.amazon.com.evil/"}, "not the AWS console"},
				{[]string{"--destination", "https://console.aws.amazon.com@evil.example/"}, "holds a user name"},
				{[]string{"--destination", `https://evil.example\@console.aws.amazon.com/`}, "characters that an address cannot have"},
				{[]string{"--destination", "//console.aws.amazon.com/"}, "not an https address"},
				{[]string{"--destination", "https://console.aws.amazon.com。evil.example/"}, "characters that an address cannot have"},
				{[]string{"--destination", "https://console.amazonaws.cn/"}, "in the partition aws-cn, but the role is in aws"},
				{[]string{"--destination", "nothing"}, "neither a service that this proxy knows"},
			} {
				before := len(signin.Requests())
				r := w.way.run(t, alone, nil, append([]string{"console", "--print"}, test.args...)...)
				if r.code == 0 || r.stdout != "" || !strings.Contains(r.stderr, test.says) {
					t.Errorf("%q: %+v", test.args, r)
				}
				if n := len(signin.Requests()); n != before {
					t.Errorf("%q: AWS was asked", test.args)
				}
			}
			// For scripts.
			var out struct {
				Role, Account, Basis, Destination string
				RoleARN                           string `json:"role_arn"`
				SessionName                       string `json:"session_name"`
				Until                             time.Time
			}
			before := time.Now()
			if err := json.Unmarshal([]byte(w.way.must(t, alone, nil, "console", "--output", "json", "--destination", "logs")), &out); err != nil {
				t.Fatal(err)
			}
			if life := out.Until.Sub(before); life < 119*time.Minute || life > 121*time.Minute {
				t.Errorf("the session lasts %s", life)
			}
			out.Until = time.Time{}
			want := out
			want.Role, want.Account, want.Basis, want.Destination = "deploy", "123456789012", "SessionDuration", "https://us-east-1.console.aws.amazon.com/cloudwatch/home?region=us-east-1#logsV2:log-groups"
			want.RoleARN, want.SessionName = "arn:aws:iam::123456789012:role/Deploy", "local"
			if diff := cmp.Diff(want, out); diff != "" {
				t.Error(diff)
			}
			// The record has each sign-in, and each refusal.
			counts := map[string]int{}
			for _, l := range consoleLines(t, w.audit, 11) {
				counts[l.Operation+" "+l.Decision+" "+l.Reason]++
			}
			if diff := cmp.Diff(map[string]int{"SignIn allow signed in": 4, "SignIn deny destination": 7, "SignIn deny not granted": 1}, counts); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// follow opens a sign-in URL at the stand-in, and returns where it leads.
func follow(t testing.TB, signin *sandbox.Server, address string) (status int, to string) {
	t.Helper()
	roots := thePKI(t).roots.Clone()
	roots.AppendCertsFromPEM(signin.RootPEM())
	client := dialOnly(signin.Address(), roots)
	defer client.CloseIdleConnections()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	response, err := client.Get(strings.TrimSpace(address))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode, response.Header.Get("Location")
}

// The command line of a browser is seen by all users of the machine, so it gets an
// address that leads on once.
func TestConsoleOpensTheBrowser(t *testing.T) {
	u := strictMoto(t)
	signin := signinOf(t, u)
	p := serve(t, u, commandRoles+signingIn(t, u, signin))
	dir := t.TempDir()
	browser := filepath.Join(dir, "browser")
	script := "#!/bin/sh\necho \"$@\" >>" + dir + "/args\ncurl -s -o /dev/null -D " + dir + "/head \"$1\"\ncurl -s -o /dev/null -w '%{http_code}' \"$1\" >" + dir + "/again.tmp\nmv " + dir + "/again.tmp " + dir + "/again\n"
	if err := os.WriteFile(browser, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	tool(t, "curl")
	out := p.person().must(t, dir, []string{"BROWSER=" + browser, "NO_PROXY=127.0.0.1"}, "console", "--role", "deploy", "--destination", "s3")
	if out != "" {
		t.Errorf("printed %q", out)
	}
	read := func(name string) string {
		t.Helper()
		for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			text, err := os.ReadFile(filepath.Join(dir, name))
			if err == nil {
				return string(text)
			} else if time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
	}
	if again := read("again"); again == "303" {
		t.Error("the address led on twice")
	}
	if args := read("args"); !regexp.MustCompile(`^http://127\.0\.0\.1:\d+/[0-9a-f]{40}\n$`).MatchString(args) {
		t.Errorf("the browser was started with %s", args)
	}
	head := read("head")
	for _, want := range []string{"HTTP/1.1 303", "Cache-Control: no-store", "Referrer-Policy: no-referrer", "Location: https://us-east-1.signin.aws.amazon.com/federation?"} {
		if !strings.Contains(head, want) {
			t.Errorf("the answer lacks %q: %s", want, head)
		}
	}
}

// At a terminal, somebody with several roles is asked for one.
func TestConsoleRolePicker(t *testing.T) {
	u := strictMoto(t)
	signin := signinOf(t, u)
	p := serve(t, u, commandRoles+signingIn(t, u, signin))
	for _, test := range []struct {
		keys string
		role string // "": nobody is signed in
		want string
	}{
		{"\r", "deploy", "Role [1: deploy]: "},
		{"7\rgo\r3\r", "partner", `There is no "7"; give a number or a name.`},
		{"audit\r", "audit", "  2  audit    arn:aws:iam::210987654321:role/Audit"},
		{"\x04", "", "no role was chosen"},
		{"\x03", "", "Role [1: deploy]: "},
	} {
		w := p.person()
		command := exec.Command(program, "console", "--print")
		command.Env = w.env
		dieWithParent(command)
		terminal, err := pty.Start(command)
		if err != nil {
			t.Fatal(err)
		}
		var seen bytes.Buffer
		copied := make(chan struct{})
		shown := make(chan struct{})
		go func() {
			defer close(copied)
			first := false
			b := make([]byte, 4096)
			for {
				n, err := terminal.Read(b)
				seen.Write(b[:n])
				if !first && bytes.Contains(seen.Bytes(), []byte("]: ")) {
					first = true
					close(shown)
				}
				if err != nil { // EIO, once the program has ended
					return
				}
			}
		}()
		select {
		case <-shown:
		case <-copied:
		case <-time.After(patience):
			t.Fatal("nothing was asked")
		}
		if _, err := io.WriteString(terminal, test.keys); err != nil {
			t.Fatal(err)
		}
		<-copied
		err = command.Wait()
		terminal.Close()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		text := seen.String()
		if !strings.Contains(text, test.want) || (err == nil) != (test.role != "") {
			t.Errorf("%q: %v, shown\n%s", test.keys, err, text)
		}
		if said := fmt.Sprintf("Signed in as %s in account", test.role); test.role != "" && !strings.Contains(text, said) {
			t.Errorf("%q: shown\n%s", test.keys, text)
		}
	}
}

// Each partition has a sign-in of its own, or none.
func TestConsolePartitions(t *testing.T) {
	aws, err := sandbox.Start(sandbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = aws.Close() })
	if err := os.WriteFile(signinRoot(t, aws), aws.RootPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		partition, region string
		host, destination string // "": refused
	}{
		{"aws", "eu-west-1", "eu-west-1.signin.aws.amazon.com", "https://eu-west-1.console.aws.amazon.com/s3/home?region=eu-west-1"},
		{"aws-us-gov", "us-gov-west-1", "us-gov-west-1.signin.amazonaws-us-gov.com", "https://us-gov-west-1.console.amazonaws-us-gov.com/s3/home?region=us-gov-west-1"},
		{"aws-cn", "cn-north-1", "cn-north-1.signin.amazonaws.cn", "https://cn-north-1.console.amazonaws.cn/s3/home?region=cn-north-1"},
		{"aws-eusc", "eusc-de-east-1", "eusc-de-east-1.signin.amazonaws-eusc.eu", "https://eusc-de-east-1.console.amazonaws-eusc.eu/s3/home?region=eusc-de-east-1"},
		{"aws-iso", "us-iso-east-1", "", `The partition "aws-iso" has no console sign-in that this proxy knows; it knows aws, aws-cn, aws-us-gov, aws-eusc.`},
		{"aws-iso-b", "us-isob-east-1", "", `The partition "aws-iso-b" has no console sign-in`},
	} {
		dir := t.TempDir()
		text := fmt.Sprintf(`admin: {listen: ""}
audit: {file: %[1]s/audit.jsonl}
state_dir: %[1]s/state
source: {region: %[3]s}
roles:
  deploy: {arn: "arn:%[2]s:iam::123456789012:role/Deploy"}
upstream: {proxy: none, override: [{hosts: ["*"], address: %[4]q, ca_file: %[5]s, tls: true}]}
`, dir, test.partition, test.region, aws.Address(), signinRoot(t, aws))
		file := filepath.Join(dir, "countersign.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		keys := aws.Credentials()
		w := way{name: test.partition, wrap: []string{program}, env: append(bareEnvironment(dir), "COUNTERSIGN_CONFIG="+file, "AWS_REGION="+test.region,
			"AWS_ACCESS_KEY_ID="+keys.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+keys.SecretAccessKey)}
		r := w.run(t, dir, nil, "console", "--print", "--destination", "s3")
		got, err := url.Parse(strings.TrimSpace(r.stdout))
		if test.host == "" {
			if r.code == 0 || r.stdout != "" || !strings.Contains(r.stderr, test.destination) || !strings.Contains(r.stderr, "countersign exec") {
				t.Errorf("%s: %+v", test.partition, r)
			}
			continue
		}
		if r.code != 0 || err != nil || got.Host != test.host || got.Query().Get("Destination") != test.destination {
			t.Errorf("%s: %v, %s to %s: %s", test.partition, err, got.Host, got.Query().Get("Destination"), r.stderr)
		}
		if status, to := follow(t, aws, r.stdout); status != http.StatusFound || to != test.destination {
			t.Errorf("%s: AWS answered %d to %s", test.partition, status, to)
		}
		for host, owner := range map[string]string{"https://console.aws.amazon.com/s3/": "aws", "https://console.amazonaws.cn/s3/": "aws-cn"} {
			if r := w.run(t, dir, nil, "console", "--print", "--destination", host); (r.code == 0) != (owner == test.partition) {
				t.Errorf("%s: %s: %d %s", test.partition, host, r.code, r.stderr)
			}
		}
	}
}

// Accounts of several owners, one of which asks for an external id. Only here does
// STS hold a role's trust policy against what is sent.
func TestConsoleAccounts(t *testing.T) {
	aws, err := sandbox.Start(sandbox.Options{Roles: map[string]sandbox.Role{
		"arn:aws:iam::111111111111:role/Test":       {},
		"arn:aws:iam::222222222222:role/Production": {MaxDuration: 4 * time.Hour},
		"arn:aws:iam::333333333333:role/Partner":    {ExternalID: "partner-7f3a"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = aws.Close() })
	if err := os.WriteFile(signinRoot(t, aws), aws.RootPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	u := &upstream{name: "sandbox", address: aws.Address(), keys: aws.Credentials()}
	p := serve(t, u, `roles:
  test: {arn: "arn:aws:iam::111111111111:role/Test", labels: {aws_account_name: Test, env: test}}
  production: {arn: "arn:aws:iam::222222222222:role/Production", duration: 4h, labels: {aws_account_name: Production, env: prod}}
  partner: {arn: "arn:aws:iam::333333333333:role/Partner", external_id: partner-7f3a, labels: {aws_account_name: Partner}}
  stale: {arn: "arn:aws:iam::333333333333:role/Partner", external_id: partner-0000}
  careless: {arn: "arn:aws:iam::333333333333:role/Partner"}
identities:
  local: {roles: [test, production, partner, stale, careless]}
  other: {roles: [test]}
upstream:
  proxy: none
  override: [{hosts: ["*"], address: "`+aws.Address()+`", ca_file: "`+signinRoot(t, aws)+`", tls: true}]
`)
	for _, test := range []struct {
		role, account, external string
		duration                string
		refused                 string
	}{
		{"test", "111111111111", "", "3600", ""},
		{"production", "222222222222", "", "14400", ""},
		{"partner", "333333333333", "partner-7f3a", "3600", ""},
		{"stale", "333333333333", "partner-0000", "", "expects the same external id"},
		{"careless", "333333333333", "", "", "demands no external id"},
	} {
		aws.Forget()
		r := p.person().run(t, t.TempDir(), nil, "console", "--print", "--role", test.role)
		assumed := asked(aws, "AssumeRole")
		if test.refused != "" {
			if r.code == 0 || r.stdout != "" || !strings.Contains(r.stderr, test.refused) || len(assumed) != 0 {
				t.Errorf("%s: %+v", test.role, r)
			}
			continue
		}
		if r.code != 0 || !strings.Contains(r.stderr, "Signed in as "+test.role+" in account "+test.account) {
			t.Fatalf("%s: %+v", test.role, r)
		}
		if len(assumed) != 1 || assumed[0].Get("ExternalId") != test.external || assumed[0].Get("RoleSessionName") != "local" {
			t.Errorf("%s: STS was asked %v", test.role, assumed)
		}
		if got := asked(aws, "GetSigninToken"); len(got) != 1 || got[0].Get("SessionDuration") != test.duration {
			t.Errorf("%s: sign-in was asked for %v seconds", test.role, got[0]["SessionDuration"])
		}
	}
	// Another person's role.
	r := p.person().run(t, t.TempDir(), nil, "console", "--print", "--identity", "other", "--role", "production")
	if r.code == 0 || !strings.Contains(r.stderr, "it may use: test") {
		t.Errorf("another's role: %+v", r)
	}
	var got []string
	for _, l := range consoleLines(t, p.audit, 5) {
		got = append(got, strings.Join([]string{l.Identity, l.Role, l.RoleARN, l.Decision, l.Reason}, " "))
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string{
		"local careless  deny session",
		"local partner arn:aws:iam::333333333333:role/Partner allow signed in",
		"local production arn:aws:iam::222222222222:role/Production allow signed in",
		"local stale  deny session",
		"local test arn:aws:iam::111111111111:role/Test allow signed in",
		"other production  deny not granted",
	}, got); diff != "" {
		t.Error(diff)
	}
}

// `countersign logout` ends what was made for an identity, and says what it cannot end.
func TestConsoleLogout(t *testing.T) {
	t.Parallel()
	tool(t, "aws")
	u := strictMoto(t)
	p := serve(t, u, "identities: {local: {roles: [deploy, source]}, other: {roles: [deploy]}}\n")
	person := p.person()
	dir := t.TempDir()
	signIn := func() *http.Client {
		t.Helper()
		link := strings.TrimSpace(person.must(t, dir, nil, "console", "--link"))
		client := &http.Client{Jar: newJar(t)}
		response, err := client.Get(link)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return client
	}
	home := func(c *http.Client) string {
		t.Helper()
		response, err := c.Get("http://" + p.admin + "/console/")
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
	c := signIn()
	if !strings.Contains(home(c), deployARN) {
		t.Fatal("the link did not sign in")
	}
	mint := func(identity string) way {
		t.Helper()
		var keys struct{ AccessKeyId, SecretAccessKey, SessionToken string }
		if err := json.Unmarshal([]byte(person.must(t, dir, nil, "credentials", "--identity", identity, "--role", "deploy")), &keys); err != nil {
			t.Fatal(err)
		}
		return p.client("ci").withKeys(keys.AccessKeyId, keys.SecretAccessKey, keys.SessionToken)
	}
	own, others := mint("local"), mint("other")
	// A virtual session: what AssumeRole answers through the proxy.
	assumed := own.must(t, dir, nil, "aws", "sts", "assume-role", "--role-arn", deployARN, "--role-session-name", "nested", "--output", "json")
	var virtual struct {
		Credentials struct{ AccessKeyId, SecretAccessKey, SessionToken string }
	}
	if err := json.Unmarshal([]byte(assumed), &virtual); err != nil {
		t.Fatal(err)
	}
	nested := own.withKeys(virtual.Credentials.AccessKeyId, virtual.Credentials.SecretAccessKey, virtual.Credentials.SessionToken)
	works := func(w way) bool {
		return w.run(t, dir, nil, "aws", "sts", "get-caller-identity").code == 0
	}
	if !works(own) || !works(others) || !works(nested) {
		t.Fatal("what was minted does not work")
	}
	held := func() []string {
		t.Helper()
		var list struct {
			Roles []struct{ Identity string } `json:"role_sessions"`
		}
		if err := json.Unmarshal([]byte(person.must(t, dir, nil, "sessions", "--output", "json")), &list); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, s := range list.Roles {
			names = append(names, s.Identity)
		}
		slices.Sort(names)
		return slices.Compact(names)
	}
	if got := held(); !slices.Equal(got, []string{"local", "other"}) {
		t.Fatalf("sessions are held for %q", got)
	}
	r := person.run(t, dir, nil, "logout")
	if r.code != 0 || !strings.Contains(r.stderr, "AWS console sessions live until they expire") || !strings.Contains(r.stderr, "has dropped the role sessions") {
		t.Errorf("logout said %+v", r)
	}
	if got := held(); !slices.Equal(got, []string{"other"}) {
		t.Errorf("after logout sessions are held for %q", got)
	}
	for deadline := time.Now().Add(patience); works(own); {
		if time.Now().After(deadline) {
			t.Fatal("client credentials work after logout")
		}
	}
	if works(nested) {
		t.Error("the virtual session works after logout")
	}
	if !works(others) {
		t.Error("another identity's credentials ended as well")
	}
	if text := home(c); strings.Contains(text, deployARN) || !strings.Contains(text, "Sign in") {
		t.Error("the page still knows the browser")
	}
	if text := home(signIn()); !strings.Contains(text, deployARN) {
		t.Error("nobody can sign in again")
	}
}

// On a terminal serve prints a link that signs in once.
func TestConsoleLinkOfServe(t *testing.T) {
	u := strictMoto(t)
	dir := t.TempDir()
	address, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	admin, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	file := writeConfig(t, dir, u, "listen: "+address+"\nadmin: {listen: "+admin+"}\naudit: {file: "+filepath.Join(dir, "audit.jsonl")+"}\nroles: {deploy: {arn: \""+deployARN+"\"}}\n")
	command := exec.Command(program, "serve", "--config", file)
	command.Env = append(bareEnvironment(dir), keyEnvironment(u)...)
	dieWithParent(command)
	terminal, err := pty.Start(command)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	links := regexp.MustCompile(`http://[0-9.:]+/console/start\?t=\S+`)
	found := make(chan string, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		var seen []byte
		b := make([]byte, 4096)
		for {
			n, err := terminal.Read(b)
			seen = append(seen, b[:n]...)
			// Whole once something follows it.
			if at := links.FindIndex(seen); at != nil && at[1] < len(seen) {
				select {
				case found <- string(seen[at[0]:at[1]]):
				default:
				}
			}
			if err != nil { // EIO, once the program has ended
				return
			}
		}
	}()
	select {
	case link := <-found:
		client := &http.Client{Jar: newJar(t)}
		for i, want := range []int{http.StatusOK, http.StatusForbidden} {
			response, err := client.Get(link)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if response.StatusCode != want {
				t.Errorf("time %d: %d, want %d", i+1, response.StatusCode, want)
			}
			client = &http.Client{} // another browser
		}
	case <-done:
		t.Error("serve ended without printing a link")
	case <-time.After(patience):
		t.Error("no link was printed")
	}
	if err := command.Process.Signal(os.Interrupt); err != nil {
		t.Error(err)
	}
	<-done
	if err := command.Wait(); err != nil {
		t.Errorf("serve ended with %v", err)
	}
}
