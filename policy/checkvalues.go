package policy

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/countersign-proxy/countersign/awsapi"
)

var (
	accountForm = regexp.MustCompile(`^(\d{12}|aws|cloudfront|aws-managed|third-party|aws-marketplace)$`)
	regionForm  = regexp.MustCompile(`^[a-z]{2,4}(-[a-z]+)+-\d+$`)
)

var partitions = []string{"aws", "aws-cn", "aws-us-gov", "aws-eusc", "aws-iso", "aws-iso-b", "aws-iso-e", "aws-iso-f"}

func (c *checker) checkResources(s *Statement) {
	if len(s.Resources) == 0 {
		c.add(SeveritySuggestion, "empty-resource", s.resourcePos, s.label, "the statement names no resources and has no effect")
	}
	for i := range s.Resources {
		r := &s.Resources[i]
		if r.Text == "*" {
			if len(s.Resources) > 1 {
				c.add(SeveritySuggestion, "redundant-resource", r.Pos, s.label, "\"*\" makes the other resources of the statement superfluous")
			}
			continue
		}
		for j := range s.Resources {
			o := &s.Resources[j]
			if i != j && o.Text != "*" && r.pat.parts == nil && o.pat.parts == nil && covers(o.pat.text, r.pat.text) && (o.pat.text != r.pat.text || j < i) {
				c.add(SeveritySuggestion, "redundant-resource", r.Pos, s.label, fmt.Sprintf("%s is covered by %s in the same statement", r.Text, o.Text))
				break
			}
		}
		c.checkARN(s.label, r.Text, r.Pos, true)
		if r.pat.early {
			c.add(SeverityWarning, "variable-early", r.Pos, s.label, "AWS replaces policy variables only after the fifth colon of an ARN; an Allow of this resource never applies, a Deny may")
		}
		if r.pat.strict != "" {
			c.add(SeverityWarning, "wildcard-in-segment", r.Pos, s.label, "whether a * in the middle of a segment reaches beyond the next colon is not documented: where that decides, an Allow does not apply and a Deny does")
		}
	}
}

// checkARN looks at the form of an ARN in Resource or in an Arn condition.
func (c *checker) checkARN(label, text string, pos Position, resource bool) {
	if strings.Contains(text, "${") {
		text = variables.ReplaceAllString(text, "*")
	}
	f := strings.SplitN(text, ":", 6)
	if len(f) < 6 {
		if !strings.HasSuffix(text, "*") || !resource {
			c.add(SeverityWarning, "short-arn", pos, label, fmt.Sprintf("%q has fewer than the six parts of an ARN; AWS does not say what it matches: an Allow never applies by it, a Deny may", text))
		}
		return
	}
	bad := func(format string, args ...any) {
		c.add(SeverityWarning, "invalid-arn", pos, label, fmt.Sprintf("%q: ", text)+fmt.Sprintf(format, args...))
	}
	wild := func(s string) bool { return strings.ContainsAny(s, "*?") }
	if !wild(f[1]) && !slices.Contains(partitions, f[1]) {
		bad("there is no partition %q", f[1])
	}
	switch {
	case f[2] == "":
		bad("the service is missing")
	case f[2] != "*" && wild(f[2]):
		bad("AWS allows no wildcard within the service")
	case f[2] != strings.ToLower(f[2]):
		bad("services are written in lower case")
	}
	if f[3] != "" && !wild(f[3]) && !regionForm.MatchString(f[3]) {
		bad("%q is not a region", f[3])
	}
	if f[4] != "" && !wild(f[4]) && !accountForm.MatchString(f[4]) {
		bad("%q is not an account of twelve digits", f[4])
	}
	switch {
	case f[5] == "":
		bad("the resource is missing after the last colon")
	case f[2] == "s3" && strings.HasPrefix(f[5], "/"):
		bad("a bucket's name comes without a slash")
	case f[2] == "s3" && (f[3] != "" || f[4] != "") && !wild(f[3]+f[4]) && !strings.Contains(f[5], "accesspoint") && !strings.Contains(f[5], "job/") && !strings.Contains(f[5], "storage-lens") && !strings.Contains(f[5], "access-grants"):
		bad("ARNs of buckets and objects have neither region nor account")
	case f[2] == "iam" && f[3] != "" && !wild(f[3]):
		bad("ARNs of IAM have no region")
	}
}

var variables = regexp.MustCompile(`\$\{[^}]*\}`)

// checkFit finds actions that none of the statement's resources can be for.
func (c *checker) checkFit(s *Statement) {
	if c.opt.Catalog == nil || s.Not.Action || s.Not.Resource || len(s.Resources) == 0 ||
		slices.ContainsFunc(s.Resources, func(r Resource) bool { return r.Text == "*" }) {
		return
	}
	for i := range s.Actions {
		a := &s.Actions[i]
		if !a.glob.exact {
			continue
		}
		prefix, name, _ := strings.Cut(a.glob.text, ":")
		service, ok := c.opt.Catalog.Service(prefix)
		if !ok {
			continue
		}
		for n, info := range service.Actions {
			if strings.ToLower(n) != name {
				continue
			}
			if len(info.Resources) == 0 {
				c.add(SeverityWarning, "action-needs-star", a.Pos, s.label, fmt.Sprintf("%s:%s supports no resources; it is matched by Resource \"*\" alone", prefix, n))
			} else if !s.fits(info.Resources) {
				c.add(SeverityWarning, "resource-mismatch", a.Pos, s.label, fmt.Sprintf("no resource of the statement is one that %s:%s is for (%s)", prefix, n, strings.Join(info.Resources, ", ")))
			}
		}
	}
}

func (s *Statement) fits(templates []string) bool {
	for _, t := range templates {
		t = strings.ReplaceAll(t, "*", "\xff")
		t = variables.ReplaceAllString(t, "\xff")
		for i := range s.Resources {
			p := &s.Resources[i].pat
			text := p.text
			for _, one := range p.parts {
				if one.key == "" {
					text += one.text
				} else {
					text += "\xff"
				}
			}
			if overlap(text, t) || p.loose != "" && overlap(p.loose, t) {
				return true
			}
		}
	}
	return false
}

func (c *checker) checkCondition(s *Statement, k *Condition) {
	t, known, decided := keyOf(c.opt.Catalog, k.key)
	if decided && !known {
		msg := fmt.Sprintf("there is no condition key %s", k.Key)
		if best := nearest(k.key, c.keyNames(k.key), 4); best != "" {
			msg += fmt.Sprintf("; did you mean %s?", best)
		}
		c.add(SeverityWarning, "unknown-key", k.KeyPos, s.label, msg)
	}
	c.checkKnowable(s, k, known)
	if known {
		c.checkType(s, k, t)
	}
	for i := range k.operands {
		c.checkValue(s, k, i)
	}
	if k.op.set == forAll && s.Effect == Allow && !s.requires(k.key) {
		c.add(SeveritySecurity, "allow-for-all-values", k.KeyPos, s.label, fmt.Sprintf("ForAllValues is true when %s is not there at all; add \"Null\": {%q: \"false\"} to require it", k.Key, k.Key))
	}
	if (k.op.family == familyBool || k.op.family == familyNull) && k.nullWants(true) && k.nullWants(false) {
		c.add(SeverityWarning, "both-booleans", k.KeyPos, s.label, "true and false together are always met")
	}
}

// requires says whether the statement has a Null condition that wants the key to be there.
func (s *Statement) requires(key string) bool {
	return slices.ContainsFunc(s.Conditions, func(n Condition) bool {
		return n.op.family == familyNull && n.key == key && n.nullWants(false) && !n.nullWants(true)
	})
}

func (c *checker) keyNames(key string) []string {
	var out []string
	prefix, _, _ := strings.Cut(key, ":")
	for k := range globalKeys {
		out = append(out, k)
	}
	if c.opt.Catalog != nil {
		if service, ok := c.opt.Catalog.Service(prefix); ok {
			for k := range service.Keys {
				out = append(out, k)
			}
		}
	}
	return out
}

// checkVariables finds policy variables whose key does not exist or cannot be known here.
func (c *checker) checkVariables(s *Statement) {
	look := func(p *pattern, pos Position) {
		for _, one := range p.parts {
			if one.key == "" {
				continue
			}
			if _, known, decided := keyOf(c.opt.Catalog, one.key); decided && !known {
				msg := fmt.Sprintf("there is no condition key %s to put in place of the variable", one.key)
				if best := nearest(one.key, c.keyNames(one.key), 4); best != "" {
					msg += fmt.Sprintf("; did you mean %s?", best)
				}
				c.add(SeverityWarning, "unknown-variable", pos, s.label, msg)
			} else if unknowableHere(one.key) {
				c.add(SeverityWarning, "variable-never-known", pos, s.label, fmt.Sprintf("the proxy cannot know %s: an Allow that needs its value never applies, a Deny may", one.key))
			}
		}
	}
	for i := range s.Resources {
		look(&s.Resources[i].pat, s.Resources[i].Pos)
	}
	for i := range s.Conditions {
		k := &s.Conditions[i]
		for j := range k.operands {
			look(&k.operands[j].pattern, k.valuePos[j])
		}
	}
}

// unknowableHere says whether the proxy can never have a value for a key.
func unknowableHere(key string) bool {
	prefix, _, _ := strings.Cut(key, ":")
	if suppliedKeys[key] || identityProvider(prefix) != "" || !beyondRequest(key) {
		return false
	}
	q := Query{Call: &awsapi.Call{}}
	_, p := newView(&q).find(key)
	return p == unknowable
}

// checkKnowable finds conditions whose key the proxy can never have a value for.
func (c *checker) checkKnowable(s *Statement, k *Condition, known bool) {
	if !known && strings.HasPrefix(k.key, "aws:") || !unknowableHere(k.key) {
		return // the first has been said already
	}
	effect := "an Allow with it never applies"
	if s.Effect == Deny {
		effect = "a Deny with it applies whenever the rest matches"
	}
	c.add(SeverityWarning, "never-evaluated", k.KeyPos, s.label, fmt.Sprintf("the proxy cannot know %s, which depends on what only AWS sees: %s. Leave such conditions to the role's own policies in AWS", k.Key, effect))
}

// suppliedKeys are those beyond the request that the pipeline supplies.
var suppliedKeys = map[string]bool{
	"aws:sourceip": true, "aws:currenttime": true, "aws:epochtime": true, "aws:useragent": true,
	"aws:securetransport": true, "aws:principalarn": true, "aws:principalaccount": true,
	"aws:username": true, "aws:requestedregion": true,
}

func (c *checker) checkType(s *Statement, k *Condition, t keyType) {
	if k.op.family == familyNull {
		return
	}
	fits := k.op.family == t.family
	switch {
	case t.family == familyARN && k.op.family == familyString:
		if k.op.relation == like {
			fits = true // usual, and equal for most purposes
		} else {
			c.add(SeveritySuggestion, "arn-as-string", k.KeyPos, s.label, fmt.Sprintf("%s holds an ARN; ArnLike compares it part by part", k.Key))
			fits = true
		}
	case k.key == "aws:epochtime" && k.op.family == familyNumeric, k.op.family == familyBinary:
		fits = true
	case t.family == familyBool && k.op.family == familyString:
		fits = false
	}
	if !fits {
		c.add(SeverityWarning, "type-mismatch", k.Pos, s.label, fmt.Sprintf("%s compares %ss, but %s holds a value of type %s", k.op.name, k.op.family, k.Key, t.family))
	}
	switch {
	case t.multi && k.op.set == single:
		c.add(SeverityWarning, "missing-set-operator", k.KeyPos, s.label, fmt.Sprintf("%s can have several values; put ForAnyValue: or ForAllValues: before the operator", k.Key))
	case !t.multi && k.op.set != single:
		c.add(SeveritySecurity, "set-operator-on-single", k.KeyPos, s.label, fmt.Sprintf("%s has one value; %s is for keys with several", k.Key, k.Operator))
	}
}

func (c *checker) checkValue(s *Statement, k *Condition, i int) {
	v, pos := k.Values[i], k.valuePos[i]
	switch k.op.family {
	case familyString:
		if k.op.relation != like && strings.ContainsAny(variables.ReplaceAllString(v, ""), "*") {
			c.add(SeverityWarning, "literal-wildcard", pos, s.label, fmt.Sprintf("%s takes %q literally; wildcards need StringLike", k.op.name, v))
		}
	case familyARN:
		if v != "*" && !strings.HasPrefix(v, "arn:") && k.operands[i].parts == nil {
			c.add(SeverityWarning, "invalid-arn", pos, s.label, fmt.Sprintf("%q is not an ARN", v))
		} else if k.operands[i].parts == nil {
			c.checkARN(s.label, v, pos, false)
		}
	case familyIP:
		if p, err := netip.ParsePrefix(v); err == nil && p.Masked() != p {
			c.add(SeveritySuggestion, "host-bits", pos, s.label, fmt.Sprintf("%s means %s", v, p.Masked()))
		}
	case familyDate:
		if n, ok := parseEpoch(v); ok && n < 10_000 {
			c.add(SeverityWarning, "epoch-year", pos, s.label, fmt.Sprintf("%q means %s seconds after 1970, not a year", v, v))
		}
	}
}
