package e2e

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// A proxy is a running `countersign serve`.
type proxy struct {
	program string // "": the one under test
	address string
	admin   string
	config  string
	env     []string // what it was started with
	audit   string
	bundle  string // PEM: what its clients trust
	roots   *x509.CertPool
	state   string
	process *os.Process
	stdout  *os.File
	stderr  *os.File
	clients map[string]aws.Credentials

	recordLost bool // set by a test: serve is to fail at its end, for lines it could not write
	stopping   bool // the process was told to end; a second signal would have it end at once
}

// Client credentials that the configuration of every proxy here names.
var clientKeys = map[string]aws.Credentials{
	"ci":     {AccessKeyID: "CSIGAAAABBBBCCCCDDDD", SecretAccessKey: "ci-secret-0123456789-0123456789-01234567"},
	"source": {AccessKeyID: "CSIGEEEEFFFFGGGGHHHH", SecretAccessKey: "source-secret-0123456789-0123456789-0123"},
}

// adminAddress stands for the address of the admin listener in a configuration.
const adminAddress = "ADMIN-ADDRESS"

// serve starts a proxy before an upstream. The identity "ci" has the role
// deploy, and "source" one that is the source credentials themselves. A top
// level key in more replaces the one of that name.
func serve(t testing.TB, u *upstream, more string) *proxy {
	t.Helper()
	return serveWith(t, u, more, nil)
}

func serveWith(t testing.TB, u *upstream, more string, env []string) *proxy {
	t.Helper()
	return serveBy(t, "", u, more, env)
}

// serveBy serves by another program than the one under test.
func serveBy(t testing.TB, program string, u *upstream, more string, env []string) *proxy {
	t.Helper()
	dir := t.TempDir()
	p := &proxy{
		program: program,
		config:  filepath.Join(dir, "countersign.yaml"),
		env:     append(bareEnvironment(dir), keyEnvironment(u)...),
		audit:   filepath.Join(dir, "audit.jsonl"),
		bundle:  filepath.Join(dir, "bundle.pem"),
		state:   filepath.Join(dir, "state"),
		clients: clientKeys,
	}
	for name, keys := range p.clients {
		if err := os.WriteFile(filepath.Join(dir, name+".key"), []byte(keys.SecretAccessKey+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.env = append(p.env, env...)
	var failures []error
	for range 3 {
		var err error
		if p.address, err = freeAddress(); err != nil {
			t.Fatal(err)
		}
		if p.admin, err = freeAddress(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p.config, []byte(p.configuration(u, thePKI(t), more)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := p.start(t, dir); err != nil {
			failures = append(failures, err)
			continue
		}
		p.trust(t)
		return p
	}
	t.Fatal(errors.Join(failures...))
	return nil
}

func (p *proxy) configuration(u *upstream, pki *pki, more string) string {
	more = strings.ReplaceAll(more, adminAddress, p.admin)
	sections := []string{
		"listen: " + p.address,
		"admin: {listen: " + p.admin + "}",
		"state_dir: " + p.state,
		"source: {region: " + region + ", sts_region: " + region + "}",
		"audit: {file: " + p.audit + ", required: true}",
		"roles: {deploy: {arn: \"" + deployARN + "\"}, source: {arn: \"\"}}",
		fmt.Sprintf(`identities:
  ci: {roles: [deploy], credentials: [{access_key_id: %s, secret_access_key_file: ci.key, role: deploy}]}
  source: {roles: [source], credentials: [{access_key_id: %s, secret_access_key_file: source.key, role: source}]}`,
			p.clients["ci"].AccessKeyID, p.clients["source"].AccessKeyID),
		override(u.address, pki.rootFile),
	}
	var text strings.Builder
	for _, section := range sections {
		key, _, _ := strings.Cut(section, ":")
		if !strings.HasPrefix(more, key+":") && !strings.Contains(more, "\n"+key+":") {
			text.WriteString(section + "\n")
		}
	}
	return text.String() + more
}

// override leads every host of AWS to one address.
func override(address, rootFile string) string {
	return fmt.Sprintf(`upstream:
  proxy: none
  override:
    - {hosts: ["*.amazonaws.com"], address: %q, ca_file: %s, tls: true}
`, address, rootFile)
}

func (p *proxy) start(t testing.TB, dir string) (err error) {
	t.Helper()
	if p.stdout, err = os.Create(filepath.Join(dir, "stdout")); err != nil {
		return err
	}
	if p.stderr, err = os.Create(filepath.Join(dir, "stderr")); err != nil {
		return err
	}
	command := exec.Command(cmp.Or(p.program, program), "serve", "--config", p.config)
	command.Dir = dir
	command.Env = p.env
	command.Stdout, command.Stderr = p.stdout, p.stderr
	dieWithParent(command)
	if err := command.Start(); err != nil {
		return err
	}
	process := command.Process
	p.process, p.stopping = process, false
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	ready := false
	t.Cleanup(func() {
		if process == p.process {
			p.terminate()
		}
		select {
		case err := <-ended:
			if ready && (err != nil) != p.recordLost { // else start has said it already
				t.Errorf("serve ended with %v", err)
			}
		case <-time.After(patience):
			process.Kill()
			t.Errorf("serve did not end within %s of SIGTERM", patience)
		}
		p.stdout.Close()
		p.stderr.Close()
		if t.Failed() {
			t.Logf("serve said:\n%s", p.said())
		}
	})
	deadline := time.Now().Add(patience)
	for {
		response, err := http.Get("http://" + p.admin + "/readyz")
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				ready = true
				return nil
			}
		}
		select {
		case err := <-ended:
			ended <- err
			return fmt.Errorf("serve ended: %v\n%s", err, p.said())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			process.Kill()
			return fmt.Errorf("serve is not ready after %s: %v\n%s", patience, err, p.said())
		}
	}
}

// terminate tells the process to end, once: a second signal would have it leave
// requests unanswered.
func (p *proxy) terminate() error {
	if p.stopping {
		return nil
	}
	p.stopping = true
	return p.process.Signal(syscall.SIGTERM)
}

// said is all that serve wrote, standard output and error.
func (p *proxy) said() string {
	out, _ := os.ReadFile(p.stdout.Name())
	err, _ := os.ReadFile(p.stderr.Name())
	return string(bytes.Join([][]byte{out, err}, nil))
}

// trust fetches the trust bundle with the command that users have for it.
func (p *proxy) trust(t testing.TB) {
	t.Helper()
	command := exec.Command(program, "ca", "export", "--config", p.config, "--format", "bundle", "--out", p.bundle)
	command.Env = p.env
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("ca export: %v\n%s", err, output)
	}
	text, err := os.ReadFile(p.bundle)
	if err != nil {
		t.Fatal(err)
	}
	p.roots = x509.NewCertPool()
	if !p.roots.AppendCertsFromPEM(text) {
		t.Fatal("the exported bundle holds no certificate")
	}
}

// client is the way of a program that was given an identity's static keys.
func (p *proxy) client(identity string) way {
	keys := p.clients[identity]
	env := append(bareEnvironment(filepath.Dir(p.config)), trustEnvironment(p.bundle)...)
	return way{
		name: "through serve",
		env: append(env,
			"HTTPS_PROXY=http://"+p.address,
			"AWS_ACCESS_KEY_ID="+keys.AccessKeyID,
			"AWS_SECRET_ACCESS_KEY="+keys.SecretAccessKey),
		audit: p.audit,
	}
}

func (p *proxy) url() *url.URL { return &url.URL{Scheme: "http", Host: p.address} }

// connect opens a tunnel through the proxy and returns it as it is, before TLS.
func (p *proxy) connect(t testing.TB, authority string) (net.Conn, *http.Response) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", p.address, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn, connectOver(t, conn, authority)
}

// Whoever can reach the admin listener cannot take the proxy's file descriptors.
func TestAdminConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	const most = 4
	p := serve(t, strictMoto(t), fmt.Sprintf("limits: {connections: %d}\n", most))
	began := time.Now()
	var held []net.Conn
	for range most {
		c, err := net.Dial("tcp", p.admin)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		held = append(held, c)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	// Ten seconds without a request end a connection. A machine that is too slow to see
	// the difference passes.
	one := &http.Client{Transport: transport, Timeout: time.Second}
	if response, err := one.Get("http://" + p.admin + "/healthz"); err == nil {
		response.Body.Close()
		if time.Since(began) < 8*time.Second {
			t.Errorf("connection %d was served", most+1)
		}
	}
	for _, c := range held {
		c.Close()
	}
	response, err := (&http.Client{Transport: transport}).Get("http://" + p.admin + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
}
