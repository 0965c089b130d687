package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The container image holds the binary, CA roots and nothing else, and runs as
// a user without rights. What the Dockerfile puts into it is laid out here, and
// the program is run with that as its whole world.
func TestRunsInTheImage(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("chroot needs root")
	}
	const user = 65532
	root := t.TempDir()
	state := filepath.Join(root, "var/lib/countersign")
	for _, dir := range []string{"usr/local/bin", "etc/ssl/certs", "var/lib/countersign", "tmp"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// Every folder on the way must let the user through.
	for dir := root; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	binary, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "usr/local/bin/countersign"), binary, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(root, "tmp"), 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(state, user, user); err != nil {
		t.Fatal(err)
	}
	address, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	admin, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	command := func(argv ...string) *exec.Cmd {
		c := exec.Command("/usr/local/bin/countersign", argv...)
		c.Dir = "/"
		c.Env = []string{
			"HOME=/var/lib/countersign", "COUNTERSIGN_STATE_DIR=/var/lib/countersign",
			"COUNTERSIGN_LISTEN=" + address, "COUNTERSIGN_ADMIN_LISTEN=" + admin,
			"AWS_ACCESS_KEY_ID=AKIAIMAGETESTUSERKEY", "AWS_SECRET_ACCESS_KEY=image-secret", "AWS_REGION=" + region,
			"AWS_EC2_METADATA_DISABLED=true",
		}
		c.SysProcAttr = &syscall.SysProcAttr{
			Chroot: root, Credential: &syscall.Credential{Uid: user, Gid: user}, Pdeathsig: syscall.SIGKILL,
		}
		return c
	}
	for _, argv := range [][]string{{"version"}, {"config", "example"}, {"demo"}} {
		if output, err := command(argv...).CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", argv, err, output)
		}
	}
	if output, err := command("serve", "--health").CombinedOutput(); err == nil {
		t.Errorf("healthy before it was started: %s", output)
	}
	serve := command("serve")
	var said bytes.Buffer
	serve.Stdout, serve.Stderr = &said, &said
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	healthy := false
	for deadline := time.Now().Add(20 * time.Second); !healthy && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		healthy = command("serve", "--health").Run() == nil
	}
	if err := serve.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := serve.Wait(); err != nil || !healthy {
		t.Errorf("healthy: %v; serve ended with %v:\n%s", healthy, err, said.String())
	}
	if strings.Contains(said.String(), "image-secret") {
		t.Errorf("serve prints the secret:\n%s", said.String())
	}
}
