variable "name" {
  description = "Name of the proxy's own role, if it is created here."
  type        = string
  default     = "countersign"
}

variable "source_role_arn" {
  description = "ARN of the proxy's own role, if it already exists: in another account, or from another call of this module. Empty: create it here."
  type        = string
  default     = ""

  validation {
    condition     = var.source_role_arn == "" || can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$", var.source_role_arn))
    error_message = "source_role_arn must be the ARN of a role."
  }
}

variable "workload" {
  description = "Where the proxy runs, which decides who may assume its own role: ec2, ecs, pod-identity or irsa."
  type        = string
  default     = "ec2"

  validation {
    condition     = contains(["ec2", "ecs", "pod-identity", "irsa"], var.workload)
    error_message = "workload must be ec2, ecs, pod-identity or irsa."
  }
}

variable "oidc_provider_arn" {
  description = "For irsa: the ARN of the cluster's OIDC provider in IAM."
  type        = string
  default     = ""
}

variable "service_account" {
  description = "For irsa and pod-identity: the proxy's service account as NAMESPACE/NAME. An association of Pod Identity must keep its session tags, from which IAM knows the service account."
  type        = string
  default     = "countersign/countersign"

  validation {
    condition     = can(regex("^[a-z0-9.-]+/[a-z0-9.-]+$", var.service_account))
    error_message = "service_account must be NAMESPACE/NAME."
  }
}

variable "foreign_roles" {
  description = "ARNs of further roles that the proxy may assume, in addition to those created here."
  type        = list(string)
  default     = []
}

variable "roles" {
  description = "The roles that the proxy assumes, by name. Policies in countersign can only restrict what these roles allow."
  type = map(object({
    policy_arns          = optional(list(string), [])
    inline_policy        = optional(string)
    permissions_boundary = optional(string)
    external_id          = optional(string)
    max_session_duration = optional(number, 3600)
    path                 = optional(string, "/")
    require_tags         = optional(list(string), []) # session tags that every caller must set
  }))
  default = {}

  validation {
    condition     = alltrue([for r in values(var.roles) : r.max_session_duration >= 3600 && r.max_session_duration <= 43200])
    error_message = "max_session_duration is 3600 to 43200 seconds."
  }
}

variable "tags" {
  description = "Tags for all resources."
  type        = map(string)
  default     = {}
}
