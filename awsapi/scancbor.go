package awsapi

import (
	"encoding/binary"
	"errors"
	"math"
	"strconv"
	"unicode/utf8"
)

// scanCBOR finds the values of a plan in a CBOR document (RFC 8949), with the
// same strictness as scanJSON.
func scanCBOR(body []byte, p *plan) (*found, error) {
	f := newFound(p)
	if len(body) == 0 {
		return f, nil
	}
	s := cborScanner{b: body, f: f}
	if body[0]>>5 != 5 {
		return nil, errors.New("it is not a CBOR map")
	}
	if err := s.value(p.root, 0); err != nil {
		return nil, err
	}
	if s.i != len(body) {
		return nil, errors.New("there is something after the CBOR map")
	}
	return f.whole()
}

type cborScanner struct {
	b []byte
	i int
	f *found
}

var errCBOR = errors.New("the CBOR is malformed")

// head reads the first bytes of an item.
func (s *cborScanner) head() (major byte, arg uint64, indefinite bool, err error) {
	if s.i >= len(s.b) {
		return 0, 0, false, errCBOR
	}
	c := s.b[s.i]
	s.i++
	major, info := c>>5, c&31
	switch {
	case info < 24:
		return major, uint64(info), false, nil
	case info == 31:
		return major, 0, true, nil
	case info > 27:
		return 0, 0, false, errCBOR
	}
	n := 1 << (info - 24)
	if len(s.b)-s.i < n {
		return 0, 0, false, errCBOR
	}
	var buf [8]byte
	copy(buf[8-n:], s.b[s.i:s.i+n])
	s.i += n
	return major, binary.BigEndian.Uint64(buf[:]), false, nil
}

func (s *cborScanner) isBreak() bool {
	if s.i < len(s.b) && s.b[s.i] == 0xff {
		s.i++
		return true
	}
	return false
}

// str reads the bytes of a string whose head has been read.
func (s *cborScanner) str(major byte, n uint64, indefinite bool) ([]byte, error) {
	if !indefinite {
		if n > uint64(len(s.b)-s.i) {
			return nil, errCBOR
		}
		out := s.b[s.i : s.i+int(n)]
		s.i += int(n)
		if major == 3 && !utf8.Valid(out) {
			return nil, errors.New("the CBOR has a string that is not UTF-8")
		}
		return out, nil
	}
	var out []byte
	for !s.isBreak() {
		m, n, indefinite, err := s.head()
		if err != nil {
			return nil, err
		}
		if m != major || indefinite {
			return nil, errCBOR
		}
		part, err := s.str(m, n, false)
		if err != nil {
			return nil, err
		}
		out = append(out, part...)
	}
	return out, nil
}

func (s *cborScanner) value(n *node, depth int) error {
	if depth > maxDepth {
		return errDeep
	}
	start := s.i
	major, arg, indefinite, err := s.head()
	if err != nil {
		return err
	}
	if indefinite && (major < 2 || major > 5) {
		return errCBOR
	}
	leaf := -1
	if n != nil {
		leaf = n.leaf
	}
	switch major {
	case 0, 1:
		if leaf >= 0 {
			if major == 0 {
				s.f.add(leaf, strconv.FormatUint(arg, 10))
			} else if arg <= math.MaxInt64 {
				s.f.add(leaf, strconv.FormatInt(-1-int64(arg), 10))
			} else {
				s.f.odd[leaf] = true
			}
		}
	case 2, 3:
		text, err := s.str(major, arg, indefinite)
		if err != nil {
			return err
		}
		if leaf >= 0 {
			if major == 2 {
				s.f.odd[leaf] = true
			}
			s.f.add(leaf, string(text))
		}
	case 4:
		for i := uint64(0); indefinite || i < arg; i++ {
			if indefinite && s.isBreak() {
				break
			}
			if err := s.value(n, depth+1); err != nil {
				return err
			}
		}
	case 5:
		return s.object(n, arg, indefinite, depth)
	case 6:
		if leaf >= 0 {
			s.f.odd[leaf] = true // timestamps and large numbers
		} else if n != nil {
			// Nothing below would be seen, and a reader that passes over tags which it
			// does not know sees it all.
			return errors.New("the CBOR has a tag on a structure")
		}
		return s.value(nil, depth+1)
	case 7:
		if leaf >= 0 {
			switch s.b[start] {
			case 0xf4:
				s.f.add(leaf, "false")
			case 0xf5:
				s.f.add(leaf, "true")
			case 0xf6, 0xf7:
			default:
				s.f.odd[leaf] = true
			}
		}
	}
	return nil
}

func (s *cborScanner) object(n *node, count uint64, indefinite bool, depth int) error {
	keys, values := s.f.before(n)
	var had seen
	isMap := n != nil && n.leaf >= 0
	var names map[string]bool
	if isMap {
		names = make(map[string]bool)
	}
	for i := uint64(0); indefinite || i < count; i++ {
		if indefinite && s.isBreak() {
			break
		}
		major, arg, open, err := s.head()
		if err != nil {
			return err
		}
		if major != 3 {
			return errors.New("the CBOR has a map key that is not a string")
		}
		name, err := s.str(major, arg, open)
		if err != nil {
			return err
		}
		var child *node
		switch {
		case isMap:
			if names[string(name)] {
				return ambiguous("the member %.64q occurs twice", name)
			}
			names[string(name)] = true
			if !s.f.room(1) {
				return errMany
			}
			if err := s.entry(n.leaf, string(name), depth); err != nil {
				return err
			}
			continue
		case n != nil && n.children != nil:
			if child, err = n.named(name, false, &had); err != nil {
				return err
			}
		}
		if err := s.value(child, depth+1); err != nil {
			return err
		}
	}
	s.f.after(n, keys, values)
	return nil
}

// entry reads the value of a member of a map of strings.
func (s *cborScanner) entry(leaf int, name string, depth int) error {
	if s.i < len(s.b) && s.b[s.i]>>5 == 3 {
		major, arg, open, err := s.head()
		if err != nil {
			return err
		}
		text, err := s.str(major, arg, open)
		if err != nil {
			return err
		}
		s.f.maps[leaf] = append(s.f.maps[leaf], [2]string{name, string(text)})
		return nil
	}
	s.f.odd[leaf] = true
	s.f.maps[leaf] = append(s.f.maps[leaf], [2]string{name, ""})
	return s.value(nil, depth+1)
}
