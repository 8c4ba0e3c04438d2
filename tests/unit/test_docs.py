"""The documents hold together, and no file of the project names a machine or a registry."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REQUIRED = ("README.md", "CHANGELOG.md", "docs/architecture.md", "docs/lifecycle.md", "docs/integrate.md")
# What a run, a tool or git leaves behind; everything else in the folder belongs to the project.
NOT_OURS = {".git", ".venv", "__pycache__", "demo-report", "renewal-data", "node_modules"}
CACHE = re.compile(r"\..*_cache|\.hypothesis|.*\.egg-info|build|dist")
BUILD_FILES = re.compile(r"(.*/)?(Makefile|Dockerfile|[^/]*\.lock|requirements[^/]*)|\.ci/.*")
LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
HEADING = re.compile(r"^(#{1,6}) +(.+?) *#*$", re.MULTILINE)
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|farm|root|home/\w+)/|\.\./shared")
REGISTRY = re.compile(r"https?://|pypi\.|pythonhosted|npmjs|--(?:find-links|(?:extra-)?index-url)")


def below(folder: Path) -> Iterator[Path]:
    """Return the project's own files in a folder."""
    for path in sorted(folder.iterdir()):
        if path.name in NOT_OURS or CACHE.fullmatch(path.name):
            continue
        if path.is_dir():
            yield from below(path)
        else:
            yield path


@cache
def texts() -> dict[str, str]:
    """Return every text file of the project by its path."""
    found = {}
    for path in below(ROOT):
        try:
            found[path.relative_to(ROOT).as_posix()] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
    return found


def documents() -> list[str]:
    """Return the documents, each with links to follow."""
    return [name for name in texts() if name.endswith(".md")]


def prose(name: str) -> str:
    """Return a document without its code blocks."""
    return FENCE.sub("", texts()[name])


def links(name: str) -> list[str]:
    """Return what a document links to inside the project."""
    return [link for link in LINK.findall(prose(name)) if not re.match(r"[a-z][a-z0-9+.-]*:", link)]


def anchors(name: str) -> set[str]:
    """Return the anchors of a document's headings, as code hosts make them."""
    titles = [re.sub(r"[`*]|\]\([^)]*\)|\[", "", title) for _, title in HEADING.findall(prose(name))]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", REQUIRED)
def test_a_newcomer_finds_each_document(name: str) -> None:
    """Each has one title, and says something under it."""
    assert name in documents()
    titles = [title for marks, title in HEADING.findall(prose(name)) if marks == "#"]
    assert 1 == len(titles), titles


def test_the_readme_names_the_two_commands() -> None:
    """One command to see it, one to test it."""
    assert "make demo" in texts()["README.md"]
    assert "make test" in texts()["README.md"]


def test_every_link_leads_somewhere() -> None:
    """A file that moved takes its links along."""
    broken = []
    for name in documents():
        for link in links(name):
            path, _, anchor = link.partition("#")
            target = ((ROOT / name).parent / path).resolve() if path else ROOT / name
            if not target.exists() or not target.is_relative_to(ROOT):
                broken.append(f"{name}: {link}")
            elif anchor and target.suffix == ".md" and anchor not in anchors(target.relative_to(ROOT).as_posix()):
                broken.append(f"{name}: {link}: no such heading")
    assert [] == broken


def test_every_document_can_be_reached_from_the_readme() -> None:
    """What is not linked is not read, and grows old unseen."""
    reached: set[str] = set()
    waiting = ["README.md"]
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        for link in links(name) if name.endswith(".md") and name in texts() else []:
            target = ((ROOT / name).parent / link.partition("#")[0]).resolve()
            if target.is_dir():
                reached |= {path.relative_to(ROOT).as_posix() for path in target.iterdir() if path.suffix != ".md"}
                target /= "README.md"
            if target.is_relative_to(ROOT):
                waiting.append(target.relative_to(ROOT).as_posix())
    assert [] == [name for name in texts() if name.startswith("docs/") and name not in reached]


def test_no_file_names_a_path_of_somebody_s_machine() -> None:
    """The project must work wherever it is cloned."""
    assert [] == [
        f"{name}:{number}"
        for name, text in texts().items()
        for number, line in enumerate(text.splitlines(), start=1)
        if MACHINE_PATH.search(line)
    ]


def test_no_build_file_names_the_address_of_a_registry() -> None:
    """Where packages come from is the business of who installs."""
    assert [] == [
        f"{name}:{number}"
        for name, text in texts().items()
        if BUILD_FILES.fullmatch(name)
        for number, line in enumerate(text.splitlines(), start=1)
        if REGISTRY.search(line)
    ]
