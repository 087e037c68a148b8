"""Every link of the documentation goes somewhere: to a file of the repository, and to a heading that is there."""

from __future__ import annotations

import functools
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
FENCE = re.compile(r"^( *)```.*?^\1```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\[\]]*(?:\[[^\]]*\][^\[\]]*)*\]\(([^()\s]+)\)")
# Hosts of package registries: a project's own page says more, and goes on being there.
REGISTRIES = ("pypi.org", "crates.io", "npmjs.com", "hub.docker.com")


def pages() -> list[Path]:
    """The pages that are in the repository."""
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.splitlines()]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: dict[str, int] = {}
    result = set()
    for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
        slug = re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")
        result.add(f"{slug}-{found[slug]}" if slug in found else slug)
        found[slug] = found.get(slug, 0) + 1
    return result


def faults(page: Path) -> list[str]:
    """The links of a page that go nowhere."""
    wrong = []
    for link in LINK.findall(FENCE.sub("", page.read_text())):
        if link.startswith(("http://", "https://", "mailto:")):
            if any(f"//{host}" in link or f".{host}" in link for host in REGISTRIES):
                wrong.append(f"{link} is a package registry's")
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists():
            wrong.append(f"{link} is not there")
        elif anchor and target.suffix == ".md" and anchor not in anchors(target):
            wrong.append(f"{link} has no such heading")
    return wrong


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_goes_somewhere(page: Path) -> None:
    assert faults(page) == []


def linked(page: Path) -> set[Path]:
    """The files that a page links to."""
    links = (link.partition("#")[0] for link in LINK.findall(FENCE.sub("", page.read_text())))
    return {(page.parent / link).resolve() for link in links if link and "://" not in link}


def test_every_page_of_docs_is_in_the_book() -> None:
    docs = ROOT / "docs"
    assert set(docs.rglob("*.md")) - {docs / "SUMMARY.md"} - linked(docs / "SUMMARY.md") == set()


def test_the_readme_links_the_index_and_the_index_every_page() -> None:
    index = ROOT / "docs" / "README.md"
    assert index in linked(ROOT / "README.md")
    assert set(index.parent.glob("*.md")) - {index, index.parent / "SUMMARY.md"} - linked(index) == set()


# Pages that say where in the code something is, and what names a file there.
MAPS = [ROOT / "docs" / f"{name}.md" for name in ("ADDING", "ARCHITECTURE", "PROTOCOL", "TESTING")] + sorted(
    (ROOT / "docs" / "decisions").glob("*.md")
)
FILE = re.compile(r"`((?:src|crates|schema|policies|tests|infrastructure|local|docs|fuzz)/[\w./-]*)`")
# A file, and behind a colon what is defined in it.
DEFINED = re.compile(r"`([\w./-]+\.rs)`: ((?:`[\w:]+`(?:, | and )?)+)")
# A method of a type, wherever that is.
METHOD = re.compile(r"`([A-Z]\w+)::([a-z]\w*)`")
DEFINITION = r"\b(?:fn|struct|enum|const|static|type|trait)\s+{}\b"


@pytest.mark.parametrize("page", MAPS, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_maps_of_the_code_name_is_there(page: Path) -> None:
    assert missing(page.read_text()) == []


@functools.cache
def code() -> dict[str, str]:
    """Each Rust file with its text."""
    listed = subprocess.run(["git", "ls-files", "*.rs"], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name: (ROOT / name).read_text() for name in listed.stdout.splitlines() if (ROOT / name).exists()}


def missing(text: str) -> list[str]:
    """The files that a page names and that are not there, and what it says to be in them and is not."""
    wrong = [f"{name} is not there" for name in FILE.findall(text) if not (ROOT / name).exists()]
    for name, inside in DEFINED.findall(text):
        for word in re.findall(r"`([\w:]+)`", inside):
            if not re.search(DEFINITION.format(word.rpartition("::")[2]), code().get(name, "")):
                wrong.append(f"{name} has no {word}")
    for owner, method in METHOD.findall(text):
        implemented = re.compile(rf"^\s*impl\b[^\n]*\b{owner}\b", re.MULTILINE)
        defined = re.compile(DEFINITION.format(method))
        if not any(implemented.search(file) and defined.search(file) for file in code().values()):
            wrong.append(f"{owner} has no {method}")
    return wrong


def test_a_name_that_is_not_there_is_found() -> None:
    named = "`src/lib.rs` and `src/gone.rs`; `src/commit.rs`: `commit`, `Gone` and `Bound`; `Head::behind`, `Head::gone`"
    assert missing(named) == ["src/gone.rs is not there", "src/commit.rs has no Gone", "Head has no gone"]


def test_what_goes_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# One `thing`\n\n```\n# no heading\n```\n\n## Same\n\n## Same\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](other.md#one-thing) [b](other.md#same-1) [c](other.md#no-heading) [d](gone.md) [`e`](#here)\n"
        "[f](https://pypi.org/project/x/)\n\n```\n[g](gone.md)\n```\n\n# Here\n"
    )
    assert faults(page) == [
        "other.md#no-heading has no such heading",
        "gone.md is not there",
        "https://pypi.org/project/x/ is a package registry's",
    ]
