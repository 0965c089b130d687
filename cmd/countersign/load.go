package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"

	"github.com/coreos/go-systemd/v22/activation"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/countersign-proxy/countersign/audit"
	"github.com/countersign-proxy/countersign/config"
)

// load reads the configuration of --config, or of the environment.
func (a *app) load() (*config.Config, error) {
	cfg, err := config.Load(config.Options{Path: a.configPath, Env: a.environ()})
	if err != nil {
		return nil, &exitError{exitConfig, err}
	}
	return cfg, nil
}

// auditOptions are those of the configuration.
func auditOptions(cfg *config.Config) audit.Options {
	return audit.Options{Path: cfg.Audit.File, Required: cfg.Audit.Required, MaxSize: int64(cfg.Audit.MaxSize), Backups: cfg.Audit.Backups}
}

// newLogger makes the log for people. atLeast raises the level, for commands
// whose standard error belongs to somebody else.
func newLogger(cfg config.Log, w io.Writer, atLeast string) (*zap.Logger, error) {
	level, err := zapcore.ParseLevel(cfg.Level)
	if err != nil {
		return nil, fmt.Errorf("log.level: %w", err)
	}
	if floor, err := zapcore.ParseLevel(atLeast); atLeast != "" && err == nil && level == zapcore.InfoLevel {
		level = floor
	}
	encoding := zap.NewProductionEncoderConfig()
	encoding.TimeKey = "time"
	encoding.EncodeTime = zapcore.RFC3339TimeEncoder
	var encoder zapcore.Encoder = zapcore.NewJSONEncoder(encoding)
	if cfg.Format == "console" || cfg.Format == "text" {
		encoder = zapcore.NewConsoleEncoder(encoding)
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(w)), level)), nil
}

// printJSON writes v for scripts.
func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.stdout)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// tempDir makes a private folder for files of one run: below the temporary
// folder of the system or, where none is writable (an image with a read-only
// root), below the state directory.
func (a *app) tempDir(stateDir string) (string, error) {
	dir, err := os.MkdirTemp("", "countersign-")
	if err == nil || stateDir == "" {
		return dir, err
	}
	if stateErr := config.MakeStateDir(stateDir); stateErr != nil {
		return "", errors.Join(err, stateErr)
	}
	return os.MkdirTemp(stateDir, "run-")
}

// inherited are the listeners that systemd opened for this process, by the names
// that the socket unit gives them. They belong to the process and can be taken
// over once.
var inherited = sync.OnceValues(activation.ListenersWithNames)

// listen opens a listener and says what to do when the address is taken. Where
// systemd has opened one under the name of the key, it takes that.
func listen(ctx context.Context, key, address string) (net.Listener, error) {
	ready, err := inherited()
	if err != nil {
		return nil, fmt.Errorf("%s: socket activation: %w", key, err)
	}
	if l := ready[key]; len(l) > 1 {
		return nil, fmt.Errorf("%s: systemd has opened %d sockets of that name; one unit with one ListenStream is enough", key, len(l))
	} else if len(l) == 1 {
		// Who may use a listener without a key follows from the configured address.
		if at := l[0].Addr().String(); config.LoopbackAddress(address) && !config.LoopbackAddress(at) {
			return nil, fmt.Errorf("%s is %s, and systemd's socket is open at %s for others too; give both the same address", key, address, at)
		}
		return l[0], nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; choose another address (COUNTERSIGN_%s), or stop the program that listens there",
			key, err, strings.ToUpper(strings.ReplaceAll(key, ".", "_")))
	}
	return l, nil
}
