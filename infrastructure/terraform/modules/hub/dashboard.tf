module "dashboard" {
  source = "../policy"

  folder   = "infrastructure"
  document = "dashboard"
  tokens = {
    REGION            = local.region
    METRICS_NAMESPACE = var.metrics_namespace
    UPDATER_FUNCTION  = aws_lambda_function.updater_function.function_name
    HISTORY_FUNCTION  = aws_lambda_function.history_function.function_name
    RECORDER          = local.recorder > 0 ? local.recorder_function : "-"
    DEAD_LETTERS_NAME = aws_sqs_queue.dead_letters.name
    LOG_GROUP         = aws_cloudwatch_log_group.log_group.name
  }
}

resource "aws_cloudwatch_dashboard" "dashboard" {
  dashboard_name = var.name
  dashboard_body = module.dashboard.json
}
