"""The prose check: openings and words that make a sentence need a second reading.

`python -m pipeline_assets_tests.prose [PATH ...]` prints each finding as `path:line: finding` and ends with
exit status 1 if there are any; `make lint` runs it over the tree. Docstrings, comments, and texts of errors,
logs and descriptions in Python files are read, and Markdown files without their code blocks. Names of the
code are not read here: reviewers judge names.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
# A sentence that opens with one of these has no subject of its own.
_OPENINGS = re.compile(
    r"(?:^|(?<=[.:!?] ))(Of|What|That|Such|Those|As it is|Whatever)\b(?! is\b.*\?)"
)
# One term for each thing. The patterns at the left are words that no data engineer or trader uses.
WORDS = {
    r"\bseal(s|ed|ing)?\b": "finalize, finalized",
    r"\bset(s|ting)? aside\b": "rejected (rows), quarantined (objects)",
    r"\bhull\b": "bounding window",
    r"\bpatience\b": "deadline, retry policy",
    r"\bof late\b": "recently",
    r"\bfor ever\b": "permanently",
    r"\btakes? down\b": "records",
    r"\bso many at once\b": "batch size",
    r"\bis told\b|\bare told\b": "is reported",
    r"\basks? for runs?\b": "requests runs",
    r"\black(s|ed|ing)?\b": "is missing",
    r"\btold\b": "reported",
    r"\bnobody\b": "no process, no reader, …: name who",
    r"\bwhoever\b": "a caller, a person, …: name who",
    r"\bof (ours|theirs)\b": "name the owner",
    r"\bgo(es)? on as it was\b|\bif it is as it was\b": "is unchanged",
}
_WORDS = {re.compile(pattern, re.IGNORECASE): term for pattern, term in WORDS.items()}
_FENCE = re.compile(r"^\s*(```|~~~)")
_CODE = re.compile(r"`[^`]*`")
# A parameter or attribute at the start of its description is a name of the code.
_PARAMETER = re.compile(r"^[a-z_]+: ")
# Keys of Dagster's metadata: the runs of earlier versions hold their values under these names.
METADATA_KEYS = {"rows set aside", "set aside"}
# Files that quote the findings: this one as patterns, its test as samples.
QUOTING = (Path(__file__), Path(__file__).parent / "test_prose.py")


@dataclass(frozen=True)
class Finding:
    """A place whose words need another look."""

    path: Path
    line: int
    what: str


def findings_in_text(path: Path, first: int, text: str) -> Iterator[Finding]:
    """Yield the findings of one text whose first line is line `first` of a file."""
    paragraph_starts = True
    for number, line in enumerate(text.splitlines(), first):
        plain = _CODE.sub("`x`", line.strip().lstrip("#->*| ").strip())
        plain = _PARAMETER.sub("x: ", plain)
        if paragraph_starts or re.match(r"^(Args|Returns|Raises|Attributes):", plain):
            checked = plain
        else:
            # The line goes on with a sentence of the line before: only later sentences open here.
            checked = " " + plain
        for match in _OPENINGS.finditer(checked):
            yield Finding(
                path, number, f"a sentence opens with {match.group(1)!r}: name the subject"
            )
        for pattern, term in _WORDS.items():
            for match in pattern.finditer(plain):
                yield Finding(path, number, f"{match.group(0)!r}: write {term}")
        paragraph_starts = not plain or plain.endswith((".", ":", "!", "?"))


def _is_program(text: str) -> bool:
    """Return whether a text is Python code, such as a test hands to another process."""
    if "\nimport " not in text and "\ndef " not in text:
        return False
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def findings_in_python(path: Path, source: str) -> Iterator[Finding]:
    """Yield the findings of a module's docstrings, comments and texts for people."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        # A text without a space is a key or a name.
        if " " in node.value and node.value not in METADATA_KEYS and not _is_program(node.value):
            yield from findings_in_text(path, node.lineno, node.value)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield from findings_in_text(path, token.start[0], token.string)


def findings_in_markdown(path: Path, source: str) -> Iterator[Finding]:
    """Yield the findings of a page, without its code."""
    lines, within = [], False
    for line in source.splitlines():
        fence = bool(_FENCE.match(line))
        within ^= fence
        lines.append("" if fence or within or line.startswith("    ") else line)
    yield from findings_in_text(path, 1, "\n".join(lines))


def findings(paths: Iterable[Path]) -> Iterator[Finding]:
    """Yield the findings of files."""
    for path in paths:
        source = path.read_text(encoding="utf-8")
        reader = findings_in_python if path.suffix == ".py" else findings_in_markdown
        yield from reader(path, source)


def tree() -> list[Path]:
    """Return the files that the check reads."""
    folders = ("pipeline_assets", "pipeline_assets_tests", "docs")
    found = [path for folder in folders for path in (REPOSITORY / folder).rglob("*.py")]
    found += list((REPOSITORY / "docs").rglob("*.md"))
    found += [REPOSITORY / name for name in ("README.md", "CHANGELOG.md")]
    return sorted(path for path in found if path.exists() and path not in QUOTING)


def main(arguments: list[str]) -> int:
    """Print the findings of these files, or of the tree; returns 1 if there are any."""
    found = list(findings(map(Path, arguments) if arguments else tree()))
    for each in found:
        print(f"{each.path}:{each.line}: {each.what}")
    print(f"{len(found)} findings")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
