package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	maxKeySetBody  = 1 << 20 // bytes of a discovery document or key set
	maxKeys        = 100
	keySetTimeout  = 10 * time.Second
	keySetFresh    = time.Hour        // after which the keys are fetched again
	keySetStale    = 24 * time.Hour   // for which they serve while the issuer is unreachable
	keySetInterval = 10 * time.Second // between fetches, whatever key ids are asked for
)

// keySet keeps the public keys of one issuer: fetched when first needed, when
// they are old, and when a token names a key that is not there; the latter at
// most every ten seconds, since the name comes from whoever sends a token.
type keySet struct {
	issuer string
	url    string                 // "": find it by discovery
	token  func() (string, error) // nil: none
	client *http.Client

	fetching chan struct{} // holds one value while somebody fetches

	mu      sync.Mutex
	keys    []jose.JSONWebKey
	fetched time.Time // last success
	tried   time.Time // last attempt
	failure error     // of the last attempt
}

func newKeySet(issuer, url string, token func() (string, error), client *http.Client) *keySet {
	own := &http.Client{}
	if client != nil {
		*own = *client
	}
	own.CheckRedirect = func(*http.Request, []*http.Request) error {
		return errors.New("the issuer answered with a redirect, which is not followed")
	}
	if own.Timeout == 0 {
		own.Timeout = keySetTimeout
	}
	return &keySet{issuer: issuer, url: url, token: token, client: own, fetching: make(chan struct{}, 1)}
}

// find returns the keys that may have signed a token with this key id ("" for
// none) and algorithm.
func (s *keySet) find(ctx context.Context, id, algorithm string, now time.Time) ([]jose.JSONWebKey, error) {
	now = now.Round(0) // the monotonic clock stands still while the machine sleeps, and the keys would not grow old
	found, current := s.look(id, algorithm, now)
	if current && len(found) > 0 {
		return found, nil
	}
	select {
	case s.fetching <- struct{}{}:
		defer func() { <-s.fetching }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	// Somebody else may have fetched in the meantime.
	if found, current = s.look(id, algorithm, now); current && len(found) > 0 {
		return found, nil
	}
	if s.mayFetch(now) {
		// Whoever waits shares the result, so it does not end with this caller.
		keys, err := s.fetch(context.WithoutCancel(ctx))
		s.mu.Lock()
		s.tried, s.failure = now, err
		if err == nil {
			s.keys, s.fetched = keys, now
		}
		s.mu.Unlock()
	}
	found, _ = s.look(id, algorithm, now)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.fetched.IsZero() || now.Sub(s.fetched) > keySetStale:
		if s.failure != nil {
			return nil, s.failure
		}
		return nil, errors.New("they are older than a day")
	default:
		return found, nil
	}
}

// look returns the matching keys that are held; current says that they need not
// be fetched again for their age.
func (s *keySet) look(id, algorithm string, now time.Time) (found []jose.JSONWebKey, current bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.keys {
		if (id == "" || k.KeyID == id) && (k.Algorithm == "" || k.Algorithm == algorithm) {
			found = append(found, k)
		}
	}
	age := now.Sub(s.fetched)
	// Whoever waited for the fetch looked at the clock before it. Keys from further
	// ahead were fetched before the clock was set back.
	return found, !s.fetched.IsZero() && age < keySetFresh && age > -keySetTimeout
}

func (s *keySet) mayFetch(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tried.IsZero() || now.Sub(s.tried) >= keySetInterval || now.Before(s.tried)
}

// fetch gets the key set, and before it the discovery document where needed
// (OpenID Connect Discovery 1.0 section 4).
func (s *keySet) fetch(ctx context.Context) ([]jose.JSONWebKey, error) {
	from := s.url
	if from == "" {
		var document struct {
			Issuer  string `json:"issuer"`
			JWKSURI string `json:"jwks_uri"`
		}
		if err := s.get(ctx, strings.TrimSuffix(s.issuer, "/")+"/.well-known/openid-configuration", &document); err != nil {
			return nil, err
		}
		if document.Issuer != s.issuer {
			return nil, fmt.Errorf("the discovery document is that of %q", document.Issuer)
		}
		if err := checkIssuerURL(document.JWKSURI); err != nil {
			return nil, fmt.Errorf("jwks_uri of the discovery document: %w", err)
		}
		from = document.JWKSURI
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := s.get(ctx, from, &set); err != nil {
		return nil, err
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("the key set holds %d keys, at most %d", len(set.Keys), maxKeys)
	}
	var keys []jose.JSONWebKey
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		// RFC 7517 section 5: keys that are not understood are to be ignored.
		if k.UnmarshalJSON(raw) != nil || !k.Valid() || !k.IsPublic() || (k.Use != "" && k.Use != "sig") {
			continue
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, errors.New("the key set holds no public signing key")
	}
	return keys, nil
}

func (s *keySet) get(ctx context.Context, url string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	// Kubernetes serves its key set under its own type alone (RFC 7517 section 8.5.2)
	// and answers 406 where that is not asked for.
	request.Header.Set("Accept", "application/json, application/jwk-set+json")
	if s.token != nil {
		if request.URL.Scheme != "https" {
			return fmt.Errorf("GET %s: the token for it is sent over https only", url)
		}
		token, err := s.token()
		if err != nil {
			return fmt.Errorf("the token for it: %w", err)
		}
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := s.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		hint := ""
		if code := response.StatusCode; s.token == nil && (code == http.StatusUnauthorized || code == http.StatusForbidden) {
			hint = "; it asks for a token, such as token_file gives"
		}
		return fmt.Errorf("GET %s: %s%s", url, response.Status, hint)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxKeySetBody+1))
	if err != nil {
		return fmt.Errorf("GET %s: %w", url, err)
	}
	if len(body) > maxKeySetBody {
		return fmt.Errorf("GET %s: longer than %d bytes", url, maxKeySetBody)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("GET %s: %w", url, err)
	}
	return nil
}
