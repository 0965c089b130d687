package pipeline

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/countersign-proxy/countersign/audit"
	"github.com/countersign-proxy/countersign/awsapi"
	"github.com/countersign-proxy/countersign/signer"
	"github.com/countersign-proxy/countersign/virtualsts"
)

// forward streams the request to AWS and the answer back.
func (p *Pipeline) forward(x *exchange) {
	target, ok := outgoingURL(x.in.RequestURI, x.outHost)
	if !ok {
		x.refuse(refuse(awsapi.ErrInvalidRequest, "target form", "the request target cannot be sent on with the bytes that were signed: "+
			"it begins with two slashes and holds characters that net/http would escape in another way; escape them with %%XX before signing"))
		return
	}
	x.in.URL = target
	if x.in.ProtoMajor == 1 {
		// Without this, net/http reads or closes the rest of an upload once an
		// answer begins; Kinesis Video PutMedia answers while it is being sent to.
		_ = http.NewResponseController(x.w).EnableFullDuplex() // only HTTP/1.1 knows it
	}
	p.proxy.ServeHTTP(x.w, x.in)
}

// outgoingURL makes a URL whose path and query go out with exactly the bytes of
// the request target.
//
// net/url keeps the encoding of a path as RawPath when that is a valid encoding
// of Path; any other bytes need Opaque, which net/http sends verbatim, but takes
// for an absolute URL when it begins with "//" (net/url.URL.RequestURI).
func outgoingURL(target, host string) (*url.URL, bool) {
	path, query, hasQuery := strings.Cut(target, "?")
	if !strings.HasPrefix(path, "/") {
		return nil, false
	}
	u := &url.URL{Scheme: "https", Host: host, RawQuery: query, ForceQuery: hasQuery && query == ""}
	if decoded, err := url.PathUnescape(path); err == nil {
		u.Path, u.RawPath = decoded, path
		if u.EscapedPath() == path {
			return u, u.RequestURI() == target
		}
	}
	if strings.HasPrefix(path, "//") {
		return nil, false
	}
	u.Path, u.RawPath, u.Opaque = "", "", path
	return u, u.RequestURI() == target
}

// newReverseProxy moves requests and answers. Everything that it changes on the
// way out is restored in rewrite, before the transport signs.
func newReverseProxy(p *Pipeline) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite:       rewrite,
		Transport:     signingTransport{p},
		FlushInterval: -1, // event streams and long polls must not wait in a buffer
		BufferPool:    &bufferPool{},
		ErrorLog:      log.New(io.Discard, "", 0), // what failed is in the record
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			x := exchangeOf(r.Context())
			if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
				x.upstream = err
				panic(http.ErrAbortHandler) // nobody is there to be answered
			}
			x.refuse(x.refuseTransfer(err))
		},
		ModifyResponse: func(res *http.Response) error {
			x := exchangeOf(res.Request.Context())
			x.entry.AWSRequestID = awsRequestID(res.Header)
			x.hideSignature(res)
			if x.verified != nil && res.StatusCode >= 400 && x.verified.BodyErr() != nil {
				// AWS answered a request whose body we cut off. The client is to
				// hear why.
				return x.verified.BodyErr()
			}
			if res.StatusCode == http.StatusSwitchingProtocols {
				// The body is the connection, and ReverseProxy writes to it. The head
				// goes past our ResponseWriter.
				x.w.status = res.StatusCode
				return nil
			}
			if err := x.notice(res); err != nil {
				return err
			}
			x.hideToken(res)
			if x.makesS3Session() {
				if err := x.hideS3Session(res); err != nil {
					return err
				}
			}
			if err := x.watch(res); err != nil {
				return err
			}
			res.Body = &upstreamBody{ReadCloser: res.Body, x: x}
			return nil
		},
	}
}

// guarded says whether an answer is watched for AWS keys that should not be in
// it: those of API calls, except where the configuration lets them pass. What S3
// returns is the customer's own data. Of a call that the tables do not know any
// kind of answer is.
func (x *exchange) guarded(res *http.Response) bool {
	if x.call == nil || x.host.S3 && !slices.Contains(x.host.Models, "s3control") || x.call.CredentialTier == "A" {
		return false
	}
	if x.call.Unknown != "" {
		return true
	}
	t, _, _ := strings.Cut(strings.ToLower(res.Header.Get("Content-Type")), ";")
	switch t = strings.TrimSpace(t); t {
	case "", "application/json", "application/xml", "application/cbor", "application/x-amz-cbor-1.1":
		return true
	}
	return strings.HasPrefix(t, "application/x-amz-json-") || strings.HasPrefix(t, "text/") || strings.HasSuffix(t, "+json") || strings.HasSuffix(t, "+xml")
}

// watch lets an answer pass as far as it holds no AWS keys.
func (x *exchange) watch(res *http.Response) error {
	if !x.guarded(res) {
		return nil
	}
	coding := contentCoding(res)
	body, ok := virtualsts.GuardCoded(res.Body, coding)
	switch {
	case ok:
		res.Body = body
	case x.call.Unknown != "" && len(x.host.Models) > 0 && res.Body != http.NoBody:
		// Nobody can say what AWS would hand out here, nor look into it.
		return &answerError{refuse(awsapi.ErrAccessDenied, "credentials in answer", "the call is not known to countersign, and its answer is compressed (%s) in a way that cannot be "+
			"looked into: it may hold AWS credentials; ask for it with Accept-Encoding: identity or gzip", coding)}
	}
	return nil
}

// contentCoding is that of an answer, however many headers it takes.
func contentCoding(res *http.Response) string {
	return strings.Join(res.Header["Content-Encoding"], ",")
}

// rewrite restores what ReverseProxy has cleaned up in the copy: the target's
// bytes, and headers that are part of what was signed.
func rewrite(pr *httputil.ProxyRequest) {
	x := exchangeOf(pr.In.Context())
	pr.Out.URL = x.in.URL
	pr.Out.Host = x.outHost
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if v, ok := pr.In.Header[name]; ok {
			pr.Out.Header[name] = v
		}
	}
	// No signature covers HTTP trailers (those of aws-chunked are in the body).
	pr.Out.Trailer = nil
	delete(pr.Out.Header, "Trailer")
	// A server that went on in HTTP/2 (h2c) would take further requests over the
	// connection, which nobody here sees. What is offered need not be taken.
	if !strings.EqualFold(pr.Out.Header.Get("Upgrade"), "websocket") {
		delete(pr.Out.Header, "Upgrade")
		delete(pr.Out.Header, "Connection")
	}
	// ReverseProxy keeps "TE: trailers" only, and net/http sends no other.
	if x.heldBody {
		pr.Out.Body = io.NopCloser(bytes.NewReader(x.bodyRead))
		pr.Out.ContentLength = int64(len(x.bodyRead))
	}
}

// signingTransport signs last, on exactly what goes out.
type signingTransport struct{ p *Pipeline }

func (t signingTransport) RoundTrip(out *http.Request) (*http.Response, error) {
	x := exchangeOf(out.Context())
	if x.verified != nil {
		if err := signer.Resign(out, x.verified, x.session.Credentials, signer.ResignOptions{Now: t.p.opt.Now, Keys: t.p.keys}); err != nil {
			return nil, err
		}
	}
	x.elsewhere += x.body.waited()
	x.handed = time.Now()
	return t.p.opt.Transport.RoundTrip(out)
}

// awsRequestID finds the id that AWS gave the request; services spell it in
// several ways.
func awsRequestID(h http.Header) string {
	for _, name := range []string{"X-Amzn-Requestid", "X-Amz-Request-Id", "X-Amz-Cf-Id"} {
		if v := h.Get(name); v != "" {
			return v
		}
	}
	return ""
}

// upstreamBody remembers why an answer ended early.
type upstreamBody struct {
	io.ReadCloser
	x *exchange
}

func (b *upstreamBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.x.upstream = err
		if errors.Is(err, virtualsts.ErrCredentials) || errors.Is(err, virtualsts.ErrUnwatched) {
			b.x.entry.Decision, b.x.entry.Reason = audit.Deny, "credentials in answer"
		}
	}
	return n, err
}

// bufferPool lends ReverseProxy its copy buffers.
type bufferPool struct{ pool sync.Pool }

const copyBuffer = 32 << 10

func (b *bufferPool) Get() []byte {
	if v, ok := b.pool.Get().(*[]byte); ok {
		return *v
	}
	return make([]byte, copyBuffer)
}

func (b *bufferPool) Put(p []byte) { b.pool.Put(&p) }
