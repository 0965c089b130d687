// Calls AWS twice with credentials that the SDK finds and renews by itself.
import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";
import { NodeHttpHandler } from "@smithy/node-http-handler";
import { HttpsProxyAgent } from "https-proxy-agent";

const httpsAgent = new HttpsProxyAgent(process.env.HTTPS_PROXY);
const sts = new STSClient({ requestHandler: new NodeHttpHandler({ httpsAgent }) });
for (let i = 0; i < 2; i++) {
  console.log((await sts.send(new GetCallerIdentityCommand({}))).Arn);
}
sts.destroy();
httpsAgent.destroy();
