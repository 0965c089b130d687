package signer

import "iter"

// maxForms is the number of ways in which one request can be canonicalised:
// paths × queries × white space × position of the token.
const maxForms = 2 * 3 * 2 * 2

// candidates yields the ways of making the canonical request for a service,
// the documented one first.
func (m *message) candidates(sig *Signature) iter.Seq[forms] {
	return func(yield func(forms) bool) {
		paths := [2]pathForm{pathNormal, pathDouble}
		if s3Family(sig.Service) {
			paths = [2]pathForm{pathRaw, pathSingle}
		}
		queries := [...]queryForm{queryEncoded, querySorted, queryVerbatim}
		drops := [2]bool{false, true}
		// IoT's WebSocket endpoint wants the token added after signing.
		if sig.Service == "iotdevicegateway" {
			drops = [2]bool{true, false}
		}
		for _, drop := range drops {
			if drop && (sig.Form != FormQuery || sig.tokenIn != tokenParam) {
				continue
			}
			for _, tabs := range [...]bool{false, true} {
				for _, q := range queries {
					for _, p := range paths {
						if !yield(forms{path: p, query: q, tabs: tabs, dropToken: drop}) {
							return
						}
					}
				}
			}
		}
	}
}
