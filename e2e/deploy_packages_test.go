package e2e

import (
	"bytes"
	"debug/buildinfo"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
)

// The packages hold what they should, and the same source gives the same bytes.
func TestPackages(t *testing.T) {
	t.Parallel()
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
		"usr/share/doc/countersign/countersign.cdx.json":       "{}",
	} {
		text, err := os.ReadFile(filepath.Join(into, file))
		if err != nil {
			t.Error(err)
		} else if !strings.Contains(string(text), want) {
			t.Errorf("%s has no %q", file, want)
		}
	}
	// Every module in the program has its licence there.
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	licenses, err := os.ReadFile(filepath.Join(into, "usr/share/doc/countersign/THIRD_PARTY_LICENSES"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range append(info.Deps, &debug.Module{Path: "Go,", Version: info.GoVersion}) {
		name := m.Path + "@" + m.Version
		if m.Path == "Go," {
			name = "Go, " + m.Version
		}
		if _, text, ok := strings.Cut(string(licenses), "\n"+name+"\n"); !ok || !regexp.MustCompile(`(?i)copyright|license`).MatchString(text[:min(len(text), 2000)]) {
			t.Errorf("no licence of %s", name)
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

// thirdPartyLicenses are those of what is in the program.
func thirdPartyLicenses(t *testing.T) []byte {
	t.Helper()
	var said bytes.Buffer
	command := exec.Command("../.ci/licenses", program)
	command.Stderr = &said
	text, err := command.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	return text
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
	dir := t.TempDir()
	pages, licenses, sbom := filepath.Join(dir, "pages"), filepath.Join(dir, "licenses"), filepath.Join(dir, "sbom")
	if output, err := exec.Command(program, "pages", pages).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	if err := errors.Join(os.WriteFile(licenses, thirdPartyLicenses(t), 0o600), os.WriteFile(sbom, []byte("{}"), 0o600)); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(dir, "countersign."+format)
	command := exec.Command(nfpm, "package", "-f", "deploy/packages/nfpm.yaml", "-p", format, "-t", target)
	command.Dir = root
	command.Env = append(bareEnvironment(dir), "NFPM_ARCH="+runtime.GOARCH, "NFPM_VERSION="+version, "NFPM_BINARY="+program,
		"NFPM_PAGES="+pages, "NFPM_LICENSES="+licenses, "NFPM_SBOM="+sbom, "SOURCE_DATE_EPOCH=0")
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return target
}
