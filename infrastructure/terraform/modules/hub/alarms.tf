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
      expression  = "errors - FILL(answered, 0)"
      metrics = {
        errors   = { namespace = "AWS/Lambda", metric = "Errors", dimensions = { FunctionName = aws_lambda_function.updater_function.function_name } }
        answered = { namespace = var.metrics_namespace, metric = "AnsweredErrors", dimensions = { FunctionName = aws_lambda_function.updater_function.function_name } }
      }
    }
    updater_throttles_alarm = {
      description         = "Lambda had no room for the updater again and again. The account's concurrency, or the function's own, is too small."
      namespace           = "AWS/Lambda"
      metric              = "Throttles"
      dimensions          = { FunctionName = aws_lambda_function.updater_function.function_name }
      evaluation_periods  = 3
      datapoints_to_alarm = 2
    }
    updater_duration_alarm = {
      description         = "The updater came within a fiftieth of its time limit (900 s). What does not fit is not started or cut off."
      namespace           = "AWS/Lambda"
      metric              = "Duration"
      dimensions          = { FunctionName = aws_lambda_function.updater_function.function_name }
      extended_statistic  = "p99"
      evaluation_periods  = 3
      datapoints_to_alarm = 2
      threshold           = 882000
    }
    updater_dropped_alarm = {
      description = "Lambda gave up asynchronous invocations of the updater. They are dead letters; where the metric DestinationDeliveryFailures is not zero, those are lost."
      expression  = "FILL(dropped, 0) + FILL(lost, 0)"
      metrics = {
        dropped = { namespace = "AWS/Lambda", metric = "AsyncEventsDropped", dimensions = { FunctionName = aws_lambda_function.updater_function.function_name } }
        lost    = { namespace = "AWS/Lambda", metric = "DestinationDeliveryFailures", dimensions = { FunctionName = aws_lambda_function.updater_function.function_name } }
      }
    }
    history_errors_alarm = {
      description = "The history function ended without an answer: it crashed, or ran out of time or memory. Its log says where. What it answered itself, callers' typos among it, is not counted here."
      expression  = "errors - FILL(answered, 0)"
      metrics = {
        errors   = { namespace = "AWS/Lambda", metric = "Errors", dimensions = { FunctionName = aws_lambda_function.history_function.function_name } }
        answered = { namespace = var.metrics_namespace, metric = "AnsweredErrors", dimensions = { FunctionName = aws_lambda_function.history_function.function_name } }
      }
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
      evaluation_periods  = 3
      datapoints_to_alarm = 2
    }
    history_duration_alarm = {
      description         = "The history function came within a tenth of its time limit (60 s). What does not fit is not started or cut off."
      namespace           = "AWS/Lambda"
      metric              = "Duration"
      dimensions          = { FunctionName = aws_lambda_function.history_function.function_name }
      extended_statistic  = "p99"
      evaluation_periods  = 3
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
    dead_letters_alarm = {
      description = "Something asynchronous failed for good, and waits in the dead-letter queue. Each message says what it was and why it failed; send it again once that is mended."
      namespace   = "AWS/SQS"
      metric      = "ApproximateNumberOfMessagesVisible"
      dimensions  = { QueueName = aws_sqs_queue.dead_letters.name }
      statistic   = "Maximum"
    }
    waves_alarm = {
      description = "A rollout in waves stopped, or did not begin. The cause of the failed execution of the state machine is its summary: which services changed, which did not, and the event that puts them back. InputRefused means that its caller erred and nothing was changed. One that was aborted, or took too long, has no summary. See docs/ROLLOUTS.md."
      expression  = "FILL(failed, 0) + FILL(late, 0) + FILL(aborted, 0)"
      metrics = {
        failed  = { namespace = "AWS/States", metric = "ExecutionsFailed", dimensions = { StateMachineArn = aws_sfn_state_machine.waves.arn } }
        late    = { namespace = "AWS/States", metric = "ExecutionsTimedOut", dimensions = { StateMachineArn = aws_sfn_state_machine.waves.arn } }
        aborted = { namespace = "AWS/States", metric = "ExecutionsAborted", dimensions = { StateMachineArn = aws_sfn_state_machine.waves.arn } }
      }
      period = 60
    }
  }

  recorder_alarms = {
    recorder_errors_alarm = {
      description         = "The recorder fails again and again. It has no callers whose fault that could be; what is tried again and still fails becomes a dead letter."
      namespace           = "AWS/Lambda"
      metric              = "Errors"
      dimensions          = { FunctionName = local.recorder_function }
      evaluation_periods  = 3
      datapoints_to_alarm = 2
    }
    recorder_throttles_alarm = {
      description         = "Lambda had no room for the recorder again and again. The account's concurrency, or the function's own, is too small."
      namespace           = "AWS/Lambda"
      metric              = "Throttles"
      dimensions          = { FunctionName = local.recorder_function }
      evaluation_periods  = 3
      datapoints_to_alarm = 2
    }
    recorder_duration_alarm = {
      description         = "The recorder came within a tenth of its time limit (120 s). What does not fit is not started or cut off."
      namespace           = "AWS/Lambda"
      metric              = "Duration"
      dimensions          = { FunctionName = local.recorder_function }
      extended_statistic  = "p99"
      evaluation_periods  = 3
      datapoints_to_alarm = 2
      threshold           = 108000
    }
    recorder_dropped_alarm = {
      description = "Lambda gave up asynchronous invocations of the recorder. They are dead letters; where the metric DestinationDeliveryFailures is not zero, those are lost."
      expression  = "FILL(dropped, 0) + FILL(lost, 0)"
      metrics = {
        dropped = { namespace = "AWS/Lambda", metric = "AsyncEventsDropped", dimensions = { FunctionName = local.recorder_function } }
        lost    = { namespace = "AWS/Lambda", metric = "DestinationDeliveryFailures", dimensions = { FunctionName = local.recorder_function } }
      }
    }
    sweep_alarm = {
      description = "The recorder has not come to an end in the last half hour, though it is called every five minutes: deployments whose end no event tells of stay open."
      expression  = "invocations - FILL(errors, 0)"
      metrics = {
        invocations = { namespace = "AWS/Lambda", metric = "Invocations", dimensions = { FunctionName = local.recorder_function } }
        errors      = { namespace = "AWS/Lambda", metric = "Errors", dimensions = { FunctionName = local.recorder_function } }
      }
      period              = 1800
      comparison_operator = "LessThanThreshold"
      treat_missing_data  = "breaching"
    }
    rules_alarm = {
      description = "A rule could neither deliver an event to the recorder nor keep it as a dead letter: it is lost. The sweep finds what it told of; look at the permissions of rules, alias and queue."
      expression  = "FILL(deployments, 0) + FILL(alarms, 0) + FILL(sweeps, 0)"
      metrics = {
        deployments = { namespace = "AWS/Events", metric = "InvocationsFailedToBeSentToDlq", dimensions = { EventBusName = local.event_bus, RuleName = local.rules.recorder } }
        alarms      = { namespace = "AWS/Events", metric = "FailedInvocations", dimensions = { EventBusName = local.event_bus, RuleName = local.rules.target_alarms } }
        sweeps      = { namespace = "AWS/Events", metric = "InvocationsFailedToBeSentToDlq", dimensions = { RuleName = local.rules.sweep } }
      }
    }
  }
}

# One metric (namespace, metric, dimensions, a statistic over a period in seconds), or several and an expression of them.
resource "aws_cloudwatch_metric_alarm" "alarms" {
  for_each = merge(local.hub_alarms, { for name, alarm in local.recorder_alarms : name => alarm if local.recorder > 0 })

  alarm_name          = "${var.name}-${replace(trimsuffix(each.key, "_alarm"), "_", "-")}"
  alarm_description   = each.value.description
  evaluation_periods  = try(each.value.evaluation_periods, 1)
  datapoints_to_alarm = try(each.value.datapoints_to_alarm, null)
  comparison_operator = try(each.value.comparison_operator, "GreaterThanOrEqualToThreshold")
  threshold           = try(each.value.threshold, 1)
  treat_missing_data  = try(each.value.treat_missing_data, "notBreaching")
  alarm_actions       = [aws_sns_topic.notices_topic.arn]
  tags                = var.tags

  namespace          = try(each.value.namespace, null)
  metric_name        = try(each.value.metric, null)
  dimensions         = try(each.value.dimensions, null)
  statistic          = can(each.value.metrics) || can(each.value.extended_statistic) ? null : try(each.value.statistic, "Sum")
  extended_statistic = try(each.value.extended_statistic, null)
  period             = can(each.value.metrics) ? null : try(each.value.period, 300)

  dynamic "metric_query" {
    for_each = can(each.value.metrics) ? [each.value.expression] : []

    content {
      id          = "watched"
      expression  = metric_query.value
      return_data = true
    }
  }

  dynamic "metric_query" {
    for_each = try(each.value.metrics, {})

    content {
      id          = metric_query.key
      return_data = false

      metric {
        namespace   = metric_query.value.namespace
        metric_name = metric_query.value.metric
        dimensions  = metric_query.value.dimensions
        period      = try(each.value.period, 300)
        stat        = "Sum"
      }
    }
  }
}
