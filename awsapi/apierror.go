package awsapi

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// ErrorKind is what went wrong, in words that do not depend on a protocol.
// WriteError turns it into the code and status that each protocol's clients
// expect.
type ErrorKind int

// The kinds. SDKs send a request again after ErrThrottled,
// ErrServiceUnavailable and ErrInternalFailure, and refresh their credentials
// after ErrExpired. They give up at once after all others, so use those three
// only where sending the same request again can help.
const (
	ErrInternalFailure       ErrorKind = iota // a fault of the proxy
	ErrAccessDenied                           // a policy, or the lack of one, says no
	ErrInvalidClientToken                     // the access key id is not known, or is revoked
	ErrSignatureDoesNotMatch                  // the signature is wrong
	ErrMissingAuthentication                  // the request is not signed
	ErrIncompleteSignature                    // the signature's parts are missing or malformed
	ErrExpired                                // the client credentials are no longer valid
	ErrSkewed                                 // the request's time is too far from ours
	ErrPayloadMismatch                        // the body is not the one that was signed
	ErrScopeMismatch                          // the credential scope is not that of the host
	ErrEntityTooLarge                         // the body is over a limit
	ErrInvalidRequest                         // the request can be read in more ways than one, or in none
	ErrNotImplemented                         // the proxy does not support this form
	ErrThrottled                              // a limit of the proxy is reached for the moment
	ErrServiceUnavailable                     // AWS or STS cannot be reached for the moment
	ErrQueryParameters                        // a presigned URL's parameters are missing or malformed
	errorKinds
)

// String returns a short bounded word, fit for a metrics label.
func (k ErrorKind) String() string {
	if k < 0 || k >= errorKinds {
		k = ErrInternalFailure
	}
	return errorTable[k].word
}

type errorCode struct {
	status int
	code   string
}

// errorTable holds what AWS itself answers, per protocol family.
// Sources: IAM "Common errors", EC2 "Error codes for the Amazon EC2 API",
// S3 "Error responses".
var errorTable = [errorKinds]struct {
	word                 string
	query, ec2, s3, json errorCode
}{
	ErrInternalFailure:       {"internal failure", errorCode{500, "InternalFailure"}, errorCode{500, "InternalError"}, errorCode{500, "InternalError"}, errorCode{500, "InternalServerException"}},
	ErrAccessDenied:          {"access denied", errorCode{403, "AccessDenied"}, errorCode{403, "UnauthorizedOperation"}, errorCode{403, "AccessDenied"}, errorCode{403, "AccessDeniedException"}},
	ErrInvalidClientToken:    {"invalid client token", errorCode{403, "InvalidClientTokenId"}, errorCode{401, "AuthFailure"}, errorCode{403, "InvalidAccessKeyId"}, errorCode{403, "UnrecognizedClientException"}},
	ErrSignatureDoesNotMatch: {"signature does not match", errorCode{403, "SignatureDoesNotMatch"}, errorCode{401, "AuthFailure"}, errorCode{403, "SignatureDoesNotMatch"}, errorCode{403, "InvalidSignatureException"}},
	ErrMissingAuthentication: {"missing authentication", errorCode{403, "MissingAuthenticationToken"}, errorCode{403, "MissingAuthenticationToken"}, errorCode{403, "AccessDenied"}, errorCode{403, "MissingAuthenticationTokenException"}},
	ErrIncompleteSignature:   {"incomplete signature", errorCode{400, "IncompleteSignature"}, errorCode{400, "IncompleteSignature"}, errorCode{400, "AuthorizationHeaderMalformed"}, errorCode{400, "IncompleteSignatureException"}},
	ErrExpired:               {"expired", errorCode{403, "ExpiredToken"}, errorCode{400, "RequestExpired"}, errorCode{400, "ExpiredToken"}, errorCode{403, "ExpiredTokenException"}},
	ErrSkewed:                {"skewed", errorCode{400, "RequestExpired"}, errorCode{400, "RequestExpired"}, errorCode{403, "RequestTimeTooSkewed"}, errorCode{403, "InvalidSignatureException"}},
	ErrPayloadMismatch:       {"payload mismatch", errorCode{403, "SignatureDoesNotMatch"}, errorCode{401, "AuthFailure"}, errorCode{400, "XAmzContentSHA256Mismatch"}, errorCode{403, "InvalidSignatureException"}},
	ErrScopeMismatch:         {"scope mismatch", errorCode{403, "SignatureDoesNotMatch"}, errorCode{401, "AuthFailure"}, errorCode{400, "AuthorizationHeaderMalformed"}, errorCode{403, "InvalidSignatureException"}},
	ErrEntityTooLarge:        {"entity too large", errorCode{413, "RequestEntityTooLarge"}, errorCode{413, "RequestEntityTooLarge"}, errorCode{400, "EntityTooLarge"}, errorCode{413, "RequestEntityTooLargeException"}},
	ErrInvalidRequest:        {"invalid request", errorCode{400, "ValidationError"}, errorCode{400, "InvalidRequest"}, errorCode{400, "InvalidRequest"}, errorCode{400, "ValidationException"}},
	ErrNotImplemented:        {"not implemented", errorCode{501, "NotImplemented"}, errorCode{501, "NotImplemented"}, errorCode{501, "NotImplemented"}, errorCode{501, "NotImplementedException"}},
	ErrThrottled:             {"throttled", errorCode{400, "Throttling"}, errorCode{503, "RequestLimitExceeded"}, errorCode{503, "SlowDown"}, errorCode{400, "ThrottlingException"}},
	ErrServiceUnavailable:    {"service unavailable", errorCode{503, "ServiceUnavailable"}, errorCode{503, "Unavailable"}, errorCode{503, "ServiceUnavailable"}, errorCode{503, "ServiceUnavailableException"}},
	ErrQueryParameters:       {"query parameters", errorCode{400, "IncompleteSignature"}, errorCode{400, "IncompleteSignature"}, errorCode{400, "AuthorizationQueryParametersError"}, errorCode{400, "IncompleteSignatureException"}},
}

// APIError is an answer of the proxy in place of AWS.
type APIError struct {
	Kind      ErrorKind
	Message   string    // for people; must hold no secret
	RequestID string    // the proxy's own request id
	Time      time.Time // for the Date header; zero means now
	Region    string    // the region that a signature should have named; "" where that is not the trouble
}

func codeOf(p Protocol, k ErrorKind) errorCode {
	if k < 0 || k >= errorKinds {
		k = ErrInternalFailure
	}
	row := &errorTable[k]
	switch p {
	case ProtocolEC2:
		return row.ec2
	case ProtocolS3:
		return row.s3
	case ProtocolJSON, ProtocolRESTJSON, ProtocolCBOR:
		return row.json
	default:
		return row.query
	}
}

// WriteError answers r with e in the shape that clients of the protocol parse.
// It sets every header that it relies on and removes those that a half-made
// answer may have left behind. The Date is accurate, because SDKs correct
// their clocks by it and then repeat the call.
//
// Where the protocol is not known, that of the host's service is taken.
func WriteError(w http.ResponseWriter, r *http.Request, h Host, p Protocol, e APIError) {
	if p == ProtocolUnknown {
		p = ProtocolOf(h, r)
	}
	writeError(w, r, p, e)
}

func writeError(w http.ResponseWriter, r *http.Request, p Protocol, e APIError) {
	c := codeOf(p, e.Kind)
	h := w.Header()
	for _, k := range []string{"Content-Length", "Content-Encoding", "Transfer-Encoding", "Trailer", "Age", "Etag", "Last-Modified", "Content-Range"} {
		h.Del(k)
	}
	now := e.Time
	if now.IsZero() {
		now = time.Now()
	}
	h.Set("Date", now.UTC().Format(http.TimeFormat))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")

	var body []byte
	switch p {
	case ProtocolS3:
		setExact(h, "x-amz-request-id", e.RequestID)
		setExact(h, "x-amz-id-2", e.RequestID)
		h.Set("Content-Type", "application/xml")
		// S3 names the right region, in the answer to HEAD as a header, and clients
		// sign again for it: botocore, s3cmd, minio-go.
		setExact(h, "x-amz-bucket-region", e.Region)
		parts := []string{"<Code>", c.code, "</Code><Message>", e.Message}
		if e.Region != "" {
			parts = append(parts, "</Message><Region>", e.Region, "</Region><RequestId>", e.RequestID)
		} else {
			parts = append(parts, "</Message><RequestId>", e.RequestID)
		}
		body = xmlBody("<Error>", append(parts, "</RequestId><HostId>", e.RequestID, "</HostId></Error>")...)
	case ProtocolEC2:
		setExact(h, "x-amzn-RequestId", e.RequestID)
		h.Set("Content-Type", "text/xml;charset=UTF-8")
		body = xmlBody("<Response><Errors><Error>", "<Code>", c.code, "</Code><Message>", e.Message,
			"</Message></Error></Errors><RequestID>", e.RequestID, "</RequestID></Response>")
	case ProtocolJSON:
		setExact(h, "x-amzn-RequestId", e.RequestID)
		h.Set("Content-Type", contentTypeOr(r, "application/x-amz-json-", "application/x-amz-json-1.1"))
		if strings.EqualFold(r.Header.Get("X-Amzn-Query-Mode"), "true") {
			q := codeOf(ProtocolQuery, e.Kind)
			fault := "Sender"
			if c.status >= 500 {
				fault = "Receiver"
			}
			setExact(h, "x-amzn-query-error", q.code+";"+fault)
		}
		body = jsonBody(c.code, e.Message)
	case ProtocolRESTJSON:
		setExact(h, "x-amzn-RequestId", e.RequestID)
		setExact(h, "x-amzn-ErrorType", c.code)
		h.Set("Content-Type", "application/json")
		body = jsonBody("", e.Message)
	case ProtocolCBOR:
		setExact(h, "x-amzn-RequestId", e.RequestID)
		if mediaType(r.Header.Get("Content-Type")) == targetCBOR {
			h.Set("Content-Type", targetCBOR)
		} else {
			setExact(h, "smithy-protocol", "rpc-v2-cbor")
			h.Set("Content-Type", "application/cbor")
		}
		if strings.EqualFold(r.Header.Get("X-Amzn-Query-Mode"), "true") {
			fault := "Sender"
			if c.status >= 500 {
				fault = "Receiver"
			}
			setExact(h, "x-amzn-query-error", codeOf(ProtocolQuery, e.Kind).code+";"+fault)
		}
		body = cborError(c.code, e.Message)
	default: // query, rest-xml
		setExact(h, "x-amzn-RequestId", e.RequestID)
		h.Set("Content-Type", "text/xml")
		fault := "Sender"
		if c.status >= 500 {
			fault = "Receiver"
		}
		body = xmlBody("<ErrorResponse><Error>", "<Type>"+fault+"</Type><Code>", c.code, "</Code><Message>", e.Message,
			"</Message></Error><RequestId>", e.RequestID, "</RequestId></ErrorResponse>")
	}
	if r.Method == http.MethodHead {
		// RFC 9110 section 9.3.2: no content. The length would be read as the object's.
		w.WriteHeader(c.status)
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(c.status)
	_, _ = w.Write(body) // the client may have left; there is nobody to tell
}

// setExact sets a header under the spelling that AWS uses.
func setExact(h http.Header, name, value string) {
	h.Del(name)
	if value != "" {
		h[name] = []string{value}
	}
}

func contentTypeOr(r *http.Request, prefix, otherwise string) string {
	ct, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	ct = strings.ToLower(strings.TrimSpace(ct))
	if ct == prefix+"1.0" || ct == prefix+"1.1" {
		return ct
	}
	return otherwise
}

// xmlBody joins markup and text: arguments of odd index after the opening are text.
func xmlBody(open string, parts ...string) []byte {
	var b bytes.Buffer
	b.WriteString(xml.Header)
	b.WriteString(open)
	for i, p := range parts {
		if i%2 == 0 {
			b.WriteString(p)
			continue
		}
		_ = xml.EscapeText(&b, []byte(p)) // bytes.Buffer does not fail
	}
	return b.Bytes()
}

func jsonBody(code, message string) []byte {
	v := struct {
		Type    string `json:"__type,omitempty"`
		Message string `json:"message"`
	}{code, message}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // two strings always marshal
	}
	return b
}

func cborError(code, message string) []byte {
	b := []byte{0xa2}
	for _, s := range []string{"__type", code, "message", message} {
		b = appendCBORText(b, s)
	}
	return b
}

func appendCBORText(b []byte, s string) []byte {
	s = strings.ToValidUTF8(s, "\uFFFD")
	switch n := len(s); {
	case n < 24:
		b = append(b, 0x60|byte(n))
	case n < 1<<8:
		b = append(b, 0x78, byte(n))
	case n < 1<<16:
		b = append(b, 0x79, byte(n>>8), byte(n))
	default:
		b = append(b, 0x7a, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return append(b, s...)
}
