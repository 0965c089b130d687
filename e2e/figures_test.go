package e2e

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// bench is set by `make bench`: measure fully, and hold the figures against
// what is promised. Timings are not looked at otherwise.
func bench() bool { return os.Getenv("COUNTERSIGN_BENCH") != "" }

const maxResident = 96 << 20

// zeros is a body of any length that costs no memory.
type zeros struct{ left int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), z.left))
	clear(p[:n])
	z.left -= int64(n)
	return n, nil
}

func zerosHash(size int64) string {
	hash := sha256.New()
	io.Copy(hash, &zeros{size})
	return hex.EncodeToString(hash.Sum(nil))
}

// sink takes uploads and gives downloads of a size, as fast as TLS allows.
func sink(t testing.TB, size int64) *recorder {
	t.Helper()
	return recordRaw(t, func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil || (r.Method == "PUT" && n != size) {
			http.Error(w, fmt.Sprint(n, err), http.StatusBadRequest)
			return
		}
		if r.Method == "GET" {
			w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
			io.Copy(w, &zeros{size})
		}
	})
}

func transfer(client *http.Client, keys aws.Credentials, method string, size int64, hash string) error {
	var body io.Reader
	if method == "PUT" {
		body = &zeros{size}
	}
	request, err := http.NewRequest(method, objectURL, body)
	if err != nil {
		return err
	}
	if method == "PUT" {
		request.ContentLength = size
	}
	request.Header.Set("X-Amz-Content-Sha256", hash)
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	if err := signer.SignHTTP(request.Context(), keys, request, hash, "s3", region, time.Now()); err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	n, err := io.Copy(io.Discard, response.Body)
	switch {
	case err != nil:
		return err
	case response.StatusCode != http.StatusOK:
		return fmt.Errorf("%s %s: %s", method, objectURL, response.Status)
	case method == "GET" && n != size:
		return fmt.Errorf("%d bytes came, want %d", n, size)
	}
	return nil
}

// resident is the most memory that a process ever had in RAM, in bytes.
func resident(t testing.TB, pid int) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skipf("no /proc here: %v", err)
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "VmHWM:" {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("no VmHWM in /proc/PID/status")
	return 0
}

// Promise 5: streams of any size pass in constant memory.
func TestFiguresMemory(t *testing.T) {
	size := int64(32 << 20)
	if bench() {
		size = 256 << 20
	}
	const parallel = 16
	upstream := sink(t, size)
	p := serve(t, &upstream.upstream, "")
	hashes := []string{"UNSIGNED-PAYLOAD", zerosHash(size)}
	for _, method := range []string{"PUT", "GET"} {
		client := &http.Client{Transport: &http.Transport{
			Proxy:           http.ProxyURL(p.url()),
			TLSClientConfig: &tls.Config{RootCAs: p.roots},
		}}
		started := time.Now()
		var all sync.WaitGroup
		for i := range parallel {
			hash := hashes[i%2]
			if method == "GET" {
				hash = zerosHash(0)
			}
			all.Go(func() {
				if err := transfer(client, clientKeys["source"], method, size, hash); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		client.CloseIdleConnections()
		took := time.Since(started)
		t.Logf("%d × %s of %d MiB: %.0f MiB/s, at most %d MiB resident", parallel, method, size>>20,
			float64(parallel*size>>20)/took.Seconds(), resident(t, p.process.Pid)>>20)
	}
	if got := resident(t, p.process.Pid); got > maxResident {
		t.Errorf("%d MiB resident, want at most %d", got>>20, maxResident>>20)
	}
}

func median(durations []time.Duration) time.Duration {
	slices.Sort(durations)
	return durations[len(durations)/2]
}

// `exec -- true` against `true`.
func TestFiguresExec(t *testing.T) {
	if !bench() {
		t.Skip("timings are taken by `make bench`")
	}
	upstream := record(t, nil)
	w := throughExec(t, &upstream.upstream, deployARN)
	directly := way{env: w.env}
	w.must(t, t.TempDir(), nil, "true") // makes the CA
	var with, without []time.Duration
	for range 31 {
		for _, run := range []struct {
			way
			into *[]time.Duration
		}{{w, &with}, {directly, &without}} {
			argv := append(slices.Clone(run.wrap), "true")
			command := exec.Command(argv[0], argv[1:]...)
			command.Env = run.env
			started := time.Now()
			if output, err := command.CombinedOutput(); err != nil {
				t.Fatalf("%v: %v\n%s", argv, err, output)
			}
			*run.into = append(*run.into, time.Since(started))
		}
	}
	added := median(with) - median(without)
	t.Logf("exec -- true adds %v at the median of %d runs", added.Round(time.Millisecond), len(with))
	if added > 150*time.Millisecond {
		t.Errorf("that is more than 150 ms")
	}
}
