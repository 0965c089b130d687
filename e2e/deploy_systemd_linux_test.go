package e2e

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// systemd's own judgement of the unit: what a service could still do, from 0
// (nothing) to 10.
func TestSystemdUnitIsConfined(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	needs(t, "systemd-analyze", err)
	output, err := exec.Command(analyze, "security", "--offline=true", "--no-pager", "--threshold=15", "../deploy/systemd/countersign.service").CombinedOutput()
	if err != nil {
		t.Errorf("exposed more than 1.5: %v\n%s", err, output)
	}
	for line := range strings.Lines(string(output)) {
		if strings.Contains(line, "ignoring") || strings.Contains(line, "Unknown") {
			t.Errorf("systemd does not understand: %s", line)
		}
	}

	dir := t.TempDir()
	binary := filepath.Join(dir, "countersign")
	for _, name := range []string{"countersign.service", "countersign.socket"} {
		text, err := os.ReadFile("../deploy/systemd/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), bytes.ReplaceAll(text, []byte("/usr/bin/countersign"), []byte(binary)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(program, binary); err != nil {
		t.Fatal(err)
	}
	verify := exec.Command(analyze, "verify", "--man=no", filepath.Join(dir, "countersign.service"), filepath.Join(dir, "countersign.socket"))
	output, err = verify.CombinedOutput()
	if err != nil || strings.Contains(string(output), dir) {
		t.Errorf("systemd-analyze verify: %v\n%s", err, output)
	}
}

// activated runs serve as systemd would after the first connection to a socket.
func activated(t *testing.T, env []string, names string, sockets ...string) *exec.Cmd {
	t.Helper()
	tool, err := exec.LookPath("systemd-socket-activate")
	needs(t, "systemd-socket-activate", err)
	var argv []string
	for _, s := range sockets {
		argv = append(argv, "--listen="+s)
	}
	for _, e := range env {
		argv = append(argv, "--setenv="+e)
	}
	argv = append(argv, "--fdname="+names, program, "serve")
	command := exec.Command(tool, argv...)
	dieWithParent(command)
	return command
}

func TestSocketActivation(t *testing.T) {
	dir := t.TempDir()
	address, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	env := append(bareEnvironment(dir),
		"COUNTERSIGN_STATE_DIR="+filepath.Join(dir, "state"), "COUNTERSIGN_LISTEN=127.0.0.1:1", "COUNTERSIGN_ADMIN_LISTEN=\"\"",
		"COUNTERSIGN_METRICS_LISTEN=127.0.0.1:2", "AWS_ACCESS_KEY_ID=AKIAIMAGETESTUSERKEY", "AWS_SECRET_ACCESS_KEY=x")
	// The addresses of the configuration are ports that nobody may open: what
	// answers is what was inherited.
	command := activated(t, env, "listen:metrics.listen", address, metrics)
	var said bytes.Buffer
	command.Stdout, command.Stderr = &said, &said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	defer func() { command.Process.Signal(os.Interrupt); <-ended }()
	answered := false
	for deadline := time.Now().Add(patience); !answered && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if response, err := http.Get("http://" + metrics + "/readyz"); err == nil {
			response.Body.Close()
			answered = response.StatusCode == http.StatusOK
		}
	}
	if !answered {
		t.Fatalf("no answer on the inherited socket\n%s", said.String())
	}
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if response := connectOver(t, conn, "sts.us-east-1.amazonaws.com:443"); response.StatusCode != http.StatusOK {
		t.Errorf("CONNECT on the inherited socket: %s", response.Status)
	}
}

// On loopback everybody on the machine is let in. A socket that others reach
// must not take its place.
func TestSocketActivationIsNotWider(t *testing.T) {
	dir := t.TempDir()
	address, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	env := append(bareEnvironment(dir), "COUNTERSIGN_STATE_DIR="+filepath.Join(dir, "state"), "COUNTERSIGN_ADMIN_LISTEN=\"\"",
		"AWS_ACCESS_KEY_ID=AKIAIMAGETESTUSERKEY", "AWS_SECRET_ACCESS_KEY=x")
	command := activated(t, env, "listen", "0.0.0.0:"+port)
	var said bytes.Buffer
	command.Stdout, command.Stderr = &said, &said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	var first net.Conn
	for deadline := time.Now().Add(patience); first == nil && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		first, _ = net.Dial("tcp", address) // which starts it
	}
	if first != nil {
		defer first.Close()
	}
	select {
	case err := <-ended:
		if want := fmt.Sprintf("listen is 127.0.0.1:8800, and systemd's socket is open at 0.0.0.0:%s for others too", port); err == nil || !strings.Contains(said.String(), want) {
			t.Errorf("%v: want %q in\n%s", err, want, said.String())
		}
	case <-time.After(patience):
		command.Process.Kill()
		<-ended
		t.Errorf("it serves\n%s", said.String())
	}
}
