package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign-proxy/countersign/config"
	"github.com/countersign-proxy/countersign/identity"
)

func newRevoke(a *app) *cobra.Command {
	var before, note string
	c := &cobra.Command{
		Use:   "revoke ID|IDENTITY|--before T",
		Short: "Take client credentials back",
		Long: "Take client credentials back: those with an access key id (and what was derived from them),\n" +
			"all of an identity, or all that were minted before a time. Proxies that read the same\n" +
			"revocations file act within a second.",
		Example: "  countersign revoke CSIGAAAABBBBCCCCDDDD\n  countersign revoke ci\n  countersign revoke --before 2026-01-31T12:00:00Z",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			entry := identity.Revocation{Note: note, At: time.Now().UTC(), By: osUser(a.getenv)}
			if before != "" {
				t, err := parseTime(before)
				if err != nil {
					return err
				}
				entry.Before = &t
			}
			what := "everything minted before " + before
			switch {
			case len(args) == 0 && before == "":
				return usagef("say what to revoke: an access key id, an identity, or --before TIME")
			case len(args) == 1 && strings.HasPrefix(args[0], "CSIG") && len(args[0]) == 20:
				entry.ID, what = args[0], "the credentials "+args[0]
				if before != "" {
					return usagef("--before goes with an identity or alone, not with an access key id")
				}
			case len(args) == 1 && identity.IsRealKeyID(args[0]):
				return usagef("%s is a key of AWS; it has to be deactivated there (aws iam update-access-key)", identity.Mask(args[0]))
			case len(args) == 1:
				entry.Identity, what = args[0], fmt.Sprintf("all credentials of identity %q", args[0])
			}
			cfg, err := a.load()
			if err != nil {
				return err
			}
			if filepath.Dir(cfg.Revocations) == cfg.StateDir {
				if err := config.MakeStateDir(cfg.StateDir); err != nil {
					return err
				}
			}
			if err := identity.Revoke(cfg.Revocations, time.Now(), entry); err != nil {
				return err
			}
			fmt.Fprintf(a.stderr, "Revoked %s in %s.\n", what, cfg.Revocations)
			return nil
		},
	}
	c.Flags().StringVar(&before, "before", "", "revoke what was minted before this `time` (RFC 3339, or a duration ago such as 2h)")
	c.Flags().StringVar(&note, "note", "", "why, for the reader of the file")
	return c
}

func parseTime(s string) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t.UTC(), nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return time.Now().Add(-d).UTC(), nil
	}
	return time.Time{}, usagef("--before is %q; expected a time such as 2026-01-31T12:00:00Z, or a duration such as 2h", s)
}
