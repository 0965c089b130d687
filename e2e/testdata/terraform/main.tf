terraform {
  backend "s3" {
    bucket       = "countersign-terraform"
    key          = "env/prod/state with space.tfstate"
    region       = "us-east-1"
    use_lockfile = true
  }
}

variable "greeting" {
  type    = string
  default = "hello"
}

resource "terraform_data" "greeting" {
  input = var.greeting
}

output "greeting" {
  value = terraform_data.greeting.output
}
