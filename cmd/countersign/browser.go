package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"
)

const onceTimeout = 2 * time.Minute

// openOnce lets a browser have an address without showing it: command lines are seen
// by every user of a machine, and a sign-in URL is a credential. The browser is
// given an address on loopback that leads on once.
func (a *app) openOnce(ctx context.Context, target string, open func(ctx context.Context, address string) (ended <-chan error, err error)) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var b [20]byte
	rand.Read(b[:]) // never fails, see crypto/rand
	path := "/" + hex.EncodeToString(b[:])
	served := make(chan struct{})
	var once sync.Once
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || subtle.ConstantTimeCompare([]byte(r.URL.Path), []byte(path)) != 1 || r.Host != l.Addr().String() {
			http.NotFound(w, r)
			return
		}
		first := false
		once.Do(func() { first = true })
		if !first {
			http.Error(w, "This address led on once already. Run countersign console again.", http.StatusGone)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Referrer-Policy", "no-referrer")
		w.Header().Set("Location", target)
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusSeeOther)
		close(served)
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // ends with Shutdown
	}()
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = server.Shutdown(end)
		<-done
	}()
	ended, err := open(ctx, "http://"+l.Addr().String()+path)
	if err != nil {
		return fmt.Errorf("no browser can be opened here: %w; use --print", err)
	}
	ctx, cancel := context.WithTimeout(ctx, onceTimeout)
	defer cancel()
	for {
		select {
		case <-served:
			return nil
		case err := <-ended:
			select {
			case <-served:
				return nil
			default:
			}
			if err != nil {
				return fmt.Errorf("the browser ended before it asked for the page: %w; use --print to have the sign-in URL", err)
			}
			ended = nil // it handed the address to one that runs
		case <-ctx.Done():
			return errors.New("the browser did not ask for the page; use --print to have the sign-in URL")
		}
	}
}

// openBrowser starts the browser that the system or BROWSER names. ended says how it
// ended; it may stay.
func (a *app) openBrowser(ctx context.Context, address string) (ended <-chan error, err error) {
	var command []string
	switch {
	case a.getenv("BROWSER") != "":
		command = append(strings.Fields(a.getenv("BROWSER")), address)
	case runtime.GOOS == "darwin":
		command = []string{"open", address}
	case runtime.GOOS == "windows":
		command = []string{"rundll32", "url.dll,FileProtocolHandler", address}
	default:
		command = []string{"xdg-open", address}
	}
	path, err := exec.LookPath(command[0])
	if err != nil {
		return nil, err
	}
	c := exec.CommandContext(context.WithoutCancel(ctx), path, command[1:]...)
	if err := c.Start(); err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	go func() {
		err := c.Wait()
		if err != nil {
			err = fmt.Errorf("%s: %w", command[0], err)
		}
		done <- err
	}()
	return done, nil
}
