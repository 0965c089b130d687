package awsapi

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// ProtocolOf returns the protocol of a request from its head alone, for
// answers that are written before the call is understood.
func ProtocolOf(h Host, r *http.Request) Protocol {
	if slices.Contains(h.Models, "s3") {
		return ProtocolS3
	}
	if strings.EqualFold(r.Header.Get("Smithy-Protocol"), "rpc-v2-cbor") {
		return ProtocolCBOR
	}
	media := mediaType(r.Header.Get("Content-Type"))
	if media == targetCBOR && speaksTargetCBOR(h) {
		return ProtocolCBOR
	}
	var protocols []Protocol
	for _, name := range h.Models {
		if m := modelNamed(name); m != nil {
			protocols = append(protocols, m.protocols...)
		}
	}
	if r.Header.Get("X-Amz-Target") != "" || strings.HasPrefix(media, "application/x-amz-json-") {
		// Clients of a service that speaks XML alone would not understand JSON,
		// whatever they were made to send.
		if len(protocols) == 0 || slices.ContainsFunc(protocols, func(p Protocol) bool {
			return p != ProtocolQuery && p != ProtocolEC2 && p != ProtocolRESTXML
		}) {
			return ProtocolJSON
		}
	}
	form := media == "application/x-www-form-urlencoded"
	for _, p := range protocols {
		if (p == ProtocolQuery || p == ProtocolEC2) && (form || len(protocols) == 1 || r.Method == http.MethodGet) {
			return p
		}
	}
	if len(protocols) > 0 {
		return protocols[0]
	}
	// The service is not known: the host is none of the tables', or is still to be
	// told by a signature that could not be read. Signature Version 2 in its first
	// form is S3's alone.
	var query url.Values
	if r.URL != nil { // as it is in requests that were received
		query = r.URL.Query()
	}
	switch {
	case strings.HasPrefix(r.Header.Get("Authorization"), "AWS "), query.Has("AWSAccessKeyId") && query.Has("Expires"):
		return ProtocolS3
	case form, query.Has("Action"):
		return ProtocolQuery
	}
	return ProtocolRESTJSON
}

// targetCBOR is the content type of calls that are JSON calls in all but their
// encoding. The SDKs for Java speak so to Kinesis, and to nothing else.
const targetCBOR = "application/x-amz-cbor-1.1"

func speaksTargetCBOR(h Host) bool { return slices.Contains(h.Models, "kinesis") }

// mediaType returns the type of a Content-Type header, in lower case, without parameters.
func mediaType(contentType string) string {
	t, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(t))
}
