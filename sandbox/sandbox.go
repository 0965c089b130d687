// Package sandbox stands in for AWS where there is none: it serves a little of
// STS, S3, DynamoDB and console sign-in from memory, and verifies every
// signature with the AWS SDK's own signer.
//
// It is for `countersign demo` and for tests that need no network. It proves
// nothing about AWS: it knows few operations, keeps no promise of durability,
// and where it differs from AWS, AWS is right. Since the SDK's signer computes
// the expected signature, requests that this signer would not produce (a signed
// User-Agent, a signed Content-Length of 0, chunk signatures) are refused.
//
// It imports nothing of countersign, so that the two cannot share a mistake.
package sandbox

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Limits, each of which ends in an error of AWS's shape, or for records in the
// oldest ones being dropped.
const (
	maxBody        = 64 << 20  // bytes of one request
	maxStored      = 512 << 20 // bytes of all objects together
	maxRecords     = 10_000
	maxCredentials = 100_000
	maxItems       = 100_000 // in a bucket or table
	maxContainers  = 1_000   // buckets, tables
)

// DefaultAccount owns everything in a sandbox that was not told otherwise.
const DefaultAccount = "123456789012"

// Options of a sandbox. The zero value listens on a free port of 127.0.0.1
// with TLS, owns DefaultAccount, and lets its one user assume any role.
type Options struct {
	// Address to listen on, 127.0.0.1:0 when empty.
	Address string

	// Plain serves HTTP without TLS.
	Plain bool

	// Account is the twelve-digit account id, DefaultAccount when empty.
	Account string

	// Roles that exist, by ARN. Nil: every role of every account exists.
	Roles map[string]Role

	// Foreign finds sessions that another stand-in for STS issued, which the sign-in
	// endpoint then takes as well. Nil: there are none.
	Foreign func(accessKeyID string) (Session, bool)

	// Now is the clock, time.Now when nil.
	Now func() time.Time
}

// Session is a session of another stand-in for STS.
type Session struct {
	Credentials aws.Credentials // with their end
	ARN         string          // of an assumed role or federated user
	Chained     bool            // assumed with the credentials of another role
}

// Role is what a role's trust policy and settings demand.
type Role struct {
	ExternalID  string        // required in AssumeRole when not empty
	MaxDuration time.Duration // 1 hour when zero
}

// Request is the record of one request as it arrived. It holds secrets of the
// sandbox (tokens, signatures), which are worth nothing elsewhere.
type Request struct {
	Time      time.Time
	Method    string
	Host      string
	Target    string // path and query as sent
	Header    http.Header
	BodyBytes int64      // as sent, aws-chunked framing included
	Form      url.Values // of query-protocol and sign-in requests

	AccessKeyID string // "" when there was no signature
	Principal   string // ARN of the verified caller, "" when not verified
	Service     string // of the credential scope
	Region      string // of the credential scope
	Operation   string // as understood, such as "PutObject"; "" when it was not

	Status int
	Error  string // error code of the answer, "" for success
}

// Server is a running sandbox. Safe for concurrent use; call Close.
type Server struct {
	options   Options
	listener  net.Listener
	http      *http.Server
	done      chan struct{}
	authority *authority // nil when plain
	root      aws.Credentials

	mu      sync.Mutex
	records []Request
	keys    map[string]principal
	signins map[string]signin
	buckets map[string]*bucket
	tables  map[string]*table
	stored  int64
}

// Start serves until Close.
func Start(o Options) (*Server, error) {
	if o.Address == "" {
		o.Address = "127.0.0.1:0"
	}
	if o.Account == "" {
		o.Account = DefaultAccount
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Server{options: o, done: make(chan struct{}), keys: map[string]principal{}, signins: map[string]signin{},
		buckets: map[string]*bucket{}, tables: map[string]*table{}}
	s.root = s.AddUser("sandbox")
	listener, err := net.Listen("tcp", o.Address)
	if err != nil {
		return nil, err
	}
	if !o.Plain {
		if s.authority, err = newAuthority(); err != nil {
			listener.Close()
			return nil, err
		}
		listener = tls.NewListener(listener, &tls.Config{GetCertificate: s.authority.certificate, NextProtos: []string{"http/1.1"}})
	}
	s.listener = listener
	s.http = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          log.New(io.Discard, "", 0), // handshakes that fail are the client's to report
	}
	go func() {
		defer close(s.done)
		// Serve returns when the listener is closed, which is what Close does.
		_ = s.http.Serve(listener)
	}()
	return s, nil
}

// Close ends the server and cuts off what is still running.
func (s *Server) Close() error {
	err := s.http.Close()
	<-s.done
	return err
}

// Shutdown ends the server after the requests that are running.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	<-s.done
	return err
}

// Address is where the server listens, host:port.
func (s *Server) Address() string { return s.listener.Addr().String() }

// URL is Address with its scheme.
func (s *Server) URL() string {
	if s.options.Plain {
		return "http://" + s.Address()
	}
	return "https://" + s.Address()
}

// RootPEM is the certificate to trust, nil when plain. It vouches for every
// name, and dies with the process.
func (s *Server) RootPEM() []byte {
	if s.authority == nil {
		return nil
	}
	return s.authority.pem
}

// Credentials are the long-term keys of the sandbox's first user.
func (s *Server) Credentials() aws.Credentials { return s.root }

// Requests returns the records so far, oldest first, at most the last 10,000.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.records...)
}

// Forget drops the records so far.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = nil
}

// call is one request on its way through the sandbox.
type call struct {
	*http.Request
	record Request
	caller principal
	body   []byte // decoded
	id     string // request id
	now    time.Time
}

// ServeHTTP answers one request, verified first, and records it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now := s.options.Now()
	c := &call{Request: r, now: now, id: s.requestID(), record: Request{
		Time: now, Method: r.Method, Host: r.Host, Target: r.RequestURI, Header: r.Header.Clone()}}
	out := &statusWriter{ResponseWriter: w}
	out.Header().Set("x-amzn-RequestId", c.id)
	out.Header().Set("Date", now.UTC().Format(http.TimeFormat))
	if err := s.serve(out, c); err != nil {
		var e *apiError
		if !errors.As(err, &e) {
			e = &apiError{500, "InternalFailure", err.Error()}
		}
		c.record.Error = e.code
		writeError(out, c, e)
	}
	c.record.Status = out.status
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.records) >= maxRecords {
		s.records = append([]Request(nil), s.records[len(s.records)-maxRecords+1:]...)
	}
	s.records = append(s.records, c.record)
}

func (s *Server) serve(w http.ResponseWriter, c *call) error {
	raw, err := io.ReadAll(http.MaxBytesReader(w, c.Body, maxBody))
	c.record.BodyBytes = int64(len(raw))
	if err != nil {
		return &apiError{400, "EntityTooLarge", "the sandbox takes bodies of up to " + strconv.Itoa(maxBody) + " bytes, whole: " + err.Error()}
	}
	c.body = raw
	if isSignin(c) {
		return s.serveSignin(w, c)
	}
	if err := s.verify(c, raw); err != nil {
		return err
	}
	switch c.record.Service {
	case "sts":
		return s.serveSTS(w, c)
	case "s3":
		return s.serveS3(w, c)
	case "dynamodb":
		return s.serveDynamoDB(w, c)
	}
	return &apiError{400, "UnknownOperationException", "the sandbox has no service " + c.record.Service}
}

// hostOnly is the host of the request without its port, in lower case.
func (c *call) hostOnly() string {
	host := c.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.ToLower(host)
}

// rawPath is the path as it stood in the request line.
func (c *call) rawPath() string {
	path, _, _ := strings.Cut(c.RequestURI, "?")
	return path
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}
