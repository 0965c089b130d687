package signer

import (
	"slices"
	"strings"
)

// The names of the query form's parameters, as AWS spells them.
const (
	paramAlgorithm     = "X-Amz-Algorithm"
	paramCredential    = "X-Amz-Credential"
	paramDate          = "X-Amz-Date"
	paramExpires       = "X-Amz-Expires"
	paramSignedHeaders = "X-Amz-SignedHeaders"
	paramSignature     = "X-Amz-Signature"
	paramToken         = "X-Amz-Security-Token"
	paramRegionSet     = "X-Amz-Region-Set"
	paramPayloadHash   = "X-Amz-Content-Sha256"
	paramS3Session     = "X-Amz-S3session-Token"
)

// A queryForm is one of the ways in which signers make the canonical query.
type queryForm uint8

const (
	// queryEncoded decodes every name and value, encodes them again, and
	// sorts. The documented form.
	queryEncoded queryForm = iota
	// querySorted sorts the pairs as sent: botocore, for the query of a URL.
	querySorted
	// queryVerbatim is the query as sent: SDKs that encode first and sort in
	// an order of their own, which they then send.
	queryVerbatim
)

type pair struct{ name, value string }

// appendQuery appends the canonical query without X-Amz-Signature, and without
// the security token where dropToken says that it was added after signing; ok
// is false when the form does not exist for this query. Escapes that are none
// have no encoded form: which bytes they stand for is anybody's guess.
func appendQuery(dst []byte, query string, f queryForm, presigned, dropToken bool) (_ []byte, ok bool) {
	if query == "" {
		return dst, true
	}
	var room [24]pair
	pairs := room[:0]
	start := len(dst)
	for rest, more := query, true; more; {
		var p string
		p, rest, more = strings.Cut(rest, "&")
		if p == "" {
			if f == queryVerbatim && more {
				return dst, false
			}
			continue
		}
		name, value, _ := strings.Cut(p, "=")
		if presigned && (name == paramSignature || dropToken && name == paramToken) {
			continue
		}
		switch f {
		case queryVerbatim:
			if len(dst) > start {
				dst = append(dst, '&')
			}
			dst = append(dst, p...)
			continue
		case queryEncoded:
			var okName, okValue bool
			name, okName = reencode(name)
			value, okValue = reencode(value)
			if !okName || !okValue {
				return dst, false
			}
		}
		pairs = append(pairs, pair{name, value})
	}
	if len(pairs) > 1 {
		slices.SortFunc(pairs, func(a, b pair) int {
			if c := strings.Compare(a.name, b.name); c != 0 {
				return c
			}
			return strings.Compare(a.value, b.value)
		})
	}
	for i, p := range pairs {
		if i > 0 {
			dst = append(dst, '&')
		}
		dst = append(dst, p.name...)
		dst = append(dst, '=')
		dst = append(dst, p.value...)
	}
	return dst, true
}

// reencode returns the canonical encoding of what s decodes to. A plus sign
// stands for itself. Strings already in canonical encoding are returned as
// they are.
func reencode(s string) (string, bool) {
	i := 0
	for ; i < len(s); i++ {
		if unreserved(s[i]) {
			continue
		}
		if s[i] != '%' {
			break
		}
		c, ok := unescape(s, i)
		if !ok {
			return "", false
		}
		if unreserved(c) || isLowerHex(s[i+1]) || isLowerHex(s[i+2]) {
			break
		}
		i += 2
	}
	if i == len(s) {
		return s, true
	}
	out := make([]byte, i, len(s)+16)
	copy(out, s)
	for ; i < len(s); i++ {
		c := s[i]
		if c == '%' {
			var ok bool
			if c, ok = unescape(s, i); !ok {
				return "", false
			}
			i += 2
		}
		out = appendEscaped(out, c)
	}
	return string(out), true
}

func isLowerHex(c byte) bool { return 'a' <= c && c <= 'f' }

// decodeParam decodes a parameter's name or value; a plus sign stands for
// itself.
func decodeParam(s string) (string, bool) {
	if strings.IndexByte(s, '%') < 0 {
		return s, true
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' {
			var ok bool
			if c, ok = unescape(s, i); !ok {
				return "", false
			}
			i += 2
		}
		out = append(out, c)
	}
	return string(out), true
}
