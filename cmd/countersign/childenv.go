package main

import (
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/countersign-proxy/countersign/awsapi"
	"github.com/countersign-proxy/countersign/ca"
	"github.com/countersign-proxy/countersign/identity"
	"github.com/countersign-proxy/countersign/inject"
	"github.com/countersign-proxy/countersign/safefile"
)

// settings are what a client needs to work through a proxy.
type settings struct {
	ProxyURL    string
	Credentials identity.Credentials
	Region      string
	Trust       trustFiles
	// Endpoint is where credentials are fetched and renewed, in place of
	// Credentials; TokenFile holds what proves who asks.
	Endpoint, TokenFile string
}

// trustFiles are files for clients. An empty path was not written.
type trustFiles struct {
	Bundle string // PEM: our root, the public roots, what the environment trusted
	Node   string // PEM: our root and what NODE_EXTRA_CA_CERTS held
	Java   string // JKS, as Bundle

	NodeProxy string // what makes Node.js go through the proxy
	PHP       string // what makes PHP trust the Bundle; PHP is told its folder
}

// noProxy are the addresses that clients must reach directly: themselves and
// the metadata and credentials endpoints of machines, tasks and pods. Without
// this, botocore sends IMDS calls through the proxy.
var noProxy = []string{"localhost", "127.0.0.1", "::1", "169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::254", "fd00:ec2::23"}

// credentialVariables are every other way in which the environment can name
// AWS credentials, an account that goes with them, or an endpoint that would
// lead around the proxy. AWS SDKs and tools reference guide, "Settings reference".
var credentialVariables = []string{
	"AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_CREDENTIAL_EXPIRATION",
	"AWS_CREDENTIAL_FILE", "AWS_ACCESS_KEY", "AWS_SECRET_KEY",
	"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME",
	"AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
	"AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
	"AWS_BEARER_TOKEN_BEDROCK", "AWS_BEARER_TOKEN_CODECATALYST", "AWS_ACCOUNT_ID", "AWS_ACCOUNT_ID_ENDPOINT_MODE",
	"AWS_SSO_ACCOUNT_ID", "AWS_SSO_ROLE_NAME", "AWS_SSO_SESSION", "AWS_VAULT", "AWS_VAULT_BACKEND",
	"AWS_S3_EXPRESS_DISABLE_SESSION_AUTH",
}

// removed says whether a variable of the parent must not reach the child.
func removed(name string) bool {
	return slices.Contains(credentialVariables, name) || strings.HasPrefix(name, "AWS_ENDPOINT_URL")
}

// variable is one setting of the environment.
type variable struct{ Name, Value string }

// variables returns the environment of a client, given how the parent's reads,
// in a fixed order.
func (s settings) variables(getenv func(string) string) []variable {
	set := []variable{
		{"HTTPS_PROXY", s.ProxyURL}, {"https_proxy", s.ProxyURL},
	}
	exceptions := mergeNoProxy(getenv("NO_PROXY"), getenv("no_proxy"))
	no := strings.Join(exceptions, ",")
	set = append(set, variable{"NO_PROXY", no}, variable{"no_proxy", no})
	set = append(set, s.keys()...)
	if s.Region != "" {
		set = append(set, variable{"AWS_REGION", s.Region}, variable{"AWS_DEFAULT_REGION", s.Region})
	}
	// A client whose client credentials fail must not fall back to the keys of
	// the machine it runs on.
	set = append(set, variable{"AWS_EC2_METADATA_DISABLED", "true"})
	for _, name := range trustVariables(getenv) {
		file := s.Trust.Bundle
		if name == "NODE_EXTRA_CA_CERTS" {
			file = s.Trust.Node
		}
		if file != "" {
			set = append(set, variable{name, file})
		}
	}
	if s.Trust.Java != "" {
		set = append(set, variable{"JAVA_TOOL_OPTIONS", javaOptions(getenv("JAVA_TOOL_OPTIONS"), s.Trust.Java, s.ProxyURL, exceptions)})
	}
	if s.Trust.NodeProxy != "" {
		set = append(set, variable{"NODE_OPTIONS", nodeOptions(getenv("NODE_OPTIONS"), s.Trust.NodeProxy)})
	}
	if s.Trust.PHP != "" {
		set = append(set, variable{"PHP_INI_SCAN_DIR", phpScanDir(getenv("PHP_INI_SCAN_DIR"), folder(s.Trust.PHP))})
	}
	return set
}

// folder is what a file is in. Paths of a sidecar have slashes wherever they are
// written.
func folder(file string) string {
	if strings.HasPrefix(file, "/") {
		return path.Dir(file)
	}
	return filepath.Dir(file)
}

// keys are the client credentials, or where to fetch them.
func (s settings) keys() []variable {
	if s.Endpoint != "" {
		return []variable{{"AWS_CONTAINER_CREDENTIALS_FULL_URI", s.Endpoint}, {"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", s.TokenFile}}
	}
	out := []variable{{"AWS_ACCESS_KEY_ID", s.Credentials.AccessKeyID}, {"AWS_SECRET_ACCESS_KEY", s.Credentials.SecretAccessKey}}
	if s.Credentials.SessionToken != "" {
		out = append(out, variable{"AWS_SESSION_TOKEN", s.Credentials.SessionToken})
	}
	return out
}

// alwaysTrust are the variables that AWS clients read; the others of
// ca.TrustVariables are only changed where the parent had set them, so that
// programs keep their own roots.
var alwaysTrust = []string{"AWS_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "PERL_LWP_SSL_CA_FILE"}

func trustVariables(getenv func(string) string) []string {
	out := slices.Clone(alwaysTrust)
	for _, name := range ca.TrustVariables() {
		// SSL_CERT_DIR adds to SSL_CERT_FILE in Go and OpenSSL alike; it can stay.
		if name != "SSL_CERT_DIR" && !slices.Contains(out, name) && getenv(name) != "" {
			out = append(out, name)
		}
	}
	return out
}

// mergeNoProxy keeps the parent's exceptions, except those that would lead AWS
// calls around the proxy.
func mergeNoProxy(lists ...string) []string {
	out := slices.Clone(noProxy)
	for _, list := range lists {
		for _, entry := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' }) {
			if !coversAWS(entry) && !slices.Contains(out, entry) {
				out = append(out, entry)
			}
		}
	}
	return out
}

// coversAWS says whether a NO_PROXY entry could match an AWS host name.
func coversAWS(entry string) bool {
	if entry == "*" {
		return true
	}
	name := strings.ToLower(entry)
	if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return false
	}
	if _, err := netip.ParsePrefix(name); err == nil {
		return false
	}
	name = strings.TrimLeft(strings.TrimPrefix(name, "*"), ".")
	for _, suffix := range awsapi.SuffixesOfAWS() {
		if name == suffix || strings.HasSuffix(name, "."+suffix) || strings.HasSuffix(suffix, "."+name) {
			return true
		}
	}
	return false
}

// javaOptions adds trust store and proxy to the options that the parent gave,
// in place of those that it gave for the same properties: else they would grow
// with every `env` that a shell takes up.
func javaOptions(existing, store, proxyURL string, noProxy []string) string {
	var host, port string
	// Java prints these options when it starts, so the proxy's password must not
	// be among them. Where none of them is about a proxy, the SDK looks at the
	// environment; any one of them keeps it from that.
	if u, err := url.Parse(proxyURL); err == nil && u.User == nil {
		host, port = u.Hostname(), u.Port()
	}
	ours := []struct{ name, value string }{
		{"javax.net.ssl.trustStore", quoteOption(store)},
		{"javax.net.ssl.trustStorePassword", ca.StorePassword},
		{"javax.net.ssl.trustStoreType", "JKS"},
		{"https.proxyHost", host}, {"https.proxyPort", port},
		// The AWS SDK for Java goes to https hosts by way of the proxy for http,
		// unless its program says otherwise (ProxyConfiguration.Builder.scheme).
		{"http.proxyHost", host}, {"http.proxyPort", port},
		{"http.nonProxyHosts", ""},
	}
	var out, exceptions []string
	for _, option := range javaOption.FindAllString(existing, -1) {
		name, value, _ := strings.Cut(strings.TrimPrefix(strings.Trim(option, `"'`), "-D"), "=")
		if name == "http.nonProxyHosts" {
			exceptions = strings.Split(strings.Trim(value, `"'`), "|")
		}
		replaced := false
		for _, o := range ours {
			replaced = replaced || name == o.name
		}
		if !replaced {
			out = append(out, option)
		}
	}
	ours[len(ours)-1].value = javaExceptions(noProxy, exceptions)
	for _, o := range ours {
		if host != "" || strings.HasPrefix(o.name, "javax.") {
			out = append(out, "-D"+o.name+"="+o.value)
		}
	}
	return strings.Join(out, " ")
}

// javaOption is one option: the virtual machine splits at white space outside
// of quotes.
var javaOption = regexp.MustCompile(`(?:[^\s"']|"[^"]*"|'[^']*')+`)

// javaExceptions are the exceptions of NO_PROXY, and those that the parent gave
// to Java, as http.nonProxyHosts has them: separated by |, with * at either end.
func javaExceptions(noProxy, existing []string) string {
	var out []string
	add := func(pattern string) {
		if !slices.Contains(out, pattern) {
			out = append(out, pattern)
		}
	}
	for _, entry := range noProxy {
		address, err := netip.ParseAddr(entry)
		_, _, portErr := net.SplitHostPort(entry)
		switch {
		case err == nil && address.Is6():
			add("[" + entry + "]")
		case err == nil && address.IsLoopback():
			add("127.*")
		case err == nil:
			add(entry)
		case strings.Contains(entry, "/") || portErr == nil:
			// A network or a port, neither of which Java can except.
		default:
			name := strings.TrimLeft(entry, "*.")
			add(name)
			if name != "localhost" {
				add("*." + name) // NO_PROXY means what is below a name, too
			}
		}
	}
	for _, pattern := range existing {
		if pattern != "" && !javaCoversAWS(pattern) {
			add(pattern)
		}
	}
	return strings.Join(out, "|")
}

// javaCoversAWS says whether a pattern of http.nonProxyHosts could match an AWS
// host name: there, * stands for anything, at either end.
func javaCoversAWS(pattern string) bool {
	rest := strings.ToLower(strings.TrimPrefix(pattern, "*"))
	if strings.HasSuffix(rest, "*") {
		return strings.Trim(rest, "0123456789.*") != "" // 10.* is a network, s3.* is not
	}
	covers := func(suffix string) bool {
		return rest != pattern && strings.HasSuffix(suffix, rest)
	}
	return coversAWS(pattern) || slices.ContainsFunc(awsapi.SuffixesOfAWS(), covers)
}

// quoteOption protects a path with spaces from the splitting of JAVA_TOOL_OPTIONS.
func quoteOption(path string) string {
	if strings.ContainsAny(path, " \t") {
		return `"` + path + `"`
	}
	return path
}

// childEnvironment is the parent's environment with the client's settings in it
// and every other way to AWS credentials out of it.
func childEnvironment(parent []string, set []variable) []string {
	replaced := make(map[string]bool, len(set))
	for _, v := range set {
		replaced[envKey(v.Name)] = true
	}
	var out []string
	for _, entry := range parent {
		name, _, ok := strings.Cut(entry, "=")
		if !ok || name == "" { // Windows keeps "=C:=C:\…" there
			out = append(out, entry)
			continue
		}
		if !removed(strings.ToUpper(name)) && !replaced[envKey(name)] {
			out = append(out, entry)
		}
	}
	for _, v := range set {
		out = append(out, v.Name+"="+v.Value)
	}
	return out
}

// envKey is a variable's name as the operating system compares it.
func envKey(name string) string {
	if runtime.GOOS == "windows" {
		return strings.ToUpper(name)
	}
	return name
}

// writeTrust writes the bundles, and what goes with them, into dir, under the names
// that they have beside a sidecar too. roots are what the environment trusts without
// us; getenv tells what NODE_EXTRA_CA_CERTS held.
func writeTrust(authority *ca.Authority, dir string, mode fs.FileMode, roots []ca.Source, getenv func(string) string) (trustFiles, error) {
	bundle := authority.Beside(roots)
	node, err := authority.NodeTrust(ca.TrustOptions{Getenv: getenv})
	if err != nil {
		return trustFiles{}, err
	}
	store, err := bundle.JKS("", authority.Roots()[0].NotBefore)
	if err != nil {
		return trustFiles{}, err
	}
	t := trustFiles{
		Bundle: filepath.Join(dir, inject.BundleFile),
		Node:   filepath.Join(dir, inject.NodeFile),
		Java:   filepath.Join(dir, inject.JavaFile),

		NodeProxy: filepath.Join(dir, inject.NodeProxyFile),
		PHP:       filepath.Join(dir, inject.PHPFile),
	}
	for _, f := range []struct {
		path string
		data []byte
	}{{t.Bundle, bundle.PEM()}, {t.Node, node.PEM()}, {t.Java, store}, {t.NodeProxy, nodeProxyFor(authority.Suffixes())}, {t.PHP, []byte(phpINI)}} {
		if err := safefile.Write(f.path, f.data, mode); err != nil {
			return trustFiles{}, err
		}
	}
	return t, nil
}
