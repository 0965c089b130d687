package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/countersign-proxy/countersign/audit"
	"github.com/countersign-proxy/countersign/sandbox"
)

// TestScripts runs the real main by scripts. They see a home directory of their
// own, no AWS credentials, no proxy and no network, and must leave no temporary
// file behind.
func TestScripts(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the scripts use a POSIX shell")
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			home := filepath.Join(e.WorkDir, "home")
			if err := os.Mkdir(home, 0o700); err != nil {
				return err
			}
			for name, value := range map[string]string{
				"HOME": home, "AWS_EC2_METADATA_DISABLED": "true", "SHELL": "/bin/bash", "STATE": filepath.Join(home, ".countersign"),
			} {
				e.Setenv(name, value)
			}
			e.Values[worldKey{}] = &world{}
			temp := filepath.Join(e.WorkDir, ".tmp")
			e.Defer(func() {
				if left := names(temp); len(left) > 0 {
					e.T().Fatal("files are left in the temporary folder: ", strings.Join(left, " "))
				}
			})
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"sandbox": startSandbox, "seen": seen, "code": exitCode, "await": await, "signal": sendSignal,
			"port": freePort, "mode": fileMode, "lines": auditLines, "secretless": secretless,
		},
	})
}

// patience is far beyond what anything here takes, so that a hang ends with the
// script's name.
const patience = 2 * time.Minute

// names lists a folder that may not exist.
func names(dir string) (out []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// world is what a script has running beside it.
type world struct{ sandbox *sandbox.Server }

type worldKey struct{}

// startSandbox starts a stand-in for AWS and puts the keys of its user where
// source credentials are looked for:
//
//	sandbox [ROLE...]
//
// $SANDBOX is its address, sandbox.pem its CA. With arguments, these are the
// roles that exist, else every role does.
func startSandbox(ts *testscript.TestScript, _ bool, args []string) {
	var opt sandbox.Options
	for _, arn := range args {
		if opt.Roles == nil {
			opt.Roles = map[string]sandbox.Role{}
		}
		opt.Roles[arn] = sandbox.Role{}
	}
	s, err := sandbox.Start(opt)
	ts.Check(err)
	ts.Defer(func() { _ = s.Close() })
	ts.Value(worldKey{}).(*world).sandbox = s
	ts.Check(os.WriteFile(ts.MkAbs("sandbox.pem"), s.RootPEM(), 0o600))
	ts.Setenv("SANDBOX", s.Address())
	ts.Setenv("AWS_ACCESS_KEY_ID", s.Credentials().AccessKeyID)
	ts.Setenv("AWS_SECRET_ACCESS_KEY", s.Credentials().SecretAccessKey)
}

// seen checks what reached the sandbox, oldest first:
//
//	seen 'GetCallerIdentity arn:…'...
//
// Each argument is an operation and a pattern of the caller.
func seen(ts *testscript.TestScript, _ bool, args []string) {
	var got []string
	for _, r := range ts.Value(worldKey{}).(*world).sandbox.Requests() {
		got = append(got, r.Operation+" "+r.Principal)
	}
	ok := len(got) == len(args)
	for i := 0; ok && i < len(args); i++ {
		ok = regexp.MustCompile("^" + args[i] + "$").MatchString(got[i])
	}
	if !ok {
		ts.Fatalf("the sandbox has seen\n%s\nexpected\n%s", strings.Join(got, "\n"), strings.Join(args, "\n"))
	}
}

// exitCode runs a program that is to end with a code:
//
//	code 3 countersign config check
func exitCode(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	got := 0
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, expected %d", got, want)
	}
}

// await waits until something is so:
//
//	await ready ADDRESS       /readyz answers 200
//	await file NAME PATTERN   the file has a line that matches
//	await gone ADDRESS        nobody listens there any more
func await(ts *testscript.TestScript, _ bool, args []string) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	is := func() bool {
		switch args[0] {
		case "ready":
			res, err := client.Get("http://" + args[1] + "/readyz")
			if err != nil {
				return false
			}
			return res.Body.Close() == nil && res.StatusCode == http.StatusOK
		case "file":
			text, err := os.ReadFile(ts.MkAbs(args[1]))
			return err == nil && regexp.MustCompile("(?m)"+args[2]).Match(text)
		case "gone":
			c, err := net.Dial("tcp", args[1])
			return err != nil || c.Close() != nil
		}
		ts.Fatalf("await %s?", args[0])
		return false
	}
	for deadline := time.Now().Add(patience); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			if args[0] == "file" {
				text, err := os.ReadFile(ts.MkAbs(args[1]))
				ts.Logf("%s: %s %v", args[1], text, err)
			}
			ts.Fatalf("this never came to be: %s", strings.Join(args, " "))
		}
	}
}

// sendSignal sends a signal to the program that was started last:
//
//	signal HUP
func sendSignal(ts *testscript.TestScript, _ bool, args []string) {
	running := ts.BackgroundCmds()
	if len(running) == 0 {
		ts.Fatalf("nothing runs in the background")
	}
	s, ok := map[string]os.Signal{"HUP": syscall.SIGHUP, "TERM": syscall.SIGTERM, "INT": syscall.SIGINT}[args[0]]
	if !ok {
		ts.Fatalf("signal %s?", args[0])
	}
	ts.Check(running[len(running)-1].Process.Signal(s))
}

// lastPort is the port that freeAddress looked at last.
var lastPort = func() *atomic.Uint32 {
	var port atomic.Uint32
	port.Store(rand.Uint32N(portRange))
	return &port
}()

// The ports of freeAddress lie below those that systems hand out by themselves, to
// listeners on port 0 and to every connection that is made, so nothing takes one
// between its choice and its use.
const firstPort, portRange = 10000, 10000

// freeAddress returns a loopback address that nobody listens on, and gives each to
// one test only.
func freeAddress() (address string, err error) {
	for range 100 {
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", firstPort+lastPort.Add(1)%portRange)); err == nil {
			return l.Addr().String(), l.Close()
		}
	}
	return "", err
}

// freePort names addresses that nobody listens on:
//
//	port NAME...   $NAME is 127.0.0.1 and a port
func freePort(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		address, err := freeAddress()
		ts.Check(err)
		ts.Setenv(name, address)
	}
}

// fileMode checks the permissions of files:
//
//	mode 0600 FILE...
func fileMode(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.ParseUint(args[0], 8, 32)
	ts.Check(err)
	for _, name := range args[1:] {
		info, err := os.Stat(ts.MkAbs(name))
		ts.Check(err)
		if info.Mode().Perm() != fs.FileMode(want) {
			ts.Fatalf("%s has mode %04o, expected %04o", name, info.Mode().Perm(), want)
		}
	}
}

// auditLines checks a record:
//
//	lines FILE 'decision reason identity role operation status'...
//
// Each argument after the file is one line of it, which may still be on its way: that
// of a request is written when it has ended. FILE can be stdout or stderr, whose other
// lines are passed over.
func auditLines(ts *testscript.TestScript, _ bool, args []string) {
	ended := args[0] == "stdout" || args[0] == "stderr"
	deadline := time.Now().Add(patience)
	for {
		got, err := recorded(ts, args[0], ended)
		if err == nil && slices.Equal(got, args[1:]) {
			return
		}
		if ended || time.Now().After(deadline) {
			ts.Check(err)
			ts.Fatalf("%s has\n%s\nexpected\n%s", args[0], strings.Join(got, "\n"), strings.Join(args[1:], "\n"))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// recorded are the lines of a record, in which there may be other text.
func recorded(ts *testscript.TestScript, file string, others bool) (got []string, err error) {
	for line := range strings.Lines(ts.ReadFile(file)) {
		e, err := audit.Parse([]byte(strings.TrimSpace(line)))
		if err != nil && others {
			continue
		} else if err != nil {
			return got, fmt.Errorf("%s: %w", file, err)
		}
		got = append(got, strings.Join([]string{string(e.Decision), e.Reason, e.Identity, e.Role, e.Operation, strconv.Itoa(e.Status)}, " "))
	}
	return got, nil
}

// secretless checks that nothing that was printed last, and no file that is
// named, holds the source credentials:
//
//	secretless FILE...
func secretless(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range append([]string{"stdout", "stderr"}, args...) {
		text := ts.ReadFile(name)
		for _, secret := range []string{ts.Getenv("AWS_SECRET_ACCESS_KEY"), ts.Getenv("AWS_ACCESS_KEY_ID")} {
			if secret == "" {
				ts.Fatalf("there are no source credentials to look for")
			}
			if strings.Contains(text, secret) {
				ts.Fatalf("%s holds source credentials", name)
			}
		}
	}
}
