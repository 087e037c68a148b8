"""The ledger checked by other code than that which wrote it."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical(document: dict[str, Any]) -> bytes:
    """RFC 8785 for what records hold: one level of strings and one integer, with names in ASCII.

    There, Python's sorting (by code point) is that of the RFC (by UTF-16 unit), and so are its escapes.
    """
    assert all(isinstance(value, (str, int)) and name.isascii() for name, value in document.items()), document
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def hash_of(record: dict[str, Any]) -> str:
    """What the record's `hash` has to be."""
    rest = {name: value for name, value in record.items() if name != "hash"}
    return hashlib.sha256(canonical(rest)).hexdigest()


def assert_chain(records: list[dict[str, Any]], head: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Fails where the records are no unbroken chain that ends in `head`. Gives them in the chain's order."""
    chain = sorted((record for record in records if "seq" in record), key=lambda record: record["seq"])
    before = ""
    for position, record in enumerate(chain, start=1):
        assert record["seq"] == position
        assert record["prev_hash"] == before
        assert record["hash"] == hash_of(record)
        before = record["hash"]
    if chain:
        assert head, "records without a head"
        assert head["seq"]["N"] == str(len(chain))
        assert head["hash"]["S"] == before
    return chain
