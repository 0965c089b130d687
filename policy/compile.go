package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Options say what a Set is made of. The zero value makes a Set that leaves
// everything to AWS.
type Options struct {
	Name     string    // of the role, for messages
	Policies []*Policy // a union; none means that AWS alone limits the role
	Boundary *Policy   // intersects; nil means none
	ReadOnly bool      // only calls of the access levels List and Read
	// Regions and Services that calls may be for; empty means any. A region may
	// hold wildcards (eu-*). A service is named as its SDK model or as in the
	// credential scope of a signature ("elbv2" or "elasticloadbalancing").
	Regions  []string
	Services []string
}

// Set is the compiled whole of what is enforced for one role. It is immutable and
// safe for concurrent use. A nil or zero Set denies every call.
type Set struct {
	name     string
	compiled bool
	policies []*Policy
	boundary *Policy
	main     rules
	limit    rules // of the boundary
	readOnly bool
	regions  []glob
	services map[string]bool
}

// rules are the statements of some policies, found by action.
type rules struct {
	list  []*rule
	allow index
	deny  index
}

type rule struct {
	*Statement
	policy *Policy
	every  bool // Action holds "*", Resource holds "*", no conditions
}

// Compile makes a Set.
func Compile(o Options) (*Set, error) {
	s := &Set{name: o.Name, compiled: true, policies: slices.Clone(o.Policies), boundary: o.Boundary, readOnly: o.ReadOnly}
	for i, p := range o.Policies {
		if p == nil {
			return nil, fmt.Errorf("role %q: policy %d is nil", o.Name, i+1)
		}
	}
	s.main = newRules(o.Policies)
	if o.Boundary != nil {
		s.limit = newRules([]*Policy{o.Boundary})
	}
	for _, r := range o.Regions {
		if r = strings.ToLower(strings.TrimSpace(r)); r == "" {
			return nil, errors.New("regions: an entry is empty")
		}
		s.regions = append(s.regions, newGlob(compileWildcards(r)))
	}
	for _, name := range o.Services {
		if name = strings.ToLower(strings.TrimSpace(name)); name == "" {
			return nil, errors.New("services: an entry is empty")
		}
		if s.services == nil {
			s.services = make(map[string]bool)
		}
		s.services[name] = true
	}
	return s, nil
}

func newRules(policies []*Policy) rules {
	var r rules
	for _, p := range policies {
		for i := range p.Statements {
			st := &p.Statements[i]
			one := &rule{Statement: st, policy: p}
			one.every = !st.Not.Action && !st.Not.Resource && len(st.Conditions) == 0 &&
				st.everyAction() &&
				slices.ContainsFunc(st.Resources, func(x Resource) bool { return x.Text == "*" })
			at := int32(len(r.list))
			r.list = append(r.list, one)
			if st.Effect == Deny {
				r.deny.add(st, at)
			} else {
				r.allow.add(st, at)
			}
		}
	}
	return r
}

// index finds the statements whose actions match, in the order of the policies.
type index struct {
	exact    map[string][]int32  // by lower-case action
	services map[string][]wildly // by service: actions with wildcards
	any      []int32             // "*" and NotAction
}

type wildly struct {
	glob glob
	at   int32
}

func (x *index) add(s *Statement, at int32) {
	if s.Not.Action {
		x.any = append(x.any, at)
		return
	}
	if x.exact == nil {
		x.exact, x.services = make(map[string][]int32), make(map[string][]wildly)
	}
	if s.everyAction() {
		x.any = append(x.any, at)
		return
	}
	for i := range s.Actions {
		g := s.Actions[i].glob
		if g.exact {
			if list := x.exact[g.text]; len(list) == 0 || list[len(list)-1] != at {
				x.exact[g.text] = append(list, at)
			}
			continue
		}
		service, _, _ := strings.Cut(g.text, ":")
		x.services[service] = append(x.services[service], wildly{g, at})
	}
}

// cursor walks the statements of an index whose Action or NotAction matches.
type cursor struct {
	rules  *rules
	action string // lower-case
	exact  []int32
	wild   []wildly
	any    []int32
	last   int32
}

const none = int32(1<<31 - 1)

func (x *index) find(r *rules, action string) cursor {
	service, _, _ := strings.Cut(action, ":")
	return cursor{rules: r, action: action, exact: x.exact[action], wild: x.services[service], any: x.any, last: -1}
}

// next returns the next matching statement, or nil.
func (c *cursor) next() *rule {
	for {
		for len(c.exact) > 0 && c.exact[0] <= c.last {
			c.exact = c.exact[1:]
		}
		for len(c.wild) > 0 && (c.wild[0].at <= c.last || !c.wild[0].glob.match(c.action)) {
			c.wild = c.wild[1:]
		}
		for len(c.any) > 0 && c.any[0] <= c.last {
			c.any = c.any[1:]
		}
		at := none
		if len(c.exact) > 0 {
			at = c.exact[0]
		}
		if len(c.wild) > 0 {
			at = min(at, c.wild[0].at)
		}
		if len(c.any) > 0 {
			at = min(at, c.any[0])
		}
		if at == none {
			return nil
		}
		c.last = at
		if r := c.rules.list[at]; !r.Not.Action || !r.listsAction(c.action) {
			return r
		}
	}
}

// listsAction says whether an entry of Action or NotAction matches.
func (s *Statement) listsAction(action string) bool {
	for i := range s.Actions {
		if s.Actions[i].glob.match(action) {
			return true
		}
	}
	return false
}
