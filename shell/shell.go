// Package shell writes lines that set variables in the languages of shells. What
// they set may be anything: every value is quoted so that the shell takes it as it
// is, and nothing in it is run.
package shell

import "strings"

// SetPOSIX sets and exports a variable in sh, bash, zsh and their kin.
func SetPOSIX(name, value string) string { return "export " + name + "=" + QuotePOSIX(value) }

// SetFish sets and exports a variable in fish.
func SetFish(name, value string) string { return "set -gx " + name + " " + quoteFish(value) }

// SetPowerShell sets a variable of the environment in PowerShell. In single quotes
// it knows one escape: a quote is doubled (about_Quoting_Rules). It takes typographic
// quotes for quotes as well (IsSingleQuote of its CharTraits.cs).
func SetPowerShell(name, value string) string {
	return "$Env:" + name + " = '" + powerShellQuotes.Replace(value) + "'"
}

var powerShellQuotes = strings.NewReplacer("'", "''", "\u2018", "\u2018\u2018", "\u2019", "\u2019\u2019", "\u201a", "\u201a\u201a", "\u201b", "\u201b\u201b")

// QuotePOSIX makes one word of a value for sh, bash, zsh and their kin. A value that
// needs no quotes gets none.
func QuotePOSIX(value string) string {
	if value != "" && !strings.ContainsFunc(value, special) {
		return value
	}
	return "'" + strings.ReplaceAll(value, "'", `'\''`) + "'"
}

// special says whether a character might mean something to a shell.
func special(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/:.,_-+=@%", r))
}

// quoteFish: in single quotes fish knows the escapes \\ and \'.
func quoteFish(value string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
}
