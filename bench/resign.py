"""An addon for mitmproxy that signs every request anew with botocore, and streams."""

import os

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from mitmproxy import http

host, port = os.environ["BENCH_UPSTREAM"].rsplit(":", 1)
region = os.environ["BENCH_REGION"]
keys = Credentials(os.environ["BENCH_ACCESS_KEY_ID"], os.environ["BENCH_SECRET_ACCESS_KEY"])
OURS = ("authorization", "x-amz-date", "x-amz-security-token")


def redirect(request: http.Request) -> None:
    """Leads to the bench's server under AWS's name, over one connection for all requests."""
    name = request.host_header
    request.host, request.port = host, int(port)
    request.host_header = name


def sign(flow: http.HTTPFlow) -> None:
    request = flow.request
    service = request.host_header.split(".")[0]
    headers = {k: v for k, v in request.headers.items() if k.lower() not in OURS + ("user-agent", "content-length", "accept-encoding")}
    body = None if request.stream else request.raw_content
    new = AWSRequest(method=request.method, url=f"https://{request.host_header}{request.path}", headers=headers, data=body)
    if service == "s3":
        hash = request.headers["x-amz-content-sha256"]
        auth = S3SigV4Auth(keys, service, region)
        auth.payload = lambda _: hash
    else:
        auth = SigV4Auth(keys, service, region)
    auth.add_auth(new)
    for name in OURS:
        request.headers.pop(name, None)
    for name in ("Authorization", "X-Amz-Date"):
        request.headers[name] = new.headers[name]


def requestheaders(flow: http.HTTPFlow) -> None:
    redirect(flow.request)
    if "x-amz-content-sha256" in flow.request.headers:
        flow.request.stream = True
        sign(flow)


def request(flow: http.HTTPFlow) -> None:
    if not flow.request.stream:
        sign(flow)


def responseheaders(flow: http.HTTPFlow) -> None:
    flow.response.stream = True
