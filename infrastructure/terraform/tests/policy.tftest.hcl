# The one place where documents of policies/ become policies.

run "fills_in_text_and_lists_and_leaves_iam_its_variables" {
  command = plan
  module {
    source = "./modules/policy"
  }
  variables {
    document = "updater"
    tokens = {
      PARTITION            = "aws-cn"
      TARGET_ROLE_NAME     = "path/__PARTITION__"
      HISTORY_TABLE_ARN    = "arn:history"
      STATE_TABLE_ARN      = "arn:state\""
      LOG_GROUP_ARN        = "arn:log"
      UPDATER_SOURCE_ARN   = "arn:updater"
      DEAD_LETTERS_ARN     = "arn:dead-letters"
      TABLE_KEY_ARN        = "arn:key"
      DATA_KEY_ARN         = "arn:data-key"
      ALLOWED_ACCOUNTS_ARN = "arn:accounts"
      REGION               = "cn-north-1"
      URL_SUFFIX           = "amazonaws.com.cn"
    }
    without = ["LookUpImages", "ReadRegistryCredentials"]
  }
  assert {
    condition     = jsondecode(output.json).Statement[0].Resource == "arn:aws-cn:iam::*:role/path/__PARTITION__"
    error_message = "text within a string; and what was filled in is not looked at again"
  }
  assert {
    condition     = jsondecode(output.json).Statement[0].Condition.StringEquals["aws:ResourceOrgID"] == "$${aws:PrincipalOrgID}"
    error_message = "IAM's own variables stay as they are"
  }
  assert {
    condition     = jsondecode(output.json).Statement[3].Resource == "arn:state\""
    error_message = "a quotation mark stays inside its string"
  }
}

run "fills_in_lists" {
  command = plan
  module {
    source = "./modules/policy"
  }
  variables {
    document = "history-table"
    tokens   = { WRITER_ROLE_ARNS = ["arn:1", "arn:2"] }
    without  = ["OnlyBreakGlassChangesThisPolicy"]
  }
  assert {
    condition     = jsondecode(output.json).Statement[2].Condition.ArnNotEquals["aws:PrincipalArn"] == ["arn:1", "arn:2"]
    error_message = "a list in place of a string"
  }
  assert {
    condition     = [for statement in jsondecode(output.json).Statement : statement.Sid] == ["NobodyRewritesHistory", "NobodyDeletesTheTable", "OnlyTheWritersAppend"]
    error_message = "a statement is left out whole, and only that"
  }
}

run "an_operator_and_a_condition_go_with_their_last_key" {
  command = plan
  module {
    source = "./modules/policy"
  }
  variables {
    document = "target-trust"
    tokens   = { PARTITION = "aws", HUB_ACCOUNT_ID = "111111111111", UPDATER_ROLE_ARN = "arn:updater" }
    without  = ["aws:PrincipalOrgID", "sts:ExternalId"]
  }
  assert {
    condition = jsondecode(output.json).Statement[0].Condition == {
      ArnEquals  = { "aws:PrincipalArn" = "arn:updater" }
      StringLike = { "sts:RoleSessionName" = "ecsu-*" }
    }
    error_message = "no empty StringEquals, which IAM refuses"
  }
}

run "a_token_that_was_not_given_is_an_error" {
  command = plan
  module {
    source = "./modules/policy"
  }
  variables {
    document = "target-trust"
    tokens   = { PARTITION = "aws", HUB_ACCOUNT_ID = "111111111111", UPDATER_ROLE_ARN = "arn:updater" }
    without  = ["aws:PrincipalOrgID"]
  }
  expect_failures = [output.json]
}

run "a_list_within_a_string_is_an_error" {
  command = plan
  module {
    source = "./modules/policy"
  }
  variables {
    document = "history"
    tokens   = { HISTORY_TABLE_ARN = ["arn:history"], STATE_TABLE_ARN = "arn:state", HISTORY_LOG_GROUP_ARN = "arn:log" }
    without  = ["UseTheTablesKey"]
  }
  expect_failures = [output.json]
}

run "leaving_out_what_is_not_there_is_an_error" {
  command = plan
  module {
    source = "./modules/policy"
  }
  variables {
    document = "lambda-trust"
    without  = ["aws:PrincipalOrgId"]
  }
  expect_failures = [output.json]
}
