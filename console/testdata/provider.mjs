// Runs a certified OpenID provider (npm: oidc-provider) for one test, until its
// standard input ends. Usage: node provider.mjs NODE_MODULES; prints its URL.
import { createServer } from "node:http";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const { default: Provider } = await import(pathToFileURL(join(process.argv[2], "oidc-provider", "lib", "index.js")));
const server = createServer();
server.listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    // A native client's loopback address fits with any port (RFC 8252, section 7.3).
    clients: [{
      client_id: "console", token_endpoint_auth_method: "none", application_type: "native",
      redirect_uris: ["http://127.0.0.1/console/callback"], response_types: ["code"], grant_types: ["authorization_code"],
    }],
    pkce: { required: () => true },
    claims: { openid: ["sub"], email: ["email"], profile: ["groups"] },
    conformIdTokenClaims: false,
    cookies: { keys: ["of this test"] },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, email: `${id}@example.com`, groups: ["deployers"] }) }),
  });
  server.on("request", provider.callback());
  process.stdout.write(issuer + "\n");
});
process.stdin.on("end", () => process.exit(0)).resume();
