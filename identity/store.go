package identity

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Static is a pair of client credentials from the configuration.
type Static struct {
	AccessKeyID     string
	SecretAccessKey string
	Identity        string // name of one of Options.Identities
	Role            string // one of the identity's roles; "" is its first one
}

// String names the pair without its secret.
func (s Static) String() string { return "static credentials " + Mask(s.AccessKeyID) }

// GoString keeps %#v from printing the secret.
func (s Static) GoString() string { return s.String() }

// Options say who is known. The zero value knows nobody and mints nothing.
type Options struct {
	Identities []Identity
	Static     []Static
	// SealingKeys: the first one seals, all of them open. Without any, no
	// credentials are minted and no session token is accepted.
	SealingKeys []SealingKey
	Revocations *Revocations  // nil: nothing is revoked
	Issuers     []*Issuer     // OIDC issuers whose tokens become identities
	MaxLifetime time.Duration // of minted credentials; 0 is DefaultMaxLifetime
	Now         func() time.Time
	Rand        io.Reader // nil is crypto/rand
}

// Store knows who holds which client credentials. It is immutable but for the
// revocations that it reads, and safe for concurrent use. A new configuration
// makes a new Store.
type Store struct {
	identities  map[string]Identity
	static      map[string]Static
	seal        *sealer
	sealers     map[[keyIDSize]byte]*sealer
	revocations *Revocations
	issuers     map[string]*Issuer // by issuer URL
	maxLifetime time.Duration
	now         func() time.Time
	rand        io.Reader
}

// accessKeyPattern is the form that AWS's own APIs demand of access key ids.
var accessKeyPattern = regexp.MustCompile(`^\w{16,128}$`)

// MinSecretLength is the least number of characters of a static secret. A shorter
// one could be found by trying: one signature is enough to test guesses against.
const MinSecretLength = 20

// New checks the options and returns a Store. Its errors name the identity or
// access key id and what was expected.
func New(opt Options) (*Store, error) {
	s := &Store{
		identities:  make(map[string]Identity, len(opt.Identities)),
		static:      make(map[string]Static, len(opt.Static)),
		sealers:     make(map[[keyIDSize]byte]*sealer, len(opt.SealingKeys)),
		issuers:     make(map[string]*Issuer, len(opt.Issuers)),
		revocations: opt.Revocations,
		maxLifetime: opt.MaxLifetime,
		now:         opt.Now,
		rand:        opt.Rand,
	}
	if s.maxLifetime <= 0 {
		s.maxLifetime = DefaultMaxLifetime
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.rand == nil {
		s.rand = rand.Reader
	}
	for _, id := range opt.Identities {
		if err := checkIdentity(id); err != nil {
			return nil, err
		}
		if id.Issuer != "" {
			return nil, fmt.Errorf("identity: %q: a configured identity has no issuer", id.Name)
		}
		if _, twice := s.identities[id.Name]; twice {
			return nil, fmt.Errorf("identity: %q is configured twice", id.Name)
		}
		s.identities[id.Name] = id.clone()
	}
	for _, c := range opt.Static {
		if err := s.addStatic(c); err != nil {
			return nil, err
		}
	}
	for _, k := range opt.SealingKeys {
		sealer, err := newSealer(k.secret)
		if err != nil {
			return nil, fmt.Errorf("identity: %s: %w", k, err)
		}
		if s.seal == nil {
			s.seal = sealer
		}
		if _, twice := s.sealers[sealer.id]; twice {
			return nil, fmt.Errorf("identity: the %s is listed twice", k)
		}
		s.sealers[sealer.id] = sealer
	}
	for _, issuer := range opt.Issuers {
		if _, twice := s.issuers[issuer.URL()]; twice {
			return nil, fmt.Errorf("identity: the issuer %s is configured twice", issuer.URL())
		}
		s.issuers[issuer.URL()] = issuer
	}
	return s, nil
}

func (s *Store) addStatic(c Static) error {
	if IsRealKeyID(c.AccessKeyID) {
		return fmt.Errorf("identity: %s looks like an access key id that AWS issued; client credentials must not be real keys: choose an id like %s", Mask(c.AccessKeyID), keyPrefix+strings.Repeat("A", 16))
	}
	if !accessKeyPattern.MatchString(c.AccessKeyID) {
		return fmt.Errorf("identity: access key id %s: expected 16 to 128 letters, digits or underscores", Mask(c.AccessKeyID))
	}
	if len(c.SecretAccessKey) < MinSecretLength {
		return fmt.Errorf("identity: the secret of %s has %d characters, expected at least %d", Mask(c.AccessKeyID), len(c.SecretAccessKey), MinSecretLength)
	}
	if strings.TrimSpace(c.SecretAccessKey) != c.SecretAccessKey {
		return fmt.Errorf("identity: the secret of %s begins or ends with white space", Mask(c.AccessKeyID))
	}
	id, ok := s.identities[c.Identity]
	if !ok {
		return fmt.Errorf("identity: %s belongs to the identity %q, which is not configured", Mask(c.AccessKeyID), c.Identity)
	}
	if c.Role == "" && len(id.Roles) > 0 {
		c.Role = id.Roles[0]
	}
	if !id.HasRole(c.Role) {
		return fmt.Errorf("identity: %s: the identity %q has no role %q", Mask(c.AccessKeyID), id.Name, c.Role)
	}
	if _, twice := s.static[c.AccessKeyID]; twice {
		return fmt.Errorf("identity: the access key id %s is configured twice", Mask(c.AccessKeyID))
	}
	s.static[c.AccessKeyID] = c
	return nil
}

// checkIdentity holds the limits that a session token relies on.
func checkIdentity(id Identity) error {
	if id.Name == "" {
		return errors.New("identity: an identity needs a name")
	}
	if len(id.Name) > MaxNameLength || strings.ContainsFunc(id.Name, isControl) {
		return fmt.Errorf("identity: %.40q: a name has at most %d bytes and no control characters", id.Name, MaxNameLength)
	}
	if len(id.Boundary) > MaxNameLength || len(id.Issuer) > MaxNameLength {
		return fmt.Errorf("identity: %q: boundary and issuer have at most %d bytes", id.Name, MaxNameLength)
	}
	if len(id.Roles) > MaxRoles {
		return fmt.Errorf("identity: %q has %d roles, at most %d", id.Name, len(id.Roles), MaxRoles)
	}
	for _, r := range id.Roles {
		if r == "" || len(r) > MaxNameLength {
			return fmt.Errorf("identity: %q: the role name %.40q is empty or longer than %d bytes", id.Name, r, MaxNameLength)
		}
	}
	if len(id.Attributes) > MaxAttributes {
		return fmt.Errorf("identity: %q has %d attributes, at most %d", id.Name, len(id.Attributes), MaxAttributes)
	}
	for k, v := range id.Attributes {
		if k == "" || len(k) > MaxAttributeKey || len(v) > MaxAttributeValue {
			return fmt.Errorf("identity: %q: attribute %.40q: names have 1 to %d bytes, values at most %d", id.Name, k, MaxAttributeKey, MaxAttributeValue)
		}
	}
	return nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// Identities returns the configured identities, sorted by name.
func (s *Store) Identities() []Identity {
	out := make([]Identity, 0, len(s.identities))
	for _, name := range slices.Sorted(maps.Keys(s.identities)) {
		out = append(out, s.identities[name].clone())
	}
	return out
}

// Ready says whether lookups can succeed: nil, or why the revocations cannot be read.
func (s *Store) Ready() error { return s.revocations.ready(s.now()) }

// NewPair makes a fresh static pair for an identity, such as the private one of
// a child process. The caller registers it through Options.Static.
func NewPair(random io.Reader, identity, role string) (Static, error) {
	if random == nil {
		random = rand.Reader
	}
	b := make([]byte, 10+25)
	if _, err := io.ReadFull(random, b); err != nil {
		return Static{}, fmt.Errorf("identity: no randomness for a key pair: %w", err)
	}
	return Static{
		AccessKeyID:     keyPrefix + base32Alphabet.EncodeToString(b[:10]),
		SecretAccessKey: strings.ToLower(base32Alphabet.EncodeToString(b[10:])),
		Identity:        identity,
		Role:            role,
	}, nil
}

// Mint makes client credentials for a grant. Identity, Role and Expires must be
// set, Issued and AccessKeyID are chosen here. A grant to a configured identity
// carries its name only, and the attributes that the configuration does not set;
// what it may do is read from the configuration whenever the credentials are
// used. Expires is cut to whole seconds.
func (s *Store) Mint(g Grant) (Credentials, error) {
	if s.seal == nil {
		return Credentials{}, errors.New("identity: no sealing key, so no credentials can be minted: set sealing_keys or state_dir")
	}
	now := s.now().UTC().Truncate(time.Millisecond)
	g.Issued, g.Expires = now, g.Expires.UTC().Truncate(time.Second)
	if !g.Expires.After(now) {
		return Credentials{}, fmt.Errorf("identity: the grant to %q ends before it begins", g.Identity.Name)
	}
	if g.Expires.Sub(now) > s.maxLifetime {
		return Credentials{}, fmt.Errorf("identity: the grant to %q lasts %s, at most %s", g.Identity.Name, g.Expires.Sub(now), s.maxLifetime)
	}
	if err := checkIdentity(g.Identity); err != nil {
		return Credentials{}, err
	}
	if len(g.Role) > MaxNameLength || len(g.Parents) > MaxParents {
		return Credentials{}, fmt.Errorf("identity: the grant to %q: role name over %d bytes, or more than %d sessions chained", g.Identity.Name, MaxNameLength, MaxParents)
	}
	for _, p := range g.Parents {
		if len(p) > MaxNameLength {
			return Credentials{}, fmt.Errorf("identity: the grant to %q: access key id over %d bytes", g.Identity.Name, MaxNameLength)
		}
	}
	current, err := s.current(g.Identity)
	if err != nil {
		return Credentials{}, err
	}
	if !current.HasRole(g.Role) {
		return Credentials{}, fmt.Errorf("identity: %q has no role %q; its roles are %s", g.Identity.Name, g.Role, quoted(current.Roles))
	}
	if g.Identity.Issuer == "" {
		g.Identity.Roles, g.Identity.Boundary = nil, ""
		g.Identity.Attributes = maps.Clone(g.Identity.Attributes)
		for k := range s.identities[g.Identity.Name].Attributes {
			delete(g.Identity.Attributes, k)
		}
	}
	c, err := s.seal.seal(s.rand, appendRecord(nil, g))
	if err != nil {
		return Credentials{}, err
	}
	c.Expires = g.Expires
	return c, nil
}

func quoted(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = fmt.Sprintf("%q", s)
	}
	return strings.Join(out, ", ")
}

// current is the identity as the configuration has it now: roles and boundary of
// a configured identity are the configuration's, and so are the attributes that
// it sets. What an issuer vouched for stays as it was vouched for, as long as the
// issuer is configured.
func (s *Store) current(id Identity) (Identity, error) {
	if id.Issuer != "" {
		if s.issuers[id.Issuer] == nil {
			return Identity{}, fmt.Errorf("the issuer %s, which vouched for %q, is no longer configured", id.Issuer, id.Name)
		}
		return id, nil
	}
	configured, ok := s.identities[id.Name]
	if !ok {
		return Identity{}, fmt.Errorf("the identity %q is not configured", id.Name)
	}
	configured = configured.clone()
	for k, v := range id.Attributes {
		if _, set := configured.Attributes[k]; !set {
			if configured.Attributes == nil {
				configured.Attributes = make(map[string]string, len(id.Attributes))
			}
			configured.Attributes[k] = v
		}
	}
	return configured, nil
}

// Lookup returns the grant that an access key id and session token ("" for none)
// stand for, and the secret to verify the request's signature with. Errors are of
// type *[Error]. Nothing is proved about the sender before that verification.
func (s *Store) Lookup(accessKeyID, sessionToken string, now time.Time) (Grant, string, error) {
	if err := s.revocations.ready(now); err != nil {
		return Grant{}, "", &Error{Reason: ReasonUnavailable, AccessKeyID: Mask(accessKeyID), Message: "No credentials are accepted: " + err.Error() + "."}
	}
	if c, ok := s.static[accessKeyID]; ok {
		return s.lookupStatic(c, sessionToken)
	}
	refuse := func(r Reason, message string) (Grant, string, error) {
		return Grant{}, "", &Error{Reason: r, AccessKeyID: Mask(accessKeyID), Message: message}
	}
	switch {
	case IsRealKeyID(accessKeyID):
		return refuse(ReasonRealKey, fmt.Sprintf("The access key id %s looks like one that AWS issued. A real key should not be where this program runs: remove it there, and use the credentials that countersign handed out.", Mask(accessKeyID)))
	case !isClientKeyID(accessKeyID):
		return refuse(ReasonUnknownKey, fmt.Sprintf("The access key id %s is not known to this proxy.", Mask(accessKeyID)))
	case sessionToken == "":
		return refuse(ReasonTokenMissing, fmt.Sprintf("The access key id %s is not known to this proxy without a session token: set AWS_SESSION_TOKEN together with the key.", Mask(accessKeyID)))
	}
	record, secret, err := open(s.sealers, accessKeyID, sessionToken)
	if err != nil {
		return refuse(ReasonBadToken, "The session token is not valid with this access key id at this proxy.")
	}
	g, ok := parseRecord(record)
	if !ok {
		return refuse(ReasonBadToken, "The session token was made by a version of countersign that this one does not understand.")
	}
	g.AccessKeyID = accessKeyID
	return s.admit(g, secret, now)
}

// admit holds an authentic grant against clock, revocations and configuration.
func (s *Store) admit(g Grant, secret string, now time.Time) (Grant, string, error) {
	refuse := func(r Reason, format string, args ...any) (Grant, string, error) {
		return Grant{}, "", &Error{Reason: r, AccessKeyID: g.AccessKeyID, Identity: g.Identity.Name, Message: fmt.Sprintf(format, args...)}
	}
	if !now.Before(g.Expires) {
		return refuse(ReasonExpired, "The credentials %s of %q expired at %s.", g.AccessKeyID, g.Identity.Name, g.Expires.Format(time.RFC3339))
	}
	if g.Issued.Sub(now) > maxClockDisagreement {
		return refuse(ReasonBadToken, "The session token was issued at %s, which is in the future here: the clocks of the proxies disagree.", g.Issued.Format(time.RFC3339))
	}
	if s.revocations.revoked(g) {
		return refuse(ReasonRevoked, "The credentials %s of %q were revoked.", g.AccessKeyID, g.Identity.Name)
	}
	current, err := s.current(g.Identity)
	if err != nil {
		return refuse(ReasonRevoked, "The credentials %s are no longer valid: %s.", g.AccessKeyID, err)
	}
	if !current.HasRole(g.Role) {
		return refuse(ReasonRevoked, "The credentials %s are no longer valid: %q has no role %q any more.", g.AccessKeyID, current.Name, g.Role)
	}
	g.Identity = current
	return g, secret, nil
}

func (s *Store) lookupStatic(c Static, sessionToken string) (Grant, string, error) {
	g := Grant{Identity: s.identities[c.Identity].clone(), Role: c.Role, AccessKeyID: c.AccessKeyID}
	if sessionToken != "" {
		return Grant{}, "", &Error{Reason: ReasonTokenUnexpected, AccessKeyID: Mask(c.AccessKeyID), Identity: c.Identity,
			Message: fmt.Sprintf("The access key id %s belongs to static credentials, which have no session token: unset AWS_SESSION_TOKEN.", Mask(c.AccessKeyID))}
	}
	if s.revocations.revoked(g) {
		return Grant{}, "", &Error{Reason: ReasonRevoked, AccessKeyID: Mask(c.AccessKeyID), Identity: c.Identity,
			Message: fmt.Sprintf("The credentials %s of %q were revoked.", Mask(c.AccessKeyID), c.Identity)}
	}
	return g, c.SecretAccessKey, nil
}

// MaxLifetime is how long minted credentials may last.
func (s *Store) MaxLifetime() time.Duration { return s.maxLifetime }

// RolesOf returns the roles of a configured identity; nil for any other.
func (s *Store) RolesOf(name string) []string { return slices.Clone(s.identities[name].Roles) }
