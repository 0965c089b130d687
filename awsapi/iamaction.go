package awsapi

import (
	"slices"
	"strings"
)

// Action is an IAM action, as the Service Authorization Reference has it.
type Action struct {
	Name          string         // in its documented spelling, such as "s3:GetObject"
	AccessLevel   string         // List, Read, Write, Tagging or Permissions management
	Resources     []ResourceType // the types it applies to; none means "*" alone
	ConditionKeys []string       // lower-case; those of AWS as a whole are not listed
}

// ResourceType is one kind of resource that an action applies to.
type ResourceType struct {
	Name     string
	ARN      string // template with ${Partition}, ${Region}, ${Account} and others
	Required bool
}

// ConditionKey is a condition key of a service.
type ConditionKey struct {
	Name string // lower-case; "${…}" stands for a part that varies
	Type string // such as "String", "Numeric" or "ArrayOfString"
}

// iamService is the reference's page for one prefix.
type iamService struct {
	actions map[string]*Action // by lower-case name without prefix
	names   []string
	keys    []ConditionKey
}

var iamServices lazy[iamService]

func iamServiceOf(prefix string) *iamService {
	prefix = strings.ToLower(prefix)
	if actionsArchive().files[prefix] == nil {
		return nil
	}
	return iamServices.get(prefix, func() *iamService { return parseIAMService(prefix, actionsArchive().text(prefix)) })
}

func parseIAMService(prefix, text string) *iamService {
	s := &iamService{actions: make(map[string]*Action)}
	type listed struct {
		action *Action
		types  string
	}
	var actions []listed
	var types []ResourceType
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		switch f[0] {
		case "K":
			s.keys = append(s.keys, ConditionKey{f[1], f[2]})
		case "A":
			a := &Action{Name: prefix + ":" + f[1], AccessLevel: accessLevels[f[2][0]]}
			for _, k := range list(f[4]) {
				a.ConditionKeys = append(a.ConditionKeys, s.keys[number(k)].Name)
			}
			slices.Sort(a.ConditionKeys)
			s.actions[strings.ToLower(f[1])] = a
			s.names = append(s.names, a.Name)
			actions = append(actions, listed{a, f[3]})
		case "R":
			types = append(types, ResourceType{Name: f[1], ARN: f[2]})
		}
	}
	for _, l := range actions {
		for _, t := range list(l.types) {
			n, required := strings.CutSuffix(t, "!")
			rt := types[number(n)]
			rt.Required = required
			l.action.Resources = append(l.action.Resources, rt)
		}
	}
	return s
}

func number(s string) int {
	n := 0
	for i := 0; i < len(s); i++ {
		n = n*10 + int(s[i]-'0')
	}
	return n
}

var accessLevels = map[byte]string{'L': "List", 'R': "Read", 'W': "Write", 'T': "Tagging", 'P': "Permissions management"}

// levelRank orders access levels by what they can do.
func levelRank(level string) int {
	return slices.Index([]string{"", "List", "Read", "Tagging", "Write", "Permissions management"}, level)
}

// LookupAction finds an IAM action in any case. The value is shared and must
// not be changed.
func LookupAction(name string) (*Action, bool) {
	prefix, rest, ok := strings.Cut(name, ":")
	if !ok {
		return nil, false
	}
	s := iamServiceOf(prefix)
	if s == nil {
		return nil, false
	}
	a, ok := s.actions[strings.ToLower(rest)]
	return a, ok
}

// ActionPrefixes returns the prefixes of IAM actions, sorted.
func ActionPrefixes() []string { return actionsArchive().names() }

// ActionsOf returns the actions of a prefix, sorted.
func ActionsOf(prefix string) []string {
	s := iamServiceOf(prefix)
	if s == nil {
		return nil
	}
	return slices.Clone(s.names)
}

// ConditionKeysOf returns the condition keys of a prefix.
func ConditionKeysOf(prefix string) []ConditionKey {
	s := iamServiceOf(prefix)
	if s == nil {
		return nil
	}
	return slices.Clone(s.keys)
}
