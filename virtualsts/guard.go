package virtualsts

import (
	"bytes"
	"errors"
	"io"
)

// ErrCredentials is what reading a guarded answer ends with when the answer would
// hand out AWS credentials.
var ErrCredentials = errors.New("virtualsts: the answer of AWS holds credentials, so it was blocked")

// guardWindow is how far a key id and its secret may be apart, in bytes. Between
// them in answers of AWS are at most a session token and field names.
const guardWindow = 8 << 10

// hasKeyID says whether b holds an access key id that AWS issued: AKIA or ASIA and
// 16 more capitals and digits, no more.
func hasKeyID(b []byte) bool {
	for _, prefix := range [...]string{"AKIA", "ASIA"} {
		for rest := b; ; {
			i := bytes.Index(rest, []byte(prefix))
			if i < 0 {
				break
			}
			before := i == 0 || !isKeyIDByte(rest[i-1])
			rest = rest[i+len(prefix):]
			n := 0
			for n < len(rest) && isKeyIDByte(rest[n]) {
				n++
			}
			if before && n == 16 {
				return true
			}
		}
	}
	return false
}

func isKeyIDByte(c byte) bool { return c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' }

// findSecret finds a field of the names that AWS has for the secret
// (SecretAccessKey, secretAccessKey, SecretKey, s3.secret-access-key …) with a secret
// in it: 40 characters of base64, in JSON, XML or CBOR. ok is false when there is
// none in b.
func findSecret(b []byte) (at, to int, ok bool) {
	for from := 0; ; {
		mixed, upper := bytes.Index(b[from:], []byte("ecret")), bytes.Index(b[from:], []byte("ECRET"))
		i := mixed
		if i < 0 || upper >= 0 && upper < i {
			i = upper
		}
		if i < 0 {
			return 0, 0, false
		}
		at = from + i - 1
		from += i + len("ecret")
		if at < 0 || b[at]|0x20 != 's' {
			continue
		}
		if n, found := secretAt(b[from:]); found {
			return at, from + n, true
		}
	}
}

// secretAt matches what follows the word "secret".
func secretAt(b []byte) (n int, ok bool) {
	word := func(w string) bool {
		i := n
		if i < len(b) && (b[i] == '_' || b[i] == '-' || b[i] == '.' || b[i] == ' ') {
			i++ // Iceberg's catalogs say s3.secret-access-key
		}
		if len(b)-i < len(w) || !bytes.EqualFold(b[i:i+len(w)], []byte(w)) {
			return false
		}
		n = i + len(w)
		return true
	}
	word("access")
	if !word("key") {
		return 0, false
	}
	if bytes.HasPrefix(b[n:], []byte("x(")) { // CBOR's head of a text of 40 bytes
		n += 2
	} else {
		begin := n
		for n < len(b) && n-begin < 16 && bytes.IndexByte([]byte("\"'>:= \t\r\n\\"), b[n]) >= 0 {
			n++
		}
		if n == begin {
			return 0, false
		}
	}
	count := 0
	for count <= 40 {
		size := base64Char(b[n:])
		if size == 0 {
			break
		}
		n += size
		count++
	}
	return n, count == 40
}

// base64Char is the length of the base64 character that b begins with, 0 if it is
// none. Of its characters, JSON may write the slash as \/ and all but letters and
// digits as \u002b; and JSON in JSON doubles the backslash.
func base64Char(b []byte) int {
	n := 0
	for n < len(b) && n < 2 && b[n] == '\\' {
		n++
	}
	switch {
	case n == len(b):
		return 0
	case n == 0 && isBase64Byte(b[0]), n > 0 && b[n] == '/':
		return n + 1
	case n > 0 && len(b) >= n+5 && (b[n] == 'u' || b[n] == 'U') && b[n+1] == '0' && b[n+2] == '0' &&
		(b[n+3] == '2' && (b[n+4]|0x20 == 'b' || b[n+4]|0x20 == 'f') || b[n+3] == '3' && b[n+4]|0x20 == 'd'):
		return n + 5
	}
	return 0
}

func isBase64Byte(c byte) bool {
	return isKeyIDByte(c) || c >= 'a' && c <= 'z' || c == '+' || c == '/' || c == '='
}

// guardSecretLength is the most that guardSecret can match, and so what may lie
// across two reads.
const guardSecretLength = 17 + 16 + 41*7

// Guard watches the answer of an allowed call for AWS credentials: an access key id
// with a secret beside it, in the field names of AWS's models. It is the last line
// of defence behind the list of calls that hand out credentials, for one that is
// missing there. Reading ends with [ErrCredentials] before the secret has passed;
// whatever came before it has.
//
// It holds back at most 16 KiB, and only from where a secret may begin, so answers
// stream. It sees plain JSON, XML and CBOR; [GuardCoded] unpacks what is compressed. It
// is meant for answers of API calls, not for objects and other data of customers.
func Guard(body io.ReadCloser) io.ReadCloser {
	return &guard{body: body, buf: make([]byte, 0, 4<<10)}
}

type guard struct {
	body io.ReadCloser
	// buf[sent:] is what may go out next; before it lies what went out last, for
	// a key id that precedes its secret.
	buf   []byte
	sent  int
	clear int   // buf[sent:clear] may go out now
	err   error // what follows buf
}

func (g *guard) Close() error { return g.body.Close() }

func (g *guard) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for g.sent == g.clear {
		if g.err != nil {
			return 0, g.err
		}
		g.fill()
	}
	n := copy(p, g.buf[g.sent:g.clear])
	g.sent += n
	return n, nil
}

// fill reads once and finds out how much of buf is clear.
func (g *guard) fill() {
	if drop := g.sent - guardWindow; drop > guardWindow {
		g.buf = append(g.buf[:0], g.buf[drop:]...)
		g.sent, g.clear = g.sent-drop, g.clear-drop
	}
	g.buf = append(g.buf, make([]byte, 4<<10)...)
	n, err := g.body.Read(g.buf[len(g.buf)-4<<10:])
	g.buf = g.buf[:len(g.buf)-4<<10+n]
	g.err = err
	g.inspect()
}

func (g *guard) inspect() {
	end := g.err != nil
	from := g.clear
	for {
		at, to, ok := findSecret(g.buf[from:])
		if !ok {
			break
		}
		at, to = from+at, from+to
		around := g.buf[max(0, at-guardWindow):min(len(g.buf), to+guardWindow)]
		if hasKeyID(around) {
			g.buf, g.err = g.buf[:at], ErrCredentials
			g.clear = at
			return
		}
		if !end && to+guardWindow > len(g.buf) {
			// The key id may be yet to come.
			g.clear = at
			return
		}
		from = to
	}
	g.clear = len(g.buf)
	if !end {
		// What may be the beginning of a secret's field waits for the rest.
		tail := max(from, len(g.buf)-guardSecretLength)
		low := lower(g.buf[tail:])
		if i := bytes.Index(low, []byte("secret")); i >= 0 {
			g.clear = tail + i
		} else {
			g.clear -= partial(low, "secret")
		}
	}
}

// lower is b in lower case, as far as ASCII goes, and of the same length.
func lower(b []byte) []byte {
	out := bytes.Clone(b)
	for i, c := range out {
		if c >= 'A' && c <= 'Z' {
			out[i] = c | 0x20
		}
	}
	return out
}

// partial is how many bytes at the end of b are the beginning of word.
func partial(b []byte, word string) int {
	for n := min(len(word)-1, len(b)); n > 0; n-- {
		if bytes.HasSuffix(b, []byte(word[:n])) {
			return n
		}
	}
	return 0
}
