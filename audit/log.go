// Package audit keeps the record: one request, one line.
//
// A Log writes entries to a file or to standard output and says whether it can
// take more. The traps it is built around:
//
//   - A record that is written after the deed can fail after the deed. So a
//     caller first reserves a line with Begin, which refuses while the sink is
//     failing or full, and only then does what is to be recorded.
//   - A line that could not be written is kept and written again, so that a
//     full disk costs no line of a request that was under way.
//   - A write that was cut short leaves half a line. The next write begins
//     with a newline, so that it damages no other line, and the line that was
//     cut is written once more, whole.
//   - Text in a line comes from clients. It is escaped so that it can neither
//     begin a line of its own nor move the cursor of whoever reads the file.
package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Options says where and how the record is kept. The zero value writes to
// standard output and requires nothing.
type Options struct {
	// Path is the file; "-" or "" is standard output. A file is created 0600,
	// appended to, and never truncated. A named pipe needs a reader.
	Path string
	// Required makes Begin refuse while the record cannot be written.
	Required bool

	// MaxSize is the size in bytes at which the file is renamed to
	// NAME-TIME.EXT and begun anew; 0: never (leave it to logrotate and Reopen).
	// Only for files that no other process writes.
	MaxSize int64
	// Backups is how many renamed files are kept; 0: all.
	Backups int

	// Slots is how many lines may be reserved or waiting; default 16384.
	Slots int
	// Stall is how long a full sink, such as a pipe whose reader lags, is
	// waited for before it counts as failing; default 1 s.
	Stall time.Duration
	// Retry is the pause between attempts while the sink is failing; default 250 ms.
	Retry time.Duration

	// Writer is written to instead of Path. It is never closed.
	Writer io.Writer
	// Now is the clock; default time.Now.
	Now func() time.Time
}

// maxQueue bounds the bytes of lines that wait without having been reserved.
const maxQueue = 64 << 20

// maxWrite bounds one write to the sink, so that rotation by size is near its mark.
const maxWrite = 64 << 10

// UnavailableError says that the record cannot be written now, and since when.
type UnavailableError struct {
	Sink  string // path, or "standard output"
	Since time.Time
	Err   error
}

func (e *UnavailableError) Error() string {
	return fmt.Sprintf("the audit record cannot be written to %s: %v (nothing is signed while it is required; it recovers by itself once writing works again)", e.Sink, e.Err)
}

// Unwrap returns the cause, such as syscall.ENOSPC.
func (e *UnavailableError) Unwrap() error { return e.Err }

// Causes of an UnavailableError that are not errors of the operating system.
var (
	ErrClosed  = errors.New("the log is closed")
	ErrBlocked = errors.New("its reader does not keep up")
	ErrFull    = errors.New("there is no room left")
	ErrSlots   = errors.New("too many requests are waiting for their line")
)

// Log is an open record. Its methods may be called concurrently. It runs one
// goroutine until Close.
//
// Entries are encoded by the caller and written by that one goroutine, which
// takes all that wait in one write. A synchronous write would let a slow disk
// or a reader that has stopped hold requests open, and would cost a system call
// each; a line lives in memory for some microseconds instead. What keeps the
// promise is not the moment of the write but the reservation before the deed:
// see Begin.
type Log struct {
	opt  Options
	name string
	sink sink

	wake   chan struct{}
	reopen chan chan error
	stop   chan struct{}
	done   chan struct{}
	once   sync.Once

	begun   atomic.Int64 // reserved, not finished
	writing atomic.Int64 // when the write that is under way began, ns; 0: none
	failing atomic.Pointer[UnavailableError]

	mu     sync.Mutex
	queue  []byte // whole lines that wait
	queued int    // their number, and that of the lines which the goroutine holds
	closed bool

	written, lost, failures atomic.Uint64

	subs subscribers
}

// Open opens the record. It fails where there is nothing to write to: a
// directory that is missing, a file that may not be written. A sink that is
// merely full is no reason to fail here; Ready says so, until it has room.
func Open(opt Options) (*Log, error) {
	if opt.Slots <= 0 {
		opt.Slots = 16384
	}
	if opt.Stall <= 0 {
		opt.Stall = time.Second
	}
	if opt.Retry <= 0 {
		opt.Retry = 250 * time.Millisecond
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	l := &Log{
		opt:    opt,
		wake:   make(chan struct{}, 1),
		reopen: make(chan chan error),
		stop:   make(chan struct{}),
		done:   make(chan struct{}),
	}
	switch {
	case opt.Writer != nil:
		l.name, l.sink = "the given writer", &writerSink{w: opt.Writer}
	case opt.Path == "" || opt.Path == "-":
		s, err := openStdout()
		if err != nil {
			return nil, fmt.Errorf("open the audit record on standard output: %w", err)
		}
		l.name, l.sink = "standard output", s
	default:
		s, err := openFile(opt)
		if err != nil {
			return nil, fmt.Errorf("open the audit record: %w", err)
		}
		l.name, l.sink = opt.Path, s
	}
	go l.run()
	return l, nil
}

// Ready returns nil when a line can be written now, else an *UnavailableError.
// It never waits. It looks at what the last write said, and at the sink itself:
// room on the file system, a pipe with a reader and with room.
func (l *Log) Ready() error {
	if err := l.failing.Load(); err != nil {
		return err
	}
	l.mu.Lock()
	queued, closed := l.queued, l.closed
	l.mu.Unlock()
	now := l.opt.Now()
	if closed {
		return &UnavailableError{l.name, now, ErrClosed}
	}
	if since := l.writing.Load(); since != 0 && now.Sub(time.Unix(0, since)) >= l.opt.Stall {
		return &UnavailableError{l.name, time.Unix(0, since), ErrBlocked}
	}
	lines := l.begun.Load() + int64(queued)
	if lines >= int64(l.opt.Slots) {
		return &UnavailableError{l.name, now, ErrSlots}
	}
	// A usual line is well below 4 KiB; one of full length must fit in any case.
	if err := l.sink.check((lines+1)*(4<<10) + MaxLine); err != nil {
		return &UnavailableError{l.name, now, err}
	}
	return nil
}

// Pending is a line that was reserved.
type Pending struct {
	l    *Log
	done atomic.Bool
}

// Begin reserves a line for a request whose outcome is still to come. Where
// the record is required it returns an *UnavailableError while the sink is
// failing or full, and then the request must not be signed. A sink that is full
// for a moment only is waited for, up to Options.Stall or the end of ctx.
//
// The reservation is a place in memory: Finish never blocks, and its line is
// never dropped while the process lives; if the sink fails in between, the line
// waits for it, and Begin refuses all others until it has been written. Writing
// a first line ahead of the deed would survive even a crash in between, but it
// would make two lines of one request. As many lines as Options.Slots can be
// reserved, which bounds the memory.
//
// Where the record is not required Begin always succeeds.
func (l *Log) Begin(ctx context.Context) (*Pending, error) {
	if l.opt.Required {
		if err := l.wait(ctx); err != nil {
			return nil, err
		}
	}
	l.begun.Add(1)
	return &Pending{l: l}, nil
}

// wait is Ready, with patience for a sink or a queue that is full for a moment.
func (l *Log) wait(ctx context.Context) error {
	err := l.Ready()
	if err == nil || !(errors.Is(err, ErrFull) || errors.Is(err, ErrSlots)) {
		return err
	}
	end := time.NewTimer(l.opt.Stall)
	defer end.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return err
		case <-end.C:
			return err
		case <-tick.C:
			if err = l.Ready(); err == nil || !(errors.Is(err, ErrFull) || errors.Is(err, ErrSlots)) {
				return err
			}
		}
	}
}

// Finish writes the line. Calls after the first do nothing.
func (p *Pending) Finish(e Entry) {
	if p.done.Swap(true) {
		return
	}
	_ = p.l.add(e, true)
	p.l.begun.Add(-1)
}

// Write writes a line that was not reserved: of a request that was refused, of
// a tunnel that was closed. It waits for room as Begin does. Its error means
// that the line is lost; Stats counts those.
func (l *Log) Write(e Entry) error { return l.add(e, false) }

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 1<<10); return &b }}

func (l *Log) add(e Entry, reserved bool) error {
	e = e.clean()
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	line := append(e.appendClean((*buf)[:0]), '\n')
	*buf = line
	l.subs.publish(e)

	var end time.Time
	for {
		l.mu.Lock()
		if l.closed {
			l.mu.Unlock()
			l.lost.Add(1)
			return &UnavailableError{l.name, l.opt.Now(), ErrClosed}
		}
		if reserved || l.queued < l.opt.Slots && len(l.queue) < maxQueue {
			l.queue = append(l.queue, line...)
			l.queued++
			l.mu.Unlock()
			select {
			case l.wake <- struct{}{}:
			default:
			}
			return nil
		}
		l.mu.Unlock()
		switch now := time.Now(); {
		case end.IsZero():
			end = now.Add(l.opt.Stall)
		case now.After(end) || l.failing.Load() != nil:
			l.lost.Add(1)
			return &UnavailableError{l.name, l.opt.Now(), ErrSlots}
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// run is the one goroutine that touches the sink's bytes.
func (l *Log) run() {
	defer close(l.done)
	var held, spare []byte // whole lines taken from the queue; an empty buffer
	retry := time.NewTimer(time.Hour)
	retry.Stop()
	defer retry.Stop()
	for {
		stopping := false
		select {
		case <-l.wake:
			if l.failing.Load() != nil {
				continue // what failed is held, and the timer runs
			}
		case <-retry.C:
		case answer := <-l.reopen:
			answer <- l.sink.reopen()
			if l.failing.Load() == nil {
				continue
			}
		case <-l.stop:
			stopping = true
		}
		for {
			if len(held) == 0 {
				held, spare = l.take(spare[:0]), held
			}
			if len(held) == 0 {
				break
			}
			rest, err := l.flush(held)
			held = append(held[:0], rest...)
			if err != nil {
				retry.Reset(l.opt.Retry)
				break
			}
		}
		if cap(held) > 1<<20 && len(held) == 0 {
			held = nil // a burst is over
		}
		if stopping {
			if len(held) > 0 { // failing: what is held and what still waits is lost
				held = append(held, l.take(nil)...)
			}
			l.lost.Add(uint64(bytes.Count(held, newline)))
			return
		}
	}
}

var newline = []byte{'\n'}

// take returns the lines that wait, and leaves buf for those to come.
func (l *Log) take(buf []byte) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.queue
	l.queue = buf
	return lines
}

// flush writes whole lines and returns those that are still to be written.
func (l *Log) flush(lines []byte) (rest []byte, err error) {
	for len(lines) > 0 {
		part := lines
		if len(part) > maxWrite {
			if i := bytes.LastIndexByte(part[:maxWrite], '\n'); i >= 0 {
				part = part[:i+1]
			}
		}
		l.writing.Store(l.opt.Now().UnixNano())
		n, err := l.sink.write(part)
		l.writing.Store(0)
		whole := bytes.LastIndexByte(part[:n], '\n') + 1
		count := bytes.Count(part[:whole], newline)
		l.written.Add(uint64(count))
		l.mu.Lock()
		l.queued -= count
		l.mu.Unlock()
		lines = lines[whole:]
		if err != nil {
			l.failures.Add(1)
			since := l.opt.Now()
			if old := l.failing.Load(); old != nil {
				since = old.Since
			}
			l.failing.Store(&UnavailableError{l.name, since, err})
			return lines, err
		}
		l.failing.Store(nil)
	}
	return nil, nil
}

// Reopen closes the file and opens its path again, as logrotate asks for after
// it has renamed it. On failure the old file stays in use. It does nothing for
// standard output.
func (l *Log) Reopen() error {
	answer := make(chan error, 1)
	timeout := time.NewTimer(l.opt.Stall)
	defer timeout.Stop()
	select {
	case l.reopen <- answer:
		return <-answer
	case <-l.done:
		return &UnavailableError{l.name, l.opt.Now(), ErrClosed}
	case <-timeout.C:
		return &UnavailableError{l.name, l.opt.Now(), ErrBlocked}
	}
}

// Close writes what waits and closes the sink. Call it after the last request:
// lines that come later are lost, and counted. Its error says how many lines
// could not be written; a sink that blocks is waited for as long as ctx allows.
func (l *Log) Close(ctx context.Context) error {
	l.once.Do(func() {
		l.mu.Lock()
		l.closed = true
		l.mu.Unlock()
		close(l.stop)
	})
	select {
	case <-l.done:
	case <-ctx.Done():
		l.mu.Lock()
		queued := l.queued
		l.mu.Unlock()
		return fmt.Errorf("close the audit record: %d lines are not written: %w", queued, &UnavailableError{l.name, l.opt.Now(), ErrBlocked})
	}
	l.subs.close()
	err := l.sink.close()
	if failing := l.failing.Load(); failing != nil {
		l.mu.Lock()
		queued := l.queued
		l.mu.Unlock()
		return fmt.Errorf("close the audit record: %d lines are not written: %w", queued, failing)
	}
	return err
}

// Stats is what a Log has done so far.
type Stats struct {
	Written  uint64 // lines
	Lost     uint64 // lines that could be neither written nor kept
	Failures uint64 // writes that failed; their lines were kept
	Waiting  int    // lines that wait now
	Reserved int    // lines that are reserved now
}

// Stats returns the counts so far.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Stats{l.written.Load(), l.lost.Load(), l.failures.Load(), l.queued, int(l.begun.Load())}
}
