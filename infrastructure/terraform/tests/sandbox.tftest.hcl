mock_provider "aws" {
  source = "./tests/mocks"
}

run "sandbox_vpc_refuses_what_is_wrong" {
  command = plan
  module {
    source = "./modules/sandbox-vpc"
  }
  variables {
    vpc_cidr = "10.0.0.0/24"
  }
  expect_failures = [var.vpc_cidr]
}

run "a_small_vpc_has_two_subnets_of_256_addresses_too" {
  command = plan
  module {
    source = "./modules/sandbox-vpc"
  }
  variables {
    vpc_cidr = "192.168.4.0/23"
  }
  assert {
    condition     = [aws_subnet.first_subnet.cidr_block, aws_subnet.second_subnet.cidr_block] == ["192.168.4.0/24", "192.168.5.0/24"]
    error_message = "the VPC's whole range"
  }
}

run "sandbox_ecs_refuses_what_is_wrong" {
  command = plan
  module {
    source = "./modules/sandbox-ecs"
  }
  variables {
    cluster_name       = "a b"
    dummy_service      = "yes"
    service_name       = ""
    image              = "@"
    desired_count      = 11
    architecture       = "x86_64"
    subnet_ids         = []
    security_group_id  = "group"
    log_retention_days = 2
  }
  expect_failures = [
    var.cluster_name,
    var.dummy_service,
    var.service_name,
    var.image,
    var.desired_count,
    var.architecture,
    var.security_group_id,
    var.log_retention_days,
  ]
}

run "a_cluster_without_the_service" {
  module {
    source = "./modules/sandbox-ecs"
  }
  variables {
    dummy_service     = "absent"
    subnet_ids        = ["subnet-1"]
    security_group_id = "sg-0123456789abcdef0"
  }
  assert {
    condition = (
      length(aws_ecs_service.service) + length(aws_ecs_task_definition.task_definition)
      + length(aws_iam_role.execution_role) + length(aws_cloudwatch_log_group.log_group) == 0
      && output.service_name == null && output.execution_role_arn == null
    )
    error_message = "nothing but the cluster"
  }
}
