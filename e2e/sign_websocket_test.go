package e2e

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const transcribeHost = "transcribestreaming.us-east-1.amazonaws.com:8443"

// secure begins TLS on a tunnel of the proxy.
func (p *proxy) secure(t *testing.T, conn net.Conn, host string) *wire {
	t.Helper()
	secured := tls.Client(conn, &tls.Config{ServerName: host, RootCAs: p.roots, NextProtos: []string{"http/1.1"}})
	if err := secured.Handshake(); err != nil {
		t.Fatalf("TLS with %s: %v", host, err)
	}
	return &wire{secured, bufio.NewReader(secured)}
}

// presignSocket makes the link that opens a Transcribe stream, with the SDK's signer.
func presignSocket(t *testing.T) string {
	t.Helper()
	request, err := http.NewRequest("GET", "https://"+transcribeHost+"/stream-transcription-websocket?X-Amz-Expires=300&language-code=en-US&media-encoding=pcm&sample-rate=16000", nil)
	if err != nil {
		t.Fatal(err)
	}
	uri, _, err := v4.NewSigner().PresignHTTP(t.Context(), clientKeys["source"], request, digest(nil), "transcribe", region, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(uri, "https://"+transcribeHost)
}

// A presigned WebSocket opens with another signature, and then all bytes pass both
// ways.
func TestPresignedWebSocket(t *testing.T) {
	opened := make(chan arrival, 2)
	server := standFor(t, func(w http.ResponseWriter, r *http.Request) {
		opened <- arrival{Method: r.Method, Host: r.Host, Target: r.RequestURI, Header: r.Header.Clone()}
		conn, buffered, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprintf(buffered, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nX-Amzn-Requestid: SOCKET\r\n\r\n")
		buffered.Flush()
		for { // messages: a length, and so many bytes; each comes back reversed
			var size uint32
			if binary.Read(buffered, binary.BigEndian, &size) != nil {
				return
			}
			message := make([]byte, size)
			if _, err := io.ReadFull(buffered, message); err != nil {
				return
			}
			for i, j := 0, len(message)-1; i < j; i, j = i+1, j-1 {
				message[i], message[j] = message[j], message[i]
			}
			buffered.Write(message)
			buffered.Flush()
		}
	}, "http/1.1")
	p := serveStandIn(t, server, "")

	open := func(target string) (*wire, *http.Response, [][2]string) {
		conn, response := p.connect(t, transcribeHost)
		if response.StatusCode != http.StatusOK {
			t.Fatal(response.Status)
		}
		w := p.secure(t, conn, strings.TrimSuffix(transcribeHost, ":8443"))
		headers := [][2]string{{"Upgrade", "websocket"}, {"Connection", "Upgrade"}, {"Origin", "https://example.com"},
			{"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}, {"Sec-WebSocket-Version", "13"}}
		io.WriteString(w, call{method: "GET", host: transcribeHost, target: target, headers: headers}.head())
		answer, err := http.ReadResponse(w.reader, &http.Request{Method: "GET"})
		if err != nil {
			t.Fatal(err)
		}
		return w, answer, headers
	}
	target := presignSocket(t)
	w, answer, headers := open(target)
	if answer.StatusCode != http.StatusSwitchingProtocols || answer.Header.Get("Sec-Websocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		text, _ := io.ReadAll(answer.Body)
		t.Fatalf("%s %v %s %+v", answer.Status, answer.Header, text, readAudit(t, p.audit))
	}
	for _, message := range []string{"abc", string(random(300_000)), "end"} {
		go func() {
			binary.Write(w, binary.BigEndian, uint32(len(message)))
			io.WriteString(w, message)
		}()
		got := make([]byte, len(message))
		if _, err := io.ReadFull(w.reader, got); err != nil {
			t.Fatal(err)
		}
		for i := range got {
			if got[i] != message[len(message)-1-i] {
				t.Fatalf("byte %d of %d came back as another", i, len(got))
			}
		}
	}
	w.Close()
	got := <-opened
	sameMeaning(t, "GET", withoutKeys(target), headers, withTarget(got, withoutKeys(got.Target)), "upgrade")
	if got.Header.Get("Upgrade") != "websocket" || got.Host != transcribeHost {
		t.Errorf("arrived at %s as %v", got.Host, got.Header)
	}
	server.verifySocket(t, got)
	line := waitForAudit(t, p.audit, 1)[0]
	if line.Status != http.StatusSwitchingProtocols || line.Signature != "query" || line.Decision != "allow" || line.AWSRequestID != "SOCKET" ||
		line.RequestBytes != 300_018 || line.ResponseBytes != 300_006 {
		t.Errorf("audit line %+v", line)
	}

	_, refused, _ := open(strings.Replace(target, "en-US", "en-GB", 1))
	if refused.StatusCode != http.StatusForbidden || len(opened) != 0 {
		t.Errorf("altered: %s, %d requests arrived", refused.Status, len(opened))
	}
}

func (s *standIn) verifySocket(t *testing.T, a arrival) {
	t.Helper()
	again, err := http.NewRequest(a.Method, "https://"+a.Host+a.Target, nil)
	if err != nil {
		t.Fatal(err)
	}
	query := again.URL.Query()
	at, err := time.Parse("20060102T150405Z", query.Get("X-Amz-Date"))
	if err != nil {
		t.Fatal(err)
	}
	signature := query.Get("X-Amz-Signature")
	for _, name := range []string{"X-Amz-Signature", "X-Amz-Credential", "X-Amz-Date", "X-Amz-SignedHeaders", "X-Amz-Algorithm"} {
		query.Del(name)
	}
	again.URL.RawQuery = query.Encode()
	uri, _, err := v4.NewSigner().PresignHTTP(t.Context(), s.keys, again, digest(nil), "transcribe", region, at)
	if err != nil || !strings.Contains(uri, "X-Amz-Signature="+signature) {
		t.Errorf("the link that arrived is signed %s, the SDK's signer makes %s, %v", signature, uri, err)
	}
}
