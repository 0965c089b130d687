package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/countersign-proxy/countersign/identity"
)

// ErrNoServer says that no proxy answers at an address.
var ErrNoServer = errors.New("no proxy answers")

// Ask asks the proxy that runs at base on this machine for a sign-in. The errors are
// the proxy's own, or wrap ErrNoServer.
func Ask(ctx context.Context, base string, store *identity.Store, who identity.Identity, role, destination, region string) (Opened, error) {
	ticket, _, err := mint(store, who, purposeTicket, time.Now().Add(ticketLife))
	if err != nil {
		return Opened{}, err
	}
	form := url.Values{"role": {role}, "destination": {destination}, "region": {region}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(base, "/")+"/console/api/open", strings.NewReader(form.Encode()))
	if err != nil {
		return Opened{}, fmt.Errorf("console: %w", err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Authorization", "Bearer "+ticket)
	// Straight to this machine: a proxy of the environment must not see the ticket.
	client := &http.Client{
		Transport:     &http.Transport{Proxy: nil, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	res, err := client.Do(r)
	if err != nil {
		if ctx.Err() != nil {
			return Opened{}, ctx.Err()
		}
		return Opened{}, fmt.Errorf("%w at %s: %w", ErrNoServer, base, plainError(err))
	}
	defer res.Body.Close()
	var out Opened
	if err := json.NewDecoder(io.LimitReader(res.Body, 64<<10)).Decode(&out); err != nil {
		return Opened{}, fmt.Errorf("%w at %s: what does is something else", ErrNoServer, base)
	}
	if out.Error != "" || res.StatusCode != http.StatusOK {
		return Opened{}, errors.New(out.Error)
	}
	return out, nil
}
