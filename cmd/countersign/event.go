package main

import (
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/countersign-proxy/countersign/audit"
	"github.com/countersign-proxy/countersign/awsapi"
	"github.com/countersign-proxy/countersign/mitm"
)

// recordEvent writes what the proxy's outer parts saw into the record.
func (p *proxy) recordEvent(ev mitm.Event, requestID string) {
	if ev.Time.IsZero() { // it ends with the answer that is given now
		ev.Time = time.Now()
	}
	e := audit.Entry{
		Time: ev.Time.Add(-ev.Duration), RequestID: requestID, Client: ev.Client, Method: ev.Method, Host: ev.Host,
		Status: ev.Status, Reason: ev.Code, Decision: audit.Deny, Duration: ev.Duration, Identity: ev.User, AccessKeyID: ev.Key,
		RequestBytes: ev.Sent, ResponseBytes: ev.Received,
	}
	if ev.Port != 0 && ev.Port != 443 {
		e.Host = net.JoinHostPort(ev.Host, strconv.Itoa(ev.Port))
	}
	if ev.Kind == mitm.KindTunnel {
		e.Decision = audit.Allow
	}
	if e.Decision == audit.Deny {
		e.Error = ev.Reason
	}
	if ev.Err != nil && !strings.Contains(e.Error, ev.Err.Error()) {
		if e.Error != "" {
			e.Error += ": "
		}
		e.Error += ev.Err.Error()
	}
	switch ev.Kind {
	case mitm.KindPanic:
		if ev.Method != http.MethodConnect {
			return // the pipeline has recorded and counted its request
		}
		p.metrics.Panic()
	case mitm.KindSilent:
		return // no request, and mostly no fault: clients connect ahead of need
	case mitm.KindReject:
		switch ev.Code {
		case mitm.CodeTunnelLimit:
			p.metrics.TunnelRejected("limit")
		case mitm.CodeDial:
			p.metrics.TunnelRejected("failed")
		default:
			p.metrics.TunnelRejected("refused")
		}
	case mitm.KindTunnel:
		p.metrics.TunnelEnded()
	}
	times := 0
	if ev.Kind == mitm.KindHandshake && ev.Code == mitm.CodeUntrusted {
		times = p.untrusting.note(ev.Client, ev.Time)
	}
	if times > 0 {
		p.log.Warn("a client does not trust the CA: it needs AWS_CA_BUNDLE (or SSL_CERT_FILE, NODE_EXTRA_CA_CERTS, a Java trust store); see `countersign env` and docs/ca.md",
			zap.String("client", ev.Client), zap.String("host", ev.Host), zap.Int("connections", times))
	}
	if err := p.audit.Write(e); err != nil {
		p.log.Error("audit line lost", zap.Error(err))
	}
}

// refuseRequest answers a request that never reached the pipeline in the shape
// that the clients of the host it was sent to understand.
func (p *proxy) refuseRequest(w http.ResponseWriter, r *http.Request, ev mitm.Event) {
	id := audit.NewRequestID()
	p.recordEvent(ev, id)
	host, _ := awsapi.LookupHost(ev.Host)
	w.Header().Set("Connection", "close")
	awsapi.WriteError(statusWriter{w, ev.Status}, r, host, awsapi.ProtocolUnknown, awsapi.APIError{
		Kind: awsapi.ErrInvalidRequest, Message: ev.Reason, RequestID: id,
	})
}

// statusWriter answers with a status of its own.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w statusWriter) WriteHeader(int) { w.ResponseWriter.WriteHeader(w.status) }
