"""Count the instructions of one `pay` by MD5 over a transport that does nothing.

Valgrind's callgrind counts them: the same program on the same machine makes the same number,
whatever else the machine does. Two processes pay 200 and 1,200 times; the difference, divided by
1,000, is what one payment costs without the start of the process. Where valgrind is not installed
the section is left out, with a line on stderr.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.figures import Figure, Size
from benchmarks.payments import request
from benchmarks.server import PAY_REPLY
from wxpay_async import (
    HttpRequest,
    HttpResponse,
    Md5Signer,
    PayGateway,
    Timeouts,
    Unlimited,
)

_FEW: Final = 200
_MANY: Final = 1_200
_COUNTED: Final = re.compile(r"Collected : ([0-9]+)")


def run(size: Size) -> Iterator[Figure]:
    """Count once: another round would count the same."""
    del size
    if shutil.which("valgrind") is None:
        print("left out: instructions (valgrind is not installed)", file=sys.stderr)
        return
    each = (_count(_MANY) - _count(_FEW)) / (_MANY - _FEW)
    yield Figure(
        section="instructions", name="pay, MD5, no transport", unit="instructions", samples=(each,)
    )


def _count(payments: int) -> int:
    done = subprocess.run(  # noqa: S603 - this very module
        [
            *("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"),
            *(sys.executable, "-m", "benchmarks.instructions", str(payments)),
        ],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = _COUNTED.search(done.stderr)
    assert found, "callgrind says how many it collected"
    return int(found[1])


class _NoTransport:
    """Answers at once with the same bytes."""

    async def send(self, request: HttpRequest, *, timeout: Timeouts) -> HttpResponse:
        """Answer."""
        del request, timeout
        return HttpResponse(200, PAY_REPLY)

    async def aclose(self) -> None:
        """Release nothing."""


async def _pay(payments: int) -> None:
    gateway = PayGateway(
        "benchmark", Md5Signer("secret"), transport=_NoTransport(), limiter=Unlimited()
    )
    async with gateway:
        for _ in range(payments):
            await gateway.pay(request())


if __name__ == "__main__":
    asyncio.run(_pay(int(sys.argv[1])))
