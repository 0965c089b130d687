package audit

import (
	"sync"
	"sync/atomic"
)

// Subscription receives entries as they are recorded, cut and masked as in
// their lines. It never slows the record down: what does not fit its buffer is
// dropped and counted.
type Subscription struct {
	// C is closed by Close and when the log is closed.
	C <-chan Entry

	c       chan Entry
	dropped atomic.Uint64
	subs    *subscribers
}

// Subscribe begins to receive entries; buffer (at least 1) bounds how many wait.
// Call Close when done.
func (l *Log) Subscribe(buffer int) *Subscription {
	c := make(chan Entry, max(buffer, 1))
	s := &Subscription{C: c, c: c, subs: &l.subs}
	l.subs.add(s)
	return s
}

// Dropped returns how many entries did not fit.
func (s *Subscription) Dropped() uint64 { return s.dropped.Load() }

// Close ends the subscription. It may be called more than once.
func (s *Subscription) Close() { s.subs.remove(s) }

type subscribers struct {
	n      atomic.Int32 // so that nobody listening costs nothing
	mu     sync.Mutex
	set    map[*Subscription]struct{}
	closed bool
}

func (s *subscribers) add(sub *Subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		close(sub.c)
		return
	}
	if s.set == nil {
		s.set = map[*Subscription]struct{}{}
	}
	s.set[sub] = struct{}{}
	s.n.Add(1)
}

func (s *subscribers) remove(sub *Subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.set[sub]; ok {
		delete(s.set, sub)
		s.n.Add(-1)
		close(sub.c)
	}
}

func (s *subscribers) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for sub := range s.set {
		close(sub.c)
	}
	s.set = nil
	s.n.Store(0)
}

func (s *subscribers) publish(e Entry) {
	if s.n.Load() == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for sub := range s.set {
		select {
		case sub.c <- e:
		default:
			sub.dropped.Add(1)
		}
	}
}
