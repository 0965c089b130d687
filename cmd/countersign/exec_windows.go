//go:build windows

package main

import "os"

// forwardedSignals: the console sends Ctrl-C to every process attached to it.
var forwardedSignals = []os.Signal{os.Interrupt}

func passOn(*os.Process, os.Signal) {}
