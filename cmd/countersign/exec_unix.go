//go:build unix

package main

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// forwardedSignals are those that can be sent to this process alone. SIGTSTP
// and its kin are left to the shell's job control.
var forwardedSignals = []os.Signal{
	syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH,
}

// passOn sends a signal to the child. SIGINT and SIGQUIT from a terminal reach
// the whole foreground group, the child included; sending them again would make
// one Ctrl-C two.
func passOn(child *os.Process, s os.Signal) {
	if (s == syscall.SIGINT || s == syscall.SIGQUIT || s == syscall.SIGWINCH) && inForeground() {
		return
	}
	_ = child.Signal(s) // it may be gone already
}

// inForeground says whether this process belongs to the foreground group of its
// terminal.
func inForeground() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := foregroundGroup(tty.Fd())
	return err == nil && group == syscall.Getpgrp()
}

// foregroundGroup is the process group that a terminal's signals go to.
func foregroundGroup(fd uintptr) (int, error) { return unix.IoctlGetInt(int(fd), unix.TIOCGPGRP) }
