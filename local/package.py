#!/usr/bin/env python3
"""Packs a binary for Lambda: a zip whose root holds it as the executable `bootstrap`.

local/package.py BINARY ZIP            for the local AWS
local/package.py --lambda BINARY ZIP   for AWS: refused where the binary would not start there
"""

from __future__ import annotations

import re
import stat
import sys
import zipfile
from pathlib import Path

# The C library of the runtime provided.al2023. A binary linked against a newer one builds, deploys, and then ends
# with "version `GLIBC_2.38' not found" at its first invocation.
RUNTIME_GLIBC = (2, 34)


def newest_glibc(binary: bytes) -> tuple[int, int]:
    """The newest version of the C library that a binary asks for; (0, 0) where it is linked statically."""
    versions = re.findall(rb"GLIBC_(\d+)\.(\d+)", binary)
    return max(((int(major), int(minor)) for major, minor in versions), default=(0, 0))


def pack(binary: bytes, package: Path) -> None:
    """Writes `package`. The same binary gives the same zip, byte for byte, so a deployment shows real changes only."""
    package.parent.mkdir(parents=True, exist_ok=True)
    entry = zipfile.ZipInfo("bootstrap", date_time=(1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = (stat.S_IFREG | 0o755) << 16
    unfinished = package.with_suffix(".part")
    with zipfile.ZipFile(unfinished, "w") as archive:
        archive.writestr(entry, binary, compresslevel=6)
    unfinished.replace(package)


def main(arguments: list[str]) -> int:
    """Checks and packs."""
    for_lambda = arguments[:1] == ["--lambda"]
    paths = [Path(argument) for argument in arguments[for_lambda:]]
    if len(paths) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    binary = paths[0].read_bytes()
    if for_lambda and (needs := newest_glibc(binary)) > RUNTIME_GLIBC:
        print(
            f"{paths[0]} needs glibc {needs[0]}.{needs[1]}, and Lambda's provided.al2023 has "
            f"{RUNTIME_GLIBC[0]}.{RUNTIME_GLIBC[1]}. Build on Amazon Linux 2023, or with cargo-lambda "
            "(cargo lambda build), which links against an older one.",
            file=sys.stderr,
        )
        return 1
    pack(binary, paths[1])
    print(f"{paths[1]}: {paths[1].stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
