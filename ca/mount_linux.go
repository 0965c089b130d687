package ca

import "golang.org/x/sys/unix"

// readOnlyMount reports whether nothing can be written in dir, whatever its
// mode: statfs shows the read-only flag of the mount as well as of the file system.
func readOnlyMount(dir string) bool {
	var s unix.Statfs_t
	return unix.Statfs(dir, &s) == nil && s.Flags&unix.ST_RDONLY != 0
}
