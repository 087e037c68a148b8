"""What who asks may have to do, as IAM's actions. A test compares it with the calls that the questions make."""

from __future__ import annotations

from typing import Any

from account import PREFIX

ACTIONS: dict[str, str] = {
    "apigateway": "GET POST PUT DELETE",
    "cloudwatch": "GetMetricStatistics ListMetrics",
    "dynamodb": "CreateTable DescribeTable DeleteTable ListTables ListTagsOfResource TagResource PutItem GetItem DeleteItem PartiQLInsert "
    "PutResourcePolicy DeleteResourcePolicy UpdateTimeToLive",
    "ec2": "DescribeSubnets DescribeVpcs DescribeSecurityGroups DescribeAccountAttributes DescribeInternetGateways",
    "ecs": "CreateCluster DeleteCluster ListClusters CreateService UpdateService DeleteService DescribeServices ListServices "
    "RegisterTaskDefinition DeregisterTaskDefinition DeleteTaskDefinitions DescribeTaskDefinition ListTaskDefinitions ListTaskDefinitionFamilies "
    "ListServiceDeployments DescribeServiceDeployments DescribeServiceRevisions StopServiceDeployment RunTask StopTask DescribeTasks ListTasks "
    "TagResource ListTagsForResource CreateExpressGatewayService DeleteExpressGatewayService DescribeExpressGatewayService",
    "elasticloadbalancing": "CreateLoadBalancer DescribeLoadBalancers DeleteLoadBalancer AddTags DescribeTags",
    "events": "CreateEventBus ListEventBuses DeleteEventBus PutRule ListRules DeleteRule PutTargets RemoveTargets ListTargetsByRule PutEvents "
    "TagResource ListTagsForResource",
    "iam": "CreateRole ListRoles DeleteRole TagRole ListRoleTags PutRolePolicy DeleteRolePolicy ListRolePolicies AttachRolePolicy "
    "DetachRolePolicy ListAttachedRolePolicies PassRole CreateServiceLinkedRole",
    "lambda": "CreateFunction GetFunctionConfiguration AddPermission InvokeFunction ListFunctions ListTags TagResource DeleteFunction",
    "logs": "CreateLogGroup DescribeLogGroups DeleteLogGroup TagResource ListTagsForResource",
    "sqs": "CreateQueue SendMessage ReceiveMessage DeleteMessage ListQueues ListQueueTags TagQueue DeleteQueue",
    "states": "CreateStateMachine ListStateMachines DeleteStateMachine StartExecution DescribeExecution TagResource ListTagsForResource",
    "sts": "GetCallerIdentity AssumeRole",
}
# Calls that IAM knows under another name.
NAMED = {
    "lambda:Invoke": "lambda:InvokeFunction",
    "dynamodb:ExecuteStatement": "dynamodb:PartiQLInsert",
}


def actions() -> list[str]:
    """All of them."""
    return [f"{service}:{action}" for service, names in ACTIONS.items() for action in names.split()]


def action_of(call: str) -> str:
    """The action of a call, named by signing name and operation."""
    service, operation = call.split(":")
    if service == "monitoring":
        service = "cloudwatch"
    if service == "apigateway":
        verbs = {"Get": "GET", "Delete": "DELETE", "Put": "PUT"}
        return f"apigateway:{next((verb for begin, verb in verbs.items() if operation.startswith(begin)), 'POST')}"
    return NAMED.get(f"{service}:{operation}", f"{service}:{operation}")


def policy() -> dict[str, Any]:
    """As a policy. It may make roles and give them rights: what may do that may do everything, so it is for an account of its own, whoever
    holds it."""
    return {
        "Version": "2012-10-17",
        "Statement": [{"Sid": PREFIX.title().replace("-", ""), "Effect": "Allow", "Action": actions(), "Resource": "*"}],
    }
