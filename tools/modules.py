"""The modules of the workspace and the arrows between them: `make modules` prints them by floors, and fails where one points upward or in a circle.

An arrow is a path in the source: `crate::…`, `super::…`, or the name of a crate of ours. A module that is one thing in several files
(a function's folder, a folder whose files extend what its `mod.rs` defines) is one node.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The crates, from the ground up, by the name that their users write. No crate uses one that stands behind it.
CRATES = {
    "domain": ROOT / "crates/domain/src",
    "sdk_error": ROOT / "crates/sdk-error/src",
    "ecs_updater": ROOT / "src",
    "cli": ROOT / "crates/cli/src",
}
# What the lowest crate may not link, however far away: it decides, and neither calls nor waits.
FORBIDDEN = re.compile(r"^(aws-(config|sdk-.*|smithy-.*)|hyper.*|lambda_runtime|mio|reqwest|rustls|tokio.*)$")
# Folders whose files are parts of one thing.
WHOLE = {"ecs_updater::updater", "ecs_updater::recorder"}
PATH = re.compile(r"\b(crate|super|domain|sdk_error|ecs_updater)((?:::(?:\w+|\{[^;]*?\}))+)", re.DOTALL)


def files() -> dict[str, Path]:
    """Each module with its file."""
    found = {}
    for crate, folder in CRATES.items():
        for path in sorted(folder.rglob("*.rs")):
            # Tests beside what they test may use anything.
            if path.stem.endswith("tests"):
                continue
            parts = list(path.relative_to(folder).with_suffix("").parts)
            if parts[-1] in ("mod", "lib", "main"):
                parts.pop()
            found["::".join([crate, *parts])] = path
    return found


def leaves(text: str) -> list[str]:
    """`::a::{b, c::{d, e}}` as `a::b`, `a::c::d`, `a::c::e`."""
    text = text.strip().removeprefix("::")
    head, brace, rest = text.partition("{")
    if not brace:
        return [re.split(r"\s", text)[0]]
    parts, depth, part = [], 0, ""
    for character in rest.rsplit("}", 1)[0] + ",":
        if character == "," and depth == 0:
            parts.append(part.strip())
            part = ""
        else:
            depth += {"{": 1, "}": -1}.get(character, 0)
            part += character
    return [head + leaf for part in parts if part for leaf in leaves(part)]


def code(path: Path) -> str:
    """A file without its tests and comments."""
    text = path.read_text().split("#[cfg(test)]\nmod tests {")[0]
    return re.sub(r"//[^\n]*", "", text)


def node(module: str) -> str:
    """The node of a module."""
    return next((whole for whole in WHOLE if module == whole or module.startswith(whole + "::")), module)


def arrows() -> dict[str, set[str]]:
    """Each node with those that it uses."""
    known = files()
    found: dict[str, set[str]] = {node(module): set() for module in known}
    for module, path in known.items():
        crate, *parents = module.split("::")
        for root, rest in PATH.findall(code(path)):
            for leaf in leaves(rest):
                if root == "super":
                    absolute = "::".join([crate, *parents[:-1], leaf])
                else:
                    absolute = "::".join([crate if root == "crate" else root, leaf])
                while absolute and absolute not in known:
                    absolute = absolute.rpartition("::")[0]
                target = node(absolute) if absolute else ""
                # A crate's root and a folder's mod.rs only say what is in them.
                if target and target != node(module) and target not in CRATES:
                    found[node(module)].add(target)
    return found


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that reach each other (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group = []
            while True:
                group.append(stack.pop())
                if group[-1] == name:
                    break
            if len(group) > 1:
                groups.append(sorted(group))

    for name in sorted(graph):
        if name not in index:
            visit(name)
    return groups


def upward(graph: dict[str, set[str]]) -> list[str]:
    """Arrows from a crate to one that stands above it."""
    order = list(CRATES)
    return [
        f"{name} -> {other}"
        for name, used in sorted(graph.items())
        for other in sorted(used)
        if order.index(other.split("::")[0]) > order.index(name.split("::")[0])
    ]


def floors(graph: dict[str, set[str]]) -> dict[int, list[str]]:
    """The nodes by the longest way down from each."""
    depth: dict[str, int] = {}

    def height(name: str, above: frozenset[str]) -> int:
        if name not in depth:
            depth[name] = max((1 + height(other, above | {name}) for other in graph[name] if other not in above), default=0)
        return depth[name]

    found = defaultdict(list)
    for name in sorted(graph):
        found[height(name, frozenset())].append(name)
    return dict(sorted(found.items()))


def linked() -> list[str]:
    """What `domain` links and may not."""
    tree = subprocess.run(
        ["cargo", "tree", "--locked", "--package", "ecs-updater-domain", "--edges", "normal", "--prefix", "none"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return sorted({name for name in (line.split(" ")[0] for line in tree.stdout.splitlines() if line) if FORBIDDEN.match(name)})


def main() -> int:
    """Prints the floors, each crate by itself, and what is wrong."""
    graph = arrows()
    for crate in reversed(CRATES):
        own = {name: {other for other in used if other.split("::")[0] == crate} for name, used in graph.items() if name.split("::")[0] == crate and name != crate}
        print(f"{crate} ({len(own)} modules)")
        for floor, names in reversed(floors(own).items()):
            for name in names:
                used = ", ".join(sorted(other.split("::", 1)[1] for other in own[name]))
                print(f"  {floor} {name.split('::', 1)[1]}{' -> ' + used if used else ''}")
    wrong = [f"upward: {arrow}" for arrow in upward(graph)] + [f"a circle: {', '.join(group)}" for group in circles(graph)]
    wrong += [f"domain links {name}" for name in linked()]
    print(f"{sum(map(len, graph.values()))} arrows; " + ("none upward, no circle" if not wrong else f"{len(wrong)} wrong"))
    print("\n".join(wrong), file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
