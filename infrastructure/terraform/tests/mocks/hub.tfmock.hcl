# Names of their own for what policies name, or one could stand for another unnoticed.

override_resource {
  target = aws_iam_role.updater_role
  values = { arn = "arn:aws:iam::111111111111:role/ecs-updater/updater" }
}

override_resource {
  target = aws_iam_role.history_role
  values = { arn = "arn:aws:iam::111111111111:role/ecs-updater/history" }
}

override_resource {
  target = aws_dynamodb_table.history_table
  values = { arn = "arn:aws:dynamodb:eu-west-1:111111111111:table/history" }
}

override_resource {
  target = aws_dynamodb_table.state_table
  values = { arn = "arn:aws:dynamodb:eu-west-1:111111111111:table/state" }
}

override_resource {
  target = aws_cloudwatch_log_group.log_group
  values = {
    name = "updater-log"
    arn  = "arn:aws:logs:eu-west-1:111111111111:log-group:updater-log"
  }
}

override_resource {
  target = aws_cloudwatch_log_group.history_log_group
  values = {
    name = "history-log"
    arn  = "arn:aws:logs:eu-west-1:111111111111:log-group:history-log"
  }
}

override_resource {
  target = aws_cloudwatch_log_group.recorder_log_group[0]
  values = {
    name = "recorder-log"
    arn  = "arn:aws:logs:eu-west-1:111111111111:log-group:recorder-log"
  }
}

override_resource {
  target = aws_iam_role.recorder_role[0]
  values = {
    arn = "arn:aws:iam::111111111111:role/ecs-updater/recorder"
  }
}

override_resource {
  target = aws_cloudwatch_event_rule.recorder_rule[0]
  values = {
    name = "recorder_rule"
    arn  = "arn:aws:events:eu-west-1:111111111111:rule/ecs-updater/recorder_rule"
  }
}

override_resource {
  target = aws_cloudwatch_event_rule.target_alarms_rule[0]
  values = {
    name = "target_alarms_rule"
    arn  = "arn:aws:events:eu-west-1:111111111111:rule/ecs-updater/target_alarms_rule"
  }
}

override_resource {
  target = aws_cloudwatch_event_rule.sweep_rule[0]
  values = {
    name = "sweep_rule"
    arn  = "arn:aws:events:eu-west-1:111111111111:rule/sweep_rule"
  }
}

override_resource {
  target = aws_cloudwatch_event_rule.deployments_rule
  values = {
    name = "deployments_rule"
    arn  = "arn:aws:events:eu-west-1:111111111111:rule/deployments_rule"
  }
}

override_resource {
  target = aws_cloudwatch_event_rule.alarms_rule
  values = {
    name = "alarms_rule"
    arn  = "arn:aws:events:eu-west-1:111111111111:rule/alarms_rule"
  }
}

override_resource {
  target = aws_cloudwatch_metric_alarm.dead_letters_alarm
  values = {
    arn = "arn:aws:cloudwatch:eu-west-1:111111111111:alarm:dead_letters_alarm"
  }
}

override_resource {
  target = aws_cloudwatch_metric_alarm.lost_alarm
  values = {
    arn = "arn:aws:cloudwatch:eu-west-1:111111111111:alarm:lost_alarm"
  }
}

override_resource {
  target = aws_lambda_alias.updater_alias
  values = {
    arn = "arn:aws:lambda:eu-west-1:111111111111:function:ecs-updater:live"
  }
}

override_resource {
  target = aws_lambda_alias.updater_api_alias
  values = {
    arn = "arn:aws:lambda:eu-west-1:111111111111:function:ecs-updater:api"
  }
}

override_resource {
  target = aws_lambda_alias.history_alias
  values = {
    arn = "arn:aws:lambda:eu-west-1:111111111111:function:ecs-updater-history:live"
  }
}

override_resource {
  target = aws_lambda_alias.recorder_alias[0]
  values = {
    arn = "arn:aws:lambda:eu-west-1:111111111111:function:ecs-updater-recorder:live"
  }
}

override_resource {
  target = aws_iam_role.waves_role
  values = { arn = "arn:aws:iam::111111111111:role/ecs-updater/waves" }
}

override_resource {
  target = aws_iam_role.log_role[0]
  values = { arn = "arn:aws:iam::111111111111:role/ecs-updater/log" }
}

override_resource {
  target = aws_cloudwatch_log_group.access_log
  values = {
    name = "access-log"
    arn  = "arn:aws:logs:eu-west-1:111111111111:log-group:access-log"
  }
}

override_resource {
  target = aws_api_gateway_rest_api.api
  values = {
    id            = "api"
    execution_arn = "arn:aws:execute-api:eu-west-1:111111111111:api"
  }
}

override_resource {
  target = aws_cloudwatch_event_rule.trigger_rule
  values = {
    name = "trigger_rule"
    arn  = "arn:aws:events:eu-west-1:111111111111:rule/trigger_rule"
  }
}

override_resource {
  target = aws_sqs_queue.trigger_queue
  values = { arn = "arn:aws:sqs:eu-west-1:111111111111:trigger.fifo" }
}

override_resource {
  target = aws_sqs_queue.trigger_dead_letters
  values = { arn = "arn:aws:sqs:eu-west-1:111111111111:trigger-dead-letters.fifo" }
}

override_resource {
  target = aws_cloudwatch_log_group.trigger_log_group
  values = {
    name = "trigger-log"
    arn  = "arn:aws:logs:eu-west-1:111111111111:log-group:trigger-log"
  }
}
