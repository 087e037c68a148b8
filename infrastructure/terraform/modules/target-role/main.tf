# ecs-updater, every target account (the hub too, where it has services): the role that the updater assumes, and
# one that can only read. Once per account, IAM has no regions. The same resources as infrastructure/cloudformation/target-role.yaml.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}

locals {
  # By this tag, everything that Terraform made of ecs-updater is found, as in the first version.
  tags = merge(var.tags, { ecs-updater-terraform = "ecs-updater-target-role" })

  partition  = data.aws_partition.current.partition
  account_id = data.aws_caller_identity.current.account_id
  # Read from the role's ARN, so that the two cannot contradict each other.
  hub_account_id = split(":", var.updater_role_arn)[4]
  # What a trust policy does not ask for.
  without = concat(
    var.organization_id == "" ? ["aws:PrincipalOrgID"] : [],
    var.external_id == "" ? ["sts:ExternalId"] : [],
  )
}

module "boundary" {
  source   = "../policy"
  document = "target-boundary"
}

# The most the role can ever do, whatever is attached to it later.
resource "aws_iam_policy" "boundary" {
  name_prefix = "ecs-updater-target-boundary-"
  path        = "/ecs-updater/"
  description = "Permissions boundary of the role that ecs-updater assumes."
  policy      = module.boundary.json
  tags        = local.tags
}

module "target_trust" {
  source   = "../policy"
  document = "target-trust"
  tokens = {
    PARTITION        = local.partition
    HUB_ACCOUNT_ID   = local.hub_account_id
    UPDATER_ROLE_ARN = var.updater_role_arn
    ORGANIZATION_ID  = var.organization_id
    EXTERNAL_ID      = var.external_id
  }
  without = local.without
}

resource "aws_iam_role" "target_role" {
  # The hub knows the role by this name in every account (target_role_name of module hub).
  name                 = "ecs-updater-target"
  path                 = "/ecs-updater/"
  description          = "What ecs-updater may do in this account. Assumed by the updater function of the hub account, and by nobody else."
  permissions_boundary = aws_iam_policy.boundary.arn
  assume_role_policy   = module.target_trust.json
  tags                 = local.tags
}

module "target_policy" {
  source   = "../policy"
  document = "target-role"
  tokens = {
    PARTITION                = local.partition
    ACCOUNT_ID               = local.account_id
    TASK_ROLE_ARNS           = var.task_role_arns
    INFRASTRUCTURE_ROLE_ARNS = var.infrastructure_role_arns
  }
  without = concat(
    length(var.task_role_arns) == 0 ? ["PassTaskRoles"] : [],
    length(var.infrastructure_role_arns) == 0 ? ["PassInfrastructureRoles"] : [],
  )
}

resource "aws_iam_role_policy" "target_role" {
  name   = "target-role"
  role   = aws_iam_role.target_role.id
  policy = module.target_policy.json
}

# A trust policy without its readers would let in the whole hub account: where nobody is named, there is no role.
locals {
  readers = length(var.reader_principal_arns) > 0 ? 1 : 0
}

module "reader_trust" {
  source   = "../policy"
  document = "target-reader-trust"
  tokens = {
    PARTITION             = local.partition
    HUB_ACCOUNT_ID        = local.hub_account_id
    READER_PRINCIPAL_ARNS = var.reader_principal_arns
    ORGANIZATION_ID       = var.organization_id
    EXTERNAL_ID           = var.external_id
  }
  without = local.without
}

resource "aws_iam_role" "reader_role" {
  count = local.readers

  # Known by this name in every account, as the role above.
  name               = "ecs-updater-reader"
  path               = "/ecs-updater/"
  description        = "Reads ECS services and their deployments in this account, and can do nothing else."
  assume_role_policy = module.reader_trust.json
  tags               = local.tags
}

module "reader_policy" {
  source   = "../policy"
  document = "target-reader"
  tokens = {
    PARTITION  = local.partition
    ACCOUNT_ID = local.account_id
  }
}

resource "aws_iam_role_policy" "reader_role" {
  count = local.readers

  name   = "target-reader"
  role   = aws_iam_role.reader_role[0].id
  policy = module.reader_policy.json
}
