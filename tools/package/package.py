#!/usr/bin/env python3
"""Packs a binary for Lambda: a zip whose root holds it as the executable `bootstrap`.

tools/package/package.py BINARY ZIP            for the local AWS
tools/package/package.py --lambda BINARY ZIP   for AWS: refused where the binary would not start there; small, and slow to pack
"""

from __future__ import annotations

import re
import stat
import struct
import sys
import zipfile
import zlib
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


def pack_small(binary: bytes, package: Path) -> None:
    """The same by zopfli, whose output is some percent smaller, takes half a minute, and is that of its version: zlib's differs from
    one Python to another. `zipfile` takes no data that is compressed already, so the members of the format stand here.
    Source: <https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT>, 4.3.7, 4.3.12 and 4.3.16."""
    import zopfli.zlib  # for AWS only: nothing else needs it

    name = b"bootstrap"
    # Without zlib's header and checksum.
    deflated = zopfli.zlib.compress(binary, numiterations=5)[2:-4]
    # Flags, deflate, no time, 1980-01-01.
    both = struct.pack("<4H3I2H", 0, 8, 0, 0x21, zlib.crc32(binary), len(deflated), len(binary), len(name), 0)
    local = struct.pack("<IH", 0x04034B50, 20) + both + name
    mode = (stat.S_IFREG | 0o755) << 16
    # Made on Unix, so that the mode counts.
    central = struct.pack("<I2H", 0x02014B50, 3 << 8 | 20, 20) + both + struct.pack("<3H2I", 0, 0, 0, mode, 0) + name
    end = struct.pack("<I4H2IH", 0x06054B50, 0, 0, 1, 1, len(central), len(local) + len(deflated), 0)
    package.parent.mkdir(parents=True, exist_ok=True)
    unfinished = package.with_suffix(".part")
    unfinished.write_bytes(local + deflated + central + end)
    with zipfile.ZipFile(unfinished) as archive:
        if archive.read("bootstrap") != binary:
            raise zipfile.BadZipFile(package)
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
    (pack_small if for_lambda else pack)(binary, paths[1])
    print(f"{paths[1]}: {paths[1].stat().st_size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
