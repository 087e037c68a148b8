#!/usr/bin/env python3
"""A preprocessor of mdBook: links that leave docs become text with the path of the file, since the book does not hold it; and
links to a README.md go to the index.html that mdBook makes of it.

mdBook calls it twice: with `supports RENDERER`, and with the book as JSON on standard input
(https://rust-lang.github.io/mdBook/for_developers/preprocessors.html).
"""

from __future__ import annotations

import json
import posixpath
import re
import sys
from typing import Any

FENCE = re.compile(r"^( *)```.*?^\1```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?![a-z]+:|#)([^()\s]+)\)")


def inside(content: str, folder: str) -> str:
    """A page of `folder`, a path below docs, without links that leave docs."""

    def replaced(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", folder, link[2].partition("#")[0]))
        if path.startswith("docs/"):
            return re.sub(r"README\.md(?=#|\)$)", "index.md", link[0])
        text = link[1].strip("`")
        return link[1] if text == path else f"{link[1]} (`{path}`)"

    pages, end = [], 0
    for fence in FENCE.finditer(content):
        pages += [LINK.sub(replaced, content[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*pages, LINK.sub(replaced, content[end:])])


def change(items: list[Any]) -> None:
    """Changes the chapters of a book, and those below them."""
    for item in items:
        if isinstance(item, dict) and (chapter := item.get("Chapter")):
            if path := chapter.get("path"):
                chapter["content"] = inside(chapter["content"], posixpath.dirname(path))
            change(chapter["sub_items"])


def main() -> int:
    if sys.argv[1:2] == ["supports"]:
        return 0
    _, book = json.load(sys.stdin)
    # mdBook 0.5 calls the list `items`, earlier ones `sections`.
    change(book.get("items", book.get("sections", [])))
    json.dump(book, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
