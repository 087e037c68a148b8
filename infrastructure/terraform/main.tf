# ecs-updater in one account, for a trial: the hub, the role that it assumes, and what it can change.
#
# For an organization take the modules by themselves (README.md): the hub in its own account, the target role in every
# account. Region and credentials come from the environment, as for every AWS tool.

provider "aws" {}

module "hub" {
  source = "./modules/hub"

  name                 = var.name
  code_bucket          = var.code_bucket
  code_key             = var.code_key
  history_code_key     = var.history_code_key
  architecture         = var.architecture
  organization_id      = var.organization_id
  external_id          = var.external_id
  break_glass_role_arn = var.break_glass_role_arn
  log_retention_days   = var.log_retention_days
  keep_records         = var.keep_records
}

module "target_role" {
  source = "./modules/target-role"

  updater_role_arn = module.hub.updater_role_arn
  organization_id  = var.organization_id
  external_id      = var.external_id
  task_role_arns   = var.task_role_arns
}
