package e2e

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"
)

// The package is installed on a machine with a running systemd, set up as the
// guide says, used, upgraded and removed.
func TestService(t *testing.T) {
	t.Parallel()
	needsRoot(t)
	for _, name := range []string{"nsenter", "dpkg", "runuser", "openssl", "systemctl", "/lib/systemd/systemd"} {
		_, err := exec.LookPath(name)
		needs(t, name, err)
	}
	tool(t, "aws")
	tool(t, "nfpm")
	python(t)
	inNamespaces(t, "TestInsideService", "--mount", "--propagation", "private")
}

func TestInsideService(t *testing.T) {
	inside(t)
	u := strictMoto(t)
	tools, err := filepath.Abs("../.tools")
	if err != nil {
		t.Fatal(err)
	}
	m := bootMachine(t, tools)

	// What is there before the reader of the guide begins.
	for version, name := range map[string]string{"1.2.3": "first/countersign_1.2.3.deb", "1.2.4": "second/countersign_1.2.4.deb"} {
		deb, err := os.ReadFile(buildPackage(t, "deb", version))
		if err != nil {
			t.Fatal(err)
		}
		into := filepath.Join(m.root, "opt/packages", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(into), 0o755), os.WriteFile(into, deb, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.ReadFile(thePKI(t).rootFile)
	if err != nil {
		t.Fatal(err)
	}
	m.write(t, "/opt/root.pem", "644", string(root))
	m.write(t, "/root/.aws/credentials", "600", fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", u.keys.AccessKeyID, u.keys.SecretAccessKey))
	// Where AWS is, in this test.
	m.write(t, "/etc/systemd/system/countersign.service.d/test.conf", "644",
		"[Service]\nEnvironment=COUNTERSIGN_UPSTREAM_PROXY=none\n"+
			fmt.Sprintf("Environment='COUNTERSIGN_UPSTREAM_OVERRIDE=[{hosts: [\"*.amazonaws.com\"], address: \"%s\", ca_file: /opt/root.pem}]'\n", u.address))

	guide := m.command("sh", "-c", "cd /opt/packages/first && exec sh -x")
	guide.Env = append(guide.Env, "PATH="+strings.Join(append(toolDirs(), os.Getenv("PATH")), ":"), "AWS_EC2_METADATA_DISABLED=true")
	guide.Stdin = strings.NewReader(guideScript(t, hostGuide))
	output, err := guide.CombinedOutput()
	if err != nil {
		journal, _ := m.command("journalctl", "--no-pager", "-o", "cat", "-u", "countersign.service").CombinedOutput()
		t.Fatalf("%v\n%s\nthe journal:\n%s", err, output, journal)
	}
	for _, secret := range u.secrets(t) {
		if bytes.Contains(output, []byte(secret)) {
			t.Errorf("a secret of AWS was printed\n%s", output)
		}
	}

	const service, socket = "countersign.service", "countersign.socket"
	const configuration = "/etc/countersign/countersign.yaml"
	until := func(t *testing.T, unit, name, want string) {
		t.Helper()
		eventually(t, want, func() string { return m.property(t, unit, name) })
	}
	user := strings.TrimSpace(m.run(t, "id", "--user", "countersign"))
	dial := func(t *testing.T) net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", "127.0.0.1:8800")
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	proxied := func(t *testing.T) (*http.Client, aws.Credentials) {
		t.Helper()
		// As a user of the machine sees it.
		bundle := m.run(t, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat", "/run/countersign/bundle.pem")
		p := &proxy{address: "127.0.0.1:8800", roots: x509.NewCertPool()}
		if !p.roots.AppendCertsFromPEM([]byte(bundle)) {
			t.Fatal("/run/countersign/bundle.pem holds no certificate")
		}
		return p.httpClient(t), aws.Credentials{AccessKeyID: "CSIGAAAABBBBCCCCDDDD", SecretAccessKey: strings.TrimSpace(m.run(t, "cat", "/etc/countersign/ci.key"))}
	}
	status := func(t *testing.T, method, target string, body io.Reader) int {
		t.Helper()
		client, keys := proxied(t)
		response, err := client.Do(unsignedPayloadBy(t, keys, method, target, body))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		io.Copy(io.Discard, response.Body)
		return response.StatusCode
	}
	const buckets, bucket = "https://s3.us-east-1.amazonaws.com/", "https://service-bucket.s3.us-east-1.amazonaws.com/"

	t.Run("the process is confined", func(t *testing.T) {
		pid := m.property(t, service, "MainPID")
		got := map[string]string{}
		for line := range strings.Lines(m.run(t, "cat", "/proc/"+pid+"/status")) {
			if key, value, ok := strings.Cut(line, ":"); ok {
				got[key] = strings.TrimSpace(value)
			}
		}
		for key, want := range map[string]string{
			"Uid":    strings.Join([]string{user, user, user, user}, "\t"),
			"CapEff": "0000000000000000", "CapBnd": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2",
		} {
			if got[key] != want {
				t.Errorf("%s is %q, want %q", key, got[key], want)
			}
		}
		// What it sees of the file system.
		for _, c := range []string{": >/usr/bin/x", ": >/etc/countersign/x", "ls /root/.aws", "cat /etc/countersign/ci.key", "cat /proc/1/environ"} {
			inside := m.command("nsenter", "--target", pid, "--mount", "setpriv", "--reuid="+user, "--regid="+user, "--clear-groups", "sh", "-c", c)
			if output, err := inside.CombinedOutput(); err == nil {
				t.Errorf("%s: it may\n%s", c, output)
			}
		}
		want := "drwx------ countersign countersign /var/lib/countersign\ndrwx------ countersign countersign /var/log/countersign\n" +
			"drwxr-xr-x countersign countersign /run/countersign\n-rw-r--r-- countersign countersign /run/countersign/bundle.pem\n"
		if diff := cmp.Diff(want, m.run(t, "stat", "--format", "%A %U %G %n", "/var/lib/countersign", "/var/log/countersign", "/run/countersign", "/run/countersign/bundle.pem")); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	})

	// The guide has rotated the CA, and the proxy was not told.
	t.Run("what clients have to trust is that of the CA", func(t *testing.T) {
		want := m.run(t, "cat", "/var/lib/countersign/ca/bundle.pem")
		eventually(t, want, func() string { return m.run(t, "cat", "/run/countersign/bundle.pem") })
	})

	t.Run("commands of root leave the state alone", func(t *testing.T) {
		output, err := m.command("countersign", "revoke", "ci", "--config", configuration).CombinedOutput()
		if err == nil || !strings.Contains(string(output), "runuser -u countersign --") {
			t.Errorf("%v\n%s", err, output)
		}
		if strangers := m.run(t, "find", "/var/lib/countersign", "!", "-user", "countersign"); strangers != "" {
			t.Errorf("of other users:\n%s", strangers)
		}
	})

	t.Run("reload", func(t *testing.T) {
		if got := status(t, http.MethodPut, bucket, http.NoBody); got != http.StatusForbidden {
			t.Fatalf("CreateBucket before the policy allows it: %d", got)
		}
		before := m.run(t, "cat", "/etc/countersign/read.json")
		m.write(t, "/etc/countersign/read.json", "644", strings.Replace(before, `"s3:Get*"`, `"s3:CreateBucket", "s3:PutObject", "s3:Get*"`, 1))
		m.run(t, "systemctl", "reload", service)
		eventually(t, "200", func() string { return fmt.Sprint(status(t, http.MethodPut, bucket, http.NoBody)) })

		text := m.run(t, "cat", configuration)
		m.write(t, configuration, "644", text+"nonsense: 1\n")
		m.run(t, "systemctl", "reload", service)
		complaint := regexp.MustCompile(`^serving on 127\.0\.0\.1:8800 with the configuration before; the new one is not used: .*: nonsense: there is no such key`)
		eventually(t, "true", func() string { return fmt.Sprint(complaint.MatchString(m.property(t, service, "StatusText"))) })
		if state := m.property(t, service, "ActiveState"); state != "active" {
			t.Errorf("after a configuration that is wrong it is %s", state)
		}
		m.write(t, configuration, "644", text)
		m.run(t, "systemctl", "reload", service)
		until(t, service, "StatusText", "serving on 127.0.0.1:8800")
	})

	t.Run("the record is rotated", func(t *testing.T) {
		m.run(t, "mv", "/var/log/countersign/audit.jsonl", "/var/log/countersign/audit.jsonl.1")
		m.run(t, "systemctl", "kill", "--signal", "HUP", service)
		eventually(t, "-rw------- countersign\n", func() string {
			out, _ := m.command("stat", "--format", "%A %U", "/var/log/countersign/audit.jsonl").Output()
			return string(out)
		})
		if got := status(t, http.MethodGet, buckets, http.NoBody); got != http.StatusOK {
			t.Errorf("ListBuckets: %d", got)
		}
		eventually(t, "true", func() string {
			out, _ := m.command("cat", "/var/log/countersign/audit.jsonl").Output()
			return fmt.Sprint(bytes.Contains(out, []byte(`"operation":"ListBuckets"`)))
		})
	})

	t.Run("no connection is refused while it restarts", func(t *testing.T) {
		before := m.property(t, service, "MainPID")
		restarted := make(chan error, 1)
		go func() { restarted <- m.command("systemctl", "restart", service).Run() }()
		// Those that the one that ends has taken already are told to try again, or
		// closed; all others wait for the next one.
		for done := false; !done; time.Sleep(time.Millisecond) { // ports would run out without a pause
			dial(t).Close()
			select {
			case err := <-restarted:
				if err != nil {
					t.Fatal(err)
				}
				done = true
			default:
			}
		}
		if after := m.property(t, service, "MainPID"); after == before {
			t.Error("it was not restarted")
		}
		conn := dial(t)
		defer conn.Close()
		if response := connectOver(t, conn, "sts.us-east-1.amazonaws.com:443"); response.StatusCode != http.StatusOK {
			t.Errorf("after the restart: %s", response.Status)
		}
	})

	t.Run("stop lets requests end", func(t *testing.T) {
		client, keys := proxied(t)
		body, feed := io.Pipe()
		request := unsignedPayloadBy(t, keys, http.MethodPut, bucket+"slow", body)
		answer := make(chan string, 1)
		go func() {
			response, err := client.Do(request)
			if err != nil {
				answer <- err.Error()
				return
			}
			response.Body.Close()
			answer <- response.Status
		}()
		if _, err := feed.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
		stopped := make(chan error, 1)
		go func() { stopped <- m.command("systemctl", "stop", socket, service).Run() }()
		until(t, service, "StatusText", "waiting for requests to end")
		if _, err := feed.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
		feed.Close()
		if got := <-answer; got != "200 OK" {
			t.Errorf("the upload that was under way: %s", got)
		}
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		if got := m.property(t, service, "ActiveState") + " " + m.property(t, service, "Result"); got != "inactive success" {
			t.Errorf("after stop it is %s", got)
		}
	})

	t.Run("the first connection starts it", func(t *testing.T) {
		m.run(t, "systemctl", "start", socket)
		if state := m.property(t, service, "ActiveState"); state != "inactive" {
			t.Fatalf("before the first connection it is %s", state)
		}
		conn := dial(t)
		defer conn.Close()
		if response := connectOver(t, conn, "sts.us-east-1.amazonaws.com:443"); response.StatusCode != http.StatusOK {
			t.Errorf("the first connection: %s", response.Status)
		}
		until(t, service, "ActiveState", "active")
	})

	t.Run("a configuration that is wrong is not tried again and again", func(t *testing.T) {
		m.run(t, "systemctl", "stop", socket, service)
		text := m.run(t, "cat", configuration)
		m.write(t, configuration, "644", text+"nonsense: 1\n")
		if output, err := m.command("systemctl", "start", service).CombinedOutput(); err == nil {
			t.Errorf("start says that all is well\n%s", output)
		}
		if got := m.property(t, service, "ActiveState") + " " + m.property(t, service, "NRestarts"); got != "failed 0" {
			t.Errorf("state and restarts: %s", got)
		}
		journal := m.run(t, "journalctl", "--no-pager", "-o", "cat", "-u", service, "-n", "20")
		if !strings.Contains(journal, "nonsense: there is no such key") {
			t.Errorf("the journal does not say why\n%s", journal)
		}
		m.write(t, configuration, "644", text)
		m.run(t, "systemctl", "start", socket, service)
	})

	t.Run("upgrade", func(t *testing.T) {
		m.run(t, "sh", "-c", "echo '# mine' >>"+configuration)
		before := m.property(t, service, "MainPID")
		m.run(t, "sh", "-c", "dpkg -i /opt/packages/second/*.deb")
		if after := m.property(t, service, "MainPID"); after == before || m.property(t, service, "ActiveState") != "active" {
			t.Errorf("the new version does not run: %s before, %s after", before, after)
		}
		if text := m.run(t, "cat", configuration); !strings.HasSuffix(text, "# mine\n") {
			t.Errorf("the configuration was replaced:\n%s", text)
		}
		// The CA and the keys are those of before.
		if got := status(t, http.MethodGet, buckets, http.NoBody); got != http.StatusOK {
			t.Errorf("ListBuckets: %d", got)
		}
	})

	exists := func(paths ...string) (there []string) {
		for _, path := range paths {
			if m.command("test", "-e", path).Run() == nil {
				there = append(there, path)
			}
		}
		return there
	}
	t.Run("remove", func(t *testing.T) {
		m.run(t, "dpkg", "--remove", "countersign")
		if conn, err := net.Dial("tcp", "127.0.0.1:8800"); err == nil {
			conn.Close()
			t.Error("somebody listens still")
		}
		if links := m.run(t, "find", "/etc/systemd/system", "-type", "l", "-name", "countersign*"); links != "" {
			t.Errorf("left:\n%s", links)
		}
		if there := exists("/usr/bin/countersign", "/usr/lib/systemd/system/"+service, "/run/countersign"); there != nil {
			t.Errorf("left: %v", there)
		}
		want := []string{configuration, "/var/lib/countersign/ca/authority.pem", "/var/lib/countersign/sealing.key", "/var/log/countersign/audit.jsonl"}
		if diff := cmp.Diff(want, exists(want...)); diff != "" {
			t.Errorf("lost (-): \n%s", diff)
		}
	})

	t.Run("purge", func(t *testing.T) {
		m.run(t, "dpkg", "--purge", "countersign")
		if there := exists(configuration, "/var/lib/countersign", "/var/log/countersign"); there != nil {
			t.Errorf("left: %v", there)
		}
		// Not the package's.
		want := []string{"/etc/countersign/read.json", "/etc/countersign/aws-credentials"}
		if diff := cmp.Diff(want, exists(want...)); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	})
}
