package awsapi

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
)

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
	// Reserve is asked before n more bytes are held of a body that unpacks. What it
	// refuses makes the call unknown; what it granted is the caller's to take back.
	// nil grants everything.
	Reserve func(n int64) error
}

// maxInflated bounds what a compressed body may unpack to.
const maxInflated = 32 << 20

// Identify says which call a request is, what it needs and what it would hand
// out. It never fails: what it cannot understand it says in Call.Unknown.
//
// For calls that hand out AWS keys (tier A) it errs to the safe side: a request
// that AWS might take for one, though we cannot tell, is unknown and of tier A.
func Identify(in Input) *Call {
	c := &Call{Host: in.Host, Region: in.Host.Region, AccountID: in.Host.AccountID, Protocol: ProtocolOf(in.Host, in.Request)}
	if c.Region == "" {
		c.Region = in.Region
	}
	if c.AccountID == "" {
		c.AccountID = in.AccountID
	}
	if identifyWebSocket(c, in) {
		return c
	}
	rq, err := readHead(in.Host, in.Request)
	if err == nil {
		rq.body, rq.reserve = in.Body, in.Reserve
		if r := in.Request; rq.body == nil && r.ContentLength == 0 && len(r.TransferEncoding) == 0 && (r.Body == nil || r.Body == http.NoBody) {
			rq.body = []byte{} // there is none
		}
		var found []match
		if found, err = rq.operations(); err == nil {
			err = rq.describe(c, found)
		}
	}
	if err != nil {
		var twice ambiguity
		c.Unknown, c.Ambiguous = err.Error(), errors.As(err, &twice)
		c.Needs, c.AccessLevel = nil, ""
		if c.CredentialTier == "" && mightHandOutKeys(in) {
			c.CredentialTier = "A"
		}
	}
	return c
}

// NeedsBody reports whether Identify needs the body of a request to this host.
// It looks at the head only.
func NeedsBody(h Host, r *http.Request) bool {
	rq, err := readHead(h, r)
	if err != nil {
		return false
	}
	found, err := rq.operations()
	if err != nil {
		return errors.Is(err, errNoBody)
	}
	for _, m := range found {
		if rq.wantsBody(m.op) {
			return true
		}
	}
	return false
}

var errNoBody = errors.New("the operation is named in the body, which was not read")

// request is a request whose head has been taken apart.
type request struct {
	h        Host
	r        *http.Request
	models   []*model
	path     string // raw
	query    *form
	protocol Protocol
	body     []byte // as sent; nil when not read
	reserve  func(int64) error
	params   *form  // query and ec2: the parameters of the call
	found    *found // what the operation's plan found in the body
	kind     byte   // of the body: j, f or x
	labels   map[string]string
	head     http.Header // the headers; for S3 with those that a presigned URL carries as parameters
}

func readHead(h Host, r *http.Request) (*request, error) {
	rq := &request{h: h, r: r, head: r.Header}
	for _, name := range [...]string{"X-Http-Method-Override", "X-Http-Method", "X-Method-Override"} {
		if len(r.Header.Values(name)) > 0 {
			return nil, ambiguous("the header %s asks for another method", name)
		}
	}
	target := r.RequestURI
	if target == "" && r.URL != nil { // a request that was made here rather than received
		target = r.URL.RequestURI()
	}
	if !strings.HasPrefix(target, "/") {
		return nil, errors.New("the request target is not a plain path")
	}
	if strings.ContainsAny(target, "#\\ ") {
		// Some readers end the target there, or take one for a slash.
		return nil, ambiguous("the request target has a character that no path and no query may have unescaped (%q)", target[strings.IndexAny(target, "#\\ ")])
	}
	if len(r.Header["Content-Type"]) > 1 {
		return nil, ambiguous("the request has several content types")
	}
	path, query, _ := strings.Cut(target, "?")
	rq.path = path
	names := h.Models
	if h.Service == "s3express" && h.Bucket == "" && strings.HasPrefix(path, "/v20180820/") {
		names = []string{"s3control"} // shares the control endpoint; no directory bucket has such a name
	}
	for _, name := range names {
		if m := modelNamed(name); m != nil {
			rq.models = append(rq.models, m)
		}
	}
	if rq.models == nil {
		return nil, fmt.Errorf("no public model describes the API of %s", h.Name)
	}
	var err error
	if rq.query, err = parseForm(query, false); err != nil {
		return nil, fmt.Errorf("the query string cannot be read: %w", err)
	}
	return rq, nil
}

// operations returns the operations that the request may be; more than one
// only where the wire cannot tell them apart.
func (rq *request) operations() ([]match, error) {
	if rq.models[0].name == "s3" {
		rq.protocol = ProtocolS3
		if err := rq.query.once(); err != nil {
			return nil, err
		}
		return rq.s3Operations()
	}
	targets := rq.r.Header.Values("X-Amz-Target")
	if len(targets) > 1 {
		return nil, ambiguous("the request has several X-Amz-Target headers")
	}
	smithy := rq.r.Header.Values("Smithy-Protocol")
	action := false
	for _, p := range rq.query.pairs {
		action = action || strings.EqualFold(p.key, "Action")
		if strings.EqualFold(p.key, "X-Amz-Target") {
			return nil, ambiguous("the query string has X-Amz-Target")
		}
	}
	rest := len(smithy) == 0 && len(targets) == 0 && !isForm(rq.r) && !(action && rq.speaks(ProtocolQuery, ProtocolEC2))
	if err := rq.query.once(); err != nil && !rest {
		return nil, err
	}
	switch {
	case len(smithy) > 0:
		if len(targets) > 0 || action {
			return nil, ambiguous("the request names its operation in more than one way")
		}
		return rq.cborOperation(smithy)
	case len(targets) == 1:
		if action || isForm(rq.r) {
			return nil, ambiguous("the request has X-Amz-Target and is a query call as well")
		}
		return rq.jsonOperation(targets[0])
	case !rest:
		return rq.queryOperation(action)
	case rq.speaks(ProtocolRESTJSON, ProtocolRESTXML):
		return rq.restOperations()
	}
	return nil, errors.New("the request does not name an operation")
}

func (rq *request) speaks(protocols ...Protocol) bool {
	for _, m := range rq.models {
		for _, p := range protocols {
			if slices.Contains(m.protocols, p) {
				return true
			}
		}
	}
	return false
}

func isForm(r *http.Request) bool {
	return mediaType(r.Header.Get("Content-Type")) == "application/x-www-form-urlencoded" && r.Method == http.MethodPost
}

func (rq *request) rootPath() bool { return rq.path == "/" }

// cborOperation finds POST /service/SHAPE/operation/NAME.
func (rq *request) cborOperation(smithy []string) ([]match, error) {
	rq.protocol, rq.kind = ProtocolCBOR, 'j'
	if len(smithy) != 1 || smithy[0] != "rpc-v2-cbor" || rq.r.Method != http.MethodPost {
		return nil, errors.New("the Smithy-Protocol header names a protocol that is not known")
	}
	f := strings.Split(rq.path, "/")
	if len(f) != 5 || f[0] != "" || f[1] != "service" || f[3] != "operation" {
		return nil, errors.New("the path is not that of a CBOR call")
	}
	for _, m := range rq.models {
		if slices.Contains(m.protocols, ProtocolCBOR) && m.shape == f[2] {
			if op := m.ops[f[4]]; op != nil {
				return []match{{route: &route{m: m, op: op}}}, nil
			}
		}
	}
	return nil, fmt.Errorf("no operation %.64q is known", f[4])
}

// jsonOperation finds X-Amz-Target: PREFIX.NAME.
func (rq *request) jsonOperation(target string) ([]match, error) {
	rq.protocol, rq.kind = ProtocolJSON, 'j'
	if rq.r.Method != http.MethodPost || !rq.rootPath() {
		return nil, errors.New("a call with X-Amz-Target must be POST /")
	}
	switch media := mediaType(rq.r.Header.Get("Content-Type")); {
	case media == "application/x-amz-json-1.0", media == "application/x-amz-json-1.1", media == "application/json":
	case media == targetCBOR && speaksTargetCBOR(rq.h):
		rq.protocol = ProtocolCBOR
	default:
		return nil, ambiguous("the content type does not fit a call with X-Amz-Target")
	}
	dot := strings.LastIndexByte(target, '.')
	if dot < 0 {
		return nil, errors.New("X-Amz-Target has no operation")
	}
	for _, m := range rq.models {
		if slices.Contains(m.protocols, ProtocolJSON) && m.targetPrefix == target[:dot] {
			if op := m.ops[target[dot+1:]]; op != nil {
				return []match{{route: &route{m: m, op: op}}}, nil
			}
		}
	}
	return nil, fmt.Errorf("no operation %.128q is known", target)
}

// queryOperation finds Action and Version among the parameters.
func (rq *request) queryOperation(inQuery bool) ([]match, error) {
	rq.protocol, rq.kind = ProtocolQuery, 'f'
	if rq.speaks(ProtocolEC2) {
		rq.protocol = ProtocolEC2
	}
	if !rq.speaks(ProtocolQuery, ProtocolEC2) {
		return nil, ambiguous("the content type does not fit the service's protocol")
	}
	if !rq.rootPath() {
		// SQS once took the queue's path; a service that reads the path as well
		// would read something that we do not.
		return nil, errors.New("the path of a query call must be /")
	}
	hasBody := rq.r.ContentLength != 0 && rq.r.Body != nil && rq.r.Body != http.NoBody || len(rq.body) > 0
	switch {
	case inQuery && hasBody:
		return nil, ambiguous("the call has parameters in the query string and a body too")
	case inQuery:
		if rq.r.Method != http.MethodGet && rq.r.Method != http.MethodPost {
			return nil, errors.New("a query call must be GET or POST")
		}
		rq.params = rq.query
	case rq.r.Method != http.MethodPost:
		return nil, errors.New("a query call must be GET or POST")
	case rq.body == nil:
		return nil, errNoBody
	default:
		if err := checkCharset(rq.r); err != nil {
			return nil, err
		}
		body, err := rq.plainBody()
		if err != nil {
			return nil, err
		}
		if rq.params, err = parseForm(string(body), true); err != nil {
			return nil, unreadable(err)
		}
		for _, p := range rq.query.pairs {
			if !strings.HasPrefix(strings.ToLower(p.key), "x-amz-") {
				return nil, ambiguous("the call has parameters in the query string and in the body")
			}
		}
	}
	action, ok := rq.params.get("Action")
	if !ok {
		return nil, errors.New("the call has no Action")
	}
	if !inQuery && len(codings(rq.r.Header)) > 0 && action != "PutMetricData" {
		// To a service that does not unpack it, the packed body is the form: its
		// bytes can be made to spell other parameters.
		return nil, ambiguous("the body is compressed, which only PutMetricData takes as a form")
	}
	for _, p := range rq.params.pairs {
		if p.key != "Action" && strings.EqualFold(p.key, "Action") {
			return nil, ambiguous("the call has Action in two spellings")
		}
	}
	version, _ := rq.params.get("Version")
	var found []match
	for _, m := range rq.models {
		if !slices.Contains(m.protocols, ProtocolQuery) && !slices.Contains(m.protocols, ProtocolEC2) {
			continue
		}
		if op := m.ops[action]; op != nil {
			found = append(found, match{route: &route{m: m, op: op}})
		}
	}
	if len(found) > 1 && slices.ContainsFunc(found, func(m match) bool { return m.m.apiVersion != found[0].m.apiVersion }) {
		found = slices.DeleteFunc(found, func(m match) bool { return m.m.apiVersion != version })
		if len(found) == 0 {
			return nil, fmt.Errorf("several APIs have %.64q, and Version does not tell which", action)
		}
	}
	if len(rq.models) > 1 && len(found) == 1 && found[0].m.apiVersion != version &&
		slices.ContainsFunc(rq.models, func(m *model) bool { return m.apiVersion == version }) {
		return nil, fmt.Errorf("the API of this Version has no operation %.64q", action)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no operation %.64q is known", action)
	}
	return found, nil
}

// restOperations finds the operation by method, path and query keys.
func (rq *request) restOperations() ([]match, error) {
	rq.protocol = ProtocolRESTJSON
	if !rq.speaks(ProtocolRESTJSON) {
		rq.protocol = ProtocolRESTXML
	}
	if mediaType(rq.r.Header.Get("Content-Type")) == "multipart/form-data" {
		return nil, ambiguous("the content type does not fit the service's protocol")
	}
	segments := splitPath(rq.path)
	for i, s := range segments {
		// What follows a semicolon is a parameter of the segment to some routers.
		if s == "." || s == ".." || s == "" && i < len(segments)-1 || strings.Contains(s, ";") || escapesPlain(s) {
			return nil, errors.New("the path is written in an unusual way")
		}
	}
	hasHeader := func(name string) bool { return rq.r.Header.Get(name) != "" }
	var found []match
	for _, m := range rq.models {
		if !slices.Contains(m.protocols, ProtocolRESTJSON) && !slices.Contains(m.protocols, ProtocolRESTXML) {
			continue
		}
		routes := m.routes().find(rq.r.Method, segments)
		for _, name := range rq.query.twice {
			if slices.ContainsFunc(routes, func(m match) bool { _, selects := m.static[name]; return selects }) {
				return nil, parameterTwice(name)
			}
		}
		left, conflict := choose(routes, rq.query, hasHeader)
		if conflict != "" {
			return nil, ambiguous("the query key %q selects another operation", conflict)
		}
		found = append(found, left...)
	}
	if len(found) > 1 { // the host may tell them apart
		prefixed := slices.DeleteFunc(slices.Clone(found), func(m match) bool {
			return m.op.hostPrefix == "" || strings.Contains(m.op.hostPrefix, "{") || !strings.HasPrefix(rq.h.Name, m.op.hostPrefix)
		})
		if len(prefixed) > 0 {
			found = prefixed
		}
	}
	switch {
	case len(found) == 0:
		return nil, fmt.Errorf("no operation is known for this method and path")
	case slices.ContainsFunc(found, func(m match) bool { return m.op.name != found[0].op.name }):
		var names []string
		for _, m := range found {
			names = append(names, m.m.name+":"+m.op.name)
		}
		return nil, fmt.Errorf("the request may be any of %s", strings.Join(names, ", "))
	}
	rq.kind = 'j'
	if slices.Contains(found[0].m.protocols, ProtocolRESTXML) {
		rq.kind, rq.protocol = 'x', ProtocolRESTXML
	}
	return found, nil
}

// escapesPlain reports whether a segment escapes a character that needs none
// (RFC 3986 section 2.3): a service that decodes before it routes would see
// another path than one that does not.
func escapesPlain(s string) bool {
	for i := 0; i+2 < len(s); i++ {
		if s[i] != '%' {
			continue
		}
		if !isHex(s[i+1]) || !isHex(s[i+2]) {
			return true
		}
		c := unhex(s[i+1])<<4 | unhex(s[i+2])
		if isLower(c) || 'A' <= c && c <= 'Z' || isDigit(c) || strings.IndexByte("-_.", c) >= 0 {
			return true
		}
	}
	return false
}

// wantsBody reports whether the body is needed to describe an operation.
func (rq *request) wantsBody(op *operation) bool {
	if op.blob || op.events {
		return false
	}
	switch rq.protocol {
	case ProtocolJSON, ProtocolCBOR:
		return true
	case ProtocolQuery, ProtocolEC2:
		return rq.params == nil
	}
	if rq.protocol == ProtocolS3 {
		return op.bodies > 0
	}
	return op.structured
}

// readBody finds in the body what an operation's plan asks for.
func (rq *request) readBody(op *operation) error {
	if rq.protocol == ProtocolQuery || rq.protocol == ProtocolEC2 {
		var err error
		rq.found, err = scanForm(rq.params, op.plans[1]()).whole()
		return err
	}
	if op.blob || op.events {
		return nil
	}
	if rq.body == nil {
		if rq.wantsBody(op) {
			return errors.New("the body, which says what the call is about, was not read")
		}
		return nil
	}
	if !op.structured && rq.protocol != ProtocolJSON && rq.protocol != ProtocolCBOR {
		return nil
	}
	body, err := rq.plainBody()
	if err != nil {
		return err
	}
	if !op.anyMedia {
		if err := rq.checkMedia(len(body)); err != nil {
			return err
		}
	}
	switch {
	case rq.protocol == ProtocolCBOR:
		rq.found, err = scanCBOR(body, op.plans[0]())
	case rq.kind == 'x':
		rq.found, err = scanXML(body, op.plans[2]())
	default:
		rq.found, err = scanJSON(body, op.plans[0]())
	}
	if err != nil {
		return unreadable(err)
	}
	return nil
}

// checkMedia says whether the content type fits a structured body.
func (rq *request) checkMedia(length int) error {
	if err := checkCharset(rq.r); err != nil {
		return err
	}
	if length == 0 {
		return nil
	}
	media := mediaType(rq.r.Header.Get("Content-Type"))
	fits := true
	switch {
	case rq.protocol == ProtocolCBOR:
		fits = media == "application/cbor" || media == targetCBOR
	case rq.kind == 'x':
		fits = media == "" || strings.Contains(media, "xml") || media == "application/octet-stream" || media == "binary/octet-stream"
	case rq.protocol == ProtocolRESTJSON:
		fits = media == "" || media == "application/json" || strings.HasPrefix(media, "application/x-amz-json-")
	}
	if !fits {
		return ambiguous("the content type does not fit the service's protocol")
	}
	return nil
}

func checkCharset(r *http.Request) error {
	values := r.Header.Values("Content-Type")
	if len(values) > 1 {
		return ambiguous("the request has several content types")
	}
	if len(values) == 0 {
		return nil
	}
	_, params, _ := strings.Cut(strings.ToLower(values[0]), ";")
	for p := range strings.SplitSeq(params, ";") {
		if name, charset, _ := strings.Cut(p, "="); strings.HasPrefix(strings.TrimSpace(name), "charset") { // charset*, too
			switch strings.Trim(strings.TrimSpace(charset), `"`) {
			case "utf-8", "utf8", "us-ascii":
			default:
				return ambiguous("the body is not in UTF-8")
			}
		}
	}
	return nil
}

// codings returns the content codings of a body, except the framing of S3's
// chunks, which is gone already.
func codings(h http.Header) []string {
	var out []string
	for _, v := range h.Values("Content-Encoding") {
		for c := range strings.SplitSeq(v, ",") {
			if c = strings.ToLower(strings.TrimSpace(c)); c != "" && c != "identity" && c != "aws-chunked" {
				out = append(out, c)
			}
		}
	}
	return out
}

// plainBody returns the body without its content coding.
func (rq *request) plainBody() ([]byte, error) {
	codings := codings(rq.r.Header)
	if len(codings) == 0 || len(rq.body) == 0 {
		return rq.body, nil
	}
	if len(codings) > 1 || codings[0] != "gzip" {
		return nil, errors.New("the body is compressed in a way that is not known")
	}
	z, err := gzip.NewReader(bytes.NewReader(rq.body))
	if err != nil {
		return nil, ambiguous("the body is not gzip, as its header says")
	}
	if z.Name != "" || z.Comment != "" || len(z.Extra) > 0 {
		return nil, ambiguous("the head of the gzip body holds text, which a service that does not unpack it would read")
	}
	// Memory grows with what comes out, never with what is announced.
	var out []byte
	for {
		if len(out) > maxInflated {
			return nil, errors.New("the body unpacks to too much")
		}
		if len(out) == cap(out) {
			size := min(max(2*cap(out), 16<<10), maxInflated+1)
			if rq.reserve != nil {
				if err := rq.reserve(int64(size - cap(out))); err != nil {
					return nil, fmt.Errorf("there is no room to unpack the body: %w", err)
				}
			}
			grown := make([]byte, len(out), size)
			copy(grown, out)
			out = grown
		}
		n, err := z.Read(out[len(out):cap(out)])
		out = out[:len(out)+n]
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, ambiguous("the body is not gzip, as its header says")
		}
	}
	if len(out) > maxInflated {
		return nil, errors.New("the body unpacks to too much")
	}
	return out, nil
}
