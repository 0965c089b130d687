package ca

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/rogpeppe/go-internal/lockedfile"

	"github.com/countersign-proxy/countersign/safefile"
)

// Permissions. Folder and file are safefile.Own. The default mode of the files of a
// Kubernetes Secret, 0644, is refused: set defaultMode to 0400, or 0440 with fsGroup.
//
// A Secret volume also shows what looks like a world-writable folder (1777)
// holding symbolic links. Its mount is read-only, so nobody can write there;
// therefore the mode of a folder counts only where the mount is writable. The
// mode of the file always counts.

// readPrivate reads the authority's file after checking folder and file.
func readPrivate(dir string) ([]byte, error) {
	path := file(dir)
	if err := checkFolder(dir); err != nil {
		return nil, err
	}
	data, err := safefile.Read(path, safefile.Own, maxFile)
	var open *safefile.ExposedError
	switch {
	case err == nil:
		return data, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, missing(dir)
	case errors.Is(err, safefile.ErrNotRegular):
		return nil, &Error{Reason: Damaged, Path: path, What: "it is not a file", Mend: "move it away"}
	case errors.As(err, new(*safefile.TooLargeError)):
		return nil, &Error{Reason: Damaged, Path: path, What: fmt.Sprintf("it is larger than %d bytes", maxFile), Mend: "restore it from where it came"}
	case errors.As(err, &open):
		return nil, exposed(open,
			"if nobody else has read it: chmod 600 "+path+" (in a Kubernetes Secret volume: defaultMode 0400, or 0440 with fsGroup); else make a new one with: countersign ca rotate --forget")
	}
	return nil, unreadable(path, err)
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
	var open *safefile.ExposedError
	if errors.As(safefile.Judge(dir, info, safefile.Own), &open) && !readOnlyMount(dir) {
		return exposed(open, "mend it with: chmod 700 "+dir)
	}
	return nil
}

// exposed says how others are let in, and what to do about it: a mode can be mended,
// and to another user's keys goes that user.
func exposed(e *safefile.ExposedError, mend string) *Error {
	var what string
	switch {
	case e.Owner != 0:
		what = fmt.Sprintf("it belongs to user %d, and countersign runs as user %d", e.Owner, os.Geteuid())
		mend = "run countersign as that user"
	case e.Mode&0o022 != 0:
		what = fmt.Sprintf("others than its owner can write it (mode %04o)", e.Mode.Perm())
	default:
		what = fmt.Sprintf("others than its owner and group can read it (mode %04o)", e.Mode.Perm())
	}
	return &Error{Reason: Exposed, Path: e.Path, What: what, Mend: mend}
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
