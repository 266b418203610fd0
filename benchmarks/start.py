"""Measure the start: what an import costs, and the time to the first payment.

Each figure is the wall time of fresh processes, from before the process is made until it says that
it is done; what it does to end is not counted. `an empty interpreter` does nothing at all; its
time is subtracted from that of each `import` of the same turn, but not from `the first payment`,
which is all that a merchant waits for: interpreter, import, gateway, connection and the answer of
the canned server, signed by MD5.

The processes of one turn run one after another. Every round takes five turns at full size (ten a
second of its size), and each turn is a sample. One turn before them is not counted: it writes the
compiled modules. A package that is not installed is left out, with a line on stderr.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Final

from benchmarks.figures import Figure, Size
from benchmarks.server import canned_server

_ROOT: Final = Path(__file__).parents[1]
_TURNS_A_SECOND: Final = 10
_PACKAGES: Final = ("wxpay_async", "stripe", "wechatpayv3")
_EMPTY: Final = "an empty interpreter"
_PAYMENT: Final = "the first payment"
_DONE: Final = "\nimport os; os.write(1, b'.')"
_PAY: Final = """
import asyncio, sys
from wxpay_async import Md5Signer, MiniProgramPay, PayGateway

async def pay():
    async with PayGateway("app-key", Md5Signer("secret"), base_url=sys.argv[1]) as gateway:
        await gateway.pay(
            MiniProgramPay(request_id="1", pay_token="1", terminal_payer_id="1")
        )

asyncio.run(pay())
"""


def run(size: Size) -> Iterator[Figure]:
    """Measure every start in every turn."""
    samples: defaultdict[str, list[float]] = defaultdict(list)
    imports = {f"import {package}": f"import {package}" for package in _installed()}
    with canned_server() as server:
        programs = {_EMPTY: "", **imports, _PAYMENT: _PAY}
        for program in programs.values():
            _start(program, server.url)
        for _ in range(size.rounds * max(1, int(_TURNS_A_SECOND * size.seconds))):
            taken = {name: _start(program, server.url) for name, program in programs.items()}
            for name, seconds in taken.items():
                nothing = taken[_EMPTY] if name in imports else 0.0
                samples[name].append((seconds - nothing) * 1000)
    for name, values in samples.items():
        yield Figure(section="start", name=name, unit="ms", samples=tuple(values))


def _installed() -> Iterator[str]:
    for package in _PACKAGES:
        if importlib.util.find_spec(package):
            yield package
        else:
            print(f"left out: {package} (not installed)", file=sys.stderr)


def _start(program: str, url: str) -> float:
    """Return the seconds until a fresh interpreter has run the program."""
    # Where writing them is forbidden, our modules would be compiled again by each process, but not
    # those that pip has compiled.
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", program + _DONE, url]
    began = perf_counter()
    with subprocess.Popen(command, cwd=_ROOT, env=environ, stdout=subprocess.PIPE) as child:  # noqa: S603 - this interpreter
        assert child.stdout is not None
        done = child.stdout.read(1)
        taken = perf_counter() - began
    if done != b"." or child.returncode:
        raise RuntimeError(f"a program ended with {child.returncode}:\n{program}")
    return taken
