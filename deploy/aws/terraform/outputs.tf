output "source_role_arn" {
  description = "The proxy's own role."
  value       = local.source_arn
}

output "role_arns" {
  description = "The roles that the proxy assumes, by name."
  value       = { for name, r in aws_iam_role.assumed : name => r.arn }
}

output "countersign_roles" {
  description = "The section `roles` of countersign.yaml."
  # yamlencode would quote every string, and a duration must not be quoted.
  value = replace(yamlencode({
    roles = { for name, r in var.roles : name => merge(
      { arn = aws_iam_role.assumed[name].arn, duration = "${r.max_session_duration}s" },
      r.external_id == null ? {} : { external_id = r.external_id },
    ) }
  }), "/\"duration\": \"([0-9]+s)\"/", "\"duration\": $1")
  sensitive = true # external ids
}
