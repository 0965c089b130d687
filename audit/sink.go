package audit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// sink takes whole lines. All but check is called by one goroutine.
type sink interface {
	// write writes whole lines; after a write that was cut short, the next one
	// starts on a new line. The count is of the given bytes.
	write(lines []byte) (int, error)
	// check says, without waiting, why need more bytes could not be written now.
	check(need int64) error
	reopen() error
	close() error
}

// writeLines writes to w, after a newline if the last write was cut in a line.
func writeLines(w io.Writer, torn *bool, lines []byte) (int, error) {
	if *torn {
		if n, err := w.Write(newline); err != nil || n != 1 {
			return 0, shortWrite(err)
		}
		*torn = false
	}
	n, err := w.Write(lines)
	if n >= len(lines) {
		return len(lines), nil // all is there, whatever else is said
	}
	if n = max(n, 0); n > 0 {
		*torn = lines[n-1] != '\n'
	}
	return n, shortWrite(err)
}

func shortWrite(err error) error {
	if err == nil {
		return io.ErrShortWrite
	}
	return err
}

// writerSink writes to what a test gave.
type writerSink struct {
	w    io.Writer
	torn bool
}

func (s *writerSink) write(lines []byte) (int, error) { return writeLines(s.w, &s.torn, lines) }
func (s *writerSink) check(int64) error               { return nil }
func (s *writerSink) reopen() error                   { return nil }
func (s *writerSink) close() error                    { return nil }

// fileSink appends to a file, or writes to a pipe or device.
type fileSink struct {
	path    string // "" for standard output
	max     int64
	backups int
	now     func() time.Time

	file atomic.Pointer[os.File]
	size int64
	torn bool
}

func openStdout() (sink, error) {
	f, err := dupStdout()
	if err != nil {
		return nil, err
	}
	s := &fileSink{}
	s.file.Store(f)
	return s, nil
}

func openFile(opt Options) (sink, error) {
	s := &fileSink{path: opt.Path, max: opt.MaxSize, backups: opt.Backups, now: opt.Now}
	if err := s.reopen(); err != nil {
		return nil, err
	}
	return s, nil
}

// reopen opens the path and, if that works, lets go of the old file.
func (s *fileSink) reopen() error {
	if s.path == "" {
		return nil
	}
	// Reading tells whether the file ends in the middle of a line. Without
	// O_NONBLOCK a named pipe that nobody reads would block for good.
	flags := os.O_APPEND | os.O_CREATE | syscall.O_NONBLOCK
	f, err := os.OpenFile(s.path, flags|os.O_RDWR, 0o600)
	if err == nil {
		// A pipe opened for reading as well would never see its reader leave.
		if info, serr := f.Stat(); serr != nil || !info.Mode().IsRegular() {
			f.Close()
			f, err = os.OpenFile(s.path, flags|os.O_WRONLY, 0o600)
		}
	} else if errors.Is(err, fs.ErrPermission) {
		f, err = os.OpenFile(s.path, flags|os.O_WRONLY, 0o600)
	}
	switch {
	case errors.Is(err, errNoReader):
		return fmt.Errorf("%w (nothing reads this named pipe: start its reader first)", err)
	case err != nil:
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	s.size, s.torn = 0, false
	if info.Mode().IsRegular() {
		s.size = info.Size()
		if s.size > 0 {
			last := []byte{0}
			_, err := f.ReadAt(last, s.size-1)
			s.torn = err != nil || last[0] != '\n' // an empty line too many does no harm
		}
	}
	if old := s.file.Swap(f); old != nil {
		old.Close()
	}
	return nil
}

func (s *fileSink) write(lines []byte) (int, error) {
	if s.max > 0 && s.size > 0 && s.size+int64(len(lines)) > s.max {
		// The record matters more than its size: what cannot be renamed is
		// appended to, and the next write tries again.
		_ = s.rotate()
	}
	n, err := writeLines(s.file.Load(), &s.torn, lines)
	s.size += int64(n)
	if err != nil && !isFull(err) {
		// The file may be stale (a volume that came back). If it can be opened
		// anew, the next attempt writes there; a cut line ends either way.
		torn := s.torn
		if rerr := s.reopen(); rerr == nil {
			s.torn = s.torn || torn
		}
	}
	return n, err
}

func (s *fileSink) check(need int64) error { return checkPresent(s.file.Load, need) }

// checkPresent looks at the present file. One whose place another takes meanwhile is
// closed then, which says nothing of the other.
func checkPresent(present func() *os.File, need int64) error {
	for {
		f := present()
		if err := checkFile(f, need); err == nil || present() == f {
			return err
		}
	}
}

func (s *fileSink) close() error { return s.file.Load().Close() }

const backupTime = "20060102T150405.000"

// rotate renames the file and begins a new one.
func (s *fileSink) rotate() error {
	info, err := s.file.Load().Stat()
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	if there, err := os.Stat(s.path); err != nil || !os.SameFile(info, there) {
		return s.reopen() // somebody else has rotated it
	}
	ext := filepath.Ext(s.path)
	base := strings.TrimSuffix(s.path, ext)
	backup := base + "-" + s.now().UTC().Format(backupTime) + ext
	for i := 1; ; i++ {
		if _, err := os.Lstat(backup); errors.Is(err, fs.ErrNotExist) {
			break
		}
		backup = fmt.Sprintf("%s-%s.%d%s", base, s.now().UTC().Format(backupTime), i, ext)
	}
	if err := os.Rename(s.path, backup); err != nil {
		return err
	}
	if err := s.reopen(); err != nil {
		return err
	}
	if s.backups <= 0 {
		return nil
	}
	old, err := backupsOf(s.path)
	if err != nil {
		return err
	}
	for _, name := range old[:max(len(old)-s.backups, 0)] {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}

// backupsOf returns the renamed files of path, oldest first.
func backupsOf(path string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	ext := filepath.Ext(path)
	prefix := strings.TrimSuffix(filepath.Base(path), ext) + "-"
	var names []string
	for _, e := range entries {
		stamp, ok := strings.CutPrefix(e.Name(), prefix)
		if !ok || !strings.HasSuffix(stamp, ext) || len(stamp) < len(backupTime) {
			continue
		}
		if _, err := time.Parse(backupTime, stamp[:len(backupTime)]); err == nil {
			names = append(names, filepath.Join(filepath.Dir(path), e.Name()))
		}
	}
	slices.Sort(names)
	return names, nil
}
