// Package countersign_test holds tests of the repository as a whole: that its
// pages say of the code what is true.
package countersign_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "github.com/countersign-proxy/countersign"

// notRooms hold programs and files that the packages do not import.
var notRooms = []string{"bench", "deploy", "docs", "e2e"}

// roomOf is the row of the table that a folder belongs to, "" for none.
func roomOf(dir string) string {
	parts := strings.Split(filepath.ToSlash(dir), "/")
	switch {
	case slices.Contains(notRooms, parts[0]) || strings.HasPrefix(parts[0], "."):
		return ""
	case parts[0] == "cmd" && len(parts) > 1:
		return "cmd/" + parts[1]
	}
	return parts[0]
}

// imports of each room, ours and others', without those of tests.
func imports(t *testing.T) (ours, others map[string][]string) {
	t.Helper()
	ours, others = map[string][]string{}, map[string][]string{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		room := roomOf(filepath.Dir(path))
		if d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || slices.Contains(notRooms, path)) {
			return filepath.SkipDir
		}
		if d.IsDir() || room == "" || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		if ours[room] == nil {
			ours[room] = []string{}
		}
		for _, spec := range file.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if own, ok := strings.CutPrefix(name, module+"/"); ok {
				if target := roomOf(own); target != room {
					ours[room] = append(ours[room], target)
				}
			} else if first, _, _ := strings.Cut(name, "/"); strings.Contains(first, ".") {
				others[room] = append(others[room], name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []map[string][]string{ours, others} {
		for room := range m {
			slices.Sort(m[room])
			m[room] = slices.Compact(m[room])
		}
	}
	return ours, others
}

var word = regexp.MustCompile("`([^`]+)`")

// table reads the rows between two comments of a page, cell by cell.
func table(t *testing.T, page, name string) [][]string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "<!-- "+name+":")
	rest, _, end := strings.Cut(rest, "<!-- end of "+name+" -->")
	if !ok || !end {
		t.Fatalf("%s has no table %q", page, name)
	}
	var rows [][]string
	for line := range strings.Lines(rest) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		var row []string
		for cell := range strings.SplitSeq(strings.Trim(strings.TrimSpace(line), "|"), " | ") {
			row = append(row, strings.TrimSpace(cell))
		}
		rows = append(rows, row)
	}
	return rows
}

func words(cell string) []string {
	out := []string{}
	for _, m := range word.FindAllStringSubmatch(cell, -1) {
		out = append(out, m[1])
	}
	return out
}

// The page says who imports whom, and nobody imports more or less.
func TestPackagesAreAsThePageSays(t *testing.T) {
	ours, _ := imports(t)
	page := map[string][]string{}
	for _, row := range table(t, "docs/architecture.md", "packages") {
		if len(row) != 3 {
			t.Fatalf("a row with %d cells: %q", len(row), row)
		}
		allowed := words(row[2])
		if row[2] == "all" {
			allowed = ours[words(row[0])[0]] // the command puts everything together
		}
		page[words(row[0])[0]] = allowed
	}
	if diff := cmp.Diff(page, ours); diff != "" {
		t.Errorf("docs/architecture.md (-) and the code (+) differ:\n%s", diff)
	}
}

// The page says which library is used where, and it is not used elsewhere.
func TestLibrariesAreAsThePageSays(t *testing.T) {
	_, others := imports(t)
	page, code := map[string][]string{}, map[string][]string{}
	for _, row := range table(t, "docs/architecture.md", "libraries") {
		page[words(row[0])[0]] = words(row[2])
	}
	for room, list := range others {
	imports:
		for _, name := range list {
			for library := range page {
				if name == library || strings.HasPrefix(name, library+"/") {
					if !slices.Contains(code[library], room) {
						code[library] = append(code[library], room)
					}
					continue imports
				}
			}
			t.Errorf("%s imports %s, which docs/architecture.md does not know", room, name)
		}
	}
	for library := range code {
		slices.Sort(code[library])
	}
	if diff := cmp.Diff(page, code); diff != "" {
		t.Errorf("docs/architecture.md (-) and the code (+) differ:\n%s", diff)
	}
}

// Boundaries that a table of packages cannot show.
func TestWhatPackagesMustNotKnow(t *testing.T) {
	_, others := imports(t)
	for _, room := range []string{"mitm", "ca", "config", "audit", "metrics", "awsapi", "policy", "identity"} {
		for _, name := range others[room] {
			if strings.HasPrefix(name, "github.com/aws/") {
				t.Errorf("%s must know nothing of AWS's SDK, and imports %s", room, name)
			}
		}
	}
	for room, list := range others {
		for _, name := range list {
			if strings.HasPrefix(name, "github.com/spf13/cobra") && !strings.HasPrefix(room, "cmd/") {
				t.Errorf("%s knows of flags: it imports %s", room, name)
			}
		}
	}
}

var (
	link    = regexp.MustCompile(`\]\(([^)#\s]*)(?:#([^)\s]*))?\)`)
	heading = regexp.MustCompile("(?m)^#+ +(.+)$")
	fence   = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	notSlug = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors of a page, as GitHub derives them from its headings.
func anchors(page string) []string {
	var out []string
	seen := map[string]int{}
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(page, ""), -1) {
		slug := strings.ReplaceAll(notSlug.ReplaceAllString(strings.ToLower(strings.TrimSpace(m[1])), ""), " ", "-")
		n := seen[slug]
		seen[slug]++
		if n > 0 {
			slug += "-" + strconv.Itoa(n)
		}
		out = append(out, slug)
	}
	return out
}

func TestAnchors(t *testing.T) {
	page := "# The client's key\n\n```\n# no heading\n```\n## `policy check`\n## Same\n### Same\n"
	want := []string{"the-clients-key", "policy-check", "same", "same-1"}
	if diff := cmp.Diff(want, anchors(page)); diff != "" {
		t.Error(diff)
	}
}

// A link of a page leads to a file that exists, and to a heading that it has.
func TestLinksLeadSomewhere(t *testing.T) {
	var pages []string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "node_modules"):
			return filepath.SkipDir
		case !d.IsDir() && filepath.Ext(path) == ".md":
			pages = append(pages, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	inside := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(fence.ReplaceAllString(string(text), ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			target := page
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(page), m[1])
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s leads to %s: %v", page, m[1], err)
				continue
			}
			if m[2] == "" {
				continue
			}
			inside++
			there, err := os.ReadFile(target)
			if err != nil {
				t.Errorf("%s leads to a heading of %s: %v", page, m[1], err)
			} else if !slices.Contains(anchors(string(there)), m[2]) {
				t.Errorf("%s leads to %s, which has no heading #%s", page, target, m[2])
			}
		}
	}
	if len(pages) < 25 || inside < 3 {
		t.Errorf("only %d pages and %d links to headings were found", len(pages), inside)
	}
}
