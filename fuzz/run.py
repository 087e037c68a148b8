#!/usr/bin/env python3
"""Builds the fuzzers, runs each for its part of the time, and prints what they did and found.

fuzz/run.py CARGO_FUZZ [--seconds N] [--targets NAME,NAME] [--sanitizer none|address]

Each starts from `fuzz/seeds`, from what was found before (`tests/fixtures/fuzz`), from the JSON of tests, schemas and documentation, and
from what earlier runs here have learnt (`fuzz/corpus`). Ends with 1 where something was found, with 2 where nothing could be run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FUZZ = ROOT / "fuzz"
TARGETS = sorted(path.stem for path in (FUZZ / "fuzz_targets").glob("*.rs"))
# Their inputs are no JSON, or JSON behind something else.
NO_DOCUMENTS = {"image_reference", "large", "page_token", "registry"}
# One input may take this long before it counts as a hang; the longest of those kept takes a hundredth.
SECONDS_PER_INPUT = 10
MEGABYTES = 2048
LONGEST_DOCUMENT = 16 * 1024


@dataclass
class Run:
    """How one target came out."""

    target: str
    runs: int = 0
    seconds: float = 0
    coverage: int = 0
    corpus: int = 0
    found: list[Path] = field(default_factory=list)
    failed: str = ""


def documents() -> Iterator[bytes]:
    """The JSON that is in this repository anyway."""
    for folder in ("tests/events", "tests/fixtures"):
        yield from (path.read_bytes() for path in sorted((ROOT / folder).glob("*.json*")))
    for path in sorted((ROOT / "schema").glob("*.json")):
        for example in json.loads(path.read_text()).get("examples", []):
            yield json.dumps(example).encode()
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for block in re.findall(r"```json\n(.*?)```", path.read_text(), re.DOTALL):
            yield block.encode()


def seed(target: str) -> Path:
    """Puts what a target starts from into its corpus; names are hashes, as libFuzzer's are."""
    corpus = FUZZ / "corpus" / target
    corpus.mkdir(parents=True, exist_ok=True)
    folders = [FUZZ / "seeds" / target, ROOT / "tests/fixtures/fuzz" / target]
    inputs = [path.read_bytes() for folder in folders if folder.exists() for path in folder.iterdir()]
    if target not in NO_DOCUMENTS:
        inputs.extend(document for document in documents() if len(document) <= LONGEST_DOCUMENT)
    if target == "task_definition":
        inputs.append(b'{"taskDefinition":' + (ROOT / "tests/fixtures/every-member.json").read_bytes() + b"}")
    for content in inputs:
        (corpus / hashlib.sha1(content).hexdigest()).write_bytes(content)
    return corpus


def dictionary() -> Path:
    """The words of schemas, and those of ECS in the fixtures: names that no mutation would hit upon."""
    words: set[str] = set()

    def collect(value: object, names_only: bool) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                words.add(name)
                collect(inner, names_only and name != "enum")
        elif isinstance(value, list):
            for inner in value:
                collect(inner, names_only)
        elif isinstance(value, str) and not names_only and len(value) <= 64:
            words.add(value)

    for name in ("update-event", "history-query", "trigger-mapping"):
        schema = json.loads((ROOT / f"schema/{name}.schema.json").read_text())
        for part in ("properties", "examples"):
            collect(schema.get(part, {}), names_only=part == "properties")
    collect(json.loads((ROOT / "tests/fixtures/every-member.json").read_text()), names_only=True)
    for folder in ("deployment_event", "push", "task_definition"):
        for path in (FUZZ / "seeds" / folder).iterdir():
            try:
                collect(json.loads(path.read_bytes()), names_only=False)
            except ValueError:
                pass
    path = FUZZ / "corpus" / "words.dict"

    def quoted(word: str) -> str:
        return "".join(chr(b) if 32 < b < 127 and b not in b'"\\' else f"\\x{b:02x}" for b in word.encode())

    path.write_text("".join(f'"\\x22{quoted(word)}\\x22"\n' for word in sorted(words) if word))
    return path


def build(cargo_fuzz: Path, sanitizer: str) -> dict[str, Path]:
    """Builds all targets; where their binaries are."""
    compiler = os.environ.get("CXX", "c++")
    if shutil.which(compiler) is None:
        print(f"{compiler} was not found: libFuzzer is built by a C++ compiler (Debian, Ubuntu: apt install g++)", file=sys.stderr)
        raise SystemExit(2)
    environment = dict(os.environ)
    if sanitizer != "none":
        # Sanitizers are unstable in Rust; everything else that is needed here is in every stable one.
        environment["RUSTC_BOOTSTRAP"] = "1"
    host = re.search(r"host: (\S+)", subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout)
    triple = host.group(1) if host else ""
    built = FUZZ / "target"
    command = [cargo_fuzz, "build", "--sanitizer", sanitizer, "--codegen-units", "16", "--target", triple, "--target-dir", built]
    if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode != 0:
        print("the fuzzers could not be built", file=sys.stderr)
        raise SystemExit(2)
    return {target: built / triple / "release" / target for target in TARGETS}


def run(target: str, binary: Path, words: Path, seconds: int) -> Run:
    """Lets one target run for its time, or until it finds something."""
    corpus = seed(target)
    artifacts = FUZZ / "artifacts" / target
    artifacts.mkdir(parents=True, exist_ok=True)
    before = set(artifacts.iterdir())
    command = [
        binary,
        corpus,
        f"-timeout={SECONDS_PER_INPUT}",
        f"-rss_limit_mb={MEGABYTES}",
        f"-artifact_prefix={artifacts}/",
        f"-dict={words}",
        "-use_value_profile=1",
        "-print_final_stats=1",
    ]
    log = FUZZ / "artifacts" / f"{target}.log"
    result = Run(target)
    started = time.monotonic()
    log.unlink(missing_ok=True)
    while True:
        left = int(seconds - (time.monotonic() - started))
        with log.open("a") as output:
            ended = subprocess.run(
                [*command, f"-max_total_time={max(1, left)}"], cwd=FUZZ, stdout=output, stderr=output, check=False
            )
        text = log.read_text(errors="replace")
        result.found = sorted(set(artifacts.iterdir()) - before)
        starved = [path for path in result.found if path.name.startswith(("timeout-", "slow-unit-")) and is_quick(binary, path)]
        for path in starved:
            path.unlink()
            result.found.remove(path)
        # On a machine with much else to do: the rest of the time is this target's all the same.
        if not starved or result.found or left < 2:
            break
    result.seconds = time.monotonic() - started
    result.runs = sum(int(runs) for runs in re.findall(r"stat::number_of_executed_units:\s*(\d+)", text))
    result.coverage = max((int(edges) for edges in re.findall(r"\bcov: (\d+)", text)), default=0)
    result.corpus = sum(1 for _ in corpus.iterdir())
    if ended.returncode != 0 and not result.found and not starved:
        result.failed = f"ended with {ended.returncode}: {log.relative_to(ROOT)} says why"
    return result


def is_quick(binary: Path, path: Path) -> bool:
    """Whether an input that took long by the clock takes the processor only shortly."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    ended = subprocess.run([binary, "-timeout=600", path], cwd=FUZZ, capture_output=True, check=False)
    took = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    return ended.returncode == 0 and took < SECONDS_PER_INPUT / 2


def table(results: list[Run]) -> None:
    """What was done, a line for each target."""
    print(f"\n{'target':<18}{'seconds':>9}{'runs':>12}{'runs/s':>9}{'coverage':>10}{'corpus':>8}  found")
    for it in results:
        found = len(it.found) or ("?" if it.failed else 0)
        rate = it.runs / it.seconds if it.seconds else 0
        print(f"{it.target:<18}{it.seconds:>9.0f}{it.runs:>12}{rate:>9.0f}{it.coverage:>10}{it.corpus:>8}  {found}")
    runs, seconds = sum(it.runs for it in results), sum(it.seconds for it in results)
    print(f"{'all':<18}{seconds:>9.0f}{runs:>12}{runs / seconds if seconds else 0:>9.0f}")


def main() -> int:
    """Everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cargo_fuzz", type=Path)
    parser.add_argument("--seconds", type=int, default=120, help="in all, split over the targets")
    parser.add_argument("--targets", default="", help="all where it is left out")
    parser.add_argument("--sanitizer", choices=["none", "address"], default="none")
    arguments = parser.parse_args()
    wanted = [name for name in re.split(r"[,\s]+", arguments.targets) if name] or TARGETS
    if unknown := [name for name in wanted if name not in TARGETS]:
        parser.error(f"no such target: {', '.join(unknown)} (there are {', '.join(TARGETS)})")
    binaries = build(arguments.cargo_fuzz.resolve(), arguments.sanitizer)
    (FUZZ / "corpus").mkdir(exist_ok=True)
    words = dictionary()
    each = max(1, arguments.seconds // len(wanted))
    results = []
    for target in wanted:
        print(f"{target}: {each} s", flush=True)
        results.append(run(target, binaries[target], words, each))
    table(results)
    for it in results:
        if it.failed:
            print(f"\n{it.target} {it.failed}")
        for path in it.found:
            print(f"\n{it.target} found {path.relative_to(ROOT)}; what broke: fuzz/artifacts/{it.target}.log. Again:")
            print(f"  {binaries[it.target].relative_to(ROOT)} {path.relative_to(ROOT)}")
            kept = f"tests/fixtures/fuzz/{it.target}"
            print(f"  mkdir -p {kept} && cp {path.relative_to(ROOT)} {kept}/ && cargo test --test fuzz")
    return int(any(it.found or it.failed for it in results))


if __name__ == "__main__":
    sys.exit(main())
