package signer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// botocoreProcess signs with botocore, in a Python process.
type botocoreProcess struct {
	in  *json.Encoder
	out *json.Decoder
}

type botocoreJob struct {
	Form    string              `json:"form"`
	Method  string              `json:"method"`
	URL     string              `json:"url"`
	Headers map[string][]string `json:"headers"`
	Body    string              `json:"body"`
	Service string              `json:"service"`
	Region  string              `json:"region"`
	Time    string              `json:"time"`
	Key     string              `json:"key"`
	Secret  string              `json:"secret"`
	Token   string              `json:"token"`
	Fields  map[string]string   `json:"fields,omitempty"`
	Policy  json.RawMessage     `json:"policy,omitempty"`
}

func (j *botocoreJob) as(c aws.Credentials, now time.Time) {
	j.Region, j.Time = "us-east-1", now.Format(timeFormat)
	j.Key, j.Secret, j.Token = c.AccessKeyID, c.SecretAccessKey, c.SessionToken
}

func startBotocore(t *testing.T) *botocoreProcess {
	t.Helper()
	python := os.Getenv("COUNTERSIGN_PYTHON")
	if python == "" {
		python = "python3"
	}
	if out, err := exec.Command(python, "-c", "import botocore").CombinedOutput(); err != nil {
		const message = "botocore cannot be imported by %s (COUNTERSIGN_PYTHON names another): %v %s"
		if os.Getenv("CI") == "true" {
			t.Fatalf(message, python, err, out)
		}
		t.Skipf(message, python, err, out)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, python, "testdata/botocore_sign.py")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		err := cmd.Wait()
		cancel()
		if err != nil {
			t.Errorf("%v: %s", err, stderr.String())
		}
	})
	return &botocoreProcess{json.NewEncoder(stdin), json.NewDecoder(bufio.NewReader(stdout))}
}

func (p *botocoreProcess) ask(t *testing.T, job botocoreJob, answer any) {
	t.Helper()
	if err := p.in.Encode(job); err != nil {
		t.Fatal(err)
	}
	if err := p.out.Decode(answer); err != nil {
		t.Fatal(err)
	}
}

func (p *botocoreProcess) sign(t *testing.T, job botocoreJob) (target string, h http.Header) {
	t.Helper()
	var answer struct {
		URL     string
		Headers map[string][]string
	}
	p.ask(t, job, &answer)
	h = http.Header{}
	for k, v := range answer.Headers {
		h[http.CanonicalHeaderKey(k)] = append(h[http.CanonicalHeaderKey(k)], v...)
	}
	_, rest, _ := strings.Cut(answer.URL, "://")
	return rest[strings.IndexByte(rest, '/'):], h
}

func TestDifferentialAgainstBotocore(t *testing.T) {
	p := startBotocore(t)
	rnd := mathrand.New(mathrand.NewPCG(3, 4))
	keys := &Keys{}
	runs := 2000
	if testing.Short() {
		runs /= 10
	}
	altered := map[string]int{}
	for range runs {
		u := ugly(rnd)
		if strings.HasPrefix(u.path, "//") {
			continue
		}
		creds := clientCreds
		if rnd.IntN(2) == 0 {
			creds.SessionToken = "client/token=="
		}
		form := pick(rnd, []string{"header", "header", "query"})
		if form == "query" {
			u.body = nil // botocore would move it into the query
		}
		job := botocoreJob{
			Form: form, Method: u.method,
			URL: "https://" + u.host() + u.path, Headers: u.header, Body: string(u.body), Service: u.service,
		}
		if u.query != "" {
			job.URL += "?" + u.query
		}
		if job.Form == "header" && rnd.IntN(8) == 0 {
			u.header["Date"] = []string{"to be replaced"}
		}
		job.as(creds, testNow)
		target, h := p.sign(t, job)
		in := arrive(received(t, u.method, target, u.host(), h, u.body))
		in.RequestURI = target
		opt := VerifyOptions{Now: at(testNow), Keys: keys}
		v, err := parseAndVerify(in, creds, opt)
		if err != nil {
			t.Fatalf("%+v\n%s\n%v\n%s", u, target, h, explain(err))
		}
		bad := in.Clone(context.Background())
		bad.RequestURI = in.RequestURI
		what, body := alter(rnd, bad, u.body)
		_, q1, _ := splitTarget(in.RequestURI)
		path, q2, _ := splitTarget(bad.RequestURI)
		same := what == "query" && sameQuery(q1, q2) ||
			// Segments that normalising removes may be altered.
			what == "path" && !s3Family(u.service) && !isNormal(path) ||
			// A presigned URL of S3 does not cover the body.
			what == "body" && job.Form == "query" && s3Family(u.service)
		if what != "" && !same {
			bad.Body = io.NopCloser(bytes.NewReader(body))
			v, err := parseAndVerify(bad, creds, opt)
			if err == nil {
				_, err = v.Buffer(0)
			}
			if err == nil {
				t.Fatalf("%s altered and passed: %+v\n%s", what, u, bad.RequestURI)
			}
			altered[strings.Fields(what)[0]]++
		}
		out := mustResign(t, in, v, roleCreds, laterNow)
		p.compare(t, out, v, job)
	}
	t.Logf("%d requests, altered: %v", runs, altered)
}

// compare lets botocore sign what goes out, and wants the same signature.
func (p *botocoreProcess) compare(t *testing.T, out *http.Request, v *Verified, job botocoreJob) {
	t.Helper()
	again := outgoing(out)
	again.RequestURI = out.URL.RequestURI()
	sig, err := Parse(again)
	if err != nil {
		t.Fatal(err)
	}
	job.Headers = map[string][]string{}
	for k, values := range out.Header {
		if k != "Authorization" && slices.Contains(sig.SignedHeaders, strings.ToLower(k)) {
			job.Headers[k] = values
		}
	}
	if slices.Contains(sig.SignedHeaders, "date") && slices.Contains(sig.SignedHeaders, "x-amz-date") {
		return // botocore signs one of them only
	}
	job.URL = "https://" + out.Host + again.RequestURI
	if job.Form == "query" {
		// Without what botocore adds itself.
		base, _, _ := strings.Cut(job.URL, "X-Amz-Algorithm=")
		job.URL = strings.TrimRight(base, "?&")
	}
	job.as(roleCreds, laterNow)
	target, h := p.sign(t, job)
	got, want := sig.signature, ""
	if job.Form == "query" {
		_, want, _ = strings.Cut(target, "X-Amz-Signature=")
	} else {
		_, want, _ = strings.Cut(h.Get("Authorization"), "Signature=")
	}
	if got != want {
		t.Fatalf("%+v\n%s\n got %s\nwant %s\n%s", job, target, got, want, v.sig.query)
	}
}
