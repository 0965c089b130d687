"""Object operations whose bytes a careless proxy changes.

Prints, for each call, the status, every header that says something about the
object, and a digest of the body exactly as it came: nothing is decompressed.
"""
import gzip
import hashlib
import json
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

BUCKET = "countersign-objects"
KEYS = [
    "plain",
    "a b+c/é&=~%20",
    "dbl//slash",
    "//leading",
    "x/../y",
    "./dot",
    "trailing/",
    "caret^and`{quotes}|\"'<>",
    "semi;colon:at@comma,star*(paren)!$",
    "question?hash#",
    "日本語/🙂",
    "%2F%2f%25",
    "folder/one",
    "folder/two",
]
VARIABLE = {
    "connection", "date", "keep-alive", "last-modified", "server",
    "x-amz-id-2", "x-amz-request-id", "x-amzn-requestid",
}
COMPRESSED = gzip.compress(b"countersign " * 4096, mtime=0)
seen = []


def call(label, operation, **arguments):
    """Record one call's outcome, whether an answer or an error."""
    error = None
    try:
        answer = operation(Bucket=BUCKET, **arguments)
    except ClientError as caught:
        answer, error = caught.response, caught.response["Error"]["Code"]
    metadata = answer["ResponseMetadata"]
    body = answer["Body"].read() if "Body" in answer else b""
    absent = set(VARIABLE)
    if metadata["HTTPStatusCode"] == 304:
        # Not to be sent with 304, RFC 9110 section 15.4.5; net/http sees to it.
        absent.add("content-type")
    seen.append({
        "call": label,
        "status": metadata["HTTPStatusCode"],
        "error": error,
        "headers": {
            name: value
            for name, value in sorted(metadata["HTTPHeaders"].items())
            if name not in absent
        },
        "body": [len(body), hashlib.sha256(body).hexdigest()],
    })
    return answer


def one_object(s3, key):
    body = ("body of " + key).encode()
    call("put " + key, s3.put_object, Key=key, Body=body,
         ContentType="text/x-odd; charset=utf-8", CacheControl="max-age=3",
         Metadata={"Mixed-Case": "two  blanks"})
    etag = call("head " + key, s3.head_object, Key=key).get("ETag")
    call("get " + key, s3.get_object, Key=key)
    call("range " + key, s3.get_object, Key=key, Range="bytes=3-8")
    if etag:
        call("304 " + key, s3.get_object, Key=key, IfNoneMatch=etag)
        call("304 head " + key, s3.head_object, Key=key, IfNoneMatch=etag)
        call("412 " + key, s3.get_object, Key=key, IfMatch='"other"')


def main():
    usable = KEYS
    if "--posix" in sys.argv:
        # A server that keeps objects as files refuses the other keys, and
        # closes the connection under the body.
        usable = [
            key for key in KEYS
            if "//" not in key and "./" not in key and not key.endswith("/")
        ]
    for addressing, keys in (("virtual", usable), ("path", usable[:5])):
        s3 = boto3.client("s3", config=Config(
            s3={"addressing_style": addressing},
            retries={"total_max_attempts": 1},
        ))
        call("create", s3.create_bucket)
        for key in keys:
            one_object(s3, key)
        call("empty", s3.put_object, Key="empty", Body=b"")
        call("get empty", s3.get_object, Key="empty")
        call("gzip", s3.put_object, Key="gzip", Body=COMPRESSED,
             ContentEncoding="gzip", ContentType="text/plain")
        call("get gzip", s3.get_object, Key="gzip")
        call("range gzip", s3.get_object, Key="gzip", Range="bytes=-5")
        call("416", s3.get_object, Key="plain", Range="bytes=900-")
        call("404", s3.get_object, Key="no such key")
        call("404 head", s3.head_object, Key="no such key")
        call("tags", s3.put_object_tagging, Key="plain",
             Tagging={"TagSet": [{"Key": "a b", "Value": "+/="}]})
        call("get tags", s3.get_object_tagging, Key="plain")
        for prefix in ("", "folder/", "a b+c/é&", "dbl//"):
            for name in ("list_objects", "list_objects_v2"):
                answer = call(
                    "%s %s" % (name, prefix), getattr(s3, name),
                    Delimiter="/", Prefix=prefix, MaxKeys=100,
                )
                seen[-1]["keys"] = [
                    o["Key"] for o in answer.get("Contents", [])
                ] + [p["Prefix"] for p in answer.get("CommonPrefixes", [])]
        for item in s3.list_objects_v2(Bucket=BUCKET).get("Contents", []):
            call("delete " + item["Key"], s3.delete_object, Key=item["Key"])
        call("delete bucket", s3.delete_bucket)
    print(json.dumps(seen, indent=1, sort_keys=True, ensure_ascii=False))


if __name__ == "__main__":
    main()
