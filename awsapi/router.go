package awsapi

import (
	"slices"
	"strings"
)

// router finds the operations of a REST model by path. Segments that are given
// literally win over labels, and labels over greedy labels.
type router struct {
	root *step
}

type step struct {
	literal map[string]*step
	label   *step
	greedy  []greedy
	routes  []*route
}

// greedy is a label that takes the rest of the path, or all but its last segments.
type greedy struct {
	tail  []string // what follows the label
	route *route
}

// route is one operation at its path.
type route struct {
	m      *model
	op     *operation
	labels []string          // names of the labels, in the order of the path
	static map[string]string // query keys that select the operation; "" for any value
}

// match is a route that fits a path, and what the labels stand for.
type match struct {
	*route
	values []string // decoded, like labels
}

func newRouter(m *model) *router {
	r := &router{root: &step{}}
	for _, name := range m.names {
		op := m.ops[name]
		path, query, _ := strings.Cut(op.uri, "?")
		t := &route{m: m, op: op}
		if query != "" {
			t.static = make(map[string]string)
			for pair := range strings.SplitSeq(query, "&") {
				k, v, _ := strings.Cut(pair, "=")
				t.static[k] = v
			}
		}
		r.add(t, splitPath(m.basePath+path))
	}
	return r
}

// splitPath cuts a path into segments; a slash at the end makes no segment.
func splitPath(path string) []string {
	path = strings.TrimPrefix(path, "/")
	path = strings.TrimSuffix(path, "/")
	if path == "" {
		return nil
	}
	return strings.Split(path, "/")
}

func (r *router) add(t *route, segments []string) {
	at := r.root
	for i, s := range segments {
		switch {
		case strings.HasPrefix(s, "{") && strings.HasSuffix(s, "+}"):
			t.labels = append(t.labels, s[1:len(s)-2])
			at.greedy = append(at.greedy, greedy{segments[i+1:], t})
			for _, rest := range segments[i+1:] {
				if strings.HasPrefix(rest, "{") {
					t.labels = append(t.labels, strings.Trim(rest, "{}"))
				}
			}
			return
		case strings.HasPrefix(s, "{") && strings.HasSuffix(s, "}"):
			t.labels = append(t.labels, s[1:len(s)-1])
			if at.label == nil {
				at.label = &step{}
			}
			at = at.label
		default:
			if at.literal == nil {
				at.literal = make(map[string]*step)
			}
			if at.literal[s] == nil {
				at.literal[s] = &step{}
			}
			at = at.literal[s]
		}
	}
	at.routes = append(at.routes, t)
}

// find returns the routes that fit a path best: all those at the most specific
// place that has one of the method.
func (r *router) find(method string, segments []string) []match {
	return r.root.find(method, segments, nil)
}

func (s *step) find(method string, rest, values []string) []match {
	if len(rest) == 0 {
		return matches(method, s.routes, values)
	}
	if next := s.literal[rest[0]]; next != nil {
		if m := next.find(method, rest[1:], values); m != nil {
			return m
		}
	}
	if s.label != nil && rest[0] != "" {
		if m := s.label.find(method, rest[1:], append(slices.Clip(values), rest[0])); m != nil {
			return m
		}
	}
	var out []match
	best := -1
	for _, g := range s.greedy {
		if g.route.op.method != method || len(rest) <= len(g.tail) || len(g.tail) < best {
			continue
		}
		n := len(rest) - len(g.tail)
		found := append(slices.Clip(values), strings.Join(rest[:n], "/"))
		fits := true
		for i, want := range g.tail {
			switch {
			case strings.HasPrefix(want, "{"):
				found = append(found, rest[n+i])
			case want != rest[n+i]:
				fits = false
			}
		}
		if !fits {
			continue
		}
		if len(g.tail) > best {
			best, out = len(g.tail), nil
		}
		out = append(out, match{g.route, found})
	}
	return out
}

func matches(method string, routes []*route, values []string) []match {
	var out []match
	for _, t := range routes {
		if t.op.method == method {
			out = append(out, match{t, values})
		}
	}
	return out
}

// choose picks among routes at one place by their query keys: the route must
// have all of its keys, and the request no key that selects another route of
// the place. What is left may still be several operations.
func choose(found []match, query *form, header func(string) bool) (left []match, conflict string) {
	most := -1
	for _, m := range found {
		fits := true
		for k, v := range m.static {
			have, ok := query.get(k)
			if !ok || v != "" && have != v {
				fits = false
			}
		}
		if len(found) > 1 {
			for _, k := range m.op.query {
				if _, ok := query.get(k); !ok {
					fits = false
				}
			}
		}
		for _, k := range m.op.headers {
			if len(found) > 1 && !header(k) {
				fits = false
			}
		}
		if !fits {
			continue
		}
		score := 2*len(m.static) + len(m.op.query) + len(m.op.headers)
		if score > most {
			most, left = score, nil
		}
		if score == most {
			left = append(left, m)
		}
	}
	if len(left) == 0 {
		return nil, ""
	}
	for _, m := range found {
		for k, v := range m.static {
			if _, mine := left[0].static[k]; mine {
				continue
			}
			if have, ok := query.get(k); ok && (v == "" || have == v) {
				return nil, k
			}
		}
	}
	return left, ""
}
