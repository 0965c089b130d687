package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/countersign-proxy/countersign/ca"
	"github.com/countersign-proxy/countersign/config"
	"github.com/countersign-proxy/countersign/safefile"
)

// What others replace while the proxy runs, beside the configuration: the CA,
// by `ca rotate` or a new version of a mounted secret, and the certificate of
// its own listeners, by whoever renews it; so does the webhook with its own. It is
// taken up whole, or what was in use before stays, and the log says what is wrong.

// takeUpPoll is how often the files are looked at without being told, for file
// systems that tell nothing, and for what was refused and has become right since
// (a folder's mode, a clock).
const takeUpPoll = time.Minute

// followFiles sends to changes when one of the files has changed, until ctx ends.
func followFiles(ctx context.Context, log *zap.Logger, files func() []string, changes chan<- struct{}) {
	err := config.Watch(ctx, files(), config.WatchOptions{Files: files}, func() []string {
		select {
		case changes <- struct{}{}:
		default: // one is waiting already
		}
		return nil // files says it
	})
	if err != nil && ctx.Err() == nil {
		log.Warn("changes of the CA and of certificates are not reported, and looked for from time to time", zap.Duration("every", takeUpPoll), zap.Error(err))
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
	sayOnce(p.log, &p.trouble, "the CA on disk is not used; the one before stays in force", err)
	p.warnOfCA(time.Now())

	if t := p.engine.Load().cfg.TLS; t.Enabled() && p.certificate.Load() != nil {
		p.certificate.takeUp(certificateOf(t), p.log)
	}
}

// caWarning is how often the log says that the CA is about to expire.
const caWarning = 24 * time.Hour

// warnOfCA tells those who watch neither metrics nor doctor, as long as there is time.
func (p *proxy) warnOfCA(now time.Time) {
	authority := p.authority.Load()
	if p.opt.Authority != nil || !authority.NeedsRotation() || !p.warned.IsZero() && now.Sub(p.warned) < caWarning {
		return
	}
	p.warned = now.Round(0) // by the wall clock, as the CA's own end
	p.log.Warn("no client can connect once the CA has expired: make a new one with `countersign ca rotate --overlap 48h`, and give clients its bundle meanwhile",
		zap.Time("expires", authority.Expires()))
}

// sayOnce logs an error unless it is the one that was logged last.
func sayOnce(log *zap.Logger, last *string, what string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != *last {
		log.Error(what, zap.Error(err))
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

// certificateFiles are the two files of a certificate, and what the user calls them.
type certificateFiles struct {
	cert, key         string
	certName, keyName string
}

// certificateOf are the files of the proxy's own listeners.
func certificateOf(t config.TLS) certificateFiles {
	return certificateFiles{t.CertFile, t.KeyFile, "tls.cert_file", "tls.key_file"}
}

// listenerCertificate is what listeners of ours show: those of the proxy, or the
// webhook. The zero value holds none. One goroutine may renew it while others show it.
type listenerCertificate struct {
	atomic.Pointer[tls.Certificate]
	trouble string // logged last, of what could not be taken up
}

// renew takes up the pair that is on disk if it is another one. A pair of which
// only one half has been replaced yet, or that is not valid now, is an error, and
// the one before stays. So is a key that others may read. Its group may: that is
// how Kubernetes mounts a Secret for a user that is not root (fsGroup).
func (l *listenerCertificate) renew(f certificateFiles, now time.Time) (renewed bool, err error) {
	next, err := f.read()
	if err != nil {
		return false, err
	}
	before := l.Load()
	if before != nil && slices.EqualFunc(before.Certificate, next.Certificate, bytes.Equal) {
		return false, nil
	}
	if before != nil && (now.After(next.Leaf.NotAfter) || now.Before(next.Leaf.NotBefore)) {
		return false, fmt.Errorf("%s: %s is valid from %s to %s, and it is %s", f.certName, f.cert,
			next.Leaf.NotBefore.UTC().Format(time.RFC3339), next.Leaf.NotAfter.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	l.Store(next)
	return true, nil
}

// read reads certificate chain and key.
func (f certificateFiles) read() (*tls.Certificate, error) {
	chain, err := os.ReadFile(f.cert)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.certName, err)
	}
	key, err := safefile.Read(f.key, safefile.Private, safefile.MaxSecret)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.keyName, err)
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %s and %s: %w", f.certName, f.keyName, f.cert, f.key, err)
	}
	return &pair, nil
}

// takeUp renews it, and logs what came of that.
func (l *listenerCertificate) takeUp(f certificateFiles, log *zap.Logger) {
	renewed, err := l.renew(f, time.Now())
	if renewed {
		log.Info("the listeners show their new certificate", zap.Time("expires", l.Load().Leaf.NotAfter))
	}
	sayOnce(log, &l.trouble, "the listeners' certificate on disk is not used; the one before stays in force", err)
}

// follow takes up what replaces the files, until ctx ends.
func (l *listenerCertificate) follow(ctx context.Context, f certificateFiles, log *zap.Logger) {
	changes := make(chan struct{}, 1)
	var following sync.WaitGroup
	following.Go(func() { followFiles(ctx, log, func() []string { return []string{f.cert, f.key} }, changes) })
	defer following.Wait()
	poll := time.NewTicker(takeUpPoll)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changes:
		case <-poll.C:
		}
		l.takeUp(f, log)
	}
}

// get is for tls.Config.
func (l *listenerCertificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c := l.Load(); c != nil {
		return c, nil
	}
	return nil, errors.New("the listeners have no certificate")
}
