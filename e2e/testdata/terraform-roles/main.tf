# State under one role, and other states read under a role of each account, all
# in one run and without a provider of its own.
terraform {
  backend "s3" {
    bucket       = "countersign-roles"
    key          = "main.tfstate"
    region       = "us-east-1"
    use_lockfile = true
    assume_role = {
      role_arn     = "arn:aws:iam::123456789012:role/Deploy"
      session_name = "terraform"
      duration     = "15m"
    }
  }
}

variable "accounts" {
  default = ["222222222222", "333333333333", "444444444444"]
}

data "terraform_remote_state" "spoke" {
  for_each = toset(var.accounts)
  backend  = "s3"
  config = {
    bucket  = "countersign-roles"
    key     = "spokes/${each.key}.tfstate"
    region  = "us-east-1"
    profile = "deploy"
    assume_role = {
      role_arn     = "arn:aws:iam::${each.key}:role/Spoke"
      session_name = "terraform-spoke"
    }
  }
}

output "greetings" {
  value = join(", ", [for account in var.accounts : data.terraform_remote_state.spoke[account].outputs.greeting])
}
