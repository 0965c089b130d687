package audit

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The table of docs/audit.md has the fields of the line, in its order.
func TestDocumentedFields(t *testing.T) {
	doc, err := os.ReadFile("../docs/audit.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (?:text|list|number) \\|").FindAllSubmatch(doc, -1) {
		documented = append(documented, string(m[1]))
	}
	var written []string
	d := json.NewDecoder(bytes.NewReader(sample().AppendJSON(nil)))
	for depth := 0; ; {
		token, err := d.Token()
		if err != nil {
			break
		}
		switch v := token.(type) {
		case json.Delim:
			if v == '{' || v == '[' {
				depth++
			} else {
				depth--
			}
		case string:
			if depth == 1 {
				written = append(written, v)
				var value json.RawMessage
				if err := d.Decode(&value); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if diff := cmp.Diff(written, documented); diff != "" {
		t.Error(diff)
	}
	if len(written) != 27 {
		t.Errorf("%d fields", len(written))
	}
}
