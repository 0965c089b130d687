# What a person does with aws-cli. Prints only what is the same at every run.
set -eu
bucket=countersign-cli

aws sts get-caller-identity --query Account --output text

aws s3 mb "s3://$bucket"
aws s3 cp big.bin "s3://$bucket/dir/big.bin" --only-show-errors
aws s3api head-object --bucket "$bucket" --key dir/big.bin --query '[ContentLength,ETag]' --output text
aws s3 cp "s3://$bucket/dir/big.bin" back.bin --only-show-errors
cmp big.bin back.bin
rm back.bin
aws s3 ls "s3://$bucket/dir/" | awk '{print $3, $4}'
aws s3 rm "s3://$bucket/dir/big.bin"
aws s3 rb "s3://$bucket"

aws dynamodb create-table --table-name countersign --billing-mode PAY_PER_REQUEST \
  --attribute-definitions AttributeName=id,AttributeType=S \
  --key-schema AttributeName=id,KeyType=HASH --query TableDescription.TableName --output text
aws dynamodb put-item --table-name countersign --item '{"id":{"S":"a"},"n":{"N":"1"}}'
aws dynamodb get-item --table-name countersign --key '{"id":{"S":"a"}}' --output json
aws dynamodb scan --table-name countersign --query Count
aws dynamodb delete-table --table-name countersign --query TableDescription.TableName --output text

aws iam create-user --user-name countersign-cli --query User.Arn --output text
aws iam list-users --query 'Users[].UserName' --output text
aws iam delete-user --user-name countersign-cli

aws lambda list-functions --query 'length(Functions)'

queue=$(aws sqs create-queue --queue-name countersign --query QueueUrl --output text)
aws sqs send-message --queue-url "$queue" --message-body 'a b+c/é&=~%20' --query MD5OfMessageBody --output text
aws sqs receive-message --queue-url "$queue" --query 'Messages[].Body' --output text
aws sqs delete-queue --queue-url "$queue"
