package signer

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream"
	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream/eventstreamapi"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// An eventClient signs events with the SDK's own encoder and stream signer.
type eventClient struct {
	signer *v4.StreamSigner
	now    func() time.Time
}

func eventRequest(t testing.TB, creds aws.Credentials, now time.Time, url string, body io.Reader) (*http.Request, *eventClient) {
	t.Helper()
	r, err := http.NewRequest("POST", url, body)
	if err != nil {
		t.Fatal(err)
	}
	const word = "STREAMING-AWS4-HMAC-SHA256-EVENTS"
	r.Header.Set("X-Amz-Content-Sha256", word)
	r.Header.Set("Content-Type", "application/vnd.amazon.eventstream")
	if err := v4.NewSigner().SignHTTP(context.Background(), creds, r, word, "transcribe", "us-east-1", now); err != nil {
		t.Fatal(err)
	}
	return r, &eventClient{signer: streamSigner(t, creds, r), now: at(now)}
}

func streamSigner(t testing.TB, creds aws.Credentials, r *http.Request) *v4.StreamSigner {
	t.Helper()
	_, seed, _ := strings.Cut(r.Header.Get("Authorization"), "Signature=")
	raw, err := hex.DecodeString(seed)
	if err != nil {
		t.Fatal(err)
	}
	return v4.NewStreamSigner(creds, "transcribe", "us-east-1", raw)
}

// frame encodes and signs one event.
func (c *eventClient) frame(t testing.TB, payload []byte) []byte {
	t.Helper()
	var msg eventstream.Message
	date := c.now()
	msg.Headers.Set(eventstreamapi.DateHeader, eventstream.TimestampValue(date))
	msg.Payload = payload
	var headers, out bytes.Buffer
	if err := eventstream.EncodeHeaders(&headers, msg.Headers); err != nil {
		t.Fatal(err)
	}
	sig, err := c.signer.GetSignature(context.Background(), headers.Bytes(), payload, date)
	if err != nil {
		t.Fatal(err)
	}
	msg.Headers.Set(eventstreamapi.ChunkSignatureHeader, eventstream.BytesValue(sig))
	if err := eventstream.NewEncoder().Encode(&out, msg); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// checkFrame decodes an event as a service would, and verifies it.
func checkFrame(s *v4.StreamSigner, r io.Reader) (payload []byte, err error) {
	msg, err := eventstream.NewDecoder().Decode(r, nil)
	if err != nil {
		return nil, err
	}
	date := msg.Headers.Get(eventstreamapi.DateHeader).(eventstream.TimestampValue)
	want := []byte(msg.Headers.Get(eventstreamapi.ChunkSignatureHeader).(eventstream.BytesValue))
	var h eventstream.Headers
	h.Set(eventstreamapi.DateHeader, date)
	var headers bytes.Buffer
	if err := eventstream.EncodeHeaders(&headers, h); err != nil {
		return nil, err
	}
	got, err := s.GetSignature(context.Background(), headers.Bytes(), msg.Payload, time.Time(date))
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(got, want) {
		return nil, errors.New("wrong event signature")
	}
	return msg.Payload, nil
}

// eventWire is a whole stream: two events, a large one, and the closing one.
func eventWire(t testing.TB) (*http.Request, []byte, [][]byte) {
	r, c := eventRequest(t, clientCreds, testNow, "https://transcribestreaming.us-east-1.amazonaws.com/stream", nil)
	payloads := [][]byte{[]byte("one"), []byte("two"), bytes.Repeat([]byte("x"), 200_000), nil}
	var wire []byte
	for _, p := range payloads {
		wire = append(wire, c.frame(t, p)...)
	}
	r.ContentLength = -1
	return arrive(r), wire, payloads
}

func TestEventsAreSignedAgain(t *testing.T) {
	r, wire, payloads := eventWire(t)
	for name, src := range map[string]io.Reader{"whole": bytes.NewReader(wire), "byte by byte": iotest.OneByteReader(bytes.NewReader(wire))} {
		t.Run(name, func(t *testing.T) {
			r.Body = io.NopCloser(src)
			v := mustVerify(t, r, clientCreds, testNow)
			if got := v.Signature().Label(); got != "header-events" {
				t.Errorf("label %q", got)
			}
			out := mustResign(t, r, v, roleCreds, laterNow)
			got := readAll(t, out.Body)
			if err := v.BodyErr(); err != nil {
				t.Fatal(err)
			}
			if len(got) != len(wire) {
				t.Errorf("%d bytes went out, %d came in", len(got), len(wire))
			}
			check := streamSigner(t, roleCreds, out)
			rest := bytes.NewReader(got)
			for i, want := range payloads {
				payload, err := checkFrame(check, rest)
				if err != nil || !bytes.Equal(payload, want) {
					t.Fatalf("event %d: %d bytes, %v", i, len(payload), err)
				}
			}
		})
	}
}

// A stream across midnight: the scope of an event is that of its own date.
func TestEventsAcrossMidnight(t *testing.T) {
	late := time.Date(2026, 3, 4, 23, 59, 59, 0, time.UTC)
	r, c := eventRequest(t, clientCreds, late, "https://transcribestreaming.us-east-1.amazonaws.com/stream", nil)
	first := c.frame(t, []byte("today"))
	clock := late
	c.now = func() time.Time { return late.Add(2 * time.Second) }
	wire := append(append(first, c.frame(t, []byte("tomorrow"))...), c.frame(t, nil)...)
	r.ContentLength = -1
	r = arrive(r)
	r.Body = io.NopCloser(bytes.NewReader(wire))
	now := func() time.Time { clock = clock.Add(500 * time.Millisecond); return clock }
	v, err := parseAndVerify(r, clientCreds, VerifyOptions{Now: now, Keys: &Keys{}})
	if err != nil {
		t.Fatal(err)
	}
	out := outgoing(r)
	if err := Resign(out, v, roleCreds, ResignOptions{Now: now, Keys: &Keys{}}); err != nil {
		t.Fatal(err)
	}
	check := streamSigner(t, roleCreds, out)
	for _, want := range []string{"today", "tomorrow", ""} {
		if payload, err := checkFrame(check, out.Body); err != nil || string(payload) != want {
			t.Fatalf("%q, %v; want %q", payload, err, want)
		}
	}
}

func transferEvents(t *testing.T, r *http.Request, wire []byte, opt VerifyOptions) ([]byte, error) {
	t.Helper()
	r.Body = io.NopCloser(bytes.NewReader(wire))
	opt.Now = at(testNow)
	v, err := parseAndVerify(r, clientCreds, opt)
	if err != nil {
		t.Fatal(err)
	}
	out := outgoing(r)
	if err := Resign(out, v, roleCreds, ResignOptions{Now: at(laterNow), Keys: opt.Keys}); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(out.Body)
	if (err == nil) != (v.BodyErr() == nil) {
		t.Fatalf("Read says %v, BodyErr says %v", err, v.BodyErr())
	}
	return got, err
}

func TestAlteredEventsAreRefused(t *testing.T) {
	r, c := eventRequest(t, clientCreds, testNow, "https://transcribestreaming.us-east-1.amazonaws.com/stream", nil)
	r.ContentLength = -1
	r = arrive(r)
	a, b, end := c.frame(t, []byte("a")), c.frame(t, []byte("b")), c.frame(t, nil)
	wire := bytes.Join([][]byte{a, b, end}, nil)
	opt := VerifyOptions{Keys: &Keys{}}
	if _, err := transferEvents(t, r, wire, opt); err != nil {
		t.Fatal(err)
	}
	for i := range wire {
		for bit := range 8 {
			bad := bytes.Clone(wire)
			bad[i] ^= 1 << bit
			got, err := transferEvents(t, r, bad, opt)
			if err == nil {
				t.Fatalf("bit %d of byte %d changed and passed", bit, i)
			}
			if len(got) > (i/len(a))*len(a) {
				t.Fatalf("byte %d changed, and %d bytes went out", i, len(got))
			}
		}
		if _, err := transferEvents(t, r, wire[:i], opt); err == nil {
			t.Fatalf("cut at %d and passed", i)
		}
	}
	for name, bad := range map[string][][]byte{
		"swapped": {b, a, end}, "repeated": {a, a, b, end}, "left out": {b, end},
		"goes on after its end": {a, b, end, end}, "without end": {a, b},
	} {
		if _, err := transferEvents(t, r, bytes.Join(bad, nil), opt); err == nil {
			t.Errorf("%s: passed", name)
		}
	}
}

// A CRC that is right does not replace a signature that is right.
func TestForgedEventWithRightCRC(t *testing.T) {
	r, c := eventRequest(t, clientCreds, testNow, "https://transcribestreaming.us-east-1.amazonaws.com/stream", nil)
	r.ContentLength = -1
	r = arrive(r)
	frame := c.frame(t, []byte("a"))
	e := event{frame: frame}
	frame[frameHead] = 'b'
	e.seal()
	_, err := transferEvents(t, r, frame, VerifyOptions{})
	wantReason(t, err, ReasonChunkSig)

	c.now = at(testNow.Add(-16 * time.Minute))
	c.signer = streamSigner(t, clientCreds, r)
	_, err = transferEvents(t, r, c.frame(t, []byte("a")), VerifyOptions{})
	wantReason(t, err, ReasonSkewed)
}

func TestEventLimit(t *testing.T) {
	r, wire, _ := eventWire(t)
	_, err := transferEvents(t, r, wire, VerifyOptions{EventLimit: 199_999})
	wantReason(t, err, ReasonTooLarge)
	if _, err = transferEvents(t, r, wire, VerifyOptions{EventLimit: 200_000}); err != nil {
		t.Error(err)
	}
	// Only announced: 16 MiB and nothing behind it must not take 16 MiB.
	e := newFrame(nil)
	e.frame[1] = 0x80
	e.seal()
	_, err = transferEvents(t, r, e.frame, VerifyOptions{})
	wantReason(t, err, ReasonIncomplete)
}

// Both directions at once over HTTP/2: the upstream echoes every event before
// the next one is sent, so any holding back would never end.
func TestEventsBothWaysOverHTTP2(t *testing.T) {
	upstreamErr := make(chan error, 1)
	upstream := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		upstreamErr <- echoEvents(t, w, r)
	}))
	upstream.EnableHTTP2 = true
	upstream.StartTLS()
	defer upstream.Close()

	proxyErr := make(chan error, 1)
	proxy := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proxyErr <- passEvents(w, r, upstream)
	}))
	proxy.EnableHTTP2 = true
	proxy.StartTLS()
	defer proxy.Close()

	pr, pw := io.Pipe()
	r, c := eventRequest(t, clientCreds, time.Now(), proxy.URL+"/stream", pr)
	c.now = time.Now
	res, err := proxy.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.ProtoMajor != 2 {
		t.Fatalf("spoke %s", res.Proto)
	}
	for i := range 5 {
		want := fmt.Sprintf("event %d", i)
		if _, err := pw.Write(c.frame(t, []byte(want))); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(want))
		if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != want {
			t.Fatalf("echo %q, %v; want %q", got, err, want)
		}
	}
	// The client closes its half; the answer goes on to its own end.
	if _, err := pw.Write(c.frame(t, nil)); err != nil {
		t.Fatal(err)
	}
	pw.Close()
	if rest := readAll(t, res.Body); string(rest) != "bye" {
		t.Errorf("after the end: %q", rest)
	}
	if err := <-upstreamErr; err != nil {
		t.Error("upstream:", err)
	}
	if err := <-proxyErr; err != nil {
		t.Error("proxy:", err)
	}
}

// echoEvents verifies every event with the SDK and sends its payload back.
func echoEvents(t *testing.T, w http.ResponseWriter, r *http.Request) error {
	check := streamSigner(t, roleCreds, r)
	flush := http.NewResponseController(w)
	w.WriteHeader(http.StatusOK)
	if err := flush.Flush(); err != nil {
		return err
	}
	for {
		payload, err := checkFrame(check, r.Body)
		if err != nil {
			return err
		}
		if len(payload) == 0 {
			_, err := r.Body.Read(make([]byte, 1))
			if err != io.EOF {
				return fmt.Errorf("after the closing event: %v", err)
			}
			io.WriteString(w, "bye")
			return nil
		}
		w.Write(payload)
		if err := flush.Flush(); err != nil {
			return err
		}
	}
}

// passEvents is the least of a proxy.
func passEvents(w http.ResponseWriter, r *http.Request, upstream *httptest.Server) error {
	sig, err := Parse(r)
	if err != nil {
		return err
	}
	v, err := Verify(r, sig, secretOf(clientCreds), VerifyOptions{})
	if err != nil {
		return err
	}
	out := outgoing(r)
	out.URL.Scheme, out.URL.Host = "https", strings.TrimPrefix(upstream.URL, "https://")
	if err := Resign(out, v, roleCreds, ResignOptions{}); err != nil {
		return err
	}
	res, err := upstream.Client().Transport.RoundTrip(out)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	w.WriteHeader(res.StatusCode)
	flush := http.NewResponseController(w)
	flush.Flush()
	buf := make([]byte, 100)
	for {
		n, err := res.Body.Read(buf)
		w.Write(buf[:n])
		flush.Flush()
		if err == io.EOF {
			return v.BodyErr()
		}
		if err != nil {
			return err
		}
	}
}
