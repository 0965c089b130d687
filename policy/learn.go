package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/countersign-proxy/countersign/awsapi"
)

// LearnOptions tune Learn; the zero value is the documented default.
type LearnOptions struct {
	// Examples is how many different values show that a number or a random name
	// varies. Default 3. Dates vary from one on, and random names do when the log
	// shows that things of that service are created.
	Examples int
	// Siblings is how many names under one prefix are kept before the
	// prefix stands for them. Default 20.
	Siblings int
	// Exact keeps every resource as it was.
	Exact bool
}

// Lesson is what Learn found.
type Lesson struct {
	Policy []byte // the document, indented, ending in a newline
	Report LearnReport
}

// LearnReport says what stands behind a learned policy.
type LearnReport struct {
	Calls       int              `json:"calls"`
	Actions     int              `json:"actions"`
	Resources   int              `json:"resources"` // entries in the policy
	Generalised []Generalisation `json:"generalised,omitempty"`
	// Unknown lists calls that were not understood: no policy can name them, and the
	// learned one does not allow them.
	Unknown []UnknownCall `json:"unknown,omitempty"`
	Notes   []string      `json:"notes,omitempty"`
}

// Generalisation is one pattern that stands for several resources.
type Generalisation struct {
	Pattern  string   `json:"pattern"`
	Why      string   `json:"why"`
	Count    int      `json:"count"`
	Examples []string `json:"examples"` // at most three
	Actions  []string `json:"actions"`

	seen map[string]bool
}

// UnknownCall is a kind of call that was not understood.
type UnknownCall struct {
	Call  string `json:"call"`
	Why   string `json:"why"`
	Count int    `json:"count"`
}

// Learn makes the least policy that would have allowed what was seen. The
// order of the observations does not matter, and the same ones give the same bytes.
func Learn(seen []Observation, o LearnOptions) Lesson {
	if o.Examples <= 0 {
		o.Examples = 3
	}
	if o.Siblings <= 0 {
		o.Siblings = 20
	}
	l := learner{opt: o, resources: make(map[string]map[string]bool), creates: make(map[string][]string), found: make(map[string]*Generalisation)}
	unknown := make(map[UnknownCall]int)
	for i := range seen {
		ob := &seen[i]
		if ob.Unknown != "" {
			name := strings.TrimSpace(ob.Service + " " + ob.Operation)
			if name == "" {
				name = "?"
			}
			unknown[UnknownCall{Call: name, Why: ob.Unknown}]++
			continue
		}
		for _, n := range ob.needs() {
			l.see(n)
		}
	}
	grants := l.grants()
	out := Lesson{Policy: document(grants)}
	out.Report.Calls = len(seen)
	out.Report.Actions = len(l.resources)
	for _, g := range grants {
		out.Report.Resources += len(g.resources)
	}
	for _, p := range slices.Sorted(maps.Keys(l.found)) {
		g := l.found[p]
		slices.Sort(g.Actions)
		out.Report.Generalised = append(out.Report.Generalised, *g)
	}
	for u, n := range unknown {
		u.Count = n
		out.Report.Unknown = append(out.Report.Unknown, u)
	}
	slices.SortFunc(out.Report.Unknown, func(a, b UnknownCall) int {
		return strings.Compare(a.Call+"\x00"+a.Why, b.Call+"\x00"+b.Why)
	})
	out.Report.Notes = l.notes(out.Policy)
	return out
}

type learner struct {
	opt       LearnOptions
	resources map[string]map[string]bool // by action: resources, as policy text
	creates   map[string][]string        // by service: what is created
	found     map[string]*Generalisation // by pattern
	whole     []string                   // actions on resources that could not be told
	open      bool                       // some calls left parts of an ARN open
}

const newBucket = "s3 bucket"

// creating are the verbs of actions that make things with new names.
var creating = []string{"Create", "Run", "Allocate", "Request", "Register", "Start", "Import", "Copy"}

// alsoCreated are things that an action makes besides what it is named after.
var alsoCreated = map[string][]string{
	"ec2:RunInstances":    {"volume", "networkinterface", "spotinstancesrequest"},
	"ec2:AllocateAddress": {"elasticip"},
	"ec2:CreateFleet":     {"instance", "volume", "networkinterface"},
}

// made notes what an action creates: the rest of its name behind the verb.
func (l *learner) made(action string) {
	service, name, _ := strings.Cut(action, ":")
	switch action {
	case "s3:PutObject":
		l.creates["s3"] = append(l.creates["s3"], "object")
		return
	case "s3:CreateBucket":
		l.creates[newBucket] = append(l.creates[newBucket], "bucket")
		return
	}
	for _, verb := range creating {
		if thing, ok := strings.CutPrefix(name, verb); ok && service != "s3" {
			l.creates[service] = append(l.creates[service], strings.ToLower(thing))
			l.creates[service] = append(l.creates[service], alsoCreated[action]...)
		}
	}
}

// isCreated says whether the log shows that things like a resource are created. The type
// of a resource is what its name has before the first slash or colon; names without a
// type belong to services that have one kind of thing.
func (l *learner) isCreated(service, resource string) bool {
	if service == "s3" {
		return len(l.creates["s3"]) > 0
	}
	at := strings.IndexAny(resource, "/:")
	if at < 0 {
		return len(l.creates[service]) > 0
	}
	kind := strings.ToLower(strings.ReplaceAll(resource[:at], "-", ""))
	return slices.ContainsFunc(l.creates[service], func(thing string) bool { return strings.Contains(thing, kind) })
}

func (l *learner) see(n awsapi.Need) {
	if !strings.Contains(n.Action, ":") {
		return
	}
	l.made(n.Action)
	set := l.resources[n.Action]
	if set == nil {
		set = make(map[string]bool)
		l.resources[n.Action] = set
	}
	for _, r := range n.Resources {
		set[resourceText(r)] = true
	}
	if n.ResourceUnknown {
		for _, p := range n.Patterns {
			l.open = true
			set[strings.ReplaceAll(p, "${", "${$}{")] = true
		}
	}
	if n.ResourceUnknown && len(n.Patterns) == 0 || !n.ResourceUnknown && len(n.Resources) == 0 {
		set["*"] = true
		if !slices.Contains(l.whole, n.Action) {
			l.whole = append(l.whole, n.Action)
		}
	}
}

// resourceText writes an ARN as an entry of Resource: characters that would mean
// something there are escaped.
func resourceText(arn string) string {
	if arn == "*" || !strings.HasPrefix(arn, "arn:") {
		return "*"
	}
	f := strings.SplitN(arn, ":", 6)
	if len(f) < 6 {
		return "*"
	}
	rest := f[5]
	if strings.ContainsAny(rest, "*?$") {
		rest = strings.NewReplacer("*", "${*}", "?", "${?}", "${", "${$}{").Replace(rest)
	}
	text := strings.Join(f[:5], ":") + ":" + rest
	if utf8.ValidString(text) {
		return text
	}
	// A policy cannot hold bytes that are no UTF-8; each counts as one character.
	var b strings.Builder
	for len(text) > 0 {
		r, n := utf8.DecodeRuneInString(text)
		if r == utf8.RuneError && n == 1 {
			b.WriteByte('?')
		} else {
			b.WriteString(text[:n])
		}
		text = text[n:]
	}
	return b.String()
}

// grant is one statement in the making.
type grant struct {
	service   string
	actions   []string
	resources []string
}

// grants puts together the actions that go with the same resources, and the
// resources that go with the same actions, service by service.
func (l *learner) grants() []grant {
	byService := make(map[string]map[string][]string) // service, resource, actions
	for _, action := range slices.Sorted(maps.Keys(l.resources)) {
		service, _, _ := strings.Cut(action, ":")
		if byService[service] == nil {
			byService[service] = make(map[string][]string)
		}
		for _, r := range l.generalise(action, slices.Sorted(maps.Keys(l.resources[action]))) {
			byService[service][r] = append(byService[service][r], action)
		}
	}
	var out []grant
	for _, service := range slices.Sorted(maps.Keys(byService)) {
		byActions := make(map[string]*grant)
		for _, r := range slices.Sorted(maps.Keys(byService[service])) {
			actions := byService[service][r]
			key := strings.Join(actions, "\n")
			if byActions[key] == nil {
				byActions[key] = &grant{service: service, actions: actions}
			}
			byActions[key].resources = append(byActions[key].resources, r)
		}
		for _, key := range slices.Sorted(maps.Keys(byActions)) {
			out = append(out, *byActions[key])
		}
	}
	return out
}

func document(grants []grant) []byte {
	type statement struct {
		Sid      string
		Effect   Effect
		Action   []string
		Resource []string
	}
	doc := struct {
		Version   string
		Statement []statement
	}{Version2012, []statement{}}
	numbers := make(map[string]int)
	for _, g := range grants {
		name := sidName(g.service)
		numbers[name]++
		doc.Statement = append(doc.Statement, statement{fmt.Sprintf("%sCalls%d", name, numbers[name]), Allow, g.actions, g.resources})
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(doc); err != nil {
		panic("policy: a document of strings does not encode: " + err.Error())
	}
	return b.Bytes()
}

// sidName makes a Sid's beginning of a service's name: execute-api, ExecuteApi.
func sidName(service string) string {
	var b strings.Builder
	up := true
	for i := 0; i < len(service); i++ {
		c := lower(service[i])
		switch {
		case c >= 'a' && c <= 'z' && up:
			b.WriteByte(c - 'a' + 'A')
			up = false
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			b.WriteByte(c)
		default:
			up = true
		}
	}
	return b.String()
}

func (l *learner) notes(doc []byte) []string {
	var out []string
	if len(l.whole) > 0 {
		slices.Sort(l.whole)
		out = append(out, fmt.Sprintf("the resources of %s could not be told from the calls; they are allowed on \"*\"", strings.Join(l.whole, ", ")))
	}
	if l.open {
		out = append(out, "some ARNs hold wildcards for what the calls left open, such as the id of a thing yet to be made")
	}
	if n := characters(doc); n > managedLimit {
		out = append(out, fmt.Sprintf("the policy has %d characters without white space; AWS takes %d in a managed policy (the proxy takes more)", n, managedLimit))
	}
	return out
}

// WriteTo writes the report for people.
func (r LearnReport) WriteTo(w io.Writer) (int64, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "%d calls, %d actions, %d resources\n", r.Calls, r.Actions, r.Resources)
	for _, g := range r.Generalised {
		fmt.Fprintf(&b, "generalised: %s stands for %d (%s), such as %s\n", g.Pattern, g.Count, g.Why, strings.Join(g.Examples, " "))
	}
	for _, u := range r.Unknown {
		fmt.Fprintf(&b, "not understood, and not allowed: %s, %d times: %s\n", u.Call, u.Count, u.Why)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}
