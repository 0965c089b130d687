// Package metrics counts what the proxy does, for Prometheus, and serves the
// counts with the health of the process.
//
// The trap is cardinality: a label value that a client can choose is a way to
// fill the memory of the proxy and of every Prometheus that scrapes it. So each
// label has a closed set of values, given in Options or fixed here, and a value
// outside the set is counted as "other". An empty value is written as "none".
package metrics

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Options names the values that labels may take. A list that is empty makes
// every value of its label "other".
type Options struct {
	Roles            []string // configured names; see SetRoles for a reload
	Services         []string // of the AWS tables
	SignatureReasons []string // why a signature was refused
	DoorReasons      []string // why Proxy-Authorization was refused
	PolicyReasons    []string // why a policy decided as it did
	STSResults       []string // outcomes of a call to STS; default DefaultSTSResults

	Version  string // of the build; default "devel"
	Revision string // commit of the build

	// AuditFailing reports whether the audit record cannot be written now; nil: never.
	AuditFailing func() bool
	// AuditCounts returns lines written, lines lost and writes that failed; nil: none.
	AuditCounts func() (written, lost, failures uint64)

	// Connections returns what is open now and what has passed through tunnels
	// since the start; nil: nothing.
	Connections func() Connections
}

// Connections is what the proxy listener has open, and the totals of its tunnels.
type Connections struct {
	Open                int64 // client connections of every kind
	Tunnels             int64 // of these, tunnels
	TunnelIn, TunnelOut int64 // bytes from and to clients, since the start
}

// DefaultSTSResults are the outcomes of calls to STS, in the words of the
// package rolesession.
var DefaultSTSResults = []string{
	"ok", "unknown_role", "source_credentials", "denied", "bad_input", "region_disabled", "throttled", "unreachable", "closed",
}

// Other and None are the label values for what is not in the set, and for "". Left is
// the code of a request whose client left before there was a status.
const (
	Other = "other"
	None  = "none"
	Left  = "left"
)

// Metrics holds the collectors in a registry of its own. Its methods may be
// called concurrently; values are never those of one client.
type Metrics struct {
	registry *prometheus.Registry

	roles            atomic.Pointer[set]
	services         set
	signatureReasons set
	doorReasons      set
	policyReasons    set
	stsResults       set

	requests      *prometheus.CounterVec
	duration      *prometheus.HistogramVec
	overhead      *prometheus.HistogramVec
	requestBytes  *prometheus.CounterVec
	responseBytes *prometheus.CounterVec
	inFlight      prometheus.Gauge

	signatureFailures *prometheus.CounterVec
	doorFailures      *prometheus.CounterVec
	policyDecisions   *prometheus.CounterVec

	stsRequests   *prometheus.CounterVec
	stsDuration   prometheus.Histogram
	sessionExpiry *prometheus.GaugeVec
	sessions      struct {
		sync.Mutex
		last map[string]time.Time // by label: what sessionExpiry says
	}

	certificates prometheus.Counter
	caExpiry     prometheus.Gauge

	tunnelsOpened *prometheus.CounterVec

	panics        prometheus.Counter
	reloads       *prometheus.CounterVec
	reloadSuccess prometheus.Gauge
	reloadTime    prometheus.Gauge
}

type set map[string]struct{}

func newSet(lists ...[]string) set {
	s := set{}
	for _, list := range lists {
		for _, v := range list {
			s[v] = struct{}{}
		}
	}
	return s
}

// of returns v if it is in the set, else what stands for it.
func (s set) of(v string) string {
	if v == "" {
		return None
	}
	if _, ok := s[v]; ok {
		return v
	}
	return Other
}

// Label values that are the same everywhere.
var (
	decisions   = newSet([]string{"allow", "deny", "report"})
	tunnelKinds = newSet([]string{"opened", "refused", "failed", "limit"})
)

const namespace = "countersign"

// latency covers from what one signature costs to the longest calls of AWS.
var latency = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900}

// New makes the collectors and registers them, with those of the Go runtime
// and the process.
func New(o Options) *Metrics {
	if len(o.STSResults) == 0 {
		o.STSResults = DefaultSTSResults
	}
	if o.Version == "" {
		o.Version = "devel"
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help})
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets}, labels)
	}
	m := &Metrics{
		registry:         prometheus.NewRegistry(),
		services:         newSet(o.Services),
		signatureReasons: newSet(o.SignatureReasons),
		doorReasons:      newSet(o.DoorReasons),
		policyReasons:    newSet(o.PolicyReasons),
		stsResults:       newSet(o.STSResults),

		requests:      counter("requests_total", "Requests of intercepted hosts, by role, service, decision and class of the status that the client got.", "role", "service", "decision", "code"),
		duration:      histogram("request_duration_seconds", "Time from the head of a request to the end of its response.", latency, "service"),
		overhead:      histogram("overhead_seconds", "Time that a request spent in the proxy and not upstream.", []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 5}, "decision"),
		requestBytes:  counter("request_bytes_total", "Body bytes received from clients.", "role"),
		responseBytes: counter("response_bytes_total", "Body bytes sent to clients.", "role"),
		inFlight:      gauge("requests_in_flight", "Requests being served now."),

		signatureFailures: counter("signature_failures_total", "Requests refused for their signature, by reason.", "reason"),
		doorFailures:      counter("proxy_authentication_failures_total", "Attempts to authenticate at the proxy listener that failed, by reason.", "reason"),
		policyDecisions:   counter("policy_decisions_total", "Decisions of the policies, by role, decision and reason.", "role", "decision", "reason"),

		stsRequests: counter("sts_requests_total", "Calls that the proxy made to AWS STS, by role and result.", "role", "result"),
		stsDuration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "sts_request_duration_seconds", Help: "Time that calls to AWS STS took.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}}),
		sessionExpiry: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: namespace, Name: "role_session_expiry_timestamp_seconds",
			Help: "When the last session of a role expires that is renewed while it is in use, by role."}, []string{"role"}),

		certificates: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "certificates_issued_total", Help: "Leaf certificates issued."}),
		caExpiry: gauge("ca_expiry_timestamp_seconds", "When the certificate of the local CA expires."),

		tunnelsOpened: counter("tunnels_total", "CONNECT requests for hosts that are not intercepted, by result.", "result"),

		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "panics_total", Help: "Requests that ended in a panic of their handler."}),
		reloads:       counter("config_reloads_total", "Attempts to reload the configuration, by result.", "result"),
		reloadSuccess: gauge("config_last_reload_successful", "Whether the configuration in force is the one on disk: 1 after a load that succeeded, 0 after one that failed."),
		reloadTime:    gauge("config_last_reload_success_timestamp_seconds", "When the configuration in force was loaded."),
	}
	m.sessions.last = map[string]time.Time{}
	m.SetRoles(o.Roles)
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info", Help: "Always 1; its labels say what is running."},
		[]string{"version", "revision", "goversion"})
	build.WithLabelValues(o.Version, o.Revision, runtime.Version()).Set(1)
	m.registry.MustRegister(
		m.requests, m.duration, m.overhead, m.requestBytes, m.responseBytes, m.inFlight,
		m.signatureFailures, m.doorFailures, m.policyDecisions, m.stsRequests, m.stsDuration, m.sessionExpiry,
		m.certificates, m.caExpiry, m.tunnelsOpened,
		m.panics, m.reloads, m.reloadSuccess, m.reloadTime, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	m.registerAudit(o)
	m.registerConnections(o)

	// Series that alerts compare must be there before the first event.
	for _, r := range o.SignatureReasons {
		m.signatureFailures.WithLabelValues(r)
	}
	for _, r := range o.DoorReasons {
		m.doorFailures.WithLabelValues(r)
	}
	for _, r := range []string{"success", "failure"} {
		m.reloads.WithLabelValues(r)
	}
	for r := range tunnelKinds {
		m.tunnelsOpened.WithLabelValues(r)
	}
	return m
}

func (m *Metrics) registerAudit(o Options) {
	counts := o.AuditCounts
	if counts == nil {
		counts = func() (written, lost, failures uint64) { return 0, 0, 0 }
	}
	failing := o.AuditFailing
	if failing == nil {
		failing = func() bool { return false }
	}
	counter := func(name, help string, f func() uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help},
			func() float64 { return float64(f()) })
	}
	m.registry.MustRegister(
		counter("audit_lines_total", "Audit lines written.", func() uint64 { n, _, _ := counts(); return n }),
		counter("audit_lines_lost_total", "Audit lines that could be neither written nor kept.", func() uint64 { _, n, _ := counts(); return n }),
		counter("audit_failures_total", "Writes to the audit sink that failed; their lines were kept and tried again.", func() uint64 { _, _, n := counts(); return n }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: namespace, Name: "audit_failing",
			Help: "1 while the audit record cannot be written."}, func() float64 {
			if failing() {
				return 1
			}
			return 0
		}),
	)
}

func (m *Metrics) registerConnections(o Options) {
	now := o.Connections
	if now == nil {
		now = func() Connections { return Connections{} }
	}
	bytes := func(direction string, f func(Connections) int64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{
			Namespace: namespace, Name: "tunnel_bytes_total", Help: "Bytes passed through tunnels, by direction seen from the proxy.",
			ConstLabels: prometheus.Labels{"direction": direction},
		}, func() float64 { return float64(f(now())) })
	}
	m.registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: namespace, Name: "connections",
			Help: "Client connections of the proxy listener open now."}, func() float64 { return float64(now().Open) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: namespace, Name: "tunnels",
			Help: "Tunnels open now."}, func() float64 { return float64(now().Tunnels) }),
		bytes("in", func(c Connections) int64 { return c.TunnelIn }),
		bytes("out", func(c Connections) int64 { return c.TunnelOut }),
	)
}

// Registry returns the registry, to gather from or to add collectors to.
func (m *Metrics) Registry() *prometheus.Registry { return m.registry }

// SetRoles replaces the set of roles after a reload, and drops the series of
// those that are gone: a gauge of a role that no longer exists would never change again.
// Calls to STS are counted from zero for those that are there: the first one
// that fails would otherwise be no increase.
func (m *Metrics) SetRoles(roles []string) {
	next := newSet(roles)
	old := m.roles.Swap(&next)
	for role := range next {
		for result := range m.stsResults {
			m.stsRequests.WithLabelValues(role, result)
		}
	}
	if old == nil {
		return
	}
	for role := range *old {
		if _, ok := next[role]; ok {
			continue
		}
		gone := prometheus.Labels{"role": role}
		m.requests.DeletePartialMatch(gone)
		m.requestBytes.DeletePartialMatch(gone)
		m.responseBytes.DeletePartialMatch(gone)
		m.policyDecisions.DeletePartialMatch(gone)
		m.stsRequests.DeletePartialMatch(gone)
		m.sessions.Lock()
		delete(m.sessions.last, role)
		m.sessionExpiry.DeletePartialMatch(gone)
		m.sessions.Unlock()
	}
}

func (m *Metrics) role(name string) string { return m.roles.Load().of(name) }

// Request is what is counted of one request that has ended.
type Request struct {
	Role, Service string        // "" where not known
	Decision      string        // allow, deny, report
	Status        int           // that the client got; 0: none was sent
	ClientLeft    bool          // before there was a status
	Duration      time.Duration // the whole of it
	Overhead      time.Duration // spent here
	RequestBytes  int64
	ResponseBytes int64
}

// RequestDone counts a request.
func (m *Metrics) RequestDone(r Request) {
	role, service, decision := m.role(r.Role), m.services.of(r.Service), decisions.of(r.Decision)
	code := class(r.Status)
	if r.Status == 0 && r.ClientLeft {
		code = Left
	}
	m.requests.WithLabelValues(role, service, decision, code).Inc()
	m.duration.WithLabelValues(service).Observe(r.Duration.Seconds())
	m.overhead.WithLabelValues(decision).Observe(max(r.Overhead, 0).Seconds())
	m.requestBytes.WithLabelValues(role).Add(float64(max(r.RequestBytes, 0)))
	m.responseBytes.WithLabelValues(role).Add(float64(max(r.ResponseBytes, 0)))
}

var classes = []string{"1xx", "2xx", "3xx", "4xx", "5xx"}

// class returns the class of a status; "none" where the client got no response.
func class(status int) string {
	switch {
	case status == 0:
		return None
	case status < 100 || status > 599:
		return Other
	}
	return classes[status/100-1]
}

// RequestStarted counts a request in flight until the returned function is called.
func (m *Metrics) RequestStarted() (done func()) {
	m.inFlight.Inc()
	return m.inFlight.Dec
}

// SignatureFailure counts a request that was refused for its signature.
func (m *Metrics) SignatureFailure(reason string) {
	m.signatureFailures.WithLabelValues(m.signatureReasons.of(reason)).Inc()
}

// ProxyAuthenticationFailure counts a Proxy-Authorization that was missing or
// not accepted.
func (m *Metrics) ProxyAuthenticationFailure(reason string) {
	m.doorFailures.WithLabelValues(m.doorReasons.of(reason)).Inc()
}

// PolicyDecision counts what the policies of a role said: decision is allow,
// deny or report.
func (m *Metrics) PolicyDecision(role, decision, reason string) {
	m.policyDecisions.WithLabelValues(m.role(role), decisions.of(decision), m.policyReasons.of(reason)).Inc()
}

// STSRequest counts a call to STS and the time that it took.
func (m *Metrics) STSRequest(role, result string, took time.Duration) {
	m.stsRequests.WithLabelValues(m.role(role), m.stsResults.of(result)).Inc()
	m.stsDuration.Observe(took.Seconds())
}

// RoleSessionExpiry notes when a session of the role expires. The gauge is of the
// one that expires last: a client that asks for a short one takes nothing from others.
func (m *Metrics) RoleSessionExpiry(role string, t time.Time) {
	m.sessions.Lock()
	defer m.sessions.Unlock()
	label := m.role(role)
	if t.After(m.sessions.last[label]) {
		m.sessions.last[label] = t
		m.sessionExpiry.WithLabelValues(label).Set(unix(t))
	}
}

// CertificateIssued counts a leaf certificate.
func (m *Metrics) CertificateIssued() { m.certificates.Inc() }

// CAExpiry sets when the CA expires.
func (m *Metrics) CAExpiry(t time.Time) { m.caExpiry.Set(unix(t)) }

// TunnelEnded counts a tunnel that came about.
func (m *Metrics) TunnelEnded() { m.tunnelsOpened.WithLabelValues("opened").Inc() }

// TunnelRejected counts a tunnel that did not come about: result is refused
// (by rule), failed (to connect) or limit (too many).
func (m *Metrics) TunnelRejected(result string) {
	m.tunnelsOpened.WithLabelValues(tunnelKinds.of(result)).Inc()
}

// Panic counts a handler that panicked.
func (m *Metrics) Panic() { m.panics.Inc() }

// ConfigLoaded counts a load of the configuration at t that ended in err.
func (m *Metrics) ConfigLoaded(t time.Time, err error) {
	if err != nil {
		m.reloads.WithLabelValues("failure").Inc()
		m.reloadSuccess.Set(0)
		return
	}
	m.reloads.WithLabelValues("success").Inc()
	m.reloadSuccess.Set(1)
	m.reloadTime.Set(unix(t))
}

func unix(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
