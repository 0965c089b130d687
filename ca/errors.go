package ca

import "strings"

// Reason says in one word why a folder, a name or a file was refused. The set
// is closed: callers may switch on it and use it as a metric label.
type Reason string

const (
	Missing    Reason = "missing"    // there is no authority in the folder
	Exists     Reason = "exists"     // there is one already, and Create was asked for another
	Exposed    Reason = "exposed"    // permissions or owner let others read or change it
	Damaged    Reason = "damaged"    // the file cannot be understood, or its parts do not belong together
	Unbounded  Reason = "unbounded"  // the intermediate lacks the constraints that make it harmless
	Expired    Reason = "expired"    // past the end of validity
	NotYet     Reason = "not yet"    // before its start: the clock is wrong, or a rotation is not over
	Outside    Reason = "outside"    // the host name is not covered by the permitted suffixes
	BadName    Reason = "bad name"   // not a host name at all
	BadOption  Reason = "bad option" // a lifetime, an overlap or a combination that is not possible
	BadSuffix  Reason = "bad suffix" // a suffix that no authority should be permitted
	BadTrust   Reason = "bad trust"  // a file that the environment names as trusted cannot be used
	Unwritable Reason = "unwritable" // the folder cannot be written
	Unreadable Reason = "unreadable" // the folder or file cannot be read
	Encoding   Reason = "encoding"   // a trust store could not be encoded
	Unissued   Reason = "not issued" // the system's cryptography failed
)

// Error is the only error type of this package. Its text says what happened
// and how to mend it, and never holds key material.
type Error struct {
	Reason Reason
	Path   string // file or folder concerned; "" for none
	Host   string // host name or suffix concerned; "" for none
	What   string // what happened
	Mend   string // what a person can do about it; "" when nothing is known
	Err    error  // cause, may be nil
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("certificate authority")
	if e.Path != "" {
		b.WriteString(" " + e.Path)
	}
	b.WriteString(": " + e.What)
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	if e.Mend != "" {
		b.WriteString("; " + e.Mend)
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }
