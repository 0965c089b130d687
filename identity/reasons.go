package identity

// Reasons lists every reason of Lookup, for those who register metrics.
// Authenticate has ReasonPassword beside them.
func Reasons() []Reason {
	return []Reason{
		ReasonUnknownKey, ReasonRealKey, ReasonTokenMissing, ReasonTokenUnexpected,
		ReasonBadToken, ReasonExpired, ReasonRevoked, ReasonUnavailable,
	}
}
