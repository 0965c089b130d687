//go:build unix

package config

import (
	"os"
	"syscall"
)

// ownerForRoot is the user whose directory this is, if that is not root, and
// this is root.
func ownerForRoot(dir string) (uid int, ok bool) {
	if os.Geteuid() != 0 {
		return 0, false
	}
	info, err := os.Stat(dir)
	if err != nil {
		return 0, false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || stat.Uid == 0 {
		return 0, false
	}
	return int(stat.Uid), true
}
