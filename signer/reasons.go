package signer

// Reasons lists every reason, for those who register metrics.
func Reasons() []Reason {
	return []Reason{
		ReasonMalformed, ReasonUnsupported, ReasonAmbiguous, ReasonNotSigned, ReasonHopHeader, ReasonScope,
		ReasonSkewed, ReasonExpired, ReasonToken, ReasonSignature, ReasonPayload, ReasonChunk, ReasonChunkSig,
		ReasonIncomplete, ReasonTooLarge, ReasonNoMemory, ReasonChanged, ReasonUnresignable,
	}
}
