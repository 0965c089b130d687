package e2e

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What a pod looks like as far as these tests go.
type storedPod struct {
	Metadata struct {
		Name, ResourceVersion string
		Annotations           map[string]string
	}
	Spec struct {
		InitContainers, Containers []storedContainer
		Volumes                    []struct{ Name string }
	}
}

type storedContainer struct {
	Name, RestartPolicy string
	Env                 []struct{ Name, Value string }
	VolumeMounts        []struct{ Name, MountPath string }
}

func (c storedContainer) variable(name string) string {
	for _, v := range c.Env {
		if v.Name == name {
			return v.Value
		}
	}
	return ""
}

func (c storedContainer) mounts(volume string) bool {
	for _, m := range c.VolumeMounts {
		if m.Name == volume {
			return true
		}
	}
	return false
}

// names are those of the containers, in the order in which they start.
func (p storedPod) names() (names []string) {
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		names = append(names, c.Name)
	}
	return names
}

func (p storedPod) container(t testing.TB, name string) storedContainer {
	t.Helper()
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("the pod has no container %s, but %q", name, p.names())
	return storedContainer{}
}

// askingFor is a pod that the Pod Security level "restricted" lets in.
func askingFor(name, annotations string) string {
	return `
apiVersion: v1
kind: Pod
metadata: {name: ` + name + `, annotations: {` + annotations + `}}
spec:
  securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}}
  initContainers:
    - {name: before, image: "registry.example/before:1", securityContext: &own {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}
  containers:
    - {name: app, image: "registry.example/app:1", securityContext: *own}
`
}

const askingRole = `countersign.dev/role: "arn:aws:iam::123456789012:role/Deploy"`

// An injector is `countersign inject --serve` with the certificate that the chart
// made, registered as the chart registers it.
type injector struct {
	process *os.Process
	webhook map[string]any // MutatingWebhookConfiguration
}

// startInjector runs it, and makes the Service lead to it: one without a network
// of the cluster, by a name outside of it. The API server asks for the certificate
// of the Service's own name all the same.
func startInjector(t testing.TB, c *cluster) *injector {
	t.Helper()
	manifests, err := render(t, "gateway: {enabled: false}\ninjector: {enabled: true}\n")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	address, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	i := &injector{}
	var argv []string
	for _, o := range objects(t, manifests) {
		switch o["kind"] {
		case "Secret":
			for name, value := range o["data"].(map[string]any) {
				text, err := base64.StdEncoding.DecodeString(value.(string))
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		case "Deployment":
			template := o["spec"].(map[string]any)["template"].(map[string]any)
			container := template["spec"].(map[string]any)["containers"].([]any)[0].(map[string]any)
			for _, a := range container["args"].([]any) {
				argv = append(argv, strings.ReplaceAll(a.(string), "/etc/countersign/tls", dir))
			}
		case "Service":
			spec := map[string]any{"type": "ExternalName", "externalName": "localhost"}
			o["spec"] = spec
			if a := c.apply(t, o, "aws", false); a.status != http.StatusCreated {
				t.Fatalf("the Service: %d: %s", a.status, a.message())
			}
		case "MutatingWebhookConfiguration":
			i.webhook = o
		}
	}
	service := i.webhook["webhooks"].([]any)[0].(map[string]any)["clientConfig"].(map[string]any)["service"].(map[string]any)
	if service["port"] != 443 {
		t.Errorf("the webhook's port is %v", service["port"])
	}
	if service["port"], err = json.Number(port).Int64(); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(program, append(argv, "--listen", address)...)
	command.Env = bareEnvironment(dir)
	dieWithParent(command)
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	i.process = command.Process
	ended := make(chan struct{})
	go func() { command.Wait(); close(ended) }()
	t.Cleanup(func() { i.process.Kill(); <-ended })
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		connection, err := net.Dial("tcp", address)
		if err == nil {
			connection.Close()
			return i
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// register makes the API server ask a webhook from now on. It learns of it by a
// watch: pods that nobody may create show when it has.
func register(t testing.TB, c *cluster, webhook map[string]any, asked func() bool) {
	t.Helper()
	if a := c.apply(t, webhook, "", false); a.status/100 != 2 {
		t.Fatalf("registering the webhook: %d: %s", a.status, a.message())
	}
	for deadline := time.Now().Add(patience); !asked(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the API server does not ask the webhook")
		}
	}
}

func unregister(t testing.TB, c *cluster, name string) {
	t.Helper()
	c.must(t, http.MethodDelete, "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/"+name, "", nil)
}

// TestKubernetes is about what a real API server makes of our webhook, of the
// manifests, and of its service accounts.
func TestKubernetes(t *testing.T) {
	t.Parallel()
	c := theCluster(t)
	t.Logf("kube-apiserver was ready after %v", c.started.Round(100*time.Millisecond))
	const restricted = "pod-security.kubernetes.io/enforce: restricted, pod-security.kubernetes.io/warn: restricted"
	c.namespace(t, "aws", restricted)
	c.namespace(t, "shop", "countersign.dev/inject: enabled, "+restricted)
	c.namespace(t, "plain", "")
	c.account(t, "shop", "web")
	t.Run("webhook", func(t *testing.T) { testClusterWebhook(t, c) })
	t.Run("manifests", func(t *testing.T) { testClusterManifests(t, c) })
	t.Run("helm", func(t *testing.T) { testClusterHelm(t, c) })
	t.Run("keys", func(t *testing.T) { testClusterKeys(t, c) })
	t.Run("tokens", func(t *testing.T) { testClusterTokens(t, c) })
}

func testClusterWebhook(t *testing.T, c *cluster) {
	i := startInjector(t, c)
	const pods = "/api/v1/namespaces/shop/pods"
	const trial = "?dryRun=All"
	injected := func() bool {
		var pod storedPod
		return c.call(http.MethodPost, pods+trial, askingFor("probe", askingRole)).into(&pod) && len(pod.Spec.InitContainers) == 3
	}
	register(t, c, i.webhook, injected)

	order := []string{"countersign-prepare", "countersign", "before", "app"}
	t.Run("created", func(t *testing.T) {
		// "restricted" is enforced here: of what the sidecar brings along, too.
		a := c.call(http.MethodPost, pods, askingFor("created", askingRole))
		var pod storedPod
		if a.status != http.StatusCreated || !a.into(&pod) || len(a.warnings) != 0 {
			t.Fatalf("%d: %s %q", a.status, a.message(), a.warnings)
		}
		c.must(t, http.MethodGet, pods+"/created", "", &pod)
		if diff := cmp.Diff(order, pod.names()); diff != "" {
			t.Error(diff)
		}
		if got := pod.container(t, "countersign").RestartPolicy; got != "Always" {
			t.Errorf("the sidecar's restartPolicy is %q", got)
		}
		for _, name := range []string{"before", "app"} {
			if got := pod.container(t, name).variable("HTTPS_PROXY"); got != "http://127.0.0.1:8800" {
				t.Errorf("%s has the proxy %q", name, got)
			}
		}
		// The same as by hand.
		command := exec.Command(program, "inject", "-f", "-")
		command.Stdin = strings.NewReader(askingFor("created", askingRole))
		made, err := command.Output()
		if err != nil {
			t.Fatal(err)
		}
		a = c.call(http.MethodPost, "/api/v1/namespaces/plain/pods", string(made))
		var byHand storedPod
		if a.status != http.StatusCreated || !a.into(&byHand) {
			t.Fatalf("what inject -f makes: %d: %s", a.status, a.message())
		}
		if diff := cmp.Diff(byHand.names(), pod.names()); diff != "" {
			t.Error(diff)
		}
		for _, name := range order {
			if diff := cmp.Diff(byHand.container(t, name).Env, pod.container(t, name).Env); diff != "" {
				t.Errorf("%s: (-by hand +by webhook)\n%s", name, diff)
			}
		}
		// A manifest that was injected already goes through the webhook again.
		a = c.call(http.MethodPost, pods, strings.Replace(string(made), "name: created", "name: again", 1))
		var again storedPod
		if a.status != http.StatusCreated || !a.into(&again) {
			t.Fatalf("injected twice: %d: %s", a.status, a.message())
		}
		for _, name := range order {
			if diff := cmp.Diff(pod.container(t, name).Env, again.container(t, name).Env); diff != "" {
				t.Errorf("injected twice: %s: (-once +twice)\n%s", name, diff)
			}
		}
	})

	t.Run("enforced", func(t *testing.T) {
		// The proof that "restricted" refuses what does not conform.
		a := c.call(http.MethodPost, pods, strings.Replace(askingFor("loose", askingRole), "allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true", 1))
		if a.status != http.StatusForbidden || !strings.Contains(a.message(), `violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false (containers "before", "app" must`) {
			t.Errorf("%d: %s", a.status, a.message())
		}
	})

	t.Run("dry run", func(t *testing.T) {
		if !injected() {
			t.Error("a trial is not injected")
		}
		if status := c.call(http.MethodGet, pods+"/probe", "").status; status != http.StatusNotFound {
			t.Errorf("after a trial the pod is there: %d", status)
		}
	})

	t.Run("not asked", func(t *testing.T) {
		for path, annotations := range map[string]string{pods: "", "/api/v1/namespaces/plain/pods": askingRole} {
			var pod storedPod
			c.must(t, http.MethodPost, path+trial, askingFor("other", annotations), &pod)
			if diff := cmp.Diff([]string{"before", "app"}, pod.names()); diff != "" {
				t.Errorf("%s: %s", path, diff)
			}
		}
	})

	t.Run("refused", func(t *testing.T) {
		for _, x := range []struct{ name, pod, want string }{
			{"role", askingFor("bad", `countersign.dev/role: "arn:aws:iam::123456789012:user/x"`), `metadata.annotations: countersign.dev/role is "arn:aws:iam::123456789012:user/x", which is no ARN of a role`},
			{"name without configuration", askingFor("bad", "countersign.dev/role: deploy"), `metadata.annotations: countersign.dev/role names the role "deploy", and countersign.dev/config does not say which ConfigMap describes it; name one, or give the role's ARN`},
			{"processes", strings.Replace(askingFor("bad", askingRole), "spec:", "spec:\n  shareProcessNamespace: true", 1), "spec.shareProcessNamespace: the other containers could read the sidecar's keys; use a gateway for this pod"},
		} {
			a := c.call(http.MethodPost, pods, x.pod)
			if want := `admission webhook "inject.countersign.dev" denied the request: countersign: ` + x.want; a.status != http.StatusUnprocessableEntity || a.message() != want {
				t.Errorf("%s: %d: %s\nwant %s", x.name, a.status, a.message(), want)
			}
		}
	})

	t.Run("server-side apply", func(t *testing.T) {
		var versions []string
		for range 2 {
			a := c.call(http.MethodPatch, pods+"/applied?fieldManager=e2e", askingFor("applied", askingRole))
			var pod storedPod
			if a.status/100 != 2 || !a.into(&pod) {
				t.Fatalf("%d: %s", a.status, a.message())
			}
			if diff := cmp.Diff(order, pod.names()); diff != "" {
				t.Error(diff)
			}
			versions = append(versions, pod.Metadata.ResourceVersion)
		}
		if versions[0] != versions[1] {
			t.Error("applying the same again changes the pod")
		}
	})

	// Whether the webhook of EKS is asked before ours or after: the pod's AWS
	// identity is the sidecar's, and nobody else has it.
	for _, name := range []string{"a-pod-identity-webhook", "pod-identity-webhook"} {
		t.Run("beside "+name, func(t *testing.T) {
			eks := startEKSWebhook(t, name)
			register(t, c, eks.registration, func() bool {
				return c.call(http.MethodPost, "/api/v1/namespaces/shop/pods"+trial, askingFor("probe", "")).status == http.StatusCreated && eks.asked.Load() > 0
			})
			defer unregister(t, c, name)
			var pod storedPod
			c.must(t, http.MethodPost, pods, askingFor(name, askingRole), &pod)
			if diff := cmp.Diff(order, pod.names()); diff != "" {
				t.Error(diff)
			}
			for _, container := range order {
				got := pod.container(t, container)
				role, mounted := got.variable("AWS_ROLE_ARN"), got.mounts("aws-iam-token")
				if container == "countersign" && (role != eksRole || !mounted) {
					t.Errorf("the sidecar has no AWS identity: %+v", got)
				}
				if container != "countersign" && (role != "" || mounted) {
					t.Errorf("%s has the sidecar's AWS identity: %+v", container, got)
				}
				// What is no secret, and programs rely on, is not lost with it.
				if region := got.variable("AWS_REGION"); region != eksRegion && container != "countersign-prepare" {
					t.Errorf("%s is told the region %q", container, region)
				}
			}
		})
	}

	t.Run("down", func(t *testing.T) {
		if err := i.process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
			a := c.call(http.MethodPost, pods+trial, askingFor("down", askingRole))
			if a.status == http.StatusInternalServerError && strings.Contains(a.message(), `failed calling webhook "inject.countersign.dev"`) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("a pod is created without its sidecar: %d: %s", a.status, a.message())
			}
		}
		// That is what the alert CountersignInjectorUnreachable goes by.
		if _, counted, _ := c.try(http.MethodGet, "/metrics", "", nil); !bytes.Contains(counted, []byte(`apiserver_admission_webhook_rejection_count{error_type="calling_webhook_error",name="inject.countersign.dev"`)) {
			t.Error("the API server does not count the calls that failed")
		}
		// Others do not wait for it.
		for path, annotations := range map[string]string{pods: "", "/api/v1/namespaces/plain/pods": askingRole} {
			if a := c.call(http.MethodPost, path+trial, askingFor("other", annotations)); a.status != http.StatusCreated {
				t.Errorf("%s: %d: %s", path, a.status, a.message())
			}
		}
	})
	unregister(t, c, i.webhook["metadata"].(map[string]any)["name"].(string))
}

func (a answer) into(v any) bool { return json.Unmarshal(a.body, v) == nil }

const (
	eksRole   = "arn:aws:iam::123456789012:role/of-the-service-account"
	eksRegion = "eu-south-2"
)

// An eksWebhook does what that of EKS does for service accounts with a role.
// https://github.com/aws/amazon-eks-pod-identity-webhook
type eksWebhook struct {
	registration map[string]any
	asked        atomic.Int64
}

func startEKSWebhook(t testing.TB, name string) *eksWebhook {
	t.Helper()
	w := &eksWebhook{}
	certFile, keyFile := listenerCertificate(t, t.TempDir())
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		var review struct {
			Request struct {
				UID    string
				Object struct {
					Metadata struct{ Annotations map[string]string }
					Spec     map[string]any
				}
			}
		}
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			t.Error(err)
		}
		w.asked.Add(1)
		spec := review.Request.Object.Spec
		skipped := strings.Split(review.Request.Object.Metadata.Annotations["eks.amazonaws.com/skip-containers"], ",")
		add := func(o map[string]any, list, name string, value any) {
			items, _ := o[list].([]any)
			if !slices.ContainsFunc(items, func(item any) bool { return item.(map[string]any)["name"] == name }) {
				o[list] = append(items, value)
			}
		}
		for _, list := range []string{"initContainers", "containers"} {
			for _, item := range spec[list].([]any) {
				container := item.(map[string]any)
				if slices.Contains(skipped, container["name"].(string)) {
					continue
				}
				add(container, "env", "AWS_REGION", map[string]any{"name": "AWS_REGION", "value": eksRegion})
				add(container, "env", "AWS_ROLE_ARN", map[string]any{"name": "AWS_ROLE_ARN", "value": eksRole})
				add(container, "env", "AWS_WEB_IDENTITY_TOKEN_FILE", map[string]any{"name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": "/var/run/secrets/eks.amazonaws.com/serviceaccount/token"})
				add(container, "volumeMounts", "aws-iam-token", map[string]any{"name": "aws-iam-token", "mountPath": "/var/run/secrets/eks.amazonaws.com/serviceaccount", "readOnly": true})
			}
		}
		add(spec, "volumes", "aws-iam-token", map[string]any{"name": "aws-iam-token", "projected": map[string]any{"sources": []any{
			map[string]any{"serviceAccountToken": map[string]any{"audience": "sts.amazonaws.com", "expirationSeconds": 86400, "path": "token"}}}}})
		patch, err := json.Marshal([]any{map[string]any{"op": "replace", "path": "/spec", "value": spec}})
		if err != nil {
			t.Error(err)
		}
		out.Header().Set("Content-Type", "application/json")
		json.NewEncoder(out).Encode(map[string]any{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": map[string]any{
			"uid": review.Request.UID, "allowed": true, "patchType": "JSONPatch", "patch": patch}})
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	server.StartTLS()
	t.Cleanup(server.Close)
	bundle, err := os.ReadFile(certFile)
	if err != nil {
		t.Fatal(err)
	}
	w.registration = map[string]any{
		"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration", "metadata": map[string]any{"name": name},
		"webhooks": []any{map[string]any{
			"name": "iam-for-pods.amazonaws.com", "admissionReviewVersions": []string{"v1"}, "sideEffects": "None",
			"failurePolicy": "Ignore", "reinvocationPolicy": "IfNeeded",
			"clientConfig": map[string]any{"url": server.URL + "/mutate", "caBundle": bundle},
			"rules":        []any{map[string]any{"apiGroups": []string{""}, "apiVersions": []string{"v1"}, "operations": []string{"CREATE"}, "resources": []string{"pods"}}},
		}},
	}
	return w
}

// What the chart and the kustomizations make is applied on the server's side, as
// a trial, in a namespace whose level "restricted" warns of each violation.
func testClusterManifests(t *testing.T, c *cluster) {
	applied := 0
	unchanged, err := render(t, chartValues)
	if err != nil {
		t.Fatal(err)
	}
	try := func(t *testing.T, manifests []byte, namespace string) {
		t.Helper()
		for _, o := range objects(t, manifests) {
			group, _, _ := strings.Cut(fmt.Sprint(o["apiVersion"]), "/")
			if slices.Contains(foreignGroups, group) {
				continue // TestChart holds these against their own schemas
			}
			a := c.apply(t, o, namespace, true)
			name := o["metadata"].(map[string]any)["name"]
			if a.status/100 != 2 {
				t.Errorf("%s %v: %d: %s", o["kind"], name, a.status, a.message())
			}
			if len(a.warnings) != 0 {
				t.Errorf("%s %v: the API server warns: %q", o["kind"], name, a.warnings)
			}
			applied++
		}
	}
	for name, values := range map[string]string{
		"trial": trialValues, "smallest": chartValues, "everything": chartValues + everyValue, "injector": "gateway: {enabled: false}\ninjector: {enabled: true}\n",
	} {
		t.Run("chart "+name, func(t *testing.T) {
			manifests, err := render(t, values)
			if err != nil {
				t.Fatal(err)
			}
			try(t, manifests, "aws")
		})
	}
	// Every switch the other way. Some want something beside them, and say so.
	t.Run("chart switches", func(t *testing.T) {
		leaves(defaultValues(t), nil, func(path []string, value any) {
			on, ok := value.(bool)
			if !ok {
				return
			}
			key := strings.Join(path, ".")
			manifests, err := render(t, with(t, chartValues, path, !on))
			if want := map[string]string{
				"gateway.keys.generate":           "leave gateway.ca.existingSecret",
				"gateway.tls.certManager.enabled": "gateway.tls.certManager.issuerRef is not set",
			}[key]; want != "" {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%s: %v", key, err)
				}
				return
			}
			if err != nil {
				t.Errorf("%s: %v", key, err)
				return
			}
			if key == "gateway.enabled" { // then nothing is left
				if len(objects(t, manifests)) != 0 {
					t.Errorf("without the gateway there is\n%s", manifests)
				}
				return
			}
			if bytes.Equal(manifests, unchanged) && !slices.Contains([]string{"injector.tls.certManager.enabled", "injector.podDisruptionBudget.enabled"}, key) { // while the injector is off
				t.Errorf("%s changes nothing", key)
			}
			try(t, manifests, "aws")
		})
	})
	kustomize := tool(t, "kustomize")
	for _, dir := range kustomizations {
		t.Run(dir, func(t *testing.T) {
			manifests, err := exec.Command(kustomize, "build", filepath.Join("../deploy/kubernetes", dir)).Output()
			if err != nil {
				t.Fatal(err)
			}
			try(t, manifests, "aws")
		})
	}
	if applied < 30 {
		t.Errorf("only %d objects were tried", applied)
	}
}

// The chart is installed, upgraded and uninstalled by helm itself. The certificate
// of the injector stays through an upgrade: else the API server would trust one
// that pods which are running do not have yet.
func testClusterHelm(t *testing.T, c *cluster) {
	const restricted = "pod-security.kubernetes.io/enforce: restricted"
	c.namespace(t, "release", restricted)
	dir := t.TempDir()
	kubeconfig, values := filepath.Join(dir, "kubeconfig"), filepath.Join(dir, "values.yaml")
	for file, text := range map[string]string{
		kubeconfig: fmt.Sprintf("{apiVersion: v1, kind: Config, current-context: c, clusters: [{name: c, cluster: {server: %q, certificate-authority: %q}}],\n"+
			"users: [{name: c, user: {token: %s}}], contexts: [{name: c, context: {cluster: c, user: c}}]}\n", c.url, c.roots, clusterAdmin),
		values: chartValues + "injector: {enabled: true}\n",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	helm := func(argv ...string) string {
		t.Helper()
		command := exec.Command(tool(t, "helm"), append(argv, "--kubeconfig", kubeconfig, "--namespace", "release")...)
		command.Env = append(bareEnvironment(dir), "HELM_CACHE_HOME="+dir, "HELM_CONFIG_HOME="+dir, "HELM_DATA_HOME="+dir)
		output, err := command.CombinedOutput()
		if err != nil {
			t.Fatalf("helm %q: %v\n%s", argv, err, output)
		}
		return string(output)
	}
	type stored struct {
		Data     map[string]string
		Spec     struct{ Replicas int }
		Webhooks []struct{ ClientConfig struct{ CABundle string } }
	}
	const apps, admission = "/apis/apps/v1/namespaces/release/deployments/", "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/"
	read := func(path string) (o stored) {
		t.Helper()
		c.must(t, http.MethodGet, path, "", &o)
		return o
	}
	const secret, webhook = "/api/v1/namespaces/release/secrets/gw-countersign-injector-tls", admission + "gw-countersign-injector.release"
	if said := helm("install", "gw", chart, "--values", values); !strings.Contains(said, "The gateway is at http://gw-countersign.release.svc:8800") {
		t.Errorf("helm says\n%s", said)
	}
	before := read(secret)
	helm("upgrade", "gw", chart, "--values", values, "--set", "injector.replicas=3")
	if got := read(apps + "gw-countersign-injector").Spec.Replicas; got != 3 {
		t.Errorf("after the upgrade there are %d replicas", got)
	}
	after := read(secret)
	if len(before.Data) != 3 || !maps.Equal(before.Data, after.Data) {
		t.Error("an upgrade changes the certificate of the injector")
	}
	if hooks := read(webhook).Webhooks; len(hooks) != 1 || hooks[0].ClientConfig.CABundle != after.Data["ca.crt"] {
		t.Error("the API server trusts another authority than that of the injector's certificate")
	}
	helm("uninstall", "gw")
	for _, path := range []string{secret, webhook, apps + "gw-countersign", apps + "gw-countersign-injector"} {
		if status := c.call(http.MethodGet, path, "").status; status != http.StatusNotFound {
			t.Errorf("%s is left: %d", path, status)
		}
	}
}

// The chart's job makes keys with no more rights than the chart gives it, and
// leaves those that are there. A gateway starts with them.
func testClusterKeys(t *testing.T, c *cluster) {
	manifests, err := render(t, trialValues+"    hosts: [{pattern: api.example.com, service: execute-api}]\n")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var argv, env []string
	name := ""
	for _, o := range objects(t, manifests) {
		metadata := o["metadata"].(map[string]any)
		if metadata["name"] != "gw-countersign-keys" {
			continue
		}
		if o["kind"] == "Job" {
			name = "gw-countersign-keys"
			container := o["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)["containers"].([]any)[0].(map[string]any)
			for _, a := range container["args"].([]any) {
				argv = append(argv, a.(string))
			}
			for _, v := range container["env"].([]any) {
				v := v.(map[string]any)
				env = append(env, fmt.Sprint(v["name"], "=", strings.Replace(fmt.Sprint(v["value"]), "/tmp/", dir+"/", 1)))
			}
			continue
		}
		if a := c.apply(t, o, "aws", false); a.status/100 != 2 {
			t.Fatalf("%s: %d: %s", o["kind"], a.status, a.message())
		}
	}
	if name == "" {
		t.Fatal("the chart makes no job")
	}
	roots, err := os.ReadFile(c.roots)
	if err != nil {
		t.Fatal(err)
	}
	token := c.token(t, "aws", name, "")
	for file, text := range map[string]string{"token": token, "namespace": "aws", "ca.crt": string(roots)} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	host, port, err := net.SplitHostPort(strings.TrimPrefix(c.url, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	run := func() string {
		t.Helper()
		command := exec.Command(program, append(argv, "--service-account", dir)...)
		command.Env = slices.Concat(bareEnvironment(dir), env, []string{"KUBERNETES_SERVICE_HOST=" + host, "KUBERNETES_SERVICE_PORT=" + port})
		output, err := command.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, output)
		}
		return string(output)
	}
	type stored struct {
		Metadata struct{ ResourceVersion string }
		Data     map[string]string
	}
	read := func() (secret, trust stored) {
		t.Helper()
		c.must(t, http.MethodGet, "/api/v1/namespaces/aws/secrets/gw-countersign-keys", "", &secret)
		c.must(t, http.MethodGet, "/api/v1/namespaces/aws/configmaps/gw-countersign-trust", "", &trust)
		return secret, trust
	}
	const where = " in the secret aws/gw-countersign-keys. Clients trust what is in the configmap aws/gw-countersign-trust.\n"
	if said, want := run(), "Made the keys"+where; said != want {
		t.Errorf("it says %q, want %q", said, want)
	}
	secret, trust := read()
	if said, want := run(), "Found the keys"+where; said != want {
		t.Errorf("it says %q, want %q", said, want)
	}
	again, trustAgain := read()
	if diff := cmp.Diff([]stored{secret, trust}, []stored{again, trustAgain}); diff != "" {
		t.Error("the second time something changes") // the difference would print keys
	}

	// The job's rights end there.
	c.must(t, http.MethodPost, "/api/v1/namespaces/aws/secrets", "{apiVersion: v1, kind: Secret, metadata: {name: another}}", nil)
	for _, path := range []string{"/api/v1/namespaces/aws/secrets/another", "/api/v1/namespaces/aws/secrets", "/api/v1/namespaces/shop/secrets/gw-countersign-keys"} {
		request, err := http.NewRequest(http.MethodGet, c.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+token)
		response, err := c.client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusForbidden {
			t.Errorf("the job may read %s: %s", path, response.Status)
		}
	}

	// What was made is what a gateway starts with, and what its clients trust.
	mounted := filepath.Join(t.TempDir(), "mounted")
	if err := os.Mkdir(mounted, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"authority.pem", "sealing.key"} {
		text, err := base64.StdEncoding.DecodeString(secret.Data[file])
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(mounted, file), text, 0o440); err != nil {
			t.Fatal(err)
		}
	}
	p := serve(t, strictMoto(t), "ca: {dir: "+mounted+"}\nsealing_keys: ["+filepath.Join(mounted, "sealing.key")+"]\n")
	bundle := filepath.Join(t.TempDir(), "bundle.pem")
	if err := os.WriteFile(bundle, []byte(trust.Data["bundle.pem"]), 0o600); err != nil {
		t.Fatal(err)
	}
	w := p.client("ci")
	w.env = append(w.env, trustEnvironment(bundle)...)
	w.must(t, t.TempDir(), nil, sdkClient)
	show := exec.Command(program, "ca", "show", "--config", p.config)
	show.Env = p.env
	output, err := show.CombinedOutput()
	if err != nil || !strings.Contains(string(output), "api.example.com") {
		t.Errorf("the CA may not sign for the hosts of the configuration: %v\n%s", err, output)
	}
}

// Service account tokens that the API server made are exchanged for virtual
// sessions at a gateway that knows the cluster by discovery.
func testClusterTokens(t *testing.T, c *cluster) {
	u := strictMoto(t)
	interpreter := python(t)
	dir := t.TempDir()
	own := filepath.Join(dir, "token")
	write := func(name, token string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(token+"\n"), 0o644); err != nil { // as the kubelet mounts it
			t.Fatal(err)
		}
		return path
	}
	c.account(t, "aws", "gateway")
	write("token", c.token(t, "aws", "gateway", ""))
	configuration := func(more string) string {
		return fmt.Sprintf(`roles: {deploy: {arn: %q}, pods: {arn: %q}, source: {arn: ""}}
issuers:
  - url: %s
    ca_file: %s
    audience: countersign
    match: {/kubernetes.io/namespace: shop}
    identity: '{{ index .Claims "kubernetes.io" "namespace" }}/{{ index .Claims "kubernetes.io" "serviceaccount" "name" }}'
    roles: [pods]
`, deployARN, podsARN, c.url, c.roots) + more
	}
	token := write("web", c.token(t, "shop", "web", "countersign"))
	exchange := func(t *testing.T, p *proxy, token string) result {
		t.Helper()
		w := p.client("ci").withoutKeys()
		w.env = append(w.env, "AWS_WEB_IDENTITY_TOKEN_FILE="+token, "AWS_ROLE_ARN="+podsARN, "AWS_ROLE_SESSION_NAME=pod", "AWS_MAX_ATTEMPTS=1")
		return w.run(t, t.TempDir(), nil, interpreter, script(t, "sessions.py"), "chain")
	}
	for name, more := range map[string]string{
		"by discovery": "    token_file: " + own + "\n",
		"keys alone":   "    token_file: " + own + "\n    jwks_url: " + c.url + "/openid/v1/jwks\n",
	} {
		t.Run(name, func(t *testing.T) {
			p := serve(t, u, configuration(more))
			mark := u.mark(t)
			r := exchange(t, p, token)
			if r.code != 0 || !strings.Contains(r.stdout, `"assume-role-with-web-identity"`) || !strings.Contains(r.stdout, ":assumed-role/Pods/") {
				t.Fatalf("%d\n%s\n%s", r.code, r.stdout, r.stderr)
			}
			for i, line := range waitForAudit(t, p.audit, 2) {
				if want := []string{"AssumeRoleWithWebIdentity", "GetCallerIdentity"}[i]; line.Operation != want || line.Identity != "shop/web" || line.Role != "pods" || line.Decision != "allow" {
					t.Errorf("audit line %+v, want %s", line, want)
				}
			}
			var said struct{ Caller string }
			if err := json.Unmarshal([]byte(r.stdout), &said); err != nil {
				t.Fatalf("%v\n%s", err, r.stdout)
			}
			// Other tests have their calls arrive at the same time.
			arrived := slices.DeleteFunc(u.since(t, mark), func(s seen) bool { return s.ARN != said.Caller })
			for _, s := range arrived {
				if s.Refused != "" || strings.Contains(s.Target, "WebIdentity") {
					t.Errorf("arrived: %+v", s)
				}
			}
			if len(arrived) == 0 {
				t.Error("nothing arrived at AWS")
			}
		})
	}
	t.Run("refused", func(t *testing.T) {
		p := serve(t, u, configuration("    token_file: "+own+"\n"))
		for _, x := range []struct{ name, token, want string }{
			{"of another audience", c.token(t, "shop", "web", ""), "issued for another audience"},
			{"of another namespace", c.token(t, "plain", "default", "countersign"), `its claim "/kubernetes.io/namespace" does not match`},
			{"forged", forged(c.token(t, "shop", "web", "countersign")), "is not signed by " + c.url},
		} {
			if r := exchange(t, p, write("refused", x.token)); r.code == 0 || !strings.Contains(r.stderr, x.want) {
				t.Errorf("%s: %d\n%s\n%s", x.name, r.code, r.stdout, r.stderr)
			}
		}
	})
	t.Run("keys that need a token", func(t *testing.T) {
		p := serve(t, u, configuration(""))
		if r := exchange(t, p, token); r.code == 0 || !strings.Contains(r.stderr, "403 Forbidden; it asks for a token, such as token_file gives") {
			t.Errorf("%d\n%s\n%s", r.code, r.stdout, r.stderr)
		}
	})
}

// forged is a token whose signature is of something else.
func forged(token string) string {
	parts := strings.Split(token, ".")
	signature := []byte(parts[2])
	slices.Reverse(signature)
	return strings.Join([]string{parts[0], parts[1], string(bytes.TrimSpace(signature))}, ".")
}
