"""Puts known faults back, one at a time, and shows which seed finds each: `make simulate-mutants` calls it.

Each patch beside this file says which invariants it is to be found by. It is applied to a copy of the tree under target/mutants, which is
built there and run until a seed breaks one of them that the unpatched code keeps at that seed. What was found is kept in found.json, and
that seed is tried first next time.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
WORK = ROOT / "target" / "mutants"
TREE = WORK / "tree"
BUILD = WORK / "target"
FOUND = HERE / "found.json"
# The copy is no repository of its own, and git is not to take it for a part of ours. A mutant differs from the one before in a few functions:
# only these are compiled again.
ENVIRONMENT = {
    **os.environ,
    "CARGO_TARGET_DIR": str(BUILD),
    "CARGO_PROFILE_SIM_INCREMENTAL": "true",
    "GIT_CEILING_DIRECTORIES": str(WORK),
}
# How many seeds are run before the next look at what they broke: more each time.
CHUNKS = (50, 150, 300, 500)
# A run takes some hundredths of a second: beyond this something hangs.
SECONDS_FOR_A_SEED = 2


def wanted_of(patch):
    """The invariants that are to find a mutant, by its second line."""
    line = re.search(r"^To be found by: (.+)\.$", patch.read_text(), re.MULTILINE)
    if line is None:
        sys.exit(f"{patch.name} does not say what it is to be found by")
    return set(line[1].split("; "))


def copy_tree():
    """Makes the copy as the tree is. What is the same keeps its time, so that little is built again."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True
    )
    wanted = {name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()}
    for name in wanted:
        source, target = ROOT / name, TREE / name
        content = source.read_bytes()
        if not target.is_file() or target.read_bytes() != content:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    for path in TREE.rglob("*"):
        if path.is_file() and str(path.relative_to(TREE)) not in wanted:
            path.unlink()


def build(to):
    """Builds the copy, and keeps the simulator as `to`; what the compiler said where it does not build."""
    built = subprocess.run(
        ["cargo", "build", "--locked", "--quiet", "--profile", "sim", "-p", "ecs-updater-simulation"],
        cwd=TREE, env=ENVIRONMENT, capture_output=True, text=True,
    )  # fmt: skip
    if built.returncode:
        return built.stderr
    to.write_bytes((BUILD / "sim" / "simulate").read_bytes())
    to.chmod(0o755)
    return None


def broken(binary, first, seeds, jobs):
    """The invariants that each of these seeds breaks."""
    command = [binary, "--from", first, "--seeds", seeds, "--jobs", min(jobs, seeds), "--no-shrink", "--keep-going", "--list"]
    try:
        ran = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, timeout=60 + seeds * SECONDS_FOR_A_SEED
        )
    except subprocess.TimeoutExpired:
        return {first: {"a run comes to its end"}}
    found = {}
    for seed, invariant in re.findall(r"^seed (\d+): (.+?): ", ran.stdout, re.MULTILINE):
        found.setdefault(int(seed), set()).add(invariant)
    if ran.returncode not in (0, 1) or "panicked" in ran.stderr:
        found.setdefault(first, set()).add("a run does not panic")
    return found


class Unpatched:
    """What the unpatched code breaks, asked once a seed."""

    def __init__(self, binary):
        self.binary, self.known = binary, {}
        self.store = WORK / f"unpatched-{hashlib.sha256(binary.read_bytes()).hexdigest()[:16]}.json"
        if self.store.is_file():
            self.known = {int(seed): set(names) for seed, names in json.loads(self.store.read_text()).items()}

    def breaks(self, seed):
        if seed not in self.known:
            self.known[seed] = broken(self.binary, seed, 1, 1).get(seed, set())
            self.store.write_text(json.dumps({seed: sorted(names) for seed, names in sorted(self.known.items())}))
        return self.known[seed]


def first_new(binary, unpatched, wanted, first, seeds, jobs):
    """The first seed that breaks what is wanted and the unpatched code keeps there, and what."""
    for seed, names in sorted(broken(binary, first, seeds, jobs).items()):
        if not names & wanted:
            continue
        new = names & wanted - unpatched.breaks(seed)
        if new:
            return seed, sorted(new)
    return None


def search(binary, unpatched, wanted, known, arguments):
    """The seed that finds a fault, what it breaks, and after how many runs."""
    if known is not None:
        found = first_new(binary, unpatched, wanted, known["seed"], 1, 1)
        if found:
            return *found, known["after"], True
    done = 0
    while done < arguments.seeds:
        part = min(CHUNKS[min(done and 1 + done // 500, len(CHUNKS) - 1)], arguments.seeds - done)
        found = first_new(binary, unpatched, wanted, arguments.start + done, part, arguments.jobs)
        if found:
            return *found, found[0] - arguments.start + 1, False
        done += part
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="mutants to run, by the beginnings of their names (all)")
    parser.add_argument("--seeds", type=int, default=1000, help="how many seeds each gets at the most (1000)")
    parser.add_argument("--from", dest="start", type=int, default=0, help="the first one (0)")
    parser.add_argument("--jobs", type=int, default=2, help="how many processes share them (2)")
    arguments = parser.parse_args()

    patches = sorted(HERE.glob("*.patch"))
    if arguments.names:
        patches = [it for it in patches if any(it.stem.startswith(name) for name in arguments.names)]
    if not patches:
        sys.exit("no such mutant")
    copy_tree()
    unpatched_binary, mutant = WORK / "unpatched", WORK / "mutant"
    if error := build(unpatched_binary):
        sys.exit(error)
    unpatched = Unpatched(unpatched_binary)
    known = json.loads(FOUND.read_text()) if FOUND.is_file() else {}

    missing = []
    for patch in patches:
        began = time.monotonic()
        name = patch.stem
        copy_tree()
        applied = subprocess.run(["git", "apply", str(patch)], cwd=TREE, env=ENVIRONMENT, capture_output=True, text=True)
        error = applied.stderr if applied.returncode else build(mutant)
        if error:
            print(f"{name}: {'does not build' if not applied.returncode else 'does not apply'}\n{error}", flush=True)
            missing.append(name)
            continue
        found = search(mutant, unpatched, wanted_of(patch), known.get(name), arguments)
        took = time.monotonic() - began
        if found is None:
            print(f"{name}: NOT FOUND in {arguments.seeds} runs ({took:.0f} s)", flush=True)
            missing.append(name)
            continue
        seed, names, after, is_again = found
        how = f"again; first after {after} runs" if is_again else f"after {after} runs"
        print(f"{name}: {'; '.join(names)}: seed {seed}, {how} ({took:.0f} s)", flush=True)
        known[name] = {"invariants": names, "seed": seed, "after": after}
        FOUND.write_text(json.dumps(dict(sorted(known.items())), indent=2) + "\n")
    copy_tree()
    print(f"{len(patches) - len(missing)} of {len(patches)} were found" + (f"; not {', '.join(missing)}" if missing else ""))
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
