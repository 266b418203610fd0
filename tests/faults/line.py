"""A line of TCP to a server, on which happens what firewalls, failovers and dead hosts do."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self

from attrs import define, field


@define(eq=False)
class _Call:
    """One connection, at the client's end."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    swallowed: bool = False
    task: asyncio.Task[None] | None = None


@define(eq=False)
class Line:
    """Passes on what is said between clients and a server.

    Attributes:
        target: the server's port. New connections lead there; set another one, as a failover does.
        hanging: whether new connections are taken and never served.
        port: where clients find it.
        calls: how many connections there were.
    """

    target: int
    hanging: bool = False
    port: int = 0
    calls: int = 0
    _server: asyncio.Server | None = field(default=None, init=False)
    _open: set[_Call] = field(factory=set[_Call], init=False)
    _tasks: set[asyncio.Task[None]] = field(factory=set[asyncio.Task[None]], init=False)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for call in self._open:
            call.writer.transport.abort()

    def swallow(self) -> None:
        """Let every open connection stand, and pass on nothing there any more."""
        for call in self._open:
            call.swallowed = True

    def end_swallowed(self) -> None:
        """End what stands, at the server's end, too, as its keep-alive does after some minutes.

        Until then the server keeps what an open transaction there has locked.
        """
        for call in self._open:
            if call.swallowed and call.task is not None:
                call.task.cancel()

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        call = _Call(reader, writer, swallowed=self.hanging)
        self.calls += 1
        self._open.add(call)
        call.task = task = asyncio.create_task(self._serve(call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, call: _Call) -> None:
        there: asyncio.StreamWriter | None = None
        try:
            if call.swallowed:
                await call.reader.read(-1)
                return
            with contextlib.suppress(OSError):
                back, there = await asyncio.open_connection("127.0.0.1", self.target)
                async with asyncio.TaskGroup() as both:
                    both.create_task(_pump(call, call.reader, there))
                    both.create_task(_pump(call, back, call.writer))
        finally:
            self._open.discard(call)
            for writer in filter(None, (call.writer, there)):
                writer.transport.abort()


async def _pump(call: _Call, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65_536):
            if not call.swallowed:
                sink.write(data)
                await sink.drain()
    if not call.swallowed:  # a firewall does not pass on the end, either
        sink.close()
