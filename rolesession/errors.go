package rolesession

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
)

// Kind says what went wrong. The set is closed, so that a kind can be a metric's label.
type Kind string

// The kinds.
const (
	KindUnknownRole    Kind = "unknown_role"       // no such entry in the configuration
	KindSource         Kind = "source_credentials" // the proxy's own credentials are missing, expired or wrong
	KindDenied         Kind = "denied"             // STS refused
	KindBadInput       Kind = "bad_input"          // STS or the proxy cannot accept a parameter
	KindRegionDisabled Kind = "region_disabled"    // STS is not activated in the region
	KindThrottled      Kind = "throttled"
	KindUnreachable    Kind = "unreachable" // no answer, or a server error
	KindClosed         Kind = "closed"      // the manager was closed
)

// Error says why there is no session. Its message is for the person who reads
// the client's error: what happened, why, and what to do. It holds no secret.
type Error struct {
	Kind      Kind
	Role      string // configured role
	RoleARN   string // what was asked for
	Caller    string // ARN of the caller, where STS named it
	Code      string // AWS error code, where STS answered
	Detail    string // AWS error message, where STS answered
	RequestID string // of the STS call
	Message   string
}

func (e *Error) Error() string { return e.Message }

// Retryable says whether the same request can succeed if it is sent again.
func (e *Error) Retryable() bool {
	return e.Kind == KindUnreachable || e.Kind == KindThrottled
}

// maxDetail bounds what is repeated of other programs' messages, in bytes.
const maxDetail = 600

// callerPattern finds who STS says it talks to in "User: arn:… is not authorized to perform: …".
var callerPattern = regexp.MustCompile(`User: (arn:[\w+=,.@:/-]+) is not authorized`)

// secretWords betray a message that may repeat credentials, such as the SDK's
// "parse failed of process output: …", which holds all that the process printed.
var secretWords = regexp.MustCompile(`(?i)process output|secret_?access_?key|session_?token|\b(AKIA|ASIA)[A-Z0-9]{12,}`)

// plain makes a foreign message fit to be shown: one line, bounded, without
// anything that may be a credential.
func plain(err error) string {
	text := strings.Join(strings.Fields(err.Error()), " ")
	if loc := secretWords.FindStringIndex(text); loc != nil {
		text = strings.TrimRight(text[:loc[0]], " :,") + " (the rest is withheld: it may hold credentials)"
	}
	if len(text) > maxDetail {
		text = strings.ToValidUTF8(text[:maxDetail], "") + "…"
	}
	return text
}

// sourceError explains why the source credentials could not be had.
func (m *Manager) sourceError(err error) *Error {
	text := plain(err)
	lower := strings.ToLower(text)
	login := "aws sso login"
	if m.opt.Profile != "" {
		login += " --profile " + m.opt.Profile
	}
	advice := "Run countersign doctor where the proxy runs."
	switch {
	case strings.Contains(lower, "sso") || strings.Contains(lower, "sign in") || strings.Contains(lower, "signin"):
		advice = fmt.Sprintf("Run %q and try again.", login)
	case strings.Contains(lower, "failed to get shared config profile"):
		advice = "Check source.profile or AWS_PROFILE against the profiles in the AWS configuration file."
	case strings.Contains(lower, "imds") || strings.Contains(lower, "static credentials are empty") || strings.Contains(lower, "no valid providers"):
		advice = fmt.Sprintf("Give the proxy AWS credentials where it runs: AWS_PROFILE (after %q), environment variables, or a role of the machine.", login)
	}
	return &Error{
		Kind:    KindSource,
		Message: fmt.Sprintf("The proxy has no usable AWS credentials of its own (%s). %s", text, advice),
	}
}

// callError turns the failure of an STS call into an Error. first says that the
// call was signed with the source credentials.
func (m *Manager) callError(err error, c *call, role string, first bool) *Error {
	e := &Error{Role: role, RoleARN: c.RoleARN}
	var known *Error
	if errors.As(err, &known) {
		out := *known
		if out.Role == "" {
			out.Role = role
		}
		return &out
	}
	var response *awshttp.ResponseError
	if errors.As(err, &response) {
		e.RequestID = response.ServiceRequestID()
	}
	what := c.describe()
	var api smithy.APIError
	if !errors.As(err, &api) {
		e.Kind = KindUnreachable
		e.Message = fmt.Sprintf("STS could not be reached at %s to %s: %s.", m.where(), what, unreachable(err))
		return e
	}
	e.Code, e.Detail = api.ErrorCode(), plain(errors.New(api.ErrorMessage()))
	if found := callerPattern.FindStringSubmatch(e.Detail); found != nil {
		e.Caller = found[1]
	}
	status := 0
	if response != nil {
		status = response.HTTPStatusCode()
	}
	switch code := e.Code; {
	case isThrottle(code):
		e.Kind = KindThrottled
		e.Message = fmt.Sprintf("STS limits the rate of calls, so the proxy could not %s (%s).", what, code)
	case status >= 500 || code == "ServiceUnavailable" || code == "InternalFailure" || code == "RequestTimeout" || code == "IDPCommunicationError":
		e.Kind = KindUnreachable
		e.Message = fmt.Sprintf("STS failed at %s when asked to %s: %s.", m.where(), what, detail(code, e.Detail))
	case code == "RegionDisabledException" || code == "RegionDisabled":
		e.Kind = KindRegionDisabled
		e.Message = fmt.Sprintf("STS is not activated in %s for this account, so the proxy could not %s. Activate it under account settings in the IAM console, or set source.sts_region to a region where it is.", m.opt.Region, what)
	case first && isCredentialCode(code):
		e.Kind = KindSource
		e.Message = fmt.Sprintf("AWS does not accept the proxy's own credentials, so it could not %s: %s. They have expired, were deleted or belong to another partition, or the machine's clock is wrong: renew them where the proxy runs.", what, detail(code, e.Detail))
	case code == "AccessDenied" || code == "AccessDeniedException" || isCredentialCode(code):
		e.Kind = KindDenied
		e.Message = fmt.Sprintf("STS refused to let the proxy %s: %s. %s", what, detail(code, e.Detail), c.trustAdvice(e.Caller))
	default:
		e.Kind = KindBadInput
		e.Message = fmt.Sprintf("STS did not accept the request to %s: %s.%s", what, detail(code, e.Detail), inputAdvice(code, e.Detail))
	}
	return e
}

func detail(code, message string) string {
	message = strings.TrimRight(message, ". ")
	if message == "" {
		return code
	}
	return code + ": " + message
}

func unreachable(err error) string {
	var dns *net.DNSError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.As(err, &dns):
		return "the name " + dns.Name + " could not be resolved"
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return plain(op)
	}
	var canceled *aws.RequestCanceledError
	if errors.As(err, &canceled) {
		return "the call was cancelled"
	}
	return plain(err)
}

func isThrottle(code string) bool {
	switch code {
	case "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled", "RequestThrottledException",
		"TooManyRequestsException", "RequestLimitExceeded", "SlowDown", "BandwidthLimitExceeded", "PriorRequestNotComplete":
		return true
	}
	return false
}

// isCredentialCode says that AWS found fault with the credentials of the call
// rather than with what they may do.
func isCredentialCode(code string) bool {
	switch code {
	case "ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException",
		"SignatureDoesNotMatch", "InvalidSignatureException", "MissingAuthenticationToken", "IncompleteSignature",
		"AuthFailure", "OptInRequired", "RequestExpired":
		return true
	}
	return false
}

// trustAdvice says what to look at when STS refuses.
func (c *call) trustAdvice(caller string) string {
	if c.op() != OpAssumeRole {
		return "Check that the policies of the calling principal allow sts:" + c.op() + "; GetSessionToken and GetFederationToken need the long-term keys of an IAM user."
	}
	who := "the proxy's own principal"
	if caller != "" {
		who = caller
	}
	needs := []string{"sts:AssumeRole"}
	if len(c.Tags) > 0 {
		needs = append(needs, "sts:TagSession")
	}
	if c.SourceIdentity != "" {
		needs = append(needs, "sts:SetSourceIdentity")
	}
	advice := fmt.Sprintf("Check that the role exists, that its trust policy allows %s for %s, and that the policies of that principal allow it too", strings.Join(needs, ", "), who)
	if c.ExternalID != "" {
		advice += "; check that the trust policy expects the same external id"
	} else {
		advice += "; check that the trust policy demands no external id"
	}
	return advice + "."
}

func inputAdvice(code, message string) string {
	lower := strings.ToLower(message)
	switch {
	case strings.HasPrefix(code, "PackedPolicyTooLarge"):
		return " Shorten the session policy, or give fewer or shorter session tags."
	case strings.HasPrefix(code, "MalformedPolicyDocument"):
		return " Mend the session policy."
	case strings.Contains(lower, "maxsessionduration"):
		return " Lower duration, or raise the role's maximum session duration in IAM."
	}
	return ""
}
