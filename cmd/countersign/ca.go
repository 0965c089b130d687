package main

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/countersign-proxy/countersign/ca"
	"github.com/countersign-proxy/countersign/config"
	"github.com/countersign-proxy/countersign/safefile"
)

func newCA(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "ca",
		Short: "Show, export or rotate the local CA",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(
		&cobra.Command{
			Use: "show", Short: "Say what the CA is, until when, and what it may sign for", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error { return a.showCA() },
		},
		newCAExport(a), newCARotate(a), newCAKubernetes(a),
	)
	return c
}

func (a *app) showCA() error {
	cfg, err := a.load()
	if err != nil {
		return err
	}
	authority, err := openAuthority(cfg, authorityOptions(cfg))
	if err != nil {
		return err
	}
	info := authority.Info()
	if a.output == "json" {
		return a.printJSON(info)
	}
	fmt.Fprintf(a.stdout, "file       %s\nexpires    %s\nmay sign   %s\n", info.Path, info.Expires.Format(time.RFC3339), strings.Join(info.Suffixes, " "))
	for _, list := range []struct {
		name string
		of   []ca.Certificate
	}{{"root", info.Roots}, {"signer", info.Intermediates}} {
		for _, c := range list.of {
			fmt.Fprintf(a.stdout, "%-10s %s, %s to %s\n           SHA-256 %s\n", list.name, c.State, c.NotBefore.Format(time.DateOnly), c.NotAfter.Format(time.DateOnly), c.Fingerprint)
		}
	}
	if info.NeedsRotation {
		fmt.Fprintln(a.stdout, "\nIt expires soon: run `countersign ca rotate --overlap 24h`, and give clients the new bundle.")
	}
	if missing, err := authority.Missing(authoritySuffixes(cfg)); err != nil {
		return err
	} else if len(missing) > 0 {
		fmt.Fprintf(a.stdout, "\nThe configuration names hosts that it may not sign for: %s. Run `countersign ca rotate`.\n", strings.Join(missing, ", "))
	}
	return nil
}

func newCAExport(a *app) *cobra.Command {
	var format, out, password string
	c := &cobra.Command{
		Use:   "export --format pem|bundle|p12|jks [--out F]",
		Short: "Print what clients have to trust",
		Long: "Print what clients have to trust: pem is our root alone; bundle, p12 and jks add the public\n" +
			"roots and those that this environment already trusts, because most tools replace their own\n" +
			"roots with the file that they are given. p12 and jks are trust stores for Java; their\n" +
			"password protects nothing secret.",
		Example: "  countersign ca export --format pem --out countersign.pem\n  countersign ca export --format jks --out trust.jks",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := a.load()
			if err != nil {
				return err
			}
			authority, err := openAuthority(cfg, authorityOptions(cfg))
			if err != nil {
				return err
			}
			data, err := a.exportTrust(authority, cfg, format, password)
			if err != nil {
				return err
			}
			if out != "" && out != "-" {
				return safefile.Write(out, data, fs.FileMode(0o644)) // certificates are public
			}
			if f, ok := a.plainStdout().(*os.File); ok && (format == "p12" || format == "jks") && term.IsTerminal(int(f.Fd())) {
				return usagef("%s is not text: give a file with --out", format)
			}
			_, err = a.stdout.Write(data)
			return err
		},
	}
	c.Flags().StringVar(&format, "format", "pem", "pem, bundle, p12 or jks")
	c.Flags().StringVar(&out, "out", "", "`file` to write (default: standard output)")
	c.Flags().StringVar(&password, "password", ca.StorePassword, "password of p12 and jks")
	return c
}

func (a *app) exportTrust(authority *ca.Authority, cfg *config.Config, format, password string) ([]byte, error) {
	if format == "pem" {
		return authority.RootPEM(), nil
	}
	if format != "bundle" && format != "p12" && format != "jks" {
		return nil, usagef("--format is %q; it can be pem, bundle, p12 or jks", format)
	}
	bundle, err := authority.Trust(ca.TrustOptions{Getenv: a.outerTrust(cfg)})
	if err != nil {
		return nil, err
	}
	switch format {
	case "p12":
		return bundle.PKCS12(password)
	case "jks":
		return bundle.JKS(password, authority.Roots()[0].NotBefore)
	}
	return bundle.PEM(), nil
}

func newCARotate(a *app) *cobra.Command {
	var r ca.Rotation
	var finish bool
	c := &cobra.Command{
		Use:   "rotate [--overlap D | --finish | --forget]",
		Short: "Make a new CA beside the one in use",
		Long: "Make a new CA. With --overlap the present one keeps signing for that long, while bundles\n" +
			"already hold both, so that clients can get the new one first. --finish ends an overlap: it\n" +
			"makes no CA, and destroys the key that no longer signs. --forget drops the present CA at\n" +
			"once, for a key that was stolen or a folder that is damaged.\n" +
			"A running proxy picks up the new CA by itself.",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := a.load()
			if err != nil {
				return err
			}
			dir, err := authorityDir(cfg)
			if err != nil {
				return err
			}
			if finish {
				return a.finishRotation(cfg, dir, r)
			}
			authority, err := ca.Rotate(dir, r, authorityOptions(cfg))
			if err != nil {
				return err
			}
			trust, err := a.publishTrust(authority, cfg)
			if err != nil {
				return err
			}
			when := "It signs from now on"
			if r.Overlap > 0 {
				when = "It signs from " + time.Now().Add(r.Overlap).Format(time.RFC3339) + " on"
			}
			fmt.Fprintf(a.stderr, "Made a new CA in %s. %s: give clients the new bundle, %s. A running proxy takes it up by itself.\n",
				dir, when, trust.Bundle)
			return nil
		},
	}
	c.Flags().DurationVar(&r.Overlap, "overlap", 0, "how long the present CA keeps signing")
	c.Flags().BoolVar(&finish, "finish", false, "after an overlap: destroy the key that no longer signs")
	c.Flags().BoolVar(&r.Forget, "forget", false, "drop the present CA at once")
	return c
}

// finishRotation ends a rotation with overlap.
func (a *app) finishRotation(cfg *config.Config, dir string, r ca.Rotation) error {
	if r.Forget || r.Overlap != 0 {
		return usagef("--finish ends a rotation, and --overlap and --forget begin one; give one of them")
	}
	authority, err := ca.Finish(dir, authorityOptions(cfg))
	if err != nil {
		return err
	}
	if _, err := a.publishTrust(authority, cfg); err != nil {
		return err
	}
	fmt.Fprintf(a.stderr, "One key is left in %s, which signs until %s. Earlier roots stay in the bundle until they expire.\n",
		dir, authority.Expires().Format(time.RFC3339))
	return nil
}
