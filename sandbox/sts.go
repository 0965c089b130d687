package sandbox

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

var (
	roleARN       = regexp.MustCompile(`^arn:(aws[a-z-]*):iam::(\d{12}):role/(?:[\x21-\x7e]+/)?([\w+=,.@-]{1,64})$`)
	federatedName = regexp.MustCompile(`^[\w+=,.@-]{2,32}$`)
	sessionName   = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)
	externalID    = regexp.MustCompile(`^[\w+=,.@:/-]{2,}$`)
)

// serveSTS answers the calls that setups need.
// docs.aws.amazon.com/STS/latest/APIReference
func (s *Server) serveSTS(w http.ResponseWriter, c *call) error {
	form, err := url.ParseQuery(string(c.body))
	if err != nil {
		return &apiError{400, "MalformedQueryString", "the body cannot be parsed as a form"}
	}
	if form.Get("Action") == "" { // presigned calls carry it in the query string
		form = c.URL.Query()
	}
	c.record.Form = form
	switch form.Get("Action") {
	case "GetCallerIdentity":
		c.record.Operation = "GetCallerIdentity"
		return s.getCallerIdentity(w, c)
	case "AssumeRole":
		c.record.Operation = "AssumeRole"
		return s.assumeRole(w, c, form)
	case "GetFederationToken":
		c.record.Operation = "GetFederationToken"
		return s.getFederationToken(w, c, form)
	}
	return &apiError{400, "InvalidAction", "Could not find operation " + form.Get("Action") + " for version 2011-06-15"}
}

type metadata struct {
	RequestID string `xml:"RequestId"`
}

func (s *Server) getCallerIdentity(w http.ResponseWriter, c *call) error {
	type result struct{ Arn, UserId, Account string }
	account := strings.Split(c.caller.arn, ":")[4]
	writeXML(w, c, http.StatusOK, struct {
		XMLName  xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ GetCallerIdentityResponse"`
		Result   result   `xml:"GetCallerIdentityResult"`
		Metadata metadata `xml:"ResponseMetadata"`
	}{Result: result{c.caller.arn, c.caller.userID, account}, Metadata: metadata{c.id}})
	return nil
}

type credentials struct{ AccessKeyId, SecretAccessKey, SessionToken, Expiration string }

func (s *Server) assumeRole(w http.ResponseWriter, c *call, form url.Values) error {
	if c.caller.federated {
		return &apiError{403, "AccessDenied", "A federated user cannot call sts:AssumeRole"}
	}
	arn, name := form.Get("RoleArn"), form.Get("RoleSessionName")
	m := roleARN.FindStringSubmatch(arn)
	if m == nil {
		return &apiError{400, "ValidationError", strconv.Quote(arn) + " is invalid"}
	}
	if !sessionName.MatchString(name) {
		return &apiError{400, "ValidationError", "1 validation error detected: Value at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\w+=,.@-]* and have a length between 2 and 64"}
	}
	if id := form.Get("ExternalId"); form.Has("ExternalId") && (len(id) > 1224 || !externalID.MatchString(id)) {
		return &apiError{400, "ValidationError", "1 validation error detected: Value at 'externalId' failed to satisfy constraint"}
	}
	role, ok := s.options.Roles[arn]
	if s.options.Roles != nil && (!ok || role.ExternalID != "" && role.ExternalID != form.Get("ExternalId")) {
		return &apiError{403, "AccessDenied", fmt.Sprintf("User: %s is not authorized to perform: sts:AssumeRole on resource: %s", c.caller.arn, arn)}
	}
	longest := role.MaxDuration
	if longest == 0 {
		longest = time.Hour
		if s.options.Roles == nil {
			longest = 12 * time.Hour
		}
	}
	duration := time.Hour
	if text := form.Get("DurationSeconds"); text != "" {
		n, err := strconv.Atoi(text)
		if duration = time.Duration(n) * time.Second; err != nil || n < 900 || n > 43200 {
			return &apiError{400, "ValidationError", "1 validation error detected: Value at 'durationSeconds' must be between 900 and 43200"}
		}
	}
	chained := c.caller.roleARN != ""
	if chained && duration > time.Hour {
		return &apiError{400, "ValidationError", "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"}
	}
	if duration > longest {
		return &apiError{400, "ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."}
	}
	id := keyID("AROA")
	p, err := s.issue(principal{
		arn:     fmt.Sprintf("arn:%s:sts::%s:assumed-role/%s/%s", m[1], m[2], m[3], name),
		userID:  id + ":" + name,
		roleARN: arn,
		expires: c.now.Add(duration).UTC().Truncate(time.Second),
		chained: chained,
		longest: longest,
	})
	if err != nil {
		return err
	}
	type user struct{ AssumedRoleId, Arn string }
	type result struct {
		Credentials     credentials
		AssumedRoleUser user
		SourceIdentity  string `xml:",omitempty"`
	}
	writeXML(w, c, http.StatusOK, struct {
		XMLName  xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ AssumeRoleResponse"`
		Result   result   `xml:"AssumeRoleResult"`
		Metadata metadata `xml:"ResponseMetadata"`
	}{
		Result: result{
			Credentials:     credentials{p.credentials.AccessKeyID, p.credentials.SecretAccessKey, p.credentials.SessionToken, p.expires.Format(time.RFC3339)},
			AssumedRoleUser: user{p.userID, p.arn},
			SourceIdentity:  form.Get("SourceIdentity"),
		},
		Metadata: metadata{c.id},
	})
	return nil
}

// getFederationToken makes the session of a federated user, as documented in
// docs.aws.amazon.com/STS/latest/APIReference/API_GetFederationToken.html
func (s *Server) getFederationToken(w http.ResponseWriter, c *call, form url.Values) error {
	if !c.caller.expires.IsZero() {
		return &apiError{403, "AccessDenied", "Cannot call GetFederationToken with session credentials"}
	}
	name := form.Get("Name")
	if !federatedName.MatchString(name) {
		return &apiError{400, "ValidationError", "1 validation error detected: Value at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\w+=,.@-]* and have a length between 2 and 32"}
	}
	duration := 12 * time.Hour
	if text := form.Get("DurationSeconds"); text != "" {
		n, err := strconv.Atoi(text)
		if duration = time.Duration(n) * time.Second; err != nil || n < 900 || n > 129600 {
			return &apiError{400, "ValidationError", "1 validation error detected: Value at 'durationSeconds' must be between 900 and 129600"}
		}
	}
	if policy := form.Get("Policy"); form.Has("Policy") && (!json.Valid([]byte(policy)) || utf8.RuneCountInString(policy) > 2048) {
		return &apiError{400, "MalformedPolicyDocument", "The policy is not in a valid JSON format, or longer than 2048 characters"}
	}
	if form.Has("PolicyArns.member.11.arn") {
		return &apiError{400, "ValidationError", "1 validation error detected: Value at 'policyArns' failed to satisfy constraint: Member must have length less than or equal to 10"}
	}
	account := strings.Split(c.caller.arn, ":")[4]
	p, err := s.issue(principal{
		arn:       fmt.Sprintf("arn:aws:sts::%s:federated-user/%s", account, name),
		userID:    account + ":" + name,
		expires:   c.now.Add(duration).UTC().Truncate(time.Second),
		federated: true,
	})
	if err != nil {
		return err
	}
	type user struct{ FederatedUserId, Arn string }
	type result struct {
		Credentials   credentials
		FederatedUser user
	}
	writeXML(w, c, http.StatusOK, struct {
		XMLName  xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ GetFederationTokenResponse"`
		Result   result   `xml:"GetFederationTokenResult"`
		Metadata metadata `xml:"ResponseMetadata"`
	}{
		Result: result{
			Credentials:   credentials{p.credentials.AccessKeyID, p.credentials.SecretAccessKey, p.credentials.SessionToken, p.expires.Format(time.RFC3339)},
			FederatedUser: user{p.userID, p.arn},
		},
		Metadata: metadata{c.id},
	})
	return nil
}
