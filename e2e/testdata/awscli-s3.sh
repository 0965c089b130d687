# The S3 part of awscli.sh, for a server that is nothing but S3.
set -eu
bucket=countersign-cli
aws s3 mb "s3://$bucket"
aws s3 cp big.bin "s3://$bucket/dir/big.bin" --only-show-errors
aws s3 cp "s3://$bucket/dir/big.bin" back.bin --only-show-errors
cmp big.bin back.bin
rm back.bin
aws s3 ls "s3://$bucket/dir/" | awk '{print $3, $4}'
aws s3api copy-object --bucket "$bucket" --key 'a b+c/é&=~' --copy-source "$bucket/dir/big.bin" --query CopyObjectResult.ETag --output text
aws s3 rm "s3://$bucket" --recursive | sort
aws s3 rb "s3://$bucket"
