// Package safefile reads and writes files that other users must not read or change.
//
// What others may do is judged by owner and mode of the opened file, so that
// symbolic links, and files that take its place meanwhile, play no part. The group
// may always read: that is how Kubernetes gives the files of a Secret (0440) to a
// pod with fsGroup. Nothing is ever repaired silently.
//
// Windows keeps access lists, not modes, and os.Stat invents the mode bits; there
// every file and folder is accepted. A folder under the user's profile is closed to
// other users by inheritance.
package safefile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Rule is what is demanded of a file or folder.
type Rule int

const (
	// Own is Private, and belongs to this user or to root: any other owner could
	// change it, and its mode, at any time. It is for what this program makes itself.
	Own Rule = iota
	// Private is changed by nobody but its owner, and read by nobody but the owner
	// and the group. Whose it is does not count: agents that renew secrets, and
	// container engines that mount those of the host, have users of their own.
	Private
	// Trusted is changed by nobody but its owner; all may read it.
	Trusted
	// Any is accepted whatever its mode, such as the service account tokens of
	// Kubernetes, which all users of the container can read.
	Any
)

// forbidden are the permission bits that the rule refuses.
func (r Rule) forbidden() fs.FileMode {
	switch r {
	case Any:
		return 0
	case Trusted:
		return 0o022
	default:
		return 0o027
	}
}

// MaxSecret bounds, in bytes, the file of a secret.
const MaxSecret = 64 << 10

// ErrNotRegular says that something is a folder, a named pipe, a socket or a device.
var ErrNotRegular = errors.New("not a regular file")

// ExposedError says that a file or folder is open to others.
type ExposedError struct {
	Path  string
	Rule  Rule
	Mode  fs.FileMode // with its type
	Owner int         // id of the user it belongs to, where that is what is wrong; else 0
}

func (e *ExposedError) Error() string {
	want := 0o600
	if e.Mode.IsDir() {
		want = 0o700
	}
	switch {
	case e.Owner != 0:
		return fmt.Sprintf("%s belongs to user %d, who can change it at any time; run countersign as that user", e.Path, e.Owner)
	case e.Rule == Trusted:
		return fmt.Sprintf("%s has mode %04o, so that others can change it: chmod go-w %s", e.Path, e.Mode.Perm(), e.Path)
	}
	return fmt.Sprintf("%s has mode %04o, so that others can read it or the group can change it; expected %04o: chmod %o %s",
		e.Path, e.Mode.Perm(), want, want, e.Path)
}

// TooLargeError says that a file is larger than it may be.
type TooLargeError struct {
	Path string
	Max  int // bytes
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("%s is larger than %d bytes", e.Path, e.Max)
}

// Judge returns an *ExposedError unless info, which is that of path, is as the rule
// demands. It is for folders, and for those who have opened the file themselves.
func Judge(path string, info fs.FileInfo, rule Rule) error {
	if rule == Own {
		if uid := ownerOf(info); uid > 0 && uid != os.Geteuid() {
			return &ExposedError{Path: path, Rule: rule, Mode: info.Mode(), Owner: uid}
		}
	}
	if hasModes && info.Mode().Perm()&rule.forbidden() != 0 {
		return &ExposedError{Path: path, Rule: rule, Mode: info.Mode()}
	}
	return nil
}

// Open opens a regular file to read it, and returns what it is besides. Errors are
// an *ExposedError, ErrNotRegular, or those of os.Open. It waits for nobody.
func Open(path string, rule Rule) (*os.File, fs.FileInfo, error) {
	// To open a device can be a deed: it is looked at first.
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, nil, &fs.PathError{Op: "open", Path: path, Err: ErrNotRegular}
	}
	return open(path, rule)
}

// open judges what was opened, which may be another one than was looked at.
func open(path string, rule Rule) (*os.File, fs.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|noWait, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: ErrNotRegular}
	}
	if err == nil {
		err = Judge(path, info, rule)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// Check says whether Open would open the file.
func Check(path string, rule Rule) error {
	f, _, err := Open(path, rule)
	if err != nil {
		return err
	}
	return f.Close()
}

// Read reads a file of at most max bytes. Errors are those of Open and a
// *TooLargeError; they do not contain what was read.
func Read(path string, rule Rule, max int) ([]byte, error) {
	f, _, err := Open(path, rule)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(max)+1))
	if err != nil {
		return nil, err
	}
	if len(b) > max {
		return nil, &TooLargeError{path, max}
	}
	return b, nil
}

// ReadSecret reads a Private file that holds one secret of at most MaxSecret bytes,
// without the line end after it. One that is empty or has several lines is refused.
// Errors do not contain what was read.
func ReadSecret(path string) (string, error) { return readLine(path, Private) }

// ReadToken reads a file that holds one bearer token as ReadSecret does, but
// whatever its mode.
func ReadToken(path string) (string, error) { return readLine(path, Any) }

func readLine(path string, rule Rule) (string, error) {
	b, err := Read(path, rule, MaxSecret)
	if errors.As(err, new(*TooLargeError)) {
		return "", fmt.Errorf("%w; expected a secret", err)
	}
	if err != nil {
		return "", err
	}
	b = bytes.TrimRight(b, "\r\n")
	switch {
	case len(b) == 0:
		return "", fmt.Errorf("%s is empty; expected a secret", path)
	case bytes.ContainsAny(b, "\r\n\x00"):
		return "", fmt.Errorf("%s has several lines; expected a secret alone", path)
	}
	return string(b), nil
}
