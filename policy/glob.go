package policy

import (
	"strings"
	"unicode/utf8"
)

// Wildcards in compiled text. Neither byte occurs in UTF-8, so no character of a
// policy and no substituted value can be taken for one of them.
const (
	star     = 0xFF // any run of characters, also none
	question = 0xFE // exactly one character
	segStar  = 0xFD // like star, but never a colon
)

// glob is compiled wildcard text with what makes a mismatch cheap to see.
type glob struct {
	text   string
	prefix string // text before the first wildcard
	exact  bool   // no wildcard at all
}

func newGlob(compiled string) glob {
	for i := 0; i < len(compiled); i++ {
		if compiled[i] >= segStar {
			return glob{text: compiled, prefix: compiled[:i]}
		}
	}
	return glob{text: compiled, prefix: compiled, exact: true}
}

// compileWildcards turns * and ? of plain text into wildcard bytes.
func compileWildcards(s string) string {
	if !strings.ContainsAny(s, "*?") {
		return s
	}
	b := []byte(s)
	for i, c := range b {
		switch c {
		case '*':
			b[i] = star
		case '?':
			b[i] = question
		}
	}
	return string(b)
}

func (g *glob) all() bool { return g.text == "\xff" }

func (g *glob) match(s string) bool {
	if g.exact {
		return g.text == s
	}
	if len(s) < len(g.prefix) || s[:len(g.prefix)] != g.prefix {
		return false
	}
	if len(g.text) == len(g.prefix)+1 && g.text[len(g.prefix)] == star {
		return true
	}
	return match(g.text[len(g.prefix):], s[len(g.prefix):])
}

// match reports whether the compiled pattern (without segStar) matches all of s.
// It goes back to the last star only, which is enough, and takes O(len(p)·len(s))
// steps at worst.
func match(p, s string) bool {
	pi, si := 0, 0
	back, mark := -1, 0
	for si < len(s) {
		if pi < len(p) {
			switch p[pi] {
			case star:
				for pi++; pi < len(p) && p[pi] == star; pi++ {
				}
				if pi == len(p) {
					return true
				}
				if p[pi] < segStar { // nothing can match before that byte occurs
					next := strings.IndexByte(s[si:], p[pi])
					if next < 0 {
						return false
					}
					si += next
				}
				back, mark = pi-1, si
				continue
			case question:
				pi++
				si += size(s[si:])
				continue
			case s[si]:
				pi++
				si++
				continue
			}
		}
		if back < 0 {
			return false
		}
		mark += size(s[mark:])
		if c := p[back+1]; c < segStar {
			next := strings.IndexByte(s[mark:], c)
			if next < 0 {
				return false
			}
			mark += next
		}
		pi, si = back+1, mark
	}
	for pi < len(p) && p[pi] == star {
		pi++
	}
	return pi == len(p)
}

func size(s string) int {
	if s[0] < utf8.RuneSelf {
		return 1
	}
	_, n := utf8.DecodeRuneInString(s)
	return n
}

// overlapLimit bounds the memory of overlap; past it the answer is "maybe",
// which every caller takes for the less trusting side.
const overlapLimit = 4 << 20

// overlap reports whether some text may match both compiled patterns. It walks
// the product of the two automata.
func overlap(left, right string) bool {
	a, b := tokens(left), tokens(right)
	if (len(a)+1)*(len(b)+1) > overlapLimit {
		return true
	}
	seen := make([]bool, (len(a)+1)*(len(b)+1))
	var walk func(i, j int) bool
	walk = func(i, j int) bool {
		at := i*(len(b)+1) + j
		if seen[at] {
			return false
		}
		seen[at] = true
		if i == len(a) && j == len(b) {
			return true
		}
		aStar := i < len(a) && a[i] == -star
		bStar := j < len(b) && b[j] == -star
		if aStar && walk(i+1, j) || bStar && walk(i, j+1) {
			return true
		}
		if i == len(a) || j == len(b) || a[i] >= 0 && b[j] >= 0 && a[i] != b[j] {
			return false
		}
		if !aStar {
			i++
		}
		if !bStar {
			j++
		}
		return walk(i, j)
	}
	return walk(0, 0)
}

// tokens turns compiled text into characters, wildcards as negative numbers.
func tokens(s string) []rune {
	out := make([]rune, 0, len(s))
	for i := 0; i < len(s); {
		if s[i] >= segStar {
			t := rune(s[i])
			if t == segStar {
				t = star
			}
			out = append(out, -t)
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		out = append(out, r)
		i += n
	}
	return out
}

func isStar(c byte) bool { return c == star || c == segStar }

// covers reports whether every text that b matches is matched by a as well. It
// may say false for patterns that do cover, never true for patterns that do not:
// b's wildcards are taken for characters of their own, of which a question mark of a
// takes no star.
func covers(a, b string) bool {
	ai, bi := 0, 0
	back, mark := -1, 0
	for bi < len(b) {
		if ai < len(a) {
			switch {
			case a[ai] == star:
				ai++
				if ai == len(a) {
					return true
				}
				back, mark = ai, bi
				continue
			case a[ai] == question && !isStar(b[bi]):
				ai++
				bi += size(b[bi:])
				continue
			case a[ai] == b[bi]:
				ai++
				bi++
				continue
			}
		}
		if back < 0 {
			return false
		}
		mark += size(b[mark:])
		ai, bi = back, mark
	}
	for ai < len(a) && a[ai] == star {
		ai++
	}
	return ai == len(a)
}

// apart reports, cheaply, that no text can match both patterns, because they begin
// differently; false when that does not tell.
func apart(a, b string) bool {
	for i := 0; i < len(a) && i < len(b); i++ {
		if a[i] >= segStar || b[i] >= segStar {
			return false
		}
		if a[i] != b[i] {
			return true
		}
	}
	return false
}

// matchSegments is match for patterns that hold segStar.
func matchSegments(p, s string) bool {
	now := make([]bool, len(p)+1)
	next := make([]bool, len(p)+1)
	now[0] = true
	closure := func(set []bool) {
		for i := 0; i < len(p); i++ {
			if set[i] && isStar(p[i]) {
				set[i+1] = true
			}
		}
	}
	closure(now)
	for len(s) > 0 {
		n := size(s)
		clear(next)
		for i := 0; i < len(p); i++ {
			if !now[i] {
				continue
			}
			switch {
			case p[i] == star, p[i] == segStar && s[0] != ':':
				next[i] = true
			case p[i] == question:
				next[i+1] = true
			case strings.HasPrefix(p[i:], s[:n]):
				next[i+n] = true
			}
		}
		closure(next)
		now, next = next, now
		s = s[n:]
	}
	return now[len(p)]
}
