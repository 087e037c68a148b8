# ecs-updater, hub account: the functions, their roles, the history and state tables, and what tells
# of trouble.
#
# The same resources as infrastructure/cloudformation/hub.yaml, each under its logical id (updater_role for
# UpdaterRole). A section of the template is a file here.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  # By this tag, everything that Terraform made of ecs-updater is found, as in the first version.
  tags = merge(var.tags, { ecs-updater-terraform = "ecs-updater-hub" })

  partition  = data.aws_partition.current.partition
  account_id = data.aws_caller_identity.current.account_id
  region     = data.aws_region.current.id
  url_suffix = data.aws_partition.current.dns_suffix

  # What a document loses that is about an organization, where there is none.
  without_organization = var.organization_id == "" ? ["aws:ResourceOrgID"] : []
  # And what it loses that is about a key of the tables.
  without_table_key = var.table_key_arn == "" ? ["UseTheTablesKey"] : []
  # And about a key of logs, queues and the bucket.
  without_data_key = var.data_key_arn == "" ? ["UseTheDataKey"] : []
}

module "lambda_trust" {
  source   = "../policy"
  document = "lambda-trust"
}
