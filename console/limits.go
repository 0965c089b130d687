package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxSessionPolicy is what STS accepts as a session policy, in characters.
const maxSessionPolicy = 2048

// Document is a policy document of the configuration, already known to be valid.
type Document struct {
	Name string // for messages
	Text []byte
}

// Limits are what the proxy enforces on the calls of a role. The console's calls do
// not pass the proxy, so a sign-in takes them along as a session policy, and is
// refused where one session policy cannot say the same: a role may be less in the
// console than through the proxy, never more.
type Limits struct {
	Policies []Document // what one of them allows, and none denies
	Boundary *Document  // what it allows as well; nil: none
	ReadOnly bool
	Regions  []string // none: any
	Services []string // none: any
	// OwnPolicy says that the role has a session policy of its own. Session policies
	// add up, so another one beside it would widen it.
	OwnPolicy bool
}

func (l Limits) none() bool {
	return len(l.Policies) == 0 && l.Boundary == nil && !l.ReadOnly && len(l.Regions) == 0 && len(l.Services) == 0
}

type statement struct {
	Effect    string
	Action    any `json:",omitempty"`
	NotAction any `json:",omitempty"`
	Resource  any
	Condition any `json:",omitempty"`
}

// sessionPolicy returns what AWS has to be told so that it enforces the limits:
// the text of a session policy and ARNs of managed ones. tags are the keys of the
// role's session tags. Errors are of type *[Error].
func (l Limits) sessionPolicy(partition string, tags []string) (text string, arns []string, err error) {
	if l.none() {
		return "", nil, nil
	}
	text, arns, err = l.express(partition, tags)
	if err != nil {
		return "", nil, &Error{Kind: KindLimits, Err: err, Message: fmt.Sprintf(
			"The proxy limits this role in a way that AWS cannot be told for a console session: %v. Use it through the proxy, or make a role for the console whose limits are in IAM or in session_policy.", err)}
	}
	return text, arns, nil
}

func (l Limits) express(partition string, tags []string) (text string, arns []string, err error) {
	documents := l.Policies
	if l.Boundary != nil {
		if len(documents) > 0 {
			return "", nil, errors.New("it has policies and the identity a boundary, and session policies do not intersect")
		}
		documents = []Document{*l.Boundary}
	}
	switch {
	case l.OwnPolicy:
		return "", nil, errors.New("it has a session policy of its own, and session policies do not intersect")
	case l.ReadOnly && len(documents) > 0:
		return "", nil, errors.New("it is read_only and has policies or a boundary, and session policies do not intersect")
	}
	var statements []any
	for _, d := range documents {
		own, err := documentStatements(d, tags)
		if err != nil {
			return "", nil, err
		}
		statements = append(statements, own...)
	}
	if len(documents) > 0 && len(statements) == 0 {
		return "", nil, errors.New("its policies have no statements, so they allow nothing")
	}
	if l.ReadOnly {
		arns = []string{"arn:" + partition + ":iam::aws:policy/ReadOnlyAccess"}
	} else if len(documents) == 0 {
		statements = append(statements, statement{Effect: "Allow", Action: "*", Resource: "*"})
	}
	if len(l.Regions) > 0 {
		operator := "StringNotEquals"
		if slices.ContainsFunc(l.Regions, func(r string) bool { return strings.ContainsAny(r, "*?") }) {
			operator = "StringNotLike"
		}
		statements = append(statements, statement{Effect: "Deny", Action: "*", Resource: "*",
			Condition: map[string]any{operator: map[string]any{"aws:RequestedRegion": l.Regions}}})
	}
	if len(l.Services) > 0 {
		var actions []string
		for _, s := range l.Services {
			actions = append(actions, s+":*")
		}
		statements = append(statements, statement{Effect: "Deny", NotAction: actions, Resource: "*"})
	}
	if len(statements) == 0 {
		return "", arns, nil
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	err = encoder.Encode(struct {
		Version   string
		Statement []any
	}{"2012-10-17", statements})
	if err != nil {
		return "", nil, err
	}
	text = strings.TrimSpace(out.String())
	if n := utf8.RuneCountInString(text); n > maxSessionPolicy {
		return "", nil, fmt.Errorf("they come to %d characters, and a session policy has at most %d", n, maxSessionPolicy)
	}
	return text, arns, nil
}

var principalTag = regexp.MustCompile(`(?i)aws:PrincipalTag/([^"}]+)`)

// documentStatements returns the statements of a document without their Sids, which
// must not repeat in one policy.
func documentStatements(d Document, tags []string) ([]any, error) {
	var document struct {
		Version   string
		Statement json.RawMessage
	}
	if err := json.Unmarshal(d.Text, &document); err != nil {
		return nil, fmt.Errorf("%s: %w", d.Name, err)
	}
	if document.Version != "2012-10-17" && bytes.Contains(d.Text, []byte("${")) {
		return nil, fmt.Errorf(`%s has "${" in a policy that is not of Version 2012-10-17, where it means itself`, d.Name)
	}
	// At AWS the session has no user name, and of tags only the session's own.
	if bytes.Contains(bytes.ToLower(d.Text), []byte("aws:username")) {
		return nil, fmt.Errorf("%s depends on aws:username, which a role session does not have", d.Name)
	}
	for _, m := range principalTag.FindAllSubmatch(d.Text, -1) {
		if !slices.ContainsFunc(tags, func(t string) bool { return strings.EqualFold(t, string(m[1])) }) {
			return nil, fmt.Errorf("%s depends on aws:PrincipalTag/%s, which is not one of the role's tags", d.Name, m[1])
		}
	}
	var list []map[string]json.RawMessage
	if bytes.HasPrefix(bytes.TrimSpace(document.Statement), []byte("{")) {
		list = make([]map[string]json.RawMessage, 1)
		if err := json.Unmarshal(document.Statement, &list[0]); err != nil {
			return nil, fmt.Errorf("%s: %w", d.Name, err)
		}
	} else if err := json.Unmarshal(document.Statement, &list); err != nil {
		return nil, fmt.Errorf("%s: %w", d.Name, err)
	}
	var out []any
	for _, s := range list {
		maps.DeleteFunc(s, func(k string, _ json.RawMessage) bool { return k == "Sid" })
		out = append(out, s)
	}
	return out, nil
}
