package signer

import (
	"bytes"
	"strings"
)

const upperHex = "0123456789ABCDEF"

// unreserved are the bytes that SigV4 never percent-encodes.
func unreserved(c byte) bool {
	return isAlnum(c) || c == '-' || c == '.' || c == '_' || c == '~'
}

func appendEscaped(dst []byte, c byte) []byte {
	if unreserved(c) {
		return append(dst, c)
	}
	return append(dst, '%', upperHex[c>>4], upperHex[c&15])
}

// splitTarget splits an origin-form request target at its first question mark.
func splitTarget(t string) (path, query string, ok bool) {
	if t == "" || t[0] != '/' {
		return "", "", false
	}
	path, query, _ = strings.Cut(t, "?")
	return path, query, true
}

// A pathForm is one of the ways in which signers make the canonical path.
type pathForm uint8

const (
	// pathNormal removes dot segments and empty segments, then encodes the
	// path as sent once more. The documented form for all but S3.
	pathNormal pathForm = iota
	// pathDouble encodes the path as sent once more without normalising it:
	// the SDKs for Go.
	pathDouble
	// pathRaw is the path as sent. The form of S3.
	pathRaw
	// pathSingle decodes each segment and encodes it again: S3 clients that
	// leave characters unencoded on the wire.
	pathSingle
)

// appendPath appends the canonical path; ok is false when the form does not
// exist for this path.
func appendPath(dst []byte, path string, f pathForm) (_ []byte, ok bool) {
	switch f {
	case pathRaw:
		return append(dst, path...), true
	case pathDouble:
		return appendEncodedPath(dst, path), true
	case pathSingle:
		return appendSinglePath(dst, path)
	}
	if isNormal(path) {
		return appendEncodedPath(dst, path), true
	}
	return appendEncodedPath(dst, normalPath(path)), true
}

func appendEncodedPath(dst []byte, path string) []byte {
	for i := 0; i < len(path); i++ {
		if path[i] == '/' {
			dst = append(dst, '/')
		} else {
			dst = appendEscaped(dst, path[i])
		}
	}
	return dst
}

// appendSinglePath encodes what the path decodes to. An encoded slash stays
// encoded, so no two paths that differ in their segments become one.
func appendSinglePath(dst []byte, path string) ([]byte, bool) {
	for i := 0; i < len(path); i++ {
		c := path[i]
		switch c {
		case '/':
			dst = append(dst, '/')
			continue
		case '%':
			var ok bool
			if c, ok = unescape(path, i); !ok {
				return dst, false
			}
			i += 2
		}
		dst = appendEscaped(dst, c)
	}
	return dst, true
}

// unescape reads the escape at s[i], which is a percent sign.
func unescape(s string, i int) (byte, bool) {
	if i+2 >= len(s) {
		return 0, false
	}
	h, l := unhex(s[i+1]), unhex(s[i+2])
	if h > 15 || l > 15 {
		return 0, false
	}
	return h<<4 | l, true
}

func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 0xff
}

// isNormal reports that a path has no empty and no dot segments.
func isNormal(path string) bool {
	for i := 0; i < len(path); i++ {
		if path[i] != '/' {
			continue
		}
		rest := path[i+1:]
		if rest == "" {
			return true
		}
		switch rest[0] {
		case '/':
			return false
		case '.':
			seg, _, _ := strings.Cut(rest, "/")
			if seg == "." || seg == ".." {
				return false
			}
		}
	}
	return true
}

// normalPath removes empty and dot segments (RFC 3986 section 5.2.4, and AWS's
// rule that repeated slashes count as one), keeping a final slash. A dot
// segment at the end leaves no slash behind it, as in AWS's own vectors and
// botocore.
func normalPath(path string) string {
	out := make([]byte, 0, len(path)+1)
	for rest, more := path, true; more; {
		var seg string
		seg, rest, more = strings.Cut(rest, "/")
		switch seg {
		case "", ".":
		case "..":
			out = out[:max(0, bytes.LastIndexByte(out, '/'))]
		default:
			out = append(out, '/')
			out = append(out, seg...)
		}
	}
	if len(out) == 0 || path[len(path)-1] == '/' {
		out = append(out, '/')
	}
	return string(out)
}
