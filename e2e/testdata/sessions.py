"""Asks STS for sessions in every way that boto3 knows, and uses each of them.

The arguments say which: assume, user, web, many. Prints a JSON object of what
was seen; the secrets go to the places where programs keep them and no further.
"""
import json
import os
import sys

import boto3

DEPLOY, SPOKE = "arn:aws:iam::123456789012:role/Deploy", "arn:aws:iam::222222222222:role/Spoke"
seen = {}


def sts_of(credentials=None):
    if credentials is None:
        return boto3.client("sts")
    return session_of(credentials).client("sts")


def session_of(credentials):
    return boto3.Session(
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials["SessionToken"],
    )


def note(name, answer):
    """Use the credentials of an answer and keep what came of it."""
    credentials = answer["Credentials"]
    session = session_of(credentials)
    seen[name] = {
        "key": credentials["AccessKeyId"],
        "expires": credentials["Expiration"].isoformat(),
        "user": answer.get("AssumedRoleUser", answer.get("FederatedUser", {})).get("Arn", ""),
        "caller": session.client("sts").get_caller_identity()["Arn"],
        "buckets": [b["Name"] for b in session.client("s3").list_buckets()["Buckets"]],
        "subject": answer.get("SubjectFromWebIdentityToken", ""),
    }
    return credentials


for way in sys.argv[1:]:
    if way == "assume":
        deploy = note("assume", sts_of().assume_role(
            RoleArn=DEPLOY, RoleSessionName="boto", DurationSeconds=900,
            Tags=[{"Key": "colour", "Value": "red"}], ExternalId="example",
        ))
        spoke = note("chain", sts_of(deploy).assume_role(RoleArn=SPOKE, RoleSessionName="chained"))
        note("back", sts_of(spoke).assume_role(RoleArn=DEPLOY, RoleSessionName="back"))
    elif way == "user":
        user = note("session", sts_of().get_session_token(DurationSeconds=900))
        note("federated", sts_of().get_federation_token(
            Name="bob", Policy='{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}',
        ))
    elif way == "web":
        with open(os.environ["TOKEN_FILE"]) as file:
            token = file.read()
        note("web", sts_of().assume_role_with_web_identity(
            RoleArn="arn:aws:iam::123456789012:role/Pods", RoleSessionName="pod", WebIdentityToken=token,
        ))
    elif way == "chain":
        # The SDK finds the token and the role itself.
        credentials = boto3.Session().get_credentials()
        seen["method"] = credentials.method
        seen["caller"] = boto3.client("sts").get_caller_identity()["Arn"]

json.dump(seen, sys.stdout)
