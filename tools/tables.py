#!/usr/bin/env python3
"""Writes the fields of `schema/` as tables into the pages of docs, between marker lines.

    <!-- made from schema/update-event.schema.json by make tables -->
    | field | values | meaning |
    …
    <!-- end -->

A marker may name a part of the schema: `schema/update-response.schema.json#/$defs/body`. What a row says is the property's description, and
what its schema allows. A description is plain text with code in backticks; `docs/PAGE.md#heading` in it becomes a link.

    tools/tables.py            write the tables
    tools/tables.py --check    change nothing; exit 1 where a page is behind its schema, or a property has no title or description
"""

from __future__ import annotations

import json
import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MARKED = re.compile(
    r"^(?P<marker><!-- made from schema/(?P<name>[\w.-]+)(?:#(?P<pointer>\S*))? by make tables -->\n).*?^<!-- end -->\n",
    re.DOTALL | re.MULTILINE,
)
MARKER = re.compile(r"^<!-- (?:made from .* by make tables|end) -->$", re.MULTILINE)
PAGE = re.compile(r"docs/([\w/-]+\.md)(#[\w-]+)?")
# Parts of a schema that say when something is allowed, of properties that are described elsewhere.
CONDITIONS = ("if", "then", "else", "not", "anyOf", "allOf", "dependentSchemas")
# Values, in which `properties` would be a member like any other.
VALUES = ("examples", "default", "enum", "const")
# What a schema without a type allows.
ANY = "any value"


class Schemas:
    """The schemas of `schema/`, which refer to each other by their ids."""

    def __init__(self, folder: Path) -> None:
        self.by_name = {path.name: json.loads(path.read_text()) for path in sorted(folder.glob("*.schema.json"))}
        self.by_id = {schema["$id"]: schema for schema in self.by_name.values()}

    def at(self, document: dict[str, Any], pointer: str) -> Any:
        """The part of a schema that a JSON pointer names."""
        node: Any = document
        for step in filter(None, pointer.split("/")):
            node = node[step]
        return node

    def alternatives(self, schema: dict[str, Any], document: dict[str, Any]) -> list[dict[str, Any]]:
        """What a schema allows one of: itself, where it has no alternatives."""
        return [self.resolved(part, document) for part in schema.get("anyOf", schema.get("oneOf", [schema]))]

    def resolved(self, schema: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
        """A schema with what it refers to; its own members count more."""
        reference = schema.get("$ref")
        if reference is None:
            return schema
        other, _, pointer = reference.partition("#")
        owner = self.by_id[other] if other else document
        return self.resolved(self.at(owner, pointer), owner) | {name: member for name, member in schema.items() if name != "$ref"}


def properties(node: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """The properties that a schema has, wherever they are in it, with their places."""
    if isinstance(node, list):
        for index, item in enumerate(node):
            yield from properties(item, f"{place}/{index}")
    elif isinstance(node, dict):
        for name, member in node.items():
            if name in CONDITIONS or name in VALUES:
                continue
            if name == "properties":
                for field, schema in member.items():
                    if isinstance(schema, dict):
                        yield f"{place}/properties/{field}", schema
                        yield from properties(schema, f"{place}/properties/{field}")
            else:
                yield from properties(member, f"{place}/{name}")


def undescribed(schemas: Schemas) -> list[str]:
    """Properties without a title or without a description in full sentences."""
    wrong = []
    for name, document in schemas.by_name.items():
        for place, schema in properties(document):
            schema = schemas.resolved(schema, document)
            if not schema.get("title"):
                wrong.append(f"schema/{name}#{place} has no title")
            if not schema.get("description"):
                wrong.append(f"schema/{name}#{place} has no description")
            elif not schema["description"].endswith("."):
                wrong.append(f"schema/{name}#{place}: the description does not end with a full stop")
    return wrong


def listed(words: list[str]) -> str:
    """`a`, `b` or `c`."""
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def between(schema: dict[str, Any], least: str, most: str, unit: str = "") -> str:
    """What the limits of a number or a length say, such as `, 1 to 256 characters`."""
    low, high = schema.get(least), schema.get(most)
    if high is None:
        return f", at least {low}{unit}" if low and low > 1 else ""
    limits = f"{low:,} to {high:,}" if low is not None else f"at most {high:,}"
    return f", {limits}{unit}"


def values(schema: dict[str, Any]) -> str:
    """Which values a schema allows, but for its patterns."""
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return listed([f"`{value}`" for value in schema["enum"]])
    kinds = schema.get("type", ANY)
    text = listed([kinds] if isinstance(kinds, str) else kinds)
    if "string" in kinds:
        text += between(schema, "minLength", "maxLength", " characters")
    elif kinds in ("integer", "number"):
        text += between(schema, "minimum", "maximum")
    elif kinds == "array":
        text += between(schema, "minItems", "maxItems", " items")
    elif kinds == "object":
        text += between(schema, "minProperties", "maxProperties", " members")
    return text


def meaning(description: str, page: str) -> str:
    """A description as a cell of a table of a page of docs."""

    def link(found: re.Match[str]) -> str:
        path, heading = found[1], found[2] or ""
        target = heading if path == page and heading else posixpath.relpath(path, posixpath.dirname(page) or ".") + heading
        words = heading.removeprefix("#").replace("-", " ").capitalize() if path == page else posixpath.basename(path).removesuffix(".md")
        return f"[{words}]({target})"

    return PAGE.sub(link, description).replace("|", r"\|")


def table(schemas: Schemas, name: str, pointer: str, page: str) -> str:
    """The properties of a schema, or of a part of it, as a table."""
    document = schemas.by_name[name]
    part = schemas.at(document, pointer)
    required = {*part.get("required", ()), *part.get("then", {}).get("required", ())}
    # Whoever sends has to know it; whoever receives reads what is there.
    sent = not name.startswith(("update-response", "history-response", "waves-summary"))
    rows = []
    for field, schema in part["properties"].items():
        schema = schemas.resolved(schema, document)
        cell = listed([values(part) for part in schemas.alternatives(schema, document)])
        if "default" in schema:
            default = schema["default"]
            cell += f"; default `{default if isinstance(default, str) else json.dumps(default)}`"
        if sent and field in required:
            cell += "; required"
        rows.append({"field": f"`{field}`", "values": cell, "meaning": meaning(schema.get("description", ""), page)})
    # A column that says nothing in any row is omitted.
    columns = [name for name in ("field", "values", "meaning") if not all(row[name] == ANY for row in rows)]
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    lines += [f"| {' | '.join(row[name] for name in columns)} |" for row in rows]
    return "\n".join(lines) + "\n"


def rendered(text: str, schemas: Schemas, page: str) -> str:
    """A page, named by its path below docs, with its tables written anew."""

    def fresh(found: re.Match[str]) -> str:
        return found["marker"] + table(schemas, found["name"], found["pointer"] or "", page) + "<!-- end -->\n"

    if len(MARKER.findall(text)) != 2 * len(MARKED.findall(text)):
        raise ValueError(f"docs/{page}: a marker of a table without its end, or an end without its marker")
    return MARKED.sub(fresh, text)


def main(arguments: list[str]) -> int:
    """Rewrites the pages, or with `--check` says which are behind."""
    check = arguments == ["--check"]
    if arguments and not check:
        print(__doc__, file=sys.stderr)
        return 2
    schemas = Schemas(ROOT / "schema")
    faults = undescribed(schemas)
    for path in sorted((ROOT / "docs").rglob("*.md")):
        text = path.read_text()
        fresh = rendered(text, schemas, path.relative_to(ROOT / "docs").as_posix())
        if fresh == text:
            continue
        name = path.relative_to(ROOT)
        if check:
            faults.append(f"{name} is behind the schemas: run make tables")
        else:
            path.write_text(fresh)
            print(f"{name} rewritten")
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
