package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"
	"unicode/utf8"
)

// Error is one fault of a document.
type Error struct {
	Name string // of the policy
	Position
	Message string
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.Name, e.Line, e.Column, e.Message)
}

// Errors is what Parse returns: every fault found, in the order of the document.
type Errors []*Error

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives errors.As access to each fault.
func (e Errors) Unwrap() []error {
	out := make([]error, len(e))
	for i, one := range e {
		out[i] = one
	}
	return out
}

type kind int

const (
	kindNull kind = iota
	kindBool
	kindNumber
	kindString
	kindArray
	kindObject
)

func (k kind) String() string {
	return [...]string{"null", "a boolean", "a number", "a string", "an array", "an object"}[k]
}

// node is a JSON value that knows where it stands.
type node struct {
	kind    kind
	off     int
	text    string // of a string, a number or a boolean
	items   []*node
	members []member
}

type member struct {
	key string
	off int
	val *node
}

func (n *node) member(key string) *member {
	for i := range n.members {
		if n.members[i].key == key {
			return &n.members[i]
		}
	}
	return nil
}

// lines finds line and column of an offset. Documents of one long line are common, so
// characters are counted in advance, once a block.
type lines struct {
	src    []byte
	starts []int // of lines
	counts []int // characters before each block
}

const block = 256

func newLines(src []byte) *lines {
	l := &lines{src: src, starts: []int{0}}
	n := 0
	for i, b := range src {
		if i%block == 0 {
			l.counts = append(l.counts, n)
		}
		if utf8.RuneStart(b) {
			n++
		}
		if b == '\n' {
			l.starts = append(l.starts, i+1)
		}
	}
	return l
}

// characters counts those that start before an offset.
func (l *lines) characters(off int) int {
	if len(l.counts) == 0 {
		return 0
	}
	at := min(off/block, len(l.counts)-1)
	n := l.counts[at]
	for _, b := range l.src[at*block : off] {
		if utf8.RuneStart(b) {
			n++
		}
	}
	return n
}

func (l *lines) at(off int) Position {
	off = max(0, min(off, len(l.src)))
	line := sort.SearchInts(l.starts, off+1) - 1
	return Position{Line: line + 1, Column: l.characters(off) - l.characters(l.starts[line]) + 1}
}

// tree is a reader of one document: encoding/json's tokens, with places, with
// repeated keys refused (encoding/json keeps the last one, AWS refuses them) and
// with a limit of depth.
type tree struct {
	dec *json.Decoder
	src []byte
}

type syntaxError struct {
	off int
	msg string
}

func (e *syntaxError) Error() string { return e.msg }

func parseJSON(src []byte) (*node, *syntaxError) {
	// Unmarshal's offset of a syntax error is that of the document;
	// the token reader's is not in every case.
	var whole json.RawMessage
	if err := json.Unmarshal(src, &whole); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			msg := syntax.Error()
			if msg == "unexpected end of JSON input" {
				return nil, &syntaxError{len(src), "the document ends too early: a bracket, brace or quotation mark is not closed"}
			}
			return nil, &syntaxError{max(0, int(syntax.Offset)-1), "not JSON: " + msg}
		}
		return nil, &syntaxError{0, "not JSON: " + err.Error()}
	}
	t := &tree{dec: json.NewDecoder(bytes.NewReader(src)), src: src}
	t.dec.UseNumber()
	n, serr := t.value(0)
	if serr != nil {
		return nil, serr
	}
	if _, err := t.dec.Token(); err != io.EOF {
		return nil, &syntaxError{t.next(), "more text after the end of the policy"}
	}
	return n, nil
}

// next is the offset at which the next token starts.
func (t *tree) next() int {
	off := int(t.dec.InputOffset())
	for off < len(t.src) {
		switch t.src[off] {
		case ' ', '\t', '\r', '\n', ',', ':':
			off++
		default:
			return off
		}
	}
	return off
}

func (t *tree) value(depth int) (*node, *syntaxError) {
	off := t.next()
	if depth > MaxDepth {
		return nil, &syntaxError{off, fmt.Sprintf("nested deeper than %d levels", MaxDepth)}
	}
	tok, err := t.dec.Token()
	if err != nil {
		return nil, &syntaxError{off, "not JSON: " + err.Error()}
	}
	n := &node{off: off}
	switch v := tok.(type) {
	case nil:
		n.kind = kindNull
	case bool:
		n.kind, n.text = kindBool, fmt.Sprint(v)
	case json.Number:
		n.kind, n.text = kindNumber, v.String()
	case string:
		n.kind, n.text = kindString, v
		if serr := t.surrogates(v, off); serr != nil {
			return nil, serr
		}
	case json.Delim:
		if v == '[' {
			n.kind = kindArray
			for t.dec.More() {
				item, serr := t.value(depth + 1)
				if serr != nil {
					return nil, serr
				}
				n.items = append(n.items, item)
			}
		} else {
			n.kind = kindObject
			if serr := t.object(n, depth); serr != nil {
				return nil, serr
			}
		}
		if _, err := t.dec.Token(); err != nil {
			return nil, &syntaxError{t.next(), "not JSON: " + err.Error()}
		}
	}
	return n, nil
}

func (t *tree) object(n *node, depth int) *syntaxError {
	seen := make(map[string]bool)
	for t.dec.More() {
		off := t.next()
		tok, err := t.dec.Token()
		if err != nil {
			return &syntaxError{off, "not JSON: " + err.Error()}
		}
		key, ok := tok.(string)
		if !ok {
			return &syntaxError{off, "not JSON: an object's key must be a string"}
		}
		if serr := t.surrogates(key, off); serr != nil {
			return serr
		}
		if seen[key] {
			return &syntaxError{off, fmt.Sprintf("the key %q occurs twice in the same object; AWS refuses such a policy", key)}
		}
		seen[key] = true
		val, serr := t.value(depth + 1)
		if serr != nil {
			return serr
		}
		n.members = append(n.members, member{key, off, val})
	}
	return nil
}

// surrogates refuses an escaped half of a surrogate pair: encoding/json reads
// it as U+FFFD, and then two different texts would be the same policy.
func (t *tree) surrogates(s string, off int) *syntaxError {
	raw := t.src[off:int(t.dec.InputOffset())]
	if strings.Count(s, "\uFFFD") != bytes.Count(raw, []byte("\uFFFD"))+bytes.Count(bytes.ToLower(raw), []byte(`\ufffd`)) {
		return &syntaxError{off, "the string holds half of a surrogate pair, which is not a character"}
	}
	return nil
}
