output "target_role_arn" {
  description = "The role that the updater assumes here."
  value       = aws_iam_role.target_role.arn
}

output "reader_role_arn" {
  description = "The role that can only read; null where there is none."
  value       = one(aws_iam_role.reader_role[*].arn)
}
