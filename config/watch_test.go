package config

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// watching runs Watch over files until the test ends; each change arrives in
// the channel.
func watching(t *testing.T, o WatchOptions, next func() []string, files ...string) <-chan struct{} {
	t.Helper()
	changes := make(chan struct{}, 16)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	started := make(chan struct{})
	o.ready = func() { close(started) }
	go func() {
		done <- Watch(ctx, files, o, func() []string {
			changes <- struct{}{}
			if next != nil {
				return next()
			}
			return nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-started
	return changes
}

func expectChange(t *testing.T, changes <-chan struct{}) {
	t.Helper()
	select {
	case <-changes:
	case <-time.After(30 * time.Second):
		t.Fatal("the change was not noticed")
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// noPoll makes sure that it was the notification that told.
var noPoll = WatchOptions{Debounce: 10 * time.Millisecond, Poll: time.Hour}

func TestWatchWriteInPlace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	write(t, path, "a")
	changes := watching(t, noPoll, nil, path)
	write(t, path, "b")
	expectChange(t, changes)
	write(t, path, "c")
	expectChange(t, changes)
}

func TestWatchEditorRename(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "c.yaml")
	write(t, path, "a")
	changes := watching(t, noPoll, nil, path)
	for _, content := range []string{"b", "c"} { // the second time too: not the file that was there is watched
		write(t, path+".tmp", content)
		if err := os.Rename(path+".tmp", path); err != nil {
			t.Fatal(err)
		}
		expectChange(t, changes)
	}
}

func TestWatchRemovedAndMade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	changes := watching(t, noPoll, nil, path)
	write(t, path, "a")
	expectChange(t, changes)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	expectChange(t, changes)
}

// A mounted ConfigMap: c.yaml -> ..data/c.yaml, ..data -> ..1, and an update
// renames a new ..data over the old one.
func TestWatchKubernetesDataSwap(t *testing.T) {
	dir := t.TempDir()
	version := func(n, content string) {
		if err := os.Mkdir(filepath.Join(dir, n), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, n, "c.yaml"), content)
		if err := os.Symlink(n, filepath.Join(dir, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	version("..1", "a")
	path := filepath.Join(dir, "c.yaml")
	if err := os.Symlink("..data/c.yaml", path); err != nil {
		t.Fatal(err)
	}
	changes := watching(t, noPoll, nil, path)
	version("..2", "b")
	if err := os.RemoveAll(filepath.Join(dir, "..1")); err != nil {
		t.Fatal(err)
	}
	expectChange(t, changes)
	version("..3", "c")
	expectChange(t, changes)
}

func TestWatchTargetOfALink(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	target, path := filepath.Join(elsewhere, "real.yaml"), filepath.Join(dir, "c.yaml")
	write(t, target, "a")
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
	changes := watching(t, noPoll, nil, path)
	write(t, target, "b")
	expectChange(t, changes)
}

func TestWatchFollowsTheFilesOfTheNewConfiguration(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	first, second := filepath.Join(dir, "c.yaml"), filepath.Join(other, "policy.json")
	write(t, first, "a")
	write(t, second, "a")
	changes := watching(t, noPoll, func() []string { return []string{second} }, first)
	write(t, first, "b")
	expectChange(t, changes)
	expectChange(t, changes) // the new file: it may have changed since it was loaded
	write(t, second, "b")
	expectChange(t, changes)
}

// The same content once more, and neighbours, are no change: a sentinel that is
// one proves that nothing was reported before it.
func TestWatchIgnoresWhatIsNoChange(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "c.yaml")
	write(t, path, "a")
	changes := watching(t, noPoll, nil, path)
	for range 20 {
		write(t, filepath.Join(dir, "neighbour"), "x")
		write(t, path+".tmp", "a")
		if err := os.Rename(path+".tmp", path); err != nil {
			t.Fatal(err)
		}
	}
	write(t, path+".tmp", "b")
	if err := os.Rename(path+".tmp", path); err != nil {
		t.Fatal(err)
	}
	expectChange(t, changes)
	if n := len(changes); n != 0 {
		t.Errorf("%d more changes were reported", n)
	}
}

func TestWatchPollsWhereNothingTells(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "not", "yet")
	path := filepath.Join(missing, "c.yaml")
	changes := watching(t, WatchOptions{Poll: 5 * time.Millisecond}, nil, path)
	if err := os.MkdirAll(missing, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, path, "a")
	expectChange(t, changes)
}

func TestWatchAsksForTheFiles(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	first, second := filepath.Join(dir, "c.yaml"), filepath.Join(other, "policy.json")
	write(t, first, "a")
	write(t, second, "a")
	loaded := make(chan struct{})
	o := noPoll
	o.Files = func() []string {
		select {
		case <-loaded:
			return []string{first, second}
		default:
			return []string{first}
		}
	}
	changes := watching(t, o, nil, first)
	write(t, first, "b")
	expectChange(t, changes)
	close(loaded) // the new configuration is in force only now
	write(t, first, "c")
	expectChange(t, changes)
	write(t, second, "b")
	expectChange(t, changes)
}
