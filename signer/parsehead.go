package signer

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

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
		sig.Time, e = parseAmzDate(text)
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
	if err != nil {
		t, err = time.Parse(time.RFC1123Z, text)
	}
	if err != nil {
		t, err = parseAmzDate(text)
	}
	return t.UTC(), err
}

// parseAmzDate reads yyyymmddThhmmssZ, and not the fractions of a second that
// time.Parse would let pass.
func parseAmzDate(text string) (time.Time, error) {
	if len(text) != len(timeFormat) {
		return time.Time{}, errDate
	}
	return time.Parse(timeFormat, text)
}

var errDate = errors.New("not of the form " + timeFormat)

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
