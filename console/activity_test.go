package console

import (
	"fmt"
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
			got := a.recent(&person{Identity: identity.Identity{Name: "ann"}})
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
