// Package identity tells from an access key id and a session token who signs a
// request, and mints client credentials: keys that are worth nothing outside
// this proxy.
//
// There are two kinds. Static pairs come from the configuration and are looked
// up in a table. Minted credentials are stateless: their session token is an
// AEAD-sealed record of who holds them, under which role and until when, and
// both the access key id and the secret are derived from the sealing key and
// the token's nonce. Nothing is stored, so every process that holds the sealing
// key verifies them, before and after a restart.
//
// Traps:
//   - Lookup proves only that the token is ours. Whoever presents it has proved
//     nothing until the request's signature was verified with the returned secret.
//   - A token is not secret in the way that the secret is (it travels in every
//     request), but it may carry a sealed role session: never log it.
//   - What the configuration says of an identity wins over what its tokens say.
//     An identity or role grant that was taken out of the configuration takes
//     its tokens with it.
//   - When the revocations cannot be read, nobody is known: see [Revocations].
package identity

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// Limits of what a grant may hold. A session token is at most [MaxTokenLength]
// characters however it is filled.
const (
	MaxNameLength        = 256  // bytes of an identity, role, boundary or issuer name
	MaxAttributes        = 64   // attributes of an identity
	MaxAttributeKey      = 128  // bytes of an attribute's name
	MaxAttributeValue    = 1024 // bytes of an attribute's value
	MaxRoles             = 256  // roles of an identity
	MaxParents           = 16   // links of a chain of virtual sessions
	MaxTokenLength       = 8192 // characters of a session token
	DefaultMaxLifetime   = 36 * time.Hour
	maxClockDisagreement = 5 * time.Minute
)

// Identity is who holds client credentials.
type Identity struct {
	Name       string
	Attributes map[string]string
	Roles      []string // names of configured roles; the first one is the default
	Boundary   string   // name of the policy that intersects with every role's; "" for none
	Issuer     string   // OIDC issuer that vouched for the identity; "" when it is configured
}

// HasRole says whether the identity may use the configured role of that name.
func (i Identity) HasRole(role string) bool { return slices.Contains(i.Roles, role) }

func (i Identity) clone() Identity {
	i.Attributes = maps.Clone(i.Attributes)
	i.Roles = slices.Clone(i.Roles)
	return i
}

// Grant is what client credentials stand for.
type Grant struct {
	Identity    Identity
	Role        string // configured role in force
	AccessKeyID string
	// Issued (cut to milliseconds) and Expires (to seconds) are zero for static
	// credentials.
	Issued, Expires time.Time
	// Parents are the access key ids that the credentials were derived from,
	// oldest first. Revoking one of them revokes these credentials too.
	Parents []string
	// Session is opaque to this package: what a virtual session needs to be made
	// again. Nil for credentials that stand for the role itself.
	Session []byte
}

// Static says whether the grant comes from the configuration.
func (g Grant) Static() bool { return g.Expires.IsZero() }

// Credentials are client credentials as a program uses them.
type Credentials struct {
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string    // "" for a static pair
	Expires         time.Time // zero: never
}

// String names the credentials without their secrets.
func (c Credentials) String() string { return "client credentials " + Mask(c.AccessKeyID) }

// GoString keeps %#v from printing the secrets.
func (c Credentials) GoString() string { return c.String() }

// keyPrefix begins every access key id that is made here.
const keyPrefix = "CSIG"

// idLength is the length of an access key id made here: the prefix and 16 of A-Z2-7.
const idLength = len(keyPrefix) + 16

// isClientKeyID says whether id has the form of the ids that are made here.
func isClientKeyID(id string) bool {
	if len(id) != idLength || !strings.HasPrefix(id, keyPrefix) {
		return false
	}
	for _, c := range []byte(id[len(keyPrefix):]) {
		if (c < 'A' || c > 'Z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}

// IsRealKeyID says whether id looks like an access key id that AWS issued:
// AKIA (users), ASIA (sessions), ABIA (bearer tokens), ACCA (context-specific)
// and the A3T… keys of early accounts. See "Unique identifiers" in the IAM user guide.
func IsRealKeyID(id string) bool {
	if len(id) < 16 || len(id) > 128 {
		return false
	}
	upper := strings.ToUpper(id)
	for _, c := range []byte(upper) {
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	switch upper[:4] {
	case "AKIA", "ASIA", "ABIA", "ACCA":
		return true
	}
	return strings.HasPrefix(upper, "A3T")
}

// Mask shortens an access key id for messages and logs: ids of client credentials
// stay whole, of any other id the first and last four characters remain.
func Mask(accessKeyID string) string {
	if isClientKeyID(accessKeyID) {
		return accessKeyID
	}
	id := strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '?'
		}
		return r
	}, accessKeyID)
	switch {
	case len(id) >= 16:
		return id[:4] + "…" + id[len(id)-4:]
	case len(id) > 4:
		return id[:4] + "…"
	default:
		return id
	}
}
