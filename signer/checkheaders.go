package signer

import (
	"net/http"
	"strings"
)

// checkHeaders sees to it that everything that must be signed is signed, and
// that everything signed is there and stays with the request.
func checkHeaders(sig *Signature, r *http.Request) *Error {
	if !contains(sig.SignedHeaders, "host") {
		return refuse(ReasonNotSigned, "the signature does not cover the Host header")
	}
	for key := range r.Header {
		if !isAmz(key) {
			if strings.IndexByte(key, '_') >= 0 && isAmz(strings.ReplaceAll(key, "_", "-")) {
				// Gateways that make variables of headers take both for the same.
				return refuse(ReasonAmbiguous, "the header %q could be taken for one of AWS's; write it with dashes and sign it", clip(key))
			}
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
			if name == "user-agent" && len(sig.values[i]) > 1 {
				// net/http sends the first alone.
				return refuse(ReasonAmbiguous, "the header user-agent is given more than once")
			}
		}
	}
	for _, line := range r.Header["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			name = strings.ToLower(strings.Trim(name, " \t"))
			if hopByHop(name) || name == "http2-settings" { // of the upgrade that java.net.http offers
				continue
			}
			// A header that is there is a part of the request, signed or not: what
			// a policy asks of it must hold for what AWS gets.
			if name == "authorization" || carriesMeaning(name) || contains(sig.SignedHeaders, name) || len(lookup(r.Header, name)) > 0 {
				return refuse(ReasonHopHeader, "the Connection header nominates %q, which is part of the request and must not be dropped on the way", clip(name))
			}
		}
	}
	return nil
}
