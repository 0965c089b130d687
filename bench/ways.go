package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Made up, and known to nobody but the processes of one run.
var (
	clientKeys = aws.Credentials{AccessKeyID: "CSIGBENCHBENCHBENCH2", SecretAccessKey: "bench-client-secret-bench-client-secret"}
	realKeys   = aws.Credentials{AccessKeyID: "AKIABENCHBENCHBENCH2", SecretAccessKey: "bench-source-secret-bench-source-secret"}
)

// settings are handed to children in a variable.
type settings struct {
	Upstream                  string // address
	Root, RootKey, Chain, Key string // files
}

const settingsVariable = "COUNTERSIGN_BENCH_SETTINGS"

func readSettings() (settings, error) {
	var s settings
	return s, json.Unmarshal([]byte(os.Getenv(settingsVariable)), &s)
}

// announceAndServe prints the address that it listens on, on one line.
func announceAndServe(server *http.Server) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	if server.TLSConfig != nil {
		return server.ServeTLS(listener, "", "")
	}
	return server.Serve(listener)
}

// A way leads a client to the upstream.
type way struct {
	name  string
	pid   int // of its process; 0: it has none
	proxy string
	roots []string // files
	to    string   // address that is dialled in place of AWS's; only without a proxy
}

func (w way) client() *http.Client {
	roots, err := readRoots(w.roots...)
	if err != nil {
		panic(err) // startAll has read them
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, MaxIdleConnsPerHost: 64, DisableCompression: true}
	if w.proxy != "" {
		transport.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: w.proxy})
	} else {
		transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, w.to)
		}
	}
	return &http.Client{Transport: transport, Timeout: 2 * time.Minute}
}

//go:embed resign.py
var mitmproxyAddon []byte

// startAll starts every way that there is. What it returns must be closed also
// after an error.
func startAll(ctx context.Context, dir, program, mitmdump string) (ways []way, closeAll func(), err error) {
	var running []*exec.Cmd
	closeAll = func() {
		for _, c := range running {
			c.Process.Kill()
			c.Wait()
		}
	}
	start := func(c *exec.Cmd) error {
		var diagnostics bytes.Buffer
		if c.Stderr == nil {
			c.Stderr = &diagnostics
		}
		if err := c.Start(); err != nil {
			return err
		}
		running = append(running, c)
		return nil
	}
	s, err := authority(dir)
	if err != nil {
		return nil, closeAll, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, closeAll, err
	}
	child := func(name string) (address string, pid int, err error) {
		text, err := json.Marshal(s)
		if err != nil {
			return "", 0, err
		}
		c := exec.CommandContext(ctx, self, "-child", name)
		c.Env = append(plainEnvironment(dir), settingsVariable+"="+string(text))
		c.Stderr = os.Stderr
		out, err := c.StdoutPipe()
		if err != nil {
			return "", 0, err
		}
		if err := start(c); err != nil {
			return "", 0, err
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			return "", 0, fmt.Errorf("%s did not start: %w", name, err)
		}
		return line[:len(line)-1], c.Process.Pid, nil
	}
	if s.Upstream, _, err = child("upstream"); err != nil {
		return nil, closeAll, err
	}
	ways = []way{{name: "direct", roots: []string{s.Root}, to: s.Upstream}}

	address, pid, err := child("goproxy")
	if err != nil {
		return nil, closeAll, err
	}
	ways = append(ways, way{name: "goproxy", pid: pid, proxy: address, roots: []string{s.Root}})

	own, err := countersign(ctx, dir, program, s, start)
	if err != nil {
		return nil, closeAll, err
	}
	ways = append(ways, own)

	if mitmdump != "" {
		other, err := mitmproxy(ctx, dir, mitmdump, s, start)
		if err != nil {
			return nil, closeAll, err
		}
		ways = append(ways, other)
	}
	return ways, closeAll, nil
}

const configuration = `listen: %s
admin: {listen: %s}
state_dir: %s
source: {region: us-east-1}
roles: {bench: {policies: [%s]}}
identities:
  bench: {roles: [bench], credentials: [{access_key_id: %s, secret_access_key_file: %s}]}
upstream:
  proxy: none
  override: [{hosts: ["*.amazonaws.com"], address: %q, ca_file: %s, tls: true}]
audit: {file: %s, required: true}
log: {level: warn}
`

// A policy with something to decide: conditions, a deny, a resource.
const policy = `{"Version": "2012-10-17", "Statement": [
  {"Sid": "Objects", "Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": "arn:aws:s3:::bucket/*"},
  {"Sid": "Orders", "Effect": "Allow", "Action": "dynamodb:PutItem", "Resource": "arn:aws:dynamodb:*:*:table/orders"},
  {"Sid": "OneRegion", "Effect": "Deny", "Action": "*", "Resource": "*",
   "Condition": {"StringNotEquals": {"aws:RequestedRegion": "us-east-1"}}}]}
`

// countersign as `serve` runs it: it verifies, judges and records each request.
func countersign(ctx context.Context, dir, program string, s settings, start func(*exec.Cmd) error) (way, error) {
	program, err := filepath.Abs(program)
	if err != nil {
		return way{}, err
	}
	addresses, err := freeAddresses(2)
	if err != nil {
		return way{}, err
	}
	listen, admin := addresses[0], addresses[1]
	path := func(name string) string { return filepath.Join(dir, name) }
	text := fmt.Sprintf(configuration, listen, admin, path("state"), path("policy.json"), clientKeys.AccessKeyID,
		path("client.key"), s.Upstream, s.Root, path("audit.jsonl"))
	for name, text := range map[string]string{
		"countersign.yaml": text, "policy.json": policy, "client.key": clientKeys.SecretAccessKey + "\n",
	} {
		if err := os.WriteFile(path(name), []byte(text), 0o600); err != nil {
			return way{}, err
		}
	}
	environment := append(plainEnvironment(dir), "AWS_ACCESS_KEY_ID="+realKeys.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY="+realKeys.SecretAccessKey, "AWS_EC2_METADATA_DISABLED=true")
	export := exec.CommandContext(ctx, program, "ca", "export", "--config", path("countersign.yaml"), "--format", "pem", "--out", path("ca.pem"))
	export.Env = environment
	if output, err := export.CombinedOutput(); err != nil {
		return way{}, fmt.Errorf("%s ca export: %w: %s", program, err, output)
	}
	c := exec.CommandContext(ctx, program, "serve", "--config", path("countersign.yaml"))
	c.Env, c.Stderr = environment, os.Stderr
	if err := start(c); err != nil {
		return way{}, err
	}
	return way{name: "countersign", pid: c.Process.Pid, proxy: listen, roots: []string{path("ca.pem")}}, reachable(ctx, listen)
}

// mitmproxy with an addon that signs with botocore, streaming.
func mitmproxy(ctx context.Context, dir, mitmdump string, s settings, start func(*exec.Cmd) error) (way, error) {
	addresses, err := freeAddresses(1)
	if err != nil {
		return way{}, err
	}
	listen := addresses[0]
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return way{}, err
	}
	confdir := filepath.Join(dir, "mitmproxy")
	if err := os.Mkdir(confdir, 0o700); err != nil {
		return way{}, err
	}
	key, err := os.ReadFile(s.RootKey)
	if err != nil {
		return way{}, err
	}
	root, err := os.ReadFile(s.Root)
	if err != nil {
		return way{}, err
	}
	addon := filepath.Join(dir, "resign.py")
	if err := errors.Join(
		os.WriteFile(filepath.Join(confdir, "mitmproxy-ca.pem"), append(key, root...), 0o600),
		os.WriteFile(addon, mitmproxyAddon, 0o600),
	); err != nil {
		return way{}, err
	}
	c := exec.CommandContext(ctx, mitmdump, "--quiet", "--scripts", addon, "--listen-host", host, "--listen-port", port,
		"--set", "confdir="+confdir, "--set", "connection_strategy=lazy", "--set", "http2=false",
		// It would look for the address that the addon leads to in the certificate.
		"--set", "ssl_insecure=true")
	c.Env = append(plainEnvironment(dir), "BENCH_UPSTREAM="+s.Upstream, "BENCH_REGION="+region,
		"BENCH_ACCESS_KEY_ID="+realKeys.AccessKeyID, "BENCH_SECRET_ACCESS_KEY="+realKeys.SecretAccessKey)
	c.Stdout, c.Stderr = os.Stderr, os.Stderr
	if err := start(c); err != nil {
		return way{}, err
	}
	return way{name: "mitmproxy", pid: c.Process.Pid, proxy: listen, roots: []string{s.Root}}, reachable(ctx, listen)
}

// plainEnvironment holds nothing that this process was told about AWS or proxies.
func plainEnvironment(dir string) []string {
	environment := []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH")}
	if runtime.GOOS == "windows" {
		environment = append(environment, "SystemRoot="+os.Getenv("SystemRoot"))
	}
	return environment
}

// freeAddresses are n different ones that nobody listened on a moment ago.
func freeAddresses(n int) (addresses []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // at the end: the system gives none of them twice
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}

func reachable(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		connection, err := net.Dial("tcp", address)
		if err == nil {
			return connection.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("nobody listens on %s: %w", address, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
