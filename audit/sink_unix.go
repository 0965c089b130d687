//go:build unix

package audit

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

var errNoReader error = syscall.ENXIO

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

// dupStdout returns standard output under another descriptor: a write to a
// closed pipe on descriptor 1 ends a Go program with SIGPIPE (see os/signal),
// on any other it is an error that the log can act on.
func dupStdout() (*os.File, error) {
	fd, err := unix.FcntlInt(1, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "/dev/stdout"), nil
}

// checkFile looks at what the file is on: room on the file system, or the
// state of a pipe, socket or device.
func checkFile(f *os.File, need int64) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	err = raw.Control(func(fd uintptr) { result = checkFD(int(fd), need) })
	if err != nil {
		return err
	}
	return result
}

func checkFD(fd int, need int64) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		var fs unix.Statfs_t
		if err := unix.Fstatfs(fd, &fs); err != nil {
			return nil // cannot tell: the write will
		}
		// No blocks at all: a file system without limit, such as tmpfs with size=0.
		if fs.Blocks > 0 && int64(fs.Bavail) <= (need-1)/int64(fs.Bsize) {
			return syscall.ENOSPC
		}
		return nil
	case unix.S_IFCHR:
		// A write of nothing tells what /dev/full and the like will say.
		if _, err := unix.Write(fd, nil); err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	if n, err := unix.Poll(poll, 0); err != nil && !errors.Is(err, unix.EINTR) {
		return err
	} else if err != nil || n == 0 {
		return ErrFull
	}
	switch {
	case poll[0].Revents&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) != 0:
		return syscall.EPIPE
	case poll[0].Revents&unix.POLLOUT == 0:
		return ErrFull
	}
	return nil
}
