package config

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// WatchOptions tunes Watch. The zero value is the documented default.
type WatchOptions struct {
	Debounce time.Duration // quiet time after a change before it is reported; default 200 ms
	Poll     time.Duration // how often files are looked at without being told; default 10 s
	// Files returns the files to watch, whenever it is time to look; nil: those
	// given to Watch or returned by onChange. It is for a caller that loads the
	// configuration some time after onChange has returned.
	Files func() []string

	ready func() // called when watching has begun, for tests
}

// Watch calls onChange after the content of any of the files has changed, been
// made or been removed, until ctx ends. Changes that follow each other are
// reported once. onChange returns the files to watch from then on (nil: the
// same), and is never called twice at a time.
//
// Directories are watched and not files: an editor replaces a file by renaming
// another over it, and Kubernetes swaps a link called ..data beside a mounted
// file; both leave a watch on the file itself behind. Of a symbolic link every
// hop is watched. File systems that tell nothing (NFS, some container mounts),
// and directories that do not exist yet, are covered by polling.
func Watch(ctx context.Context, files []string, o WatchOptions, onChange func() []string) error {
	if o.Debounce <= 0 {
		o.Debounce = 200 * time.Millisecond
	}
	if o.Poll <= 0 {
		o.Poll = 10 * time.Second
	}
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch the configuration: %w", err)
	}
	defer w.Close()
	follow(w, files)
	seen := fingerprints(files)
	if o.ready != nil {
		o.ready()
	}
	poll := time.NewTicker(o.Poll)
	defer poll.Stop()
	quiet := time.NewTimer(time.Hour)
	quiet.Stop()
	defer quiet.Stop()
	waiting := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-w.Events:
			if !ok {
				return errors.New("watch the configuration: the watcher stopped")
			}
			// Whatever happens in these directories, the fingerprints tell
			// whether it was about our files. A busy neighbour must not put
			// the look at them off for good, so the timer is not set anew.
			if !waiting {
				waiting = true
				quiet.Reset(o.Debounce)
			}
			continue
		case <-w.Errors: // such as an overflow: look
		case <-poll.C:
		case <-quiet.C:
			waiting = false
		}
		if o.Files != nil {
			files = o.Files()
			seen = renew(seen, files)
		}
		follow(w, files)
		now := fingerprints(files)
		if maps.Equal(now, seen) {
			continue
		}
		seen = now
		if next := onChange(); next != nil {
			files = next
			follow(w, files)
			seen = renew(seen, files)
		}
		if !waiting {
			waiting = true
			quiet.Reset(o.Debounce)
		}
	}
}

// renew returns the fingerprints to compare with when the files are others: a
// file that was there keeps its own, so that what has changed since is found by
// the next look. A new one has none yet and so counts as changed once, since
// nobody knows what it held when it was loaded.
func renew(seen map[string]string, files []string) map[string]string {
	m := make(map[string]string, len(files))
	for _, f := range files {
		m[f] = seen[f]
	}
	return m
}

// follow makes w watch the directories of the files and of what they link to,
// and no others.
func follow(w *fsnotify.Watcher, files []string) {
	want := map[string]bool{}
	for _, f := range files {
		for range 16 { // hops
			want[filepath.Dir(f)] = true
			// A directory on the way may be a link itself (..data).
			if real, err := filepath.EvalSymlinks(filepath.Dir(f)); err == nil {
				want[real] = true
			}
			target, err := os.Readlink(f)
			if err != nil {
				break
			}
			if !filepath.IsAbs(target) {
				target = filepath.Join(filepath.Dir(f), target)
			}
			f = target
		}
	}
	for _, dir := range w.WatchList() {
		if !want[dir] {
			_ = w.Remove(dir)
		}
	}
	have := w.WatchList()
	for dir := range want {
		if !slices.Contains(have, dir) {
			_ = w.Add(dir) // what cannot be watched is polled
		}
	}
}

// fingerprints returns what tells one content of each file from another.
func fingerprints(files []string) map[string]string {
	m := make(map[string]string, len(files))
	for _, f := range files {
		m[f] = fingerprint(f)
	}
	return m
}

func fingerprint(path string) string {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return "missing"
	case !info.Mode().IsRegular():
		return "no file"
	case info.Size() > maxFile: // too large to be read each time
		return fmt.Sprint(info.Mode(), info.Size(), info.ModTime().UnixNano())
	}
	f, err := os.Open(path)
	if err != nil {
		return "unreadable"
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, io.LimitReader(f, maxFile)); err != nil {
		return "unreadable"
	}
	return fmt.Sprintf("%v %x", info.Mode(), h.Sum(nil))
}
