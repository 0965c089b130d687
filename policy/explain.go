package policy

import (
	"fmt"
	"io"
	"strings"

	"github.com/countersign-proxy/countersign/awsapi"
)

// Explanation is a decision with every statement that was looked at.
type Explanation struct {
	Decision Decision          `json:"decision"`
	Needs    []NeedExplanation `json:"needs"`
}

// NeedExplanation is one permission on one resource.
type NeedExplanation struct {
	Action   string `json:"action"`   // "" for a call that was not understood
	Resource string `json:"resource"` // "" for a resource that the call does not name; wildcards for what it leaves open
	// DenyOnly: the resource only may be concerned, so no Allow is needed for it.
	DenyOnly   bool                   `json:"deny_only,omitempty"`
	Statements []StatementExplanation `json:"statements"`
}

// StatementExplanation says how one statement met one permission. A statement
// applies as its least truth says; an Allow counts only at yes, a Deny at unknown
// as well.
type StatementExplanation struct {
	Policy     string                 `json:"policy"`
	Statement  string                 `json:"statement"`
	Position   Position               `json:"position"`
	Effect     Effect                 `json:"effect"`
	Boundary   bool                   `json:"boundary,omitempty"`
	Applies    Truth                  `json:"applies"`
	Action     Truth                  `json:"action"`
	Resource   Truth                  `json:"resource"`
	Conditions []ConditionExplanation `json:"conditions,omitempty"`
	Why        string                 `json:"why"`
}

// ConditionExplanation is one condition key and what the request has for it.
type ConditionExplanation struct {
	Operator string   `json:"operator"`
	Key      string   `json:"key"`
	Wanted   []string `json:"wanted"`
	Found    []string `json:"found,omitempty"`
	Presence string   `json:"presence"` // present, absent or unknown
	Result   Truth    `json:"result"`
}

// Explain decides as Decide does and shows every statement of the role's policies
// and of the boundary.
func (s *Set) Explain(q Query) Explanation {
	e := Explanation{Decision: s.Decide(q)}
	if s == nil || !s.compiled || q.Call == nil {
		return e
	}
	v := newView(&q)
	if q.Call.Unknown != "" {
		e.Needs = []NeedExplanation{s.explainNeed(v, nil, target{unknown: true})}
		return e
	}
	for i := range q.Call.Needs {
		n := &q.Call.Needs[i]
		for t := range targets(n, Deny) {
			one := s.explainNeed(v, n, t)
			one.DenyOnly = t.pattern != "" && !n.ResourceUnknown
			e.Needs = append(e.Needs, one)
		}
	}
	return e
}

func (s *Set) explainNeed(v *view, n *awsapi.Need, t target) NeedExplanation {
	v.consider(n)
	out := NeedExplanation{Resource: t.arn}
	if n != nil {
		out.Action = n.Action
	}
	for _, r := range s.main.list {
		out.Statements = append(out.Statements, r.explain(v, n, t, false))
	}
	for _, r := range s.limit.list {
		out.Statements = append(out.Statements, r.explain(v, n, t, true))
	}
	return out
}

func (r *rule) explain(v *view, n *awsapi.Need, t target, boundary bool) StatementExplanation {
	e := StatementExplanation{Policy: r.policy.Name, Statement: r.label, Position: r.Pos, Effect: r.Effect, Boundary: boundary}
	if n == nil {
		// As judgeUnknown: only the Allow of everything, and every Deny.
		e.Action, e.Resource = Unknown, Unknown
		if r.every {
			e.Action, e.Resource = True, True
		} else if len(r.Actions) == 0 || len(r.Resources) == 0 {
			e.Action = False
		}
	} else {
		e.Action = truth(r.listsAction(strings.ToLower(n.Action)) != r.Not.Action)
		e.Resource = r.onResource(v, t)
	}
	e.Applies = min(e.Action, e.Resource)
	for i := range r.Conditions {
		c := r.Conditions[i].explain(v)
		e.Conditions = append(e.Conditions, c)
		e.Applies = min(e.Applies, c.Result)
	}
	e.Why = e.why(r)
	return e
}

func (c *Condition) explain(v *view) ConditionExplanation {
	vals, p := v.get(c.key)
	e := ConditionExplanation{Operator: c.Operator, Key: c.Key, Wanted: c.Values}
	e.Presence = [...]string{absent: "absent", present: "present", unknowable: "unknown"}[p]
	if p == present {
		e.Found = append(e.Found, vals...)
	}
	e.Result = c.eval(v)
	return e
}

func (e *StatementExplanation) why(r *rule) string {
	if e.Action == False {
		if r.Not.Action {
			return "its NotAction lists the action"
		}
		return "its Action does not list the action"
	}
	if e.Resource == False {
		if r.Not.Resource {
			return "its NotResource lists the resource"
		}
		return "its Resource does not list the resource"
	}
	for _, c := range e.Conditions {
		if c.Result == False {
			return "the condition " + c.String() + " is not met"
		}
	}
	if e.Applies == True {
		return "action, resource and conditions match"
	}
	var open []string
	if e.Action == Unknown {
		open = append(open, "the action is not known")
	}
	if e.Resource == Unknown {
		open = append(open, "whether the resource matches is not certain")
	}
	for _, c := range e.Conditions {
		if c.Result == Unknown {
			open = append(open, "the condition "+c.String()+" cannot be judged")
		}
	}
	effect := "so the Allow does not count"
	if e.Effect == Deny {
		effect = "so the Deny counts"
	}
	return strings.Join(append(open, effect), ", ")
}

func (c ConditionExplanation) String() string {
	found := c.Presence
	if c.Presence == "present" {
		found = strings.Join(c.Found, ", ")
	}
	return fmt.Sprintf("%s %s [%s] (request: %s)", c.Operator, c.Key, strings.Join(c.Wanted, ", "), found)
}

// WriteTo writes the explanation for people.
func (e Explanation) WriteTo(w io.Writer) (int64, error) {
	var b strings.Builder
	d := e.Decision
	verdict := "DENIED"
	if d.Allow {
		verdict = "ALLOWED"
	}
	fmt.Fprintf(&b, "%s: %s", verdict, d.Reason)
	if d.Policy != "" {
		fmt.Fprintf(&b, " (policy %s", d.Policy)
		if d.Statement != "" {
			fmt.Fprintf(&b, ", statement %s", d.Statement)
		}
		b.WriteByte(')')
	}
	b.WriteByte('\n')
	if d.Message != "" {
		fmt.Fprintf(&b, "%s\n", d.Message)
	}
	for _, n := range e.Needs {
		action, resource := n.Action, n.Resource
		if action == "" {
			action = "an unknown action"
		}
		if resource == "" {
			resource = "a resource that the call does not name"
		}
		if n.DenyOnly {
			resource += " (perhaps; only a Deny counts)"
		}
		fmt.Fprintf(&b, "\n%s on %s\n", action, resource)
		for _, s := range n.Statements {
			mark := map[Truth]string{True: "+", Unknown: "?", False: " "}[s.Applies]
			where := s.Policy
			if s.Boundary {
				where += " (boundary)"
			}
			fmt.Fprintf(&b, " %s %-5s %s:%s %s: %s\n", mark, s.Effect, where, s.Position, s.Statement, s.Why)
		}
	}
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}
