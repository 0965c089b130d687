package e2e

import (
	"os/exec"
	"syscall"
)

// dieWithParent makes the kernel end a child that has no way of its own to
// notice that the test run was killed.
func dieWithParent(command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
