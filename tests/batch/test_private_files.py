"""Files that only their owner reads, each replaced in one piece or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from wxpay_async.batch.private_files import Replacement, write_in_one_piece


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
