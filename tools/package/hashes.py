#!/usr/bin/env python3
"""Writes the hashes of all that is pinned into the requirements: pip then takes nothing else (`--require-hashes`).

    tools/package/hashes.py UV      where UV is uv (https://docs.astral.sh/uv/), which asks PyPI for the hashes of every file of a version

After changing a pin. Comments and order stay; a pin that others pull in has to stand there too.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = (
    ROOT / "tools" / "requirements.txt",
    ROOT / "tools" / "model" / "requirements.txt",
    *sorted((ROOT / "infrastructure" / "validators").glob("*.txt")),
    ROOT / "benches" / "first_version" / "requirements.txt",
)
PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)")


def normal(name: str) -> str:
    """A package's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> list[str]:
    """The lines of a file without hashes."""
    return [line.removesuffix(" \\") for line in text.splitlines() if not line.startswith("    --hash=")]


def with_hashes(lines: Sequence[str], compiled: str) -> str:
    """The lines with the hashes that uv found for each pin."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in compiled.splitlines():
        if pin := PIN.match(line):
            name = normal(pin[1])
        elif digest := re.search(r"--hash=sha256:[0-9a-f]{64}", line):
            found.setdefault(name, []).append(digest[0])
    written = []
    for line in lines:
        pin = PIN.match(line)
        written.append(" \\\n    ".join([line, *found[normal(pin[1])]]) if pin else line)
    return "\n".join(written) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Rewrites the files that are not up to date."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    for path in FILES:
        lines = pins(path.read_text())
        options = ("--quiet", "--no-deps", "--generate-hashes", "--no-header", "--no-annotate", "--python-version", "3.11.9")
        compiled = subprocess.run(
            [arguments[0], "pip", "compile", *options, "-"],
            input="\n".join(lines), stdout=subprocess.PIPE, text=True, check=True,
        ).stdout  # fmt: skip
        fresh = with_hashes(lines, compiled)
        if fresh != path.read_text():
            path.write_text(fresh)
            print(f"{path.relative_to(ROOT)} rewritten")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
