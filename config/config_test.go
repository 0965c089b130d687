package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "write the expected messages of testdata/bad")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// options are those of a process with nothing around it.
func options(t *testing.T, dir string, env ...string) Options {
	t.Helper()
	return Options{Env: append([]string{}, env...), Home: "/home/user", Dir: dir}
}

// workdir returns a directory with the files that configurations here refer to.
func workdir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{
		"policy.json": 0o644, "cert.pem": 0o644, "ci.key": 0o600, "open.key": 0o644, "group.key": 0o620,
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("content\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil { // not subject to the umask
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func load(t *testing.T, dir, text string, env ...string) (*Config, error) {
	t.Helper()
	o := options(t, dir, env...)
	o.Path = filepath.Join(dir, "countersign.yaml")
	if err := os.WriteFile(o.Path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(o)
}

func TestFederatedRoles(t *testing.T) {
	for text, want := range map[string]bool{
		`{}`: false,
		`{federation_policy_arns: ["arn:aws:iam::aws:policy/ReadOnlyAccess"]}`:                                       true,
		`{federation_duration: 36h, read_only: true}`:                                                                true,
		`{federation_policy_arns: ["arn:aws:iam::aws:policy/ReadOnlyAccess"], read_only: true, enforcement: report}`: true,
	} {
		c, err := load(t, workdir(t), "roles: {a: "+text+"}\n")
		if err != nil || c.Roles["a"].Federated() != want {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestBadConfigurations has one file for each way to get it wrong, and the
// whole message beside it. A line "# env: NAME=value" sets a variable.
func TestBadConfigurations(t *testing.T) {
	names, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(names) < 150 {
		t.Fatalf("%d files: %v", len(names), err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".yaml"), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			var env []string
			for line := range strings.Lines(string(text)) {
				if kv, ok := strings.CutPrefix(line, "# env: "); ok {
					env = append(env, strings.TrimSpace(kv))
				}
			}
			dir := workdir(t)
			c, err := load(t, dir, string(text), env...)
			if err == nil {
				t.Fatalf("accepted: %+v", c)
			}
			var ps Problems
			if !errors.As(err, &ps) || len(ps) == 0 {
				t.Fatalf("not a list of problems: %v", err)
			}
			got := strings.ReplaceAll(err.Error(), dir+"/", "") + "\n"
			for _, secret := range []string{"wJalrXUtnFEMI", "hunter2", "IOSFODNN7"} {
				if strings.Contains(got, secret) {
					t.Errorf("the message repeats a secret: %s", got)
				}
			}
			for line := range strings.Lines(got) {
				if !regexp.MustCompile(`^(countersign\.yaml:\d+:\d+|COUNTERSIGN_[A-Z_]+): `).MatchString(line) {
					t.Errorf("no place in: %s", line)
				}
			}
			want := strings.TrimSuffix(name, ".yaml") + ".txt"
			if *update {
				if err := os.WriteFile(want, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			expected, err := os.ReadFile(want)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(expected), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

var equal = cmp.Options{cmp.AllowUnexported(Config{}), cmpopts.EquateEmpty()}

// defaultConfig is what nothing at all gives, written out.
func defaultConfig() *Config {
	return &Config{
		Listen:      "127.0.0.1:8800",
		ProxyAuth:   "none",
		Admin:       Admin{Listen: "127.0.0.1:8801"},
		StateDir:    "/home/user/.countersign",
		CA:          CA{Dir: "/home/user/.countersign/ca", RotateBefore: 720 * time.Hour},
		Revocations: "/home/user/.countersign/revocations",
		Source:      Source{Region: "us-east-1", STSRegion: "us-east-1"},
		Console:     Console{OIDC: OIDC{Scopes: []string{"openid", "profile", "email"}}},
		Tunnel:      Tunnel{Mode: TunnelPublic},
		Upstream:    Upstream{Proxy: "env"},
		Audit:       Audit{File: "-", Required: true},
		Limits: Limits{
			BodyBuffer: 80 << 20, BodyBufferSum: 1 << 30, Chunk: 1 << 20, Event: 16 << 20, Header: 128 << 10,
			Connections: 10000, Tunnels: 1000, Certificates: 4096, Sessions: 10000,
			HeaderTimeout: 30 * time.Second, BodyTimeout: 15 * time.Minute, IdleTimeout: 5 * time.Minute,
			ConnectTimeout: 10 * time.Second, TLSTimeout: 10 * time.Second, ResponseTimeout: 16 * time.Minute,
			TunnelIdleTimeout: 10 * time.Minute, DrainTimeout: 30 * time.Second, DrainDelay: 3 * time.Second,
		},
		Log:   Log{Level: "info", Format: "json"},
		files: []string{"/home/user/.countersign/revocations"},
	}
}

func defaultRole() Role {
	return Role{Duration: time.Hour, SessionName: "{{ .Identity.Name }}", Enforcement: Enforce, ClientSessionName: KeepName}
}

func TestDefaultsWithoutFile(t *testing.T) {
	c, err := Load(options(t, t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(defaultConfig(), c, equal); diff != "" {
		t.Error(diff)
	}
}

func TestEmptyFileIsTheDefaults(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "---\n", "{}\n", "\ufeff"} {
		dir := t.TempDir()
		c, err := load(t, dir, text)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		want := defaultConfig()
		want.Path = filepath.Join(dir, "countersign.yaml")
		want.files = append(want.files, want.Path)
		want.blank = text == ""
		if diff := cmp.Diff(want, c, equal); diff != "" || c.Blank() != (text == "") {
			t.Error(text, diff)
		}
	}
}

func TestExampleIsTheDefaultsAndOneRole(t *testing.T) {
	dir := t.TempDir()
	c, err := load(t, dir, string(Example()))
	if err != nil {
		t.Fatal(err)
	}
	want := defaultConfig()
	want.Path = filepath.Join(dir, "countersign.yaml")
	want.files = append(want.files, want.Path)
	role := defaultRole()
	role.ARN = "arn:aws:iam::123456789012:role/Deploy"
	role.Labels = map[string]string{"aws_account_id": "123456789012", "env": "prod"}
	want.Roles = map[string]Role{"deploy": role}
	want.roleOrder = []string{"deploy"}
	if diff := cmp.Diff(want, c, equal); diff != "" {
		t.Error(diff)
	}
}

// The commented samples of the example must be right too.
func TestExampleSamplesLoad(t *testing.T) {
	text := string(Example())
	for _, section := range []string{"identities: {}", "issuers: []", "override: []"} {
		if !strings.Contains(text, section) {
			t.Fatalf("no %q in the example", section)
		}
		text = strings.Replace(text, section, section[:strings.Index(section, " ")], 1)
	}
	text = regexp.MustCompile(`(?m)^#( {2,})(\S)`).ReplaceAllString(text, "$1$2")
	dir := workdir(t)
	text = strings.ReplaceAll(text, "/var/run/secrets/kubernetes.io/serviceaccount/", "")
	for _, name := range []string{"test-ca.pem", "ca.crt", "token"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := load(t, dir, text)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Identities["ci"].Credentials) != 1 || len(c.Issuers) != 2 || len(c.Upstream.Override) != 1 {
		t.Errorf("%+v", c)
	}
}

func TestExampleHasEveryKey(t *testing.T) {
	text := string(Example())
	for _, s := range Settings() {
		last := s.Key[strings.LastIndexAny(s.Key, ".]")+1:]
		if !strings.Contains(text, last+":") {
			t.Errorf("%s is not in the example", s.Key)
		}
	}
}

// TestTableAndStructAgree keeps the table of settings and the struct together.
func TestTableAndStructAgree(t *testing.T) {
	inStruct := map[string]reflect.Type{}
	var walk func(typ reflect.Type, key string)
	walk = func(typ reflect.Type, key string) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			name := f.Tag.Get("key")
			if name == "" {
				continue
			}
			k := join(key, name)
			switch {
			case f.Type == tunnelType:
				inStruct[k] = f.Type
			case f.Type.Kind() == reflect.Struct:
				walk(f.Type, k)
			case f.Type.Kind() == reflect.Map && f.Type.Elem().Kind() == reflect.Struct:
				inStruct[k] = f.Type
				walk(f.Type.Elem(), k+".*")
			case f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct:
				inStruct[k] = f.Type
				walk(f.Type.Elem(), k+"[]")
			default:
				inStruct[k] = f.Type
			}
		}
	}
	walk(reflect.TypeFor[Config](), "")
	env := map[string]string{}
	for _, s := range Settings() {
		typ, ok := inStruct[s.Key]
		if !ok {
			t.Errorf("%s is in the table only", s.Key)
			continue
		}
		delete(inStruct, s.Key)
		if s.Doc == "" || s.Type == "" {
			t.Errorf("%s is not described", s.Key)
		}
		if s.Default != "" {
			if _, err := textNode(typ, s.Default); err != nil {
				t.Errorf("%s: default: %v", s.Key, err)
			}
		}
		if name := s.EnvName(); name != "" {
			if other, ok := env[name]; ok {
				t.Errorf("%s and %s are both %s", s.Key, other, name)
			}
			env[name] = s.Key
		}
	}
	for k := range inStruct {
		t.Errorf("%s is in the struct only", k)
	}
}

// One word that is not known is a mistake, and no host pattern.
func TestTunnelOfTheEnvironment(t *testing.T) {
	dir := workdir(t)
	for text, want := range map[string]Tunnel{
		"none": {Mode: TunnelNone}, "public": {Mode: TunnelPublic},
		"a.example.com":            {Mode: TunnelList, Patterns: []string{"a.example.com"}},
		"*.example.com, b.example": {Mode: TunnelList, Patterns: []string{"*.example.com", "b.example"}},
	} {
		c, err := Load(options(t, dir, "COUNTERSIGN_TUNNEL="+text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if diff := cmp.Diff(want, c.Tunnel); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
	if _, err := Load(options(t, dir, "COUNTERSIGN_TUNNEL=all")); err == nil || !strings.Contains(err.Error(), `"all" is not known; expected public, none, or a list of host patterns`) {
		t.Errorf("all: %v", err)
	}
}

func TestEnvironmentAndFlagsWinOverTheFile(t *testing.T) {
	dir := workdir(t)
	o := options(t, dir,
		"COUNTERSIGN_LISTEN=127.0.0.1:1", "COUNTERSIGN_LOG_LEVEL=warn", "COUNTERSIGN_ENDPOINT_LISTEN=127.0.0.1:3",
		"COUNTERSIGN_ADMIN_HOSTS=a.example.com, b.example.com", "COUNTERSIGN_LIMITS_IDLE_TIMEOUT=2d",
		"COUNTERSIGN_AUDIT_REQUIRED=false", "COUNTERSIGN_TUNNEL=*.example.com,example.org",
		"COUNTERSIGN_UNSIGNED=[{hosts: [b.s3.amazonaws.com]}]", "COUNTERSIGN_STATE_DIR=state",
		"COUNTERSIGN_SOURCE_PROFILE=", "COUNTERSIGN_SOURCE_REGION=eu-west-1", "COUNTERSIGN_METRICS_LISTEN=\"\"",
		"COUNTERSIGN_ROLES_DEPLOY_PROD_ARN=arn:aws:iam::123456789012:role/Prod",
		"COUNTERSIGN_ROLES_DEPLOY_PROD_SESSION_NAME=x-{{ .Identity.Name }}",
		"COUNTERSIGN_ROLES_DEPLOY_PROD_TAGS=Team=platform,Env=prod",
		"COUNTERSIGN_ROLES_DEPLOY_PROD_POLICIES=[]",
		"COUNTERSIGN_ROLES_FRESH_READ_ONLY=true",
		"COUNTERSIGN_IDENTITIES_CI_ROLES=fresh",
		"COUNTERSIGN_IDENTITIES_CI_CREDENTIALS=[{access_key_id: CSIGABCDEFGHIJKLMNOP, secret_access_key_file: ci.key}]",
		"OTHER=1", "=C:=C:\\", "COUNTERSIGN_CONFIG=elsewhere.yaml")
	o.Flags = map[string]string{"log.level": "error"}
	o.Path = "conf/countersign.yaml"
	if err := os.Mkdir(filepath.Join(dir, "conf"), 0o700); err != nil {
		t.Fatal(err)
	}
	text := `
listen: 127.0.0.1:2
source: {profile: Mine, region: us-east-2}
metrics: {listen: "127.0.0.1:9"}
log: {level: debug}
roles:
  Deploy-prod: {arn: "arn:aws:iam::123456789012:role/Old", policies: [p.json], labels: {Env: "Prod"}}
`
	for name, content := range map[string]string{"countersign.yaml": text, "p.json": "{}"} {
		if err := os.WriteFile(filepath.Join(dir, "conf", name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	c, err := Load(o)
	if err != nil {
		t.Fatal(err)
	}
	want := defaultConfig()
	want.Path = filepath.Join(dir, "conf/countersign.yaml")
	want.Listen, want.Endpoint.Listen, want.Log.Level = "127.0.0.1:1", "127.0.0.1:3", "error"
	want.Admin.Hosts = []string{"a.example.com", "b.example.com"}
	want.Limits.IdleTimeout = 48 * time.Hour
	want.Audit.Required = false
	want.Tunnel = Tunnel{Mode: TunnelList, Patterns: []string{"*.example.com", "example.org"}}
	want.Unsigned = []Unsigned{{Hosts: []string{"b.s3.amazonaws.com"}, Methods: []string{"GET", "HEAD"}}}
	want.Source = Source{Profile: "Mine", Region: "eu-west-1", STSRegion: "eu-west-1"}
	want.StateDir = filepath.Join(dir, "state") // of a variable: from the working directory
	want.CA.Dir, want.Revocations = want.StateDir+"/ca", want.StateDir+"/revocations"
	prod, fresh := defaultRole(), defaultRole()
	prod.ARN, prod.SessionName = "arn:aws:iam::123456789012:role/Prod", "x-{{ .Identity.Name }}"
	prod.Tags, prod.Labels = map[string]string{"Team": "platform", "Env": "prod"}, map[string]string{"Env": "Prod"}
	fresh.ReadOnly = true
	want.Roles = map[string]Role{"Deploy-prod": prod, "fresh": fresh}
	want.roleOrder = []string{"Deploy-prod", "fresh"}
	want.Identities = map[string]Identity{"ci": {Roles: []string{"fresh"}, Credentials: []Credential{
		{AccessKeyID: "CSIGABCDEFGHIJKLMNOP", SecretAccessKeyFile: filepath.Join(dir, "ci.key"), Role: "fresh"}}}}
	want.files = []string{filepath.Join(dir, "ci.key"), want.Path, want.Revocations}
	if diff := cmp.Diff(want, c, equal); diff != "" {
		t.Error(diff)
	}
}

func TestPathFromTheEnvironment(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.yaml")
	if err := os.WriteFile(path, []byte("listen: 127.0.0.1:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(options(t, dir, "COUNTERSIGN_CONFIG="+path))
	if err != nil || c.Listen != "127.0.0.1:1" || c.Path != path {
		t.Fatalf("%+v %v", c, err)
	}
}

func TestFileThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	big := filepath.Join(dir, "big.yaml")
	if err := os.WriteFile(big, []byte(strings.Repeat("# comment\n", 120000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "none.yaml"): "configuration: " + dir + "/none.yaml does not exist; write one with: countersign config example",
		dir:                             "configuration: " + dir + " is a directory; expected a YAML file",
		big:                             "configuration: " + big + " is larger than 1MiB",
	} {
		o := options(t, dir)
		o.Path = path
		if _, err := Load(o); err == nil || err.Error() != want {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
}

// Kubernetes describes every Service in variables of every pod; one that is
// called countersign must not keep the proxy from starting.
func TestVariablesOfKubernetesServicesAreNobodysMistake(t *testing.T) {
	links := []string{
		"COUNTERSIGN_SERVICE_HOST=10.0.0.11", "COUNTERSIGN_SERVICE_PORT=8800", "COUNTERSIGN_SERVICE_PORT_PROXY=8800",
		"COUNTERSIGN_PORT=tcp://10.0.0.11:8800", "COUNTERSIGN_PORT_8800_TCP=tcp://10.0.0.11:8800",
		"COUNTERSIGN_PORT_8800_TCP_PROTO=tcp", "COUNTERSIGN_PORT_8800_TCP_PORT=8800",
		"COUNTERSIGN_PORT_8800_TCP_ADDR=10.0.0.11", "COUNTERSIGN_ADMIN_SERVICE_HOST=fd00::11",
		"COUNTERSIGN_ADMIN_PORT_8801_TCP=tcp://[fd00::11]:8801",
	}
	if _, err := Load(options(t, t.TempDir(), links...)); err != nil {
		t.Error(err)
	}
	for _, kv := range []string{"COUNTERSIGN_PORT=yes please", "COUNTERSIGN_SERVICE=10.0.0.11", "COUNTERSIGN_ROLES_SERVICE_HOST=x y"} {
		if _, err := Load(options(t, t.TempDir(), kv)); err == nil {
			t.Errorf("%s was ignored", kv)
		}
	}
}

func TestOpenListenersWithIdentitiesOnPurpose(t *testing.T) {
	const identities = `
roles: {deploy: {}}
identities: {ci: {roles: [deploy]}}
`
	for name, text := range map[string]string{
		"proxy":         "listen: 0.0.0.0:8800\n" + identities,
		"tls":           "listen: 0.0.0.0:8800\nadmin: {listen: 0.0.0.0:8801}\ntls: {cert_file: cert.pem, key_file: ci.key}\n" + identities,
		"plaintext":     "admin: {listen: 0.0.0.0:8801}\nendpoint: {listen: \"[::]:8802\"}\ntls: {plaintext: true}\n" + identities,
		"metrics alone": "metrics: {listen: 0.0.0.0:9090}\n",
		"issuer":        "listen: \":8800\"\nroles: {deploy: {}}\nissuers: [{url: \"https://i.example.com\", audience: [a, b], match: {sub: [x, y]}, identity: \"{{ .Claims.sub }}\", roles: [deploy]}]\n",
	} {
		t.Run(name, func(t *testing.T) {
			c, err := load(t, workdir(t), text)
			if err != nil {
				t.Fatal(err)
			}
			want := TunnelNone
			if LoopbackAddress(c.Listen) {
				want = TunnelPublic
			}
			if c.Tunnel.Mode != want {
				t.Errorf("tunnel is %s", c.Tunnel.Mode)
			}
		})
	}
}

// Below a claim the shape is the token's, so templates may go there.
func TestIssuerTemplatesOfNestedClaims(t *testing.T) {
	c, err := load(t, t.TempDir(), `
roles:
  deploy: {arn: "arn:aws:iam::123456789012:role/Deploy"}
issuers:
  - url: https://kubernetes.example.com
    audience: countersign
    match: {/kubernetes.io/namespace: [ci, "ci-*"]}
    attributes: {namespace: '{{ index .Claims "kubernetes.io" "namespace" }}', deep: "{{ .Claims.a.b }}"}
    roles: ["arn:aws:iam::123456789012:role/Deploy", '{{ if eq .Claims.sub "x" }}deploy{{ end }}']
`)
	if err != nil {
		t.Fatal(err)
	}
	want := []Issuer{{
		URL: "https://kubernetes.example.com", Audience: Strings{"countersign"},
		Match:    map[string]Strings{"/kubernetes.io/namespace": {"ci", "ci-*"}},
		Identity: "{{ .Claims.sub }}",
		Attributes: map[string]string{
			"namespace": `{{ index .Claims "kubernetes.io" "namespace" }}`, "deep": "{{ .Claims.a.b }}"},
		Roles: []string{"arn:aws:iam::123456789012:role/Deploy", `{{ if eq .Claims.sub "x" }}deploy{{ end }}`},
	}}
	if diff := cmp.Diff(want, c.Issuers); diff != "" {
		t.Error(diff)
	}
}

func TestLoopbackAddress(t *testing.T) {
	for addr, want := range map[string]bool{
		"127.0.0.1:1": true, "127.9.9.9:1": true, "[::1]:1": true, "localhost:1": true, "LocalHost:1": true,
		"[::ffff:127.0.0.1]:1": true,
		"0.0.0.0:1":            false, ":1": false, "[::]:1": false, "10.0.0.1:1": false, "proxy.localhost.example.com:1": false,
		"127.0.0.1": false, "": false, "127.0.0.1.example.com:1": false,
	} {
		if got := LoopbackAddress(addr); got != want {
			t.Errorf("%q: %v", addr, got)
		}
	}
}

func TestMatchHost(t *testing.T) {
	for _, c := range []struct {
		pattern, host string
		want          bool
	}{
		{"*.amazonaws.com", "s3.amazonaws.com", true},
		{"*.amazonaws.com", "a.b.amazonaws.com", true},
		{"*.amazonaws.com", "amazonaws.com", false},
		{"*.amazonaws.com", ".amazonaws.com", false},
		{"*.amazonaws.com", "evilamazonaws.com", false},
		{"*.amazonaws.com", "s3.amazonaws.com.evil.example", false},
		{"api.example.com", "api.example.com", true},
		{"api.example.com", "x.api.example.com", false},
		{"*", "anything", true},
	} {
		if got := MatchHost(c.pattern, c.host); got != c.want {
			t.Errorf("%s %s: %v", c.pattern, c.host, got)
		}
	}
}

func TestSizesAndDurations(t *testing.T) {
	for text, want := range map[string]Size{
		"0": 0, "1": 1, "12B": 12, "1kB": 1000, "1KB": 1000, "80MiB": 80 << 20, "80 MiB": 80 << 20, "2GB": 2e9, "1TiB": 1 << 40,
	} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("%q: %d %v", text, got, err)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "+1", "1.5MiB", "1mib", "1 M", "0x10", "1_000", "9223372036854775807KiB", "99999999999999999999", "1MiBMiB"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("%q is %d", text, got)
		}
	}
	for size, want := range map[Size]string{0: "0", 1: "1", 1024: "1KiB", 1500: "1500", 80 << 20: "80MiB", 1 << 40: "1TiB"} {
		if got := size.String(); got != want {
			t.Errorf("%d: %s", size, got)
		}
		if back, err := ParseSize(want); err != nil || back != size {
			t.Errorf("%s: %d %v", want, back, err)
		}
	}
	for text, want := range map[string]time.Duration{
		"0s": 0, "1h": time.Hour, "1h30m": 90 * time.Minute, "30d": 720 * time.Hour, "1d12h": 36 * time.Hour, "100ms": 100 * time.Millisecond,
	} {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("%q: %v %v", text, got, err)
		}
	}
	for _, text := range []string{"", "1", "d", "-1d", "1d-1h", "+1d", "1.5d", "1w", "99999999d", "-1s", "1h1d"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

func TestProblemsUnwrap(t *testing.T) {
	_, err := load(t, t.TempDir(), "listen: 1\nlog: {level: x}\n")
	var p Problem
	if !errors.As(err, &p) || p.Key != "listen" || p.Line != 1 || p.Col != 9 {
		t.Errorf("%+v", p)
	}
	if n := len(err.(Problems).Unwrap()); n != 2 {
		t.Errorf("%d problems", n)
	}
}
