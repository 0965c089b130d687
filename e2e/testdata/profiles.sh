# Profiles as people have them: a role from keys, a role from that role, and a
# role by a token from a file.
set -eu
for profile in base deploy spoke pod; do
  echo "$profile"
  aws --profile "$profile" sts get-caller-identity --query Arn --output text
  aws --profile "$profile" s3api list-buckets --query 'length(Buckets)' --output text >/dev/null
done
