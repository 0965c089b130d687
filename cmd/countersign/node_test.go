package main

import (
	"strings"
	"testing"
)

func TestNodeOptions(t *testing.T) {
	for existing, want := range map[string]string{
		"":                                    "--require /s/node-proxy.cjs",
		"--max-old-space-size=512":            "--max-old-space-size=512 --require /s/node-proxy.cjs",
		"  --require  /a/other.cjs --inspect": "--require /a/other.cjs --inspect --require /s/node-proxy.cjs",
		"--require /old/node-proxy.cjs --inspect":     "--inspect --require /s/node-proxy.cjs",
		"-r /old/node-proxy.cjs":                      "--require /s/node-proxy.cjs",
		"--require=/old/node-proxy.cjs --inspect":     "--inspect --require /s/node-proxy.cjs",
		`--require "/with space/node-proxy.cjs" -i`:   "-i --require /s/node-proxy.cjs",
		`--require "/with space/x.cjs" --title="a b"`: `--require "/with space/x.cjs" --title="a b" --require /s/node-proxy.cjs`,
		"--require":                   "--require --require /s/node-proxy.cjs",
		"--conditions node-proxy.cjs": "--conditions node-proxy.cjs --require /s/node-proxy.cjs",
	} {
		got := nodeOptions(existing, "/s/node-proxy.cjs")
		if got != want {
			t.Errorf("%q:\n got %s\nwant %s", existing, got, want)
		}
		if again := nodeOptions(got, "/s/node-proxy.cjs"); again != got {
			t.Errorf("it grows: %s", again)
		}
	}
	if got, want := nodeOptions("", `/a "b"/c\d/node-proxy.cjs`), `--require "/a \"b\"/c\\d/node-proxy.cjs"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// The program is not edited without the place that the suffixes go to.
func TestNodeProxyKnowsTheSuffixes(t *testing.T) {
	got := string(nodeProxyFor([]string{"amazonaws.com", "api.aws"}))
	if !strings.Contains(got, `const suffixes = ["amazonaws.com","api.aws"];`) || strings.Contains(got, nodeProxySuffixes) {
		t.Errorf("%s", got[:800])
	}
}
