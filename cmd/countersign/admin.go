package main

import (
	"errors"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/countersign-proxy/countersign/audit"
	"github.com/countersign-proxy/countersign/config"
	"github.com/countersign-proxy/countersign/metrics"
	"github.com/countersign-proxy/countersign/virtualsts"
)

// adminHandlers are what the admin listener serves beside metrics and health:
// client credentials for programs that fetch and renew them, and the list of
// sessions for the command of that name, and their end for logout.
func (p *proxy) adminHandlers(cfg *config.Config) (map[string]http.Handler, error) {
	token, err := adminToken(cfg)
	if err != nil {
		return nil, err
	}
	if p.console, err = p.newConsoleServer(cfg, p.addresses.admin); err != nil {
		return nil, err
	}
	handlers := map[string]http.Handler{
		"GET /sessions":    withToken(token, p.listSessions),
		"DELETE /sessions": withToken(token, p.forgetSessions),
		"/credentials":     p.credentialsEndpoint(token),
	}
	for pattern, h := range p.console.Handlers() {
		handlers[pattern] = h
	}
	return handlers, nil
}

// credentialsEndpoint serves client credentials as the agents of ECS and EKS
// do: for tokens of configured issuers, and for the user of this machine, who
// proves himself by the admin token.
func (p *proxy) credentialsEndpoint(token string) http.Handler {
	var mu sync.Mutex
	var of *engine
	var handler http.Handler
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e := p.engine.Load()
		mu.Lock()
		if e != of {
			opt := virtualsts.EndpointOptions{Lifetime: processLifetime, Record: p.recordIssued}
			if _, ok := e.grants.identities[localIdentity]; ok {
				opt.Bearers = []virtualsts.Bearer{{Token: token, Identity: localIdentity}}
			}
			h, err := e.sts.Endpoint(opt)
			if err != nil {
				mu.Unlock()
				p.log.Error("the credentials endpoint does not work", zap.Error(err))
				http.Error(w, "the credentials endpoint does not work; the proxy's log says why", http.StatusInternalServerError)
				return
			}
			of, handler = e, h
		}
		h := handler
		mu.Unlock()
		h.ServeHTTP(w, r)
	})
}

// recordIssued writes the audit line of a request for credentials.
func (p *proxy) recordIssued(r *http.Request, issued virtualsts.Issued, status int, err error) {
	e := audit.Entry{
		Time: time.Now(), RequestID: audit.NewRequestID(), Client: r.RemoteAddr, Method: r.Method, Host: r.Host,
		Service: "countersign", Operation: "GetCredentials", Decision: audit.Allow, Reason: "credentials endpoint", Status: status,
		Identity: issued.Identity, AccessKeyID: issued.AccessKeyID, Role: issued.Role, RoleARN: issued.RoleARN, Signature: "none",
	}
	if err != nil {
		e.Decision, e.Error = audit.Deny, err.Error()
	}
	if err := p.audit.Write(e); err != nil {
		p.log.Error("audit line lost", zap.Error(err))
	}
}

// admin is the handler of the admin and metrics listeners.
func (p *proxy) admin(extra map[string]http.Handler) http.Handler {
	return metrics.NewAdmin(metrics.AdminOptions{
		Gatherer: p.metrics.Registry(), Extra: extra, Hosts: p.engine.Load().cfg.Admin.Hosts,
		Ready: func() error {
			if p.draining.Load() {
				return errors.New("draining")
			}
			return p.engine.Load().identities.Ready()
		},
	})
}
