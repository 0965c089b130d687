package console

import (
	"fmt"
	"slices"
	"testing"

	"github.com/countersign-proxy/countersign/audit"
	"github.com/countersign-proxy/countersign/identity"
)

// The latest entries are shown, newest first, before and after the ring is full.
func TestActivityKeepsTheLatest(t *testing.T) {
	for _, written := range []int{0, 1, shownLines + 1, keptLines, keptLines + 1, 2*keptLines + 7} {
		t.Run(fmt.Sprint(written), func(t *testing.T) {
			a := &activity{}
			for i := range written {
				a.keep(audit.Entry{Identity: "ann", Service: "s3", Operation: fmt.Sprint(i)})
			}
			got, _, _ := a.since("", &person{Identity: identity.Identity{Name: "ann"}})
			if want := min(written, shownLines); len(got) != want {
				t.Fatalf("%d lines are shown, want %d", len(got), want)
			}
			for i, l := range got {
				if want := fmt.Sprintf("s3:%d", written-1-i); l.Call != want {
					t.Fatalf("line %d is %s, want %s", i, l.Call, want)
				}
			}
		})
	}
}

// A stream goes on where the page before it, or the stream that broke off, was.
func TestActivitySinceAMark(t *testing.T) {
	a := &activity{}
	ann := &person{Identity: identity.Identity{Name: "ann"}}
	n := 0
	write := func(names ...string) {
		for _, name := range names {
			n++
			a.keep(audit.Entry{Identity: name, Service: "s3", Operation: fmt.Sprint(n)})
		}
	}
	check := func(mark string, want ...string) (next string, news <-chan struct{}) {
		t.Helper()
		lines, next, news := a.since(mark, ann)
		var got []string
		for _, l := range lines {
			got = append(got, l.Call)
		}
		if !slices.Equal(got, want) {
			t.Errorf("since %q: %q, want %q", mark, got, want)
		}
		return next, news
	}
	mark, news := check("")
	write("ann", "bob")
	<-news
	mark, news = check(mark, "s3:1")
	check(mark)
	write("bob") // is nothing to ann, who goes on from it all the same
	<-news
	mark, _ = check(mark)
	write("ann", "ann")
	last, _ := check(mark, "s3:5", "s3:4")
	check(last)
	check("of another process", "s3:5", "s3:4", "s3:1")
	for range keptLines {
		write("bob")
	}
	write("ann")
	check(mark, fmt.Sprintf("s3:%d", n)) // which is forgotten
}
