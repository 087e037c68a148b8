# ecs-updater in one account, for a trial: a sandbox with a service to change, the hub, and the role that it assumes.
#
# For an organization take the modules by themselves (README.md): the hub in its own account, the target role in every
# account. Region and credentials come from the environment, as for every AWS tool.

provider "aws" {}

locals {
  hub     = var.code_bucket == "" ? 0 : 1
  sandbox = var.sandbox ? 1 : 0
}

module "sandbox_vpc" {
  count  = local.sandbox
  source = "./modules/sandbox-vpc"

  vpc_cidr = var.vpc_cidr

  tags = var.tags
}

module "sandbox_ecs" {
  count  = local.sandbox
  source = "./modules/sandbox-ecs"

  subnet_ids        = module.sandbox_vpc[0].subnet_ids
  security_group_id = module.sandbox_vpc[0].security_group_id
  cluster_name      = var.cluster_name
  service_name      = var.service_name
  image             = var.image
  desired_count     = var.desired_count

  tags = var.tags
}

module "hub" {
  count  = local.hub
  source = "./modules/hub"

  name                 = var.name
  code_bucket          = var.code_bucket
  code_key             = var.code_key
  history_code_key     = var.history_code_key
  recorder_code_key    = var.recorder_code_key
  architecture         = var.architecture
  organization_id      = var.organization_id
  external_id          = var.external_id
  break_glass_role_arn = var.break_glass_role_arn
  log_retention_days   = var.log_retention_days
  keep_records         = var.keep_records
  notices_email        = var.notices_email

  tags = var.tags
}

module "api" {
  count  = var.api ? local.hub : 0
  source = "./modules/api"

  updater_api_alias_arn = module.hub[0].updater_api_alias_arn
  history_alias_arn     = module.hub[0].history_alias_arn
  notices_topic_arn     = module.hub[0].notices_topic_arn
  alarm                 = true
  tampering_queue_arn   = module.hub[0].tampering_queue_arn
  watch                 = true
  account_log_role      = var.account_log_role
  log_retention_days    = var.log_retention_days
  keep_records          = var.keep_records

  tags = var.tags
}

module "target_role" {
  count  = local.hub
  source = "./modules/target-role"

  updater_role_arn = module.hub[0].updater_role_arn
  organization_id  = var.organization_id
  external_id      = var.external_id
  task_role_arns   = concat(var.task_role_arns, module.sandbox_ecs[*].execution_role_arn)

  reader_principal_arns = var.recorder_code_key == "" ? [] : [module.hub[0].recorder_role_arn]

  tags = var.tags
}

module "target_events" {
  count  = var.recorder_code_key == "" ? 0 : local.hub
  source = "./modules/target-events"

  hub_event_bus_arn = module.hub[0].event_bus_arn
  notices_topic_arn = module.hub[0].notices_topic_arn

  tags = var.tags
}
