output "updater_function_name" {
  description = "The function that changes services. Callers invoke its alias (updater_alias_arn)."
  value       = aws_lambda_function.updater_function.function_name
}

output "updater_function_arn" {
  description = "The same, for other accounts and for policies."
  value       = aws_lambda_function.updater_function.arn
}

output "history_function_name" {
  description = "The function that tells about changes. Callers invoke its alias (history_alias_arn)."
  value       = aws_lambda_function.history_function.function_name
}

output "history_function_arn" {
  description = "The same, for other accounts and for policies."
  value       = aws_lambda_function.history_function.arn
}

output "updater_role_arn" {
  description = "The variable updater_role_arn of module target-role."
  value       = aws_iam_role.updater_role.arn
}

output "history_table_name" {
  description = "The table of records."
  value       = aws_dynamodb_table.history_table.name
}

output "state_table_name" {
  description = "The table of heads, leases and idempotency keys."
  value       = aws_dynamodb_table.state_table.name
}

output "log_group_name" {
  description = "The updater's log."
  value       = aws_cloudwatch_log_group.log_group.name
}

output "history_log_group_name" {
  description = "The history function's log."
  value       = aws_cloudwatch_log_group.history_log_group.name
}

output "updater_alias_arn" {
  description = "What callers invoke to change services; ECS_UPDATER_FUNCTION for the command line."
  value       = aws_lambda_alias.updater_alias.arn
}

output "updater_api_alias_arn" {
  description = "What the API door invokes, and nobody else."
  value       = aws_lambda_alias.updater_api_alias.arn
}

output "history_alias_arn" {
  description = "What callers invoke to ask about changes; ECS_UPDATER_HISTORY_FUNCTION for the command line."
  value       = aws_lambda_alias.history_alias.arn
}
