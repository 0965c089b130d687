package sandbox

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	timeFormat = "20060102T150405Z"
	maxSkew    = 15 * time.Minute
	maxExpires = 7 * 24 * time.Hour
)

// claim is what a request says about its signature.
type claim struct {
	keyID, date, region, service string
	signed                       []string
	signature                    string
	token                        string
	time                         time.Time
	presigned                    bool
	expires                      time.Duration
}

// verify checks the signature of the request by letting the SDK's signer sign
// what arrived once more, and its body by the hash that was signed. It leaves
// the caller and the decoded body in c.
func (s *Server) verify(c *call, raw []byte) error {
	claim, err := parseClaim(c.Request)
	if err != nil {
		return err
	}
	c.record.AccessKeyID, c.record.Service, c.record.Region = claim.keyID, claim.service, claim.region
	if err := claim.checkTime(c.now); err != nil {
		return err
	}
	if err := checkHost(c.hostOnly(), claim); err != nil {
		return err
	}
	if err := claim.checkSigned(c.Request); err != nil {
		return err
	}
	p, err := s.lookup(claim.keyID, claim.token, c.now)
	if err != nil {
		return err
	}
	payload := payloadHash(c.Request, claim, raw)
	again, err := resign(c.Request, claim, p.credentials, payload)
	if err != nil {
		return err
	}
	if !hmac.Equal([]byte(again), []byte(claim.signature)) {
		return &apiError{403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method."}
	}
	if c.body, err = decodePayload(c.Request, payload, raw); err != nil {
		return err
	}
	c.caller, c.record.Principal = p, p.arn
	return nil
}

func parseClaim(r *http.Request) (*claim, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, &apiError{400, "InvalidRequest", "the query string cannot be parsed"}
	}
	headers := r.Header.Values("Authorization")
	if query.Has("X-Amz-Signature") || query.Has("X-Amz-Algorithm") {
		if len(headers) > 0 {
			return nil, &apiError{400, "InvalidRequest", "Only one auth mechanism allowed"}
		}
		return parsePresigned(query)
	}
	switch len(headers) {
	case 0:
		return nil, &apiError{403, "MissingAuthenticationToken", "Request is missing Authentication Token"}
	case 1:
	default:
		return nil, &apiError{400, "InvalidRequest", "Only one Authorization header allowed"}
	}
	rest, ok := strings.CutPrefix(headers[0], algorithm+" ")
	if !ok {
		return nil, incomplete("the algorithm is not " + algorithm)
	}
	fields := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if _, twice := fields[name]; !ok || twice {
			return nil, incomplete("malformed or repeated field in Authorization")
		}
		fields[name] = value
	}
	if len(fields) != 3 {
		return nil, incomplete("Authorization needs Credential, SignedHeaders and Signature alone")
	}
	c := &claim{signed: strings.Split(fields["SignedHeaders"], ";"), signature: fields["Signature"], token: r.Header.Get("X-Amz-Security-Token")}
	if err := c.scope(fields["Credential"]); err != nil {
		return nil, err
	}
	return c, c.at(r.Header.Get("X-Amz-Date"))
}

func parsePresigned(query url.Values) (*claim, error) {
	for name, values := range query {
		if strings.HasPrefix(name, "X-Amz-") && len(values) != 1 {
			return nil, incomplete("repeated query parameter " + name)
		}
	}
	if query.Get("X-Amz-Algorithm") != algorithm {
		return nil, incomplete("the algorithm is not " + algorithm)
	}
	c := &claim{presigned: true, signed: strings.Split(query.Get("X-Amz-SignedHeaders"), ";"), signature: query.Get("X-Amz-Signature"), token: query.Get("X-Amz-Security-Token")}
	if seconds := query.Get("X-Amz-Expires"); seconds != "" {
		n, err := strconv.ParseUint(seconds, 10, 32)
		if c.expires = time.Duration(n) * time.Second; err != nil || n == 0 || c.expires > maxExpires {
			return nil, &apiError{400, "AuthorizationQueryParametersError", "X-Amz-Expires must be a number of seconds between 1 and 604800"}
		}
	} else {
		c.expires = maxSkew
	}
	if err := c.scope(query.Get("X-Amz-Credential")); err != nil {
		return nil, err
	}
	return c, c.at(query.Get("X-Amz-Date"))
}

func (c *claim) scope(credential string) error {
	parts := strings.Split(credential, "/")
	if len(parts) != 5 || parts[4] != "aws4_request" || slices.Contains(parts, "") {
		return incomplete("the credential is not of the form key/date/region/service/aws4_request")
	}
	c.keyID, c.date, c.region, c.service = parts[0], parts[1], parts[2], parts[3]
	return nil
}

func (c *claim) at(date string) error {
	t, err := time.Parse(timeFormat, date)
	if err != nil {
		return incomplete("X-Amz-Date is missing or malformed")
	}
	if date[:8] != c.date {
		return &apiError{403, "SignatureDoesNotMatch", "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP"}
	}
	c.time = t
	return nil
}

func incomplete(what string) error { return &apiError{400, "IncompleteSignature", what} }

func (c *claim) checkTime(now time.Time) error {
	if c.time.After(now.Add(maxSkew)) {
		return &apiError{403, "RequestTimeTooSkewed", "the request is dated more than 15 minutes in the future"}
	}
	life := maxSkew
	if c.presigned {
		life = c.expires
	}
	if now.After(c.time.Add(life)) {
		if c.presigned {
			return &apiError{403, "AccessDenied", "Request has expired"}
		}
		return &apiError{403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large."}
	}
	return nil
}

// regional matches the plainest shape of an endpoint, service.region.
var regional = regexp.MustCompile(`(?:^|\.)(sts|s3|dynamodb)\.(?:dualstack\.)?([a-z]{2,4}(?:-[a-z]+)+-\d+)\.(?:amazonaws\.com(?:\.cn)?|api\.aws)$`)

// checkHost compares host and credential scope, where the host says so much.
// A sandbox reached by its address has no opinion.
func checkHost(host string, c *claim) error {
	if m := regional.FindStringSubmatch(host); m != nil && (m[1] != c.service || m[2] != c.region) {
		return &apiError{403, "SignatureDoesNotMatch", fmt.Sprintf("Credential should be scoped to a valid region and to the service of %s, not %s/%s", host, c.region, c.service)}
	}
	return nil
}

// checkSigned demands that nothing that AWS would act on is left unsigned.
func (c *claim) checkSigned(r *http.Request) error {
	if !slices.IsSorted(c.signed) || !slices.Contains(c.signed, "host") {
		return incomplete("SignedHeaders must be sorted and hold host")
	}
	for name := range r.Header {
		name = strings.ToLower(name)
		if strings.HasPrefix(name, "x-amz-") && name != "x-amz-security-token" && !slices.Contains(c.signed, name) {
			return &apiError{403, "AccessDenied", "There were headers present in the request which were not signed: " + name}
		}
	}
	return nil
}

func payloadHash(r *http.Request, c *claim, raw []byte) string {
	if h := r.Header.Get("X-Amz-Content-Sha256"); h != "" {
		return h
	}
	if c.presigned && c.service == "s3" {
		if h := r.URL.Query().Get("X-Amz-Content-Sha256"); h != "" {
			return h
		}
		return "UNSIGNED-PAYLOAD"
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// resign returns the signature that the SDK's signer gives the request, with
// the claimed headers alone, signed by the given credentials at the claimed time.
func resign(r *http.Request, c *claim, credentials aws.Credentials, payload string) (string, error) {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	query := r.URL.Query()
	query.Del("X-Amz-Signature")
	u := &url.URL{Scheme: "https", Host: r.Host, Opaque: "//" + r.Host + path, RawQuery: query.Encode()}
	again := &http.Request{Method: r.Method, URL: u, Host: r.Host, Header: http.Header{}}
	for _, name := range c.signed {
		switch name {
		case "host":
		case "content-length":
			again.ContentLength = r.ContentLength
		default:
			again.Header[http.CanonicalHeaderKey(name)] = r.Header.Values(name)
		}
	}
	options := func(o *v4.SignerOptions) {
		o.DisableURIPathEscaping = c.service == "s3"
		o.DisableHeaderHoisting = true
		o.DisableSessionToken = true // it is among the headers or parameters already, if it was signed
	}
	signer := v4.NewSigner(options)
	if c.presigned {
		signed, _, err := signer.PresignHTTP(context.Background(), credentials, again, payload, c.service, c.region, c.time)
		if err != nil {
			return "", err
		}
		parsed, err := url.Parse(signed)
		if err != nil {
			return "", err
		}
		if parsed.Query().Get("X-Amz-SignedHeaders") != strings.Join(c.signed, ";") {
			return "", unsignable(c)
		}
		return parsed.Query().Get("X-Amz-Signature"), nil
	}
	if err := signer.SignHTTP(context.Background(), credentials, again, payload, c.service, c.region, c.time); err != nil {
		return "", err
	}
	authorization := again.Header.Get("Authorization")
	if !strings.Contains(authorization, "SignedHeaders="+strings.Join(c.signed, ";")+",") {
		return "", unsignable(c)
	}
	_, signature, _ := strings.Cut(authorization, "Signature=")
	return signature, nil
}

func unsignable(c *claim) error {
	return &apiError{403, "SignatureDoesNotMatch", "the SDK's signer, with which the sandbox verifies, does not sign these headers: " + strings.Join(c.signed, ";")}
}
