package config

import _ "embed"

//go:embed example.yaml
var example []byte

// Example returns a commented configuration file: every key with its default,
// and one role as a sample.
func Example() []byte { return append([]byte(nil), example...) }
