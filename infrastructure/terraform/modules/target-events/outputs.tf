output "dead_letters_url" {
  description = "The queue of events that did not get to the hub."
  value       = aws_sqs_queue.dead_letters.url
}
