package virtualsts

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"math/rand"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
)

type flushWriter interface {
	io.WriteCloser
	Flush() error
}

// pack compresses the pieces, each of which can be unpacked before the next is there.
func pack(t testing.TB, coding string, pieces ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	var w flushWriter = gzip.NewWriter(&b)
	if coding == "deflate" {
		w = zlib.NewWriter(&b)
	}
	for _, p := range pieces {
		if _, err := io.WriteString(w, p); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// noise does not compress, so that its packed form grows with it.
func noise(n int) string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ+/"
	r, b := rand.New(rand.NewSource(1)), make([]byte, n)
	for i := range b {
		b[i] = letters[r.Intn(len(letters))]
	}
	return string(b)
}

func readCoded(t testing.TB, coding string, wire []byte, wrap func(io.Reader) io.Reader) ([]byte, error) {
	t.Helper()
	body, ok := GuardCoded(io.NopCloser(wrap(bytes.NewReader(wire))), coding)
	if !ok {
		t.Fatal("not known: ", coding)
	}
	var out bytes.Buffer
	_, err := io.Copy(&out, body)
	return out.Bytes(), err
}

func TestCompressedAnswerPassesUnchanged(t *testing.T) {
	for name, pieces := range map[string][]string{
		"empty": {""}, "short": {`{"a":1}`}, "long": {strings.Repeat(`{"SecretAccessKey":"none"},`, 100_000)}, "noise": {noise(300_000)},
		"flushed": {"one event", "and another", noise(70_000), "a third"}, "key ids alone": {`{"AccessKeyId":"` + realID + `"}`},
		"secret alone": {`{"SecretAccessKey":"` + realSecret + `"}`},
	} {
		for _, coding := range []string{"gzip", "deflate"} {
			wire := pack(t, coding, pieces...)
			for way, wrap := range waysToRead {
				if got, err := readCoded(t, coding, wire, wrap); err != nil || !bytes.Equal(got, wire) {
					t.Errorf("%s, %s, %s: %d of %d bytes, %v", name, coding, way, len(got), len(wire), err)
				}
			}
		}
	}
	two := append(pack(t, "gzip", "one"), pack(t, "gzip", "two")...)
	if got, err := readCoded(t, "gzip", two, waysToRead["whole"]); err != nil || !bytes.Equal(got, two) {
		t.Errorf("two members: %d of %d bytes, %v", len(got), len(two), err)
	}
	if got, err := readCoded(t, "gzip", nil, waysToRead["whole"]); err != nil || len(got) != 0 {
		t.Errorf("the answer to HEAD: %q %v", got, err)
	}
}

// What passed before the end must not unpack to any of the secret.
func TestCompressedAnswerWithCredentialsIsStopped(t *testing.T) {
	keys := `{"s3.access-key-id":"` + realID + `","s3.secret-access-key":"` + realSecret + `"}`
	for name, pieces := range map[string][]string{
		"alone": {keys}, "behind noise": {noise(200_000) + keys}, "before noise": {keys + noise(200_000)}, "in the middle": {noise(40_000) + keys + noise(40_000)},
		"flushed": {"first", keys[:30], keys[30:], "last"}, "secret in two": {keys[:len(keys)-20], keys[len(keys)-20:]},
	} {
		for _, coding := range []string{"gzip", "deflate"} {
			wire := pack(t, coding, pieces...)
			for way, wrap := range waysToRead {
				got, err := readCoded(t, coding, wire, wrap)
				if !errors.Is(err, ErrCredentials) {
					t.Errorf("%s, %s, %s: %v", name, coding, way, err)
				}
				head := map[string]int{"gzip": 10, "deflate": 2}[coding]
				if len(got) < head {
					continue
				}
				plain, _ := io.ReadAll(flate.NewReader(bytes.NewReader(got[head:])))
				if strings.Contains(string(plain), realSecret[:4]) {
					t.Errorf("%s, %s, %s: the secret got through", name, coding, way)
				}
			}
		}
	}
}

func TestAnswerThatCannotBeUnpackedIsStopped(t *testing.T) {
	whole := pack(t, "gzip", noise(100_000))
	for name, wire := range map[string][]byte{
		"not packed": []byte(`{"a":1}`), "one byte": {0x1f}, "cut": whole[:len(whole)-9], "another after it": append(bytes.Clone(whole), "more"...),
		"broken": append(bytes.Clone(whole[:5000]), noise(5000)...),
	} {
		if got, err := readCoded(t, "gzip", wire, waysToRead["whole"]); !errors.Is(err, ErrUnwatched) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	// The connection that broke is said to have broken.
	if _, err := readCoded(t, "gzip", nil, func(io.Reader) io.Reader {
		return io.MultiReader(bytes.NewReader(whole[:500]), iotest.ErrReader(http.ErrAbortHandler))
	}); !errors.Is(err, http.ErrAbortHandler) {
		t.Errorf("broken connection: %v", err)
	}
	for _, coding := range []string{"br", "zstd", "gzip, gzip", "aws-chunked"} {
		if _, ok := GuardCoded(http.NoBody, coding); ok {
			t.Errorf("%s: read", coding)
		}
	}
}

func TestCodedGuardStreams(t *testing.T) {
	r, w := io.Pipe()
	body, _ := GuardCoded(r, "gzip")
	defer body.Close()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	next := func(s string) []byte {
		b.Reset()
		_, _ = io.WriteString(z, s)
		_ = z.Flush()
		return bytes.Clone(b.Bytes())
	}
	first, second := next("one event, now"), next("another")
	go func() { _, _ = w.Write(first); _, _ = w.Write(second[:1]) }()
	got := make([]byte, len(first))
	if _, err := io.ReadFull(body, got); err != nil || !bytes.Equal(got, first) {
		t.Errorf("%q %v", got, err)
	}
}

func TestCodedGuardHoldsBoundedMemory(t *testing.T) {
	// Empty blocks say nothing, however many there are.
	empty := io.MultiReader(bytes.NewReader(pack(t, "gzip", "")[:10]), strings.NewReader(strings.Repeat("\x00\x00\x00\xff\xff", 1<<20)))
	body, _ := GuardCoded(io.NopCloser(empty), "gzip")
	if _, err := io.Copy(io.Discard, body); !errors.Is(err, ErrUnwatched) {
		t.Errorf("%v", err)
	}
	if n := cap(body.(*codedGuard).tap.buf); n > 4*maxHeld {
		t.Errorf("%d bytes held", n)
	}
}

// Whatever passes is a beginning of what came; and all of it, where it unpacks to
// something that the plain guard lets pass.
func FuzzGuardCoded(f *testing.F) {
	for _, s := range []string{"", "plain", `{"AccessKeyId":"` + realID + `","SecretAccessKey":"` + realSecret + `"}`} {
		f.Add(pack(f, "gzip", s), s)
	}
	f.Fuzz(func(t *testing.T, wire []byte, plain string) {
		if got, err := readCoded(t, "gzip", wire, iotest.HalfReader); !bytes.HasPrefix(wire, got) || err == nil && len(got) != len(wire) {
			t.Fatalf("%d of %d bytes, %v", len(got), len(wire), err)
		}
		good := pack(t, "gzip", plain)
		_, want := readGuarded(plain, iotest.HalfReader)
		if got, err := readCoded(t, "gzip", good, iotest.HalfReader); !errors.Is(err, want) || err == nil && !bytes.Equal(got, good) {
			t.Fatalf("%d of %d bytes, %v; plain %v", len(got), len(good), err, want)
		}
	})
}
