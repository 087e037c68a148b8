"""AWS's models of its services, as botocore has them: data files, which need no botocore to be read."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ECS, DYNAMODB, STS = "ecs/2014-11-13", "dynamodb/2012-08-10", "sts/2011-06-15"


class Missing(Exception):
    """There are no models to compare with. Says why."""


class Models:
    """The models of one version of botocore."""

    def __init__(self, data: Path, version: str) -> None:
        self.version = version
        self._data = data

    def service(self, name: str) -> dict[str, Any]:
        """The model of a service, by the folder that botocore has it in."""
        return dict(json.loads(gzip.decompress((self._data / name / "service-2.json.gz").read_bytes())))


def installed(environment: Path) -> Models:
    """Those of the botocore that is installed in a virtual environment (`.tools/model`)."""
    found = sorted(environment.glob("lib/python3*/site-packages/botocore/data"))
    if not found:
        raise Missing(f"{environment} has no botocore: `make {environment}/stamp` installs the one that is pinned")
    (distribution,) = found[0].parents[1].glob("botocore-*.dist-info")
    return Models(found[0], distribution.name.split("-")[1].removesuffix(".dist"))


def newest() -> Models:
    """Those of the newest botocore that PyPI has today. Its wheel is taken apart in a folder that goes with this process."""
    folder = tempfile.TemporaryDirectory(prefix="botocore-")
    _KEPT.append(folder)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
    command += ["--only-binary=:all:", "--dest", folder.name, "botocore"]
    if subprocess.run(command, check=False).returncode:
        raise Missing("the newest botocore could not be fetched from PyPI, so that nothing was compared with it")
    (wheel,) = Path(folder.name).glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        wanted = [f"botocore/data/{service}/service-2.json.gz" for service in (ECS, DYNAMODB, STS)]
        archive.extractall(folder.name, wanted)
    return Models(Path(folder.name) / "botocore" / "data", wheel.name.split("-")[1])


_KEPT: list[tempfile.TemporaryDirectory[str]] = []


def reachable(model: dict[str, Any], roots: list[str], but: Container[tuple[str, str]] = ()) -> Iterator[str]:
    """The shapes that are in these, and in those that are in them, each once, in the order in which they are met; not by the members of `but`."""
    seen: set[str] = set()
    waiting = list(reversed(roots))
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        yield name
        waiting += reversed([inner for member, inner in references(model["shapes"][name]) if (name, member) not in but])


def references(shape: dict[str, Any]) -> list[tuple[str, str]]:
    """What a shape is made of: by members, or as a list or map is."""
    inner = [(part, shape[part]["shape"]) for part in ("member", "key", "value") if part in shape]
    return [*((name, member["shape"]) for name, member in shape.get("members", {}).items()), *inner]


def plain(name: str) -> str:
    """A name without what its writer decides: `enableECSManagedTags` and `enable_ecs_managed_tags` are one."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
