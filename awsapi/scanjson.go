package awsapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxDepth bounds the nesting of bodies. No AWS operation comes near it.
const maxDepth = 256

var errDeep = errors.New("it is nested too deeply")

// scanJSON finds the values of a plan in a JSON document. It is stricter than
// RFC 8259 where readers differ: a member that the plan asks for may occur
// once only, and not in another spelling (upper or lower case) either.
func scanJSON(body []byte, p *plan) (*found, error) {
	f := newFound(p)
	s := jsonScanner{b: body, f: f}
	s.space()
	if s.i == len(body) {
		return f, nil // SDKs send nothing for an empty structure
	}
	if !utf8.Valid(body) {
		return nil, errors.New("it is not UTF-8")
	}
	if body[s.i] != '{' {
		return nil, errors.New("it is not a JSON object")
	}
	if err := s.value(p.root, 0); err != nil {
		return nil, err
	}
	s.space()
	if s.i != len(body) {
		return nil, s.unexpected()
	}
	return f.whole()
}

type jsonScanner struct {
	b []byte
	i int
	f *found
}

func (s *jsonScanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\r', '\n':
			s.i++
		default:
			return
		}
	}
}

func (s *jsonScanner) unexpected() error {
	if s.i >= len(s.b) {
		return errors.New("the JSON ends too early")
	}
	return fmt.Errorf("the JSON has an unexpected character at byte %d", s.i)
}

// value reads one value at a place; n is nil where nothing is asked for.
func (s *jsonScanner) value(n *node, depth int) error {
	if depth > maxDepth {
		return errDeep
	}
	if s.i >= len(s.b) {
		return s.unexpected()
	}
	switch c := s.b[s.i]; c {
	case '{':
		return s.object(n, depth)
	case '[':
		return s.array(n, depth)
	case '"':
		raw, escaped, err := s.str()
		if err != nil {
			return err
		}
		if n != nil && n.leaf >= 0 {
			text, err := unquote(raw, escaped)
			if err != nil {
				return err
			}
			s.f.add(n.leaf, text)
		}
		return nil
	case 't', 'f', 'n':
		for _, word := range [...]string{"true", "false", "null"} {
			if word[0] == c && len(s.b)-s.i >= len(word) && string(s.b[s.i:s.i+len(word)]) == word {
				s.i += len(word)
				if n != nil && n.leaf >= 0 && c != 'n' {
					s.f.add(n.leaf, word)
				}
				return nil
			}
		}
		return s.unexpected()
	default:
		return s.number(n)
	}
}

func (s *jsonScanner) object(n *node, depth int) error {
	if n != nil && n.leaf >= 0 {
		return s.mapOf(n.leaf, depth)
	}
	keys, values := s.f.before(n)
	var had seen
	s.i++
	for first := true; ; first = false {
		s.space()
		if s.i < len(s.b) && s.b[s.i] == '}' && first {
			break
		}
		name, escaped, err := s.key()
		if err != nil {
			return err
		}
		var child *node
		if n != nil && n.children != nil {
			child, err = n.named(name, escaped, &had)
			if err != nil {
				return err
			}
		}
		if err := s.value(child, depth+1); err != nil {
			return err
		}
		if done, err := s.next('}'); err != nil {
			return err
		} else if done {
			break
		}
	}
	if s.b[s.i] == '}' {
		s.i++
	}
	s.f.after(n, keys, values)
	return nil
}

// next reads the comma between two elements, or stands at the closing byte.
func (s *jsonScanner) next(end byte) (done bool, err error) {
	s.space()
	if s.i >= len(s.b) {
		return false, s.unexpected()
	}
	switch s.b[s.i] {
	case end:
		return true, nil
	case ',':
		s.i++
		return false, nil
	}
	return false, s.unexpected()
}

// key reads a member's name and the colon after it.
func (s *jsonScanner) key() (raw []byte, escaped bool, err error) {
	s.space()
	if s.i >= len(s.b) || s.b[s.i] != '"' {
		return nil, false, s.unexpected()
	}
	if raw, escaped, err = s.str(); err != nil {
		return nil, false, err
	}
	s.space()
	if s.i >= len(s.b) || s.b[s.i] != ':' {
		return nil, false, s.unexpected()
	}
	s.i++
	s.space()
	return raw, escaped, nil
}

// named returns the child of a member's name; nil when it is not asked for.
func (n *node) named(raw []byte, escaped bool, had *seen) (*node, error) {
	child := n.children[string(raw)]
	name := ""
	if child == nil || escaped {
		var err error
		if name, err = unquote(raw, escaped); err != nil {
			return nil, err
		}
		child = n.children[name]
	}
	if child == nil {
		if len(name) < 128 && n.fold[strings.ToLower(name)] {
			return nil, fmt.Errorf("the member %.64q is spelt in an unusual way", name)
		}
		return nil, nil
	}
	if !had.add(child.number) {
		return nil, ambiguous("the member %.64q occurs twice", string(raw))
	}
	return child, nil
}

// A span is a piece of the body.
type span struct {
	from, to int
	escaped  bool // between quotes, with escapes
}

// mapOf reads an object at a leaf: a map of strings. Where a value is not a
// string its text is kept as it is, and the leaf is odd.
func (s *jsonScanner) mapOf(leaf, depth int) error {
	var room [64][2]span
	members := room[:0]
	begin := s.i
	s.i++
	for first := true; ; first = false {
		s.space()
		if s.i < len(s.b) && s.b[s.i] == '}' && first {
			break
		}
		start := s.i
		raw, escaped, err := s.key()
		if err != nil {
			return err
		}
		name := span{start + 1, start + 1 + len(raw), escaped}
		start = s.i
		var value span
		if s.i < len(s.b) && s.b[s.i] == '"' {
			_, escaped, err := s.str()
			if err != nil {
				return err
			}
			value = span{start + 1, s.i - 1, escaped}
		} else {
			if err := s.value(nil, depth+1); err != nil {
				return err
			}
			value = span{start, s.i, false}
			s.f.odd[leaf] = true
		}
		if s.f.room(1) {
			members = append(members, [2]span{name, value})
		}
		if done, err := s.next('}'); err != nil {
			return err
		} else if done {
			break
		}
	}
	s.i++
	if len(members) == 0 {
		return nil
	}
	// One copy of the object serves all of its members.
	text := string(s.b[begin:s.i])
	get := func(x span) (string, error) {
		if x.escaped {
			return unquote(s.b[x.from:x.to], true)
		}
		return text[x.from-begin : x.to-begin], nil
	}
	had := make(map[string]struct{}, len(members))
	pairs := slices.Grow(s.f.maps[leaf], len(members))
	for _, m := range members {
		name, err := get(m[0])
		if err != nil {
			return err
		}
		if _, twice := had[name]; twice {
			return ambiguous("the member %.64q occurs twice", name)
		}
		had[name] = struct{}{}
		value, err := get(m[1])
		if err != nil {
			return err
		}
		pairs = append(pairs, [2]string{name, value})
	}
	s.f.maps[leaf] = pairs
	return nil
}

func (s *jsonScanner) array(n *node, depth int) error {
	s.i++
	for first := true; ; first = false {
		s.space()
		if s.i < len(s.b) && s.b[s.i] == ']' && first {
			break
		}
		if err := s.value(n, depth+1); err != nil {
			return err
		}
		if done, err := s.next(']'); err != nil {
			return err
		} else if done {
			break
		}
	}
	s.i++
	return nil
}

// str reads a string and returns what is between the quotes.
func (s *jsonScanner) str() (raw []byte, escaped bool, err error) {
	start := s.i + 1
	for i := start; i < len(s.b); i++ {
		switch c := s.b[i]; {
		case c == '"':
			s.i = i + 1
			return s.b[start:i], escaped, nil
		case c == '\\':
			escaped = true
			i++
			if i < len(s.b) {
				switch s.b[i] {
				case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
				case 'u':
					for j := i + 1; j <= i+4; j++ {
						if j >= len(s.b) || !isHex(s.b[j]) {
							return nil, false, errors.New("the JSON has a malformed escape")
						}
					}
				default:
					return nil, false, errors.New("the JSON has a malformed escape")
				}
			}
		case c < 0x20:
			return nil, false, errors.New("the JSON has a control character in a string")
		}
	}
	s.i = len(s.b)
	return nil, false, s.unexpected()
}

func unquote(raw []byte, escaped bool) (string, error) {
	if !escaped {
		return string(raw), nil
	}
	var out string
	quoted := make([]byte, 0, len(raw)+2)
	quoted = append(quoted, '"')
	quoted = append(quoted, raw...)
	quoted = append(quoted, '"')
	if err := json.Unmarshal(quoted, &out); err != nil {
		return "", errors.New("the JSON has a malformed escape")
	}
	if strings.ContainsRune(out, utf8.RuneError) {
		return "", errors.New("the JSON has half of a surrogate pair") // readers differ
	}
	return out, nil
}

func (s *jsonScanner) number(n *node) error {
	start := s.i
	digits := func() bool {
		from := s.i
		for s.i < len(s.b) && isDigit(s.b[s.i]) {
			s.i++
		}
		return s.i > from
	}
	if s.i < len(s.b) && s.b[s.i] == '-' {
		s.i++
	}
	lead := s.i
	if !digits() || s.b[lead] == '0' && s.i > lead+1 {
		return s.unexpected()
	}
	if s.i < len(s.b) && s.b[s.i] == '.' {
		s.i++
		if !digits() {
			return s.unexpected()
		}
	}
	if s.i < len(s.b) && (s.b[s.i] == 'e' || s.b[s.i] == 'E') {
		s.i++
		if s.i < len(s.b) && (s.b[s.i] == '+' || s.b[s.i] == '-') {
			s.i++
		}
		if !digits() {
			return s.unexpected()
		}
	}
	if n != nil && n.leaf >= 0 {
		s.f.add(n.leaf, string(s.b[start:s.i]))
	}
	return nil
}

func isHex(c byte) bool { return isDigit(c) || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F' }
