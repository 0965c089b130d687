package inject

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write the golden files anew")

// options are those of the tests: the environment is cut down to what shows.
func options() Options {
	return Options{
		Image: "registry.example/countersign:1",
		Environment: func(role string, existing func(string) string) []Variable {
			no := "localhost"
			for entry := range strings.SplitSeq(existing("NO_PROXY"), ",") {
				if entry != "" && entry != "localhost" {
					no += "," + entry
				}
			}
			return []Variable{
				{"HTTPS_PROXY", "http://127.0.0.1:8800"}, {"NO_PROXY", no},
				{"AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:8801/credentials?role=" + role},
				{"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", ShareDir + "/" + TokenFile},
			}
		},
		Removed: func(name string) bool {
			return name == "AWS_PROFILE" || name == "AWS_CONTAINER_CREDENTIALS_FULL_URI" || strings.HasPrefix(name, "AWS_ENDPOINT_URL")
		},
	}
}

// Each testdata/NAME.yaml becomes testdata/NAME.golden.yaml, and stays that when
// it is done again.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for _, file := range files {
		if strings.HasSuffix(file, ".golden.yaml") {
			continue
		}
		tried++
		t.Run(filepath.Base(file), func(t *testing.T) {
			in, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			out, _, err := Manifests(bytes.NewReader(in), options())
			if err != nil {
				t.Fatal(err)
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".golden.yaml"
			if *update {
				if err := os.WriteFile(golden, out, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(out)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			again, _, err := Manifests(bytes.NewReader(out), options())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(out), string(again)); diff != "" {
				t.Errorf("doing it again changes it (-first +second)\n%s", diff)
			}
		})
	}
	if tried < 4 {
		t.Errorf("only %d manifests in testdata", tried)
	}
}

const asks = "metadata: {annotations: {countersign.dev/role: 'arn:aws:iam::123456789012:role/Deploy'}}\n"

// What is not safe with a sidecar, or not understood, is refused and says why.
func TestRefusals(t *testing.T) {
	for _, x := range []struct{ name, pod, want string }{
		{"host network", asks + "spec: {hostNetwork: true, containers: [{name: a}]}", "spec.hostNetwork: everybody on the node could use the sidecar's listener; use a gateway for this pod"},
		{"host processes", asks + "spec: {hostPID: true, containers: [{name: a}]}", "spec.hostPID: other processes of the node could read the sidecar's keys; use a gateway for this pod"},
		{"shared processes", asks + "spec: {shareProcessNamespace: true, containers: [{name: a}]}", "spec.shareProcessNamespace: the other containers could read the sidecar's keys; use a gateway for this pod"},
		{"a privileged container", asks + "spec: {initContainers: [{name: a, securityContext: {privileged: true}}]}", "spec.initContainers[0].securityContext.privileged: the container could read the sidecar's keys; use a gateway for this pod"},
		{"privileged that is no boolean", asks + "spec: {containers: [{name: a, securityContext: {privileged: 'yes'}}]}", "spec.containers[0].securityContext.privileged: it is neither true nor false"},
		{"capabilities that are no list", asks + "spec: {containers: [{name: a, securityContext: {capabilities: {drop: ALL}}}]}", "spec.containers[0].securityContext.capabilities.drop: it is not a list"},
		{"a security context that is no object", asks + "spec: {containers: [{name: a, securityContext: []}]}", "spec.containers[0].securityContext: it is not an object"},
		{"host network that is no boolean", asks + "spec: {hostNetwork: 'yes', containers: [{name: a}]}", "spec.hostNetwork: it is neither true nor false"},
		{"Windows", asks + "spec: {os: {name: windows}, containers: [{name: a}]}", "spec.os: there is no sidecar for Windows; use a gateway for this pod"},
		{"a node of Windows", asks + "spec: {nodeSelector: {kubernetes.io/os: windows}, containers: [{name: a}]}", "spec.nodeSelector: there is no sidecar for Windows; use a gateway for this pod"},
		{"the node's root", asks + "spec: {volumes: [{name: v, hostPath: {path: /}}], containers: [{name: a}]}", "spec.volumes[0].hostPath: by / of the node the sidecar's keys could be read; use a gateway for this pod"},
		{"the node's volumes of pods", asks + "spec: {volumes: [{name: u, emptyDir: {}}, {name: v, hostPath: {path: /var/lib/}}], containers: [{name: a}]}", "spec.volumes[1].hostPath: by /var/lib/ of the node the sidecar's keys could be read; use a gateway for this pod"},
		{"one of them", asks + "spec: {volumes: [{name: v, hostPath: {path: /var/lib/kubelet/pods/../pods}}], containers: [{name: a}]}", "spec.volumes[0].hostPath: by /var/lib/kubelet/pods/../pods of the node the sidecar's keys could be read; use a gateway for this pod"},
		{"the node's processes", asks + "spec: {volumes: [{name: v, hostPath: {path: /proc}}], containers: [{name: a}]}", "spec.volumes[0].hostPath: by /proc of the node the sidecar's keys could be read; use a gateway for this pod"},
		{"who starts containers", asks + "spec: {volumes: [{name: v, hostPath: {path: /var/run/docker.sock}}], containers: [{name: a}]}", "spec.volumes[0].hostPath: by /var/run/docker.sock of the node the sidecar's keys could be read; use a gateway for this pod"},
		{"a key", asks + "spec: {containers: [{name: a, env: [{name: AWS_ACCESS_KEY_ID, value: AKIAIOSFODNN7EXAMPLE}]}]}", "spec.containers[0].env[0]: AWS_ACCESS_KEY_ID gives the container a key of AWS; remove it, and let the sidecar sign"},
		{"a key from a secret", asks + "spec: {initContainers: [{name: a, env: [{name: X}, {name: AWS_SECRET_ACCESS_KEY, valueFrom: {secretKeyRef: {name: s, key: k}}}]}]}", "spec.initContainers[0].env[1]: AWS_SECRET_ACCESS_KEY gives the container a key of AWS; remove it, and let the sidecar sign"},
		{"a container of that name", asks + "spec: {containers: [{name: countersign}]}", "spec.containers[0]: the name countersign is the sidecar's; rename the container"},
		{"an init container of that name", asks + "spec: {initContainers: [{name: countersign-prepare}]}", "spec.initContainers[0]: the name countersign-prepare is the sidecar's; rename the container"},
		{"a volume of that name", asks + "spec: {volumes: [{name: countersign-state}]}", "spec.volumes[0]: the name countersign-state is the sidecar's; rename the volume"},
		{"somebody else mounts the keys", strings.Replace(asks, "}}", ", countersign.dev/injected: v1}}", 1) + "spec: {containers: [{name: a, volumeMounts: [{name: countersign-state, mountPath: /x}]}]}", "spec.containers[0].volumeMounts: the volume countersign-state is for the sidecar alone"},
		{"somebody else mounts the sidecar's AWS token", asks + "spec: {containers: [{name: a, volumeMounts: [{name: countersign-aws-token, mountPath: /x}]}]}", "spec.containers[0].volumeMounts: the volume countersign-aws-token is for the sidecar alone"},
		{"a key that is no text", asks + "spec: {containers: [{name: a, env: [{name: AWS_SESSION_TOKEN, value: 7}]}]}", "spec.containers[0].env[0]: AWS_SESSION_TOKEN gives the container a key of AWS; remove it, and let the sidecar sign"},
		{"envFrom that is no list", asks + "spec: {containers: [{name: a, envFrom: {secretRef: {name: s}}}]}", "spec.containers[0].envFrom: it is not a list of sources"},
		{"its port", asks + "spec: {containers: [{name: a, ports: [{containerPort: 8801}]}]}", "spec.containers[0].ports: the sidecar listens on 8801; let the container use another port"},
		{"no such container", "metadata: {annotations: {countersign.dev/role: 'arn:aws:iam::123456789012:role/D', countersign.dev/containers: 'a, b'}}\nspec: {containers: [{name: a}]}", `metadata.annotations: countersign.dev/containers names "b", and the pod has no such container`},
		{"empty role", "metadata: {annotations: {countersign.dev/role: ' '}}\nspec: {containers: [{name: a}]}", "metadata.annotations: countersign.dev/role is empty; it names a role, or is the ARN of one"},
		{"role that is no text", "metadata: {annotations: {countersign.dev/role: 7}}\nspec: {containers: [{name: a}]}", "metadata.annotations: countersign.dev/role is not a text"},
		{"name without configuration", "metadata: {annotations: {countersign.dev/role: deploy}}\nspec: {containers: [{name: a}]}", `metadata.annotations: countersign.dev/role names the role "deploy", and countersign.dev/config does not say which ConfigMap describes it; name one, or give the role's ARN`},
		{"ARN with configuration", "metadata: {annotations: {countersign.dev/role: 'arn:aws:iam::123456789012:role/D', countersign.dev/config: c}}\nspec: {containers: [{name: a}]}", "metadata.annotations: countersign.dev/role is an ARN, while countersign.dev/config names a configuration; give the name that the role has there"},
		{"ARN of something else", "metadata: {annotations: {countersign.dev/role: 'arn:aws:iam::123456789012:user/D'}}\nspec: {containers: [{name: a}]}", `metadata.annotations: countersign.dev/role is "arn:aws:iam::123456789012:user/D", which is no ARN of a role`},
		{"a name that would end the URL", "metadata: {annotations: {countersign.dev/role: 'a&b', countersign.dev/config: c}}\nspec: {containers: [{name: a}]}", `metadata.annotations: countersign.dev/role is "a&b", which is not a valid role name`},
		{"source that is no ARN", strings.Replace(asks, "}}", ", countersign.dev/source-role-arn: x}}", 1) + "spec: {containers: [{name: a}]}", `metadata.annotations: countersign.dev/source-role-arn is "x", which is no ARN of a role`},
		{"ConfigMap that cannot be", "metadata: {annotations: {countersign.dev/role: a, countersign.dev/config: ../x}}\nspec: {containers: [{name: a}]}", `metadata.annotations: countersign.dev/config is "../x", which is not a valid ConfigMap name`},
		{"containers that are no list", asks + "spec: {containers: {name: a}}", "spec.containers: it is not a list"},
		{"container that is no object", asks + "spec: {containers: [a]}", "spec.containers[0]: it is not an object"},
		{"container without a name", asks + "spec: {containers: [{image: a}]}", `spec.containers[0]: its name is "", which is none for a container`},
		{"annotations that are no object", "metadata: {annotations: [a]}", "metadata.annotations: it is not an object"},
	} {
		t.Run(x.name, func(t *testing.T) {
			var pod object
			if err := yaml.Unmarshal([]byte(x.pod), &pod); err != nil {
				t.Fatal(err)
			}
			changed, err := Pod(pod, options())
			var refusal *Refusal
			if !errors.As(err, &refusal) || changed {
				t.Fatalf("changed %v, error %v; want a refusal", changed, err)
			}
			if err.Error() != x.want {
				t.Errorf("got  %s\nwant %s", err, x.want)
			}
		})
	}
}

// The pod's own AWS identity, as the webhook of EKS hands it to every container,
// stays with the sidecar.
func TestIdentityIsTheSidecarsAlone(t *testing.T) {
	pod := decode(t, asks+`
spec:
  containers:
  - name: app
    env:
    - {name: AWS_ROLE_ARN, value: "arn:aws:iam::123456789012:role/Source"}
    - {name: AWS_WEB_IDENTITY_TOKEN_FILE, value: /var/run/secrets/eks.amazonaws.com/serviceaccount/token}
    - {name: AWS_CONTAINER_CREDENTIALS_FULL_URI, value: "http://169.254.170.23/v1/credentials"}
    - {name: AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE, value: /var/run/secrets/pods.eks.amazonaws.com/serviceaccount/eks-pod-identity-token}
    volumeMounts:
    - {name: aws-iam-token, mountPath: /var/run/secrets/eks.amazonaws.com/serviceaccount}
    - {name: eks-pod-identity-token, mountPath: /var/run/secrets/pods.eks.amazonaws.com/serviceaccount}
    - {name: data, mountPath: /data}
  volumes:
  - {name: aws-iam-token, projected: {sources: [{serviceAccountToken: {audience: sts.amazonaws.com, path: token}}]}}
  - {name: eks-pod-identity-token, projected: {sources: [{serviceAccountToken: {audience: pods.eks.amazonaws.com, path: token}}]}}
  - {name: data, emptyDir: {}}
`)
	if changed, err := Pod(pod, options()); err != nil || !changed {
		t.Fatal(changed, err)
	}
	app := pod["spec"].(object)["containers"].([]any)[0].(object)
	text, err := json.Marshal(app)
	if err != nil {
		t.Fatal(err)
	}
	for _, gone := range []string{"AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "169.254.170.23", "eks.amazonaws.com", "aws-iam-token", "eks-pod-identity-token"} {
		if strings.Contains(string(text), gone) {
			t.Errorf("the container still has %s: %s", gone, text)
		}
	}
	if !strings.Contains(string(text), `"mountPath":"/data"`) {
		t.Errorf("the container lost a mount of its own: %s", text)
	}
	if got := pod["metadata"].(object)["annotations"].(object)[skipAnnotation]; got != "app,countersign-prepare" {
		t.Errorf("the webhook of EKS is told to skip %q, want app and what prepares", got)
	}
	// The webhook that handed it out may not be asked again, so it moves, and stays
	// where it is when ours is asked again.
	for _, time := range []string{"first", "second"} {
		sidecar := pod["spec"].(object)["initContainers"].([]any)[1].(object)
		var env []string
		for _, v := range sidecar["env"].([]any) {
			if v := v.(object); strings.HasPrefix(v["name"].(string), "AWS_") {
				env = append(env, fmt.Sprint(v["name"], "=", v["value"]))
			}
		}
		if diff := cmp.Diff([]string{
			"AWS_ROLE_ARN=arn:aws:iam::123456789012:role/Source",
			"AWS_WEB_IDENTITY_TOKEN_FILE=/var/run/secrets/eks.amazonaws.com/serviceaccount/token",
			"AWS_CONTAINER_CREDENTIALS_FULL_URI=http://169.254.170.23/v1/credentials",
			"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=/var/run/secrets/pods.eks.amazonaws.com/serviceaccount/eks-pod-identity-token",
		}, env); diff != "" {
			t.Errorf("%s time: %s", time, diff)
		}
		var mounts []any
		for _, m := range sidecar["volumeMounts"].([]any) {
			mounts = append(mounts, m.(object)["name"])
		}
		if diff := cmp.Diff([]any{"countersign-state", "aws-iam-token", "eks-pod-identity-token"}, mounts); diff != "" {
			t.Errorf("%s time: %s", time, diff)
		}
		if _, err := Pod(pod, options()); err != nil {
			t.Fatal(err)
		}
	}
}

// A role that was asked for by annotation is the sidecar's, whatever the cluster
// gave to the pod.
func TestAskedIdentityWins(t *testing.T) {
	pod := decode(t, `
metadata: {annotations: {countersign.dev/role: "arn:aws:iam::123456789012:role/Deploy", countersign.dev/source-role-arn: "arn:aws:iam::123456789012:role/Asked"}}
spec:
  containers:
  - {name: app, env: [{name: AWS_ROLE_ARN, value: "arn:aws:iam::123456789012:role/Source"}]}
`)
	if _, err := Pod(pod, options()); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(text, []byte("role/Source")) || !bytes.Contains(text, []byte(`{"name":"AWS_ROLE_ARN","value":"arn:aws:iam::123456789012:role/Asked"}`)) {
		t.Errorf("%s", text)
	}
}

// The webhook of EKS skips the containers that use the sidecar, and would have told
// them the region, as it told the sidecar. One that knows it already keeps its own,
// and one that does not use the sidecar is none of our business.
func TestRegionOfTheWebhookReachesTheContainers(t *testing.T) {
	for name, asked := range map[string]string{"its identity": "", "an identity that was asked for": `, countersign.dev/source-role-arn: "arn:aws:iam::123456789012:role/Asked"`} {
		pod := decode(t, strings.Replace(asks, "}}", ", countersign.dev/containers: 'plain,own'"+asked+"}}", 1)+`
spec:
  containers:
  - {name: plain}
  - {name: own, env: [{name: AWS_DEFAULT_REGION, value: eu-west-1}]}
  - {name: other}
`)
		if _, err := Pod(pod, options()); err != nil {
			t.Fatal(err)
		}
		// Now it is asked, and then we are again.
		sidecar := pod["spec"].(object)["initContainers"].([]any)[1].(object)
		for _, v := range []object{
			value("AWS_STS_REGIONAL_ENDPOINTS", "regional"), value("AWS_DEFAULT_REGION", "eu-central-1"), value("AWS_REGION", "eu-central-1"),
			value("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/Source"),
		} {
			sidecar["env"] = append(sidecar["env"].([]any), v)
		}
		for _, time := range []string{"second", "third"} {
			if _, err := Pod(pod, options()); err != nil {
				t.Fatal(err)
			}
			spec := pod["spec"].(object)
			got := map[string][]any{}
			for _, c := range append(spec["initContainers"].([]any), spec["containers"].([]any)...) {
				c := c.(object)
				env, _ := c["env"].([]any)
				for _, v := range env {
					if v := v.(object); isRegion(v) {
						got[c["name"].(string)] = append(got[c["name"].(string)], fmt.Sprint(v["name"], "=", v["value"]))
					}
				}
			}
			both := []any{"AWS_DEFAULT_REGION=eu-central-1", "AWS_REGION=eu-central-1"}
			if diff := cmp.Diff(map[string][]any{Sidecar: both, "plain": both, "own": {"AWS_DEFAULT_REGION=eu-west-1"}}, got); diff != "" {
				t.Errorf("%s, %s time: %s", name, time, diff)
			}
		}
	}
}

// STS is asked in the region of the cluster or of the app: another may be out of
// reach. What names none outright, and what has a configuration, is left alone.
func TestSidecarAsksSTSNearby(t *testing.T) {
	const config = ", countersign.dev/config: c"
	for _, x := range []struct{ name, annotations, containers, want string }{
		{"none", "", "{name: a}", ""},
		{"of the app", "", "{name: a, env: [{name: AWS_REGION, value: eu-central-1}]}", "eu-central-1"},
		{"of the first that has one", "", "{name: z}, {name: a, env: [{name: AWS_DEFAULT_REGION, value: us-gov-west-1}]}, {name: b, env: [{name: AWS_REGION, value: eu-west-1}]}", "us-gov-west-1"},
		{"of one that does not use it", ", countersign.dev/containers: z", "{name: z}, {name: a, env: [{name: AWS_REGION, value: eu-west-1}]}", ""},
		{"of the cluster", "", "{name: z, env: [{name: AWS_REGION, value: eu-west-1}]}, {name: a, env: [{name: AWS_REGION, value: eu-south-2}, {name: AWS_ROLE_ARN, value: x}]}", "eu-south-2"},
		{"known when it runs", "", "{name: a, env: [{name: AWS_REGION, valueFrom: {configMapKeyRef: {name: c, key: k}}}, {name: AWS_DEFAULT_REGION, value: $(REGION)}]}", ""},
		{"in a configuration", config, "{name: a, env: [{name: AWS_REGION, value: eu-central-1}]}", ""},
	} {
		role := "'arn:aws:iam::123456789012:role/Deploy'"
		if x.annotations == config {
			role = "deploy"
		}
		pod := decode(t, "metadata: {annotations: {countersign.dev/role: "+role+x.annotations+"}}\nspec: {containers: ["+x.containers+"]}\n")
		for _, time := range []string{"first", "second"} {
			if _, err := Pod(pod, options()); err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, v := range pod["spec"].(object)["initContainers"].([]any)[1].(object)["env"].([]any) {
				if v := v.(object); v["name"] == "COUNTERSIGN_SOURCE_REGION" {
					got = v["value"].(string)
				}
			}
			if got != x.want {
				t.Errorf("%s, %s time: %q, want %q", x.name, time, got, x.want)
			}
		}
	}
}

// Folders of the node that hold no keys of ours may be mounted.
func TestOtherHostPathsAreLeftAlone(t *testing.T) {
	for _, at := range []string{"/var/log", "/var/lib/app", "/var/running", "/run/app.sock", "/etc/ssl", "/process"} {
		pod := decode(t, asks+"spec: {volumes: [{name: v, hostPath: {path: "+at+"}}], containers: [{name: a}]}")
		if changed, err := Pod(pod, options()); err != nil || !changed {
			t.Errorf("%s: changed %v, error %v", at, changed, err)
		}
	}
}

// Containers cannot read along what the sidecar is given over plain HTTP, whether
// they use it or not, but where the manifest says that one needs raw sockets.
func TestRawSocketsAreDropped(t *testing.T) {
	pod := decode(t, strings.Replace(asks, "}}", ", countersign.dev/containers: plain}}", 1)+`
spec:
  initContainers:
  - {name: mesh, securityContext: {capabilities: {add: [NET_ADMIN, NET_RAW], drop: [ALL]}}}
  containers:
  - {name: plain}
  - {name: other, securityContext: {runAsUser: 0, capabilities: {add: [CHOWN], drop: [MKNOD]}}}
  - {name: strict, securityContext: {privileged: false, capabilities: {drop: [ALL]}}}
`)
	for _, time := range []string{"first", "second"} {
		if _, err := Pod(pod, options()); err != nil {
			t.Fatal(err)
		}
		got := map[string]any{}
		for _, list := range []string{"initContainers", "containers"} {
			for _, c := range pod["spec"].(object)[list].([]any) {
				if c := c.(object); c["name"] != Sidecar && c["name"] != Prepare {
					got[c["name"].(string)] = c["securityContext"]
				}
			}
		}
		want := map[string]any{
			"mesh":   object{"capabilities": object{"add": []any{"NET_ADMIN", "NET_RAW"}, "drop": []any{"ALL"}}},
			"plain":  object{"capabilities": object{"drop": []any{"NET_RAW"}}},
			"other":  object{"runAsUser": 0, "capabilities": object{"add": []any{"CHOWN"}, "drop": []any{"MKNOD", "NET_RAW"}}},
			"strict": object{"privileged": false, "capabilities": object{"drop": []any{"ALL"}}},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s time: %s", time, diff)
		}
	}
}

// What a Secret holds is not known here, so keys in it are overridden: what is
// under env wins over envFrom. That is done for containers that do not use the
// sidecar, too, and the API server may leave the empty values out.
func TestKeysByEnvFromAreOverridden(t *testing.T) {
	pod := decode(t, strings.Replace(asks, "}}", ", countersign.dev/containers: app}}", 1)+`
spec:
  containers:
  - {name: app, envFrom: [{secretRef: {name: keys}}]}
  - {name: other, env: [{name: AWS_SESSION_TOKEN}, {name: A, value: b}], envFrom: [{configMapRef: {name: keys}}]}
  - {name: third, env: [{name: A, value: b}]}
`)
	if _, err := Pod(pod, options()); err != nil {
		t.Fatal(err)
	}
	var got [][]string
	for _, c := range pod["spec"].(object)["containers"].([]any) {
		var env []string
		for _, v := range c.(object)["env"].([]any) {
			if v := v.(object); v["value"] == "" {
				env = append(env, v["name"].(string))
			}
		}
		slices.Sort(env)
		got = append(got, env)
	}
	all := []string{"AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN"}
	if diff := cmp.Diff([][]string{all, all, nil}, got); diff != "" {
		t.Error(diff)
	}
}

func decode(t testing.TB, text string) object {
	t.Helper()
	var pod object
	if err := yaml.Unmarshal([]byte(text), &pod); err != nil {
		t.Fatal(err)
	}
	return pod
}

func TestPodsThatDoNotAskAreLeftAlone(t *testing.T) {
	const text = "metadata: {labels: {a: b}}\nspec: {hostNetwork: true, containers: [{name: countersign}]}\n"
	pod := decode(t, text)
	changed, err := Pod(pod, options())
	if changed || err != nil {
		t.Errorf("changed %v, error %v", changed, err)
	}
	if diff := cmp.Diff(decode(t, text)["spec"], pod["spec"]); diff != "" {
		t.Error(diff)
	}
}

// A webhook that was there before, such as a service mesh's, keeps its place.
func TestOrderOfAnInjectedPodStays(t *testing.T) {
	pod := decode(t, asks+"spec: {containers: [{name: a}]}")
	if _, err := Pod(pod, options()); err != nil {
		t.Fatal(err)
	}
	spec := pod["spec"].(object)
	spec["initContainers"] = slices.Insert(spec["initContainers"].([]any), 0, any(object{"name": "mesh"}))
	if _, err := Pod(pod, options()); err != nil {
		t.Fatal(err)
	}
	var names []any
	for _, c := range spec["initContainers"].([]any) {
		names = append(names, c.(object)["name"])
	}
	if diff := cmp.Diff([]any{"mesh", Prepare, Sidecar}, names); diff != "" {
		t.Error(diff)
	}
}

func TestObjectsWithoutPods(t *testing.T) {
	out, n, err := Manifests(strings.NewReader("apiVersion: v1\nkind: ConfigMap\ndata: {a: b}\n---\n---\nkind: Service\nspec: {}\n"), options())
	if err != nil || n != 0 {
		t.Fatal(n, err)
	}
	if want := "apiVersion: v1\nkind: ConfigMap\ndata: {a: b}\n---\nkind: Service\nspec: {}\n"; string(out) != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
	for _, x := range []struct{ text, want string }{
		{"kind: Deployment\nmetadata: {name: a}\nspec: {}", "Deployment a: spec.template: it is missing from the Deployment"},
		{"[a]", "document 1 is not an object of Kubernetes"},
		{"a: [", "document 1: yaml: "},
	} {
		if _, _, err := Manifests(strings.NewReader(x.text), options()); err == nil || !strings.HasPrefix(err.Error(), x.want) {
			t.Errorf("%q: error %v, want %s…", x.text, err, x.want)
		}
	}
}

func post(t testing.TB, h http.Handler, contentType, body string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func reviewOf(kind, operation, pod string) string {
	return `{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": "u-1", "namespace": "shop",
		"kind": {"group": "", "version": "v1", "kind": "` + kind + `"}, "operation": "` + operation + `", "dryRun": true, "object": ` + pod + `}}`
}

const askingPod = `{"metadata": {"name": "p", "annotations": {"countersign.dev/role": "arn:aws:iam::123456789012:role/Deploy"}},
	"spec": {"terminationGracePeriodSeconds": 9007199254740993, "containers": [{"name": "a", "image": "x"}]}}`

func TestAdmission(t *testing.T) {
	var seen []Reviewed
	h := Handler(options(), func(r Reviewed) { seen = append(seen, r) })
	answer := func(w *httptest.ResponseRecorder) response {
		t.Helper()
		var out review
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || out.Response == nil || w.Code != http.StatusOK {
			t.Fatalf("status %d: %v: %s", w.Code, err, w.Body)
		}
		return *out.Response
	}

	r := answer(post(t, h, "application/json; charset=utf-8", reviewOf("Pod", "CREATE", askingPod)))
	if !r.Allowed || r.UID != "u-1" || r.PatchType != "JSONPatch" || r.Status != nil {
		t.Errorf("got %+v", r)
	}
	// Applied by hand, the patch gives what Pod gives.
	var steps []operation
	if err := json.Unmarshal(r.Patch, &steps); err != nil {
		t.Fatal(err)
	}
	if len(steps) != 2 || steps[0].Path != "/metadata/annotations" || steps[1].Path != "/spec" {
		t.Errorf("patch %s", r.Patch)
	}
	want := decode(t, askingPod)
	if _, err := Pod(want, options()); err != nil {
		t.Fatal(err)
	}
	for i, part := range []any{want["metadata"].(object)["annotations"], want["spec"]} {
		wantText, err := json.Marshal(part)
		if err != nil {
			t.Fatal(err)
		}
		var wantValue any
		if err := json.Unmarshal(wantText, &wantValue); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(wantValue, steps[i].Value); diff != "" {
			t.Errorf("%s (-want +got)\n%s", steps[i].Path, diff)
		}
	}
	if !bytes.Contains(r.Patch, []byte("9007199254740993")) {
		t.Errorf("a number lost its precision: %s", r.Patch)
	}

	r = answer(post(t, h, "application/json", reviewOf("Pod", "CREATE", `{"metadata": {}, "spec": {"containers": []}}`)))
	if diff := cmp.Diff(response{UID: "u-1", Allowed: true}, r); diff != "" {
		t.Error(diff)
	}
	for _, x := range []struct{ name, review, want string }{
		{"refused", reviewOf("Pod", "CREATE", strings.Replace(askingPod, `"containers"`, `"hostNetwork": true, "containers"`, 1)), "countersign: spec.hostNetwork: everybody on the node could use the sidecar's listener; use a gateway for this pod"},
		{"not a pod", reviewOf("Deployment", "CREATE", askingPod), "countersign: kind: this webhook is for pods, and was sent a Deployment; correct its registration"},
		{"not created", reviewOf("Pod", "UPDATE", askingPod), "countersign: operation: this webhook is for CREATE, and was sent UPDATE; correct its registration"},
		{"no pod", reviewOf("Pod", "CREATE", "null"), "countersign: object: the pod cannot be read: <nil>"},
	} {
		r := answer(post(t, h, "application/json", x.review))
		if diff := cmp.Diff(response{UID: "u-1", Status: &status{x.want, 422}}, r); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", x.name, diff)
		}
	}
	if len(seen) != 6 || !seen[0].Changed || seen[1].Changed || seen[2].Err == nil || seen[2].Namespace != "shop" {
		t.Errorf("recorded %+v", seen)
	}
}

// What is not understood is an HTTP error: the API server then follows the
// failurePolicy, which is Fail.
// The log names the pod, or what its name will begin with: a pod of a Deployment
// has none when it is reviewed.
func TestAdmissionNamesThePod(t *testing.T) {
	for object, want := range map[string]string{
		`{"metadata": {"name": "web"}}`: "web", `{"metadata": {"generateName": "web-5d8c-"}}`: "web-5d8c-", `{"metadata": {}}`: "", `[]`: "",
	} {
		var seen []Reviewed
		h := Handler(options(), func(r Reviewed) { seen = append(seen, r) })
		if response := post(t, h, "application/json", reviewOf("Pod", "CREATE", object)); response.Code != http.StatusOK {
			t.Errorf("%s: %d", object, response.Code)
		}
		if len(seen) != 1 || seen[0].Pod != want || seen[0].Namespace != "shop" {
			t.Errorf("%s: %+v", object, seen)
		}
	}
}

func TestAdmissionFailsClosed(t *testing.T) {
	h := Handler(options(), func(r Reviewed) { t.Errorf("recorded %+v", r) })
	for _, x := range []struct {
		name, contentType, body string
		want                    int
	}{
		{"no JSON", "application/json", "{", 400},
		{"another version", "application/json", strings.Replace(reviewOf("Pod", "CREATE", askingPod), "k8s.io/v1", "k8s.io/v1beta1", 1), 400},
		{"no request", "application/json", `{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}`, 400},
		{"no uid", "application/json", strings.Replace(reviewOf("Pod", "CREATE", askingPod), "u-1", "", 1), 400},
		{"a form", "application/x-www-form-urlencoded", "a=b", 415},
		{"no type", "", "{}", 415},
		{"too large", "application/json", strings.Repeat(" ", maxReview+1), 400},
	} {
		if w := post(t, h, x.contentType, x.body); w.Code != x.want {
			t.Errorf("%s: status %d, want %d: %s", x.name, w.Code, x.want, w.Body)
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("GET: status %d", w.Code)
	}
}

// Whatever comes in: no panic, and a second time changes nothing.
func FuzzPod(f *testing.F) {
	f.Add(askingPod)
	f.Add(`{"metadata": {"annotations": {"countersign.dev/role": "a", "countersign.dev/config": "b", "countersign.dev/injected": "v1"}}, "spec": {"volumes": [{"name": "countersign-state"}], "initContainers": [{"name": "countersign"}]}}`)
	f.Add(`{"spec": {"containers": [{"name": "a", "env": [{"name": "NO_PROXY", "value": "x"}], "ports": [{"containerPort": 80}]}]}}`)
	f.Fuzz(func(t *testing.T, text string) {
		var pod object
		if json.Unmarshal([]byte(text), &pod) != nil || pod == nil {
			return
		}
		changed, err := Pod(pod, options())
		if err != nil || !changed {
			return
		}
		once, err := json.Marshal(pod)
		if err != nil {
			t.Fatal(err)
		}
		var again object
		if err := json.Unmarshal(once, &again); err != nil {
			t.Fatal(err)
		}
		if _, err := Pod(again, options()); err != nil {
			t.Fatalf("the second time it is refused: %v\n%s", err, once)
		}
		twice, err := json.Marshal(again)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(once, twice) {
			t.Errorf("first\n%s\nsecond\n%s", once, twice)
		}
	})
}

// However a manifest is written, what comes out means what the object means that
// was changed.
func FuzzManifests(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add(`{"kind": "Pod", ` + askingPod[1:])
	f.Add("kind: Pod\n" + asks + "spec:\n  initContainers: &c [{name: a, env: &e [{name: NO_PROXY, value: x}]}]\n  containers: [{name: b, env: *e}]\n")
	f.Add("kind: Pod\n" + asks + "spec: {containers: [{name: b, name2: ~, env: [{name: a}, {name: a}, {}]}], volumes: []}\n")
	f.Fuzz(func(t *testing.T, text string) {
		out, n, err := Manifests(strings.NewReader(text), options())
		if err != nil || n == 0 {
			return
		}
		in, made := yaml.NewDecoder(strings.NewReader(text)), yaml.NewDecoder(bytes.NewReader(out))
		for {
			var want, got any
			if err := in.Decode(&want); err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			if want == nil {
				continue
			}
			if err := made.Decode(&got); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if _, err := each(want.(object), options()); err != nil {
				t.Fatal(err)
			}
			// Both as JSON: what was added is of other types than what was read.
			wantText, err := json.Marshal(want)
			if err != nil {
				return // keys that are no texts, of objects that are none of Kubernetes
			}
			gotText, err := json.Marshal(got)
			if err != nil || !bytes.Equal(wantText, gotText) {
				t.Fatalf("%v\ngot  %s\nwant %s", err, gotText, wantText)
			}
		}
	})
}
