package main

import (
	"encoding/json"
	"time"

	"github.com/spf13/cobra"
)

func newCredentials(a *app) *cobra.Command {
	var role string
	c := &cobra.Command{
		Use:   "credentials [--role R]",
		Short: "Print client credentials for credential_process",
		Long: "Print client credentials in the form that AWS SDKs and tools expect of a\n" +
			"credential_process. They last an hour, and the SDK asks for new ones in time.",
		Example: "  # ~/.aws/config\n  [profile deploy]\n  credential_process = countersign credentials --role deploy",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := a.load()
			if err != nil {
				return err
			}
			creds, _, err := a.mint(cfg, role, processLifetime)
			if err != nil {
				return err
			}
			// AWS SDKs and tools reference guide, "Process credential provider".
			return json.NewEncoder(a.stdout).Encode(struct {
				Version         int
				AccessKeyId     string
				SecretAccessKey string
				SessionToken    string
				Expiration      string
			}{1, creds.AccessKeyID, creds.SecretAccessKey, creds.SessionToken, creds.Expires.UTC().Format(time.RFC3339)})
		},
	}
	c.Flags().StringVar(&role, "role", "", "`role` of the credentials (default: the identity's first)")
	return c
}
