// Command countersign is a forward proxy that gives programs access to AWS
// without giving them AWS keys.
//
// This package is commands and wiring: each command is a file, and proxy.go
// puts the packages together.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes, as docs/commands.md has them. exec passes on its child's.
const (
	exitOK       = 0
	exitFailure  = 1   // the command could not do what it was asked to
	exitUsage    = 2   // it was asked in a way that cannot be understood
	exitConfig   = 3   // the configuration is invalid
	exitFindings = 4   // doctor, policy check, config check: something is wrong with what was looked at
	exitNoStart  = 126 // exec: the program cannot be started
	exitNotFound = 127 // exec: there is no such program
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// exitError ends the program with a code and, unless err is nil, a message.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	out := &results{Writer: stdout}
	app := &app{getenv: os.Getenv, environ: os.Environ, stdin: stdin, stdout: out, stderr: stderr}
	root := newRoot(app)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(out)
	root.SetErr(stderr)
	err := root.ExecuteContext(context.Background())
	if err == nil && out.err != nil {
		err = fmt.Errorf("the result could not be written whole: %w", out.err)
	}
	if err == nil {
		return exitOK
	}
	code := exitFailure
	var exit *exitError
	switch {
	case errors.As(err, &exit):
		code, err = exit.code, exit.err
	case errors.Is(err, errUsage):
		code = exitUsage
	}
	if err != nil {
		fmt.Fprintf(stderr, "countersign: %s\n", strings.ReplaceAll(err.Error(), "\n", "\n  "))
	}
	return code
}

// results is standard output. What reads half of the settings of env, or of a trust
// store, must not be told that all is well, so the first failure is remembered.
type results struct {
	io.Writer
	err error
}

func (r *results) Write(p []byte) (int, error) {
	n, err := r.Writer.Write(p)
	if err != nil && r.err == nil {
		r.err = err
	}
	return n, err
}

// plainStdout is standard output itself: a program that is started gets the file,
// and only a file can be a terminal.
func (a *app) plainStdout() io.Writer {
	if r, ok := a.stdout.(*results); ok {
		return r.Writer
	}
	return a.stdout
}

var errUsage = errors.New("usage")

// usageError marks an error of the command line.
type usageError struct{ err error }

func (e usageError) Error() string        { return e.err.Error() }
func (e usageError) Is(target error) bool { return target == errUsage }
func (e usageError) Unwrap() error        { return e.err }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// app is what every command can reach: the flags that all share, and the world
// outside, which tests replace.
type app struct {
	getenv  func(string) string
	environ func() []string
	stdin   io.Reader
	stdout  io.Writer
	stderr  io.Writer

	configPath string
	identity   string
	output     string
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "countersign",
		Short: "Give programs access to AWS without giving them AWS keys",
		Long: "countersign is a forward proxy for AWS. Programs sign their calls with client credentials\n" +
			"that are worth nothing elsewhere; countersign verifies each call, checks it against your\n" +
			"policies, signs it again with the credentials of an assumed role, and streams it to AWS.\n\n" +
			"Start here:\n" +
			"  countersign demo                               see it work, no AWS account needed\n" +
			"  countersign exec --role ARN -- aws s3 ls       run one program under a role",
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		Args:              cobra.NoArgs,
		RunE:              func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.PersistentFlags().StringVar(&a.configPath, "config", "", "configuration `file` (default: COUNTERSIGN_CONFIG, else none)")
	root.PersistentFlags().StringVar(&a.identity, "identity", localIdentity, "`name` of the identity to act for")
	root.PersistentFlags().StringVar(&a.output, "output", "text", "text or json")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w\nSee `%s --help`", err, c.CommandPath())}
	})
	root.PersistentPreRunE = func(c *cobra.Command, _ []string) error {
		if a.output != "text" && a.output != "json" {
			return usagef("--output is %q; it can be text or json", a.output)
		}
		return nil
	}
	root.AddCommand(
		newDemo(a), newExec(a), newServe(a), newEnv(a), newCredentials(a), newRoles(a),
		newCA(a), newConfig(a), newDoctor(a), newVersion(a), newRevoke(a), newSessions(a), newPolicy(a), newInject(a), newPages(a),
		newConsole(a), newLogout(a),
	)
	wrapUsage(root)
	return root
}

// wrapUsage marks the errors of argument checks as errors of usage.
func wrapUsage(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return usageError{fmt.Errorf("%w\nSee `%s --help`", err, c.CommandPath())}
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		wrapUsage(sub)
	}
}
