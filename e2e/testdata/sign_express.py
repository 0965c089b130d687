"""Use a directory bucket: boto3 asks for a session by itself."""
import logging
import sys

import boto3

bucket = sys.argv[1]
boto3.set_stream_logger("botocore", logging.DEBUG)  # standard error: what came
s3 = boto3.client("s3", region_name="us-east-1")
data = bytes(range(256)) * 1200
put = s3.put_object(Bucket=bucket, Key="a/b c", Body=data)
print("put", put["ResponseMetadata"]["HTTPStatusCode"])
back = s3.get_object(Bucket=bucket, Key="a/b c")["Body"].read()
print("get", len(back), back == data)
listed = s3.list_objects_v2(Bucket=bucket)
print("list", [o["Key"] for o in listed["Contents"]])
deleted = s3.delete_object(Bucket=bucket, Key="a/b c")
print("delete", deleted["ResponseMetadata"]["HTTPStatusCode"])
