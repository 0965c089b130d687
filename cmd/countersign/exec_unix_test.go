//go:build unix

package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Signals that are sent to exec reach its child, and exec ends as the child
// does. (Those of a terminal reach the child by themselves; there is none here.)
func TestExecPassesSignalsOn(t *testing.T) {
	for _, c := range []struct {
		signal syscall.Signal
		what   string // of probe: catch signals, or not
		code   int
		output string
	}{
		{syscall.SIGTERM, "signal", 7, "got terminated\n"},
		{syscall.SIGINT, "signal", 7, "got interrupt\n"},
		{syscall.SIGHUP, "signal", 7, "got hangup\n"},
		{syscall.SIGQUIT, "signal", 7, "got quit\n"},
		{syscall.SIGUSR1, "signal", 7, "got user defined signal 1\n"},
		{syscall.SIGUSR2, "signal", 7, "got user defined signal 2\n"},
		{syscall.SIGWINCH, "signal", 7, "got window changed\n"},
		{syscall.SIGTERM, "hang", 128 + int(syscall.SIGTERM), ""},
		{syscall.SIGHUP, "hang", 128 + int(syscall.SIGHUP), ""},
	} {
		t.Run(c.signal.String()+" "+c.what, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			started, temp := filepath.Join(dir, "started"), filepath.Join(dir, "temp")
			if err := os.Mkdir(temp, 0o700); err != nil {
				t.Fatal(err)
			}
			var stdout, stderr bytes.Buffer
			cmd := exec.Command("countersign", "exec", "--", "probe", c.what, started)
			cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + temp, "AWS_EC2_METADATA_DISABLED=true"}
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			// A session of its own: no terminal, as for a service.
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- cmd.Wait() }()
			for {
				if _, err := os.Stat(started); err == nil {
					break
				}
				select {
				case err := <-done:
					t.Fatalf("it ended before it began: %v %s", err, &stderr)
				case <-time.After(10 * time.Millisecond):
				}
			}
			if err := cmd.Process.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			var exit *exec.ExitError
			if err := <-done; !errors.As(err, &exit) || exit.ExitCode() != c.code || stdout.String() != c.output {
				t.Errorf("%v, printed %q, %s", err, stdout.String(), &stderr)
			}
			if left := names(temp); len(left) > 0 {
				t.Errorf("left in the temporary folder: %q", left)
			}
		})
	}
}
