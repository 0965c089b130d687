package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/countersign-proxy/countersign/ca"
	"github.com/countersign-proxy/countersign/config"
	"github.com/countersign-proxy/countersign/identity"
	"github.com/countersign-proxy/countersign/rolesession"
)

func newConfig(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "config",
		Short: "Check the configuration, or print an example",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(
		&cobra.Command{
			Use: "check", Short: "Say whether the configuration can be used, and if not, every reason", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error { return a.checkConfig() },
		},
		&cobra.Command{
			Use: "example", Short: "Print a commented configuration with every key and its default", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error {
				_, err := a.stdout.Write(config.Example())
				return err
			},
		},
	)
	return c
}

// checkConfig goes as far as a start would, short of listening and of AWS.
func (a *app) checkConfig() error {
	problems := []string{}
	cfg, err := a.load()
	if err != nil {
		var list config.Problems
		if !errors.As(err, &list) {
			problems = append(problems, err.Error())
		}
		for _, p := range list {
			problems = append(problems, p.Error())
		}
	} else {
		for _, err := range checkWiring(cfg, newGrants(cfg, a.getenv)) {
			problems = append(problems, err.Error())
		}
	}
	if a.output == "json" {
		if err := a.printJSON(map[string]any{"valid": len(problems) == 0, "problems": problems}); err != nil {
			return err
		}
		if len(problems) > 0 {
			return &exitError{exitConfig, nil}
		}
		return nil
	}
	if len(problems) > 0 {
		return &exitError{exitConfig, errors.New(strings.Join(problems, "\n"))}
	}
	where := cfg.Path
	if where == "" {
		where = "the environment and defaults (there is no file: --config or COUNTERSIGN_CONFIG name one)"
	}
	fmt.Fprintf(a.stdout, "%s: valid\n", where)
	return nil
}

// checkWiring finds what the packages that use the configuration refuse.
func checkWiring(cfg *config.Config, g grants) (errs []error) {
	add := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	roles, err := sessionRoles(g)
	add(err)
	if err == nil {
		m, err := rolesession.New(rolesession.Options{Roles: roles, Source: noSource{}, Region: cfg.Source.STSRegion})
		add(err)
		if err == nil {
			add(m.Close())
		}
	}
	if _, err = pipelineRoles(g); err == nil { // else the other would say the same
		_, err = consoleState(g)
	}
	add(err)
	add(checkCredentialCalls(cfg.CredentialCalls))
	_, err = newTransport(cfg, nil)
	add(err)
	issuers, err := issuerTransports(cfg, nil)
	add(err)
	if err == nil {
		_, err = newIssuers(cfg, g, issuers)
		add(err)
	}
	if cfg.TLS.Enabled() {
		_, err = certificateOf(cfg.TLS).read()
		add(err)
	}
	for _, path := range cfg.SealingKeys {
		_, err = identity.LoadSealingKey(path)
		add(err)
	}
	add(config.CheckStateDir(cfg.StateDir))
	authority, err := ca.Load(cfg.CA.Dir, authorityOptions(cfg))
	var caErr *ca.Error
	switch {
	case errors.As(err, &caErr) && caErr.Reason == ca.Missing:
		// It is made on first use.
	case err != nil:
		add(err)
	default:
		missing, err := authority.Missing(authoritySuffixes(cfg))
		add(err)
		if len(missing) > 0 {
			add(fmt.Errorf("hosts: the CA in %s may not sign for %s; run `countersign ca rotate`", cfg.CA.Dir, strings.Join(missing, ", ")))
		}
	}
	return errs
}
