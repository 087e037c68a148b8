# Who changes what this module made, by CloudTrail's management events.

# A queue and not the topic itself: its policy takes events of these rules alone, while the topic's key would have to be opened to
# EventBridge as a whole. What happened stays there for two weeks; the alarm tells. With SQS's own key, also where there is a data key:
# who disables that one is to be heard of.
resource "aws_sqs_queue" "tampering_queue" {
  name_prefix               = "${var.name}-tampering-"
  message_retention_seconds = 1209600
  sqs_managed_sse_enabled   = true
  tags                      = local.tags
}

module "tampering_queue_policy" {
  source   = "../policy"
  document = "tampering-queue"
  tokens = {
    TAMPERING_QUEUE_ARN = aws_sqs_queue.tampering_queue.arn
    # And those of modules trigger and api, which are deployed later.
    WATCH_RULE_ARNS = concat(local.watch_rule_arns, ["arn:${local.partition}:events:${local.region}:${local.account_id}:rule/ecs-updater-watch-*"])
  }
}

resource "aws_sqs_queue_policy" "tampering_queue_policy" {
  queue_url = aws_sqs_queue.tampering_queue.url
  policy    = module.tampering_queue_policy.json
}

locals {
  table_arns  = [aws_dynamodb_table.history_table.arn, aws_dynamodb_table.state_table.arn]
  table_names = [aws_dynamodb_table.history_table.name, aws_dynamodb_table.state_table.name]
  watch_rule_arns = concat(
    [
      aws_cloudwatch_event_rule.tables_watch.arn,
      aws_cloudwatch_event_rule.keys_watch.arn,
      aws_cloudwatch_event_rule.functions_watch.arn,
      aws_cloudwatch_event_rule.roles_watch.arn,
      aws_cloudwatch_event_rule.events_watch.arn,
    ],
    aws_cloudwatch_event_rule.documents_watch[*].arn,
  )
}

resource "aws_cloudwatch_event_rule" "tables_watch" {
  name_prefix = "${var.name}-"
  description = "Changes of the tables themselves and of their policies."
  event_pattern = jsonencode({
    source      = ["aws.dynamodb"]
    detail-type = ["AWS API Call via CloudTrail"]
    detail = {
      eventName = [
        "DeleteResourcePolicy",
        "DeleteTable",
        "PutResourcePolicy",
        "RestoreTableToPointInTime",
        "UpdateContinuousBackups",
        "UpdateTable",
        "UpdateTimeToLive",
      ]
      "$or" = [
        { requestParameters = { resourceArn = local.table_arns } },
        { requestParameters = { tableName = concat(local.table_names, local.table_arns) } },
        { requestParameters = { sourceTableName = concat(local.table_names, local.table_arns) } },
      ]
    }
  })
  tags = local.tags
}

resource "aws_cloudwatch_event_target" "tables_watch" {
  rule      = aws_cloudwatch_event_rule.tables_watch.name
  target_id = "tampering"
  arn       = aws_sqs_queue.tampering_queue.arn

  dead_letter_config {
    arn = aws_sqs_queue.dead_letters.arn
  }
}

resource "aws_cloudwatch_event_rule" "keys_watch" {
  name_prefix = "${var.name}-"
  description = "Changes of the keys of tables, notices and data."
  event_pattern = jsonencode({
    source      = ["aws.kms"]
    detail-type = ["AWS API Call via CloudTrail"]
    detail = {
      eventName = ["DisableKey", "DisableKeyRotation", "PutKeyPolicy", "ScheduleKeyDeletion"]
      requestParameters = {
        keyId = concat(
          [aws_kms_key.notices_key.key_id, aws_kms_key.notices_key.arn],
          var.table_key_arn == "" ? [] : [var.table_key_arn, split("/", var.table_key_arn)[1]],
          var.data_key_arn == "" ? [] : [var.data_key_arn, split("/", var.data_key_arn)[1]],
        )
      }
    }
  })
  tags = local.tags
}

resource "aws_cloudwatch_event_target" "keys_watch" {
  rule      = aws_cloudwatch_event_rule.keys_watch.name
  target_id = "tampering"
  arn       = aws_sqs_queue.tampering_queue.arn

  dead_letter_config {
    arn = aws_sqs_queue.dead_letters.arn
  }
}

resource "aws_cloudwatch_event_rule" "functions_watch" {
  name_prefix = "${var.name}-"
  description = "Changes of the functions, their aliases and who may invoke them."
  event_pattern = jsonencode({
    source      = ["aws.lambda"]
    detail-type = ["AWS API Call via CloudTrail"]
    detail = {
      requestParameters = {
        functionName = concat([
          for function in concat([aws_lambda_function.updater_function, aws_lambda_function.history_function], aws_lambda_function.recorder_function) : [
            function.function_name,
            { prefix = function.arn },
            { suffix = ":function:${function.function_name}" },
          ]
        ]...)
      }
    }
  })
  tags = local.tags
}

resource "aws_cloudwatch_event_target" "functions_watch" {
  rule      = aws_cloudwatch_event_rule.functions_watch.name
  target_id = "tampering"
  arn       = aws_sqs_queue.tampering_queue.arn

  dead_letter_config {
    arn = aws_sqs_queue.dead_letters.arn
  }
}

resource "aws_cloudwatch_event_rule" "roles_watch" {
  name_prefix = "${var.name}-"
  description = "Changes of the roles. IAM tells them in one region of a partition alone; global-events.yaml brings them here."
  event_pattern = jsonencode({
    source      = ["aws.iam"]
    detail-type = ["AWS API Call via CloudTrail"]
    detail = {
      requestParameters = {
        roleName = concat(
          [aws_iam_role.updater_role.id, aws_iam_role.history_role.id, aws_iam_role.waves_role.id],
          aws_iam_role.recorder_role[*].id,
        )
      }
    }
  })
  tags = local.tags
}

resource "aws_cloudwatch_event_target" "roles_watch" {
  rule      = aws_cloudwatch_event_rule.roles_watch.name
  target_id = "tampering"
  arn       = aws_sqs_queue.tampering_queue.arn

  dead_letter_config {
    arn = aws_sqs_queue.dead_letters.arn
  }
}

resource "aws_cloudwatch_event_rule" "events_watch" {
  name_prefix = "${var.name}-"
  description = "Changes of the rules and of the event bus, and of the rules by which trigger.yaml and api.yaml tell of changes."
  event_pattern = jsonencode({
    source      = ["aws.events"]
    detail-type = ["AWS API Call via CloudTrail"]
    detail = {
      "$or" = [
        { requestParameters = { name = [var.name, { prefix = "${var.name}-" }, { prefix = "ecs-updater-watch-" }] } },
        { requestParameters = { rule = [{ prefix = "${var.name}-" }, { prefix = "ecs-updater-watch-" }] } },
        { requestParameters = { eventBusName = [var.name, { suffix = ":event-bus/${var.name}" }] } },
      ]
    }
  })
  tags = local.tags
}

resource "aws_cloudwatch_event_target" "events_watch" {
  rule      = aws_cloudwatch_event_rule.events_watch.name
  target_id = "tampering"
  arn       = aws_sqs_queue.tampering_queue.arn

  dead_letter_config {
    arn = aws_sqs_queue.dead_letters.arn
  }
}

# The names are parts of the ARNs. Of an object's ARN the part that names a parameter is empty, and the other way round: nothing is called
# so. A key is its beginning, up to four folders deep, as the template has it.
# Calls: https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_PutParameter.html (no ARN stands for a name there) and
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/cloudtrail-logging-s3-info.html (bucket-level calls; those on objects are data
# events). Objects: https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html.
locals {
  documents         = compact([var.allowed_accounts_arn, var.trigger_mapping_arn])
  document_names    = [for arn in local.documents : try(regex(":parameter(/.*)$", arn)[0], "")]
  document_buckets  = [for arn in local.documents : try(regex(":s3:::([^/]+)/", arn)[0], "")]
  document_keys     = [for arn in local.documents : { prefix = join("/", slice(split("/", arn), 1, min(5, length(split("/", arn))))) }]
  watches_documents = length(local.documents) == 0 ? 0 : 1
}

resource "aws_cloudwatch_event_rule" "documents_watch" {
  count = local.watches_documents

  name_prefix = "${var.name}-"
  description = "Changes of what AllowedAccounts and the trigger's mapping are kept in. Of objects S3 tells, where their bucket sends its events to EventBridge."
  event_pattern = jsonencode({
    "$or" = [
      {
        source      = ["aws.ssm"]
        detail-type = ["AWS API Call via CloudTrail"]
        detail = {
          eventName         = ["DeleteParameter", "PutParameter"]
          requestParameters = { name = local.document_names }
        }
      },
      {
        source      = ["aws.ssm"]
        detail-type = ["AWS API Call via CloudTrail"]
        detail = {
          eventName         = ["DeleteParameters"]
          requestParameters = { names = local.document_names }
        }
      },
      {
        source      = ["aws.s3"]
        detail-type = ["Object Created", "Object Deleted"]
        detail = {
          bucket = { name = local.document_buckets }
          object = { key = local.document_keys }
        }
      },
      {
        source      = ["aws.s3"]
        detail-type = ["AWS API Call via CloudTrail"]
        detail = {
          eventName         = ["DeleteBucket", "DeleteBucketPolicy", "PutBucketAcl", "PutBucketNotification", "PutBucketPolicy"]
          requestParameters = { bucketName = local.document_buckets }
        }
      },
    ]
  })
  tags = local.tags
}

resource "aws_cloudwatch_event_target" "documents_watch" {
  count = local.watches_documents

  rule      = aws_cloudwatch_event_rule.documents_watch[0].name
  target_id = "tampering"
  arn       = aws_sqs_queue.tampering_queue.arn

  dead_letter_config {
    arn = aws_sqs_queue.dead_letters.arn
  }
}

# One datum of six is enough: SQS tells up to 15 minutes late of a queue that nobody used for hours.
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-monitoring-using-cloudwatch.html
resource "aws_cloudwatch_metric_alarm" "tampering_alarm" {
  alarm_name          = "${var.name}-tampering"
  alarm_description   = "Somebody changed, or tried to change, tables, policies, keys, functions, aliases, roles, rules or documents of settings of the hub. Who and how stands in the messages of the queue TamperingQueue. After a deployment of yours this is what you did."
  namespace           = "AWS/SQS"
  metric_name         = "NumberOfMessagesSent"
  dimensions          = { QueueName = aws_sqs_queue.tampering_queue.name }
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 6
  datapoints_to_alarm = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.notices_topic.arn]
  tags                = local.tags
}
