package main

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/countersign-proxy/countersign/words"
)

func newRoles(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "roles",
		Short: "List the roles: which, for whom, in which account",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return a.roles() },
	}
}

// roleRow is one role as `roles --output json` prints it.
type roleRow struct {
	Name       string            `json:"name"`
	ARN        string            `json:"arn"`
	Account    string            `json:"account"`
	Via        string            `json:"via,omitempty"`
	Duration   string            `json:"duration,omitempty"`
	Policies   []string          `json:"policies,omitempty"`
	ReadOnly   bool              `json:"read_only,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Identities []string          `json:"identities"`
	Default    []string          `json:"default_for,omitempty"`
}

func (a *app) roles() error {
	cfg, err := a.load()
	if err != nil {
		return err
	}
	g := newGrants(cfg, a.getenv)
	rows := []roleRow{}
	for _, name := range g.order {
		r := g.roles[name]
		row := roleRow{Name: name, ARN: r.ARN, Via: r.Via, Policies: r.Policies, ReadOnly: r.ReadOnly, Labels: r.Labels, Identities: []string{}}
		if r.Duration > 0 {
			row.Duration = words.Duration(r.Duration)
		}
		if parts := strings.Split(r.ARN, ":"); len(parts) > 4 {
			row.Account = parts[4]
		}
		for _, id := range sortedNames(g.identities) {
			roles := g.identities[id].Roles
			if slices.Contains(roles, name) {
				row.Identities = append(row.Identities, id)
			}
			if len(roles) > 0 && roles[0] == name {
				row.Default = append(row.Default, id)
			}
		}
		rows = append(rows, row)
	}
	if a.output == "json" {
		return a.printJSON(rows)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ROLE\tACCOUNT\tFOR\tARN")
	for _, r := range rows {
		who := make([]string, len(r.Identities))
		for i, id := range r.Identities {
			who[i] = id
			if slices.Contains(r.Default, id) {
				who[i] += "*"
			}
		}
		arn := r.ARN
		if arn == "" {
			arn = "(the source credentials themselves)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r.Name, dash(r.Account), dash(strings.Join(who, ", ")), arn)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(a.stdout, "\n* the default role of that identity")
	return nil
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
