package mitm

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/elazarl/goproxy"
)

// tlsConfig is shared by all intercepted connections, so that net/tls keeps one
// set of session ticket keys; the certificate is the connection's.
func (s *Server) tlsConfig(protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: protocols,
		// The certificate is that of the CONNECT, whatever the client names in
		// SNI: nothing that a route did not ask for is ever signed.
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return hello.Conn.(*connectConn).connect.cert, nil
		},
	}
}

// intercept takes a connection over from goproxy. The handshake has a goroutine
// of its own, so that net/http lets go of the outer connection's buffers.
func (s *Server) intercept(r *http.Request, client net.Conn, _ *goproxy.ProxyCtx) {
	conn := client.(*connectConn)
	conn.state.Store(stateHandshake)
	proto := r.Proto
	if !s.spawn(func() { s.handshake(conn, proto) }) {
		conn.Close()
	}
}

// handshake answers the CONNECT, opens TLS and passes the connection on.
func (s *Server) handshake(conn *connectConn, proto string) {
	conn.SetDeadline(time.Now().Add(s.limits.Handshake))
	if _, err := io.WriteString(conn, proto+" 200 Connection established\r\n\r\n"); err != nil {
		s.handshakeFailed(conn, err)
		return
	}
	config := s.tlsH1
	if conn.connect.h2 {
		config = s.tlsH2
	}
	secure := tls.Server(conn, config)
	if err := secure.HandshakeContext(s.ctx); err != nil {
		s.handshakeFailed(conn, err)
		return
	}
	conn.SetDeadline(time.Time{})
	state := secure.ConnectionState()
	conn.sni = strings.ToLower(state.ServerName)
	conn.h2.Store(state.NegotiatedProtocol == "h2")
	conn.state.Store(stateReady)
	if !s.inbox.put(secure) {
		conn.Close()
	}
}

// handshakeFailed says why, and records it.
func (s *Server) handshakeFailed(conn *connectConn, err error) {
	defer conn.Close()
	c := conn.connect
	host := c.target.authority()
	var e Event
	var record tls.RecordHeaderError
	alert := alertOf(err, conn.tail)
	switch {
	case errors.As(err, &record) && record.Conn != nil:
		e = c.event(KindMalformed, CodeNotTLS, "after CONNECT to "+host+" the client did not open TLS")
		if looksLikeHTTP(record.RecordHeader) {
			e.Reason += " but sent plain HTTP: use https:// in the URL"
			e.Status = http.StatusBadRequest
			body := "this proxy intercepts " + host + ", and expects TLS after CONNECT: use https:// in the URL\n"
			conn.refusing = true
			fmt.Fprintf(conn, "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body)
		}
	case slices.Contains(alertsOfTrust, alert):
		e = c.event(KindHandshake, CodeUntrusted, "the client does not trust the CA of this proxy: set its trust bundle")
	case alert == alertCertificateExpired:
		e = c.event(KindHandshake, CodeUntrusted, "the client takes the certificate for expired: compare the clocks of client and proxy")
	case alert == alertNoApplicationProtocol || strings.Contains(err.Error(), "unsupported application protocols"):
		e = c.event(KindHandshake, CodeALPN, "client and proxy have no protocol in common: "+offered(c.h2))
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		e = c.event(KindHandshake, CodeTimeout, fmt.Sprintf("the client did not finish the TLS handshake within %v", s.limits.Handshake))
	case errors.Is(err, context.Canceled), errors.Is(err, net.ErrClosed):
		e = c.event(KindHandshake, CodeShutdown, "the proxy shut down")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), isReset(err):
		e = c.event(KindHandshake, CodeClosed, "the client closed the connection during the TLS handshake; some clients do so when they do not trust the CA")
	default:
		e = c.event(KindHandshake, CodeTLS, "the TLS handshake with the client failed: "+err.Error())
	}
	e.Err = err
	s.record(e)
}

func offered(h2 bool) string {
	if h2 {
		return "h2 and http/1.1 were offered"
	}
	return "http/1.1 was offered"
}

func isReset(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op != "remote error" && op.Op != "local error"
}

// TLS alerts (RFC 8446, 6.2) by which a client says what it thinks of us.
const (
	alertBadCertificate         tls.AlertError = 42
	alertUnsupportedCertificate tls.AlertError = 43
	alertCertificateRevoked     tls.AlertError = 44
	alertCertificateExpired     tls.AlertError = 45
	alertCertificateUnknown     tls.AlertError = 46
	alertUnknownCA              tls.AlertError = 48
	alertAccessDenied           tls.AlertError = 49
	alertNoApplicationProtocol  tls.AlertError = 120
)

// alertsOfTrust are those that clients send for a CA that they do not know: Go
// says 42, Java 46, OpenSSL 48.
var alertsOfTrust = []tls.AlertError{alertBadCertificate, alertUnsupportedCertificate, alertCertificateRevoked,
	alertCertificateUnknown, alertUnknownCA, alertAccessDenied}

// alertOf returns the alert by which the client ended the handshake, or 0.
//
// crypto/tls gives received alerts a type that it does not export, with the text
// of tls.AlertError. And OpenSSL, when it refuses a certificate in TLS 1.3, has
// not yet changed its keys and sends the alert in the clear, which crypto/tls
// can only report as a bad record: it is recognised by its bytes, the last ones.
func alertOf(err error, tail [7]byte) tls.AlertError {
	var op *net.OpError
	if !errors.As(err, &op) {
		return 0
	}
	switch op.Op {
	case "remote error":
		for a := range 256 {
			if alert := tls.AlertError(a); alert.Error() == op.Err.Error() {
				return alert
			}
		}
	case "local error":
		const fatal = 2
		if tail[0] == recordTypeAlert && tail[1] == 3 && tail[3] == 0 && tail[4] == 2 && tail[5] == fatal {
			return tls.AlertError(tail[6])
		}
	}
	return 0
}

const recordTypeAlert = 0x15

// looksLikeHTTP reports whether the first five bytes begin a plain request.
func looksLikeHTTP(head [5]byte) bool {
	switch string(head[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "PATCH", "DELET", "OPTIO", "CONNE", "TRACE", "PRI *":
		return true
	}
	return false
}
