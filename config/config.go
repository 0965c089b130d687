// Package config reads the configuration: one file, the environment and flags
// become one validated Config, or a list of everything that is wrong with them.
//
// The layers (defaults, file, environment, flags) are put in order by viper.
// What passes through it are nodes of the parsed file and not plain values,
// because viper folds the case of keys below maps, which would rename roles,
// tags and attributes, and because a value that has forgotten its line cannot
// be complained about. So every message names file, line, column and key, or
// the variable.
//
// The traps: a key that is unknown, given twice, left empty or misspelt is an
// error and never ignored, since each might be the one that was to restrict
// something; all problems are reported, not the first; and a Config is never
// changed after Load, so a reload is a whole new one or an error.
package config

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Config is a whole valid configuration. Paths in it are absolute. Lists and
// maps that are empty are nil. It must not be changed.
type Config struct {
	// Path is the file that was read, absolute; "" when there was none.
	Path string

	Listen          string              `key:"listen"`
	ProxyAuth       string              `key:"proxy_authentication"`
	Endpoint        Endpoint            `key:"endpoint"`
	Admin           Admin               `key:"admin"`
	Metrics         Metrics             `key:"metrics"`
	TLS             TLS                 `key:"tls"`
	StateDir        string              `key:"state_dir"`
	CA              CA                  `key:"ca"`
	SealingKeys     []string            `key:"sealing_keys"`
	Revocations     string              `key:"revocations"`
	Source          Source              `key:"source"`
	Roles           map[string]Role     `key:"roles"`
	Identities      map[string]Identity `key:"identities"`
	Issuers         []Issuer            `key:"issuers"`
	CredentialCalls []string            `key:"credential_calls"`
	Console         Console             `key:"console"`
	Unsigned        []Unsigned          `key:"unsigned"` // nil: deny
	Hosts           []Host              `key:"hosts"`
	Tunnel          Tunnel              `key:"tunnel"`
	Upstream        Upstream            `key:"upstream"`
	Audit           Audit               `key:"audit"`
	Limits          Limits              `key:"limits"`
	Log             Log                 `key:"log"`

	roleOrder []string
	blank     bool
	files     []string
}

// Who sends client credentials in Proxy-Authorization.
const (
	AuthenticateNone    = "none"
	AuthenticateTunnels = "tunnels" // whoever wants something else than an intercepted host, whose requests are signed
	AuthenticateAll     = "all"
)

// Endpoint is the listener of AWS_ENDPOINT_URL mode.
type Endpoint struct {
	Listen string `key:"listen"` // "": none
}

// Admin is the listener of metrics, health, credentials endpoint and console.
type Admin struct {
	Listen string   `key:"listen"` // "": none
	Hosts  []string `key:"hosts"`  // names that console and credentials endpoint answer to, beside loopback and IP addresses
}

// Metrics is the listener of metrics and health alone.
type Metrics struct {
	Listen string `key:"listen"` // "": none
}

// TLS is the certificate of the proxy's own listeners.
type TLS struct {
	CertFile  string `key:"cert_file"`
	KeyFile   string `key:"key_file"`
	Plaintext bool   `key:"plaintext"` // TLS ends somewhere else, such as in a service mesh
}

// Enabled reports whether a certificate is configured.
func (t TLS) Enabled() bool { return t.CertFile != "" }

// CA says where the local CA lives.
type CA struct {
	Dir          string        `key:"dir"` // default: ca in the state directory
	RotateBefore time.Duration `key:"rotate_before"`
}

// Source says which AWS credentials of its own the proxy uses.
type Source struct {
	Profile   string `key:"profile"`
	Region    string `key:"region"`
	STSRegion string `key:"sts_region"` // "": Region
}

// What becomes of the calls that a role's policies deny.
const (
	Enforce = "enforce"
	Report  = "report"
)

// What becomes of the session name that a client gives in AssumeRole.
const (
	KeepName   = "keep"
	PrefixName = "prefix"
)

// Role is an AWS role, or the source credentials themselves, and what goes with it.
type Role struct {
	ARN               string            `key:"arn"` // "": the source credentials themselves
	Via               string            `key:"via"` // role to assume first; "": none
	ExternalID        string            `key:"external_id"`
	Duration          time.Duration     `key:"duration"`
	SessionName       string            `key:"session_name"`    // template
	SourceIdentity    string            `key:"source_identity"` // template; "": none
	Tags              map[string]string `key:"tags"`            // values are templates
	SessionPolicy     string            `key:"session_policy"`  // file; "": none
	SessionPolicyARNs []string          `key:"session_policy_arns"`
	// FederationPolicy and what follows ask for GetFederationToken, for the console.
	FederationPolicy     string            `key:"federation_policy"` // file; "": none
	FederationPolicyARNs []string          `key:"federation_policy_arns"`
	FederationDuration   time.Duration     `key:"federation_duration"` // 0: Duration
	Policies             []string          `key:"policies"`            // files
	Enforcement          string            `key:"enforcement"`
	Regions              []string          `key:"regions"`  // nil: any
	Services             []string          `key:"services"` // nil: any
	ReadOnly             bool              `key:"read_only"`
	Assume               []string          `key:"assume"` // ARN patterns
	SAML                 string            `key:"saml"`   // identity; "": AssumeRoleWithSAML is refused
	ClientSessionName    string            `key:"client_session_name"`
	Labels               map[string]string `key:"labels"`
}

// Federated says whether console sign-ins of the role are to use GetFederationToken.
func (r Role) Federated() bool {
	return r.FederationPolicy != "" || len(r.FederationPolicyARNs) > 0 || r.FederationDuration > 0
}

// Identity is a holder of client credentials.
type Identity struct {
	Attributes  map[string]string `key:"attributes"`
	Roles       []string          `key:"roles"`    // the first is the default
	Boundary    string            `key:"boundary"` // file; "": none
	Credentials []Credential      `key:"credentials"`
}

// Credential is a static pair of client credentials.
type Credential struct {
	AccessKeyID         string `key:"access_key_id"`
	SecretAccessKeyFile string `key:"secret_access_key_file"` // see safefile.ReadSecret
	Role                string `key:"role"`                   // default: the identity's first role
}

// Issuer turns OIDC tokens into identities.
type Issuer struct {
	URL        string             `key:"url"`
	JWKSURL    string             `key:"jwks_url"`   // "": by discovery
	CAFile     string             `key:"ca_file"`    // "": the usual roots
	TokenFile  string             `key:"token_file"` // see safefile.ReadToken; "": none
	Audience   Strings            `key:"audience"`
	Match      map[string]Strings `key:"match"`      // claim: patterns, one of which must match
	Identity   string             `key:"identity"`   // template
	Attributes map[string]string  `key:"attributes"` // values are templates
	Roles      []string           `key:"roles"`      // names or templates
}

// Console configures signing in to the AWS console.
type Console struct {
	OIDC OIDC `key:"oidc"`
}

// OIDC is how people prove to the console page who they are.
type OIDC struct {
	Issuer           string   `key:"issuer"` // url of one of the issuers; "": one-time links on loopback
	ClientID         string   `key:"client_id"`
	ClientSecretFile string   `key:"client_secret_file"` // "": a public client
	RedirectURL      string   `key:"redirect_url"`
	Scopes           []string `key:"scopes"`
}

// Unsigned lets requests without a signature through to some hosts.
type Unsigned struct {
	Hosts   []string `key:"hosts"` // patterns
	Methods []string `key:"methods"`
}

// Host is a host to sign for although the tables do not know it.
type Host struct {
	Pattern string `key:"pattern"`
	Service string `key:"service"`
	Region  string `key:"region"` // "": that of the client's signature
}

// Modes of Tunnel.
const (
	TunnelPublic = "public"
	TunnelNone   = "none"
	TunnelList   = "list" // Patterns says which
)

// Tunnel says which hosts that are not AWS are tunnelled.
type Tunnel struct {
	Mode     string
	Patterns []string // host patterns and addresses; only with TunnelList
}

// Upstream is the way out.
type Upstream struct {
	Proxy    string     `key:"proxy"` // env, none, or a URL
	Override []Override `key:"override"`
}

// Override sends connections for some hosts to another address. Host name, SNI
// and signature stay those of AWS.
type Override struct {
	Hosts   []string `key:"hosts"` // patterns; "*" is every host
	Address string   `key:"address"`
	CAFile  string   `key:"ca_file"` // "": the usual roots
	TLS     bool     `key:"tls"`
}

// Audit is the record of requests.
type Audit struct {
	File     string `key:"file"` // "-": standard output
	Required bool   `key:"required"`
	MaxSize  Size   `key:"max_size"` // 0: never rotate
	Backups  int    `key:"backups"`  // 0: keep all
}

// Limits bounds what clients can make the proxy hold.
type Limits struct {
	BodyBuffer        Size          `key:"body_buffer"`
	BodyBufferSum     Size          `key:"body_buffer_sum"`
	Chunk             Size          `key:"chunk"`
	Event             Size          `key:"event"`
	Header            Size          `key:"header"`
	Connections       int           `key:"connections"`
	Tunnels           int           `key:"tunnels"`
	Certificates      int           `key:"certificates"`
	Sessions          int           `key:"sessions"`
	HeaderTimeout     time.Duration `key:"header_timeout"`
	BodyTimeout       time.Duration `key:"body_timeout"`
	IdleTimeout       time.Duration `key:"idle_timeout"`
	ConnectTimeout    time.Duration `key:"connect_timeout"`
	TLSTimeout        time.Duration `key:"tls_timeout"`
	ResponseTimeout   time.Duration `key:"response_timeout"`
	TunnelIdleTimeout time.Duration `key:"tunnel_idle_timeout"`
	DrainTimeout      time.Duration `key:"drain_timeout"`
	DrainDelay        time.Duration `key:"drain_delay"`
}

// Log is the log for people, on standard error.
type Log struct {
	Level  string `key:"level"`
	Format string `key:"format"`
}

// RoleNames returns the names of the roles in the order in which the file has them.
func (c *Config) RoleNames() []string { return slices.Clone(c.roleOrder) }

// Blank reports whether the file that was read holds not one byte. That is a
// configuration, the one of all defaults; but a file is in this state for a moment
// when it is written in place.
func (c *Config) Blank() bool { return c.blank }

// Files returns every file that Load read or that the configuration refers to,
// sorted: a change of any of them is a reason to load again.
func (c *Config) Files() []string { return slices.Clone(c.files) }

// LoopbackAddress reports whether a listener at addr can be reached from this
// machine alone. A name other than localhost is not taken to be loopback.
func LoopbackAddress(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// MatchHost reports whether a host name, in lower case and without port or
// final dot, fits a host pattern: a leading "*." stands for one or more labels,
// "*" alone for every host, anything else for itself.
func MatchHost(pattern, host string) bool {
	if pattern == "*" {
		return true
	}
	if suffix, ok := strings.CutPrefix(pattern, "*"); ok {
		return len(host) > len(suffix) && strings.HasSuffix(host, suffix)
	}
	return pattern == host
}
