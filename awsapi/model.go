package awsapi

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// model is one service: what its requests look like and what they need.
type model struct {
	name         string
	signing      string
	protocols    []Protocol
	targetPrefix string // of X-Amz-Target
	jsonVersion  string
	apiVersion   string
	shape        string // of rpc-v2-cbor paths
	prefix       string // of IAM actions
	basePath     string
	arns         []arnTemplate
	ops          map[string]*operation
	names        []string // of ops, sorted
	tierA        bool     // some operation hands out AWS keys
	routes       func() *router
	queryKeys    map[string]bool // S3: every query parameter that an operation knows
}

// operation is one operation of a model.
type operation struct {
	name       string
	method     string
	uri        string
	hostPrefix string
	open       bool // is not signed
	blob       bool // the body is opaque
	events     bool // the body is an event stream
	structured bool // the body holds members
	anyMedia   bool // the caller chooses the content type
	query      []string
	headers    []string
	tier       string
	free       bool // needs no permission
	needs      []needSpec
	account    member // the owner of the resources, where the request may say so
	roles      []roleSpec
	tags       []tagSpec
	conditions []conditionSpec
	special    []member // what specialPaths asks for, in order
	bodies     int      // members that are in the body
	plans      [4]func() *plan
}

// member says where a request may hold a value, in each of its wire forms.
type member []wire

type wire struct {
	kind  byte // u label, q query, h header, j JSON or CBOR, f form, x XML
	path  string
	index int // within the plan of its kind, for j, f and x
}

type needSpec struct {
	action string
	types  []typeSpec
}

type typeSpec struct {
	arn          int
	required     bool
	alternatives []alternative
}

// alternative is one way to name a resource: a whole ARN, or variables of the template.
type alternative struct {
	whole member
	vars  []variable
}

type variable struct {
	name   string
	member member
}

type roleSpec struct {
	profile bool
	member  member
}

type tagSpec struct {
	kind string // pairs, map, keys, query
	at   []member
}

type conditionSpec struct {
	key    string
	member member
}

var models lazy[model]

// modelNamed returns a model of the tables, nil when there is none.
func modelNamed(name string) *model {
	if operationsArchive().files[name] == nil {
		return nil
	}
	return models.get(name, func() *model { return parseModel(operationsArchive().text(name)) })
}

// modelsSignedAs returns the models that use a signing name, sorted.
var signingNames = sync.OnceValue(func() map[string][]string {
	out := make(map[string][]string)
	for _, rows := range hostTable() {
		for _, row := range rows {
			for _, m := range row.models {
				if !slices.Contains(out[row.service], m) {
					out[row.service] = append(out[row.service], m)
				}
			}
		}
	}
	for _, m := range out {
		slices.Sort(m)
	}
	return out
})

func modelsSignedAs(service string) []string { return signingNames()[service] }

func parseModel(text string) *model {
	m := &model{ops: make(map[string]*operation)}
	var op *operation
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		switch f[0] {
		case "S":
			m.name, m.signing = f[1], f[2]
			for _, p := range strings.Split(f[3], ",") {
				m.protocols = append(m.protocols, protocolNamed(p, m.name))
			}
			m.targetPrefix, m.jsonVersion, m.apiVersion = dash(f[4]), dash(f[5]), f[6]
			m.shape, m.prefix, m.basePath = dash(f[7]), f[8], dash(f[9])
		case "Q":
			m.queryKeys = make(map[string]bool)
			for _, k := range strings.Split(f[1], ",") {
				m.queryKeys[k] = true
			}
		case "R":
			m.arns = append(m.arns, parseARNTemplate(f[1]))
		case "O":
			op = &operation{
				name: f[1], method: f[2], uri: f[3], hostPrefix: dash(f[4]),
				open: strings.Contains(f[5], "n"), blob: strings.Contains(f[5], "b"),
				events: strings.Contains(f[5], "e"), structured: strings.Contains(f[5], "s"), anyMedia: strings.Contains(f[5], "c"),
				query: list(f[6]), headers: list(f[7]), tier: dash(f[8]),
			}
			m.ops[op.name] = op
			m.names = append(m.names, op.name)
			m.tierA = m.tierA || op.tier == "A"
		case "N":
			if f[1] == "none" {
				op.free = true
				continue
			}
			op.needs = append(op.needs, needSpec{f[1], parseTypes(f[2])})
		case "X":
			op.account = append(op.account, parseMember(f[1])...)
		case "P":
			op.roles = append(op.roles, roleSpec{f[1] == "profile", parseMember(f[2])})
		case "T":
			t := tagSpec{kind: f[1]}
			for _, s := range f[2:] {
				t.at = append(t.at, parseMember(s))
			}
			op.tags = append(op.tags, t)
		case "C":
			op.conditions = append(op.conditions, conditionSpec{f[1], parseMember(f[2])})
		default:
			panic(fmt.Sprintf("awsapi: operation table: unknown line %q", line))
		}
	}
	for _, op := range m.ops {
		op.prepare(m)
	}
	m.routes = sync.OnceValue(func() *router { return newRouter(m) })
	return m
}

func dash(s string) string {
	if s == "-" {
		return ""
	}
	return s
}

func list(s string) []string {
	if s == "-" {
		return nil
	}
	return strings.Split(s, ",")
}

func protocolNamed(name, model string) Protocol {
	switch name {
	case "smithy-rpc-v2-cbor":
		return ProtocolCBOR
	case "rest-xml":
		if model == "s3" {
			return ProtocolS3
		}
	}
	return Protocol(name)
}

func parseTypes(s string) []typeSpec {
	if s == "-" {
		return nil
	}
	var out []typeSpec
	for _, part := range strings.Split(s, ";") {
		number, source, _ := strings.Cut(part, "=")
		var t typeSpec
		if n, ok := strings.CutSuffix(number, "!"); ok {
			number, t.required = n, true
		}
		for _, c := range number {
			t.arn = t.arn*10 + int(c-'0')
		}
		if source != "" {
			for _, a := range strings.Split(source, "|") {
				t.alternatives = append(t.alternatives, parseAlternative(a))
			}
		}
		out = append(out, t)
	}
	return out
}

func parseAlternative(s string) alternative {
	if whole, ok := strings.CutPrefix(s, "@"); ok {
		return alternative{whole: parseMember(whole)}
	}
	var a alternative
	for _, part := range strings.Split(s, "&") {
		name, source, _ := strings.Cut(part, "=")
		a.vars = append(a.vars, variable{name, parseMember(source)})
	}
	return a
}

func parseMember(s string) member {
	var out member
	for _, part := range strings.Split(s, ",") {
		kind, path, ok := strings.Cut(part, ":")
		if !ok || len(kind) != 1 {
			panic(fmt.Sprintf("awsapi: operation table: malformed member %q", s))
		}
		out = append(out, wire{kind: kind[0], path: path})
	}
	return out
}

// prepare numbers the body members of an operation for its plans.
func (op *operation) prepare(m *model) {
	var paths [4][]string
	number := func(at member) {
		for i := range at {
			k := bodyKind(at[i].kind)
			if k < 0 {
				continue
			}
			op.bodies++
			j := slices.Index(paths[k], at[i].path)
			if j < 0 {
				j = len(paths[k])
				paths[k] = append(paths[k], at[i].path)
			}
			at[i].index = j
		}
	}
	for _, n := range op.needs {
		for _, t := range n.types {
			for _, a := range t.alternatives {
				number(a.whole)
				for _, v := range a.vars {
					number(v.member)
				}
			}
		}
	}
	for _, r := range op.roles {
		number(r.member)
	}
	number(op.account)
	for _, c := range op.conditions {
		number(c.member)
	}
	var pairs [4][][2]int
	for _, t := range op.tags {
		for _, at := range t.at {
			number(at)
		}
		if t.kind == "pairs" {
			for i, k := range t.at[0] {
				if b := bodyKind(k.kind); b >= 0 {
					pairs[b] = append(pairs[b], [2]int{k.index, t.at[1][i].index})
				}
			}
		}
	}
	for _, source := range specialPathsOf(m.name, op.name) {
		key, value, pair := strings.Cut(source, "+")
		op.special = append(op.special, parseMember(key))
		number(op.special[len(op.special)-1])
		if pair {
			op.special = append(op.special, parseMember(value))
			number(op.special[len(op.special)-1])
			k, v := op.special[len(op.special)-2], op.special[len(op.special)-1]
			for i := range k {
				b := bodyKind(k[i].kind)
				pairs[b] = append(pairs[b], [2]int{k[i].index, v[i].index})
			}
		}
	}
	for k := range op.plans {
		op.plans[k] = sync.OnceValue(func() *plan { return newPlan(byte("jfx "[k]), paths[k], pairs[k]) })
	}
}

// bodyKind returns the number of a wire kind that is in the body, or -1.
func bodyKind(kind byte) int { return strings.IndexByte("jfx", kind) }
