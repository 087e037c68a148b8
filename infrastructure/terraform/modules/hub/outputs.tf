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

output "notices_topic_arn" {
  description = "The topic of alarms, for further subscriptions."
  value       = aws_sns_topic.notices_topic.arn
}

output "dead_letters_url" {
  description = "The queue of what failed for good."
  value       = aws_sqs_queue.dead_letters.url
}

output "dashboard_name" {
  description = "The dashboard in CloudWatch."
  value       = aws_cloudwatch_dashboard.dashboard.dashboard_name
}

output "event_bus_arn" {
  description = "The variable hub_event_bus_arn of module target-events; null without a recorder."
  value       = one(aws_cloudwatch_event_bus.event_bus[*].arn)
}

output "recorder_role_arn" {
  description = "One of reader_principal_arns of module target-role; null without a recorder."
  value       = one(aws_iam_role.recorder_role[*].arn)
}

output "recorder_function_name" {
  description = "The function that records how deployments ended; null without a recorder."
  value       = one(aws_lambda_function.recorder_function[*].function_name)
}

output "waves_arn" {
  description = "The state machine of rollouts."
  value       = aws_sfn_state_machine.waves.arn
}

output "waves_bucket_name" {
  description = "Where rollouts read targets and keep results."
  value       = aws_s3_bucket.waves_bucket.id
}

output "waves_role_arn" {
  description = "The state machine's role."
  value       = aws_iam_role.waves_role.arn
}

output "waves_log_group_name" {
  description = "The state machine's log."
  value       = aws_cloudwatch_log_group.waves_log_group.name
}

output "tampering_queue_arn" {
  description = "The variable tampering_queue_arn of modules trigger and api."
  value       = aws_sqs_queue.tampering_queue.arn
}

output "tampering_queue_url" {
  description = "What somebody changed of this module's resources, as CloudTrail tells it, for two weeks."
  value       = aws_sqs_queue.tampering_queue.url
}
