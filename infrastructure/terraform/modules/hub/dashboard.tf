locals {
  durations = concat(
    [
      ["AWS/Lambda", "Duration", "FunctionName", aws_lambda_function.updater_function.function_name, { label = "updater p99" }],
      ["...", { label = "updater median", stat = "p50" }],
      ["...", aws_lambda_function.history_function.function_name, { label = "history p99" }],
    ],
    [for name in aws_lambda_function.recorder_function[*].function_name : ["...", name, { label = "recorder p99" }]],
  )
}

resource "aws_cloudwatch_dashboard" "dashboard" {
  dashboard_name = var.name
  dashboard_body = jsonencode({
    widgets = [
      {
        type = "metric", x = 0, y = 0, width = 12, height = 6
        properties = {
          title   = "Changes by status", region = local.region, stat = "Sum", period = 300, stacked = true
          metrics = [[var.metrics_namespace, "Applied"], [".", "Unchanged"], [".", "Failed"]]
        }
      },
      {
        type = "metric", x = 12, y = 0, width = 12, height = 6
        properties = {
          title   = "Failures by code, and whose they are", region = local.region, period = 300, stacked = true
          metrics = [[{ expression = "SEARCH('{${var.metrics_namespace},code,fault} MetricName=\"Failed\"', 'Sum', 300)", id = "failed" }]]
        }
      },
      {
        type = "metric", x = 0, y = 6, width = 12, height = 6
        properties = {
          title   = "Durations", region = local.region, stat = "p99", period = 300
          metrics = local.durations
        }
      },
      {
        type = "metric", x = 12, y = 6, width = 12, height = 6
        properties = {
          title   = "Dead letters", region = local.region, stat = "Maximum", period = 300
          metrics = [["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", aws_sqs_queue.dead_letters.name]]
        }
      },
      {
        type = "log", x = 0, y = 12, width = 24, height = 6
        properties = {
          title = "Who changes most", region = local.region, view = "table"
          query = "SOURCE '${aws_cloudwatch_log_group.log_group.name}' | filter ispresent(requested_by) and ispresent(status) | stats count(*) as changes, count_distinct(service) as services by requested_by | sort changes desc | limit 20"
        }
      },
    ]
  })
}
