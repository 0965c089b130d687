package e2e

import (
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/countersign-proxy/countersign/sandbox"
)

// signinOf is a sign-in endpoint that checks every parameter, for sessions that
// strict moto issued. Roles whose name begins with Chained were assumed by roles.
func signinOf(t testing.TB, u *upstream) *sandbox.Server {
	t.Helper()
	s, err := sandbox.Start(sandbox.Options{Foreign: func(id string) (sandbox.Session, bool) {
		keys := u.realKeys(t)
		i := slices.IndexFunc(keys, func(k realKey) bool { return k.AccessKeyID == id })
		if i < 0 {
			return sandbox.Session{}, false
		}
		k := keys[i]
		return sandbox.Session{
			Credentials: aws.Credentials{AccessKeyID: id, SecretAccessKey: k.Secret, SessionToken: k.Token, CanExpire: true, Expires: k.Expires},
			ARN:         k.ARN, Chained: strings.Contains(k.ARN, ":assumed-role/Chained"),
		}, true
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if err := os.WriteFile(signinRoot(t, s), s.RootPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// signinRoot is where the root of a sign-in endpoint's certificates is kept.
func signinRoot(t testing.TB, s *sandbox.Server) string {
	t.Helper()
	return filepath.Join(scratch, "signin-"+strings.ReplaceAll(s.Address(), ":", "-")+".pem")
}

// signingIn is the section upstream where AWS's APIs are one stand-in and sign-in is
// another.
func signingIn(t testing.TB, u *upstream, s *sandbox.Server) string {
	t.Helper()
	return override(u.address, thePKI(t).rootFile) + fmt.Sprintf(
		"    - {hosts: [\"*.aws.amazon.com\", \"*.amazonaws.cn\", \"*.amazonaws-us-gov.com\", signin.amazonaws.cn, signin.amazonaws-us-gov.com], address: %q, ca_file: %s, tls: true}\n",
		s.Address(), signinRoot(t, s))
}

// asked are the forms that a sign-in endpoint got for an operation.
func asked(s *sandbox.Server, operation string) (forms []url.Values) {
	for _, r := range s.Requests() {
		if r.Operation == operation && r.Status < 400 {
			forms = append(forms, r.Form)
		}
	}
	return forms
}

// consoleLines are the lines of the record that the console wrote, once there are as
// many as wanted.
func consoleLines(t testing.TB, file string, want int) (lines []auditLine) {
	t.Helper()
	console := func(l auditLine) bool { return l.Service == "console" }
	all := auditUntil(t, file, func(lines []auditLine) bool { return count(lines, console) >= want })
	return slices.DeleteFunc(all, func(l auditLine) bool { return !console(l) })
}

// person runs countersign as a person at a terminal would.
func (p *proxy) person() way {
	return way{name: "countersign", wrap: []string{program}, env: append(slices.Clone(p.env), "COUNTERSIGN_CONFIG="+p.config)}
}

func newJar(t testing.TB) http.CookieJar {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return jar
}
