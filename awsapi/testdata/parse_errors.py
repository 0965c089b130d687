"""Parse error answers with botocore's own parsers.

Reads one JSON object a line (protocol, status, headers, body in base64) and
prints for each what a client would see: code, message, request id, status.
"""

import base64
import json
import sys

import botocore.session
from botocore.awsrequest import HeadersDict
from botocore.parsers import create_parser

PARSERS = {"query": ("query", "iam", "GetUser"), "ec2": ("ec2", "ec2", "DescribeInstances"), "rest-xml": ("rest-xml", "cloudfront", "GetDistribution"),
           "s3": ("rest-xml", "s3", "GetObject"), "json": ("json", "dynamodb", "GetItem"), "rest-json": ("rest-json", "lambda", "GetFunction"),
           "rpc-v2-cbor": ("smithy-rpc-v2-cbor", "cloudwatch", "ListMetrics"), "json-query": ("json", "sqs", "SendMessage"),
           "cbor-query": ("smithy-rpc-v2-cbor", "cloudwatch", "ListMetrics")}


def main():
    session = botocore.session.Session()
    for line in sys.stdin:
        r = json.loads(line)
        protocol, service, operation = PARSERS[r["protocol"]]
        shape = session.get_service_model(service).operation_model(operation).output_shape
        parsed = create_parser(protocol).parse(
            {"status_code": r["status"], "headers": HeadersDict(r["headers"]), "body": base64.b64decode(r["body"])}, shape)
        error = parsed.get("Error", {})
        meta = parsed["ResponseMetadata"]
        request_id = meta.get("RequestId") or next((v for k, v in r["headers"] if k.lower() in ("x-amzn-requestid", "x-amz-request-id")), None)
        print(json.dumps({"code": error.get("Code"), "message": error.get("Message"), "request_id": request_id, "status": meta["HTTPStatusCode"],
                          "query_code": error.get("QueryErrorCode")}))


if __name__ == "__main__":
    main()
