mock_provider "aws" {
  source = "./tests/mocks"
}

run "hub_refuses_what_is_wrong" {
  command = plan
  module {
    source = "./modules/hub"
  }
  variables {
    code_bucket          = "my_packages"
    code_key             = ""
    history_code_key     = ""
    architecture         = "x86"
    organization_id      = "o-A1B2C3D4E5"
    target_role_name     = "role/"
    external_id          = "a b"
    allowed_accounts     = ["1111"]
    break_glass_role_arn = "arn:aws:iam::111111111111:user/x"
    log_retention_days   = 100
    name                 = "1"
  }
  expect_failures = [
    var.code_bucket,
    var.code_key,
    var.history_code_key,
    var.architecture,
    var.organization_id,
    var.target_role_name,
    var.external_id,
    var.allowed_accounts,
    var.break_glass_role_arn,
    var.log_retention_days,
    var.name,
  ]
}

run "a_lone_account_asks_for_no_organization_and_no_break_glass_role" {
  module {
    source = "./modules/hub"
  }
  variables {
    code_bucket          = "packages"
    code_key             = "updater.zip"
    history_code_key     = "history.zip"
    break_glass_role_arn = "NONE"
  }
  assert {
    condition     = keys(jsondecode(aws_iam_role_policy.updater_policy.policy).Statement[0].Condition) == ["ArnEquals"]
    error_message = "no organization to ask for"
  }
  assert {
    condition     = length(jsondecode(aws_dynamodb_resource_policy.history_table.policy).Statement) == 3
    error_message = "the table's policy without the break-glass statement"
  }
  assert {
    condition     = aws_lambda_function.updater_function.s3_object_version == null
    error_message = "no version of the package: the latest"
  }
  assert {
    condition = (
      aws_dynamodb_table.history_table.deletion_protection_enabled
      && aws_dynamodb_table.state_table.deletion_protection_enabled
      && aws_cloudwatch_log_group.log_group.skip_destroy
      && aws_cloudwatch_log_group.history_log_group.skip_destroy
    )
    error_message = "tables and logs outlive the rest"
  }
}

run "a_trial_can_be_thrown_away" {
  module {
    source = "./modules/hub"
  }
  variables {
    code_bucket          = "packages"
    code_key             = "updater.zip"
    history_code_key     = "history.zip"
    break_glass_role_arn = "NONE"
    keep_records         = false
  }
  assert {
    condition = !anytrue([
      for policy in [aws_dynamodb_resource_policy.history_table.policy, aws_dynamodb_resource_policy.state_table.policy] :
      strcontains(policy, "dynamodb:DeleteTable")
    ])
    error_message = "its tables can be deleted"
  }
  assert {
    condition = !anytrue([
      aws_dynamodb_table.history_table.deletion_protection_enabled,
      aws_dynamodb_table.state_table.deletion_protection_enabled,
      aws_cloudwatch_log_group.log_group.skip_destroy,
      aws_cloudwatch_log_group.history_log_group.skip_destroy,
    ])
    error_message = "nothing is left"
  }
}
