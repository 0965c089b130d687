package identity

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Password is the form that credentials have where there is room for a user name
// and a password only, as in the URL of a proxy. The user is the access key id.
// The password is the secret and, for credentials with a session token, a dot and
// the token behind it: a dot is no part of base64url, nor does it mean anything
// in a URL.
func (c Credentials) Password() string {
	if c.SessionToken == "" {
		return c.SecretAccessKey
	}
	return c.SecretAccessKey + "." + c.SessionToken
}

// Authenticate returns the grant that an access key id and a password, in the form
// of [Credentials.Password], stand for. Other than after Lookup the holder is
// proved. The secret is compared in constant time. Errors are of type *[Error].
func (s *Store) Authenticate(accessKeyID, password string, now time.Time) (Grant, error) {
	secret, token := password, ""
	// A static secret may hold anything, so only what is not static is taken apart.
	if _, static := s.static[accessKeyID]; !static {
		if dot := strings.LastIndex(password, "."+tokenPrefix); dot >= 0 {
			secret, token = password[:dot], password[dot+1:]
		}
	}
	grant, want, err := s.Lookup(accessKeyID, token, now)
	var refused *Error
	if errors.As(err, &refused) && refused.Reason == ReasonTokenMissing {
		return Grant{}, &Error{Reason: ReasonTokenMissing, AccessKeyID: refused.AccessKeyID,
			Message: fmt.Sprintf("The access key id %s belongs with a session token: its password is the secret, a dot, and the token.", refused.AccessKeyID)}
	}
	if err != nil {
		return Grant{}, err
	}
	// Digests have one length, whatever was sent.
	got, is := sha256.Sum256([]byte(secret)), sha256.Sum256([]byte(want))
	if subtle.ConstantTimeCompare(got[:], is[:]) != 1 {
		return Grant{}, &Error{Reason: ReasonPassword, AccessKeyID: Mask(accessKeyID), Message: fmt.Sprintf("The password is not the secret of %s.", Mask(accessKeyID))}
	}
	return grant, nil
}
