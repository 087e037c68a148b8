output "trigger_function_name" {
  description = "The trigger function."
  value       = aws_lambda_function.trigger_function.function_name
}

output "trigger_queue_url" {
  description = "Where pushes wait."
  value       = aws_sqs_queue.trigger_queue.url
}
