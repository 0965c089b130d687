package signer

import (
	"bytes"
	"fmt"
	"strconv"
	"testing"
)

// Some SDKs send STREAMING-UNSIGNED-PAYLOAD-TRAILER as one chunk. The limit of
// chunks is for those whose signature precedes them, so it does not hold here; that
// of bodies does.
func TestUnsignedChunksAboveTheLimitOfSignedOnes(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 3<<20/16)
	body := fmt.Appendf(nil, "%x\r\n%s\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n", len(data), data)
	for _, tt := range []struct {
		name      string
		body      []byte
		bodyLimit int64
		reason    Reason
	}{
		{"one chunk of 3 MiB", body, 0, ""},
		{"a body above its limit", body, 2 << 20, ReasonTooLarge},
		{"a size above the body", append([]byte("ffffffff\r\n"), body[8:]...), 0, ReasonTooLarge},
		{"one that announces more than comes", append([]byte("300001\r\n"), body[8:]...), 0, ReasonChunk},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := signed(t, "POST", "/?delete", headers("X-Amz-Decoded-Content-Length", strconv.Itoa(len(data))), tt.body,
				SignOptions{Service: "s3", PayloadHash: "STREAMING-UNSIGNED-PAYLOAD-TRAILER"})
			v := mustVerify(t, r, clientCreds, testNow)
			got, err := v.Buffer(tt.bodyLimit)
			if tt.reason != "" {
				wantReason(t, err, tt.reason)
				return
			}
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
			out := mustResign(t, r, v, roleCreds, laterNow)
			if sent := readAll(t, out.Body); !bytes.Equal(sent, body) {
				t.Errorf("%d bytes go out, want those %d that came", len(sent), len(body))
			}
		})
	}
}
