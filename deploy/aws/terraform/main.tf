# The AWS side of countersign: the proxy's own role, which can only assume other
# roles, and the roles that it assumes.

locals {
  make_source   = var.source_role_arn == ""
  source_arn    = local.make_source ? one(aws_iam_role.source[*].arn) : var.source_role_arn
  oidc_provider = try(split(":oidc-provider/", var.oidc_provider_arn)[1], "")
  account       = split("/", var.service_account)
  services = {
    ec2          = "ec2.amazonaws.com"
    ecs          = "ecs-tasks.amazonaws.com"
    pod-identity = "pods.eks.amazonaws.com"
  }
}

data "aws_caller_identity" "here" {
  count = local.make_source && var.workload == "ecs" ? 1 : 0
}

data "aws_iam_policy_document" "source_trust" {
  count = local.make_source ? 1 : 0

  dynamic "statement" {
    for_each = var.workload == "irsa" ? [] : [local.services[var.workload]]
    content {
      actions = var.workload == "pod-identity" ? ["sts:AssumeRole", "sts:TagSession"] : ["sts:AssumeRole"]
      principals {
        type        = "Service"
        identifiers = [statement.value]
      }
      # Otherwise any association, or a task of another account, could be given this
      # role.
      dynamic "condition" {
        for_each = var.workload == "pod-identity" ? { namespace = local.account[0], service-account = local.account[1] } : {}
        content {
          test     = "StringEquals"
          variable = "aws:RequestTag/kubernetes-${condition.key}"
          values   = [condition.value]
        }
      }
      dynamic "condition" {
        for_each = data.aws_caller_identity.here[*].account_id
        content {
          test     = "StringEquals"
          variable = "aws:SourceAccount"
          values   = [condition.value]
        }
      }
    }
  }

  dynamic "statement" {
    for_each = var.workload == "irsa" ? [local.oidc_provider] : []
    content {
      actions = ["sts:AssumeRoleWithWebIdentity"]
      principals {
        type        = "Federated"
        identifiers = [var.oidc_provider_arn]
      }
      condition {
        test     = "StringEquals"
        variable = "${statement.value}:aud"
        values   = ["sts.amazonaws.com"]
      }
      condition {
        test     = "StringEquals"
        variable = "${statement.value}:sub"
        values   = ["system:serviceaccount:${local.account[0]}:${local.account[1]}"]
      }
    }
  }
}

resource "aws_iam_role" "source" {
  count = local.make_source ? 1 : 0

  name               = var.name
  description        = "The role of countersign itself. It can only assume the roles listed here."
  assume_role_policy = data.aws_iam_policy_document.source_trust[0].json
  tags               = var.tags

  lifecycle {
    precondition {
      condition     = var.workload != "irsa" || local.oidc_provider != ""
      error_message = "oidc_provider_arn is needed for irsa."
    }
  }
}

data "aws_iam_policy_document" "source" {
  count = local.make_source ? 1 : 0

  statement {
    actions   = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]
    resources = concat([for r in aws_iam_role.assumed : r.arn], var.foreign_roles)
  }
}

# Separate from the source role, because it needs the roles, and their trust
# policies need the source role.
resource "aws_iam_role_policy" "source" {
  count = local.make_source && length(var.roles) + length(var.foreign_roles) > 0 ? 1 : 0

  name   = "assume"
  role   = aws_iam_role.source[0].id
  policy = data.aws_iam_policy_document.source[0].json
}

resource "aws_iam_instance_profile" "source" {
  count = local.make_source && var.workload == "ec2" ? 1 : 0

  name = var.name
  role = aws_iam_role.source[0].name
  tags = var.tags
}

data "aws_iam_policy_document" "trust" {
  for_each = var.roles

  statement {
    sid     = "Assume"
    actions = ["sts:AssumeRole"]
    principals {
      type        = "AWS"
      identifiers = [local.source_arn]
    }
    dynamic "condition" {
      for_each = each.value.external_id == null ? [] : [each.value.external_id]
      content {
        test     = "StringEquals"
        variable = "sts:ExternalId"
        values   = [condition.value]
      }
    }
    dynamic "condition" {
      for_each = each.value.require_tags
      content {
        test     = "StringLike"
        variable = "aws:RequestTag/${condition.value}"
        values   = ["*"]
      }
    }
  }

  # IAM checks session tags and source identity as separate actions.
  statement {
    sid     = "Describe"
    actions = ["sts:TagSession", "sts:SetSourceIdentity"]
    principals {
      type        = "AWS"
      identifiers = [local.source_arn]
    }
  }
}

resource "aws_iam_role" "assumed" {
  for_each = var.roles

  name                 = each.key
  path                 = each.value.path
  description          = "Assumed by countersign for the identities that its configuration allows."
  assume_role_policy   = data.aws_iam_policy_document.trust[each.key].json
  max_session_duration = each.value.max_session_duration
  permissions_boundary = each.value.permissions_boundary
  tags                 = var.tags
}

resource "aws_iam_role_policy_attachment" "assumed" {
  # Keyed by position: the ARN of a policy that is created in the same run is not
  # known when the keys are computed.
  for_each = merge([
    for name, r in var.roles : { for i, arn in r.policy_arns : "${name} ${i}" => { role = name, arn = arn } }
  ]...)

  role       = aws_iam_role.assumed[each.value.role].name
  policy_arn = each.value.arn
}

resource "aws_iam_role_policy" "assumed" {
  for_each = { for name, r in var.roles : name => r.inline_policy if r.inline_policy != null }

  name   = "inline"
  role   = aws_iam_role.assumed[each.key].id
  policy = each.value
}
