package config

import (
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/countersign-proxy/countersign/words"
)

// consoleCallback is the path of the admin listener that an issuer sends people
// back to.
const consoleCallback = "/console/callback"

// defaults fills in what depends on other settings.
func (d *decoder) defaults(c *Config) {
	if c.Tunnel.Mode == "" {
		c.Tunnel.Mode = TunnelNone
		if LoopbackAddress(c.Listen) {
			c.Tunnel.Mode = TunnelPublic
		}
	}
	if c.CA.Dir == "" && c.StateDir != "" {
		c.CA.Dir = filepath.Join(c.StateDir, "ca")
	}
	if c.Revocations == "" && c.StateDir != "" {
		c.Revocations = filepath.Join(c.StateDir, "revocations")
	}
	if c.Revocations != "" {
		d.files = append(d.files, c.Revocations)
	}
	if c.Source.STSRegion == "" {
		c.Source.STSRegion = c.Source.Region
	}
	for name, id := range c.Identities {
		for i := range id.Credentials {
			if id.Credentials[i].Role == "" && len(id.Roles) > 0 {
				id.Credentials[i].Role = id.Roles[0]
			}
		}
		c.Identities[name] = id
	}
}

// check finds what is wrong between settings that are right by themselves.
func (d *decoder) check(c *Config) {
	d.checkListeners(c)
	d.checkRoles(c)
	d.checkIdentities(c)
	d.checkIssuers(c)
	d.checkUpstream(c)
	d.checkLimits(c)
}

func (d *decoder) checkListeners(c *Config) {
	if c.Listen == "" && c.Endpoint.Listen == "" {
		d.problem("listen", "neither listen nor endpoint.listen is set; expected an address for at least one")
	}
	open := func(addr string) bool { return addr != "" && !LoopbackAddress(addr) }
	// The identity "local" stands for whoever can reach a loopback port. From
	// elsewhere everybody could.
	if len(c.Identities) == 0 && len(c.Issuers) == 0 && !d.wrong("identities") && !d.wrong("issuers") {
		for key, addr := range map[string]string{"listen": c.Listen, "endpoint.listen": c.Endpoint.Listen} {
			if open(addr) {
				d.problem(key, "%s is not loopback, so others can reach it; expected identities or issuers that say who they are, or an address such as 127.0.0.1:8800", quote(addr))
			}
		}
	}
	for key, addr := range map[string]string{"admin.listen": c.Admin.Listen, "endpoint.listen": c.Endpoint.Listen} {
		if open(addr) && !c.TLS.Enabled() && !c.TLS.Plaintext && !d.wrong("tls") {
			d.problem(key, "%s is not loopback, and without TLS others could read the credentials that are handed out there; expected tls.cert_file and tls.key_file, or tls.plaintext: true where something in front provides TLS (metrics.listen is for scrapers)", quote(addr))
		}
	}
	if c.ProxyAuth != AuthenticateNone && c.ProxyAuth != "" && open(c.Listen) && !c.TLS.Enabled() && !c.TLS.Plaintext && !d.wrong("tls") && !d.wrong("listen") {
		d.problem("proxy_authentication", "listen is %s, which is not loopback, and without TLS others could read the secrets that clients send there; expected tls.cert_file and tls.key_file, or tls.plaintext: true where something in front provides TLS", quote(c.Listen))
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") && !d.wrong("tls") {
		key := "tls.key_file"
		if c.TLS.CertFile == "" {
			key = "tls.cert_file"
		}
		d.problem(key, "the key is missing; expected cert_file and key_file together")
	}
	if c.TLS.Plaintext && c.TLS.Enabled() {
		d.problem("tls.plaintext", "there is a certificate as well; expected one of the two")
	}
	seen := map[string]string{}
	for _, l := range []struct{ key, addr string }{
		{"listen", c.Listen}, {"endpoint.listen", c.Endpoint.Listen},
		{"admin.listen", c.Admin.Listen}, {"metrics.listen", c.Metrics.Listen},
	} {
		if _, port, err := net.SplitHostPort(l.addr); err != nil || port == "0" {
			continue
		}
		if other, ok := seen[l.addr]; ok {
			d.problem(l.key, "%s is the address of %s as well; expected another port", quote(l.addr), other)
		}
		seen[l.addr] = l.key
	}
}

func (d *decoder) checkRoles(c *Config) {
	names := c.roleOrder
	for _, name := range names {
		r, ok := c.Roles[name]
		if !ok {
			continue
		}
		key := "roles." + name
		if r.Duration < 15*time.Minute || r.Duration > 12*time.Hour {
			d.problem(key+".duration", "%s is not possible; expected 15m to 12h, and no more than the role's own maximum", words.Duration(r.Duration))
		} else if r.Via != "" && r.Duration > time.Hour {
			d.problem(key+".duration", "%s is not possible for a role that is assumed from another (via); expected at most 1h, which is what AWS allows", words.Duration(r.Duration))
		}
		if r.ARN == "" {
			for _, f := range []struct {
				name string
				set  bool
			}{
				{"via", r.Via != ""}, {"external_id", r.ExternalID != ""}, {"source_identity", r.SourceIdentity != ""},
				{"tags", len(r.Tags) > 0}, {"session_policy", r.SessionPolicy != ""}, {"session_policy_arns", len(r.SessionPolicyARNs) > 0},
			} {
				if f.set {
					d.problem(key+"."+f.name, "it has no effect, because the role has no arn and no role is assumed; expected an arn beside it")
				}
			}
		}
		d.checkFederation(key, r)
		if len(r.SessionPolicyARNs) > 10 {
			d.problem(key+".session_policy_arns", "there are %d; expected at most 10 (a limit of AWS STS)", len(r.SessionPolicyARNs))
		}
		if len(r.Tags) > 50 {
			d.problem(key+".tags", "there are %d; expected at most 50 (a limit of AWS STS)", len(r.Tags))
		}
		for _, tag := range slices.Sorted(maps.Keys(r.Tags)) {
			if len(tag) > 128 || strings.HasPrefix(strings.ToLower(tag), "aws:") {
				d.problem(key+".tags."+tag, "this is not a valid session tag name; expected at most 128 characters, not beginning with aws:")
			}
		}
		if r.Via != "" {
			d.checkVia(c, name, names)
		}
		if r.SAML != "" {
			id, known := c.Identities[r.SAML]
			switch {
			case !known:
				d.problem(key+".saml", "there is no identity %s; expected one of identities", quote(r.SAML))
			case !slices.Contains(id.Roles, name):
				d.problem(key+".saml", "the identity %s may not use the role; expected %s among identities.%s.roles", quote(r.SAML), name, r.SAML)
			case r.ARN == "" || r.Via != "":
				d.problem(key+".saml", "an assertion is for a role that is assumed directly; expected an arn, and no via")
			}
		}
	}
}

// checkFederation checks what a role says of GetFederationToken.
func (d *decoder) checkFederation(key string, r Role) {
	if !r.Federated() {
		return
	}
	// What is only reported does not go along to the console.
	limited := r.Enforcement != Report && (len(r.Policies) > 0 || r.ReadOnly || len(r.Regions) > 0 || len(r.Services) > 0)
	own := r.FederationPolicy != "" || len(r.FederationPolicyARNs) > 0
	name := "federation_policy"
	switch {
	case own && r.FederationPolicy == "":
		name = "federation_policy_arns"
	case !own:
		name = "federation_duration"
	}
	switch {
	case r.ARN != "":
		d.problem(key+"."+name, "it has no effect, because the role has an arn, which is assumed; expected it without")
	case !own && !limited:
		d.problem(key+".federation_duration", "a federated user without a policy may do nothing; expected federation_policy, federation_policy_arns or policies beside it")
	case own && limited:
		d.problem(key+"."+name, "the role has limits of its own (policies, read_only, regions or services), which go along to the console, and policies of a session add up; expected one of the two")
	}
	if f := r.FederationDuration; f != 0 && (f < 15*time.Minute || f > 36*time.Hour) {
		d.problem(key+".federation_duration", "%s is not possible; expected 15m to 36h", words.Duration(f))
	}
	if n := len(r.FederationPolicyARNs); n > 10 {
		d.problem(key+".federation_policy_arns", "there are %d; expected at most 10 (a limit of AWS STS)", n)
	}
}

// checkVia follows the chain of a role to its end.
func (d *decoder) checkVia(c *Config, name string, names []string) {
	key := "roles." + name + ".via"
	via := c.Roles[name].Via
	if _, ok := c.Roles[via]; !ok {
		d.problem(key, "%s", unknownRole(via, names))
		return
	}
	chain := []string{name}
	for at := via; at != ""; at = c.Roles[at].Via {
		if slices.Contains(chain, at) {
			if at == name { // each role of the circle says so once
				d.problem(key, "the roles are assumed in a circle: %s", strings.Join(append(chain, at), " via "))
			}
			return
		}
		chain = append(chain, at)
	}
}

func unknownRole(name string, names []string) string {
	msg := "there is no role " + quote(name)
	if best := nearest(name, names); best != "" {
		return msg + "; did you mean " + best + "?"
	}
	if len(names) == 0 {
		return msg + "; expected one of roles, which has none"
	}
	return msg + "; expected one of " + strings.Join(names[:min(len(names), 12)], ", ")
}

func (d *decoder) checkIdentities(c *Config) {
	owner := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(c.Identities)) {
		id, key := c.Identities[name], "identities."+name
		for i, role := range id.Roles {
			child := index(key+".roles", i)
			if _, ok := c.Roles[role]; !ok && role != "" {
				d.problem(child, "%s", unknownRole(role, c.roleOrder))
			} else if slices.Contains(id.Roles[:i], role) {
				d.problem(child, "the role %s is given twice", quote(role))
			}
		}
		for i, cred := range id.Credentials {
			child := index(key+".credentials", i)
			if cred.Role != "" && !slices.Contains(id.Roles, cred.Role) {
				d.problem(child+".role", "the role %s is not one of the identity's roles; expected one of %s", quote(cred.Role), strings.Join(id.Roles, ", "))
			}
			if cred.AccessKeyID == "" {
				continue
			}
			if other, ok := owner[cred.AccessKeyID]; ok {
				d.problem(child+".access_key_id", "%s belongs to %s already; expected another id", quote(cred.AccessKeyID), other)
			}
			owner[cred.AccessKeyID] = child
		}
	}
}

func (d *decoder) checkIssuers(c *Config) {
	urls := map[string]bool{}
	for i, is := range c.Issuers {
		key := index("issuers", i)
		for j, role := range is.Roles {
			if _, ok := c.Roles[role]; !ok && !strings.Contains(role, "{{") && !hasARN(c, role) {
				d.problem(index(key+".roles", j), "%s", unknownRole(role, c.roleOrder))
			}
		}
		if is.TokenFile != "" && is.CAFile == "" {
			d.problem(key+".token_file", "the token would go to any server with a certificate of a public authority; expected ca_file beside it, which names the issuer's own")
		}
		urls[is.URL] = true
	}
	o := c.Console.OIDC
	if o.Issuer == "" {
		for _, f := range []struct {
			name string
			set  bool
		}{{"client_id", o.ClientID != ""}, {"client_secret_file", o.ClientSecretFile != ""}, {"redirect_url", o.RedirectURL != ""}} {
			if f.set {
				d.problem("console.oidc."+f.name, "it has no effect without console.oidc.issuer; expected the issuer beside it")
			}
		}
		return
	}
	if !urls[o.Issuer] {
		d.problem("console.oidc.issuer", "%s is not one of the issuers; expected the url of one of them, which says what identities and roles people get", quote(o.Issuer))
	}
	if o.ClientID == "" {
		d.problem("console.oidc.client_id", "the key is missing; expected the client id at the issuer")
	}
	if o.RedirectURL == "" {
		d.problem("console.oidc.redirect_url", "the key is missing; expected the URL that people are sent back to")
	}
	if o.RedirectURL != "" && !strings.HasSuffix(o.RedirectURL, consoleCallback) {
		d.problem("console.oidc.redirect_url", "%s is not where the console takes people back; expected it to end in %s", quote(o.RedirectURL), consoleCallback)
	}
	for _, is := range c.Issuers {
		if is.URL == o.Issuer && o.ClientID != "" && !slices.Contains(is.Audience, o.ClientID) {
			d.problem("console.oidc.client_id", "%s is not in the audience of the issuer %s, so its tokens would be refused; expected it there", quote(o.ClientID), is.URL)
		}
	}
	if !slices.Contains(o.Scopes, "openid") {
		d.problem("console.oidc.scopes", "openid is not among them; expected it (OpenID Connect Core, section 3.1.2.1)")
	}
}

func (d *decoder) checkUpstream(c *Config) {
	for i, o := range c.Upstream.Override {
		if !o.TLS && o.CAFile != "" {
			d.problem(index("upstream.override", i)+".ca_file", "it has no effect with tls: false; expected one of the two")
		}
	}
	if c.Audit.File == "-" && (c.Audit.MaxSize > 0 || c.Audit.Backups > 0) {
		key := "audit.max_size"
		if c.Audit.MaxSize == 0 {
			key = "audit.backups"
		}
		d.problem(key, "standard output cannot be rotated; expected audit.file to be a file")
	} else if c.Audit.Backups > 0 && c.Audit.MaxSize == 0 {
		d.problem("audit.backups", "it has no effect without audit.max_size; expected a size beside it")
	}
	if c.Audit.MaxSize > 0 && c.Audit.MaxSize < 1<<20 {
		d.problem("audit.max_size", "%v is too small; expected at least 1MiB, or 0 for no rotation", c.Audit.MaxSize)
	}
}

func (d *decoder) checkLimits(c *Config) {
	l := c.Limits
	for _, v := range []struct {
		key string
		n   int64
		min int64
		say string
	}{
		{"body_buffer", int64(l.BodyBuffer), 1 << 10, "1KiB"},
		{"body_buffer_sum", int64(l.BodyBufferSum), 1 << 10, "1KiB"},
		{"chunk", int64(l.Chunk), 8 << 10, "8KiB"},
		{"event", int64(l.Event), 1 << 10, "1KiB"},
		{"header", int64(l.Header), 4 << 10, "4KiB"},
		{"connections", int64(l.Connections), 1, "1"},
		{"tunnels", int64(l.Tunnels), 1, "1 (tunnel: none switches tunnels off)"},
		{"certificates", int64(l.Certificates), 1, "1"},
		{"sessions", int64(l.Sessions), 1, "1"},
		{"header_timeout", int64(l.HeaderTimeout), int64(time.Second), "1s"},
		{"body_timeout", int64(l.BodyTimeout), int64(time.Second), "1s"},
		{"idle_timeout", int64(l.IdleTimeout), int64(time.Second), "1s"},
		{"connect_timeout", int64(l.ConnectTimeout), int64(100 * time.Millisecond), "100ms"},
		{"tls_timeout", int64(l.TLSTimeout), int64(100 * time.Millisecond), "100ms"},
		{"response_timeout", int64(l.ResponseTimeout), int64(time.Second), "1s"},
		{"tunnel_idle_timeout", int64(l.TunnelIdleTimeout), int64(time.Second), "1s"},
	} {
		if v.n < v.min {
			d.problem("limits."+v.key, "it is too small; expected at least %s", v.say)
		}
	}
	if l.BodyBufferSum < l.BodyBuffer && !d.wrong("limits.body_buffer") {
		d.problem("limits.body_buffer_sum", "%v is less than body_buffer (%v); expected at least as much", l.BodyBufferSum, l.BodyBuffer)
	}
	if c.CA.RotateBefore < time.Hour {
		d.problem("ca.rotate_before", "%s is too short; expected at least 1h, such as 720h", words.Duration(c.CA.RotateBefore))
	}
}

// hasARN reports whether a role of the configuration has the ARN.
func hasARN(c *Config, arn string) bool {
	for _, r := range c.Roles {
		if r.ARN != "" && r.ARN == arn {
			return true
		}
	}
	return false
}

func index(key string, i int) string { return fmt.Sprintf("%s[%d]", key, i) }
