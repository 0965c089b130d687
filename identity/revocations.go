package identity

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/countersign-proxy/countersign/safefile"
)

const (
	// maxRevocationsFile bounds what is read of the file, in bytes.
	maxRevocationsFile = 16 << 20
	// revocationsCheck is how often the file's state is asked for; a change takes
	// effect within this time.
	revocationsCheck = 250 * time.Millisecond
	// settling is how long after a change the file is read again at each check: a
	// second change within the file system's time stamp resolution looks like none.
	settling = 2 * time.Second
)

// Revocation takes client credentials back. Exactly one of ID, Identity, or Before
// without the others, or Identity with Before, is set:
//
//	ID               the credentials with this access key id, and what was derived from them
//	Identity         every credential of the identity, the static ones too
//	Identity, Before every credential of the identity issued before the time, the static ones too
//	Before           every minted credential issued before the time
type Revocation struct {
	ID       string     `json:"id,omitempty"`
	Identity string     `json:"identity,omitempty"`
	Before   *time.Time `json:"before,omitempty"`
	// For the reader of the file.
	At   time.Time `json:"at,omitzero"`
	By   string    `json:"by,omitempty"`
	Note string    `json:"note,omitempty"`
	// Until is when the last of the credentials has expired by itself; the entry
	// is dropped when the file is next written after that. Nil: never.
	Until *time.Time `json:"until,omitempty"`
}

// Revocations reads a file of revocations, one JSON object a line, and reads it
// again when it changes: a lookup asks for the file's state at most four times a
// second, so a change takes effect within a second and there is no goroutine to
// stop.
//
// It fails closed. While the file cannot be read or understood, or has vanished
// after it was seen, every lookup is refused with a message that says so. A file
// that never existed means that nothing was revoked.
//
// A nil *Revocations revokes nothing. It is safe for concurrent use.
type Revocations struct {
	path string

	state   atomic.Pointer[revocationState]
	checked atomic.Int64 // nanoseconds of the last check, by the callers' clock
	mu      sync.Mutex   // one reader of the file at a time
}

// revocationState is one reading of the file.
type revocationState struct {
	info       os.FileInfo // nil: there was no file
	readAt     time.Time
	err        error
	ids        map[string]bool
	identities map[string]time.Time // issued before; the zero time is "always"
	before     time.Time            // minted credentials issued before
}

// OpenRevocations reads the file for the first time. That the file is damaged is
// not an error here: lookups are refused until it is mended.
func OpenRevocations(path string) (*Revocations, error) {
	if path == "" {
		return nil, errors.New("identity: the revocations file needs a path")
	}
	r := &Revocations{path: path}
	r.state.Store(&revocationState{})
	r.reload(time.Now())
	r.checked.Store(0) // the callers' clock may be another one: check at the first lookup
	return r, nil
}

// ready brings the state up to date and says whether it can be relied on.
func (r *Revocations) ready(now time.Time) error {
	if r == nil {
		return nil
	}
	// A clock that went back counts as time passed.
	if since := now.UnixNano() - r.checked.Load(); since < 0 || since >= int64(revocationsCheck) {
		// Whoever finds another at it uses what is there; the first reading is
		// done by OpenRevocations.
		if r.mu.TryLock() {
			r.reloadLocked(now)
			r.mu.Unlock()
		}
	}
	return r.state.Load().err
}

func (r *Revocations) reload(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reloadLocked(now)
}

func (r *Revocations) reloadLocked(now time.Time) {
	defer r.checked.Store(now.UnixNano())
	last := r.state.Load()
	info, err := os.Stat(r.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if last.info != nil {
			next := *last
			next.err = fmt.Errorf("the revocations file %s has vanished: restore it, or put an empty file there if nothing is to be revoked", r.path)
			r.state.Store(&next)
		}
		return
	case err != nil:
		next := *last
		next.err = fmt.Errorf("the revocations file cannot be read: %w", err)
		r.state.Store(&next)
		return
	}
	if last.info != nil && last.err == nil && os.SameFile(last.info, info) && last.info.Size() == info.Size() &&
		last.info.ModTime().Equal(info.ModTime()) && last.readAt.Sub(info.ModTime()) > settling {
		return
	}
	next, err := readRevocations(r.path)
	if err != nil {
		damaged := *last
		damaged.info = info
		damaged.err = fmt.Errorf("the revocations file %s is damaged: %w", r.path, err)
		r.state.Store(&damaged)
		return
	}
	next.readAt = time.Now()
	r.state.Store(next)
}

func readRevocations(path string) (*revocationState, error) {
	f, info, err := safefile.Open(path, safefile.Trusted)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list, err := parseRevocations(f)
	if err != nil {
		return nil, err
	}
	state := &revocationState{
		info:       info,
		ids:        make(map[string]bool),
		identities: make(map[string]time.Time),
	}
	for _, e := range list {
		switch {
		case e.ID != "":
			state.ids[e.ID] = true
		case e.Identity != "":
			before := time.Time{}
			if e.Before != nil {
				before = *e.Before
			}
			if old, ok := state.identities[e.Identity]; !ok || before.IsZero() || (!old.IsZero() && before.After(old)) {
				state.identities[e.Identity] = before
			}
		case e.Before.After(state.before):
			state.before = *e.Before
		}
	}
	return state, nil
}

// parseRevocations reads every entry or fails with the number of the line. An
// entry with an unknown key is refused: it may mean more than is understood here.
func parseRevocations(src io.Reader) ([]Revocation, error) {
	limited := &io.LimitedReader{R: src, N: maxRevocationsFile + 1}
	scanner := bufio.NewScanner(limited)
	scanner.Buffer(make([]byte, 0, 4096), 64<<10)
	var list []Revocation
	line := 0
	for scanner.Scan() {
		line++
		text := bytes.TrimSpace(scanner.Bytes())
		if len(text) == 0 {
			continue
		}
		var e Revocation
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		if err := d.Decode(&e); err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("line %d: more than one JSON object", line)
		}
		if err := e.check(); err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		list = append(list, e)
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", line+1, err)
	}
	if limited.N == 0 {
		return nil, fmt.Errorf("it is longer than %d bytes", maxRevocationsFile)
	}
	return list, nil
}

func (e Revocation) check() error {
	switch {
	case e.ID != "" && (e.Identity != "" || e.Before != nil):
		return errors.New("id stands alone, without identity or before")
	case e.ID == "" && e.Identity == "" && e.Before == nil:
		return errors.New("expected id, identity or before")
	case e.Before != nil && e.Before.IsZero():
		return errors.New("before is the zero time")
	}
	return nil
}

// revoked says whether a grant was taken back. Call ready first.
func (r *Revocations) revoked(g Grant) bool {
	if r == nil {
		return false
	}
	s := r.state.Load()
	if s.ids[g.AccessKeyID] {
		return true
	}
	for _, p := range g.Parents {
		if s.ids[p] {
			return true
		}
	}
	if before, ok := s.identities[g.Identity.Name]; ok && (before.IsZero() || g.Issued.Before(before)) {
		return true
	}
	return !g.Static() && g.Issued.Before(s.before)
}

// Revoke adds entries to the file at path, which it replaces as a whole (0600);
// readers see the old file or the new one. Entries whose Until has passed are
// dropped. A file that cannot be understood is left alone and is an error.
// Processes that revoke at the same time take turns by a lock beside the file.
func Revoke(path string, now time.Time, entries ...Revocation) error {
	for _, e := range entries {
		if err := e.check(); err != nil {
			return fmt.Errorf("identity: revoke: %w", err)
		}
	}
	unlock, err := lockFile(path + ".lock")
	if err != nil {
		return fmt.Errorf("identity: revoke: %w", err)
	}
	defer unlock()
	var list []Revocation
	f, _, err := safefile.Open(path, safefile.Any)
	switch {
	case err == nil:
		list, err = parseRevocations(f)
		f.Close()
		if err != nil {
			return fmt.Errorf("identity: revoke: %s is damaged, so it was left alone: %w", path, err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("identity: revoke: %w", err)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	for _, e := range append(list, entries...) {
		if e.Until != nil && e.Until.Before(now) {
			continue
		}
		if e.At.IsZero() {
			e.At = now.UTC().Truncate(time.Second)
		}
		if err := enc.Encode(e); err != nil {
			return fmt.Errorf("identity: revoke: %w", err)
		}
	}
	if out.Len() > maxRevocationsFile {
		return fmt.Errorf("identity: revoke: %s would grow over %d bytes: replace old entries by one with \"before\"", path, maxRevocationsFile)
	}
	if err := safefile.Write(path, out.Bytes(), 0o600); err != nil {
		return fmt.Errorf("identity: revoke: %w", err)
	}
	return nil
}
