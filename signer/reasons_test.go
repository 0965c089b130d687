package signer

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"
)

// Reasons must not forget one.
func TestReasonsIsComplete(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	listed := map[Reason]bool{}
	for _, r := range Reasons() {
		listed[r] = true
	}
	declared := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if id, ok := spec.Type.(*ast.Ident); ok && id.Name == "Reason" {
			word, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil || !listed[Reason(word)] {
				t.Errorf("%s is not listed", spec.Names[0].Name)
			}
			declared++
		}
		return true
	})
	if declared == 0 || declared != len(listed) {
		t.Errorf("%d declared, %d listed", declared, len(listed))
	}
}
