//go:build unix

package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
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
		var p *PermissionError
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

func TestReadSecret(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, content := range map[string]string{"plain": "s3cret/+", "line": "s3cret/+\n", "crlf": "s3cret/+\r\n"} {
		if got, err := ReadSecret(write(name, content, 0o600)); err != nil || got != "s3cret/+" {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}
	if got, err := ReadSecret(write("kubernetes", "s3cret", 0o440)); err != nil || got != "s3cret" {
		t.Errorf("readable by the group: %q %v", got, err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"open to others": write("open", "s3cret", 0o604), "group may write": write("group", "s3cret", 0o620),
		"empty": write("empty", "\n", 0o600), "lines": write("lines", "s3cret\nmore", 0o600),
		"nul": write("nul", "s3cret\x00", 0o600), "large": write("large", strings.Repeat("s3cret", 20000), 0o600),
		"directory": dir, "missing": filepath.Join(dir, "none"), "named pipe": fifo,
	} {
		got, err := ReadSecret(path)
		if err == nil || got != "" {
			t.Errorf("%s: %q was read", name, got)
		} else if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: the error repeats the secret: %v", name, err)
		}
	}
}
