package signer

import (
	"net/http"
	"strings"
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
	}
	// Only known words are repeated: what stands where a scheme should be may
	// be a secret.
	for _, scheme := range [...]string{"Bearer", "Basic", "Digest", "Negotiate", "NTLM"} {
		if strings.EqualFold(a, scheme) {
			return refuse(ReasonUnsupported, "the request has an Authorization header of the kind %s, not an AWS signature", scheme)
		}
	}
	return refuse(ReasonUnsupported, "the request has an Authorization header that is not an AWS signature")
}
