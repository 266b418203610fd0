"""Record what another transport does into a cassette, and replay it without a network."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from attrs import define, field

from wxpay_async.adapters.transports.cassette import (
    BEGINNING,
    Asked,
    Exchange,
    is_match,
    learn_own,
    list_differences,
    read_lines,
    read_request,
    restore,
    write_line,
)
from wxpay_async.adapters.transports.redaction import Redactor
from wxpay_async.errors import InDoubtError, InvalidRequestError, NotSentError, WxPayError
from wxpay_async.protocol.wire import HttpRequest, HttpResponse, Timeouts, Transport

_FLAGS: Final = (
    os.O_RDWR
    | os.O_CREAT
    | os.O_APPEND
    | getattr(os, "O_NOFOLLOW", 0)  # absent on Windows
    | getattr(os, "O_BINARY", 0)  # absent elsewhere
)
_READ_AT_ONCE: Final = 1 << 20
_MAX_UNMATCHED: Final = 100


def _to_texts(texts: Iterable[str]) -> frozenset[str]:
    if isinstance(texts, str):  # would be taken apart into its letters
        raise TypeError("a list of texts is needed")
    return frozenset(texts)


@define(eq=False)
class RecordingTransport:
    """Sends through another transport, and appends each exchange to a cassette.

    A cassette is a file in JSON Lines, which only its owner can read and write. It holds no
    signature, payToken, openid, JSAPI parameter or address of a payer: see `docs/testing.md` for
    what it does hold. A file that is there is continued, by one transport at a time. Each line is
    written whole; what a crash cut off is removed when the file is continued.

    Args:
        transport: sends. It is closed with this one.
        path: the cassette. It is opened, and made where it is absent, with the first request.
        keep: the platform's names of further fields to write as they are, such as those that you
            send by `extra`; a replay compares them.
        hide: further texts that must not be written, such as the appSecret. None of them is
            expected in a reply; a platform that explains a wrong signature might show one.
    """

    transport: Transport
    path: Path = field(converter=Path)
    keep: frozenset[str] = field(default=frozenset(), kw_only=True, converter=_to_texts)
    _hide: frozenset[str] = field(
        default=frozenset(), kw_only=True, converter=_to_texts, repr=False, alias="hide"
    )
    _redactor: Redactor = field(init=False, repr=False)
    _descriptor: int = field(init=False, default=-1, repr=False)

    def __attrs_post_init__(self) -> None:
        self._redactor = Redactor(self.keep)
        for text in sorted(self._hide):
            self._redactor.add(text)

    async def send(self, request: HttpRequest, *, timeout: Timeouts) -> HttpResponse:
        """Send once, and write down what came of it; a cancelled call is not written.

        Raises:
            NotSentError: the cassette cannot be opened, or the transport says so.
            InDoubtError: the transport says so; or the reply came and cannot be written.
        """
        self._open()
        try:
            response = await self.transport.send(request, timeout=timeout)
        except WxPayError as error:
            self._write(request, error)
            raise
        self._write(request, response)
        return response

    async def aclose(self) -> None:
        """Close the cassette and the other transport. May be called twice; `send` opens both."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
        await self.transport.aclose()

    def _write(self, request: HttpRequest, ended: HttpResponse | WxPayError) -> None:
        # In the event loop: a line is small, and another order of lines would replay differently.
        line = write_line(read_request(request), ended, self._redactor)
        try:
            _write_all(self._descriptor, line)
        except OSError as error:
            reason = error.strerror
        else:
            return
        raise InDoubtError(f"the answer came, and {self.path} cannot be written ({reason})")

    def _open(self) -> None:
        if self._descriptor >= 0:
            return
        try:
            descriptor = os.open(self.path, _FLAGS, 0o600)
        except OSError as error:
            raise self._make_error(f"cannot be opened ({error.strerror})") from error
        try:
            self._prepare(descriptor)
        except BaseException:  # whatever ended it, the descriptor must not stay open
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def _prepare(self, descriptor: int) -> None:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise self._make_error("is no file")
        try:
            content = _read_all(descriptor)
            whole = content[: content.rfind(b"\n") + 1]
            begun = content[len(whole) :]
            # What is cut off below must have been ours: a wrong path must not cost a file its end.
            if not _begins_alike(whole) or not _begins_alike(begun):
                raise self._make_error("is no cassette")
            if hasattr(os, "fchmod"):
                os.fchmod(descriptor, 0o600)  # it may have been there before
            if begun:
                os.ftruncate(descriptor, len(whole))
        except OSError as error:
            raise self._make_error(f"cannot be used ({error.strerror})") from error
        self._redactor.skip_numbers(whole.decode("utf-8", "replace"))

    def _make_error(self, reason: str) -> NotSentError:
        return NotSentError(f"{self.path}: {reason}", retryable=False)


def _begins_alike(content: bytes) -> bool:
    return content.startswith(BEGINNING) or BEGINNING.startswith(content)


def _read_all(descriptor: int) -> bytes:
    content = b""
    while chunk := os.read(descriptor, _READ_AT_ONCE):
        content += chunk
    return content


def _write_all(descriptor: int, line: bytes) -> None:
    """Write a line; a disk that is full may take a part of it."""
    while line:
        line = line[os.write(descriptor, line) :]


def _read_cassette(path: str | os.PathLike[str]) -> deque[Exchange]:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
    else:
        try:
            return deque(read_lines(content))
        except InvalidRequestError as error:
            reason = str(error)
    raise InvalidRequestError(f"{os.fspath(path)}: {reason}", allowed="a cassette")


@define(eq=False)
class ReplayTransport:
    """Answers from a cassette. Nothing is sent, and no time passes.

    A request is answered by the first exchange that has the same path and the same business fields
    and was not replayed yet. The appKey, the nonce, the timestamp and the signature are not
    compared; what was redacted has only to be there. A reply holds placeholders for what was
    redacted (`redacted-payToken-1`), the same for the same value; where the request itself held the
    value, the reply repeats the caller's own. So a `paySign` that was replayed does not verify.

    Args:
        cassette: the file that a `RecordingTransport` wrote.
        repeat: whether the last exchange that matches is replayed again and again, for callers that
            query more often than the recorded one.

    Attributes:
        left: exchanges that were not replayed yet.
        unmatched: what was told about the last requests that no exchange matches, oldest first. A
            test that expects none asserts so, since its shop may catch the error.

    Raises:
        InvalidRequestError: the file cannot be read, or is no cassette.
    """

    _exchanges: deque[Exchange] = field(converter=_read_cassette, repr=False, alias="cassette")
    repeat: bool = field(default=False, kw_only=True)
    unmatched: deque[str] = field(
        init=False, factory=lambda: deque[str](maxlen=_MAX_UNMATCHED), repr=False
    )
    _replayed: list[Exchange] = field(init=False, factory=list[Exchange], repr=False)
    _own: dict[str, str] = field(init=False, factory=dict[str, str], repr=False)

    @property
    def left(self) -> int:
        """How many exchanges were not replayed yet."""
        return len(self._exchanges)

    async def send(self, request: HttpRequest, *, timeout: Timeouts) -> HttpResponse:
        """Answer with what was recorded, or raise what was raised then.

        Raises:
            NotSentError: no exchange matches; the text names what differs from the nearest one.
        """
        del timeout
        asked = read_request(request)
        exchange = self._take(asked)
        if exchange is None:
            text = self._explain(asked)
            self.unmatched.append(text)
            raise NotSentError(text, retryable=False)
        self._own |= learn_own(exchange.asked, asked)
        ended = restore(exchange.outcome, self._own)
        if isinstance(ended, WxPayError):
            raise ended
        return ended

    async def aclose(self) -> None:
        """Do nothing: there is nothing to release."""

    def _take(self, asked: Asked) -> Exchange | None:
        for exchange in self._exchanges:
            if is_match(exchange.asked, asked):
                self._exchanges.remove(exchange)
                self._replayed.append(exchange)
                return exchange
        again = (each for each in reversed(self._replayed) if is_match(each.asked, asked))
        return next(again, None) if self.repeat else None

    def _explain(self, asked: Asked) -> str:
        told = f"POST {asked.path} is not in the cassette:"
        every = [*self._exchanges, *self._replayed]
        near = [
            list_differences(each.asked, asked) for each in every if each.asked.path == asked.path
        ]
        if near:
            least = min(near, key=_count)
            return f"{told} {'; '.join(least) or 'its exchanges were all replayed before'}"
        paths = sorted({exchange.asked.path for exchange in every})
        return f"{told} it has {', '.join(paths) or 'no exchange'}"


def _count(differences: list[str]) -> int:
    return len(differences)
