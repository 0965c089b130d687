package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/countersign-proxy/countersign/config"
)

// Every command has a section in docs/commands.md that names all of its flags
// and no others.
func TestCommandsAreOnThePage(t *testing.T) {
	text, err := os.ReadFile("../../docs/commands.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for part := range strings.SplitSeq(string(text), "\n## ") {
		name, body, _ := strings.Cut(part, "\n")
		sections[name] = body
	}
	root := newRoot(&app{getenv: in(nil)})
	shared := []string{"help"}
	root.PersistentFlags().VisitAll(func(f *pflag.Flag) { shared = append(shared, f.Name) })
	flag := regexp.MustCompile("--([a-z][a-z-]*)")
	var commands []string
	for _, c := range root.Commands() {
		if c.Name() == "help" || c.Name() == "completion" || c.Hidden {
			continue
		}
		commands = append(commands, c.Name())
		body, ok := sections[c.Name()]
		if !ok {
			t.Errorf("docs/commands.md has no section ## %s", c.Name())
			continue
		}
		known := slices.Clone(shared)
		all := append([]*cobra.Command{c}, c.Commands()...)
		for _, c := range all {
			c.Flags().VisitAll(func(f *pflag.Flag) {
				known = append(known, f.Name)
				if !slices.Contains(shared, f.Name) && !strings.Contains(body, "--"+f.Name) {
					t.Errorf("docs/commands.md does not name --%s of %s", f.Name, c.CommandPath())
				}
			})
			if c.HasParent() && !strings.Contains(body, c.CommandPath()) {
				t.Errorf("docs/commands.md does not show %s", c.CommandPath())
			}
		}
		for _, m := range flag.FindAllStringSubmatch(body, -1) {
			if !slices.Contains(known, m[1]) {
				t.Errorf("docs/commands.md names --%s under %s, which has no such flag", m[1], c.Name())
			}
		}
	}
	for name := range sections {
		if !strings.Contains(name, " ") && !strings.HasPrefix(name, "#") && !slices.Contains(commands, name) {
			t.Errorf("docs/commands.md describes %s, which does not exist", name)
		}
	}
}

// A configuration that a page shows can be used as it is.
func TestConfigurationsOfThePages(t *testing.T) {
	block := regexp.MustCompile("(?s)```yaml\n(.*?)```")
	n := 0
	for _, page := range []string{"../../README.md", "../../docs/clients.md", "../../docs/console.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range block.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(m[1], "staticClients:") {
				continue // Dex's own
			}
			if !strings.Contains("\n"+m[1], "\nroles:") {
				m[1] += "roles: {deploy: {}, audit: {}}\n"
			}
			n++
			dir := t.TempDir()
			for name, content := range map[string]string{
				"deploy.json": `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}`,
				"ci.key":      "a-secret-of-twenty-characters", "gateway.pem": "x", "gateway.key": "x",
				"tls.crt": "x", "tls.key": "x", "oidc.secret": "x", "people.json": "{}",
				"c.yaml": m[1],
			} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := config.Load(config.Options{Path: filepath.Join(dir, "c.yaml"), Env: []string{}, Home: dir}); err != nil {
				t.Errorf("%s shows\n%s\n%v", page, m[1], err)
			}
		}
	}
	if n < 3 {
		t.Errorf("only %d configurations were found", n)
	}
}
