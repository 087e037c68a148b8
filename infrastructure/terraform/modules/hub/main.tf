# ecs-updater, hub account: the updater and history functions, their roles, and the history and state tables.
#
# The same resources as infrastructure/cloudformation/hub.yaml, each under its logical id (updater_role for
# UpdaterRole). A section of the template is a file here.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}

locals {
  partition  = data.aws_partition.current.partition
  account_id = data.aws_caller_identity.current.account_id

  # What a document loses that is about an organization, where there is none.
  without_organization = var.organization_id == "" ? ["aws:ResourceOrgID"] : []
}

module "lambda_trust" {
  source   = "../policy"
  document = "lambda-trust"
}
