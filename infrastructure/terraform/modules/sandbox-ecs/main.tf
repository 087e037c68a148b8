# ecs-updater, sandbox: a cluster and a dummy service on Fargate to try the project on. The service's names, image and
# tags are those that the events of tests/events expect. The same resources as infrastructure/cloudformation/sandbox-ecs.yaml.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  # By this tag, everything that Terraform made of ecs-updater is found, as in the first version.
  tags = merge(var.tags, { ecs-updater-terraform = "ecs-updater-sandbox-ecs" })

  service = var.dummy_service == "present" ? 1 : 0
}

resource "aws_ecs_cluster" "cluster" {
  name = var.cluster_name
  tags = local.tags
}

resource "aws_cloudwatch_log_group" "log_group" {
  count = local.service

  name_prefix       = "/ecs-updater-sandbox/"
  retention_in_days = var.log_retention_days
  tags              = local.tags
}

module "execution_trust" {
  source   = "../policy"
  document = "sandbox-execution-trust"
  tokens   = { ACCOUNT_ID = data.aws_caller_identity.current.account_id }
}

# It is what the variable task_role_arns of module target-role has to name: the updater registers task definitions with
# it. The image is public, so that it needs nothing but the log.
resource "aws_iam_role" "execution_role" {
  count = local.service

  name_prefix        = "ecs-updater-sandbox-"
  path               = "/ecs-updater-sandbox/"
  description        = "Starts the tasks of the sandbox's dummy service."
  assume_role_policy = module.execution_trust.json
  tags               = local.tags
}

module "execution_policy" {
  count  = local.service
  source = "../policy"

  document = "sandbox-execution"
  tokens   = { LOG_GROUP_ARN = aws_cloudwatch_log_group.log_group[0].arn }
}

resource "aws_iam_role_policy" "execution_role" {
  count = local.service

  name   = "sandbox-execution"
  role   = aws_iam_role.execution_role[0].id
  policy = module.execution_policy[0].json
}

resource "aws_ecs_task_definition" "task_definition" {
  count = local.service

  family                   = var.service_name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = "256"
  memory                   = "512"
  execution_role_arn       = aws_iam_role.execution_role[0].arn
  tags                     = local.tags

  runtime_platform {
    cpu_architecture        = var.architecture
    operating_system_family = "LINUX"
  }

  container_definitions = jsonencode([{
    name      = "web"
    image     = var.image
    essential = true
    memory    = 64
    # Sleeps, and ends at once when ECS asks: a shell that is process 1 ignores SIGTERM unless told otherwise.
    # Any image with a shell does the same, so that the events' nginx does too.
    entryPoint = ["sh", "-c"]
    command    = ["trap 'exit 0' TERM; while :; do sleep 60 & wait $!; done"]
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.log_group[0].name
        awslogs-region        = data.aws_region.current.id
        awslogs-stream-prefix = "web"
      }
    }
  }])
}

resource "aws_ecs_service" "service" {
  count = local.service

  cluster                            = aws_ecs_cluster.cluster.id
  name                               = var.service_name
  task_definition                    = aws_ecs_task_definition.task_definition[0].arn
  launch_type                        = "FARGATE"
  desired_count                      = var.desired_count
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  availability_zone_rebalancing      = "ENABLED" # as AWS has it where nobody says anything
  tags                               = { old-custom-tag-name = "old-custom-tag-value" }

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    # Without a NAT gateway this is how a task on Fargate gets to its image.
    assign_public_ip = true
    subnets          = var.subnet_ids
    security_groups  = [var.security_group_id]
  }

  # What the updater changes: the next apply would put it back.
  lifecycle {
    ignore_changes = [task_definition, desired_count, availability_zone_rebalancing, tags, tags_all]
  }

  depends_on = [aws_iam_role_policy.execution_role]
}
