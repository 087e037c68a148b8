# ecs-updater, hub account, the region in which IAM tells what happens: changes of roles, to the hub's region. The same resources as
# infrastructure/cloudformation/global-events.yaml.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}

locals {
  # By this tag, everything that Terraform made of ecs-updater is found, as in the first version.
  tags = merge(var.tags, { ecs-updater-terraform = "ecs-updater-global-events" })
}

resource "aws_cloudwatch_event_rule" "roles_rule" {
  name_prefix = "ecs-updater-roles-"
  description = "Calls of IAM that change a role, to the hub's region."
  event_pattern = jsonencode({
    source      = ["aws.iam"]
    detail-type = ["AWS API Call via CloudTrail"]
    detail      = { requestParameters = { roleName = [{ exists = true }] } }
  })
  tags = local.tags
}

resource "aws_cloudwatch_event_target" "roles_rule" {
  rule      = aws_cloudwatch_event_rule.roles_rule.name
  target_id = "hub"
  arn       = "arn:${data.aws_partition.current.partition}:events:${var.hub_region}:${data.aws_caller_identity.current.account_id}:event-bus/default"
  role_arn  = aws_iam_role.events_role.arn

  retry_policy {
    maximum_event_age_in_seconds = 86400
    maximum_retry_attempts       = 185
  }
}

module "events_trust" {
  source   = "../policy"
  document = "target-events-trust"
  tokens   = { ACCOUNT_ID = data.aws_caller_identity.current.account_id }
}

resource "aws_iam_role" "events_role" {
  name_prefix        = "ecs-updater-global-"
  path               = "/ecs-updater/"
  description        = "Puts events about roles on the default bus of the hub's region, and can do nothing else."
  assume_role_policy = module.events_trust.json
  tags               = local.tags
}

module "events_policy" {
  source   = "../policy"
  document = "global-events"
  tokens = {
    PARTITION  = data.aws_partition.current.partition
    ACCOUNT_ID = data.aws_caller_identity.current.account_id
    HUB_REGION = var.hub_region
  }
}

resource "aws_iam_role_policy" "events_role" {
  name   = "send-events"
  role   = aws_iam_role.events_role.id
  policy = module.events_policy.json
}
