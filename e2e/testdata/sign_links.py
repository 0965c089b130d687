"""Presigned links: written, read, altered and stale ones, each line a result."""
import os
import ssl
import sys
import urllib.error
import urllib.request

import boto3
from botocore.config import Config

bucket = sys.argv[1]
s3 = boto3.client("s3", config=Config(signature_version="s3v4"))
opener = urllib.request.build_opener(
    urllib.request.ProxyHandler({"https": os.environ["HTTPS_PROXY"]}),
    urllib.request.HTTPSHandler(
        context=ssl.create_default_context(cafile=os.environ["AWS_CA_BUNDLE"])
    ),
)


def send(name, method, url, data=None, **headers):
    request = urllib.request.Request(url, data=data, method=method)
    for key, value in headers.items():
        request.add_header(key.replace("_", "-"), value)
    try:
        with opener.open(request) as answer:
            body = answer.read()
            print(name, answer.status, len(body), body == want)
            return body
    except urllib.error.HTTPError as error:
        code = error.read().partition(b"<Code>")[2].partition(b"</Code>")[0]
        print(name, error.code, code.decode())


want = bytes(range(256)) * 4096
try:
    s3.create_bucket(Bucket=bucket)
except s3.exceptions.BucketAlreadyOwnedByYou:
    pass
key = "dir/a b+c~é.bin"
params = {"Bucket": bucket, "Key": key}
put = s3.generate_presigned_url("put_object", {**params, "ContentType": "text/x"})
send("put", "PUT", put, want, Content_Type="text/x")
get = s3.generate_presigned_url("get_object", params, ExpiresIn=604800)
send("get", "GET", get)
send("head", "HEAD", s3.generate_presigned_url("head_object", params))
disposition = {**params, "ResponseContentDisposition": 'attachment; filename="x y"'}
send("disposition", "GET", s3.generate_presigned_url("get_object", disposition))
back = s3.get_object(**params)
print("type", back["ContentType"], back["Body"].read() == want)
send("altered signature", "GET", get[:-4] + "0000")
send("altered key", "GET", get.replace("a%20b", "a%20c"))
send("altered lifetime", "GET", get.replace("604800", "604799"))
send("lifetime of 8 days", "GET", s3.generate_presigned_url(
    "get_object", params, ExpiresIn=8 * 86400))
send("another header", "PUT", put, b"small", Content_Type="text/y")
send("more in the query", "GET", get + "&versionId=null")
send("another method", "DELETE", get)
send("cut short", "GET", get.partition("&X-Amz-Signature")[0])
s3.delete_object(**params)
