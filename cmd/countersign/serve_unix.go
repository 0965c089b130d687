//go:build unix

package main

import (
	"errors"
	"os"
	"os/signal"
	"syscall"
)

var stopSignals = []os.Signal{syscall.SIGTERM, syscall.SIGINT}

func notifyHangup(c chan<- os.Signal) { signal.Notify(c, syscall.SIGHUP) }

func isReadOnly(err error) bool { return errors.Is(err, syscall.EROFS) }
