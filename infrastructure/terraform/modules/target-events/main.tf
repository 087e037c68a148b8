# ecs-updater, target accounts: sends ECS deployment events to the hub's event bus. Once per account and region. The same
# resources as infrastructure/cloudformation/target-events.yaml.

data "aws_caller_identity" "current" {}

locals {
  # By this tag, everything that Terraform made of ecs-updater is found, as in the first version.
  tags = merge(var.tags, { ecs-updater-terraform = "ecs-updater-target-events" })
}

resource "aws_cloudwatch_event_rule" "deployments_rule" {
  name_prefix   = "ecs-updater-deployments-"
  description   = "Deployments that began, waited, ended or failed here, to the hub of ecs-updater."
  event_pattern = jsonencode({ source = ["aws.ecs"], detail-type = ["ECS Deployment State Change", "ECS Hook State Change"] })
  tags          = local.tags
}

resource "aws_cloudwatch_event_target" "deployments_rule" {
  rule      = aws_cloudwatch_event_rule.deployments_rule.name
  target_id = "hub"
  arn       = var.hub_event_bus_arn
  role_arn  = aws_iam_role.events_role.arn

  retry_policy {
    maximum_event_age_in_seconds = 86400
    maximum_retry_attempts       = 185
  }

  dead_letter_config {
    arn = aws_sqs_queue.dead_letters.arn
  }
}

# Nobody may be listening here: the hub hears of this module's alarms by the same way, as far as that is open.
resource "aws_cloudwatch_event_rule" "alarms_rule" {
  name_prefix = "ecs-updater-alarms-"
  description = "Alarms of this stack, to the hub of ecs-updater."
  event_pattern = jsonencode({
    source      = ["aws.cloudwatch"]
    detail-type = ["CloudWatch Alarm State Change"]
    resources   = [aws_cloudwatch_metric_alarm.dead_letters_alarm.arn, aws_cloudwatch_metric_alarm.lost_alarm.arn]
    detail      = { state = { value = ["ALARM"] } }
  })
  tags = local.tags
}

resource "aws_cloudwatch_event_target" "alarms_rule" {
  rule      = aws_cloudwatch_event_rule.alarms_rule.name
  target_id = "hub"
  arn       = var.hub_event_bus_arn
  role_arn  = aws_iam_role.events_role.arn

  retry_policy {
    maximum_event_age_in_seconds = 86400
    maximum_retry_attempts       = 185
  }

  dead_letter_config {
    arn = aws_sqs_queue.dead_letters.arn
  }
}

module "events_trust" {
  source   = "../policy"
  document = "target-events-trust"
  tokens   = { ACCOUNT_ID = data.aws_caller_identity.current.account_id }
}

resource "aws_iam_role" "events_role" {
  name_prefix        = "ecs-updater-events-"
  path               = "/ecs-updater/"
  description        = "Puts events of this account on the event bus of ecs-updater's hub, and nothing else."
  assume_role_policy = module.events_trust.json
  tags               = local.tags
}

module "events_policy" {
  source   = "../policy"
  document = "target-events"
  tokens   = { HUB_EVENT_BUS_ARN = var.hub_event_bus_arn }
}

resource "aws_iam_role_policy" "events_role" {
  name   = "events"
  role   = aws_iam_role.events_role.id
  policy = module.events_policy.json
}

# What did not get to the hub within a day. With SQS's own key, so that no key policy can lose one.
resource "aws_sqs_queue" "dead_letters" {
  name_prefix               = "ecs-updater-dead-letters-"
  message_retention_seconds = 1209600
  sqs_managed_sse_enabled   = true
  tags                      = local.tags
}

module "dead_letters_policy" {
  source   = "../policy"
  document = "target-dead-letters"
  tokens = {
    DEAD_LETTERS_ARN = aws_sqs_queue.dead_letters.arn
    TARGET_RULE_ARNS = [aws_cloudwatch_event_rule.deployments_rule.arn, aws_cloudwatch_event_rule.alarms_rule.arn]
  }
}

resource "aws_sqs_queue_policy" "dead_letters_policy" {
  queue_url = aws_sqs_queue.dead_letters.url
  policy    = module.dead_letters_policy.json
}

locals {
  notices = var.notices_topic_arn == "" ? [] : [var.notices_topic_arn]
}

resource "aws_cloudwatch_metric_alarm" "dead_letters_alarm" {
  alarm_name          = "ecs-updater-target-dead-letters"
  alarm_description   = "Deployment events of this account and region did not get to the hub of ecs-updater, and wait in the dead-letter queue: its bus or its bus policy is gone, or this stack's role."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = aws_sqs_queue.dead_letters.name }
  statistic           = "Maximum"
  period              = 300
  evaluation_periods  = 6
  datapoints_to_alarm = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.notices
  tags                = local.tags
}

resource "aws_cloudwatch_metric_alarm" "lost_alarm" {
  alarm_name          = "ecs-updater-target-lost-events"
  alarm_description   = "A deployment event of this account and region got neither to the hub of ecs-updater nor into the dead-letter queue: it is lost. The hub's sweep finds what it told of."
  namespace           = "AWS/Events"
  metric_name         = "InvocationsFailedToBeSentToDlq"
  dimensions          = { RuleName = aws_cloudwatch_event_rule.deployments_rule.name }
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 6
  datapoints_to_alarm = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.notices
  tags                = local.tags
}
