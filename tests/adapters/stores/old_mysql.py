"""Play a MySQL 5.7 or MariaDB 10.5, which know no SKIP LOCKED, in front of a later server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Final

from attrs import define, field

_QUERY: Final = 3
_REFUSAL: Final = (
    b"\xff" + (1064).to_bytes(2, "little") + b"#42000You have an error in your SQL syntax"
)


@define(eq=False)
class OldMysql:
    """A proxy that passes on everything but statements with SKIP LOCKED.

    Attributes:
        target: host and port of the server.
        refused: how many statements were refused.
    """

    target: tuple[str, int]
    refused: int = 0
    _tasks: set[asyncio.Task[None]] = field(factory=set[asyncio.Task[None]])

    @contextlib.asynccontextmanager
    async def listen(self) -> AsyncGenerator[int]:
        """Listen on loopback; yields the port."""
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, out = await asyncio.open_connection(*self.target)
        for work in (self._pass_questions(reader, out, writer), _pass_answers(there, writer)):
            task = asyncio.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_questions(
        self, reader: asyncio.StreamReader, out: asyncio.StreamWriter, back: asyncio.StreamWriter
    ) -> None:
        with contextlib.closing(out), contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readexactly(4)
                body = await reader.readexactly(int.from_bytes(head[:3], "little"))
                if body[0] == _QUERY and b"SKIP LOCKED" in body:
                    self.refused += 1
                    size = len(_REFUSAL).to_bytes(3, "little")
                    back.write(size + bytes([head[3] + 1]) + _REFUSAL)
                else:
                    out.write(head + body)


async def _pass_answers(there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.closing(writer), contextlib.suppress(OSError):
        while data := await there.read(65_536):
            writer.write(data)
