package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"

	"github.com/countersign-proxy/countersign/safefile"
)

// CheckStateDir returns an error if a directory may not be used to keep keys:
// because others can read it or the group can write it (a *safefile.ExposedError),
// or because it is none. A directory that does not exist is in order: see MakeStateDir.
func CheckStateDir(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("state directory: %w", err)
	case !info.IsDir():
		return fmt.Errorf("state directory: %s is not a directory; remove it or set state_dir", dir)
	}
	if err := safefile.Judge(dir, info, safefile.Private); err != nil {
		return fmt.Errorf("state directory: %w", err)
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
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	var foreign *safefile.ExposedError
	if errors.As(safefile.Judge(dir, info, safefile.Own), &foreign) && foreign.Owner != 0 {
		name := strconv.Itoa(foreign.Owner)
		if u, err := user.LookupId(name); err == nil {
			name = u.Username
		}
		return fmt.Errorf("state directory: %s belongs to user %s, who could not read what root writes there; run this as that user (runuser -u %s -- countersign ...), or set state_dir", dir, name, name)
	}
	return nil
}
