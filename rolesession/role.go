package rolesession

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"text/template"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/countersign-proxy/countersign/awsapi"
)

// Limits of the STS API reference, AssumeRole.
const (
	MinDuration     = 15 * time.Minute
	MaxDuration     = 12 * time.Hour
	chainedDuration = time.Hour // role chaining
	maxPolicyARNs   = 10
	maxPolicyLength = 2048
	maxTags         = 50
	maxTagKey       = 128
	maxTagValue     = 256
	maxChain        = 8 // links of via, or of a Request
)

// What becomes of the session name that a client gives in AssumeRole.
const (
	KeepSessionName   = "keep"   // the client's name stands
	PrefixSessionName = "prefix" // the name that the entry makes, then the client's
)

// Role is an entry of the configuration. SessionName, SourceIdentity and the
// values of Tags are text/template templates over .Identity.Name,
// .Identity.Attributes and .Role; an attribute that is missing is an error.
type Role struct {
	Name              string
	ARN               string            // "": the source credentials themselves
	Via               string            // configured role to assume first
	ExternalID        string            //
	Duration          time.Duration     // 0 is an hour
	SessionName       string            // "" is {{ .Identity.Name }}
	SourceIdentity    string            // "": none
	Tags              map[string]string // session tags
	TransitiveTagKeys []string          // keys of Tags that chained sessions inherit
	SessionPolicy     string            // JSON text, enforced by AWS
	SessionPolicyARNs []string          // managed policies, enforced by AWS
	ClientSessionName string            // "" is KeepSessionName
}

// role is a Role that was checked, with its templates parsed.
type role struct {
	Role
	sessionName    *template.Template
	sourceIdentity *template.Template // nil: none
	tags           []tagTemplate      // sorted by key
}

type tagTemplate struct {
	key   string
	value *template.Template
}

var (
	roleARNPattern    = regexp.MustCompile(`^arn:([a-z][a-z0-9-]*):iam::([0-9]{12}):role/([\w+=,.@/-]{1,576})$`)
	policyARNPattern  = regexp.MustCompile(`^arn:[a-z][a-z0-9-]*:iam::([0-9]{12}|aws):policy/[\w+=,.@/-]{1,576}$`)
	externalIDPattern = regexp.MustCompile(`^[\w+=,.@:/-]+$`) // with 2 to 1224 characters
	namePattern       = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)
)

// compileRoles checks every entry. The errors are joined, and each names the role
// and the key.
func compileRoles(entries map[string]Role, region string) (map[string]*role, error) {
	out := make(map[string]*role, len(entries))
	var errs []error
	for _, name := range sortedKeys(entries) {
		entry := entries[name]
		entry.Name = name
		r, err := compileRole(entry, region)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out[name] = r
	}
	for _, name := range sortedKeys(out) {
		if err := checkVia(out, entries, name); err != nil {
			errs = append(errs, err)
		}
	}
	return out, errors.Join(errs...)
}

func checkVia(roles map[string]*role, entries map[string]Role, name string) error {
	r := roles[name]
	if r.Via == "" {
		return nil
	}
	seen := []string{name}
	for at := r; at.Via != ""; {
		next, ok := roles[at.Via]
		if !ok {
			if _, broken := entries[at.Via]; broken {
				return nil // reported as that role's own error
			}
			return fmt.Errorf("roles.%s.via: there is no role %q", at.Name, at.Via)
		}
		if next.ARN == "" {
			return fmt.Errorf("roles.%s.via: the role %q has no arn, so it cannot be assumed first: leave via out", at.Name, at.Via)
		}
		if slices.Contains(seen, next.Name) {
			return fmt.Errorf("roles.%s.via: the roles go in a circle: %s", name, strings.Join(append(seen, next.Name), " → "))
		}
		seen = append(seen, next.Name)
		if len(seen) > maxChain {
			return fmt.Errorf("roles.%s.via: more than %d roles in a row", name, maxChain)
		}
		at = next
	}
	if r.Duration > chainedDuration {
		return fmt.Errorf("roles.%s.duration: %s, but a role that is assumed via another lasts at most %s (role chaining)", name, r.Duration, chainedDuration)
	}
	return nil
}

func compileRole(entry Role, region string) (*role, error) {
	fail := func(key, format string, args ...any) (*role, error) {
		return nil, fmt.Errorf("roles.%s.%s: %s", entry.Name, key, fmt.Sprintf(format, args...))
	}
	r := &role{Role: entry}
	if entry.ARN == "" {
		// What limits or leads to an AssumeRole call would be ignored here, and what
		// is ignored must not look as if it protected. Duration, source identity
		// and tags go into the sessions that clients chain from the role.
		for _, set := range []struct {
			key string
			is  bool
		}{
			{"via", entry.Via != ""}, {"external_id", entry.ExternalID != ""},
			{"session_policy", entry.SessionPolicy != ""}, {"session_policy_arns", len(entry.SessionPolicyARNs) > 0},
		} {
			if set.is {
				return fail(set.key, "has no effect without an arn: the source credentials are used as they are")
			}
		}
	} else {
		found := roleARNPattern.FindStringSubmatch(entry.ARN)
		if found == nil {
			return fail("arn", "%q is not the ARN of a role (arn:aws:iam::123456789012:role/Name)", entry.ARN)
		}
		if want, ok := awsapi.PartitionOf(region); ok && found[1] != want {
			return fail("arn", "%q is in the partition %s, but STS is called in %s, which is in %s: set source.sts_region", entry.ARN, found[1], region, want)
		}
	}
	if id := entry.ExternalID; id != "" && (len(id) < 2 || len(id) > 1224 || !externalIDPattern.MatchString(id)) {
		return fail("external_id", "expected 2 to 1224 letters, digits or characters of _+=,.@:/-")
	}
	if entry.Duration != 0 && (entry.Duration < MinDuration || entry.Duration > MaxDuration || entry.Duration%time.Second != 0) {
		return fail("duration", "%s, expected whole seconds from %s to %s", entry.Duration, MinDuration, MaxDuration)
	}
	switch entry.ClientSessionName {
	case "", KeepSessionName, PrefixSessionName:
	default:
		return fail("client_session_name", "%q, expected %s or %s", entry.ClientSessionName, KeepSessionName, PrefixSessionName)
	}
	if utf8.RuneCountInString(entry.SessionPolicy) > maxPolicyLength {
		return fail("session_policy", "%d characters, at most %d", utf8.RuneCountInString(entry.SessionPolicy), maxPolicyLength)
	}
	if len(entry.SessionPolicyARNs) > maxPolicyARNs {
		return fail("session_policy_arns", "%d policies, at most %d", len(entry.SessionPolicyARNs), maxPolicyARNs)
	}
	for _, arn := range entry.SessionPolicyARNs {
		if !policyARNPattern.MatchString(arn) {
			return fail("session_policy_arns", "%q is not the ARN of a policy (arn:aws:iam::123456789012:policy/Name)", arn)
		}
	}
	if entry.SessionName == "" {
		entry.SessionName = "{{ .Identity.Name }}"
	}
	var err error
	if r.sessionName, err = parseTemplate(entry.SessionName); err != nil {
		return fail("session_name", "%v", err)
	}
	if entry.SourceIdentity != "" {
		if r.sourceIdentity, err = parseTemplate(entry.SourceIdentity); err != nil {
			return fail("source_identity", "%v", err)
		}
	}
	if len(entry.Tags) > maxTags {
		return fail("tags", "%d tags, at most %d", len(entry.Tags), maxTags)
	}
	for _, key := range sortedKeys(entry.Tags) {
		if err := checkTagKey(key); err != nil {
			return fail("tags", "%v", err)
		}
		t, err := parseTemplate(entry.Tags[key])
		if err != nil {
			return fail("tags", "%s: %v", key, err)
		}
		r.tags = append(r.tags, tagTemplate{key, t})
	}
	for _, key := range entry.TransitiveTagKeys {
		if _, ok := entry.Tags[key]; !ok {
			return fail("transitive_tag_keys", "there is no tag %q", key)
		}
	}
	return r, nil
}

// templateData is what the templates of an entry see.
type templateData struct {
	Identity Principal
	Role     string
}

func parseTemplate(text string) (*template.Template, error) {
	t, err := template.New("").Option("missingkey=error").Parse(text)
	if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "template: :"))
	}
	return t, nil
}

// maxRendered bounds what a template may write, in bytes.
const maxRendered = 4096

type boundedWriter struct{ b strings.Builder }

func (w *boundedWriter) Write(p []byte) (int, error) {
	if w.b.Len()+len(p) > maxRendered {
		return 0, fmt.Errorf("longer than %d bytes", maxRendered)
	}
	return w.b.Write(p)
}

var _ io.Writer = (*boundedWriter)(nil)

// templatePosition is how the library begins an error of a template without a name.
var templatePosition = regexp.MustCompile(`^template: :\d+:\d+: executing "" `)

func render(t *template.Template, data templateData) (string, error) {
	var w boundedWriter
	if err := t.Execute(&w, data); err != nil {
		return "", errors.New(templatePosition.ReplaceAllString(plain(err), ""))
	}
	return w.b.String(), nil
}

// A tag's characters, as the STS API reference has them: letters, separators
// and digits of any script and _.:/=+-@.
func isTagRune(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsNumber(r) || unicode.Is(unicode.Z, r) || strings.ContainsRune("_.:/=+-@", r)
}

func checkTagKey(key string) error {
	if n := utf8.RuneCountInString(key); n == 0 || n > maxTagKey {
		return fmt.Errorf("%.40q: a key has 1 to %d characters", key, maxTagKey)
	}
	if strings.HasPrefix(strings.ToLower(key), "aws:") {
		return fmt.Errorf("%q: keys that begin with aws: are AWS's own", key)
	}
	if strings.ContainsFunc(key, func(r rune) bool { return !isTagRune(r) }) {
		return fmt.Errorf("%q: expected letters, digits, spaces and _.:/=+-@", key)
	}
	return nil
}

// checkTagValue refuses rather than replaces: trust and permission policies
// compare tags, so a value must never become another identity's.
func checkTagValue(value string) error {
	if utf8.RuneCountInString(value) > maxTagValue {
		return fmt.Errorf("longer than %d characters", maxTagValue)
	}
	if strings.ContainsFunc(value, func(r rune) bool { return !isTagRune(r) }) {
		return errors.New("holds characters other than letters, digits, spaces and _.:/=+-@")
	}
	return nil
}
