package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/countersign-proxy/countersign/words"
)

// Problem is one thing that is wrong with the configuration.
type Problem struct {
	File      string // as given; "" when it is not in the file
	Line, Col int    // from 1; 0: the file as a whole
	Var       string // environment variable or flag, when that is the place
	Key       string // such as roles.deploy.arn; "" when it is about no key
	Message   string // what is wrong; what was expected
}

// Error returns "file:line:col: key: message", or "VARIABLE: key: message".
func (p Problem) Error() string {
	var b strings.Builder
	switch {
	case p.Var != "":
		b.WriteString(p.Var + ": ")
	case p.File != "" && p.Line > 0:
		fmt.Fprintf(&b, "%s:%d:%d: ", p.File, p.Line, p.Col)
	case p.File != "":
		b.WriteString(p.File + ": ")
	}
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// Problems is the error of Load: everything that is wrong, in the order of the
// file, then of the variables.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns each problem as an error.
func (ps Problems) Unwrap() []error {
	errs := make([]error, len(ps))
	for i, p := range ps {
		errs[i] = p
	}
	return errs
}

// sorted returns ps in order and without repeats.
func (ps Problems) sorted() Problems {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(a.Var, b.Var), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col),
			cmp.Compare(a.Key, b.Key), cmp.Compare(a.Message, b.Message))
	})
	return slices.Compact(ps)
}

// quote shows a value in a message: cut where it is long, and with the middle
// of a real access key id left out.
func quote(s string) string {
	for _, prefix := range []string{"AKIA", "ASIA"} {
		if i := strings.Index(s, prefix); i >= 0 && len(s)-i >= 16 {
			s = s[:i+4] + "…" + s[len(s)-4:]
		}
	}
	if r := []rune(s); len(r) > 80 {
		s = string(r[:60]) + "…"
	}
	return fmt.Sprintf("%q", s)
}

// nearest returns the candidate that word most probably means, or "".
func nearest(word string, candidates []string) string {
	return words.Nearest(word, candidates, max(1, len(word)/3))
}
