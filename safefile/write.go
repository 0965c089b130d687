package safefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Write replaces path by a file with these bytes and permissions, as a whole:
// readers meet the old bytes or the new ones, never a part, and what was written
// outlasts a crash. The folder must exist. It is meant for exports too (a bundle
// that running programs read).
func Write(path string, data []byte, mode fs.FileMode) error {
	return place(path, data, mode, os.Rename)
}

// Create writes a new file, mode 0600, as Write does. It never replaces one: of
// several processes that make the same file at once one succeeds, and the others
// get fs.ErrExist.
func Create(path string, data []byte) error {
	return place(path, data, 0o600, os.Link) // unlike a rename, a link replaces nothing
}

// CheckWritable says whether Write could replace path, and leaves it as it is.
func CheckWritable(path string) error {
	f, err := createTemp(path)
	if err != nil {
		return cannotWrite(path, err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// place writes a temporary file and puts it into its place.
func place(path string, data []byte, mode fs.FileMode, put func(from, to string) error) error {
	temp, err := writeTemp(path, data, mode)
	if err != nil {
		return cannotWrite(path, err)
	}
	defer os.Remove(temp) // not there any more after a rename
	if err := put(temp, path); err != nil {
		return cannotWrite(path, err)
	}
	if err := syncFolder(filepath.Dir(path)); err != nil {
		return cannotWrite(path, err)
	}
	return nil
}

func createTemp(path string) (*os.File, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil, syscall.EISDIR
	}
	return os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // 0600
}

// writeTemp writes a new file beside path, and flushes it to disk.
func writeTemp(path string, data []byte, mode fs.FileMode) (name string, err error) {
	f, err := createTemp(path)
	if err != nil {
		return "", err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(data); err != nil {
		return "", err
	}
	if err := f.Chmod(mode); err != nil {
		return "", err
	}
	return f.Name(), f.Sync()
}

// cannotWrite leaves out the name of the temporary file, which nobody asked for.
func cannotWrite(path string, err error) error {
	var p *fs.PathError
	var l *os.LinkError
	switch {
	case errors.As(err, &p):
		err = p.Err
	case errors.As(err, &l):
		err = l.Err
	}
	return fmt.Errorf("%s cannot be written: %w", path, err)
}
