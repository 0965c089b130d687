package config

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"text/template"
	"text/template/parse"
)

// The checks of single values. Each returns what is wrong and what was
// expected, or "".

func oneOf(values ...string) func(string) string {
	return func(s string) string {
		for _, v := range values {
			if s == v {
				return ""
			}
		}
		last := len(values) - 1
		msg := fmt.Sprintf("%s is not known; expected %s or %s", quote(s), strings.Join(values[:last], ", "), values[last])
		if best := nearest(s, values); best != "" && len(values) > 2 {
			msg += "; did you mean " + best + "?"
		}
		return msg
	}
}

func matching(re *regexp.Regexp, expected string) func(string) string {
	return func(s string) string {
		if re.MatchString(s) {
			return ""
		}
		return quote(s) + " is not valid; expected " + expected
	}
}

var (
	checkName = matching(regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.@+=,:/-]{0,127}$`),
		"a name of letters, digits and _.@+=,:/-, beginning with a letter or digit")
	checkToken = matching(regexp.MustCompile(`^[^\s\x00-\x1f\x7f]+( [^\s\x00-\x1f\x7f]+)*$`),
		"a name on one line")
	checkRegion = matching(regexp.MustCompile(`^[a-z]{2,5}(-[a-z]+)+-[0-9]{1,2}$`),
		"a region such as eu-central-1")
	checkRegions = matching(regexp.MustCompile(`^[a-z0-9*?]+(-[a-z0-9*?]+)*$`),
		"a region such as eu-central-1, in which * and ? may stand")
	checkService = matching(regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`),
		"a service such as s3 or dynamodb, in lower case")
	externalID     = regexp.MustCompile(`^[\w+=,.@:/-]+$`)
	checkPolicyARN = matching(regexp.MustCompile(`^arn:aws[a-z-]*:iam::(aws|[0-9]{12}):policy/[\w+=,.@/-]+$`),
		"the ARN of a managed policy, such as arn:aws:iam::aws:policy/ReadOnlyAccess")
	checkRolePattern = matching(regexp.MustCompile(`^arn:(aws[a-z-]*|\*):iam::([0-9]{12}|[0-9*?]{1,12}):(role/[\w+=,.@/*?-]+|root)$`),
		"the ARN of a role, or of an account's root, in which * and ? may stand, such as arn:aws:iam::*:role/Deploy-*")
	checkCall = matching(regexp.MustCompile(`^[a-z0-9][a-z0-9-]*:[A-Z][A-Za-z0-9]+$`),
		"service:Operation, such as codepipeline:PollForJobs")
	checkMethod = matching(regexp.MustCompile(`^[A-Z]{1,20}$`),
		"an HTTP method in capitals, such as GET")
	checkNotBlank = matching(regexp.MustCompile(`\S`), "a text")
	roleARN       = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]{1,576}$`)
	clientKeyID   = regexp.MustCompile(`^CSIG[A-Z2-7]{16}$`)
	realKeyID     = regexp.MustCompile(`^(AKIA|ASIA)[A-Z0-9]{12,}$`)
	hostLabel     = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$`)
)

func checkExternalID(s string) string {
	if len(s) < 2 || len(s) > 1224 || !externalID.MatchString(s) {
		return quote(s) + " is not valid; expected 2 to 1224 letters, digits and +=,.@:/-_ (as AWS STS requires)"
	}
	return ""
}

func checkRoleARN(s string) string {
	const expected = "expected arn:aws:iam::ACCOUNT:role/NAME"
	switch {
	case roleARN.MatchString(s):
		return ""
	case strings.Contains(s, ":sts:") && strings.Contains(s, ":assumed-role/"):
		return quote(s) + " is the ARN of a session; " + expected + ", the role itself"
	case strings.Contains(s, ":user/"):
		return quote(s) + " is the ARN of a user; " + expected
	case strings.Contains(s, ":instance-profile/"):
		return quote(s) + " is the ARN of an instance profile; " + expected
	}
	return quote(s) + " is not the ARN of a role; " + expected
}

func checkAccessKeyID(s string) string {
	const expected = "expected CSIG and 16 of A-Z and 2-7, a key id that is worth nothing outside this proxy"
	switch {
	case clientKeyID.MatchString(s):
		return ""
	case realKeyID.MatchString(s):
		return quote(s) + " is the key id of real AWS credentials, which must not be here (and should be replaced in AWS if others could read it); " + expected
	}
	return quote(s) + " is not a client key id; " + expected
}

// splitAddress splits host:port and says what is wrong with the port.
func splitAddress(s string) (host, port, wrong string) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		if _, e := strconv.Atoi(s); e == nil {
			return "", "", fmt.Sprintf("%s is only a port; expected host:port, such as 127.0.0.1:%s", quote(s), s)
		}
		return "", "", quote(s) + " is not an address; expected host:port, such as 127.0.0.1:8800 or [::1]:8800"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || port != strconv.FormatUint(n, 10) {
		return "", "", fmt.Sprintf("%s is not an address: the port %s is not a number from 0 to 65535", quote(s), quote(port))
	}
	return host, port, ""
}

func checkAddress(s string) string {
	host, _, wrong := splitAddress(s)
	if wrong != "" || host == "" {
		return wrong
	}
	return checkHost(host)
}

func checkDialAddress(s string) string {
	host, port, wrong := splitAddress(s)
	switch {
	case wrong != "":
		return wrong
	case host == "" || port == "0":
		return quote(s) + " cannot be connected to; expected host:port, such as 127.0.0.1:5443"
	}
	return checkHost(host)
}

// checkHost checks an IP address or a name.
func checkHost(host string) string {
	if _, err := netip.ParseAddr(host); err == nil {
		return ""
	}
	return checkHostName(strings.ToLower(host))
}

func checkHostName(s string) string {
	name := strings.TrimSuffix(s, ".")
	bad := len(name) > 253 || name == ""
	for _, label := range strings.Split(name, ".") {
		bad = bad || !hostLabel.MatchString(label)
	}
	switch {
	case !bad:
		return ""
	case strings.Contains(s, "://"):
		return quote(s) + " is a URL; expected a host name alone"
	case s != strings.ToLower(s):
		return quote(s) + " has capitals; expected the name in lower case"
	}
	return quote(s) + " is not a host name; expected a name such as proxy.example.com, without port"
}

func checkHostPattern(s string) string {
	if s == "*" {
		return `"*" would be every host; expected a name, or "*." and a suffix`
	}
	suffix, wild := strings.CutPrefix(s, "*.")
	switch {
	case strings.Contains(suffix, "*"):
		return quote(s) + ` has a * in the middle; expected a name, or "*." and a suffix`
	case strings.HasPrefix(s, "."):
		return fmt.Sprintf("%s begins with a dot; expected %s", quote(s), quote("*"+s))
	case strings.Contains(suffix, "/"):
		return quote(s) + " has a slash; expected a host name or pattern alone"
	case wild && !strings.Contains(suffix, "."):
		return quote(s) + " covers a whole top-level domain; expected a longer suffix"
	}
	if _, err := netip.ParseAddr(suffix); err == nil {
		return quote(s) + " is an IP address; expected a host name or pattern"
	}
	if strings.HasSuffix(s, ".") {
		return quote(s) + " ends in a dot; expected it without"
	}
	return checkHostName(suffix)
}

func checkAnyHostPattern(s string) string {
	if s == "*" {
		return ""
	}
	return checkHostPattern(s)
}

func checkTunnelPattern(s string) string {
	ip, err := netip.ParseAddr(s)
	if err != nil {
		return checkHostPattern(s)
	}
	if ip = ip.Unmap(); !ip.IsGlobalUnicast() || ip.IsPrivate() {
		return quote(s) + " is not a public address; those are never tunnelled"
	}
	return ""
}

func checkHTTPS(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return quote(redact(s)) + " is not valid; expected an https URL without user, query and fragment"
	}
	return ""
}

func checkRedirect(s string) string {
	u, err := url.Parse(s)
	if err == nil && u.Scheme == "http" && LoopbackAddress(net.JoinHostPort(u.Hostname(), "0")) {
		return ""
	}
	return checkHTTPS(s)
}

func checkProxy(s string) string {
	if s == "env" || s == "none" {
		return ""
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "socks5" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return quote(redact(s)) + " is not valid; expected env, none, or a URL such as http://proxy.example.com:3128"
	}
	return ""
}

// redact removes what stands between scheme and @, which may be a password.
func redact(s string) string {
	if at := strings.LastIndex(s, "@"); at >= 0 {
		if i := strings.Index(s[:at], "://"); i >= 0 {
			return s[:i+3] + "…" + s[at:]
		}
		return "…" + s[at:]
	}
	return s
}

// checkTemplate runs a template on sample data, so that a field that does not
// exist is found when the configuration is read and not with the first request.
func checkTemplate(s string, data any, openEnded bool, fields string) string {
	if len(s) > 1024 {
		return "the template is longer than 1024 characters"
	}
	t, err := template.New("").Option("missingkey=zero").Parse(s)
	if err == nil {
		err = onlyText(t.Root)
	}
	if err == nil {
		err = t.Execute(io.Discard, data)
		// Nothing is known of the shape of a claim, so what fails below one
		// may well work with a token.
		if err != nil && openEnded && !strings.Contains(err.Error(), " in type struct ") {
			err = nil
		}
	}
	if err != nil {
		msg := strings.TrimPrefix(err.Error(), "template: ")
		if _, after, ok := strings.Cut(msg, ": "); ok {
			msg = after
		}
		msg = strings.TrimPrefix(msg, `executing "" at `)
		msg, _, _ = strings.Cut(msg, " in type ") // a type of ours says nothing to anybody
		return fmt.Sprintf("%s is not a valid template (%s); expected text with %s", quote(s), msg, fields)
	}
	return ""
}

// onlyText refuses what a name has no use for: loops, and templates that call
// each other. What is left ends.
func onlyText(n parse.Node) error {
	switch n := n.(type) {
	case nil, *parse.TextNode, *parse.ActionNode, *parse.CommentNode:
	case *parse.ListNode:
		if n == nil {
			return nil
		}
		for _, child := range n.Nodes {
			if err := onlyText(child); err != nil {
				return err
			}
		}
	case *parse.IfNode:
		return errors.Join(onlyText(n.List), onlyText(n.ElseList))
	case *parse.WithNode:
		return errors.Join(onlyText(n.List), onlyText(n.ElseList))
	default:
		return fmt.Errorf("template: : %s cannot be used here", n)
	}
	return nil
}

func checkIdentityTemplate(s string) string {
	type identity struct {
		Name       string
		Attributes map[string]string
	}
	return checkTemplate(s, struct {
		Identity identity
		Role     string
	}{identity{Name: "name", Attributes: map[string]string{}}, "role"},
		false, "{{ .Identity.Name }}, {{ .Identity.Attributes.NAME }} or {{ .Role }}")
}

func checkClaimsTemplate(s string) string {
	return checkTemplate(s, struct{ Claims map[string]any }{map[string]any{}},
		true, "{{ .Claims.NAME }}")
}
