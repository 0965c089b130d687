package main

import (
	"fmt"
	"strings"
	"sync"

	"github.com/countersign-proxy/countersign/awsapi"
	"github.com/countersign-proxy/countersign/policy"
)

// learner keeps what the calls of a run needed. Equal calls are kept once, and
// at most maxLearned different ones.
type learner struct {
	mu    sync.Mutex
	seen  []policy.Observation
	known map[string]bool
	full  bool
}

const maxLearned = 200_000

// observe is called for each call that passes.
func (l *learner) observe(c *awsapi.Call) {
	o := policy.Observe(c)
	key := keyOf(c)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known[key] {
		return
	}
	if len(l.seen) >= maxLearned {
		l.full = true
		return
	}
	if l.known == nil {
		l.known = make(map[string]bool)
	}
	l.known[key] = true
	l.seen = append(l.seen, o)
}

// keyOf tells calls apart by what they need.
func keyOf(c *awsapi.Call) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s %q", c.Service, c.Operation, c.Region, c.Unknown)
	for _, n := range c.Needs {
		fmt.Fprintf(&b, "\n%s %q %t %q", n.Action, n.Resources, n.ResourceUnknown, n.Conditions)
	}
	return b.String()
}

// lesson is what was learned.
func (l *learner) lesson() policy.Lesson {
	l.mu.Lock()
	defer l.mu.Unlock()
	lesson := policy.Learn(l.seen, policy.LearnOptions{})
	if l.full {
		lesson.Report.Notes = append(lesson.Report.Notes, "there were more different calls than can be kept; the policy may lack some")
	}
	return lesson
}
