#!/usr/bin/env python3
"""Compares what AWS has of ECS with what this project takes of it, and with what it leaves out by name.

    tools/model/lint.py ENVIRONMENT    the botocore that is installed there (make lint-model)
    tools/model/lint.py --newest       the newest botocore that PyPI has (make lint-model NEWEST=1)

Compared are members and enumerations of what UpdateService and RegisterTaskDefinition take, of service deployments and of service revisions, with
everything in them: in the models of botocore, and in aws-sdk-ecs of Cargo.lock. Each has to be taken by the code (taken.json, which a Rust
test writes from the code), be read where READ says, or be named in left_out.toml with a reason. What is named there and taken, or not there any
more, is an error as well. The names of events are in no model: those that AWS documents stand in left_out.toml.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import models

HERE = Path(__file__).resolve().parent
ROOTS = ["UpdateServiceRequest", "RegisterTaskDefinitionRequest", "ServiceDeployment", "ServiceDeploymentBrief", "ServiceRevision"]
# What functions read or send by name, in files that need AWS's SDK. That the name stands there is checked.
READ = {
    "src/updater/apply.rs": {"UpdateServiceRequest": ["cluster", "service", "taskDefinition", "forceNewDeployment"]},
    "src/aws/ecs.rs": {"ServiceRevision": ["serviceRevisionArn", "taskDefinition"]},
    "crates/domain/src/ecs/deployment/outcome.rs": {
        "ServiceRevision": ["containerImages"],
        "ContainerImage": ["containerName", "imageDigest"],
    },
    "crates/domain/src/ecs/deployment/pause.rs": {"DeploymentLifecycleHookTargetType": ["PAUSE"]},
}
# Where events are read.
EVENTS = ("crates/domain/src/ecs/deployment/*.rs", "src/recorder/*.rs")
# The rules that send events of ECS to the hub, and there to the recorder.
RULES = (
    "infrastructure/cloudformation/target-events.yaml",
    "infrastructure/cloudformation/hub.yaml",
    "infrastructure/terraform/modules/target-events/main.tf",
    "infrastructure/terraform/modules/hub/recorder.tf",
)

Names = dict[str, set[str]]
"""A shape, and the names of its members or the values of an enumeration."""


@dataclass
class Known:
    """What this project knows of AWS's model."""

    taken: Names = field(default_factory=lambda: defaultdict(set))
    left_out: Names = field(default_factory=lambda: defaultdict(set))
    whole: set[tuple[str, str]] = field(default_factory=set)
    only_in_responses: Names = field(default_factory=lambda: defaultdict(set))
    defaults: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def known(taken: dict[str, Any], left_out: dict[str, Any], root: Path = models.ROOT) -> Known:
    """From taken.json and left_out.toml, and from the files that READ names."""
    found = Known(defaults=taken["defaults"])
    for kind in ("members", "values"):
        for shape, names in taken[kind].items():
            found.taken[shape] |= set(names)
    for shape, names in taken["only_in_responses"].items():
        found.only_in_responses[shape] |= set(names)
    for file, shapes in READ.items():
        text = (root / file).read_text()
        for shape, names in shapes.items():
            found.taken[shape] |= set(names)
            missing = [name for name in names if f'"{name}"' not in text]
            found.faults += [f'{file} has no "{name}", of which READ in tools/model/lint.py says it is read' for name in missing]
    for entry in left_out["left_out"]:
        assert entry["reason"], entry
        for shape, names in entry["names"].items():
            found.faults += [f"{shape}: {name} is left out twice" for name in names if name in found.left_out[shape]]
            found.left_out[shape] |= set(names)
            if entry.get("whole"):
                found.whole |= {(shape, name) for name in names}
    return found


def names_of(model: dict[str, Any], it: Known) -> Names:
    """Every structure and enumeration that is in ROOTS, but for what is left out as a whole."""
    found: Names = {}
    for name in models.reachable(model, ROOTS, it.whole):
        shape = model["shapes"][name]
        if "enum" in shape:
            found[name] = set(shape["enum"])
        elif shape["type"] == "structure" and not shape.get("document"):
            found[name] = set(shape["members"])
    return found


def member_at(model: dict[str, Any], path: str) -> tuple[str, str] | None:
    """Shape and name of the member at a path into UpdateServiceRequest, through lists."""
    at, names = "UpdateServiceRequest", path.split(".")
    for index, name in enumerate(names):
        while model["shapes"][at]["type"] == "list":
            at = model["shapes"][at]["member"]["shape"]
        member = model["shapes"][at].get("members", {}).get(name)
        if member is None:
            return None
        if index == len(names) - 1:
            return at, name
        at = member["shape"]
    return None


def compare(model: dict[str, Any], it: Known) -> list[str]:
    """What AWS has and nobody here knows; and what is known here and AWS does not have."""
    faults = list(it.faults)
    taken: Names = defaultdict(set, {shape: set(names) for shape, names in it.taken.items()})
    for path in it.defaults:
        if at := member_at(model, path):
            taken[at[0]].add(at[1])
        else:
            faults.append(f"{path}: the code has a default for it, and AWS has no such member")
    has = names_of(model, it)
    for shape, names in has.items():
        known_here = taken[shape] | it.left_out[shape]
        faults += [f"{shape}: AWS has {name}, which is neither taken nor left out" for name in sorted(names - known_here)]
        both = sorted(taken[shape] & it.left_out[shape])
        faults += [f"{shape}: {name} is left out by name, and taken by the code" for name in both]
    for shape in sorted({*taken, *it.left_out}):
        gone = (taken[shape] | it.left_out[shape]) - has.get(shape, set())
        faults += [f"{shape}: {name} is known here, and AWS does not have it" for name in sorted(gone)]
    faults += responses(model, it.only_in_responses["TaskDefinition"])
    return faults


def responses(model: dict[str, Any], known_here: set[str]) -> list[str]:
    """Members of an answer that a request does not take would go back to ECS, unless they are known."""
    answered = set(model["shapes"]["TaskDefinition"]["members"])
    only = answered - set(model["shapes"]["RegisterTaskDefinitionRequest"]["members"])
    return [
        *(
            f"TaskDefinition: AWS answers {name}, which RegisterTaskDefinition does not take, and it would be sent"
            for name in sorted(only - known_here)
        ),
        *(f"TaskDefinition: {name} is not sent back, and RegisterTaskDefinition takes it" for name in sorted(known_here - only)),
    ]


# ---- aws-sdk-ecs -----------------------------------------------------------------------------------------------------


def sdk_folder() -> Path:
    """Where cargo has the source of the aws-sdk-ecs of Cargo.lock."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1"]
    done = subprocess.run(command, cwd=models.ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise models.Missing(f"cargo metadata failed, so that the SDK was not compared:\n{done.stderr}")
    (manifest,) = [each["manifest_path"] for each in json.loads(done.stdout)["packages"] if each["name"] == "aws-sdk-ecs"]
    return Path(manifest).parent / "src"


def snake(shape: str) -> str:
    """The file of a type: `CPUArchitecture` is in `_cpu_architecture.rs`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", shape).lower()


def sdk_file(folder: Path, shape: str) -> Path | None:
    """The source of a shape in the SDK, if it has it."""
    if operation := shape.removesuffix("Request") if shape.endswith("Request") else "":
        path = folder / "operation" / snake(operation) / f"_{snake(operation)}_input.rs"
        return path if path.exists() else None
    wanted = models.plain(shape)
    return next((path for path in (folder / "types").glob("_*.rs") if models.plain(path.stem) == wanted), None)


def sdk_names(text: str) -> Iterator[str]:
    """Fields of a structure, or values of an enumeration."""
    if structure := re.search(r"^pub struct \w+ \{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL):
        yield from re.findall(r"^    pub (?:r#)?(\w+): ", structure[1], re.MULTILINE)
    else:
        yield from re.findall(r'^            "([^"]+)" => ', text, re.MULTILINE)


def compare_sdk(folder: Path, model: dict[str, Any], it: Known) -> list[str]:
    """What the SDK has and nobody here knows. It may be older than the model."""
    faults, seen, has = [], 0, names_of(model, it)
    for shape, names in has.items():
        path = sdk_file(folder, shape)
        if path is None:
            continue
        seen += 1
        # Every name of the model is known by now, or told.
        here = {models.plain(name) for name in names | it.taken[shape] | it.left_out[shape]}
        new = [name for name in sdk_names(path.read_text()) if models.plain(name) not in here]
        faults += [f"{shape}: aws-sdk-ecs has {name}, which nobody here knows" for name in new]
    if seen < len(has) // 2:
        faults.append(f"aws-sdk-ecs: only {seen} shapes were found in {folder}: it is laid out in another way than tools/model/lint.py reads")
    return faults


# ---- events ----------------------------------------------------------------------------------------------------------


def compare_events(events: dict[str, Any], code: str, rules: dict[str, str]) -> list[str]:
    """The names that AWS documents, beside those that the recorder understands and those that rules let through."""
    faults = []
    left_out = {name: reason for kind in ("detail_types", "event_names") for name, reason in events[kind].items()}
    taken = {name for name in left_out if f'"{name}"' in code}
    for name, reason in left_out.items():
        if name in taken and reason:
            faults.append(f"event {name} is left out by name, and read by the code")
        if name not in taken and not reason:
            faults.append(f"event {name} is not read by the code, and no reason says why")
    literals = set(re.findall(r'"(ECS [A-Z][A-Za-z ]+|SERVICE_DEPLOYMENT_[A-Z_]+)"', code))
    faults += [f"event {name} is read by the code, and AWS documents none of that name" for name in sorted(literals - set(left_out))]
    for file, text in rules.items():
        passed = set(re.findall(r"\bECS [A-Z][a-z]+(?: [A-Z][a-z]+)+\b", " ".join(re.findall(r"detail-type.*", text))))
        wanted = taken & set(events["detail_types"])
        if passed != wanted:
            faults.append(f"{file} lets {sorted(passed)} through, and the recorder reads {sorted(wanted)}")
    return faults


def main(arguments: Sequence[str]) -> int:
    """Compares all of it; 1 where something is not known."""
    match arguments:
        case ["--newest"]:
            source = models.newest()
        case [environment] if not environment.startswith("-"):
            source = models.installed(Path(environment))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    left_out = tomllib.loads((HERE / "left_out.toml").read_text())
    it = known(json.loads((HERE / "taken.json").read_text()), left_out)
    model = source.service(models.ECS)
    faults = compare(model, it) + compare_sdk(sdk_folder(), model, it)
    sources = [path for pattern in EVENTS for path in sorted(models.ROOT.glob(pattern)) if not path.stem.endswith("tests")]
    code = "\n".join(path.read_text().split("#[cfg(test)]")[0] for path in sources)
    faults += compare_events(left_out["events"], code, {file: (models.ROOT / file).read_text() for file in RULES})
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults:
        print(
            f"lint-model: {len(faults)} differences from botocore {source.version}. Take what is new (then `make model`), or name it in "
            "tools/model/left_out.toml with the reason",
            file=sys.stderr,
        )
        return 1
    shapes = names_of(model, it)
    print(f"lint-model: {sum(map(len, shapes.values()))} members and values of {len(shapes)} shapes of botocore {source.version} are known here")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except models.Missing as missing:
        sys.exit(str(missing))
