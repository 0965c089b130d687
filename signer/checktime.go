package signer

import "time"

// CheckTime refuses a signature that is not of now: one made more than skew
// away (zero means [DefaultSkew]), a presigned URL after its end or more than
// skew before its beginning, a POST policy after its expiration. It needs no
// key and no body. [Verify] does the same again.
func CheckTime(sig *Signature, now time.Time, skew time.Duration) error {
	if err := checkTime(sig, now, skew); err != nil {
		return err
	}
	return nil
}

func checkTime(sig *Signature, now time.Time, skew time.Duration) *Error {
	if skew == 0 {
		skew = DefaultSkew
	}
	ahead := sig.Time.Sub(now)
	if ahead > skew {
		return refuse(ReasonSkewed, "the request's time, %s, is more than %s ahead of this machine's, %s; correct the clock that is wrong",
			sig.Time.Format(timeFormat), skew, now.UTC().Format(timeFormat))
	}
	switch {
	case sig.Form == FormPost || sig.Form == FormQuery && sig.Expires > 0:
		if end := sig.Time.Add(sig.Expires); !now.Before(end.Add(time.Nanosecond)) {
			return refuse(ReasonExpired, "the request expired at %s; it is now %s here", end.Format(timeFormat), now.UTC().Format(timeFormat))
		}
	case -ahead > skew:
		return refuse(ReasonSkewed, "the request's time, %s, is more than %s behind this machine's, %s; correct the clock that is wrong, or sign again",
			sig.Time.Format(timeFormat), skew, now.UTC().Format(timeFormat))
	}
	return nil
}
