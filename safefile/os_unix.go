//go:build unix

package safefile

import (
	"io/fs"
	"os"
	"syscall"
)

const hasModes = true

// noWait keeps the opening of a named pipe from waiting for its writer.
const noWait = syscall.O_NONBLOCK

// ownerOf is the id of the user that a file belongs to, -1 where that is unknown.
func ownerOf(info fs.FileInfo) int {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Uid)
	}
	return -1
}

// syncFolder makes a change of the folder's entries last.
func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
