//go:build unix

package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/countersign-proxy/countersign/safefile"
)

func TestCheckStateDir(t *testing.T) {
	for mode, ok := range map[os.FileMode]bool{
		0o700: true, 0o750: true, 0o500: true,
		0o755: false, 0o770: false, 0o701: false, 0o704: false, 0o720: false, 0o777: false,
	} {
		dir := filepath.Join(t.TempDir(), "state")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		err := CheckStateDir(dir)
		if ok != (err == nil) {
			t.Errorf("%o: %v", mode, err)
		}
		var p *safefile.ExposedError
		if !ok && (!errors.As(err, &p) || !strings.HasSuffix(err.Error(), "expected 0700: chmod 700 "+dir)) {
			t.Errorf("%o: %v", mode, err)
		}
	}
}

func TestMakeStateDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	if err := CheckStateDir(dir); err != nil {
		t.Errorf("one that is not there yet: %v", err)
	}
	if err := MakeStateDir(dir); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := CheckStateDir(file); err == nil || !strings.Contains(err.Error(), "is not a directory") {
		t.Error(err)
	}
}

func TestRootDoesNotWriteToTheStateOfAnother(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a directory away")
	}
	dir := filepath.Join(t.TempDir(), "state")
	if err := MakeStateDir(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, 54321, 54321); err != nil { // no such user
		t.Fatal(err)
	}
	want := "state directory: " + dir + " belongs to user 54321, who could not read what root writes there; " +
		"run this as that user (runuser -u 54321 -- countersign ...), or set state_dir"
	if err := MakeStateDir(dir); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if err := CheckStateDir(dir); err != nil {
		t.Errorf("looking is not writing: %v", err)
	}
}
