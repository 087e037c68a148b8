# A role of its own, so that whoever asks what happened goes through a function that can do nothing but read.
resource "aws_iam_role" "history_role" {
  name_prefix        = "${var.name}-history-"
  path               = "/ecs-updater/"
  description        = "The history function of ecs-updater. It reads the history, and nothing else."
  assume_role_policy = module.lambda_trust.json
  tags               = local.tags
}

module "history_policy" {
  source   = "../policy"
  document = "history"
  tokens = {
    HISTORY_TABLE_ARN     = aws_dynamodb_table.history_table.arn
    STATE_TABLE_ARN       = aws_dynamodb_table.state_table.arn
    TABLE_KEY_ARN         = var.table_key_arn
    REGION                = local.region
    URL_SUFFIX            = local.url_suffix
    HISTORY_LOG_GROUP_ARN = aws_cloudwatch_log_group.history_log_group.arn
  }
  without = local.without_table_key
}

resource "aws_iam_role_policy" "history_role" {
  name   = "history"
  role   = aws_iam_role.history_role.id
  policy = module.history_policy.json
}

resource "aws_cloudwatch_log_group" "history_log_group" {
  name_prefix       = "/${var.name}/history-"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.data_key_arn == "" ? null : var.data_key_arn
  skip_destroy      = var.keep_records
  tags              = local.tags
}

resource "aws_lambda_function" "history_function" {
  function_name = "${var.name}-history"
  description   = "Tells who changed what, where, when, from what, to what, and how it ended. Changes nothing."
  runtime       = "provided.al2023"
  handler       = "bootstrap"
  architectures = [var.architecture]
  role          = aws_iam_role.history_role.arn
  # Verification reads a whole ledger and hashes it; processors come with memory.
  memory_size             = 512
  timeout                 = 60
  s3_bucket               = var.code_bucket
  s3_key                  = var.history_code_key
  s3_object_version       = var.history_code_version == "" ? null : var.history_code_version
  code_signing_config_arn = var.code_signing_config_arn == "" ? null : var.code_signing_config_arn
  # -1: none of its own.
  reserved_concurrent_executions = var.history_concurrency == "" ? -1 : tonumber(var.history_concurrency)
  tags                           = local.tags
  # A version with every change of package or settings: old ones stay, to go back to.
  publish = true

  logging_config {
    log_format = "JSON"
    log_group  = aws_cloudwatch_log_group.history_log_group.name
  }

  environment {
    variables = {
      HISTORY_TABLE     = aws_dynamodb_table.history_table.name
      STATE_TABLE       = aws_dynamodb_table.state_table.name
      METRICS_NAMESPACE = var.metrics_namespace
    }
  }

  depends_on = [aws_iam_role_policy.history_role]
}

resource "aws_lambda_alias" "history_alias" {
  name             = "live"
  description      = "What callers invoke."
  function_name    = aws_lambda_function.history_function.function_name
  function_version = aws_lambda_function.history_function.version
}
