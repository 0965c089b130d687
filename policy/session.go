package policy

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// Limits that AWS sets (reference_iam-quotas).
const (
	managedLimit = 6144 // characters of a managed policy, white space not counted
	sessionLimit = 2048 // characters of a session policy, white space counted
)

// characters counts the characters that are not white space.
func characters(src []byte) int {
	n := 0
	for _, r := range string(src) {
		switch r {
		case ' ', '\t', '\r', '\n':
		default:
			n++
		}
	}
	return n
}

// SessionSize says whether a document fits as a session policy.
type SessionSize struct {
	Characters int  `json:"characters"` // as the document stands
	Compact    int  `json:"compact"`    // without white space between tokens
	Limit      int  `json:"limit"`
	Fits       bool `json:"fits"` // when sent compact
	// PackedPercent is an estimate of the PackedPolicySize that STS would answer. AWS does not
	// publish the packed format; this is the share of the limit that the document takes
	// when it is deflated. Session tags and policy ARNs of the call come on top.
	PackedPercent int    `json:"packed_percent"`
	Minified      []byte `json:"-"`
}

// SizeAsSession measures a parsed policy as a session policy.
func (p *Policy) SizeAsSession() SessionSize {
	var compact bytes.Buffer
	if err := json.Compact(&compact, p.source); err != nil {
		return SessionSize{Limit: sessionLimit} // cannot be: Parse has read it
	}
	var packed bytes.Buffer
	w, err := flate.NewWriter(&packed, flate.BestCompression)
	if err == nil {
		_, _ = w.Write(compact.Bytes()) // a bytes.Buffer takes everything
		_ = w.Close()
	}
	s := SessionSize{
		Characters:    utf8.RuneCount(p.source),
		Compact:       utf8.RuneCount(compact.Bytes()),
		Limit:         sessionLimit,
		PackedPercent: (packed.Len()*100 + sessionLimit - 1) / sessionLimit,
		Minified:      compact.Bytes(),
	}
	s.Fits = s.Compact <= sessionLimit
	return s
}

// checkSession finds what STS would refuse in the document as a session policy.
func (c *checker) checkSession() {
	size := c.policy.SizeAsSession()
	switch {
	case !size.Fits:
		c.add(SeverityError, "session-too-long", Position{1, 1}, "", fmt.Sprintf("a session policy may have %d characters; this one has %d, and %d without white space", size.Limit, size.Characters, size.Compact))
	case size.Characters > size.Limit:
		c.add(SeveritySuggestion, "session-whitespace", Position{1, 1}, "", fmt.Sprintf("the document has %d characters, and fits the %d of a session policy only without white space (%d)", size.Characters, size.Limit, size.Compact))
	}
	if size.PackedPercent > 80 {
		c.add(SeverityWarning, "session-packed-size", Position{1, 1}, "", fmt.Sprintf("the packed size may come near its limit (estimate %d %%): AssumeRole can answer PackedPolicyTooLarge, the more so with session tags", size.PackedPercent))
	}
	lines := newLines(c.policy.source)
	for off, r := range string(c.policy.source) {
		if r > 0xFF {
			c.add(SeverityError, "session-character", lines.at(off), "", fmt.Sprintf("STS takes characters up to U+00FF in a session policy, not %q; write it as \\u%04x", r, r))
			break
		}
	}
}
