package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"
)

// versitygw verifies forms and holds them to their policies.
func TestFormUploadsByBoto3(t *testing.T) {
	u := versity(t)
	interpreter := python(t)
	p := serve(t, u, "")
	const want = `plain 204 
plain back True binary/octet-stream {}
rich 201 
rich back True text/x {'a': 'b  c'}
too long for its policy 400 EntityTooLarge
another key than the policy's 403 AccessDenied
another value than the policy's 403 AccessDenied
altered signature 403 SignatureDoesNotMatch
another policy 403 SignatureDoesNotMatch
past its time 403 AccessDenied
no signature 400 AuthorizationHeaderMalformed
['dir/the file.bin', 'plain key']
`
	got := p.client("source").must(t, t.TempDir(), regionalS3, interpreter, script(t, "sign_forms.py"), "sign-forms")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	isForm := func(line auditLine) bool { return line.Signature == "post" }
	lines := auditUntil(t, p.audit, func(lines []auditLine) bool { return count(lines, isForm) >= 8 })
	for _, line := range lines {
		if !isForm(line) {
			continue
		}
		if line.Decision == "allow" && (line.Operation != "PostObject" || !slices.Equal(line.Actions, []string{"s3:PutObject"})) {
			t.Errorf("audit line %+v", line)
		}
	}
	if forms := count(lines, isForm); forms != 8 {
		t.Errorf("%d forms in the record, want 8", forms)
	}
}

// A form is one that a test signs itself.
type form struct {
	fields [][2]string // but those of the signature
	file   string
	keys   aws.Credentials
	at     time.Time
}

const formHost = "bucket.s3.us-east-1.amazonaws.com"

// sign makes the body and its boundary: the policy holds every field to its value.
func (f form) sign(t testing.TB) (body []byte, contentType string, fields [][2]string) {
	t.Helper()
	day := f.at.UTC().Format("20060102")
	scope := day + "/" + region + "/s3/aws4_request"
	fields = append(slices.Clone(f.fields),
		[2]string{"x-amz-algorithm", "AWS4-HMAC-SHA256"}, [2]string{"x-amz-credential", f.keys.AccessKeyID + "/" + scope}, [2]string{"x-amz-date", f.at.UTC().Format("20060102T150405Z")})
	if f.keys.SessionToken != "" {
		fields = append(fields, [2]string{"x-amz-security-token", f.keys.SessionToken})
	}
	conditions := []any{map[string]string{"bucket": "bucket"}, []any{"content-length-range", 0, 1 << 30}}
	for _, field := range fields {
		if strings.Contains(field[1], "${") {
			before, _, _ := strings.Cut(field[1], "${")
			conditions = append(conditions, []string{"starts-with", "$" + field[0], before})
			continue
		}
		conditions = append(conditions, map[string]string{field[0]: field[1]})
	}
	text, err := json.Marshal(map[string]any{"expiration": f.at.Add(time.Hour).UTC().Format("2006-01-02T15:04:05Z"), "conditions": conditions})
	if err != nil {
		t.Fatal(err)
	}
	policy := base64.StdEncoding.EncodeToString(text)
	fields = append(fields, [2]string{"policy", policy}, [2]string{"x-amz-signature", formSignature(f.keys.SecretAccessKey, scope, policy)})
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, field := range fields {
		if err := w.WriteField(field[0], field[1]); err != nil {
			t.Fatal(err)
		}
	}
	part, err := w.CreateFormFile("file", "the file.bin")
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(part, f.file)
	w.Close()
	return b.Bytes(), w.FormDataContentType(), fields
}

// formSignature is that of a POST policy, as botocore's S3SigV4PostAuth makes it:
// the string to sign is the policy in base64.
func formSignature(secret, scope, policy string) string {
	key := []byte("AWS4" + secret)
	for part := range strings.SplitSeq(scope, "/") {
		key = hmacSHA256(key, part)
	}
	return hex.EncodeToString(hmacSHA256(key, policy))
}

func (f form) call(t testing.TB) call {
	t.Helper()
	body, contentType, _ := f.sign(t)
	return call{method: "POST", host: formHost, target: "/", headers: [][2]string{{"Content-Type", contentType}, {"Referer", "https://example.com/form"}}, body: string(body)}
}

// readForm takes a form apart.
func readForm(t *testing.T, contentType string, body []byte) (fields [][2]string, file string) {
	t.Helper()
	_, boundary, _ := strings.Cut(contentType, "boundary=")
	r := multipart.NewReader(bytes.NewReader(body), boundary)
	for {
		part, err := r.NextRawPart()
		if err == io.EOF {
			return fields, file
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(part)
		if err != nil {
			t.Fatal(err)
		}
		if part.FormName() == "file" {
			file = part.FileName() + ":" + string(text)
			continue
		}
		fields = append(fields, [2]string{part.FormName(), string(text)})
	}
}

// formMaterial are the fields of a form that re-signing replaces.
var formMaterial = []string{"policy", "x-amz-credential", "x-amz-date", "x-amz-signature", "x-amz-security-token"}

// meaningOfForm is a form without its signature, and the conditions of its policy
// about everything else.
func meaningOfForm(t *testing.T, contentType string, body []byte) (lines []string) {
	t.Helper()
	fields, file := readForm(t, contentType, body)
	for _, f := range fields {
		if !slices.Contains(formMaterial, f[0]) {
			lines = append(lines, f[0]+"="+f[1])
		}
		if f[0] == "policy" {
			for _, c := range policyConditions(t, f[1]) {
				text, _ := json.Marshal(c)
				if !slices.ContainsFunc(formMaterial, func(name string) bool { return bytes.Contains(text, []byte(name)) }) {
					lines = append(lines, string(text))
				}
			}
		}
	}
	return append(lines, file)
}

func policyConditions(t *testing.T, policy string) []any {
	t.Helper()
	text, err := base64.StdEncoding.DecodeString(policy)
	if err != nil {
		t.Fatal(err)
	}
	var p struct {
		Expiration time.Time
		Conditions []any
	}
	if err := json.Unmarshal(text, &p); err != nil {
		t.Fatal(err)
	}
	if time.Now().After(p.Expiration) {
		t.Errorf("the policy ended at %s", p.Expiration)
	}
	return p.Conditions
}

// verifyForm holds a form that arrived to the rules of S3: the policy is signed, and
// has a condition for each field, which the field meets.
func verifyForm(t *testing.T, keys aws.Credentials, a arrival) {
	t.Helper()
	list, _ := readForm(t, a.Header.Get("Content-Type"), a.Body)
	fields := map[string]string{"bucket": "bucket"}
	for _, f := range list {
		if _, twice := fields[f[0]]; twice {
			t.Errorf("the field %s arrived twice", f[0])
		}
		fields[f[0]] = f[1]
	}
	id, scope, _ := strings.Cut(fields["x-amz-credential"], "/")
	if id != keys.AccessKeyID || fields["x-amz-security-token"] != keys.SessionToken {
		t.Errorf("signed by %s, want %s, with a token of %d characters, want %d", id, keys.AccessKeyID, len(fields["x-amz-security-token"]), len(keys.SessionToken))
	}
	if want := formSignature(keys.SecretAccessKey, scope, fields["policy"]); fields["x-amz-signature"] != want {
		t.Errorf("the signature of the form is %s, want %s", fields["x-amz-signature"], want)
	}
	if !strings.HasPrefix(fields["x-amz-date"], scope[:8]) {
		t.Errorf("date %s, scope %s", fields["x-amz-date"], scope)
	}
	met := map[string]bool{"policy": true, "x-amz-signature": true}
	for _, condition := range policyConditions(t, fields["policy"]) {
		switch c := condition.(type) {
		case map[string]any:
			for name, value := range c {
				if fields[name] != value {
					t.Errorf("the field %s is %q, the policy demands %q", name, fields[name], value)
				}
				met[name] = true
			}
		case []any:
			if name, ok := strings.CutPrefix(fmt.Sprint(c[1]), "$"); ok && c[0] == "starts-with" {
				if !strings.HasPrefix(fields[name], fmt.Sprint(c[2])) {
					t.Errorf("the field %s is %q, the policy demands %v", name, fields[name], c)
				}
				met[name] = true
			}
		}
	}
	for name := range fields {
		if !met[name] {
			t.Errorf("the policy says nothing about the field %s", name)
		}
	}
}

// What arrives is the form with other keys, under the role's session.
func TestFormUploadsArrive(t *testing.T) {
	role := aws.Credentials{AccessKeyID: "ASIAFORMROLEKEY00001", SecretAccessKey: "form-role/secret+0123456789abcdefghijklm", SessionToken: "form-role-token/" + strings.Repeat("abc+", 100) + "=="}
	server := stand(t, func(s *standIn, w http.ResponseWriter, a *arrival) {
		if !strings.HasPrefix(a.Host, "sts.") {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		fmt.Fprintf(w, "<AssumeRoleResponse><AssumeRoleResult><AssumedRoleUser><AssumedRoleId>A:ci</AssumedRoleId><Arn>arn:aws:sts::%s:assumed-role/Deploy/ci</Arn></AssumedRoleUser>"+
			"<Credentials><AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken>%s</SessionToken><Expiration>%s</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>",
			account, role.AccessKeyID, role.SecretAccessKey, role.SessionToken, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	})
	dir := t.TempDir()
	policy := filepath.Join(dir, "uploads.json")
	if err := os.WriteFile(policy, []byte(`{"Version":"2012-10-17","Statement":{"Sid":"Uploads","Effect":"Allow","Action":"s3:PutObject","Resource":"arn:aws:s3:::bucket/uploads/*"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	p := serveStandIn(t, server, fmt.Sprintf("roles: {deploy: {arn: %q, policies: [%q]}, source: {arn: \"\"}}\n", deployARN, policy))
	content := string(random(3 << 20))
	lines := 0
	for _, tt := range []struct {
		name, identity string
		fields         [][2]string
		status         int
		says           string
	}{
		{"by the source", "source", [][2]string{{"key", "a b/c+d~é"}, {"acl", "public-read"}, {"x-amz-meta-a", "b  c"}, {"Content-Type", "text/x"}}, 204, ""},
		{"by the role", "ci", [][2]string{{"key", "uploads/x"}, {"success_action_status", "201"}}, 204, ""},
		{"to the name of the file", "ci", [][2]string{{"key", "uploads/${filename}"}}, 204, ""},
		{"to a key that no policy allows", "ci", [][2]string{{"key", "other/x"}}, 403, "s3:PutObject on resource: arn:aws:s3:::bucket/other/x"},
		{"out of what is allowed by the name of the file", "ci", [][2]string{{"key", "upl${filename}"}}, 403, "s3:PutObject"},
		{"with an ACL, which no policy allows", "ci", [][2]string{{"key", "uploads/x"}, {"acl", "public-read"}}, 403, "s3:PutObjectAcl"},
		{"with tags, which no policy allows", "ci", [][2]string{{"key", "uploads/x"}, {"tagging", "<Tagging/>"}}, 403, "s3:PutObjectTagging"},
		{"with a lock, which no policy allows", "ci", [][2]string{{"key", "uploads/x"}, {"x-amz-object-lock-legal-hold", "ON"}}, 403, "s3:PutObjectLegalHold"},
		{"with a copy", "ci", [][2]string{{"key", "uploads/x"}, {"x-amz-copy-source", "secret/file"}}, 403, "CopyObject"},
		{"without a key", "ci", [][2]string{{"x-amz-meta-a", "b"}}, 403, "no key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server.forget()
			c := form{fields: tt.fields, file: content, keys: p.clients[tt.identity], at: time.Now()}.call(t)
			if tt.status != 204 {
				c = form{fields: tt.fields, file: "small", keys: p.clients[tt.identity], at: time.Now()}.call(t)
			}
			response, text := p.dial(t, c.host).send(t, c)
			if response.StatusCode != tt.status {
				t.Errorf("%s %s", response.Status, text)
			}
			lines++
			line := waitForAudit(t, p.audit, lines)[lines-1]
			if line.Operation != "PostObject" || line.Signature != "post" || (tt.status == 204) != (line.Decision == "allow") || !strings.Contains(line.Error+text, tt.says) {
				t.Errorf("audit line %+v, want %q", line, tt.says)
			}
			arrived := slices.DeleteFunc(server.arrivals(), func(a arrival) bool { return strings.HasPrefix(a.Host, "sts.") })
			if tt.status != 204 {
				if len(arrived) != 0 {
					t.Errorf("it arrived upstream: %+v", arrived)
				}
				return
			}
			if len(arrived) != 1 {
				t.Fatalf("%d requests arrived", len(arrived))
			}
			got := arrived[0]
			sameMeaning(t, "POST", "/", c.headers, got)
			if got.Length != int64(len(got.Body)) {
				t.Errorf("Content-Length %d for %d bytes", got.Length, len(got.Body))
			}
			contentType := c.header("Content-Type")
			if diff := cmp.Diff(meaningOfForm(t, contentType, []byte(c.body)), meaningOfForm(t, contentType, got.Body)); diff != "" {
				t.Errorf("the form arrived changed (-sent +arrived):\n%.3000s", diff)
			}
			keys := server.keys
			if tt.identity == "ci" {
				keys = role
			}
			verifyForm(t, keys, got)
		})
	}
}

// The file goes out while it comes in.
func TestFormUploadsStream(t *testing.T) {
	arriving := make(chan int, 1)
	server := standFor(t, func(w http.ResponseWriter, r *http.Request) {
		some := make([]byte, 64<<10)
		n, _ := io.ReadFull(r.Body, some)
		arriving <- n
		rest, _ := io.Copy(io.Discard, r.Body)
		w.Header().Set("X-Length", fmt.Sprint(int64(n)+rest))
		w.WriteHeader(http.StatusNoContent)
	}, "http/1.1")
	p := serveStandIn(t, server, "")
	c := form{fields: [][2]string{{"key", "k"}}, file: string(random(1 << 20)), keys: p.clients["source"], at: time.Now()}.call(t)
	w := p.dial(t, c.host)
	half := len(c.body) / 2
	io.WriteString(w, c.head()+c.body[:half])
	select {
	case n := <-arriving:
		if n != 64<<10 {
			t.Errorf("%d bytes arrived", n)
		}
	case <-time.After(patience):
		t.Fatalf("nothing arrived in %s while half of the form was sent", patience)
	}
	io.WriteString(w, c.body[half:])
	response, text := w.read(t, "POST")
	expectStatus(t, response, text, http.StatusNoContent)
}

// A form that somebody else signed passes untouched where a rule says so, and
// nowhere else.
func TestFormUploadsOfOthers(t *testing.T) {
	server := stand(t, nil)
	foreign := aws.Credentials{AccessKeyID: "ASIASOMEBODYELSE0001", SecretAccessKey: "somebody-else", SessionToken: "token-of-somebody/else+=="}
	for _, rule := range []string{"", "unsigned: [{hosts: [" + formHost + "], methods: [POST]}]\n"} {
		server.forget()
		p := serveStandIn(t, server, rule)
		c := form{fields: [][2]string{{"key", "k"}}, file: "by somebody else", keys: foreign, at: time.Now()}.call(t)
		response, text := p.dial(t, c.host).send(t, c)
		line := waitForAudit(t, p.audit, 1)[0]
		if rule == "" {
			if response.StatusCode != http.StatusForbidden || !strings.Contains(text, "<Code>InvalidAccessKeyId</Code>") || len(server.arrivals()) != 0 || line.Decision != "deny" {
				t.Errorf("without a rule: %s %s %+v", response.Status, text, line)
			}
			continue
		}
		expectStatus(t, response, text, http.StatusOK)
		if got := server.the(t); string(got.Body) != c.body || line.Reason != "unsigned rule" || line.Identity != "" {
			t.Errorf("by a rule: arrived as %q, audit line %+v", got.Body, line)
		}
		// Ours is signed again all the same.
		server.forget()
		c = form{fields: [][2]string{{"key", "k"}}, file: "ours", keys: p.clients["source"], at: time.Now()}.call(t)
		response, text = p.dial(t, c.host).send(t, c)
		expectStatus(t, response, text, http.StatusOK)
		verifyForm(t, server.keys, server.the(t))
	}
}
