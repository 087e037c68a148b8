"""The picture of modules (`make modules`) finds what it is there to find."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import modules  # noqa: E402


def test_no_arrow_points_upward_or_in_a_circle():
    graph = modules.arrows()
    assert modules.upward(graph) == [] and modules.circles(graph) == []
    # What is certainly there is seen.
    assert "domain::ledger::head" in graph["domain::ledger::admission"] and "domain::text" in graph["domain::ids"]
    assert "domain::plan" in graph["ecs_updater::updater"] and "ecs_updater::outcomes" in graph["ecs_updater::recorder"]


def test_a_circle_and_an_arrow_upward_are_found():
    graph = modules.arrows()
    graph["domain::text"].add("domain::ledger::record")
    graph["domain::ids"].add("ecs_updater::aws")
    assert any({"domain::text", "domain::ledger::record"} <= set(group) for group in modules.circles(graph))
    assert modules.upward(graph) == ["domain::ids -> ecs_updater::aws"]


def test_paths_are_taken_apart():
    assert modules.leaves("::a::{b, c::{d, e as f}, self}") == ["a::b", "a::c::d", "a::c::e", "a::self"]


def test_the_domain_links_nothing_that_calls_or_waits():
    assert modules.linked() == []
    assert modules.FORBIDDEN.match("aws-sdk-ecs") and modules.FORBIDDEN.match("tokio") and not modules.FORBIDDEN.match("tower")
