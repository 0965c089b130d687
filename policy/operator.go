package policy

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

type family int8

const (
	familyString family = iota
	familyNumeric
	familyDate
	familyBool
	familyBinary
	familyIP
	familyARN
	familyNull
)

func (f family) String() string {
	return [...]string{"string", "number", "date", "boolean", "binary", "IP address", "ARN", "null"}[f]
}

type relation int8

const (
	equals relation = iota
	equalsFold
	like
	less
	lessEquals
	greater
	greaterEquals
)

type quantifier int8

const (
	single quantifier = iota
	forAll
	forAny
)

// operator is a condition operator taken apart.
type operator struct {
	family   family
	relation relation
	negated  bool
	ifExists bool
	set      quantifier
	name     string // without set operator and IfExists, as AWS spells it
}

var operators = func() map[string]operator {
	m := make(map[string]operator)
	for _, op := range []operator{
		{name: "StringEquals"},
		{name: "StringNotEquals", negated: true},
		{name: "StringEqualsIgnoreCase", relation: equalsFold},
		{name: "StringNotEqualsIgnoreCase", relation: equalsFold, negated: true},
		{name: "StringLike", relation: like},
		{name: "StringNotLike", relation: like, negated: true},
		{name: "NumericEquals", family: familyNumeric},
		{name: "NumericNotEquals", family: familyNumeric, negated: true},
		{name: "NumericLessThan", family: familyNumeric, relation: less},
		{name: "NumericLessThanEquals", family: familyNumeric, relation: lessEquals},
		{name: "NumericGreaterThan", family: familyNumeric, relation: greater},
		{name: "NumericGreaterThanEquals", family: familyNumeric, relation: greaterEquals},
		{name: "DateEquals", family: familyDate},
		{name: "DateNotEquals", family: familyDate, negated: true},
		{name: "DateLessThan", family: familyDate, relation: less},
		{name: "DateLessThanEquals", family: familyDate, relation: lessEquals},
		{name: "DateGreaterThan", family: familyDate, relation: greater},
		{name: "DateGreaterThanEquals", family: familyDate, relation: greaterEquals},
		{name: "Bool", family: familyBool},
		{name: "BinaryEquals", family: familyBinary},
		{name: "IpAddress", family: familyIP},
		{name: "NotIpAddress", family: familyIP, negated: true},
		{name: "ArnEquals", family: familyARN, relation: like},
		{name: "ArnLike", family: familyARN, relation: like},
		{name: "ArnNotEquals", family: familyARN, relation: like, negated: true},
		{name: "ArnNotLike", family: familyARN, relation: like, negated: true},
		{name: "Null", family: familyNull},
	} {
		m[strings.ToLower(op.name)] = op
	}
	return m
}()

// parseOperator reads an operator's name; AWS does not mind its case.
func parseOperator(s string) (operator, error) {
	rest := strings.ToLower(s)
	set := single
	if r, ok := strings.CutPrefix(rest, "forallvalues:"); ok {
		set, rest = forAll, r
	} else if r, ok := strings.CutPrefix(rest, "foranyvalue:"); ok {
		set, rest = forAny, r
	}
	base, ifExists := strings.CutSuffix(rest, "ifexists")
	op, ok := operators[base]
	if !ok {
		msg := fmt.Sprintf("%q is not a condition operator", s)
		if best := nearest(base, operatorNames(), 4); best != "" {
			msg += fmt.Sprintf("; did you mean %q?", best)
		}
		return operator{}, fmt.Errorf("%s", msg)
	}
	if op.family == familyNull && (ifExists || set != single) {
		return operator{}, fmt.Errorf("%q: Null takes neither IfExists nor a set operator", s)
	}
	op.ifExists, op.set = ifExists, set
	return op, nil
}

func operatorNames() []string {
	out := make([]string, 0, len(operators))
	for _, op := range operators {
		out = append(out, op.name)
	}
	return out
}

// variables says whether AWS puts values in place of variables in the operands.
func (op *operator) variables() bool {
	switch op.family {
	case familyString, familyARN, familyBool, familyBinary:
		return true
	}
	return false
}

// operand is one value of a condition, read for its operator.
type operand struct {
	pattern
	num    decimal
	at     time.Time
	yes    bool
	binary string
	cidr   netip.Prefix
}

// parseOperand reads a policy's value. A value that the operator could never
// compare is a fault of the policy.
func parseOperand(op *operator, s string, variables bool) (operand, error) {
	var o operand
	var err error
	o.pattern, err = compileText(s, variables && op.variables(), op.relation == like)
	if err != nil {
		return o, err
	}
	if o.parts != nil {
		return o, nil
	}
	ok := true
	want := ""
	switch op.family {
	case familyNumeric:
		o.num, ok = parseDecimal(s)
		want = "a number such as 10 or 2.5"
	case familyDate:
		o.at, ok = parseDate(s)
		want = "a date such as 2026-01-31T00:00:00Z or seconds since 1970"
	case familyBool, familyNull:
		o.yes, ok = parseBool(s)
		want = "true or false"
	case familyBinary:
		o.binary, ok = parseBinary(o.text)
		want = "base64"
	case familyIP:
		o.cidr, ok = parseCIDR(s)
		want = "an address or a CIDR range such as 203.0.113.0/24 or 2001:db8::/32"
	}
	if !ok {
		msg := fmt.Sprintf("%s compares with %s, not with %q", op.name, want, s)
		if strings.Contains(s, "${") && !op.variables() {
			msg += "; AWS does not replace policy variables here"
		}
		return o, fmt.Errorf("%s", msg)
	}
	return o, nil
}

// compare relates one value of the request with one of the policy, before
// negation. missing says that a policy variable had no value.
func (op *operator) compare(v *view, o *operand, value string) (t Truth, missing bool) {
	var unknown bool
	text := o.text
	if o.parts != nil {
		r := o.resolve(v)
		if r.missing {
			return False, true
		}
		text, unknown = r.text, r.unknown
		if unknown && op.relation != like {
			return Unknown, false
		}
	}
	t = op.relate(o, text, o.parts != nil, value)
	if unknown && t == True {
		t = Unknown
	}
	return t, false
}

func (op *operator) relate(o *operand, text string, resolved bool, value string) Truth {
	switch op.family {
	case familyString:
		switch op.relation {
		case equalsFold:
			// AWS does not say how letters beyond ASCII fold.
			if text == value || asciiFold(text, value) {
				return True
			}
			if strings.EqualFold(text, value) {
				return Unknown
			}
			return False
		case like:
			if !resolved {
				return truth(o.match(value))
			}
			return truth(match(text, value))
		}
		return truth(text == value)
	case familyNumeric:
		n, ok := parseDecimal(value)
		if !ok {
			return Unknown
		}
		return op.order(n.cmp(o.num))
	case familyDate:
		d, ok := parseDate(value)
		if !ok {
			return Unknown
		}
		return op.order(d.Compare(o.at))
	case familyBool:
		want := o.yes
		if resolved {
			var ok bool
			if want, ok = parseBool(text); !ok {
				return Unknown
			}
		}
		b, ok := parseBool(value)
		if !ok {
			return Unknown
		}
		return truth(b == want)
	case familyBinary:
		want := o.binary
		if resolved {
			var ok bool
			if want, ok = parseBinary(text); !ok {
				return Unknown
			}
		}
		b, ok := parseBinary(value)
		if !ok {
			return Unknown
		}
		return truth(b == want)
	case familyIP:
		addr, err := netip.ParseAddr(value)
		if err != nil {
			return Unknown
		}
		return truth(o.cidr.Contains(addr.Unmap().WithZone("")))
	case familyARN:
		return matchARN(text, value)
	}
	return Unknown
}

func (op *operator) order(c int) Truth {
	switch op.relation {
	case less:
		return truth(c < 0)
	case lessEquals:
		return truth(c <= 0)
	case greater:
		return truth(c > 0)
	case greaterEquals:
		return truth(c >= 0)
	}
	return truth(c == 0)
}

// matchARN compares as ArnLike does: "each of the six colon-delimited components
// of the ARN is checked separately". A value that is no ARN is of the wrong type; a
// policy's text that is none matches for certain only when it cannot match at all.
func matchARN(pat, value string) Truth {
	if strings.Count(value, ":") < 5 {
		return Unknown
	}
	if strings.Count(pat, ":") < 5 {
		return notTrue(match(pat, value) || match(pat+":\xff", value))
	}
	for range 5 {
		p, pr, _ := strings.Cut(pat, ":")
		v, vr, _ := strings.Cut(value, ":")
		if !match(p, v) {
			return False
		}
		pat, value = pr, vr
	}
	return truth(match(pat, value))
}

func notTrue(maybe bool) Truth {
	if maybe {
		return Unknown
	}
	return False
}

func asciiFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := 0; i < len(a); i++ {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

func parseBool(s string) (yes, ok bool) {
	switch {
	case asciiFold(s, "true"):
		return true, true
	case asciiFold(s, "false"):
		return false, true
	}
	return false, false
}

func parseBinary(s string) (string, bool) {
	b, err := base64.StdEncoding.DecodeString(s)
	return string(b), err == nil && s != ""
}

func parseCIDR(s string) (netip.Prefix, bool) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, false
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, false
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return netip.Prefix{}, false
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), true
}

// dateLayouts are the forms of ISO 8601 that the W3C note describes, which the
// IAM User Guide cites, and the compact form with a numeric zone.
var dateLayouts = []string{
	time.RFC3339Nano, // also without a fraction
	"2006-01-02T15:04Z07:00",
	"2006-01-02T15:04:05.999999999Z0700",
	"2006-01-02",
	"2006-01",
}

// parseDate reads ISO 8601 or seconds since 1970. A bare "2026" is seconds.
func parseDate(s string) (time.Time, bool) {
	if n, ok := parseEpoch(s); ok {
		return time.Unix(n, 0), true
	}
	if len(s) > 40 {
		return time.Time{}, false
	}
	for _, layout := range dateLayouts {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

func parseEpoch(s string) (int64, bool) {
	digits := strings.TrimPrefix(s, "-")
	if digits == "" || len(digits) > 15 {
		return 0, false
	}
	var n int64
	for i := 0; i < len(digits); i++ {
		c := digits[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	if len(digits) != len(s) {
		n = -n
	}
	return n, true
}

// decimal is an exact decimal number: condition values are compared as written,
// not as the nearest float.
type decimal struct {
	neg         bool
	whole, frac string // without leading and trailing zeros
}

const maxDigits = 64

func parseDecimal(s string) (decimal, bool) {
	var d decimal
	if len(s) > maxDigits {
		return d, false
	}
	switch {
	case strings.HasPrefix(s, "-"):
		d.neg, s = true, s[1:]
	case strings.HasPrefix(s, "+"):
		s = s[1:]
	}
	whole, frac, point := strings.Cut(s, ".")
	if whole == "" && frac == "" || point && frac == "" || !digitsOnly(whole) || !digitsOnly(frac) {
		return d, false
	}
	d.whole, d.frac = strings.TrimLeft(whole, "0"), strings.TrimRight(frac, "0")
	if d.whole == "" && d.frac == "" {
		d.neg = false
	}
	return d, true
}

func digitsOnly(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

func (d decimal) cmp(e decimal) int {
	if d.neg != e.neg {
		if d.neg {
			return -1
		}
		return 1
	}
	c := len(d.whole) - len(e.whole)
	if c == 0 {
		c = strings.Compare(d.whole, e.whole)
	}
	if c == 0 {
		c = strings.Compare(d.frac, e.frac)
	}
	if d.neg {
		c = -c
	}
	return c
}
