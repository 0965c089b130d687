//go:build unix

package identity

import (
	"os"

	"golang.org/x/sys/unix"
)

// lockFile waits for the exclusive lock of a file. The lock ends with the
// process, so a crash leaves nothing to clean up.
func lockFile(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, &os.PathError{Op: "lock", Path: path, Err: err}
	}
	return func() { f.Close() }, nil
}
