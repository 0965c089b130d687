package safefile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
)

// only says that the folder holds the file, with these bytes and mode, and nothing else.
func only(t *testing.T, path, content string, mode fs.FileMode) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != content {
		t.Errorf("the file holds %q, %v; want %q", got, err, content)
	}
	if info, err := os.Stat(path); err == nil && info.Mode() != mode && runtime.GOOS != "windows" {
		t.Errorf("the file has mode %v, want %v", info.Mode(), mode)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
}

func TestWriteReplacesAsAWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bundle.pem")
	if err := Write(path, []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	only(t, path, "before", 0o600)
	reader, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := Write(path, []byte("after"), 0o644); err != nil {
		t.Fatal(err)
	}
	only(t, path, "after", 0o644)
	old := make([]byte, 10)
	if n, _ := reader.Read(old); string(old[:n]) != "before" {
		t.Errorf("a reader saw %q", old[:n])
	}
}

func TestCreateReplacesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	var made atomic.Value
	var all sync.WaitGroup
	for i := range 10 {
		all.Go(func() {
			content := "key " + strconv.Itoa(i)
			switch err := Create(path, []byte(content)); {
			case err == nil:
				if !made.CompareAndSwap(nil, content) {
					t.Error("two made the same file")
				}
			case !errors.Is(err, fs.ErrExist):
				t.Error(err)
			}
		})
	}
	all.Wait()
	content, _ := made.Load().(string)
	only(t, path, content, 0o600)
}

func TestWhatCannotBeWrittenLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	folder, absent := filepath.Join(dir, "folder"), filepath.Join(dir, "absent", "x")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, write := range map[string]func(path string) error{
		"Write":         func(path string) error { return Write(path, []byte("x"), 0o600) },
		"Create":        func(path string) error { return Create(path, []byte("x")) },
		"CheckWritable": CheckWritable,
	} {
		if err, want := write(folder), folder+" cannot be written: is a directory"; err == nil || err.Error() != want {
			t.Errorf("%s over a folder: got %v, want %s", name, err, want)
		}
		if err := write(absent); !errors.Is(err, fs.ErrNotExist) || err.Error() != absent+" cannot be written: no such file or directory" {
			t.Errorf("%s into a folder that is not there: %v", name, err)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
}

func TestCheckWritableChangesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := CheckWritable(path); err != nil {
		t.Error(err)
	}
	only(t, path, "before", 0o600)
}
