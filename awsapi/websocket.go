package awsapi

import (
	"net/http"
	"strings"
)

// webSockets are operations that begin with a presigned GET and an upgrade. No
// model has them; Amazon Transcribe developer guide, "Setting up a WebSocket
// stream", has the paths, and the Service Authorization Reference the actions.
var webSockets = map[string]string{
	"/stream-transcription-websocket":                "StartStreamTranscriptionWebSocket",
	"/medical-stream-transcription-websocket":        "StartMedicalStreamTranscriptionWebSocket",
	"/call-analytics-stream-transcription-websocket": "StartCallAnalyticsStreamTranscriptionWebSocket",
}

// identifyWebSocket fills c in for such a request.
func identifyWebSocket(c *Call, in Input) bool {
	r := in.Request
	if in.Host.Service != "transcribe" || r.Method != http.MethodGet || !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return false
	}
	path, _, _ := strings.Cut(r.RequestURI, "?")
	op, ok := webSockets[path]
	if !ok {
		return false
	}
	action, ok := LookupAction("transcribe:" + op)
	if !ok {
		return false
	}
	c.Service, c.Operation, c.AccessLevel = "transcribe", op, action.AccessLevel
	c.Needs = []Need{{Action: action.Name, Resources: []string{"*"}}}
	c.Conditions = make(map[string][]string)
	c.headConditions(r)
	for _, key := range openKeysOf(action) {
		c.addUnknown(key)
	}
	return true
}
