package signer

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

const testPolicy = `{"expiration": "2026-03-04T06:06:07.000Z", "conditions": [
	{"bucket": "b"}, ["starts-with", "$key", "up/"], {"acl": "private"}, ["content-length-range", 1, 1048576],
	{"x-amz-algorithm": "AWS4-HMAC-SHA256"}, %s
	["eq", "$x-amz-date", "20260304T050607Z"],
	{"x-amz-credential": "CSIGABCDEFGHIJKLMNOP/20260304/us-east-1/s3/aws4_request"}]}`

// A postClient builds S3 POST forms.
type postClient struct {
	creds  aws.Credentials
	policy string      // JSON
	fields [][2]string // besides those of the signature, in order, before them
	file   string
}

func newPostClient() *postClient {
	return &postClient{
		creds: clientCreds, policy: strings.Replace(testPolicy, "%s", "", 1),
		fields: [][2]string{{"key", "up/${filename}"}, {"acl", "private"}}, file: "the content\r\n--of the file",
	}
}

func (c *postClient) form() [][2]string {
	policy := base64.StdEncoding.EncodeToString([]byte(c.policy))
	key := hmacSum([]byte("AWS4"+c.creds.SecretAccessKey), testNow.Format("20060102"))
	for _, part := range []string{"us-east-1", "s3", "aws4_request"} {
		key = hmacSum(key, part)
	}
	f := append(c.fields[:len(c.fields):len(c.fields)],
		[2]string{"X-Amz-Algorithm", AlgorithmHMAC},
		[2]string{"X-Amz-Credential", c.creds.AccessKeyID + "/20260304/us-east-1/s3/aws4_request"},
		[2]string{"X-Amz-Date", "20260304T050607Z"},
		[2]string{"Policy", policy},
		[2]string{"X-Amz-Signature", hex.EncodeToString(hmacSum(key, policy))})
	if c.creds.SessionToken != "" {
		f = append(f, [2]string{"x-amz-security-token", c.creds.SessionToken})
	}
	return f
}

func (c *postClient) request(t testing.TB) *http.Request {
	t.Helper()
	return formRequest(t, c.form(), c.file)
}

func formRequest(t testing.TB, fields [][2]string, file string) *http.Request {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	if err := w.SetBoundary("----WebKitFormBoundary7MA4YWxkTrZu0gW"); err != nil {
		t.Fatal(err)
	}
	for _, f := range fields {
		if err := w.WriteField(f[0], f[1]); err != nil {
			t.Fatal(err)
		}
	}
	part, err := w.CreateFormFile("file", "my file.txt")
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(part, file)
	w.Close()
	return received(t, "POST", "/", "b.s3.us-east-1.amazonaws.com", http.Header{"Content-Type": {w.FormDataContentType()}}, b.Bytes())
}

func verifyPost(t testing.TB, r *http.Request, creds aws.Credentials, now time.Time) (*Verified, error) {
	t.Helper()
	if _, err := Parse(r); err != ErrNoSignature {
		t.Fatalf("Parse: %v", err)
	}
	sig, err := ParsePost(r)
	if err != nil {
		return nil, err
	}
	return Verify(r, sig, secretOf(creds), VerifyOptions{Now: at(now)})
}

func TestPostFormIsSignedAgain(t *testing.T) {
	for name, creds := range map[string]aws.Credentials{
		"with token": roleCreds, "without token": {AccessKeyID: "AKIAREAL", SecretAccessKey: "s"},
	} {
		for _, clientToken := range []string{"", "client/token=="} {
			t.Run(name+"/"+clientToken, func(t *testing.T) {
				c := newPostClient()
				if c.creds.SessionToken = clientToken; clientToken != "" {
					c.policy = strings.Replace(testPolicy, "%s", `{"x-amz-security-token": "client/token=="},`, 1)
				}
				r := c.request(t)
				v, err := verifyPost(t, r, c.creds, testNow)
				if err != nil {
					t.Fatal(explain(err))
				}
				sig := v.Signature()
				if sig.Label() != "post" || sig.Post.Fields["key"] != "up/${filename}" || sig.Post.Filename != "my file.txt" {
					t.Errorf("label %q, fields %v, file %q", sig.Label(), sig.Post.Fields, sig.Post.Filename)
				}
				out := mustResign(t, r, v, creds, laterNow)
				body := readAll(t, out.Body)
				if int64(len(body)) != out.ContentLength {
					t.Errorf("Content-Length %d, but %d bytes", out.ContentLength, len(body))
				}
				checkForm(t, out, body, creds, c.file)
				// And it verifies with the new credentials, as S3 would do it.
				again := received(t, "POST", "/", out.Host, out.Header, body)
				if _, err := verifyPost(t, again, creds, laterNow); err != nil {
					t.Error(explain(err))
				}
			})
		}
	}
}

// checkForm reads the form with net/http's reader.
func checkForm(t *testing.T, out *http.Request, body []byte, creds aws.Credentials, file string) {
	t.Helper()
	_, boundary, _ := strings.Cut(out.Header.Get("Content-Type"), "boundary=")
	form, err := multipart.NewReader(bytes.NewReader(body), boundary).ReadForm(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	get := func(name string) string {
		for k, v := range form.Value {
			if strings.EqualFold(k, name) {
				return strings.Join(v, "|")
			}
		}
		return ""
	}
	want := map[string]string{
		"key": "up/${filename}", "acl": "private", "x-amz-algorithm": AlgorithmHMAC, "x-amz-date": "20260304T050737Z",
		"x-amz-credential": creds.AccessKeyID + "/20260304/us-east-1/s3/aws4_request", "x-amz-security-token": creds.SessionToken,
	}
	for k, v := range want {
		if got := get(k); got != v {
			t.Errorf("field %s is %q, want %q", k, got, v)
		}
	}
	raw, err := base64.StdEncoding.DecodeString(get("policy"))
	if err != nil {
		t.Fatal(err)
	}
	var policy struct {
		Expiration string
		Conditions []any
	}
	if err := json.Unmarshal(raw, &policy); err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(policy.Conditions)
	token := ""
	if creds.SessionToken != "" {
		token = `,{"x-amz-security-token":"` + creds.SessionToken + `"}`
	}
	rest := `{"x-amz-date":"20260304T050737Z"},{"x-amz-credential":"` + want["x-amz-credential"] + `"}`
	const head = `[{"bucket":"b"},["starts-with","$key","up/"],{"acl":"private"},["content-length-range",1,1048576],{"x-amz-algorithm":"AWS4-HMAC-SHA256"},`
	if got := string(text); got != head+rest+token+"]" && (token == "" || got != head+token[1:]+","+rest+"]") {
		t.Errorf("conditions %s", got)
	}
	if policy.Expiration != "2026-03-04T06:06:07.000Z" {
		t.Errorf("expiration %s", policy.Expiration)
	}
	f, err := form.File["file"][0].Open()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := readAll(t, f); string(got) != file {
		t.Errorf("file %q, want %q", got, file)
	}
}

func TestPostFormsRefused(t *testing.T) {
	type change = func(c *postClient) *http.Request
	field := func(name, value string) change {
		return func(c *postClient) *http.Request {
			form := c.form()
			for i := range form {
				if strings.EqualFold(form[i][0], name) {
					form[i][1] = value
				}
			}
			return formRequest(t, form, c.file)
		}
	}
	policy := func(old, new string) change {
		return func(c *postClient) *http.Request {
			if !strings.Contains(c.policy, old) {
				t.Fatalf("no %q in the policy", old)
			}
			c.policy = strings.Replace(c.policy, old, new, 1)
			return c.request(t)
		}
	}
	raw := func(old, new string) change {
		return func(c *postClient) *http.Request {
			r := c.request(t)
			b := readAll(t, r.Body)
			if !bytes.Contains(b, []byte(old)) {
				t.Fatalf("no %q in the form", old)
			}
			r.Body = io.NopCloser(bytes.NewReader(bytes.Replace(b, []byte(old), []byte(new), 1)))
			return r
		}
	}
	header := func(k, v string) change {
		return func(c *postClient) *http.Request {
			r := c.request(t)
			r.Header.Set(k, v)
			return r
		}
	}
	other := base64.StdEncoding.EncodeToString([]byte(strings.Replace(newPostClient().policy, "up/", "", 1)))
	for _, tt := range []struct {
		name   string
		change change
		want   Reason
	}{
		{"another policy", field("policy", other), ReasonSignature},
		{"another signature", field("x-amz-signature", strings.Repeat("0", 64)), ReasonSignature},
		{"another date than the policy's", field("x-amz-date", "20260304T050608Z"), ReasonMalformed},
		{"scope of another day", field("x-amz-date", "20260305T050607Z"), ReasonScope},
		{"unknown algorithm", field("x-amz-algorithm", "AWS4-HMAC-SHA512"), ReasonUnsupported},
		{"no signature", field("x-amz-signature", ""), ReasonMalformed},
		{"expired", policy("T06:06", "T05:06"), ""},
		{"no expiration", policy(`"expiration"`, `"expires"`), ReasonMalformed},
		{"two expirations", policy(`"conditions"`, `"Expiration": "2027-01-01T00:00:00Z", "conditions"`), ReasonMalformed},
		{"condition for another credential", policy("CSIG", "CSIH"), ReasonMalformed},
		{"condition hidden by an escape", policy(`{"x-amz-credential": "CSIG`, `{"x-amz-credentia\u006c": "CSIH`), ReasonMalformed},
		{"condition with a second member", policy(`{"x-amz-credential"`, `{"a": "b", "x-amz-credential"`), ReasonMalformed},
		{"policy followed by more", policy("]}", "]}{}"), ReasonMalformed},
		{"unknown condition", policy(`["eq", `, `["ne", `), ReasonMalformed},
		{"field twice", raw(`name="acl"`, `name="KEY"`), ReasonAmbiguous},
		{"field with a second name", raw("name=\"acl\"\r\n", "name=\"acl\"\r\nContent-Disposition: form-data; name=\"b\"\r\n"), ReasonAmbiguous},
		{"field with an extended name", raw(`name="acl"`, `name="acl"; name*=utf-8''policy`), ReasonMalformed},
		{"escaped quote in a name", raw(`name="acl"`, `name="acl\"; x="`), ReasonMalformed},
		{"field with a strange header", raw("name=\"acl\"\r\n", "name=\"acl\"\r\nX-A: b\r\n"), ReasonMalformed},
		{"field in base64", raw("name=\"acl\"\r\n", "name=\"acl\"\r\nContent-Transfer-Encoding: base64\r\n"), ReasonMalformed},
		{"something like a boundary", raw("private", "private\r\n------WebKitFormBoundary7MA4YWxkTrZu0gWx\r\n"), ReasonMalformed},
		{"boundary after LF", raw("private\r\n", "private\n"), ReasonMalformed},
		{"another boundary in an extended parameter", header("Content-Type", "multipart/form-data; boundary=x; boundary*=us-ascii''----WebKitFormBoundary7MA4YWxkTrZu0gW"), ReasonMalformed},
		{"a boundary in pieces", header("Content-Type", `multipart/form-data; boundary*0="----WebKitFormBoundary"; boundary*1=7MA4YWxkTrZu0gW`), ReasonMalformed},
		{"preamble", raw("------WebKit", "hello\r\n------WebKit"), ReasonMalformed},
		{"no file", raw(`name="file"; filename`, `name="feil"; filename`), ReasonMalformed},
		{"signed header too", header("X-Amz-Acl", "public-read"), ReasonNotSigned},
		{"token in the head", header("X-Amz-Security-Token", "t"), ReasonNotSigned},
		{"signature version 2", raw(`name="acl"`, `name="AWSAccessKeyId"`), ReasonUnsupported},
		{"too many bytes before the file", func(c *postClient) *http.Request {
			c.fields = append(c.fields, [2]string{"x", strings.Repeat("y", 1<<16)})
			return c.request(t)
		}, ReasonTooLarge},
		{"query too", func(c *postClient) *http.Request {
			r := c.request(t)
			r.RequestURI = "/?X-Amz-Content-Sha256=UNSIGNED-PAYLOAD"
			return r
		}, ReasonAmbiguous},
	} {
		t.Run(tt.name, func(t *testing.T) {
			now := testNow
			if tt.name == "expired" {
				now, tt.want = testNow.Add(time.Second), ReasonExpired
			}
			r := tt.change(newPostClient())
			_, err := verifyPost(t, r, clientCreds, now)
			wantReason(t, err, tt.want)
		})
	}
}

func TestFormWithoutSignatureIsLeftAlone(t *testing.T) {
	r := formRequest(t, [][2]string{{"a", "b"}}, "file")
	want, _ := io.ReadAll(formRequest(t, [][2]string{{"a", "b"}}, "file").Body)
	if _, err := ParsePost(r); err != ErrNoSignature {
		t.Fatalf("ParsePost: %v", err)
	}
	if got := readAll(t, r.Body); !bytes.Equal(got, want) {
		t.Errorf("the body became %q", got)
	}
}

func TestDifferentialAgainstBotocorePost(t *testing.T) {
	p := startBotocore(t)
	for _, token := range []string{"", "client/token=="} {
		creds := clientCreds
		creds.SessionToken = token
		job := botocoreJob{
			Form: "post", URL: "https://b.s3.us-east-1.amazonaws.com/", Service: "s3",
			Fields: map[string]string{"key": "a b", "acl": "private"},
			Policy: json.RawMessage(`{"expiration": "2026-03-04T06:06:07Z", "conditions": [{"bucket": "b"}, {"key": "a b"}, {"acl": "private"}]}`),
		}
		job.as(creds, testNow)
		var answer struct{ Fields map[string]string }
		p.ask(t, job, &answer)
		var fields [][2]string
		for k, v := range answer.Fields {
			fields = append(fields, [2]string{k, v})
		}
		r := formRequest(t, fields, "x")
		v, err := verifyPost(t, r, creds, testNow)
		if err != nil {
			t.Fatal(explain(err))
		}
		// Signed anew, botocore finds the same signature for the new policy.
		out := mustResign(t, r, v, roleCreds, laterNow)
		again := received(t, "POST", "/", out.Host, out.Header, readAll(t, out.Body))
		sig, err := ParsePost(again)
		if err != nil {
			t.Fatal(err)
		}
		raw, _ := base64.StdEncoding.DecodeString(sig.Post.Fields["policy"])
		for _, want := range []string{roleCreds.SessionToken, roleCreds.AccessKeyID, laterNow.Format(timeFormat)} {
			if n := strings.Count(string(raw), want); n != 1 {
				t.Errorf("%q occurs %d times in the policy %s", want, n, raw)
			}
		}
		for _, gone := range []string{creds.AccessKeyID, "client/token"} {
			if strings.Contains(string(raw), gone) {
				t.Errorf("%q is still in the policy %s", gone, raw)
			}
		}
		if _, err := Verify(again, sig, secretOf(roleCreds), VerifyOptions{Now: at(laterNow)}); err != nil {
			t.Error(explain(err))
		}
	}
}
