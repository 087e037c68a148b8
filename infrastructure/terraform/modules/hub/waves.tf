# Waves: one change through many accounts, wave after wave.

# Targets that are too many for an input (inputs/), and everything about each execution (rollouts/).
resource "aws_s3_bucket" "waves_bucket" {
  # checkov:skip=CKV_AWS_19: It is encrypted either way, by a key that a variable decides: checkov does not follow the condition.
  bucket_prefix = "${var.name}-waves-"
  force_destroy = !var.keep_records
  tags          = local.tags
}

resource "aws_s3_bucket_server_side_encryption_configuration" "waves_bucket" {
  bucket = aws_s3_bucket.waves_bucket.id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm     = var.data_key_arn == "" ? "AES256" : "aws:kms"
      kms_master_key_id = var.data_key_arn == "" ? null : var.data_key_arn
    }
    # One request to the key for many objects.
    bucket_key_enabled = var.data_key_arn == "" ? null : true
  }
}

resource "aws_s3_bucket_ownership_controls" "waves_bucket" {
  bucket = aws_s3_bucket.waves_bucket.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_public_access_block" "waves_bucket" {
  bucket                  = aws_s3_bucket.waves_bucket.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

# What a caller overwrites or deletes by mistake can be had back for a month.
resource "aws_s3_bucket_versioning" "waves_bucket" {
  bucket = aws_s3_bucket.waves_bucket.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "waves_bucket" {
  bucket = aws_s3_bucket.waves_bucket.id

  rule {
    id     = "expire"
    status = "Enabled"

    filter {}

    expiration {
      days = var.log_retention_days
    }

    noncurrent_version_expiration {
      noncurrent_days = 30
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }
}

module "waves_bucket_policy" {
  source   = "../policy"
  document = "waves-bucket"
  tokens   = { WAVES_BUCKET_ARN = aws_s3_bucket.waves_bucket.arn }
}

resource "aws_s3_bucket_policy" "waves_bucket_policy" {
  bucket = aws_s3_bucket.waves_bucket.id
  policy = module.waves_bucket_policy.json

  # S3 takes one change of a bucket's access at a time.
  depends_on = [aws_s3_bucket_public_access_block.waves_bucket]
}

module "waves_trust" {
  source   = "../policy"
  document = "waves-trust"
  tokens = {
    ACCOUNT_ID     = local.account_id
    STATE_MACHINES = "arn:${local.partition}:states:${local.region}:${local.account_id}:stateMachine:*"
  }
}

resource "aws_iam_role" "waves_role" {
  name_prefix        = "${var.name}-waves-"
  path               = "/ecs-updater/"
  description        = "The state machine of ecs-updater. It invokes the two functions and keeps results in its bucket, and nothing else."
  assume_role_policy = module.waves_trust.json
  tags               = local.tags
}

module "waves_policy" {
  source   = "../policy"
  document = "waves"
  tokens = {
    UPDATER_FUNCTION_ARN = aws_lambda_alias.updater_alias.arn
    HISTORY_FUNCTION_ARN = aws_lambda_alias.history_alias.arn
    WAVES_BUCKET_ARN     = aws_s3_bucket.waves_bucket.arn
    DATA_KEY_ARN         = var.data_key_arn
    REGION               = local.region
    URL_SUFFIX           = local.url_suffix
  }
  without = local.without_data_key
}

resource "aws_iam_role_policy" "waves_role" {
  name   = "waves"
  role   = aws_iam_role.waves_role.id
  policy = module.waves_policy.json
}

module "waves_children_policy" {
  source   = "../policy"
  document = "waves-children"
  tokens = {
    WAVES_ARN        = aws_sfn_state_machine.waves.arn
    WAVES_EXECUTIONS = "arn:${local.partition}:states:${local.region}:${local.account_id}:execution:${aws_sfn_state_machine.waves.name}"
  }
}

# Apart from the role's own, because this policy names the state machine and the state machine names the role.
resource "aws_iam_role_policy" "waves_children_policy" {
  name   = "waves-children"
  role   = aws_iam_role.waves_role.id
  policy = module.waves_children_policy.json
}

resource "aws_cloudwatch_log_group" "waves_log_group" {
  # Under this prefix Step Functions needs no statement of its own for each log group: there is room for ten.
  name_prefix       = "/aws/vendedlogs/states/${var.name}-waves-"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.data_key_arn == "" ? null : var.data_key_arn
  skip_destroy      = var.keep_records
  tags              = local.tags
}

locals {
  # infrastructure/render.py puts the definition together from infrastructure/step-functions, and writes it into the
  # template: there it stands whole, between these two lines.
  waves_template = file("${path.module}/../../../cloudformation/hub.yaml")
  waves_text     = regex("(?s)# begin step-functions/waves.asl.json\n *DefinitionString: [|]-\n(.*?)\n *# end step-functions/waves.asl.json", local.waves_template)[0]
  waves_names = {
    Partition          = local.partition
    UpdaterFunctionArn = aws_lambda_alias.updater_alias.arn
    HistoryFunctionArn = aws_lambda_alias.history_alias.arn
    ResultsBucket      = aws_s3_bucket.waves_bucket.id
  }
  # As CloudFormation fills in DefinitionSubstitutions.
  waves_parts = regexall("[$]{[A-Za-z]+}|[^$]+|[$]", jsonencode(jsondecode(local.waves_text)))
  waves       = join("", [for part in local.waves_parts : can(regex("^[$]{", part)) ? local.waves_names[trim(part, "{}$")] : part])
}

resource "aws_sfn_state_machine" "waves" {
  name       = "${var.name}-waves"
  type       = "STANDARD"
  role_arn   = aws_iam_role.waves_role.arn
  definition = local.waves
  tags       = local.tags

  logging_configuration {
    level                  = "ERROR"
    include_execution_data = false
    log_destination        = "${aws_cloudwatch_log_group.waves_log_group.arn}:*"
  }

  # Step Functions tries whether the role may write logs.
  depends_on = [aws_iam_role_policy.waves_role]
}
