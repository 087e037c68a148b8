resource "aws_iam_role" "updater_role" {
  name_prefix        = "${var.name}-updater-"
  path               = "/ecs-updater/"
  description        = "The ecs-updater function. It changes services through the target accounts' roles, never with this one."
  assume_role_policy = module.lambda_trust.json
  tags               = local.tags
}

module "updater_policy" {
  source   = "../policy"
  document = "updater"
  tokens = {
    PARTITION                = local.partition
    TARGET_ROLE_NAME         = var.target_role_name
    HISTORY_TABLE_ARN        = aws_dynamodb_table.history_table.arn
    STATE_TABLE_ARN          = aws_dynamodb_table.state_table.arn
    DEAD_LETTERS_ARN         = aws_sqs_queue.dead_letters.arn
    TABLE_KEY_ARN            = var.table_key_arn
    DATA_KEY_ARN             = var.data_key_arn
    ALLOWED_ACCOUNTS_ARN     = var.allowed_accounts_arn
    REGISTRY_REPOSITORY_ARNS = var.registry_repository_arns
    REGISTRY_SECRET_ARNS     = var.registry_secret_arns
    REGION                   = local.region
    URL_SUFFIX               = local.url_suffix
    LOG_GROUP_ARN            = aws_cloudwatch_log_group.log_group.arn
    UPDATER_SOURCE_ARN       = aws_lambda_function.updater_function.arn
  }
  without = concat(
    local.without_organization,
    local.without_table_key,
    local.without_data_key,
    var.allowed_accounts_arn == "" ? ["ReadAllowedAccounts"] : [],
    var.resolve_units == "YES" ? [] : ["ResolveUnits"],
    length(var.registry_repository_arns) == 0 ? ["LookUpImages"] : [],
    length(var.registry_secret_arns) == 0 ? ["ReadRegistryCredentials"] : [],
  )
}

resource "aws_iam_role_policy" "updater_policy" {
  name   = "updater"
  role   = aws_iam_role.updater_role.id
  policy = module.updater_policy.json
}

resource "aws_cloudwatch_log_group" "log_group" {
  name_prefix       = "/${var.name}/updater-"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.data_key_arn == "" ? null : var.data_key_arn
  skip_destroy      = var.keep_records
  tags              = local.tags
}

resource "aws_lambda_function" "updater_function" {
  function_name           = var.name
  description             = "Sets image, tags and parameters of an ECS service in a target account, and records the change."
  runtime                 = "provided.al2023"
  handler                 = "bootstrap"
  architectures           = [var.architecture]
  role                    = aws_iam_role.updater_role.arn
  memory_size             = 256
  timeout                 = 900
  s3_bucket               = var.code_bucket
  s3_key                  = var.code_key
  s3_object_version       = var.code_version == "" ? null : var.code_version
  code_signing_config_arn = var.code_signing_config_arn == "" ? null : var.code_signing_config_arn
  # -1: none of its own.
  reserved_concurrent_executions = var.updater_concurrency == "" ? -1 : tonumber(var.updater_concurrency)
  tags                           = local.tags
  # A version with every change of package or settings: old ones stay, to go back to.
  publish = true

  logging_config {
    log_format = "JSON"
    log_group  = aws_cloudwatch_log_group.log_group.name
  }

  environment {
    variables = merge(
      {
        HISTORY_TABLE            = aws_dynamodb_table.history_table.name
        STATE_TABLE              = aws_dynamodb_table.state_table.name
        TARGET_ROLE_NAME         = var.target_role_name
        CALLER_EVENTS_PER_MINUTE = var.caller_events_per_minute
        METRICS_NAMESPACE        = var.metrics_namespace
      },
      var.external_id == "" ? {} : { EXTERNAL_ID = var.external_id },
      length(var.allowed_accounts) == 0 ? {} : { ALLOWED_ACCOUNTS = join(",", var.allowed_accounts) },
      var.registry_credentials == "" ? {} : { REGISTRY_CREDENTIALS = var.registry_credentials },
    )
  }
}

# Its policy names the function, and is there before anybody invokes it: the aliases wait for the policy.
resource "aws_lambda_alias" "updater_alias" {
  name             = "live"
  description      = "What callers invoke."
  function_name    = aws_lambda_function.updater_function.function_name
  function_version = aws_lambda_function.updater_function.version

  depends_on = [aws_iam_role_policy.updater_policy]
}

# The updater takes the requested_by of whoever invokes this alias for verified.
resource "aws_lambda_alias" "updater_api_alias" {
  name             = "api"
  description      = "For the API door alone, which knows who asks."
  function_name    = aws_lambda_function.updater_function.function_name
  function_version = aws_lambda_function.updater_function.version

  depends_on = [aws_iam_role_policy.updater_policy]
}
