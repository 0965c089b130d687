package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign-proxy/countersign/audit"
	"github.com/countersign-proxy/countersign/ca"
	"github.com/countersign-proxy/countersign/config"
	"github.com/countersign-proxy/countersign/identity"
	"github.com/countersign-proxy/countersign/safefile"
)

func newExec(a *app) *cobra.Command {
	var opt execOptions
	c := &cobra.Command{
		Use:   "exec [--role R] [--policy F] [--learn F] -- CMD [ARG …]",
		Short: "Run a program behind a private proxy",
		Long: "Run a program whose AWS calls go through a proxy of its own. The program gets client\n" +
			"credentials that are worth nothing elsewhere and die with it; AWS sees its calls signed\n" +
			"with the credentials of the role, or without --role with those of your environment.\n\n" +
			"No configuration is needed: your own credentials come from where AWS tools look for\n" +
			"them (profile, SSO, variables, instance role). The exit code is that of the program;\n" +
			"126 and 127 mean that it could not be started or found.",
		Example: "  countersign exec -- aws sts get-caller-identity\n" +
			"  countersign exec --role arn:aws:iam::123456789012:role/Deploy -- terraform apply\n" +
			"  countersign exec --policy agent.json -- python agent.py",
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return a.exec(c.Context(), opt, args) },
	}
	c.Flags().StringVar(&opt.role, "role", "", "`role` to sign with: an ARN or a name of the configuration")
	c.Flags().StringVar(&opt.policy, "policy", "", "IAM policy `file` to enforce in addition to those of the role")
	c.Flags().StringVar(&opt.learn, "learn", "", "write the smallest policy that allows what the program did to `file`")
	c.Flags().SetInterspersed(false)
	return c
}

type execOptions struct{ role, policy, learn string }

// exec runs args behind a proxy that lives as long as they do.
func (a *app) exec(ctx context.Context, opt execOptions, args []string) error {
	path, err := exec.LookPath(args[0])
	if err != nil && !errors.Is(err, exec.ErrDot) {
		code := exitNoStart // it is there: a folder, or not to be executed
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
			code = exitNotFound
		}
		return &exitError{code, fmt.Errorf("cannot run %s: %w", args[0], err)}
	}
	if opt.learn != "" && opt.learn != "-" {
		// What was learned in hours must have a place in the end.
		if err := safefile.CheckWritable(opt.learn); err != nil {
			return fmt.Errorf("--learn: %w", err)
		}
	}
	cfg, err := a.load()
	if err != nil {
		return err
	}
	g := newGrants(cfg, a.getenv)
	if _, ok := g.identities[localIdentity]; !ok && a.identity == localIdentity {
		g.addLocal(a.getenv) // the private proxy is for this user, whoever else is configured
	}
	role, err := g.forExec(a.identity, opt, a.getenv)
	if err != nil {
		return err
	}
	pair, err := identity.NewPair(rand.Reader, a.identity, role)
	if err != nil {
		return err
	}
	authority, err := ca.New(authorityOptions(cfg))
	if err != nil {
		return err
	}
	record, err := a.execAudit(cfg)
	if err != nil {
		return err
	}
	logger, err := newLogger(cfg.Log, a.stderr, "warn")
	if err != nil {
		return err
	}
	var learned learner
	roots, err := ca.EnvironmentRoots(ca.TrustOptions{Getenv: a.getenv})
	if err != nil {
		return err
	}
	proxyOpt := proxyOptions{Authority: authority, Static: []identity.Static{pair}, Roots: roots, Audit: record, Log: logger, Getenv: a.getenv}
	if opt.learn != "" {
		proxyOpt.Observe = learned.observe
	}
	p, err := newProxy(ctx, cfg, g, proxyOpt)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = p.shutdown(ctx) // the child is gone: nobody waits for what was cut off
	}()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	p.serveProxy(l, func(err error) { logger.Error(err.Error()) })

	dir, err := a.tempDir(cfg.StateDir)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	trust, err := writeTrust(authority, dir, 0o600, roots, a.getenv)
	if err != nil {
		return err
	}
	credentials := identity.Credentials{AccessKeyID: pair.AccessKeyID, SecretAccessKey: pair.SecretAccessKey}
	s := settings{
		ProxyURL:    withCredentials(cfg, "http://"+l.Addr().String(), credentials),
		Credentials: credentials,
		Region:      a.region(ctx, cfg),
		Trust:       trust,
	}
	env := childEnvironment(a.environ(), s.variables(a.getenv))
	code, err := runChild(path, args, env, a)
	if opt.learn != "" && err == nil {
		err = a.writeLesson(learned.lesson(), opt.learn)
	}
	if code != 0 || err != nil {
		return &exitError{code, err}
	}
	return nil
}

// forExec resolves --role, which may be an ARN that is not configured, and adds --policy.
func (g *grants) forExec(name string, opt execOptions, getenv func(string) string) (string, error) {
	id, err := g.identity(name)
	if err != nil {
		return "", err
	}
	role := opt.role
	if strings.HasPrefix(role, "arn:") && name == localIdentity {
		known := false
		for _, r := range id.Roles {
			known = known || g.roles[r].ARN == role
		}
		if !known {
			added := roleName(role)
			for _, taken := g.roles[added]; taken; _, taken = g.roles[added] {
				added += "-arn"
			}
			g.addRole(added, config.Role{ARN: role, Duration: time.Hour, Enforcement: config.Enforce, Assume: anyRole,
				SessionName: "{{ .Identity.Name }}-{{ .Identity.Attributes.user }}"})
			entry := g.identities[name]
			entry.Roles = append(entry.Roles, added)
			if entry.Attributes["user"] == "" {
				attributes := map[string]string{"user": osUser(getenv)}
				for k, v := range entry.Attributes {
					attributes[k] = v
				}
				entry.Attributes = attributes
			}
			g.identities[name] = entry
			role = added
			id = identityOf(name, entry)
		}
	}
	role, err = g.role(id, role)
	if err != nil {
		return "", err
	}
	if opt.policy != "" {
		path, err := filepath.Abs(opt.policy)
		if err != nil {
			return "", err
		}
		r := g.roles[role]
		if len(r.Policies) == 0 {
			r.Policies = []string{path}
			g.roles[role] = r
		} else {
			// Policies of a role are a union; a policy given here is to narrow it.
			entry := g.identities[name]
			if entry.Boundary != "" {
				return "", fmt.Errorf("--policy narrows what the role's own policies allow, and so does the boundary of identity %q: only one of them can be used", name)
			}
			entry.Boundary = path
			g.identities[name] = entry
		}
	}
	return role, nil
}

var notInName = regexp.MustCompile(`[^\w+=,.@-]`)

// roleName is the last part of a role's ARN, for records.
func roleName(arn string) string {
	name := notInName.ReplaceAllString(arn[strings.LastIndexAny(arn, ":/")+1:], "-")
	if name == "" {
		return "role"
	}
	return name
}

// execAudit says where the record of a private proxy goes. Standard output is
// the child's: "-" means standard error when it was asked for, and a file of the
// state directory when nothing was said.
func (a *app) execAudit(cfg *config.Config) (audit.Options, error) {
	opt := auditOptions(cfg)
	if cfg.Audit.File != "-" {
		return opt, nil
	}
	if cfg.Path != "" || a.getenv("COUNTERSIGN_AUDIT_FILE") != "" {
		opt.Writer = a.stderr
		return opt, nil
	}
	if err := config.MakeStateDir(cfg.StateDir); err != nil {
		return opt, fmt.Errorf("the audit record needs a place: %w; set COUNTERSIGN_STATE_DIR, or COUNTERSIGN_AUDIT_FILE to a file (or - for standard error)", err)
	}
	opt.Path = filepath.Join(cfg.StateDir, execRecord)
	if opt.MaxSize == 0 {
		// Several exec may write at once, so nobody may rename the file under the
		// others; what is old is cut off at the start instead.
		if err := cutRecord(opt.Path); err != nil {
			return opt, err
		}
	}
	return opt, nil
}

// execRecord is the record of private proxies, in the state directory.
const execRecord = "exec.audit.jsonl"

// maxExecRecord is when the record of private proxies is begun anew, in bytes.
const maxExecRecord = 32 << 20

// cutRecord renames the record when it has grown long.
func cutRecord(path string) error {
	info, err := os.Stat(path)
	if err != nil || info.Size() < maxExecRecord {
		return nil // there is none yet, or opening it will say what is wrong
	}
	return os.Rename(path, path+".1")
}

// runChild starts the program and waits for it. Signals that reach this process
// are passed on; those that a terminal sends to the whole group reach the child
// by themselves, and this process must outlive them.
func runChild(path string, args, env []string, a *app) (int, error) {
	cmd := exec.Command(path, args[1:]...)
	cmd.Args[0] = args[0]
	cmd.Env = env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.stdin, a.plainStdout(), a.stderr
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, forwardedSignals...)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return exitNoStart, fmt.Errorf("cannot start %s: %w", args[0], err)
	}
	done := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-signals:
				passOn(cmd.Process, s)
			case <-done:
				return
			}
		}
	}()
	err := cmd.Wait()
	close(done)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit):
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			return 128 + int(status.Signal()), nil
		}
		return exit.ExitCode(), nil
	}
	return exitFailure, fmt.Errorf("while waiting for %s: %w", args[0], err)
}

// region is where the child's calls go unless it says otherwise: what the
// environment says, then the profile that the child will not see any more.
func (a *app) region(ctx context.Context, cfg *config.Config) string {
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION"} {
		if v := a.getenv(name); v != "" {
			return v
		}
	}
	c, err := sourceConfig(ctx, cfg, nil)
	if err != nil || c.Region == "" {
		return cfg.Source.Region
	}
	return c.Region
}
