output "target_role_arn" {
  description = "The role that the updater assumes here."
  value       = aws_iam_role.target_role.arn
}
