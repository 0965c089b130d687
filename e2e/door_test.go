package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// callers are programs that ask STS who they are, one call each, by the
// environment of a way alone. PROXY_CA names what the certificate of an https://
// proxy is checked against; only curl wants it apart.
func callers(t testing.TB) map[string]func(testing.TB, way, []string) result {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	if err := os.Symlink(nodeModules(t), filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	// What curl signs with is in a file that it reads, not in its command line.
	curl := write("curl.sh", `set -eu
printf 'user = "%s:%s"\n' "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY" >"$CURL_CONFIG"
[ -z "${AWS_SESSION_TOKEN-}" ] || printf 'header = "X-Amz-Security-Token: %s"\n' "$AWS_SESSION_TOKEN" >>"$CURL_CONFIG"
[ -z "${PROXY_CA-}" ] || printf 'proxy-cacert = "%s"\n' "$PROXY_CA" >>"$CURL_CONFIG"
exec curl --config "$CURL_CONFIG" --silent --show-error --fail --cacert "$AWS_CA_BUNDLE" --aws-sigv4 "aws:amz:$AWS_REGION:sts" \
	--data 'Action=GetCallerIdentity&Version=2011-06-15' "https://sts.$AWS_REGION.amazonaws.com/"
`)
	boto := write("caller.py", `import boto3, botocore.config
config = botocore.config.Config(retries={"total_max_attempts": 1})
print(boto3.client("sts", config=config).get_caller_identity()["Arn"])
`)
	js := write("caller.mjs", `import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";
import { NodeHttpHandler } from "@smithy/node-http-handler";
import { HttpsProxyAgent } from "https-proxy-agent";
const httpsAgent = new HttpsProxyAgent(process.env.HTTPS_PROXY);
const sts = new STSClient({ maxAttempts: 1, requestHandler: new NodeHttpHandler({ httpsAgent }) });
console.log((await sts.send(new GetCallerIdentityCommand({}))).Arn);
httpsAgent.destroy();
`)
	cli, node, interpreter := tool(t, "aws"), tool(t, "node"), python(t)
	tool(t, "curl")
	run := func(argv ...string) func(testing.TB, way, []string) result {
		return func(t testing.TB, w way, env []string) result {
			t.Helper()
			return w.run(t, dir, append(env, "CURL_CONFIG="+filepath.Join(dir, "curlrc"), "AWS_MAX_ATTEMPTS=1"), argv...)
		}
	}
	return map[string]func(testing.TB, way, []string) result{
		"curl":           run("sh", curl),
		"aws-cli":        run(cli, "sts", "get-caller-identity", "--query", "Arn", "--output", "text"),
		"boto3":          run(interpreter, boto),
		"Go SDK":         run(sdkClient, "caller"),
		"JavaScript SDK": run(node, js),
	}
}

// has tells which of the texts is in s.
func has(s string, texts ...string) (found []string) {
	for _, text := range texts {
		if text != "" && strings.Contains(s, text) {
			found = append(found, text)
		}
	}
	return found
}
