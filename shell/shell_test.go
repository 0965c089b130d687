package shell

import (
	"os/exec"
	"testing"
)

var values = map[string]struct{ posix, fish, powershell string }{
	"":               {"''", "''", "''"},
	"plain-1.2:3/4@": {"plain-1.2:3/4@", "'plain-1.2:3/4@'", "'plain-1.2:3/4@'"},
	"a b":            {"'a b'", "'a b'", "'a b'"},
	"it's":           {`'it'\''s'`, `'it\'s'`, "'it''s'"},
	`$(rm) "x" \`:    {`'$(rm) "x" \'`, `'$(rm) "x" \\'`, `'$(rm) "x" \'`},
	"a;b&c|d":        {"'a;b&c|d'", "'a;b&c|d'", "'a;b&c|d'"},
	"[::1]":          {"'[::1]'", "'[::1]'", "'[::1]'"},
	"~root":          {"'~root'", "'~root'", "'~root'"},
	"two\nlines":     {"'two\nlines'", "'two\nlines'", "'two\nlines'"},
	"a’; calc; ‘":    {"'a’; calc; ‘'", "'a’; calc; ‘'", "'a’’; calc; ‘‘'"},
	"ümlaut":         {"'ümlaut'", "'ümlaut'", "'ümlaut'"},
}

func TestLinesThatSet(t *testing.T) {
	for value, want := range values {
		if got := SetPOSIX("NAME", value); got != "export NAME="+want.posix {
			t.Errorf("SetPOSIX(%q) = %s", value, got)
		}
		if got := SetFish("NAME", value); got != "set -gx NAME "+want.fish {
			t.Errorf("SetFish(%q) = %s", value, got)
		}
		if got := SetPowerShell("NAME", value); got != "$Env:NAME = "+want.powershell {
			t.Errorf("SetPowerShell(%q) = %s", value, got)
		}
		if got := QuotePOSIX(value); got != want.posix {
			t.Errorf("QuotePOSIX(%q) = %s", value, got)
		}
	}
}

func TestShellReadsWhatWasQuoted(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("there is no sh on this machine")
	}
	for value := range values {
		out, err := exec.CommandContext(t.Context(), sh, "-c", SetPOSIX("NAME", value)+"\nprintf %s \"$NAME\"").Output()
		if err != nil || string(out) != value {
			t.Errorf("%q was read as %q: %v", value, out, err)
		}
	}
}
