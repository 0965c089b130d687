package awsapi

import "net/http"

// Input is a request to be understood.
type Input struct {
	Host Host
	// Request is read for its method, RequestURI (the bytes that AWS will
	// receive) and headers; its Body is left alone.
	Request *http.Request
	// Body is the whole body with transfer framing (aws-chunked) removed; nil
	// when it was not read. Only calls for which NeedsBody is false can be
	// understood without it.
	Body []byte
	// AccountID owns the resources that ARNs name without an account: that of
	// the role which will sign. "" when unknown.
	AccountID string
	// Region is that of the credential scope; used where the host has none.
	Region string
}

// Identify says which call a request is, what it needs and what it would hand
// out. It never fails: what it cannot understand it says in Call.Unknown.
func Identify(in Input) *Call {
	return &Call{Host: in.Host, Protocol: ProtocolOf(in.Host, in.Request), Region: in.Region, AccountID: in.AccountID,
		Unknown: "the operation cannot be told from the request"}
}

// NeedsBody reports whether Identify needs the body of a request to this host.
func NeedsBody(h Host, r *http.Request) bool { return true }
