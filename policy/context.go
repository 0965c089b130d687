package policy

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/countersign-proxy/countersign/awsapi"
)

// Query is one call and what is known of the one who makes it.
//
// A zero SourceIP, Time, PrincipalARN or PrincipalAccount means that the value
// is not known, because AWS always has one. An empty Username or UserAgent, and a tag
// that PrincipalTags lacks, mean that there is none.
type Query struct {
	Call *awsapi.Call

	SourceIP         netip.Addr
	Time             time.Time
	UserAgent        string
	SecureTransport  bool // the client's connection used TLS
	PrincipalARN     string
	PrincipalAccount string
	PrincipalTags    map[string]string
	Username         string

	// Extra holds further condition values. They count where neither the fields
	// above nor the call have a value. Keys may be in any case.
	Extra map[string][]string
}

type presence int8

const (
	absent     presence = iota // known not to be there
	present                    // there, with its values
	unknowable                 // there or not; the proxy cannot know
)

// view is what the evaluation of one need of one query can see. It is not safe for
// concurrent use.
type view struct {
	q       *Query
	need    *awsapi.Need        // set by consider
	extra   map[string][]string // Query.Extra with lower-case keys
	seen    []lookup            // what get has found for the need
	one     [1]string
	unknown string // the first key whose value was wanted and could not be known
}

func newView(q *Query) *view {
	v := &view{q: q}
	if len(q.Extra) > 0 {
		v.extra = make(map[string][]string, len(q.Extra))
		for k, vals := range q.Extra {
			key := strings.ToLower(k)
			v.extra[key] = append(v.extra[key], vals...)
		}
	}
	return v
}

// lookup is the result of one get; statements ask for the same few keys again and again.
type lookup struct {
	key  string
	vals []string
	p    presence
}

const maxLookups = 16

// consider turns the view to another need.
func (v *view) consider(n *awsapi.Need) {
	if v.need != n {
		v.need, v.seen = n, v.seen[:0]
	}
}

// get finds the values of a lower-case condition key.
func (v *view) get(key string) ([]string, presence) {
	for i := range v.seen {
		if v.seen[i].key == key {
			v.note(key, v.seen[i].p)
			return v.seen[i].vals, v.seen[i].p
		}
	}
	vals, p := v.find(key)
	if p == present && len(vals) == 0 {
		p = absent
	}
	if len(vals) == 1 {
		vals = []string{vals[0]} // v.one serves the next key as well
	}
	if len(v.seen) < maxLookups {
		v.seen = append(v.seen, lookup{key, vals, p})
	}
	v.note(key, p)
	return vals, p
}

func (v *view) note(key string, p presence) {
	if p == unknowable && v.unknown == "" {
		v.unknown = key
	}
}

func (v *view) find(key string) ([]string, presence) {
	if strings.HasPrefix(key, "aws:") {
		if vals, p, ok := v.global(key); ok {
			return vals, p
		}
	}
	if v.need != nil {
		if vals, ok := v.need.Conditions[key]; ok {
			return vals, present
		}
	}
	call := v.q.Call
	if call == nil {
		return nil, unknowable
	}
	if isListed(call.UnknownConditions, key) {
		if vals, ok := v.extra[key]; ok {
			return vals, present
		}
		return nil, unknowable
	}
	if vals, ok := call.Conditions[key]; ok {
		return vals, present
	}
	if vals, ok := v.extra[key]; ok {
		return vals, present
	}
	if key == "aws:requestedregion" {
		if call.Region == "" {
			return nil, unknowable
		}
		v.one[0] = call.Region
		return v.one[:], present
	}
	if call.Unknown != "" || beyondRequest(key) {
		return nil, unknowable
	}
	return nil, absent
}

// global answers for the keys that the query's own fields decide. What a request
// or a caller of this package says elsewhere cannot override them.
func (v *view) global(key string) (vals []string, p presence, ok bool) {
	q := v.q
	text := func(s string, empty presence) ([]string, presence, bool) {
		if s == "" {
			if empty == unknowable && v.extra[key] != nil {
				return v.extra[key], present, true
			}
			return nil, empty, empty == unknowable || v.extra[key] == nil
		}
		v.one[0] = s
		return v.one[:], present, true
	}
	switch key {
	case "aws:sourceip":
		if !q.SourceIP.IsValid() {
			return text("", unknowable)
		}
		return text(q.SourceIP.Unmap().WithZone("").String(), unknowable)
	case "aws:currenttime":
		if q.Time.IsZero() {
			return text("", unknowable)
		}
		return text(q.Time.UTC().Format(time.RFC3339), unknowable)
	case "aws:epochtime":
		if q.Time.IsZero() {
			return text("", unknowable)
		}
		return text(strconv.FormatInt(q.Time.Unix(), 10), unknowable)
	case "aws:useragent":
		return text(q.UserAgent, absent)
	case "aws:securetransport":
		return text(strconv.FormatBool(q.SecureTransport), absent)
	case "aws:principalarn":
		return text(q.PrincipalARN, unknowable)
	case "aws:principalaccount":
		return text(q.PrincipalAccount, unknowable)
	case "aws:username":
		return text(q.Username, absent)
	case "aws:viaawsservice", "aws:principalisawsservice":
		// A call that a client signs itself is made neither by a service nor
		// through one.
		return text("false", absent)
	}
	if tag, found := strings.CutPrefix(key, "aws:principaltag/"); found {
		// The key of a tag is not case-sensitive in a condition: two tags that
		// differ in case alone leave open which one is meant.
		n := 0
		for k, val := range q.PrincipalTags {
			if strings.EqualFold(k, tag) {
				v.one[0] = val
				n++
			}
		}
		switch {
		case n == 1:
			return v.one[:], present, true
		case n > 1:
			return nil, unknowable, true
		}
	}
	return nil, absent, false
}

// requestGlobals are the global keys that a request decides or, because it comes
// from the client itself, cannot carry. All other aws: keys depend on what
// only AWS knows. See reference_policies_condition-keys.
var requestGlobals = []string{
	"aws:calledvia", "aws:calledviafirst", "aws:calledvialast",
	"aws:principalservicename", "aws:principalservicenameslist",
	"aws:referer", "aws:sourceaccount", "aws:sourcearn", "aws:sourceorgid", "aws:sourceorgpaths",
	"aws:tagkeys",
}

var requestGlobalPrefixes = []string{"aws:requesttag/", "aws:principaltag/"}

// resourceKeys are parts of service keys that speak of a resource as it stands,
// not of the request.
var resourceKeys = []string{":resourcetag/", ":existingobjecttag/", ":existingjobpriority", ":resourceaccount"}

// beyondRequest says whether a key that nothing supplies may have a value at AWS
// all the same.
func beyondRequest(key string) bool {
	if strings.HasPrefix(key, "aws:") {
		if slices.Contains(requestGlobals, key) || key == "aws:useragent" || key == "aws:username" {
			return false
		}
		for _, prefix := range requestGlobalPrefixes {
			if strings.HasPrefix(key, prefix) {
				return false
			}
		}
		return true
	}
	for _, part := range resourceKeys {
		if strings.Contains(key, part) {
			return true
		}
	}
	return false
}

// isListed finds a lower-case key in a list whose entries may stand for a whole
// family: "aws:resourcetag/*".
func isListed(list []string, key string) bool {
	for _, l := range list {
		if prefix, family := strings.CutSuffix(l, "*"); l == key || family && strings.HasPrefix(key, prefix) {
			return true
		}
	}
	return false
}

// multivalued are keys of which AWS says that they may hold several values; they
// cannot stand as policy variables (reference_policies_condition-single-vs-multi-valued-context-keys).
var multivalued = []string{
	"aws:calledvia", "aws:principalorgpaths", "aws:principalservicenameslist",
	"aws:resourceorgpaths", "aws:sourceorgpaths", "aws:tagkeys",
	"dynamodb:attributes", "dynamodb:leadingkeys", "kms:encryptioncontextkeys",
}

// variable is the value that a policy variable stands for.
func (v *view) variable(key string) (string, presence) {
	vals, p := v.get(key)
	if p != present {
		return "", p
	}
	if len(vals) != 1 || slices.Contains(multivalued, key) || !plain(vals[0]) {
		if v.unknown == "" {
			v.unknown = key
		}
		return "", unknowable
	}
	if vals[0] == "" {
		return "", absent // "the value is effectively null"
	}
	return vals[0], present
}

// plain refuses values with bytes that stand for wildcards in compiled text.
func plain(s string) bool { return utf8.ValidString(s) }
