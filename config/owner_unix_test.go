//go:build unix

package config

import (
	"os"
	"path/filepath"
	"testing"
)

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
