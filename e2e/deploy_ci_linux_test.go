package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

var yamlBlock = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")

// The jobs of the CI guide are what their systems take, and what they run is
// what the guide's reader has typed, and TestGuides has run, before.
func TestCIJobs(t *testing.T) {
	actionlint := tool(t, "actionlint")
	guide, err := os.ReadFile("../docs/guides/ci.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := yamlBlock.FindAllSubmatch(guide, -1)
	if len(blocks) != 2 {
		t.Fatalf("%d jobs, want GitHub's and GitLab's", len(blocks))
	}
	// Its checks of shell and Python scripts need programs that may be there or not.
	workflow := filepath.Join(t.TempDir(), "workflow.yml")
	if err := os.WriteFile(workflow, blocks[0][1], 0o600); err != nil {
		t.Fatal(err)
	}
	if output, err := exec.Command(actionlint, "-no-color", "-shellcheck=", "-pyflakes=", workflow).CombinedOutput(); err != nil {
		t.Errorf("actionlint: %v\n%s", err, output)
	}
	var github struct {
		Jobs map[string]struct {
			Steps []struct{ Run string }
		}
	}
	if err := yaml.Unmarshal(blocks[0][1], &github); err != nil {
		t.Fatal(err)
	}
	// The keys of a job that it uses: https://docs.gitlab.com/ci/yaml/
	type job struct {
		IDTokens  map[string]struct{ Aud string } `yaml:"id_tokens"`
		Variables map[string]string
		Script    []string
		Artifacts struct {
			When  string
			Paths []string
		}
	}
	gitlab := map[string]job{}
	decoder := yaml.NewDecoder(strings.NewReader(string(blocks[1][1])))
	decoder.KnownFields(true)
	if err := decoder.Decode(&gitlab); err != nil {
		t.Fatal(err)
	}
	var commands []string
	for _, j := range github.Jobs {
		for _, s := range j.Steps {
			commands = append(commands, s.Run)
		}
	}
	for _, j := range gitlab {
		commands = append(commands, j.Script...)
		if j.Variables["AWS_WEB_IDENTITY_TOKEN_FILE"] == "" || !strings.Contains(strings.Join(j.Script, "\n"), ">"+j.Variables["AWS_WEB_IDENTITY_TOKEN_FILE"]+")") {
			t.Error("GitLab's token is written to another file than the one that is read")
		}
	}
	typed := guideScript(t, "ci.md")
	found := 0
	for _, c := range commands {
		if !strings.HasPrefix(c, "countersign ") {
			continue
		}
		found++
		if !strings.Contains(typed, c+"\n") {
			t.Errorf("a job runs what nobody has tried: %s", c)
		}
	}
	if found != 2 {
		t.Errorf("%d commands of countersign, want one for each system", found)
	}
}
