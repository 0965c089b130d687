// A program as people write it with the AWS SDK for JavaScript. Where nothing makes
// Node.js use the proxy, it is given an agent.
import { CreateBucketCommand, DeleteBucketCommand, DeleteObjectCommand, GetObjectCommand,
  ListObjectsV2Command, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";
import { DynamoDBClient, ListTablesCommand } from "@aws-sdk/client-dynamodb";
import { NodeHttpHandler } from "@smithy/node-http-handler";
import { HttpsProxyAgent } from "https-proxy-agent";
import { Readable } from "node:stream";

const httpsAgent = new HttpsProxyAgent(process.env.HTTPS_PROXY);
const configuration = process.env.WITH_AGENT ? { requestHandler: new NodeHttpHandler({ httpsAgent }) } : {};
const seen = {};

const sts = new STSClient(configuration);
seen.account = (await sts.send(new GetCallerIdentityCommand({}))).Account;

const s3 = new S3Client(configuration);
const Bucket = "countersign-js";
await s3.send(new CreateBucketCommand({ Bucket }));
await s3.send(new PutObjectCommand({ Bucket, Key: "a b+c/é&=~%20", Body: "hello" }));
await s3.send(new PutObjectCommand({
  Bucket, Key: "stream", Body: Readable.from([Buffer.alloc(300000, "x")]), ContentLength: 300000,
}));
const { Contents } = await s3.send(new ListObjectsV2Command({ Bucket }));
seen.keys = Contents.map(({ Key, Size }) => [Key, Size]);
const { Body } = await s3.send(new GetObjectCommand({ Bucket, Key: "a b+c/é&=~%20" }));
seen.body = await Body.transformToString();
for (const [Key] of seen.keys) {
  await s3.send(new DeleteObjectCommand({ Bucket, Key }));
}
await s3.send(new DeleteBucketCommand({ Bucket }));

const dynamodb = new DynamoDBClient(configuration);
seen.tables = (await dynamodb.send(new ListTablesCommand({}))).TableNames;

console.log(JSON.stringify(seen, null, 1));
// No client is destroyed: connections that it keeps must not keep the process.
httpsAgent.destroy();
