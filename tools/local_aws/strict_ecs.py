"""What strict.py mends of Amazon ECS."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ministack.services import ecs

Update = Callable[[dict[str, Any]], tuple[int, dict[str, str], bytes]]
original_update: Update = ecs._update_service


def update_service(data: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
    """UpdateService, which merges `deploymentConfiguration`: a member that is not named stays. MiniStack replaces it.
    <https://github.com/aws/copilot-cli/pull/4565>, <https://github.com/hashicorp/terraform-provider-aws/pull/47096>"""
    named = data.get("deploymentConfiguration")
    if named is not None:
        cluster, found = ecs._resolve_cluster_name(data.get("cluster", "default")), None
        if reference := ecs._resolve_service_ref(data.get("service", "")):
            found = ecs._services.get(f"{cluster}/{reference[0]}")
        had = (found or {}).get("deploymentConfiguration") or {}
        given = {name: value for name, value in named.items() if value is not None}
        data = {**data, "deploymentConfiguration": {**had, **given}}
    return original_update(data)


def act_on_deployment(data: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
    """StopServiceDeployment and ContinueServiceDeployment, which MiniStack does not have. It has no service deployments either, so each is
    unknown: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_StopServiceDeployment.html>."""
    if not data.get("serviceDeploymentArn"):
        return ecs.error_response_json("InvalidParameterException", "serviceDeploymentArn is required.", 400)
    return ecs.error_response_json("ServiceDeploymentNotFoundException", "Service deployment not found.", 400)


def with_long_arn(original: Update) -> Update:
    """A call about the tags of a resource: not of a service with a short ARN, without its cluster.
    <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_TagResource.html>, <https://github.com/boto/boto3/issues/2473>,
    <https://github.com/kayac/ecspresso/pull/297> (ListTagsForResource)"""

    def call(data: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        if re.search(r":service/[^/]+$", str(data.get("resourceArn"))):
            return ecs.error_response_json(
                "InvalidParameterException", "Long arn format must be used for tagging operations", 400
            )
        return original(data)

    return call


def mend() -> None:
    """Puts the functions of this file in place of MiniStack's."""
    for action in ("TagResource", "UntagResource", "ListTagsForResource"):
        ecs._ACTION_MAP[action] = with_long_arn(ecs._ACTION_MAP[action])
    ecs._update_service = update_service
    ecs._ACTION_MAP["UpdateService"] = update_service
    ecs._ACTION_MAP["StopServiceDeployment"] = act_on_deployment
    ecs._ACTION_MAP["ContinueServiceDeployment"] = act_on_deployment
