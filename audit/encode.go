package audit

import (
	"fmt"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"
)

// timeFormat is RFC 3339 in UTC with microseconds, always of the same width so
// that lines sort as text.
const timeFormat = "2006-01-02T15:04:05.000000Z"

// AppendJSON appends e as one JSON object without a newline. Every field is
// there in every line, in the same order, empty or not: a fixed shape is what
// table-shaped stores and careful readers want, and an absent field would be
// one more case.
func (e Entry) AppendJSON(b []byte) []byte {
	return e.clean().appendClean(b)
}

// appendClean is AppendJSON for an entry that clean returned.
func (e Entry) appendClean(b []byte) []byte {
	b = append(b, `{"time":"`...)
	b = e.Time.UTC().AppendFormat(b, timeFormat)
	b = append(b, '"')
	b = appendField(b, "request_id", e.RequestID)
	b = appendField(b, "identity", e.Identity)
	b = appendField(b, "access_key_id", e.AccessKeyID)
	b = appendField(b, "role", e.Role)
	b = appendField(b, "role_arn", e.RoleARN)
	b = appendField(b, "session_name", e.SessionName)
	b = appendField(b, "client", e.Client)
	b = appendField(b, "method", e.Method)
	b = appendField(b, "host", e.Host)
	b = appendField(b, "service", e.Service)
	b = appendField(b, "region", e.Region)
	b = appendField(b, "operation", e.Operation)
	b = appendList(b, "actions", e.Actions)
	b = appendList(b, "resources", e.Resources)
	b = appendField(b, "decision", string(e.Decision))
	b = appendField(b, "reason", e.Reason)
	b = appendField(b, "policy", e.Policy)
	b = appendField(b, "statement", e.Statement)
	b = appendNumber(b, "status", int64(e.Status))
	b = appendField(b, "aws_request_id", e.AWSRequestID)
	b = appendNumber(b, "request_bytes", e.RequestBytes)
	b = appendNumber(b, "response_bytes", e.ResponseBytes)
	b = append(b, `,"duration_ms":`...)
	b = appendMillis(b, e.Duration)
	b = appendNumber(b, "overhead_us", e.Overhead.Microseconds())
	b = appendField(b, "signature", e.Signature)
	b = appendField(b, "error", e.Error)
	return append(b, '}')
}

func appendName(b []byte, name string) []byte {
	b = append(b, ',', '"')
	b = append(b, name...)
	return append(b, '"', ':')
}

func appendField(b []byte, name, value string) []byte {
	return appendString(appendName(b, name), value)
}

func appendNumber(b []byte, name string, n int64) []byte {
	return strconv.AppendInt(appendName(b, name), n, 10)
}

func appendList(b []byte, name string, list []string) []byte {
	b = append(appendName(b, name), '[')
	for i, s := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, s)
	}
	return append(b, ']')
}

// appendMillis writes d in milliseconds, with microseconds as decimals.
func appendMillis(b []byte, d time.Duration) []byte {
	return strconv.AppendFloat(b, float64(d.Microseconds())/1000, 'f', -1, 64)
}

const hexDigits = "0123456789abcdef"

// appendString writes s as a JSON string whose bytes are safe to show on a
// terminal and safe to split at line ends: whatever is not printable (control
// characters, escape sequences, bidirectional overrides, line separators) is
// written as an escape, and bytes that are not UTF-8 become U+FFFD.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c < 0x7f && c != '"' && c != '\\' {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r != utf8.RuneError && unicode.IsPrint(r) {
				i += size
				continue
			}
			b = append(b, s[start:i]...)
			b = appendEscape(b, r)
			i += size
			start = i
			continue
		}
		b = append(b, s[start:i]...)
		if c == '"' || c == '\\' {
			b = append(b, '\\', c)
		} else {
			b = appendEscape(b, rune(c))
		}
		i++
		start = i
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}

func appendEscape(b []byte, r rune) []byte {
	if r > 0xffff { // surrogate pair
		r -= 0x10000
		b = appendEscape(b, 0xd800+r>>10)
		return appendEscape(b, 0xdc00+r&0x3ff)
	}
	return append(b, '\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
}

// encodedRune returns the number of bytes that appendString writes for the
// rune at the start of s, and the number of bytes of s that it takes.
func encodedRune(s string) (out, in int) {
	c := s[0]
	switch {
	case c == '"' || c == '\\':
		return 2, 1
	case c >= 0x20 && c < 0x7f:
		return 1, 1
	case c < utf8.RuneSelf:
		return 6, 1
	}
	r, size := utf8.DecodeRuneInString(s)
	switch {
	case r != utf8.RuneError && unicode.IsPrint(r):
		return size, size
	case r > 0xffff:
		return 12, size
	}
	return 6, size
}

func encodedLen(s string) int {
	n := 0
	for i := 0; i < len(s); {
		out, in := encodedRune(s[i:])
		n += out
		i += in
	}
	return n
}

// truncate cuts s so that at most max bytes are written for it, and says how
// many bytes of it are missing.
func truncate(s string, max int) string {
	if len(s)*6 <= max { // no rune is written as more than six times its bytes
		return s
	}
	const room = 32 // for the marker
	n, cut := 0, 0
	for i := 0; i < len(s); {
		if n <= max-room {
			cut = i
		}
		out, in := encodedRune(s[i:])
		n += out
		i += in
		if n > max {
			return s[:cut] + fmt.Sprintf("…(+%d bytes)", len(s)-cut)
		}
	}
	return s
}

func more(n int) string { return fmt.Sprintf("…(+%d more)", n) }
