// Runs a certified OpenID provider (npm: oidc-provider) for one test, until its
// standard input ends. Usage: node provider.mjs NODE_MODULES CODE[,TOKEN] [ISSUER]; prints
// its URL. Codes and ID tokens live for so many seconds; behind a server that ends TLS,
// ISSUER is how others see it.
import { createServer } from "node:http";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const { default: Provider } = await import(pathToFileURL(join(process.argv[2], "oidc-provider", "lib", "index.js")));
const [code, token = code] = process.argv[3].split(",").map(Number);
const server = createServer();
server.listen(0, "127.0.0.1", () => {
  const here = `http://127.0.0.1:${server.address().port}`;
  // A native client's loopback address fits with any port (RFC 8252, section 7.3).
  const client = (id, more) => ({
    client_id: id, token_endpoint_auth_method: "none", application_type: "native",
    redirect_uris: ["http://127.0.0.1/console/callback"], response_types: ["code"], grant_types: ["authorization_code"], ...more,
  });
  const provider = new Provider(process.argv[4] ?? here, {
    clients: [
      client("console"),
      client("other"),
      // As a broker has it: a secret, and groups in a scope of their own.
      client("countersign", { client_secret: "secret of this test", token_endpoint_auth_method: "client_secret_basic" }),
    ],
    pkce: { required: () => true },
    scopes: ["openid", "profile", "email", "groups"],
    claims: { openid: ["sub"], email: ["email", "email_verified"], groups: ["groups"], profile: ["name"] },
    conformIdTokenClaims: false,
    ttl: { AuthorizationCode: code, IdToken: token, AccessToken: 60, Interaction: 60, Session: 600, Grant: 600 },
    cookies: { keys: ["of this test"] },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, name: id, email: `${id}@example.com`, email_verified: id !== "mallory", groups: ["aws-deployers", "others"] }) }),
  });
  provider.proxy = process.argv[4] !== undefined;
  server.on("request", provider.callback());
  process.stdout.write(here + "\n");
});
process.stdin.on("end", () => process.exit(0)).resume();
