package mitm

import "time"

// Kind says what an Event is about.
type Kind string

const (
	// KindReject: a CONNECT was refused, or the dial of its tunnel failed.
	KindReject Kind = "reject"
	// KindTunnel: a tunnel ended.
	KindTunnel Kind = "tunnel"
	// KindPlain: a request without CONNECT was refused: a proxied http:// URL,
	// or one addressed to the proxy itself.
	KindPlain Kind = "plain"
	// KindHandshake: a CONNECT was accepted, but the TLS handshake failed.
	KindHandshake Kind = "handshake"
	// KindSilent: a client closed an intercepted connection after the handshake
	// without a request. Clients that check the certificate after the handshake
	// do so when they do not trust the CA; others when they connect ahead of need.
	KindSilent Kind = "silent"
	// KindMalformed: a connection ended in bytes that were not an HTTP request
	// (net/http has answered 400, 417, 431, 501 or 505) or not TLS.
	KindMalformed Kind = "malformed"
	// KindRequest: a request of an intercepted host was refused before Handler.
	KindRequest Kind = "request"
	// KindPanic: Handler panicked. The client got 500, or a cut-off answer.
	KindPanic Kind = "panic"
)

// The words of Event.Code that are not taken from Route.Code.
const (
	CodeBadTarget      = "bad target"          // CONNECT to something that is not host:port
	CodeContent        = "connect content"     // CONNECT with a body
	CodeAuthentication = "authentication"      // Proxy-Authorization missing or wrong
	CodeDraining       = "draining"            // CONNECT during Shutdown
	CodeTunnelLimit    = "tunnel limit"        // Limits.Tunnels reached
	CodeAddress        = "address"             // a tunnel to an address that is not public
	CodeDial           = "dial"                // a tunnel's host cannot be reached
	CodeCertificate    = "certificate"         // Options.Certificate failed
	CodeUndecided      = "undecided"           // no route was found: refused by the catch-all
	CodePlainHTTP      = "plain http"          // http:// through the proxy
	CodeNotProxy       = "not a proxy request" // a request to the proxy itself
	CodeUntrusted      = "ca not trusted"      // the client refused our certificate
	CodeNotTLS         = "not tls"             // the client spoke something else after CONNECT
	CodeTLSToPlain     = "tls to plain port"   // HTTPS_PROXY=https://… towards a plain listener
	CodeALPN           = "alpn"                // no protocol in common
	CodeTimeout        = "timeout"             // no handshake within Limits.Handshake; no bytes within Limits.TunnelIdle
	CodeClosed         = "closed"              // the client left
	CodeTLS            = "tls"                 // any other failure of the handshake
	CodeNotHTTP        = "not http"            // no HTTP request
	CodeServerName     = "server name"         // SNI differs from the CONNECT
	CodeAuthority      = "authority"           // Host or :authority differs from the CONNECT
	CodeTargetForm     = "target form"         // absolute-form, asterisk-form or CONNECT inside
	CodeFraming        = "framing"             // several Content-Length in an HTTP/2 request
	CodePanic          = "panic"
	CodeShutdown       = "shutdown" // a tunnel that Shutdown ended
	CodeBroken         = "broken"   // a tunnel that ended in an error
	CodeDone           = "done"     // a tunnel that both ends closed
)

// Event is something that happened to a connection and that Handler could not
// see: one for each CONNECT refused, tunnel ended, and request refused before
// Handler. It holds no secret, no query string and no body.
type Event struct {
	Time   time.Time // when it ended
	Kind   Kind
	Code   string // a bounded word: one of the Code constants, or Route.Code of a rejection
	Reason string // for people
	Route  string // Route.Code, once there was a decision
	Client string // the client's address and port
	User   string // Caller.Name, once Proxy-Authorization was checked
	Key    string // Caller.Key
	Host   string // host of the CONNECT (or of the URL, for KindPlain), canonical; may be empty
	Port   int
	Method string // "CONNECT", or the request's
	Status int    // what was answered; 0 where nothing was, or net/http chose it

	Sent, Received int64         // tunnels: bytes from and to the client
	Duration       time.Duration // since the CONNECT was read; 0 where there was none
	Err            error         // the cause, where there is one
}
