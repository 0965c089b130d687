package sandbox

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// principal is who holds a pair of keys.
type principal struct {
	credentials aws.Credentials
	arn         string
	userID      string
	roleARN     string // "" for users
	expires     time.Time
	chained     bool          // assumed with the credentials of another role
	federated   bool          // of GetFederationToken
	longest     time.Duration // console session that the role allows
}

// AddUser makes long-term keys for a new user of the account.
func (s *Server) AddUser(name string) aws.Credentials {
	p := principal{
		credentials: aws.Credentials{AccessKeyID: keyID("AKIA"), SecretAccessKey: secret(40), Source: "sandbox"},
		arn:         fmt.Sprintf("arn:aws:iam::%s:user/%s", s.options.Account, name),
		userID:      keyID("AIDA"),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[p.credentials.AccessKeyID] = p
	return p.credentials
}

// issue makes temporary credentials and remembers them until they expire.
func (s *Server) issue(p principal) (principal, error) {
	p.credentials = aws.Credentials{AccessKeyID: keyID("ASIA"), SecretAccessKey: secret(40), SessionToken: "IQoJb3JpZ2luX2Vj" + secret(360) + "==",
		CanExpire: true, Expires: p.expires, Source: "sandbox"}
	now := s.options.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.keys) >= maxCredentials {
		for id, old := range s.keys {
			if !old.expires.IsZero() && now.After(old.expires) {
				delete(s.keys, id)
			}
		}
		if len(s.keys) >= maxCredentials {
			return principal{}, &apiError{400, "Throttling", "the sandbox has given out too many credentials"}
		}
	}
	s.keys[p.credentials.AccessKeyID] = p
	return p, nil
}

// lookup finds the holder of a key and checks the session token given with it.
func (s *Server) lookup(id, token string, now time.Time) (principal, error) {
	s.mu.Lock()
	p, ok := s.keys[id]
	s.mu.Unlock()
	if !ok || subtle.ConstantTimeCompare([]byte(p.credentials.SessionToken), []byte(token)) != 1 {
		return principal{}, &apiError{403, "InvalidClientTokenId", "The security token included in the request is invalid."}
	}
	if !p.expires.IsZero() && !now.Before(p.expires) {
		return principal{}, &apiError{403, "ExpiredToken", "The security token included in the request is expired"}
	}
	return p, nil
}

func keyID(prefix string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	return prefix + letters(alphabet, 16)
}

func secret(n int) string {
	return base64.StdEncoding.EncodeToString(random(n))[:n]
}

func letters(alphabet string, n int) string {
	b := random(n)
	for i := range b {
		b[i] = alphabet[int(b[i])%len(alphabet)] // alphabets of 32 and 16 letters: no bias
	}
	return string(b)
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails, see crypto/rand
	return b
}

func (s *Server) requestID() string {
	b := random(16)
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
