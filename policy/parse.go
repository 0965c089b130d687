package policy

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Parse reads one policy document. name is for messages and decisions. The error
// is an Errors value with every fault and its place; a document with a fault is
// never used in part.
//
// Parse refuses what AWS refuses (unknown elements and operators, repeated keys,
// Principal in an identity policy) and what would silently mean something else than
// its author thinks (operands of the wrong type, an empty NotAction). What is legal but
// suspicious is Check's to find.
func Parse(name string, src []byte) (*Policy, error) {
	p := &parser{name: name}
	if len(src) > MaxBytes {
		p.failAt(Position{1, 1}, "the document is larger than %d bytes", MaxBytes)
		return nil, p.errs
	}
	if bytes.HasPrefix(src, []byte{0xFE, 0xFF}) || bytes.HasPrefix(src, []byte{0xFF, 0xFE}) {
		p.failAt(Position{1, 1}, "the document is UTF-16; save it as UTF-8")
		return nil, p.errs
	}
	src = bytes.Clone(bytes.TrimPrefix(src, []byte("\xEF\xBB\xBF")))
	p.lines = newLines(src)
	if !utf8.Valid(src) {
		off := 0
		for {
			r, n := utf8.DecodeRune(src[off:])
			if r == utf8.RuneError && n == 1 {
				break
			}
			off += n
		}
		p.fail(off, "the document is not UTF-8")
		return nil, p.errs
	}
	if len(bytes.TrimSpace(src)) == 0 {
		p.fail(0, "the document is empty; a policy that allows nothing is {\"Version\":%q,\"Statement\":[]}", Version2012)
		return nil, p.errs
	}
	root, serr := parseJSON(src)
	if serr != nil {
		p.fail(serr.off, "%s", serr.msg)
		return nil, p.errs
	}
	pol := p.document(root)
	if len(p.errs) > 0 {
		slices.SortStableFunc(p.errs, func(a, b *Error) int {
			return cmp.Or(a.Line-b.Line, a.Column-b.Column)
		})
		return nil, p.errs
	}
	pol.source = src
	return pol, nil
}

type parser struct {
	name      string
	lines     *lines
	errs      Errors
	variables bool
}

func (p *parser) fail(off int, format string, args ...any) {
	p.failAt(p.lines.at(off), format, args...)
}

func (p *parser) failAt(pos Position, format string, args ...any) {
	if len(p.errs) < maxErrors {
		p.errs = append(p.errs, &Error{Name: p.name, Position: pos, Message: fmt.Sprintf(format, args...)})
	}
}

// want reports whether a value has one of the kinds, and complains otherwise.
func (p *parser) want(n *node, what string, kinds ...kind) bool {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		if n.kind == k {
			return true
		}
		names[i] = k.String()
	}
	p.fail(n.off, "%s must be %s, not %s", what, strings.Join(names, " or "), n.kind)
	return false
}

var documentElements = []string{"Version", "Id", "Statement"}

var statementElements = []string{"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition", "Principal", "NotPrincipal"}

func (p *parser) document(root *node) *Policy {
	pol := &Policy{Name: p.name, Version: Version2008}
	if !p.want(root, "a policy", kindObject) {
		return pol
	}
	if m := root.member("Version"); m != nil && p.want(m.val, "Version", kindString) {
		switch m.val.text {
		case Version2008, Version2012:
			pol.Version = m.val.text
		default:
			p.fail(m.val.off, "the Version %q does not exist; write %q", m.val.text, Version2012)
		}
		pol.hasVersion, pol.versionPos = true, p.lines.at(m.val.off)
	}
	p.variables = pol.Version == Version2012
	statements := (*member)(nil)
	for i := range root.members {
		m := &root.members[i]
		switch m.key {
		case "Version":
		case "Id":
			if p.want(m.val, "Id", kindString) {
				pol.ID = m.val.text
			}
		case "Statement":
			statements = m
		default:
			p.unknownElement(m, "a policy", documentElements)
		}
	}
	if statements == nil {
		p.fail(root.off, "the policy has no Statement")
		return pol
	}
	list := []*node{statements.val}
	if statements.val.kind == kindArray {
		list = statements.val.items
	} else if !p.want(statements.val, "Statement", kindObject, kindArray) {
		return pol
	}
	if len(list) > MaxStatements {
		p.fail(statements.val.off, "more than %d statements", MaxStatements)
		return pol
	}
	sids := make(map[string]int)
	for i, n := range list {
		if !p.want(n, "a statement", kindObject) {
			continue
		}
		s := p.statement(n)
		s.label = fmt.Sprintf("#%d", i+1)
		if s.Sid != "" {
			if first, again := sids[s.Sid]; again {
				p.fail(n.member("Sid").val.off, "the Sid %q is that of statement %d as well; Sids must be unique", s.Sid, first)
			}
			sids[s.Sid] = i + 1
			s.label = s.Sid
		}
		pol.Statements = append(pol.Statements, s)
	}
	return pol
}

func (p *parser) unknownElement(m *member, where string, known []string) {
	msg := fmt.Sprintf("%q is not an element of %s", m.key, where)
	if best := nearest(strings.ToLower(m.key), known, 3); best != "" {
		msg += fmt.Sprintf("; did you mean %q?", best)
	}
	p.fail(m.off, "%s", msg)
}

func (p *parser) statement(n *node) Statement {
	s := Statement{Pos: p.lines.at(n.off)}
	var action, resource *member
	pick := func(slot **member, m *member, not *bool, negated bool) {
		if *slot != nil {
			p.fail(m.off, "a statement has either %s or %s, not both", strings.TrimPrefix(m.key, "Not"), "Not"+strings.TrimPrefix(m.key, "Not"))
			return
		}
		*slot, *not = m, negated
	}
	effect := false
	for i := range n.members {
		m := &n.members[i]
		switch m.key {
		case "Sid":
			if p.want(m.val, "Sid", kindString) {
				s.Sid = m.val.text
				if !sidChars(s.Sid) {
					p.fail(m.val.off, "the Sid %q may hold only the letters A-Z and a-z and digits", s.Sid)
				}
			}
		case "Effect":
			effect = true
			if !p.want(m.val, "Effect", kindString) {
				break
			}
			s.Effect = Effect(m.val.text)
			if s.Effect != Allow && s.Effect != Deny {
				p.fail(m.val.off, "Effect is \"Allow\" or \"Deny\" in exactly this spelling, not %q", m.val.text)
			}
		case "Action", "NotAction":
			pick(&action, m, &s.Not.Action, m.key == "NotAction")
		case "Resource", "NotResource":
			pick(&resource, m, &s.Not.Resource, m.key == "NotResource")
		case "Condition":
			s.hasCond, s.condPos = true, p.lines.at(m.off)
			s.Conditions = p.conditions(m.val)
		case "Principal", "NotPrincipal":
			p.fail(m.off, "%s is for resource policies and trust policies only; the configuration says which role or identity this policy applies to", m.key)
		default:
			p.unknownElement(m, "a statement", statementElements)
		}
	}
	if !effect {
		p.fail(n.off, "the statement has no Effect")
	}
	if action == nil {
		p.fail(n.off, "the statement has neither Action nor NotAction")
	} else {
		s.actionPos = p.lines.at(action.off)
		s.Actions = p.actions(action)
	}
	if resource == nil {
		p.fail(n.off, "the statement has neither Resource nor NotResource; write \"Resource\": \"*\" for every resource")
	} else {
		s.resourcePos = p.lines.at(resource.off)
		s.Resources = p.resources(resource)
	}
	return s
}

func sidChars(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := lower(s[i]); (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// strings reads a string or an array of strings.
func (p *parser) strings(m *member) []*node {
	list := []*node{m.val}
	if m.val.kind == kindArray {
		list = m.val.items
	} else if !p.want(m.val, m.key, kindString, kindArray) {
		return nil
	}
	if len(list) == 0 && strings.HasPrefix(m.key, "Not") {
		p.fail(m.val.off, "an empty %s would match everything; name what is meant, or use %s", m.key, strings.TrimPrefix(m.key, "Not"))
	}
	out := list[:0:0]
	for _, n := range list {
		if p.want(n, "each entry of "+m.key, kindString) {
			out = append(out, n)
		}
	}
	return out
}

func (p *parser) actions(m *member) []Action {
	var out []Action
	for _, n := range p.strings(m) {
		if err := validAction(n.text); err != nil {
			p.fail(n.off, "%s", err)
			continue
		}
		low := strings.ToLower(n.text)
		if low == "*:*" {
			low = "*"
		}
		out = append(out, Action{Text: n.text, Pos: p.lines.at(n.off), glob: newGlob(compileWildcards(low))})
	}
	return out
}

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

// validAction checks the shape service:Action; the service may not hold a
// wildcard ("Vendor ... is not valid" is what AWS says), except in "*:*".
func validAction(s string) error {
	if s == "*" || s == "*:*" {
		return nil
	}
	service, name, ok := strings.Cut(s, ":")
	if !ok {
		return fmt.Errorf("the action %q has no service; write it as service:Action, such as s3:GetObject", s)
	}
	if service == "" || strings.Trim(service, letters+"0123456789-") != "" {
		return fmt.Errorf("the action %q must begin with the name of one service; wildcards are allowed after the colon only", s)
	}
	if name == "" || strings.Trim(name, letters+"0123456789_-*?") != "" {
		return fmt.Errorf("%q is not an action: letters, digits and the wildcards * and ? may follow the colon", s)
	}
	return nil
}

func (p *parser) resources(m *member) []Resource {
	var out []Resource
	for _, n := range p.strings(m) {
		pat, err := compileResource(n.text, p.variables)
		if err != nil {
			p.fail(n.off, "%s", err)
			continue
		}
		out = append(out, Resource{Text: n.text, Pos: p.lines.at(n.off), pat: pat})
	}
	return out
}

func (p *parser) conditions(n *node) []Condition {
	if !p.want(n, "Condition", kindObject) {
		return nil
	}
	var out []Condition
	for i := range n.members {
		m := &n.members[i]
		op, err := parseOperator(m.key)
		if err != nil {
			p.fail(m.off, "%s", err)
			continue
		}
		if !p.want(m.val, "the conditions of "+m.key, kindObject) {
			continue
		}
		seen := make(map[string]string)
		for j := range m.val.members {
			k := &m.val.members[j]
			c := Condition{Operator: m.key, Key: k.key, Pos: p.lines.at(m.off), KeyPos: p.lines.at(k.off), op: op, key: strings.ToLower(k.key)}
			if !validKey(k.key) {
				p.fail(k.off, "%q is not a condition key; keys look like aws:SourceIp or s3:prefix", k.key)
				continue
			}
			if first, again := seen[c.key]; again {
				p.fail(k.off, "the condition key %q is already given as %q; keys are case-insensitive", k.key, first)
				continue
			}
			seen[c.key] = k.key
			p.values(&c, k)
			out = append(out, c)
		}
	}
	return out
}

func validKey(s string) bool {
	prefix, name, ok := strings.Cut(s, ":")
	return ok && prefix != "" && name != "" && len(s) <= 512 &&
		strings.Trim(prefix, letters+"0123456789-.") == "" &&
		!strings.ContainsAny(name, "*?${}")
}

func (p *parser) values(c *Condition, k *member) {
	list := []*node{k.val}
	if k.val.kind == kindArray {
		list = k.val.items
	}
	if len(list) == 0 {
		p.fail(k.val.off, "the condition on %s has no values; AWS does not document what that means", k.key)
	}
	for _, n := range list {
		if !p.want(n, "a value of "+k.key, kindString, kindNumber, kindBool) {
			continue
		}
		o, err := parseOperand(&c.op, n.text, p.variables)
		if err != nil {
			p.fail(n.off, "%s", err)
			continue
		}
		c.Values = append(c.Values, n.text)
		c.operands = append(c.operands, o)
		c.valuePos = append(c.valuePos, p.lines.at(n.off))
	}
}
