"""What the book's preprocessor makes of links: those that leave docs become text, and the others stay."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "tools"))
import book  # noqa: E402


def test_links_that_leave_docs_become_text() -> None:
    assert book.inside("[Work](../CONTRIBUTING.md#work), [`schema/a.json`](../schema/a.json)", "") == (
        "Work (`CONTRIBUTING.md`), `schema/a.json`"
    )
    assert book.inside("[a](../API.md#x) [b](../../SECURITY.md)", "decisions") == "[a](../API.md#x) b (`SECURITY.md`)"


def test_other_links_stay_and_an_index_is_found() -> None:
    kept = "[a](EVENT.md#the-event) [b](https://example.com/README.md) [c](#here)\n```\n[d](../gone.md)\n```\n"
    assert book.inside(kept, "") == kept
    assert book.inside("[a](decisions/README.md#x)", "") == "[a](decisions/index.md#x)"


def test_chapters_below_others_are_changed_too() -> None:
    below = {"path": "decisions/0001.md", "content": "[a](../../README.md)", "sub_items": []}
    draft = {"path": None, "content": "", "sub_items": [{"Chapter": below}, "Separator"]}
    book.change([{"Chapter": draft}, {"PartTitle": "Build"}])
    assert below["content"] == "a (`README.md`)"
