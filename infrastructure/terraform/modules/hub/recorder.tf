# How deployments ended: events of all accounts come to a bus, a function records them. Only with recorder_code_key.

locals {
  recorder = var.recorder_code_key == "" ? 0 : 1
}

resource "aws_cloudwatch_event_bus" "event_bus" {
  count = local.recorder

  name        = var.name
  description = "ECS deployments of the organization, for the recorder of ecs-updater."
  tags        = local.tags
}

# Without an organization the hub's own account sends, which needs no policy.
locals {
  event_bus_policy = var.organization_id == "" ? 0 : local.recorder
}

module "event_bus_policy" {
  count  = local.event_bus_policy
  source = "../policy"

  document = "event-bus"
  tokens = {
    PARTITION       = local.partition
    REGION          = local.region
    ACCOUNT_ID      = local.account_id
    EVENT_BUS_NAME  = var.name
    ORGANIZATION_ID = var.organization_id
  }
}

resource "aws_cloudwatch_event_bus_policy" "event_bus" {
  count = local.event_bus_policy

  event_bus_name = aws_cloudwatch_event_bus.event_bus[0].name
  policy         = module.event_bus_policy[0].json
}

resource "aws_cloudwatch_event_rule" "recorder_rule" {
  count = local.recorder

  name_prefix    = "${var.name}-"
  description    = "Deployments that began, waited, ended or failed, to the recorder."
  event_bus_name = aws_cloudwatch_event_bus.event_bus[0].name
  event_pattern  = jsonencode({ source = ["aws.ecs"], detail-type = ["ECS Deployment State Change", "ECS Hook State Change"] })
  tags           = local.tags
}

resource "aws_cloudwatch_event_target" "recorder_rule" {
  count = local.recorder

  rule           = aws_cloudwatch_event_rule.recorder_rule[0].name
  event_bus_name = aws_cloudwatch_event_bus.event_bus[0].name
  target_id      = "recorder"
  arn            = aws_lambda_alias.recorder_alias[0].arn

  retry_policy {
    maximum_event_age_in_seconds = 86400
    maximum_retry_attempts       = 185
  }

  dead_letter_config {
    arn = aws_sqs_queue.dead_letters.arn
  }
}

# Nobody may be listening in a target account: its alarms about lost events come here.
resource "aws_cloudwatch_event_rule" "target_alarms_rule" {
  count = local.recorder

  name_prefix    = "${var.name}-"
  description    = "Alarms about events that did not get here from an account, to the dead letters."
  event_bus_name = aws_cloudwatch_event_bus.event_bus[0].name
  event_pattern = jsonencode({
    source      = ["aws.cloudwatch"]
    detail-type = ["CloudWatch Alarm State Change"]
    detail      = { state = { value = ["ALARM"] } }
  })
  tags = local.tags
}

resource "aws_cloudwatch_event_target" "target_alarms_rule" {
  count = local.recorder

  rule           = aws_cloudwatch_event_rule.target_alarms_rule[0].name
  event_bus_name = aws_cloudwatch_event_bus.event_bus[0].name
  target_id      = "dead-letters"
  arn            = aws_sqs_queue.dead_letters.arn
}

resource "aws_cloudwatch_event_rule" "sweep_rule" {
  count = local.recorder

  name_prefix         = "${var.name}-"
  description         = "Lets the recorder ask about deployments whose end nothing told of."
  schedule_expression = "rate(5 minutes)"
  tags                = local.tags
}

resource "aws_cloudwatch_event_target" "sweep_rule" {
  count = local.recorder

  rule      = aws_cloudwatch_event_rule.sweep_rule[0].name
  target_id = "recorder"
  arn       = aws_lambda_alias.recorder_alias[0].arn
  # In place of EventBridge's own event, of which the recorder would understand nothing.
  input = jsonencode({ sweep = {} })

  retry_policy {
    maximum_event_age_in_seconds = 300
    maximum_retry_attempts       = 2
  }

  dead_letter_config {
    arn = aws_sqs_queue.dead_letters.arn
  }
}

resource "aws_lambda_permission" "recorder_rule_permission" {
  count = local.recorder

  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.recorder_function[0].function_name
  qualifier     = aws_lambda_alias.recorder_alias[0].name
  principal     = "events.amazonaws.com"
  source_arn    = aws_cloudwatch_event_rule.recorder_rule[0].arn
}

resource "aws_lambda_permission" "sweep_rule_permission" {
  count = local.recorder

  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.recorder_function[0].function_name
  qualifier     = aws_lambda_alias.recorder_alias[0].name
  principal     = "events.amazonaws.com"
  source_arn    = aws_cloudwatch_event_rule.sweep_rule[0].arn
}

resource "aws_iam_role" "recorder_role" {
  count = local.recorder

  name_prefix        = "${var.name}-recorder-"
  path               = "/ecs-updater/"
  description        = "The recorder of ecs-updater. It reads in target accounts, and appends to the history how deployments ended."
  assume_role_policy = module.lambda_trust.json
  tags               = local.tags
}

module "recorder_policy" {
  count  = local.recorder
  source = "../policy"

  document = "recorder"
  tokens = {
    PARTITION              = local.partition
    REGION                 = local.region
    URL_SUFFIX             = local.url_suffix
    READER_ROLE_NAME       = var.reader_role_name
    HISTORY_TABLE_ARN      = aws_dynamodb_table.history_table.arn
    STATE_TABLE_ARN        = aws_dynamodb_table.state_table.arn
    DEAD_LETTERS_ARN       = aws_sqs_queue.dead_letters.arn
    TABLE_KEY_ARN          = var.table_key_arn
    DATA_KEY_ARN           = var.data_key_arn
    ALLOWED_ACCOUNTS_ARN   = var.allowed_accounts_arn
    RECORDER_LOG_GROUP_ARN = aws_cloudwatch_log_group.recorder_log_group[0].arn
    RECORDER_SOURCE_ARN    = aws_lambda_function.recorder_function[0].arn
  }
  without = concat(
    local.without_organization,
    local.without_table_key,
    local.without_data_key,
    var.allowed_accounts_arn == "" ? ["ReadAllowedAccounts"] : [],
    var.resolve_units == "YES" ? [] : ["ResolveUnits"],
  )
}

resource "aws_iam_role_policy" "recorder_policy" {
  count = local.recorder

  name   = "recorder"
  role   = aws_iam_role.recorder_role[0].id
  policy = module.recorder_policy[0].json
}

resource "aws_cloudwatch_log_group" "recorder_log_group" {
  count = local.recorder

  name_prefix       = "/${var.name}/recorder-"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.data_key_arn == "" ? null : var.data_key_arn
  skip_destroy      = var.keep_records
  tags              = local.tags
}

resource "aws_lambda_function" "recorder_function" {
  count = local.recorder

  function_name           = "${var.name}-recorder"
  description             = "Records how deployments ended, and those that nobody asked for here."
  runtime                 = "provided.al2023"
  handler                 = "bootstrap"
  architectures           = [var.architecture]
  role                    = aws_iam_role.recorder_role[0].arn
  memory_size             = 256
  timeout                 = 120
  s3_bucket               = var.code_bucket
  s3_key                  = var.recorder_code_key
  s3_object_version       = var.recorder_code_version == "" ? null : var.recorder_code_version
  code_signing_config_arn = var.code_signing_config_arn == "" ? null : var.code_signing_config_arn
  # -1: none of its own.
  reserved_concurrent_executions = var.recorder_concurrency == "" ? -1 : tonumber(var.recorder_concurrency)
  tags                           = local.tags
  # A version with every change of package or settings: old ones stay, to go back to.
  publish = true

  logging_config {
    log_format = "JSON"
    log_group  = aws_cloudwatch_log_group.recorder_log_group[0].name
  }

  environment {
    variables = merge(
      {
        HISTORY_TABLE     = aws_dynamodb_table.history_table.name
        STATE_TABLE       = aws_dynamodb_table.state_table.name
        READER_ROLE_NAME  = var.reader_role_name
        METRICS_NAMESPACE = var.metrics_namespace
      },
      var.external_id == "" ? {} : { EXTERNAL_ID = var.external_id },
      length(var.allowed_accounts) == 0 ? {} : { ALLOWED_ACCOUNTS = join(",", var.allowed_accounts) },
    )
  }
}

resource "aws_lambda_alias" "recorder_alias" {
  count = local.recorder

  name             = "live"
  description      = "What the rules invoke."
  function_name    = aws_lambda_function.recorder_function[0].function_name
  function_version = aws_lambda_function.recorder_function[0].version

  depends_on = [aws_iam_role_policy.recorder_policy]
}

resource "aws_lambda_function_event_invoke_config" "recorder_alias_async" {
  count = local.recorder

  function_name                = aws_lambda_function.recorder_function[0].function_name
  qualifier                    = aws_lambda_alias.recorder_alias[0].name
  maximum_retry_attempts       = 2
  maximum_event_age_in_seconds = 21600

  destination_config {
    on_failure {
      destination = aws_sqs_queue.dead_letters.arn
    }
  }

  # Lambda tries whether the role may send.
  depends_on = [aws_iam_role_policy.recorder_policy]
}

resource "aws_lambda_function_event_invoke_config" "recorder_async" {
  count = local.recorder

  function_name                = aws_lambda_function.recorder_function[0].function_name
  qualifier                    = "$LATEST"
  maximum_retry_attempts       = 2
  maximum_event_age_in_seconds = 21600

  destination_config {
    on_failure {
      destination = aws_sqs_queue.dead_letters.arn
    }
  }

  # Lambda tries whether the role may send.
  depends_on = [aws_iam_role_policy.recorder_policy]
}
