package rolesession

// Outcomes lists every outcome of a call to STS, for those who register metrics.
func Outcomes() []Outcome {
	out := []Outcome{OutcomeOK}
	for _, k := range []Kind{
		KindUnknownRole, KindSource, KindDenied, KindBadInput, KindRegionDisabled, KindThrottled, KindUnreachable, KindClosed,
	} {
		out = append(out, Outcome(k))
	}
	return out
}
