"""The prose check: each kind of finding is found. `make lint` checks the tree itself."""

from pathlib import Path

import pytest

from pipeline_assets_tests.prose import WORDS, findings, main

OPENINGS = ["Of", "What", "That", "Such", "Those", "As it is", "Whatever"]
# A sentence with each word that the check replaces, in the order of WORDS.
SENTENCES = [
    "The day is sealed.",
    "The row is set aside.",
    "The hull of both windows is read.",
    "The client loses patience.",
    "The exchange was slow of late.",
    "The wait lasts for ever.",
    "The run takes down each row.",
    "The run reads so many at once.",
    "The caller is told the rows.",
    "The sensor asks for runs.",
    "The reply lacks a candle.",
    "The reason was told before.",
    "The row is read by nobody.",
    "The lock belongs to whoever asks first.",
    "The line is one of ours.",
    "The symbol goes on as it was.",
]


def found(path: Path, source: str) -> list[tuple[int, str]]:
    path.write_text(source, encoding="utf-8")
    return [(each.line, each.what) for each in findings([path])]


@pytest.mark.parametrize("opening", OPENINGS)
def test_finds_a_sentence_without_a_subject(tmp_path: Path, opening: str) -> None:
    source = f'"""Return the rows.\n\n{opening} a day comes is kept.\n"""\n'
    assert found(tmp_path / "module.py", source) == [
        (3, f"a sentence opens with {opening!r}: name the subject")
    ]


def test_finds_an_opening_within_a_line(tmp_path: Path) -> None:
    assert found(
        tmp_path / "page.md", "Rows are kept. What comes later\nis not. What is kept?\n"
    ) == [(1, "a sentence opens with 'What': name the subject")]


@pytest.mark.parametrize(("term", "sentence"), zip(WORDS.values(), SENTENCES, strict=True))
def test_finds_each_word(tmp_path: Path, term: str, sentence: str) -> None:
    assert term in " ".join(what for _, what in found(tmp_path / "page.md", sentence + "\n"))


@pytest.mark.parametrize(
    "source",
    [
        '"""The day is sealed."""\n',
        "x = 1  # the day is sealed\n",
        'raise ValueError("the day is sealed")\n',
        'raise ValueError(f"the day {day} is sealed")\n',
    ],
    ids=["docstring", "comment", "error", "f-string"],
)
def test_reads_all_texts_of_a_module(tmp_path: Path, source: str) -> None:
    assert [line for line, _ in found(tmp_path / "module.py", source)] == [1]


@pytest.mark.parametrize(
    "source",
    [
        "sealed = {}\n",
        '"""Keep marks.\n\nArgs:\n    sealed: the marks.\n"""\n',
        '"""Write below `state/sealed/`."""\n',
        'PROGRAM = """\nimport os\nsealed = 1 + 1\n"""\n',
    ],
    ids=["variable", "parameter", "code in backticks", "program in a string"],
)
def test_leaves_names_of_the_code_alone(tmp_path: Path, source: str) -> None:
    assert found(tmp_path / "module.py", source) == []


def test_leaves_code_blocks_alone(tmp_path: Path) -> None:
    assert found(tmp_path / "page.md", "```\nsealed days\n```\n\n    sealed days\n") == []


def test_exit_status_says_whether_anything_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("The day is sealed.\n", encoding="utf-8")
    assert main([str(page)]) == 1
    page.write_text("The day is finalized.\n", encoding="utf-8")
    assert main([str(page)]) == 0
