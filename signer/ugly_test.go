package signer

import (
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// An uglyRequest is a request out of the corners: encoded slashes, dot
// segments, empty segments, repeated and empty parameters, white space.
type uglyRequest struct {
	method, service, path, query string
	header                       http.Header
	body                         []byte
}

var (
	uglySegments = []string{
		"a", "a%20b", "%2F", "a%2Fb", "..", ".", "", "...", "%C3%A9", "a+b", "~x", "x*y", "it's", "(p)", "%5E",
		"a:b", "a@b", "a=b", "a&b", "a;b", "a,b", "$x", "%25", "%2e%2e", "!", "-_.~", "%E1%88%B4", "%00", "%7e", "%41",
	}
	uglyNames  = []string{"a", "A", "a-b", "a%2Fb", "a/b", "%20", "list-type", "x-id", "%C3%A9", "a%2Bb", "~", "acl", "a.b", "prefix", "Z"}
	uglyValues = []string{"", "1", "a%20b", "%2F", "a/b", "a-b", "%2B", "a%3Db", "%26", "é", "%C3%A9", "~", "*", "2", "%25", "a:b"}
	uglyTexts  = []string{"v", " lead", "trail ", "a  b", "a   b    c", "a,b", "", "\"q  q\"", "é", "a=b; c=d", "x:y"}
	uglyHeader = []string{"X-Amz-Meta-A", "X-Amz-Meta-B", "Content-Type", "X-Custom", "Range", "If-Match", "Cache-Control", "X-Amz-Acl", "Amz-Sdk-Request"}
)

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

func ugly(r *rand.Rand) uglyRequest {
	u := uglyRequest{
		method:  pick(r, []string{"GET", "PUT", "POST", "DELETE", "HEAD", "PATCH"}),
		service: pick(r, []string{"s3", "dynamodb", "execute-api", "s3express", "lambda"}),
		header:  http.Header{},
	}
	for range r.IntN(5) {
		u.path += "/" + pick(r, uglySegments)
	}
	if u.path == "" || r.IntN(4) == 0 {
		u.path += "/"
	}
	var params []string
	for range r.IntN(6) {
		p := pick(r, uglyNames)
		if r.IntN(5) > 0 {
			p += "=" + pick(r, uglyValues)
		}
		params = append(params, p)
	}
	u.query = strings.Join(params, "&")
	for range r.IntN(5) {
		k := pick(r, uglyHeader)
		for range 1 + r.IntN(2) {
			u.header[k] = append(u.header[k], pick(r, uglyTexts))
		}
	}
	if u.method == "PUT" || u.method == "POST" || u.method == "PATCH" {
		u.body = make([]byte, r.IntN(40))
		for i := range u.body {
			u.body[i] = byte('a' + r.IntN(26))
		}
	}
	return u
}

func (u *uglyRequest) host() string { return u.service + ".us-east-1.amazonaws.com" }

// client is the request as a client's signer gets it.
func (u *uglyRequest) client(t testing.TB) *http.Request {
	target := u.path
	if u.query != "" {
		target += "?" + u.query
	}
	r := received(t, u.method, target, u.host(), u.header.Clone(), u.body)
	r.RequestURI = ""
	return r
}

// arrive is the same request as the proxy's server gets it. net/http trims
// what surrounds a value.
func arrive(r *http.Request) *http.Request {
	r.RequestURI = r.URL.RequestURI()
	r.Header.Del("Host")
	for k, values := range r.Header {
		for i, v := range values {
			r.Header[k][i] = strings.Trim(v, " \t")
		}
	}
	return r
}

// alter changes one byte of meaning and says which, or "" when it could not.
func alter(r *rand.Rand, in *http.Request, body []byte) (what string, newBody []byte) {
	newBody = body
	swap := func(s string) (string, bool) {
		var at []int
		for i := range len(s) {
			if isAlnum(s[i]) {
				at = append(at, i)
			}
		}
		if len(at) == 0 {
			return s, false
		}
		i := pick(r, at)
		c := byte('0')
		for c == s[i] || c|0x20 == s[i]|0x20 {
			c = "0123456789abcdefghij"[r.IntN(20)]
		}
		return s[:i] + string(c) + s[i+1:], true
	}
	path, query, _ := splitTarget(in.RequestURI)
	var ok bool
	switch r.IntN(6) {
	case 0:
		in.Method += "X"
		return "method", body
	case 1:
		if path, ok = swap(path); !ok {
			return "", body
		}
		if query != "" {
			path += "?" + query
		}
		in.RequestURI = path
		return "path", body
	case 2:
		if query, ok = swap(query); !ok {
			return "", body
		}
		in.RequestURI = path + "?" + query
		return "query", body
	case 3:
		for k := range in.Header {
			if k == "Authorization" || k == "User-Agent" {
				continue
			}
			if in.Header[k][0], ok = swap(in.Header[k][0]); ok {
				return "header " + k, body
			}
		}
		return "", body
	case 4:
		if len(body) == 0 {
			return "", body
		}
		newBody = append([]byte(nil), body...)
		newBody[r.IntN(len(body))] ^= 1
		return "body", newBody
	default:
		if in.Host, ok = swap(in.Host); ok {
			return "host", body
		}
		return "", body
	}
}

// sameQuery tells whether two queries decode to the same.
func sameQuery(a, b string) bool {
	x, err1 := url.ParseQuery(a)
	y, err2 := url.ParseQuery(b)
	return err1 == nil && err2 == nil && x.Encode() == y.Encode()
}
