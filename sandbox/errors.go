package sandbox

import (
	"encoding/json"
	"encoding/xml"
	"net/http"
	"strings"
)

// apiError is an error in AWS's words.
type apiError struct {
	status        int
	code, message string
}

func (e *apiError) Error() string { return e.code + ": " + e.message }

// writeError answers in the shape of the protocol that the client speaks.
func writeError(w http.ResponseWriter, c *call, e *apiError) {
	code := e.code
	switch {
	case c.Header.Get("X-Amz-Target") != "" || strings.HasPrefix(c.Header.Get("Content-Type"), "application/x-amz-json"):
		switch code { // names of the JSON protocols
		case "InvalidClientTokenId":
			code = "UnrecognizedClientException"
		case "SignatureDoesNotMatch", "RequestTimeTooSkewed":
			code = "InvalidSignatureException"
		case "ExpiredToken", "AccessDenied", "MissingAuthenticationToken", "IncompleteSignature":
			code += "Exception"
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		w.WriteHeader(e.status)
		// The client that is gone needs no answer.
		_ = json.NewEncoder(w).Encode(map[string]string{"__type": "com.amazon.coral.service#" + code, "message": e.message})
	case c.record.Service == "s3":
		if code == "InvalidClientTokenId" {
			code = "InvalidAccessKeyId"
		}
		w.Header().Set("x-amz-request-id", c.id)
		writeXML(w, c, e.status, struct {
			XMLName   xml.Name `xml:"Error"`
			Code      string
			Message   string
			RequestID string `xml:"RequestId"`
			HostID    string `xml:"HostId"`
		}{Code: code, Message: e.message, RequestID: c.id, HostID: "sandbox"})
	default:
		type detail struct{ Type, Code, Message string }
		writeXML(w, c, e.status, struct {
			XMLName   xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ ErrorResponse"`
			Error     detail
			RequestID string `xml:"RequestId"`
		}{Error: detail{"Sender", code, e.message}, RequestID: c.id})
	}
}

func writeXML(w http.ResponseWriter, c *call, status int, v any) {
	b, err := xml.Marshal(v)
	if err != nil { // the values are ours
		status, b = http.StatusInternalServerError, nil
	}
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	if c.Method != http.MethodHead {
		w.Write(append([]byte(xml.Header), b...))
	}
}
