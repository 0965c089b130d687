package config

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The table of docs/configuration.md is that of the code; -update writes it.
func TestDocumentedKeys(t *testing.T) {
	const path, begin, end = "../docs/configuration.md", "<!-- keys: checked against the code by a test -->\n", "<!-- end of keys -->"
	doc, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(doc), begin)
	table, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("the marks of the table are missing")
	}
	var b strings.Builder
	b.WriteString("| key | type | default | |\n|---|---|---|---|\n")
	for _, s := range Settings() {
		def := s.Default
		switch {
		case s.Required && def == "":
			def = "*required*"
		case def != "":
			def = "`" + def + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", s.Key, s.Type, def, s.Doc)
	}
	if *update {
		if err := os.WriteFile(path, []byte(head+begin+b.String()+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(b.String(), table); diff != "" {
		t.Error(diff)
	}
}

// Other pages that say a default in a table, behind its key, say the same.
func TestDefaultsOnOtherPages(t *testing.T) {
	defaults := map[string]string{}
	for _, s := range Settings() {
		defaults[s.Key] = s.Default
	}
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("(?m)^\\| [^`|]+ \\| `([a-z_.]+)` \\| `([^`]+)` \\|").FindAllStringSubmatch(string(text), -1) {
			if want, ok := defaults[m[1]]; !ok || m[2] != want {
				t.Errorf("%s: %s is %s by default, not %s", page, m[1], want, m[2])
			}
			rows++
		}
	}
	if rows < 9 {
		t.Errorf("only %d rows were found", rows)
	}
}
