package main

import (
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// newPages writes what packages ship beside the program. It is for those who
// build packages, and so not listed.
func newPages(a *app) *cobra.Command {
	return &cobra.Command{
		Use:    "pages DIR",
		Short:  "Write manual pages and shell completions into DIR",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			man, completions := filepath.Join(args[0], "man"), filepath.Join(args[0], "completions")
			for _, dir := range []string{man, completions} {
				if err := os.MkdirAll(dir, 0o755); err != nil {
					return err
				}
			}
			// A tree of its own: the generator adds commands to it, and the pages must
			// not depend on who makes them, nor when.
			root := newRoot(&app{getenv: func(string) string { return "" }, environ: func() []string { return nil }})
			root.DisableAutoGenTag = true
			date := time.Unix(0, 0).UTC()
			header := &doc.GenManHeader{Section: "1", Source: "countersign", Manual: "countersign", Date: &date}
			if err := doc.GenManTree(root, header, man); err != nil {
				return err
			}
			for _, x := range []struct {
				name  string
				write func(string) error
			}{
				{"countersign.bash", func(f string) error { return root.GenBashCompletionFileV2(f, true) }},
				{"_countersign", root.GenZshCompletionFile},
				{"countersign.fish", func(f string) error { return root.GenFishCompletionFile(f, true) }},
				{"countersign.ps1", root.GenPowerShellCompletionFileWithDesc},
			} {
				if err := x.write(filepath.Join(completions, x.name)); err != nil {
					return err
				}
			}
			return nil
		},
	}
}
