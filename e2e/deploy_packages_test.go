package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// The packages hold what they should, and the same source gives the same bytes.
func TestPackages(t *testing.T) {
	build := func(format string) string { return buildPackage(t, format, "1.2.3") }
	for _, format := range []string{"deb", "rpm"} {
		first, err := os.ReadFile(build(format))
		if err != nil {
			t.Fatal(err)
		}
		second, err := os.ReadFile(build(format))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first, second) {
			t.Errorf("%s: twice the same source, and not the same bytes", format)
		}
	}

	dpkg, err := exec.LookPath("dpkg-deb")
	needs(t, "dpkg-deb", err)
	into := t.TempDir()
	if output, err := exec.Command(dpkg, "--extract", build("deb"), into).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	for file, want := range map[string]string{
		"usr/lib/systemd/system/countersign.service":           "User=countersign",
		"usr/lib/systemd/system/countersign.socket":            "FileDescriptorName=listen",
		"usr/lib/sysusers.d/countersign.conf":                  "u countersign",
		"etc/countersign/countersign.yaml":                     "listen: 127.0.0.1:8800",
		"usr/share/bash-completion/completions/countersign":    "__start_countersign",
		"usr/share/zsh/vendor-completions/_countersign":        "#compdef countersign",
		"usr/share/fish/vendor_completions.d/countersign.fish": "complete -c countersign",
		"usr/share/man/man1/countersign-exec.1":                `.TH "COUNTERSIGN-EXEC" "1"`,
		"usr/share/doc/countersign/copyright":                  "Apache License",
	} {
		text, err := os.ReadFile(filepath.Join(into, file))
		if err != nil {
			t.Error(err)
		} else if !strings.Contains(string(text), want) {
			t.Errorf("%s has no %q", file, want)
		}
	}
	installed := filepath.Join(into, "usr/bin/countersign")
	if output, err := exec.Command(installed, "version").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, output)
	}
	check := exec.Command(installed, "config", "check", "--config", filepath.Join(into, "etc/countersign/countersign.yaml"))
	check.Env = bareEnvironment(t.TempDir())
	if output, err := check.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, output)
	}
}

// buildPackage makes the package that `make dist` would make of the program
// under test, and returns its path.
func buildPackage(t *testing.T, format, version string) string {
	t.Helper()
	nfpm := tool(t, "nfpm")
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	// nfpm takes paths from its working directory: that of the source, with
	// pages that are not the source's.
	dir := t.TempDir()
	for _, name := range []string{"deploy", "LICENSE"} {
		if err := os.Symlink(filepath.Join(root, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if output, err := exec.Command(program, "pages", filepath.Join(dir, "dist/pages")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	target := filepath.Join(dir, "countersign."+format)
	command := exec.Command(nfpm, "package", "-f", "deploy/packages/nfpm.yaml", "-p", format, "-t", target)
	command.Dir = dir
	command.Env = append(bareEnvironment(dir), "NFPM_ARCH="+runtime.GOARCH, "NFPM_VERSION="+version, "NFPM_BINARY="+program, "SOURCE_DATE_EPOCH=0")
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return target
}
