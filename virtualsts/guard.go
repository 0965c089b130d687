package virtualsts

import (
	"bytes"
	"errors"
	"io"
	"regexp"
)

// ErrCredentials is what reading a guarded answer ends with when the answer would
// hand out AWS credentials.
var ErrCredentials = errors.New("virtualsts: the answer of AWS holds credentials, so it was stopped")

// guardWindow is how far a key id and its secret may be apart, in bytes. Between
// them in answers of AWS are at most a session token and field names.
const guardWindow = 8 << 10

var (
	// guardKeyID is an access key id that AWS issued.
	guardKeyID = regexp.MustCompile(`\b(?:AKIA|ASIA)[A-Z2-7][A-Z0-9]{15}\b`)
	// guardSecret is a field of the names that AWS's models have for the secret
	// (SecretAccessKey, secretAccessKey, SecretKey), followed by a secret: 40
	// characters of base64 in JSON, XML or CBOR ("x(" is CBOR's head of a text of
	// that length).
	guardSecret = regexp.MustCompile(`(?i:secret_?(?:access_?)?key)(?:["'>:=\s\\]{1,16}|x\()[A-Za-z0-9/+]{40}(?:[^A-Za-z0-9/+=]|$)`)
)

// guardSecretLength is the most that guardSecret can match, and so what may lie
// across two reads.
const guardSecretLength = 17 + 16 + 40 + 1

// Guard watches the answer of an allowed call for AWS credentials: an access key id
// with a secret beside it, in the field names of AWS's models. It is the last line
// of defence behind the list of calls that hand out credentials, for one that is
// missing there. Reading ends with [ErrCredentials] before the secret has passed;
// whatever came before it has.
//
// It holds back at most 16 KiB, and only from where a secret may begin, so answers
// stream. It sees plain JSON, XML and CBOR; a compressed answer passes unseen. It is
// meant for answers of API calls, not for objects and other data of customers.
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
		loc := guardSecret.FindIndex(g.buf[from:])
		if loc == nil {
			break
		}
		at, to := from+loc[0], from+loc[1]
		around := g.buf[max(0, at-guardWindow):min(len(g.buf), to+guardWindow)]
		if guardKeyID.Match(around) {
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
		low := bytes.ToLower(g.buf[tail:])
		if i := bytes.Index(low, []byte("secret")); i >= 0 {
			g.clear = tail + i
		} else {
			g.clear -= partial(low, "secret")
		}
	}
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
