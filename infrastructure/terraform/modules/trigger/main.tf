# ecs-updater, hub account: the trigger function, which changes services when images are pushed to Amazon ECR. Apart from module
# hub: not every hub lets pushes change services. The same resources as infrastructure/cloudformation/trigger.yaml.

data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  # By this tag, everything that Terraform made of ecs-updater is found, as in the first version.
  tags = merge(var.tags, { ecs-updater-terraform = "ecs-updater-trigger" })
}

resource "aws_cloudwatch_event_rule" "trigger_rule" {
  name_prefix = "${var.name}-"
  description = "Images that were pushed or replicated to Amazon ECR in this account and region, to the trigger of ecs-updater."
  event_pattern = jsonencode({
    source      = ["aws.ecr"]
    detail-type = ["ECR Image Action", "ECR Replication Action"]
    detail = merge(
      { action-type = ["PUSH", "REPLICATE"], result = ["SUCCESS"] },
      length(var.repository_names) == 0 ? {} : { repository-name = var.repository_names }
    )
  })
  tags = local.tags
}

resource "aws_cloudwatch_event_target" "trigger_rule" {
  rule      = aws_cloudwatch_event_rule.trigger_rule.name
  target_id = "trigger"
  arn       = aws_sqs_queue.trigger_queue.arn

  # A rule has one group for all it sends. The trigger passes each push on from there, in the same queue, to the group of its
  # repository.
  sqs_target {
    message_group_id = "pushes"
  }
}

# A group a repository, or for all that have images for the same services, so that one push of a service at a time is at work: of
# two, the one that had asked about its tag first could come last.
resource "aws_sqs_queue" "trigger_queue" {
  name_prefix                 = "${var.name}-"
  fifo_queue                  = true
  content_based_deduplication = true
  sqs_managed_sse_enabled     = var.data_key_arn == "" ? true : null
  kms_master_key_id           = var.data_key_arn == "" ? null : var.data_key_arn
  visibility_timeout_seconds  = 960
  message_retention_seconds   = 86400
  redrive_policy              = jsonencode({ deadLetterTargetArn = aws_sqs_queue.trigger_dead_letters.arn, maxReceiveCount = 3 })
  tags                        = local.tags
}

# With SQS's own key where none is given, so that no key policy can lose a push.
resource "aws_sqs_queue" "trigger_dead_letters" {
  name_prefix               = "${var.name}-dead-letters-"
  fifo_queue                = true
  sqs_managed_sse_enabled   = var.data_key_arn == "" ? true : null
  kms_master_key_id         = var.data_key_arn == "" ? null : var.data_key_arn
  message_retention_seconds = 1209600
  tags                      = local.tags
}

module "trigger_queue_policy" {
  source   = "../policy"
  document = "trigger-queue"
  tokens = {
    TRIGGER_QUEUE_ARN = aws_sqs_queue.trigger_queue.arn
    TRIGGER_RULE_ARN  = aws_cloudwatch_event_rule.trigger_rule.arn
  }
}

resource "aws_sqs_queue_policy" "trigger_queue_policy" {
  queue_url = aws_sqs_queue.trigger_queue.url
  policy    = module.trigger_queue_policy.json
}

module "lambda_trust" {
  source   = "../policy"
  document = "lambda-trust"
}

resource "aws_iam_role" "trigger_role" {
  name_prefix        = "${var.name}-"
  path               = "/ecs-updater/"
  description        = "The trigger of ecs-updater. It invokes the updater when an image was pushed."
  assume_role_policy = module.lambda_trust.json
  tags               = local.tags
}

module "trigger_policy" {
  source   = "../policy"
  document = "trigger"
  tokens = {
    UPDATER_FUNCTION_ARN     = var.updater_alias
    REGISTRY_REPOSITORY_ARNS = var.registry_repository_arns
    TRIGGER_QUEUE_ARN        = aws_sqs_queue.trigger_queue.arn
    TRIGGER_LOG_GROUP_ARN    = aws_cloudwatch_log_group.trigger_log_group.arn
    DATA_KEY_ARN             = var.data_key_arn
    TRIGGER_MAPPING_ARN      = var.trigger_mapping_arn
    REGION                   = data.aws_region.current.id
    URL_SUFFIX               = data.aws_partition.current.dns_suffix
  }
  without = concat(
    var.data_key_arn == "" ? ["UseTheDataKey"] : [],
    var.trigger_mapping_arn == "" ? ["ReadMapping"] : [],
  )
}

resource "aws_iam_role_policy" "trigger_role" {
  name   = "trigger"
  role   = aws_iam_role.trigger_role.id
  policy = module.trigger_policy.json
}

resource "aws_cloudwatch_log_group" "trigger_log_group" {
  name_prefix       = "/${var.name}/trigger-"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.data_key_arn == "" ? null : var.data_key_arn
  skip_destroy      = var.keep_records
  tags              = local.tags
}

resource "aws_lambda_function" "trigger_function" {
  function_name           = var.name
  description             = "Changes the services that pushed images are mapped to, through the updater."
  runtime                 = "provided.al2023"
  handler                 = "bootstrap"
  architectures           = [var.architecture]
  role                    = aws_iam_role.trigger_role.arn
  memory_size             = 128
  timeout                 = 900
  s3_bucket               = var.code_bucket
  s3_key                  = var.code_key
  s3_object_version       = var.code_version == "" ? null : var.code_version
  code_signing_config_arn = var.code_signing_config_arn == "" ? null : var.code_signing_config_arn
  tags                    = local.tags

  reserved_concurrent_executions = var.trigger_concurrency == "" ? -1 : tonumber(var.trigger_concurrency)

  logging_config {
    log_format = "JSON"
    log_group  = aws_cloudwatch_log_group.trigger_log_group.name
  }

  environment {
    variables = {
      UPDATER_FUNCTION     = var.updater_alias
      TRIGGER_QUEUE        = aws_sqs_queue.trigger_queue.url
      TRIGGER_MAPPING      = var.trigger_mapping
      TRIGGER_REPOSITORIES = join(",", var.repository_names)
    }
  }

  depends_on = [aws_iam_role_policy.trigger_role]
}

resource "aws_lambda_event_source_mapping" "trigger_queue_mapping" {
  event_source_arn = aws_sqs_queue.trigger_queue.arn
  function_name    = aws_lambda_function.trigger_function.function_name
  # A batch may hold messages of several groups, of which the slowest would hold up the others.
  batch_size              = 1
  function_response_types = ["ReportBatchItemFailures"]
  tags                    = local.tags

  # What is reserved and no more: messages that Lambda has taken, and finds no room for, become dead letters.
  scaling_config {
    maximum_concurrency = var.trigger_concurrency == "" ? 10 : tonumber(var.trigger_concurrency)
  }

  # Lambda tries whether the role may receive.
  depends_on = [aws_iam_role_policy.trigger_role]
}

# Whoever replaces this function's code changes every service that the updater may change, under the name of pushes. The hub's queue
# takes events of rules that are called so; its own rules hear of such a rule.
locals {
  watch = (var.watch != null ? var.watch : var.tampering_queue_arn != "") ? 1 : 0
}

resource "aws_cloudwatch_event_rule" "trigger_watch" {
  count = local.watch

  name_prefix = "ecs-updater-watch-trigger-"
  description = "Changes of the trigger's function, role, queue and rule, to the hub's queue."
  event_pattern = jsonencode({
    detail-type = ["AWS API Call via CloudTrail"]
    "$or" = [
      {
        source = ["aws.lambda"]
        detail = {
          requestParameters = {
            functionName = [
              aws_lambda_function.trigger_function.function_name,
              { prefix = aws_lambda_function.trigger_function.arn },
              { suffix = ":function:${aws_lambda_function.trigger_function.function_name}" },
            ]
          }
        }
      },
      # Which letters of its id's name CloudTrail writes small is told nowhere.
      { source = ["aws.lambda"], detail = { requestParameters = { uUID = [aws_lambda_event_source_mapping.trigger_queue_mapping.id] } } },
      { source = ["aws.lambda"], detail = { requestParameters = { uuid = [aws_lambda_event_source_mapping.trigger_queue_mapping.id] } } },
      { source = ["aws.iam"], detail = { requestParameters = { roleName = [aws_iam_role.trigger_role.id] } } },
      { source = ["aws.events"], detail = { requestParameters = { name = [aws_cloudwatch_event_rule.trigger_rule.name] } } },
      { source = ["aws.events"], detail = { requestParameters = { rule = [aws_cloudwatch_event_rule.trigger_rule.name] } } },
      { source = ["aws.sqs"], detail = { requestParameters = { queueUrl = [aws_sqs_queue.trigger_queue.url] } } },
    ]
  })
  tags = local.tags
}

resource "aws_cloudwatch_event_target" "trigger_watch" {
  count = local.watch

  rule      = aws_cloudwatch_event_rule.trigger_watch[0].name
  target_id = "tampering"
  arn       = var.tampering_queue_arn
}

locals {
  alarm = (var.alarm != null ? var.alarm : var.notices_topic_arn != "") ? 1 : 0
}

resource "aws_cloudwatch_metric_alarm" "trigger_dead_letters_alarm" {
  count = local.alarm

  alarm_name          = "${var.name}-dead-letters"
  alarm_description   = "A pushed image could not be brought to all services that it is mapped to, three times. The trigger's log says why; the event is in its dead letters, and can be moved back to the queue."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = aws_sqs_queue.trigger_dead_letters.name }
  statistic           = "Maximum"
  period              = 300
  evaluation_periods  = 6
  datapoints_to_alarm = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = [var.notices_topic_arn]
  tags                = local.tags
}

resource "aws_cloudwatch_metric_alarm" "trigger_waiting_alarm" {
  count = local.alarm

  alarm_name          = "${var.name}-waiting-pushes"
  alarm_description   = "A push waits for more than an hour. Lambda does not take it: look at the event source mapping of the trigger's queue, at its concurrency, and at its log. What waits for a day is lost."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateAgeOfOldestMessage"
  dimensions          = { QueueName = aws_sqs_queue.trigger_queue.name }
  statistic           = "Maximum"
  period              = 300
  evaluation_periods  = 6
  datapoints_to_alarm = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = 3600
  treat_missing_data  = "notBreaching"
  alarm_actions       = [var.notices_topic_arn]
  tags                = local.tags
}

resource "aws_cloudwatch_metric_alarm" "trigger_rule_alarm" {
  count = local.alarm

  alarm_name          = "${var.name}-lost-pushes"
  alarm_description   = "The rule could not put pushes of images into the trigger's queue: they change nothing. Look at the queue's policy."
  namespace           = "AWS/Events"
  metric_name         = "FailedInvocations"
  dimensions          = { RuleName = aws_cloudwatch_event_rule.trigger_rule.name }
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 6
  datapoints_to_alarm = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = [var.notices_topic_arn]
  tags                = local.tags
}
