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
  service: {type: LoadBalancer, port: 443, annotations: {e: f}}
  networkPolicy:
    from: [{namespaceSelector: {matchLabels: {team: shop}}}]
    metricsFrom: [{namespaceSelector: {matchLabels: {name: monitoring}}}]
    extraEgress: [{ports: [{port: 8443, protocol: TCP}]}]
metrics:
  serviceMonitor: {enabled: true, labels: {release: prometheus}}
  podMonitor: {enabled: true}
  prometheusRule: {enabled: true}
  dashboard: {enabled: true}
injector:
  enabled: true
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
				"cert-manager.io/inject-ca-from", "failurePolicy: Fail", "scheme: HTTPS", "@sha256:ab", "key_file: /etc/countersign/tls/tls.key"},
			[]string{"caBundle", "BEGIN"}},
		{"fixed number of replicas", chartValues + "  autoscaling: {enabled: false}\n  replicas: 3\n  podDisruptionBudget: {enabled: false}\n  networkPolicy: {enabled: false}\n",
			[]string{"replicas: 3"}, []string{"HorizontalPodAutoscaler", "PodDisruptionBudget", "kind: NetworkPolicy"}},
		{"trial", trialValues,
			[]string{"kind: Job", "helm.sh/hook: pre-install,pre-upgrade", `resourceNames: [gw-countersign-keys]`, `secretName: "gw-countersign-keys"`},
			[]string{"BEGIN", "existingSecret"}},
		{"injector alone", "gateway: {enabled: false}\ninjector: {enabled: true}\n",
			[]string{"kind: MutatingWebhookConfiguration", "caBundle: ", "kind: Secret"}, []string{"component: gateway", "kind: HorizontalPodAutoscaler"}},
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
		{"keys from both", chartValues + "  keys: {generate: true}\n", "are then to be empty"},
		{"generated keys of other names", trialValues + "  sealingKey: {keys: [a, b]}\n", "makes one key, called sealing.key"},
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
