package main

import (
	_ "embed"
	"encoding/json"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/countersign-proxy/countersign/inject"
)

// nodeProxy is a program for Node.js that leads its connections to AWS through
// the proxy: neither the AWS SDK for JavaScript nor Node's https reads a proxy
// variable.
//
//go:embed node-proxy.cjs
var nodeProxy string

// nodeProxySuffixes is the line of it that the suffixes are written into.
const nodeProxySuffixes = "const suffixes = [];"

// nodeProxyFor is the program for hosts at and below the suffixes.
func nodeProxyFor(suffixes []string) []byte {
	list, err := json.Marshal(suffixes)
	if err != nil {
		panic(err) // strings always marshal
	}
	return []byte(strings.Replace(nodeProxy, nodeProxySuffixes, "const suffixes = "+string(list)+";", 1))
}

// nodeOption is one word of NODE_OPTIONS: Node splits at spaces outside of double
// quotes, within which a backslash escapes (Node.js CLI documentation).
var nodeOption = regexp.MustCompile(`(?:[^\s"]|"(?:[^"\\]|\\.)*")+`)

// nodeOptions adds the loading of a file to the options that the parent gave, in
// place of one that was added before.
func nodeOptions(existing, file string) string {
	ours := func(word string) bool {
		path := strings.ReplaceAll(strings.Trim(word, `"`), `\\`, `\`)
		return filepath.Base(path) == inject.NodeProxyFile
	}
	var out []string
	words := nodeOption.FindAllString(existing, -1)
	for i := 0; i < len(words); i++ {
		name, value, joined := strings.Cut(words[i], "=")
		if name == "--require" || name == "-r" {
			if !joined && i+1 < len(words) && ours(words[i+1]) {
				i++
				continue
			}
			if joined && ours(value) {
				continue
			}
		}
		out = append(out, words[i])
	}
	if strings.ContainsAny(file, " \t\"") {
		file = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(file) + `"`
	}
	return strings.Join(append(out, "--require", file), " ")
}
