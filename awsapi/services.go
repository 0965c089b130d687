package awsapi

import (
	"maps"
	"slices"
)

// fullDuplex are the signing names of services with operations that stream
// events in both directions, for which SDKs need HTTP/2: bedrock-runtime,
// connecthealth, lexv2-runtime, polly, qbusiness and transcribe-streaming.
var fullDuplex = map[string]bool{
	"bedrock": true, "health-agent": true, "lex": true, "polly": true, "qbusiness": true, "transcribe": true,
}

// NeedsHTTP2 reports whether the host serves operations that stream in both
// directions. HTTP/1.1 does for everything else, and keeps one slow stream from
// holding up others on its connection.
func (h Host) NeedsHTTP2() bool { return fullDuplex[h.Service] }

// Services returns every name by which a service may be recorded, sorted: the
// signing names and the model names of the host table. It is a closed set, fit
// for the values of a metric's label.
func Services() []string {
	seen := make(map[string]bool)
	for _, rows := range hostTable() {
		for _, r := range rows {
			seen[r.service] = true
			for _, m := range r.models {
				seen[m] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(seen))
}
