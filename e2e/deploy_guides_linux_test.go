package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// What needs a running systemd is run by TestService.
const hostGuide = "host.md"

// Every command of the guides is run, in a network of its own: they name the
// default ports.
func TestGuides(t *testing.T) {
	t.Parallel()
	needsRoot(t)
	for _, name := range []string{"aws", "helm", "kustomize", "kubectl-validate", "openssl"} {
		tool(t, name)
	}
	python(t)
	inNamespaces(t, "TestInsideGuides")
}

var shellBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// Kubernetes is not there: what would be applied is validated against its
// schemas, and files that it is given must exist.
const kubectlStandIn = `#!/bin/sh
set -eu
case "$1 $2" in
  "apply -f") if [ "$3" = - ]; then cat >/dev/null; else exec kubectl-validate --version 1.30 "$3" >&2; fi ;;
  "apply -k") kustomize build "$3" >"$TMPDIR/built.yaml" && exec kubectl-validate --version 1.30 "$TMPDIR/built.yaml" >&2 ;;
  "create serviceaccount") ;;
  "create secret" | "create configmap")
    for argument; do
      case "$argument" in --from-file=*) test -s "${argument##*=}" ;; esac
    done ;;
  "create namespace" | "label namespace" | "rollout restart") ;;
  *) echo "kubectl $*: no guide says this" >&2; exit 1 ;;
esac
`

const helmStandIn = `#!/bin/sh
set -eu
case "$1" in
  install) shift; exec "$HELM" template "$@" --kube-version 1.30 >"$TMPDIR/rendered.yaml" ;;
  test) test -s "$TMPDIR/rendered.yaml" ;;
  *) echo "helm $*: no guide says this" >&2; exit 1 ;;
esac
`

func TestInsideGuides(t *testing.T) {
	inside(t)
	u := strictMoto(t)
	for _, port := range []string{"4566", "9000"} {
		withoutTLS(t, "127.0.0.1:"+port, u)
	}
	guides, err := filepath.Glob("../docs/guides/*.md")
	if err != nil {
		t.Fatal(err)
	}
	if len(guides) < 6 {
		t.Fatalf("only %d guides", len(guides))
	}
	for _, guide := range guides {
		name := filepath.Base(guide)
		if name == hostGuide {
			continue
		}
		t.Run(name, func(t *testing.T) { runGuide(t, u, name, guideScript(t, name)) })
	}
}

// guideScript is what a guide tells its reader to type, word for word.
func guideScript(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../docs/guides", name))
	if err != nil {
		t.Fatal(err)
	}
	blocks := shellBlock.FindAllSubmatch(text, -1)
	if len(blocks) == 0 {
		t.Fatal("the guide has no commands")
	}
	script := []byte("set -eu\n")
	for _, block := range blocks {
		script = append(script, expectFailure(block[1])...)
	}
	return string(script)
}

var mustFail = regexp.MustCompile(`(?m)^! ((?:.*\\\n)*.*)$`)

// expectFailure makes "! command" fail the script when the command succeeds,
// or fails for another reason than a denial: the shell's own ! does neither.
func expectFailure(block []byte) []byte {
	return mustFail.ReplaceAll(block, []byte("if $1 2>denied\nthen echo 'this should have failed'; exit 1; fi\ncat denied >&2; grep -q AccessDenied denied"))
}

func runGuide(t *testing.T, u *upstream, name, script string) {
	dir := t.TempDir()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "bin")
	if err := errors.Join(
		os.Mkdir(bin, 0o755), os.Mkdir(filepath.Join(dir, "tmp"), 0o700),
		os.Symlink(program, filepath.Join(bin, "countersign")),
		os.Symlink(filepath.Join(root, "deploy"), filepath.Join(dir, "deploy")),
		os.WriteFile(filepath.Join(bin, "kubectl"), []byte(kubectlStandIn), 0o755),
		os.WriteFile(filepath.Join(bin, "helm"), []byte(helmStandIn), 0o755),
	); err != nil {
		t.Fatal(err)
	}
	env := append(bareEnvironment(dir), keyEnvironment(u)...)
	env = append(env, "PATH="+bin+":"+strings.Join(append(toolDirs(), os.Getenv("PATH")), ":"), "TMPDIR="+filepath.Join(dir, "tmp"), "HELM="+tool(t, "helm"))
	if name != "localstack.md" { // it says itself where AWS is
		env = append(env, "COUNTERSIGN_UPSTREAM_PROXY=none",
			fmt.Sprintf(`COUNTERSIGN_UPSTREAM_OVERRIDE=[{hosts: ["*.amazonaws.com"], address: "%s", ca_file: "%s"}]`, u.address, thePKI(t).rootFile))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*patience)
	defer cancel()
	command := exec.CommandContext(ctx, "sh", "-x", "-c", script)
	command.Dir, command.Env = dir, env
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	said, err := os.Create(filepath.Join(dir, "said"))
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	command.Stdout, command.Stderr = said, said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	err = command.Wait()
	syscall.Kill(-command.Process.Pid, syscall.SIGKILL) // what it left in the background
	output, _ := os.ReadFile(said.Name())
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	for _, secret := range u.secrets(t) {
		if bytes.Contains(output, []byte(secret)) {
			t.Errorf("a secret of AWS was printed\n%s", output)
		}
	}
}

// withoutTLS passes plain connections on to an upstream that speaks TLS.
func withoutTLS(t *testing.T, address string, u *upstream) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	roots := thePKI(t).roots
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer in.Close()
				out, err := tls.Dial("tcp", u.address, &tls.Config{RootCAs: roots, ServerName: "strict.invalid"})
				if err != nil {
					return
				}
				defer out.Close()
				go func() { io.Copy(out, in); out.CloseWrite() }()
				io.Copy(in, out)
			}()
		}
	}()
}
