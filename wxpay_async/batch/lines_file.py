"""Read the lines of a file of any size, with a bounded share of it in memory.

A line that is too long is skipped, not collected. Reading ends at the size that the file had at the
beginning. A file that changes during the reading is refused, so that no unchecked line is sent.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from attrs import frozen

from wxpay_async.errors import InvalidRequestError

MAX_LINE: Final = 2**20
"""Bytes of one line. A request has a few hundred; a trade of a thousand items fits."""

_BLOCK: Final = 2**16
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

Row = tuple[int, bytes | None]
"""A line's number and its bytes; None where it is longer than `MAX_LINE`."""


@frozen
class FileState:
    """What a later look compares to find out whether a file was changed or replaced.

    Attributes:
        device: the device that holds the file.
        inode: the file's number on the device; a program that replaces the file changes it.
        size: in bytes.
        modified: when it was last written to, in nanoseconds.
    """

    device: int
    inode: int
    size: int
    modified: int


def get_state(path: Path) -> FileState:
    """Return the state of a file.

    Raises:
        InvalidRequestError: it is no regular file, or cannot be looked at; it says why.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise _as_unreadable(path, error) from None
    except ValueError:  # a NUL in the name
        raise InvalidRequestError(f"{path}: no name of a file") from None
    if not stat.S_ISREG(status.st_mode):
        kind = "a directory" if stat.S_ISDIR(status.st_mode) else "no regular file"
        raise InvalidRequestError(f"{path}: {kind}; a batch is read from a file, more than once")
    return _state_of(status)


def read_rows(path: Path, checked: FileState | None = None) -> Iterator[Row]:
    """Read the lines of a file that are not blank, without their ends.

    Args:
        path: the file.
        checked: the file's state when it was checked, if it was.

    Yields:
        The number of each line, from 1 with the blank ones counted, and its bytes.

    Raises:
        InvalidRequestError: the file cannot be read, is empty, or changed.
    """
    state = get_state(path)
    if checked is not None and checked != state:
        raise InvalidRequestError(f"{path}: the file changed after it was checked; check it again")
    if not state.size:
        raise InvalidRequestError(f"{path}: the file is empty")
    number = 0
    try:
        for raw in _split(_read_blocks(path, state)):
            number += 1
            if raw is None or raw.strip():
                yield number, raw
    except _ChangedError:
        raise InvalidRequestError(
            f"{path}, after line {number}: the file changed while it was read; start again"
        ) from None
    except OSError as error:
        raise _as_unreadable(path, error) from None


class _ChangedError(Exception):
    """The file is not what it was at the beginning."""


def _read_blocks(path: Path, state: FileState) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        left = state.size
        while left:
            block = file.read(_BLOCK)
            # Check before the lines are used: a write since then may have left half of a line.
            if not block or _state_of(os.fstat(file.fileno())) != state:
                raise _ChangedError
            yield block.removeprefix(_BYTE_ORDER_MARK) if left == state.size else block
            left -= len(block)
        if _state_of(os.fstat(file.fileno())) != state:  # while the last lines were worked on
            raise _ChangedError


def _split(blocks: Iterable[bytes]) -> Iterator[bytes | None]:
    """Split blocks into lines, of which at most `MAX_LINE` bytes are kept."""
    rest = b""
    skipping = False  # within a line that is too long and was already yielded
    for block in blocks:
        first, *lines = (rest + block).split(b"\n")
        ended = bool(lines)
        rest = lines.pop() if ended else first
        if len(first) > MAX_LINE:
            yield None
            skipping = True
        elif ended and not skipping:
            yield first.rstrip(b"\r")
        if ended:
            skipping = False
        if skipping:
            rest = b""
        for line in lines:
            yield line.rstrip(b"\r")
    if rest:
        yield rest.rstrip(b"\r")


def _state_of(status: os.stat_result) -> FileState:
    return FileState(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _as_unreadable(path: Path, error: OSError) -> InvalidRequestError:
    return InvalidRequestError(f"{path}: cannot be read ({error.strerror or error})")
