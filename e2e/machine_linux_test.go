package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A machine is a running systemd: PID 1 of namespaces of its own, on a root that
// is this machine's, read through an overlay whose changes go away with it. Only
// the units that every system has are started. Its network is that of the test,
// which has to be one of its own (see TestGuides).
type machine struct {
	root string // as seen from the test; not /run, /tmp, /dev, /proc, /sys
	pid  int
}

// pid1 prepares what systemd expects of a container manager
// (https://systemd.io/CONTAINER_INTERFACE) and becomes it. The process is moved
// into a cgroup before that cgroup becomes the root of what it sees, so that
// systemd finds nobody else's processes there.
const pid1 = `set -eu
root=$1 group=$2
echo $$ >"$group/cgroup.procs"
exec unshare --cgroup sh -c '
set -eu
cd "$1"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
for dir in run tmp etc/systemd/system; do mount -t tmpfs -o mode=755 tmpfs $dir; done
chmod 1777 tmp
mount -t tmpfs -o mode=755 tmpfs dev
for node in null zero full random urandom tty; do
  : >dev/$node
  mount --bind /dev/$node dev/$node
done
mkdir dev/shm dev/pts
mount -t tmpfs tmpfs dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mkdir .outside
pivot_root . .outside
umount -l .outside
rmdir .outside
mount --make-rshared /
exec env -i container=test PATH="$PATH" /lib/systemd/systemd --unit=multi-user.target --show-status=0
' sh "$root"`

// bootMachine needs root and namespaces for mounts and network. The folders are
// made visible in the machine, which otherwise sees the root file system alone.
func bootMachine(t *testing.T, visible ...string) *machine {
	t.Helper()
	// Outside of t.TempDir: what it would remove at the end are mounts.
	base, err := os.MkdirTemp("", "countersign-machine-")
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{root: filepath.Join(base, "root")}
	group := filepath.Join(base, "cgroup", filepath.Base(base))
	mount := func(source, target, kind, options string, flags uintptr) {
		t.Helper()
		if err := syscall.Mount(source, target, kind, flags, options); err != nil {
			t.Fatalf("mount %s on %s: %v", kind, target, err)
		}
	}
	mount("tmpfs", base, "tmpfs", "mode=755", 0)
	t.Cleanup(func() {
		removeGroup(group)
		if err := errors.Join(syscall.Unmount(base, syscall.MNT_DETACH), os.Remove(base)); err != nil {
			t.Error(err)
		}
	})
	for _, dir := range []string{"root", "upper", "work", "cgroup"} {
		if err := os.Mkdir(filepath.Join(base, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mount("overlay", m.root, "overlay", fmt.Sprintf("lowerdir=/,upperdir=%s/upper,workdir=%s/work", base, base), 0)
	for _, dir := range visible {
		if dir, err = filepath.EvalSymlinks(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(m.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		mount(dir, filepath.Join(m.root, dir), "", "", syscall.MS_BIND)
	}
	mount("cgroup2", filepath.Join(base, "cgroup"), "cgroup2", "", 0)
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Fatal(err)
	}

	command := exec.Command("sh", "-c", pid1, "sh", m.root, group)
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	var said bytes.Buffer
	command.Stdout, command.Stderr = &said, &said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	m.pid = command.Process.Pid
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	t.Cleanup(func() { command.Process.Kill(); <-ended })
	for deadline := time.Now().Add(patience); ; {
		// Degraded is good enough: of this machine's own units some may not like it.
		state, _ := m.command("systemctl", "is-system-running", "--wait").Output()
		if s := strings.TrimSpace(string(state)); s == "running" || s == "degraded" {
			return m
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("systemd ended: %v\n%s", err, said.String())
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("systemd is %q after %s", state, patience)
		}
	}
}

// removeGroup removes a cgroup, whose processes have ended, and those below.
func removeGroup(dir string) {
	var dirs []string
	filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	for i := len(dirs) - 1; i >= 0; i-- {
		// The kernel needs a moment after the last process.
		for range 100 {
			if err := syscall.Rmdir(dirs[i]); !errors.Is(err, syscall.EBUSY) {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// command is one that runs in the machine, as root.
func (m *machine) command(argv ...string) *exec.Cmd {
	c := exec.Command("nsenter", append([]string{"--target", strconv.Itoa(m.pid), "--all", "--"}, argv...)...)
	c.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8", "SYSTEMD_PAGER=", "DEBIAN_FRONTEND=noninteractive"}
	dieWithParent(c)
	return c
}

// run returns what a command printed, which must succeed.
func (m *machine) run(t *testing.T, argv ...string) string {
	t.Helper()
	output, err := m.command(argv...).CombinedOutput()
	if err != nil {
		journal, _ := m.command("journalctl", "--no-pager", "-o", "cat", "-n", "40").CombinedOutput()
		t.Fatalf("%s: %v\n%s\nthe journal:\n%s", strings.Join(argv, " "), err, output, journal)
	}
	return string(output)
}

// property is one of a unit, as systemd sees it now.
func (m *machine) property(t *testing.T, unit, name string) string {
	t.Helper()
	return strings.TrimSpace(m.run(t, "systemctl", "show", "--property", name, "--value", unit))
}

// write makes a file in the machine. Where its folder is a mount of its own, the
// test does not see it.
func (m *machine) write(t *testing.T, path, mode, text string) {
	t.Helper()
	c := m.command("sh", "-c", `mkdir -p "$(dirname "$1")" && umask 077 && cat >"$1" && chmod "$2" "$1"`, "sh", path, mode)
	c.Stdin = strings.NewReader(text)
	if output, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", path, err, output)
	}
}
