# Null where the module was not asked for.

output "cluster_name" {
  description = "The event's ecs_cluster_name."
  value       = one(module.sandbox_ecs[*].cluster_name)
}

output "service_name" {
  description = "The event's ecs_service_name."
  value       = one(module.sandbox_ecs[*].service_name)
}

output "updater_function_name" {
  description = "The function that changes services. Callers invoke its alias (updater_alias_arn)."
  value       = one(module.hub[*].updater_function_name)
}

output "updater_alias_arn" {
  description = "What callers invoke to change services; ECS_UPDATER_FUNCTION for the command line."
  value       = one(module.hub[*].updater_alias_arn)
}

output "history_function_name" {
  description = "The function that tells about changes. Callers invoke its alias (history_alias_arn)."
  value       = one(module.hub[*].history_function_name)
}

output "history_alias_arn" {
  description = "What callers invoke to ask about changes; ECS_UPDATER_HISTORY_FUNCTION for the command line."
  value       = one(module.hub[*].history_alias_arn)
}

output "updater_role_arn" {
  description = "The variable updater_role_arn of module target-role in other accounts."
  value       = one(module.hub[*].updater_role_arn)
}

output "history_table_name" {
  description = "The table of records."
  value       = one(module.hub[*].history_table_name)
}

output "state_table_name" {
  description = "The table of heads, leases and idempotency keys."
  value       = one(module.hub[*].state_table_name)
}

output "target_role_arn" {
  description = "The role that the updater assumes here."
  value       = one(module.target_role[*].target_role_arn)
}

output "waves_arn" {
  description = "The state machine of rollouts."
  value       = one(module.hub[*].waves_arn)
}

output "waves_bucket_name" {
  description = "Where rollouts read targets and keep results."
  value       = one(module.hub[*].waves_bucket_name)
}

output "api_url" {
  description = "Where the API door is."
  value       = one(module.api[*].api_url)
}
