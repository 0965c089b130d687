package policy

import (
	"sort"
	"strings"
)

// nearest returns the candidate with the least edit distance to a lower-case
// word, if that is at most limit and less than half of the word; "" otherwise.
func nearest(word string, candidates []string, limit int) string {
	candidates = append([]string(nil), candidates...)
	sort.Strings(candidates)
	best, least := "", min(limit, len(word)/2)+1
	for _, c := range candidates {
		if d := distance(word, strings.ToLower(c), least); d < least {
			best, least = c, d
		}
	}
	return best
}

// distance counts insertions, deletions, substitutions and swaps of neighbours; it
// gives up at bound.
func distance(a, b string, bound int) int {
	if d := len(a) - len(b); d >= bound || -d >= bound {
		return bound
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		least := i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
			least = min(least, row[j])
		}
		if least >= bound {
			return bound
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
