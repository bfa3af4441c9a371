"""Files that are whole or not there, written by processes that are killed or work at the same time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest

from pipeline_assets.cli.whole_file import check_place, write_whole

# Stops before the file gets its name, until a line comes.
WRITER = """
import os, sys
from pathlib import Path
from pipeline_assets.cli.whole_file import write_whole
def wait(_):
    print("written", flush=True)
    sys.stdin.readline()
os.fsync = wait
write_whole(Path(sys.argv[1]), b"the other's")
"""


@contextmanager
def other_writer(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has written a file's content and not yet renamed it."""
    arguments = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        try:
            yield process
        finally:
            process.kill()


def names(directory: Path) -> list[str]:
    return sorted(each.name for each in directory.iterdir())


def test_killed_writer_leaves_nothing_for_long(tmp_path: Path) -> None:
    """The next writer of the same file removes the part; parts and files of other names stay."""
    path = tmp_path / "report.html"
    other = tmp_path / ".report.html.backup.new"
    other.touch()
    with other_writer(path) as process:
        process.kill()
    assert len(names(tmp_path)) == 2
    write_whole(tmp_path / "report", b"short")
    assert len(names(tmp_path)) == 3
    write_whole(path, b"whole")
    assert names(tmp_path) == [other.name, "report", "report.html"]
    assert path.read_bytes() == b"whole"


def test_second_writer_is_left_alone(tmp_path: Path) -> None:
    """A part whose writer is at work stays, and the later rename is the one that counts."""
    path = tmp_path / "report.html"
    with other_writer(path) as process:
        write_whole(path, b"ours")
        assert path.read_bytes() == b"ours"
        assert process.communicate("\n") == ("", None)
        assert process.returncode == 0
    assert names(tmp_path) == ["report.html"]
    assert path.read_bytes() == b"the other's"


@pytest.mark.parametrize(
    ("target", "said"), [("absent/report.html", "there is no directory"), ("link", "loop")]
)
def test_links_are_followed_before_work(tmp_path: Path, target: str, said: str) -> None:
    """A link into a directory that is not there, and one to itself: no report could be written."""
    link = tmp_path / "link"
    link.symlink_to(tmp_path / target)
    with pytest.raises(click.BadParameter, match=said):
        check_place("--html", link)


@pytest.mark.parametrize("sealed", ["/proc", "/sys"])
def test_unwritable_place_is_refused(sealed: str) -> None:
    """A directory that takes no file is refused before the work, not after it; root meets it here too."""
    with pytest.raises(click.BadParameter, match=f"{sealed} cannot be written"):
        check_place("--html", Path(sealed) / "report.html")


def test_place_is_left_as_it_was(tmp_path: Path) -> None:
    """The trial leaves no file, also where a file is going to be replaced."""
    path = tmp_path / "report.html"
    path.write_bytes(b"before")
    check_place("--html", path)
    assert (names(tmp_path), path.read_bytes()) == (["report.html"], b"before")
