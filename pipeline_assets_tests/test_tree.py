"""The tree as a contributor finds it: what the docstring of the package and README point at is there."""

import re
from pathlib import Path

import pipeline_assets

PACKAGE = Path(pipeline_assets.__file__).parent


def test_every_place_to_add_something_exists() -> None:
    text = pipeline_assets.__doc__ or ""
    named = re.findall(r"(?<![\w/*.])[a-z_]+(?:/[a-z_*]+)*(?:/|\.py)(?!\w)", text)
    assert {name for name in named if not list(PACKAGE.glob(name))} == set()
    assert len(set(named)) >= 9


def test_readme_names_every_folder_of_the_package() -> None:
    readme = (PACKAGE.parent / "README.md").read_text("utf-8")
    tree = readme.partition("```\npipeline_assets/\n")[2].partition("```")[0]
    folders = {file.parent.name for file in PACKAGE.glob("*/*.py")}
    assert folders - set(re.findall(r"(\w+)/", tree)) == set()
