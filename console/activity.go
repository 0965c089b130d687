package console

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/countersign-proxy/countersign/audit"
)

const (
	keptLines  = 500 // for pages that are opened later
	shownLines = 100 // on a page, and at once in a stream
)

// activity keeps the latest entries of the record. A page that was shown, or whose
// stream broke off, goes on where it was: each entry has a mark, which is random, so
// that marks do not tell how many entries there are that one may not see.
type activity struct {
	feed *audit.Subscription
	done chan struct{}

	mu      sync.Mutex
	entries []marked      // a ring once it is full
	oldest  int           // index into entries
	news    chan struct{} // closed at the next entry; nil: nobody waits
}

type marked struct {
	audit.Entry
	mark string
}

func newActivity(log *audit.Log) *activity {
	a := &activity{feed: log.Subscribe(1024), done: make(chan struct{})}
	go func() {
		defer close(a.done)
		for e := range a.feed.C {
			a.keep(e)
		}
	}()
	return a
}

func (a *activity) keep(e audit.Entry) {
	m := marked{e, strconv.FormatUint(rand.Uint64(), 36)}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.news != nil {
		close(a.news)
		a.news = nil
	}
	if len(a.entries) < keptLines {
		a.entries = append(a.entries, m)
		return
	}
	a.entries[a.oldest] = m
	a.oldest = (a.oldest + 1) % keptLines
}

func (a *activity) close() {
	a.feed.Close()
	<-a.done
}

// since returns the latest lines after a mark that a person may see, newest first; the
// mark to go on from; and what is closed when there is more. A mark that is not known
// (any more) is before everything.
func (a *activity) since(mark string, p *person) (lines []line, next string, news <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.news == nil {
		a.news = make(chan struct{})
	}
	next = mark
	for i := range a.entries {
		e := &a.entries[(a.oldest+len(a.entries)-1-i)%len(a.entries)]
		if e.mark == mark {
			break
		}
		if i == 0 {
			next = e.mark
		}
		if visible(e.Entry, p) {
			l := lineOf(e.Entry)
			l.mark = e.mark
			if lines = append(lines, l); len(lines) == shownLines {
				break
			}
		}
	}
	return lines, next, a.news
}

// line is an entry as the page shows it. Everything in it may come from a client.
type line struct {
	Time      string `json:"time"`  // RFC 3339
	Clock     string `json:"clock"` // UTC
	Who       string `json:"who"`
	Role      string `json:"role"`
	Call      string `json:"call"`
	Where     string `json:"where"`
	Resource  string `json:"resource"`
	Decision  string `json:"decision"`
	Denied    bool   `json:"denied"`
	Reason    string `json:"reason"`
	Advice    string `json:"advice"`
	Statement string `json:"statement"`

	mark string
}

func lineOf(e audit.Entry) line {
	l := line{
		Time: e.Time.UTC().Format(time.RFC3339), Clock: e.Time.UTC().Format("15:04:05"), Who: cmp.Or(e.Identity, "unknown"), Role: e.Role,
		Where: cmp.Or(e.Region, e.Host), Decision: string(e.Decision), Denied: e.Decision != audit.Allow, Reason: e.Reason,
	}
	if e.Service == "console" {
		l.Where = e.Region // the host is the page's own
	}
	switch {
	case e.Operation != "":
		l.Call = strings.TrimPrefix(e.Service+":"+e.Operation, ":")
	default:
		l.Call = strings.TrimSpace(e.Method + " " + e.Host)
	}
	if len(e.Resources) > 0 {
		l.Resource = strings.TrimPrefix(e.Resources[0], "https://") // of a console's page
		if more := len(e.Resources) - 1; more > 0 {
			l.Resource += fmt.Sprintf(" (+%d)", more)
		}
	}
	if l.Denied {
		l.Statement, l.Advice = remedy(e)
	}
	return l
}

// remedy says what would let a denied call pass: a statement where one would, or in
// words what stands against it.
func remedy(e audit.Entry) (text, advice string) {
	decider := strings.TrimSpace(e.Policy + " " + e.Statement)
	switch e.Reason {
	case "implicit deny":
		return allowing(e), "No statement allows this. One that would:"
	case "boundary":
		return allowing(e), "The identity's boundary does not allow this. A statement of the boundary that would:"
	case "explicit deny", "possible deny":
		return "", "A Deny applies (" + cmp.Or(decider, "policy not named") + "). No Allow helps against it: change that statement."
	case "unknown call":
		return "", "The call was not understood, so only an Allow of Action * on Resource * without conditions lets it pass."
	case "read only":
		return "", "The role is read_only, and this call changes something."
	case "region":
		return "", "The role's regions do not have this one."
	case "service":
		return "", "The role's services do not have this one."
	}
	return "", e.Error
}

// allowing is the statement that allows what an entry names, and no more.
func allowing(e audit.Entry) string {
	actions, resources := whole(e.Actions), whole(e.Resources)
	if len(actions) == 0 {
		return ""
	}
	if len(resources) == 0 {
		resources = []string{"*"}
	}
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if encoder.Encode(struct {
		Effect   string
		Action   any
		Resource any
	}{"Allow", oneOrMany(actions), oneOrMany(escapeWildcards(resources))}) != nil {
		return ""
	}
	return strings.TrimSpace(b.String())
}

// whole leaves out what is not a name: the mark of a list that was cut.
func whole(list []string) []string {
	var out []string
	for _, s := range list {
		if s != "" && !strings.HasPrefix(s, "…") && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// escapeWildcards keeps a resource whose name holds * ? or $ from allowing more than
// itself: "IAM JSON policy elements: Variables and tags" has ${*}, ${?} and ${$}. An
// ARN that is a pattern as a whole stays one.
func escapeWildcards(resources []string) []string {
	out := make([]string, len(resources))
	for i, r := range resources {
		out[i] = r
		if r != "*" && strings.HasPrefix(r, "arn:") && !strings.HasSuffix(r, "*") {
			out[i] = wildcards.Replace(r)
		}
	}
	return out
}

var wildcards = strings.NewReplacer("*", "${*}", "?", "${?}", "$", "${$}")

func oneOrMany(list []string) any {
	if len(list) == 1 {
		return list[0]
	}
	return list
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// untilWhen is a time of day, with the day where it is not today's.
func untilWhen(t, now time.Time) string {
	t, now = t.UTC(), now.UTC()
	if t.YearDay() == now.YearDay() && t.Year() == now.Year() {
		return t.Format("15:04 UTC")
	}
	return t.Format("2 Jan 15:04 UTC")
}
