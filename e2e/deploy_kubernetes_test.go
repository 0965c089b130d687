package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

const (
	chart             = "../deploy/helm/countersign"
	kubernetesVersion = "1.30"
)

// foreignGroups are API groups of others that the chart has objects of.
var foreignGroups = []string{"monitoring.coreos.com", "cert-manager.io"}

// validate checks manifests against the schemas of Kubernetes, and those of the
// definitions of the foreign groups.
func validate(t testing.TB, manifests []byte) error {
	t.Helper()
	seen := map[string]bool{}
	for _, o := range objects(t, manifests) {
		metadata, _ := o["metadata"].(map[string]any)
		name := fmt.Sprint(o["kind"], " ", metadata["namespace"], " ", metadata["name"])
		if seen[name] {
			return fmt.Errorf("there are two of %s", name)
		}
		seen[name] = true
	}
	if len(seen) == 0 {
		t.Fatal("there is nothing to validate")
	}
	file := filepath.Join(t.TempDir(), "manifests.yaml")
	if err := os.WriteFile(file, manifests, 0o600); err != nil {
		t.Fatal(err)
	}
	crds, err := filepath.Abs("../.tools/crds")
	if err == nil {
		_, err = os.Stat(crds)
	}
	needs(t, ".tools/crds", err)
	output, err := exec.Command(tool(t, "kubectl-validate"), "--version", kubernetesVersion, "--local-crds", crds, file).CombinedOutput()
	if err != nil {
		return errors.New(string(output))
	}
	return nil
}

// The validator notices what a cluster would refuse: else the tests below would
// prove nothing.
func TestValidatorNotices(t *testing.T) {
	good, err := os.ReadFile("../deploy/kubernetes/sidecar/base/deployment.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ from, to string }{
		{"restartPolicy: Always", "restartPolicies: Always"},
		{"runAsUser: 65532", "runAsUser: nobody"},
		{"emptyDir:", "emptyDirectory:"},
	} {
		bad := bytes.ReplaceAll(good, []byte(x.from), []byte(x.to))
		if bytes.Equal(bad, good) {
			t.Errorf("%q does not occur", x.from)
		} else if validate(t, bad) == nil {
			t.Errorf("%q passes", x.to)
		}
	}
	monitoring, err := render(t, chartValues+everyValue)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ from, to string }{
		{"podMetricsEndpoints:", "podMetricsEndpoint:"},
		{"interval: 30s", "interval: often"},
		{"alert: CountersignAbsent", "alert: [CountersignAbsent]"},
		{"algorithm: ECDSA", "algorithm: DSA"},
		{"issuerRef:\n    kind", "issuerReference:\n    kind"},
	} {
		bad := bytes.ReplaceAll(monitoring, []byte(x.from), []byte(x.to))
		if bytes.Equal(bad, monitoring) {
			t.Errorf("%q does not occur", x.from)
		} else if validate(t, bad) == nil {
			t.Errorf("%q passes", x.to)
		}
	}
}

var kustomizations = []string{
	"sidecar/base", "sidecar/overlays/irsa", "sidecar/overlays/pod-identity", "sidecar/overlays/configured", "gateway-client",
}

func TestKustomizations(t *testing.T) {
	kustomize := tool(t, "kustomize")
	for _, dir := range kustomizations {
		t.Run(dir, func(t *testing.T) {
			command := exec.Command(kustomize, "build", filepath.Join("../deploy/kubernetes", dir))
			var stderr bytes.Buffer
			command.Stderr = &stderr
			manifests, err := command.Output()
			if err != nil {
				t.Fatalf("%v\n%s", err, stderr.String())
			}
			if err := validate(t, manifests); err != nil {
				t.Error(err)
			}
		})
	}
}

// The sidecars of the kustomizations are those that `countersign inject` makes.
func TestKustomizationsAreInStep(t *testing.T) {
	for _, dir := range []string{"sidecar/base", "sidecar/overlays/configured"} {
		dir := filepath.Join("../deploy/kubernetes", dir)
		made, err := exec.Command(program, "inject", "-f", filepath.Join(dir, "app.yaml")).Output()
		if err != nil {
			t.Fatal(err)
		}
		stored, err := os.ReadFile(filepath.Join(dir, "deployment.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(made, stored) {
			t.Errorf("%s/deployment.yaml is not what countersign inject -f app.yaml makes", dir)
		}
	}
	for _, name := range []string{"serviceaccount.yaml", "networkpolicy.yaml"} {
		same(t, "../deploy/kubernetes/sidecar/base/"+name, "../deploy/kubernetes/sidecar/overlays/configured/"+name)
	}
}

// A chart cannot reach files outside of it: it holds copies.
func TestChartIsInStep(t *testing.T) {
	same(t, rulesFile, chart+"/files/rules.yaml")
	same(t, dashboardFile, chart+"/files/dashboard.json")
}

func same(t testing.TB, a, b string) {
	t.Helper()
	x, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := os.ReadFile(b)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(x, y) {
		t.Errorf("%s and %s differ", a, b)
	}
}

// render returns what the chart makes of values, or what helm says against them.
func render(t testing.TB, values string) ([]byte, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, []byte(values), 0o600); err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	command := exec.Command(tool(t, "helm"), "template", "gw", chart, "--namespace", "aws", "--kube-version", kubernetesVersion, "--values", file)
	command.Env = append(os.Environ(), "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		return nil, errors.New(stderr.String())
	}
	return out, nil
}

const chartValues = `
gateway:
  ca: {existingSecret: ca}
  sealingKey: {existingSecret: seal, keys: [new.key, old.key]}
  config:
    roles: {read: {arn: "arn:aws:iam::123456789012:role/Read", policies: [read.json]}}
    issuers: [{url: "https://oidc.example", audience: countersign, match: {sub: "*"}, roles: [read]}]
  files:
    read.json: '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:Get*", "Resource": "*"}]}'
`

// trialValues are the fewest that a gateway starts with; config is open at its end.
const trialValues = `
gateway:
  keys: {generate: true}
  config:
    roles: {read: {arn: "arn:aws:iam::123456789012:role/Read"}}
    issuers: [{url: "https://oidc.example", audience: countersign, match: {sub: "*"}, roles: [read]}]
`

// everyValue follows chartValues.
var everyValue = `  tls: {certManager: {enabled: true, issuerRef: {name: internal, kind: ClusterIssuer}, dnsNames: [aws.corp.example]}}
  existingSecret: more
  antiAffinity: hard
  serviceAccount: {annotations: {eks.amazonaws.com/role-arn: "arn:aws:iam::123456789012:role/countersign"}, token: true}
  podAnnotations: {a: b}
  podLabels: {c: d}
  nodeSelector: {kubernetes.io/arch: arm64}
  tolerations: [{key: x, operator: Exists}]
  priorityClassName: system-cluster-critical
  extraEnv: [{name: AWS_REGION, value: eu-central-1}]
  extraVolumes: [{name: roots, configMap: {name: roots}}]
  extraVolumeMounts: [{name: roots, mountPath: /etc/countersign/roots}]
  revocations: {existingConfigMap: taken-back}
  service: {type: LoadBalancer, port: 443, annotations: {e: f}, loadBalancerClass: service.k8s.aws/nlb, loadBalancerSourceRanges: [10.0.0.0/8]}
  networkPolicy:
    from: [{namespaceSelector: {matchLabels: {team: shop}}}]
    metricsFrom: [{namespaceSelector: {matchLabels: {name: monitoring}}}]
    extraEgress: [{ports: [{port: 8443, protocol: TCP}]}]
metrics:
  serviceMonitor: {enabled: true, labels: {release: prometheus}}
  podMonitor: {enabled: true}
  sidecars: {podMonitor: {enabled: true}}
  prometheusRule: {enabled: true}
  dashboard: {enabled: true}
injector:
  enabled: true
  podAnnotations: {a: b}
  podLabels: {c: d}
  tls: {certManager: {enabled: true, issuerRef: {name: internal}}}
  nodeSelector: {kubernetes.io/arch: arm64}
  tolerations: [{key: x, operator: Exists}]
  priorityClassName: system-cluster-critical
image: {digest: "sha256:` + strings.Repeat("ab", 32) + `"}
imagePullSecrets: [{name: pull}]
`

func TestChart(t *testing.T) {
	for _, x := range []struct {
		name, values string
		want, not    []string
	}{
		{"smallest", chartValues,
			[]string{"kind: HorizontalPodAutoscaler", "kind: PodDisruptionBudget", "kind: NetworkPolicy", "preferredDuringScheduling"},
			[]string{"replicas:", "monitoring.coreos.com", "kind: MutatingWebhookConfiguration", "kind: Certificate", "scheme: HTTPS"}},
		{"everything", chartValues + everyValue,
			[]string{"kind: ServiceMonitor", "kind: PodMonitor", "kind: PrometheusRule", "alert: CountersignAbsent", "kind: Certificate", "requiredDuringScheduling",
				"cert-manager.io/inject-ca-from", "failurePolicy: Fail", "scheme: HTTPS", "@sha256:ab", "key_file: /etc/countersign/tls/tls.key",
				"revocations: /etc/countersign/revocations/revocations", "port: cs-metrics", "relabelings: [{action: labeldrop, regex: service}]", "loadBalancerClass:", "maxUnavailable: 1, maxSurge: 1"},
			[]string{"caBundle", "BEGIN"}},
		{"fixed number of replicas", chartValues + "  autoscaling: {enabled: false}\n  replicas: 3\n  podDisruptionBudget: {enabled: false}\n  networkPolicy: {enabled: false}\n",
			[]string{"replicas: 3"}, []string{"HorizontalPodAutoscaler", "PodDisruptionBudget", "kind: NetworkPolicy"}},
		{"trial", trialValues,
			[]string{"kind: Job", "helm.sh/hook: pre-install,pre-upgrade", `resourceNames: [gw-countersign-keys]`, `secretName: "gw-countersign-keys"`},
			[]string{"BEGIN", "existingSecret"}},
		{"injector alone", "gateway: {enabled: false}\ninjector: {enabled: true}\n",
			[]string{"kind: MutatingWebhookConfiguration", "caBundle: ", "kind: Secret"}, []string{"component: gateway", "kind: HorizontalPodAutoscaler"}},
		// What watches sidecars needs no gateway.
		{"injector and what watches", "gateway: {enabled: false}\ninjector: {enabled: true}\nmetrics: {sidecars: {podMonitor: {enabled: true}}, prometheusRule: {enabled: true}, dashboard: {enabled: true}}\n",
			[]string{"port: cs-metrics", "kind: PrometheusRule", "countersign.json: |"}, []string{"component: gateway", "kind: ServiceMonitor"}},
		{"the machine's own role", chartValues + "  networkPolicy: {blockMetadata: false}\n",
			[]string{"cidr: 169.254.169.254/32"}, []string{"AWS_EC2_METADATA_DISABLED"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			manifests, err := render(t, x.values)
			if err != nil {
				t.Fatal(err)
			}
			if err := validate(t, manifests); err != nil {
				t.Error(err)
			}
			for _, want := range x.want {
				if !bytes.Contains(manifests, []byte(want)) {
					t.Errorf("%q is missing", want)
				}
			}
			for _, not := range x.not {
				if bytes.Contains(manifests, []byte(not)) {
					t.Errorf("%q should not be there", not)
				}
			}
		})
	}
}

// Values with which the pods would not start, or would let nobody in, are
// refused when the chart is installed, and say what to do.
func TestChartRefuses(t *testing.T) {
	for _, x := range []struct{ name, values, want string }{
		{"nothing set", "", "gateway.ca.existingSecret is not set"},
		{"nothing set for a trial", "", "set gateway.keys.generate=true"},
		{"keys from both", chartValues + "  keys: {generate: true}\n", "leave gateway.ca.existingSecret"},
		{"generated keys of other names", trialValues + "  sealingKey: {keys: [a, b]}\n", "creates one key, sealing.key"},
		{"no sealing key", "gateway: {ca: {existingSecret: a}}", "gateway.sealingKey.existingSecret is not set"},
		{"nobody", "gateway: {ca: {existingSecret: a}, sealingKey: {existingSecret: b}}", "neither identities nor issuers"},
		{"unknown value", chartValues + "  autoscalling: {enabled: false}\n", "autoscalling"},
		{"a key that the chart sets", strings.Replace(chartValues, "    roles:", "    listen: 0.0.0.0:1\n    roles:", 1), "config"},
		{"a policy in place of the configuration", strings.Replace(chartValues, "read.json: '", "countersign.yaml: '", 1), "countersign.yaml"},
		{"two certificates", chartValues + "  tls: {existingSecret: a, certManager: {enabled: true, issuerRef: {name: x}}}\n", "choose one"},
		{"no issuer", chartValues + "  tls: {certManager: {enabled: true}}\n", "gateway.tls.certManager.issuerRef is not set"},
		{"no issuer of the webhook's certificate", chartValues + "injector: {enabled: true, tls: {certManager: {enabled: true}}}\n", "injector.tls.certManager.issuerRef is not set"},
		{"digest that is none", chartValues + "image: {digest: latest}\n", "digest"},
		{"less than least", chartValues + "  autoscaling: {minReplicas: 20}\n", "minReplicas is above maxReplicas"},
		{"a share of nothing", chartValues + "  resources: {requests: {cpu: null}}\n", "needs gateway.resources.requests.cpu"},
		{"a budget that is none", chartValues + "  podDisruptionBudget: {maxUnavailable: some}\n", "maxUnavailable"},
		{"a name that no Service can have", chartValues + "fullnameOverride: Gate.Way\n", "fullnameOverride"},
		{"killed before it has drained", trialValues + "    limits: {drain_timeout: 1m30s}\n", "less than gateway.preStopSeconds plus limits.drain_timeout (1m30s)"},
	} {
		t.Run(x.name, func(t *testing.T) {
			out, err := render(t, x.values)
			if err == nil {
				t.Fatalf("it renders\n%s", out)
			}
			if !strings.Contains(err.Error(), x.want) {
				t.Errorf("helm says %s\nwant %q in it", err, x.want)
			}
		})
	}
}

// Files reach the program as they were given, and labels of the user's cannot make
// a pod another one than its selectors look for.
func TestChartKeepsWhatItIsGiven(t *testing.T) {
	files := map[string]string{
		"indented.json": "    {\n  \"a\": 1}\n", "empty": "", "no-end": "x", "ends": "x\n\n\n", "begins": "\n\n x: [", "1e3": "a\tb # c", "null": "{{ .Values }}",
	}
	values := with(t, chartValues, []string{"gateway", "files"}, files)
	values = with(t, values, []string{"gateway", "podLabels"}, map[string]string{"app.kubernetes.io/component": "mine", "app.kubernetes.io/name": "mine", "team": "true"})
	values = with(t, values, []string{"gateway", "podAnnotations"}, map[string]string{"checksum/listeners": "mine", "note": "1e3"})
	values = with(t, values, []string{"metrics", "prometheusRule"}, map[string]any{"enabled": true, "labels": map[string]string{"app.kubernetes.io/name": "prometheus"}})
	values = with(t, values, []string{"metrics", "podMonitor"}, map[string]any{"enabled": true})
	manifests, err := render(t, values)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate(t, manifests); err != nil {
		t.Error(err)
	}
	var data, labels, annotations, monitors, rules any
	var selectors []any
	for _, o := range objects(t, manifests) {
		spec, _ := o["spec"].(map[string]any)
		switch o["kind"] {
		case "ConfigMap":
			given := o["data"].(map[string]any)
			delete(given, "countersign.yaml")
			data = given
		case "Deployment":
			pod := spec["template"].(map[string]any)["metadata"].(map[string]any)
			labels, annotations = pod["labels"], pod["annotations"]
			selectors = append(selectors, spec["selector"].(map[string]any)["matchLabels"])
		case "Service":
			selectors = append(selectors, spec["selector"])
		case "NetworkPolicy":
			selectors = append(selectors, spec["podSelector"].(map[string]any)["matchLabels"])
		case "PodDisruptionBudget":
			selectors = append(selectors, spec["selector"].(map[string]any)["matchLabels"])
		case "PodMonitor":
			monitors = spec["selector"].(map[string]any)["matchLabels"]
			selectors = append(selectors, monitors)
		case "PrometheusRule":
			rules = o["metadata"].(map[string]any)["labels"].(map[string]any)["app.kubernetes.io/name"]
		}
	}
	want := map[string]any{}
	for name, text := range files {
		want[name] = text
	}
	if diff := cmp.Diff(want, data); diff != "" {
		t.Errorf("files: (-given +made)\n%s", diff)
	}
	if diff := cmp.Diff(map[string]any{
		"app.kubernetes.io/component": "gateway", "app.kubernetes.io/instance": "gw", "app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/name": "countersign",
		"app.kubernetes.io/version": "latest", "helm.sh/chart": "countersign-0.1.0", "team": "true",
	}, labels); diff != "" {
		t.Errorf("labels of the pod: %s", diff)
	}
	if a := annotations.(map[string]any); a["note"] != "1e3" || len(fmt.Sprint(a["checksum/listeners"])) != 64 {
		t.Errorf("annotations of the pod: %v", a)
	}
	if rules != "prometheus" {
		t.Errorf("a Prometheus that looks for rules by a label of its own does not find them: %v", rules)
	}
	if len(selectors) != 6 {
		t.Errorf("%d selectors", len(selectors))
	}
	for _, s := range selectors {
		for name, value := range s.(map[string]any) {
			if labels.(map[string]any)[name] != value {
				t.Errorf("the selector %v does not find the pod", s)
			}
		}
	}
}

// What a replica may hold follows the memory that it has, and what the user says
// goes before that.
func TestChartMemory(t *testing.T) {
	for memory, want := range map[string]string{
		"1Gi": "limits: {body_buffer_sum: 512MiB} 921MiB", "1.5Gi": "limits: {body_buffer_sum: 768MiB} 1382MiB", "100Mi": "limits: {body_buffer: 50MiB, body_buffer_sum: 50MiB} 90MiB",
		"2G": "limits: {body_buffer_sum: 953MiB} 1716MiB", "1e9": " ", "": " ",
	} {
		manifests, err := render(t, with(t, chartValues, []string{"gateway", "resources", "limits"}, map[string]any{"memory": memory}))
		if err != nil {
			t.Errorf("%q: %v", memory, err)
			continue
		}
		if got := heldMemory(t, manifests); got != want {
			t.Errorf("of %q: %q, want %q", memory, got, want)
		}
	}
	values := with(t, chartValues, []string{"gateway", "config", "limits"}, map[string]any{"body_buffer_sum": "100MiB", "tunnels": 10000000})
	manifests, err := render(t, with(t, values, []string{"gateway", "memoryLimit"}, "700MiB"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := heldMemory(t, manifests), "limits: {body_buffer_sum: 100MiB, tunnels: 10000000} 700MiB"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// heldMemory is what the chart says about memory to the program.
func heldMemory(t *testing.T, manifests []byte) string {
	t.Helper()
	limits, runtime := "", ""
	for _, o := range objects(t, manifests) {
		switch o["kind"] {
		case "ConfigMap":
			var c struct{ Limits yaml.Node }
			if err := yaml.Unmarshal([]byte(o["data"].(map[string]any)["countersign.yaml"].(string)), &c); err != nil {
				t.Fatal(err)
			}
			if !c.Limits.IsZero() {
				c.Limits.Style = yaml.FlowStyle
				text, err := yaml.Marshal(map[string]*yaml.Node{"limits": &c.Limits})
				if err != nil {
					t.Fatal(err)
				}
				limits = strings.TrimSpace(string(text))
			}
		case "Deployment":
			container := o["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)["containers"].([]any)[0].(map[string]any)
			for _, v := range container["env"].([]any) {
				if v := v.(map[string]any); v["name"] == "GOMEMLIMIT" {
					runtime = v["value"].(string)
				}
			}
		}
	}
	return limits + " " + runtime
}

// leaves calls f with each value of the chart that has none below it, and the
// names that lead there.
func leaves(values any, path []string, f func(path []string, value any)) {
	if table, ok := values.(map[string]any); ok && len(table) > 0 {
		for _, name := range slices.Sorted(maps.Keys(table)) {
			leaves(table[name], append(slices.Clone(path), name), f)
		}
		return
	}
	f(path, values)
}

func defaultValues(t testing.TB) (values map[string]any) {
	t.Helper()
	text, err := os.ReadFile(chart + "/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &values); err != nil {
		t.Fatal(err)
	}
	return values
}

// with returns values with one of them changed.
func with(t testing.TB, values string, path []string, value any) string {
	t.Helper()
	var all map[string]any
	if err := yaml.Unmarshal([]byte(values), &all); err != nil {
		t.Fatal(err)
	}
	at := all
	for _, name := range path[:len(path)-1] {
		next, ok := at[name].(map[string]any)
		if !ok {
			next = map[string]any{}
			at[name] = next
		}
		at = next
	}
	at[path[len(path)-1]] = value
	text, err := yaml.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A value of the wrong kind is refused wherever it is, and the message names it.
func TestChartRefusesEveryWrongValue(t *testing.T) {
	t.Parallel()
	tried := 0
	leaves(defaultValues(t), nil, func(path []string, value any) {
		tried++
		var wrong any = []any{7}
		switch value.(type) {
		case map[string]any, []any:
			wrong = "text"
		}
		out, err := render(t, with(t, chartValues, path, wrong))
		if err == nil {
			t.Errorf("%s: %v renders\n%s", strings.Join(path, "."), wrong, out)
		} else if !strings.Contains(err.Error(), path[len(path)-1]) || !strings.Contains(err.Error(), "values don't meet the specifications of the schema") {
			t.Errorf("%s: helm says %s", strings.Join(path, "."), err)
		}
	})
	if tried < 50 {
		t.Errorf("only %d values", tried)
	}
}

// The configuration that the chart makes is one that the program takes, with
// the files mounted as the chart mounts them.
func TestChartConfiguration(t *testing.T) {
	manifests, err := render(t, chartValues)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	found := false
	for in := yaml.NewDecoder(bytes.NewReader(manifests)); ; {
		var o struct {
			Kind     string
			Metadata struct{ Name string }
			Data     map[string]string
		}
		if err := in.Decode(&o); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if o.Kind != "ConfigMap" {
			continue
		}
		found = true
		for name, text := range o.Data {
			text = strings.NewReplacer("/etc/countersign/", dir+"/", "/var/lib/countersign/", dir+"/").Replace(text)
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !found {
		t.Fatal("the chart makes no ConfigMap")
	}
	if err := os.MkdirAll(filepath.Join(dir, "sealing"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"new.key", "old.key"} {
		if err := os.WriteFile(filepath.Join(dir, "sealing", name), []byte("q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=\n"), 0o440); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.Command(program, "config", "check", "--config", filepath.Join(dir, "countersign.yaml"))
	command.Env = bareEnvironment(dir)
	if output, err := command.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, output)
	}
}

// What the pod of `helm test` runs says whether a gateway is ready.
func TestChartTestPod(t *testing.T) {
	u := strictMoto(t)
	for name, values := range map[string]string{"plain": chartValues, "TLS": chartValues + "  tls: {existingSecret: tls}\n"} {
		t.Run(name, func(t *testing.T) {
			manifests, err := render(t, values)
			if err != nil {
				t.Fatal(err)
			}
			address, err := freeAddress()
			if err != nil {
				t.Fatal(err)
			}
			address = strings.Replace(address, "127.0.0.1", "0.0.0.0", 1)
			dir := t.TempDir()
			certFile, keyFile := listenerCertificate(t, dir)
			here := strings.NewReplacer("gw-countersign-metrics.aws.svc:8802", address, "/etc/countersign/tls", dir, "/tmp/state", filepath.Join(dir, "state"))
			var argv []string
			env := bareEnvironment(dir)
			for _, o := range objects(t, manifests) {
				if o["kind"] != "Pod" {
					continue
				}
				container := o["spec"].(map[string]any)["containers"].([]any)[0].(map[string]any)
				for _, a := range container["args"].([]any) {
					argv = append(argv, a.(string))
				}
				for _, v := range container["env"].([]any) {
					v := v.(map[string]any)
					env = append(env, fmt.Sprint(v["name"], "=", here.Replace(v["value"].(string))))
				}
			}
			more := "metrics: {listen: \"" + address + "\"}\n"
			if name == "TLS" {
				more += "tls: {cert_file: " + certFile + ", key_file: " + keyFile + "}\n"
			}
			p := serve(t, u, more)
			test := func() ([]byte, error) {
				command := exec.Command(program, argv...)
				command.Env = env
				return command.CombinedOutput()
			}
			if output, err := test(); err != nil {
				t.Errorf("%v\n%s", err, output)
			}
			p.stop(t)
			if output, err := test(); err == nil || !strings.Contains(string(output), "the proxy does not answer") {
				t.Errorf("without a gateway: %v\n%s", err, output)
			}
		})
	}
}
