#!/usr/bin/env python3
"""Writes, beside each package for Lambda, what is linked into it: NAME.cdx.json, CycloneDX 1.6.

tools/package/sbom.py RUST_TARGET ZIP...

Crates as cargo resolves them for that target without the command line, with their checksums from Cargo.lock. Left out is what only
takes part in the build: build scripts' dependencies, procedural macros, tests. The functions are binaries of one package, so
their lists are the same; what a binary does not use the linker drops. The same inputs give the same file, byte for byte.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tomllib
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"


@dataclass
class Crate:
    """One of them."""

    name: str
    version: str
    licence: str
    needs: set[str] = field(default_factory=set)

    @property
    def ref(self) -> str:
        """Its package URL."""
        return f"pkg:cargo/{self.name}@{self.version}"


def parse(tree: str) -> list[Crate]:
    """The crates of a `cargo tree --prefix depth --format '\t{p}\t{l}'`, the package itself first."""
    crates: dict[str, Crate] = {}
    above: list[Crate] = []
    for line in tree.splitlines():
        depth, package, licence = line.removesuffix(" (*)").split("\t")
        name, version = package.split(" ")[:2]
        crate = Crate(name, version.removeprefix("v"), licence.removesuffix(" (*)").strip())
        crate = crates.setdefault(crate.ref, crate)
        del above[int(depth) :]
        if above:
            above[-1].needs.add(crate.ref)
        above.append(crate)
    return list(crates.values())


def component(crate: Crate, checksums: dict[tuple[str, str], str]) -> dict[str, Any]:
    """A crate in CycloneDX."""
    # The old way to write OR.
    licence = " OR ".join(part.strip() for part in crate.licence.split("/"))
    found: dict[str, Any] = {"type": "library", "bom-ref": crate.ref, "name": crate.name, "version": crate.version}
    if checksum := checksums.get((crate.name, crate.version)):
        found["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if licence:
        found["licenses"] = [{"expression": licence}]
    return found | {"purl": crate.ref}


def document(crates: list[Crate], checksums: dict[tuple[str, str], str], package: Path) -> dict[str, Any]:
    """The list for one package."""
    root, *others = crates
    others.sort(key=lambda crate: (crate.name, crate.version))
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    function = {"type": "application", "bom-ref": root.ref, "name": package.stem, "version": root.version}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        # By its package: no time and no chance in it.
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{root.ref}#{package.stem}:{digest}')}",
        "version": 1,
        "metadata": {
            "component": function
            | {"hashes": [{"alg": "SHA-256", "content": digest}], "licenses": [{"expression": root.licence}]}
        },
        "components": [component(crate, checksums) for crate in others],
        "dependencies": [{"ref": crate.ref, "dependsOn": sorted(crate.needs)} for crate in crates],
    }


def main(arguments: list[str]) -> int:
    """Asks cargo, and writes."""
    if len(arguments) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    tree = subprocess.run(
        ["cargo", "tree", "--locked", "--target", arguments[0], "--edges", "normal,no-proc-macro",
         "--prefix", "depth", "--format", "\t{p}\t{l}"],
        cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True,
    ).stdout  # fmt: skip
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    checksums = {(p["name"], p["version"]): p["checksum"] for p in lock if p.get("source") == REGISTRY}
    for package in map(Path, arguments[1:]):
        target = package.with_suffix(".cdx.json")
        text = json.dumps(document(parse(tree), checksums, package), indent=1, ensure_ascii=False)
        target.write_text(text + "\n", encoding="utf-8")
        print(f"{target}: {len(parse(tree)) - 1} crates")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
