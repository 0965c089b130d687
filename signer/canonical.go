package signer

import (
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
)

// emptyHash is the SHA-256 of nothing.
const emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// forms is one way of making a canonical request.
type forms struct {
	path      pathForm
	query     queryForm
	tabs      bool // keep tabs within header values; otherwise they fold into spaces
	dropToken bool // query form: the security token was added after signing
}

// A message is what a canonical request is made from.
type message struct {
	method, path, query string
	host                string
	header              http.Header
	contentLength       int64
	presigned           bool
	signedHeaders       []string
	payloadHash         string
}

// appendCanonical appends the canonical request. ok is false when the form
// does not exist for this message.
func (m *message) appendCanonical(dst []byte, f forms) (_ []byte, ok bool) {
	dst = append(dst, m.method...)
	dst = append(dst, '\n')
	if dst, ok = appendPath(dst, m.path, f.path); !ok {
		return dst, false
	}
	dst = append(dst, '\n')
	if dst, ok = appendQuery(dst, m.query, f.query, m.presigned, f.dropToken); !ok {
		return dst, false
	}
	dst = append(dst, '\n')
	for _, name := range m.signedHeaders {
		dst = append(dst, name...)
		dst = append(dst, ':')
		dst = m.appendHeader(dst, name, f.tabs)
		dst = append(dst, '\n')
	}
	dst = append(dst, '\n')
	for i, name := range m.signedHeaders {
		if i > 0 {
			dst = append(dst, ';')
		}
		dst = append(dst, name...)
	}
	dst = append(dst, '\n')
	return append(dst, m.payloadHash...), true
}

// appendHeader appends the canonical value of one header: its values trimmed,
// runs of white space folded, joined by commas in the order in which they came.
func (m *message) appendHeader(dst []byte, name string, tabs bool) []byte {
	switch name {
	case "host":
		return append(dst, m.host...)
	case "content-length":
		return strconv.AppendInt(dst, m.contentLength, 10)
	}
	for i, v := range lookup(m.header, name) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendFolded(dst, v, tabs)
	}
	return dst
}

// lookup finds a header by its name in lower case without allocating.
func lookup(h http.Header, lower string) []string {
	var room [64]byte
	if len(lower) > len(room) {
		return h[textproto.CanonicalMIMEHeaderKey(lower)]
	}
	key := room[:len(lower)]
	upper := true
	for i := 0; i < len(lower); i++ {
		c := lower[i]
		if upper && 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		key[i] = c
		upper = c == '-'
	}
	return h[string(key)]
}

func appendFolded(dst []byte, v string, tabs bool) []byte {
	v = strings.TrimFunc(v, isSpace)
	space := false
	for i := 0; i < len(v); i++ {
		c := v[i]
		if c == ' ' || !tabs && isSpace(rune(c)) {
			space = true
			continue
		}
		if space {
			dst = append(dst, ' ')
			space = false
		}
		dst = append(dst, c)
	}
	return dst
}

func isSpace(c rune) bool { return c == ' ' || '\t' <= c && c <= '\r' }

// appendStringToSign appends the string to sign of a request.
func appendStringToSign(dst []byte, algorithm, time string, sc scope, canonicalHash []byte) []byte {
	dst = append(dst, algorithm...)
	dst = append(dst, '\n')
	dst = append(dst, time...)
	dst = append(dst, '\n')
	dst = sc.append(dst)
	dst = append(dst, '\n')
	return appendHex(dst, canonicalHash)
}

const lowerHex = "0123456789abcdef"

func appendHex(dst, src []byte) []byte {
	for _, c := range src {
		dst = append(dst, lowerHex[c>>4], lowerHex[c&15])
	}
	return dst
}
