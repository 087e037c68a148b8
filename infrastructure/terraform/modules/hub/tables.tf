# Tables have no name_prefix: a random part of their names, so that those that an earlier hub of this name left are in nobody's way.
resource "terraform_data" "names" {}

locals {
  random = substr(terraform_data.names.id, 0, 8)
  table_policy_tokens = {
    WRITER_ROLE_ARNS     = concat([aws_iam_role.updater_role.arn], aws_iam_role.recorder_role[*].arn)
    BREAK_GLASS_ROLE_ARN = var.break_glass_role_arn
  }
  # Whole: a Deny that merely lost its condition would deny everybody.
  without_in_table_policies = concat(
    var.break_glass_role_arn == "NONE" ? ["OnlyBreakGlassChangesThisPolicy"] : [],
    var.keep_records ? [] : ["NobodyDeletesTheTable"],
  )
}

# Who changed what, from what, to what: one item per record, appended and never rewritten.
resource "aws_dynamodb_table" "history_table" {
  name                        = "${var.name}-history-${local.random}"
  billing_mode                = "PAY_PER_REQUEST"
  deletion_protection_enabled = var.keep_records
  hash_key                    = "service"
  range_key                   = "record"
  tags                        = local.tags

  dynamic "attribute" {
    for_each = ["service", "record", "account_id", "day", "image"]

    content {
      name = attribute.value
      type = "S"
    }
  }

  dynamic "global_secondary_index" {
    for_each = { by-account = "account_id", by-day = "day", by-image = "image" }

    content {
      name            = global_secondary_index.key
      hash_key        = global_secondary_index.value
      range_key       = "record"
      projection_type = "ALL"
    }
  }

  point_in_time_recovery {
    enabled = true
  }

  dynamic "server_side_encryption" {
    for_each = var.table_key_arn == "" ? [] : [var.table_key_arn]

    content {
      enabled     = true
      kms_key_arn = server_side_encryption.value
    }
  }

  # Tables of before names had a random part keep theirs.
  lifecycle {
    ignore_changes = [name]
  }
}

module "history_table_policy" {
  source   = "../policy"
  document = "history-table"
  tokens   = local.table_policy_tokens
  without  = local.without_in_table_policies
}

resource "aws_dynamodb_resource_policy" "history_table" {
  resource_arn = aws_dynamodb_table.history_table.arn
  policy       = module.history_table_policy.json
}

# Heads, leases and idempotency keys. Kept as carefully as the history: a ledger whose head is lost has no end
# that anything could be checked against, and its chain would start anew.
resource "aws_dynamodb_table" "state_table" {
  name                        = "${var.name}-state-${local.random}"
  billing_mode                = "PAY_PER_REQUEST"
  deletion_protection_enabled = var.keep_records
  hash_key                    = "id"
  tags                        = local.tags

  dynamic "attribute" {
    for_each = ["id", "check_shard", "check_at"]

    content {
      name = attribute.value
      type = "S"
    }
  }

  # Deployments whose end is not recorded, by when to look at them again.
  global_secondary_index {
    name            = "by-check"
    hash_key        = "check_shard"
    range_key       = "check_at"
    projection_type = "ALL"
  }

  point_in_time_recovery {
    enabled = true
  }

  dynamic "server_side_encryption" {
    for_each = var.table_key_arn == "" ? [] : [var.table_key_arn]

    content {
      enabled     = true
      kms_key_arn = server_side_encryption.value
    }
  }

  ttl {
    attribute_name = "expires_at"
    enabled        = true
  }

  lifecycle {
    ignore_changes = [name]
  }
}

module "state_table_policy" {
  source   = "../policy"
  document = "state-table"
  tokens   = local.table_policy_tokens
  without  = local.without_in_table_policies
}

resource "aws_dynamodb_resource_policy" "state_table" {
  resource_arn = aws_dynamodb_table.state_table.arn
  policy       = module.state_table_policy.json
}
