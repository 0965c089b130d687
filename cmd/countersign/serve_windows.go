//go:build windows

package main

import "os"

var stopSignals = []os.Signal{os.Interrupt}

// notifyHangup: Windows has no SIGHUP; changes of the file are noticed.
func notifyHangup(chan<- os.Signal) {}

func isReadOnly(error) bool { return false }
