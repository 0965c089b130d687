package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The types that Grafana publishes of its dashboards, and of the panels that
// this one has. Enumerations become the text that JSON has for them, and nothing
// is required: Grafana fills in defaults.
const grafanaTypes = `
import type * as schema from '@grafana/schema';
import type * as stat from '@grafana/schema/dist/types/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen.js';
import type * as timeseries from '@grafana/schema/dist/types/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen.js';
import type * as heatmap from '@grafana/schema/dist/types/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen.js';
import type * as table from '@grafana/schema/dist/types/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen.js';
type JSON<T> = unknown extends T ? T : T extends string ? ` + "`${T}`" + ` : T extends number ? number : T extends boolean ? boolean
  : T extends Array<infer U> ? JSON<U>[] : T extends object ? { [K in keyof T]?: JSON<T[K]> } : T;
type Dashboard = JSON<Omit<schema.Dashboard, 'panels' | 'annotations' | 'templating'>>;
// What the types leave to plugins: a query variable's definition, and how
// Prometheus writes annotations.
type Variable = JSON<schema.VariableModel> & { definition?: string };
type Annotation = JSON<Omit<schema.AnnotationQuery, 'target'>> & { titleFormat?: string, textFormat?: string, target?: Query };
type Row = JSON<schema.RowPanel>;
type Panel = JSON<Omit<schema.Panel, 'targets' | 'options'>>;
// https://github.com/grafana/grafana/blob/v12.1.0/packages/grafana-prometheus/src/dataquery.ts
type Query = JSON<schema.DataQuery> & { datasource?: JSON<schema.DataSourceRef>, expr: string, editorMode?: 'code' | 'builder',
  legendFormat?: string, range?: boolean, instant?: boolean, exemplar?: boolean, interval?: string, intervalFactor?: number,
  format?: 'time_series' | 'table' | 'heatmap' };
`

// Grafana ignores a key that it does not know and a value that is none of its
// own, so a panel with a mistake in it just looks wrong. Its types tell.
func TestDashboardHasGrafanasTypes(t *testing.T) {
	t.Parallel()
	modules := nodeModules(t)
	for _, module := range []string{"@grafana/schema", "typescript"} {
		_, err := os.Stat(filepath.Join(modules, module))
		needs(t, module, err)
	}
	text, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	if said := grafanaTypeErrors(t, modules, text); said != "" {
		t.Errorf("the dashboard is not one of Grafana's:\n%s", said)
	}
	// Mistakes of every part are found.
	mistakes := []struct{ right, wrong, said string }{
		{`"graphTooltip": 1`, `"graphTooltip": "1"`, "Type 'string' is not assignable to type 'number'"},
		{`"refId": "Anno"`, `"refID": "Anno"`, `"refID"`},
		{`"includeAll": true`, `"includesAll": true`, `"includesAll"`},
		{`"colorMode": "value"`, `"colourMode": "value"`, `"colourMode"`},
		{`"noValue": "no calls"`, `"noValues": "no calls"`, `"noValues"`},
		{`"drawStyle": "line"`, `"drawStyle": "lines"`, `"lines"`},
		{`"showColorScale": false`, `"showColourScale": false`, `"showColourScale"`},
		{`"format": "heatmap"`, `"format": "heat"`, `"heat"`},
	}
	spoilt := string(text)
	for _, m := range mistakes {
		spoilt = strings.ReplaceAll(spoilt, m.right, m.wrong)
	}
	said := grafanaTypeErrors(t, modules, []byte(spoilt))
	for _, m := range mistakes {
		if !strings.Contains(said, m.said) {
			t.Errorf("the mistake %s is not found:\n%s", m.wrong, said)
		}
	}
}

// grafanaTypeErrors lets TypeScript compare a dashboard with Grafana's types.
func grafanaTypeErrors(t *testing.T, modules string, dashboard []byte) string {
	t.Helper()
	var d map[string]json.RawMessage
	var annotations, templating struct{ List []json.RawMessage }
	var panels []map[string]json.RawMessage
	parse := func(text []byte, into any) {
		t.Helper()
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatal(err)
		}
	}
	parse(dashboard, &d)
	parse(d["annotations"], &annotations)
	parse(d["templating"], &templating)
	parse(d["panels"], &panels)
	var script strings.Builder
	script.WriteString(grafanaTypes)
	constants := 0
	declare := func(kind string, value any) {
		t.Helper()
		text, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		constants++
		fmt.Fprintf(&script, "export const c%d: %s = %s;\n", constants, kind, text)
	}
	for _, key := range []string{"annotations", "templating", "panels"} {
		delete(d, key)
	}
	declare("Dashboard", d)
	for _, a := range annotations.List {
		declare("Annotation", a)
	}
	for _, v := range templating.List {
		declare("Variable", v)
	}
	for _, p := range panels {
		var kind string
		parse(p["type"], &kind)
		if kind == "row" {
			declare("Row", p)
			continue
		}
		if !slices.Contains([]string{"stat", "timeseries", "heatmap", "table"}, kind) {
			t.Fatalf("no types for panels of the type %s", kind)
		}
		var fields struct {
			Defaults struct{ Custom json.RawMessage }
		}
		parse(p["fieldConfig"], &fields)
		if custom := fields.Defaults.Custom; custom != nil && kind != "stat" {
			declare("JSON<"+kind+".FieldConfig>", custom)
		}
		declare("JSON<"+kind+".Options>", p["options"])
		declare("Query[]", p["targets"])
		delete(p, "options")
		delete(p, "targets")
		declare("Panel", p)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"package.json": `{"type": "module"}`,
		"check.ts":     script.String(),
		"tsconfig.json": `{"files": ["check.ts"], "compilerOptions": {"strict": true, "noEmit": true, "module": "nodenext",
			"target": "es2022", "skipLibCheck": true, "types": []}}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(tool(t, "node"), filepath.Join(modules, "typescript/bin/tsc"), "--project", dir, "--pretty", "false")
	command.Dir = dir
	output, err := command.CombinedOutput()
	if (err == nil) != (len(output) == 0) {
		t.Fatalf("tsc: %v\n%s", err, output)
	}
	return string(output)
}

// Every panel says what it shows, in which unit, and links to pages that exist.
func TestDashboardExplainsItself(t *testing.T) {
	var d struct {
		Links  []struct{ URL string }
		Panels []struct {
			Type, Title, Description string
			Links                    []struct{ URL string }
			FieldConfig              struct{ Defaults struct{ Unit string } }
			Targets                  []struct{ RefID string }
		}
	}
	text, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	links := d.Links
	for _, p := range d.Panels {
		if p.Type == "row" {
			continue
		}
		if p.Description == "" {
			t.Errorf("%q has no description", p.Title)
		}
		if p.FieldConfig.Defaults.Unit == "" && (p.Type == "stat" || p.Type == "timeseries") {
			t.Errorf("%q has no unit", p.Title)
		}
		seen := map[string]bool{}
		for _, target := range p.Targets {
			if seen[target.RefID] {
				t.Errorf("%q has two queries %s", p.Title, target.RefID)
			}
			seen[target.RefID] = true
		}
		links = append(links, p.Links...)
	}
	if len(links) < 10 {
		t.Errorf("only %d links", len(links))
	}
	for _, link := range links {
		page, anchor, _ := strings.Cut(strings.TrimPrefix(link.URL, "https://github.com/countersign-proxy/countersign/blob/main/"), "#")
		text, err := os.ReadFile(filepath.Join("..", page))
		if err != nil {
			t.Error(err)
			continue
		}
		if anchor != "" && !slices.Contains(anchors(string(text)), anchor) {
			t.Errorf("%s has no heading %s", page, anchor)
		}
	}
}

// anchors are the names that GitHub gives to a page's headings.
func anchors(page string) (names []string) {
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(page, -1) {
		name := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}
