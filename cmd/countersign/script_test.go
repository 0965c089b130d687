package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
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
				"HOME": home, "USERPROFILE": home, "AWS_EC2_METADATA_DISABLED": "true", "SHELL": "/bin/bash",
			} {
				e.Setenv(name, value)
			}
			temp := filepath.Join(e.WorkDir, ".tmp")
			e.Defer(func() {
				if left := names(temp); len(left) > 0 {
					t.Errorf("%s: files are left in the temporary folder: %q", filepath.Base(e.WorkDir), left)
				}
			})
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"sandbox": startSandbox, "seen": seen, "code": exitCode, "await": await, "signal": sendSignal,
			"port": freePort, "mode": fileMode, "lines": auditLines, "lines-of": outputLines, "secretless": secretless,
		},
	})
}

// names lists a folder that may not exist.
func names(dir string) (out []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

type sandboxKey struct{}

var sandboxes = map[string]*sandbox.Server{}
var sandboxesMu = make(chan struct{}, 1)

// startSandbox starts a stand-in for AWS and sets source credentials for it:
//
//	sandbox
//
// $SANDBOX is its address, sandbox.pem its CA.
func startSandbox(ts *testscript.TestScript, neg bool, args []string) {
	s, err := sandbox.Start(sandbox.Options{})
	ts.Check(err)
	ts.Defer(func() { _ = s.Close() })
	ts.Check(os.WriteFile(ts.MkAbs("sandbox.pem"), s.RootPEM(), 0o600))
	ts.Setenv("SANDBOX", s.Address())
	ts.Setenv("AWS_ACCESS_KEY_ID", s.Credentials().AccessKeyID)
	ts.Setenv("AWS_SECRET_ACCESS_KEY", s.Credentials().SecretAccessKey)
	ts.Setenv("SANDBOX_SECRET", s.Credentials().SecretAccessKey)
	sandboxesMu <- struct{}{}
	sandboxes[ts.Getenv("WORK")] = s
	<-sandboxesMu
}
