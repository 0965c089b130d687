package ca_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/countersign-proxy/countersign/ca"
)

// processJob is what this test binary does when it is started as a helper.
func processJob(job string) int {
	var (
		a   *ca.Authority
		err error
		dir = os.Getenv("COUNTERSIGN_CA_TEST_DIR")
		o   = ca.Options{Suffixes: awsSuffixes}
	)
	switch job {
	case "open":
		a, err = ca.Open(dir, o)
	case "rotate":
		a, err = ca.Rotate(dir, ca.Rotation{}, o)
	case "mounted":
		if err = mounted(dir); err == nil {
			a, err = ca.Load(dir, o)
		}
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(ca.Fingerprint(a.Roots()[0]))
	return 0
}

// mounted prepares a folder for the test that is about mounts, where there is one.
var mounted func(dir string) error

func helper(job, dir string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "COUNTERSIGN_CA_TEST_JOB="+job, "COUNTERSIGN_CA_TEST_DIR="+dir)
	return cmd
}

// together runs n helpers at the same time and returns what they print.
func together(t *testing.T, n int, job, dir string) []string {
	t.Helper()
	out := make([]string, n)
	var group sync.WaitGroup
	for i := range out {
		group.Go(func() {
			b, err := helper(job, dir).CombinedOutput()
			if err != nil {
				t.Errorf("process %d: %v: %s", i, err, b)
			}
			out[i] = strings.TrimSpace(string(b))
		})
	}
	group.Wait()
	return out
}

func TestProcessesThatStartTogetherShareOneAuthority(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "ca")
	for i, got := range together(t, 12, "open", dir) {
		a, err := ca.Load(dir, ca.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if want := ca.Fingerprint(a.Roots()[0]); got != want {
			t.Errorf("process %d has %s, the folder %s", i, got, want)
		}
	}
	wantModes(t, dir)
}

func TestProcessesThatRotateTogetherLoseNoRoot(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	first, err := ca.Create(dir, ca.Options{Suffixes: awsSuffixes})
	if err != nil {
		t.Fatal(err)
	}
	prints := together(t, 6, "rotate", dir)
	last, err := ca.Load(dir, ca.Options{})
	if err != nil {
		t.Fatal(err)
	}
	kept := map[string]bool{}
	for _, root := range last.Roots() {
		kept[ca.Fingerprint(root)] = true
	}
	for _, p := range append(prints, ca.Fingerprint(first.Roots()[0])) {
		if !kept[p] {
			t.Errorf("root %s was lost", p)
		}
	}
	if len(kept) != 7 {
		t.Errorf("%d roots, want 7", len(kept))
	}
}

// wantModes checks that the folder is 0700, holds 0600 files, and no leftovers.
func wantModes(t *testing.T, dir string) {
	t.Helper()
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != os.ModeDir|0o700 {
		t.Errorf("the folder has mode %v", info.Mode())
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
	}
	if got := strings.Join(names, " "); got != ".lock authority.pem" {
		t.Errorf("the folder holds %s", got)
	}
}
