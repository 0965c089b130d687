package main

import (
	"fmt"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
)

// TestMain lets the test binary be countersign itself, and the program that
// countersign runs, when it is started under their names.
func TestMain(m *testing.M) {
	testscript.Main(leakChecked{m}, map[string]func(){
		"countersign": main,
		"probe":       probe,
	})
}

// leakChecked fails a run whose tests pass and leave goroutines behind.
type leakChecked struct{ m *testing.M }

func (l leakChecked) Run() int {
	code := l.m.Run()
	if code != 0 {
		return code
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintf(os.Stderr, "goroutines are left after the tests: %v\n", err)
		return 1
	}
	return 0
}
