mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  updater_api_alias_arn = "arn:aws:lambda:eu-west-1:111111111111:function:updater:api"
  history_alias_arn     = "arn:aws:lambda:eu-west-1:111111111111:function:history:live"
}

run "api_refuses_what_is_wrong" {
  command = plan
  module {
    source = "./modules/api"
  }
  variables {
    updater_api_alias_arn   = "arn:aws:lambda:eu-west-1:111111111111:function:updater:live"
    history_alias_arn       = "arn:aws:lambda:eu-west-1:111111111111:function:history"
    user_pool_arn           = "pool"
    authorizer_function_arn = "function"
    organization_id         = "o-A1B2C3D4E5"
    requests_per_second     = 0
    requests_at_once        = 5001
    account_log_role        = "NONE"
    log_retention_days      = 2
    notices_topic_arn       = "topic"
    metrics_namespace       = "a b"
    name                    = "1"
  }
  expect_failures = [
    var.updater_api_alias_arn,
    var.history_alias_arn,
    var.user_pool_arn,
    var.authorizer_function_arn,
    var.organization_id,
    var.requests_per_second,
    var.requests_at_once,
    var.account_log_role,
    var.log_retention_days,
    var.notices_topic_arn,
    var.metrics_namespace,
    var.name,
  ]
}

run "there_are_three_ways_to_know_callers" {
  command = plan
  module {
    source = "./modules/api"
  }
  variables {
    api_authorization = "NONE"
  }
  expect_failures = [var.api_authorization]
}

run "cognito_needs_a_user_pool_and_no_organization" {
  command = plan
  module {
    source = "./modules/api"
  }
  variables {
    api_authorization = "COGNITO"
    organization_id   = "o-a1b2c3d4e5"
  }
  expect_failures = [var.user_pool_arn, var.organization_id]
}

run "lambda_needs_an_authorizer" {
  command = plan
  module {
    source = "./modules/api"
  }
  variables {
    api_authorization = "LAMBDA"
  }
  expect_failures = [var.authorizer_function_arn]
}

run "callers_known_by_an_authorizer" {
  module {
    source = "./modules/api"
  }
  variables {
    api_authorization       = "LAMBDA"
    authorizer_function_arn = "arn:aws:lambda:eu-west-1:111111111111:function:who"
  }
  assert {
    condition     = length(aws_iam_policy.caller_policy) + length(aws_iam_policy.reader_policy) == 0
    error_message = "tokens need no policy"
  }
  assert {
    condition     = jsondecode(aws_api_gateway_rest_api.api.body).components.securitySchemes.caller["x-amazon-apigateway-authorizer"].authorizerUri == "arn:aws:apigateway:eu-west-1:lambda:path/2015-03-31/functions/arn:aws:lambda:eu-west-1:111111111111:function:who/invocations"
    error_message = "the authorizer"
  }
  assert {
    condition     = strcontains(jsondecode(aws_api_gateway_rest_api.api.body).paths["/updates"].post["x-amazon-apigateway-integration"].requestTemplates["application/json"], "context.authorizer.principalId")
    error_message = "who calls is what the authorizer says"
  }
  assert {
    condition     = !strcontains(aws_api_gateway_rest_api.api.body, "__")
    error_message = "no token is left"
  }
  assert {
    condition     = alltrue([for path, item in jsondecode(aws_api_gateway_rest_api.api.body).paths : jsonencode(item.post.security) == "[{\"caller\":[]}]"])
    error_message = "each operation has security of its own: API Gateway ignores it at the root"
  }
  assert {
    condition     = aws_api_gateway_deployment.deployment.triggers.body == sha1(aws_api_gateway_rest_api.api.body)
    error_message = "another authorizer is another deployment"
  }
}

run "callers_known_by_a_user_pool" {
  module {
    source = "./modules/api"
  }
  variables {
    api_authorization = "COGNITO"
    user_pool_arn     = "arn:aws:cognito-idp:eu-west-1:111111111111:userpool/eu-west-1_AbCdEfGhI"
  }
  assert {
    condition     = alltrue([for path, item in jsondecode(aws_api_gateway_rest_api.api.body).paths : jsonencode(item.post.security) == "[{\"caller\":[]}]"])
    error_message = "each operation has security of its own"
  }
  assert {
    condition     = strcontains(aws_api_gateway_rest_api.api.body, var.user_pool_arn) && aws_api_gateway_deployment.deployment.triggers.body == sha1(aws_api_gateway_rest_api.api.body)
    error_message = "another user pool is another deployment"
  }
}

run "callers_known_by_iam" {
  module {
    source = "./modules/api"
  }
  variables {
    organization_id  = "o-a1b2c3d4e5"
    account_log_role = "CREATE"
  }
  assert {
    condition     = alltrue([for path, item in jsondecode(aws_api_gateway_rest_api.api.body).paths : jsonencode(item.post.security) == "[{\"caller\":[]}]"])
    error_message = "each operation has security of its own"
  }
  assert {
    condition     = strcontains(aws_api_gateway_rest_api_policy.api[0].policy, var.organization_id) && aws_api_gateway_deployment.deployment.triggers.policy == sha1(aws_api_gateway_rest_api_policy.api[0].policy)
    error_message = "another organization is another deployment"
  }
}
