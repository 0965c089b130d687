package awsapi

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// describe fills a call for the operations that a request may be. Where there
// are several, the call needs what any of them needs.
func (rq *request) describe(c *Call, found []match) error {
	primary := found[0]
	for _, m := range found {
		if m.m.name == m.m.signing {
			primary = m
		}
	}
	c.Service, c.Operation, c.Protocol = primary.m.name, primary.op.name, rq.protocol
	for _, m := range found {
		if tierRank(m.op.tier) > tierRank(c.CredentialTier) {
			c.CredentialTier = m.op.tier
		}
	}
	c.Conditions = map[string][]string{
		"aws:securetransport": {"true"},
		"aws:viaawsservice":   {"false"},
	}
	if c.Region != "" {
		c.Conditions["aws:requestedregion"] = []string{c.Region}
		if primary.m.name == "ec2" {
			c.Conditions["ec2:region"] = []string{c.Region}
		}
	} else {
		c.UnknownConditions = append(c.UnknownConditions, "aws:requestedregion")
	}
	c.headConditions(rq.r)
	if rq.protocol == ProtocolS3 {
		if err := rq.describeS3(c, primary); err != nil {
			return err
		}
		rq.finish(c, primary)
		return nil
	}
	for _, m := range found {
		if err := rq.describeOne(c, m); err != nil {
			return err
		}
	}
	rq.finish(c, primary)
	return nil
}

// headConditions sets the condition values that headers of every call decide.
func (c *Call) headConditions(r *http.Request) {
	for _, h := range [...]string{"User-Agent", "Referer"} {
		if v := r.Header.Get(h); v != "" {
			c.Conditions["aws:"+strings.ToLower(strings.ReplaceAll(h, "-", ""))] = []string{v}
		}
	}
}

// addUnknown marks a condition key as one that may or may not be present.
func (c *Call) addUnknown(key string) {
	if !slices.Contains(c.UnknownConditions, key) {
		c.UnknownConditions = append(c.UnknownConditions, key)
	}
}

func tierRank(t string) int { return strings.Index("DCBA", t) + min(len(t), 1) }

func (rq *request) describeOne(c *Call, m match) error {
	rq.labels = make(map[string]string, len(m.labels))
	for i, name := range m.labels {
		v, err := unescape(m.values[i], false)
		if err != nil {
			return fmt.Errorf("the path cannot be read: %w", err)
		}
		rq.labels[name] = v
	}
	if err := rq.readBody(m.op); err != nil {
		return err
	}
	if m.op.free {
		return nil
	}
	if len(m.op.needs) == 0 {
		return fmt.Errorf("no IAM action is known for %s:%s", m.m.name, m.op.name)
	}
	owner := *c // as the resources' owner sees the call
	if values, st := rq.get(m.op.account); st != absent {
		if owner.AccountID = ""; len(values) == 1 && isAccount(values[0]) {
			owner.AccountID = values[0]
		}
	}
	var needs []Need
	for _, spec := range m.op.needs {
		needs = append(needs, rq.need(&owner, m.m, spec))
	}
	special := specialNeeds[m.m.name+":"+m.op.name]
	if special == nil {
		special = specialNeeds[m.m.name+":*"]
	}
	if special != nil {
		var err error
		if needs, err = special(rq, &owner, m, needs); err != nil {
			return err
		}
		c.Conditions, c.UnknownConditions = owner.Conditions, owner.UnknownConditions
	}
	if m.m.name == "s3control" && rq.h.Service == "s3express" {
		for i, n := range needs {
			action := "s3express:" + n.Action[strings.IndexByte(n.Action, ':')+1:]
			if _, ok := LookupAction(action); !ok {
				return fmt.Errorf("no IAM action %s is known", action)
			}
			needs[i] = Need{Action: action, ResourceUnknown: true}
		}
	}
	addNeeds(c, needs)
	if m.m.prefix == "apigateway" && strings.HasPrefix(c.Needs[0].Action, "apigateway:") && len(m.op.needs[0].types) == 0 ||
		isVerb(m.op.needs[0].action) {
		// API Gateway's resources are its paths.
		path, err := unescape(rq.path, false)
		if err != nil {
			return fmt.Errorf("the path cannot be read: %w", err)
		}
		if len(path) > 1 {
			path = strings.TrimSuffix(path, "/") // routed like the path without it
		}
		c.Needs[0].Resources = []string{"arn:" + c.Host.Partition + ":apigateway:" + c.Region + "::" + path}
		c.Needs[0].ResourceUnknown, c.Needs[0].Patterns = false, nil
	}
	rq.passedRoles(c, m)
	if err := rq.tags(c, m); err != nil {
		return err
	}
	for _, spec := range m.op.conditions {
		values, state := rq.get(spec.member)
		switch state {
		case present:
			c.Conditions[spec.key] = values
		case odd:
			c.addUnknown(spec.key)
		}
	}
	return nil
}

func isVerb(action string) bool {
	switch strings.TrimPrefix(action, "apigateway:") {
	case "GET", "POST", "PUT", "PATCH", "DELETE":
		return strings.HasPrefix(action, "apigateway:")
	}
	return false
}

// addNeeds adds permissions to a call; those of an action that is there
// already are joined.
func addNeeds(c *Call, needs []Need) {
	for _, n := range needs {
		i := slices.IndexFunc(c.Needs, func(have Need) bool { return have.Action == n.Action })
		if i < 0 {
			c.Needs = append(c.Needs, n)
			continue
		}
		have := &c.Needs[i]
		if have.unbounded() || n.unbounded() {
			have.ResourceUnknown, have.Patterns = true, append(slices.Clip(have.Patterns), "*")
		}
		have.ResourceUnknown = have.ResourceUnknown || n.ResourceUnknown
		for _, r := range n.Resources {
			have.Resources = appendNew(have.Resources, r)
		}
		for _, p := range n.Patterns {
			have.Patterns = appendNew(have.Patterns, p)
		}
	}
}

// unbounded reports whether nothing at all is known of some resources.
func (n *Need) unbounded() bool { return n.ResourceUnknown && len(n.Patterns) == 0 }

// open adds a resource that lies within a pattern; "*" for one of which nothing
// is known.
func (n *Need) open(pattern string) {
	n.ResourceUnknown = true
	n.Patterns = appendNew(n.Patterns, pattern)
}

// state says what a request holds of a member.
type state int

const (
	absent state = iota
	present
	odd // there, but not as the model has it
)

// get returns the values of a member in the request.
func (rq *request) get(at member) ([]string, state) {
	var values []string
	st := absent
	for _, w := range at {
		switch w.kind {
		case 'u':
			if v, ok := rq.labels[w.path]; ok {
				values, st = append(values, v), max(st, present)
			}
		case 'q':
			for _, p := range rq.query.pairs {
				if p.key == w.path {
					values, st = append(values, p.value), max(st, present)
					if p.plus {
						st = odd
					}
				}
			}
		case 'h':
			v := rq.head.Values(w.path)
			if len(v) == 1 {
				values, st = append(values, v[0]), max(st, present)
			} else if len(v) > 1 {
				st = odd
			}
		default:
			if w.kind != rq.kind || rq.found == nil {
				continue
			}
			if v := rq.found.values[w.index]; v != nil {
				values, st = append(values, v...), max(st, present)
			}
			if rq.found.odd[w.index] || rq.found.maps[w.index] != nil {
				st = odd
			}
		}
	}
	return values, st
}

// need works out what a permission applies to.
func (rq *request) need(c *Call, m *model, spec needSpec) Need {
	n := Need{Action: spec.action}
	if len(spec.types) == 0 {
		n.Resources = []string{"*"}
		return n
	}
	named := true // every type has a way to be named
	var whole []string
	for _, t := range spec.types {
		rq.resources(c, &n, m.arns[t.arn], t, &whole)
		named = named && len(t.alternatives) > 0
	}
	if len(whole) > 0 {
		fits := make(map[string]bool, len(n.Resources))
		for _, arn := range n.Resources {
			fits[arn] = true
		}
		if slices.ContainsFunc(whole, func(arn string) bool { return !fits[arn] }) { // of no type that the action is known to apply to
			n.open("*")
		}
	}
	if len(n.Resources) == 0 && !n.ResourceUnknown {
		if named {
			n.Resources = []string{"*"}
		} else {
			n.ResourceUnknown = true
			for _, t := range spec.types {
				arn, _ := m.arns[t.arn].fill(c, func(string) (string, bool) { return "", false })
				n.Patterns = append(n.Patterns, arn)
			}
		}
	}
	return n
}

// resources adds the resources of one type. What is missing is open within the
// type; what is there and cannot be read may be anything, also in another account.
func (rq *request) resources(c *Call, n *Need, arn arnTemplate, t typeSpec, whole *[]string) {
	any := false
	for _, a := range t.alternatives {
		if a.whole == nil {
			any = rq.fillVariables(c, n, arn, a, t.required) || any
			continue
		}
		values, st := rq.get(a.whole)
		if st == absent {
			continue
		}
		any = true
		if st == odd {
			n.open("*")
		}
		for _, v := range values {
			switch {
			case strings.HasPrefix(v, "arn:") && arn.fits(v):
				n.add(v)
			case strings.HasPrefix(v, "arn:"):
				*whole = append(*whole, v) // for another of the action's types
			default:
				n.open("*")
			}
		}
	}
	if !any && t.required {
		pattern, _ := arn.fill(c, func(string) (string, bool) { return "", false })
		n.open(pattern)
	}
}

// fillVariables adds the resources that an alternative names by its variables.
// It reports whether the request holds any of them.
func (rq *request) fillVariables(c *Call, n *Need, arn arnTemplate, a alternative, required bool) bool {
	single := make(map[string]string, len(a.vars))
	last := false
	for i, v := range a.vars {
		values, st := rq.get(v.member)
		if st == absent {
			continue
		}
		if st == odd {
			n.open("*")
			return true
		}
		if len(a.vars) == 1 && arn.vars == 1 {
			for _, value := range values {
				n.fill(c, arn, map[string]string{v.name: value})
			}
			return true
		}
		if len(values) != 1 { // which of them go together is not said
			n.open("*")
			return true
		}
		last = last || i == len(a.vars)-1
		single[v.name] = values[0]
	}
	if len(single) == 0 || !last && !required {
		return false
	}
	n.fill(c, arn, single)
	return true
}

// fill adds the resource of a template with these variables.
func (n *Need) fill(c *Call, arn arnTemplate, vars map[string]string) {
	for _, p := range arn.parts { // in the order of the template
		name := p.text
		v, ok := vars[name]
		switch {
		case !p.variable || !ok:
		case strings.HasPrefix(v, "arn:"): // the whole name, in the place of a part
			if arn.fits(v) {
				n.add(v)
			} else {
				n.open("*")
			}
			return
		case strings.Contains(v, ":") && arn.service != "logs":
			// Services read "111122223333:function:f" and the like as several parts.
			n.open("*")
			return
		case arn.service == "iam" && strings.HasSuffix(name, "WithPath"):
			// The request leaves the path out: the name alone is unique.
			with, _ := arn.fill(c, func(string) (string, bool) { return "*/" + v, true })
			n.Patterns = append(n.Patterns, with)
		}
	}
	filled, open := arn.fill(c, func(name string) (string, bool) {
		v, ok := vars[name]
		if strings.HasSuffix(name, "WithoutLeadingSlash") {
			v = strings.TrimPrefix(v, "/")
		}
		return v, ok
	})
	if open {
		n.open(filled)
	} else {
		n.add(filled)
	}
}

func (n *Need) add(arn string) { n.Resources = appendNew(n.Resources, arn) }

// passedRoles adds iam:PassRole for the roles that a request hands to a service.
func (rq *request) passedRoles(c *Call, m match) {
	for _, spec := range m.op.roles {
		values, st := rq.get(spec.member)
		if st == absent {
			continue
		}
		n := Need{Action: "iam:PassRole"}
		if s := passedTo[m.m.name]; s != "" {
			n.Conditions = map[string][]string{"iam:passedtoservice": {s}}
		} else {
			c.addUnknown("iam:passedtoservice")
		}
		for _, v := range values {
			switch {
			case v == "":
				continue // an empty role takes one away
			case spec.profile, st == odd:
			case strings.HasPrefix(v, "arn:"):
				if f := strings.SplitN(v, ":", 6); len(f) == 6 && f[2] == "iam" && strings.HasPrefix(f[5], "role/") {
					n.add(v)
					continue
				}
			case !strings.ContainsAny(v, ":*?${}"):
				n.add("arn:" + c.Host.Partition + ":iam::" + orStar(c.AccountID) + ":role/" + strings.TrimPrefix(v, "/"))
				continue
			}
			n.open("arn:" + c.Host.Partition + ":iam::*:role/*")
		}
		if len(n.Resources) > 0 || n.ResourceUnknown {
			addNeeds(c, []Need{n})
		}
	}
}

func orStar(s string) string {
	if s == "" {
		return "*"
	}
	return s
}

// passedTo is the service principal that a model's roles are passed to, where
// there is only one.
var passedTo = map[string]string{
	"batch": "batch.amazonaws.com", "codebuild": "codebuild.amazonaws.com", "codepipeline": "codepipeline.amazonaws.com",
	"cloudformation": "cloudformation.amazonaws.com", "firehose": "firehose.amazonaws.com", "glue": "glue.amazonaws.com",
	"lambda": "lambda.amazonaws.com", "sagemaker": "sagemaker.amazonaws.com", "scheduler": "scheduler.amazonaws.com",
	"stepfunctions": "states.amazonaws.com", "pipes": "pipes.amazonaws.com",
}

// tags sets the condition values of the tags that a request carries.
func (rq *request) tags(c *Call, m match) error {
	for _, spec := range m.op.tags {
		var pairs [][2]string
		switch spec.kind {
		case "keys":
			keys, st := rq.get(spec.at[0])
			if st == odd {
				return errOddTags
			}
			for _, k := range keys {
				addTagKey(c, k)
			}
			continue
		case "pairs":
			keys, kst := rq.get(spec.at[0])
			values, vst := rq.get(spec.at[1])
			if kst == odd || vst == odd || len(values) > len(keys) {
				return errOddTags
			}
			for i, k := range keys {
				v := ""
				if i < len(values) {
					v = values[i]
				}
				pairs = append(pairs, [2]string{k, v})
			}
		case "map":
			for _, w := range spec.at[0] {
				if w.kind == rq.kind && rq.found != nil {
					if rq.found.odd[w.index] || rq.found.values[w.index] != nil {
						return errOddTags
					}
					pairs = append(pairs, rq.found.maps[w.index]...)
				}
			}
		case "query":
			text, st := rq.get(spec.at[0])
			if st == absent {
				continue
			}
			tags, err := parseForm(strings.Join(text, "&"), true)
			if err != nil || st == odd {
				return errOddTags
			}
			for _, p := range tags.pairs {
				pairs = append(pairs, [2]string{p.key, p.value})
			}
		}
		for _, p := range pairs {
			addTag(c, p[0], p[1])
		}
	}
	return nil
}

var errOddTags = errors.New("the tags are not as the service's model has them")

func addTagKey(c *Call, key string) {
	c.Conditions["aws:tagkeys"] = appendNew(c.Conditions["aws:tagkeys"], key)
}

func addTag(c *Call, key, value string) {
	addTagKey(c, key)
	name := "aws:requesttag/" + strings.ToLower(key)
	c.Conditions[name] = append(c.Conditions[name], value)
}

// finish works out what follows from the needs: the access level, and which
// condition keys remain open.
func (rq *request) finish(c *Call, m match) {
	if m.op.free || len(c.Needs) == 0 {
		if a, ok := LookupAction(m.m.prefix + ":" + m.op.name); ok {
			c.AccessLevel = a.AccessLevel
		}
	}
	for _, n := range c.Needs {
		a, ok := LookupAction(n.Action)
		if !ok {
			continue
		}
		if levelRank(a.AccessLevel) > levelRank(c.AccessLevel) {
			c.AccessLevel = a.AccessLevel
		}
		for _, k := range openKeysOf(a) {
			if _, known := c.Conditions[k]; known {
				continue
			}
			if rq.protocol == ProtocolS3 && s3RequestKeys[k] {
				continue
			}
			if _, known := n.Conditions[k]; !known {
				c.addUnknown(k)
			}
		}
	}
}

// openKeys caches which condition keys of an action a request does not
// determine as a rule. Tags of the request are always determined.
var openKeys sync.Map

func openKeysOf(a *Action) []string {
	if v, ok := openKeys.Load(a); ok {
		return v.([]string)
	}
	out := []string{}
	for _, k := range a.ConditionKeys {
		if k == "aws:tagkeys" || strings.HasPrefix(k, "aws:requesttag/") {
			continue
		}
		if i := strings.Index(k, "${"); i >= 0 {
			k = k[:i] + "*"
		} else if i := strings.Index(k, "/"); i >= 0 && strings.Contains(k[i:], "<") {
			k = k[:i+1] + "*"
		}
		out = append(out, k)
	}
	openKeys.Store(a, out)
	return out
}
