package signer

import (
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

const (
	testSig  = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	testAuth = "AWS4-HMAC-SHA256 Credential=CSIGABCDEFGHIJKLMNOP/20260304/us-east-1/dynamodb/aws4_request, SignedHeaders=host;x-amz-date, Signature=" + testSig
	s3Auth   = "AWS4-HMAC-SHA256 Credential=CSIGABCDEFGHIJKLMNOP/20260304/us-east-1/s3/aws4_request,SignedHeaders=host;x-amz-content-sha256;x-amz-date,Signature=" + testSig
	v4aAuth  = "AWS4-ECDSA-P256-SHA256 Credential=CSIGABCDEFGHIJKLMNOP/20260304/events/aws4_request, SignedHeaders=host;x-amz-date;x-amz-region-set, Signature=" + testSig
	testQ    = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=CSIGABCDEFGHIJKLMNOP%2F20260304%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20260304T050607Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=" + testSig
)

func headers(kv ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(kv); i += 2 {
		h.Add(kv[i], kv[i+1])
	}
	return h
}

func TestParseReads(t *testing.T) {
	now := testNow
	base := Signature{
		Form: FormHeader, Algorithm: AlgorithmHMAC, AccessKeyID: "CSIGABCDEFGHIJKLMNOP", Time: now,
		Date: "20260304", Region: "us-east-1", Service: "dynamodb", SignedHeaders: []string{"host", "x-amz-date"},
		Payload: PayloadAbsent, path: "/", decodedLength: -1, signature: testSig,
	}
	with := func(f func(s *Signature)) Signature { s := base; f(&s); return s }
	for _, tt := range []struct {
		name, target string
		header       http.Header
		label        string
		want         Signature
	}{
		{"header", "/", headers("Authorization", testAuth, "X-Amz-Date", "20260304T050607Z"), "header", base},
		{"header without spaces, and a Date", "/a?b", headers("Authorization", strings.ReplaceAll(strings.Replace(testAuth, ";x-amz-date", "", 1), ", ", ","), "Date", "Wed, 04 Mar 2026 05:06:07 GMT"), "header",
			with(func(s *Signature) { s.SignedHeaders = []string{"host"}; s.path, s.query = "/a", "b" })},
		{"token added after signing", "/", headers("Authorization", testAuth, "X-Amz-Date", "20260304T050607Z", "X-Amz-Security-Token", "t"), "header",
			with(func(s *Signature) { s.SecurityToken, s.tokenIn = "t", tokenHeader })},
		{"unsigned payload", "/", headers("Authorization", s3Auth, "X-Amz-Date", "20260304T050607Z", "X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD"), "header-unsigned",
			with(func(s *Signature) {
				s.Service, s.Payload, s.PayloadHash = "s3", PayloadUnsigned, "UNSIGNED-PAYLOAD"
				s.SignedHeaders = []string{"host", "x-amz-content-sha256", "x-amz-date"}
			})},
		{"SigV4A", "/", headers("Authorization", v4aAuth, "X-Amz-Date", "20260304T050607Z", "X-Amz-Region-Set", "us-*,*"), "header-v4a",
			with(func(s *Signature) {
				s.Algorithm, s.Service, s.Region, s.RegionSet = AlgorithmECDSA, "events", "", "us-*,*"
				s.SignedHeaders = []string{"host", "x-amz-date", "x-amz-region-set"}
			})},
		{"query", "/?" + testQ, nil, "query",
			with(func(s *Signature) {
				s.Form, s.Service, s.SignedHeaders, s.query = FormQuery, "s3", []string{"host"}, testQ
				s.Payload, s.PayloadHash, s.Expires = PayloadUnsigned, "UNSIGNED-PAYLOAD", time.Minute
			})},
		{"query with a session of S3 Express", "/?X-Amz-S3session-Token=a%2Fb&" + testQ, nil, "query",
			with(func(s *Signature) {
				s.Form, s.Service, s.SignedHeaders, s.query = FormQuery, "s3", []string{"host"}, "X-Amz-S3session-Token=a%2Fb&"+testQ
				s.Payload, s.PayloadHash, s.Expires = PayloadUnsigned, "UNSIGNED-PAYLOAD", time.Minute
				s.SecurityToken, s.tokenIn, s.S3Session, s.TokenSigned = "a/b", tokenParam, true, true
			})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parse(received(t, "GET", tt.target, "h", tt.header, nil))
			if err != nil {
				t.Fatal(explain(err))
			}
			got.values = nil
			if !reflect.DeepEqual(*got, tt.want) {
				t.Errorf("got  %+v\nwant %+v", *got, tt.want)
			}
			if got.Label() != tt.label {
				t.Errorf("label %q, want %q", got.Label(), tt.label)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	const date = "20260304T050607Z"
	auth := func(old, new string) http.Header {
		if !strings.Contains(testAuth, old) {
			t.Fatalf("no %q", old)
		}
		return headers("Authorization", strings.Replace(testAuth, old, new, 1), "X-Amz-Date", date)
	}
	good := func(kv ...string) http.Header {
		return headers(append([]string{"Authorization", testAuth, "X-Amz-Date", date}, kv...)...)
	}
	query := func(old, new string) string {
		if !strings.Contains(testQ, old) {
			t.Fatalf("no %q", old)
		}
		return "/?" + strings.Replace(testQ, old, new, 1)
	}
	for _, tt := range []struct {
		name, target string
		header       http.Header
		want         Reason
		says         string
	}{
		{"signature version 2", "/", headers("Authorization", "AWS AKIDEXAMPLE:sig="), ReasonUnsupported, "Signature Version 2"},
		{"signature version 2 in the query", "/?AWSAccessKeyId=A&Signature=B&Expires=1", nil, ReasonUnsupported, "Signature Version 2"},
		{"signature version 3", "/", headers("Authorization", "AWS3-HTTPS AWSAccessKeyId=A"), ReasonUnsupported, "Signature Version 3"},
		{"unknown algorithm", "/", auth("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA512"), ReasonUnsupported, "AWS4-HMAC-SHA512"},
		{"unknown algorithm in the query", query("AWS4-HMAC-SHA256", "AWS4-X"), nil, ReasonUnsupported, "AWS4-X"},
		{"bearer", "/", headers("Authorization", "bearer secret-token"), ReasonUnsupported, "Bearer"},
		{"a token and nothing else", "/", headers("Authorization", "secrettoken"), ReasonUnsupported, "not an AWS signature"},
		{"no scheme", "/", headers("Authorization", "secret=token"), ReasonUnsupported, "not an AWS signature"},
		{"two Authorization headers", "/", headers("Authorization", testAuth, "Authorization", testAuth, "X-Amz-Date", date), ReasonAmbiguous, "2 Authorization"},
		{"both forms", "/?" + testQ, good(), ReasonAmbiguous, "signed twice"},
		{"header and a lonely expiry", "/?X-Amz-Expires=1", good(), ReasonAmbiguous, "X-Amz-Expires"},
		{"header and a lonely token", "/?X-Amz-Security-Token=1", good(), ReasonAmbiguous, "X-Amz-Security-Token"},
		{"parameter in another case", "/?x-amz-signature=1", good(), ReasonAmbiguous, "x-amz-signature"},
		{"parameter with escapes", "/?X%2dAmz-Signature=1", good(), ReasonAmbiguous, "X-Amz-Signature"},
		{"parameter twice", "/?X-Amz-Expires=60&" + testQ, nil, ReasonAmbiguous, "twice"},
		{"parameter with a wrong escape", query("us-east-1", "us-east-%zz"), nil, ReasonMalformed, "escape"},
		{"field twice", "/", auth("SignedHeaders=", "Credential=a, SignedHeaders="), ReasonAmbiguous, "Credential twice"},
		{"unknown field", "/", auth("SignedHeaders=", "Nonce=a, SignedHeaders="), ReasonMalformed, "Nonce"},
		{"field missing", "/", auth(", Signature="+testSig, ""), ReasonMalformed, "no Signature"},
		{"field empty", "/", auth("SignedHeaders=host;x-amz-date", "SignedHeaders="), ReasonMalformed, "empty"},
		{"nothing but the algorithm", "/", headers("Authorization", "AWS4-HMAC-SHA256", "X-Amz-Date", date), ReasonMalformed, ""},
		{"trailing comma", "/", headers("Authorization", testAuth+",", "X-Amz-Date", date), ReasonMalformed, ""},
		{"signature too short", "/", auth(testSig, testSig[1:]), ReasonMalformed, "hexadecimal"},
		{"signature in upper case", "/", auth(testSig, strings.ToUpper(testSig)), ReasonMalformed, "hexadecimal"},
		{"too long", "/", auth("Credential", strings.Repeat("x", maxAuthorization)), ReasonMalformed, "longer"},
		{"scope too short", "/", auth("/us-east-1", ""), ReasonMalformed, "4 parts"},
		{"scope too long", "/", auth("/us-east-1", "/us-east-1/x"), ReasonMalformed, "more than 5 parts"},
		{"wrong terminator", "/", auth("aws4_request", "aws5_request"), ReasonScope, "aws4_request"},
		{"empty region", "/", auth("us-east-1", ""), ReasonScope, "region"},
		{"service with a space", "/", auth("dynamodb", "dyna modb"), ReasonScope, "service"},
		{"access key id with a dash", "/", auth("CSIGA", "CSIG-"), ReasonMalformed, "access key id"},
		{"scope of another day", "/", auth("20260304", "20260305"), ReasonScope, "20260305"},
		{"date that is none", "/", headers("Authorization", testAuth, "X-Amz-Date", "yesterday"), ReasonMalformed, "yesterday"},
		{"date with a fraction", "/", headers("Authorization", testAuth, "X-Amz-Date", "20260304T050607.5Z"), ReasonMalformed, "20260304T050607.5Z"},
		{"two dates", "/", good("X-Amz-Date", date), ReasonAmbiguous, "X-Amz-Date"},
		{"no date", "/", headers("Authorization", strings.Replace(testAuth, ";x-amz-date", "", 1)), ReasonMalformed, "no X-Amz-Date"},
		{"date of header and query differ", "/?" + testQ, headers("X-Amz-Date", "20260304T050608Z"), ReasonAmbiguous, "differ"},
		{"no expiry for S3", query("&X-Amz-Expires=60", ""), nil, ReasonMalformed, "X-Amz-Expires"},
		{"expiry of zero", query("Expires=60", "Expires=0"), nil, ReasonMalformed, "X-Amz-Expires"},
		{"expiry above a week", query("Expires=60", "Expires=604801"), nil, ReasonMalformed, "604800"},
		{"negative expiry", query("Expires=60", "Expires=-60"), nil, ReasonMalformed, "X-Amz-Expires"},
		{"expiry with a sign", query("Expires=60", "Expires=%2B60"), nil, ReasonMalformed, "X-Amz-Expires"},
		{"query without credential", query("X-Amz-Credential", "X-Amz-Crodential"), nil, ReasonMalformed, "no X-Amz-Credential"},
		{"two tokens", "/", good("X-Amz-Security-Token", "a", "X-Amz-S3session-Token", "b"), ReasonAmbiguous, "two session tokens"},
		{"a token twice", "/", good("X-Amz-Security-Token", "a", "X-Amz-Security-Token", "a"), ReasonAmbiguous, "more than once"},
		{"tokens in header and query", "/?X-Amz-Security-Token=a&" + testQ, headers("X-Amz-Security-Token", "a"), ReasonAmbiguous, "two session tokens"},
		{"region set with SigV4", "/", good("X-Amz-Region-Set", "*"), ReasonAmbiguous, "X-Amz-Region-Set"},
		{"SigV4A without region set", "/", headers("Authorization", strings.Replace(v4aAuth, ";x-amz-region-set", "", 1), "X-Amz-Date", date), ReasonMalformed, "X-Amz-Region-Set"},
		{"host not signed", "/", auth("host;", ""), ReasonNotSigned, "Host"},
		{"amz header not signed", "/", good("X-Amz-Acl", "public-read"), ReasonNotSigned, "X-Amz-Acl"},
		{"User-Agent signed twice", "/", headers("Authorization", strings.Replace(testAuth, "host;", "host;user-agent;", 1), "X-Amz-Date", date, "User-Agent", "a", "User-Agent", "b"), ReasonAmbiguous, "user-agent"},
		{"amz header with underscores", "/", good("X-Amz_Acl", "public-read"), ReasonAmbiguous, "dashes"},
		{"amz header not signed in the query form", "/?" + testQ, headers("X-Amz-Acl", "public-read"), ReasonNotSigned, "X-Amz-Acl"},
		{"S3 session token not signed", "/", good("X-Amz-S3session-Token", "a"), ReasonNotSigned, "X-Amz-S3session-Token"},
		{"amz header that is no name", "/", http.Header{"Authorization": {testAuth}, "X-Amz-Date": {date}, "x-amz-acl": {"a"}}, ReasonMalformed, "x-amz-acl"},
		{"S3 without a payload hash", "/", headers("Authorization", strings.Replace(s3Auth, "x-amz-content-sha256;", "", 1), "X-Amz-Date", date), ReasonMalformed, "X-Amz-Content-Sha256"},
		{"S3 payload hash not signed", "/", headers("Authorization", strings.Replace(s3Auth, "x-amz-content-sha256;", "", 1), "X-Amz-Date", date, "X-Amz-Content-Sha256", emptyHash), ReasonNotSigned, "X-Amz-Content-Sha256"},
		{"payload word unknown", "/", headers("Authorization", s3Auth, "X-Amz-Date", date, "X-Amz-Content-Sha256", "STREAMING-X"), ReasonUnsupported, "STREAMING-X"},
		{"payload hash in upper case", "/", headers("Authorization", s3Auth, "X-Amz-Date", date, "X-Amz-Content-Sha256", strings.ToUpper(emptyHash)), ReasonUnsupported, "lower-case"},
		{"payload hash differs in the query", "/?X-Amz-Content-Sha256=UNSIGNED-PAYLOAD", headers("Authorization", s3Auth, "X-Amz-Date", date, "X-Amz-Content-Sha256", emptyHash), ReasonAmbiguous, "differ"},
		{"two algorithms", "/", headers("Authorization", s3Auth, "X-Amz-Date", date, "X-Amz-Content-Sha256", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"), ReasonAmbiguous, "AWS4-ECDSA-P256-SHA256"},
		{"signed headers not sorted", "/", auth("host;x-amz-date", "x-amz-date;host"), ReasonMalformed, "not sorted"},
		{"signed header twice", "/", auth("host;x-amz-date", "host;host;x-amz-date"), ReasonMalformed, "twice"},
		{"signed header in upper case", "/", auth("host;x-amz-date", "Host;x-amz-date"), ReasonMalformed, "Host"},
		{"signed header with an empty name", "/", auth("host;x-amz-date", "host;;x-amz-date"), ReasonMalformed, "lower case"},
		{"signed header absent", "/", auth("host;", "content-type;host;"), ReasonMalformed, "content-type"},
		{"Connection signed", "/", auth("host;", "connection;host;"), ReasonHopHeader, "connection"},
		{"Authorization signed", "/", auth("host;", "authorization;host;"), ReasonMalformed, "Authorization"},
		{"signed header nominated", "/", good("Connection", "close, X-Amz-Date"), ReasonHopHeader, "x-amz-date"},
		{"token nominated", "/", good("Connection", "x-amz-security-token", "X-Amz-Security-Token", "t"), ReasonHopHeader, "x-amz-security-token"},
		{"Range nominated", "/", good("Connection", "range"), ReasonHopHeader, "range"},
		{"unsigned header nominated", "/", good("Connection", "keep-alive, Referer", "Referer", "https://example.com/"), ReasonHopHeader, "referer"},
		{"absolute form", "https://h/", good(), ReasonMalformed, "slash"},
		{"line break in the path", "/\n", good(), ReasonMalformed, "control"},
		{"asterisk form", "*", good(), ReasonMalformed, "slash"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := received(t, "GET", "/", "h", tt.header, nil)
			r.RequestURI = tt.target
			_, err := Parse(r)
			wantReason(t, err, tt.want)
			if !strings.Contains(err.Error(), tt.says) {
				t.Errorf("the message %q does not say %q", err, tt.says)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the message %q repeats what may be secret", err)
			}
		})
	}
}

func TestParseWithoutSignature(t *testing.T) {
	for _, target := range []string{"/", "/?X-Amz-Content-Sha256=UNSIGNED-PAYLOAD", "/?a=%zz"} {
		if _, err := Parse(received(t, "GET", target, "h", nil, nil)); !errors.Is(err, ErrNoSignature) {
			t.Errorf("%s: %v", target, err)
		}
	}
}

func TestCheckTime(t *testing.T) {
	header := &Signature{Form: FormHeader, Time: testNow}
	query := &Signature{Form: FormQuery, Time: testNow, Expires: time.Hour}
	for _, tt := range []struct {
		sig  *Signature
		now  time.Duration
		skew time.Duration
		want Reason
	}{
		{header, 0, 0, ""},
		{header, 15 * time.Minute, 0, ""},
		{header, -15 * time.Minute, 0, ""},
		{header, 15*time.Minute + time.Second, 0, ReasonSkewed},
		{header, -15*time.Minute - time.Second, 0, ReasonSkewed},
		{header, 6 * time.Minute, 5 * time.Minute, ReasonSkewed},
		{query, time.Hour, 0, ""},
		{query, time.Hour + time.Second, 0, ReasonExpired},
		{query, -15 * time.Minute, 0, ""},
		{query, -16 * time.Minute, 0, ReasonSkewed},
		{&Signature{Form: FormQuery, Time: testNow}, 16 * time.Minute, 0, ReasonSkewed},
	} {
		err := CheckTime(tt.sig, testNow.Add(tt.now), tt.skew)
		if tt.want == "" {
			if err != nil {
				t.Errorf("%s after %s: %v", tt.sig.Form, tt.now, err)
			}
			continue
		}
		wantReason(t, err, tt.want)
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	s := secretOf(roleCreds)
	for _, text := range []string{s.String(), s.GoString()} {
		if strings.Contains(text, s.SecretAccessKey) || strings.Contains(text, s.SessionToken) {
			t.Errorf("%q holds a secret", text)
		}
	}
}
