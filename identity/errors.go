package identity

// Reason says why credentials were not accepted. The set is closed, so that a
// reason can be a metric's label.
type Reason string

// The reasons.
const (
	ReasonUnknownKey      Reason = "unknown_key"      // no such access key id
	ReasonRealKey         Reason = "real_key"         // an access key id that AWS issued
	ReasonTokenMissing    Reason = "token_missing"    // a minted key without its session token
	ReasonTokenUnexpected Reason = "token_unexpected" // a static key with a session token
	ReasonBadToken        Reason = "bad_token"        // forged, cut, foreign, or of another key
	ReasonExpired         Reason = "expired"
	ReasonRevoked         Reason = "revoked"
	ReasonUnavailable     Reason = "unavailable" // the revocations cannot be read
	ReasonPassword        Reason = "password"    // not the secret of the key; only Authenticate says this
)

// Error says why credentials were not accepted. Its message is for the person
// who reads the client's error; it holds no secret, no token, and of a real
// access key id only the ends.
type Error struct {
	Reason      Reason
	AccessKeyID string // as [Mask] leaves it
	Identity    string // whose credentials, where an authentic token or the table said so
	Message     string
}

func (e *Error) Error() string { return e.Message }
