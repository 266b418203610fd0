"""Measure `pay`, and beside it what it cannot be faster than.

For each scheme, transport and event loop:

- `pay`: `PayGateway.pay` with a new requestId each time; memory store, no quota; also with
  signatures by a process of its own.
- `transport alone`: the transport's `send` of a request signed beforehand; no gateway.
- `signature alone`: the signer's `sign` of the same bytes, one after another.
- `the least`: the gateway's job by the standard library over the bare transport, unprotected: lay
  out, sign, quote, send, decode. It shows what the protocol alone costs in Python.
- `floor`: a loop that signs these bytes and then sends them; beside it what the two rates above
  make by arithmetic (one signs, one sends, both on one core).

All combinations are taken at 64 in flight. At 1, 8 and 256 in flight (1, an eighth, and four times
`size.in_flight`) there are `pay` and `transport alone` for aiohttp on asyncio, which is what one
gets by default, and for reqwest on uvloop, which is the fastest. With n in flight, gateway and
transport may use n connections.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Final

from benchmarks.figures import Figure, Size
from benchmarks.payments import (
    LOOPS,
    TRANSPORTS,
    Way,
    doing_the_least,
    gateway,
    paying,
    schemes,
    sending,
    signed,
    signers,
    signing_and_sending,
    ways,
)
from benchmarks.rates import Opened, Subject, interleaved, repeated
from benchmarks.server import canned_server
from wxpay_async import Signer, Transport

SECTION: Final = "pay"

_ALONE: Final = "transport alone"
_AT_ALL_LEVELS: Final = {("aiohttp", "asyncio"), ("reqwest", "uvloop")}


def run(size: Size) -> Iterator[Figure]:
    """Measure all combinations."""
    known, taken = signers(), list(ways(_wanted(size.in_flight)))
    figures: dict[str, Figure] = {}
    with canned_server() as server:
        subjects = list(_subjects(known, taken, url=server.url, compared=size.in_flight))
        body = signed(known["MD5"], server.url).request.body
        for figure in interleaved(SECTION, subjects, size=size, server=server, body=body):
            figures[figure.name] = figure
            yield figure
    for way in taken:
        if way.in_flight == size.in_flight:
            yield from (_arithmetic(figures, scheme, way) for scheme in known)


def _wanted(compared: int) -> Iterator[tuple[str, str, int]]:
    for transport, loop in itertools.product(TRANSPORTS, LOOPS):
        yield transport, loop, compared
        if (transport, loop) in _AT_ALL_LEVELS:
            for in_flight in sorted({1, compared // 8, compared * 4}):
                yield transport, loop, in_flight


def _subjects(
    known: Mapping[str, Signer], taken: Iterable[Way], *, url: str, compared: int
) -> Iterator[Subject]:
    posted = {scheme: signed(signer, url) for scheme, signer in known.items()}
    for scheme, signer in known.items():
        yield repeated(_signature(scheme), partial(signer.sign, posted[scheme].message))
    for way in taken:
        yield way.subject(_ALONE, partial(sending, posted=posted["MD5"]))
        for scheme, signer in schemes().items():
            yield way.subject(f"pay, {scheme}", partial(_paying, url, signer, way.in_flight))
        if way.in_flight == compared:
            for scheme, signer in known.items():
                least = partial(doing_the_least, signer=signer, url=url)
                yield way.subject(f"the least, {scheme}", least)
                floor = partial(signing_and_sending, signer=signer, posted=posted[scheme])
                yield way.subject(f"floor, {scheme}", floor)


def _paying(url: str, signer: Signer, in_flight: int, transport: Transport) -> Opened:
    return paying(gateway(url, signer, transport=transport, in_flight=in_flight))


def _arithmetic(figures: Mapping[str, Figure], scheme: str, way: Way) -> Figure:
    """Return the rate at which one core could do both, one after the other."""
    signing, posting = figures[_signature(scheme)].samples, figures[f"{_ALONE}, {way}"].samples
    return Figure(
        section=SECTION,
        name=f"floor by arithmetic, {scheme}, {way}",
        unit="/s",
        samples=tuple(
            1 / (1 / sign + 1 / send) for sign, send in zip(signing, posting, strict=True)
        ),
    )


def _signature(scheme: str) -> str:
    return f"signature alone, {scheme}"
