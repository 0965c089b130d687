package awsapi

import "strings"

// arnTemplate is an ARN with variables, such as
// arn:${Partition}:sqs:${Region}:${Account}:${QueueName}.
type arnTemplate struct {
	text    string
	service string
	parts   []arnPart
	vars    int // variables beside partition, region and account
}

type arnPart struct {
	text     string
	variable bool
}

func parseARNTemplate(s string) arnTemplate {
	t := arnTemplate{text: s}
	if f := strings.SplitN(s, ":", 4); len(f) == 4 {
		t.service = f[2]
	}
	for s != "" {
		before, rest, ok := strings.Cut(s, "${")
		if before != "" {
			t.parts = append(t.parts, arnPart{before, false})
		}
		if !ok {
			break
		}
		name, after, _ := strings.Cut(rest, "}")
		t.parts = append(t.parts, arnPart{name, true})
		switch name {
		case "Partition", "Region", "Account":
		default:
			t.vars++
		}
		s = after
	}
	return t
}

// fill puts values into the template. What is not known becomes "*", and open
// says that this happened.
func (t arnTemplate) fill(c *Call, value func(name string) (string, bool)) (arn string, open bool) {
	var b strings.Builder
	for _, p := range t.parts {
		if !p.variable {
			b.WriteString(p.text)
			continue
		}
		v, ok := "", true
		switch p.text {
		case "Partition":
			v = c.Host.Partition
		case "Region":
			v = c.Region
		case "Account":
			v = c.AccountID
		default:
			v, ok = value(p.text)
		}
		if !ok || v == "" {
			v, open = "*", true
		}
		b.WriteString(v)
	}
	return b.String(), open
}

// fits reports whether a whole ARN may be one of the template's: the same
// service, and the same literal text where the template has any. A wildcard in
// the template's own text stands for anything.
func (t arnTemplate) fits(arn string) bool {
	f := strings.SplitN(arn, ":", 6)
	if len(f) != 6 || f[0] != "arn" || f[1] == "" || f[5] == "" {
		return false
	}
	rest := arn
	for i, p := range t.parts {
		if p.variable {
			continue
		}
		for j, lit := range strings.Split(p.text, "*") {
			at := strings.Index(rest, lit)
			if at < 0 || at > 0 && i == 0 && j == 0 {
				return false
			}
			rest = rest[at+len(lit):]
		}
	}
	return true
}
