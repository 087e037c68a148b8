"""The tables of docs are those of the schemas (`make tables`): what changes in a schema changes its page, and no property is without words."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import tables  # noqa: E402

DOCS = ROOT / "docs"
PAGES = {"EVENT.md", "HISTORY.md", "IMAGES.md", "ROLLOUTS.md"}
EVENT = "update-event.schema.json"


@pytest.fixture
def schemas() -> tables.Schemas:
    return tables.Schemas(ROOT / "schema")


def event(schemas: tables.Schemas) -> dict[str, Any]:
    return schemas.by_name[EVENT]["properties"]


def test_every_page_is_up_to_date(schemas: tables.Schemas) -> None:
    texts = {path.relative_to(DOCS).as_posix(): path.read_text() for path in DOCS.rglob("*.md")}
    assert {page for page, text in texts.items() if tables.MARKED.search(text)} == PAGES
    assert [page for page, text in texts.items() if tables.rendered(text, schemas, page) != text] == []


def test_every_property_is_described(schemas: tables.Schemas) -> None:
    assert tables.undescribed(schemas) == []


@pytest.mark.parametrize(
    ("field", "member", "value"),
    [("reason", "description", "Other words."), ("reason", "maxLength", 7), ("tag_mode", "default", "merge"), ("new", "", None)],
)
def test_what_changes_in_a_schema_changes_its_page(schemas: tables.Schemas, field: str, member: str, value: Any) -> None:
    if member:
        event(schemas)[field][member] = value
    else:
        event(schemas)[field] = copy.deepcopy(event(schemas)["reason"])
    text = (DOCS / "EVENT.md").read_text()
    assert tables.rendered(text, schemas, "EVENT.md") != text


def test_a_property_without_words_is_found(schemas: tables.Schemas) -> None:
    place = f"schema/{EVENT}#/properties"
    entry = event(schemas)["updates"]["items"]["properties"]
    # An entry of `updates`, and the waves, have the words of what they refer to.
    del event(schemas)["reason"]["title"]
    waves = "schema/waves-input.schema.json#"
    assert set(tables.undescribed(schemas)) == {
        f"{place}/reason has no title",
        f"{place}/updates/items/properties/reason has no title",
        f"{waves}/properties/change/properties/reason has no title",
        f"{waves}/$defs/target/properties/reason has no title",
    }
    event(schemas)["reason"]["title"] = "Reason"
    entry["region"] = {"type": "string", "title": "Region"}
    entry["reason"] = {"$ref": "#/properties/reason", "description": "No sentence"}
    assert tables.undescribed(schemas) == [
        f"{place}/updates/items/properties/region has no description",
        f"{place}/updates/items/properties/reason: the description does not end with a full stop",
    ]


def test_conditions_and_values_are_no_properties() -> None:
    schema = {
        "if": {"properties": {"a": {}}},
        "examples": [{"properties": {"b": {}}}],
        "properties": {"if": {"items": {"properties": {"c": {}}}}, "never": False},
    }
    assert [place for place, _ in tables.properties(schema)] == ["/properties/if", "/properties/if/items/properties/c"]


def test_rows_say_what_a_schema_allows() -> None:
    allowed = {
        "integer, 1 to 1,000": {"type": "integer", "minimum": 1, "maximum": 1000},
        "string or null": {"type": ["string", "null"], "minLength": 1},
        "array, at least 2 items": {"type": "array", "minItems": 2},
        "`a`, `b` or `c`": {"enum": ["a", "b", "c"]},
        "`true`": {"const": True},
        "any value": {},
    }
    assert {text: tables.values(schema) for text, schema in allowed.items()} == {text: text for text in allowed}


def test_pages_that_a_description_names_become_links() -> None:
    text = "a | b, docs/IMAGES.md, docs/EVENT.md#how-it-ended and docs/decisions/README.md."
    assert tables.meaning(text, "EVENT.md") == (
        r"a \| b, [IMAGES](IMAGES.md), [How it ended](#how-it-ended) and [README](decisions/README.md)."
    )


def test_a_marker_without_its_end_is_refused(schemas: tables.Schemas) -> None:
    text = f"<!-- made from schema/{EVENT} by make tables -->\n| a |\n"
    with pytest.raises(ValueError, match="without its end"):
        tables.rendered(text, schemas, "EVENT.md")
    assert "| `reason` |" in tables.rendered(f"{text}<!-- end -->\n", schemas, "EVENT.md")


def test_the_check_says_what_to_do(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "schema").mkdir()
    schema = {"$id": "urn:a", "properties": {"a": {"title": "A", "description": "A sentence."}}}
    (tmp_path / "schema" / "a.schema.json").write_text(json.dumps(schema))
    page = tmp_path / "docs" / "A.md"
    page.write_text("<!-- made from schema/a.schema.json by make tables -->\n<!-- end -->\n")
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    assert tables.main(["--check"]) == 1
    assert capsys.readouterr().err == "docs/A.md is behind the schemas: run make tables\n"
    assert tables.main([]) == 0
    assert "| `a` | A sentence. |" in page.read_text()
    assert tables.main(["--check"]) == 0
