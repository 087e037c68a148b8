output "roles_rule_arn" {
  description = "The rule that sends changes of roles to the hub's region."
  value       = aws_cloudwatch_event_rule.roles_rule.arn
}
