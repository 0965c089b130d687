package policy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// difference is one known cause of disagreement with the other evaluator. A
// disagreement counts as explained when rewriting the case so that the cause is gone
// makes both agree; so a cause cannot hide another one.
type difference struct {
	name    string
	why     string
	rewrite func(c *simCase)
}

var differences = []difference{
	{"request for all resources",
		"The other evaluator lets an Allow of particular ARNs match a request for \"*\", as for list calls that return what may be seen. Such a request needs Resource \"*\" here, which is what AWS documents for actions without resource-level permissions.",
		func(c *simCase) {
			if c.Resource == "*" {
				c.Resource = "arn:aws:s3:::data"
			}
		}},
	{"short ARN",
		"AWS does not document ARNs of fewer than six segments. The other evaluator continues them with wildcards, and lets NotResource match nothing because of them. Here a short ARN that does not end in * may match (a Deny applies, an Allow does not).",
		func(c *simCase) {
			c.eachStatement(func(s map[string]any) {
				mapStrings(s, []string{"Resource", "NotResource"}, func(v string) string {
					for v != "*" && strings.Count(v, ":") < 5 {
						v += ":*"
					}
					return v
				})
			})
		}},
	{"variables of version 2008",
		"In the version 2008-10-17, and in a policy without Version, ${...} is literal text (reference_policies_elements_version). The other evaluator replaces variables in every version.",
		func(c *simCase) {
			for _, p := range slices.Concat(c.Policies, c.Boundaries) {
				p.(map[string]any)["Version"] = Version2012
			}
		}},
	{"seconds since 1970",
		"The other evaluator takes seconds for milliseconds.",
		func(c *simCase) {
			iso := strings.NewReplacer("1780315200", "2026-06-01T12:00:00Z", "1767225600", "2026-01-01T00:00:00Z")
			c.eachCondition(func(op string, keys map[string]any) string {
				for k := range keys {
					mapStrings(keys, []string{k}, iso.Replace)
				}
				return op
			})
			mapStrings(c.Context, []string{"s3:RetainUntil"}, iso.Replace)
		}},
	{"several values without a set operator",
		"AWS does not say what an operator without ForAllValues or ForAnyValue makes of several values. The other evaluator fails the condition; here it is unknown unless every value gives the same result.",
		func(c *simCase) {
			c.eachCondition(func(op string, keys map[string]any) string {
				if keys["aws:TagKeys"] != nil || keys["aws:tagkeys"] != nil || keys["dynamodb:LeadingKeys"] != nil || keys["dynamodb:leadingkeys"] != nil {
					if !strings.Contains(op, ":") && op != "Null" {
						return "ForAnyValue:" + op
					}
				}
				return op
			})
		}},
	{"negation with a variable that has no value",
		"AWS says both that a variable without a value equals nothing and that it may invalidate its statement. The other evaluator never lets it match; here a negated operator or NotResource is unknown, so that a Deny applies.",
		func(c *simCase) {
			if v, _ := c.Context["aws:PrincipalTag/team"].(string); v == "" {
				c.Context["aws:PrincipalTag/team"] = "blue"
			}
		}},
	{"ForAnyValue with IfExists and no key",
		"IfExists makes a condition true when the key is not there, whatever the operator (Conditions_IfExists). The other evaluator does not look for IfExists behind ForAnyValue.",
		func(c *simCase) {
			c.eachCondition(func(op string, keys map[string]any) string {
				if base, ok := strings.CutPrefix(op, "ForAnyValue:"); ok {
					return "ForAnyValue:" + strings.TrimSuffix(base, "IfExists")
				}
				return op
			})
		}},
	{"value of the wrong type",
		"A value of the request that is no number, date, boolean or ARN where the operator wants one: the other evaluator fails the condition, here it is unknown, so that a Deny applies.",
		func(c *simCase) {
			fix := func(key, wrong, right string) {
				if c.Context[key] == wrong {
					c.Context[key] = right
				}
			}
			fix("s3:max-keys", "many", "7")
			fix("lambda:Flag", "yes", "true")
			fix("aws:SourceArn", "not an arn", "arn:aws:sns:eu-west-1:123456789012:other")
		}},
	{"single address of the other family",
		"The other evaluator fails NotIpAddress when a single address of the policy and the address of the request are of different families, and compares single IPv6 addresses as text.",
		func(c *simCase) {
			c.eachCondition(func(op string, keys map[string]any) string {
				for k := range keys {
					mapStrings(keys, []string{k}, strings.NewReplacer("203.0.113.7", "203.0.113.7/32", "2001:DB8:0::7", "2001:db8::7/128").Replace)
				}
				return op
			})
		}},
	{"the range 0.0.0.0/0",
		"The other evaluator matches no address with a prefix of length 0.",
		func(c *simCase) {
			c.eachCondition(func(op string, keys map[string]any) string {
				for k := range keys {
					mapStrings(keys, []string{k}, func(v string) string {
						if v == "0.0.0.0/0" {
							return "192.0.0.0/2"
						}
						return v
					})
				}
				return op
			})
		}},
	{"variable inside an ARN of a condition",
		"The other evaluator cuts an ARN at its colons before it replaces variables, and the names of variables hold colons.",
		func(c *simCase) {
			c.eachCondition(func(op string, keys map[string]any) string {
				for k := range keys {
					mapStrings(keys, []string{k}, strings.NewReplacer("${aws:PrincipalAccount}", account).Replace)
				}
				return op
			})
		}},
	{"short ARN in a condition",
		"The other evaluator fails even ArnNotEquals when the policy's ARN has fewer than six components; here what cannot match under any reading does not match.",
		func(c *simCase) {
			c.eachCondition(func(op string, keys map[string]any) string {
				for k := range keys {
					mapStrings(keys, []string{k}, func(v string) string {
						for strings.HasPrefix(v, "arn:") && strings.Count(v, ":") < 5 {
							v += ":*"
						}
						return v
					})
				}
				return op
			})
		}},
	{"escaped wildcards without wildcards",
		"${*}, ${?} and ${$} stand for the characters in every operator that takes variables (policy-vars-specialchars). The other evaluator leaves them as they are where the operator takes no wildcards.",
		func(c *simCase) {
			c.eachCondition(func(op string, keys map[string]any) string {
				for k := range keys {
					if !strings.Contains(op, "Like") {
						mapStrings(keys, []string{k}, strings.NewReplacer("${*}", "*", "${?}", "?").Replace)
					}
				}
				return op
			})
		}},
}

const severalCauses = "several"

// explainDifferences counts the disagreements by cause, and fails the test for each
// that has none.
func explainDifferences(t *testing.T, differ []simCase) map[string]int {
	var rewritten []simCase
	for i := range differ {
		all := differ[i].clone(t)
		for _, d := range differences {
			one := differ[i].clone(t)
			d.rewrite(&one)
			one.ID = len(rewritten) + 1
			rewritten = append(rewritten, one)
			d.rewrite(&all)
		}
		all.ID = len(rewritten) + 1
		rewritten = append(rewritten, all)
	}
	results := simulate(t, rewritten)
	agree := func(i int) bool {
		c := &rewritten[i]
		return c.compile(t).Decide(c.query()).Allow == (results[i] == "Allowed")
	}
	counts := make(map[string]int)
	failures := 0
	width := len(differences) + 1
next:
	for i := range differ {
		for j, d := range differences {
			if agree(i*width + j) {
				counts[d.name]++
				continue next
			}
		}
		if agree(i*width + width - 1) {
			counts[severalCauses]++
			continue
		}
		if failures++; failures <= 5 {
			c := &rewritten[i*width+width-1]
			src, _ := json.Marshal(c)
			t.Errorf("no explanation: here %+v, there %s\n%s", c.compile(t).Decide(c.query()), results[i*width+width-1], src)
		}
	}
	if failures > 0 {
		t.Fatalf("%d of %d disagreements have no explanation", failures, len(differ))
	}
	for _, d := range differences {
		if counts[d.name] == 0 {
			t.Errorf("%q explains nothing any more; remove it", d.name)
		}
	}
	return counts
}

func (c *simCase) clone(t *testing.T) simCase {
	src, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var out simCase
	if err := json.Unmarshal(src, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func (c *simCase) eachStatement(do func(map[string]any)) {
	for _, p := range slices.Concat(c.Policies, c.Boundaries) {
		switch s := p.(map[string]any)["Statement"].(type) {
		case []any:
			for _, one := range s {
				do(one.(map[string]any))
			}
		case map[string]any:
			do(s)
		}
	}
}

// eachCondition lets do change the keys of each operator and rename it.
func (c *simCase) eachCondition(do func(op string, keys map[string]any) string) {
	c.eachStatement(func(s map[string]any) {
		cond, ok := s["Condition"].(map[string]any)
		if !ok {
			return
		}
		out := make(map[string]any)
		for op, keys := range cond {
			name := do(op, keys.(map[string]any))
			if have, ok := out[name].(map[string]any); ok {
				for k, v := range keys.(map[string]any) {
					have[k] = v
				}
				continue
			}
			out[name] = keys
		}
		s["Condition"] = out
	})
}

// mapStrings changes the strings and numbers at some keys, also within arrays.
func mapStrings(m map[string]any, keys []string, change func(string) string) {
	text := func(v any) any {
		switch v := v.(type) {
		case string:
			return change(v)
		case float64:
			return change(fmt.Sprintf("%.0f", v))
		}
		return v
	}
	for _, k := range keys {
		switch v := m[k].(type) {
		case []any:
			for i := range v {
				v[i] = text(v[i])
			}
		case string, float64:
			m[k] = text(v)
		}
	}
}
