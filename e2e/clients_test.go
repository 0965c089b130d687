package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// random returns bytes that are the same at every run.
func random(size int) []byte {
	data := make([]byte, size)
	source := rand.NewChaCha8([32]byte{1})
	source.Read(data)
	return data
}

func script(t testing.TB, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAWSCLI(t *testing.T) {
	tool(t, "aws")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "big.bin"), random(20<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	requests := compare(t, strictMoto(t), deployARN, func(t *testing.T, w way) string {
		return w.must(t, dir, nil, "sh", script(t, "awscli.sh"))
	})
	parts := 0
	for _, s := range requests {
		if s.Method == "PUT" && strings.Contains(s.Target, "partNumber=") {
			parts++
		}
	}
	if parts != 3 {
		t.Errorf("20 MiB went up in %d parts, want 3", parts)
	}
}

// regionalS3 makes botocore use the host that versitygw was told is its own.
var regionalS3 = []string{"AWS_S3_US_EAST_1_REGIONAL_ENDPOINT=regional"}

func TestAWSCLIAgainstVersity(t *testing.T) {
	tool(t, "aws")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "big.bin"), random(20<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	compare(t, versity(t), "", func(t *testing.T, w way) string {
		return w.must(t, dir, regionalS3, "sh", script(t, "awscli-s3.sh"))
	})
}

func TestBoto3(t *testing.T) {
	interpreter := python(t)
	compare(t, strictMoto(t), deployARN, func(t *testing.T, w way) string {
		return w.must(t, t.TempDir(), nil, interpreter, script(t, "client.py"))
	})
}

func TestGoSDK(t *testing.T) {
	compare(t, strictMoto(t), deployARN, func(t *testing.T, w way) string {
		return w.must(t, t.TempDir(), nil, sdkClient)
	})
}

func TestJavaScriptSDK(t *testing.T) {
	node := tool(t, "node")
	modules := nodeModules(t)
	// Node looks for modules beside the script and above it.
	dir := t.TempDir()
	source, err := os.ReadFile(script(t, "client.mjs"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "client.mjs")
	if err := os.WriteFile(file, source, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	for name, agent := range map[string]string{"as it is": "", "with an agent": "1"} {
		t.Run(name, func(t *testing.T) {
			compare(t, strictMoto(t), deployARN, func(t *testing.T, w way) string {
				env := []string{"WITH_AGENT=" + agent}
				if w.name == "directly" {
					env = []string{"WITH_AGENT=1"}
				}
				return w.must(t, dir, env, node, file)
			})
		})
	}
}

// The SDK for Java takes trust and proxy from system properties, and which ones
// depends on its HTTP client: this program uses all of them.
func TestJavaSDK(t *testing.T) {
	java, keytool := tool(t, "java"), tool(t, "keytool")
	libraries, err := filepath.Abs(filepath.Join("..", ".tools", "java"))
	if err == nil {
		_, err = os.Stat(libraries)
	}
	needs(t, "the AWS SDK for Java", err)
	dir := t.TempDir()
	store := filepath.Join(dir, "direct.jks")
	imported := exec.Command(keytool, "-importcert", "-noprompt", "-file", thePKI(t).rootFile, "-alias", "direct",
		"-keystore", store, "-storepass", "changeit")
	if output, err := imported.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	compare(t, strictMoto(t), deployARN, func(t *testing.T, w way) string {
		var more []string
		if w.name == "directly" {
			var proxy *url.URL
			for _, setting := range w.env {
				if address, ok := strings.CutPrefix(setting, "HTTPS_PROXY="); ok {
					if proxy, err = url.Parse(address); err != nil {
						t.Fatal(err)
					}
				}
			}
			options := "-Djavax.net.ssl.trustStore=" + store + " -Djavax.net.ssl.trustStorePassword=changeit"
			for _, scheme := range []string{"http", "https"} {
				options += " -D" + scheme + ".proxyHost=" + proxy.Hostname() + " -D" + scheme + ".proxyPort=" + proxy.Port()
			}
			more = []string{"JAVA_TOOL_OPTIONS=" + options}
		}
		return w.must(t, dir, more, java, "-XX:TieredStopAtLevel=1", "-cp", filepath.Join(libraries, "*"), "Client")
	})
}

func TestTerraformStateInS3(t *testing.T) {
	terraform := terraformOrTofu(t)
	source, err := os.ReadFile(filepath.Join("testdata", "terraform", "main.tf"))
	if err != nil {
		t.Fatal(err)
	}
	requests := compare(t, strictMoto(t), deployARN, func(t *testing.T, w way) string {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "main.tf"), source, 0o600); err != nil {
			t.Fatal(err)
		}
		runner := filepath.Join(dir, "run.sh")
		if err := os.WriteFile(runner, []byte(terraformScript), 0o600); err != nil {
			t.Fatal(err)
		}
		return w.must(t, dir, []string{"TERRAFORM=" + terraform, "TF_IN_AUTOMATION=1"}, "sh", runner)
	})
	var locked, unlocked, state int
	for _, s := range requests {
		path, _, _ := strings.Cut(s.Target, "?")
		switch {
		case strings.HasSuffix(path, ".tflock") && s.Method == "PUT" && slices.Equal(s.header("If-None-Match"), []string{"*"}):
			locked++
		case strings.HasSuffix(path, ".tflock") && s.Method == "DELETE":
			unlocked++
		case strings.HasSuffix(path, ".tfstate") && s.Method == "PUT":
			state++
		}
	}
	if locked == 0 || locked != unlocked || state == 0 {
		t.Errorf("locked %d times, unlocked %d times, state written %d times", locked, unlocked, state)
	}
}

// The state's lineage is random, so only what was asked for is printed.
const terraformScript = `set -eu
aws s3 mb s3://countersign-terraform
"$TERRAFORM" init -input=false -no-color >log 2>&1 || { cat log >&2; exit 1; }
"$TERRAFORM" apply -input=false -no-color -auto-approve >log 2>&1 || { cat log >&2; exit 1; }
"$TERRAFORM" apply -input=false -no-color -auto-approve -var greeting=again >log 2>&1 || { cat log >&2; exit 1; }
"$TERRAFORM" output -raw greeting
aws s3 ls --recursive s3://countersign-terraform | cut -c 32-
aws s3 rb --force s3://countersign-terraform >/dev/null
`

// terraformOrTofu prefers Terraform; its fork has the same S3 backend, and can
// be built from source where Terraform is not installed.
func terraformOrTofu(t testing.TB) string {
	t.Helper()
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		path := filepath.Join(dir, "terraform")
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			return path
		}
	}
	return tool(t, "tofu")
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
