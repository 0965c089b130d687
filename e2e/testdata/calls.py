"""Makes the calls that standard input lists as JSON and prints what became of
each: what boto3 made of an error, or its answer.

A call is {name, key, secret, token, service, region, operation, parameters,
spoil, once}; spoil changes the request just before it is signed, so that what is sent
is signed correctly and means what it should not, and once sends nothing again whatever the answer is.
"""
import json
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError


def replace(request, name, value):
    del request.headers[name]  # or there would be two
    request.headers[name] = value


def target_beside_action(request):
    request.headers["X-Amz-Target"] = "AWSSecurityTokenServiceV20110615.GetCallerIdentity"


def action_twice(request):
    request.data = "Action=GetCallerIdentity&Version=2011-06-15&Action=GetSessionToken"


def action_in_query_and_body(request):
    request.url += "?Action=GetSessionToken&Version=2011-06-15"


def two_subresources(request):
    request.url += "&policy"


def no_such_operation(request):
    replace(request, "X-Amz-Target", "DynamoDB_20120810.TeleportTable")


def body_that_is_no_json(request):
    request.data = b'{"TableName": "a", "TableName": '


def key_twice(request):
    request.data = b'{"TableName": "a", "TableName": "b"}'


def form_as_json(request):
    replace(request, "Content-Type", "application/x-amz-json-1.0")


SPOIL = {
    function.__name__: function
    for function in (
        target_beside_action, action_twice, action_in_query_and_body,
        two_subresources, no_such_operation, body_that_is_no_json, key_twice,
        form_as_json,
    )
}
clients = {}
current = [""]


def client_for(call):
    names = ("key", "secret", "token", "service", "region", "spoil", "once")
    known = tuple(call.get(name) for name in names)
    if known not in clients:
        client = boto3.client(
            call["service"],
            region_name=call.get("region"),
            aws_access_key_id=call["key"],
            aws_secret_access_key=call["secret"],
            aws_session_token=call.get("token") or None,
            config=Config(
                retries={"total_max_attempts": 1} if call.get("once") else None,
            ),
        )
        spoil = call.get("spoil")
        if spoil:
            client.meta.events.register(
                "before-sign", lambda request, **_: SPOIL[spoil](request)
            )
        # By this the requests are found that arrived.
        client.meta.events.register(
            "before-send", lambda request, **_: request.headers.update({"X-Case": current[0]})
        )
        clients[known] = client
    return clients[known]


def outcome(call):
    current[0] = call["name"]
    try:
        answer = getattr(client_for(call), call["operation"])(**call.get("parameters") or {})
    except ClientError as error:
        answer = error.response
    except (BotoCoreError, ResponseParserError) as error:
        return {"code": type(error).__name__, "message": str(error)}
    metadata = answer.pop("ResponseMetadata")
    error = answer.pop("Error", {})
    return {
        "code": error.get("Code", ""),
        "message": error.get("Message", ""),
        "status": metadata["HTTPStatusCode"],
        "request_id": metadata.get("RequestId", ""),
        "retries": metadata["RetryAttempts"],
        "answer": answer,
    }


json.dump({call["name"]: outcome(call) for call in json.load(sys.stdin)}, sys.stdout, default=str)
