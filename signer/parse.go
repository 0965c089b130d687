package signer

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Parse reads what a request says about its signature. It reads no body and
// needs no key, and refuses everything that can be refused without them: other
// kinds of authentication, two signatures at once, a scope that contradicts the
// date, headers that must be signed and are not, and signed headers that no
// proxy can pass on.
//
// It returns [ErrNoSignature] for a request without any signature (an S3 POST
// form carries its signature in the body: see [IsPost]), and otherwise errors of
// type [*Error]. The request must be as the server received it: RequestURI is
// the target's bytes, Host is what the client sent.
func Parse(r *http.Request) (*Signature, error) {
	sig, err := parse(r)
	if err != nil {
		if err == errNone {
			return nil, ErrNoSignature
		}
		return nil, err
	}
	return sig, nil
}

func hasControl(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] == 0x7f {
			return true
		}
	}
	return false
}

// errNone stands for ErrNoSignature among the *Errors.
var errNone = &Error{}

func parse(r *http.Request) (*Signature, *Error) {
	path, query, ok := target(r)
	if !ok {
		return nil, refuse(ReasonMalformed, "the request target does not begin with a slash: only origin-form targets can be signed")
	}
	// A line break would shift the lines of the canonical request. net/http lets
	// none through; this does not depend on it.
	if hasControl(r.RequestURI) || hasControl(r.Host) || hasControl(r.Method) {
		return nil, refuse(ReasonMalformed, "the request line or the Host has control characters")
	}
	var params authParams
	if err := params.read(query); err != nil {
		return nil, err
	}
	auth := r.Header["Authorization"]
	switch {
	case len(auth) > 1:
		return nil, refuse(ReasonAmbiguous, "the request has %d Authorization headers; send one", len(auth))
	case len(auth) == 1 && params.any():
		return nil, refuse(ReasonAmbiguous, "the request is signed twice, by the Authorization header and by %s in the query; send one signature", params.first())
	case len(auth) == 0 && !params.any():
		return nil, errNone
	}

	sig := &Signature{path: path, query: query, decodedLength: -1}
	var err *Error
	if len(auth) == 1 {
		sig.Form = FormHeader
		err = parseAuthorization(sig, auth[0])
	} else {
		sig.Form = FormQuery
		err = params.fill(sig)
	}
	if err != nil {
		return nil, err
	}
	if err = parseTime(sig, r, &params); err != nil {
		return nil, err
	}
	if err = parseToken(sig, r, &params); err != nil {
		return nil, err
	}
	if err = parseRegionSet(sig, r, &params); err != nil {
		return nil, err
	}
	if err = parsePayload(sig, r, &params); err != nil {
		return nil, err
	}
	if err = checkHeaders(sig, r); err != nil {
		return nil, err
	}
	return sig, nil
}

// parseAuthorization reads
//
//	ALGORITHM Credential=…, SignedHeaders=…, Signature=…
//
// with the three in any order and the space after a comma optional.
func parseAuthorization(sig *Signature, v string) *Error {
	if len(v) > maxAuthorization {
		return refuse(ReasonMalformed, "the Authorization header is longer than %d bytes", maxAuthorization)
	}
	algorithm, rest, _ := strings.Cut(v, " ")
	if err := checkAlgorithm(algorithm); err != nil {
		return err
	}
	sig.Algorithm = algorithm
	var credential, signedHeaders string
	for more := true; more; {
		var part string
		part, rest, more = strings.Cut(rest, ",")
		name, value, ok := strings.Cut(strings.Trim(part, " "), "=")
		var field *string
		switch name {
		case "Credential":
			field = &credential
		case "SignedHeaders":
			field = &signedHeaders
		case "Signature":
			field = &sig.signature
		}
		switch {
		case !ok || field == nil:
			return refuse(ReasonMalformed, "the Authorization header holds %q; it must be %s Credential=…, SignedHeaders=…, Signature=…", clip(name), algorithm)
		case value == "":
			return refuse(ReasonMalformed, "%s is empty in the Authorization header", name)
		case *field != "":
			return refuse(ReasonAmbiguous, "the Authorization header gives %s twice", name)
		}
		*field = value
	}
	for _, f := range [...]struct{ name, value string }{
		{"Credential", credential}, {"SignedHeaders", signedHeaders}, {"Signature", sig.signature},
	} {
		if f.value == "" {
			return refuse(ReasonMalformed, "the Authorization header has no %s", f.name)
		}
	}
	return parseFields(sig, credential, signedHeaders)
}

// parseFields reads what the header and query forms have in common.
func parseFields(sig *Signature, credential, signedHeaders string) *Error {
	if err := parseCredential(sig, credential); err != nil {
		return err
	}
	if err := checkSignature(sig); err != nil {
		return err
	}
	var err *Error
	sig.SignedHeaders, err = parseSignedHeaders(signedHeaders)
	return err
}

func checkSignature(sig *Signature) *Error {
	n := len(sig.signature)
	if sig.Algorithm == AlgorithmHMAC && n != 64 || sig.Algorithm == AlgorithmECDSA && (n < 16 || n > maxECDSASignature || n%2 != 0) || !isLowerHexString(sig.signature) {
		return refuse(ReasonMalformed, "the signature is not of the form that %s makes, lower-case hexadecimal digits", sig.Algorithm)
	}
	return nil
}

func isLowerHexString(s string) bool {
	for i := 0; i < len(s); i++ {
		if (s[i] < '0' || s[i] > '9') && !isLowerHex(s[i]) {
			return false
		}
	}
	return true
}

// checkAlgorithm refuses, by name, whatever is not SigV4 or SigV4A.
func checkAlgorithm(a string) *Error {
	switch {
	case a == AlgorithmHMAC || a == AlgorithmECDSA:
		return nil
	case a == "AWS":
		return refuse(ReasonUnsupported, "the request is signed with Signature Version 2, which is not accepted; use Signature Version 4")
	case strings.HasPrefix(a, "AWS3"):
		return refuse(ReasonUnsupported, "the request is signed with Signature Version 3, which is not accepted; use Signature Version 4")
	case strings.HasPrefix(a, "AWS4-"):
		return refuse(ReasonUnsupported, "the signing algorithm %q is not known; use %s or %s", clip(a), AlgorithmHMAC, AlgorithmECDSA)
	case isWord(a, 32):
		return refuse(ReasonUnsupported, "the request has an Authorization header of the kind %q, not an AWS signature", a)
	}
	return refuse(ReasonUnsupported, "the request has an Authorization header that is not an AWS signature")
}

// parseTime finds the time of the signature: X-Amz-Date, or Date without one.
func parseTime(sig *Signature, r *http.Request, p *authParams) *Error {
	text, err := single(r.Header, "X-Amz-Date")
	if err != nil {
		return err
	}
	if sig.Form == FormQuery {
		if text != "" && text != p.date {
			return refuse(ReasonAmbiguous, "the header X-Amz-Date and the parameter X-Amz-Date differ")
		}
		text = p.date
	}
	var e error
	if text != "" {
		sig.Time, e = time.Parse(timeFormat, text)
	} else {
		if text, err = single(r.Header, "Date"); err != nil {
			return err
		}
		if text == "" {
			return refuse(ReasonMalformed, "the request is signed but has no X-Amz-Date and no Date")
		}
		sig.Time, e = parseDate(text)
	}
	if e != nil {
		return refuse(ReasonMalformed, "the date %q is not of the form yyyymmddThhmmssZ", clip(text))
	}
	var day [8]byte
	if string(sig.Time.AppendFormat(day[:0], dateFormat)) != sig.Date {
		return refuse(ReasonScope, "the credential scope is of %s, but the request of %s", sig.Date, sig.Time.Format(dateFormat))
	}
	return nil
}

// parseDate reads a Date header: as RFC 9110 wants it, with a numeric zone as
// botocore sends it ("-0000"), or as in X-Amz-Date.
func parseDate(text string) (time.Time, error) {
	t, err := http.ParseTime(text)
	for _, format := range [...]string{time.RFC1123Z, timeFormat} {
		if err == nil {
			break
		}
		t, err = time.Parse(format, text)
	}
	return t.UTC(), err
}

// single returns the one value of a header, "" without one.
func single(h http.Header, key string) (string, *Error) {
	switch v := h[key]; len(v) {
	case 0:
		return "", nil
	case 1:
		return v[0], nil
	}
	return "", refuse(ReasonAmbiguous, "the header %s is given more than once", key)
}

// parseToken finds the session token, which may be in one place only.
func parseToken(sig *Signature, r *http.Request, p *authParams) *Error {
	set := func(token string, place tokenPlace, s3 bool) *Error {
		if token == "" {
			return nil
		}
		if sig.tokenIn != tokenNone {
			return refuse(ReasonAmbiguous, "the request carries two session tokens; send one")
		}
		if len(token) > maxToken {
			return refuse(ReasonMalformed, "the session token is longer than %d bytes", maxToken)
		}
		sig.SecurityToken, sig.tokenIn, sig.S3Session = token, place, s3
		return nil
	}
	for _, h := range [...]struct {
		key string
		s3  bool
	}{{"X-Amz-Security-Token", false}, {"X-Amz-S3session-Token", true}} {
		v, err := single(r.Header, h.key)
		if err != nil {
			return err
		}
		if err = set(v, tokenHeader, h.s3); err != nil {
			return err
		}
	}
	if err := set(p.token, tokenParam, false); err != nil {
		return err
	}
	if err := set(p.s3Session, tokenParam, true); err != nil {
		return err
	}
	switch sig.tokenIn {
	case tokenHeader:
		sig.TokenSigned = contains(sig.SignedHeaders, "x-amz-security-token") || contains(sig.SignedHeaders, "x-amz-s3session-token")
	case tokenParam:
		sig.TokenSigned = true
	}
	return nil
}

// parseRegionSet finds the region set of SigV4A.
func parseRegionSet(sig *Signature, r *http.Request, p *authParams) *Error {
	v, err := single(r.Header, "X-Amz-Region-Set")
	if err != nil {
		return err
	}
	if sig.Algorithm != AlgorithmECDSA {
		if v != "" || p.regionSet != "" {
			return refuse(ReasonAmbiguous, "X-Amz-Region-Set belongs to %s, but the request is signed with %s", AlgorithmECDSA, sig.Algorithm)
		}
		return nil
	}
	if sig.Form == FormQuery {
		if v != "" && v != p.regionSet {
			return refuse(ReasonAmbiguous, "the header X-Amz-Region-Set and the parameter X-Amz-Region-Set differ")
		}
		v = p.regionSet
	}
	if !isRegionSet(v) {
		return refuse(ReasonMalformed, "the request is signed with %s but its X-Amz-Region-Set is not a list of regions", AlgorithmECDSA)
	}
	sig.RegionSet = v
	return nil
}

// parsePayload decides from the head how the signature covers the body.
func parsePayload(sig *Signature, r *http.Request, p *authParams) *Error {
	v, err := single(r.Header, "X-Amz-Content-Sha256")
	if err != nil {
		return err
	}
	switch {
	case p.payloadHash == "":
	case v == "" && sig.Form == FormQuery:
		v = p.payloadHash
	case v != p.payloadHash:
		return refuse(ReasonAmbiguous, "the header X-Amz-Content-Sha256 and the parameter X-Amz-Content-Sha256 differ")
	}
	sig.PayloadHash = v
	streaming := ""
	switch v {
	case "":
		switch {
		case sig.Form == FormQuery && (s3Family(sig.Service) || sig.Service == "vpc-lattice-svcs"):
			sig.Payload, sig.PayloadHash = PayloadUnsigned, "UNSIGNED-PAYLOAD"
		case s3Family(sig.Service):
			return refuse(ReasonMalformed, "the request is signed for %s but has no X-Amz-Content-Sha256 header, which this service requires", sig.Service)
		default:
			sig.Payload = PayloadAbsent
		}
	case "UNSIGNED-PAYLOAD":
		sig.Payload = PayloadUnsigned
	case "STREAMING-UNSIGNED-PAYLOAD-TRAILER":
		sig.Payload = PayloadUnsignedTrailer
	case "STREAMING-AWS4-HMAC-SHA256-PAYLOAD":
		sig.Payload, streaming = PayloadChunked, AlgorithmHMAC
	case "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER":
		sig.Payload, streaming = PayloadChunkedTrailer, AlgorithmHMAC
	case "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD":
		sig.Payload, streaming = PayloadChunked, AlgorithmECDSA
	case "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER":
		sig.Payload, streaming = PayloadChunkedTrailer, AlgorithmECDSA
	case "STREAMING-AWS4-HMAC-SHA256-EVENTS":
		sig.Payload, streaming = PayloadEvents, AlgorithmHMAC
	default:
		if len(v) != 64 || !isLowerHexString(v) {
			return refuse(ReasonUnsupported, "X-Amz-Content-Sha256 is %q, which is neither a SHA-256 in lower-case hexadecimal digits nor a known word", clip(v))
		}
		sig.Payload = PayloadHash
	}
	if streaming != "" && streaming != sig.Algorithm {
		return refuse(ReasonAmbiguous, "the body is signed with %s, but the request with %s", streaming, sig.Algorithm)
	}
	return parseStreaming(sig, r)
}

// parseStreaming reads the headers that describe an aws-chunked body.
func parseStreaming(sig *Signature, r *http.Request) *Error {
	switch sig.Payload {
	case PayloadChunked, PayloadChunkedTrailer, PayloadUnsignedTrailer:
	default:
		return nil
	}
	v, err := single(r.Header, "X-Amz-Decoded-Content-Length")
	if err != nil {
		return err
	}
	if v != "" {
		n, e := strconv.ParseInt(v, 10, 64)
		if e != nil || n < 0 || !isDigits(v) {
			return refuse(ReasonMalformed, "X-Amz-Decoded-Content-Length is %q, not a number of bytes", clip(v))
		}
		sig.decodedLength = n
	}
	if sig.Payload != PayloadChunkedTrailer {
		return nil
	}
	for _, line := range r.Header["X-Amz-Trailer"] {
		for name := range strings.SplitSeq(line, ",") {
			name = strings.ToLower(strings.Trim(name, " \t"))
			if !isLowerToken(name) || len(sig.trailers) == maxTrailers {
				return refuse(ReasonMalformed, "X-Amz-Trailer is not a list of at most %d header names", maxTrailers)
			}
			sig.trailers = append(sig.trailers, name)
		}
	}
	return nil
}

// checkHeaders sees to it that everything that must be signed is signed, and
// that everything signed is there and stays with the request.
func checkHeaders(sig *Signature, r *http.Request) *Error {
	if !contains(sig.SignedHeaders, "host") {
		return refuse(ReasonNotSigned, "the signature does not cover the Host header")
	}
	for key := range r.Header {
		if !isAmz(key) {
			continue
		}
		if canonical := http.CanonicalHeaderKey(key); canonical != key {
			return refuse(ReasonMalformed, "the header %q is not a header name", clip(key))
		}
		if containsFold(sig.SignedHeaders, key) {
			continue
		}
		switch key {
		case "X-Amz-Security-Token":
			// Some clients add it after signing, and some services want that.
		case "X-Amz-Content-Sha256":
			// The value is the last line of the canonical request, so it is
			// covered; but S3 wants the header signed as well.
			if sig.Form == FormHeader && s3Family(sig.Service) {
				return refuse(ReasonNotSigned, "the signature does not cover the header %s", key)
			}
		default:
			return refuse(ReasonNotSigned, "the signature does not cover the header %s", key)
		}
	}
	sig.values = make([][]string, len(sig.SignedHeaders))
	for i, name := range sig.SignedHeaders {
		switch name {
		case "host":
			if r.Host == "" {
				return refuse(ReasonMalformed, "the request has no Host")
			}
		case "content-length":
			if r.ContentLength < 0 {
				return refuse(ReasonMalformed, "the header content-length is signed but not in the request")
			}
		default:
			if sig.values[i] = lookup(r.Header, name); len(sig.values[i]) == 0 {
				return refuse(ReasonMalformed, "the header %s is signed but not in the request", name)
			}
		}
	}
	for _, line := range r.Header["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			name = strings.ToLower(strings.Trim(name, " \t"))
			if name == "authorization" || carriesMeaning(name) || contains(sig.SignedHeaders, name) {
				return refuse(ReasonHopHeader, "the Connection header nominates %q, which is part of the request and must not be dropped on the way", clip(name))
			}
		}
	}
	return nil
}
