package e2e

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream"
	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream/eventstreamapi"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime/types"
)

// An eventServer answers every event with the same event, at once, and verifies
// each with the SDK's stream signer. When the client has closed its side, it has
// one more to say.
type eventServer struct {
	*standIn
	mu     sync.Mutex
	heads  []arrival
	inner  [][]byte // the events that arrived, unwrapped
	frames [][]byte // and as they were on the wire
	closed bool     // by an empty event, and then the end
	ended  chan error
}

const lastWord = `{"bytes":"bGFzdCB3b3Jk"}` // "last word"

func startEvents(t *testing.T) *eventServer {
	t.Helper()
	e := &eventServer{ended: make(chan error, 16)}
	e.standIn = standFor(t, func(w http.ResponseWriter, r *http.Request) {
		err := e.converse(w, r)
		e.ended <- err
		if err != nil {
			panic(http.ErrAbortHandler)
		}
	}, "h2", "http/1.1")
	return e
}

func (e *eventServer) converse(w http.ResponseWriter, r *http.Request) error {
	a := arrival{Method: r.Method, Host: r.Host, Target: r.RequestURI, Proto: r.Proto, Header: r.Header.Clone(), Length: r.ContentLength}
	head, err := e.verify(&a, "X-Amz-Security-Token")
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.heads = append(e.heads, a)
	e.mu.Unlock()
	seed, err := hex.DecodeString(head.hex)
	if err != nil {
		return err
	}
	signer := v4.NewStreamSigner(head.keys, head.service, head.region, seed)
	w.Header().Set("Content-Type", "application/vnd.amazon.eventstream")
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	say := func(payload []byte) error {
		var m eventstream.Message
		m.Headers.Set(":message-type", eventstream.StringValue("event"))
		m.Headers.Set(":event-type", eventstream.StringValue("chunk"))
		m.Headers.Set(":content-type", eventstream.StringValue("application/json"))
		m.Payload = payload
		err := eventstream.NewEncoder().Encode(w, m)
		w.(http.Flusher).Flush()
		return err
	}
	for {
		var wire bytes.Buffer
		m, err := eventstream.NewDecoder().Decode(io.TeeReader(r.Body, &wire), nil)
		if err != nil {
			return fmt.Errorf("reading an event: %w", err)
		}
		date, _ := m.Headers.Get(eventstreamapi.DateHeader).(eventstream.TimestampValue)
		signature, _ := m.Headers.Get(eventstreamapi.ChunkSignatureHeader).(eventstream.BytesValue)
		if d := time.Since(time.Time(date)); d > time.Minute || d < -time.Minute {
			return fmt.Errorf("an event of %s", time.Time(date))
		}
		var signed bytes.Buffer
		if err := eventstream.EncodeHeaders(&signed, eventstream.Headers{{Name: eventstreamapi.DateHeader, Value: date}}); err != nil {
			return err
		}
		want, err := signer.GetSignature(context.Background(), signed.Bytes(), m.Payload, time.Time(date))
		if err != nil {
			return err
		}
		if !bytes.Equal(want, signature) {
			return errors.New("the signature of an event is wrong")
		}
		e.mu.Lock()
		e.frames = append(e.frames, wire.Bytes())
		e.mu.Unlock()
		if len(m.Payload) == 0 {
			break
		}
		in, err := eventstream.NewDecoder().Decode(bytes.NewReader(m.Payload), nil)
		if err != nil {
			return err
		}
		e.mu.Lock()
		e.inner = append(e.inner, slices.Clone(m.Payload))
		e.mu.Unlock()
		if err := say(in.Payload); err != nil {
			return err
		}
	}
	if n, err := io.Copy(io.Discard, r.Body); n != 0 || err != nil {
		return fmt.Errorf("%d bytes after the closing event, %v", n, err)
	}
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	return say([]byte(lastWord))
}

// Both directions at once, by an SDK, over HTTP/2: an answer comes to every event
// before the next is sent, each event is verified on the other side, and the client
// may close its side and go on listening.
func TestEventStreamsBothWays(t *testing.T) {
	e := startEvents(t)
	p := serveStandIn(t, e.standIn, "")
	keys := p.clients["source"]
	client := bedrockruntime.New(bedrockruntime.Options{
		Region: region, HTTPClient: p.httpClient(t), RetryMaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return keys, nil }),
	})
	out, err := client.InvokeModelWithBidirectionalStream(t.Context(), &bedrockruntime.InvokeModelWithBidirectionalStreamInput{ModelId: aws.String("amazon.nova-sonic-v1:0")})
	if err != nil {
		t.Fatal(err)
	}
	stream := out.GetStream()
	next := func() string {
		select {
		case event, ok := <-stream.Events():
			if !ok {
				t.Fatalf("the stream ended: %v", stream.Err())
			}
			chunk, ok := event.(*types.InvokeModelWithBidirectionalStreamOutputMemberChunk)
			if !ok {
				t.Fatalf("got %T", event)
			}
			return string(chunk.Value.Bytes)
		case <-time.After(patience):
			t.Fatalf("no event in %s", patience)
		}
		return ""
	}
	var sent []string
	for _, size := range []int{1, 20, 3200, 70 << 10, 700 << 10, 5} {
		text := string(random(size))
		sent = append(sent, text)
		if err := stream.Send(t.Context(), &types.InvokeModelWithBidirectionalStreamInputMemberChunk{Value: types.BidirectionalInputPayloadPart{Bytes: []byte(text)}}); err != nil {
			t.Fatal(err)
		}
		if got := next(); got != text {
			t.Fatalf("an event of %d bytes came back with %d", len(text), len(got))
		}
	}
	if err := stream.Writer.Close(); err != nil {
		t.Fatal(err)
	}
	if got := next(); got != "last word" {
		t.Errorf("after closing: %q", got)
	}
	if event, more := <-stream.Events(); more {
		t.Errorf("one more event: %v", event)
	}
	if err := stream.Close(); err != nil {
		t.Error(err)
	}
	if err := <-e.ended; err != nil {
		t.Errorf("the server: %v", err)
	}
	if !e.closed || len(e.inner) != len(sent) || len(e.heads) != 1 {
		t.Fatalf("the server saw %d events in %d requests, closed %v", len(e.inner), len(e.heads), e.closed)
	}
	head := e.heads[0]
	if head.Proto != "HTTP/2.0" || head.Host != "bedrock-runtime.us-east-1.amazonaws.com" || head.Target != "/model/amazon.nova-sonic-v1%3A0/invoke-with-bidirectional-stream" {
		t.Errorf("arrived as %s %s%s", head.Proto, head.Host, head.Target)
	}
	line := waitForAudit(t, p.audit, 1)[0]
	if line.Signature != "header-events" || line.Operation != "InvokeModelWithBidirectionalStream" || line.Decision != "allow" || line.Error != "" || line.RequestBytes < 700<<10 || line.ResponseBytes < 700<<10 {
		t.Errorf("audit line %+v", line)
	}
}

// An eventWriter signs events with the SDK's stream signer.
type eventWriter struct {
	signer *v4.StreamSigner
	sent   [][]byte // frames
}

// eventRequest is a Transcribe call whose events a test writes itself.
func eventRequest(t *testing.T, keys aws.Credentials, body io.Reader) (*http.Request, *eventWriter) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), "POST", "https://transcribestreaming.us-east-1.amazonaws.com/stream-transcription", body)
	if err != nil {
		t.Fatal(err)
	}
	const word = "STREAMING-AWS4-HMAC-SHA256-EVENTS"
	for name, value := range map[string]string{
		"X-Amz-Content-Sha256": word, "Content-Type": "application/vnd.amazon.eventstream",
		"X-Amzn-Transcribe-Language-Code": "en-US", "X-Amzn-Transcribe-Sample-Rate": "16000", "X-Amzn-Transcribe-Media-Encoding": "pcm",
	} {
		request.Header.Set(name, value)
	}
	if err := v4.NewSigner().SignHTTP(t.Context(), keys, request, word, "transcribe", region, time.Now()); err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(request.Header.Get("Authorization"), "Signature=")
	seed, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return request, &eventWriter{signer: v4.NewStreamSigner(keys, "transcribe", region, seed)}
}

// frame makes a signed event; "" is the closing one.
func (w *eventWriter) frame(t *testing.T, text string) []byte {
	t.Helper()
	var inner, headers, out bytes.Buffer
	if text != "" {
		var m eventstream.Message
		m.Headers.Set(":message-type", eventstream.StringValue("event"))
		m.Headers.Set(":event-type", eventstream.StringValue("AudioEvent"))
		m.Payload = []byte(text)
		if err := eventstream.NewEncoder().Encode(&inner, m); err != nil {
			t.Fatal(err)
		}
	}
	date := eventstream.TimestampValue(time.Now())
	if err := eventstream.EncodeHeaders(&headers, eventstream.Headers{{Name: eventstreamapi.DateHeader, Value: date}}); err != nil {
		t.Fatal(err)
	}
	signature, err := w.signer.GetSignature(t.Context(), headers.Bytes(), inner.Bytes(), time.Time(date))
	if err != nil {
		t.Fatal(err)
	}
	m := eventstream.Message{Payload: inner.Bytes()}
	m.Headers.Set(eventstreamapi.DateHeader, date)
	m.Headers.Set(eventstreamapi.ChunkSignatureHeader, eventstream.BytesValue(signature))
	if err := eventstream.NewEncoder().Encode(&out, m); err != nil {
		t.Fatal(err)
	}
	w.sent = append(w.sent, out.Bytes())
	return out.Bytes()
}

// masked hides what re-signing replaces in a frame: date, signature and CRCs.
func masked(t *testing.T, frame []byte) string {
	t.Helper()
	m, err := eventstream.NewDecoder().Decode(bytes.NewReader(frame), nil)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, h := range m.Headers {
		names = append(names, fmt.Sprintf("%s %T", h.Name, h.Value))
	}
	return fmt.Sprintf("%d %v %q", len(frame), names, m.Payload)
}

// What arrives upstream is what was sent, frame by frame; a stream in which an
// event is not what was signed, or which just stops, is not completed there.
func TestEventStreamsFrameByFrame(t *testing.T) {
	for _, tt := range []struct {
		name   string
		good   []string                                  // after two events
		then   func(w *eventWriter, t *testing.T) []byte // after those; nil: a good end
		reason string
		says   string
	}{
		{"whole", []string{"three", strings.Repeat("4", 200<<10)}, nil, "", ""},
		{"wrong signature", nil, func(w *eventWriter, t *testing.T) []byte {
			w.signer = v4.NewStreamSigner(clientKeys["source"], "transcribe", region, []byte("another signature before this one"))
			return append(w.frame(t, "three"), w.frame(t, "")...)
		}, "chunk-signature", "signature of an event"},
		{"altered event", nil, func(w *eventWriter, t *testing.T) []byte {
			m, err := eventstream.NewDecoder().Decode(bytes.NewReader(w.frame(t, "three")), nil)
			if err != nil {
				t.Fatal(err)
			}
			m.Payload = bytes.Replace(m.Payload, []byte("three"), []byte("eight"), 1)
			var out bytes.Buffer
			if err := eventstream.NewEncoder().Encode(&out, m); err != nil { // with good CRCs
				t.Fatal(err)
			}
			return out.Bytes()
		}, "chunk-signature", "signature of an event"},
		{"wrong CRC", nil, func(w *eventWriter, t *testing.T) []byte {
			frame := w.frame(t, "three")
			frame[len(frame)-1] ^= 1
			return frame
		}, "chunk", "CRC"},
		{"event left out", nil, func(w *eventWriter, t *testing.T) []byte { w.frame(t, "lost"); return w.frame(t, "") }, "chunk-signature", "signature of an event"},
		{"wrong closing event", nil, func(w *eventWriter, t *testing.T) []byte {
			w.signer = v4.NewStreamSigner(clientKeys["source"], "transcribe", region, []byte("another signature before this one"))
			return w.frame(t, "")
		}, "chunk-signature", "signature of an event"},
		{"without its end", []string{"three"}, func(*eventWriter, *testing.T) []byte { return nil }, "incomplete", "closing event"},
		{"cut in an event", nil, func(w *eventWriter, t *testing.T) []byte { return w.frame(t, "three")[:50] }, "incomplete", "middle of an event"},
		{"event over the limit", nil, func(w *eventWriter, t *testing.T) []byte { return w.frame(t, strings.Repeat("x", 300<<10)) }, "too-large", "limit"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := startEvents(t)
			p := serveStandIn(t, e.standIn, "limits: {event: 256KiB}\n")
			read, write := io.Pipe()
			request, w := eventRequest(t, p.clients["source"], read)
			response, err := p.httpClient(t).Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			heard := func() string {
				m, err := eventstream.NewDecoder().Decode(response.Body, nil)
				if err != nil {
					return err.Error()
				}
				return string(m.Payload)
			}
			for _, text := range append([]string{"one", "two"}, tt.good...) {
				if _, err := write.Write(w.frame(t, text)); err != nil {
					t.Fatal(err)
				}
				if got := heard(); got != text {
					t.Fatalf("after %q: %q", text, got)
				}
			}
			good := len(w.sent)
			if tt.then != nil {
				write.Write(tt.then(w, t)) // fails where the stream is cut off first
			} else {
				good++
				write.Write(w.frame(t, ""))
			}
			write.Close()
			end, serverErr := heard(), <-e.ended
			if ok := tt.reason == ""; ok != (serverErr == nil) || ok != (end == lastWord) || e.closed != ok {
				t.Errorf("client: %v, server: %v, closed in good order: %v", end, serverErr, e.closed)
			}
			if len(e.frames) != good {
				t.Fatalf("%d events arrived, want %d", len(e.frames), good)
			}
			for i, frame := range e.frames {
				if got, want := masked(t, frame), masked(t, w.sent[i]); got != want {
					t.Errorf("event %d arrived as %s, want %s", i, got, want)
				}
			}
			var headers [][2]string
			for name, values := range request.Header {
				headers = append(headers, [2]string{name, values[0]})
			}
			sameMeaning(t, "POST", "/stream-transcription", headers, e.heads[0], "user-agent", "accept-encoding")
			line := waitForAudit(t, p.audit, 1)[0]
			if line.Signature != "header-events" || line.Operation != "StartStreamTranscription" || (tt.reason != "") != (line.Decision == "deny") ||
				tt.reason != "" && line.Reason != tt.reason || !strings.Contains(line.Error, tt.says) {
				t.Errorf("audit line %+v, want reason %q", line, tt.reason)
			}
		})
	}
}
