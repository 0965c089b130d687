//go:build unix

package ca

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

func modeOf(info fs.FileInfo) fs.FileMode { return info.Mode().Perm() }

// foreignOwner says so when a user who is neither this one nor root owns the
// file, and could therefore change it and its mode at any time.
func foreignOwner(info fs.FileInfo) string {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Uid == 0 || int(stat.Uid) == os.Geteuid() {
		return ""
	}
	return fmt.Sprintf("it belongs to user %d, and countersign runs as user %d", stat.Uid, os.Geteuid())
}

// syncFolder makes a rename in the folder last.
func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
