"""The chaos's own proxy loses nothing but what it is meant to lose."""

from __future__ import annotations

import asyncio

from tests.chaos.proxy import _Upstream

_REQUEST = b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def test_upstream_leaves_connections_that_the_platform_closed_alone() -> None:
    """A query an hour met nothing but them, and an operation stayed open for a day."""

    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(_ANSWER)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer_once, "127.0.0.1", 0) as server:
        upstream = _Upstream(server.sockets[0].getsockname()[1])
        answers = list[bytes]()
        for _ in range(3):
            answers.append(await upstream.exchange(_REQUEST))
            [(reader, _)] = upstream._idle
            await reader.read()  # until the platform has closed it
        upstream.close()

    assert [_ANSWER] * 3 == answers
