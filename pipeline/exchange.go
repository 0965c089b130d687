package pipeline

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/countersign-proxy/countersign/audit"
	"github.com/countersign-proxy/countersign/awsapi"
	"github.com/countersign-proxy/countersign/identity"
	"github.com/countersign-proxy/countersign/metrics"
	"github.com/countersign-proxy/countersign/policy"
	"github.com/countersign-proxy/countersign/rolesession"
	"github.com/countersign-proxy/countersign/signer"
)

// exchange is one request on its way, what is known of it so far, and its
// audit entry. It belongs to the goroutine of its request.
type exchange struct {
	p  *Pipeline
	in *http.Request // a copy of the request as received, whose Body is counted
	w  *responseWriter

	start     time.Time
	handed    time.Time     // when the request was handed to the transport; zero: never
	elsewhere time.Duration // time before that which was spent waiting for STS and for the client's body

	host     awsapi.Host
	outHost  string // authority to send the request to
	sig      *signer.Signature
	grant    identity.Grant
	secret   string
	verified *signer.Verified
	call     *awsapi.Call
	role     Role

	accountID string // that the credentials act in, "" when not known
	session   rolesession.Session

	body     *countingBody
	bodyRead []byte // the whole body, where understanding the call needed it
	heldBody bool   // it is that of an unsigned call, and goes out from there
	reserved int64  // of budget
	budget   *budget

	entry    audit.Entry
	pending  *audit.Pending
	upstream error // why the transfer failed, where it did
	refused  bool
	done     func() // no longer in flight
}

// begin starts the record of a request.
func (p *Pipeline) begin(w http.ResponseWriter, r *http.Request) *exchange {
	now := p.opt.Now()
	x := &exchange{p: p, start: time.Now(), budget: &p.budget}
	x.body = &countingBody{ReadCloser: r.Body}
	x.in = r.WithContext(context.WithValue(r.Context(), contextKey{}, x))
	if r.Body != nil && r.Body != http.NoBody {
		x.in.Body = x.body
	}
	x.w = &responseWriter{ResponseWriter: w, method: r.Method}
	name, _ := splitPort(r.Host)
	x.entry = audit.Entry{
		Time: now, RequestID: audit.NewRequestID(), Client: r.RemoteAddr, Method: r.Method,
		Host: strings.ToLower(name), Decision: audit.Allow,
	}
	x.done = p.opt.Metrics.RequestStarted()
	return x
}

// name records whose host it is.
func (x *exchange) name(h awsapi.Host) {
	x.entry.Service, x.entry.Region = h.Service, h.Region
}

// describe records what the request asks for.
func (x *exchange) describe() {
	c := x.call
	x.entry.Service = c.Service
	if c.Service == "" {
		x.entry.Service = x.host.Service
	}
	x.entry.Region, x.entry.Operation = c.Region, c.Operation
	x.entry.Actions, x.entry.Resources = c.Actions(), c.Resources()
	if c.Unknown != "" {
		x.note("not understood: " + c.Unknown)
	}
	if c.CredentialTier != "" {
		x.note("credential tier " + c.CredentialTier)
	}
}

// note adds to what the entry says for people.
func (x *exchange) note(s string) {
	if x.entry.Error != "" {
		x.entry.Error += "; "
	}
	x.entry.Error += s
}

// query is what the policies are asked.
func (x *exchange) query(now time.Time) policy.Query {
	q := policy.Query{
		Call: x.call, Time: now, UserAgent: x.in.UserAgent(), SecureTransport: true,
		PrincipalARN: x.role.ARN, PrincipalAccount: x.accountID,
		Username: x.grant.Identity.Name, PrincipalTags: x.grant.Identity.Attributes,
	}
	if a, err := netip.ParseAddrPort(x.in.RemoteAddr); err == nil {
		q.SourceIP = a.Addr().Unmap()
	}
	return q
}

// reserve takes memory from the budget that all requests share.
func (x *exchange) reserve(n int64) error {
	if !x.budget.take(n) {
		return fmt.Errorf("all memory for held bodies (limits.body_buffer_sum) is in use; try again")
	}
	x.reserved += n
	return nil
}

// holdBody reads the whole body of a request that carries no signature.
func (x *exchange) holdBody(limit int64) ([]byte, *refusal) {
	if x.in.Body == nil || x.in.Body == http.NoBody {
		return []byte{}, nil
	}
	if n := x.in.ContentLength; n > limit {
		return nil, refuse(awsapi.ErrEntityTooLarge, "too-large", "the body has %d bytes, at most %d are held of a call without a signature", n, limit)
	}
	buf := []byte{}
	chunk := make([]byte, 32<<10)
	for {
		n, err := x.in.Body.Read(chunk)
		if n > 0 {
			if int64(len(buf)+n) > limit {
				return nil, refuse(awsapi.ErrEntityTooLarge, "too-large", "the body is longer than the %d bytes that are held of a call without a signature", limit)
			}
			if e := x.reserve(int64(n)); e != nil {
				return nil, refuse(awsapi.ErrThrottled, "no-memory", "%v", e)
			}
			buf = append(buf, chunk[:n]...)
		}
		if errors.Is(err, io.EOF) {
			x.heldBody = true
			return buf, nil
		}
		if err != nil {
			return nil, refuse(awsapi.ErrInvalidRequest, "incomplete", "the body ended before its end: %v", err)
		}
	}
}

// end completes the record, whatever happened. A panic of the transfer's own
// (http.ErrAbortHandler: the answer was cut off) goes on; any other costs this
// request alone.
func (x *exchange) end() {
	cause := recover()
	x.budget.give(x.reserved)
	x.done()
	if cause != nil && cause != http.ErrAbortHandler {
		x.panicked(cause)
		if x.w.wrote {
			cause = http.ErrAbortHandler // the answer cannot be taken back, only cut off
		} else {
			awsapi.WriteError(x.w, x.in, x.host, x.protocol(), awsapi.APIError{Kind: awsapi.ErrInternalFailure,
				Message: "countersign failed on this request; its log has the request id", RequestID: x.entry.RequestID, Time: x.p.opt.Now()})
			cause = nil
		}
	}
	x.explain(cause != nil)
	x.measure()
	if x.pending != nil {
		x.pending.Finish(x.entry)
	} else {
		_ = x.p.opt.Audit.Write(x.entry) // its loss is counted by the log
	}
	e := &x.entry
	x.p.opt.Metrics.RequestDone(metrics.Request{
		Role: e.Role, Service: e.Service, Decision: string(e.Decision), Status: e.Status, ClientLeft: errors.Is(x.upstream, context.Canceled),
		Duration: e.Duration, Overhead: e.Overhead, RequestBytes: e.RequestBytes, ResponseBytes: e.ResponseBytes,
	})
	if cause != nil {
		panic(http.ErrAbortHandler)
	}
}

// panicked records a fault of ours.
func (x *exchange) panicked(cause any) {
	x.p.opt.Logger.Error("panic while handling a request", zap.String("request_id", x.entry.RequestID),
		zap.Any("panic", cause), zap.ByteString("stack", debug.Stack()))
	x.p.opt.Metrics.Panic()
	x.entry.Decision, x.entry.Reason = audit.Deny, "panic"
	x.note("fault of countersign; its log has the request id")
}

// explain records why a transfer did not come to its end.
func (x *exchange) explain(cutOff bool) {
	switch {
	case x.upstream != nil:
		x.note(describeTransferError(x.upstream))
	case cutOff && x.in.Context().Err() != nil:
		x.note("the client left")
	case cutOff:
		x.note("the answer was cut off")
	}
	if x.verified != nil && !x.refused {
		if err := x.verified.BodyErr(); err != nil {
			x.entry.Decision, x.entry.Reason = audit.Deny, string(signatureReason(err))
			x.note(err.Error())
			x.p.opt.Metrics.SignatureFailure(string(signatureReason(err)))
		}
	}
}

// measure records sizes and times. Overhead ends when the request is handed to
// the transport, and leaves out what was waited for until then.
func (x *exchange) measure() {
	e := &x.entry
	e.Status = x.w.status
	e.RequestBytes, e.ResponseBytes = x.body.n.Load(), x.w.n
	if c := x.w.hijacked; c != nil {
		e.RequestBytes, e.ResponseBytes = c.in.Load(), c.out.Load()
	}
	e.Duration = time.Since(x.start)
	here, elsewhere := e.Duration, x.elsewhere
	if x.handed.IsZero() {
		elsewhere += x.body.waited()
	} else {
		here = x.handed.Sub(x.start)
	}
	e.Overhead = max(here-elsewhere, 0)
}

// protocol is the wire protocol whose clients are to understand our errors; it
// is not known before the call is.
func (x *exchange) protocol() awsapi.Protocol {
	if x.call != nil {
		return x.call.Protocol
	}
	return awsapi.ProtocolUnknown
}

// countingBody counts what the client sent, and how long reading waited for it.
type countingBody struct {
	io.ReadCloser
	n    atomic.Int64
	wait atomic.Int64          // ns
	err  atomic.Pointer[error] // why it could not be read to its end
}

func (b *countingBody) Read(p []byte) (int, error) {
	start := time.Now()
	n, err := b.ReadCloser.Read(p)
	b.wait.Add(int64(time.Since(start)))
	b.n.Add(int64(n))
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, http.ErrBodyReadAfterClose) {
		b.err.CompareAndSwap(nil, &err)
	}
	return n, err
}

func (b *countingBody) waited() time.Duration { return time.Duration(b.wait.Load()) }

// responseWriter counts the answer and keeps net/http from adding to it.
type responseWriter struct {
	http.ResponseWriter
	method string
	status int
	n      int64
	wrote  bool

	hijacked *countingConn
}

// Hijack hands over the connection of a WebSocket, and goes on counting.
func (w *responseWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	w.hijacked = &countingConn{Conn: conn}
	return w.hijacked, rw, nil
}

// countingConn counts what passes after a protocol was switched.
type countingConn struct {
	net.Conn
	in, out atomic.Int64
}

func (c *countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.in.Add(int64(n))
	return n, err
}

func (c *countingConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.out.Add(int64(n))
	return n, err
}

// CloseWrite passes the end of one direction on (net/http/httputil looks for it).
func (c *countingConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Conn.Close()
}

// Unwrap lets http.ResponseController reach the connection.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *responseWriter) WriteHeader(status int) {
	if status == http.StatusContinue {
		return // net/http sends its own when the body is first read
	}
	if status >= 200 || status == http.StatusSwitchingProtocols {
		if w.wrote {
			return
		}
		w.wrote, w.status = true, status
		h := w.Header()
		if _, ok := h["Content-Type"]; !ok {
			h["Content-Type"] = nil // or net/http would guess one from the body
		}
		restoreCase(h)
	}
	w.ResponseWriter.WriteHeader(status)
}

// restoreCase undoes what net/http's client did to header names whose tails are
// the user's own: S3 sends the keys of user metadata in lower case, and botocore
// hands them to the program as they come.
func restoreCase(h http.Header) {
	for name, values := range h {
		if strings.HasPrefix(name, "X-Amz-Meta-") {
			delete(h, name)
			h[strings.ToLower(name)] = values
		}
	}
}

func (w *responseWriter) Write(p []byte) (int, error) {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	n, err := w.ResponseWriter.Write(p)
	w.n += int64(n)
	return n, err
}

// budget is the memory that held bodies of all requests may take together.
type budget struct{ left atomic.Int64 }

func (b *budget) take(n int64) bool {
	for {
		left := b.left.Load()
		if n > left {
			return false
		}
		if b.left.CompareAndSwap(left, left-n) {
			return true
		}
	}
}

func (b *budget) give(n int64) { b.left.Add(n) }

// splitPort cuts the port off an authority.
func splitPort(authority string) (host, port string) {
	if h, p, err := net.SplitHostPort(authority); err == nil {
		return h, p
	}
	return strings.TrimSuffix(strings.TrimPrefix(authority, "["), "]"), ""
}
