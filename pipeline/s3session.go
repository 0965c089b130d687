package pipeline

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/countersign-proxy/countersign/awsapi"
	"github.com/countersign-proxy/countersign/identity"
	"github.com/countersign-proxy/countersign/virtualsts"
)

// makesS3Session says whether the call is the one whose answer is rewritten, rather
// than given here or refused: CreateSession of S3 Express, by a client of ours and
// not under such a session.
func (x *exchange) makesS3Session() bool {
	return x.verified != nil && !x.sig.S3Session && x.call != nil && virtualsts.HandlesS3Session(x.call)
}

// confined holds credentials that came from CreateSession to the bucket that the
// session is for, and the header of such a session to such credentials. AWS would
// refuse anything else; what was sent to it first would still have been signed.
func (x *exchange) confined() *refusal {
	bucket, err := virtualsts.S3Bucket(x.grant)
	switch {
	case err != nil:
		return x.refuseToken("%v", err)
	case bucket == "" && x.sig.S3Session:
		return x.refuseToken("X-Amz-S3session-Token holds a session token that did not come from CreateSession")
	case bucket == "":
		return nil
	case !x.sig.S3Session:
		return x.refuseToken("the session of CreateSession is sent as X-Amz-S3session-Token, and serves calls to its directory bucket alone")
	case x.host.Service != "s3express" || x.host.Bucket != bucket:
		return x.refuseToken("the session is one of the directory bucket %s, and %s is another host", bucket, x.host.Name)
	}
	return nil
}

func (x *exchange) refuseToken(format string, args ...any) *refusal {
	ref := refuse(awsapi.ErrInvalidClientToken, string(identity.ReasonBadToken), format, args...)
	ref.signature = true
	return ref
}

// answerError is the refusal to pass an answer on.
type answerError struct{ *refusal }

func (e *answerError) Error() string { return e.message }

// hideS3Session puts client credentials in the place of the session in AWS's
// answer. An answer in which it does not find the session goes nowhere.
func (x *exchange) hideS3Session(res *http.Response) error {
	failed := func(cause error) error {
		ref := refuse(awsapi.ErrAccessDenied, "credentials in answer", "the answer of AWS to CreateSession was not understood, so it was not passed on: it may hold AWS credentials")
		ref.cause = cause
		return &answerError{ref}
	}
	if res.StatusCode >= 300 {
		body, ok := virtualsts.GuardCoded(res.Body, contentCoding(res))
		if !ok {
			return failed(nil)
		}
		res.Body = body
		return nil
	}
	if res.StatusCode != http.StatusOK || contentCoding(res) != "" {
		return failed(nil)
	}
	start := time.Now()
	text, err := io.ReadAll(io.LimitReader(res.Body, virtualsts.MaxS3Session+1))
	x.elsewhere += time.Since(start)
	if err != nil {
		return err
	}
	a, err := x.p.opt.STS.S3Session(virtualsts.S3SessionRequest{Call: x.call, Grant: x.grant, Session: x.session, Body: text})
	if err != nil {
		return failed(err)
	}
	x.note("client credentials " + a.AccessKeyID + " until " + a.Expires.UTC().Format(time.RFC3339))
	_ = res.Body.Close() // read as far as it is wanted
	res.Body = io.NopCloser(bytes.NewReader(a.Body))
	res.ContentLength, res.TransferEncoding, res.Trailer = int64(len(a.Body)), nil, nil
	h := res.Header
	for _, name := range []string{"Etag", "Content-Md5", "Trailer", "Transfer-Encoding"} {
		h.Del(name) // of the body that AWS sent
	}
	h.Set("Content-Length", strconv.Itoa(len(a.Body)))
	h.Set("Content-Type", "application/xml")
	return nil
}
