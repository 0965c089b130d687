package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

const (
	rulesFile     = "../deploy/prometheus/rules.yaml"
	dashboardFile = "../deploy/grafana/countersign.json"
)

func TestPrometheusRules(t *testing.T) {
	promtool := tool(t, "promtool")
	for _, argv := range [][]string{
		{"check", "rules", rulesFile},
		{"test", "rules", "../deploy/prometheus/tests/rules_test.yaml"},
	} {
		if output, err := exec.Command(promtool, argv...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(argv, " "), err, output)
		}
	}
}

// Every alert says what happened, what to do and where to read on, and has unit
// tests that see it fire and see it silent beside that.
func TestEveryAlertIsTested(t *testing.T) {
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert               string
				Labels, Annotations map[string]string
			}
		}
	}
	var tests struct {
		Tests []struct {
			Alerts []struct {
				Name string `yaml:"alertname"`
				Want []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	readYAML(t, rulesFile, &rules)
	readYAML(t, "../deploy/prometheus/tests/rules_test.yaml", &tests)
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, test := range tests.Tests {
		for _, alert := range test.Alerts {
			fires[alert.Name] = fires[alert.Name] || len(alert.Want) > 0
			silent[alert.Name] = silent[alert.Name] || len(alert.Want) == 0
		}
	}
	page, err := os.ReadFile("../docs/alerts.md")
	if err != nil {
		t.Fatal(err)
	}
	explained := map[string]string{} // severity by alert
	for _, m := range regexp.MustCompile(`(?m)^## (\w+)\n(\w+)\. `).FindAllStringSubmatch(string(page), -1) {
		explained[m[1]] = m[2]
	}
	alerts := 0
	for _, group := range rules.Groups {
		for _, rule := range group.Rules {
			name := rule.Alert
			if name == "" {
				continue
			}
			alerts++
			if !fires[name] || !silent[name] {
				t.Errorf("%s: seen to fire %v, seen silent %v", name, fires[name], silent[name])
			}
			if severity := explained[name]; severity == "" || severity != rule.Labels["severity"] {
				t.Errorf("%s has the severity %q, docs/alerts.md says %q", name, rule.Labels["severity"], severity)
			}
			delete(explained, name)
			runbook := "https://github.com/countersign-proxy/countersign/blob/main/docs/alerts.md#" + strings.ToLower(name)
			if a := rule.Annotations; a["summary"] == "" || a["description"] == "" || a["runbook_url"] != runbook || len(a) != 3 {
				t.Errorf("%s has the annotations %v", name, a)
			}
		}
	}
	for name := range explained {
		t.Errorf("docs/alerts.md explains %s, which is no alert", name)
	}
	if alerts == 0 {
		t.Error("there are no alerts")
	}
}

func readYAML(t testing.TB, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// What compose.yaml mounts exists, and Prometheus accepts what it is given.
func TestComposeFiles(t *testing.T) {
	var compose struct {
		Services map[string]struct {
			Build struct {
				Context string
			}
			Volumes []string
		}
		Volumes map[string]any
	}
	readYAML(t, "../deploy/compose/compose.yaml", &compose)
	mounts := 0
	for name, service := range compose.Services {
		if context := service.Build.Context; context != "" {
			if _, err := os.Stat(filepath.Join("../deploy/compose", context, "Dockerfile")); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, volume := range service.Volumes {
			source, _, _ := strings.Cut(volume, ":")
			if !strings.HasPrefix(source, ".") {
				if _, ok := compose.Volumes[source]; !ok {
					t.Errorf("%s mounts the volume %s, which is not declared", name, source)
				}
				continue
			}
			mounts++
			if _, err := os.Stat(filepath.Join("../deploy/compose", source)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if mounts == 0 {
		t.Error("compose.yaml mounts nothing")
	}

	schema := fromEnvironment(t, "COUNTERSIGN_COMPOSE_SCHEMA", "schemas", "compose-spec.json")
	const validate = "import json, sys, yaml, jsonschema; jsonschema.validate(yaml.safe_load(open(sys.argv[1])), json.load(open(sys.argv[2])))"
	if output, err := exec.Command(python(t), "-c", validate, "../deploy/compose/compose.yaml", schema).CombinedOutput(); err != nil {
		t.Errorf("compose.yaml is none: %v\n%s", err, output)
	}

	promtool := tool(t, "promtool")
	text, err := os.ReadFile("../deploy/compose/prometheus.yaml")
	if err != nil {
		t.Fatal(err)
	}
	rules, err := filepath.Abs(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "prometheus.yml")
	mounted := strings.ReplaceAll(string(text), "/etc/prometheus/rules.yaml", rules)
	if err := os.WriteFile(config, []byte(mounted), 0o600); err != nil {
		t.Fatal(err)
	}
	if output, err := exec.Command(promtool, "check", "config", config).CombinedOutput(); err != nil {
		t.Errorf("promtool check config: %v\n%s", err, output)
	}

	dir := t.TempDir()
	check := exec.Command(program, "config", "check", "--config", "../deploy/compose/countersign.yaml")
	check.Env = append(bareEnvironment(dir), "COUNTERSIGN_STATE_DIR="+filepath.Join(dir, "state"))
	if output, err := check.CombinedOutput(); err != nil {
		t.Errorf("config check: %v\n%s", err, output)
	}
}

// The services of compose.yaml find each other: Prometheus the metrics, Grafana
// Prometheus and the dashboards. The keys are those of Grafana's documentation.
// https://grafana.com/docs/grafana/latest/administration/provisioning/
func TestComposeServicesFindEachOther(t *testing.T) {
	var compose struct {
		Services map[string]struct{ Volumes []string }
	}
	var countersign struct {
		Listen  string
		Metrics struct{ Listen string }
	}
	var prometheus struct {
		ScrapeConfigs []struct {
			Static []struct{ Targets []string } `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	readYAML(t, "../deploy/compose/compose.yaml", &compose)
	readYAML(t, "../deploy/compose/countersign.yaml", &countersign)
	readYAML(t, "../deploy/compose/prometheus.yaml", &prometheus)
	_, port, err := net.SplitHostPort(countersign.Metrics.Listen)
	if err != nil {
		t.Fatal(err)
	}
	if c := prometheus.ScrapeConfigs; len(c) != 1 || len(c[0].Static) != 1 || !slices.Equal(c[0].Static[0].Targets, []string{"countersign:" + port}) {
		t.Errorf("Prometheus scrapes %v, the metrics are at port %s", c, port)
	}

	type datasource struct {
		Name, UID, Type, Access, URL string
		IsDefault                    bool           `yaml:"isDefault"`
		JSONData                     map[string]any `yaml:"jsonData"`
	}
	var sources struct {
		APIVersion  int `yaml:"apiVersion"`
		Datasources []datasource
	}
	type provider struct {
		Name, Type      string
		DisableDeletion bool `yaml:"disableDeletion"`
		Options         struct{ Path string }
	}
	var dashboards struct {
		APIVersion int `yaml:"apiVersion"`
		Providers  []provider
	}
	for file, into := range map[string]any{"datasources/prometheus.yaml": &sources, "dashboards/countersign.yaml": &dashboards} {
		f, err := os.Open(filepath.Join("../deploy/compose/grafana", file))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		decoder := yaml.NewDecoder(f)
		decoder.KnownFields(true)
		if err := decoder.Decode(into); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	want := []datasource{{
		Name: "Prometheus", UID: "prometheus", Type: "prometheus", Access: "proxy", URL: "http://prometheus:9090",
		IsDefault: true, JSONData: map[string]any{"timeInterval": "15s", "httpMethod": "POST"},
	}}
	if diff := cmp.Diff(want, sources.Datasources); diff != "" || sources.APIVersion != 1 {
		t.Errorf("data sources (-want +got):\n%s", diff)
	}
	if _, ok := compose.Services["prometheus"]; !ok {
		t.Error("there is no service prometheus")
	}
	if len(dashboards.Providers) != 1 || dashboards.Providers[0].Type != "file" || dashboards.APIVersion != 1 {
		t.Fatalf("providers: %+v", dashboards)
	}
	for _, mount := range []string{
		"../grafana:" + dashboards.Providers[0].Options.Path + ":ro",
		"./grafana/datasources:/etc/grafana/provisioning/datasources:ro",
		"./grafana/dashboards:/etc/grafana/provisioning/dashboards:ro",
	} {
		if !slices.Contains(compose.Services["grafana"].Volumes, mount) {
			t.Errorf("Grafana does not mount %s", mount)
		}
	}
}

// A panel of the dashboard, and the queries behind it.
type panel struct {
	ID      int
	Type    string
	Title   string
	GridPos struct{ X, Y, W, H int }
	Targets []struct {
		Expr       string
		RefID      string
		Datasource struct{ Type, UID string }
	}
}

type dashboard struct {
	UID        string
	Panels     []panel
	Templating struct {
		List []struct {
			Name  string
			Type  string
			Query any
		}
	}
}

func readDashboard(t testing.TB) (d dashboard) {
	t.Helper()
	text, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

var grafanaVariable = regexp.MustCompile(`\$\{?(\w+)\}?`)

// The dashboard is one that Grafana shows as it is meant: ids are unique, panels
// do not overlap, and every variable is one that it declares.
func TestDashboardIsWellFormed(t *testing.T) {
	d := readDashboard(t)
	known := map[string]bool{"__rate_interval": true}
	for _, v := range d.Templating.List {
		known[v.Name] = true
	}
	ids := map[int]string{}
	cells := map[[2]int]string{}
	queries := 0
	for _, p := range d.Panels {
		if other, taken := ids[p.ID]; taken {
			t.Errorf("%q and %q have the id %d", other, p.Title, p.ID)
		}
		ids[p.ID] = p.Title
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other, taken := cells[[2]int{x, y}]; taken || x >= 24 {
					t.Fatalf("%q lies on %q, or outside", p.Title, other)
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("%q asks nothing", p.Title)
		}
		for _, target := range p.Targets {
			queries++
			if target.Datasource.UID != "${datasource}" {
				t.Errorf("%q asks the data source %q, not the one that was chosen", p.Title, target.Datasource.UID)
			}
			for _, m := range grafanaVariable.FindAllStringSubmatch(target.Expr, -1) {
				if !known[m[1]] {
					t.Errorf("%q uses the variable %s, which is not declared", p.Title, m[1])
				}
			}
			for _, variable := range []string{"$job", "$instance"} {
				if !strings.Contains(target.Expr, variable) {
					t.Errorf("%q does not heed %s", p.Title, variable)
				}
			}
		}
	}
	if queries == 0 {
		t.Error("no panel asks anything")
	}
}

// A real Prometheus scrapes a real proxy that is in use. Every query of the
// dashboard and every recording rule returns numbers; no alert has an error.
func TestDashboardShowsData(t *testing.T) {
	t.Parallel()
	binary := tool(t, "prometheus")
	if testing.Short() {
		t.Skip("waits for scrapes")
	}
	u := strictMoto(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "deploy.json"), []byte(`{"Version": "2012-10-17", "Statement": [
		{"Effect": "Allow", "Action": ["sts:GetCallerIdentity", "s3:*"], "Resource": "*"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	p := serve(t, u, "roles: {deploy: {arn: \""+deployARN+"\", policies: ["+filepath.Join(dir, "deploy.json")+"]}, source: {arn: \"\", assume: [\""+deployARN+"\"]}}\n")

	metrics, err := http.Get("http://" + p.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	lint := exec.Command(tool(t, "promtool"), "check", "metrics")
	lint.Stdin = metrics.Body
	output, err := lint.CombinedOutput()
	metrics.Body.Close()
	if err != nil || len(output) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, output)
	}

	// Traffic of every kind until the end of the test.
	var done atomic.Bool
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		dialed := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(p.url())}, Timeout: patience}
		for n := 0; !done.Load(); n++ {
			p.traffic(t, n)
			if response, err := dialed.Get("https://not-aws.example/"); err == nil { // refused with CONNECT
				response.Body.Close()
			}
		}
	}()
	defer func() { done.Store(true); <-ended }()

	prometheus := startPrometheus(t, binary, p.admin)

	replace := strings.NewReplacer("$__rate_interval", "5s", "$job", ".*", "$instance", ".*", "$role", ".*")
	waiting := map[string]string{} // query by where it is from
	for _, panel := range readDashboard(t).Panels {
		for _, target := range panel.Targets {
			waiting[panel.Title+" "+target.RefID] = replace.Replace(target.Expr)
		}
	}
	var rules struct {
		Groups []struct{ Rules []struct{ Record string } }
	}
	readYAML(t, rulesFile, &rules)
	for _, group := range rules.Groups {
		for _, rule := range group.Rules {
			if rule.Record != "" {
				waiting["rule "+rule.Record] = rule.Record
			}
		}
	}
	if len(waiting) < 40 {
		t.Fatalf("only %d queries were found", len(waiting))
	}
	for deadline := time.Now().Add(patience); len(waiting) > 0 && time.Now().Before(deadline); time.Sleep(500 * time.Millisecond) {
		for name, query := range waiting {
			numbers, err := prometheus.ask(query)
			if err != nil {
				t.Fatalf("%s: %v\n%s", name, err, query)
			}
			if numbers > 0 {
				delete(waiting, name)
			}
		}
	}
	for name, query := range waiting {
		t.Errorf("%s: no data: %s", name, query)
	}
	for name, health := range prometheus.health(t) {
		if health != "ok" {
			t.Errorf("rule %s: %s", name, health)
		}
	}
	// The traffic was good and bad, and nothing of it is worth an alarm at once.
	if n, err := prometheus.ask(`ALERTS{alertstate="firing"}`); err != nil || n != 0 {
		t.Errorf("%d alerts fire: %v", n, err)
	}
}

// traffic makes calls that are allowed, denied, and signed with a wrong key, and
// one that makes the proxy call STS.
func (p *proxy) traffic(t testing.TB, n int) {
	client := &http.Client{Timeout: patience, Transport: &http.Transport{
		Proxy: http.ProxyURL(p.url()), TLSClientConfig: &tls.Config{RootCAs: p.roots},
	}}
	defer client.CloseIdleConnections()
	good, bad, source := p.clients["ci"], p.clients["ci"], p.clients["source"]
	bad.SecretAccessKey += "x"
	assume := url.Values{
		"Action": {"AssumeRole"}, "Version": {"2011-06-15"},
		"RoleArn": {deployARN}, "RoleSessionName": {"n" + strconv.Itoa(n)},
	}
	for _, x := range []struct {
		keys               aws.Credentials
		service, url, body string
		want               int
	}{
		{good, "sts", "https://sts.us-east-1.amazonaws.com/", "Action=GetCallerIdentity&Version=2011-06-15", 200},
		{good, "s3", "https://s3.us-east-1.amazonaws.com/", "", 200},
		{good, "iam", "https://iam.amazonaws.com/", "Action=ListUsers&Version=2010-05-08", 403},
		{bad, "sts", "https://sts.us-east-1.amazonaws.com/", "Action=GetCallerIdentity&Version=2011-06-15", 403},
		{source, "sts", "https://sts.us-east-1.amazonaws.com/", assume.Encode(), 200},
	} {
		request, err := signedRequest(x.keys, x.service, x.url, x.body)
		if err != nil {
			t.Error(err)
			return
		}
		response, err := client.Do(request)
		if err != nil {
			t.Errorf("%s: %v", x.url, err)
			return
		}
		response.Body.Close()
		if response.StatusCode != x.want {
			t.Errorf("%s %s: status %d, want %d", x.url, x.body, response.StatusCode, x.want)
		}
	}
}

// signedRequest is a GET, or a form that is posted.
func signedRequest(keys aws.Credentials, service, url, form string) (*http.Request, error) {
	method := http.MethodGet
	if form != "" {
		method = http.MethodPost
	}
	request, err := http.NewRequest(method, url, strings.NewReader(form))
	if err != nil {
		return nil, err
	}
	if form != "" {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	request.Header.Set("X-Amz-Content-Sha256", digest([]byte(form)))
	return request, v4.NewSigner().SignHTTP(context.Background(), keys, request, digest([]byte(form)), service, region, time.Now())
}

type prometheusServer struct{ address string }

func startPrometheus(t testing.TB, binary, target string) *prometheusServer {
	t.Helper()
	dir := t.TempDir()
	rules, err := filepath.Abs(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	address, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf(`global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [%q]
scrape_configs:
  - job_name: countersign
    static_configs: [{targets: [%q]}]
`, rules, target)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	said, err := os.Create(filepath.Join(dir, "said"))
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(binary, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
	command.Stdout, command.Stderr = said, said
	dieWithParent(command)
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		command.Process.Kill()
		command.Wait()
		said.Close()
		if t.Failed() {
			text, _ := os.ReadFile(said.Name())
			t.Logf("prometheus said:\n%s", text)
		}
	})
	s := &prometheusServer{address}
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		response, err := http.Get("http://" + address + "/-/ready")
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return s
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("prometheus is not ready after %s: %v", patience, err)
		}
	}
}

// ask returns how many series of the answer hold a number.
func (s *prometheusServer) ask(query string) (numbers int, err error) {
	var answer struct {
		Status, Error string
		Data          struct {
			Result []struct{ Value [2]any }
		}
	}
	if err := s.get("/api/v1/query?query="+url.QueryEscape(query), &answer); err != nil {
		return 0, err
	}
	if answer.Status != "success" {
		return 0, fmt.Errorf("%s: %s", answer.Status, answer.Error)
	}
	for _, series := range answer.Data.Result {
		text, _ := series.Value[1].(string)
		if value, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(value) && !math.IsInf(value, 0) {
			numbers++
		}
	}
	return numbers, nil
}

// health returns what Prometheus thinks of each rule.
func (s *prometheusServer) health(t testing.TB) map[string]string {
	t.Helper()
	var answer struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
	}
	if err := s.get("/api/v1/rules", &answer); err != nil {
		t.Fatal(err)
	}
	health := map[string]string{}
	for _, group := range answer.Data.Groups {
		for _, rule := range group.Rules {
			health[rule.Name] = strings.TrimSuffix(rule.Health+": "+rule.LastError, ": ")
		}
	}
	if len(health) == 0 {
		t.Error("prometheus knows no rule")
	}
	return health
}

func (s *prometheusServer) get(path string, into any) error {
	response, err := http.Get("http://" + s.address + path)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	return json.NewDecoder(response.Body).Decode(into)
}
