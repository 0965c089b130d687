package awsapi

import (
	"errors"
	"slices"
	"strings"
)

// plan is what is to be found in a body: a tree of names, and which leaves
// make pairs. It is read-only.
type plan struct {
	root  *node
	size  int
	paths []string
	pairs map[int]int // leaf of a key to leaf of its value
}

// node is a place in a body's structure. Lists are not places: each of their
// elements is at the place of the list.
type node struct {
	children map[string]*node
	fold     map[string]bool // the children's names in lower case
	leaf     int             // -1 for none
	number   int             // among its siblings
	key      int             // leaves of a pair that are directly below, or -1
	value    int
}

func newPlan(kind byte, paths []string, pairs [][2]int) *plan {
	p := &plan{root: &node{leaf: -1, key: -1, value: -1}, size: len(paths), paths: paths, pairs: make(map[int]int)}
	for _, pair := range pairs {
		p.pairs[pair[0]] = pair[1]
	}
	if kind == 'f' {
		return p // form keys are matched whole
	}
	parents := make([]*node, len(paths))
	for i, path := range paths {
		n := p.root
		for name := range strings.SplitSeq(path, ".") {
			parents[i] = n
			n = n.child(name)
		}
		n.leaf = i
	}
	for k, v := range p.pairs {
		if parents[k] == parents[v] {
			parents[k].key, parents[k].value = k, v
		}
	}
	return p
}

func (n *node) child(name string) *node {
	if c := n.children[name]; c != nil {
		return c
	}
	if n.children == nil {
		n.children = make(map[string]*node)
		n.fold = make(map[string]bool)
	}
	c := &node{leaf: -1, key: -1, value: -1, number: len(n.children)}
	n.children[name] = c
	n.fold[strings.ToLower(name)] = true
	return c
}

// maxValues bounds how much a body may name: values and members of maps together.
// The longest list of AWS's own is a thousandth part of a body that may be held, and
// each name becomes an ARN, which every statement of a policy is held against.
const maxValues = 50_000

var errMany = errors.New("it names more things than are looked at")

// found is what a body held of a plan.
type found struct {
	count  int // of values and members; beyond maxValues none is kept
	values [][]string
	maps   [][][2]string // for leaves that are maps of strings
	odd    []bool        // the leaf is there, but not as the model has it
}

func newFound(p *plan) *found {
	return &found{values: make([][]string, p.size), maps: make([][][2]string, p.size), odd: make([]bool, p.size)}
}

func (f *found) add(leaf int, s string) {
	if f.room(1) {
		f.values[leaf] = append(f.values[leaf], s)
	}
}

// room counts n more values, and reports whether they may be kept.
func (f *found) room(n int) bool {
	f.count += n
	return f.count <= maxValues
}

// whole returns f, or why it does not hold all that the body names.
func (f *found) whole() (*found, error) {
	if f.count > maxValues {
		return nil, errMany
	}
	return f, nil
}

// searched is how far a list is looked through for what is there already. The few
// lists that are longer may hold things twice.
const searched = 256

// appendNew adds s to a list that does not have it.
func appendNew(list []string, s string) []string {
	if len(list) <= searched && slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

// elements brackets one element of a list whose key and value make a pair: a
// missing value counts as empty, anything else as odd.
func (f *found) before(n *node) (keys, values int) {
	if n == nil || n.key < 0 {
		return 0, 0
	}
	return len(f.values[n.key]), len(f.values[n.value])
}

func (f *found) after(n *node, keys, values int) {
	if n == nil || n.key < 0 {
		return
	}
	k, v := len(f.values[n.key])-keys, len(f.values[n.value])-values
	switch {
	case k == v && k <= 1:
	case k == 1 && v == 0:
		f.add(n.value, "")
	default:
		f.odd[n.key] = true
	}
}

// seen is the set of a node's children that an object has named.
type seen struct {
	low  uint64
	more map[int]bool
}

// add reports whether the child was new.
func (s *seen) add(number int) bool {
	if number < 64 {
		bit := uint64(1) << number
		if s.low&bit != 0 {
			return false
		}
		s.low |= bit
		return true
	}
	if s.more[number] {
		return false
	}
	if s.more == nil {
		s.more = make(map[int]bool)
	}
	s.more[number] = true
	return true
}
