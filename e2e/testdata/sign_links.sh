# A link by the AWS CLI, used by curl.
set -eu
bucket=$1
aws configure set default.s3.signature_version s3v4
aws s3 mb "s3://$bucket" >/dev/null 2>&1 || aws s3 ls "s3://$bucket" >/dev/null
printf 'by a link' >file
aws s3 cp --quiet file "s3://$bucket/dir/a b+c"
url=$(aws s3 presign --expires-in 600 "s3://$bucket/dir/a b+c")
case $url in *X-Amz-Signature=*) ;; *) echo "no SigV4 link"; exit 1;; esac
curl --silent --show-error --fail --cacert "$AWS_CA_BUNDLE" "$url"
echo
curl --silent --output /dev/null --write-out '%{http_code}\n' --cacert "$AWS_CA_BUNDLE" "$(printf %s "$url" | sed s/Expires=600/Expires=601/)"
aws s3 rm --quiet "s3://$bucket/dir/a b+c"
