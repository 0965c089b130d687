package policy

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// vary is why a piece of a name is thought to vary from run to run.
type vary int8

const (
	fixed vary = iota
	number
	random
	date
)

func (v vary) String() string {
	return [...]string{"", "numbers", "random names", "dates or times"}[v]
}

// pieces finds what may vary in the resource part of an ARN. The alternatives are
// tried in order at each place; what a name has in between stays as it is.
var pieces = regexp.MustCompile(strings.Join([]string{
	`(?P<date>20\d\d[-/_.]?(?:0[1-9]|1[0-2])[-/_.]?(?:0[1-9]|[12]\d|3[01])(?:[T_/-]?\d{2}(?:[:_/-]?\d{2}(?:[:_/-]?\d{2}(?:\.?\d{1,14})?)?)?Z?)?)`,
	`(?P<epoch>1[5-9]\d{8}(?:\d{3})?)`,
	`(?P<random>[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12})`,
	`(?P<word>[0-9A-Za-z]+)`,
}, "|"))

var (
	dateGroup   = pieces.SubexpIndex("date")
	epochGroup  = pieces.SubexpIndex("epoch")
	randomGroup = pieces.SubexpIndex("random")
)

type piece struct {
	text string
	vary vary
}

// cut splits the resource part of an ARN into pieces.
func cut(s string) []piece {
	var out []piece
	at := 0
	for at < len(s) {
		m := pieces.FindStringSubmatchIndex(s[at:])
		if m == nil {
			break
		}
		from, to := at+m[0], at+m[1]
		kind := fixed
		switch {
		case m[2*dateGroup] >= 0, m[2*epochGroup] >= 0, m[2*randomGroup] >= 0:
			kind = date
			if m[2*randomGroup] >= 0 {
				kind = random
			}
			if word(s, from-1) || word(s, to) { // in the middle of a longer word
				for to < len(s) && word(s, to) {
					to++
				}
				kind = wordKind(s[from:to])
			}
		default:
			kind = wordKind(s[from:to])
		}
		if from > at {
			out = append(out, piece{s[at:from], fixed})
		}
		out = append(out, piece{s[from:to], kind})
		at = to
	}
	if at < len(s) {
		out = append(out, piece{s[at:], fixed})
	}
	return out
}

func word(s string, i int) bool {
	if i < 0 || i >= len(s) {
		return false
	}
	c := lower(s[i])
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
}

// wordKind tells numbers and random names from words. A random name is one of
// eight characters or more that goes between letters and digits at least twice and has
// two digits or more (i-0abc…, stack-1ABCDEF2GHIJK), so not "version2" or "us1".
func wordKind(s string) vary {
	digits, turns := 0, 0
	for i := 0; i < len(s); i++ {
		d := s[i] >= '0' && s[i] <= '9'
		if d {
			digits++
		}
		if i > 0 && d != (s[i-1] >= '0' && s[i-1] <= '9') {
			turns++
		}
	}
	switch {
	case digits == len(s) && len(s) >= 17: // time stamps with a counter, as terraform's name_prefix makes
		return random
	case digits == len(s):
		return number
	case len(s) >= 8 && digits >= 2 && turns >= 2:
		return random
	}
	return fixed
}

// generalise puts patterns in place of resources that differ in pieces that vary.
func (l *learner) generalise(action string, resources []string) []string {
	if l.opt.Exact {
		return resources
	}
	type family struct {
		head    string
		members [][]piece
		texts   []string
	}
	families := make(map[string]*family)
	out := make(map[string]bool)
	for _, r := range resources {
		f := strings.SplitN(r, ":", 6)
		if len(f) < 6 || strings.Contains(f[5], "*") || strings.Contains(f[5], "${") {
			out[r] = true
			continue
		}
		ps := cut(f[5])
		head := strings.Join(f[:5], ":") + ":"
		key := head
		for _, p := range ps {
			if p.vary == fixed {
				key += p.text
			} else {
				key += fmt.Sprintf("\x00%d", p.vary)
			}
		}
		if families[key] == nil {
			families[key] = &family{head: head}
		}
		families[key].members = append(families[key].members, ps)
		families[key].texts = append(families[key].texts, r)
	}
	service, _, _ := strings.Cut(action, ":")
	for _, key := range slices.Sorted(maps.Keys(families)) {
		fam := families[key]
		star := make([]bool, len(fam.members[0]))
		why := fixed
		created := l.isCreated(service, strings.TrimPrefix(fam.texts[0], fam.head))
		bucket := strings.HasPrefix(fam.head, "arn:aws") && strings.HasSuffix(fam.head, ":s3:::")
		for i, p := range fam.members[0] {
			if p.vary == fixed {
				bucket = bucket && !strings.Contains(p.text, "/")
				continue
			}
			if bucket && len(l.creates[newBucket]) == 0 {
				continue // a name out of a space that all accounts share
			}
			values := make(map[string]bool)
			for _, m := range fam.members {
				values[m[i].text] = true
			}
			switch p.vary {
			case date:
				star[i] = true
			case random:
				star[i] = created || len(values) >= l.opt.Examples
			case number:
				star[i] = len(values) >= l.opt.Examples
			}
			if star[i] {
				why = max(why, p.vary)
			}
		}
		for i, m := range fam.members {
			pattern := fam.head
			for j, p := range m {
				switch {
				case !star[j]:
					pattern += p.text
				case !strings.HasSuffix(pattern, "*"):
					pattern += "*"
				}
			}
			if bare(pattern) {
				out[fam.texts[i]] = true
				continue
			}
			out[pattern] = true
			if why != fixed {
				l.generalised(pattern, why.String(), action, fam.texts[i])
			}
		}
	}
	return l.siblings(action, slices.Sorted(maps.Keys(out)))
}

// bare keeps roles, users and keys from being named by a mere star, which would
// mean every role or key of the account.
func bare(pattern string) bool {
	switch arnService(pattern) {
	case "iam", "sts", "kms":
		return strings.HasSuffix(pattern, "/*")
	}
	return false
}

// siblings puts a prefix in place of very many names under it.
func (l *learner) siblings(action string, resources []string) []string {
	parents := make(map[string][]string)
	for _, r := range resources {
		if slash := strings.LastIndexByte(r, '/'); slash >= 0 && strings.Count(r[:slash], ":") >= 5 && r[slash+1:] != "*" {
			parents[r[:slash+1]] = append(parents[r[:slash+1]], r)
		}
	}
	drop := make(map[string]bool)
	var out []string
	for _, parent := range slices.Sorted(maps.Keys(parents)) {
		if len(parents[parent]) <= l.opt.Siblings {
			continue
		}
		pattern := parent + "*"
		if bare(pattern) {
			continue
		}
		out = append(out, pattern)
		for _, r := range parents[parent] {
			drop[r] = true
			l.generalised(pattern, "many names", action, r)
		}
	}
	for _, r := range resources {
		if !drop[r] && !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	slices.Sort(out)
	return out
}

func (l *learner) generalised(pattern, why, action, example string) {
	g := l.found[pattern]
	if g == nil {
		g = &Generalisation{Pattern: pattern, Why: why, seen: make(map[string]bool)}
		l.found[pattern] = g
	}
	if !slices.Contains(g.Actions, action) {
		g.Actions = append(g.Actions, action)
	}
	if g.seen[example] {
		return
	}
	g.seen[example] = true
	g.Count++
	if len(g.Examples) < 3 {
		g.Examples = append(g.Examples, example)
	}
}
