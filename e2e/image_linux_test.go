package e2e

import (
	"archive/tar"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/google/go-cmp/cmp"
)

const (
	imageUser    = 65532
	imageVersion = "v1.2.3-image"
)

// The Dockerfile is built as it stands, with the command that people have for
// it, and the image is run as one should: read-only, with no capability, no new
// privileges, the default seccomp filter, and as its own user.
func TestImage(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("mounts, and files of other owners, need root")
	}
	runc := tool(t, "runc")
	b := newImageBuilder(t)
	b.make(t, "countersign:first")
	b.make(t, "countersign:second")
	i, again := b.image(t, "countersign:first"), b.image(t, "countersign:second")

	t.Run("says how it is to be run", func(t *testing.T) { i.checkConfiguration(t) })
	t.Run("holds nothing else", func(t *testing.T) { i.checkFiles(t) })
	t.Run("is the same when it is built again", func(t *testing.T) {
		if diff := cmp.Diff(i.config.RootFS, again.config.RootFS); diff != "" {
			t.Errorf("layers (-first +second):\n%s", diff)
		}
	})
	t.Run("runs the demonstration without a network", func(t *testing.T) {
		c := i.container(t, runc, true, nil, nil, "demo")
		if err := c.wait(t); err != nil || !strings.Contains(c.said(), "AWS has seen 4 calls of the role") {
			t.Errorf("demo: %v\n%s", err, c.said())
		}
	})
	t.Run("serves", func(t *testing.T) { i.checkServing(t, runc) })
}

// An imageBuilder is a buildah that keeps all it has in one folder.
type imageBuilder struct {
	dir   string
	env   []string
	flags string // what `make image` is to hand on
}

// newImageBuilder makes a base image under the name that the Dockerfile gives
// it, since there is no registry in a test. It is the machine's own userland, Go
// and caches, mounted where the real one has its own: nothing is copied, and
// nothing that is cached is compiled again.
func newImageBuilder(t *testing.T) imageBuilder {
	t.Helper()
	tool(t, "buildah")
	dir := t.TempDir()
	b := imageBuilder{dir: dir, env: append(os.Environ(),
		"HOME="+dir, "BUILDAH_ISOLATION=chroot", "STORAGE_DRIVER=",
		"CONTAINERS_STORAGE_CONF="+filepath.Join(dir, "storage.conf"))}
	storage := fmt.Sprintf("[storage]\ndriver = \"vfs\"\ngraphroot = %q\nrunroot = %q\n", filepath.Join(dir, "graph"), filepath.Join(dir, "run"))
	if err := os.WriteFile(filepath.Join(dir, "storage.conf"), []byte(storage), 0o600); err != nil {
		t.Fatal(err)
	}
	if output, err := exec.Command("go", "mod", "download").CombinedOutput(); err != nil {
		t.Fatalf("go mod download: %v\n%s", err, output)
	}
	output, err := exec.Command("go", "env", "GOROOT", "GOMODCACHE", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	goEnv := strings.Fields(string(output))

	base := filepath.Join(dir, "base")
	for _, at := range []string{"usr", "goroot", "go/pkg/mod", "gocache", "etc/ssl/certs", "tmp", "dev", "proc", "sys"} {
		if err := os.MkdirAll(filepath.Join(base, at), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, link := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+link, filepath.Join(base, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(base, "etc/ssl/certs/ca-certificates.crt"), []byte("the base image's roots\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	dockerfile := "FROM scratch\nCOPY . /\nENV PATH=/goroot/bin:/usr/sbin:/usr/bin GOPATH=/go GOCACHE=/gocache GOTOOLCHAIN=local GOPROXY=off GOFLAGS=-mod=readonly\n"
	if err := os.WriteFile(filepath.Join(dir, "base.Dockerfile"), []byte(dockerfile), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, mount := range []string{"/usr:/usr:ro", goEnv[0] + ":/goroot:ro", goEnv[1] + ":/go/pkg/mod:ro", goEnv[2] + ":/gocache"} {
		b.flags += " --volume " + mount
	}
	b.run(t, dir, "buildah", "build", "--file", "base.Dockerfile", "--tag", baseImage(t), base)
	return b
}

// baseImage is what the Dockerfile builds with.
func baseImage(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) == 5 && words[0] == "FROM" && words[3] == "AS" {
			return words[2]
		}
	}
	t.Fatal("the Dockerfile has no stage that builds")
	return ""
}

func (b imageBuilder) run(t *testing.T, dir string, argv ...string) {
	t.Helper()
	command := exec.Command(argv[0], argv[1:]...)
	command.Dir, command.Env = dir, b.env
	dieWithParent(command)
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, output)
	}
}

func (b imageBuilder) make(t *testing.T, name string) {
	t.Helper()
	b.run(t, "..", "make", "--no-print-directory", "image", "BUILDER=buildah", "IMAGE="+name,
		"VERSION="+imageVersion, "REVISION=0123abc", "IMAGE_FLAGS=--pull-never "+b.flags)
}

// An image is what a registry would hold of it.
type image struct {
	config imageConfig
	layer  []byte
}

type imageConfig struct {
	Architecture, OS string
	Config           struct {
		User, WorkingDir      string
		Env, Entrypoint, Cmd  []string
		ExposedPorts, Volumes map[string]struct{}
		Healthcheck           struct {
			Test                                    []string
			Interval, Timeout, StartPeriod, Retries time.Duration
		}
		Labels map[string]string
	}
	RootFS struct {
		DiffIDs []string `json:"diff_ids"`
	}
}

func (b imageBuilder) image(t *testing.T, name string) (i image) {
	t.Helper()
	archive := filepath.Join(b.dir, strings.ReplaceAll(name, ":", "-")+".tar")
	b.run(t, b.dir, "buildah", "push", name, "docker-archive:"+archive)
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	files := map[string][]byte{}
	eachFile(t, f, func(header *tar.Header, content []byte) { files[header.Name] = content })
	var manifest []struct {
		Config string
		Layers []string
	}
	if err := json.Unmarshal(files["manifest.json"], &manifest); err != nil {
		t.Fatal(err)
	}
	if len(manifest) != 1 || len(manifest[0].Layers) != 1 {
		t.Fatalf("not one image of one layer: %+v", manifest)
	}
	if err := json.Unmarshal(files[manifest[0].Config], &i.config); err != nil {
		t.Fatal(err)
	}
	i.layer = files[manifest[0].Layers[0]]
	return i
}

func eachFile(t *testing.T, archive io.Reader, do func(header *tar.Header, content []byte)) {
	t.Helper()
	for reader := tar.NewReader(archive); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		do(header, content)
	}
}

func (i image) checkConfiguration(t *testing.T) {
	var want imageConfig
	want.Architecture, want.OS = runtime.GOARCH, "linux"
	c := &want.Config
	c.User = "65532:65532"
	c.Env = []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/var/lib/countersign", "COUNTERSIGN_STATE_DIR=/var/lib/countersign",
	}
	c.Entrypoint, c.Cmd = []string{"/usr/local/bin/countersign"}, []string{"serve"}
	c.ExposedPorts = map[string]struct{}{"8800/tcp": {}, "8801/tcp": {}}
	c.Volumes = map[string]struct{}{"/var/lib/countersign": {}}
	c.Healthcheck.Test = []string{"CMD", "/usr/local/bin/countersign", "serve", "--health"}
	c.Healthcheck.Interval, c.Healthcheck.Timeout, c.Healthcheck.StartPeriod = 10*time.Second, 3*time.Second, 5*time.Second
	c.Labels = map[string]string{
		"org.opencontainers.image.title":       "countersign",
		"org.opencontainers.image.description": "A forward proxy that gives programs access to AWS without giving them AWS keys",
		"org.opencontainers.image.source":      "https://github.com/countersign-proxy/countersign",
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.version":     imageVersion,
		"org.opencontainers.image.revision":    "0123abc",
	}
	got := i.config
	delete(got.Config.Labels, "io.buildah.version")
	got.RootFS.DiffIDs = nil
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
}

// checkFiles holds the layer against a list of all that may be in it. The
// program is the one that a release consists of, to the byte, although it was
// built elsewhere.
func (i image) checkFiles(t *testing.T) {
	release := filepath.Join(t.TempDir(), "countersign")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid= -X main.version="+imageVersion,
		"-o", release, "../cmd/countersign")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	binary, err := os.ReadFile(release)
	if err != nil {
		t.Fatal(err)
	}
	license, err := os.ReadFile("../LICENSE")
	if err != nil {
		t.Fatal(err)
	}
	contents := map[string]string{
		"usr/local/bin/countersign":           digest(binary),
		"etc/ssl/certs/ca-certificates.crt":   digest([]byte("the base image's roots\n")),
		"etc/passwd":                          digest([]byte("countersign:x:65532:65532::/var/lib/countersign:/sbin/nologin\n")),
		"usr/share/doc/countersign/copyright": digest(license),
	}
	want := []string{
		"drwxr-xr-x 0:0 etc/",
		"drwxr-xr-x 0:0 etc/countersign/",
		"-rw-r--r-- 0:0 etc/passwd",
		"drwxr-xr-x 0:0 etc/ssl/",
		"drwxr-xr-x 0:0 etc/ssl/certs/",
		"-rw-r--r-- 0:0 etc/ssl/certs/ca-certificates.crt",
		"dtrwxrwxrwx 0:0 tmp/",
		"drwxr-xr-x 0:0 usr/",
		"drwxr-xr-x 0:0 usr/local/",
		"drwxr-xr-x 0:0 usr/local/bin/",
		"-rwxr-xr-x 0:0 usr/local/bin/countersign",
		"drwxr-xr-x 0:0 usr/share/",
		"drwxr-xr-x 0:0 usr/share/doc/",
		"drwxr-xr-x 0:0 usr/share/doc/countersign/",
		"-rw-r--r-- 0:0 usr/share/doc/countersign/copyright",
		"drwxr-xr-x 0:0 var/",
		"drwxr-xr-x 0:0 var/lib/",
		"drwx------ 65532:65532 var/lib/countersign/",
	}
	var got []string
	eachFile(t, bytes.NewReader(i.layer), func(header *tar.Header, content []byte) {
		got = append(got, fmt.Sprintf("%s %d:%d %s", header.FileInfo().Mode(), header.Uid, header.Gid, header.Name))
		if !header.ModTime.Equal(time.Unix(0, 0)) {
			t.Errorf("%s has the date %s", header.Name, header.ModTime)
		}
		if header.Typeflag == tar.TypeReg && digest(content) != contents[header.Name] {
			t.Errorf("%s is not what it should be", header.Name)
		}
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// unpack lays the layer out as the root of a container.
func (i image) unpack(t *testing.T) (root string) {
	t.Helper()
	root = filepath.Join(t.TempDir(), "rootfs")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	eachFile(t, bytes.NewReader(i.layer), func(header *tar.Header, content []byte) {
		path := filepath.Join(root, header.Name)
		var err error
		if header.Typeflag == tar.TypeDir {
			err = os.Mkdir(path, 0o700)
		} else {
			err = os.WriteFile(path, content, 0o600)
		}
		if err := errors.Join(err, os.Chown(path, header.Uid, header.Gid), os.Chmod(path, header.FileInfo().Mode())); err != nil {
			t.Fatal(err)
		}
	})
	return root
}

// A running container of the image, under an OCI runtime.
type running struct {
	runc, state, id string
	process         *exec.Cmd
	ended           chan error
	output          *os.File
}

type ociMount struct {
	Destination string   `json:"destination"`
	Type        string   `json:"type"`
	Source      string   `json:"source"`
	Options     []string `json:"options"`
}

// container starts the image as `docker run --read-only --cap-drop ALL
// --security-opt no-new-privileges` would, with a volume for the state and,
// unless it is to be alone, the network of the host. Its /tmp is read-only too.
// files are mounted below /etc/countersign.
func (i image) container(t *testing.T, runc string, alone bool, env []string, files map[string]string, argv ...string) *running {
	t.Helper()
	bundle := t.TempDir()
	root := i.unpack(t)
	image := i.config.Config
	mounts := []ociMount{
		{"/proc", "proc", "proc", []string{"nosuid", "noexec", "nodev"}},
		{"/dev", "tmpfs", "tmpfs", []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{"/dev/shm", "tmpfs", "shm", []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
		{"/sys", "bind", "/sys", []string{"rbind", "nosuid", "noexec", "nodev", "ro"}},
	}
	// A new volume gets what the image has in its place, owner and mode included.
	for at := range image.Volumes {
		info, err := os.Stat(filepath.Join(root, at))
		if err != nil {
			t.Fatal(err)
		}
		volume := filepath.Join(bundle, "volume")
		owner := info.Sys().(*syscall.Stat_t)
		if err := errors.Join(os.Mkdir(volume, 0o700), os.Chown(volume, int(owner.Uid), int(owner.Gid)), os.Chmod(volume, info.Mode())); err != nil {
			t.Fatal(err)
		}
		mounts = append(mounts, ociMount{at, "bind", volume, []string{"bind", "rw", "nosuid", "nodev"}})
	}
	if files != nil {
		dir := filepath.Join(bundle, "files")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range files {
			file := filepath.Join(dir, name)
			if err := errors.Join(os.WriteFile(file, []byte(text), 0o400), os.Chown(file, imageUser, imageUser)); err != nil {
				t.Fatal(err)
			}
		}
		mounts = append(mounts, ociMount{"/etc/countersign", "bind", dir, []string{"bind", "ro", "nosuid", "nodev"}})
	}
	namespaces := []map[string]string{{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}}
	if alone {
		namespaces = append(namespaces, map[string]string{"type": "network"})
	}
	var user, group int
	if _, err := fmt.Sscanf(image.User, "%d:%d", &user, &group); err != nil {
		t.Fatal(err)
	}
	c := &running{runc: runc, state: filepath.Join(bundle, "state"), id: fmt.Sprintf("countersign-%d-%s", os.Getpid(), filepath.Base(filepath.Dir(bundle))), ended: make(chan error, 1)}
	none := []string{}
	config, err := json.Marshal(map[string]any{
		"ociVersion": "1.0.2",
		"process": map[string]any{
			"user":            map[string]any{"uid": user, "gid": group},
			"args":            append(slices.Clone(image.Entrypoint), argv...),
			"env":             append(slices.Clone(image.Env), env...),
			"cwd":             "/",
			"noNewPrivileges": true,
			"capabilities":    map[string]any{"bounding": none, "effective": none, "inheritable": none, "permitted": none, "ambient": none},
		},
		"root":   map[string]any{"path": root, "readonly": true},
		"mounts": mounts,
		"linux": map[string]any{
			"namespaces": namespaces, "seccomp": defaultSeccomp(t),
			"maskedPaths":   []string{"/proc/kcore", "/proc/keys", "/proc/timer_list"},
			"readonlyPaths": []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), config, 0o600); err != nil {
		t.Fatal(err)
	}
	if c.output, err = os.Create(filepath.Join(bundle, "output")); err != nil {
		t.Fatal(err)
	}
	c.process = exec.Command(runc, "--root", c.state, "run", "--bundle", bundle, c.id)
	c.process.Stdout, c.process.Stderr = c.output, c.output
	dieWithParent(c.process)
	// A container outlives its runtime. This one is removed when the pipe
	// closes, however this process ends.
	remove := exec.Command("sh", "-c", `cat; exec "$0" --root "$1" delete --force "$2"`, runc, c.state, c.id)
	pipe, err := remove.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(remove.Start(), c.process.Start()); err != nil {
		t.Fatal(err)
	}
	go func() { c.ended <- c.process.Wait() }()
	t.Cleanup(func() {
		pipe.Close()
		remove.Wait() // fails where the container has ended by itself
		c.process.Process.Kill()
		if t.Failed() {
			t.Logf("the container said:\n%s", c.said())
		}
		c.output.Close()
	})
	return c
}

// defaultSeccomp is the filter that docker and podman apply, as an OCI runtime
// wants it: for this architecture, and a container without capabilities.
// https://github.com/containers/common/blob/main/pkg/seccomp/seccomp.json
func defaultSeccomp(t *testing.T) any {
	t.Helper()
	text, err := os.ReadFile("/usr/share/containers/seccomp.json")
	needs(t, "the default seccomp filter", err)
	type condition struct{ Caps, Arches []string }
	var profile struct {
		DefaultAction   string
		DefaultErrnoRet uint
		ArchMap         []struct {
			Architecture     string
			SubArchitectures []string
		}
		Syscalls []struct {
			Names              []string
			Action             string
			ErrnoRet           *uint
			Args               any
			Includes, Excludes condition
		}
	}
	if err := json.Unmarshal(text, &profile); err != nil {
		t.Fatal(err)
	}
	var architectures []string
	for _, m := range profile.ArchMap {
		if m.Architecture == map[string]string{"amd64": "SCMP_ARCH_X86_64", "arm64": "SCMP_ARCH_AARCH64"}[runtime.GOARCH] {
			architectures = append(m.SubArchitectures, m.Architecture)
		}
	}
	var rules []map[string]any
	for _, s := range profile.Syscalls {
		if len(s.Includes.Caps) > 0 || slices.Contains(s.Excludes.Arches, runtime.GOARCH) ||
			len(s.Includes.Arches) > 0 && !slices.Contains(s.Includes.Arches, runtime.GOARCH) {
			continue
		}
		rule := map[string]any{"names": s.Names, "action": s.Action}
		if s.ErrnoRet != nil {
			rule["errnoRet"] = *s.ErrnoRet
		}
		if s.Args != nil {
			rule["args"] = s.Args
		}
		rules = append(rules, rule)
	}
	if len(architectures) == 0 || len(rules) < 3 {
		t.Fatalf("%d architectures and %d rules", len(architectures), len(rules))
	}
	return map[string]any{"defaultAction": profile.DefaultAction, "defaultErrnoRet": profile.DefaultErrnoRet, "architectures": architectures, "syscalls": rules}
}

func (c *running) said() string {
	text, _ := os.ReadFile(c.output.Name())
	return string(text)
}

func (c *running) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-c.ended:
		return err
	case <-time.After(patience):
		t.Fatalf("the container has not ended within %s", patience)
		return nil
	}
}

// exec runs a command in the container, as `docker exec` does.
func (c *running) exec(argv ...string) (stdout, stderr string, err error) {
	var out, diagnostics bytes.Buffer
	command := exec.Command(c.runc, append([]string{"--root", c.state, "exec", c.id}, argv...)...)
	command.Stdout, command.Stderr = &out, &diagnostics
	err = command.Run()
	return out.String(), diagnostics.String(), err
}

// pid is that of the container's first process, seen from outside.
func (c *running) pid(t *testing.T) int {
	t.Helper()
	text, err := exec.Command(c.runc, "--root", c.state, "state", c.id).Output()
	var state struct{ Pid int }
	if err := errors.Join(err, json.Unmarshal(text, &state)); err != nil || state.Pid <= 1 {
		t.Fatalf("%v: %s", err, text)
	}
	return state.Pid
}

func (i image) checkServing(t *testing.T, runc string) {
	u := strictMoto(t)
	root, err := os.ReadFile(thePKI(t).rootFile)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p := &proxy{clients: clientKeys, bundle: filepath.Join(dir, "bundle.pem"), config: filepath.Join(dir, "unused")}
	if p.address, err = freeAddress(); err != nil {
		t.Fatal(err)
	}
	if p.admin, err = freeAddress(); err != nil {
		t.Fatal(err)
	}
	env := append(keyEnvironment(u), "AWS_REGION="+region, "AWS_EC2_METADATA_DISABLED=true", "COUNTERSIGN_CONFIG=/etc/countersign/countersign.yaml")
	c := i.container(t, runc, false, env, map[string]string{
		"upstream.pem": string(root),
		"ci.key":       clientKeys["ci"].SecretAccessKey + "\n",
		"countersign.yaml": fmt.Sprintf(`listen: %s
admin: {listen: %s}
roles: {deploy: {arn: %q}}
identities: {ci: {roles: [deploy], credentials: [{access_key_id: %s, secret_access_key_file: ci.key}]}}
%s`, p.address, p.admin, deployARN, clientKeys["ci"].AccessKeyID, override(u.address, "upstream.pem")),
	}, i.config.Config.Cmd...)

	health := i.config.Config.Healthcheck.Test[1:]
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		_, said, err := c.exec(health...)
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("not healthy after %s: %v\n%s", patience, err, said)
		}
	}

	t.Run("with no rights", func(t *testing.T) {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.pid(t)))
		if err != nil {
			t.Fatal(err)
		}
		none := "0000000000000000"
		want := map[string]string{
			"Uid": "65532 65532 65532 65532", "Gid": "65532 65532 65532 65532", "Groups": "",
			"CapInh": none, "CapPrm": none, "CapEff": none, "CapBnd": none, "CapAmb": none,
			"NoNewPrivs": "1", "Seccomp": "2", // 2: a filter
		}
		got := map[string]string{}
		for line := range strings.Lines(string(status)) {
			key, value, _ := strings.Cut(line, ":")
			if _, ok := want[key]; ok {
				got[key] = strings.Join(strings.Fields(value), " ")
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	t.Run("without a shell", func(t *testing.T) {
		if _, said, err := c.exec("/bin/sh", "-c", "true"); err == nil || !strings.Contains(said, "no such file or directory") {
			t.Errorf("%v: %s", err, said)
		}
	})
	t.Run("and writes to its volume alone", func(t *testing.T) {
		for _, file := range []string{"/tmp/bundle.pem", "/etc/countersign/bundle.pem"} {
			if _, said, err := c.exec(i.config.Config.Entrypoint[0], "ca", "export", "--format", "bundle", "--out", file); err == nil || !strings.Contains(said, "read-only file system") {
				t.Errorf("%s: %v: %s", file, err, said)
			}
		}
		if _, said, err := c.exec(i.config.Config.Entrypoint[0], "ca", "export", "--format", "bundle", "--out", "/var/lib/countersign/copy.pem"); err != nil {
			t.Errorf("%v: %s", err, said)
		}
	})

	bundle, said, err := c.exec(i.config.Config.Entrypoint[0], "ca", "export", "--format", "bundle")
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	if err := os.WriteFile(p.bundle, []byte(bundle), 0o600); err != nil {
		t.Fatal(err)
	}
	p.roots = x509.NewCertPool()
	p.roots.AppendCertsFromPEM([]byte(bundle))

	t.Run("the AWS CLI", func(t *testing.T) {
		tool(t, "aws")
		cli := p.client("ci")
		if said := cli.must(t, dir, nil, "aws", "sts", "get-caller-identity", "--query", "Arn", "--output", "text"); !strings.HasPrefix(said, "arn:aws:sts::"+account+":assumed-role/Deploy/") {
			t.Errorf("AWS sees %s", said)
		}
		cli.must(t, dir, nil, "aws", "s3", "mb", "s3://image-bucket")
	})

	// What `docker stop` does. An upload is half way.
	t.Run("and ends its requests before itself", func(t *testing.T) {
		content := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
		body, upload := io.Pipe()
		request, err := http.NewRequest(http.MethodPut, "https://s3."+region+".amazonaws.com/image-bucket/drained", body)
		if err != nil {
			t.Fatal(err)
		}
		request.ContentLength = int64(len(content))
		request.Header.Set("X-Amz-Content-Sha256", digest(content))
		if err := v4.NewSigner().SignHTTP(t.Context(), clientKeys["ci"], request, digest(content), "s3", region, time.Now()); err != nil {
			t.Fatal(err)
		}
		client := &http.Client{Timeout: patience, Transport: &http.Transport{
			Proxy: http.ProxyURL(p.url()), TLSClientConfig: &tls.Config{RootCAs: p.roots}, DisableKeepAlives: true,
		}}
		done := make(chan error, 1)
		go func() {
			response, err := client.Do(request)
			if err == nil {
				response.Body.Close()
				if response.StatusCode != http.StatusOK {
					err = errors.New(response.Status)
				}
			}
			body.CloseWithError(io.ErrClosedPipe)
			done <- err
		}()
		if _, err := upload.Write(content[:len(content)/2]); err != nil {
			t.Fatalf("%v; %v", err, <-done)
		}
		eventually(t, "in flight", func() string {
			if strings.Contains(get(t, "http://"+p.admin+"/metrics"), "\ncountersign_requests_in_flight 1\n") {
				return "in flight"
			}
			return "not in flight"
		})
		if err := syscall.Kill(c.pid(t), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		eventually(t, "unhealthy", func() string {
			if _, _, err := c.exec(health...); err == nil {
				return "healthy"
			}
			return "unhealthy"
		})
		if _, err := upload.Write(content[len(content)/2:]); err != nil {
			t.Errorf("the second half: %v", err)
		}
		upload.Close()
		if err := <-done; err != nil {
			t.Errorf("the upload: %v", err)
		}
		if err := c.wait(t); err != nil {
			t.Errorf("serve ended with %v", err)
		}
	})
	for _, secret := range append(u.secrets(t), clientKeys["ci"].SecretAccessKey) {
		if strings.Contains(c.said(), secret) {
			t.Error("it prints a secret")
		}
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
