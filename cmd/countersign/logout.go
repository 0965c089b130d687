package main

import (
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign-proxy/countersign/config"
	"github.com/countersign-proxy/countersign/identity"
)

func newLogout(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "logout",
		Short: "End all sessions of an identity",
		Long: "End all client credentials and page sign-ins that an identity has at this moment. The proxy\n" +
			"that runs with this configuration drops the role sessions that it holds for the identity.\n" +
			"Open AWS console sessions last until they expire.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := a.load()
			if err != nil {
				return err
			}
			g := newGrants(cfg, a.getenv)
			who, err := g.identity(a.identity)
			if err != nil {
				return err
			}
			now := time.Now().UTC()
			err = revokeOwn(cfg)(identity.Revocation{Identity: who.Name, Before: &now, At: now, By: osUser(a.getenv), Note: "logout"})
			if err != nil {
				return err
			}
			fmt.Fprintf(a.stderr, "All sessions of %q that were made until now have ended here.\n"+
				"AWS console sessions live until they expire: sign out in the console too.\n", who.Name)
			// What was revoked has ended, whether or not a proxy can be asked.
			if _, err := askProxy(c.Context(), cfg, http.MethodDelete, "/sessions?identity="+url.QueryEscape(who.Name)); err != nil {
				fmt.Fprintf(a.stderr, "No running proxy was asked to drop the role sessions that it may hold in its memory: %v.\n", err)
			} else {
				fmt.Fprintf(a.stderr, "The proxy on %s has dropped the role sessions that it held in its memory.\n", cfg.Admin.Listen)
			}
			return nil
		},
	}
}

// revokeOwn writes revocations that people make for themselves. A revocation of all
// that an identity holds would take its static pairs too, for good.
func revokeOwn(cfg *config.Config) func(identity.Revocation) error {
	return func(r identity.Revocation) error {
		if r.Identity != "" && len(cfg.Identities[r.Identity].Credentials) > 0 {
			return fmt.Errorf("identity %q has static credentials in the configuration, which would be revoked for good: revoke what was minted one by one (countersign sessions, countersign revoke ID)", r.Identity)
		}
		return identity.Revoke(cfg.Revocations, time.Now(), r)
	}
}
