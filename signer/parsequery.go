package signer

import (
	"strconv"
	"strings"
	"time"
)

// authParams are the parameters of the query that belong to signatures,
// decoded.
type authParams struct {
	algorithm, credential, date, expires, signedHeaders string
	signature, token, regionSet, payloadHash, s3Session string
	seen                                                uint16
}

// payloadHashBit marks the one parameter that alone does not make a request a
// presigned one.
const payloadHashBit = 1 << 8

func (p *authParams) field(name string) (*string, uint16) {
	switch name {
	case paramAlgorithm:
		return &p.algorithm, 1 << 0
	case paramCredential:
		return &p.credential, 1 << 1
	case paramDate:
		return &p.date, 1 << 2
	case paramExpires:
		return &p.expires, 1 << 3
	case paramSignedHeaders:
		return &p.signedHeaders, 1 << 4
	case paramSignature:
		return &p.signature, 1 << 5
	case paramToken:
		return &p.token, 1 << 6
	case paramRegionSet:
		return &p.regionSet, 1 << 7
	case paramPayloadHash:
		return &p.payloadHash, payloadHashBit
	case paramS3Session:
		return &p.s3Session, 1 << 9
	}
	return nil, 0
}

var authParamNames = [...]string{
	paramAlgorithm, paramCredential, paramDate, paramExpires, paramSignedHeaders,
	paramSignature, paramToken, paramRegionSet, paramPayloadHash, paramS3Session,
}

func (p *authParams) any() bool { return p.seen&^payloadHashBit != 0 }

// first names one of the parameters that are there.
func (p *authParams) first() string {
	for _, name := range authParamNames {
		if _, bit := p.field(name); p.seen&bit&^payloadHashBit != 0 {
			return name
		}
	}
	return ""
}

// read collects the parameters. A name that only resembles one of theirs, in
// another case or with needless escapes, is refused: whether AWS takes it for
// the real one is not known.
func (p *authParams) read(query string) *Error {
	if query == "" {
		return nil
	}
	n := 0
	for rest, more := query, true; more; n++ {
		var part string
		part, rest, more = strings.Cut(rest, "&")
		if n >= maxParams {
			return refuse(ReasonMalformed, "the query has more than %d parameters", maxParams)
		}
		raw, value, _ := strings.Cut(part, "=")
		name := raw
		if strings.IndexByte(raw, '%') >= 0 {
			var ok bool
			if name, ok = decodeParam(raw); !ok {
				continue
			}
		}
		switch c := len(name); {
		case c < len(paramDate) || c > len(paramS3Session):
			continue
		case name[0]|0x20 == 'a':
			if strings.EqualFold(name, "AWSAccessKeyId") {
				return refuse(ReasonUnsupported, "the request is signed with Signature Version 2 (%s), which is not accepted; use Signature Version 4", name)
			}
			continue
		case name[0]|0x20 != 'x' || name[1] != '-':
			continue
		}
		for _, known := range authParamNames {
			if len(known) != len(name) || !strings.EqualFold(known, name) {
				continue
			}
			if raw != known {
				return refuse(ReasonAmbiguous, "the query parameter %q must be written %s", clip(raw), known)
			}
			field, bit := p.field(known)
			if p.seen&bit != 0 {
				return refuse(ReasonAmbiguous, "the query parameter %s is given twice", known)
			}
			p.seen |= bit
			var ok bool
			if *field, ok = decodeParam(value); !ok {
				return refuse(ReasonMalformed, "the query parameter %s has an escape that is none", known)
			}
		}
	}
	return nil
}

// fill reads a presigned request's parameters into sig.
func (p *authParams) fill(sig *Signature) *Error {
	if p.algorithm != "" {
		if err := checkAlgorithm(p.algorithm); err != nil {
			return refuse(err.Reason, "X-Amz-Algorithm is %q; use %s or %s", clip(p.algorithm), AlgorithmHMAC, AlgorithmECDSA)
		}
	}
	for _, name := range [...]string{paramAlgorithm, paramCredential, paramDate, paramSignedHeaders, paramSignature} {
		if field, _ := p.field(name); *field == "" {
			return refuse(ReasonMalformed, "the query has %s but no %s", p.first(), name)
		}
	}
	sig.Algorithm, sig.signature = p.algorithm, p.signature
	if err := parseFields(sig, p.credential, p.signedHeaders); err != nil {
		return err
	}
	if p.expires == "" && p.seen&(1<<3) == 0 && !s3Family(sig.Service) {
		// Only S3 demands it. Without it the time is judged as in the header form.
		return nil
	}
	n, err := strconv.ParseInt(p.expires, 10, 32)
	if err != nil || !isDigits(p.expires) || n < 1 || n > int64(MaxExpires/time.Second) {
		return refuse(ReasonMalformed, "X-Amz-Expires is %q, not a number of seconds from 1 to %d", clip(p.expires), int64(MaxExpires/time.Second))
	}
	sig.Expires = time.Duration(n) * time.Second
	return nil
}
