package main

import (
	"bufio"
	"context"
	"errors"
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
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/countersign-proxy/countersign/audit"
	"github.com/countersign-proxy/countersign/config"
	"github.com/countersign-proxy/countersign/metrics"
	"github.com/countersign-proxy/countersign/mitm"
	"github.com/countersign-proxy/countersign/rolesession"
)

// assemble makes a proxy of a configuration in dir without listening.
func assemble(t *testing.T, dir, text string) (*config.Config, *proxy, error) {
	t.Helper()
	cfg := loaded(t, dir, text)
	p, err := newProxy(t.Context(), cfg, newGrants(cfg, in(nil)), proxyOptions{
		Source: staticSource(aws.Credentials{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: "x"}),
		Audit:  audit.Options{Writer: io.Discard, Required: true}, Log: zap.NewNop(), Getenv: in(nil),
	})
	return cfg, p, err
}

func loaded(t *testing.T, dir, text string) *config.Config {
	t.Helper()
	path := filepath.Join(dir, "c.yaml")
	if err := os.WriteFile(path, []byte("listen: 127.0.0.1:0\nadmin: {listen: 127.0.0.1:0}\nstate_dir: state\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(config.Options{Path: path, Env: []string{}, Home: dir})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// A proxy that could not be put together, or not listen, leaves nothing running.
func TestAProxyThatFailsLeavesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		text  string
		files map[string]string // mode 0600; a folder where the name ends in /
		want  string
	}{
		"CA":          {"", map[string]string{"state/": "", "state/ca/": "", "state/ca/authority.pem": "no key"}, "certificate authority"},
		"policy":      {"roles: {r: {policies: [p.json]}}", map[string]string{"p.json": "{"}, "roles.r.policies"},
		"boundary":    {"roles: {r: {}}\nidentities: {ci: {roles: [r], boundary: p.json}}", map[string]string{"p.json": "{"}, "boundary"},
		"sealing key": {"sealing_keys: [k]", map[string]string{"k": "short"}, "sealing key"},
		"override":    {"upstream: {override: [{hosts: [a.example], address: \"127.0.0.1:1\", ca_file: roots.pem}]}", map[string]string{"roots.pem": "none"}, "ca_file"},
	} {
		t.Run(name, func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			dir := t.TempDir()
			for _, name := range sortedNames(c.files) {
				path := filepath.Join(dir, name)
				var err error
				if strings.HasSuffix(name, "/") {
					err = os.Mkdir(path, 0o700)
				} else {
					err = os.WriteFile(path, []byte(c.files[name]), 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			_, p, err := assemble(t, dir, c.text)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				if p != nil {
					_ = p.shutdown(context.Background())
				}
				t.Fatalf("%v", err)
			}
		})
	}
}

// What a running proxy started is gone when it has been shut down, and so are
// its listeners, used or not.
func TestShutdownLeavesNothing(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	_, p, err := assemble(t, t.TempDir(), "endpoint: {listen: 127.0.0.1:0}\nmetrics: {listen: 127.0.0.1:0}\n")
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 8)
	if err := p.listen(t.Context(), func(err error) { failed <- err }); err != nil {
		t.Fatal(err)
	}
	addresses := []string{p.addresses.proxy, p.addresses.endpoint, p.addresses.admin}
	for _, address := range addresses {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, address := range addresses {
		if c, err := net.Dial("tcp", address); err == nil {
			_ = c.Close()
			t.Errorf("%s is still listened on", address)
		}
	}
	select {
	case err := <-failed:
		t.Errorf("the end is reported as a failure: %v", err)
	default:
	}
}

// When one address is taken none is listened on.
func TestListenAllOrNothing(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	address, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	_, p, err := assemble(t, t.TempDir(), "endpoint: {listen: \""+address+"\"}\nmetrics: {listen: \""+taken.Addr().String()+"\"}\n")
	if err != nil {
		t.Fatal(err)
	}
	err = p.listen(t.Context(), func(error) {})
	if err == nil || !strings.HasPrefix(err.Error(), "metrics.listen: ") || !strings.HasSuffix(err.Error(), "; choose another address (COUNTERSIGN_METRICS_LISTEN), or stop the program that listens there") {
		t.Errorf("%v", err)
	}
	if l, err := net.Listen("tcp", address); err != nil {
		t.Errorf("endpoint.listen was not given back: %v", err)
	} else {
		_ = l.Close()
	}
	if err := p.shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// A reload is the whole new configuration or none of it.
func TestReloadIsAtomic(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir := t.TempDir()
	_, p, err := assemble(t, dir, twoRolesPlain)
	if err != nil {
		t.Fatal(err)
	}
	before := p.engine.Load()
	if err := os.WriteFile(filepath.Join(dir, "p.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	bad := loaded(t, dir, "roles: {other: {}, worse: {policies: [p.json]}}")
	if err := p.reload(t.Context(), bad); err == nil {
		t.Error("a policy that cannot be read was taken up")
	}
	if p.engine.Load() != before {
		t.Error("a part of it was taken up")
	}
	good := loaded(t, dir, "roles: {other: {}}")
	if err := p.reload(t.Context(), good); err != nil {
		t.Error(err)
	}
	after := p.engine.Load()
	if after == before || after.cfg != good || after.grants.order[0] != "other" {
		t.Errorf("not taken up: %q", after.grants.order)
	}
	if after.sessions != before.sessions {
		t.Error("role sessions were thrown away although nothing on the way to STS has changed")
	}
	if err := p.shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// Tunnels go the way out that the configuration in force names, as calls do.
func TestReloadChangesTheWayOutOfTunnels(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir := t.TempDir()
	_, p, err := assemble(t, dir, "upstream: {proxy: none}")
	if err != nil {
		t.Fatal(err)
	}
	target := &url.URL{Scheme: "https", Host: "example.com:443"}
	if way, err := p.tunnelProxy(target); way != nil || err != nil {
		t.Errorf("%v %v", way, err)
	}
	if err := p.reload(t.Context(), loaded(t, dir, "upstream: {proxy: \"http://proxy.example:3128\"}")); err != nil {
		t.Fatal(err)
	}
	if way, err := p.tunnelProxy(target); err != nil || way == nil || way.Host != "proxy.example:3128" {
		t.Errorf("%v %v", way, err)
	}
	if err := p.shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// A fault is counted once, whoever has met it: the pipeline counts its own.
func TestPanicsAreCounted(t *testing.T) {
	_, p, err := assemble(t, t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	p.recordEvent(mitm.Event{Kind: mitm.KindPanic, Code: mitm.CodePanic, Method: http.MethodGet}, "1")
	p.recordEvent(mitm.Event{Kind: mitm.KindPanic, Code: mitm.CodePanic, Method: http.MethodConnect}, "2")
	const name = "countersign_panics_total"
	const want = "# HELP " + name + " Requests that ended in a panic of their handler.\n# TYPE " + name + " counter\n" + name + " 1\n"
	if err := testutil.GatherAndCompare(p.metrics.Registry(), strings.NewReader(want), name); err != nil {
		t.Error(err)
	}
}

// The metric counts what the CA signs, also after another one was taken up.
func TestIssuedCertificatesAreCounted(t *testing.T) {
	_, p, err := assemble(t, t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	const name = "countersign_certificates_issued_total"
	for i, again := range []bool{false, false, true} {
		if again {
			if _, err := p.reloadAuthority(true); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 { // the second one is kept from before
			if _, err := p.authority.Load().Certificate(fmt.Sprintf("s%d.amazonaws.com", i)); err != nil {
				t.Fatal(err)
			}
		}
		want := fmt.Sprintf("# HELP %s Leaf certificates issued.\n# TYPE %[1]s counter\n%[1]s %d\n", name, i+1)
		if err := testutil.GatherAndCompare(p.metrics.Registry(), strings.NewReader(want), name); err != nil {
			t.Error(err)
		}
	}
}

// Whatever is wrong with a new configuration, the one before stays, the log says
// why, and the metric that people are alerted by tells of it.
func TestReloadThatIsRefused(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	for name, c := range map[string]struct{ text, why string }{
		"not a configuration": {"rols: {}", "there is no such key"},
		"empty":               {"", "is empty"},
		// As a start would refuse it. The listener that is open counts, whatever
		// listen is in the new file.
		"a way out that leads back in": {"listen: 127.0.0.1:0\nupstream: {proxy: \"http://localhost:8800\"}", "which is this proxy itself"},
		"a policy that is none":        {"roles: {read: {policies: [c.yaml]}}", "roles.read.policies"},
	} {
		t.Run(name, func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			dir := t.TempDir()
			_, p, err := assemble(t, dir, "")
			if err != nil {
				t.Fatal(err)
			}
			core, said := observer.New(zap.ErrorLevel)
			p.log = zap.New(core)
			p.addresses.proxy = "127.0.0.1:8800"
			before := p.engine.Load()
			path := filepath.Join(dir, "c.yaml")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			a := &app{configPath: path, environ: func() []string { return []string{"COUNTERSIGN_STATE_DIR=" + filepath.Join(dir, "state")} }, getenv: in(nil)}
			a.reload(t.Context(), p)
			if p.engine.Load() != before {
				t.Error("it was taken up")
			}
			if lines := said.All(); len(lines) != 1 || !strings.Contains(fmt.Sprint(lines[0].ContextMap()), c.why) {
				t.Errorf("%v", lines)
			}
			inForce := func(want int) {
				t.Helper()
				const name = "countersign_config_last_reload_successful"
				text := fmt.Sprintf("# HELP %s Whether the configuration in force is the one on disk: 1 after a load that succeeded, 0 after one that failed.\n"+
					"# TYPE %[1]s gauge\n%[1]s %d\n", name, want)
				if err := testutil.GatherAndCompare(p.metrics.Registry(), strings.NewReader(text), name); err != nil {
					t.Error(err)
				}
			}
			inForce(0)
			if err := os.WriteFile(path, []byte("roles: {read: {}}"), 0o600); err != nil {
				t.Fatal(err)
			}
			a.reload(t.Context(), p)
			inForce(1)
			if err := p.shutdown(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
}

// What a reload cannot change is named, each limit of the listeners included.
func TestSettingsThatNeedARestart(t *testing.T) {
	dir := t.TempDir()
	before := loaded(t, dir, "")
	if got := needRestart(before, loaded(t, dir, "roles: {other: {}}\nlimits: {body_buffer: 2MiB, drain_timeout: 9s, response_timeout: 9s}")); got != nil {
		t.Errorf("%q", got)
	}
	got := needRestart(before, loaded(t, dir, "endpoint: {listen: 127.0.0.1:0}\nlog: {level: debug}\nlimits: {connections: 9, tunnels: 9, header: 9KiB, "+
		"header_timeout: 9s, body_timeout: 9s, idle_timeout: 9s, tunnel_idle_timeout: 9s, tls_timeout: 9s, connect_timeout: 9s}"))
	want := []string{"endpoint.listen", "log", "limits.connections", "limits.tunnels", "limits.header", "limits.header_timeout",
		"limits.body_timeout", "limits.idle_timeout", "limits.tunnel_idle_timeout", "limits.tls_timeout", "limits.connect_timeout"}
	if !slices.Equal(got, want) {
		t.Errorf("\n got %q\nwant %q", got, want)
	}
}

const twoRolesPlain = `roles: {read: {arn: "arn:aws:iam::123456789012:role/Read"}, deploy: {arn: "arn:aws:iam::123456789012:role/Deploy"}}`

// Without a list of their own, metrics know calls to STS by the words of rolesession.
func TestDefaultSTSResultsAreTheOutcomes(t *testing.T) {
	if got, want := metrics.DefaultSTSResults, stsResults(); !slices.Equal(got, want) {
		t.Errorf("metrics count %q, and calls end in %q", got, want)
	}
}

// A proxy that drains says so to balancers, and still serves whoever comes. On
// loopback that is over when nobody is connected.
func TestDrainTurnsNobodyAway(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	_, p, err := assemble(t, t.TempDir(), "endpoint: {listen: 127.0.0.1:0}\n")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.listen(t.Context(), func(err error) { t.Error(err) }); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	status := func(url string) int {
		t.Helper()
		r, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		return r.StatusCode
	}
	if got := status("http://" + p.addresses.admin + "/readyz"); got != http.StatusOK {
		t.Fatalf("/readyz answers %d", got)
	}
	idle, err := net.Dial("tcp", p.addresses.proxy)
	if err != nil {
		t.Fatal(err)
	}
	waiting, err := net.Dial("tcp", p.addresses.endpoint)
	if err != nil {
		t.Fatal(err)
	}
	for p.mitm.Stats().Connections == 0 || p.endpointClients.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		p.drain(t.Context(), time.Hour)
	}()
	for !p.draining.Load() {
		time.Sleep(time.Millisecond)
	}
	if got := status("http://" + p.addresses.admin + "/readyz"); got != http.StatusServiceUnavailable {
		t.Errorf("/readyz answers %d", got)
	}
	// The private address of a rule that nobody wrote: refused for that, and not for draining.
	for range 3 {
		c, err := net.Dial("tcp", p.addresses.proxy)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, "CONNECT 127.0.0.1:443 HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		r, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || r.StatusCode != http.StatusForbidden {
			t.Errorf("a new client gets %v, %v", r, err)
		}
		_ = c.Close()
	}
	// An answer of the endpoint listener ends its connection.
	if _, err := io.WriteString(waiting, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if r, err := http.ReadResponse(bufio.NewReader(waiting), nil); err != nil || !r.Close {
		t.Errorf("the endpoint answers %v, %v", r, err)
	}
	select {
	case <-drained:
		t.Error("draining was over while somebody was connected")
	default:
	}
	if err := errors.Join(idle.Close(), waiting.Close()); err != nil {
		t.Fatal(err)
	}
	<-drained
	if err := p.shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// What the gauge of a role says is when those who use it run out of sessions: not a
// session that is not renewed, and not a call that makes none.
func TestExpiryIsThatOfSessionsThatAreRenewed(t *testing.T) {
	_, p, err := assemble(t, t.TempDir(), "roles: {deploy: {arn: 'arn:aws:iam::123456789012:role/Deploy'}}\n")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	hour := time.Unix(1700000000, 0)
	for _, e := range []rolesession.Event{
		{Operation: "GetCallerIdentity", Outcome: rolesession.OutcomeOK},
		{Role: "deploy", Operation: rolesession.OpAssumeRole, Outcome: rolesession.OutcomeOK, Expires: hour},
		{Role: "deploy", Operation: rolesession.OpAssumeRole, Outcome: rolesession.OutcomeOK, Expires: hour.Add(-45 * time.Minute)},          // what a client asked for
		{Role: "deploy", Operation: rolesession.OpAssumeRole, Outcome: rolesession.OutcomeOK, Expires: hour.Add(11 * time.Hour), Once: true}, // with a code of a device
	} {
		p.observeSTS(e)
	}
	if err := testutil.GatherAndCompare(p.metrics.Registry(), strings.NewReader(`
# HELP countersign_role_session_expiry_timestamp_seconds When the last session of a role expires that is renewed while it is in use, by role.
# TYPE countersign_role_session_expiry_timestamp_seconds gauge
countersign_role_session_expiry_timestamp_seconds{role="deploy"} 1.7e+09
`), "countersign_role_session_expiry_timestamp_seconds"); err != nil {
		t.Error(err)
	}
}
