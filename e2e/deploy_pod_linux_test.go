package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// A pod as Kubernetes would run it: a network of its own, a root for each
// container that holds its image and its mounts, its user, its environment, and
// the order of start and end.
func TestSidecarInAPod(t *testing.T) {
	t.Parallel()
	needsRoot(t)
	python(t)
	inNamespaces(t, "TestInsidePod", "--mount", "--propagation", "private")
}

type podManifest struct {
	Spec struct {
		InitContainers []container `yaml:"initContainers"`
		Containers     []container
		Volumes        []struct {
			Name     string
			EmptyDir *struct{ Medium string } `yaml:"emptyDir"`
		}
	}
}

type container struct {
	Name          string
	Args          []string
	RestartPolicy string `yaml:"restartPolicy"`
	Env           []struct {
		Name, Value string
		ValueFrom   struct {
			FieldRef struct {
				FieldPath string `yaml:"fieldPath"`
			} `yaml:"fieldRef"`
		} `yaml:"valueFrom"`
	}
	EnvFrom         []any `yaml:"envFrom"`
	SecurityContext struct {
		RunAsUser uint32 `yaml:"runAsUser"`
	} `yaml:"securityContext"`
	StartupProbe struct {
		HTTPGet struct {
			Path string
			Port int
		} `yaml:"httpGet"`
	} `yaml:"startupProbe"`
	VolumeMounts []struct {
		Name      string
		MountPath string `yaml:"mountPath"`
		ReadOnly  bool   `yaml:"readOnly"`
	} `yaml:"volumeMounts"`
}

var fieldValues = map[string]string{"metadata.namespace": "shop", "spec.serviceAccountName": "web"}

var reference = regexp.MustCompile(`\$\(([A-Z_]+)\)`)

// environment is what Kubernetes makes of a container's env and envFrom, where
// the latter are a secret's values.
func (c container) environment(secret []string) (env []string) {
	known := map[string]string{"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
	defer func() {
		if len(c.EnvFrom) == 0 {
			return
		}
		for _, entry := range secret {
			name, _, _ := strings.Cut(entry, "=")
			if _, set := known[name]; !set { // what is under env wins
				env = append(env, entry)
			}
		}
	}()
	for _, v := range c.Env {
		value := v.Value
		if path := v.ValueFrom.FieldRef.FieldPath; path != "" {
			value = fieldValues[path]
		}
		value = reference.ReplaceAllStringFunc(value, func(r string) string { return known[r[2:len(r)-1]] })
		known[v.Name] = value
		env = append(env, v.Name+"="+value)
	}
	return env
}

// command lays out a container's root and returns what would run in it.
func (c container) command(t *testing.T, volumes map[string]string, secret []string, binary string, argv ...string) *exec.Cmd {
	t.Helper()
	root := filepath.Join(volumes[""], c.Name)
	for _, dir := range []string{"bin", "etc/ssl/certs", "tmp"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "bin/program"), text, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, m := range c.VolumeMounts {
		at := filepath.Join(root, m.MountPath)
		if err := os.MkdirAll(at, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount(volumes[m.Name], at, "", syscall.MS_BIND, ""); err != nil {
			t.Fatalf("mounting %s: %v", m.Name, err)
		}
		if m.ReadOnly {
			if err := syscall.Mount("", at, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
				t.Fatal(err)
			}
		}
	}
	// readOnlyRootFilesystem
	if err := syscall.Mount(root, root, "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("", root, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	user := c.SecurityContext.RunAsUser
	if user == 0 {
		user = 1000
	}
	command := exec.Command("/bin/program", argv...)
	command.Dir = "/"
	command.Env = append(c.environment(secret), "HOME=/var/lib/countersign") // as the image sets it
	command.SysProcAttr = &syscall.SysProcAttr{
		Chroot: root, Credential: &syscall.Credential{Uid: user, Gid: user, Groups: []uint32{}}, Pdeathsig: syscall.SIGKILL,
	}
	return command
}

func TestInsidePod(t *testing.T) {
	inside(t)
	u := strictMoto(t)

	inject := exec.Command(program, "inject", "-f", "-")
	inject.Stdin = strings.NewReader(`
kind: Pod
apiVersion: v1
metadata:
  name: web
  annotations: {countersign.dev/role: "` + deployARN + `"}
spec:
  containers:
    - name: app
      image: app
      env: [{name: AWS_REGION, value: ` + region + `}]
      envFrom: [{secretRef: {name: with-keys}}]
`)
	manifest, err := inject.Output()
	if err != nil {
		t.Fatal(err)
	}
	var pod podManifest
	if err := yaml.Unmarshal(manifest, &pod); err != nil {
		t.Fatal(err)
	}
	if len(pod.Spec.InitContainers) != 2 || len(pod.Spec.Containers) != 1 {
		t.Fatalf("%d init containers and %d containers", len(pod.Spec.InitContainers), len(pod.Spec.Containers))
	}
	prepare, sidecar, app := pod.Spec.InitContainers[0], pod.Spec.InitContainers[1], pod.Spec.Containers[0]
	if prepare.RestartPolicy != "" || sidecar.RestartPolicy != "Always" {
		t.Fatalf("restart policies %q and %q", prepare.RestartPolicy, sidecar.RestartPolicy)
	}

	// Volumes as the kubelet makes them: in memory, root's, for everybody.
	base := t.TempDir()
	for dir := base; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mount("tmpfs", base, "tmpfs", 0, "mode=0755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(base, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	volumes := map[string]string{"": base}
	for _, v := range pod.Spec.Volumes {
		if v.EmptyDir == nil || v.EmptyDir.Medium != "Memory" {
			t.Errorf("the volume %s is not in memory", v.Name)
		}
		volumes[v.Name] = filepath.Join(base, "volumes", v.Name)
		if err := os.MkdirAll(volumes[v.Name], 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(volumes[v.Name], 0o777); err != nil {
			t.Fatal(err)
		}
	}

	if output, err := prepare.command(t, volumes, nil, program, prepare.Args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", prepare.Name, err, output)
	}

	serve := sidecar.command(t, volumes, nil, program, sidecar.Args...)
	// Its AWS identity, and where AWS is here.
	ca, err := os.ReadFile(thePKI(t).rootFile)
	if err != nil {
		t.Fatal(err)
	}
	caFile := filepath.Join(volumes["countersign-state"], "upstream.pem")
	if err := os.WriteFile(caFile, ca, 0o644); err != nil {
		t.Fatal(err)
	}
	serve.Env = append(serve.Env, keyEnvironment(u)...)
	serve.Env = append(serve.Env, "AWS_EC2_METADATA_DISABLED=true", "COUNTERSIGN_UPSTREAM_PROXY=none",
		fmt.Sprintf(`COUNTERSIGN_UPSTREAM_OVERRIDE=[{hosts: ["*.amazonaws.com"], address: "%s", ca_file: /var/lib/countersign/upstream.pem}]`, u.address))
	var record, said bytes.Buffer
	serve.Stdout, serve.Stderr = &record, &said
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- serve.Wait() }()
	probe := fmt.Sprintf("http://%s%s", net.JoinHostPort("127.0.0.1", fmt.Sprint(sidecar.StartupProbe.HTTPGet.Port)), sidecar.StartupProbe.HTTPGet.Path)
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if response, err := http.Get(probe); err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				break
			}
		}
		select {
		case err := <-ended:
			t.Fatalf("the sidecar ended: %v\n%s", err, said.String())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("the sidecar does not start\n%s", said.String())
		}
	}

	mark := u.mark(t)
	client := app.command(t, volumes, keyEnvironment(u), sdkClient)
	output, err := client.CombinedOutput()
	if err != nil {
		t.Fatalf("the app: %v\n%s\nthe sidecar:\n%s", err, output, said.String())
	}
	arrived := u.since(t, mark)
	roles := 0
	for _, s := range arrived {
		if s.Refused != "" {
			t.Errorf("%s %s was refused: %s", s.Method, s.Target, s.Refused)
		}
		if strings.Contains(s.ARN, "assumed-role/Deploy/shop.web") {
			roles++
		}
	}
	if roles < 5 {
		t.Errorf("%d of %d requests came as the role, with namespace and service account as the session's name", roles, len(arrived))
	}

	// Nothing that the app's container holds is worth anything at AWS, and the
	// keys of CA and tokens are not in it.
	secrets := u.secrets(t)
	err = filepath.WalkDir(filepath.Join(base, app.Name), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || entry.Name() == "program" {
			return err
		}
		text, err := os.ReadFile(path)
		if bytes.Contains(text, []byte("PRIVATE KEY")) {
			t.Errorf("%s holds a private key", path)
		}
		for _, secret := range secrets {
			if bytes.Contains(text, []byte(secret)) {
				t.Errorf("%s holds a secret of AWS", path)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	for _, secret := range secrets {
		if strings.Contains(strings.Join(client.Env, "\n"), secret) || bytes.Contains(output, []byte(secret)) {
			t.Error("the app came to a secret of AWS")
		}
	}

	// The sidecar ends after the app.
	if err := serve.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the sidecar ended with %v\n%s", err, said.String())
		}
	case <-time.After(patience):
		t.Errorf("the sidecar does not end\n%s", said.String())
		serve.Process.Kill()
		<-ended
	}
	lines := 0
	for line := range strings.Lines(record.String()) {
		var entry struct{ Identity, Role, Decision string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Errorf("%v: %s", err, line)
		}
		if entry.Identity == "local" && entry.Role == "app" && entry.Decision == "allow" {
			lines++
		}
	}
	if lines < 5 {
		t.Errorf("%d audit lines\n%s", lines, record.String())
	}
}
