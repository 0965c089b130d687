package countersign_test

import (
	"go/ast"
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
)

// reasonTypes are the closed sets of reasons that a line of the record can have:
// the constants of a type, or those whose names begin alike.
var reasonTypes = []struct{ room, typ, prefix string }{
	{"signer", "Reason", ""},
	{"identity", "Reason", ""},
	{"policy", "Reason", ""},
	{"virtualsts", "Reason", ""},
	{"rolesession", "Kind", ""},
	{"mitm", "", "Code"},
	{"cmd/countersign", "", "route"},
}

func parseRoom(t *testing.T, room string) []*ast.File {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(room, "*.go"))
	if err != nil || len(names) == 0 {
		t.Fatalf("%s: %v", room, err)
	}
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return files
}

func text(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(lit.Value)
	return s, err == nil
}

// reasons finds every word that can stand in the reason of a line.
func reasons(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{} // word to room
	for _, set := range reasonTypes {
		n := 0
		for _, f := range parseRoom(t, set.room) {
			for _, decl := range f.Decls {
				gen, ok := decl.(*ast.GenDecl)
				if !ok || gen.Tok != token.CONST {
					continue
				}
				for _, spec := range gen.Specs {
					v := spec.(*ast.ValueSpec)
					typ, _ := v.Type.(*ast.Ident)
					for i, name := range v.Names {
						if i >= len(v.Values) {
							continue
						}
						byType := set.typ != "" && typ != nil && typ.Name == set.typ
						byName := set.prefix != "" && typ == nil && strings.HasPrefix(name.Name, set.prefix)
						if s, ok := text(v.Values[i]); ok && (byType || byName) {
							found[s] = set.room
							n++
						}
					}
				}
			}
		}
		if n == 0 {
			t.Errorf("no reasons were found in %s", set.room)
		}
	}
	// The pipeline writes its own where it refuses: refuse(kind, "reason", …).
	n := 0
	for _, f := range parseRoom(t, "pipeline") {
		ast.Inspect(f, func(node ast.Node) bool {
			switch x := node.(type) {
			case *ast.CallExpr:
				if name, ok := x.Fun.(*ast.Ident); ok && name.Name == "refuse" && len(x.Args) > 2 {
					if s, ok := text(x.Args[1]); ok {
						found[s] = "pipeline"
						n++
					}
				}
			case *ast.AssignStmt: // x.entry.Reason = "…", and pairs of them
				for i, left := range x.Lhs {
					if sel, ok := left.(*ast.SelectorExpr); ok && sel.Sel.Name == "Reason" && i < len(x.Rhs) {
						if s, ok := text(x.Rhs[i]); ok {
							found[s] = "pipeline"
						}
					}
				}
			}
			return true
		})
	}
	if n < 10 {
		t.Errorf("only %d refusals were found in the pipeline", n)
	}
	return found
}

// Whoever reads a reason in the record finds it on the page, and the page names
// none that does not exist.
func TestEveryReasonIsExplained(t *testing.T) {
	page, err := os.ReadFile("docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	body, allowed, ok := strings.Cut(string(page), "## Not refusals")
	if !ok {
		t.Fatal("the page has no section of reasons that are no refusals")
	}
	var onPage []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(body, -1) {
		if slices.Contains(onPage, m[1]) {
			t.Errorf("%q is explained twice", m[1])
		}
		onPage = append(onPage, m[1])
	}
	found := reasons(t)
	for _, w := range words(allowed) {
		if w != "allow" && w != "report" && !slices.Contains(onPage, w) {
			onPage = append(onPage, w)
		}
	}
	for reason, room := range found {
		if !slices.Contains(onPage, reason) {
			t.Errorf("docs/errors.md does not explain %q of %s", reason, room)
		}
	}
	known := []string{"credentials endpoint"} // of a line that the admin listener writes
	for _, reason := range onPage {
		if _, ok := found[reason]; !ok && !slices.Contains(known, reason) {
			t.Errorf("docs/errors.md explains %q, which nothing says", reason)
		}
	}
}

// The tests that the page of security leans on exist.
func TestPromisesNameTestsThatExist(t *testing.T) {
	exist := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		for _, decl := range f.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil {
				exist[fn.Name.Name] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	_, promises, _ := strings.Cut(string(page), "<!-- promises:")
	promises, _, _ = strings.Cut(promises, "<!-- end of promises -->")
	n := 0
	for _, name := range words(promises) {
		if !strings.HasPrefix(name, "Test") {
			continue
		}
		n++
		if !exist[name] {
			t.Errorf("docs/security.md leans on %s, which does not exist", name)
		}
	}
	if n < 20 {
		t.Errorf("only %d tests are named", n)
	}
}
