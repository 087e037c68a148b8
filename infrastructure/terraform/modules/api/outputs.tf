output "api_url" {
  description = "Where to send requests; /updates, /plans, /restores and /history follow it."
  value       = "https://${aws_api_gateway_rest_api.api.id}.execute-api.${local.region}.${data.aws_partition.current.dns_suffix}/live"
}

output "api_id" {
  description = "The id of the REST API."
  value       = aws_api_gateway_rest_api.api.id
}

output "caller_policy_arn" {
  description = "The policy for roles and users who change services; null but with IAM."
  value       = one(aws_iam_policy.caller_policy[*].arn)
}

output "reader_policy_arn" {
  description = "The policy for roles and users who ask only; null but with IAM."
  value       = one(aws_iam_policy.reader_policy[*].arn)
}

output "access_log_name" {
  description = "Who called what, when, and what the door answered."
  value       = aws_cloudwatch_log_group.access_log.name
}
