"""A network between merchant and platform that fails in every way that a network can.

What it does to a request, drawn for each one:

- before: the connection ends (or hangs) and the platform never sees the request;
- after: the platform has answered; the answer is lost, reset or cut off in the middle;
- twice: the same bytes arrive twice;
- late: the connection ends, and the request arrives afterwards all the same;
- refuse: a door in front of the platform does not know the caller's address for a moment;
- decline: the platform declines, and from then on knows the requestId. Half of these answers get
  lost;
- timeout: the platform has executed the request, and a proxy answers 408 in its place;
- page: it has, and a proxy answers with a page of its own, some of them under HTTP 200.

Beside that, and by chances of their own:

- changed: all answers about one order have a byte order mark, or are changed in another way that
  means nothing. A proxy that does this does it every time;
- lie: one query about something whose answer got lost is answered wrongly, once;
- hidden: all answers about one order get lost until the quarantine is over, and the first one after
  it says that the order is absent.

The same signed request twice is as far as a network can go: it cannot make a second request of the
same business, since it cannot sign. The sandbox refuses the copy for its nonce.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import json
import random
import re
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote_plus

from attrs import define, field, frozen

from tests.chaos import replies
from tests.chaos.replies import Change, Lie

_REQUEST_ID: Final = re.compile(r'"requestId":"([^"]+)"')
_NUMBER: Final = re.compile(r"(?<!orig)[oO]utTradeNo\"?[=:]\"?(order-[0-9]+(?:-R)?)")
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_HANG: Final = 3.0  # seconds; longer than the merchants wait
_GAVE_UP: Final = 408
_HIDDEN: Final = "hidden"
_LATE_LIE: Final = "lie_after_quarantine"
_REPEATED: Final = "GM_API_BUS_0000015"
_DECLINED: Final = "GM_API_BUS_0000099"
_NOT_ALLOWED: Final = "CO_MSG_0000017"
_BAD_SIGNATURE: Final = b"CO_MSG_000006"

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Fault(enum.StrEnum):
    """What happens to a request."""

    BEFORE = "before"
    AFTER = "after"
    TWICE = "twice"
    LATE = "late"
    REFUSE = "refuse"
    DECLINE = "decline"
    TIMEOUT = "timeout"
    PAGE = "page"
    NONE = "none"


_LIES: Final = tuple(Lie)
_FAULTS: Final = tuple(fault for fault in Fault if fault is not Fault.NONE)
_IN_PLACE: Final = frozenset({Fault.BEFORE, Fault.LATE, Fault.REFUSE, Fault.DECLINE})


@frozen(kw_only=True)
class Weather:
    """How likely each fault is, from 0 to 1.

    Attributes:
        changed: of all orders, those whose answers are changed.
        lie: of the queries about what was executed and whose answer got lost, those that are
            answered wrongly; each number once.
        hidden: of all orders, those whose answers all get lost until the quarantine is over; then
            the first query that finds the order says that it is absent.
        second_answers: of two copies the second's answer goes back, as with a load balancer that
            sends again what it got no answer for.
    """

    before: float = 0.05
    after: float = 0.20
    twice: float = 0.02
    late: float = 0.01
    refuse: float = 0.01
    decline: float = 0.01
    timeout: float = 0.0
    page: float = 0.0
    changed: float = 0.0
    lie: float = 0.0
    hidden: float = 0.0
    second_answers: bool = False

    def draw(self, dice: random.Random) -> Fault:
        """Draw what happens to one request."""
        roll = dice.random()
        for fault in _FAULTS:
            roll -= getattr(self, fault)
            if roll < 0:
                return fault
        return Fault.NONE

    @property
    def expected(self) -> set[str]:
        """What must happen in a run, or the run has tested less than it says."""
        names = {str(fault) for fault in _FAULTS if getattr(self, fault) > 0}
        names |= {str(way) for way in Change if self.changed > 0}
        names |= {str(way) for way in Lie if self.lie > 0}
        return names | {_LATE_LIE, _HIDDEN} if self.hidden > 0 else names


@define(eq=False)
class _Upstream:
    """Connections to the platform, used again and again."""

    port: int
    _idle: deque[Connection] = field(factory=deque, init=False)

    async def exchange(self, request: bytes) -> bytes:
        connection = await self._connect()
        reader, writer = connection
        writer.write(request)
        answer = await _message(reader)
        self._idle.append(connection)
        return answer

    async def _connect(self) -> Connection:
        while self._idle:
            reader, writer = self._idle.pop()
            # The platform closes what is idle for long: a query a minute would meet dead ones only.
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self.port)

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()


@define(eq=False, kw_only=True)
class Proxy:
    """Stands between the merchants and a sandbox on this machine.

    Attributes:
        port: of the sandbox.
        weather: what may happen.
        dice: decides what happens.
        seed: decides whose answers are changed.
        partitioned: nothing gets through, either way.
        stalling: whatever has a requestId is late; queries pass.
        latency: seconds that a request takes at most.
        holding: what is late waits for `release`.
        hiding: tells whether the hidden orders are hidden still.
        on_doubt: called when the answer of something executed is about to get lost.
        on_bad_signature: called when a merchant was answered that its signature is wrong.
        seen: how often each fault struck.
        executed: when each requestId was executed, in seconds since the epoch.
    """

    port: int
    weather: Weather
    dice: random.Random
    seed: int
    partitioned: bool = False
    stalling: bool = False
    latency: float = 0.0
    holding: bool = False
    hiding: Callable[[], bool] = lambda: False
    on_doubt: Callable[[], None] = lambda: None
    on_bad_signature: Callable[[], None] = lambda: None
    seen: Counter[str] = field(factory=Counter, init=False)
    executed: dict[str, float] = field(factory=dict, init=False)
    _server: asyncio.Server = field(init=False)
    _upstream: _Upstream = field(init=False)
    _serving: set[asyncio.Task[None]] = field(factory=set, init=False)
    _late: set[asyncio.Task[None]] = field(factory=set, init=False)
    _gate: asyncio.Event = field(factory=asyncio.Event, init=False)
    _sent: set[str] = field(factory=set, init=False)
    _declined: set[str] = field(factory=set, init=False)
    _doubted: set[str | None] = field(factory=set, init=False)
    _lied: set[str | None] = field(factory=set, init=False)
    _hidden: set[str] = field(factory=set, init=False)

    @property
    def url(self) -> str:
        """Where merchants find it."""
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def start(self) -> None:
        """Listen on loopback."""
        self._upstream = _Upstream(self.port)
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def aclose(self) -> None:
        """Deliver what is late, then end every connection."""
        await self.release()
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._server.wait_closed()
        self._upstream.close()

    async def release(self) -> None:
        """Let everything that is late arrive now, and hold nothing any more."""
        self.holding = self.stalling = False
        self._gate.set()
        if self._late:
            await asyncio.gather(*self._late)
        self._gate.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._serving.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while not self.partitioned and await self._pass(await _message(reader), writer):
                    pass
        except asyncio.CancelledError:
            pass  # it is over; asyncio's own callback would complain about a cancelled handler
        finally:
            self._serving.discard(task)
            writer.transport.abort()

    async def _pass(self, request: bytes, writer: asyncio.StreamWriter) -> bool:
        """Treat one request; tell whether the connection lives on."""
        fault = Fault.BEFORE if self.partitioned else self._fault(_request_id(request))
        await asyncio.sleep(self.dice.uniform(0, self.latency))
        if fault in _IN_PLACE:  # nothing gets there, or not now
            self.seen[fault] += 1
            return await self._keep_back(fault, request, writer)
        answer = await self._forward(request)
        if fault is Fault.TWICE:
            again = await self._forward(request)
            answer = again if self.weather.second_answers else answer
        moved = _request_id(request) is not None and replies.is_success(answer)
        # A proxy that hides an answer to a query, or a refusal, is no news: counted by itself.
        idle = fault in {Fault.TIMEOUT, Fault.PAGE} and not moved
        self.seen[f"{fault}_idle" if idle else fault] += 1
        if moved and fault in {Fault.AFTER, Fault.TIMEOUT, Fault.PAGE}:
            if _number(request) not in self._lied:
                self._doubted.add(_number(request))
            self.on_doubt()
        if self._hides(_number(request)):
            self.seen[_HIDDEN] += 1
            return await self._lose(answer, writer)
        if fault is Fault.AFTER or self.partitioned:
            return await self._lose(answer, writer)
        if fault is Fault.TIMEOUT:
            return await self._answer(replies.page(_GAVE_UP), writer)
        if fault is Fault.PAGE:
            return await self._answer(replies.page(self.dice.choice(replies.BROKEN)), writer)
        return await self._answer(self._bend(request, answer), writer)

    async def _keep_back(self, fault: Fault, request: bytes, writer: asyncio.StreamWriter) -> bool:
        match fault:
            case Fault.LATE:
                task = asyncio.create_task(self._arrive_late(request))
                self._late.add(task)
                task.add_done_callback(self._late.discard)
            case Fault.REFUSE:
                return await self._answer(_refusal(_NOT_ALLOWED), writer)
            case Fault.DECLINE:
                self._declined.add(_request_id(request) or "")
                lost = self.dice.random() < 0.5
                return not lost and await self._answer(_refusal(_DECLINED), writer)
            case _:
                if self.dice.random() < 0.02:
                    await asyncio.sleep(_HANG)
        return False

    def _bend(self, request: bytes, answer: bytes) -> bytes:
        """Lie, if this is a query that was not lied to yet, and change bytes that mean nothing."""
        number, request_id = _number(request), _request_id(request)
        if number and request_id is None and replies.is_success(answer):
            answer = self._lie(answer, number)
        name = number or request_id  # a payment names no order
        change = name and replies.draw_change(f"{self.seed}", name, self.weather.changed)
        if change:
            self.seen[change] += 1
            return replies.change(answer, change)
        return answer

    def _lie(self, answer: bytes, number: str) -> bytes:
        """Answer the query of an order wrongly, once, or not at all."""
        late = number in self._hidden
        if not late and (number not in self._doubted or self.dice.random() >= self.weather.lie):
            return answer
        self._hidden.discard(number)
        self._doubted.discard(number)
        self._lied.add(number)
        way = Lie.ABSENT if late else _LIES[len(self._lied) % len(_LIES)]
        self.seen[_LATE_LIE if late else way] += 1
        return replies.lie(answer, way, number)

    def _hides(self, number: str | None) -> bool:
        """Tell whether all answers about an order get lost for now."""
        if number is None or not self.hiding():
            return False
        hidden = random.Random(f"hidden {self.seed} {number}").random() < self.weather.hidden
        if hidden:
            self._hidden.add(number)
        return hidden

    def _fault(self, request_id: str | None) -> Fault:
        if self.stalling and request_id is not None:
            return Fault.LATE
        fault = self.weather.draw(self.dice)
        if fault is Fault.DECLINE and (request_id is None or request_id in self._sent):
            return Fault.NONE  # a platform that has executed a request does not decline it
        return fault

    async def _forward(self, request: bytes) -> bytes:
        request_id = _request_id(request)
        if request_id in self._declined:
            return _refusal(_REPEATED)
        if request_id is not None:
            self._sent.add(request_id)
        answer = await self._upstream.exchange(request)
        if request_id is not None and replies.is_success(answer):
            self.executed.setdefault(request_id, time.time())
        return answer

    async def _arrive_late(self, request: bytes) -> None:
        if self.holding:
            await self._gate.wait()
        else:
            await asyncio.sleep(self.dice.uniform(0.1, 1.0))
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):  # lost after all
            await self._forward(request)

    async def _answer(self, answer: bytes, writer: asyncio.StreamWriter) -> bool:
        writer.write(answer)
        await writer.drain()
        if _BAD_SIGNATURE in answer:
            self.on_bad_signature()
        return True

    async def _lose(self, answer: bytes, writer: asyncio.StreamWriter) -> bool:
        way = self.dice.randrange(3)
        if way == 0:
            writer.close()  # an end without an answer
        elif way == 1:
            writer.write(answer[: self.dice.randrange(1, len(answer))])
            writer.write_eof()
            await writer.drain()
        return False  # else a reset, which is how `_serve` ends a connection


async def _message(reader: asyncio.StreamReader) -> bytes:
    """Read one HTTP message whose length is given."""
    head = await reader.readuntil(b"\r\n\r\n")
    found = _LENGTH.search(head)
    return head + await reader.readexactly(int(found[1]) if found else 0)


def _request_id(request: bytes) -> str | None:
    found = _REQUEST_ID.search(_text(request))
    return found[1] if found else None


def _number(request: bytes) -> str | None:
    """Return the number of the order that is made, asked for or given back by it."""
    found = _NUMBER.search(_text(request))
    return found[1] if found else None


def _text(request: bytes) -> str:
    return unquote_plus(request.partition(b"\r\n\r\n")[2].decode())


def _refusal(code: str) -> bytes:
    envelope = {"success": False, "errorCode": code, "errorMsg": "chaos", "data": None}
    body = json.dumps(envelope).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
