"""The Terraform modules say what the CloudFormation templates say.

Terraform applies each module to a provider that only pretends (tests/mirror*.tftest.json), and what came of it is
compared with what CloudFormation makes of the template under the same parameters: the same resources under the same
names, their properties, and above all their policies. A property that nobody told how to compare is an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import check_api
import deploy
import models
import pytest
import urllib3
from conftest import BUILT
from local_aws import HUB, REGION, LocalAws, forget_aws_settings, root_of
from terraform import DIRECTORY, Missing, Terraform, with_tables
from test_templates import ROOT, resolve, template

# Each module with every variable given, and with only those that have no default.
MIRRORS = ("mirror", "mirror_bare")


def given(mirror: str, module: str) -> dict[str, Any]:
    """The variables under which a module is compared."""
    runs = json.loads((DIRECTORY / "tests" / f"{mirror}.tftest.json").read_text())["run"]
    return dict(runs[snake(module)]["variables"])


# Template -> module. What stands in one only is listed below with its reason.
MODULES = {
    "hub.yaml": "hub",
    "api.yaml": "api",
    "target-role.yaml": "target-role",
    "target-events.yaml": "target-events",
    "global-events.yaml": "global-events",
    "trigger.yaml": "trigger",
    "sandbox-vpc.yaml": "sandbox-vpc",
    "sandbox-ecs.yaml": "sandbox-ecs",
}
# Terraform publishes a version with every change of a function; CloudFormation has to be told by a new name. And what failed at first
# is gone on with by Terraform, and taken back by CloudFormation.
ONLY_CLOUDFORMATION = {"Release", "ProtectTables"}
# Terraform deploys the API itself, where CloudFormation needs a function for it.
ONLY_CLOUDFORMATION_MAKES = {"DeployerFunction", "DeployerRole", "DeployerLogGroup", "DeployerWatch"}


def snake(name: str) -> str:
    """`UpdaterRoleArn` as Terraform writes it."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().replace("-", "_")


# The first part of the stack's id.
STACK_ID = "01234567"


# ---- resources: template -> Terraform --------------------------------------------------------------------------------

def parameters_of(file: str) -> dict[str, Any]:
    """A template's parameters that the module has too."""
    declared = template(file).get("Parameters", {})
    return {name: definition for name, definition in declared.items() if name not in ONLY_CLOUDFORMATION}


Translation = str | Callable[[Any], dict[str, Any]] | None
"""The attribute that has the property's value; or the attributes that have it, in other words; or another resource."""


def key(schema: list[dict[str, str]]) -> dict[str, str]:
    """A table's or an index's key."""
    attribute = {"HASH": "hash_key", "RANGE": "range_key"}
    return {attribute[part["KeyType"]]: part["AttributeName"] for part in schema}


def index(properties: dict[str, Any]) -> dict[str, Any]:
    """An index of a table."""
    projection = properties["Projection"]["ProjectionType"]
    return {"name": properties["IndexName"], "projection_type": projection, **key(properties["KeySchema"])}


def block(attribute: str, **members: str) -> Callable[[Any], dict[str, Any]]:
    """A structure whose members have other names: `attribute` in Terraform, `{member: template's name}` in it."""
    return lambda value: {
        attribute: [{member: value[name] for member, name in members.items() if name in value}]
    }


def camel(value: Any) -> Any:
    """A structure of the template as the API writes it; maps that people fill in stay."""
    if isinstance(value, dict):
        return {name[0].lower() + name[1:]: part if name == "Options" else camel(part) for name, part in value.items()}
    return [camel(part) for part in value] if isinstance(value, list) else value


def dimensions(value: list[dict[str, str]]) -> dict[str, Any]:
    """What a metric is of."""
    return {"dimensions": {dimension["Name"]: dimension["Value"] for dimension in value}}


def network(value: dict[str, Any]) -> dict[str, Any]:
    """A service's network."""
    vpc = value["AwsvpcConfiguration"]
    return {
        "network_configuration": [
            {
                "assign_public_ip": vpc["AssignPublicIp"] == "ENABLED",
                "subnets": vpc["Subnets"],
                "security_groups": vpc["SecurityGroups"],
            }
        ]
    }


def deployment(value: dict[str, Any]) -> dict[str, Any]:
    """How a service deploys."""
    breaker = value["DeploymentCircuitBreaker"]
    return {
        "deployment_minimum_healthy_percent": value["MinimumHealthyPercent"],
        "deployment_maximum_percent": value["MaximumPercent"],
        "deployment_circuit_breaker": [{"enable": breaker["Enable"], "rollback": breaker["Rollback"]}],
    }


def egress(value: list[dict[str, Any]]) -> dict[str, Any]:
    """A security group's rules for what goes out."""
    return {
        "egress": [
            {
                "protocol": rule["IpProtocol"],
                "from_port": rule["FromPort"],
                "to_port": rule["ToPort"],
                "cidr_blocks": [rule["CidrIp"]],
                "description": rule["Description"],
            }
            for rule in value
        ]
    }


def invoked(value: str) -> dict[str, Any]:
    """What a permission is for: a function, or its alias by ARN."""
    alias = re.fullmatch(r"arn:aws:lambda:[^:]+:\d+:function:([^:]+):([^:]+)", value)
    return {"function_name": alias[1], "qualifier": alias[2]} if alias else {"function_name": value}


def tags(value: list[dict[str, str]]) -> dict[str, Any]:
    """Tags."""
    return {"tags": {tag["Key"]: tag["Value"] for tag in value}}


class Kind(NamedTuple):
    """A type of resources: Terraform's, and what becomes of the template's properties."""

    terraform: str
    ref: str
    """The attribute that `Ref` gives."""
    properties: dict[str, Translation]


KINDS = {
    "AWS::ApiGateway::Account": Kind("aws_api_gateway_account", "id", {"CloudWatchRoleArn": "cloudwatch_role_arn"}),
    # Made anew by its function where anything of this changes; in Terraform, by its triggers.
    "Custom::Deployment": Kind(
        "aws_api_gateway_deployment",
        "id",
        {
            "RestApiId": "rest_api_id",
            **dict.fromkeys(
                (
                    "ServiceToken", "ServiceTimeout", "Document", "ApiAuthorization", "UpdaterApiAliasArn",
                    "HistoryAliasArn", "UserPoolArn", "AuthorizerFunctionArn", "OrganizationId",
                )
            ),
        },
    ),
    "AWS::ApiGateway::RestApi": Kind(
        "aws_api_gateway_rest_api",
        "id",
        {
            "Body": None,
            "Description": "description",
            "EndpointConfiguration": block("endpoint_configuration", types="Types"),
            "Name": "name",
            "Policy": None,
        },
    ),
    "AWS::ApiGateway::Stage": Kind(
        "aws_api_gateway_stage",
        "stage_name",
        {
            # API Gateway drops the end of the ARN.
            "AccessLogSetting": lambda value: {
                "access_log_settings": [
                    {"destination_arn": value["DestinationArn"].removesuffix(":*"), "format": value["Format"]}
                ]
            },
            "DeploymentId": "deployment_id",
            "Description": "description",
            "MethodSettings": None,
            "RestApiId": "rest_api_id",
            "StageName": "stage_name",
        },
    ),
    "AWS::CloudWatch::Alarm": Kind(
        "aws_cloudwatch_metric_alarm",
        "alarm_name",
        {
            "AlarmActions": "alarm_actions",
            "AlarmDescription": "alarm_description",
            "ComparisonOperator": "comparison_operator",
            "DatapointsToAlarm": "datapoints_to_alarm",
            "Dimensions": dimensions,
            "EvaluationPeriods": "evaluation_periods",
            "ExtendedStatistic": "extended_statistic",
            "MetricName": "metric_name",
            "Namespace": "namespace",
            "Period": "period",
            "Statistic": "statistic",
            "Threshold": "threshold",
            "TreatMissingData": "treat_missing_data",
        },
    ),
    "AWS::CloudWatch::CompositeAlarm": Kind(
        "aws_cloudwatch_composite_alarm",
        "alarm_name",
        {"AlarmActions": "alarm_actions", "AlarmDescription": "alarm_description", "AlarmRule": "alarm_rule"},
    ),
    "AWS::CloudWatch::Dashboard": Kind(
        "aws_cloudwatch_dashboard",
        "dashboard_name",
        {"DashboardBody": lambda value: {"dashboard_body": json.loads(value)}},
    ),
    "AWS::Chatbot::SlackChannelConfiguration": Kind(
        "aws_chatbot_slack_channel_configuration",
        "chat_configuration_arn",
        {
            "ConfigurationName": "configuration_name",
            "GuardrailPolicies": "guardrail_policy_arns",
            "IamRoleArn": "iam_role_arn",
            "SlackChannelId": "slack_channel_id",
            "SlackWorkspaceId": "slack_team_id",
            "SnsTopicArns": "sns_topic_arns",
        },
    ),
    "AWS::EC2::InternetGateway": Kind("aws_internet_gateway", "id", {"Tags": tags}),
    "AWS::EC2::Route": Kind(
        "aws_route",
        "id",
        {
            "RouteTableId": "route_table_id",
            "DestinationCidrBlock": "destination_cidr_block",
            "GatewayId": "gateway_id",
        },
    ),
    "AWS::EC2::RouteTable": Kind("aws_route_table", "id", {"Tags": tags, "VpcId": "vpc_id"}),
    "AWS::EC2::SecurityGroup": Kind(
        "aws_security_group",
        "id",
        {"GroupDescription": "description", "VpcId": "vpc_id", "SecurityGroupEgress": egress, "Tags": tags},
    ),
    "AWS::EC2::Subnet": Kind(
        "aws_subnet",
        "id",
        {
            "AvailabilityZone": "availability_zone",
            "CidrBlock": "cidr_block",
            "MapPublicIpOnLaunch": "map_public_ip_on_launch",
            "Tags": tags,
            "VpcId": "vpc_id",
        },
    ),
    "AWS::EC2::SubnetRouteTableAssociation": Kind(
        "aws_route_table_association", "id", {"SubnetId": "subnet_id", "RouteTableId": "route_table_id"}
    ),
    "AWS::EC2::VPC": Kind(
        "aws_vpc",
        "id",
        {
            "CidrBlock": "cidr_block",
            "EnableDnsHostnames": "enable_dns_hostnames",
            "EnableDnsSupport": "enable_dns_support",
            "Tags": tags,
        },
    ),
    "AWS::EC2::VPCGatewayAttachment": Kind(
        "aws_internet_gateway_attachment", "id", {"VpcId": "vpc_id", "InternetGatewayId": "internet_gateway_id"}
    ),
    "AWS::ECS::Cluster": Kind("aws_ecs_cluster", "id", {"ClusterName": "name"}),
    "AWS::ECS::Service": Kind(
        "aws_ecs_service",
        "id",
        {
            "Cluster": "cluster",
            "DeploymentConfiguration": deployment,
            "DesiredCount": "desired_count",
            "LaunchType": "launch_type",
            "NetworkConfiguration": network,
            "ServiceName": "name",
            "Tags": tags,
            "TaskDefinition": "task_definition",
        },
    ),
    "AWS::ECS::TaskDefinition": Kind(
        "aws_ecs_task_definition",
        "arn",
        {
            "ContainerDefinitions": lambda value: {"container_definitions": camel(value)},
            "Cpu": "cpu",
            "ExecutionRoleArn": "execution_role_arn",
            "Family": "family",
            "Memory": "memory",
            "NetworkMode": "network_mode",
            "RequiresCompatibilities": "requires_compatibilities",
            "RuntimePlatform": block(
                "runtime_platform",
                cpu_architecture="CpuArchitecture",
                operating_system_family="OperatingSystemFamily",
            ),
        },
    ),
    "AWS::DynamoDB::Table": Kind(
        "aws_dynamodb_table",
        "name",
        {
            "BillingMode": "billing_mode",
            "DeletionProtectionEnabled": "deletion_protection_enabled",
            "SSESpecification": block("server_side_encryption", enabled="SSEEnabled", kms_key_arn="KMSMasterKeyId"),
            "PointInTimeRecoverySpecification": block("point_in_time_recovery", enabled="PointInTimeRecoveryEnabled"),
            "AttributeDefinitions": lambda value: {
                "attribute": [{"name": part["AttributeName"], "type": part["AttributeType"]} for part in value]
            },
            "KeySchema": key,
            "GlobalSecondaryIndexes": lambda value: {"global_secondary_index": [index(part) for part in value]},
            "TimeToLiveSpecification": block("ttl", attribute_name="AttributeName", enabled="Enabled"),
            "ResourcePolicy": None,
        },
    ),
    "AWS::Events::EventBus": Kind(
        "aws_cloudwatch_event_bus", "name", {"Name": "name", "Description": "description", "Policy": None}
    ),
    "AWS::Events::Rule": Kind(
        "aws_cloudwatch_event_rule",
        "name",
        {
            "Description": "description",
            "EventBusName": "event_bus_name",
            "EventPattern": "event_pattern",
            "Name": lambda value: {"name_prefix": value.removesuffix(STACK_ID)},
            "ScheduleExpression": "schedule_expression",
            "Targets": None,
        },
    ),
    "AWS::IAM::ManagedPolicy": Kind(
        "aws_iam_policy", "arn", {"Description": "description", "Path": "path", "PolicyDocument": "policy"}
    ),
    "AWS::IAM::Policy": Kind(
        "aws_iam_role_policy",
        "id",
        {"PolicyName": "name", "PolicyDocument": "policy", "Roles": lambda value: {"role": value[0]}},
    ),
    "AWS::IAM::Role": Kind(
        "aws_iam_role",
        "id",
        {
            "AssumeRolePolicyDocument": "assume_role_policy",
            "Description": "description",
            "Path": "path",
            "PermissionsBoundary": "permissions_boundary",
            "RoleName": "name",
            "ManagedPolicyArns": None,
            "Policies": None,
        },
    ),
    "AWS::KMS::Key": Kind(
        "aws_kms_key",
        "key_id",
        {"Description": "description", "EnableKeyRotation": "enable_key_rotation", "KeyPolicy": "policy"},
    ),
    "AWS::Lambda::Alias": Kind(
        "aws_lambda_alias",
        "arn",
        {
            "Description": "description",
            "FunctionName": "function_name",
            "FunctionVersion": "function_version",
            "Name": "name",
        },
    ),
    "AWS::Lambda::EventInvokeConfig": Kind(
        "aws_lambda_function_event_invoke_config",
        "id",
        {
            "DestinationConfig": lambda value: {
                "destination_config": [{"on_failure": [{"destination": value["OnFailure"]["Destination"]}]}]
            },
            "FunctionName": "function_name",
            "MaximumEventAgeInSeconds": "maximum_event_age_in_seconds",
            "MaximumRetryAttempts": "maximum_retry_attempts",
            "Qualifier": "qualifier",
        },
    ),
    "AWS::Lambda::EventSourceMapping": Kind(
        "aws_lambda_event_source_mapping",
        "id",
        {
            "BatchSize": "batch_size",
            "EventSourceArn": "event_source_arn",
            "FunctionName": "function_name",
            "FunctionResponseTypes": "function_response_types",
            # A parameter of a stack is a text.
            "ScalingConfig": lambda value: {"scaling_config": [{"maximum_concurrency": int(value["MaximumConcurrency"])}]},
        },
    ),
    "AWS::Lambda::Function": Kind(
        "aws_lambda_function",
        "function_name",
        {
            "Architectures": "architectures",
            "CodeSigningConfigArn": "code_signing_config_arn",
            "Code": lambda value: {
                "s3_bucket": value["S3Bucket"],
                "s3_key": value["S3Key"],
                "s3_object_version": value.get("S3ObjectVersion"),
            },
            # Terraform needs no release in it: see ONLY_CLOUDFORMATION.
            "Description": lambda value: {"description": re.sub(r" Release \S+\.$", "", value)},
            "Environment": block("environment", variables="Variables"),
            "Handler": "handler",
            "LoggingConfig": block("logging_config", log_format="LogFormat", log_group="LogGroup"),
            "MemorySize": "memory_size",
            "ReservedConcurrentExecutions": "reserved_concurrent_executions",
            "Role": "role",
            "Runtime": "runtime",
            "Timeout": "timeout",
        },
    ),
    "AWS::Lambda::Permission": Kind(
        "aws_lambda_permission",
        "id",
        {
            "Action": "action",
            "FunctionName": invoked,
            "Principal": "principal",
            "SourceArn": "source_arn",
        },
    ),
    "AWS::Logs::LogGroup": Kind(
        "aws_cloudwatch_log_group",
        "name",
        {
            # Behind it a part that is random in both.
            "LogGroupName": lambda value: {"name_prefix": value.removesuffix(STACK_ID)},
            "KmsKeyId": "kms_key_id",
            "RetentionInDays": "retention_in_days",
        },
    ),
    "AWS::Logs::MetricFilter": Kind(
        "aws_cloudwatch_log_metric_filter",
        "name",
        {
            "FilterPattern": "pattern",
            "LogGroupName": "log_group_name",
            "MetricTransformations": lambda value: {
                "metric_transformation": [
                    {
                        "namespace": part["MetricNamespace"],
                        "name": part["MetricName"],
                        "value": part["MetricValue"],
                        "default_value": str(part["DefaultValue"]) if "DefaultValue" in part else None,
                    }
                    for part in value
                ]
            },
        },
    ),
    "AWS::S3::Bucket": Kind(
        "aws_s3_bucket",
        "id",
        {
            "BucketEncryption": None,
            "LifecycleConfiguration": None,
            "OwnershipControls": None,
            "PublicAccessBlockConfiguration": None,
            "VersioningConfiguration": None,
        },
    ),
    "AWS::S3::BucketPolicy": Kind("aws_s3_bucket_policy", "id", {"Bucket": "bucket", "PolicyDocument": "policy"}),
    "AWS::SNS::Subscription": Kind(
        "aws_sns_topic_subscription",
        "arn",
        {"Endpoint": "endpoint", "Protocol": "protocol", "TopicArn": "topic_arn"},
    ),
    "AWS::SNS::Topic": Kind(
        "aws_sns_topic", "arn", {"DisplayName": "display_name", "KmsMasterKeyId": "kms_master_key_id"}
    ),
    "AWS::SNS::TopicPolicy": Kind(
        "aws_sns_topic_policy", "arn", {"PolicyDocument": "policy", "Topics": lambda value: {"arn": value[0]}}
    ),
    "AWS::SQS::Queue": Kind(
        "aws_sqs_queue",
        "url",
        {
            "ContentBasedDeduplication": "content_based_deduplication",
            "FifoQueue": "fifo_queue",
            "MessageRetentionPeriod": "message_retention_seconds",
            "RedrivePolicy": "redrive_policy",
            "KmsMasterKeyId": "kms_master_key_id",
            # Beside a key Terraform takes none, where CloudFormation has to be told.
            "SqsManagedSseEnabled": lambda value: {"sqs_managed_sse_enabled": True} if value else {},
            "VisibilityTimeout": "visibility_timeout_seconds",
        },
    ),
    "AWS::SQS::QueuePolicy": Kind(
        "aws_sqs_queue_policy", "id", {"PolicyDocument": "policy", "Queues": lambda value: {"queue_url": value[0]}}
    ),
    "AWS::StepFunctions::StateMachine": Kind(
        "aws_sfn_state_machine",
        "arn",
        {
            # Together: see resources().
            "DefinitionString": None,
            "DefinitionSubstitutions": None,
            "LoggingConfiguration": lambda value: {
                "logging_configuration": [
                    {
                        "level": value["Level"],
                        "include_execution_data": value["IncludeExecutionData"],
                        "log_destination": value["Destinations"][0]["CloudWatchLogsLogGroup"]["LogGroupArn"],
                    }
                ]
            },
            "RoleArn": "role_arn",
            "StateMachineType": "type",
        },
    ),
}
# No resource in Terraform, but an attribute of the function (publish = true).
PUBLISHED = "AWS::Lambda::Version"
# Fn::GetAtt: the attribute's name in Terraform, where it is not the same in other letters.
ATTRIBUTES = {"Name": "name", "QueueName": "name"}


def address_of(type_: str, logical_id: str) -> str:
    """Where Terraform has a resource."""
    return f"{KINDS[type_].terraform}.{snake(logical_id)}"


class Resource(NamedTuple):
    """What Terraform is to have made."""

    address: str
    attributes: dict[str, Any]


def target(value: dict[str, Any]) -> dict[str, Any]:
    """Where a rule sends."""
    attributes = {"target_id": value["Id"], "arn": value["Arn"], "role_arn": value.get("RoleArn")}
    attributes["input"] = json.loads(value["Input"]) if "Input" in value else None
    retry = block(
        "retry_policy",
        maximum_event_age_in_seconds="MaximumEventAgeInSeconds",
        maximum_retry_attempts="MaximumRetryAttempts",
    )
    return {
        **attributes,
        **(retry(value["RetryPolicy"]) if "RetryPolicy" in value else {"retry_policy": []}),
        "dead_letter_config": [{"arn": value["DeadLetterConfig"]["Arn"]}] if "DeadLetterConfig" in value else [],
        "sqs_target": [{"message_group_id": value["SqsParameters"]["MessageGroupId"]}] if "SqsParameters" in value else [],
    }


def method_settings(value: dict[str, Any]) -> dict[str, Any]:
    """What holds for the methods of a stage."""
    assert (value["ResourcePath"], value["HttpMethod"]) == ("/*", "*")
    settings = {
        "metrics_enabled": value["MetricsEnabled"],
        "data_trace_enabled": value["DataTraceEnabled"],
        "throttling_rate_limit": value["ThrottlingRateLimit"],
        "throttling_burst_limit": value["ThrottlingBurstLimit"],
    }
    return {"method_path": "*/*", "settings": [settings]}


def bucket(name: str, properties: dict[str, Any]) -> Iterator[Resource]:
    """What is said of a bucket, each a resource of its own in Terraform."""
    (encryption,) = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    by_default = encryption["ServerSideEncryptionByDefault"]
    default = {"sse_algorithm": by_default["SSEAlgorithm"], "kms_master_key_id": by_default.get("KMSMasterKeyID")}
    rule = {"apply_server_side_encryption_by_default": [default], "bucket_key_enabled": encryption.get("BucketKeyEnabled")}
    yield Resource(f"aws_s3_bucket_server_side_encryption_configuration.{name}", {"rule": [rule]})
    (ownership,) = properties["OwnershipControls"]["Rules"]
    rule = {"object_ownership": ownership["ObjectOwnership"]}
    yield Resource(f"aws_s3_bucket_ownership_controls.{name}", {"rule": [rule]})
    closed = {snake(member): value for member, value in properties["PublicAccessBlockConfiguration"].items()}
    yield Resource(f"aws_s3_bucket_public_access_block.{name}", closed)
    (lifecycle,) = properties["LifecycleConfiguration"]["Rules"]
    uploads = lifecycle["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]
    rule = {
        "id": lifecycle["Id"],
        "status": lifecycle["Status"],
        "filter": [{}],
        "expiration": [{"days": int(lifecycle["ExpirationInDays"])}],
        "noncurrent_version_expiration": [{"noncurrent_days": lifecycle["NoncurrentVersionExpiration"]["NoncurrentDays"]}],
        "abort_incomplete_multipart_upload": [{"days_after_initiation": uploads}],
    }
    yield Resource(f"aws_s3_bucket_lifecycle_configuration.{name}", {"rule": [rule]})
    status = {"status": properties["VersioningConfiguration"]["Status"]}
    yield Resource(f"aws_s3_bucket_versioning.{name}", {"versioning_configuration": [status]})


def resources(file: str, values: dict[str, Any], conditions: dict[str, bool]) -> Iterator[Resource]:
    """A template's resources as Terraform has them."""
    for logical_id, definition in template(file)["Resources"].items():
        if not conditions.get(definition.get("Condition", ""), True) or logical_id in ONLY_CLOUDFORMATION_MAKES:
            continue
        if definition["Type"] == PUBLISHED:
            continue
        kind = KINDS[definition["Type"]]
        properties = resolve(definition.get("Properties", {}), values, conditions)
        attributes: dict[str, Any] = {}
        for name, value in properties.items():
            translation = kind.properties[name]
            if isinstance(translation, str):
                attributes[translation] = value
            elif translation:
                attributes |= translation(value)
        if text := properties.get("DefinitionString"):
            names = properties["DefinitionSubstitutions"]
            attributes["definition"] = json.loads(re.sub(r"\$\{(\w+)}", lambda name, names=names: names[name[1]], text))
        yield Resource(address_of(definition["Type"], logical_id), attributes)
        # What is a resource of its own in Terraform.
        for policy in properties.get("Policies", []):
            inline = {"name": policy["PolicyName"], "policy": policy["PolicyDocument"]}
            yield Resource(f"aws_iam_role_policy.{snake(logical_id)}", inline)
        if policy := properties.get("ResourcePolicy"):
            yield Resource(f"aws_dynamodb_resource_policy.{snake(logical_id)}", {"policy": policy["PolicyDocument"]})
        for policy in properties.get("ManagedPolicyArns", []):
            yield Resource(f"aws_iam_role_policy_attachment.{snake(logical_id)}", {"policy_arn": policy})
        if policy := properties.get("Policy"):
            # As API Gateway keeps it, and Terraform has it.
            short, whole = '"execute-api:/', f'"{values.get(f"{logical_id}.execution_arn")}/'
            policy = json.loads(json.dumps(policy).replace(short, whole))
            yield Resource(f"{kind.terraform}_policy.{snake(logical_id)}", {"policy": policy})
        for settings in properties.get("MethodSettings", []):
            yield Resource(f"aws_api_gateway_method_settings.{snake(logical_id)}", method_settings(settings))
        if kind.terraform == "aws_s3_bucket":
            yield from bucket(snake(logical_id), properties)
        for destination in properties.get("Targets", []):
            yield Resource(f"aws_cloudwatch_event_target.{snake(logical_id)}", target(destination))


# ---- what Terraform made ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def terraform() -> Terraform:
    """Terraform, if this machine has it."""
    try:
        return Terraform()
    except Missing as missing:
        pytest.skip(str(missing))


Made = dict[str, dict[str, Any]]
"""Address of a resource -> its attributes."""


def address(full: str) -> str:
    """A resource's type and name: there is one of a kind, or none (`[0]`), or many alike with their names as keys."""
    return re.sub(r'(\w+)\.\w+\["(\w+)"]', r"\1.\2", full).removesuffix("[0]")


@pytest.fixture(scope="module", params=MIRRORS)
def mirror(request: pytest.FixtureRequest) -> str:
    """Which of the two comparisons."""
    return str(request.param)


@pytest.fixture(scope="module")
def made(terraform: Terraform, mirror: str) -> dict[str, Made]:
    """What each module made, by its name with underscores."""
    tested = terraform.run("test", "-json", "-verbose", f"-filter=tests/{mirror}.tftest.json", capture=True)
    messages = [json.loads(line) for line in tested.stdout.splitlines()]
    faults = [message["diagnostic"] for message in messages if "diagnostic" in message]
    assert tested.returncode == 0, faults
    return {
        message["@testrun"]: {
            address(resource["address"]): resource["values"]
            for resource in message["test_state"]["root_module"]["resources"]
        }
        for message in messages
        if "test_state" in message
    }


def condition(node: Any, values: dict[str, Any], conditions: dict[str, Any]) -> bool:
    """A condition of a template."""
    match node:
        case {"Fn::Equals": [left, right]}:
            return bool(resolve(left, values, {}) == resolve(right, values, {}))
        case {"Fn::Not": [inner]}:
            return not condition(inner, values, conditions)
        case {"Fn::Or": parts}:
            return any(condition(part, values, conditions) for part in parts)
        case {"Fn::And": parts}:
            return all(condition(part, values, conditions) for part in parts)
        case {"Condition": name}:
            return condition(conditions[name], values, conditions)
    raise AssertionError(f"a condition that this test does not know: {node}")


def parameters(file: str, given: dict[str, Any]) -> dict[str, Any]:
    """A template's parameters under a module's variables."""
    values = {}
    for name, definition in template(file).get("Parameters", {}).items():
        value = given.get(snake(name), definition.get("Default"))
        listed = isinstance(value, list) and definition["Type"] == "String"
        values[name] = ",".join(value) if listed else value
    return values


def stack_name(file: str) -> str:
    """What a stack would be called to have the names that the module gives by default."""
    body = blocks(MODULES[file], "variables.tf", "variable").get("name")
    return str(default(body)) if body else ""


def known(file: str, given: dict[str, Any], made: Made) -> tuple[dict[str, Any], dict[str, bool]]:
    """What a template's names stand for, with `given` for its parameters and with the names that Terraform gave; and which
    of its conditions hold."""
    values = {
        "AWS::Partition": "aws",
        "AWS::AccountId": "111111111111",
        "AWS::Region": "eu-west-1",
        "AWS::StackName": stack_name(file),
        "AWS::StackId": f"arn:aws:cloudformation:eu-west-1:111111111111:stack/name/{STACK_ID}-89ab-cdef-0123-456789abcdef",
        "AWS::URLSuffix": "amazonaws.com",
        **parameters(file, given),
    }
    parsed = template(file)
    values["Mappings"] = parsed.get("Mappings")
    for logical_id, definition in parsed["Resources"].items():
        if logical_id in ONLY_CLOUDFORMATION_MAKES:
            values[f"{logical_id}.Arn"] = values[logical_id] = logical_id
            continue
        if definition["Type"] == PUBLISHED:
            function = snake(definition["Properties"]["FunctionName"]["Ref"])
            values[f"{logical_id}.Version"] = made.get(f"aws_lambda_function.{function}", {}).get("version")
            continue
        kind = KINDS[definition["Type"]]
        for name, value in made.get(address_of(definition["Type"], logical_id), {}).items():
            values[f"{logical_id}.{name}"] = value
            values.update({f"{logical_id}.{theirs}": value for theirs, ours in ATTRIBUTES.items() if ours == name})
            if name == "arn":
                # CloudFormation's ARN of a log group ends so.
                values[f"{logical_id}.Arn"] = value + (":*" if kind.terraform == "aws_cloudwatch_log_group" else "")
            if name == kind.ref:
                values[logical_id] = value
    conditions = parsed.get("Conditions", {})
    return values, {name: condition(node, values, conditions) for name, node in conditions.items()}


# What the pretended provider makes up inside of structures.
MADE_UP = ("ip_address_type", "logging_level", "mfa_delete", "prefix", "unauthorized_cache_control_header_strategy")


def plain(value: Any) -> Any:
    """A value without what was left to its default, in an order of its own."""
    if isinstance(value, dict):
        members = {name: plain(member) for name, member in value.items() if name not in MADE_UP}
        # A function's variables are text, whatever their parameters are.
        if isinstance(variables := members.get("variables"), dict):
            members["variables"] = {name: str(text) for name, text in variables.items()}
        return {name: member for name, member in members.items() if member not in (None, "", [], {}, 0, False)}
    if isinstance(value, list):
        return sorted((plain(item) for item in value), key=lambda item: json.dumps(item, sort_keys=True))
    return value


def same(wanted: Any, is_: Any) -> bool:
    """Whether an attribute has the value of a property; documents are text in Terraform."""
    if isinstance(wanted, (dict, list)) and isinstance(is_, str):
        return bool(json.loads(is_) == wanted)
    if isinstance(wanted, (str, int)) and isinstance(is_, (str, int)):
        return str(wanted) == str(is_)
    return bool(plain(wanted) == plain(is_))


# What CloudFormation's own tags on each resource say, and the first version's Terraform said by this one.
MARK = "ecs-updater-terraform"
# Its tags are what the updater changes, and the first version's events and checks name all of them.
UNMARKED = {"aws_ecs_service.service"}


@pytest.mark.parametrize("module", MODULES.values())
def test_everything_that_can_have_tags_says_which_module_made_it(module: str, mirror: str, made: dict[str, Made]) -> None:
    # The provider gives every resource all of its attributes: one that can have tags has the attribute, set or not.
    found = {
        address: (attributes["tags"] or {}).get(MARK)
        for address, attributes in made[snake(module)].items()
        if "tags" in attributes and not address.startswith("data.") and address not in UNMARKED
    }
    assert found
    assert {address for address, mark in found.items() if mark != f"ecs-updater-{module}"} == set()


def test_the_trial_hands_its_tags_to_every_module() -> None:
    calls = re.findall(r'^module "\w+" {\n(.*?)^}', (DIRECTORY / "main.tf").read_text(), re.M | re.S)
    assert calls and all("\n  tags = var.tags\n" in call for call in calls)


def unmarked(module: Made) -> Made:
    """A module's resources without what only Terraform says of them."""
    return {
        address: {**attributes, "tags": {name: tag for name, tag in attributes["tags"].items() if name != MARK}}
        if attributes.get("tags")
        else attributes
        for address, attributes in module.items()
    }


@pytest.mark.parametrize("file", MODULES)
def test_terraform_makes_what_the_template_makes(file: str, mirror: str, made: dict[str, Made]) -> None:
    module = unmarked(made[snake(MODULES[file])])
    wanted = list(resources(file, *known(file, given(mirror, MODULES[file]), module)))
    # Where Terraform takes what is random from: no resource of AWS.
    managed = {address for address in module if not address.startswith(("data.", "terraform_data."))}
    assert managed == {resource.address for resource in wanted}
    differences = {
        f"{address}.{attribute}": {"template": value, "terraform": module[address].get(attribute)}
        for address, attributes in wanted
        for attribute, value in attributes.items()
        if not same(value, module[address].get(attribute))
    }
    assert not differences, json.dumps(differences, indent=2, sort_keys=True)


def test_the_api_is_the_templates(mirror: str, made: dict[str, Made]) -> None:
    """The template leaves out what is for people, to be short."""
    module = made["api"]
    body = template("api.yaml")["Resources"]["Api"]["Properties"]["Body"]
    values, holds = known("api.yaml", given(mirror, "api"), module)
    wanted = models.slim(resolve(body, values, holds))
    is_ = models.slim(json.loads(module["aws_api_gateway_rest_api.api"]["body"]))
    assert json.dumps(is_, indent=2, sort_keys=True) == json.dumps(wanted, indent=2, sort_keys=True)


# ---- variables and outputs -------------------------------------------------------------------------------------------


def blocks(module: str, file: str, kind: str) -> dict[str, str]:
    """The blocks of a file by their names: `variable "x" {…}`."""
    text = (DIRECTORY / "modules" / module / file).read_text()
    return {name: body for name, body in re.findall(rf'^{kind} "(\w+)" {{\n(.*?)^}}$', text, re.M | re.S)}


def variables(module: str) -> dict[str, str]:
    """A module's variables, without those that only Terraform needs."""
    text = (DIRECTORY / "modules" / module / "variables.tf").read_text()
    own = text.partition("# ---- what CloudFormation does by itself ----")[2]
    return {name: body for name, body in blocks(module, "variables.tf", "variable").items() if f'"{name}"' not in own}


def default(body: str) -> Any:
    """A variable's default; lists as the templates write them."""
    found = re.search(r"^  default += (.*)$", body, re.M)
    value = json.loads(found[1]) if found else None
    return ",".join(value) if isinstance(value, list) else value


def pattern(name: str, body: str) -> str | None:
    """The pattern of a variable's validation, as the templates write it."""
    found = re.search(r"regex\((\".*?\"), (\w+|var\.\w+)\)\)", body)
    if not found:
        return None
    text = str(json.loads(found[1]))
    # Terraform's expressions count to 1,000 only: what is longer is measured.
    if longest := re.search(rf"length\(var\.{name}\) <= (\d+)", body):
        text = text.replace("{2,}", f"{{2,{longest[1]}}}")
    if re.search(r"^  type += list", body, re.M):
        item = text.removeprefix("^").removesuffix("$")
        text = f"{item}(,{item})*"
        text = f"^{text}$" if "length(var.%s) > 0" % name in body else f"^({text})?$"
    return text


@pytest.mark.parametrize("file", MODULES)
def test_variables_are_the_templates_parameters(file: str) -> None:
    ours, theirs = variables(MODULES[file]), parameters_of(file)
    assert set(ours) == {snake(name) for name in theirs}
    for name, definition in theirs.items():
        body = ours[snake(name)]
        assert default(body) == definition.get("Default"), name
        if "AllowedPattern" in definition:
            assert pattern(snake(name), body) == definition["AllowedPattern"], name
        if values := definition.get("AllowedValues"):
            listed = re.search(r"contains\(\s*(\[.*?\])", body, re.S)
            assert listed and json.loads(listed[1]) == values, name
        if longest := definition.get("MaxLength"):
            assert f"length(var.{snake(name)}) <= {longest}" in body, name
        if (most := definition.get("MaxValue")) is not None:
            assert f"var.{snake(name)} >= {definition['MinValue']} && var.{snake(name)} <= {most}" in body, name


def test_nobody_is_let_at_the_tables_policies_without_having_said_so() -> None:
    """Neither by a module nor by the trial, which hands it on: what has a default is chosen by nobody."""
    declared = {
        path.parent.name: found[1]
        for path in DIRECTORY.rglob("variables.tf")
        if (found := re.search(r'^variable "break_glass_role_arn" {\n(.*?)^}$', path.read_text(), re.M | re.S))
    }
    assert set(declared) == {"hub", DIRECTORY.name}
    assert {where for where, body in declared.items() if re.search(r"^  default\b", body, re.M)} == set()
    assert "Default" not in template("hub.yaml")["Parameters"]["BreakGlassRoleArn"]


@pytest.mark.parametrize("file", MODULES)
def test_outputs_are_the_templates_outputs(file: str) -> None:
    assert set(blocks(MODULES[file], "outputs.tf", "output")) == {snake(name) for name in template(file)["Outputs"]}


def test_readmes_list_every_variable_and_output() -> None:
    for module in (DIRECTORY, *(DIRECTORY / "modules").iterdir()):
        text = (module / "README.md").read_text()
        assert with_tables(text, module) == text, "run `make render`"


def test_every_template_has_a_module() -> None:
    templates = {path.name for path in (ROOT / "infrastructure" / "cloudformation").glob("*.yaml")}
    assert templates == set(MODULES)
    modules = {path.name for path in (DIRECTORY / "modules").iterdir()}
    assert modules == {*MODULES.values(), "policy"}


@pytest.mark.parametrize("file", MODULES)
def test_the_comparison_uses_every_parameter(file: str) -> None:
    """A condition that never holds would never be compared."""
    required = {snake(name) for name, definition in parameters_of(file).items() if "Default" not in definition}
    assert set(given("mirror", MODULES[file])) == set(variables(MODULES[file]))
    assert set(given("mirror_bare", MODULES[file])) == required


# ---- tools/deploy/terraform.py ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of_before", [False, True])
def test_terraform_goes_on_where_it_was(terraform: Terraform, tmp_path: Path, of_before: bool) -> None:
    """In TF_DATA_DIR terraform.tfstate is Terraform's own: with a state there, no `init` would do any more."""
    state = json.dumps({"version": 4, "terraform_version": "1.9.0", "serial": 1, "lineage": "x", "outputs": {}, "resources": []})
    kept = Path(terraform.options("plan")[0].removeprefix("-state=")).name
    (tmp_path / ("terraform.tfstate" if of_before else kept)).write_text(state)
    again = Terraform(tmp_path)
    assert again.options("output") == [f"-state={tmp_path / kept}"]
    assert json.loads((tmp_path / kept).read_text())["lineage"] == "x"


DOOR = ("/updates", "/updates/async", "/plans", "/restores", "/restores/async", "/history")

# ---- on the local AWS ------------------------------------------------------------------------------------------------


def test_what_terraform_deploys_works_and_goes_away(terraform: Terraform, tmp_path: Path) -> None:
    forget_aws_settings()
    with LocalAws() as aws:
        s3 = aws.client("s3", root_of(HUB))
        s3.create_bucket(Bucket="packages", CreateBucketConfiguration={"LocationConstraint": REGION})
        for package in deploy.PACKAGES:
            s3.put_object(Bucket="packages", Key=package, Body=(BUILT / "local" / package).read_bytes())
        given = {
            "code_bucket": "packages",
            "recorder_code_key": "recorder.zip",
            "api": True,
            "account_log_role": "CREATE",
            "external_id": "external",
            "break_glass_role_arn": "NONE",
            "organization_id": deploy.ORGANIZATION_ID,
            "image": "busybox",
            "keep_records": False,
            "tags": {"owner": "platform"},
        }
        (tmp_path / "variables.json").write_text(json.dumps(given))
        root = root_of(HUB)
        environment = {
            "AWS_ENDPOINT_URL": aws.endpoint,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": root.access_key,
            "AWS_SECRET_ACCESS_KEY": root.secret_key,
        }

        def run(command: str, *more: str) -> tuple[int, str]:
            state = terraform.options(command, tmp_path / "state")
            variables = [] if command == "output" else [f"-var-file={tmp_path / 'variables.json'}"]
            done = terraform.run(
                command, "-no-color", *state, *variables, *more, capture=True, environment=environment
            )
            return done.returncode, done.stdout + done.stderr

        # A first apply that fails is gone on with, as DEPLOY.md says: what it made is in the state, and in nobody's way.
        code, said = run("apply", "-var=code_key=mistyped.zip")
        assert code != 0 and "NoSuchKey" in said, said
        made = set(aws.client("dynamodb", root).list_tables()["TableNames"])
        assert made
        code, said = run("apply")
        assert code == 0, said
        assert set(aws.client("dynamodb", root).list_tables()["TableNames"]) == made

        def would_change() -> set[str]:
            """What the next apply would change. Not alarms: the local AWS does not tell Terraform all of them."""
            said = run("plan", "-json")[1]
            messages = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
            changes = [message["change"]["resource"] for message in messages if message["type"] == "planned_change"]
            assert any(message["type"] == "change_summary" for message in messages), said
            alarms = ("aws_cloudwatch_metric_alarm", "aws_cloudwatch_composite_alarm")
            return {change["addr"] for change in changes if change["resource_type"] not in alarms}

        assert would_change() == set()
        tags = aws.client("lambda", root).list_tags(
            Resource=f"arn:aws:lambda:{REGION}:{HUB}:function:ecs-updater"
        )["Tags"]
        assert tags == {MARK: "ecs-updater-hub", "owner": "platform"}
        outputs = {name: output["value"] for name, output in json.loads(run("output", "-json")[1]).items()}
        invoker = deploy.create_invoker(
            aws,
            {
                "UpdaterFunctionArn": outputs["updater_alias_arn"],
                "HistoryFunctionArn": outputs["history_alias_arn"],
                "WavesArn": outputs["waves_arn"],
                "WavesBucketName": outputs["waves_bucket_name"],
            },
        )
        # The door that Terraform made: how its methods know their callers, and what one meets who is nobody.
        api = outputs["api_url"].removeprefix("https://").partition(".")[0]
        assert check_api.check(aws.client("apigateway", root), api) == {f"POST {path}": "AWS_IAM" for path in DOOR}
        for path in DOOR:
            answer = urllib3.request("POST", f"{aws.endpoint}/_aws/execute-api/{api}/live{path}", json={})
            assert (answer.status, json.loads(answer.data)["retryable"]) == (403, False), path
        event = {
            "ecs_cluster_name": outputs["cluster_name"],
            "ecs_service_name": outputs["service_name"],
            "ecs_image_name": "busybox:2",
            "ecs_tag": {"new": "tag"},
            "service": {"desiredCount": 2},
        }
        functions = aws.client("lambda", invoker)

        def ask(function: str, event: dict[str, Any]) -> Any:
            answer = functions.invoke(FunctionName=function, Payload=json.dumps(event))
            return json.loads(answer["Payload"].read())

        changed = ask(outputs["updater_alias_arn"], event)
        assert changed["body"]["status"] == "APPLIED", changed
        told = ask(outputs["history_alias_arn"], {"account_id": HUB})
        assert [change["change_id"] for change in told["body"]["changes"]] == [changed["body"]["change_id"]]
        # The next apply does not take the change back.
        assert would_change() == set()

        code, said = run("destroy")
        assert code == 0, said
        assert aws.client("dynamodb", root).list_tables()["TableNames"] == []
        assert aws.client("lambda", root).list_functions()["Functions"] == []
        assert aws.client("logs", root).describe_log_groups()["logGroups"] == []
        assert aws.client("iam", root).list_roles()["Roles"] == []
        assert aws.client("ecs", root).list_services(cluster=outputs["cluster_name"])["serviceArns"] == []
