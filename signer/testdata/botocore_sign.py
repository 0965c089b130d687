"""Signs requests with botocore: one JSON object a line in, one out.

The clock is the request's, so that a result can be compared byte for byte.
"""

import datetime
import json
import sys

import botocore
import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

S3 = {"s3", "s3express", "s3-outposts", "s3-object-lambda"}


def signer(job, creds):
    args = (creds, job["service"], job["region"])
    s3 = job["service"] in S3
    if job["form"] == "query":
        cls = botocore.auth.S3SigV4QueryAuth if s3 else botocore.auth.SigV4QueryAuth
        return cls(*args, expires=900)
    return (botocore.auth.S3SigV4Auth if s3 else botocore.auth.SigV4Auth)(*args)


def post(job, creds):
    request = AWSRequest(method="POST", url=job["url"])
    request.context["s3-presign-post-fields"] = job["fields"]
    request.context["s3-presign-post-policy"] = job["policy"]
    botocore.auth.S3SigV4PostAuth(creds, job["service"], job["region"]).add_auth(request)
    return {"fields": request.context["s3-presign-post-fields"]}


def sign(job):
    now = datetime.datetime.strptime(job["time"], "%Y%m%dT%H%M%SZ")
    botocore.auth.get_current_datetime = lambda *a, **k: now
    creds = Credentials(job["key"], job["secret"], job.get("token") or None)
    if job["form"] == "post":
        return post(job, creds)
    request = AWSRequest(method=job["method"], url=job["url"], data=job["body"].encode())
    for name, values in job["headers"].items():
        for value in values:
            request.headers[name] = value
    signer(job, creds).add_auth(request)
    headers = {}
    for name, value in request.headers.items():
        headers.setdefault(name, []).append(value)
    return {"url": request.url, "headers": headers}


if not hasattr(botocore.auth, "get_current_datetime"):
    sys.exit("botocore %s has no clock to set; use 1.40 or later" % botocore.__version__)
for line in sys.stdin:
    print(json.dumps(sign(json.loads(line))), flush=True)
