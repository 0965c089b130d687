package pipeline

import (
	"bytes"
	"io"
	"net/http"
	"regexp"

	"github.com/countersign-proxy/countersign/awsapi"
)

// maxErrorHead is how much of an error is read to find its code, in bytes. AWS writes
// the code first, or in a header.
const maxErrorHead = 4 << 10

// The codes by which AWS says that it does not accept credentials ("Common errors" of
// IAM, "Error codes for the Amazon EC2 API", "Error responses" of S3).
const credentialCodes = `(ExpiredTokenException|ExpiredToken|InvalidClientTokenId|UnrecognizedClientException|InvalidAccessKeyId|InvalidToken|TokenRefreshRequired|RequestExpired|AuthFailure)`

var (
	// credentialHeader is X-Amzn-Errortype ("Code:http://…", or with a namespace before
	// it) or X-Amzn-Query-Error ("Code;Sender").
	credentialHeader = regexp.MustCompile(`^(?:[\w.]+#)?` + credentialCodes + `(?:[:;]|$)`)
	// credentialBody finds the code in XML and JSON.
	credentialBody = regexp.MustCompile(`(?:<Code>|"(?:__type|code|Code)"\s*:\s*"(?:[\w.]+#)?)` + credentialCodes + `[<"]`)
	// credentialCBOR finds it in CBOR, where one or two bytes are between a key and its
	// text, and nothing is after it (RFC 8949, section 3).
	credentialCBOR = regexp.MustCompile(`(?s)__type.{1,2}?(?:[\w.]+#)?` + credentialCodes)
)

// notice looks whether AWS refuses the credentials that the request went out with, such
// as those of a role that was deleted and made anew. The client cannot mend that: its
// own credentials are others, and good. Where the proxy has let go of the refused ones,
// it is told to send the request again.
func (x *exchange) notice(res *http.Response) error {
	switch res.StatusCode {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden:
	default:
		return nil
	}
	if x.verified == nil {
		return nil
	}
	code := x.credentialCode(res)
	if code == "" || !x.p.opt.Sessions.Refused(x.session.Credentials.AccessKeyID) {
		return nil
	}
	return &answerError{refuse(awsapi.ErrServiceUnavailable, "session refused", "AWS no longer accepts the credentials that countersign signed this request with (%s); it fetches others: send the request again", code)}
}

// credentialCode returns AWS's code where it is one of those; what was read of the body
// to find it is put back.
func (x *exchange) credentialCode(res *http.Response) string {
	for _, name := range []string{"X-Amzn-Errortype", "X-Amzn-Query-Error"} {
		if m := credentialHeader.FindStringSubmatch(res.Header.Get(name)); m != nil {
			return m[1]
		}
	}
	if contentCoding(res) != "" || res.Body == nil || res.Body == http.NoBody {
		return ""
	}
	head, err := io.ReadAll(io.LimitReader(res.Body, maxErrorHead))
	rest := io.Reader(res.Body)
	if err != nil {
		rest = failedReader{err}
	}
	res.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), rest), res.Body}
	for _, code := range []*regexp.Regexp{credentialBody, credentialCBOR} {
		if m := code.FindSubmatch(head); m != nil {
			return string(m[1])
		}
	}
	return ""
}

// failedReader repeats an error.
type failedReader struct{ err error }

func (r failedReader) Read([]byte) (int, error) { return 0, r.err }
