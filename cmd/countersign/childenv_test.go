package main

import (
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-proxy/countersign/identity"
)

// in looks variables up in a map.
func in(env map[string]string) func(string) string {
	return func(name string) string { return env[name] }
}

func TestVariablesOfAClient(t *testing.T) {
	s := settings{
		ProxyURL:    "http://127.0.0.1:8800",
		Credentials: identity.Credentials{AccessKeyID: "CSIGEXAMPLEKEYID2345", SecretAccessKey: "a secret", SessionToken: "a token"},
		Region:      "eu-central-1",
		Trust:       trustFiles{Bundle: "/s/bundle.pem", Node: "/s/node.pem", Java: "/s/bundle.jks", NodeProxy: "/s/node-proxy.cjs", PHP: "/s/countersign.ini"},
	}
	const direct = "localhost,127.0.0.1,::1,169.254.169.254,169.254.170.2,169.254.170.23,fd00:ec2::254,fd00:ec2::23"
	want := []variable{
		{"HTTPS_PROXY", "http://127.0.0.1:8800"}, {"https_proxy", "http://127.0.0.1:8800"},
		{"NO_PROXY", direct + ",intranet.example.com"}, {"no_proxy", direct + ",intranet.example.com"},
		{"AWS_ACCESS_KEY_ID", "CSIGEXAMPLEKEYID2345"}, {"AWS_SECRET_ACCESS_KEY", "a secret"}, {"AWS_SESSION_TOKEN", "a token"},
		{"AWS_REGION", "eu-central-1"}, {"AWS_DEFAULT_REGION", "eu-central-1"},
		{"AWS_EC2_METADATA_DISABLED", "true"},
		{"AWS_CA_BUNDLE", "/s/bundle.pem"}, {"SSL_CERT_FILE", "/s/bundle.pem"}, {"REQUESTS_CA_BUNDLE", "/s/bundle.pem"},
		{"CURL_CA_BUNDLE", "/s/bundle.pem"}, {"NODE_EXTRA_CA_CERTS", "/s/node.pem"}, {"PERL_LWP_SSL_CA_FILE", "/s/bundle.pem"},
		{"PIP_CERT", "/s/bundle.pem"},
		{"JAVA_TOOL_OPTIONS", "-Djavax.net.ssl.trustStore=/s/bundle.jks -Djavax.net.ssl.trustStorePassword=changeit -Djavax.net.ssl.trustStoreType=JKS " +
			"-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=8800 -Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=8800 -Dhttp.nonProxyHosts=" +
			"localhost|127.*|[::1]|169.254.169.254|169.254.170.2|169.254.170.23|[fd00:ec2::254]|[fd00:ec2::23]|intranet.example.com|*.intranet.example.com"},
		{"NODE_OPTIONS", "--require /s/node-proxy.cjs"},
		{"PHP_INI_SCAN_DIR", ":/s"},
	}
	got := s.variables(in(map[string]string{"NO_PROXY": "intranet.example.com", "PIP_CERT": "/etc/company.pem", "SSL_CERT_DIR": "/etc/ssl/certs"}))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}

	// A pair without a token, no region, and trust that could not be written.
	s.Credentials.SessionToken, s.Region, s.Trust = "", "", trustFiles{}
	want = []variable{
		{"HTTPS_PROXY", "http://127.0.0.1:8800"}, {"https_proxy", "http://127.0.0.1:8800"}, {"NO_PROXY", direct}, {"no_proxy", direct},
		{"AWS_ACCESS_KEY_ID", "CSIGEXAMPLEKEYID2345"}, {"AWS_SECRET_ACCESS_KEY", "a secret"}, {"AWS_EC2_METADATA_DISABLED", "true"},
	}
	if diff := cmp.Diff(want, s.variables(in(nil))); diff != "" {
		t.Error(diff)
	}
}

// Every variable of the parent that names credentials, an account or an endpoint
// is gone, and everything else is there, once.
func TestChildEnvironment(t *testing.T) {
	parent := []string{
		"PATH=/bin", "EMPTY=", "WITH=equals=inside", "AWS_PAGER=", "AWS_MAX_ATTEMPTS=5",
		"AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE", "AWS_ENDPOINT_URL_DYNAMODB=https://elsewhere.example.com", "AWS_ENDPOINT_URL=https://elsewhere.example.com",
		"not a variable", "PATH2=/bin",
	}
	for _, name := range credentialVariables {
		parent = append(parent, name+"=secret")
	}
	set := []variable{{"AWS_ACCESS_KEY_ID", "CSIGEXAMPLEKEYID2345"}, {"AWS_SESSION_TOKEN", "ours"}}
	want := []string{
		"PATH=/bin", "EMPTY=", "WITH=equals=inside", "AWS_PAGER=", "AWS_MAX_ATTEMPTS=5", "not a variable", "PATH2=/bin",
		"AWS_ACCESS_KEY_ID=CSIGEXAMPLEKEYID2345", "AWS_SESSION_TOKEN=ours",
	}
	if diff := cmp.Diff(want, childEnvironment(parent, set)); diff != "" {
		t.Error(diff)
	}
}

// Credentials hide in no variable because of its case: Windows does not tell them
// apart, and elsewhere nobody else reads the odd ones.
func TestChildEnvironmentTakesOutAnyCase(t *testing.T) {
	got := childEnvironment([]string{"aws_profile=production", "Aws_Endpoint_Url=x"}, nil)
	if len(got) != 0 {
		t.Errorf("left: %q", got)
	}
	if runtime.GOOS == "windows" {
		got = childEnvironment([]string{`=C:=C:\work`, "Https_Proxy=http://other"}, []variable{{"HTTPS_PROXY", "http://ours"}})
		if diff := cmp.Diff([]string{`=C:=C:\work`, "HTTPS_PROXY=http://ours"}, got); diff != "" {
			t.Error(diff)
		}
	}
}

func TestMergeNoProxyKeepsNothingThatLeadsAround(t *testing.T) {
	for entry, kept := range map[string]bool{
		"intranet.example.com":           true,
		".example.com":                   true,
		"10.0.0.0/8":                     true,
		"192.168.1.1":                    true,
		"192.168.1.1:8080":               true,
		"fd00::/8":                       true,
		"*":                              false,
		"com":                            false,
		".com":                           false,
		"*.com":                          false,
		"amazonaws.com":                  false,
		".amazonaws.com":                 false,
		"*.amazonaws.com":                false,
		"AmazonAWS.com":                  false,
		"s3.eu-west-1.amazonaws.com":     false,
		"s3.eu-west-1.amazonaws.com:443": false,
		"amazonaws.com.cn":               false,
		"cn":                             false,
		"api.aws":                        false,
		"aws":                            false,
		"on.aws":                         false,
		"amazonaws.com.evil.example":     true,
		"myamazonaws.com":                true,
	} {
		got := mergeNoProxy("a.example, "+entry, entry+" b.example")
		want := slices.Clone(noProxy)
		want = append(want, "a.example")
		if kept {
			want = append(want, entry)
		}
		want = append(want, "b.example")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", entry, diff)
		}
	}
}

func TestJavaOptions(t *testing.T) {
	const ours = "-Djavax.net.ssl.trustStore=/s/b.jks -Djavax.net.ssl.trustStorePassword=changeit -Djavax.net.ssl.trustStoreType=JKS -Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=1234 -Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=1234 -Dhttp.nonProxyHosts="
	for name, c := range map[string]struct{ parent, want string }{
		"none":                {"", ours + "localhost|127.*"},
		"others stay":         {`-Xmx1g "-Da=b c" -Dd='e f'`, `-Xmx1g "-Da=b c" -Dd='e f' ` + ours + "localhost|127.*"},
		"the same go":         {`-Djavax.net.ssl.trustStore="/with space/x.jks" -Dhttps.proxyHost=other "-Dhttps.proxyPort=1" -Xmx1g`, "-Xmx1g " + ours + "localhost|127.*"},
		"alike stay":          {"-Djavax.net.ssl.trustStoreX=1 -Dhttp.proxyUser=u", "-Djavax.net.ssl.trustStoreX=1 -Dhttp.proxyUser=u " + ours + "localhost|127.*"},
		"exceptions are kept": {"-Dhttp.nonProxyHosts=localhost|*.corp.example|10.*", ours + "localhost|127.*|*.corp.example|10.*"},
		"but not around us":   {"-Dhttp.nonProxyHosts=*|*.com|*aws.com|s3.*|*.amazonaws.com|x*", ours + "localhost|127.*"},
	} {
		t.Run(name, func(t *testing.T) {
			got := javaOptions(c.parent, "/s/b.jks", "http://127.0.0.1:1234", []string{"localhost", "127.0.0.1"})
			if got != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
			if again := javaOptions(got, "/s/b.jks", "http://127.0.0.1:1234", []string{"localhost", "127.0.0.1"}); again != got {
				t.Errorf("it grows:\n%s\n%s", got, again)
			}
		})
	}
	const secret = "-Djavax.net.ssl.trustStore=/s/b.jks -Djavax.net.ssl.trustStorePassword=changeit -Djavax.net.ssl.trustStoreType=JKS"
	if got := javaOptions("-Dhttps.proxyHost=other", "/s/b.jks", "https://CSIGAAAAAAAAAAAAAAAA:secret@proxy.example.com:1", []string{"localhost"}); got != secret {
		t.Errorf("with credentials in the proxy's URL: %s", got)
	}
	if got := javaOptions("", "/a b/c.jks", "https://proxy.example.com:1", nil); !strings.HasPrefix(got, `-Djavax.net.ssl.trustStore="/a b/c.jks" `) {
		t.Errorf("a path with a space is taken apart: %s", got)
	}
}

func TestJavaExceptions(t *testing.T) {
	got := javaExceptions([]string{"localhost", "127.0.0.1", "::1", "169.254.169.254", "example.com", ".example.org", "10.0.0.0/8", "host:8080"}, nil)
	const want = "localhost|127.*|[::1]|169.254.169.254|example.com|*.example.com|example.org|*.example.org"
	if got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

func TestQuotingForDotenv(t *testing.T) {
	for value, want := range map[string]string{
		"":               "",
		"plain-1.2:3/4@": "plain-1.2:3/4@",
		"a b":            `"a b"`,
		"it's":           `"it's"`,
		`$(rm) "x" \`:    `"\$(rm) \"x\" \\"`,
		"a;b&c|d":        `"a;b&c|d"`,
		"[::1]":          `"[::1]"`,
		"~root":          "~root",
	} {
		if got := quoteDotenv(value); got != want {
			t.Errorf("quoteDotenv(%q) = %s, want %s", value, got, want)
		}
	}
}
