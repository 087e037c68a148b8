output "vpc_id" {
  description = "The VPC."
  value       = aws_vpc.vpc.id
}

output "subnet_ids" {
  description = "The variable subnet_ids of module sandbox-ecs."
  value       = [aws_subnet.first_subnet.id, aws_subnet.second_subnet.id]
  # A task that starts before there is a way out fails to pull its image.
  depends_on = [
    aws_route.route_to_internet,
    aws_route_table_association.first_subnet_routes,
    aws_route_table_association.second_subnet_routes,
  ]
}

output "security_group_id" {
  description = "The variable security_group_id of module sandbox-ecs."
  value       = aws_security_group.security_group.id
}
