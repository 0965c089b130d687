package awsapi

import (
	"net/http"
	"reflect"
	"testing"
)

func TestIdentifyWebSocket(t *testing.T) {
	host, verdict := LookupHost("transcribestreaming.eu-west-1.amazonaws.com")
	if verdict != HostAPI {
		t.Fatalf("%+v, %v", host, verdict)
	}
	for _, tt := range []struct{ method, target, upgrade, operation, action string }{
		{"GET", "/stream-transcription-websocket?language-code=en-US", "websocket", "StartStreamTranscriptionWebSocket", "transcribe:StartStreamTranscriptionWebSocket"},
		{"GET", "/medical-stream-transcription-websocket", "WebSocket", "StartMedicalStreamTranscriptionWebSocket", "transcribe:StartMedicalStreamTranscriptionWebSocket"},
		{"GET", "/stream-transcription-websocket", "", "", ""},
		{"POST", "/stream-transcription-websocket", "websocket", "", ""},
		{"GET", "/stream-transcription-websocket/more", "websocket", "", ""},
	} {
		r := &http.Request{Method: tt.method, RequestURI: tt.target, Header: http.Header{"Referer": {"https://example.com/"}}}
		if tt.upgrade != "" {
			r.Header.Set("Upgrade", tt.upgrade)
		}
		c := Identify(Input{Host: host, Request: r, Body: []byte{}})
		action := ""
		if len(c.Needs) > 0 {
			action = c.Needs[0].Action
		}
		if c.Operation != tt.operation || action != tt.action || (c.Unknown == "") != (tt.operation != "") {
			t.Errorf("%s %s: %q %q (%s)", tt.method, tt.target, c.Operation, action, c.Unknown)
		}
		if want := []string{"https://example.com/"}; c.Unknown == "" && !reflect.DeepEqual(c.Conditions["aws:referer"], want) {
			t.Errorf("%s %s: a policy does not see the Referer: %v", tt.method, tt.target, c.Conditions)
		}
	}
}
