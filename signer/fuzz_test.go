package signer

import (
	"bytes"
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func FuzzAuthorization(f *testing.F) {
	for _, s := range []string{testAuth, s3Auth, v4aAuth, "", "AWS a:b", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request,SignedHeaders=host,Signature=0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		sig := &Signature{}
		if err := parseAuthorization(sig, text); err != nil {
			if err.Reason == "" || err.Message == "" {
				t.Fatalf("refused without a reason: %+v", err)
			}
			return
		}
		// Printed and parsed again, it is the same.
		s := resigning{sig: sig, seed: sig.signature, scope: sig.scope()}
		s.creds.AccessKeyID = sig.AccessKeyID
		printed := s.authorization(nil, sig.SignedHeaders)
		again := &Signature{}
		if err := parseAuthorization(again, printed); err != nil {
			t.Fatalf("%q printed as %q: %v", text, printed, err)
		}
		if s.sig = again; s.authorization(nil, again.SignedHeaders) != printed {
			t.Fatalf("%q printed as %q and then otherwise", text, printed)
		}
		// And a canonical spelling is printed as it was.
		if strings.Count(text, ", ") == 2 && strings.Index(text, "SignedHeaders=") < strings.Index(text, "Signature=") &&
			strings.HasPrefix(text, sig.Algorithm+" Credential=") && !strings.Contains(text, ",  ") && !strings.Contains(text, " ,") && !strings.HasSuffix(text, " ") && text != printed {
			t.Fatalf("%q printed as %q", text, printed)
		}
	})
}

func FuzzPresignedQuery(f *testing.F) {
	f.Add(testQ)
	f.Add("a=b&" + testQ + "&c")
	f.Add("x-amz-signature=1")
	f.Add("X-Amz-Security-Token=%2F&" + testQ)
	f.Fuzz(func(t *testing.T, query string) {
		r := &http.Request{Method: "GET", Host: "h", RequestURI: "/?" + query, URL: &url.URL{}, Header: http.Header{}}
		sig, err := Parse(r)
		if err != nil {
			return
		}
		// net/url, which reads queries in its own way, finds the same values.
		q, err := url.ParseQuery(strings.ReplaceAll(query, "+", "%2B"))
		if err != nil {
			return
		}
		if len(q["X-Amz-Signature"]) != 1 || q.Get("X-Amz-Signature") != sig.signature || !strings.HasPrefix(q.Get("X-Amz-Credential"), sig.AccessKeyID+"/") {
			t.Fatalf("%q was read otherwise than by net/url", query)
		}
	})
}

func FuzzCanonical(f *testing.F) {
	f.Add("/a/../b//c%2F", "b=2&a=1&a=%2f&c", "x  y\tz")
	f.Add("/", "", "")
	f.Add("/%zz", "%zz&&=", " ")
	f.Fuzz(func(t *testing.T, path, query, value string) {
		if path == "" || path[0] != '/' {
			return
		}
		m := message{method: "GET", path: path, query: query, host: "h", signedHeaders: []string{"host", "x-a"}, values: [][]string{nil, {value}}}
		for _, sig := range []*Signature{{Service: "s3"}, {Service: "lambda"}, {Form: FormQuery, Service: "s3", tokenIn: tokenParam}} {
			for c := range m.candidates(sig) {
				text, ok := m.appendCanonical(nil, c)
				if !ok {
					continue
				}
				if c.query != queryEncoded || c.path != pathNormal && c.path != pathSingle {
					continue
				}
				// What is canonical is its own canonical form: the query
				// encoded again, and values folded again.
				lines := strings.SplitN(string(text), "\n", 4)
				again, ok := appendQuery(nil, lines[2], queryEncoded, false, false)
				if !ok || string(again) != lines[2] {
					t.Fatalf("query %q is canonical as %q and then as %q", query, lines[2], again)
				}
				if c.path == pathSingle && !strings.Contains(path, "\n") {
					if again, ok := appendSinglePath(nil, lines[1]); !ok || string(again) != lines[1] {
						t.Fatalf("path %q is canonical as %q and then as %q", path, lines[1], again)
					}
				}
			}
		}
		if n := normalPath(path); normalPath(n) != n || isNormal(path) && n != path && path != "/" {
			t.Fatalf("path %q is normal as %q", path, n)
		}
		folded := appendFolded(nil, value, false)
		if again := appendFolded(nil, string(folded), false); !bytes.Equal(again, folded) {
			t.Fatalf("value %q folds to %q and then to %q", value, folded, again)
		}
	})
}

// fuzzTransfer sends a body through the outgoing side. The property: whatever
// comes in, nothing but what was signed ever goes out complete.
func fuzzTransfer(t *testing.T, r *http.Request, wire []byte, want []byte, same func(a, b []byte) bool) {
	r.Body = io.NopCloser(bytes.NewReader(wire))
	v, err := parseAndVerify(r, clientCreds, VerifyOptions{Now: at(testNow), Keys: fuzzKeys})
	if err != nil {
		t.Fatal(explain(err))
	}
	out := outgoing(r)
	if err := Resign(out, v, roleCreds, ResignOptions{Now: at(testNow), Keys: fuzzKeys}); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(out.Body)
	if (err != nil) != (v.BodyErr() != nil) {
		t.Fatalf("Read says %v, BodyErr says %v", err, v.BodyErr())
	}
	if (err == nil) != same(wire, want) {
		t.Fatalf("%q: %v", wire, err)
	}
	if len(got) > len(wire) {
		t.Fatalf("%d bytes came in, %d went out", len(wire), len(got))
	}
}

var fuzzKeys = &Keys{}

func FuzzChunks(f *testing.F) {
	c := chunkClient{creds: clientCreds, sizes: []int{3, 10}, noLength: true}
	c.build(f)
	f.Add(c.wire)
	f.Add([]byte("0;chunk-signature=" + testSig + "\r\n\r\n"))
	f.Add([]byte("ffffffffffffffff;chunk-signature="))
	f.Fuzz(func(t *testing.T, wire []byte) {
		fuzzTransfer(t, c.r, wire, c.wire, func(a, b []byte) bool {
			// The digits of a size may be in either case; nothing else may.
			return bytes.Equal(bytes.Replace(a, []byte("\r\nA;chunk-"), []byte("\r\na;chunk-"), 1), b)
		})
	})
}

func FuzzTrailers(f *testing.F) {
	c := chunkClient{creds: clientCreds, trailers: []string{"x-b:2", "x-a:1"}, noLength: true}
	c.build(f)
	head := c.wire[:bytes.Index(c.wire, []byte("x-b"))]
	f.Add(c.wire[len(head):])
	f.Add([]byte("x-amz-trailer-signature:" + testSig + "\r\n\r\n"))
	f.Add([]byte("x-a:1\r\nx-a:1\r\n"))
	meaning := func(b []byte) string {
		return strings.NewReplacer("x-a:1", "", "x-b:2", "").Replace(strings.ToLower(strings.NewReplacer(" ", "", "\t", "").Replace(string(b))))
	}
	f.Fuzz(func(t *testing.T, tail []byte) {
		fuzzTransfer(t, c.r, append(bytes.Clone(head), tail...), c.wire, func(a, b []byte) bool {
			// White space around values, case of names and order of the two
			// trailers mean nothing.
			return bytes.Equal(a, b) || meaning(a) == meaning(b) && acceptable(c.r, a)
		})
	})
}

// acceptable asks the verifier alone, without signing again.
func acceptable(r *http.Request, wire []byte) bool {
	r.Body = io.NopCloser(bytes.NewReader(wire))
	v, err := parseAndVerify(r, clientCreds, VerifyOptions{Now: at(testNow), Keys: fuzzKeys})
	if err != nil {
		return false
	}
	_, err = v.Buffer(0)
	return err == nil
}

func FuzzEvents(f *testing.F) {
	r, c := eventRequest(f, clientCreds, testNow, "https://transcribestreaming.us-east-1.amazonaws.com/stream", nil)
	r.ContentLength = -1
	r = arrive(r)
	wire := append(c.frame(f, []byte("one")), c.frame(f, nil)...)
	f.Add(wire)
	f.Add(wire[:50])
	e := newFrame([]byte("x"))
	e.seal()
	f.Add(e.frame)
	f.Fuzz(func(t *testing.T, in []byte) {
		fuzzTransfer(t, r, in, wire, bytes.Equal)
	})
}

func FuzzPostForm(f *testing.F) {
	good := newPostClient().request(f)
	body := readAll(f, good.Body)
	f.Add(body)
	f.Add(bytes.Replace(body, []byte("name=\"acl\""), []byte("name=\"key\""), 1))
	f.Add([]byte("------WebKitFormBoundary7MA4YWxkTrZu0gW\r\n\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := received(t, "POST", "/", good.Host, good.Header.Clone(), in)
		sig, err := ParsePost(r)
		if err != nil {
			if got := readAll(t, r.Body); !bytes.Equal(got, in) {
				t.Fatalf("the body %q became %q", in, got)
			}
			return
		}
		// Printing the parts gives back what was read.
		head := sig.Post.head(map[string]string{})
		if !bytes.HasPrefix(in, head) || len(head) != sig.Post.length {
			t.Fatalf("%q\nprinted as\n%q", in, head)
		}
		if _, err := Verify(r, sig, secretOf(clientCreds), VerifyOptions{Now: at(testNow)}); err != nil {
			return
		}
		if sig.Post.Fields["policy"] == "" || sig.Post.policy == nil {
			t.Fatal("verified without a policy")
		}
	})
}

func FuzzPostPolicy(f *testing.F) {
	f.Add(newPostClient().policy)
	f.Add(`{"expiration":"2026-01-01T00:00:00Z","conditions":[]}`)
	f.Add(`{"conditions":[["eq","$X-Amz-Date","1"]],"expiration":"2026-01-01T00:00:00Z"}`)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsePolicy(base64.StdEncoding.EncodeToString([]byte(text)))
		if err != nil {
			return
		}
		values := map[string]string{fieldCredential: "CRED", fieldDate: "DATE", fieldToken: "TOKEN"}
		again, err := parsePolicy(p.rewrite(values))
		if err != nil {
			t.Fatalf("%q rewritten cannot be read: %v", text, err)
		}
		if e := again.check(values); e != nil {
			t.Fatalf("%q rewritten: %v", text, e)
		}
		tokens := 0
		for _, c := range again.conditions {
			if c.field == fieldToken {
				tokens++
			}
		}
		if tokens != 1 || !again.expiration.Equal(p.expiration) || len(again.members) != len(p.members) {
			t.Fatalf("%q was rewritten to something else", text)
		}
	})
}
