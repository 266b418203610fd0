"""Write files that only their owner reads, each in one piece.

What is written stands in a temporary file beside the file until it is complete. A process that is
killed leaves that behind, and the next one removes it. A lock, which a system ends with the process
that holds it, tells whose it is: that of a live process cannot be locked. On Windows, which has no
such lock, what is left stays.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO, Final, Self

from attrs import define

from wxpay_async.errors import InDoubtError

_ENDING: Final = ".part"
_RANDOM: Final = "[a-z0-9_]{8}"  # as `tempfile` makes names


@define(eq=False)
class Replacement:
    """A temporary file beside a file, mode 0600, which replaces it at once or not at all.

    Attributes:
        path: what is replaced.
        temporary: where it is written until then; locked.
        file: what is written.
    """

    path: Path
    temporary: Path
    file: IO[str]

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a new temporary file.

        Raises:
            OSError: it cannot be written; or what it would replace is a folder or a device.
        """
        if path.exists() and not path.is_file():  # as root, /dev/null would be gone
            raise OSError(errno.EEXIST, "it is no file")
        remove_leftovers(path)
        while True:
            descriptor, name = tempfile.mkstemp(
                prefix=f".{path.name}.", suffix=_ENDING, dir=path.parent
            )
            file = os.fdopen(descriptor, "w", encoding="utf-8", newline="")
            _lock(descriptor, wait=True)
            if _is_there(Path(name), descriptor):
                return cls(path, Path(name), file)
            file.close()  # it was taken for a leftover before it was locked

    def commit(self) -> None:
        """Replace the file, durably.

        Raises:
            OSError: it cannot be written; the former file is there still.
        """
        self.file.flush()
        os.fsync(self.file.fileno())
        if sys.platform == "win32":  # which moves no file that is open
            self.file.close()
        self.temporary.replace(self.path)
        self.file.close()  # and with it goes the lock
        _sync_folder(self.path.parent)

    def discard(self) -> None:
        """Leave the former file as it is."""
        with contextlib.suppress(OSError):
            self.file.close()
        with contextlib.suppress(OSError):
            self.temporary.unlink()


def write_in_one_piece(path: Path, text: str) -> None:
    """Write a file that only its owner reads.

    Raises:
        OSError: it cannot be written; the former file is there still.
    """
    replacement = Replacement.open(path)
    try:
        replacement.file.write(text)
        replacement.commit()
    except BaseException:
        replacement.discard()
        raise


def remove_leftovers(path: Path) -> None:
    """Remove what processes that were killed left beside a file, and nothing of a live one.

    A file that cannot be removed stays: no later run reads it.
    """
    with contextlib.suppress(OSError):
        for leftover in list(_find_temporary(path)):
            _remove_if_left(leftover)


def _find_temporary(path: Path) -> Iterator[Path]:
    name = re.compile(rf"\.{re.escape(path.name)}\.{_RANDOM}{re.escape(_ENDING)}")
    with os.scandir(path.parent) as entries:
        for entry in entries:
            if name.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                yield Path(entry.path)


def _remove_if_left(path: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
        try:
            if _lock(descriptor, wait=False):
                path.unlink()
        finally:
            os.close(descriptor)


def _lock(descriptor: int, *, wait: bool) -> bool:
    """Lock a file until its descriptor is closed; False if another has it, or none can be had.

    Args:
        descriptor: of the file.
        wait: for another's lock, which a look for leftovers holds for a moment only.
    """
    if sys.platform == "win32":
        return False
    import fcntl  # noqa: PLC0415 - not on Windows

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_there(path: Path, descriptor: int) -> bool:
    """Tell whether a name still stands for an open file."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))  # noqa: PTH116 - as samestat
    except FileNotFoundError:
        return False


def write_all(descriptor: int, content: bytes) -> None:
    """Write to a descriptor."""
    while content:
        content = content[os.write(descriptor, content) :]


@contextlib.contextmanager
def report_write_error(path: Path) -> Generator[None]:
    """Turn a failure to write into an error which says that the store has the outcomes.

    Only writing belongs into the block: a `TimeoutError` of a call is an `OSError`, too.

    Raises:
        InDoubtError: in place of an `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise make_write_error(path, error) from error


def make_write_error(path: Path, error: OSError) -> InDoubtError:
    """Return the error for a file that could not be written."""
    return InDoubtError(
        f"{path} could not be written ({error.strerror}); the store has the outcomes"
    )


def _sync_folder(folder: Path) -> None:
    """Make the replacement durable where the system lets a folder be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
