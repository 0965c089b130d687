package signer

import (
	"bytes"
	"io"
	"testing"
)

// Bodies that no signature covers pass byte for byte.
func TestUnsignedBodies(t *testing.T) {
	const chunks = "5\r\nhello\r\n6\r\n world\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
	for _, tt := range []struct {
		name, hash, body, decoded, label string
		bufferErr                        Reason
	}{
		{"UNSIGNED-PAYLOAD", "UNSIGNED-PAYLOAD", "anything", "anything", "header-unsigned", ""},
		{"trailer", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", chunks, "hello world", "header-unsigned-trailer", ""},
		{"broken framing", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "7\r\nhello\r\n0\r\n\r\n", "", "header-unsigned-trailer", ReasonChunk},
		{"other length", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "5\r\nhello\r\n0\r\n\r\n", "", "header-unsigned-trailer", ReasonChunk},
	} {
		for _, buffered := range []bool{false, true} {
			t.Run(tt.name, func(t *testing.T) {
				r := signed(t, "PUT", "/k", headers("X-Amz-Decoded-Content-Length", "11"), []byte(tt.body), SignOptions{Service: "s3", PayloadHash: tt.hash})
				v := mustVerify(t, r, clientCreds, testNow)
				if got := v.Signature().Label(); got != tt.label {
					t.Errorf("label %q, want %q", got, tt.label)
				}
				if buffered {
					got, err := v.Buffer(0)
					if tt.bufferErr != "" {
						wantReason(t, err, tt.bufferErr)
						return
					}
					if err != nil || string(got) != tt.decoded {
						t.Fatalf("%q, %v", got, err)
					}
				}
				out := mustResign(t, r, v, roleCreds, laterNow)
				got := readAll(t, out.Body)
				if string(got) != tt.body || out.ContentLength != int64(len(tt.body)) {
					t.Errorf("%q, length %d", got, out.ContentLength)
				}
				again := outgoing(out)
				again.Body = io.NopCloser(bytes.NewReader(got))
				mustVerify(t, arrive(again), roleCreds, laterNow)
			})
		}
	}
}

func TestEventsAndFormsCannotBeBuffered(t *testing.T) {
	r, wire, _ := eventWire(t)
	r.Body = io.NopCloser(bytes.NewReader(wire))
	_, err := mustVerify(t, r, clientCreds, testNow).Buffer(0)
	wantReason(t, err, ReasonUnsupported)
	v, err := verifyPost(t, newPostClient().request(t), clientCreds, testNow)
	if err != nil {
		t.Fatal(err)
	}
	_, err = v.Buffer(0)
	wantReason(t, err, ReasonUnsupported)
}
