package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"runtime"
	"strconv"
)

// PermissionError says that a file or directory is open to others.
type PermissionError struct {
	Path string
	Mode fs.FileMode
	Want fs.FileMode // what to set it to
}

func (e *PermissionError) Error() string {
	return fmt.Sprintf("%s has mode %04o, so that others can read it or the group can change it; expected %04o: chmod %o %s",
		e.Path, e.Mode.Perm(), e.Want, e.Want, e.Path)
}

var errNotFile = errors.New("not a regular file")

// tooOpen reports whether others can do anything with what has this mode, or
// the group can change it. Reading is left to the group: that is how
// Kubernetes gives secrets to a process that is not root.
func tooOpen(mode fs.FileMode) bool {
	return runtime.GOOS != "windows" && mode.Perm()&0o027 != 0
}

// checkPrivate returns a *PermissionError for a file that is open to others.
func checkPrivate(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if tooOpen(info.Mode()) {
		return &PermissionError{path, info.Mode(), 0o600}
	}
	return nil
}

// checkReadable opens a file, but nothing that would block or act when opened.
func checkReadable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errNotFile
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return f.Close()
}

// CheckStateDir returns an error if a directory may not be used to keep keys:
// because others can read it or the group can write it (a *PermissionError), or
// because it is none. A directory that does not exist is in order: see MakeStateDir.
func CheckStateDir(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("state directory: %w", err)
	case !info.IsDir():
		return fmt.Errorf("state directory: %s is not a directory; remove it or set state_dir", dir)
	case tooOpen(info.Mode()):
		return fmt.Errorf("state directory: %w", &PermissionError{dir, info.Mode(), 0o700})
	}
	return nil
}

// MakeStateDir makes the directory, mode 0700, unless it is there, and checks it,
// for somebody who is about to write there. To root it refuses the directory of
// another user, who could not read what root leaves there.
func MakeStateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("state directory: %w; expected a folder that this user can make or has made: set state_dir, or COUNTERSIGN_STATE_DIR", err)
	}
	if err := CheckStateDir(dir); err != nil {
		return err
	}
	if uid, ok := ownerForRoot(dir); ok {
		name := strconv.Itoa(uid)
		if u, err := user.LookupId(name); err == nil {
			name = u.Username
		}
		return fmt.Errorf("state directory: %s belongs to user %s, who could not read what root writes there; run this as that user (runuser -u %s -- countersign ...), or set state_dir", dir, name, name)
	}
	return nil
}

// maxSecret bounds the file of a secret.
const maxSecret = 64 << 10

// ReadPrivate reads a file that nobody else may read, such as a private key in
// PEM. One that is open to others or larger than 64 KiB is refused. Errors do
// not contain what was read.
func ReadPrivate(path string) ([]byte, error) { return read(path, true) }

func read(path string, private bool) ([]byte, error) {
	if err := checkReadable(path); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if private && tooOpen(info.Mode()) {
		return nil, &PermissionError{path, info.Mode(), 0o600}
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxSecret {
		return nil, fmt.Errorf("%s is larger than %d bytes; expected a secret", path, maxSecret)
	}
	return b, nil
}

// ReadSecret reads a file that holds one secret, such as the
// secret_access_key_file of a credential: without the line end after it. A file
// that is open to others, empty, of several lines or larger than 64 KiB is
// refused. Errors do not contain what was read.
func ReadSecret(path string) (string, error) { return readSecret(path, true) }

// ReadToken reads a file that holds one bearer token, as ReadSecret does, but
// whatever its mode: Kubernetes mounts service account tokens readable by all
// users of the container, and renews them there.
func ReadToken(path string) (string, error) { return readSecret(path, false) }

func readSecret(path string, private bool) (string, error) {
	b, err := read(path, private)
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
