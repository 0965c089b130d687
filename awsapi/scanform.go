package awsapi

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// form is a decoded query string or form body, in order.
type form struct {
	pairs []formPair
	index map[string]int // the first of a name
	twice []string       // names of a query string that occur more than once
}

type formPair struct {
	key, value string
	plus       bool // the value held a raw "+", which readers take as "+" or as a space
}

// parseForm decodes name=value pairs. A "+" is a space in a form body; in a
// query string it is marked instead. A name that occurs twice in a body is an error,
// since services differ in which one they take; in a query string REST calls write
// lists that way, and whoever reads it must look at twice.
func parseForm(s string, body bool) (*form, error) {
	f := &form{index: make(map[string]int)}
	for s != "" {
		var pair string
		pair, s, _ = strings.Cut(s, "&")
		if pair == "" {
			continue
		}
		if strings.Contains(pair, ";") {
			return nil, errors.New("it has a \";\", which some take for a separator")
		}
		rawKey, rawValue, _ := strings.Cut(pair, "=")
		key, err := unescape(rawKey, true)
		if err != nil {
			return nil, err
		}
		value, err := unescape(rawValue, body)
		if err != nil {
			return nil, err
		}
		switch _, twice := f.index[key]; {
		case twice && body:
			return nil, parameterTwice(key)
		case twice:
			f.twice = append(f.twice, key)
		default:
			f.index[key] = len(f.pairs)
		}
		if len(f.pairs) == maxPairs {
			return nil, errMany
		}
		f.pairs = append(f.pairs, formPair{key, value, !body && strings.Contains(rawValue, "+")})
	}
	return f, nil
}

// maxPairs bounds the parameters of a form. In memory each takes many times the bytes
// that it has on the wire. CloudWatch, whose calls have the most, takes a megabyte of
// them: some twenty thousand.
const maxPairs = 100_000

func parameterTwice(name string) error {
	return ambiguous("the parameter %.64q occurs twice", name)
}

// once is an error where a name occurs more than once.
func (f *form) once() error {
	if len(f.twice) > 0 {
		return parameterTwice(f.twice[0])
	}
	return nil
}

// get returns a value, and whether the name is there.
func (f *form) get(key string) (string, bool) {
	if f == nil {
		return "", false
	}
	i, ok := f.index[key]
	if !ok {
		return "", false
	}
	return f.pairs[i].value, true
}

// unescape decodes percent escapes, strictly.
func unescape(s string, plus bool) (string, error) {
	if !strings.ContainsAny(s, "%+") {
		if !utf8.ValidString(s) {
			return "", errors.New("it is not UTF-8")
		}
		return s, nil
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '%':
			if i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2]) {
				return "", errors.New("it has a malformed percent escape")
			}
			b = append(b, unhex(s[i+1])<<4|unhex(s[i+2]))
			i += 2
		case c == '+' && plus:
			b = append(b, ' ')
		default:
			b = append(b, c)
		}
	}
	if !utf8.Valid(b) {
		return "", errors.New("it is not UTF-8")
	}
	return string(b), nil
}

func unhex(c byte) byte {
	switch {
	case isDigit(c):
		return c - '0'
	case c >= 'a':
		return c - 'a' + 10
	}
	return c - 'A' + 10
}

// scanForm finds the values of a plan among the parameters of a query call.
// In the plan's paths "#" stands for a number.
func scanForm(params *form, p *plan) *found {
	f := newFound(p)
	squashed := make([]string, len(params.pairs)) // names in lower case, without numbers
	lists := make([]struct{ top, form string }, len(params.pairs))
	for i, pair := range params.pairs {
		squashed[i] = strings.ToLower(squash(pair.key))
		lists[i].top, lists[i].form = listForm(pair.key)
	}
	for leaf, path := range p.paths {
		like := strings.ToLower(squash(path))
		if !strings.Contains(path, "#") {
			if i, ok := params.index[path]; ok {
				f.add(leaf, params.pairs[i].value)
				f.odd[leaf] = params.pairs[i].plus
			}
			for i, pair := range params.pairs {
				// Services tell names of another case apart, as far as is known.
				f.odd[leaf] = f.odd[leaf] || len(pair.key) == len(path) && squashed[i] == like && pair.key != path && strings.EqualFold(pair.key, path)
			}
			continue
		}
		top, form := listForm(path)
		for i, pair := range params.pairs {
			// Some services take a list in each of the forms that the protocol has had
			// ("Tags.Tag.1", "Tags.member.1", "Tags.1"); SDKs write one of them.
			if l := lists[i]; l.form != "" && l.form != form && strings.EqualFold(l.top, top) ||
				squashed[i] == like && squash(path) != squash(pair.key) {
				f.odd[leaf] = true
			}
		}
		if _, isKey := p.pairs[leaf]; isKey {
			continue
		}
		if isValueOfPair(p, leaf) {
			continue
		}
		for i, pair := range params.pairs {
			if squashed[i] != like {
				continue
			}
			if _, ok := matchNumbered(path, pair.key); ok {
				f.add(leaf, pair.value)
				f.odd[leaf] = f.odd[leaf] || pair.plus
			}
		}
		// An empty list is sent as a bare name.
		if i, ok := params.index[strings.TrimSuffix(strings.TrimSuffix(path, ".#"), ".member")]; ok && params.pairs[i].value != "" {
			f.odd[leaf] = true
		}
	}
	for k, v := range p.pairs {
		like := strings.ToLower(squash(p.paths[k]))
		for i, pair := range params.pairs {
			if squashed[i] != like {
				continue
			}
			numbers, ok := matchNumbered(p.paths[k], pair.key)
			if !ok {
				continue
			}
			value, _ := params.get(fillNumbers(p.paths[v], numbers))
			f.add(k, pair.value)
			f.add(v, value)
			f.odd[k] = f.odd[k] || pair.plus
		}
	}
	return f
}

// listForm returns the member of a parameter's name, and how it writes a list there:
// "#" for MEMBER.1, "member.#" for MEMBER.member.1, "" for neither.
func listForm(name string) (top, form string) {
	top, rest, _ := strings.Cut(name, ".")
	if after, ok := strings.CutPrefix(rest, "member."); ok {
		rest, form = after, "member."
	}
	if rest == "" || rest[0] != '#' && !isDigit(rest[0]) {
		return top, ""
	}
	return top, form + "#"
}

func isValueOfPair(p *plan, leaf int) bool {
	for _, v := range p.pairs {
		if v == leaf {
			return true
		}
	}
	return false
}

// matchNumbered matches a parameter's name with a path that has "#" for
// numbers, and returns the numbers.
func matchNumbered(path, key string) ([]string, bool) {
	var numbers []string
	for {
		i := strings.IndexByte(path, '#')
		if i < 0 {
			return numbers, path == key
		}
		if !strings.HasPrefix(key, path[:i]) {
			return nil, false
		}
		path, key = path[i+1:], key[i:]
		n := 0
		for n < len(key) && isDigit(key[n]) {
			n++
		}
		if n == 0 {
			return nil, false
		}
		numbers = append(numbers, key[:n])
		key = key[n:]
	}
}

func fillNumbers(path string, numbers []string) string {
	for _, n := range numbers {
		path = strings.Replace(path, "#", n, 1)
	}
	return path
}

// squash removes numbers, so that names can be compared without them.
func squash(s string) string {
	return strings.Map(func(r rune) rune {
		if '0' <= r && r <= '9' || r == '#' {
			return -1
		}
		return r
	}, s)
}
