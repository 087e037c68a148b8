#!/usr/bin/env python3
"""Says of a deployed API door how each of its methods knows its callers; exit 1 where one lets everybody in.

    infrastructure/check_api.py API_ID        (make check-api API=API_ID)

Asks API Gateway for the methods of each stage's deployment, which is what callers meet, and for those of the API as it is
now, which the next deployment will serve. Region and credentials come from the environment; it needs `apigateway:GET` on
`/restapis/API_ID/*`.
"""

from __future__ import annotations

import sys
from typing import Any

import boto3


class Open(Exception):
    """An API with a method that lets everybody in, or with none to look at. The text names each."""


def served(gateway: Any, api: str) -> dict[str, dict[str, str]]:
    """How the methods of each stage know their callers: `{stage: {"POST /updates": "AWS_IAM"}}`.

    The summary of a deployment is made with it (https://docs.aws.amazon.com/apigateway/latest/api/API_GetDeployment.html)."""
    stages = {}
    for stage in gateway.get_stages(restApiId=api)["item"]:
        names = {"restApiId": api, "deploymentId": stage["deploymentId"], "embed": ["apisummary"]}
        paths = gateway.get_deployment(**names)["apiSummary"]
        stages[stage["stageName"]] = {
            f"{verb} {path}": method["authorizationType"] for path, verbs in paths.items() for verb, method in verbs.items()
        }
    return stages


def present(gateway: Any, api: str) -> dict[str, str]:
    """The same of the API as it is now."""
    pages = gateway.get_paginator("get_resources").paginate(restApiId=api, embed=["methods"])
    return {
        f"{verb} {resource['path']}": method["authorizationType"]
        for page in pages
        for resource in page["items"]
        for verb, method in resource.get("resourceMethods", {}).items()
    }


def check(gateway: Any, api: str) -> dict[str, str]:
    """How each method knows its callers. Raises Open where one does not, or where there is no stage."""
    stages = served(gateway, api)
    looked_at = {"the API as it is now": present(gateway, api)}
    looked_at |= {f"stage {stage}": methods for stage, methods in stages.items()}
    faults = [
        f"{method} of {place} lets everybody in"
        for place, methods in looked_at.items()
        for method, known_by in methods.items()
        if known_by == "NONE"
    ]
    faults += [f"{place} has no method" for place, methods in looked_at.items() if not methods]
    if not stages:
        faults.append("there is no stage")
    if faults:
        raise Open(f"API {api}: " + "; ".join(faults))
    return {method: known_by for methods in stages.values() for method, known_by in methods.items()}


def main(arguments: list[str]) -> int:
    """Looks at one API."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        methods = check(boto3.client("apigateway"), arguments[0])
    except Open as fault:
        print(fault, file=sys.stderr)
        return 1
    for method, known_by in sorted(methods.items()):
        print(f"{method}: {known_by}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
