package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/countersign-proxy/countersign/ca"
	"github.com/countersign-proxy/countersign/config"
)

// What others replace while the proxy runs, beside the configuration: the CA,
// by `ca rotate` or a new version of a mounted secret, and the certificate of
// the proxy's own listeners, by whoever renews it. It is taken up whole, or what
// was in use before stays, and the log says what is wrong.

// takeUpPoll is how often the files are looked at without being told, for file
// systems that tell nothing, and for what was refused and has become right since
// (a folder's mode, a clock).
const takeUpPoll = time.Minute

// followFiles sends to changes when one of the files has changed, until ctx ends.
func (p *proxy) followFiles(ctx context.Context, changes chan<- struct{}) {
	err := config.Watch(ctx, p.takenUp(), config.WatchOptions{Files: p.takenUp}, func() []string {
		select {
		case changes <- struct{}{}:
		default: // one is waiting already
		}
		return nil // takenUp says it
	})
	if err != nil && ctx.Err() == nil {
		p.log.Warn("changes of the CA and of certificates are not reported, and looked for from time to time", zap.Duration("every", takeUpPoll), zap.Error(err))
	}
}

// takenUp are the files to follow.
func (p *proxy) takenUp() []string {
	var files []string
	if p.opt.Authority == nil {
		files = append(files, p.authority.Load().Path())
	}
	if t := p.engine.Load().cfg.TLS; t.Enabled() {
		files = append(files, t.CertFile, t.KeyFile)
	}
	return files
}

// takeUp looks at the files, and takes up what is new in them. always is set when
// the configuration was reloaded, which may have changed how a CA is used.
func (a *app) takeUp(p *proxy, always bool) {
	replaced, err := p.reloadAuthority(always)
	if err == nil && replaced {
		err = a.authorityTaken(p)
	}
	p.sayOnce(&p.troubles.authority, "the CA on disk is not used; the one before stays in force", err)

	if t := p.engine.Load().cfg.TLS; t.Enabled() && p.certificate.Load() != nil {
		renewed, err := p.certificate.renew(t, time.Now())
		if renewed {
			p.log.Info("the listeners show their new certificate", zap.Time("expires", p.certificate.Load().Leaf.NotAfter))
		}
		p.sayOnce(&p.troubles.certificate, "the listeners' certificate on disk is not used; the one before stays in force", err)
	}
}

// sayOnce logs an error unless it is the one that was logged last.
func (p *proxy) sayOnce(last *string, what string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != *last {
		p.log.Error(what, zap.Error(err))
	}
	*last = text
}

// reloadAuthority takes up the CA that is in the folder now. One that is the
// same is taken up only when always is set: it has no leaves yet.
func (p *proxy) reloadAuthority(always bool) (replaced bool, err error) {
	if p.opt.Authority != nil {
		return false, nil
	}
	cfg, before := p.engine.Load().cfg, p.authority.Load()
	// A missing one is not made: there is one in use, no client would trust another,
	// and a folder that is empty for a moment is about to be filled.
	next, err := ca.Load(cfg.CA.Dir, p.authorityOptions(cfg))
	if err != nil {
		return false, err
	}
	same := next.Equal(before)
	if same && !always {
		return false, nil
	}
	p.authority.Store(next)
	p.metrics.CAExpiry(next.Expires())
	return !same, nil
}

// authorityTaken tells people and clients of another CA.
func (a *app) authorityTaken(p *proxy) error {
	authority := p.authority.Load()
	var roots, signers []string
	for _, c := range authority.Info().Roots {
		roots = append(roots, string(c.State)+" "+c.Fingerprint)
	}
	for _, c := range authority.Info().Intermediates {
		signers = append(signers, string(c.State)+" from "+c.NotBefore.Format(time.RFC3339)+" to "+c.NotAfter.Format(time.RFC3339))
	}
	if _, err := a.publishTrust(authority, p.engine.Load().cfg); err != nil {
		return fmt.Errorf("the CA is in use, but its bundle for clients was not written: %w", err)
	}
	p.log.Info("the CA was replaced", zap.Strings("roots", roots), zap.Strings("signers", signers))
	return nil
}

// listenerCertificate is what the proxy's own listeners show. The zero value
// holds none.
type listenerCertificate struct {
	atomic.Pointer[tls.Certificate]
}

// renew takes up the pair of the configuration if it is another one. A pair of
// which only one half has been replaced yet, or that is not valid now, is an error,
// and the one before stays.
func (l *listenerCertificate) renew(t config.TLS, now time.Time) (renewed bool, err error) {
	next, err := readCertificate(t)
	if err != nil {
		return false, err
	}
	before := l.Load()
	if before != nil && slices.EqualFunc(before.Certificate, next.Certificate, bytes.Equal) {
		return false, nil
	}
	if before != nil && (now.After(next.Leaf.NotAfter) || now.Before(next.Leaf.NotBefore)) {
		return false, fmt.Errorf("tls.cert_file: %s is valid from %s to %s, and it is %s", t.CertFile,
			next.Leaf.NotBefore.UTC().Format(time.RFC3339), next.Leaf.NotAfter.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	l.Store(next)
	return true, nil
}

// readCertificate reads certificate chain and key of the listeners.
func readCertificate(t config.TLS) (*tls.Certificate, error) {
	chain, err := os.ReadFile(t.CertFile)
	if err != nil {
		return nil, fmt.Errorf("tls.cert_file: %w", err)
	}
	key, err := config.ReadPrivate(t.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("tls.key_file: %w", err)
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fmt.Errorf("tls: %s and %s: %w", t.CertFile, t.KeyFile, err)
	}
	return &pair, nil
}

// get is for tls.Config.
func (l *listenerCertificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c := l.Load(); c != nil {
		return c, nil
	}
	return nil, errors.New("the listeners have no certificate")
}
