"""Files that only their owner reads, each replaced in one piece or not at all."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wxpay_async.batch import private_files
from wxpay_async.batch.private_files import Replacement, remove_leftovers, write_in_one_piece

_WRITER = """
import sys
from pathlib import Path
from wxpay_async.batch.private_files import Replacement
replacement = Replacement.open(Path(sys.argv[1]))
replacement.file.write("of the other process")
replacement.file.flush()
print("ready", flush=True)
sys.stdin.readline()
replacement.commit()
print("committed", flush=True)
"""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Have another process write `outcomes.jsonl`; it commits when it reads a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(tmp_path / "outcomes.jsonl")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert "ready\n" == process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


def names_in(folder: Path) -> list[str]:
    """Return the names in a folder, hidden ones too."""
    return sorted(each.name for each in folder.iterdir())


def test_file_is_written_in_one_piece_for_its_owner_alone(tmp_path: Path) -> None:
    """Whatever stood there, with whatever mode, is replaced."""
    path = tmp_path / "report.html"
    path.write_text("before")
    path.chmod(0o644)
    write_in_one_piece(path, "after")
    assert path.read_text() == "after"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]


def test_discarded_replacement_leaves_the_former_file(tmp_path: Path) -> None:
    """Nothing is left beside it."""
    path = tmp_path / "outcomes.jsonl"
    path.write_text("before")
    replacement = Replacement.open(path)
    replacement.file.write("half")
    replacement.discard()
    assert path.read_text() == "before"
    assert [each.name for each in tmp_path.iterdir()] == ["outcomes.jsonl"]


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    """Root could replace a device, after which programs of other users fail."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="no file"):
        write_in_one_piece(pipe, "text")
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_what_a_killed_process_left_is_removed_by_the_next(
    tmp_path: Path, writer: subprocess.Popen[str]
) -> None:
    """Before it writes its own."""
    writer.kill()
    writer.wait()
    assert 1 == len(names_in(tmp_path))
    replacement = Replacement.open(tmp_path / "outcomes.jsonl")
    assert [replacement.temporary.name] == names_in(tmp_path)
    replacement.commit()
    assert ["outcomes.jsonl"] == names_in(tmp_path)


def test_what_a_live_process_writes_is_left_alone(
    tmp_path: Path, writer: subprocess.Popen[str]
) -> None:
    """Two runs of one file may be at work; the later one to end has the last word."""
    write_in_one_piece(tmp_path / "outcomes.jsonl", "of this process")
    remove_leftovers(tmp_path / "outcomes.jsonl")
    assert 2 == len(names_in(tmp_path))
    assert writer.stdin is not None
    assert writer.stdout is not None
    writer.stdin.write("\n")
    writer.stdin.flush()
    assert "committed\n" == writer.stdout.readline()
    assert ["outcomes.jsonl"] == names_in(tmp_path)
    assert "of the other process" == (tmp_path / "outcomes.jsonl").read_text()


def test_what_this_process_writes_is_left_alone(tmp_path: Path) -> None:
    """Also by a second replacement of the same file."""
    path = tmp_path / "outcomes.jsonl"
    first = Replacement.open(path)
    first.file.write("first")
    write_in_one_piece(path, "second")
    first.commit()
    assert ("first", ["outcomes.jsonl"]) == (path.read_text(), names_in(tmp_path))


def test_leftovers_of_other_files_are_left_alone(tmp_path: Path) -> None:
    """And what has a name like that of a leftover, and is none."""
    others = (
        ".outcomes.jsonl.bak.abcdefgh.part",
        ".outcomes.jsonl.abc.part",
        ".outcomes.jsonlx.abcdefgh.part",
        ".outcomes_jsonl.abcdefgh.part",
        "outcomes.jsonl.abcdefgh.part",
        "target",
    )
    for name in others:
        (tmp_path / name).touch()
    (tmp_path / ".outcomes.jsonl.abcdefgh.part").symlink_to(tmp_path / "target")
    (tmp_path / ".outcomes.jsonl.abcdefgi.part").mkdir()
    before = names_in(tmp_path)
    remove_leftovers(tmp_path / "outcomes.jsonl")
    assert before == names_in(tmp_path)


def test_file_that_was_taken_for_a_leftover_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may look between the making of a file and its lock."""
    lock, taken = private_files._lock, list[str]()

    def lock_late(descriptor: int, *, wait: bool) -> bool:
        if not taken:
            [name] = names_in(tmp_path)
            taken.append(name)
            (tmp_path / name).unlink()
        return lock(descriptor, wait=wait)

    monkeypatch.setattr(private_files, "_lock", lock_late)
    write_in_one_piece(tmp_path / "outcomes.jsonl", "text")
    assert (["outcomes.jsonl"], 1) == (names_in(tmp_path), len(taken))
