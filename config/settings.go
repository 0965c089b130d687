package config

import "strings"

// Setting is one key of the configuration.
type Setting struct {
	// Key is its path: "*" stands for a name that the user chooses, "[]" for an
	// entry of a list.
	Key string
	// Type says what is expected, for people.
	Type string
	// Default is as it would be written in the file; "" is nothing: an empty
	// text, list or map, false or zero.
	Default string
	// Doc says what the key is for, in a sentence.
	Doc string
	// Required entries of a list or map cannot do without the key.
	Required bool

	check func(string) string // of a text or of each entry of a list; returns what is wrong, or ""
	path  pathRule
}

// pathRule says what must be true of a path.
type pathRule int

const (
	notPath    pathRule = iota
	anyPath             // need not exist
	filePath            // must be a file that can be read
	freshPath           // must be such a file, and is read at each use: others renew it
	secretPath          // must be such a file, and private
	auditPath           // "-" or a file in a directory that exists
)

// Settings returns every key with its default, in the order of the documentation.
// It is the one table that defaults come from.
func Settings() []Setting { return append([]Setting(nil), settings...) }

// EnvName returns the variable of a key; "" for keys of list entries, which are
// set with their whole list.
func (s Setting) EnvName() string {
	if strings.Contains(s.Key, "[]") {
		return ""
	}
	name := strings.ReplaceAll(s.Key, "*", "<NAME>")
	return envPrefix + strings.ToUpper(strings.ReplaceAll(name, ".", "_"))
}

// expected says in a message what the value should be.
func (s Setting) expected() string {
	switch {
	case strings.ContainsAny(s.Type, ",") || strings.Contains(s.Type, " or "):
		return s.Type
	case strings.ContainsAny(s.Type[:1], "aeio"):
		return "an " + s.Type
	}
	return "a " + s.Type
}

// expectedOne is expected for a single value, be it one of a list or map.
func (s Setting) expectedOne() string {
	for _, prefix := range []string{"list of ", "map of "} {
		if many, ok := strings.CutPrefix(s.Type, prefix); ok {
			s.Type = strings.TrimSuffix(many, "s")
		}
	}
	return s.expected()
}

const envPrefix = "COUNTERSIGN_"

var settings = []Setting{
	{Key: "listen", Type: "address", Default: "127.0.0.1:8800", check: checkAddress,
		Doc: "Address of the proxy, for HTTPS_PROXY. An address that is not loopback needs identities or issuers."},
	{Key: "proxy_authentication", Type: "none, tunnels or all", Default: "none", check: oneOf(AuthenticateNone, AuthenticateTunnels, AuthenticateAll), Required: true,
		Doc: "Who sends client credentials in Proxy-Authorization; none: nobody; tunnels: whoever connects to hosts that are not intercepted; all: everybody."},
	{Key: "endpoint.listen", Type: "address", check: checkAddress,
		Doc: "Address for AWS_ENDPOINT_URL mode, for clients that cannot use a proxy; empty: none."},
	{Key: "admin.listen", Type: "address", Default: "127.0.0.1:8801", check: checkAddress,
		Doc: "Address of metrics, health, credentials endpoint and console; empty: none."},
	{Key: "admin.hosts", Type: "list of host names", check: checkHostName,
		Doc: "Names that console and credentials endpoint answer to, beside loopback names and IP addresses."},
	{Key: "metrics.listen", Type: "address", check: checkAddress,
		Doc: "Address of metrics and health alone, for scrapers and kubelets elsewhere; empty: none."},
	{Key: "tls.cert_file", Type: "file", path: filePath,
		Doc: "Certificate chain (PEM) of the proxy's own listeners when they are not on loopback."},
	{Key: "tls.key_file", Type: "private file", path: secretPath,
		Doc: "Its private key (PEM)."},
	{Key: "tls.plaintext", Type: "boolean", Default: "false",
		Doc: "Admin and endpoint listeners, and a proxy listener with proxy_authentication, may be reached from elsewhere without TLS, because something in front of them provides it."},
	{Key: "state_dir", Type: "directory", Default: "~/.countersign", path: anyPath, Required: true,
		Doc: "Where CA and sealing key are kept; refused when others can read it or the group can write it."},
	{Key: "ca.dir", Type: "directory", path: anyPath,
		Doc: "Where the CA is kept; empty: ca in state_dir."},
	{Key: "ca.rotate_before", Type: "duration", Default: "720h",
		Doc: "How long before it expires the CA is due for rotation."},
	{Key: "sealing_keys", Type: "list of private files", path: secretPath,
		Doc: "Keys that seal session tokens: the first seals, all open; empty: one is made in state_dir."},
	{Key: "revocations", Type: "file", path: anyPath,
		Doc: "File of revoked credentials; empty: one in state_dir."},
	{Key: "source.profile", Type: "name", check: checkToken,
		Doc: "Profile of the AWS configuration files for the source credentials; empty: the SDK's default chain."},
	{Key: "source.region", Type: "region", Default: "us-east-1", check: checkRegion, Required: true,
		Doc: "Region for calls of the proxy's own."},
	{Key: "source.sts_region", Type: "region", check: checkRegion,
		Doc: "Region of the STS endpoint; empty: source.region."},

	{Key: "roles", Type: "map of roles",
		Doc: "The roles that identities can be given, by name."},
	{Key: "roles.*.arn", Type: "role ARN", check: checkRoleARN,
		Doc: "The AWS role; empty: the source credentials themselves."},
	{Key: "roles.*.via", Type: "role", check: checkName,
		Doc: "Another role of this file that is assumed first."},
	{Key: "roles.*.external_id", Type: "text", check: checkExternalID,
		Doc: "External id that the role's trust policy asks for."},
	{Key: "roles.*.duration", Type: "duration", Default: "1h",
		Doc: "Length of role sessions: 15m to 12h, at most 1h with via."},
	{Key: "roles.*.session_name", Type: "template", Default: "{{ .Identity.Name }}", check: checkIdentityTemplate, Required: true,
		Doc: "Role session name, as CloudTrail shows it."},
	{Key: "roles.*.source_identity", Type: "template", check: checkIdentityTemplate,
		Doc: "Source identity that is set on the session."},
	{Key: "roles.*.tags", Type: "map of templates", check: checkIdentityTemplate,
		Doc: "Session tags."},
	{Key: "roles.*.session_policy", Type: "file", path: filePath,
		Doc: "IAM policy that is sent to STS and enforced by AWS."},
	{Key: "roles.*.session_policy_arns", Type: "list of policy ARNs", check: checkPolicyARN,
		Doc: "Managed policies that are sent to STS and enforced by AWS, at most 10."},
	{Key: "roles.*.federation_policy", Type: "file", path: filePath,
		Doc: "For a role without arn: IAM policy with which the keys of an IAM user sign in to the console, by GetFederationToken."},
	{Key: "roles.*.federation_policy_arns", Type: "list of policy ARNs", check: checkPolicyARN,
		Doc: "The same by managed policies of AWS or of the user's account, at most 10."},
	{Key: "roles.*.federation_duration", Type: "duration",
		Doc: "Length of such console sessions: 15m to 36h, at most 1h with keys of the root user; 0: duration."},
	{Key: "roles.*.policies", Type: "list of files", path: filePath,
		Doc: "IAM policies that are enforced here; empty: the role is limited by AWS alone."},
	{Key: "roles.*.enforcement", Type: "enforce or report", Default: "enforce", check: oneOf(Enforce, Report), Required: true,
		Doc: "report: what the policies deny is recorded, but passes."},
	{Key: "roles.*.regions", Type: "list of regions", check: checkRegions,
		Doc: "Regions that may be called, such as eu-west-1 or us-*; empty: any."},
	{Key: "roles.*.services", Type: "list of services", check: checkService,
		Doc: "Services that may be called, as in IAM actions; empty: any."},
	{Key: "roles.*.read_only", Type: "boolean", Default: "false",
		Doc: "Only calls of the access levels List and Read."},
	{Key: "roles.*.assume", Type: "list of role ARN patterns", check: checkRolePattern,
		Doc: "Roles that a client's AssumeRole may chain from this one."},
	{Key: "roles.*.saml", Type: "identity", check: checkName,
		Doc: "Identity of this file that sessions of a client's AssumeRoleWithSAML for the role belong to; empty: such calls are refused."},
	{Key: "roles.*.client_session_name", Type: "keep or prefix", Default: "keep", check: oneOf(KeepName, PrefixName), Required: true,
		Doc: "What becomes of the session name that a client gives in AssumeRole."},
	{Key: "roles.*.labels", Type: "map of texts",
		Doc: "Labels to show and to filter by, such as aws_account_id and env."},

	{Key: "identities", Type: "map of identities",
		Doc: "Who may use the proxy, by name."},
	{Key: "identities.*.attributes", Type: "map of texts",
		Doc: "Attributes for templates, session tags and policies."},
	{Key: "identities.*.roles", Type: "list of roles", check: checkName, Required: true,
		Doc: "Roles that the identity may use; the first is its default."},
	{Key: "identities.*.boundary", Type: "file", path: filePath,
		Doc: "IAM policy that limits the identity under every role."},
	{Key: "identities.*.credentials", Type: "list of credentials",
		Doc: "Static client credentials of the identity."},
	{Key: "identities.*.credentials[].access_key_id", Type: "client key id", check: checkAccessKeyID, Required: true,
		Doc: "CSIG and 16 of A-Z and 2-7."},
	{Key: "identities.*.credentials[].secret_access_key_file", Type: "private file", path: secretPath, Required: true,
		Doc: "File that holds the secret."},
	{Key: "identities.*.credentials[].role", Type: "role", check: checkName,
		Doc: "Role that these credentials stand for; empty: the identity's default."},

	{Key: "issuers", Type: "list of issuers",
		Doc: "OIDC issuers whose tokens become identities."},
	{Key: "issuers[].url", Type: "https URL", check: checkHTTPS, Required: true,
		Doc: "Issuer, as in the iss claim."},
	{Key: "issuers[].jwks_url", Type: "https URL", check: checkHTTPS,
		Doc: "Where its keys are; empty: where its discovery document says."},
	{Key: "issuers[].ca_file", Type: "file", path: filePath,
		Doc: "Roots (PEM) to trust there; empty: the usual ones."},
	{Key: "issuers[].token_file", Type: "file", path: freshPath,
		Doc: "Bearer token by which its discovery document and keys are read, such as a Kubernetes service account's; read each time, needs ca_file."},
	{Key: "issuers[].audience", Type: "text or list", check: checkNotBlank, Required: true,
		Doc: "Audience that tokens must be for, or several of which one must fit."},
	{Key: "issuers[].match", Type: "map of patterns", check: checkNotBlank, Required: true,
		Doc: "Claims that a token must have (nested ones as /a/b), and patterns (with * and ?) of their values, one or a list of which one must fit."},
	{Key: "issuers[].identity", Type: "template", Default: "{{ .Claims.sub }}", check: checkClaimsTemplate, Required: true,
		Doc: "Name of the identity."},
	{Key: "issuers[].attributes", Type: "map of templates", check: checkClaimsTemplate,
		Doc: "Its attributes."},
	{Key: "issuers[].roles", Type: "list of roles or templates", check: checkClaimsTemplate, Required: true,
		Doc: "Its roles, by name or ARN; the first is the default."},

	{Key: "credential_calls", Type: "list of service:Operation", check: checkCall,
		Doc: "Calls that hand out AWS credentials and are let through all the same. Each one gives real keys to clients."},
	{Key: "console.oidc.issuer", Type: "https URL", check: checkHTTPS,
		Doc: "Which of the issuers people sign in with; empty: one-time links on loopback."},
	{Key: "console.oidc.client_id", Type: "text", check: checkNotBlank,
		Doc: "Client id at the issuer."},
	{Key: "console.oidc.client_secret_file", Type: "private file", path: secretPath,
		Doc: "File that holds the client secret; empty: a public client with PKCE alone."},
	{Key: "console.oidc.redirect_url", Type: "URL", check: checkRedirect,
		Doc: "Where the issuer sends people back to."},
	{Key: "console.oidc.scopes", Type: "list of scopes", Default: "openid,profile,email", check: checkToken,
		Doc: "Scopes to ask for."},
	{Key: "unsigned", Type: "deny, or list of rules", Default: "deny",
		Doc: "Requests that carry no signature."},
	{Key: "unsigned[].hosts", Type: "list of host patterns", check: checkHostPattern, Required: true,
		Doc: "Hosts that may be called without a signature."},
	{Key: "unsigned[].methods", Type: "list of methods", Default: "GET,HEAD", check: checkMethod,
		Doc: "Methods with which they may be called."},
	{Key: "hosts", Type: "list of hosts",
		Doc: "More hosts to sign for, beside those of the tables."},
	{Key: "hosts[].pattern", Type: "host pattern", check: checkHostPattern, Required: true,
		Doc: "A host, or *. and a suffix."},
	{Key: "hosts[].service", Type: "service", check: checkService, Required: true,
		Doc: "Signing name of the service there."},
	{Key: "hosts[].region", Type: "region", check: checkRegion,
		Doc: "Its region; empty: any."},
	{Key: "tunnel", Type: "public, none, or list of host patterns",
		Doc: "Hosts that are not AWS and are tunnelled. Default: public when listen is loopback, else none. Never loopback, private or metadata addresses."},
	{Key: "upstream.proxy", Type: "env, none, or URL", Default: "env", check: checkProxy, Required: true,
		Doc: "Proxy on the way to AWS; env: HTTPS_PROXY and NO_PROXY."},
	{Key: "upstream.override", Type: "list of overrides",
		Doc: "AWS-compatible servers: other addresses for some hosts; name, SNI and signature stay."},
	{Key: "upstream.override[].hosts", Type: "list of host patterns", check: checkAnyHostPattern, Required: true,
		Doc: "Which hosts; * is every one."},
	{Key: "upstream.override[].address", Type: "address", check: checkDialAddress, Required: true,
		Doc: "Host and port to connect to."},
	{Key: "upstream.override[].ca_file", Type: "file", path: filePath,
		Doc: "Roots (PEM) to trust there; empty: the usual ones."},
	{Key: "upstream.override[].tls", Type: "boolean", Default: "true",
		Doc: "Whether the server speaks TLS."},
	{Key: "audit.file", Type: "file", Default: "-", path: auditPath, Required: true,
		Doc: "Where audit lines go; -: standard output."},
	{Key: "audit.required", Type: "boolean", Default: "true",
		Doc: "Nothing is signed while the record cannot be written."},
	{Key: "audit.max_size", Type: "size", Default: "0",
		Doc: "Size at which the file is renamed and begun anew; 0: never."},
	{Key: "audit.backups", Type: "number", Default: "0",
		Doc: "How many renamed files are kept; 0: all."},

	{Key: "limits.body_buffer", Type: "size", Default: "80MiB",
		Doc: "Largest request body that is held in memory, where signature or policy need the whole."},
	{Key: "limits.body_buffer_sum", Type: "size", Default: "1GiB",
		Doc: "All bodies that are held at one time."},
	{Key: "limits.chunk", Type: "size", Default: "1MiB",
		Doc: "Largest signed chunk of an upload."},
	{Key: "limits.event", Type: "size", Default: "16MiB",
		Doc: "Largest signed event of an event stream."},
	{Key: "limits.header", Type: "size", Default: "128KiB",
		Doc: "Largest head of a request."},
	{Key: "limits.connections", Type: "number", Default: "10000",
		Doc: "Client connections of each listener at one time."},
	{Key: "limits.tunnels", Type: "number", Default: "1000",
		Doc: "Tunnels at one time."},
	{Key: "limits.certificates", Type: "number", Default: "4096",
		Doc: "Leaf certificates that are kept in memory."},
	{Key: "limits.sessions", Type: "number", Default: "10000",
		Doc: "Role sessions that are kept in memory."},
	{Key: "limits.header_timeout", Type: "duration", Default: "30s",
		Doc: "Time in which the head of a request must arrive."},
	{Key: "limits.body_timeout", Type: "duration", Default: "15m",
		Doc: "Longest pause of a client within a request body."},
	{Key: "limits.idle_timeout", Type: "duration", Default: "5m",
		Doc: "Time that a client connection without a request is kept open."},
	{Key: "limits.connect_timeout", Type: "duration", Default: "10s",
		Doc: "Time to connect to AWS or to a tunnelled host."},
	{Key: "limits.tls_timeout", Type: "duration", Default: "10s",
		Doc: "Time for a TLS handshake, with AWS and with clients."},
	{Key: "limits.response_timeout", Type: "duration", Default: "16m",
		Doc: "Time from the end of a request to the head of its response; Lambda takes up to 15 minutes."},
	{Key: "limits.tunnel_idle_timeout", Type: "duration", Default: "10m",
		Doc: "Time without a byte after which a tunnel is closed."},
	{Key: "limits.drain_timeout", Type: "duration", Default: "30s",
		Doc: "Time that requests under way have to end when the proxy stops."},
	{Key: "limits.drain_delay", Type: "duration", Default: "3s",
		Doc: "Time of it, half of it at most, in which clients are told to go elsewhere and none is turned away yet; on loopback, no longer than one is connected."},
	{Key: "log.level", Type: "debug, info, warn or error", Default: "info", check: oneOf("debug", "info", "warn", "error"), Required: true,
		Doc: "Least severity of log lines."},
	{Key: "log.format", Type: "json or console", Default: "json", check: oneOf("json", "console"), Required: true,
		Doc: "Form of log lines, on standard error."},
}

// byKey holds the table by key.
var byKey = func() map[string]*Setting {
	m := make(map[string]*Setting, len(settings))
	for i := range settings {
		m[settings[i].Key] = &settings[i]
	}
	return m
}()
