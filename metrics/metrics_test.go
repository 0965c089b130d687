package metrics

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// net/http waits half a second before it closes a connection whose request it
	// did not read to the end, so that the answer is not lost; longer than goleak waits.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

func options() Options {
	return Options{
		Roles: []string{"deploy", "read"}, Services: []string{"s3", "sts"},
		SignatureReasons: []string{"wrong signature", "expired"}, PolicyReasons: []string{"allowed", "implicit deny"},
		DoorReasons: []string{"missing", "password"}, STSResults: []string{"ok", "denied"},
		Version: "v1.2.3", Revision: "abc",
		AuditFailing: func() bool { return true },
		AuditCounts:  func() (written, lost, failures uint64) { return 7, 1, 2 },
		Connections:  func() Connections { return Connections{Open: 3, Tunnels: 1, TunnelIn: 5, TunnelOut: 6} },
	}
}

// use calls every method once.
func use(m *Metrics, text string, n int) {
	done := m.RequestStarted()
	m.RequestDone(Request{Role: text, Service: text, Decision: text, Status: n, Duration: time.Duration(n), Overhead: time.Duration(n), RequestBytes: int64(n), ResponseBytes: int64(n)})
	done()
	m.SignatureFailure(text)
	m.ProxyAuthenticationFailure(text)
	m.PolicyDecision(text, text, text)
	m.STSRequest(text, text, time.Duration(n))
	m.RoleSessionExpiry(text, time.Unix(int64(n), 0))
	m.CertificateIssued()
	m.CAExpiry(time.Unix(int64(n), 0))
	m.TunnelEnded()
	m.TunnelRejected(text)
	m.Panic()
	m.ConfigLoaded(time.Unix(int64(n), 0), nil)
}

func TestLint(t *testing.T) {
	m := New(options())
	use(m, "s3", 200)
	problems, err := testutil.GatherAndLint(m.Registry())
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}

// series returns the names of all metrics of ours, and how many series there are.
func series(t *testing.T, m *Metrics) (names []string, n int) {
	t.Helper()
	families, err := m.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), namespace+"_") {
			names = append(names, f.GetName())
			n += len(f.GetMetric())
		}
	}
	return names, n
}

func TestNames(t *testing.T) {
	m := New(options())
	use(m, "s3", 200)
	got, _ := series(t, m)
	want := []string{
		"countersign_audit_failing", "countersign_audit_failures_total", "countersign_audit_lines_lost_total",
		"countersign_audit_lines_total", "countersign_build_info", "countersign_ca_expiry_timestamp_seconds",
		"countersign_certificates_issued_total", "countersign_config_last_reload_success_timestamp_seconds",
		"countersign_config_last_reload_successful", "countersign_config_reloads_total", "countersign_connections",
		"countersign_overhead_seconds", "countersign_panics_total", "countersign_policy_decisions_total",
		"countersign_proxy_authentication_failures_total", "countersign_request_bytes_total", "countersign_request_duration_seconds", "countersign_requests_in_flight",
		"countersign_requests_total", "countersign_response_bytes_total", "countersign_role_session_expiry_timestamp_seconds",
		"countersign_signature_failures_total", "countersign_sts_request_duration_seconds", "countersign_sts_requests_total",
		"countersign_tunnel_bytes_total", "countersign_tunnels", "countersign_tunnels_total",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestValues(t *testing.T) {
	m := New(options())
	inFlight := m.RequestStarted()
	m.RequestDone(Request{Role: "deploy", Service: "s3", Decision: "allow", Status: 206, Duration: 20 * time.Millisecond, Overhead: 200 * time.Microsecond, RequestBytes: 10, ResponseBytes: 1000})
	m.RequestDone(Request{Decision: "deny", Status: 403, Overhead: -time.Second, RequestBytes: -1})
	m.RequestDone(Request{Role: "gone", Service: "evil", Decision: "report"})
	m.RequestDone(Request{Role: "deploy", Service: "s3", Decision: "allow", ClientLeft: true})
	m.RequestDone(Request{Role: "deploy", Service: "s3", Decision: "allow", Status: 206, ClientLeft: true}) // on the way
	m.SignatureFailure("expired")
	m.ProxyAuthenticationFailure("password")
	m.PolicyDecision("read", "deny", "implicit deny")
	m.STSRequest("deploy", "ok", 80*time.Millisecond)
	m.RoleSessionExpiry("deploy", time.Unix(1700000000, 0))
	m.RoleSessionExpiry("deploy", time.Unix(1690000000, 0)) // a short one, for a client that asked for it
	m.CertificateIssued()
	m.CAExpiry(time.Unix(1800000000, 500e6))
	m.TunnelEnded()
	m.TunnelEnded()
	m.TunnelRejected("refused")
	m.ConfigLoaded(time.Unix(1700000001, 0), nil)
	m.ConfigLoaded(time.Unix(1700000002, 0), errors.New("bad"))
	want := `
# HELP countersign_audit_failing 1 while the audit record cannot be written.
# TYPE countersign_audit_failing gauge
countersign_audit_failing 1
# HELP countersign_audit_lines_lost_total Audit lines that could be neither written nor kept.
# TYPE countersign_audit_lines_lost_total counter
countersign_audit_lines_lost_total 1
# HELP countersign_ca_expiry_timestamp_seconds When the certificate of the local CA expires.
# TYPE countersign_ca_expiry_timestamp_seconds gauge
countersign_ca_expiry_timestamp_seconds 1.8000000005e+09
# HELP countersign_certificates_issued_total Leaf certificates issued.
# TYPE countersign_certificates_issued_total counter
countersign_certificates_issued_total 1
# HELP countersign_config_last_reload_success_timestamp_seconds When the configuration in force was loaded.
# TYPE countersign_config_last_reload_success_timestamp_seconds gauge
countersign_config_last_reload_success_timestamp_seconds 1.700000001e+09
# HELP countersign_config_last_reload_successful Whether the configuration in force is the one on disk: 1 after a load that succeeded, 0 after one that failed.
# TYPE countersign_config_last_reload_successful gauge
countersign_config_last_reload_successful 0
# HELP countersign_config_reloads_total Attempts to reload the configuration, by result.
# TYPE countersign_config_reloads_total counter
countersign_config_reloads_total{result="failure"} 1
countersign_config_reloads_total{result="success"} 1
# HELP countersign_connections Client connections of the proxy listener open now.
# TYPE countersign_connections gauge
countersign_connections 3
# HELP countersign_policy_decisions_total Decisions of the policies, by role, decision and reason.
# TYPE countersign_policy_decisions_total counter
countersign_policy_decisions_total{decision="deny",reason="implicit deny",role="read"} 1
# HELP countersign_proxy_authentication_failures_total Attempts to authenticate at the proxy listener that failed, by reason.
# TYPE countersign_proxy_authentication_failures_total counter
countersign_proxy_authentication_failures_total{reason="missing"} 0
countersign_proxy_authentication_failures_total{reason="password"} 1
# HELP countersign_request_bytes_total Body bytes received from clients.
# TYPE countersign_request_bytes_total counter
countersign_request_bytes_total{role="deploy"} 10
countersign_request_bytes_total{role="none"} 0
countersign_request_bytes_total{role="other"} 0
# HELP countersign_requests_in_flight Requests being served now.
# TYPE countersign_requests_in_flight gauge
countersign_requests_in_flight 1
# HELP countersign_requests_total Requests of intercepted hosts, by role, service, decision and class of the status that the client got.
# TYPE countersign_requests_total counter
countersign_requests_total{code="2xx",decision="allow",role="deploy",service="s3"} 2
countersign_requests_total{code="4xx",decision="deny",role="none",service="none"} 1
countersign_requests_total{code="left",decision="allow",role="deploy",service="s3"} 1
countersign_requests_total{code="none",decision="report",role="other",service="other"} 1
# HELP countersign_role_session_expiry_timestamp_seconds When the last session of a role expires that is renewed while it is in use, by role.
# TYPE countersign_role_session_expiry_timestamp_seconds gauge
countersign_role_session_expiry_timestamp_seconds{role="deploy"} 1.7e+09
# HELP countersign_signature_failures_total Requests refused for their signature, by reason.
# TYPE countersign_signature_failures_total counter
countersign_signature_failures_total{reason="expired"} 1
countersign_signature_failures_total{reason="wrong signature"} 0
# HELP countersign_sts_requests_total Calls that the proxy made to AWS STS, by role and result.
# TYPE countersign_sts_requests_total counter
countersign_sts_requests_total{result="denied",role="deploy"} 0
countersign_sts_requests_total{result="denied",role="read"} 0
countersign_sts_requests_total{result="ok",role="deploy"} 1
countersign_sts_requests_total{result="ok",role="read"} 0
# HELP countersign_tunnel_bytes_total Bytes passed through tunnels, by direction seen from the proxy.
# TYPE countersign_tunnel_bytes_total counter
countersign_tunnel_bytes_total{direction="in"} 5
countersign_tunnel_bytes_total{direction="out"} 6
# HELP countersign_tunnels Tunnels open now.
# TYPE countersign_tunnels gauge
countersign_tunnels 1
# HELP countersign_tunnels_total CONNECT requests for hosts that are not intercepted, by result.
# TYPE countersign_tunnels_total counter
countersign_tunnels_total{result="failed"} 0
countersign_tunnels_total{result="limit"} 0
countersign_tunnels_total{result="opened"} 2
countersign_tunnels_total{result="refused"} 1
`
	var names []string
	for line := range strings.Lines(want) {
		if f := strings.Fields(line); len(f) > 2 && f[1] == "TYPE" {
			names = append(names, f[2])
		}
	}
	if err := testutil.GatherAndCompare(m.Registry(), strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
	inFlight()
	if got := testutil.ToFloat64(m.inFlight); got != 0 {
		t.Errorf("%v requests in flight", got)
	}
}

// A client that invents roles, services, reasons and statuses must not make
// series: ten thousand inventions add the same few as one.
func TestCardinalityAttack(t *testing.T) {
	m := New(options())
	for _, known := range []string{"deploy", "read", "s3", "sts", "allow", "deny", "report", ""} {
		use(m, known, 200)
	}
	use(m, "invented", 200)
	for status := range 700 {
		use(m, "", status)
	}
	_, before := series(t, m)
	for i := range 10000 {
		for _, text := range []string{fmt.Sprintf("role-%d", i), fmt.Sprintf("x\n\"} %d \xff", i), strings.Repeat("é", i%500+2)} {
			use(m, text, 200)
		}
	}
	for _, status := range []int{-1, 99, 600, math.MaxInt, math.MinInt} {
		m.RequestDone(Request{Status: status})
	}
	_, after := series(t, m)
	if after > before+1 { // code "other"
		t.Errorf("%d series became %d", before, after)
	}
}

func TestSetRolesDropsWhatIsGone(t *testing.T) {
	m := New(options())
	for _, role := range []string{"deploy", "read"} {
		use(m, role, 200)
		m.RequestDone(Request{Role: role, Service: "s3", Decision: "allow", Status: 200})
	}
	m.SetRoles([]string{"read", "fresh"})
	use(m, "deploy", 200)
	use(m, "fresh", 200)
	families, err := m.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	roles := map[string]bool{}
	for _, f := range families {
		for _, metric := range f.GetMetric() {
			for _, l := range metric.GetLabel() {
				if l.GetName() == "role" {
					roles[l.GetValue()] = true
				}
			}
		}
	}
	want := map[string]bool{"read": true, "fresh": true, "other": true}
	if diff := cmp.Diff(want, roles); diff != "" {
		t.Error(diff)
	}
}

func TestZeroOptions(t *testing.T) {
	m := New(Options{})
	use(m, "s3", 200)
	problems, err := testutil.GatherAndLint(m.Registry())
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	names, _ := series(t, m)
	if !slices.Contains(names, "countersign_build_info") {
		t.Error(names)
	}
}

func BenchmarkRequestDone(b *testing.B) {
	m := New(options())
	r := Request{Role: "deploy", Service: "s3", Decision: "allow", Status: 200, Duration: time.Millisecond, Overhead: time.Microsecond, RequestBytes: 1, ResponseBytes: 1}
	b.ReportAllocs()
	for b.Loop() {
		m.RequestDone(r)
	}
}
