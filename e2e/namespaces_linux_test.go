package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"testing"
)

// insideVariable names the inner test that a process was started for.
const insideVariable = "COUNTERSIGN_TEST_INSIDE"

// inNamespaces runs another test of this package in a network of its own, where the
// default ports are free, and in the namespaces that more options of unshare(1) ask
// for. It fails unless that test passed. The inner test begins with inside.
func inNamespaces(t *testing.T, inner string, options ...string) {
	t.Helper()
	needsRoot(t)
	for _, name := range []string{"unshare", "ip"} {
		_, err := exec.LookPath(name)
		needs(t, name, err)
	}
	argv := append([]string{"--net"}, options...)
	argv = append(argv, os.Args[0], "-test.run", "^"+inner+"$", "-test.v", "-test.count=1")
	command := exec.Command("unshare", argv...)
	command.Env = append(os.Environ(), insideVariable+"="+inner)
	output, err := command.CombinedOutput()
	if err != nil || !bytes.Contains(output, []byte("--- PASS: "+inner)) {
		t.Fatalf("%v\n%s", err, output)
	}
}

func needsRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("namespaces need root")
	}
}

// inside skips a test that inNamespaces did not start, and brings up the loopback
// device of its network.
func inside(t *testing.T) {
	t.Helper()
	if os.Getenv(insideVariable) != t.Name() {
		t.Skip("another test runs it in namespaces of its own")
	}
	if output, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
}
