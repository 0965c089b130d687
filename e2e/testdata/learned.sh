# What a person does with aws-cli, with few permissions. The first that is
# denied ends it.
set -eu
aws s3 mb s3://countersign-cli-learned
echo hello | aws s3 cp - s3://countersign-cli-learned/notes/2026-01-31.txt
aws s3 cp s3://countersign-cli-learned/notes/2026-01-31.txt -
aws s3 ls s3://countersign-cli-learned/notes/ | cut -c 21-
aws dynamodb list-tables --query 'length(TableNames)' --output text >/dev/null
aws s3 rm s3://countersign-cli-learned/notes/2026-01-31.txt
aws s3 rb s3://countersign-cli-learned
