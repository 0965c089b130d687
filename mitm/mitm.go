// Package mitm is a forward proxy that takes connections apart: it receives
// CONNECT, and for each host, as a given function says, intercepts the
// connection, tunnels it, or refuses it.
//
// Requests of intercepted hosts go to a given http.Handler. The package knows
// nothing of what they mean.
//
// # The way of a connection
//
// The outer door is goproxy behind a net/http.Server: it parses CONNECT, runs
// the conditions, and moves the bytes of tunnels. An intercepted connection is
// taken over with goproxy's ConnectHijack, gets a TLS handshake with a
// certificate of ours, and is then served by one net/http.Server that all
// intercepted connections share. goproxy's own interception is not used: it
// sends no 100 Continue, does not notice a client that leaves, has no deadlines
// and no header limit, and does not survive a panic.
//
// # Traps
//
//   - goproxy tunnels whatever no condition decides, and takes HTTPS_PROXY from
//     the environment for that. Both doors therefore end in a refusal, and its
//     dialers are replaced by one that always fails.
//   - goproxy throws away what net/http had read beyond the CONNECT head, which
//     is the ClientHello of every client that does not wait for our 200. Its
//     ResponseWriter is wrapped, and those bytes are read again.
//   - net/http hides from a Handler what it repaired: a Content-Length beside
//     Transfer-Encoding is dropped (the body is then framed by its chunks), and
//     the Host header of an absolute-form request is replaced by the URL's host.
//     The latter are refused here; a signature over the former no longer fits.
//   - A Handler sees Connection, Upgrade and Keep-Alive as they came. Which of
//     the headers that Connection nominates may be dropped is its decision.
//   - net/http answers requests that it cannot parse on its own, without the
//     Handler. They are found again by counting (see Event, KindMalformed).
package mitm

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"go.uber.org/zap"
)

// Action is what happens to a connection. The zero value refuses it.
type Action int

const (
	Reject    Action = iota // answer the CONNECT with 403 and Route.Reason
	Intercept               // open TLS here and hand the requests to Options.Handler
	Tunnel                  // pass the bytes through untouched
)

// String is the word for a, for people and metric labels.
func (a Action) String() string {
	switch a {
	case Reject:
		return "reject"
	case Intercept:
		return "intercept"
	case Tunnel:
		return "tunnel"
	}
	return fmt.Sprintf("action %d", int(a))
}

// Route is the decision about one CONNECT.
type Route struct {
	Action Action
	// Reason says to people why, and what to do about it. For Reject it is the
	// text of the answer, and its first line the reason phrase of the status
	// line, which is all that many clients show.
	Reason string
	// Code is a word from a set that the caller bounds; it comes back in Event.
	Code string
	// H2 offers HTTP/2 to the clients of an intercepted host.
	H2 bool
}

// Attempt is what a client shows at the door.
type Attempt struct {
	// Route is the decision about the CONNECT; the zero value for a request with
	// an absolute URL, which is refused in any case.
	Route Route
	// Sent: there is a Proxy-Authorization. User and Password are what it holds,
	// empty unless it is a single one, Basic (RFC 7617), and can be read.
	Sent           bool
	User, Password string
}

// String leaves the password out.
func (a Attempt) String() string { return fmt.Sprintf("attempt of %q", a.User) }

// GoString keeps %#v from printing the password.
func (a Attempt) GoString() string { return a.String() }

// Caller is who has authenticated at the door. The zero value is nobody in particular.
type Caller struct {
	Name string // for Event.User
	Key  string // by which key; for Event.Key. It is taken over from a refusal too
}

// Options is what a Server is made of. Route, Handler and Certificate are
// required; the zero value of everything else is the default said with it.
// All functions are called from many goroutines at once.
type Options struct {
	// Route decides about a CONNECT. host is in lower case, without a trailing
	// dot or brackets: a DNS name in ASCII or an IP literal.
	Route func(host string, port int) Route

	// Handler answers the requests of intercepted hosts. They arrive with Host
	// and RequestURI as sent, Host having been checked to name the host and
	// port of the CONNECT, RequestURI being in origin form ("/…"), URL.Scheme
	// "https", URL.Host the authority in canonical form, RemoteAddr the
	// client's, and TLS set. 100 Continue is sent when the body is first read.
	Handler http.Handler

	// Certificate returns the certificate to show for host. It is called for
	// every intercepted CONNECT, so it should remember what it made.
	Certificate func(host string) (*tls.Certificate, error)

	// Authenticate says who is at the door. It is asked about every CONNECT that
	// can be read, and about every request with an absolute URL. An error
	// refuses with 407; its text is the answer, so it must hold no secret.
	// Comparing in constant time is its duty. Nil: anybody who can reach the
	// listener may use it.
	Authenticate func(Attempt) (Caller, error)

	// Record receives what no request of an intercepted host could tell; see
	// Event. It must not block for long. Nil: nothing is recorded.
	Record func(Event)

	// Refuse answers a request of an intercepted host that was refused before
	// Handler (KindRequest), with Event.Status, and records it. Nil: the reason
	// as plain text, and Record.
	Refuse func(http.ResponseWriter, *http.Request, Event)

	// Proxy chooses the way out of a tunnel, for example the function that
	// golang.org/x/net/http/httpproxy makes of HTTPS_PROXY and NO_PROXY; its
	// argument is https://host:port. Proxies of scheme http and https are
	// known; userinfo is sent to them as Proxy-Authorization. Behind a proxy
	// the address of a name cannot be checked: IP literals are refused, names
	// are that proxy's duty. Nil or a nil answer: connect directly.
	Proxy func(*url.URL) (*url.URL, error)

	// ProxyTLS is the client configuration for proxies of scheme https. Nil:
	// the system's roots.
	ProxyTLS *tls.Config

	// Resolver looks up the hosts of tunnels. Nil: net.DefaultResolver.
	Resolver *net.Resolver

	// PermitAddress admits an address to tunnels although it is not public. It
	// is asked for such addresses only. Nil: never.
	PermitAddress func(netip.AddrPort) bool

	// DirectHint is added to the answer of requests that are addressed to the
	// proxy as if it were a website.
	DirectHint string

	// Now is the clock of events; deadlines use the system's. Nil: time.Now.
	Now func() time.Time

	// Logger receives what neither a client nor Record is told: panics with
	// their stack, the connection limit being reached, and at debug level the
	// words of net/http and goproxy. Nil: nothing is logged.
	Logger *zap.Logger

	Limits Limits
}

// Limits bounds what clients can take up. Zero means the default; there is no
// way to say "no limit".
type Limits struct {
	// Connections is how many clients' connections are open at a time, of
	// every kind. At the limit new ones wait in the listen queue. Default 4096.
	Connections int
	// Tunnels is how many tunnels are open at a time; more are refused with
	// 503. A tunnel keeps two connections and about 90 KiB. Default 512.
	Tunnels int
	// Streams is how many requests one HTTP/2 connection may have in flight.
	// Default 250.
	Streams int
	// HeaderBytes bounds the head of a request; a longer one is answered with
	// 431. net/http allows 4 KiB beyond. Default 64 KiB.
	HeaderBytes int

	// Handshake bounds the time from the answer to CONNECT to the end of the
	// TLS handshake. Default 15 s.
	Handshake time.Duration
	// Header bounds the time in which the head of a request must arrive.
	// Default 30 s.
	Header time.Duration
	// Idle is how long a connection may wait for its next request. Default 3 min.
	Idle time.Duration
	// Body is the longest pause of a client within a request body. There is no
	// limit on the whole. Default 5 min.
	Body time.Duration
	// Write is the longest time one write to a client may take (at most one
	// TLS record), so a client that stops reading is let go. There is no limit
	// on the whole. Default 2 min.
	Write time.Duration
	// Dial bounds name lookup and connecting of a tunnel, the upstream proxy's
	// answer included. Default 15 s.
	Dial time.Duration
	// TunnelIdle ends a tunnel in which no byte moved, in either direction, for
	// that long. Default 15 min.
	TunnelIdle time.Duration
	// DrainIdle takes the place of TunnelIdle during Shutdown. Default 5 s.
	DrainIdle time.Duration
}

// withDefaults returns l with its zero values filled in.
func (l Limits) withDefaults() (Limits, error) {
	var errs []error
	number := func(name string, v *int, def int) {
		if *v < 0 {
			errs = append(errs, fmt.Errorf("limit %s is %d: it must be positive, or 0 for the default of %d", name, *v, def))
		}
		if *v == 0 {
			*v = def
		}
	}
	duration := func(name string, v *time.Duration, def time.Duration) {
		if *v < 0 {
			errs = append(errs, fmt.Errorf("limit %s is %v: it must be positive, or 0 for the default of %v", name, *v, def))
		}
		if *v == 0 {
			*v = def
		}
	}
	number("Connections", &l.Connections, 4096)
	number("Tunnels", &l.Tunnels, 512)
	number("Streams", &l.Streams, 250)
	number("HeaderBytes", &l.HeaderBytes, 64<<10)
	duration("Handshake", &l.Handshake, 15*time.Second)
	duration("Header", &l.Header, 30*time.Second)
	duration("Idle", &l.Idle, 3*time.Minute)
	duration("Body", &l.Body, 5*time.Minute)
	duration("Write", &l.Write, 2*time.Minute)
	duration("Dial", &l.Dial, 15*time.Second)
	duration("TunnelIdle", &l.TunnelIdle, 15*time.Minute)
	duration("DrainIdle", &l.DrainIdle, 5*time.Second)
	return l, errors.Join(errs...)
}

// Stats is a moment's view of a Server: what is open now, and totals since New.
type Stats struct {
	Connections int64 // clients' connections, of every kind
	Intercepted int64 // of these, intercepted ones behind their TLS handshake
	Tunnels     int64
	Requests    int64 // requests of intercepted hosts being answered

	TotalConnections int64
	TotalRequests    int64 // requests that reached Handler
	TotalTunnels     int64
	TunnelSent       int64 // bytes from clients into tunnels
	TunnelReceived   int64 // bytes from tunnels to clients
	Refused          int64 // CONNECTs and requests refused here
	HandshakeErrors  int64 // TLS handshakes with clients that failed
	Malformed        int64 // bytes that made no HTTP request, or no TLS
	Panics           int64
}
