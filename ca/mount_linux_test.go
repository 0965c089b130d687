package ca_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/countersign-proxy/countersign/ca"
)

func init() { mounted = mountedSecret }

// mountedSecret turns dir into what a Kubernetes Secret volume looks like: a
// read-only tmpfs that everybody could write by its mode, with a link to a link
// to the file. Runs in a helper with a mount namespace of its own.
func mountedSecret(dir string) error {
	data, err := os.ReadFile(filepath.Join(dir, "authority.pem"))
	if err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=1777"); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(dir, "..2026_03_01"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "..2026_03_01", "authority.pem"), data, 0o440); err != nil {
		return err
	}
	if err := os.Symlink("..2026_03_01", filepath.Join(dir, "..data")); err != nil {
		return err
	}
	if err := os.Symlink("..data/authority.pem", filepath.Join(dir, "authority.pem")); err != nil {
		return err
	}
	return syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, "")
}

func TestKubernetesSecretVolume(t *testing.T) {
	dir, _ := folder(t)
	a, err := ca.Load(dir, ca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	cmd := helper("mounted", dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if err != nil && (len(out) == 0 || strings.Contains(string(out), "not permitted")) {
		t.Skipf("this system lets no test mount a file system: %v %s", err, out)
	}
	if got, want := strings.TrimSpace(string(out)), ca.Fingerprint(a.Roots()[0]); err != nil || got != want {
		t.Errorf("got %v %s, want %s", err, got, want)
	}
}
