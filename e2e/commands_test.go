package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Programs that find their credentials through `countersign credentials` or
// `countersign env` sign with a sealed token that the running proxy opens.
func TestCredentialsForARunningProxy(t *testing.T) {
	tool(t, "aws")
	u := strictMoto(t)
	p := serve(t, u, fmt.Sprintf(`identities:
  local: {roles: [deploy]}
  ci: {roles: [deploy], credentials: [{access_key_id: %s, secret_access_key_file: ci.key, role: deploy}]}
`, clientKeys["ci"].AccessKeyID))
	const asks = "aws sts get-caller-identity --query Arn --output text"
	dir := t.TempDir()
	profile := filepath.Join(dir, "config")
	text := "[profile through]\ncredential_process = " + program + " credentials --config " + p.config + " --role deploy\n"
	if err := os.WriteFile(profile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	trust := append(trustEnvironment(p.bundle), "HTTPS_PROXY=http://"+p.address)
	for name, w := range map[string]struct {
		env    []string
		script string
	}{
		"credential_process": {append(trust, "AWS_CONFIG_FILE="+profile, "AWS_PROFILE=through"), asks},
		"env":                {nil, `eval "$(` + program + ` env --config ` + p.config + ` --role deploy --format bash)"; ` + asks},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(readAudit(t, p.audit))
			w := way{name: name, env: append(bareEnvironment(dir), w.env...), wrap: []string{"sh", "-c", w.script}}
			if got := w.must(t, dir, nil); !strings.HasPrefix(got, "arn:aws:sts::"+account+":assumed-role/Deploy/") {
				t.Errorf("signed as %s", got)
			}
			line := waitForAudit(t, p.audit, before+1)[before]
			if line.Identity != "local" || line.Role != "deploy" || !strings.HasPrefix(line.AccessKeyID, "CSIG") || line.Decision != "allow" {
				t.Errorf("audit line: %+v", line)
			}
		})
	}
}

// What reaches the proxy without CONNECT is refused, not passed on.
func TestPlainHTTPIsRefused(t *testing.T) {
	upstream := record(t, nil)
	p := serve(t, &upstream.upstream, "")
	for i, request := range []string{
		"GET http://s3.us-east-1.amazonaws.com/ HTTP/1.1\r\nHost: s3.us-east-1.amazonaws.com\r\n\r\n",
		"GET http://127.0.0.1/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
		"GET http://169.254.169.254/latest/meta-data/ HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: s3.us-east-1.amazonaws.com\r\n\r\n",
	} {
		conn, err := net.Dial("tcp", p.address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		status := make([]byte, len("HTTP/1.1 403"))
		if _, err := io.ReadFull(conn, status); err != nil || status[9] != '4' {
			t.Errorf("%q was answered %q, %v", request, status, err)
		}
		if line := waitForAudit(t, p.audit, i+1)[i]; line.Decision != "deny" {
			t.Errorf("%q left the audit line %+v", request, line)
		}
	}
}
