"""Write files that only their owner reads, each in one piece."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import IO, Self

from attrs import define

from wxpay_async.errors import InDoubtError


@define(eq=False)
class Replacement:
    """A temporary file beside a file, mode 0600, which replaces it at once or not at all.

    Attributes:
        path: what is replaced.
        file: what is written.
    """

    path: Path
    file: IO[str]

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a new temporary file.

        Raises:
            OSError: it cannot be written; or what it would replace is a folder or a device.
        """
        if path.exists() and not path.is_file():  # as root, /dev/null would be gone
            raise OSError(errno.EEXIST, "it is no file")
        descriptor, name = tempfile.mkstemp(
            prefix=f".{path.name}.", suffix=".part", dir=path.parent
        )
        os.close(descriptor)
        return cls(path, Path(name).open("w", encoding="utf-8", newline=""))

    def commit(self) -> None:
        """Replace the file, durably.

        Raises:
            OSError: it cannot be written; the former file is there still.
        """
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        Path(self.file.name).replace(self.path)
        _sync_folder(self.path.parent)

    def discard(self) -> None:
        """Leave the former file as it is."""
        with contextlib.suppress(OSError):
            self.file.close()
        with contextlib.suppress(OSError):
            Path(self.file.name).unlink()


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
