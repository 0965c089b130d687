package signer

import (
	"bufio"
	"bytes"
	"io"
	"strings"
	"testing"
)

// What is announced takes no memory; what arrives does, one chunk at a time.
func TestBuffersGrowWithWhatArrives(t *testing.T) {
	for _, tt := range []struct {
		name   string
		sizes  []int
		cut    int // bytes of data that arrive of the last chunk
		atMost int
	}{
		{"announced only", []int{1 << 20}, 0, chunkHead + chunkStep + 2},
		{"a tenth of it arrives", []int{1 << 20}, 100 << 10, 2 * (chunkHead + chunkStep + 2)},
		{"many chunks", []int{64 << 10, 64 << 10, 64 << 10, 64 << 10}, 64 << 10, chunkHead + chunkStep + 2},
		{"the largest chunk", []int{1 << 20}, 1 << 20, chunkHead + 1<<20 + 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := chunkClient{creds: clientCreds, sizes: tt.sizes}
			c.build(t)
			v := mustVerify(t, c.r, clientCreds, testNow)
			last := bytes.LastIndex(c.wire[:len(c.wire)-90], []byte("\r\n"+string(rune('a'+len(tt.sizes)-1)))) + 2
			r := v.newChunkReader(bytes.NewReader(c.wire[:last+tt.cut]))
			r.buf = make([]byte, chunkHead+chunkStep+2) // not one from the pool, which may be larger
			var ch chunk
			for {
				if err := r.next(&ch); err != nil {
					wantReason(t, err, ReasonIncomplete)
					break
				}
			}
			if len(r.buf) > tt.atMost {
				t.Errorf("a buffer of %d bytes, want at most %d", len(r.buf), tt.atMost)
			}
		})
	}
	e := newFrame(nil)
	e.frame[1] = 0x80 // 8 MiB
	e.seal()
	r := eventReader{src: bufio.NewReader(bytes.NewReader(e.frame)), limit: DefaultEventLimit}
	if err := r.next(&event{}); err == nil || len(r.buf) > eventStep {
		t.Errorf("a buffer of %d bytes for an event that did not come, %v", len(r.buf), err)
	}
}

// A body of unknown size is reserved as it comes, and never beyond the limit.
func TestReserveFollowsTheBody(t *testing.T) {
	r := signed(t, "POST", "/", nil, []byte("x"), SignOptions{})
	r.ContentLength = -1
	r.Body = io.NopCloser(strings.NewReader(strings.Repeat("x", 5000)))
	var asked []int64
	_, err := parseAndVerify(r, clientCreds, VerifyOptions{Now: at(testNow), BodyLimit: 2000, Reserve: func(n int64) error {
		asked = append(asked, n)
		return nil
	}})
	wantReason(t, err, ReasonTooLarge)
	sum := int64(0)
	for _, n := range asked {
		if n <= 0 {
			t.Errorf("asked for %d bytes", n)
		}
		sum += n
	}
	if sum > 2001 {
		t.Errorf("asked for %v, %d bytes in all, with a limit of 2000", asked, sum)
	}
}
