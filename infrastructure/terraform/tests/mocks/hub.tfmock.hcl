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
