output "cluster_name" {
  description = "The event's ecs_cluster_name."
  value       = aws_ecs_cluster.cluster.name
}

output "service_name" {
  description = "The event's ecs_service_name; null where there is none."
  value       = one(aws_ecs_service.service[*].name)
}

output "execution_role_arn" {
  description = "For the variable task_role_arns of module target-role; null where there is no service."
  value       = one(aws_iam_role.execution_role[*].arn)
}

output "log_group_name" {
  description = "The tasks' log; null where there is no service."
  value       = one(aws_cloudwatch_log_group.log_group[*].name)
}
