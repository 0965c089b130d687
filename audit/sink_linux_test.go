package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestDevFullIsSeenBeforeAnythingIsWritten(t *testing.T) {
	l := open(t, Options{Path: "/dev/full", Required: true})
	if _, err := l.Begin(t.Context()); !errors.Is(err, syscall.ENOSPC) {
		t.Error(err)
	}
	if l.Stats().Failures != 0 {
		t.Error("it took a write to find out")
	}
}

func TestFileSystemWithoutRoomIsSeen(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := checkFile(f, MaxLine); err != nil {
		t.Error(err)
	}
	if err := checkFile(f, 1<<62); !errors.Is(err, syscall.ENOSPC) {
		t.Error(err)
	}
}

func fifo(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestNamedPipeWithoutReaderIsAnErrorAndNoWait(t *testing.T) {
	if _, err := Open(Options{Path: fifo(t)}); !errors.Is(err, syscall.ENXIO) {
		t.Error(err)
	}
}

func TestNamedPipeWhoseReaderLeavesAndComesBack(t *testing.T) {
	path := fifo(t)
	reader := func() *os.File {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		return os.NewFile(uintptr(fd), path)
	}
	r := reader()
	l := open(t, Options{Path: path, Required: true})
	if err := l.Ready(); err != nil {
		t.Fatal(err)
	}
	r.Close()
	if _, err := l.Begin(t.Context()); !errors.Is(err, syscall.EPIPE) {
		t.Error(err)
	}
	_ = l.Write(numbered(1)) // of the refusal
	eventually(t, "the failure is noticed", func() bool { return l.Stats().Failures > 0 })
	r = reader()
	defer r.Close()
	eventually(t, "it recovers", func() bool { return l.Ready() == nil })
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if got, _ := ids(t, string(b)); fmt.Sprint(got) != "[1]" || err != nil {
		t.Error(got, err)
	}
}

func TestPipeThatIsFull(t *testing.T) {
	path := fifo(t)
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	r := os.NewFile(uintptr(fd), path)
	defer r.Close()
	l := open(t, Options{Path: path, Required: true, Stall: 20 * time.Millisecond})
	// Somebody else fills the pipe; nothing of ours hangs in it yet.
	other, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	filled := 0
	for {
		n, err := unix.Write(other, make([]byte, 4096))
		if err != nil {
			break
		}
		filled += n
	}
	unix.Close(other)
	if err := l.Ready(); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
	if _, err := l.Begin(t.Context()); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Begin(ctx); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
	if _, err := io.CopyN(io.Discard, r, int64(filled)); err != nil {
		t.Fatal(err)
	}
	p, err := l.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.Finish(numbered(1))
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if got, _ := ids(t, string(b)); fmt.Sprint(got) != "[1]" || err != nil {
		t.Error(got, err)
	}
}

// init turns the process that the next test starts into that of the test.
func init() {
	if len(os.Args) > 1 && os.Args[1] == "write-to-closed-stdout" {
		writeToClosedStdout()
		os.Exit(0)
	}
}

// writeToClosedStdout is what the process does that the next test starts.
func writeToClosedStdout() {
	l, err := Open(Options{Path: "-", Required: true, Retry: time.Millisecond})
	if err != nil {
		fmt.Fprintln(os.Stderr, "open:", err)
		return
	}
	if _, err := l.Begin(context.Background()); !errors.Is(err, syscall.EPIPE) {
		fmt.Fprintln(os.Stderr, "begin:", err)
		return
	}
	_ = l.Write(sample())
	for l.Stats().Failures == 0 {
		time.Sleep(time.Millisecond)
	}
	fmt.Fprint(os.Stderr, "alive")
}

// A Go program that writes to a closed pipe on descriptor 1 dies of SIGPIPE,
// which would end all requests under way; the log must not.
func TestStdoutWhoseReaderLeftDoesNotKill(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	cmd := exec.Command(self, "write-to-closed-stdout")
	cmd.Stdout = w
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	out, _ := io.ReadAll(stderr)
	if err := cmd.Wait(); err != nil || string(out) != "alive" {
		t.Errorf("%v, %q", err, out)
	}
}
