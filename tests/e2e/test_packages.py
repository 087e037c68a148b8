"""Packages for AWS and what stands beside them: the same inputs give the same bytes. No AWS in it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "package"))

import hashes  # noqa: E402
from package import pack, pack_small  # noqa: E402
from sbom import document, parse  # noqa: E402

# As `cargo tree` writes it: the second `shared` is not written out again.
TREE = """\
0\tupdater-package v0.1.0 (/a/folder)\tMIT OR Apache-2.0
1\tone v1.2.3\tMIT/Apache-2.0
2\tshared v2.0.0\tISC
3\tdeep v0.1.0\tMIT
1\ttwo v1.0.0\tMIT
2\tshared v2.0.0\tISC (*)
"""


def test_a_package_is_the_same_each_time_and_starts(tmp_path: Path) -> None:
    binary = b"\x7fELF" + b"the same again and again " * 1000
    for number, packing in enumerate([pack, pack_small]):
        first, second = tmp_path / f"{number}a.zip", tmp_path / f"{number}b.zip"
        packing(binary, first)
        packing(binary, second)
        assert first.read_bytes() == second.read_bytes()
        with zipfile.ZipFile(first) as archive:
            (entry,) = archive.infolist()
            assert archive.testzip() is None
            assert archive.read("bootstrap") == binary
        assert (entry.filename, entry.create_system, entry.external_attr >> 16) == ("bootstrap", 3, 0o100755)


def test_what_is_linked_is_listed_with_checksums_and_without_a_path(tmp_path: Path) -> None:
    package = tmp_path / "updater.zip"
    package.write_bytes(b"a package")
    listed = document(parse(TREE), {("one", "1.2.3"): "ab" * 32}, package)
    assert [found["purl"] for found in listed["components"]] == [
        "pkg:cargo/deep@0.1.0", "pkg:cargo/one@1.2.3", "pkg:cargo/shared@2.0.0", "pkg:cargo/two@1.0.0",
    ]  # fmt: skip
    one = listed["components"][1]
    assert one["licenses"] == [{"expression": "MIT OR Apache-2.0"}]
    assert one["hashes"] == [{"alg": "SHA-256", "content": "ab" * 32}]
    needs = {found["ref"]: found["dependsOn"] for found in listed["dependencies"]}
    assert needs["pkg:cargo/updater-package@0.1.0"] == ["pkg:cargo/one@1.2.3", "pkg:cargo/two@1.0.0"]
    assert needs["pkg:cargo/two@1.0.0"] == ["pkg:cargo/shared@2.0.0"]
    assert needs["pkg:cargo/shared@2.0.0"] == ["pkg:cargo/deep@0.1.0"]
    assert "folder" not in json.dumps(listed)
    assert listed == document(parse(TREE), {("one", "1.2.3"): "ab" * 32}, package)
    package.write_bytes(b"another")
    assert listed["serialNumber"] != document(parse(TREE), {}, package)["serialNumber"]


def test_the_rust_of_packages_is_named() -> None:
    """By an exact version, which this checkout's own minimum does not exceed."""
    pinned = tomllib.loads((ROOT / "rust-toolchain.toml").read_text())["toolchain"]["channel"]
    least = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["rust-version"]
    version, minimum = (tuple(map(int, text.split("."))) for text in (pinned, least))
    assert len(version) == 3
    assert version >= minimum


def test_pip_takes_nothing_without_its_hash() -> None:
    """Each pin has the hashes of its files, and every installation asks for them."""
    for path in hashes.FILES:
        blocks = re.findall(r"^([A-Za-z0-9._-]+==\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})*)$", path.read_text(), re.M)
        assert [pin for pin, found in blocks if not found] == [], path
        # Nothing stands there that is no pin.
        left = [line for line in hashes.pins(path.read_text()) if line and not line.startswith("#")]
        assert left == [pin for pin, _ in blocks], path
    installs = re.findall(r"pip (?:--python \S+ )?install .*", (ROOT / "Makefile").read_text())
    assert installs
    assert all("--require-hashes" in line for line in installs)


def test_packages_for_aws_are_built_by_the_rust_that_is_pinned(tmp_path: Path) -> None:
    """Without rustup nobody else would see to it, and the bytes would be others."""
    for tool, says in (("rustc", "rustc 1.0.0 (abcdef012 2015-05-15)"), ("cargo", "cargo")):
        (tmp_path / tool).write_text(f"#!/bin/sh\necho '{says}'\n")
        (tmp_path / tool).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    build = ["make", "--no-print-directory", "--old-file=.venv/stamp", "build-lambda-package"]
    done = subprocess.run(build, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    pinned = tomllib.loads((ROOT / "rust-toolchain.toml").read_text())["toolchain"]["channel"]
    assert done.returncode != 0
    assert f"Rust 1.0.0 is not the {pinned} of rust-toolchain.toml" in done.stderr
    # Who wants to, may: what comes next is whether that Rust can build for Lambda.
    done = subprocess.run([*build, "ANY_RUST=1"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert "rust-toolchain.toml" not in done.stderr
    assert "Rust cannot build for" in done.stderr


def test_advisories_are_looked_for_in_every_lock_file() -> None:
    """The fuzzers have one of their own."""
    text = (ROOT / "Makefile").read_text()
    for rule in ("lint-advisories", "lint-advisories-if-any"):
        recipe = text.split(f"\n{rule}: ")[1].split("\n.PHONY")[0].split("\nlint-templates")[0]
        checks = [line for line in recipe.splitlines() if re.search(r"cargo-deny\b.* check\b.*advisories", line)]
        assert [("fuzz/Cargo.toml" in line) for line in checks] == [False, True], rule
