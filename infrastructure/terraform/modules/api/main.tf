# ecs-updater, hub account: the API door, a REST API in front of the updater and history functions of module hub. The same
# resources as infrastructure/cloudformation/api.yaml.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  # By this tag, everything that Terraform made of ecs-updater is found, as in the first version.
  tags = merge(var.tags, { ecs-updater-terraform = "ecs-updater-api" })

  partition  = data.aws_partition.current.partition
  account_id = data.aws_caller_identity.current.account_id
  region     = data.aws_region.current.id

  # infrastructure/api/openapi.yaml, with what differs per deployment filled in.
  document = yamldecode(file("${path.module}/../../../api/openapi.yaml"))
  way      = local.document["x-ecs-updater-authorization"][var.api_authorization]
  api = merge(
    { for name, member in local.document : name => member if !contains(["x-ecs-updater-authorization", "servers", "tags", "paths", "components"], name) },
    {
      # Of an operation's responses, that there are such: API Gateway checks what comes in, and of that its model only where
      # nobody waits for the function, which says more.
      paths = {
        for path, item in local.document.paths : path => {
          for method, operation in item : method => merge(
            operation,
            { responses = { for status in keys(operation.responses) : status => { description = "" } } },
            endswith(path, "/async") ? {} : {
              requestBody = { required = true, content = { "application/json" = { schema = { "$ref" = "#/components/schemas/Body" } } } }
            },
          )
        }
      }
      components = {
        securitySchemes = { caller = local.way.scheme }
        # And no models of answers, nor of what the function checks.
        schemas = merge(
          { Body = { type = "object" } },
          { for name, schema in local.document.components.schemas : name => schema if !contains(["Answer", "Accepted", "Failure", "PlanEvent", "HistoryQuery"], name) },
        )
      }
    },
  )

  lambda_uri = "arn:${local.partition}:apigateway:${local.region}:lambda:path/2015-03-31/functions/%s/invocations"
  tokens = {
    CALLER         = local.way.caller
    UPDATER_URI    = format(local.lambda_uri, var.updater_api_alias_arn)
    HISTORY_URI    = format(local.lambda_uri, var.history_alias_arn)
    AUTHORIZER_URI = format(local.lambda_uri, var.authorizer_function_arn)
    USER_POOL_ARN  = var.user_pool_arn
  }
  # In JSON, as module policy does it.
  written = { for name, value in local.tokens : "__${name}__" => trimprefix(trimsuffix(jsonencode(value), "\""), "\"") }
  parts   = regexall("__[A-Z_]+?__|[^_]+|_", jsonencode(local.api))
  body    = join("", [for part in local.parts : lookup(local.written, part, part)])

  execution_arn = aws_api_gateway_rest_api.api.execution_arn
}

resource "aws_api_gateway_rest_api" "api" {
  # checkov:skip=CKV_AWS_237: A change of it is made in place; another API would have another address, so that callers lose it either way.
  name        = var.name
  description = "Changes Amazon ECS services, and tells who changed what."
  body        = local.body
  tags        = local.tags

  endpoint_configuration {
    types = ["REGIONAL"]
  }
}

locals {
  organization = var.organization_id == "" ? 0 : 1
}

module "organization" {
  count  = local.organization
  source = "../policy"

  document = "api-organization"
  tokens   = { ORGANIZATION_ID = var.organization_id, ACCOUNT_ID = local.account_id }
}

resource "aws_api_gateway_rest_api_policy" "api" {
  count = local.organization

  rest_api_id = aws_api_gateway_rest_api.api.id
  # As API Gateway keeps it: its short form would differ at every plan.
  policy = replace(module.organization[0].json, "execute-api:/", "${local.execution_arn}/")
}

# A picture of the API when it was made: a new one with every change of it.
resource "aws_api_gateway_deployment" "deployment" {
  rest_api_id = aws_api_gateway_rest_api.api.id
  description = "Callers known by ${var.api_authorization}"
  triggers = {
    body   = sha1(local.body)
    policy = sha1(join("", aws_api_gateway_rest_api_policy.api[*].policy))
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_api_gateway_stage" "stage" {
  # checkov:skip=CKV2_AWS_4: The access log has each request and what failed; an execution log would say it again.
  # checkov:skip=CKV2_AWS_29: Each request is signed or has a token, and is throttled. A web ACL of the organization's can be put before the stage.
  # checkov:skip=CKV2_AWS_51: A client certificate shows API Gateway to HTTP backends. Behind this API there are functions.
  stage_name    = "live"
  description   = "What callers call."
  rest_api_id   = aws_api_gateway_rest_api.api.id
  deployment_id = aws_api_gateway_deployment.deployment.id
  tags          = local.tags

  access_log_settings {
    destination_arn = aws_cloudwatch_log_group.access_log.arn
    format          = "{\"requestId\":\"$context.requestId\",\"requestTime\":\"$context.requestTime\",\"ip\":\"$context.identity.sourceIp\",\"caller\":\"$context.identity.userArn\",\"principal\":\"$context.authorizer.principalId\",\"subject\":\"$context.authorizer.claims.sub\",\"method\":\"$context.httpMethod\",\"path\":\"$context.resourcePath\",\"status\":\"$context.status\",\"error\":\"$context.error.responseType\",\"latency\":\"$context.responseLatency\"}"
  }

  depends_on = [aws_api_gateway_account.account]
}

resource "aws_api_gateway_method_settings" "stage" {
  # checkov:skip=CKV_AWS_225: An answer from a cache would be one of before the change.
  rest_api_id = aws_api_gateway_rest_api.api.id
  stage_name  = aws_api_gateway_stage.stage.stage_name
  method_path = "*/*"

  settings {
    metrics_enabled = true
    # What events say stands in the history; a trace of data would say it to whoever reads the log.
    data_trace_enabled     = false
    throttling_rate_limit  = var.requests_per_second
    throttling_burst_limit = var.requests_at_once
  }
}

resource "aws_cloudwatch_log_group" "access_log" {
  name_prefix       = "/${var.name}/access-"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.data_key_arn == "" ? null : var.data_key_arn
  skip_destroy      = var.keep_records
  tags              = local.tags
}

# What API Gateway itself answers with 5xx: functions that it may not invoke or cannot reach, authorizers that fail. What the
# functions fail with has alarms of its own in module hub, and no error type here.
resource "aws_cloudwatch_log_metric_filter" "broken_requests" {
  name           = "${var.name}-broken-requests"
  log_group_name = aws_cloudwatch_log_group.access_log.name
  pattern        = "{ $.status = \"5*\" && $.error != \"-\" }"

  metric_transformation {
    namespace     = var.metrics_namespace
    name          = "${var.name}-BrokenRequests"
    value         = "1"
    default_value = 0
  }
}

resource "aws_cloudwatch_metric_alarm" "broken_alarm" {
  count = (var.alarm != null ? var.alarm : var.notices_topic_arn != "") ? 1 : 0

  alarm_name          = "${var.name}-broken-requests"
  alarm_description   = "The API door failed by itself, before a function was asked or answered. The field error of its access log says how: API_CONFIGURATION_ERROR, it may not invoke a function; INTEGRATION_FAILURE, Lambda had no room; AUTHORIZER_*, the authorizer is broken."
  namespace           = var.metrics_namespace
  metric_name         = "${var.name}-BrokenRequests"
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 6
  datapoints_to_alarm = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = [var.notices_topic_arn]
  tags                = local.tags
}

# The one for whom the updater's alias `api` is there.
resource "aws_lambda_permission" "may_invoke_updater" {
  action        = "lambda:InvokeFunction"
  function_name = split(":", var.updater_api_alias_arn)[6]
  qualifier     = split(":", var.updater_api_alias_arn)[7]
  principal     = "apigateway.amazonaws.com"
  source_arn    = "${local.execution_arn}/live/POST/*"
}

resource "aws_lambda_permission" "may_invoke_history" {
  action        = "lambda:InvokeFunction"
  function_name = split(":", var.history_alias_arn)[6]
  qualifier     = split(":", var.history_alias_arn)[7]
  principal     = "apigateway.amazonaws.com"
  source_arn    = "${local.execution_arn}/live/POST/history"
}

resource "aws_lambda_permission" "may_invoke_authorizer" {
  count = var.api_authorization == "LAMBDA" ? 1 : 0

  action        = "lambda:InvokeFunction"
  function_name = split(":", var.authorizer_function_arn)[6]
  qualifier     = try(split(":", var.authorizer_function_arn)[7], null)
  principal     = "apigateway.amazonaws.com"
  source_arn    = "${local.execution_arn}/authorizers/*"
}

locals {
  # For roles and users. Signed requests need it, tokens do not.
  iam = var.api_authorization == "IAM" ? 1 : 0
}

module "caller_policy" {
  source   = "../policy"
  document = "api-caller"
  tokens   = { API_ARN = local.execution_arn }
}

resource "aws_iam_policy" "caller_policy" {
  count = local.iam

  name_prefix = "${var.name}-caller-"
  path        = "/ecs-updater/"
  description = "Change ECS services, plan and restore, and ask the history, through the API door of ecs-updater."
  policy      = module.caller_policy.json
  tags        = local.tags
}

module "reader_policy" {
  source   = "../policy"
  document = "api-reader"
  tokens   = { API_ARN = local.execution_arn }
}

resource "aws_iam_policy" "reader_policy" {
  count = local.iam

  name_prefix = "${var.name}-reader-"
  path        = "/ecs-updater/"
  description = "Ask for plans and the history through the API door of ecs-updater, and change nothing."
  policy      = module.reader_policy.json
  tags        = local.tags
}

locals {
  log_role = var.account_log_role == "CREATE" ? 1 : 0
}

module "log_trust" {
  source   = "../policy"
  document = "api-log-trust"
}

# Other APIs may use it by the time this module is destroyed: then `terraform state rm` it and the account's setting first.
resource "aws_iam_role" "log_role" {
  count = local.log_role

  name_prefix        = "${var.name}-log-"
  path               = "/ecs-updater/"
  description        = "API Gateway writes the logs of this account's APIs with it."
  assume_role_policy = module.log_trust.json
  tags               = local.tags
}

resource "aws_iam_role_policy_attachment" "log_role" {
  count = local.log_role

  role       = aws_iam_role.log_role[0].name
  policy_arn = "arn:${local.partition}:iam::aws:policy/service-role/AmazonAPIGatewayPushToCloudWatchLogs"
}

resource "aws_api_gateway_account" "account" {
  count = local.log_role

  cloudwatch_role_arn = aws_iam_role.log_role[0].arn

  depends_on = [aws_iam_role_policy_attachment.log_role]
}

# Whoever changes the API says whose name the updater takes for verified, and who may call at all. The hub's queue takes events of rules
# that are called so; its own rules hear of such a rule.
# https://docs.aws.amazon.com/apigateway/latest/developerguide/cloudtrail.html
locals {
  watch = (var.watch != null ? var.watch : var.tampering_queue_arn != "") ? 1 : 0
}

resource "aws_cloudwatch_event_rule" "api_watch" {
  count = local.watch

  name_prefix = "ecs-updater-watch-api-"
  description = "Changes of the API door, to the hub's queue."
  event_pattern = jsonencode({
    source      = ["aws.apigateway"]
    detail-type = ["AWS API Call via CloudTrail"]
    detail      = { requestParameters = { restApiId = [aws_api_gateway_rest_api.api.id] } }
  })
  tags = local.tags
}

resource "aws_cloudwatch_event_target" "api_watch" {
  count = local.watch

  rule      = aws_cloudwatch_event_rule.api_watch[0].name
  target_id = "tampering"
  arn       = var.tampering_queue_arn
}
