# What operators must mend. Callers' typos are counted, and page nobody.

locals {
  recorder_function = one(aws_lambda_function.recorder_function[*].function_name)
  event_bus         = one(aws_cloudwatch_event_bus.event_bus[*].name)
  rules = {
    recorder      = one(aws_cloudwatch_event_rule.recorder_rule[*].name)
    target_alarms = one(aws_cloudwatch_event_rule.target_alarms_rule[*].name)
    sweep         = one(aws_cloudwatch_event_rule.sweep_rule[*].name)
  }
}

locals {
  hub_alarms = {
    updater_errors_alarm = {
      description = "The updater ended without an answer: it crashed, or ran out of time or memory. Its log says where. What it answered itself, callers' typos among it, is not counted here."
      namespace   = var.metrics_namespace
      metric      = "UpdaterUnanswered"
    }
    updater_throttles_alarm = {
      description         = "Lambda had no room for the updater again and again. The account's concurrency, or the function's own, is too small."
      namespace           = "AWS/Lambda"
      metric              = "Throttles"
      dimensions          = { FunctionName = aws_lambda_function.updater_function.function_name }
      datapoints_to_alarm = 2
    }
    updater_duration_alarm = {
      description        = "The updater came within a fiftieth of its time limit (900 s). What does not fit is not started or cut off."
      namespace          = "AWS/Lambda"
      metric             = "Duration"
      dimensions         = { FunctionName = aws_lambda_function.updater_function.function_name }
      extended_statistic = "p99"
      # Dated up to 900 seconds back.
      evaluation_periods  = 12
      datapoints_to_alarm = 2
      threshold           = 882000
    }
    updater_dropped_alarm = {
      description = "Lambda gave up asynchronous invocations of the updater: they failed each time, or waited for too long. They are dead letters."
      namespace   = "AWS/Lambda"
      metric      = "AsyncEventsDropped"
      dimensions  = { FunctionName = aws_lambda_function.updater_function.function_name }
    }
    updater_lost_alarm = {
      description = "Lambda gave up asynchronous invocations of the updater, and could not keep them as dead letters: they are lost. Look at the role's permission for the queue."
      namespace   = "AWS/Lambda"
      metric      = "DestinationDeliveryFailures"
      dimensions  = { FunctionName = aws_lambda_function.updater_function.function_name }
    }
    history_errors_alarm = {
      description = "The history function ended without an answer: it crashed, or ran out of time or memory. Its log says where. What it answered itself, callers' typos among it, is not counted here."
      namespace   = var.metrics_namespace
      metric      = "HistoryUnanswered"
    }
    history_questions_alarm = {
      description = "Questions to the history fail, and not for what they ask: its tables could not be read. Look at the role and the tables of the history function."
      namespace   = var.metrics_namespace
      metric      = "QuestionFailed"
      dimensions  = { fault = "operator" }
    }
    history_throttles_alarm = {
      description         = "Lambda had no room for the history function again and again. The account's concurrency, or the function's own, is too small."
      namespace           = "AWS/Lambda"
      metric              = "Throttles"
      dimensions          = { FunctionName = aws_lambda_function.history_function.function_name }
      datapoints_to_alarm = 2
    }
    history_duration_alarm = {
      description         = "The history function came within a tenth of its time limit (60 s). What does not fit is not started or cut off."
      namespace           = "AWS/Lambda"
      metric              = "Duration"
      dimensions          = { FunctionName = aws_lambda_function.history_function.function_name }
      extended_statistic  = "p99"
      datapoints_to_alarm = 2
      threshold           = 54000
    }
    history_dropped_alarm = {
      description = "Somebody asked the history function without waiting for its answer, which then goes nowhere, and it failed."
      namespace   = "AWS/Lambda"
      metric      = "AsyncEventsDropped"
      dimensions  = { FunctionName = aws_lambda_function.history_function.function_name }
    }
    assume_role_failed_alarm = {
      description = "Changes fail with AssumeRoleFailed: the target role of an account could not be assumed: it is missing there, or its trust policy names another hub, organization or external id."
      namespace   = var.metrics_namespace
      metric      = "Failed"
      dimensions  = { code = "AssumeRoleFailed", fault = "operator" }
    }
    history_unavailable_alarm = {
      description = "Changes fail with HistoryUnavailable: the tables could not be read or written. Where a service was changed all the same, the log says so."
      namespace   = var.metrics_namespace
      metric      = "Failed"
      dimensions  = { code = "HistoryUnavailable", fault = "operator" }
    }
    clock_skewed_alarm = {
      description = "Changes fail with ClockSkewed: the clock of an environment of the updater is not that of DynamoDB, so that it begins nothing."
      namespace   = var.metrics_namespace
      metric      = "Failed"
      dimensions  = { code = "ClockSkewed", fault = "operator" }
    }
    service_read_failed_alarm = {
      description = "Changes fail with ServiceReadFailed: ECS did not tell about a service: a permission of the target role is missing, or ECS is out of order."
      namespace   = var.metrics_namespace
      metric      = "Failed"
      dimensions  = { code = "ServiceReadFailed", fault = "operator" }
    }
    task_definition_rejected_alarm = {
      description = "Changes fail with TaskDefinitionRejected: ECS did not register a task definition, and not for its values: a permission (iam:PassRole among them) or a quota is missing, or ECS is out of order."
      namespace   = var.metrics_namespace
      metric      = "Failed"
      dimensions  = { code = "TaskDefinitionRejected", fault = "operator" }
    }
    registry_unavailable_alarm = {
      description = "Changes fail with RegistryUnavailable: a registry is not asked, or not believed, and not because it is busy: a permission or credentials are wrong, or it leads where the updater does not go."
      namespace   = var.metrics_namespace
      metric      = "Failed"
      dimensions  = { code = "RegistryUnavailable", fault = "operator" }
    }
    service_update_failed_alarm = {
      description = "Changes fail with ServiceUpdateFailed: ECS did not update a service, and not for its values: a permission or a quota is missing, or ECS is out of order."
      namespace   = var.metrics_namespace
      metric      = "Failed"
      dimensions  = { code = "ServiceUpdateFailed", fault = "operator" }
    }
    tag_update_failed_alarm = {
      description = "Changes fail with TagUpdateFailed: ECS did not change a service's tags, and not for their values: a permission of the target role is missing, or ECS is out of order."
      namespace   = var.metrics_namespace
      metric      = "Failed"
      dimensions  = { code = "TagUpdateFailed", fault = "operator" }
    }
    change_in_progress_alarm = {
      description = "Changes fail with ChangeInProgress, and not because of another change: a lease lasts for longer than any may, or a ledger cannot be written though nobody else writes to it."
      namespace   = var.metrics_namespace
      metric      = "Failed"
      dimensions  = { code = "ChangeInProgress", fault = "operator" }
    }
    dead_letters_alarm = {
      description = "Something asynchronous failed for good, and waits in the dead-letter queue. Each message says what it was and why it failed; send it again once that is mended."
      namespace   = "AWS/SQS"
      metric      = "ApproximateNumberOfMessagesVisible"
      dimensions  = { QueueName = aws_sqs_queue.dead_letters.name }
      statistic   = "Maximum"
    }
    waves_failed_alarm = {
      description = "A rollout in waves stopped, or did not begin. The cause of the failed execution of the state machine is its summary: which services changed, which did not, and the event that puts them back. InputRefused means that its caller erred and nothing was changed. See docs/ROLLOUTS.md."
      namespace   = "AWS/States"
      metric      = "ExecutionsFailed"
      dimensions  = { StateMachineArn = aws_sfn_state_machine.waves.arn }
    }
    waves_timed_out_alarm = {
      description = "A rollout in waves took too long, and has no summary. What it did is in its bucket. See docs/ROLLOUTS.md."
      namespace   = "AWS/States"
      metric      = "ExecutionsTimedOut"
      dimensions  = { StateMachineArn = aws_sfn_state_machine.waves.arn }
    }
    waves_aborted_alarm = {
      description = "A rollout in waves was aborted, and has no summary. What it did is in its bucket. See docs/ROLLOUTS.md."
      namespace   = "AWS/States"
      metric      = "ExecutionsAborted"
      dimensions  = { StateMachineArn = aws_sfn_state_machine.waves.arn }
    }
  }

  recorder_alarms = {
    recorder_errors_alarm = {
      description         = "The recorder fails again and again. It has no callers whose fault that could be; what is tried again and still fails becomes a dead letter."
      namespace           = "AWS/Lambda"
      metric              = "Errors"
      dimensions          = { FunctionName = local.recorder_function }
      datapoints_to_alarm = 2
    }
    recorder_throttles_alarm = {
      description         = "Lambda had no room for the recorder again and again. The account's concurrency, or the function's own, is too small."
      namespace           = "AWS/Lambda"
      metric              = "Throttles"
      dimensions          = { FunctionName = local.recorder_function }
      datapoints_to_alarm = 2
    }
    recorder_duration_alarm = {
      description         = "The recorder came within a tenth of its time limit (120 s). What does not fit is not started or cut off."
      namespace           = "AWS/Lambda"
      metric              = "Duration"
      dimensions          = { FunctionName = local.recorder_function }
      extended_statistic  = "p99"
      datapoints_to_alarm = 2
      threshold           = 108000
    }
    recorder_dropped_alarm = {
      description = "Lambda gave up asynchronous invocations of the recorder: they failed each time, or waited for too long. They are dead letters."
      namespace   = "AWS/Lambda"
      metric      = "AsyncEventsDropped"
      dimensions  = { FunctionName = local.recorder_function }
    }
    recorder_lost_alarm = {
      description = "Lambda gave up asynchronous invocations of the recorder, and could not keep them as dead letters: they are lost. Look at the role's permission for the queue."
      namespace   = "AWS/Lambda"
      metric      = "DestinationDeliveryFailures"
      dimensions  = { FunctionName = local.recorder_function }
    }
    # These two are parts of sweep_alarm, which tells of them.
    sweep_silent_alarm = {
      description         = "No sweep of the recorder came to its end in the last half hour. Part of SweepAlarm, which tells of it."
      namespace           = var.metrics_namespace
      metric              = "SweepsDone"
      datapoints_to_alarm = 6
      comparison_operator = "LessThanThreshold"
      treat_missing_data  = "breaching"
      actions             = []
    }
    sweep_seen_alarm = {
      description        = "A sweep of the recorder came to its end within the last week, as it should be. Part of SweepAlarm, which would else tell of each new hub."
      namespace          = var.metrics_namespace
      metric             = "SweepsDone"
      period             = 3600
      evaluation_periods = 168
      # Two hours of sweeps: the first one makes sweep_silent_alarm OK, and this alarm must not be faster.
      datapoints_to_alarm = 2
      actions             = []
    }
    recorder_rule_alarm = {
      description = "RecorderRule could neither deliver an event to the recorder nor keep it as a dead letter: it is lost. The sweep finds what it told of; look at the permissions of rule, alias and queue."
      namespace   = "AWS/Events"
      metric      = "InvocationsFailedToBeSentToDlq"
      dimensions  = { EventBusName = local.event_bus, RuleName = local.rules.recorder }
    }
    target_alarms_rule_alarm = {
      description = "TargetAlarmsRule could not keep an alarm of a target account as a dead letter: nobody heard of it. Look at the queue's policy."
      namespace   = "AWS/Events"
      metric      = "FailedInvocations"
      dimensions  = { EventBusName = local.event_bus, RuleName = local.rules.target_alarms }
    }
    sweep_rule_alarm = {
      description = "SweepRule could neither call the recorder nor keep that as a dead letter: there are no sweeps. Look at the permissions of rule, alias and queue."
      namespace   = "AWS/Events"
      metric      = "InvocationsFailedToBeSentToDlq"
      dimensions  = { RuleName = local.rules.sweep }
    }
  }
}

# Metrics come late: Lambda dates its own at the invocation's start, and others may need a quarter of an hour. So each alarm looks
# back for half an hour or longer, and none has an expression, in which FILL would make the latest period 0 for ever (docs/ALARMS.md).
resource "aws_cloudwatch_metric_alarm" "alarms" {
  for_each = merge(local.hub_alarms, { for name, alarm in local.recorder_alarms : name => alarm if local.recorder > 0 })

  alarm_name          = "${var.name}-${replace(trimsuffix(each.key, "_alarm"), "_", "-")}"
  alarm_description   = each.value.description
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = try(each.value.dimensions, null)
  statistic           = can(each.value.extended_statistic) ? null : try(each.value.statistic, "Sum")
  extended_statistic  = try(each.value.extended_statistic, null)
  period              = try(each.value.period, 300)
  evaluation_periods  = try(each.value.evaluation_periods, 6)
  datapoints_to_alarm = try(each.value.datapoints_to_alarm, 1)
  comparison_operator = try(each.value.comparison_operator, "GreaterThanOrEqualToThreshold")
  threshold           = try(each.value.threshold, 1)
  treat_missing_data  = try(each.value.treat_missing_data, "notBreaching")
  alarm_actions       = try(each.value.actions, [aws_sns_topic.notices_topic.arn])
  tags                = local.tags
}

# Without sweeps for half an hour, though there were some in the last week: a new hub has none yet, and that is nothing to hear of.
resource "aws_cloudwatch_composite_alarm" "sweep_alarm" {
  count = local.recorder

  alarm_name        = "${var.name}-sweep"
  alarm_description = "The recorder's sweeps stopped: none came to its end in the last half hour, though one is due every five minutes. Deployments whose end no event tells of stay open."
  alarm_rule        = join(" AND ", [for part in ["sweep_silent_alarm", "sweep_seen_alarm"] : "ALARM(\"${aws_cloudwatch_metric_alarm.alarms[part].alarm_name}\")"])
  alarm_actions     = [aws_sns_topic.notices_topic.arn]
  tags              = local.tags
}

# Invocations that ended without an answer, by what Lambda itself writes into the log about each. What the function answered, an error
# too, has status `success` there; `Runtime.Unknown` is what Lambda makes of the error type that Rust's runtime gives an answered error.
# Dated at the end, unlike Lambda's metric Errors. The template has the sources.
locals {
  unanswered = join(" || ", [
    "($.type = \"platform.report\" && $.record.status = \"timeout\")",
    "($.type = \"platform.report\" && $.record.status = \"failure\" && $.record.errorType != \"Runtime.Unknown\")",
    "($.type = \"platform.report\" && $.record.status = \"error\" && $.record.errorType != \"Runtime.Unknown\")",
    "($.type = \"platform.initReport\" && $.record.phase = \"invoke\" && $.record.status = \"error\")",
  ])
}

resource "aws_cloudwatch_log_metric_filter" "updater_unanswered" {
  name           = "${var.name}-updater-unanswered"
  log_group_name = aws_cloudwatch_log_group.log_group.name
  pattern        = "{ ${local.unanswered} }"

  metric_transformation {
    namespace = var.metrics_namespace
    name      = "UpdaterUnanswered"
    value     = "1"
  }
}

resource "aws_cloudwatch_log_metric_filter" "history_unanswered" {
  name           = "${var.name}-history-unanswered"
  log_group_name = aws_cloudwatch_log_group.history_log_group.name
  pattern        = "{ ${local.unanswered} }"

  metric_transformation {
    namespace = var.metrics_namespace
    name      = "HistoryUnanswered"
    value     = "1"
  }
}
