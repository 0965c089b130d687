package signer

import (
	"net/http"
	"net/textproto"
	"strconv"
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
	contentLength       int64
	presigned           bool
	signedHeaders       []string
	values              [][]string // of signedHeaders; those of host and content-length are not used
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
	for i, name := range m.signedHeaders {
		dst = append(dst, name...)
		dst = append(dst, ':')
		dst = m.appendHeader(dst, i, f.tabs)
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
func (m *message) appendHeader(dst []byte, index int, tabs bool) []byte {
	switch m.signedHeaders[index] {
	case "host":
		return append(dst, m.host...)
	case "content-length":
		return strconv.AppendInt(dst, m.contentLength, 10)
	}
	for i, v := range m.values[index] {
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
	v = trimSpace(v)
	if !folds(v) {
		return append(dst, v...)
	}
	space := false
	for i := 0; i < len(v); i++ {
		c := v[i]
		if isSpace(c) && !(tabs && c == '\t') {
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

func trimSpace(v string) string {
	for len(v) > 0 && isSpace(v[0]) {
		v = v[1:]
	}
	for len(v) > 0 && isSpace(v[len(v)-1]) {
		v = v[:len(v)-1]
	}
	return v
}

// folds tells whether there is white space that folding could change.
func folds(v string) bool {
	for i := 0; i < len(v); i++ {
		if c := v[i]; c <= ' ' && (c != ' ' || v[i-1] == ' ') {
			return true
		}
	}
	return false
}

func isSpace(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

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
