package signer

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// suite is the folder of AWS's public signing vectors, as in awslabs/aws-c-auth.
func suite(t testing.TB) string {
	dir := os.Getenv("SIGV4_TESTSUITE")
	if dir == "" {
		t.Skip("SIGV4_TESTSUITE does not name the folder of the public signing vectors (v4, v4a, streaming-vectors.json)")
	}
	return dir
}

type vector struct {
	Credentials struct {
		AccessKeyID     string `json:"access_key_id"`
		SecretAccessKey string `json:"secret_access_key"`
		Token           string
	}
	Expiration int  `json:"expiration_in_seconds"`
	Normalize  bool `json:"normalize"`
	Region     string
	Service    string
	SignBody   bool `json:"sign_body"`
	Timestamp  time.Time
	OmitToken  bool `json:"omit_session_token"`

	dir string
}

func (v *vector) creds() aws.Credentials {
	return aws.Credentials{AccessKeyID: v.Credentials.AccessKeyID, SecretAccessKey: v.Credentials.SecretAccessKey, SessionToken: v.Credentials.Token}
}

func (v *vector) read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(v.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimRight(string(b), "\n")
}

// request reads a request of the suite, which is not quite HTTP.
func (v *vector) request(t *testing.T, name string) *http.Request {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(v.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	head, body, _ := strings.Cut(string(raw), "\n\n")
	sc := bufio.NewScanner(strings.NewReader(head))
	sc.Buffer(nil, 1<<20)
	sc.Scan()
	method, rest, _ := strings.Cut(sc.Text(), " ")
	target := strings.TrimSuffix(rest, " HTTP/1.1")
	h := http.Header{}
	key, host := "", ""
	for sc.Scan() {
		line := sc.Text()
		if line == "" {
			break
		}
		if line[0] == ' ' {
			h[key][len(h[key])-1] += "\n" + line
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		if key = http.CanonicalHeaderKey(name); key == "Host" {
			host = strings.TrimSpace(value)
			continue
		}
		h[key] = append(h[key], value)
	}
	return received(t, method, target, host, h, []byte(strings.TrimRight(body, "\n")))
}

func vectors(t *testing.T, kind string) map[string]*vector {
	found := map[string]*vector{}
	for _, file := range glob(t, filepath.Join(suite(t), kind, "*", "header-signature.txt")) {
		v := &vector{dir: filepath.Dir(file)}
		if err := json.Unmarshal([]byte(v.read(t, "context.json")), v); err != nil {
			t.Fatal(err)
		}
		found[filepath.Base(v.dir)] = v
	}
	return found
}

func glob(t *testing.T, pattern string) []string {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %v, %d files", pattern, err, len(files))
	}
	return files
}

func TestPublicVectors(t *testing.T) {
	for _, kind := range []string{"v4", "v4a"} {
		verified, signed := 0, 0
		for name, vec := range vectors(t, kind) {
			for _, form := range []string{"header", "query"} {
				verified += count(t.Run(kind+"/"+name+"/"+form+"/verify", func(t *testing.T) { vec.verify(t, form) }))
				signed += count(t.Run(kind+"/"+name+"/"+form+"/sign", func(t *testing.T) { vec.sign(t, kind, form) }))
			}
		}
		t.Logf("%s: %d verified, %d signed", kind, verified, signed)
		if verified != 76 || signed != 76 {
			t.Errorf("%s: %d verified and %d signed, want 76 and 76", kind, verified, signed)
		}
	}
}

func count(ok bool) int {
	if ok {
		return 1
	}
	return 0
}

func (vec *vector) verify(t *testing.T, form string) {
	r := vec.request(t, form+"-signed-request.txt")
	v := mustVerify(t, r, vec.creds(), vec.Timestamp)
	canonical, ok := v.msg.appendCanonical(nil, v.forms)
	if want := vec.read(t, form+"-canonical-request.txt"); !ok || string(canonical) != want {
		t.Errorf("canonical request:\n%s\nwant:\n%s", canonical, want)
	}
	// And any other key refuses it.
	other := vec.creds()
	other.SecretAccessKey += "x"
	_, err := parseAndVerify(vec.request(t, form+"-signed-request.txt"), other, VerifyOptions{Now: at(vec.Timestamp)})
	wantReason(t, err, ReasonSignature)
}

func (vec *vector) sign(t *testing.T, kind, form string) {
	in := vec.request(t, "request.txt")
	opt := SignOptions{Service: vec.Service, Region: vec.Region, Now: at(vec.Timestamp), PayloadHash: emptyHash}
	f := forms{path: pathNormal}
	if !vec.Normalize {
		f.path = pathDouble
	}
	if kind == "v4a" {
		opt.RegionSet = vec.Region
	}
	for key := range in.Header {
		opt.Headers = append(opt.Headers, strings.ToLower(key))
	}
	if in.ContentLength > 0 {
		body := readAll(t, in.Body)
		in.Body = io.NopCloser(bytes.NewReader(body))
		opt.PayloadHash = hexHash(body)
		if vec.SignBody && form == "header" {
			in.Header.Set("X-Amz-Content-Sha256", opt.PayloadHash)
		}
	}
	creds := vec.creds()
	if form == "query" {
		opt.Expires = time.Duration(vec.Expiration) * time.Second
		f.dropToken = vec.OmitToken
	} else if vec.OmitToken {
		creds.SessionToken = ""
	}
	out := outgoing(in)
	setPath(t, out.URL, in.RequestURI[:strings.IndexByte(in.RequestURI+"?", '?')])
	if err := sign(out, creds, opt, f); err != nil {
		t.Fatal(err)
	}
	if form == "header" && vec.OmitToken {
		out.Header.Set("X-Amz-Security-Token", vec.Credentials.Token)
	}
	out.RequestURI = out.URL.RequestURI()
	v := mustVerify(t, out, vec.creds(), vec.Timestamp)
	canonical, _ := v.msg.appendCanonical(nil, v.forms)
	if want := vec.read(t, form+"-canonical-request.txt"); string(canonical) != want {
		t.Errorf("canonical request:\n%s\nwant:\n%s", canonical, want)
	}
	if got, want := v.sig.signature, vec.read(t, form+"-signature.txt"); kind == "v4" && got != want {
		t.Errorf("signature %s, want %s", got, want)
	}
}
