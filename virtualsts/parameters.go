package virtualsts

import (
	"fmt"
	"math"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/countersign-proxy/countersign/rolesession"
)

// Limits of the STS API reference.
const (
	minDuration  = 900    // seconds
	maxDuration  = 129600 // seconds, of GetSessionToken and GetFederationToken
	maxPolicy    = 2048   // characters
	maxList      = 50     // tags and transitive tag keys
	maxPolicies  = 10
	maxAssertion = 100000 // characters of a SAML assertion
)

var (
	namePattern     = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)
	externalPattern = regexp.MustCompile(`^[\w+=,.@:/-]+$`)
	rolePattern     = regexp.MustCompile(`^arn:[a-z][a-z0-9-]*:iam::[0-9]{12}:role/[\w+=,.@/-]{1,576}$`)
	codePattern     = regexp.MustCompile(`^[0-9]{6}$`)
	serialPattern   = regexp.MustCompile(`^[\w+=/:,.@-]{9,256}$`)
	policyPattern   = regexp.MustCompile(`^arn:[a-z][a-z0-9-]*:iam::([0-9]{12}|aws):policy/[\w+=,.@/-]{1,576}$`)
)

// parameters are those of an STS call.
type parameters struct {
	roleARN, sessionName, externalID, policy, sourceIdentity string
	duration                                                 int32
	policyARNs, transitive                                   []string
	tags                                                     []rolesession.Tag
	serialNumber, tokenCode                                  string
	targetPrincipal, taskPolicyARN                           string
	webIdentityToken                                         string
	principalARN, samlAssertion                              string
}

func (p *parameters) link() rolesession.Link {
	return rolesession.Link{
		RoleARN: p.roleARN, SessionName: p.sessionName, ExternalID: p.externalID, Duration: p.duration, SourceIdentity: p.sourceIdentity,
		Tags: p.tags, TransitiveTagKeys: p.transitive, Policy: p.policy, PolicyARNs: p.policyARNs,
		TargetPrincipal: p.targetPrincipal, TaskPolicyARN: p.taskPolicyARN, SerialNumber: p.serialNumber, TokenCode: p.tokenCode,
	}
}

// accepted lists the parameters of each operation beside Action and Version.
// MinimumSessionTokenSize is accepted and has no effect: it is about how long the
// token is, and the token is ours.
var accepted = map[string][]string{
	opAssumeRole: {"RoleArn", "RoleSessionName", "DurationSeconds", "ExternalId", "Policy", "PolicyArns", "SourceIdentity", "Tags",
		"TransitiveTagKeys", "SerialNumber", "TokenCode", "MinimumSessionTokenSize"},
	opAssumeRoleWithWebIdentity: {"RoleArn", "RoleSessionName", "WebIdentityToken", "DurationSeconds", "Policy", "PolicyArns", "MinimumSessionTokenSize"},
	opAssumeRoleWithSAML:        {"RoleArn", "PrincipalArn", "SAMLAssertion", "DurationSeconds", "Policy", "PolicyArns", "MinimumSessionTokenSize"},
	opAssumeRoot:                {"TargetPrincipal", "TaskPolicyArn", "DurationSeconds", "MinimumSessionTokenSize"},
	opGetSessionToken:           {"DurationSeconds", "SerialNumber", "TokenCode", "MinimumSessionTokenSize"},
	opGetFederationToken:        {"Name", "DurationSeconds", "Policy", "PolicyArns", "Tags", "MinimumSessionTokenSize"},
}

// parseParameters reads the parameters of a query call from the query string and
// the form body. Whatever could be read in two ways is refused.
func parseParameters(r *http.Request, body []byte, operation string) (*parameters, *Error) {
	form, err := formOf(r, body)
	if err != nil {
		return nil, err
	}
	if got := form["Action"]; got != operation {
		return nil, invalid("The action of the request is %.64q, not %s.", got, operation)
	}
	for name := range form {
		top, _, _ := strings.Cut(name, ".")
		if name == "Action" || name == "Version" || slices.Contains(accepted[operation], top) {
			continue
		}
		return nil, invalid("The proxy does not know the parameter %.64q of %s, and so cannot tell what it would do.", name, operation)
	}
	f := &fields{form: form}
	p := &parameters{
		roleARN:         f.text("RoleArn", rolePattern, 0),
		sessionName:     f.text("RoleSessionName", namePattern, 0),
		externalID:      f.text("ExternalId", externalPattern, 1224),
		policy:          f.text("Policy", nil, maxPolicy),
		sourceIdentity:  f.text("SourceIdentity", namePattern, 0),
		duration:        f.seconds("DurationSeconds"),
		serialNumber:    f.text("SerialNumber", serialPattern, 0),
		tokenCode:       f.text("TokenCode", codePattern, 0),
		targetPrincipal: f.text("TargetPrincipal", nil, 2048),
		taskPolicyARN:   f.text("TaskPolicyArn.arn", policyPattern, 0),
		principalARN:    f.text("PrincipalArn", nil, 2048),
	}
	if operation == opGetFederationToken {
		p.sessionName = f.text("Name", namePattern, 0)
	}
	// Both are checked where they are used, and never repeated in a message.
	p.webIdentityToken, p.samlAssertion = f.take("WebIdentityToken"), f.take("SAMLAssertion")
	if len(p.samlAssertion) > maxAssertion {
		f.fail("SAMLAssertion is longer than %d characters.", maxAssertion)
	}
	f.take("MinimumSessionTokenSize")
	p.policyARNs = f.list("PolicyArns", ".arn", maxPolicies, func(v string) bool { return policyPattern.MatchString(v) })
	p.transitive = f.list("TransitiveTagKeys", "", maxList, tagKey)
	p.tags = f.tags()
	for _, name := range required[operation] {
		if form[name] == "" {
			f.fail("%s needs the parameter %s.", operation, name)
		}
	}
	if (p.serialNumber == "") != (p.tokenCode == "") {
		f.fail("SerialNumber and TokenCode go together.")
	}
	if f.err == nil && len(f.form) > f.taken+len(structural(form)) {
		f.fail("The request has a parameter whose form is not understood.")
	}
	if f.err != nil {
		return nil, f.err
	}
	return p, nil
}

var required = map[string][]string{
	opAssumeRole:                {"RoleArn", "RoleSessionName"},
	opAssumeRoleWithWebIdentity: {"RoleArn", "RoleSessionName", "WebIdentityToken"},
	opAssumeRoleWithSAML:        {"RoleArn", "PrincipalArn", "SAMLAssertion"},
	opAssumeRoot:                {"TargetPrincipal", "TaskPolicyArn.arn"},
	opGetFederationToken:        {"Name"},
}

// structural are the parameters that name the call, and empty lists, which SDKs
// write as "Tags=".
func structural(form map[string]string) []string {
	var out []string
	for name, value := range form {
		switch name {
		case "Action", "Version":
			out = append(out, name)
		case "Tags", "PolicyArns", "TransitiveTagKeys":
			if value == "" {
				out = append(out, name)
			}
		}
	}
	return out
}

// formOf joins query string and form body. A name that occurs twice is refused,
// and so is a raw "+" in the query string, which some read as a space and some do
// not. Parameters of a presigned URL's signature are left out.
func formOf(r *http.Request, body []byte) (map[string]string, *Error) {
	form := make(map[string]string)
	add := func(text string, query bool) *Error {
		if strings.Contains(text, ";") || query && strings.Contains(text, "+") {
			return invalid("The request holds a raw %q outside its body: write it percent-encoded.", ";+")
		}
		values, err := url.ParseQuery(text)
		if err != nil {
			return invalid("The parameters of the request cannot be read.")
		}
		for name, list := range values {
			if query && strings.HasPrefix(strings.ToLower(name), "x-amz-") {
				continue
			}
			if _, twice := form[name]; twice || len(list) != 1 {
				return invalid("The parameter %.64q occurs twice.", name)
			}
			if !utf8.ValidString(list[0]) {
				return invalid("The parameter %.64q is not valid UTF-8.", name)
			}
			form[name] = list[0]
		}
		return nil
	}
	if err := add(r.URL.RawQuery, true); err != nil {
		return nil, err
	}
	if len(body) == 0 {
		return form, nil
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" || r.Method != http.MethodPost {
		return nil, invalid("The body of the request is not a form.")
	}
	if err := add(string(body), false); err != nil {
		return nil, err
	}
	return form, nil
}

// fields takes parameters out of a form; the first thing that is wrong is kept.
type fields struct {
	form  map[string]string
	taken int
	err   *Error
}

func (f *fields) fail(format string, args ...any) {
	if f.err == nil {
		f.err = invalid(format, args...)
	}
}

func (f *fields) take(name string) string {
	v, ok := f.form[name]
	if ok {
		f.taken++
	}
	return v
}

// text takes a value that fits the pattern (nil for any) and is at most so many
// characters long (0 for what the pattern says). An empty value is none.
func (f *fields) text(name string, pattern *regexp.Regexp, most int) string {
	v := f.take(name)
	if v == "" {
		return ""
	}
	if (pattern != nil && !pattern.MatchString(v)) || (most > 0 && utf8.RuneCountInString(v) > most) {
		f.fail("The value of %s does not satisfy the constraints of the STS API reference.", name)
	}
	return v
}

func (f *fields) seconds(name string) int32 {
	v := f.take(name)
	if v == "" {
		return 0
	}
	n, err := strconv.ParseUint(v, 10, 31)
	if err != nil || n < minDuration || n > maxDuration || n > math.MaxInt32 {
		f.fail("The value of %s must be a number of seconds from %d to %d.", name, minDuration, maxDuration)
		return 0
	}
	return int32(n)
}

// list takes name.member.1suffix, name.member.2suffix and so on without a gap.
func (f *fields) list(name, suffix string, most int, valid func(string) bool) []string {
	var out []string
	for i := 1; ; i++ {
		key := fmt.Sprintf("%s.member.%d%s", name, i, suffix)
		if _, ok := f.form[key]; !ok {
			return out
		}
		v := f.take(key)
		if i > most {
			f.fail("%s has more than %d members.", name, most)
			return nil
		}
		if !valid(v) {
			f.fail("A member of %s does not satisfy the constraints of the STS API reference.", name)
		}
		out = append(out, v)
	}
}

func (f *fields) tags() []rolesession.Tag {
	keys := f.list("Tags", ".Key", maxList, tagKey)
	var out []rolesession.Tag
	for i, k := range keys {
		name := fmt.Sprintf("Tags.member.%d.Value", i+1)
		if _, ok := f.form[name]; !ok {
			f.fail("A tag has no value.")
			return nil
		}
		v := f.take(name)
		if utf8.RuneCountInString(v) > 256 {
			f.fail("The value of a tag is longer than 256 characters.")
		}
		out = append(out, rolesession.Tag{Key: k, Value: v})
	}
	return out
}

func tagKey(k string) bool { return k != "" && utf8.RuneCountInString(k) <= 128 }
