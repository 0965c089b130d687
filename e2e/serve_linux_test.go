package e2e

import (
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

// Whoever sees that serve is there may stop it, or have it reload, at once: it must
// not die of a signal that comes before it has said all that it has to say. Here it
// cannot say a word until the signals are there.
func TestSignalsWhileServeStarts(t *testing.T) {
	t.Parallel()
	u := strictMoto(t)
	dir := t.TempDir()
	address, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	admin, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	file := writeConfig(t, dir, u, "listen: "+address+"\nadmin: {listen: "+admin+"}\naudit: {file: "+filepath.Join(dir, "audit.jsonl")+"}\nroles: {deploy: {arn: \""+deployARN+"\"}}\nlog: {level: error, format: json}\n")
	words, full := fullPipe(t)
	terminal, slave, err := pty.Open() // to which serve announces itself at length
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	command := exec.Command(program, "serve", "--config", file)
	command.Env = append(bareEnvironment(dir), keyEnvironment(u)...)
	command.Stdout, command.Stderr = slave, full
	dieWithParent(command)
	err = command.Start()
	slave.Close()
	full.Close()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		response, err := http.Get("http://" + admin + "/healthz")
		if err == nil {
			response.Body.Close()
			break
		}
		select {
		case err := <-ended:
			t.Fatalf("serve ended with %v", err)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	for _, s := range []os.Signal{syscall.SIGHUP, os.Interrupt} {
		if err := command.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	go func() { // what it has to say
		b := make([]byte, 4096)
		for {
			if _, err := words.Read(b); err != nil {
				return
			}
		}
	}()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("serve ended with %v", err)
		}
	case <-time.After(patience):
		t.Error("serve does not end")
		_ = command.Process.Kill()
		<-ended
	}
}

// fullPipe returns a pipe into which nothing more goes until it is read.
func fullPipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	var fds [2]int
	if err := syscall.Pipe2(fds[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := syscall.Write(fds[1], make([]byte, 1)); errors.Is(err, syscall.EAGAIN) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.SetNonblock(fds[1], false); err != nil {
		t.Fatal(err)
	}
	r, w = os.NewFile(uintptr(fds[0]), "words"), os.NewFile(uintptr(fds[1]), "full")
	t.Cleanup(func() { r.Close() })
	return r, w
}
