"""`make lint-model` is red where AWS has something that nobody here knows, and where what is known here is not true any more."""

from __future__ import annotations

import copy
import json
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools" / "model"))

import lint  # noqa: E402
import models  # noqa: E402
import shapes  # noqa: E402

ENVIRONMENT = ROOT / ".tools" / "model"
SOURCE = models.installed(ENVIRONMENT)
MODEL = SOURCE.service(models.ECS)
TAKEN = json.loads((lint.HERE / "taken.json").read_text())
LEFT_OUT = tomllib.loads((lint.HERE / "left_out.toml").read_text())
TYPES = ("members", "values")


def known() -> lint.Known:
    """What this project knows."""
    return lint.known(copy.deepcopy(TAKEN), LEFT_OUT)


def test_everything_is_known_as_it_is() -> None:
    assert lint.compare(MODEL, known()) == []


@pytest.mark.parametrize(("kind", "shape"), [(kind, shape) for kind in TYPES for shape in TAKEN[kind]])
def test_what_is_taken_from_our_list_is_missed(kind: str, shape: str) -> None:
    for name in TAKEN[kind][shape]:
        less = copy.deepcopy(TAKEN)
        less[kind][shape].remove(name)
        # One with a default is known by that, too.
        less["defaults"] = [path for path in less["defaults"] if lint.member_at(MODEL, path) != (shape, name)]
        faults = lint.compare(MODEL, lint.known(less, LEFT_OUT))
        assert faults == [f"{shape}: AWS has {name}, which is neither taken nor left out"], name


def test_what_is_taken_from_the_list_of_what_is_left_out_is_missed() -> None:
    for at, entry in enumerate(LEFT_OUT["left_out"]):
        for shape in entry["names"]:
            less = copy.deepcopy(LEFT_OUT)
            name = less["left_out"][at]["names"][shape].pop()
            faults = lint.compare(MODEL, lint.known(TAKEN, less))
            assert f"{shape}: AWS has {name}, which is neither taken nor left out" in faults


def test_what_is_added_to_the_model_is_found() -> None:
    for shape, names in lint.names_of(MODEL, known()).items():
        newer = copy.deepcopy({"shapes": {**MODEL["shapes"], shape: MODEL["shapes"][shape]}})
        added = newer["shapes"][shape]
        if "enum" in added:
            added["enum"].append("ofTomorrow")
        else:
            added["members"]["ofTomorrow"] = {"shape": "String"}
        assert f"{shape}: AWS has ofTomorrow, which is neither taken nor left out" in lint.compare(newer, known()), names


def test_a_new_member_of_an_answer_that_no_request_takes_is_found() -> None:
    newer = copy.deepcopy(MODEL)
    newer["shapes"]["TaskDefinition"]["members"]["ofTomorrow"] = {"shape": "String"}
    assert lint.compare(newer, known()) == [
        "TaskDefinition: AWS answers ofTomorrow, which RegisterTaskDefinition does not take, and it would be sent"
    ]
    less = copy.deepcopy(TAKEN)
    less["only_in_responses"]["TaskDefinition"].append("cpu")
    assert lint.compare(MODEL, lint.known(less, LEFT_OUT)) == [
        "TaskDefinition: cpu is not sent back, and RegisterTaskDefinition takes it"
    ]


def test_what_is_known_and_not_there_is_told() -> None:
    more = copy.deepcopy(TAKEN)
    more["members"]["UpdateServiceRequest"].append("ofYesterday")
    more["members"]["Rollback"].append("startedAt")
    more["defaults"].append("networkConfiguration.ofYesterday")
    assert lint.compare(MODEL, lint.known(more, LEFT_OUT)) == [
        "networkConfiguration.ofYesterday: the code has a default for it, and AWS has no such member",
        "Rollback: startedAt is left out by name, and taken by the code",
        "UpdateServiceRequest: ofYesterday is known here, and AWS does not have it",
    ]


def test_what_is_read_in_files_has_to_stand_there(tmp_path: Path) -> None:
    for file in lint.READ:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text((ROOT / file).read_text().replace('"taskDefinition"', '"somethingElse"'))
    faults = lint.known(TAKEN, LEFT_OUT, tmp_path).faults
    assert len(faults) == 2 and all('has no "taskDefinition"' in fault for fault in faults)


def test_the_sdk_is_compared_too(tmp_path: Path) -> None:
    folder = lint.sdk_folder()
    assert lint.compare_sdk(folder, MODEL, known()) == []
    copied = tmp_path / "src"
    shutil.copytree(folder / "types", copied / "types")
    shutil.copytree(folder / "operation" / "update_service", copied / "operation" / "update_service")
    for file, before in (
        ("types/_rollback.rs", "pub struct Rollback {\n"),
        ("operation/update_service/_update_service_input.rs", "pub struct UpdateServiceInput {\n"),
    ):
        text = (copied / file).read_text()
        assert before in text
        (copied / file).write_text(text.replace(before, before + "    pub of_tomorrow: ::std::option::Option<i32>,\n"))
    status = copied / "types" / "_service_deployment_status.rs"
    status.write_text(status.read_text().replace('"PENDING" =>', '"OF_TOMORROW" =>', 1))
    assert sorted(lint.compare_sdk(copied, MODEL, known())) == [
        "Rollback: aws-sdk-ecs has of_tomorrow, which nobody here knows",
        "ServiceDeploymentStatus: aws-sdk-ecs has OF_TOMORROW, which nobody here knows",
        "UpdateServiceRequest: aws-sdk-ecs has of_tomorrow, which nobody here knows",
    ]
    (tmp_path / "empty" / "types").mkdir(parents=True)
    (fault,) = lint.compare_sdk(tmp_path / "empty", MODEL, known())
    assert "only 0 shapes were found" in fault


def test_names_of_events_are_compared_with_the_code_and_the_rules() -> None:
    events = {"detail_types": {"ECS Deployment State Change": "", "ECS Service Action": "why"}, "event_names": {"SERVICE_DEPLOYMENT_FAILED": ""}}
    code = 'match ("ECS Deployment State Change", "SERVICE_DEPLOYMENT_FAILED")'
    rule = "detail-type: [ECS Deployment State Change]"
    assert lint.compare_events(events, code, {"rule": rule}) == []
    assert lint.compare_events(events, code + '"ECS Service Action"', {}) == ["event ECS Service Action is left out by name, and read by the code"]
    assert lint.compare_events(events, code.replace("FAILED", "ENDED"), {}) == [
        "event SERVICE_DEPLOYMENT_FAILED is not read by the code, and no reason says why",
        "event SERVICE_DEPLOYMENT_ENDED is read by the code, and AWS documents none of that name",
    ]
    (fault,) = lint.compare_events(events, code, {"rule": "detail-type: [ECS Service Action]"})
    assert fault == "rule lets ['ECS Service Action'] through, and the recorder reads ['ECS Deployment State Change']"


@pytest.mark.parametrize("file", ["taken.json", "left_out.toml"])
def test_the_command_ends_with_1_where_something_is_not_known(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lint.main([str(ENVIRONMENT)]) == 0
    for name in ("taken.json", "left_out.toml"):
        text = (lint.HERE / name).read_text()
        # A parameter in the one, a member of task definitions in the other.
        removed = text.replace('      "gatewayConnectors",\n', "").replace('"trustedExecutionConfiguration",', "") if name == file else text
        assert (removed != text) == (name == file)
        (tmp_path / name).write_text(removed)
    monkeypatch.setattr(lint, "HERE", tmp_path)
    assert lint.main([str(ENVIRONMENT)]) == 1
    missed = "gatewayConnectors" if file == "taken.json" else "trustedExecutionConfiguration"
    assert f"AWS has {missed}, which is neither taken nor left out" in capsys.readouterr().err


def test_the_shapes_of_the_stub_are_those_of_the_pinned_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert shapes.main(["--check", str(ENVIRONMENT)]) == 0
    other: dict[str, Any] = shapes.document(SOURCE)
    del other["ecs"]["shapes"]["UpdateServiceRequest"]["members"]["desiredCount"]
    (tmp_path / "shapes.json").write_text(shapes.text(other))
    monkeypatch.setattr(shapes, "FILE", tmp_path / "shapes.json")
    assert shapes.main(["--check", str(ENVIRONMENT)]) == 1
