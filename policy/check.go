package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/countersign-proxy/countersign/words"
)

// Severity ranks findings, in the words of IAM Access Analyzer.
type Severity string

// The severities, worst first.
const (
	SeverityError      Severity = "error"            // the policy cannot be used
	SeveritySecurity   Severity = "security-warning" // it allows more than is prudent
	SeverityWarning    Severity = "warning"          // it probably does not do what is meant
	SeveritySuggestion Severity = "suggestion"       // it could be said better
)

// Finding is one remark on a policy.
type Finding struct {
	Severity  Severity `json:"severity"`
	Code      string   `json:"code"` // stable, such as "unknown-action"
	Policy    string   `json:"policy"`
	Statement string   `json:"statement,omitempty"`
	Position
	Message string `json:"message"`
}

func (f Finding) String() string {
	return fmt.Sprintf("%s:%s: %s: %s (%s)", f.Policy, f.Position, f.Severity, f.Message, f.Code)
}

// CheckOptions say what to check for; the zero value checks a policy as it is
// enforced here, without tables of actions.
type CheckOptions struct {
	Catalog Catalog // nil: actions and keys of services are not checked
	Session bool    // also as a session policy that AWS enforces
}

// CheckSource checks a document. Faults that make Parse refuse it are findings of
// SeverityError, and then the only ones.
func CheckSource(name string, src []byte, o CheckOptions) []Finding {
	p, err := Parse(name, src)
	var faults Errors
	if errors.As(err, &faults) {
		out := make([]Finding, len(faults))
		for i, f := range faults {
			out[i] = Finding{Severity: SeverityError, Code: "syntax", Policy: name, Position: f.Position, Message: f.Message}
		}
		return out
	}
	return Check(p, o)
}

// Check finds what is legal and suspicious in a policy, in the order of the document.
func Check(p *Policy, o CheckOptions) []Finding {
	c := &checker{policy: p, opt: o}
	c.checkDocument()
	for i := range p.Statements {
		s := &p.Statements[i]
		c.checkActions(s)
		c.checkResources(s)
		c.checkVariables(s)
		c.checkBreadth(s)
		c.checkFit(s)
		for j := range s.Conditions {
			c.checkCondition(s, &s.Conditions[j])
		}
		if s.hasCond && len(s.Conditions) == 0 {
			c.add(SeveritySuggestion, "empty-condition", s.condPos, s.label, "the Condition is empty and has no effect")
		}
	}
	c.checkReach()
	if o.Session {
		c.checkSession()
	}
	slices.SortStableFunc(c.out, func(a, b Finding) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	return c.out
}

type checker struct {
	policy *Policy
	opt    CheckOptions
	out    []Finding
}

func (c *checker) add(sev Severity, code string, at Position, statement, msg string) {
	c.out = append(c.out, Finding{sev, code, c.policy.Name, statement, at, msg})
}

func (c *checker) checkDocument() {
	p := c.policy
	start := Position{1, 1}
	switch {
	case !p.hasVersion:
		c.add(SeverityWarning, "missing-version", start, "", "without Version the language is that of "+Version2008+", which has no policy variables; add \"Version\": \""+Version2012+"\"")
	case p.Version == Version2008:
		c.add(SeveritySuggestion, "old-version", p.versionPos, "", "the language of "+Version2008+" has no policy variables; use "+Version2012)
	}
	if p.Version == Version2008 {
		c.literalVariables()
	}
	if len(p.Statements) == 0 {
		c.add(SeverityWarning, "empty-statement", start, "", "the policy has no statements: it allows nothing")
	}
	if n := characters(p.source); n > managedLimit {
		c.add(SeveritySuggestion, "long", start, "", fmt.Sprintf("%d characters without white space; AWS takes %d in a managed policy (the proxy takes more)", n, managedLimit))
	}
}

// literalVariables finds text that looks like a policy variable and is none.
func (c *checker) literalVariables() {
	const msg = "%q is literal text in the version 2008-10-17; set Version to " + Version2012 + " for policy variables"
	for i := range c.policy.Statements {
		s := &c.policy.Statements[i]
		for _, r := range s.Resources {
			if strings.Contains(r.Text, "${") {
				c.add(SeverityWarning, "variable-needs-version", r.Pos, s.label, fmt.Sprintf(msg, r.Text))
			}
		}
		for _, cond := range s.Conditions {
			for j, v := range cond.Values {
				if strings.Contains(v, "${") {
					c.add(SeverityWarning, "variable-needs-version", cond.valuePos[j], s.label, fmt.Sprintf(msg, v))
				}
			}
		}
	}
}

func (c *checker) checkActions(s *Statement) {
	if len(s.Actions) == 0 {
		c.add(SeveritySuggestion, "empty-action", s.actionPos, s.label, "the statement names no actions and has no effect")
	}
	for i := range s.Actions {
		a := &s.Actions[i]
		for j := range s.Actions {
			if i == j || !covers(s.Actions[j].glob.text, a.glob.text) {
				continue
			}
			if a.glob.text == s.Actions[j].glob.text && i < j {
				continue // the later one is the repeat
			}
			c.add(SeveritySuggestion, "redundant-action", a.Pos, s.label, fmt.Sprintf("%s is covered by %s in the same statement", a.Text, s.Actions[j].Text))
			break
		}
		c.checkAction(s, a)
	}
}

func (c *checker) checkAction(s *Statement, a *Action) {
	if c.opt.Catalog == nil || a.glob.all() {
		return
	}
	prefix, name, _ := strings.Cut(strings.ToLower(a.Text), ":")
	service, ok := c.opt.Catalog.Service(prefix)
	if !ok {
		msg := fmt.Sprintf("there is no service %q", prefix)
		if best := nearest(prefix, c.opt.Catalog.Prefixes(), 2); best != "" {
			msg += fmt.Sprintf("; did you mean %s:%s?", best, a.Text[len(prefix)+1:])
		}
		c.add(SeverityWarning, "unknown-service", a.Pos, s.label, msg)
		return
	}
	names := make([]string, 0, len(service.Actions))
	g := newGlob(compileWildcards(name))
	for n := range service.Actions {
		if g.match(strings.ToLower(n)) {
			return
		}
		names = append(names, n)
	}
	msg := fmt.Sprintf("there is no action %s", a.Text)
	if !g.exact {
		msg = fmt.Sprintf("no action matches %s", a.Text)
	}
	if best := nearest(strings.Trim(name, "*?"), names, 4); best != "" {
		msg += fmt.Sprintf("; did you mean %s:%s?", prefix, best)
	}
	c.add(SeverityWarning, "unknown-action", a.Pos, s.label, msg)
}

// checkBreadth finds statements that give more than their author may see.
func (c *checker) checkBreadth(s *Statement) {
	if s.Effect != Allow {
		return
	}
	anyResource := slices.ContainsFunc(s.Resources, func(r Resource) bool { return r.Text == "*" })
	if s.Not.Action {
		c.add(SeveritySecurity, "allow-not-action", s.actionPos, s.label, "Allow with NotAction allows every action that is not listed, of every service, also those to come")
	}
	if s.Not.Resource {
		c.add(SeveritySecurity, "allow-not-resource", s.resourcePos, s.label, "Allow with NotResource allows every resource that is not listed, in every account")
	}
	wide := anyResource || s.Not.Resource
	if !s.Not.Action && !s.Not.Resource && anyResource && len(s.Conditions) == 0 && s.everyAction() {
		c.add(SeveritySecurity, "allow-everything", s.actionPos, s.label, "every action on every resource: this is an administrator, and the only statement that lets calls pass that the proxy does not understand")
	}
	for _, one := range []struct{ action, key, code, what string }{
		{"iam:passrole", "iam:passedtoservice", "pass-role-star", "iam:PassRole on any role lets a program hand any role of the account to a service; name the roles, or add the condition iam:PassedToService"},
		{"iam:createservicelinkedrole", "iam:awsservicename", "create-slr-star", "iam:CreateServiceLinkedRole for any service; name the role, or add the condition iam:AWSServiceName"},
	} {
		if s.listsAction(one.action) == s.Not.Action {
			continue
		}
		roleStar := wide || slices.ContainsFunc(s.Resources, func(r Resource) bool {
			return r.pat.parts == nil && covers(r.pat.text, "arn:aws:iam::\xff:role/\xff")
		})
		conditioned := slices.ContainsFunc(s.Conditions, func(k Condition) bool { return k.key == one.key && !k.op.negated && !k.op.ifExists })
		if roleStar && !conditioned && !s.everyAction() {
			c.add(SeveritySecurity, one.code, s.resourcePos, s.label, one.what)
		}
	}
}

// everyAction says whether an entry of Action or NotAction is "*".
func (s *Statement) everyAction() bool {
	return slices.ContainsFunc(s.Actions, func(a Action) bool { return a.glob.all() })
}

// checkReach finds statements that change nothing: an Allow that a Deny without
// conditions takes back whole, and a statement that another one of the same effect
// covers.
func (c *checker) checkReach() {
	list := c.policy.Statements
	for i := range list {
		s := &list[i]
		if len(s.Actions) == 0 || len(s.Resources) == 0 {
			continue
		}
		if o := c.coveredBy(i, Deny); o != nil && s.Effect == Allow {
			c.add(SeverityWarning, "unreachable-statement", s.Pos, s.label, fmt.Sprintf("statement %s denies everything that this one allows", o.label))
		} else if o := c.coveredBy(i, s.Effect); o != nil {
			c.add(SeveritySuggestion, "redundant-statement", s.Pos, s.label, fmt.Sprintf("statement %s says as much without this one", o.label))
		}
	}
}

// coveredBy finds another statement of an effect that matches whatever statement i
// does; of two that are equal, only the later one is covered.
func (c *checker) coveredBy(i int, effect Effect) *Statement {
	list := c.policy.Statements
	for j := range list {
		if i != j && list[j].Effect == effect && list[j].coversStatement(&list[i]) && (j < i || !list[i].coversStatement(&list[j])) {
			return &list[j]
		}
	}
	return nil
}

// coversStatement reports whether o, which has no conditions, matches whatever s matches.
func (o *Statement) coversStatement(s *Statement) bool {
	if len(o.Conditions) > 0 || o.Not != (Negation{}) {
		return false
	}
	for i := range s.Actions {
		if s.Not.Action {
			if !o.everyAction() {
				return false
			}
			break
		}
		if !slices.ContainsFunc(o.Actions, func(a Action) bool { return covers(a.glob.text, s.Actions[i].glob.text) }) {
			return false
		}
	}
	for i := range s.Resources {
		r := &s.Resources[i]
		if !slices.ContainsFunc(o.Resources, func(x Resource) bool {
			if x.Text == "*" {
				return true
			}
			return !s.Not.Resource && r.pat.parts == nil && x.pat.parts == nil && x.pat.strict == "" && x.pat.loose == "" &&
				covers(x.pat.text, r.pat.text)
		}) {
			return false
		}
	}
	return true
}

// nearest returns the candidate that a word probably stands for, if no more than
// limit letters of it, and no more than half of them, are wrong; "" otherwise.
func nearest(word string, candidates []string, limit int) string {
	return words.Nearest(word, candidates, min(limit, len(word)/2))
}
