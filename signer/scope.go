package signer

import "strings"

const terminator = "aws4_request"

// A scope is a credential scope without its terminator. Region is "" in SigV4A.
type scope struct{ date, region, service string }

func (s scope) append(dst []byte) []byte {
	dst = append(dst, s.date...)
	if s.region != "" {
		dst = append(dst, '/')
		dst = append(dst, s.region...)
	}
	dst = append(dst, '/')
	dst = append(dst, s.service...)
	return append(dst, "/"+terminator...)
}

// parseCredential reads accessKeyID/date/region/service/aws4_request, or the
// same without the region for SigV4A.
func parseCredential(sig *Signature, s string) *Error {
	want := 5
	if sig.Algorithm == AlgorithmECDSA {
		want = 4
	}
	var f [5]string
	n := 0
	for rest := s; ; n++ {
		if n == want {
			return refuse(ReasonMalformed, "the credential scope has more than %d parts", want)
		}
		part, tail, more := strings.Cut(rest, "/")
		f[n], rest = part, tail
		if !more {
			n++
			break
		}
	}
	if n != want {
		return refuse(ReasonMalformed, "the credential scope has %d parts, not %d", n, want)
	}
	sig.AccessKeyID, sig.Date = f[0], f[1]
	if want == 5 {
		sig.Region, sig.Service = f[2], f[3]
	} else {
		sig.Service = f[2]
	}
	if f[want-1] != terminator {
		return refuse(ReasonScope, "the credential scope does not end in %s", terminator)
	}
	if !isWord(sig.AccessKeyID, 128) {
		return refuse(ReasonMalformed, "the access key id is not 1 to 128 letters, digits or underscores")
	}
	if len(sig.Date) != 8 || !isDigits(sig.Date) {
		return refuse(ReasonScope, "the date of the credential scope is not of the form yyyymmdd")
	}
	if want == 5 && !isScopeWord(sig.Region) {
		return refuse(ReasonScope, "the region of the credential scope is not a region")
	}
	if !isScopeWord(sig.Service) {
		return refuse(ReasonScope, "the service of the credential scope is not a service")
	}
	return nil
}

func isDigits(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func isWord(s string, limit int) bool {
	for i := 0; i < len(s); i++ {
		if !isAlnum(s[i]) && s[i] != '_' {
			return false
		}
	}
	return s != "" && len(s) <= limit
}

func isScopeWord(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isAlnum(s[i]) && s[i] != '-' && s[i] != '_' && s[i] != '.' {
			return false
		}
	}
	return s != "" && len(s) <= 64
}

// isRegionSet reads the value of X-Amz-Region-Set: regions or patterns of
// regions, separated by commas.
func isRegionSet(s string) bool {
	if s == "" || len(s) > 1024 {
		return false
	}
	for i := 0; i < len(s); i++ {
		if !isAlnum(s[i]) && s[i] != '-' && s[i] != '*' && s[i] != ',' {
			return false
		}
	}
	return true
}
