package signer

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// SignOptions belongs to [Sign]. Service is required, and Region for SigV4 or
// RegionSet for SigV4A.
type SignOptions struct {
	Service, Region string
	// RegionSet chooses SigV4A, for these regions: a list with commas, or *.
	RegionSet string
	// PayloadHash is the last line of the canonical request: the body's
	// SHA-256 in hexadecimal digits, or a word such as UNSIGNED-PAYLOAD. ""
	// means an empty body. For S3 it is also sent as X-Amz-Content-Sha256.
	PayloadHash string
	// Expires presigns: the signature goes into the query and lasts so long.
	Expires time.Duration
	// Headers are names in lower case to sign besides Host and those that
	// carry meaning.
	Headers []string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Keys caches derived keys; nil derives anew.
	Keys *Keys
}

// Sign signs a request that begins here, in its headers or, with Expires, in
// its query. The request must be what the transport will send, and its body is
// not touched. Errors are of type [*Error].
func Sign(out *http.Request, creds aws.Credentials, opt SignOptions) error {
	f := forms{path: pathNormal}
	if s3Family(opt.Service) {
		f.path = pathRaw
	}
	if err := sign(out, creds, opt, f); err != nil {
		return err
	}
	return nil
}

func sign(out *http.Request, creds aws.Credentials, opt SignOptions, f forms) *Error {
	sig := &Signature{
		Form: FormHeader, Algorithm: AlgorithmHMAC,
		Region: opt.Region, Service: opt.Service, RegionSet: opt.RegionSet,
		SignedHeaders: append([]string{"host"}, opt.Headers...),
	}
	if opt.RegionSet != "" {
		sig.Algorithm, sig.Region = AlgorithmECDSA, ""
		if !isRegionSet(opt.RegionSet) {
			return refuse(ReasonMalformed, "%q is not a region set", clip(opt.RegionSet))
		}
	}
	if !isScopeWord(sig.Service) || opt.RegionSet == "" && !isScopeWord(sig.Region) {
		return refuse(ReasonMalformed, "a request is signed for a service and a region")
	}
	var ok bool
	if sig.path, sig.query, ok = splitTarget(out.URL.RequestURI()); !ok {
		return refuse(ReasonMalformed, "the path of the request does not begin with a slash")
	}
	hash := opt.PayloadHash
	if hash == "" {
		hash = emptyHash
	}
	method := out.Method
	if method == "" {
		method = http.MethodGet
	}
	s := resigning{
		out: out, sig: sig, creds: creds, opt: ResignOptions{Now: opt.Now, Keys: opt.Keys},
		v: &Verified{sig: sig, forms: f, msg: message{method: method, payloadHash: hash}},
	}
	if err := s.prepare(); err != nil {
		return err
	}
	if opt.Expires > 0 {
		return s.presign(opt)
	}
	h := out.Header
	h["X-Amz-Date"] = []string{s.date}
	if s3Family(opt.Service) {
		h["X-Amz-Content-Sha256"] = []string{hash}
	}
	if opt.RegionSet != "" {
		h["X-Amz-Region-Set"] = []string{opt.RegionSet}
	}
	return s.signHeader()
}

// presign appends the parameters of a presigned URL and signs them.
func (s *resigning) presign(opt SignOptions) *Error {
	if opt.Expires < time.Second || opt.Expires > MaxExpires {
		return refuse(ReasonMalformed, "a presigned URL lasts from one second to %s", MaxExpires)
	}
	s.sig.Form = FormQuery
	s.sig.Expires = opt.Expires
	if s3Family(opt.Service) && opt.PayloadHash == "" {
		s.v.msg.payloadHash = "UNSIGNED-PAYLOAD"
	}
	// The values are filled in by query, except those that do not change.
	params := []string{
		paramAlgorithm + "=" + s.sig.Algorithm, paramCredential + "=", paramDate + "=",
		paramExpires + "=" + strconv.FormatInt(int64(opt.Expires/time.Second), 10), paramSignedHeaders + "=",
	}
	if opt.RegionSet != "" {
		var b strings.Builder
		escapeTo(&b, opt.RegionSet)
		params = append(params, paramRegionSet+"="+b.String())
	}
	if s.sig.query != "" {
		params = slices.Insert(params, 0, s.sig.query)
	}
	s.sig.query = strings.Join(params, "&")
	return s.signQuery()
}
