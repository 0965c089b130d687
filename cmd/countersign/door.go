package main

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/countersign-proxy/countersign/config"
	"github.com/countersign-proxy/countersign/identity"
	"github.com/countersign-proxy/countersign/mitm"
)

// Why nothing could be made of a Proxy-Authorization; beside them are the reasons
// of the package identity.
const (
	doorMissing   = "missing"
	doorMalformed = "malformed"
)

func doorReasons() []string {
	out := []string{doorMissing, doorMalformed, string(identity.ReasonPassword)}
	for _, r := range identity.Reasons() {
		out = append(out, string(r))
	}
	return out
}

// howToAuthenticate is what a client is told behind the first line, which is all
// that many show.
const howToAuthenticate = "\nWrite HTTPS_PROXY=https://ACCESS_KEY_ID:SECRET@host:port, percent-encoded; with a session token, ACCESS_KEY_ID:SECRET.TOKEN. " +
	"`countersign env` prints it for whoever may read the sealing key."

// authenticate says who is at the proxy's door, by client credentials in
// Proxy-Authorization, as far as `proxy_authentication` asks for them.
//
// Requests of intercepted hosts are signed, each by itself. So with "tunnels" an
// intercepted CONNECT needs no credentials: a pod that has none yet, and is about
// to get them from STS, could not have any. Those that it sends all the same say who
// it was where they are good, and keep nobody out where they are not: they may
// have expired in a variable while the program has fetched others.
func (p *proxy) authenticate(a mitm.Attempt) (mitm.Caller, error) {
	e := p.engine.Load()
	if e.cfg.ProxyAuth == config.AuthenticateNone {
		return mitm.Caller{}, nil
	}
	optional := e.cfg.ProxyAuth == config.AuthenticateTunnels && a.Route.Action == mitm.Intercept
	if !a.Sent && optional {
		return mitm.Caller{}, nil
	}
	caller, reason, err := e.whoIs(a, time.Now())
	if err == nil {
		return caller, nil
	}
	p.metrics.ProxyAuthenticationFailure(reason)
	if optional {
		return mitm.Caller{}, nil
	}
	return caller, errors.New(err.Error() + howToAuthenticate)
}

// inTheClear refuses a reload that would have clients send secrets to the listener
// as it was opened. The configuration was checked for the listener that it
// describes, which a restart would open.
func (p *proxy) inTheClear(cfg *config.Config) error {
	if cfg.ProxyAuth == config.AuthenticateNone || cfg.TLS.Plaintext || p.certificate.Load() != nil ||
		p.addresses.proxy == "" || config.LoopbackAddress(p.addresses.proxy) {
		return nil
	}
	return fmt.Errorf("proxy_authentication is %s, and the listener that is open at %s has no TLS, so that others could read the secrets that clients send there: restart the proxy", cfg.ProxyAuth, p.addresses.proxy)
}

// whoIs holds an attempt against the identities. Where it fails, the reason is
// one of doorReasons.
func (e *engine) whoIs(a mitm.Attempt, now time.Time) (mitm.Caller, string, error) {
	switch {
	case !a.Sent:
		return mitm.Caller{}, doorMissing, errors.New("this proxy asks for client credentials: put them in HTTPS_PROXY")
	case a.User == "":
		return mitm.Caller{}, doorMalformed, errors.New("Proxy-Authorization is not one of type Basic with a user name and a password (RFC 7617)")
	}
	caller := mitm.Caller{Key: identity.Mask(a.User)}
	grant, err := e.identities.Authenticate(a.User, a.Password, now)
	var refused *identity.Error
	switch {
	case errors.As(err, &refused):
		return caller, string(refused.Reason), refused
	case err != nil:
		return caller, doorMalformed, err
	}
	caller.Name = grant.Identity.Name
	return caller, "", nil
}

// withCredentials puts client credentials into a proxy's URL where the
// configuration asks for them.
func withCredentials(cfg *config.Config, proxy string, c identity.Credentials) string {
	if cfg.ProxyAuth == config.AuthenticateNone {
		return proxy
	}
	u, err := url.Parse(proxy)
	if err != nil {
		return proxy
	}
	u.User = url.UserPassword(c.AccessKeyID, c.Password())
	return u.String()
}
