# Dead letters: what was asked for asynchronously and failed for good. With SQS's own key where none is given, so that no key
# policy can lose one.
resource "aws_sqs_queue" "dead_letters" {
  name_prefix               = "${var.name}-dead-letters-"
  message_retention_seconds = 1209600
  sqs_managed_sse_enabled   = var.data_key_arn == "" ? true : null
  kms_master_key_id         = var.data_key_arn == "" ? null : var.data_key_arn
  tags                      = local.tags
}

module "dead_letters_policy" {
  source   = "../policy"
  document = "dead-letters"
  tokens = {
    DEAD_LETTERS_ARN = aws_sqs_queue.dead_letters.arn
    RULE_ARNS = concat(
      local.watch_rule_arns,
      aws_cloudwatch_event_rule.recorder_rule[*].arn,
      aws_cloudwatch_event_rule.target_alarms_rule[*].arn,
      aws_cloudwatch_event_rule.sweep_rule[*].arn,
    )
  }
}

resource "aws_sqs_queue_policy" "dead_letters_policy" {
  queue_url = aws_sqs_queue.dead_letters.url
  policy    = module.dead_letters_policy.json
}

resource "aws_lambda_function_event_invoke_config" "updater_async" {
  function_name                = aws_lambda_function.updater_function.function_name
  qualifier                    = "$LATEST"
  maximum_retry_attempts       = 2
  maximum_event_age_in_seconds = 21600

  destination_config {
    on_failure {
      destination = aws_sqs_queue.dead_letters.arn
    }
  }

  # Lambda tries whether the role may send.
  depends_on = [aws_iam_role_policy.updater_policy]
}

resource "aws_lambda_function_event_invoke_config" "updater_alias_async" {
  function_name                = aws_lambda_function.updater_function.function_name
  qualifier                    = aws_lambda_alias.updater_alias.name
  maximum_retry_attempts       = 2
  maximum_event_age_in_seconds = 21600

  destination_config {
    on_failure {
      destination = aws_sqs_queue.dead_letters.arn
    }
  }

  # Lambda tries whether the role may send.
  depends_on = [aws_iam_role_policy.updater_policy]
}

resource "aws_lambda_function_event_invoke_config" "updater_api_alias_async" {
  function_name                = aws_lambda_function.updater_function.function_name
  qualifier                    = aws_lambda_alias.updater_api_alias.name
  maximum_retry_attempts       = 2
  maximum_event_age_in_seconds = 21600

  destination_config {
    on_failure {
      destination = aws_sqs_queue.dead_letters.arn
    }
  }

  # Lambda tries whether the role may send.
  depends_on = [aws_iam_role_policy.updater_policy]
}

# With SNS's own key alarms would vanish: CloudWatch may not use that.
module "notices_key" {
  source   = "../policy"
  document = "notices-key"
  tokens   = { PARTITION = local.partition, ACCOUNT_ID = local.account_id }
}

resource "aws_kms_key" "notices_key" {
  description         = "Encrypts the notices of ecs-updater on their way through SNS."
  enable_key_rotation = true
  policy              = module.notices_key.json
  tags                = local.tags
}

resource "aws_sns_topic" "notices_topic" {
  name_prefix       = "${var.name}-notices-"
  display_name      = "ecs-updater"
  kms_master_key_id = aws_kms_key.notices_key.arn
  tags              = local.tags
}

module "notices_topic_policy" {
  source   = "../policy"
  document = "notices-topic"
  tokens = {
    PARTITION         = local.partition
    ACCOUNT_ID        = local.account_id
    REGION            = local.region
    NOTICES_TOPIC_ARN = aws_sns_topic.notices_topic.arn
  }
}

resource "aws_sns_topic_policy" "notices_topic_policy" {
  arn    = aws_sns_topic.notices_topic.arn
  policy = module.notices_topic_policy.json
}

resource "aws_sns_topic_subscription" "notices_by_email" {
  count = var.notices_email == "" ? 0 : 1

  topic_arn = aws_sns_topic.notices_topic.arn
  protocol  = "email"
  endpoint  = var.notices_email
}

resource "aws_sns_topic_subscription" "notices_by_url" {
  count = nonsensitive(var.notices_url == "") ? 0 : 1

  topic_arn = aws_sns_topic.notices_topic.arn
  protocol  = "https"
  endpoint  = var.notices_url
}

locals {
  slack = var.slack_workspace_id == "" ? 0 : 1
}

resource "aws_chatbot_slack_channel_configuration" "notices_in_slack" {
  count = local.slack

  configuration_name    = var.name
  slack_team_id         = var.slack_workspace_id
  slack_channel_id      = var.slack_channel_id
  sns_topic_arns        = [aws_sns_topic.notices_topic.arn]
  iam_role_arn          = aws_iam_role.chat_role[0].arn
  guardrail_policy_arns = ["arn:${local.partition}:iam::aws:policy/CloudWatchReadOnlyAccess"]
  tags                  = local.tags
}

module "chat_trust" {
  source   = "../policy"
  document = "chat-trust"
  tokens   = { ACCOUNT_ID = local.account_id }
}

resource "aws_iam_role" "chat_role" {
  count = local.slack

  name_prefix        = "${var.name}-chat-"
  path               = "/ecs-updater/"
  description        = "Draws the alarms of ecs-updater in chat."
  assume_role_policy = module.chat_trust.json
  tags               = local.tags
}

module "chat_policy" {
  source   = "../policy"
  document = "chat"
}

resource "aws_iam_role_policy" "chat_role" {
  count = local.slack

  name   = "chat"
  role   = aws_iam_role.chat_role[0].id
  policy = module.chat_policy.json
}
