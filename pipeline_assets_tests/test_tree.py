"""The tree as a contributor finds it: every place that docstrings and documents name exists."""

import re
from pathlib import Path

import pytest

import pipeline_assets

PACKAGE = Path(pipeline_assets.__file__).parent


def test_every_place_to_add_something_exists() -> None:
    text = pipeline_assets.__doc__ or ""
    named = re.findall(r"(?<![\w/*.])[a-z_]+(?:/[a-z_*]+)*(?:/|\.py)(?!\w)", text)
    assert {name for name in named if not list(PACKAGE.glob(name))} == set()
    assert len(set(named)) >= 9


ROOTS = (PACKAGE, PACKAGE.parent, PACKAGE.parent / "pipeline_assets_tests")
# README has its reader write this one.
WRITTEN_BY_THE_READER = {"pipeline_assets/market/strategies/price_cross.py"}
DOCUMENTS = [
    PACKAGE.parent / "README.md",
    PACKAGE.parent / "CHANGELOG.md",
    *sorted((PACKAGE.parent / "docs").rglob("*.md")),
]


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_documented_places_exist(page: Path) -> None:
    """Links and places in the code exist."""
    text = page.read_text("utf-8")
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    absent = {link for link in links if "://" not in link and not (page.parent / link).exists()}
    places = re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", text)
    absent |= {place for place in places if not any((root / place).exists() for root in ROOTS)}
    assert absent - WRITTEN_BY_THE_READER == set()


def sections_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    lines = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ +(.+?) *$", lines, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_documented_sections_exist(page: Path) -> None:
    """Links to sections name headings that are there."""
    links = re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", page.read_text("utf-8"))
    inside = [
        (page.parent / file if file else page, name) for file, name in links if "://" not in file
    ]
    absent = {(file.name, name) for file, name in inside if name not in sections_of(file)}
    assert absent == set()


def test_documents_name_every_folder() -> None:
    """The documents name every folder of the package."""
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text("utf-8")
    tree = page.partition("```\npipeline_assets/\n")[2].partition("```")[0]
    folders = {file.parent.name for file in PACKAGE.glob("*/*.py")}
    assert folders - set(re.findall(r"(\w+)/", tree)) == set()
