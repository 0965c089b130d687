package rolesession

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// call is one STS call with everything that goes into it. Its JSON is part of the
// cache key.
type call struct {
	Operation         string   `json:",omitempty"`
	RoleARN           string   `json:",omitempty"`
	SessionName       string   `json:",omitempty"`
	ExternalID        string   `json:",omitempty"`
	Duration          int32    `json:",omitempty"` // seconds
	SourceIdentity    string   `json:",omitempty"`
	Tags              []Tag    `json:",omitempty"` // sorted by key
	TransitiveTagKeys []string `json:",omitempty"` // sorted
	Policy            string   `json:",omitempty"`
	PolicyARNs        []string `json:",omitempty"` // sorted
	TargetPrincipal   string   `json:",omitempty"`
	TaskPolicyARN     string   `json:",omitempty"`

	serialNumber, tokenCode string
}

func (c *call) op() string {
	if c.Operation == "" {
		return OpAssumeRole
	}
	return c.Operation
}

// describe completes "the proxy could not …".
func (c *call) describe() string {
	switch c.op() {
	case OpAssumeRole:
		return "assume the role " + c.RoleARN
	case OpAssumeRoot:
		return "assume root of the account " + c.TargetPrincipal
	default:
		return "call " + c.op()
	}
}

// plan is a Request worked out: the calls in order, the first one signed with the
// source credentials. No calls means the source credentials themselves.
type plan struct {
	role      string // configured role of the first link
	principal Principal
	calls     []*call
	until     time.Time
	base      *Session // signs the first call; nil: the source credentials do
	once      bool     // what it makes cannot be made again
}

type key [sha256.Size]byte

// key identifies the session that the first n calls make.
func (p *plan) key(n int) key {
	text, err := json.Marshal(struct {
		Principal Principal
		Calls     []*call
	}{p.principal, p.calls[:n]})
	if err != nil {
		// Strings and numbers always marshal.
		panic(err)
	}
	return sha256.Sum256(text)
}

func badInput(role, format string, args ...any) *Error {
	return &Error{Kind: KindBadInput, Role: role, Message: fmt.Sprintf(format, args...)}
}

// resolve works a Request out. Its errors are of type *Error.
func resolve(roles map[string]*role, req Request) (*plan, error) {
	if len(req.Links) == 0 || len(req.Links) > maxChain {
		return nil, badInput("", "A session needs 1 to %d links, not %d.", maxChain, len(req.Links))
	}
	if req.Principal.Name == "" {
		return nil, badInput(req.Links[0].Role, "A session needs an identity with a name.")
	}
	first := req.Links[0]
	entry, ok := roles[first.Role]
	if !ok {
		return nil, &Error{Kind: KindUnknownRole, Role: first.Role, Message: fmt.Sprintf("There is no role %q in the configuration.", first.Role)}
	}
	p := &plan{role: first.Role, principal: req.Principal, until: req.Until}

	// The entries that lead to the role, in the order in which they are assumed.
	var way []*role
	for r := entry; r.ARN != "" && req.Base == nil; r = roles[r.Via] {
		way = append(way, r)
		if r.Via == "" {
			break
		}
	}
	slices.Reverse(way)
	data := templateData{Identity: req.Principal, Role: entry.Name}
	for i, r := range way {
		c, err := entryCall(r, templateData{Identity: req.Principal, Role: r.Name})
		if err != nil {
			return nil, err
		}
		if i == len(way)-1 {
			if err := addClient(r, c, first); err != nil {
				return nil, err
			}
		}
		if i > 0 {
			c.Duration = min(c.Duration, int32(chainedDuration/time.Second))
		}
		p.calls = append(p.calls, c)
	}
	if req.Base != nil {
		p.base = req.Base
	}
	if len(way) == 0 && (first.RoleARN != "" || !first.plain()) {
		return nil, badInput(first.Role, "The role %q is the source credentials themselves: nothing can be asked of it.", first.Role)
	}

	for _, l := range req.Links[1:] {
		c, err := chainedCall(entry, data, l, len(p.calls) > 0 || p.base != nil)
		if err != nil {
			return nil, err
		}
		p.calls = append(p.calls, c)
	}
	return p, nil
}

// plain says that the link asks for nothing beyond the entry.
func (l Link) plain() bool {
	return (l.Operation == "" || l.Operation == OpAssumeRole) && l.SessionName == "" && l.ExternalID == "" && l.Duration == 0 &&
		l.SourceIdentity == "" && len(l.Tags) == 0 && len(l.TransitiveTagKeys) == 0 && l.Policy == "" && len(l.PolicyARNs) == 0 &&
		l.TargetPrincipal == "" && l.TaskPolicyARN == "" && l.Repeatable()
}

// entryCall is what an entry asks for when nobody else does.
func entryCall(r *role, data templateData) (*call, error) {
	name, err := render(r.sessionName, data)
	if err != nil {
		return nil, badInput(r.Name, "roles.%s.session_name cannot be made for the identity %q: %v.", r.Name, data.Identity.Name, err)
	}
	c := &call{
		RoleARN:           r.ARN,
		SessionName:       cleanName(name),
		ExternalID:        r.ExternalID,
		Duration:          int32(cmp.Or(r.Duration, time.Hour) / time.Second),
		Policy:            r.SessionPolicy,
		PolicyARNs:        sorted(r.SessionPolicyARNs),
		TransitiveTagKeys: sorted(r.TransitiveTagKeys),
	}
	if r.sourceIdentity != nil {
		if c.SourceIdentity, err = entrySourceIdentity(r, data); err != nil {
			return nil, err
		}
	}
	if c.Tags, err = entryTags(r, data); err != nil {
		return nil, err
	}
	return c, nil
}

func entryTags(r *role, data templateData) ([]Tag, error) {
	var tags []Tag
	for _, t := range r.tags {
		value, err := render(t.value, data)
		if err == nil {
			err = checkTagValue(value)
		}
		if err != nil {
			return nil, badInput(r.Name, "roles.%s.tags.%s cannot be made for the identity %q: %v.", r.Name, t.key, data.Identity.Name, err)
		}
		tags = append(tags, Tag{t.key, value})
	}
	return tags, nil
}

func entrySourceIdentity(r *role, data templateData) (string, error) {
	text, err := render(r.sourceIdentity, data)
	if err != nil {
		return "", badInput(r.Name, "roles.%s.source_identity cannot be made for the identity %q: %v.", r.Name, data.Identity.Name, err)
	}
	return cleanName(text), nil
}

// addClient adds what a client asked for to the call of an entry. What the entry
// sets wins, and nothing of the client's can widen it.
func addClient(r *role, c *call, l Link) error {
	if l.Operation != "" && l.Operation != OpAssumeRole {
		return badInput(r.Name, "The first call for the role %q is AssumeRole, not %s.", r.Name, l.Operation)
	}
	if l.RoleARN != "" && l.RoleARN != r.ARN {
		return badInput(r.Name, "The role %q is %s, not %s.", r.Name, r.ARN, l.RoleARN)
	}
	c.SessionName = clientName(r, c.SessionName, l.SessionName)
	if c.ExternalID == "" {
		c.ExternalID = l.ExternalID
	}
	if l.Duration > 0 {
		c.Duration = min(c.Duration, l.Duration)
	}
	if c.SourceIdentity == "" {
		c.SourceIdentity = l.SourceIdentity
	}
	if err := addPolicy(r, c, l); err != nil {
		return err
	}
	if err := mergeTags(c, l); err != nil {
		return err
	}
	c.serialNumber, c.tokenCode = l.SerialNumber, l.TokenCode
	return nil
}

// addPolicy passes a client's session policy on where the entry has none. Session
// policies do not intersect with each other but add up, so a client's beside the
// entry's would widen it, and to leave the client's out would give it more than
// it asked for: that is refused.
func addPolicy(r *role, c *call, l Link) error {
	c.Policy, c.PolicyARNs = r.SessionPolicy, sorted(r.SessionPolicyARNs)
	arns := sorted(l.PolicyARNs)
	switch {
	case l.Policy == "" && len(arns) == 0, l.Policy == c.Policy && slices.Equal(arns, c.PolicyARNs):
	case c.Policy == "" && len(c.PolicyARNs) == 0:
		c.Policy, c.PolicyARNs = l.Policy, arns
	default:
		return badInput(r.Name, "The role %q has a session policy of its own, which a client's session policy can neither replace nor be added to.", r.Name)
	}
	return nil
}

// mergeTags adds the client's tags where the call has none of the same key. Tag
// keys are compared without regard to case, as IAM does.
func mergeTags(c *call, l Link) error {
	own := make(map[string]bool, len(c.Tags))
	for _, t := range c.Tags {
		own[strings.ToLower(t.Key)] = true
	}
	added := make(map[string]bool, len(l.Tags))
	for _, t := range l.Tags {
		k := strings.ToLower(t.Key)
		if own[k] {
			continue
		}
		if added[k] {
			return badInput("", "The session tag %.40q is given twice.", t.Key)
		}
		added[k] = true
		c.Tags = append(c.Tags, t)
	}
	if len(c.Tags) > maxTags {
		return badInput("", "%d session tags, at most %d.", len(c.Tags), maxTags)
	}
	slices.SortFunc(c.Tags, func(a, b Tag) int { return strings.Compare(a.Key, b.Key) })
	for _, k := range l.TransitiveTagKeys {
		// Whether the entry's own tags are inherited is for the entry to say.
		if !own[strings.ToLower(k)] && !slices.Contains(c.TransitiveTagKeys, k) {
			c.TransitiveTagKeys = append(c.TransitiveTagKeys, k)
		}
	}
	slices.Sort(c.TransitiveTagKeys)
	return nil
}

// clientName is the session name where a client gave one.
func clientName(r *role, own, client string) string {
	switch {
	case client == "":
		return own
	case r.ClientSessionName == PrefixSessionName:
		return cleanName(own + "." + client)
	default:
		return client
	}
}

// chainedCall is a call that is signed with a session: the client's wishes, and
// the source identity, session tags and session policy of the entry in force, so
// that the identity is seen, and the limit holds, on every hop.
func chainedCall(entry *role, data templateData, l Link, chained bool) (*call, error) {
	c := &call{
		RoleARN:         l.RoleARN,
		ExternalID:      l.ExternalID,
		Duration:        l.Duration,
		TargetPrincipal: l.TargetPrincipal,
		TaskPolicyARN:   l.TaskPolicyARN,
		serialNumber:    l.SerialNumber,
		tokenCode:       l.TokenCode,
	}
	switch l.Operation {
	case "", OpAssumeRole:
		if !roleARNPattern.MatchString(l.RoleARN) {
			return nil, badInput(entry.Name, "%.80q is not the ARN of a role.", l.RoleARN)
		}
		name, err := render(entry.sessionName, data)
		if err != nil {
			return nil, badInput(entry.Name, "roles.%s.session_name cannot be made for the identity %q: %v.", entry.Name, data.Identity.Name, err)
		}
		c.SessionName = clientName(entry, cleanName(name), l.SessionName)
		if c.Duration == 0 {
			c.Duration = int32(chainedDuration / time.Second)
		}
		if chained {
			c.Duration = min(c.Duration, int32(chainedDuration/time.Second))
		} else if entry.Duration > 0 {
			c.Duration = min(c.Duration, int32(entry.Duration/time.Second))
		}
		c.SourceIdentity = l.SourceIdentity
		if entry.sourceIdentity != nil {
			if c.SourceIdentity, err = entrySourceIdentity(entry, data); err != nil {
				return nil, err
			}
		}
	case OpGetSessionToken:
		c.Operation = l.Operation
		return c, nil
	case OpGetFederationToken:
		c.Operation, c.SessionName = l.Operation, l.SessionName
	case OpAssumeRoot:
		c.Operation = l.Operation
		return c, nil
	default:
		return nil, badInput(entry.Name, "%s cannot be part of a session.", l.Operation)
	}
	if err := addPolicy(entry, c, l); err != nil {
		return nil, err
	}
	tags, err := entryTags(entry, data)
	if err != nil {
		return nil, err
	}
	for _, t := range tags {
		// An entry whose tags are transitive has passed them on already, and STS
		// refuses them a second time.
		if !slices.Contains(entry.TransitiveTagKeys, t.Key) {
			c.Tags = append(c.Tags, t)
		}
	}
	if err := mergeTags(c, l); err != nil {
		return nil, err
	}
	return c, nil
}

func sorted(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	return slices.Sorted(slices.Values(list))
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
