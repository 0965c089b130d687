package metrics

import (
	"os"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// docs/metrics.md names every metric with its type and labels, and no other.
func TestDocumentedMetrics(t *testing.T) {
	doc, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(countersign_[a-z_]+)` \\| ([a-z]+) \\| ([^|]*)\\|").FindAllStringSubmatch(string(doc), -1) {
		labels := strings.Fields(strings.ReplaceAll(m[3], "`", ""))
		slices.Sort(labels)
		documented[m[1]] = m[2] + " " + strings.Join(labels, " ")
	}
	m := New(options())
	use(m, "s3", 200)
	families, err := m.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	exported := map[string]string{}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), namespace+"_") {
			continue
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		sort.Strings(labels)
		exported[f.GetName()] = strings.ToLower(f.GetType().String()) + " " + strings.Join(labels, " ")
	}
	if diff := cmp.Diff(exported, documented); diff != "" {
		t.Error(diff)
	}
	for _, name := range regexp.MustCompile(`countersign_[a-z_]+`).FindAllString(string(doc), -1) {
		if _, ok := exported[name]; !ok {
			t.Errorf("%s is mentioned and does not exist", name)
		}
	}
}
