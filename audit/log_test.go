package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// sinkhole is a writer that can be made to fail or to write less than it gets.
type sinkhole struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	err   error
	cut   int // with err: how many bytes are written before it
	tries int
}

func (s *sinkhole) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tries++
	if s.err == nil {
		return s.buf.Write(p)
	}
	n := min(s.cut, len(p))
	s.cut -= n
	s.buf.Write(p[:n])
	return n, s.err
}

func (s *sinkhole) fail(err error, cut int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err, s.cut = err, cut
}

func (s *sinkhole) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

func open(t *testing.T, o Options) *Log {
	t.Helper()
	if o.Retry == 0 {
		o.Retry = time.Millisecond
	}
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close(context.Background()) })
	return l
}

func numbered(i int) Entry {
	e := sample()
	e.RequestID = fmt.Sprint(i)
	return e
}

// eventually waits for what another goroutine does.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it never happened: " + what)
		}
	}
}

// ids returns the request ids of a log, and the lines that are damaged.
func ids(t *testing.T, log string) (got []string, damaged int) {
	t.Helper()
	for e, err := range Lines(strings.NewReader(log)) {
		if err != nil {
			damaged++
			continue
		}
		got = append(got, e.RequestID)
	}
	return got, damaged
}

func TestFailingSinkRefusesKeepsAndRecovers(t *testing.T) {
	for name, c := range map[string]struct {
		err     error
		cut     int
		damaged int
	}{
		"full":                      {syscall.ENOSPC, 0, 0},
		"reader gone":               {syscall.EPIPE, 0, 0},
		"cut in the line":           {syscall.ENOSPC, 100, 1},
		"fails only the next time":  {syscall.ENOSPC, len(numbered(0).AppendJSON(nil)) + 1, 0},
		"cut just before its end":   {syscall.ENOSPC, len(numbered(0).AppendJSON(nil)), 0},
		"short without saying why":  {nil, 0, 0},
		"cut in the line, silently": {nil, 10, 1},
	} {
		t.Run(name, func(t *testing.T) {
			sink := &sinkhole{}
			l := open(t, Options{Writer: sink, Required: true})
			// Two requests are under way when the sink fails.
			first, err := l.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			second, err := l.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			fault := c.err
			if fault == nil {
				fault = io.ErrShortWrite
			}
			sink.fail(fault, c.cut)
			first.Finish(numbered(0))
			eventually(t, "the failure is noticed", func() bool { return l.Ready() != nil || c.cut > 0 && l.Stats().Written > 0 })
			second.Finish(numbered(1))
			eventually(t, "the failure is noticed", func() bool { return l.Ready() != nil })
			var ue *UnavailableError
			if err := l.Ready(); !errors.As(err, &ue) || !errors.Is(err, fault) {
				t.Errorf("ready: %v", err)
			}
			if p, err := l.Begin(t.Context()); err == nil || p != nil {
				t.Error("a line was reserved")
			}
			if err := l.Write(numbered(2)); err != nil { // of the request that was refused
				t.Error(err)
			}
			sink.fail(nil, 0)
			eventually(t, "it recovers by itself", func() bool { return l.Ready() == nil })
			third, err := l.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			third.Finish(numbered(3))
			if err := l.Close(t.Context()); err != nil {
				t.Error(err)
			}
			got, damaged := ids(t, sink.text())
			// A line that lacked nothing but its newline is whole, and comes again.
			want := "[0 1 2 3]"
			if name == "cut just before its end" {
				want = "[0 0 1 2 3]"
			}
			if fmt.Sprint(got) != want || damaged != c.damaged {
				t.Errorf("%v, %d damaged:\n%s", got, damaged, sink.text())
			}
			if s := l.Stats(); s.Lost != 0 || s.Written != 4 || s.Waiting != 0 || s.Reserved != 0 || s.Failures == 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestNotRequiredNeverRefuses(t *testing.T) {
	sink := &sinkhole{err: syscall.ENOSPC}
	l := open(t, Options{Writer: sink})
	for i := range 3 {
		p, err := l.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		p.Finish(numbered(i))
		eventually(t, "the failure is noticed", func() bool { return l.Ready() != nil })
	}
	err := l.Close(t.Context())
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "3 lines are not written") {
		t.Error(err)
	}
	if s := l.Stats(); s.Lost != 3 || s.Written != 0 {
		t.Errorf("%+v", s)
	}
}

func TestSlots(t *testing.T) {
	l := open(t, Options{Writer: &sinkhole{}, Required: true, Slots: 2, Stall: time.Millisecond})
	a, err := l.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Begin(t.Context()); !errors.Is(err, ErrSlots) {
		t.Error(err)
	}
	if err := l.Write(numbered(1)); err != nil {
		t.Errorf("a line without reservation does not need a slot of theirs: %v", err)
	}
	a.Finish(numbered(2))
	a.Finish(numbered(3)) // once is enough
	eventually(t, "the lines are written", func() bool { return l.Stats().Waiting == 0 })
	c, err := l.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.Finish(numbered(4))
	c.Finish(numbered(5))
	eventually(t, "all is written", func() bool { return l.Stats() == Stats{Written: 4} })
}

func TestLinesThatFindNoRoomAreCountedAndReservedOnesKept(t *testing.T) {
	sink := &sinkhole{err: syscall.ENOSPC}
	l := open(t, Options{Writer: sink, Slots: 3, Stall: time.Millisecond})
	p, err := l.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lost := 0
	for i := range 10 {
		if l.Write(numbered(i)) != nil {
			lost++
		}
	}
	if lost != 7 {
		t.Errorf("%d lines were lost", lost)
	}
	p.Finish(numbered(99))
	sink.fail(nil, 0)
	eventually(t, "it recovers", func() bool { return l.Stats().Waiting == 0 })
	if got, _ := ids(t, sink.text()); fmt.Sprint(got) != "[0 1 2 99]" {
		t.Error(got)
	}
	if s := l.Stats(); s.Lost != 7 || s.Written != 4 {
		t.Errorf("%+v", s)
	}
}

func TestConcurrentWritersLoseNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	l := open(t, Options{Path: path, Required: true, MaxSize: 64 << 10})
	const writers, lines = 16, 200
	var wg sync.WaitGroup
	for w := range writers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range lines {
				if i%50 == 0 {
					if err := l.Reopen(); err != nil {
						t.Error(err)
					}
				}
				p, err := l.Begin(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				p.Finish(numbered(w*lines + i))
			}
		}()
	}
	wg.Wait()
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	files, err := backupsOf(path)
	if err != nil || len(files) < 10 {
		t.Fatalf("%d backups, %v", len(files), err)
	}
	seen := map[string]bool{}
	for _, f := range append(files, path) {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > 64<<10+1 {
			t.Errorf("%s has %d bytes", f, len(b))
		}
		got, damaged := ids(t, string(b))
		if damaged > 0 {
			t.Errorf("%s: %d damaged lines", f, damaged)
		}
		for _, id := range got {
			if seen[id] {
				t.Errorf("%s is there twice", id)
			}
			seen[id] = true
		}
	}
	if len(seen) != writers*lines {
		t.Errorf("%d of %d lines", len(seen), writers*lines)
	}
}

func TestFileIsPrivateAndAppendedTo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	for i := range 2 {
		l := open(t, Options{Path: path})
		if err := l.Write(numbered(i)); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	b, _ := os.ReadFile(path)
	if got, damaged := ids(t, string(b)); fmt.Sprint(got) != "[0 1]" || damaged != 0 {
		t.Error(got, damaged)
	}
}

// What a crash left behind must not swallow the first line after it.
func TestHalfALineOfAnEarlierRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	if err := os.WriteFile(path, []byte(`{"time":"2026-03-`), 0o600); err != nil {
		t.Fatal(err)
	}
	l := open(t, Options{Path: path})
	_ = l.Write(numbered(1))
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	b, _ := os.ReadFile(path)
	if got, damaged := ids(t, string(b)); fmt.Sprint(got) != "[1]" || damaged != 1 {
		t.Errorf("%s", b)
	}
}

func TestReopenAfterLogrotate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	l := open(t, Options{Path: path})
	_ = l.Write(numbered(1))
	eventually(t, "the line is written", func() bool { return l.Stats().Written == 1 })
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	_ = l.Write(numbered(2)) // still to the old file
	eventually(t, "the line is written", func() bool { return l.Stats().Written == 2 })
	if err := l.Reopen(); err != nil {
		t.Fatal(err)
	}
	_ = l.Write(numbered(3))
	eventually(t, "the line is written", func() bool { return l.Stats().Written == 3 })

	// Where the path cannot be opened the old file stays.
	if err := os.Rename(path, path+".2"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := l.Reopen(); err == nil {
		t.Error("a directory was opened")
	}
	_ = l.Write(numbered(4))
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.Reopen(); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	for file, want := range map[string]string{path + ".1": "[1 2]", path + ".2": "[3 4]"} {
		b, _ := os.ReadFile(file)
		if got, _ := ids(t, string(b)); fmt.Sprint(got) != want {
			t.Errorf("%s: %v", file, got)
		}
	}
}

func TestRotationKeepsTheNewestBackups(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.log")
	for _, other := range []string{"audit-notes.log", "audit-20260101T000000.000.txt", "other-20200101T000000.000.log"} {
		if err := os.WriteFile(filepath.Join(dir, other), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	clock := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) // stands still: names must differ all the same
	l := open(t, Options{Path: path, MaxSize: 1, Backups: 2, Now: func() time.Time { return clock }})
	for i := range 5 {
		_ = l.Write(numbered(i))
		eventually(t, "the line is written", func() bool { return l.Stats().Written == uint64(i+1) })
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 3+3 {
		t.Errorf("%v %v", entries, err)
	}
	b, _ := os.ReadFile(path)
	if got, _ := ids(t, string(b)); fmt.Sprint(got) != "[4]" {
		t.Error(got)
	}
}

func TestOpenFails(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{filepath.Join(dir, "none", "audit.log"), dir} {
		if l, err := Open(Options{Path: path}); err == nil {
			l.Close(t.Context())
			t.Errorf("%s was opened", path)
		}
	}
	if _, err := Open(Options{Path: filepath.Join(dir, "none", "audit.log")}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestAfterClose(t *testing.T) {
	l := open(t, Options{Writer: &sinkhole{}, Required: true})
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	if err := l.Write(sample()); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if _, err := l.Begin(t.Context()); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if l.Stats().Lost != 1 {
		t.Errorf("%+v", l.Stats())
	}
}

// blockedWriter takes nothing until it is released.
// A file that is looked at may be closed meanwhile, because another one has taken its
// place. That one counts, and no request is refused for the first.
func TestCheckWhileTheFileIsReplaced(t *testing.T) {
	dir := t.TempDir()
	first, err := os.Create(filepath.Join(dir, "first"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := os.Create(filepath.Join(dir, "second"))
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	looks := 0
	if err := checkPresent(func() *os.File {
		if looks++; looks == 1 {
			return first
		}
		return second
	}, 1); err != nil {
		t.Errorf("the file that took its place: %v", err)
	}
	if err := checkPresent(func() *os.File { return first }, 1); err == nil {
		t.Error("nothing is wrong with a closed file")
	}
}

type blockedWriter struct {
	entered chan struct{}
	release chan struct{}
}

func (b *blockedWriter) Write(p []byte) (int, error) {
	b.entered <- struct{}{}
	<-b.release
	return len(p), nil
}

func TestWriteThatHangsIsAFailure(t *testing.T) {
	w := &blockedWriter{make(chan struct{}, 8), make(chan struct{})}
	var mu sync.Mutex
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	l := open(t, Options{Writer: w, Required: true, Now: clock, Stall: time.Second})
	_ = l.Write(numbered(1))
	<-w.entered
	if err := l.Ready(); err != nil {
		t.Errorf("at once: %v", err)
	}
	mu.Lock()
	now = now.Add(time.Second)
	mu.Unlock()
	if _, err := l.Begin(t.Context()); !errors.Is(err, ErrBlocked) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Close(ctx); !errors.Is(err, ErrBlocked) || !strings.Contains(err.Error(), "1 lines") {
		t.Error(err)
	}
	close(w.release)
	if err := l.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestSubscribe(t *testing.T) {
	l := open(t, Options{Writer: &sinkhole{}})
	slow, fast := l.Subscribe(0), l.Subscribe(10)
	for i := range 4 {
		e := numbered(i)
		e.Error = "ASIAIOSFODNN7EXAMPLE"
		_ = l.Write(e)
	}
	if got := (<-slow.C).RequestID; got != "0" || slow.Dropped() != 3 || fast.Dropped() != 0 {
		t.Error(got, slow.Dropped(), fast.Dropped())
	}
	slow.Close()
	slow.Close()
	if _, ok := <-slow.C; ok {
		t.Error("an entry after Close")
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := 0
	for e := range fast.C {
		if e.Error != "ASIA…MPLE" {
			t.Error("a real key id was passed on: " + e.Error)
		}
		n++
	}
	if n != 4 {
		t.Errorf("%d entries", n)
	}
	fast.Close()
	if _, ok := <-l.Subscribe(1).C; ok {
		t.Error("an entry of a log that is closed")
	}
}

func BenchmarkAppendJSON(b *testing.B) {
	e := sample()
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		buf = e.AppendJSON(buf[:0])
	}
}

func BenchmarkBeginFinish(b *testing.B) {
	for name, o := range map[string]Options{
		"file":    {Path: filepath.Join(b.TempDir(), "audit.log")},
		"discard": {Writer: io.Discard},
	} {
		b.Run(name, func(b *testing.B) {
			o.Required = true
			l, err := Open(o)
			if err != nil {
				b.Fatal(err)
			}
			e := sample()
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					p, err := l.Begin(context.Background())
					if err != nil {
						b.Error(err)
						return
					}
					p.Finish(e)
				}
			})
			if err := l.Close(context.Background()); err != nil {
				b.Fatal(err)
			}
			if s := l.Stats(); s.Lost != 0 {
				b.Fatalf("%+v", s)
			}
		})
	}
}
