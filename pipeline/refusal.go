package pipeline

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/countersign-proxy/countersign/audit"
	"github.com/countersign-proxy/countersign/awsapi"
	"github.com/countersign-proxy/countersign/identity"
	"github.com/countersign-proxy/countersign/rolesession"
	"github.com/countersign-proxy/countersign/signer"
)

// refusal is the decision not to go on with a request: what the client is told,
// and what the record says.
type refusal struct {
	kind    awsapi.ErrorKind
	reason  string // a word out of a bounded set, for the record and metrics
	message string // for the client
	// private is for the client alone, such as the canonical request, which
	// quotes what must not be in the record.
	private           string
	policy, statement string
	region            string // that the signature should have named
	cause             error  // for the record alone
	signature         bool   // counts as a signature failure
}

func refuse(kind awsapi.ErrorKind, reason, format string, args ...any) *refusal {
	return &refusal{kind: kind, reason: reason, message: fmt.Sprintf(format, args...)}
}

// refuse answers the client in place of AWS. The body is left unread: net/http
// closes the connection rather than take it for the next request.
func (x *exchange) refuse(ref *refusal) {
	x.refused = true
	e := &x.entry
	e.Decision, e.Reason = audit.Deny, ref.reason
	if ref.policy != "" {
		e.Policy, e.Statement = ref.policy, ref.statement
	}
	x.note(ref.message)
	if ref.cause != nil {
		x.note(ref.cause.Error())
	}
	if ref.signature {
		x.p.opt.Metrics.SignatureFailure(ref.reason)
	}
	if x.in.ContentLength != 0 {
		// A client that has begun to send a body must not have the rest of it
		// read as its next request, nor be read to its end for nothing.
		x.w.Header().Set("Connection", "close")
	}
	kind := ref.kind
	if presigned := len(x.in.Header["Authorization"]) == 0 && strings.Contains(x.in.URL.RawQuery, "X-Amz-"); presigned &&
		(kind == awsapi.ErrIncompleteSignature || kind == awsapi.ErrScopeMismatch && x.host.S3) {
		kind = awsapi.ErrQueryParameters // S3's word is AuthorizationQueryParametersError
	}
	awsapi.WriteError(x.w, x.in, x.host, x.protocol(), awsapi.APIError{
		Kind: kind, Message: ref.message + ref.private, RequestID: e.RequestID, Time: x.p.opt.Now(), Region: ref.region,
	})
}

func signatureReason(err error) signer.Reason {
	var e *signer.Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return signer.ReasonMalformed
}

// refuseSignature turns what the signer says into what AWS would say.
func refuseSignature(err error) *refusal {
	var e *signer.Error
	if !errors.As(err, &e) {
		ref := refuse(awsapi.ErrIncompleteSignature, string(signer.ReasonMalformed), "the signature cannot be read")
		ref.cause, ref.signature = err, true
		return ref
	}
	ref := refuse(signatureKind(e.Reason), string(e.Reason), "%s", e.Message)
	ref.signature = true
	if e.CanonicalRequest != "" {
		ref.private = "\n\nThe Canonical String for this request should have been\n'" + e.CanonicalRequest +
			"'\n\nThe String-to-Sign should have been\n'" + e.StringToSign + "'\n"
	}
	return ref
}

func signatureKind(r signer.Reason) awsapi.ErrorKind {
	switch r {
	case signer.ReasonMalformed, signer.ReasonScope:
		return awsapi.ErrIncompleteSignature
	case signer.ReasonUnsupported, signer.ReasonAmbiguous, signer.ReasonHopHeader, signer.ReasonChunk, signer.ReasonIncomplete:
		return awsapi.ErrInvalidRequest
	case signer.ReasonUnresignable:
		return awsapi.ErrNotImplemented
	case signer.ReasonSkewed:
		return awsapi.ErrSkewed
	case signer.ReasonNotSigned, signer.ReasonExpired:
		// AWS's words for both are AccessDenied: "There were headers present in the
		// request which were not signed", "Request has expired". ExpiredToken would
		// say that the credentials are at fault.
		return awsapi.ErrAccessDenied
	case signer.ReasonToken:
		return awsapi.ErrInvalidClientToken
	case signer.ReasonPayload:
		return awsapi.ErrPayloadMismatch
	case signer.ReasonTooLarge:
		return awsapi.ErrEntityTooLarge
	case signer.ReasonNoMemory:
		return awsapi.ErrThrottled
	case signer.ReasonChanged:
		return awsapi.ErrInternalFailure
	}
	return awsapi.ErrSignatureDoesNotMatch
}

// refuseIdentity turns what the identity store says into what AWS would say.
func refuseIdentity(err error) *refusal {
	var e *identity.Error
	if !errors.As(err, &e) {
		ref := refuse(awsapi.ErrInvalidClientToken, string(identity.ReasonUnknownKey), "the access key id is not known")
		ref.cause, ref.signature = err, true
		return ref
	}
	kind := awsapi.ErrInvalidClientToken
	switch e.Reason {
	case identity.ReasonExpired:
		kind = awsapi.ErrExpired // makes SDKs fetch new ones
	case identity.ReasonUnavailable:
		kind = awsapi.ErrServiceUnavailable
	}
	ref := refuse(kind, string(e.Reason), "%s", e.Message)
	ref.signature = true
	return ref
}

// refuseSession turns a failure to get role credentials into an answer. Only
// what sending the same request again can mend gets a status that SDKs retry.
func refuseSession(err error) *refusal {
	var e *rolesession.Error
	if errors.Is(err, context.Canceled) {
		return refuse(awsapi.ErrServiceUnavailable, "client left", "the client left while credentials were being fetched")
	}
	if !errors.As(err, &e) {
		ref := refuse(awsapi.ErrAccessDenied, "role session", "the role's credentials are not available")
		ref.cause = err
		return ref
	}
	kind := awsapi.ErrAccessDenied
	if e.Retryable() {
		kind = awsapi.ErrServiceUnavailable
	}
	return refuse(kind, string(e.Kind), "%s", e.Error())
}

// refuseTransfer turns a failure of the way to AWS into an answer.
func (x *exchange) refuseTransfer(err error) *refusal {
	var answer *answerError
	if errors.As(err, &answer) {
		return answer.refusal
	}
	if x.verified != nil {
		if e := x.verified.BodyErr(); e != nil {
			return refuseSignature(e)
		}
	}
	var se *signer.Error
	if errors.As(err, &se) {
		return refuseSignature(err)
	}
	if cause := x.body.err.Load(); cause != nil {
		// Not AWS's fault, though net/http's client says so.
		ref := refuse(awsapi.ErrInvalidRequest, string(signer.ReasonIncomplete), "the body could not be read to its end")
		ref.cause = *cause
		return ref
	}
	var certErr *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &certErr) || errors.As(err, &unknown) {
		ref := refuse(awsapi.ErrAccessDenied, "upstream certificate", "countersign does not trust the certificate of %s, so nothing was sent to it; "+
			"if a proxy or an AWS-compatible server is meant to be there, give its CA as ca_file in `upstream.override`, or in SSL_CERT_FILE", x.host.Name)
		ref.cause = err
		return ref
	}
	ref := refuse(awsapi.ErrServiceUnavailable, "upstream", "countersign cannot reach %s", x.host.Name)
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.As(err, &dns):
		ref.message += ": its name does not resolve"
	case errors.Is(err, context.DeadlineExceeded):
		ref.message += ": it did not answer in time"
	case errors.As(err, &op) && op.Op == "dial":
		ref.message += ": no connection"
	default:
		ref.message += ": the connection broke"
	}
	ref.cause = err
	return ref
}

// describeTransferError is an error's text for the record, without the URL that
// may stand in it: a query string can hold a signature.
func describeTransferError(err error) string {
	switch {
	case errors.Is(err, context.Canceled):
		return "the client left"
	case errors.Is(err, http.ErrAbortHandler):
		return "the answer was cut off"
	}
	return err.Error()
}
