"""A program as people write it with boto3. Prints what it saw as JSON."""
import json

import boto3

BUCKET = "countersign-boto3"


def main():
    seen = {"account": boto3.client("sts").get_caller_identity()["Account"]}

    s3 = boto3.resource("s3")
    bucket = s3.create_bucket(Bucket=BUCKET)
    bucket.put_object(Key="greeting", Body=b"hello", Metadata={"who": "me"})
    copied = bucket.Object("copy")
    copied.copy({"Bucket": BUCKET, "Key": "greeting"})
    answer = copied.get()
    seen["copy"] = [answer["Body"].read().decode(), answer["Metadata"]]
    seen["keys"] = [item.key for item in bucket.objects.all()]
    bucket.delete_objects(
        Delete={"Objects": [{"Key": key} for key in seen["keys"]]}
    )
    bucket.delete()

    table = boto3.resource("dynamodb").create_table(
        TableName="countersign-boto3",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    with table.batch_writer() as batch:
        for number in range(30):
            batch.put_item(Item={"id": "é%d" % number, "data": b"\x00\xff"})
    seen["items"] = sorted(item["id"] for item in table.scan()["Items"])
    table.delete()

    queue = boto3.resource("sqs").create_queue(QueueName="countersign-boto3")
    queue.send_message(MessageBody="one & two")
    seen["messages"] = [m.body for m in queue.receive_messages()]
    queue.delete()

    seen["instances"] = len(
        boto3.client("ec2").describe_instances()["Reservations"]
    )
    seen["roles"] = len(boto3.client("iam").list_roles()["Roles"])
    print(json.dumps(seen, indent=1, sort_keys=True))


if __name__ == "__main__":
    main()
