# ruff: noqa: T201 - a script that prints its figures
"""A dead server and a thousand calls: how many attempts does that make?

    python -m tests.chaos.storm --calls 1000 --dead hangs

At most 1 % more than there are calls, queries included, whether the server refuses connections or
accepts them and never answers. Counted where requests leave the SDK, and, as far as something
listens there, at the server too. Exit status 1 means that there were more.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from attrs import define, field

from tests.chaos.breaks import BREAKS
from tests.chaos.jobs import Job, jobs
from tests.chaos.stage import parsed, parser
from wxpay_async import Md5Signer, PayGateway, RetryPolicy, Timeouts, Unlimited
from wxpay_async.adapters.transports.aiohttp import AiohttpTransport
from wxpay_async.engine.streaming import stream
from wxpay_async.protocol.wire import HttpRequest, HttpResponse

ALLOWED: Final = 1.01
_APP_KEY: Final = "chaos-storm"


@define(eq=False)
class CountingTransport:
    """Counts what leaves the SDK, by endpoint."""

    sent: Counter[str] = field(factory=Counter, init=False)
    _transport: AiohttpTransport = field(factory=AiohttpTransport, init=False)

    async def send(self, request: HttpRequest, *, timeout: Timeouts) -> HttpResponse:
        """Count, and send."""
        self.sent[urlsplit(request.url).path] += 1
        return await self._transport.send(request, timeout=timeout)

    async def aclose(self) -> None:
        """Close what carries."""
        await self._transport.aclose()


@define(eq=False)
class HangingServer:
    """Accepts every connection, reads every request, and answers none."""

    arrived: int = field(default=0, init=False)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Count the requests of one connection."""
        try:
            while head := await reader.read(1 << 16):
                self.arrived += head.count(b"POST /")
        except OSError:
            pass
        finally:
            writer.close()


async def _call(gateway: PayGateway, job: Job) -> object:
    """Make a trade, a payment or a refund, in turn."""
    match job.index % 3:
        case 0:
            return await gateway.trade(job.trade())
        case 1:
            return await gateway.pay(job.pay("token-of-some-order"))
        case _:
            return await gateway.refund(job.refund())


async def _storm(url: str, options: argparse.Namespace) -> tuple[Counter[str], Counter[str]]:
    transport = CountingTransport()
    gateway = PayGateway(
        _APP_KEY,
        Md5Signer("secret of the storm"),
        base_url=url,
        transport=transport,
        limiter=Unlimited(),
        retry=RetryPolicy(base=0.01, cap=0.05, min_left=0.05),
        timeouts=Timeouts(connect=0.2, read=0.2, attempt=0.3, call=5.0),
    )
    outcomes: Counter[str] = Counter()
    async with gateway:
        made = stream(
            jobs(_APP_KEY, options.seed, options.calls),
            lambda job: _call(gateway, job),
            concurrency=64,
        )
        async for outcome in made:
            outcomes[outcome.kind] += 1
    await transport.aclose()
    return transport.sent, outcomes


async def run(options: argparse.Namespace) -> bool:
    """Make the calls against a server that is dead in the way that was asked for."""
    hanging = HangingServer()
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: every connection is refused
        if options.dead == "refuses":
            sent, outcomes = await _storm(f"http://127.0.0.1:{nobody.getsockname()[1]}", options)
        else:
            async with await asyncio.start_server(hanging.serve, "127.0.0.1", 0) as server:
                port = server.sockets[0].getsockname()[1]
                sent, outcomes = await _storm(f"http://127.0.0.1:{port}", options)
    attempts = sum(sent.values())
    held = max(attempts, hanging.arrived) <= options.calls * ALLOWED
    queries = sent["/api/instant/query"]
    print(
        f"server {options.dead}: calls {options.calls}  attempts {attempts} "
        f"(queries {queries})  arrived {hanging.arrived}  outcomes {dict(outcomes)}\n"
        f"verdict: {'ok' if held else 'RED'}"
    )
    return held and sum(outcomes.values()) == options.calls


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for; the status is the verdict."""
    made = parser("Count the attempts against a dead server.", payments=0)
    made.add_argument("--calls", type=int, default=1000)
    made.add_argument("--dead", choices=["refuses", "hangs"], default="refuses")
    options = parsed(made, arguments)
    if options.broken:
        BREAKS[options.broken]()
    return int(not asyncio.run(run(options)))


if __name__ == "__main__":
    sys.exit(main())
