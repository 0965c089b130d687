package awsapi

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// s3Target is what an S3 request is addressed to.
type s3Target struct {
	bucket string // name, or the access point's label
	key    string
	level  int // 0 service, 1 bucket, 2 object
}

// s3TargetOf takes the bucket and key from the host and the path. The path is
// not cleaned up: to S3, "//" and "/../" are parts of a key.
func (rq *request) s3TargetOf() (s3Target, error) {
	t := s3Target{bucket: rq.h.Bucket}
	rest := rq.path[1:]
	if t.bucket == "" {
		raw, after, _ := strings.Cut(rest, "/")
		if raw == "" {
			if rest != "" {
				return t, errors.New("the path has no bucket")
			}
			return t, nil
		}
		if !allIn(raw, isBucketByte) || raw == "." || raw == ".." {
			return t, errors.New("the bucket's name is written in an unusual way")
		}
		t.bucket, rest = raw, after
	}
	t.level = 1
	if rest != "" {
		key, err := unescape(rest, false)
		if err != nil {
			return t, fmt.Errorf("the key cannot be read: %w", err)
		}
		t.key, t.level = key, 2
	}
	return t, nil
}

func isBucketByte(c byte) bool {
	return isLDH(c) || 'A' <= c && c <= 'Z' || c == '.' || c == '_'
}

// s3PostObject is the upload by an HTML form, which the models do not have.
var s3PostObject = &operation{name: "PostObject", method: http.MethodPost, blob: true, needs: []needSpec{{action: "s3:PutObject"}}}

// s3Operations finds the operation by method, level and query keys.
func (rq *request) s3Operations() ([]match, error) {
	m := modelNamed("s3")
	if len(rq.r.Header.Values("X-Amz-Target")) > 0 {
		return nil, ambiguous("the request has X-Amz-Target, which S3 does not know")
	}
	rq.s3Head()
	t, err := rq.s3TargetOf()
	if err != nil {
		return nil, err
	}
	if rq.h.Service == "s3-object-lambda" && rq.path == "/WriteGetObjectResponse" && rq.r.Method == http.MethodPost {
		return []match{{route: &route{m: m, op: m.ops["WriteGetObjectResponse"]}}}, nil
	}
	if t.level == 1 && rq.r.Method == http.MethodPost && mediaType(rq.r.Header.Get("Content-Type")) == "multipart/form-data" {
		if len(rq.query.pairs) > 0 {
			return nil, errors.New("a form upload has no query string")
		}
		return []match{{route: &route{m: m, op: s3PostObject}}}, nil
	}
	var found []match
	for _, r := range m.s3Routes()[t.level] {
		if r.op.method == rq.r.Method {
			found = append(found, match{route: r})
		}
	}
	if t.level == 0 { // ListBuckets and ListDirectoryBuckets are told apart by host alone
		found = slices.DeleteFunc(found, func(f match) bool {
			return (f.op.name == "ListDirectoryBuckets") != (rq.h.Service == "s3express")
		})
	}
	left, conflict := choose(found, rq.query, func(name string) bool { return len(rq.head.Values(name)) > 0 })
	if conflict != "" {
		return nil, ambiguous("the sub-resource %q selects another operation", conflict)
	}
	if len(left) == 0 {
		return nil, errors.New("S3 has no operation of this method and query string")
	}
	op := left[0]
	for _, l := range left[1:] { // older names of the same operation
		if strings.HasSuffix(l.op.name, "Configuration") {
			op = l
		}
	}
	if err := rq.s3Query(m, op); err != nil {
		return nil, err
	}
	return []match{op}, nil
}

// s3Head adds the headers that a request carries as query parameters: SDKs
// move them there when they presign, and S3 takes them from either place.
func (rq *request) s3Head() {
	cloned := false
	for _, p := range rq.query.pairs {
		name := http.CanonicalHeaderKey(p.key)
		if !strings.HasPrefix(name, "X-Amz-") || s3Presigning[name] {
			continue
		}
		if !cloned {
			rq.head, cloned = rq.r.Header.Clone(), true
		}
		rq.head.Add(name, p.value)
	}
}

// s3Presigning are the parameters of a presigned URL that are of its signature.
var s3Presigning = map[string]bool{
	"X-Amz-Algorithm": true, "X-Amz-Credential": true, "X-Amz-Date": true, "X-Amz-Expires": true, "X-Amz-Signedheaders": true,
	"X-Amz-Signature": true, "X-Amz-Security-Token": true, "X-Amz-Region-Set": true, "X-Amz-S3session-Token": true,
}

// s3Query refuses a query key that would select another operation, or that S3
// is not known to have: it may be a sub-resource that came later.
func (rq *request) s3Query(m *model, op match) error {
	for _, p := range rq.query.pairs {
		if _, mine := op.static[p.key]; mine || slices.Contains(op.op.query, p.key) {
			continue
		}
		lower := strings.ToLower(p.key)
		switch {
		case strings.HasPrefix(lower, "x-amz-") || p.key == "x-id":
			continue
		case m.s3Selectors()[p.key]:
			if p.key == "partNumber" && (op.op.name == "GetObject" || op.op.name == "HeadObject") {
				continue
			}
			return ambiguous("the sub-resource %q selects another operation", p.key)
		case !m.queryKeys[p.key]:
			return fmt.Errorf("S3 is not known to have the query key %.64q", p.key)
		}
	}
	return nil
}

// s3Routes returns the operations by level: service, bucket, object.
func (m *model) s3Routes() [3][]*route {
	return s3Levels.get("s3", func() *s3Tables { return newS3Tables(m) }).routes
}

func (m *model) s3Selectors() map[string]bool {
	return s3Levels.get("s3", func() *s3Tables { return newS3Tables(m) }).selectors
}

type s3Tables struct {
	routes    [3][]*route
	selectors map[string]bool // query keys that choose an operation
}

var s3Levels lazy[s3Tables]

func newS3Tables(m *model) *s3Tables {
	t := &s3Tables{selectors: map[string]bool{"uploadId": true, "partNumber": true}}
	for _, name := range m.names {
		op := m.ops[name]
		path, query, _ := strings.Cut(op.uri, "?")
		level := 0
		switch strings.TrimSuffix(path, "/") {
		case "":
		case "/{Bucket}":
			level = 1
		case "/{Bucket}/{Key+}":
			level = 2
		default:
			continue
		}
		r := &route{m: m, op: op}
		if query != "" {
			r.static = make(map[string]string)
			for pair := range strings.SplitSeq(query, "&") {
				k, v, _ := strings.Cut(pair, "=")
				if k == "x-id" {
					continue // the client's to say
				}
				r.static[k] = v
				t.selectors[k] = true
			}
		}
		t.routes[level] = append(t.routes[level], r)
	}
	return t
}
