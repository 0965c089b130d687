package pipeline

import (
	"net/http"
	"strings"

	"github.com/countersign-proxy/countersign/signer"
)

// signatureParam begins the signature of a presigned URL.
const signatureParam = "X-Amz-Signature="

// hideSignature takes our signature out of the head of the answer to a presigned
// request. S3 redirects a request for a young bucket with the whole query string in
// Location: a URL that could be used until it expires, past this proxy. The client
// gets what it would have got from S3, its own query string.
func (x *exchange) hideSignature(res *http.Response) {
	if x.verified == nil || x.sig.Form != signer.FormQuery {
		return
	}
	ours := res.Request.URL.RawQuery
	_, rest, ok := strings.Cut(ours, signatureParam)
	signature, _, _ := strings.Cut(rest, "&")
	if !ok || signature == "" {
		return
	}
	_, theirs, _ := strings.Cut(x.in.RequestURI, "?")
	for _, values := range res.Header {
		for i, v := range values {
			if !strings.Contains(v, signature) {
				continue
			}
			if v = strings.ReplaceAll(v, ours, theirs); strings.Contains(v, signature) {
				v, _, _ = strings.Cut(v, "?") // the same, but written in another way
			}
			if strings.Contains(v, signature) {
				v = ""
			}
			values[i] = v
		}
	}
}
