package signer

import "strings"

// hopByHop are headers of one connection (RFC 9110 section 7.6.1), which no
// proxy passes on. A signature over them cannot be kept.
func hopByHop(lower string) bool {
	switch lower {
	case "connection", "keep-alive", "proxy-authenticate", "proxy-authorization",
		"proxy-connection", "te", "trailer", "transfer-encoding", "upgrade":
		return true
	}
	return false
}

// carriesMeaning tells headers that change what a request means and are
// therefore signed on the way out even where the client did not sign them. The
// name may be in any case.
//
// User-Agent, Accept-Encoding, Expect, X-Amzn-Trace-Id and other headers that
// transports and tracers add are left out: signing what an intermediary may
// touch breaks the request and protects nothing.
func carriesMeaning(name string) bool {
	if len(name) < 5 {
		return false
	}
	switch name[0] | 0x20 {
	case 'c':
		if hasPrefixFold(name, "content-") {
			return !equalFold(name, "content-length")
		}
		return equalFold(name, "cache-control")
	case 'e':
		return equalFold(name, "expires")
	case 'i':
		return hasPrefixFold(name, "if-")
	case 'r':
		return equalFold(name, "range")
	case 's':
		return equalFold(name, "smithy-protocol")
	case 'x':
		return isAmz(name)
	}
	return false
}

// isAmz tells the headers that S3 and others demand to be signed.
func isAmz(name string) bool { return hasPrefixFold(name, "x-amz-") }

func hasPrefixFold(s, lowerPrefix string) bool {
	return len(s) >= len(lowerPrefix) && equalFold(s[:len(lowerPrefix)], lowerPrefix)
}

// equalFold is ASCII case-insensitive equality with a name already in lower
// case. Header names are tokens, so ASCII is all there is.
func equalFold(s, lower string) bool {
	if len(s) != len(lower) {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// parseSignedHeaders reads a;b;c into its names, which must be tokens in lower
// case and strictly ascending: an order that is not the canonical one, or a
// name given twice, would be open to two readings.
func parseSignedHeaders(s string) ([]string, *Error) {
	if s == "" || len(s) > maxSignedHeaders {
		return nil, refuse(ReasonMalformed, "SignedHeaders is empty or longer than %d bytes", maxSignedHeaders)
	}
	names := make([]string, 0, strings.Count(s, ";")+1)
	for rest, more := s, true; more; {
		var name string
		name, rest, more = strings.Cut(rest, ";")
		if !isLowerToken(name) {
			return nil, refuse(ReasonMalformed, "SignedHeaders holds %q, which is not a header name in lower case", clip(name))
		}
		if len(names) > 0 && name <= names[len(names)-1] {
			return nil, refuse(ReasonMalformed, "SignedHeaders is not sorted, or names %q twice", clip(name))
		}
		if hopByHop(name) {
			return nil, refuse(ReasonHopHeader, "the header %q is signed, but belongs to one connection and is never passed on; configure the client not to sign it", name)
		}
		if name == "authorization" {
			return nil, refuse(ReasonMalformed, "the Authorization header cannot be signed")
		}
		names = append(names, name)
	}
	return names, nil
}

func isLowerToken(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		case strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

// contains looks a lower-case name up in a sorted list.
func contains(sorted []string, name string) bool {
	for _, s := range sorted {
		if s >= name {
			return s == name
		}
	}
	return false
}

// containsFold does the same for a name in any case.
func containsFold(sorted []string, name string) bool {
	for _, s := range sorted {
		if equalFold(name, s) {
			return true
		}
	}
	return false
}

// clip keeps messages short.
func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}
