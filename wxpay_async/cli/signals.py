"""End commands on signals: Ctrl-C and SIGTERM, which a container's stop sends, mean the same.

Outside of an event loop a signal raises an error. Inside one, a command says with `watch_signals`
what it does instead.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Generator
from types import FrameType
from typing import Final

from wxpay_async import InDoubtError

ENDING: Final = (signal.SIGINT, signal.SIGTERM)
"""Signals that ask a command to end."""


class TerminatedError(BaseException):
    """The process was asked to end by SIGTERM; the counterpart of `KeyboardInterrupt`."""


def exit_code_of(number: signal.Signals) -> int:
    """Return the exit code of a command that a signal ended: 130 or 143."""
    return 128 + number


@contextlib.contextmanager
def raise_on_sigterm() -> Generator[None]:
    """Let SIGTERM raise `TerminatedError` within the block, and restore all handlers after it."""
    former = {number: signal.getsignal(number) for number in ENDING}
    _set_handler(signal.SIGTERM, _raise_terminated)
    try:
        yield
    finally:
        for number, handler in former.items():
            if handler is not None:  # None: it was set by a library in C
                _set_handler(number, handler)


def raise_doubt() -> None:
    """Let signals raise `InDoubtError` from now on: what was done is done, and not shown yet."""
    for number in ENDING:
        _set_handler(number, _raise_doubt)


@contextlib.contextmanager
def watch_signals(
    handle: Callable[[signal.Signals], object], *numbers: signal.Signals
) -> Generator[None]:
    """Call a function on each signal, in the running loop.

    Args:
        handle: what to call.
        *numbers: for which signals.
    """
    import asyncio  # noqa: PLC0415 - the help texts do without it

    loop = asyncio.get_running_loop()
    former = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        # Windows has only asyncio's own way of Ctrl-C, and other threads have no signals.
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, handle, number)
    try:
        yield
    finally:
        for number, handler in former.items():
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.remove_signal_handler(number)
            if handler is not None:
                _set_handler(number, handler)


_Handler = Callable[[int, FrameType | None], object] | int | signal.Handlers


def _set_handler(number: signal.Signals, handler: _Handler) -> None:
    with contextlib.suppress(ValueError):  # only the main thread may
        signal.signal(number, handler)


def _raise_terminated(_: int, __: FrameType | None) -> None:
    raise TerminatedError


def _raise_doubt(_: int, __: FrameType | None) -> None:
    raise InDoubtError("interrupted before the answer was shown; it was executed or refused")
