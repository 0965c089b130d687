package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// A scenario is a load that is the same for every way.
type scenario struct {
	name     string
	method   string
	host     string
	service  string
	target   string // X-Amz-Target, for JSON protocols
	body     []byte // sent whole and hashed
	upload   int64  // bytes sent, streamed
	download int64  // bytes asked for
	unsigned bool   // the body's hash is left out of the signature
	parallel int
	requests int
}

const (
	kib = 1 << 10
	mib = 1 << 20
)

var item = []byte(`{"TableName":"orders","Item":{"id":{"S":"0001"},"note":{"S":"` + strings.Repeat("n", 2*kib) + `"}}}`)

var scenarios = []scenario{
	{name: "small answers, one at a time", method: "GET", host: s3Host, service: "s3", download: kib, parallel: 1, requests: 1500},
	{name: "small answers, 32 at a time", method: "GET", host: s3Host, service: "s3", download: kib, parallel: 32, requests: 6000},
	{name: "2 KiB of JSON, 32 at a time", method: "POST", host: dynamoHost, service: "dynamodb",
		target: "DynamoDB_20120810.PutItem", body: item, parallel: 32, requests: 6000},
	{name: "downloads of 64 MiB, 4 at a time", method: "GET", host: s3Host, service: "s3", download: 64 * mib, parallel: 4, requests: 12},
	{name: "uploads of 64 MiB, 4 at a time", method: "PUT", host: s3Host, service: "s3", upload: 64 * mib, unsigned: true, parallel: 4, requests: 12},
	{name: "uploads of 64 MiB with their hash, 4 at a time", method: "PUT", host: s3Host, service: "s3", upload: 64 * mib, parallel: 4, requests: 12},
}

// request is a signed one. It may be sent any number of times while its date
// holds, so that the client's own signing is not measured.
func (s scenario) request(ctx context.Context) (*http.Request, error) {
	path := "/bucket/object"
	if s.service != "s3" {
		path = "/"
	}
	r, err := http.NewRequestWithContext(ctx, s.method, "https://"+s.host+path, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("User-Agent", "bench")
	hash := sha256.New()
	switch {
	case s.body != nil:
		hash.Write(s.body)
		r.ContentLength = int64(len(s.body))
		r.Header.Set("Content-Type", "application/x-amz-json-1.0")
	case s.upload > 0:
		r.ContentLength = s.upload
		if !s.unsigned {
			io.Copy(hash, &zeros{s.upload})
		}
	}
	sum := hex.EncodeToString(hash.Sum(nil))
	if s.unsigned {
		sum = "UNSIGNED-PAYLOAD"
	}
	if s.target != "" {
		r.Header.Set("X-Amz-Target", s.target)
	}
	if s.service == "s3" {
		r.Header.Set("X-Amz-Content-Sha256", sum)
	}
	if s.download > 0 {
		r.Header.Set("X-Amz-Meta-Size", strconv.FormatInt(s.download, 10))
	}
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = s.service == "s3" })
	return r, signer.SignHTTP(ctx, clientKeys, r, sum, s.service, region, time.Now())
}

func (s scenario) send(client *http.Client, signed *http.Request) error {
	r := signed.Clone(signed.Context())
	switch {
	case s.body != nil:
		r.Body = io.NopCloser(bytes.NewReader(s.body))
	case s.upload > 0:
		r.Body = io.NopCloser(&zeros{s.upload})
	}
	response, err := client.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, kib))
		return fmt.Errorf("%s: %s", response.Status, text)
	}
	n, err := io.Copy(io.Discard, response.Body)
	if err == nil && s.download > 0 && n != s.download {
		err = fmt.Errorf("%d bytes came, want %d", n, s.download)
	}
	return err
}

// A result is one way's in one round.
type result struct {
	perSecond   float64
	median, p99 time.Duration
	cpu         time.Duration // of the way's own process, each request; 0: not known
}

func (w way) measure(ctx context.Context, s scenario) (result, error) {
	signed, err := s.request(ctx)
	if err != nil {
		return result{}, err
	}
	client := w.client()
	defer client.CloseIdleConnections()
	// Connections and role sessions are made before the clock starts.
	if err := load(client, s, signed, s.parallel, func(time.Duration) {}); err != nil {
		return result{}, err
	}
	took := make([]time.Duration, 0, s.requests)
	before := cpuTime(w.pid)
	started := time.Now()
	if err := load(client, s, signed, s.requests, func(d time.Duration) { took = append(took, d) }); err != nil {
		return result{}, err
	}
	elapsed := time.Since(started)
	used := cpuTime(w.pid) - before
	slices.Sort(took)
	return result{
		perSecond: float64(s.requests) / elapsed.Seconds(),
		median:    took[len(took)/2],
		p99:       took[len(took)*99/100],
		cpu:       used / time.Duration(s.requests),
	}, nil
}

func load(client *http.Client, s scenario, signed *http.Request, requests int, record func(time.Duration)) error {
	var (
		left  atomic.Int64
		mu    sync.Mutex
		first error
		all   sync.WaitGroup
	)
	left.Store(int64(requests))
	for range s.parallel {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				started := time.Now()
				err := s.send(client, signed)
				took := time.Since(started)
				mu.Lock()
				if err != nil && first == nil {
					first = err
					left.Store(0)
				}
				record(took)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return first
}

// report prints each way against the first one, round by round.
func report(s scenario, ways []way, results [][]result) {
	fmt.Printf("\n%s\n", s.name)
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "  \trate\t× direct\tmedian\t99 %\tCPU a request\t× goproxy's")
	var goproxy int
	for i, w := range ways {
		if w.name == "goproxy" {
			goproxy = i
		}
	}
	for i, w := range ways {
		rate := fmt.Sprintf("%.0f/s", mid(results[i], func(_ int, r result) float64 { return r.perSecond }))
		if size := max(s.upload, s.download); size >= mib {
			rate = fmt.Sprintf("%.0f MiB/s", mid(results[i], func(_ int, r result) float64 { return r.perSecond })*float64(size/mib))
		}
		fmt.Fprintf(table, "  %s\t%s\t%s\t%s\t%s\t", w.name, rate,
			ratio(results[i], func(n int, r result) float64 { return r.perSecond / results[0][n].perSecond }),
			round(mid(results[i], func(_ int, r result) float64 { return float64(r.median) })),
			round(mid(results[i], func(_ int, r result) float64 { return float64(r.p99) })))
		if w.pid == 0 || results[i][0].cpu == 0 {
			fmt.Fprintln(table, "\t")
			continue
		}
		fmt.Fprintf(table, "%s\t%s\n", round(mid(results[i], func(_ int, r result) float64 { return float64(r.cpu) })),
			ratio(results[i], func(n int, r result) float64 { return float64(r.cpu) / float64(max(1, results[goproxy][n].cpu)) }))
	}
	table.Flush()
}

func sorted(results []result, of func(int, result) float64) []float64 {
	values := make([]float64, len(results))
	for i, r := range results {
		values[i] = of(i, r)
	}
	slices.Sort(values)
	return values
}

func mid(results []result, of func(int, result) float64) float64 {
	values := sorted(results, of)
	return values[len(values)/2]
}

func ratio(results []result, of func(int, result) float64) string {
	values := sorted(results, of)
	return fmt.Sprintf("%.2f (%.2f–%.2f)", values[len(values)/2], values[0], values[len(values)-1])
}

func round(nanoseconds float64) string {
	d := time.Duration(nanoseconds)
	if d < 10*time.Millisecond {
		return d.Round(time.Microsecond).String()
	}
	return d.Round(time.Millisecond).String()
}

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

// cpuTime is what a process has used so far, as Linux tells it; 0 elsewhere.
func cpuTime(pid int) time.Duration {
	if pid == 0 {
		return 0
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The second field is a name in parentheses that may hold anything.
	_, rest, _ := strings.Cut(string(text[bytes.LastIndexByte(text, ')'):]), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	const tick = 10 * time.Millisecond // USER_HZ, proc(5)
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * tick
}

func residentPeak(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return "not known here"
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "VmHWM:" {
			n, _ := strconv.ParseInt(fields[1], 10, 64)
			return fmt.Sprintf("%d MiB", n/kib)
		}
	}
	return "not known here"
}
