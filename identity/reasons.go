package identity

// Reasons lists every reason, for those who register metrics.
func Reasons() []Reason {
	return []Reason{
		ReasonUnknownKey, ReasonRealKey, ReasonTokenMissing, ReasonTokenUnexpected,
		ReasonBadToken, ReasonExpired, ReasonRevoked, ReasonUnavailable,
	}
}
