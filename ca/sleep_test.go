package ca

import (
	"strings"
	"testing"
	"time"
)

// On Linux the monotonic clock stands still while the machine sleeps. A time that
// has a reading of it is compared by it with others that have one: a leaf of last
// night would be served in the morning, expired.
func TestLeavesEndByTheWallClock(t *testing.T) {
	for name, clock := range map[string]func() time.Time{"the machine's": nil, "given": time.Now} {
		a, err := New(Options{Suffixes: []string{"amazonaws.com"}, Now: clock})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Certificate("s3.amazonaws.com"); err != nil {
			t.Fatal(err)
		}
		l, ok := a.leaves.Get("s3.amazonaws.com")
		if !ok || strings.Contains(l.until.String(), " m=") || strings.Contains(a.options.now().String(), " m=") {
			t.Errorf("%s clock: served until %s", name, l.until)
		}
	}
}
