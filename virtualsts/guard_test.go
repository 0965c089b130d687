package virtualsts

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

const (
	realID     = "ASIAIOSFODNN7EXAMPLE"
	realSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

func readGuarded(body string, wrap func(io.Reader) io.Reader) (string, error) {
	var out bytes.Buffer
	_, err := io.Copy(&out, Guard(io.NopCloser(wrap(strings.NewReader(body)))))
	return out.String(), err
}

var waysToRead = map[string]func(io.Reader) io.Reader{
	"whole": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader, "halves": iotest.HalfReader, "with the end": iotest.DataErrReader,
}

func TestAnswerWithCredentialsIsStopped(t *testing.T) {
	far := strings.Repeat("x", 4000)
	for name, body := range map[string]string{
		"json":           `{"credentials":{"accessKeyId":"` + realID + `","secretAccessKey":"` + realSecret + `","sessionToken":"t"}}`,
		"secret first":   `{"credentials":{"sessionToken":"` + far + `","secretAccessKey":"` + realSecret + `","accessKeyId":"` + realID + `"}}`,
		"far apart":      `{"secretAccessKey":"` + realSecret + `","sessionToken":"` + far + `","accessKeyId":"` + realID + `"}`,
		"xml":            `<Credentials><AccessKeyId>` + realID + `</AccessKeyId><SecretAccessKey>` + realSecret + `</SecretAccessKey></Credentials>`,
		"cbor":           "\xa2kAccessKeyIdt" + realID + "oSecretAccessKeyx(" + realSecret + "\xff",
		"cognito":        `{"Credentials":{"AccessKeyId":"` + realID + `","Expiration":1.7E9,"SecretKey": "` + realSecret + `"}}`,
		"user's key":     `{"AccessKeyId":"AKIAIOSFODNN7EXAMPLE","SecretAccessKey":"` + realSecret + `"}`,
		"json in json":   `{"output":"{\"AccessKeyId\":\"` + realID + `\",\"SecretAccessKey\":\"` + realSecret + `\"}"}`,
		"after a lot":    strings.Repeat("0123456789", 5000) + `{"accessKeyId":"` + realID + `","secret_access_key":"` + realSecret + `"}`,
		"iceberg":        `{"config":{"s3.access-key-id":"` + realID + `","s3.session-token":"t","s3.secret-access-key":"` + realSecret + `"}}`,
		"slashes":        `{"AccessKeyId":"` + realID + `","SecretAccessKey":"` + strings.ReplaceAll(realSecret, "/", `\/`) + `"}`,
		"escapes":        `{"AccessKeyId":"` + realID + `","SecretAccessKey":"` + strings.ReplaceAll(realSecret, "/", `\u002F`) + `"}`,
		"twice escaped":  `{"x":"{\"AccessKeyId\":\"` + realID + `\",\"SecretAccessKey\":\"` + strings.ReplaceAll(realSecret, "/", `\\/`) + `\"}"}`,
		"profile":        "[default]\naws_access_key_id = " + realID + "\naws_secret_access_key = " + realSecret + "\n",
		"at the end":     `{"accessKeyId":"` + realID + `","secretAccessKey":"` + realSecret,
		"secrets before": strings.Repeat(`{"secretAccessKey":"none"} the secret of secrets `, 400) + `{"accessKeyId":"` + realID + `","secretAccessKey":"` + realSecret + `"}`,
	} {
		for way, wrap := range waysToRead {
			got, err := readGuarded(body, wrap)
			if !errors.Is(err, ErrCredentials) {
				t.Errorf("%s, %s: %v", name, way, err)
			}
			if strings.Contains(got, realSecret[:4]) {
				t.Errorf("%s, %s: the secret got through", name, way)
			}
			if !strings.HasPrefix(body, got) {
				t.Errorf("%s, %s: the bytes before it were changed", name, way)
			}
		}
	}
}

func TestOtherAnswersPassUnchanged(t *testing.T) {
	for name, body := range map[string]string{
		"empty":              "",
		"key ids alone":      `{"AccessKeyMetadata":[{"AccessKeyId":"` + realID + `"},{"AccessKeyId":"AKIAIOSFODNN7EXAMPLE"}]}`,
		"secret alone":       `{"SecretAccessKey":"` + realSecret + `"}`,
		"too far apart":      `{"AccessKeyId":"` + realID + `"}` + strings.Repeat(" ", 20<<10) + `{"SecretAccessKey":"` + realSecret + `"}`,
		"ends in the middle": `{"AccessKeyId":"` + realID + `","secretAcc`,
		"client credentials": `{"AccessKeyId":"CSIGAAAAAAAAAAAAAAAA","SecretAccessKey":"` + realSecret + `"}`,
		"field with a hash":  `{"AccessKeyId":"` + realID + `","SecretAccessKeyHash":"` + strings.Repeat("0", 64) + `"}`,
		"long":               strings.Repeat("sse secret s SecretAccessKey secre ", 5000),
	} {
		for way, wrap := range waysToRead {
			if got, err := readGuarded(body, wrap); err != nil || got != body {
				t.Errorf("%s, %s: %d of %d bytes, %v", name, way, len(got), len(body), err)
			}
		}
	}
	broken := errors.New("broken")
	if got, err := readGuarded("ends in secret", func(r io.Reader) io.Reader { return io.MultiReader(r, iotest.ErrReader(broken)) }); got != "ends in secret" || !errors.Is(err, broken) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestGuardStreams(t *testing.T) {
	r, w := io.Pipe()
	g := Guard(r)
	defer g.Close()
	go func() { w.Write([]byte("one event, now")) }()
	b := make([]byte, 100)
	if n, err := g.Read(b); err != nil || string(b[:n]) != "one event, now" {
		t.Errorf("%q %v", b[:n], err)
	}
}

func TestGuardHoldsBoundedMemory(t *testing.T) {
	g := Guard(io.NopCloser(io.LimitReader(strings.NewReader(strings.Repeat(`"SecretAccessKey":"`+realSecret+`" `, 100000)), 1<<20))).(*guard)
	if _, err := io.Copy(io.Discard, g); err != nil {
		t.Fatal(err)
	}
	if cap(g.buf) > 128<<10 {
		t.Errorf("%d bytes held", cap(g.buf))
	}
}

func FuzzGuard(f *testing.F) {
	f.Add([]byte(`{"accessKeyId":"`+realID+`","secretAccessKey":"`+realSecret+`"}`), uint8(3))
	f.Add([]byte("secretsecretsecre"), uint8(1))
	f.Fuzz(func(t *testing.T, body []byte, step uint8) {
		var out bytes.Buffer
		_, err := io.Copy(&out, Guard(io.NopCloser(&stepReader{body, int(step)%64 + 1})))
		if err == nil && !bytes.Equal(out.Bytes(), body) || !bytes.HasPrefix(body, out.Bytes()) {
			t.Errorf("%q became %q, %v", body, out.Bytes(), err)
		}
		if _, _, found := findSecret(body); err != nil && (!found || !hasKeyID(body)) {
			t.Errorf("stopped for nothing: %q", body)
		}
	})
}

type stepReader struct {
	b []byte
	n int
}

func (r *stepReader) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.b[:min(r.n, len(r.b))])
	r.b = r.b[n:]
	return n, nil
}

func BenchmarkGuard(b *testing.B) {
	body := []byte(strings.Repeat(`{"Item":{"id":{"S":"some value of an item"},"n":{"N":"17"}}},`, 1000))
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := io.Copy(io.Discard, Guard(io.NopCloser(bytes.NewReader(body)))); err != nil {
			b.Fatal(err)
		}
	}
}
