mock_provider "aws" {
  source = "./tests/mocks"
}

run "target_role_refuses_what_is_wrong" {
  command = plan
  module {
    source = "./modules/target-role"
  }
  variables {
    updater_role_arn         = "arn:aws:iam::*:role/x"
    organization_id          = "a1b2c3d4e5"
    external_id              = "a"
    task_role_arns           = ["arn:aws:iam::*:role/*"]
    infrastructure_role_arns = ["*"]
  }
  expect_failures = [
    var.updater_role_arn,
    var.organization_id,
    var.external_id,
    var.task_role_arns,
    var.infrastructure_role_arns,
  ]
}

run "without_roles_to_pass_there_is_no_permission_to_pass_any" {
  module {
    source = "./modules/target-role"
  }
  variables {
    updater_role_arn = "arn:aws:iam::999999999999:role/ecs-updater/updater"
    external_id      = "external"
  }
  assert {
    condition     = !strcontains(aws_iam_role_policy.target_role.policy, "iam:PassRole")
    error_message = "iam:PassRole on nothing"
  }
  assert {
    condition     = jsondecode(aws_iam_role.target_role.assume_role_policy).Statement[0].Principal.AWS == "arn:aws:iam::999999999999:root"
    error_message = "the hub's account is that of the updater's role"
  }
  assert {
    condition     = jsondecode(aws_iam_role.target_role.assume_role_policy).Statement[0].Condition.StringEquals == { "sts:ExternalId" = "external" }
    error_message = "the external id, and no organization"
  }
  assert {
    condition     = aws_iam_role.target_role.permissions_boundary == aws_iam_policy.boundary.arn
    error_message = "the boundary"
  }
}
