output "updater_function_name" {
  description = "The function that changes services; ECS_UPDATER_FUNCTION for the command line."
  value       = module.hub.updater_function_name
}

output "updater_function_arn" {
  description = "The same, for other accounts and for policies."
  value       = module.hub.updater_function_arn
}

output "history_function_name" {
  description = "The function that tells about changes; ECS_UPDATER_HISTORY_FUNCTION for the command line."
  value       = module.hub.history_function_name
}

output "history_function_arn" {
  description = "The same, for other accounts and for policies."
  value       = module.hub.history_function_arn
}

output "updater_role_arn" {
  description = "The variable updater_role_arn of module target-role in other accounts."
  value       = module.hub.updater_role_arn
}

output "history_table_name" {
  description = "The table of records."
  value       = module.hub.history_table_name
}

output "state_table_name" {
  description = "The table of heads, leases and idempotency keys."
  value       = module.hub.state_table_name
}

output "target_role_arn" {
  description = "The role that the updater assumes here."
  value       = module.target_role.target_role_arn
}
