"""Calls AWS twice with credentials that the SDK finds and renews by itself."""
import boto3

sts = boto3.client("sts")
for _ in range(2):
    print(sts.get_caller_identity()["Arn"])
