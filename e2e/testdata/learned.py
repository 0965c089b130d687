"""A run of calls one after the other, each with permissions of its own.

Prints the name of each call that was answered. When one is denied, prints what
boto3 made of it and ends with 3.
"""
import json
import sys

import boto3
from botocore.exceptions import ClientError

BUCKET = "countersign-learned"
s3 = boto3.client("s3")
sqs = boto3.client("sqs")
ssm = boto3.client("ssm")
queue = "https://sqs.us-east-1.amazonaws.com/123456789012/countersign-learned"

CALLS = [
    lambda: boto3.client("sts").get_caller_identity(),
    lambda: s3.create_bucket(Bucket=BUCKET),
    lambda: s3.put_object(Bucket=BUCKET, Key="in/a b+c", Body=b"a", Tagging="colour=red"),
    lambda: s3.copy_object(Bucket=BUCKET, Key="out/copy", CopySource={"Bucket": BUCKET, "Key": "in/a b+c"}),
    lambda: s3.get_object(Bucket=BUCKET, Key="out/copy"),
    lambda: s3.list_objects_v2(Bucket=BUCKET, Prefix="in/"),
    lambda: s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "in/a b+c"}, {"Key": "out/copy"}]}),
    lambda: s3.delete_bucket(Bucket=BUCKET),
    lambda: sqs.create_queue(QueueName="countersign-learned"),
    lambda: sqs.send_message(QueueUrl=queue, MessageBody="hello"),
    lambda: ssm.put_parameter(Name="/countersign/learned", Value="x", Type="String", Overwrite=True),
    lambda: ssm.get_parameter(Name="/countersign/learned"),
    lambda: boto3.client("iam").list_users(),
]

for call in CALLS:
    try:
        call()
    except ClientError as error:
        print(json.dumps({
            "code": error.response["Error"]["Code"],
            "message": error.response["Error"]["Message"],
            "operation": error.operation_name,
            "retries": error.response["ResponseMetadata"]["RetryAttempts"],
        }))
        sys.exit(3)
