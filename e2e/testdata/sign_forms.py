"""Uploads by HTML forms as boto3 signs them, each line a result."""
import base64
import sys

import boto3
import requests
from botocore.config import Config

bucket = sys.argv[1]
s3 = boto3.client("s3", config=Config(signature_version="s3v4"))
try:
    s3.create_bucket(Bucket=bucket)
except s3.exceptions.BucketAlreadyOwnedByYou:
    pass
want = bytes(range(256)) * 16384  # 4 MiB


def upload(name, post, data=want, filename="the file.bin", **changed):
    fields = {**post["fields"], **changed}
    answer = requests.post(
        post["url"], data=fields, files={"file": (filename, data)}
    )
    code = answer.text.partition("<Code>")[2].partition("</Code>")[0]
    print(name, answer.status_code, code)
    return answer


def back(name, key):
    got = s3.get_object(Bucket=bucket, Key=key)
    print(name, got["Body"].read() == want, got["ContentType"], got["Metadata"])


upload("plain", s3.generate_presigned_post(bucket, "plain key"))
back("plain back", "plain key")
fields = {"Content-Type": "text/x", "x-amz-meta-a": "b  c",
          "success_action_status": "201"}
conditions = [{k: v} for k, v in fields.items()]
conditions += [["content-length-range", 1, 5 << 20]]
rich = s3.generate_presigned_post(bucket, "dir/the file.bin", Fields=fields,
                                  Conditions=conditions)
upload("rich", rich)
back("rich back", "dir/the file.bin")
upload("too long for its policy", rich, want + want[:2 << 20])
upload("another key than the policy's", rich, key="other")
upload("another value than the policy's", rich, **{"x-amz-meta-a": "c"})
upload("altered signature", rich, b"", **{
    "x-amz-signature": rich["fields"]["x-amz-signature"][::-1]})
longer = base64.b64decode(rich["fields"]["policy"]).replace(b"5242880", b"6242880")
upload("another policy", rich, b"", policy=base64.b64encode(longer).decode())
upload("past its time", s3.generate_presigned_post(
    bucket, "late", ExpiresIn=-60), b"")
missing = {**rich, "fields": dict(rich["fields"])}
del missing["fields"]["x-amz-signature"]
upload("no signature", missing, b"")
listed = s3.list_objects_v2(Bucket=bucket)
print([o["Key"] for o in listed["Contents"]])
