# The root: what the modules hand to each other.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  break_glass_role_arn = "NONE"
}

run "the_sandbox_alone" {
  variables {
    cluster_name = "cluster"
  }
  assert {
    condition     = length(module.hub) + length(module.target_role) == 0 && output.updater_alias_arn == null
    error_message = "no packages, no hub"
  }
  assert {
    condition     = output.cluster_name == "cluster"
    error_message = "the sandbox's cluster"
  }
}

run "a_sandbox_that_the_hub_may_change" {
  variables {
    code_bucket = "packages"
    external_id = "external"
  }
  override_resource {
    target = module.hub[0].aws_iam_role.updater_role
    values = { arn = "arn:aws:iam::111111111111:role/ecs-updater/updater" }
  }
  override_resource {
    target = module.sandbox_ecs[0].aws_iam_role.execution_role
    values = { arn = "arn:aws:iam::111111111111:role/ecs-updater-sandbox/execution" }
  }
  assert {
    condition     = output.updater_role_arn == "arn:aws:iam::111111111111:role/ecs-updater/updater"
    error_message = "the hub's role"
  }
}

run "events_reach_the_recorder" {
  variables {
    code_bucket       = "packages"
    recorder_code_key = "recorder.zip"
    sandbox           = false
  }
  override_resource {
    target = module.hub[0].aws_iam_role.recorder_role[0]
    values = { arn = "arn:aws:iam::111111111111:role/ecs-updater/recorder" }
  }
  assert {
    condition     = length(module.target_events) == 1 && module.target_role[0].reader_role_arn != null
    error_message = "the account's events come to the bus, and the recorder reads in the account"
  }
}

run "the_hub_alone" {
  variables {
    code_bucket = "packages"
    sandbox     = false
  }
  assert {
    condition     = length(module.sandbox_vpc) + length(module.sandbox_ecs) == 0 && output.cluster_name == null
    error_message = "no sandbox"
  }
}
