"""The canned platform: a process of its own that answers by path, with bytes made beforehand.

It reads no more of a request than its path and its length, so it is never what limits a rate; the
benchmarks show that by its own rate and by the share of a core that it needs. It ends with its
standard input, so no way of ending the benchmarks leaves it behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Final, cast

from attrs import define, field, frozen

PAY_PATH: Final = "/api/instant/pay/wxminiprogram"
COUNTERS_PATH: Final = "/counters"
"""Answers how many requests there were, this one not counted, and the CPU time they took."""

PAY_REPLY: Final = json.dumps(
    {
        "success": True,
        "errorCode": "",
        "errorMsg": "",
        "data": {
            "appId": "wx9236b1e84ffbf10a",
            "timeStamp": "1573029856",
            "nonceStr": "19a855c337bd4c14978899a560372a97",
            "prepayId": "wx061644162685653f3da37a5a1589465200",
            "extPackage": "prepay_id=wx061644162685653f3da37a5a1589465200",
            "signType": "RSA",
            "paySign": "0123456789abcdef" * 21 + "0123456=",
            "instAmount": "0.10",
            "tradeResList": [
                {"outTradeNo": "201910170001", "tradeNo": "2019101700000001", "status": "P"}
            ],
        },
    }
).encode()
"""What the platform says to a payment, without the echo that would differ each time."""

_ROOT: Final = Path(__file__).parents[1]
_PIPELINED: Final = 32
_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_NOT_FOUND: Final = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


@frozen(kw_only=True)
class Reply:
    """What one path answers, with status 200 and as JSON."""

    body: bytes
    headers: Mapping[str, str] = field(factory=dict[str, str])

    @property
    def raw(self) -> bytes:
        """The bytes on the wire."""
        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(len(self.body)),
            **self.headers,
        }
        lines = ("HTTP/1.1 200 OK", *(f"{name}: {value}" for name, value in headers.items()))
        return "\r\n".join(lines).encode() + _END + self.body


@frozen(kw_only=True)
class Counters:
    """What the server has done so far.

    Attributes:
        requests: answered.
        cpu: seconds, in Python and in the kernel.
    """

    requests: int
    cpu: float


@frozen(kw_only=True)
class CannedServer:
    """A running server, seen from the process that measures."""

    port: int

    @property
    def url(self) -> str:
        """Its origin."""
        return f"http://127.0.0.1:{self.port}"

    def counters(self) -> Counters:
        """Ask what it has done so far."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10.0)
        with contextlib.closing(connection):
            connection.request("GET", COUNTERS_PATH)
            return Counters(**json.loads(connection.getresponse().read()))

    def capacity(self, body: bytes, seconds: float) -> float:
        """Return the requests per second that it answers to a client which does next to nothing.

        Args:
            body: what each request posts.
            seconds: how long to ask.
        """
        head = f"POST {PAY_PATH} HTTP/1.1\r\nHost: here\r\nContent-Length: {len(body)}\r\n\r\n"
        requests = (head.encode() + body) * _PIPELINED
        expected = len(Reply(body=PAY_REPLY).raw) * _PIPELINED
        with socket.create_connection(("127.0.0.1", self.port), timeout=10.0) as connection:
            done, passed, began = 0, 0.0, time.perf_counter()
            while not done or passed < seconds:
                connection.sendall(requests)
                _receive(connection, expected)
                done, passed = done + _PIPELINED, time.perf_counter() - began
        return done / passed


def _receive(connection: socket.socket, length: int) -> None:
    while length > 0:
        received = len(connection.recv(1 << 16))
        if not received:
            raise ConnectionError("the canned server hung up")
        length -= received


@contextlib.contextmanager
def canned_server(replies: Mapping[str, Reply] | None = None) -> Generator[CannedServer]:
    """Run the server for as long as the block lasts.

    Args:
        replies: what further paths answer; payments it knows.
    """
    known = {PAY_PATH: Reply(body=PAY_REPLY), **(replies or {})}
    raw = {path: reply.raw.decode("latin-1") for path, reply in known.items()}
    command = [sys.executable, "-m", "benchmarks.server"]
    with subprocess.Popen(  # noqa: S603 - our own module
        command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps(raw) + "\n")
        child.stdin.flush()
        yield CannedServer(port=int(child.stdout.readline()))
        # Leaving closes its standard input, which is what it waits for.


# The child


@define(eq=False)
class _Service:
    """What all connections share."""

    answers: Mapping[bytes, bytes]
    requests: int = 0

    def counters(self) -> bytes:
        now = {"requests": self.requests, "cpu": time.process_time()}
        return Reply(body=json.dumps(now).encode()).raw


class _Connection(asyncio.Protocol):
    """Answers whatever is complete; several requests may come in one piece, or one in several."""

    def __init__(self, service: _Service) -> None:
        self._service = service
        self._rest = b""
        self._write: Callable[[bytes], None]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._write = cast("asyncio.Transport", transport).write  # uvloop's is not derived from it

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        start, answers = 0, list[bytes]()
        while (head_end := data.find(_END, start)) >= 0:
            found = _LENGTH.search(data, start, head_end)
            end = head_end + len(_END) + (int(found[1]) if found else 0)
            if end > len(data):
                break
            answers.append(self._answer(data[start:head_end].split(b" ", 2)[1]))
            start = end
        self._rest = data[start:]
        if answers:
            self._write(b"".join(answers))

    def _answer(self, path: bytes) -> bytes:
        answer = self._service.answers.get(path)
        if answer is None:
            return self._service.counters() if path == COUNTERS_PATH.encode() else _NOT_FOUND
        self._service.requests += 1
        return answer


async def _serve() -> None:
    raw = json.loads(sys.stdin.readline())
    service = _Service({path.encode(): answer.encode("latin-1") for path, answer in raw.items()})
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(service), "127.0.0.1", 0, backlog=512)
    over = asyncio.Event()
    loop.add_reader(sys.stdin, over.set)
    print(server.sockets[0].getsockname()[1], flush=True)
    await over.wait()


def _fastest_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop  # noqa: PLC0415 - only the child needs it, if it is installed
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


if __name__ == "__main__":
    # Ctrl-C goes to both processes; the one that measures ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with asyncio.Runner(loop_factory=_fastest_loop()) as runner:
        runner.run(_serve())
