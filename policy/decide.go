package policy

import (
	"strings"

	"github.com/countersign-proxy/countersign/awsapi"
)

// Reason is why a call is allowed or denied: a closed set of words, for the audit
// line and as a metric label.
type Reason string

// The reasons.
const (
	ReasonAllowed      Reason = "allowed"              // a statement allows every need
	ReasonNoPolicy     Reason = "no policy"            // allowed: the role has none
	ReasonNoPermission Reason = "no permission needed" // allowed: AWS asks for none either
	ReasonExplicitDeny Reason = "explicit deny"        // a Deny applies
	ReasonPossibleDeny Reason = "possible deny"        // a Deny may apply and cannot be ruled out
	ReasonImplicitDeny Reason = "implicit deny"        // no Allow applies
	ReasonBoundary     Reason = "boundary"             // the identity's boundary does not allow it
	ReasonUnknownCall  Reason = "unknown call"         // not understood, and not allowed wholesale
	ReasonReadOnly     Reason = "read only"
	ReasonRegion       Reason = "region"
	ReasonService      Reason = "service"
)

// Reasons lists every reason, for those who register metrics.
func Reasons() []Reason {
	return []Reason{
		ReasonAllowed, ReasonNoPolicy, ReasonNoPermission, ReasonExplicitDeny, ReasonPossibleDeny,
		ReasonImplicitDeny, ReasonBoundary, ReasonUnknownCall, ReasonReadOnly, ReasonRegion, ReasonService,
	}
}

// Decision is the judgement of one call.
type Decision struct {
	Allow  bool   `json:"allow"`
	Reason Reason `json:"reason"`
	// Policy and Statement made the decision: the statement that denies, or the one
	// that allows the call's first need. Empty where no statement did.
	Policy    string `json:"policy,omitempty"`
	Statement string `json:"statement,omitempty"`
	// Action and Resource are the permission that is missing; empty when allowed.
	Action   string `json:"action,omitempty"`
	Resource string `json:"resource,omitempty"`
	// Unknown is a condition key without whose value a statement could not be
	// judged; "" when none mattered. It is lower-case.
	Unknown string `json:"unknown,omitempty"`
	// Message explains a denial to the caller as AWS would; empty when allowed.
	Message string `json:"message,omitempty"`
}

// Decide judges a call. It never panics on any Query and allows nothing that
// it cannot judge.
func (s *Set) Decide(q Query) Decision {
	if s == nil || !s.compiled || q.Call == nil {
		return s.refuse(&q, Decision{Reason: ReasonImplicitDeny})
	}
	if d, ok := s.fence(&q); !ok {
		return s.refuse(&q, d)
	}
	v := newView(&q)
	d := Decision{Allow: true, Reason: ReasonNoPolicy}
	if len(s.policies) > 0 {
		d = s.main.judge(v)
	}
	if d.Allow && s.boundary != nil {
		if b := s.limit.judge(v); !b.Allow {
			if b.Reason != ReasonUnknownCall {
				b.Reason = ReasonBoundary
			}
			b.Policy = s.boundary.Name
			d = b
		}
	}
	if !d.Allow {
		return s.refuse(&q, d)
	}
	return d
}

// fence applies the rules that need no policy language.
func (s *Set) fence(q *Query) (Decision, bool) {
	call := q.Call
	d := Decision{}
	if len(call.Needs) > 0 {
		d.Action = call.Needs[0].Action
		if len(call.Needs[0].Resources) > 0 {
			d.Resource = call.Needs[0].Resources[0]
		}
	}
	switch {
	case s.services != nil && !s.services[strings.ToLower(call.Service)] && !s.services[strings.ToLower(call.Host.Service)]:
		d.Reason = ReasonService
	case len(s.regions) > 0 && !s.inRegions(call.Region):
		d.Reason = ReasonRegion
	case s.readOnly && (call.Unknown != "" || call.AccessLevel != "List" && call.AccessLevel != "Read"):
		d.Reason = ReasonReadOnly
	default:
		return d, true
	}
	return d, false
}

func (s *Set) inRegions(region string) bool {
	region = strings.ToLower(region)
	if region == "" {
		return false
	}
	for i := range s.regions {
		if s.regions[i].match(region) {
			return true
		}
	}
	return false
}

// judge decides a call by one union of policies.
func (r *rules) judge(v *view) Decision {
	call := v.q.Call
	if call.Unknown != "" {
		return r.judgeUnknown(v)
	}
	if len(call.Needs) == 0 {
		return Decision{Allow: true, Reason: ReasonNoPermission}
	}
	out := Decision{Allow: true, Reason: ReasonAllowed}
	// Denials come first, for all needs: the reason that is reported shall not
	// depend on the order in which a call lists what it needs.
	for i := range call.Needs {
		for t := range targets(&call.Needs[i], Deny) {
			if d, denied := r.denied(v, &call.Needs[i], t); denied {
				return d
			}
		}
	}
	first := true
	for i := range call.Needs {
		for t := range targets(&call.Needs[i], Allow) {
			d := r.allowed(v, &call.Needs[i], t)
			if !d.Allow {
				return d
			}
			if first {
				out.Policy, out.Statement = d.Policy, d.Statement
				first = false
			}
		}
	}
	return out
}

// target is what one need is judged on: a resource, all resources of a pattern, or
// some resource of which nothing is known.
type target struct {
	arn     string // as named in decisions; a pattern's text for a pattern
	pattern string // compiled; "" for a resource
	unknown bool
}

// targets yields what a need applies to. Patterns stand for resources that the
// request leaves open: a Deny that may meet one of them may apply, and where the
// need says that its unknown resources are within them, an Allow must cover each.
// A need that names nothing is for some unknown resource.
func targets(n *awsapi.Need, effect Effect) func(func(target) bool) {
	return func(yield func(target) bool) {
		for _, arn := range n.Resources {
			if !yield(target{arn: arn}) {
				return
			}
		}
		if n.ResourceUnknown || effect == Deny {
			for _, p := range n.Patterns {
				if !yield(target{arn: p, pattern: compileWildcards(p)}) {
					return
				}
			}
		}
		if n.ResourceUnknown && len(n.Patterns) == 0 || !n.ResourceUnknown && len(n.Resources) == 0 {
			yield(target{unknown: true})
		}
	}
}

func (r *rules) denied(v *view, n *awsapi.Need, t target) (Decision, bool) {
	v.consider(n)
	possible := Decision{}
	for c := r.deny.find(r, strings.ToLower(n.Action)); ; {
		one := c.next()
		if one == nil {
			return possible, possible.Reason != ""
		}
		switch one.applies(v, t) {
		case True:
			return Decision{Reason: ReasonExplicitDeny, Policy: one.policy.Name, Statement: one.label, Action: n.Action, Resource: t.arn}, true
		case Unknown:
			if possible.Reason == "" {
				possible = Decision{Reason: ReasonPossibleDeny, Policy: one.policy.Name, Statement: one.label, Action: n.Action, Resource: t.arn, Unknown: v.unknown}
			}
		}
	}
}

func (r *rules) allowed(v *view, n *awsapi.Need, t target) Decision {
	v.consider(n)
	missed := Decision{Reason: ReasonImplicitDeny, Action: n.Action, Resource: t.arn}
	for c := r.allow.find(r, strings.ToLower(n.Action)); ; {
		one := c.next()
		if one == nil {
			return missed
		}
		switch one.applies(v, t) {
		case True:
			return Decision{Allow: true, Reason: ReasonAllowed, Policy: one.policy.Name, Statement: one.label}
		case Unknown:
			if missed.Policy == "" {
				missed.Policy, missed.Statement, missed.Unknown = one.policy.Name, one.label, v.unknown
			}
		}
	}
}

// judgeUnknown decides a call that could not be understood: by the Allow of
// everything, and by every Deny that cannot be ruled out by its conditions. Which
// actions and resources such a call needs is not known, so neither rules out a Deny.
func (r *rules) judgeUnknown(v *view) Decision {
	v.consider(nil)
	for _, one := range r.list {
		if one.Effect != Deny || len(one.Actions) == 0 || len(one.Resources) == 0 {
			continue
		}
		v.unknown = ""
		if one.conditions(v) != False {
			return Decision{Reason: ReasonUnknownCall, Policy: one.policy.Name, Statement: one.label}
		}
	}
	for _, one := range r.list {
		if one.Effect == Allow && one.every {
			return Decision{Allow: true, Reason: ReasonAllowed, Policy: one.policy.Name, Statement: one.label}
		}
	}
	return Decision{Reason: ReasonUnknownCall}
}

// applies judges a statement whose action matches already.
func (s *Statement) applies(v *view, t target) Truth {
	v.unknown = ""
	res := s.onResource(v, t)
	if res == False {
		return False
	}
	return min(res, s.conditions(v))
}

func (s *Statement) onResource(v *view, t target) Truth {
	any, missing := False, false
	for i := range s.Resources {
		p := &s.Resources[i].pat
		var one Truth
		switch {
		case p.parts == nil && p.all():
			one = True
		case t.unknown:
			one = Unknown
		default:
			var m bool
			one, m = p.matchResource(v, t)
			missing = missing || m
		}
		if any = max(any, one); any == True {
			break
		}
	}
	if !s.Not.Resource {
		return any
	}
	if any == False && missing {
		return Unknown // nothing equals a missing value, or the statement is invalid
	}
	return any.not()
}

func (s *Statement) conditions(v *view) Truth {
	t := True
	for i := range s.Conditions {
		if t = min(t, s.Conditions[i].eval(v)); t == False {
			return False
		}
	}
	return t
}
