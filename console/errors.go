package console

// Kind says why nobody was signed in. The set is closed.
type Kind string

// The kinds.
const (
	KindPartition   Kind = "partition"   // no console sign-in in the role's partition
	KindDestination Kind = "destination" // not a page of the console
	KindNotGranted  Kind = "not granted" // the person may not use the role
	KindLimits      Kind = "limits"      // AWS could not be told the role's limits
	KindLongTerm    Kind = "long-term"   // long-term keys, which cannot sign in by themselves
	KindSession     Kind = "session"     // no role session; the cause says why
	KindRefused     Kind = "refused"     // AWS's sign-in endpoint refused
	KindUnreachable Kind = "unreachable" // it did not answer
	KindRecord      Kind = "record"      // the audit record cannot be written
	KindRate        Kind = "rate"        // too many in too short a time
)

// Error says why nobody was signed in, and what to do. It holds no secret.
type Error struct {
	Kind    Kind
	Message string
	Err     error // cause, or nil
}

func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
