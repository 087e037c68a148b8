mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  code_bucket              = "packages"
  code_key                 = "trigger.zip"
  updater_alias            = "arn:aws:lambda:eu-west-1:111111111111:function:updater:live"
  registry_repository_arns = ["arn:aws:ecr:eu-west-1:111111111111:repository/team/*"]
  trigger_mapping          = "[]"
}

run "trigger_refuses_what_is_wrong" {
  command = plan
  module {
    source = "./modules/trigger"
  }
  variables {
    code_bucket              = "ab"
    code_key                 = ""
    code_version             = "12345678901234567890123456789012345678901234567890123456789012345"
    architecture             = "x86"
    updater_alias            = "arn:aws:lambda:eu-west-1:111111111111:function:updater:api"
    registry_repository_arns = ["111111111111.dkr.ecr.eu-west-1.amazonaws.com/team/app"]
    repository_names         = ["Team/App"]
    trigger_mapping          = "{}"
    log_retention_days       = 2
    notices_topic_arn        = "topic"
    trigger_concurrency      = "1"
    name                     = "1"
  }
  expect_failures = [
    var.code_bucket,
    var.code_key,
    var.code_version,
    var.architecture,
    var.updater_alias,
    var.registry_repository_arns,
    var.repository_names,
    var.trigger_mapping,
    var.log_retention_days,
    var.notices_topic_arn,
    var.trigger_concurrency,
    var.name,
  ]
}

run "trigger_needs_a_repository_and_a_mapping_that_fits" {
  command = plan
  module {
    source = "./modules/trigger"
  }
  variables {
    registry_repository_arns = []
    trigger_mapping          = format("[%3499s]", "")
  }
  expect_failures = [var.registry_repository_arns, var.trigger_mapping]
}

run "without_a_topic_there_is_no_alarm" {
  module {
    source = "./modules/trigger"
  }
  assert {
    condition     = length(aws_cloudwatch_metric_alarm.trigger_dead_letters_alarm) + length(aws_cloudwatch_metric_alarm.trigger_waiting_alarm) + length(aws_cloudwatch_metric_alarm.trigger_rule_alarm) == 0
    error_message = "nobody would hear of it"
  }
  assert {
    condition     = aws_lambda_function.trigger_function.s3_object_version == null
    error_message = "no version of the package: the latest"
  }
  assert {
    condition     = aws_cloudwatch_log_group.trigger_log_group.skip_destroy
    error_message = "the log outlives the rest"
  }
}

run "with_a_topic_there_are_alarms" {
  module {
    source = "./modules/trigger"
  }
  variables {
    notices_topic_arn = "arn:aws:sns:eu-west-1:111111111111:notices"
    keep_records      = false
  }
  assert {
    condition = alltrue([
      for alarm in concat(aws_cloudwatch_metric_alarm.trigger_dead_letters_alarm, aws_cloudwatch_metric_alarm.trigger_waiting_alarm, aws_cloudwatch_metric_alarm.trigger_rule_alarm) :
      contains(alarm.alarm_actions, var.notices_topic_arn)
    ])
    error_message = "the topic hears of all"
  }
  assert {
    condition     = length(aws_cloudwatch_metric_alarm.trigger_dead_letters_alarm) + length(aws_cloudwatch_metric_alarm.trigger_waiting_alarm) + length(aws_cloudwatch_metric_alarm.trigger_rule_alarm) == 3
    error_message = "dead letters, pushes that wait, and pushes that did not come into the queue"
  }
  assert {
    condition     = !aws_cloudwatch_log_group.trigger_log_group.skip_destroy
    error_message = "the log goes with the rest"
  }
}

run "whether_there_are_alarms_can_be_said" {
  module {
    source = "./modules/trigger"
  }
  variables {
    notices_topic_arn = "arn:aws:sns:eu-west-1:111111111111:notices"
    alarm             = false
  }
  assert {
    condition     = length(aws_cloudwatch_metric_alarm.trigger_dead_letters_alarm) + length(aws_cloudwatch_metric_alarm.trigger_waiting_alarm) + length(aws_cloudwatch_metric_alarm.trigger_rule_alarm) == 0
    error_message = "what is said counts before the topic, which may not be known yet"
  }
}
