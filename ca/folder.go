package ca

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/rogpeppe/go-internal/lockedfile"
)

// Permissions. The rule is that of the whole state: refused when others can
// read or the group can write. Reading by the group is allowed, because
// Kubernetes adds it (0440) to the files of a Secret in pods with fsGroup.
//
// A Secret volume also shows what looks like a world-writable folder (1777)
// holding symbolic links. Its mount is read-only, so nobody can write there;
// therefore the mode of a folder counts only where the mount is writable. The
// mode of the file always counts, measured on the opened file so that links
// and later renames play no part. The default mode of Secret files, 0644, is
// refused: set defaultMode to 0400, or 0440 with fsGroup.

const (
	fileForbidden   fs.FileMode = 0o027
	folderForbidden fs.FileMode = 0o027
)

// readPrivate reads the authority's file after checking folder and file.
func readPrivate(dir string) ([]byte, error) {
	path := file(dir)
	if err := checkFolder(dir); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missing(dir)
	}
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, unreadable(path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, &Error{Reason: Damaged, Path: path, What: "it is not a file", Mend: "move it away"}
	}
	if what := exposure(info, fileForbidden); what != "" {
		return nil, &Error{Reason: Exposed, Path: path, What: what, Mend: mendExposure(info,
			"if nobody else has read it: chmod 600 "+path+" (in a Kubernetes Secret volume: defaultMode 0400, or 0440 with fsGroup); else make a new one with: countersign ca rotate --forget")}
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, unreadable(path, err)
	}
	if len(data) > maxFile {
		return nil, &Error{Reason: Damaged, Path: path, What: fmt.Sprintf("it is larger than %d bytes", maxFile), Mend: "restore it from where it came"}
	}
	return data, nil
}

// checkFolder checks an existing folder; a missing one has reason Missing.
func checkFolder(dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return missing(dir)
	}
	if err != nil {
		return unreadable(dir, err)
	}
	if !info.IsDir() {
		return &Error{Reason: Damaged, Path: dir, What: "it is not a folder", Mend: "name a folder"}
	}
	if what := exposure(info, folderForbidden); what != "" && !readOnlyMount(dir) {
		return &Error{Reason: Exposed, Path: dir, What: what, Mend: mendExposure(info, "mend it with: chmod 700 "+dir)}
	}
	return nil
}

// exposure says how info lets others in, "" when it does not.
func exposure(info fs.FileInfo, forbidden fs.FileMode) string {
	if what := foreignOwner(info); what != "" {
		return what
	}
	mode := modeOf(info)
	switch {
	case mode&forbidden == 0:
		return ""
	case mode&0o022 != 0:
		return fmt.Sprintf("others than its owner can write it (mode %04o)", mode)
	default:
		return fmt.Sprintf("others than its owner and group can read it (mode %04o)", mode)
	}
}

// mendExposure is what to do about it: a mode can be mended, and to another
// user's keys goes that user.
func mendExposure(info fs.FileInfo, mode string) string {
	if foreignOwner(info) != "" {
		return "run countersign as that user"
	}
	return mode
}

func missing(dir string) error {
	return &Error{Reason: Missing, Path: file(dir), What: "there is none", Mend: "it is made by the first start of countersign that may write there, or with: countersign ca rotate"}
}

func unreadable(path string, err error) error {
	return &Error{Reason: Unreadable, Path: path, What: "it cannot be read", Err: err, Mend: "let the user that runs countersign own and read it"}
}

func unwritable(dir string, err error) error {
	return &Error{Reason: Unwritable, Path: dir, What: "the folder cannot be written", Err: err,
		Mend: "choose a folder that countersign may write (ca.dir in the configuration), or put an authority there that was made elsewhere"}
}

// locked runs f while no other process changes the folder, which it makes if
// need be. The lock is the kernel's, and ends with the process.
func locked(dir string, f func() (*Authority, error)) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, unwritable(dir, err)
	}
	if err := checkFolder(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, ".lock")
	made, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) // lockedfile would make it 0666
	if err != nil {
		return nil, unwritable(dir, err)
	}
	made.Close()
	unlock, err := lockedfile.MutexAt(path).Lock()
	if err != nil {
		return nil, unwritable(dir, err)
	}
	defer unlock()
	return f()
}

// WriteFile replaces path by a file with these bytes and permissions, as a
// whole: readers meet the old bytes or the new ones, never a part. The folder
// must exist. It is meant for exports too (a bundle that running programs
// read).
func WriteFile(path string, data []byte, mode fs.FileMode) error {
	if err := writeFile(path, data, mode); err != nil {
		return cannotWrite(path, err)
	}
	return nil
}

// CheckWritable says whether WriteFile could replace path, and leaves it as it is.
func CheckWritable(path string) error {
	f, err := createTemp(path)
	if err != nil {
		return cannotWrite(path, err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
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

func createTemp(path string) (*os.File, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil, syscall.EISDIR
	}
	return os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // 0600
}

func writeFile(path string, data []byte, mode fs.FileMode) error {
	f, err := createTemp(path)
	if err != nil {
		return err
	}
	done := false
	defer func() {
		if !done {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	done = true
	return syncFolder(filepath.Dir(path))
}
