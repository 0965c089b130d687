package policy

import (
	"fmt"
	"strings"
)

// pattern is text of a policy that may hold wildcards and policy variables.
type pattern struct {
	glob          // when it has no variables
	parts  []part // when it has
	strict string // resources only: with segStar where the meaning is disputed; "" when it is not
	loose  string // resources only: the widest reading, when it is wider than glob's
	early  bool   // resources only: a variable stands before the fifth colon
}

// part is literal compiled text or one variable.
type part struct {
	text     string
	key      string // lower-case; "" for text
	fallback string
	hasDef   bool
}

// compileText reads policy variables (when the version has them) and wildcards
// (when the place allows them).
func compileText(s string, variables, wildcards bool) (pattern, error) {
	literal := func(t string) string {
		if wildcards {
			return compileWildcards(t)
		}
		return t
	}
	if !variables || !strings.Contains(s, "${") {
		return pattern{glob: newGlob(literal(s))}, nil
	}
	var parts []part
	add := func(t string) {
		if n := len(parts); n > 0 && parts[n-1].key == "" {
			parts[n-1].text += t
		} else if t != "" {
			parts = append(parts, part{text: t})
		}
	}
	variable := false
	for {
		at := strings.Index(s, "${")
		if at < 0 {
			add(literal(s))
			break
		}
		add(literal(s[:at]))
		body, rest, err := variableBody(s[at+2:])
		if err != nil {
			return pattern{}, err
		}
		s = rest
		switch body {
		case "*", "?", "$":
			add(body)
			continue
		}
		p, err := parseVariable(body)
		if err != nil {
			return pattern{}, err
		}
		parts = append(parts, p)
		variable = true
	}
	if variable {
		return pattern{parts: parts}, nil
	}
	text := ""
	if len(parts) > 0 {
		text = parts[0].text
	}
	return pattern{glob: newGlob(text)}, nil
}

// variableBody cuts at the brace that ends the variable; a brace inside a
// quoted default does not.
func variableBody(s string) (body, rest string, err error) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\'':
			quoted = !quoted
		case s[i] == '}' && !quoted:
			return s[:i], s[i+1:], nil
		}
	}
	return "", "", fmt.Errorf("the policy variable %q is not closed; write ${$} for a dollar sign that starts no variable", "${"+s)
}

func parseVariable(body string) (part, error) {
	name, def, hasDef := strings.Cut(body, ",")
	name = strings.TrimSpace(name)
	prefix, key, ok := strings.Cut(name, ":")
	if !ok || prefix == "" || key == "" || strings.ContainsAny(name, "{}$*?") {
		return part{}, fmt.Errorf("%q is not a policy variable: expected a condition key such as ${aws:username}, or one of ${*} ${?} ${$}", "${"+body+"}")
	}
	p := part{key: strings.ToLower(name), hasDef: hasDef}
	if hasDef {
		def = strings.TrimSpace(def)
		if len(def) < 2 || def[0] != '\'' || def[len(def)-1] != '\'' || strings.Contains(def[1:len(def)-1], "'") {
			return part{}, fmt.Errorf("the default of the policy variable %q must stand in single quotation marks: ${key, 'default'}", "${"+body+"}")
		}
		p.fallback = def[1 : len(def)-1]
	}
	return p, nil
}

// resolved is a pattern with the values of one request in place.
type resolved struct {
	text string
	// missing: a variable has no value and no default. AWS says both that such a
	// value equals nothing and that the whole statement may be invalid.
	missing bool
	// unknown: a variable's value cannot be known; it stands as a wildcard, so
	// that a mismatch is certain and a match is not.
	unknown bool
}

func (p *pattern) resolve(v *view) resolved {
	if p.parts == nil {
		return resolved{text: p.text}
	}
	var r resolved
	var b strings.Builder
	for i := range p.parts {
		one := &p.parts[i]
		if one.key == "" {
			b.WriteString(one.text)
			continue
		}
		value, state := v.variable(one.key)
		switch {
		case state == absent && one.hasDef:
			b.WriteString(one.fallback)
		case state == absent:
			r.missing = true
		case state == unknowable:
			r.unknown = true
			b.WriteByte(star)
		default:
			b.WriteString(value)
		}
	}
	r.text = b.String()
	return r
}

// compileResource reads one entry of Resource or NotResource.
//
// AWS matches an ARN segment by segment but lets a * that ends a segment "expand to
// match beyond the colon boundaries" (reference_policies_elements_resource). A *
// in the middle of one of the first five segments is read both ways; an ARN
// of fewer than six segments is taken by AWS to go on with anything, which is not
// documented. Where readings differ the match is unknown.
func compileResource(s string, variables bool) (pattern, error) {
	if s != "*" && !strings.HasPrefix(s, "arn:") {
		return pattern{}, fmt.Errorf("the resource %q is neither \"*\" nor an ARN (arn:partition:service:region:account:resource)", s)
	}
	p, err := compileText(s, variables, true)
	if err != nil || s == "*" {
		return p, err
	}
	if p.parts != nil {
		colons := 0
		for i := range p.parts {
			if p.parts[i].key != "" {
				p.early = p.early || colons < 5
			} else {
				colons += strings.Count(p.parts[i].text, ":")
			}
		}
		return p, nil
	}
	p.strict = strictText(p.text)
	if strings.Count(p.text, ":") < 5 {
		p.loose = p.text + ":\xff"
	}
	return p, nil
}

// strictText puts segStar for each star inside one of the first five segments
// that does not end it; "" when there is none.
func strictText(text string) string {
	var b []byte
	colons := 0
	for i := 0; i < len(text) && colons < 5; i++ {
		switch {
		case text[i] == ':':
			colons++
		case text[i] == star && i+1 < len(text) && text[i+1] != ':':
			if b == nil {
				b = []byte(text)
			}
			b[i] = segStar
		}
	}
	return string(b)
}

// matchResource compares one resource of a request, or all that a pattern of the
// request stands for. missing says that a variable had no value.
func (p *pattern) matchResource(v *view, on target) (t Truth, missing bool) {
	if p.parts == nil {
		switch {
		case on.pattern != "":
			return matchWhole(p.text, p.strict, p.loose, on.pattern), false
		case p.loose == "" && p.strict == "":
			return truth(p.match(on.arn)), false
		}
		return matchTexts(p.text, p.strict, p.loose, on.arn), false
	}
	r := p.resolve(v)
	if r.missing {
		return False, true
	}
	strict, loose := strictText(r.text), ""
	if strings.Count(r.text, ":") < 5 {
		loose = r.text + ":\xff"
	}
	if on.pattern != "" {
		t = matchWhole(r.text, strict, loose, on.pattern)
	} else {
		t = matchTexts(r.text, strict, loose, on.arn)
	}
	if t == True && (r.unknown || p.early) {
		t = Unknown
	}
	return t, false
}

// matchWhole is True when the policy's text matches all that the request's pattern
// stands for, False when it matches nothing of it.
func matchWhole(text, strict, loose, pattern string) Truth {
	switch {
	case strict == "" && covers(text, pattern):
		return True
	case !apart(text, pattern) && overlap(text, pattern), loose != "" && overlap(loose, pattern):
		return Unknown
	}
	return False
}

func matchTexts(text, strict, loose, resource string) Truth {
	switch {
	case match(text, resource):
		if strict != "" && !matchSegments(strict, resource) {
			return Unknown
		}
		return True
	case loose != "" && match(loose, resource):
		return Unknown
	}
	return False
}
