"""Requests that must be refused, sent by a real SDK.

Each case is a correct boto3 call that is spoilt just before it is sent. Prints
what boto3 made of the answer. The case's name is in the User-Agent, by which
the server's log is searched for requests that got through.
"""
import datetime
import json
import os
import sys

import boto3
import botocore.auth
from botocore import UNSIGNED
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import get_current_datetime
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

KEY = os.environ["AWS_ACCESS_KEY_ID"]
SECRET = os.environ["AWS_SECRET_ACCESS_KEY"]
CALLS = {
    "s3": lambda c: c.put_object(
        Bucket="countersign-refusals", Key="a/b", Body=b"0123456789",
        Metadata={"colour": "red"},
    ),
    "dynamodb": lambda c: c.list_tables(),
    "sts": lambda c: c.get_caller_identity(),
    "ec2": lambda c: c.describe_regions(),
    "lambda": lambda c: c.list_functions(),
    "cloudwatch": lambda c: c.list_dashboards(),
}
CASES = {}
# S3 demands the hash in the head, so its bodies need not be held.
NOT_TRIED = {"oversized_body.s3"}


def case(function):
    CASES[function.__name__] = function
    return function


class Spoilt:
    """A client of one service and what is done to its request."""

    def __init__(self, service):
        self.service = service
        self.credentials = {
            "aws_access_key_id": KEY, "aws_secret_access_key": SECRET,
        }
        self.config = {}
        self.offset = datetime.timedelta()
        self.before_send = None

    def sign(self, request, service=None, region="us-east-1"):
        """Sign a prepared request once more, as it now is."""
        service = service or {"cloudwatch": "monitoring"}.get(
            self.service, self.service
        )
        for name in ("Authorization", "X-Amz-Date"):
            if name in request.headers:
                del request.headers[name]
        kind = S3SigV4Auth if self.service == "s3" else SigV4Auth
        again = AWSRequest(
            method=request.method, url=request.url,
            data=request.body,
            headers={n: text(v) for n, v in request.headers.items()},
        )
        again.context["client_config"] = Config(s3={})
        again.context["payload_signing_enabled"] = True
        kind(Credentials(KEY, SECRET), service, region).add_auth(again)
        for name in list(request.headers):
            del request.headers[name]
        for name, value in again.headers.items():
            request.headers[name] = value

    def call(self, label):
        config = Config(
            retries={"total_max_attempts": 1},
            user_agent_extra="case/" + label,
            request_checksum_calculation="when_required",
            s3={"payload_signing_enabled": True}, **self.config,
        )
        client = boto3.client(
            self.service, region_name="us-east-1", config=config,
            **self.credentials,
        )
        if self.before_send:
            service_id = client.meta.service_model.service_id.hyphenize()
            client.meta.events.register(
                "before-send." + service_id,
                lambda request, **_: self.before_send(request),
            )
        botocore.auth.get_current_datetime = (
            lambda **kwargs: get_current_datetime(**kwargs) + self.offset
        )
        try:
            CALLS[self.service](client)
        except ClientError as error:
            metadata = error.response["ResponseMetadata"]
            return {
                "code": error.response["Error"]["Code"],
                "message": error.response["Error"].get("Message", ""),
                "status": metadata["HTTPStatusCode"],
                "request_id": metadata.get("RequestId", ""),
                "retries": metadata["RetryAttempts"],
            }
        except (BotoCoreError, ResponseParserError) as error:
            return {"code": type(error).__name__, "message": str(error)}
        return {"code": "", "message": "it was answered"}


def text(value):
    return value.decode() if isinstance(value, bytes) else value


def send(change):
    """Make a case of a change to the request that is about to be sent."""
    def spoil(spoilt):
        spoilt.before_send = lambda request: change(spoilt, request)
    spoil.__name__ = change.__name__
    CASES[change.__name__] = spoil
    return change


@case
def unknown_key(spoilt):
    spoilt.credentials["aws_access_key_id"] = "CSIG" + "Z" * 16


@case
def wrong_secret(spoilt):
    spoilt.credentials["aws_secret_access_key"] = SECRET[::-1]


@case
def real_user_key(spoilt):
    spoilt.credentials["aws_access_key_id"] = "AKIAREALKEY2EXAMPLE2"


@case
def real_session_key(spoilt):
    spoilt.credentials["aws_access_key_id"] = "ASIAREALKEY2EXAMPLE2"
    spoilt.credentials["aws_session_token"] = "IQoJb3JpZ2luX2VjEXAMPLE"


@case
def stale_date(spoilt):
    spoilt.offset = datetime.timedelta(minutes=-16)


@case
def future_date(spoilt):
    spoilt.offset = datetime.timedelta(minutes=16)


@case
def no_signature(spoilt):
    spoilt.config["signature_version"] = UNSIGNED


@send
def altered_path(spoilt, request):
    host, path = request.url.split(".com", 1)
    request.url = host + ".com" + path.rstrip("/") + "/other"


@send
def altered_query(spoilt, request):
    request.url += ("&" if "?" in request.url else "?") + "versionId=1"


@send
def altered_header(spoilt, request):
    name, value = "X-Amz-Date", text(request.headers["X-Amz-Date"])
    if spoilt.service == "s3":
        name, new = "x-amz-meta-colour", "blue"
    else:
        seconds = "58" if value[-3:-1] == "59" else "59"
        new = value[:-3] + seconds + "Z"
    del request.headers[name]
    request.headers[name] = new


@send
def altered_body(spoilt, request):
    body = request.body or b""
    if hasattr(body, "read"):
        body = body.read()
    if isinstance(body, str):
        body = body.encode()
    request.body = b"X" + body[1:]
    request.headers["Content-Length"] = str(len(request.body))


@send
def unsigned_amz_header(spoilt, request):
    request.headers["x-amz-acl"] = "public-read"


@send
def scope_of_another_service(spoilt, request):
    spoilt.sign(request, service="sqs")


@send
def scope_of_another_region(spoilt, request):
    spoilt.sign(request, region="eu-west-1")


@send
def two_authentications(spoilt, request):
    request.url += ("&" if "?" in request.url else "?") + (
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=" + "0" * 64
    )
    spoilt.sign(request)


@send
def host_of_another(spoilt, request):
    request.headers["Host"] = "iam.amazonaws.com"
    spoilt.sign(request)


@send
def oversized_body(spoilt, request):
    # Without its hash in the head, the body must be read before the decision.
    if "X-Amz-Content-SHA256" in request.headers:
        del request.headers["X-Amz-Content-SHA256"]
    request.body = b" " * (2 << 20)
    request.headers["Content-Length"] = str(len(request.body))
    spoilt.sign(request)


@case
def as_it_is(spoilt):
    """The call unspoilt: for proxies that refuse for reasons of their own."""


def main():
    # The global endpoint of S3 belongs to no region.
    os.environ["AWS_S3_US_EAST_1_REGIONAL_ENDPOINT"] = "regional"
    names = sys.argv[1:] or [name for name in CASES if name != "as_it_is"]
    outcomes = {}
    for name in names:
        for service in CALLS:
            label = name + "." + service
            if label in NOT_TRIED:
                continue
            spoilt = Spoilt(service)
            CASES[name](spoilt)
            outcomes[label] = spoilt.call(label)
    print(json.dumps(outcomes, indent=1))


if __name__ == "__main__":
    main()
