package main

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/countersign-proxy/countersign/config"
)

// drain sends clients elsewhere while all of them are still served: /readyz says
// so to balancers, and every answer to those that are connected. It lasts for delay,
// or until ctx ends. On loopback no balancer has to learn anything, so it is over
// when nobody is connected.
func (p *proxy) drain(ctx context.Context, delay time.Duration) {
	p.draining.Store(true)
	p.mitm.Drain()
	if delay <= 0 {
		return
	}
	cfg := p.engine.Load().cfg
	local := true
	for _, address := range []string{cfg.Listen, cfg.Endpoint.Listen} {
		local = local && (address == "" || config.LoopbackAddress(address))
	}
	over := time.NewTimer(delay)
	defer over.Stop()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		if local && p.mitm.Stats().Connections+p.endpointClients.Load() == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-over.C:
			return
		case <-look.C:
		}
	}
}

// shutdown lets requests end, until ctx does.
func (p *proxy) shutdown(ctx context.Context) error {
	p.drain(ctx, 0)
	if p.console != nil {
		p.console.Close() // streams of live activity would hold their server open
	}
	var clients sync.WaitGroup
	var endpoint error
	clients.Go(func() {
		if p.endpoint != nil {
			endpoint = shutdownServer(ctx, p.endpoint)
		}
	})
	errs := []error{p.mitm.Shutdown(ctx)}
	clients.Wait()
	errs = append(errs, endpoint)
	for _, s := range p.servers { // they say until now that the proxy is not ready
		errs = append(errs, shutdownServer(ctx, s))
	}
	e := p.engine.Load()
	errs = append(errs, e.sessions.Close(), p.audit.Close(ctx))
	e.transport.CloseIdleConnections()
	return errors.Join(errs...)
}

// shutdownServer lets requests end, and cuts off what is left when ctx ends.
func shutdownServer(ctx context.Context, s *http.Server) error {
	if err := s.Shutdown(ctx); err != nil {
		return errors.Join(err, s.Close())
	}
	return nil
}

// stop lets requests end for as long as the configuration in force allows. The delay
// in which clients are sent elsewhere first is a part of that.
func (p *proxy) stop(withDelay bool) error {
	limits := p.engine.Load().cfg.Limits
	ctx, cancel := context.WithTimeout(context.Background(), limits.DrainTimeout)
	defer cancel()
	p.notifyStopping()
	if withDelay {
		p.drain(ctx, min(limits.DrainDelay, limits.DrainTimeout/2))
	}
	err := p.shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		p.log.Warn("requests were cut off at the end of limits.drain_timeout")
		return nil
	}
	return err
}
