package words

import (
	"strings"
	"testing"
	"time"
)

func TestNearest(t *testing.T) {
	actions := []string{"PutObject", "GetObject", "GetObjectAcl", "ListBucket"}
	for _, tt := range []struct {
		name, word string
		candidates []string
		limit      int
		want       string
	}{
		{"the word itself", "GetObject", actions, 0, "GetObject"},
		{"another case", "getOBJECT", actions, 0, "GetObject"},
		{"a letter too many", "GettObject", actions, 1, "GetObject"},
		{"a letter missing", "ListBuket", actions, 1, "ListBucket"},
		{"another letter", "ListBusket", actions, 1, "ListBucket"},
		{"neighbours swapped", "PutOjbect", actions, 1, "PutObject"},
		{"as far as the limit", "ListBuckets2", actions, 2, "ListBucket"},
		{"over the limit", "ListBuckets2", actions, 1, ""},
		{"the nearest of several", "GetObjectAc", actions, 3, "GetObjectAcl"},
		{"of equals the first by the alphabet", "bat", []string{"cat", "bad", "bar"}, 1, "bad"},
		{"an empty word", "", actions, 3, ""},
		{"no candidates", "x", nil, 3, ""},
		{"no distance allowed", "x", []string{"y"}, 0, ""},
		{"less than none", "x", []string{"x"}, -1, ""},
		{"as long as a word may be", strings.Repeat("x", 128), []string{strings.Repeat("x", 129)}, 1, strings.Repeat("x", 129)},
		{"longer", strings.Repeat("x", 129), []string{strings.Repeat("x", 129)}, 1, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Nearest(tt.word, tt.candidates, tt.limit); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	if actions[0] != "PutObject" {
		t.Error("the caller's list was sorted")
	}
}

func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b        string
		bound, want int
	}{
		{"", "", 9, 0}, {"", "abc", 9, 3}, {"abc", "", 9, 3},
		{"kitten", "sitting", 9, 3}, {"sitting", "kitten", 9, 3},
		{"ab", "ba", 9, 1}, {"abcd", "badc", 9, 2},
		{"ca", "abc", 9, 3}, // no letter is changed twice
		{"kitten", "sitting", 3, 3}, {"kitten", "sitting", 2, 2}, {"a", "abcdef", 4, 4},
	} {
		if got := distance(tt.a, tt.b, tt.bound); got != tt.want {
			t.Errorf("%q and %q within %d: got %d, want %d", tt.a, tt.b, tt.bound, got, tt.want)
		}
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                                   "0s",
		90 * time.Second:                    "1m30s",
		10 * time.Second:                    "10s",
		10 * time.Minute:                    "10m",
		time.Hour:                           "1h",
		36 * time.Hour:                      "36h",
		time.Hour + 30*time.Minute:          "1h30m",
		time.Hour + 5*time.Second:           "1h0m5s",
		100*time.Minute + 1*time.Nanosecond: "1h40m0.000000001s",
		-10 * time.Hour:                     "-10h",
		1500 * time.Millisecond:             "1.5s",
	} {
		if got := Duration(d); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
}
