package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/countersign-proxy/countersign/audit"
	"github.com/countersign-proxy/countersign/awsapi"
	"github.com/countersign-proxy/countersign/policy"
	"github.com/countersign-proxy/countersign/safefile"
)

func newPolicy(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "policy",
		Short: "Check, explain and learn the IAM policies that are enforced here",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newPolicyCheck(a), newPolicyExplain(a), newPolicyLearn(a))
	return c
}

func newPolicyCheck(a *app) *cobra.Command {
	var session bool
	c := &cobra.Command{
		Use:   "check F …",
		Short: "Say what is wrong or suspicious in policies",
		Long: "Say what is wrong or suspicious in IAM policies, with line and column: what cannot be parsed,\n" +
			"actions that do not exist, statements that can never apply, conditions that cannot be\n" +
			"judged here. The exit code is 4 when a policy cannot be used as it is.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return a.checkPolicies(args, session) },
	}
	c.Flags().BoolVar(&session, "session", false, "also say whether it fits as a session policy, which AWS enforces")
	return c
}

// checkedPolicy is what `policy check --output json` says of one file.
type checkedPolicy struct {
	File     string              `json:"file"`
	Usable   bool                `json:"usable"`
	Findings []policy.Finding    `json:"findings"`
	Session  *policy.SessionSize `json:"session,omitempty"`
}

func (a *app) checkPolicies(files []string, session bool) error {
	results := []checkedPolicy{}
	usable := true
	for _, path := range files {
		text, err := readFile(path, a.stdin)
		if err != nil {
			return err
		}
		r := checkedPolicy{File: path, Usable: true, Findings: []policy.Finding{}}
		r.Findings = append(r.Findings, policy.CheckSource(path, text, policy.CheckOptions{Catalog: policy.AWS(), Session: session})...)
		for _, f := range r.Findings {
			if f.Severity == policy.SeverityError {
				r.Usable, usable = false, false
			}
		}
		if p, err := policy.Parse(path, text); err == nil && session {
			size := p.SizeAsSession()
			r.Session = &size
		}
		results = append(results, r)
	}
	if a.output == "json" {
		if err := a.printJSON(results); err != nil {
			return err
		}
	} else {
		for _, r := range results {
			for _, f := range r.Findings {
				fmt.Fprintln(a.stdout, f)
			}
			if r.Session != nil {
				fmt.Fprintf(a.stdout, "%s: as a session policy: %d of %d characters, about %d %% of the packed size\n", r.File, r.Session.Compact, r.Session.Limit, r.Session.PackedPercent)
			}
			if len(r.Findings) == 0 {
				fmt.Fprintf(a.stdout, "%s: nothing to say\n", r.File)
			}
		}
	}
	if !usable {
		return &exitError{exitFindings, nil}
	}
	return nil
}

// readFile reads a file, or standard input for "-".
func readFile(path string, stdin io.Reader) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(io.LimitReader(stdin, policy.MaxBytes+1))
	}
	return os.ReadFile(path)
}

func newPolicyExplain(a *app) *cobra.Command {
	var o explainOptions
	c := &cobra.Command{
		Use:   "explain [AUDIT-LINE|REQUEST-ID] [--action A --resource R --context K=V]",
		Short: "Say why a call is allowed or denied",
		Long: "Decide about a call again and show every statement that was looked at. The call is an audit\n" +
			"line, the request id of one, or given by --action and --resource. The policies are those of\n" +
			"the role (of the line, or --role), or files given by --policy.",
		Example: "  countersign policy explain 7c9e6679-7425-40de-944b-e07fc1f90ae7\n" +
			"  countersign policy explain --role deploy --action s3:GetObject --resource arn:aws:s3:::b/k\n" +
			"  countersign policy explain --policy p.json --action ec2:RunInstances --resource '*' --context ec2:InstanceType=t3.nano",
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return a.explain(o, args) },
	}
	c.Flags().StringVar(&o.from, "from", "", "audit record to look a request id up in (default: audit.file)")
	c.Flags().StringVar(&o.role, "role", "", "`role` whose policies decide")
	c.Flags().StringArrayVar(&o.policies, "policy", nil, "policy `file` that decides in place of a role's; may be repeated")
	c.Flags().StringArrayVar(&o.actions, "action", nil, "IAM `action` that the call needs; may be repeated")
	c.Flags().StringArrayVar(&o.resources, "resource", nil, "`ARN` that the action is for; may be repeated")
	c.Flags().StringArrayVar(&o.context, "context", nil, "condition value as `KEY=VALUE`; may be repeated")
	return c
}

type explainOptions struct {
	from, role                            string
	policies, actions, resources, context []string
}

func (a *app) explain(o explainOptions, args []string) error {
	seen := policy.Observation{Actions: o.actions, Resources: o.resources}
	role, identityName := o.role, a.identity
	switch {
	case len(args) == 1 && len(o.actions) > 0:
		return usagef("give an audit line or --action, not both")
	case len(args) == 1:
		e, err := a.findLine(o.from, args[0])
		if err != nil {
			return err
		}
		seen = observationOf(e)
		if role == "" {
			role = e.Role
		}
		if e.Identity != "" {
			identityName = e.Identity
		}
	case len(o.actions) == 0:
		return usagef("say what to explain: an audit line, a request id, or --action and --resource")
	}
	values := map[string][]string{}
	for _, kv := range o.context {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || k == "" {
			return usagef("--context %q: expected KEY=VALUE", kv)
		}
		values[k] = append(values[k], v)
	}
	if seen.AccessLevel == "" {
		seen.AccessLevel = levelOf(seen.Actions)
	}
	set, err := a.policySet(o.policies, role, identityName)
	if err != nil {
		return err
	}
	x := set.Explain(seen.Query(values))
	if a.output == "json" {
		return a.printJSON(x)
	}
	_, err = x.WriteTo(a.stdout)
	return err
}

// levelOf is the most powerful access level of some actions.
func levelOf(actions []string) string {
	order := []string{"List", "Read", "Tagging", "Write", "Permissions management"}
	best := -1
	for _, name := range actions {
		act, ok := awsapi.LookupAction(name)
		if !ok {
			return ""
		}
		best = max(best, slices.Index(order, act.AccessLevel))
	}
	if best < 0 {
		return ""
	}
	return order[best]
}

// observationOf keeps of an audit line what policies need.
func observationOf(e audit.Entry) policy.Observation {
	o := policy.Observation{Actions: e.Actions, Resources: e.Resources, Service: e.Service, Operation: e.Operation, Region: e.Region, AccessLevel: levelOf(e.Actions)}
	if len(e.Actions) == 0 && e.Operation == "" {
		o.Unknown = "the audit line names no operation"
	}
	return o
}

// policySet compiles the given files, or the policies of a role with the
// boundary of an identity.
func (a *app) policySet(files []string, role, identityName string) (*policy.Set, error) {
	if len(files) > 0 {
		opt := policy.Options{Name: role}
		for _, path := range files {
			text, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			p, err := policy.Parse(filepath.Base(path), text)
			if err != nil {
				return nil, err
			}
			opt.Policies = append(opt.Policies, p)
		}
		return policy.Compile(opt)
	}
	cfg, err := a.load()
	if err != nil {
		return nil, err
	}
	g := newGrants(cfg, a.getenv)
	boundary := ""
	if id, err := g.identity(identityName); err == nil {
		boundary = id.Boundary
		if role == "" && len(id.Roles) > 0 {
			role = id.Roles[0]
		}
	}
	roles, err := pipelineRoles(g)
	if err != nil {
		return nil, err
	}
	r, ok := roles[role]
	if !ok {
		return nil, fmt.Errorf("there is no role %q; give one with --role (%s), or files with --policy", role, strings.Join(g.order, ", "))
	}
	return r.Judge(boundary)
}

// findLine reads an audit line: given whole, or by its request id.
func (a *app) findLine(from, arg string) (audit.Entry, error) {
	if strings.HasPrefix(strings.TrimSpace(arg), "{") {
		return audit.Parse([]byte(arg))
	}
	f, name, err := a.openRecord(from)
	if err != nil {
		return audit.Entry{}, err
	}
	defer f.Close()
	for e, err := range audit.Lines(f) {
		var damaged *audit.LineError
		if errors.As(err, &damaged) {
			continue
		}
		if err != nil {
			return audit.Entry{}, fmt.Errorf("%s: %w", name, err)
		}
		if e.RequestID == arg || e.AWSRequestID == arg {
			return e, nil
		}
	}
	return audit.Entry{}, fmt.Errorf("%s has no line for the request %s", name, arg)
}

// openRecord opens the audit record that commands read.
func (a *app) openRecord(from string) (io.ReadCloser, string, error) {
	if from == "-" {
		return io.NopCloser(a.stdin), "standard input", nil
	}
	if from == "" {
		cfg, err := a.load()
		if err != nil {
			return nil, "", err
		}
		from = cfg.Audit.File
		if from == "-" {
			from = filepath.Join(cfg.StateDir, execRecord)
			if _, err := os.Stat(from); err != nil {
				return nil, "", errors.New("the audit record goes to standard output; say where it was kept with --from FILE (or --from - for standard input)")
			}
		}
	}
	f, err := os.Open(from)
	return f, from, err
}

func newPolicyLearn(a *app) *cobra.Command {
	var from, out, role, identityName string
	var exact bool
	c := &cobra.Command{
		Use:   "learn [--from AUDIT]",
		Short: "Make the least policy that allows what was seen",
		Long: "Write the smallest policy that would have allowed the calls of an audit record. Resources are\n" +
			"generalised where a pattern is plain (numbers, dates, random names) and kept exact\n" +
			"elsewhere; what was generalised is said on standard error.",
		Example: "  countersign policy learn --from audit.jsonl --role deploy --out deploy.json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			f, name, err := a.openRecord(from)
			if err != nil {
				return err
			}
			defer f.Close()
			var seen []policy.Observation
			for e, err := range audit.Lines(f) {
				var damaged *audit.LineError
				switch {
				case errors.As(err, &damaged):
					fmt.Fprintf(a.stderr, "countersign: %s: %v (left out)\n", name, err)
				case err != nil:
					return fmt.Errorf("%s: %w", name, err)
				case e.Role == "" || e.Decision == audit.Deny, role != "" && e.Role != role, identityName != "" && e.Identity != identityName:
				default:
					seen = append(seen, observationOf(e))
				}
			}
			return a.writeLesson(policy.Learn(seen, policy.LearnOptions{Exact: exact}), out)
		},
	}
	c.Flags().StringVar(&from, "from", "", "audit record to learn from, - for standard input (default: audit.file)")
	c.Flags().StringVar(&out, "out", "", "`file` to write (default: standard output)")
	c.Flags().StringVar(&role, "role", "", "only calls of this `role`")
	c.Flags().StringVar(&identityName, "for", "", "only calls of this `identity`")
	c.Flags().BoolVar(&exact, "exact", false, "generalise nothing")
	return c
}

// writeLesson writes a learned policy, and the report to standard error.
func (a *app) writeLesson(l policy.Lesson, out string) error {
	if out == "" || out == "-" {
		if _, err := a.stdout.Write(l.Policy); err != nil {
			return err
		}
	} else if err := safefile.Write(out, l.Policy, 0o644); err != nil {
		return err
	}
	fmt.Fprint(a.stderr, "countersign: learned from ")
	_, err := l.Report.WriteTo(a.stderr)
	return err
}
