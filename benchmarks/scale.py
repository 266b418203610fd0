"""Measure scale: 200 appKeys in one and in two processes, on one PostgreSQL, the quota in Redis.

A process has a gateway for each appKey. All share one store, one transport, and the connections to
the Redis in which each appKey's quota is. They pay in turn, 64 payments in flight in each process,
by MD5 over aiohttp and the canned server. The quota is the platform's, and every run has appKeys of
its own, so no call waits for it.

Beside both there is one process with other stores and quotas, which shows what of a payment's time
each of them is. Of each run there are

- the payments per second, and the time in which 99 of 100 were made;
- the share of a core that the processes together, PostgreSQL, Redis and the canned server needed,
  and the time of a core that falls on one payment;
- the transactions that wrote, and the scripts that Redis ran, each second;
- the bytes by which the store grew for each payment: on the disk of PostgreSQL, in the memory of
  Redis.

Then one process has 1,000 gateways that have paid once: the memory and the connections that they
hold, and what is used without payments, when each looks for open operations every 30 s.

What a server uses is counted as a whole, so no other program should use it
meanwhile. Processes, servers and platform share the cores of one machine, so a rate is that of all
of them together; plan by the time that one payment takes.
"""

from __future__ import annotations

import contextlib
import sys
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping
from time import perf_counter
from typing import Final, cast

from attrs import evolve, frozen

from benchmarks import places
from benchmarks.figures import Figure, Size
from benchmarks.growth import Sample
from benchmarks.scale_process import Crew, Paid, Rested, Worker, pay, rest, worker
from benchmarks.server import CannedServer, canned_server
from wxpay_async.engine.recovery import RECOVER_EVERY

SECTION: Final = "scale"
APP_KEYS: Final = 200
GATEWAYS: Final = 1_000

_LONGER: Final = 4
"""A run starts processes, so it is worth more time than one rate elsewhere."""

_WHOLE: Final = 60
"""So many times the seconds of a rate are one round of recovery, at full size."""


def run(size: Size) -> Iterator[Figure]:
    """Measure every run in every round, and the gateways that do nothing once."""
    prefix = f"scale-{uuid.uuid4().hex}"
    samples: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    with contextlib.ExitStack() as stack:
        try:
            postgres = stack.enter_context(places.postgres())
            redis = stack.enter_context(places.redis(prefix))
        except (ImportError, OSError) as error:
            print(f"left out: {SECTION} ({error})", file=sys.stderr)
            return
        stage = Stage(postgres, redis, stack.enter_context(canned_server()))
        for turn in range(size.rounds):
            print(f"{SECTION}: round {turn + 1} of {size.rounds}", file=sys.stderr)
            for about, sample in stage.take_round(size.seconds * _LONGER, backwards=turn % 2 == 1):
                for name, (unit, value) in sample.items():
                    samples[f"{about}: {name}", unit].append(value)
        idle = stage.rest(min(RECOVER_EVERY, size.seconds * _WHOLE))
        for name, (unit, value) in idle.items():
            samples[f"{GATEWAYS:,} gateways: {name}", unit].append(value)
    for (name, unit), values in samples.items():
        yield Figure(section=SECTION, name=name, unit=unit, samples=tuple(values))


@frozen
class Stage:
    """The servers of all runs, and what is measured on them."""

    postgres: places.Postgres
    redis: places.Redis
    server: CannedServer

    def take_round(self, seconds: float, *, backwards: bool) -> Iterator[tuple[str, Sample]]:
        """Let each crew pay for so long; yield its name and what it came to."""
        whole = self._crew(APP_KEYS)
        crews = [
            ("memory, quota in process, 1 process", evolve(whole, store="memory://", quota=""), 1),
            ("memory, quota in Redis, 1 process", evolve(whole, store="memory://"), 1),
            ("PostgreSQL, quota in process, 1 process", evolve(whole, quota=""), 1),
            ("PostgreSQL, quota in Redis, 1 process", whole, 1),
            ("PostgreSQL, quota in Redis, 2 processes", whole, 2),
            ("Redis, quota in Redis, 1 process", evolve(whole, store=whole.quota), 1),
        ]
        for name, crew, processes in crews[:: -1 if backwards else 1]:
            fresh = evolve(crew, prefix=f"{crew.prefix}-{uuid.uuid4().hex}")
            yield name, self._pay(fresh, processes, seconds)

    def _crew(self, app_keys: int) -> Crew:
        return Crew(
            platform=self.server.url,
            store=self.postgres.url,
            quota=self.redis.url,
            prefix=self.redis.prefix,
            app_keys=app_keys,
        )

    def _pay(self, crew: Crew, processes: int, seconds: float) -> Sample:
        with contextlib.ExitStack() as stack:
            workers = [stack.enter_context(worker(pay, crew, seconds)) for _ in range(processes)]
            results, spent = self._watch(workers)
        paid = cast("list[Paid]", results)
        count = sum(each.payments for each in paid)
        used = {name: seconds for name, seconds in spent.cpu.items() if name in crew.ports}
        cpu = {"processes": sum(each.cpu for each in paid), **used}
        return {
            "rate": ("/s", sum(each.payments / each.passed for each in paid)),
            "p99": ("ms", max(each.p99 for each in paid) * 1000),
            **_shares(cpu, spent.passed),
            **{f"a payment, {name}": ("µs", each / count * 1e6) for name, each in cpu.items()},
            **{
                f"{what}, {name}": ("/s", count / spent.passed)
                for (what, name), count in spent.work.items()
                if name in crew.ports
            },
            **{
                f"kept for a payment, {name}": ("bytes", size / count)
                for name, size in spent.size.items()
                if name == crew.keeper
            },
        }

    def rest(self, seconds: float) -> Sample:
        """Let many gateways do nothing for so long."""
        with worker(rest, self._crew(GATEWAYS), seconds) as idle:
            [result], spent = self._watch([idle])
        rested = cast("Rested", result)
        return {
            "memory of each": ("KB", rested.memory),
            "until each has paid once": ("s", rested.opening),
            **{
                f"connections to {name}": ("open", float(count))
                for name, count in rested.connections.items()
            },
            **_shares({"the process, idle": rested.cpu, **spent.cpu}, spent.passed),
        }

    def _watch(self, workers: list[Worker]) -> tuple[list[Paid | Rested], _Spent]:
        """Let the workers go, and see what the servers spend until all are done."""
        for each in workers:
            each.meet()
        servers, platform = (self.postgres.use(), self.redis.use()), self.server.counters().cpu
        began = perf_counter()
        for each in workers:
            each.go()
        results = [each.result() for each in workers]
        passed = perf_counter() - began
        postgres, redis = self.postgres.use() - servers[0], self.redis.use() - servers[1]
        return results, _Spent(
            passed=passed,
            cpu={
                "PostgreSQL": postgres.cpu,
                "Redis": redis.cpu,
                "canned server": self.server.counters().cpu - platform,
            },
            work={
                ("transactions that wrote", "PostgreSQL"): postgres.work,
                ("scripts", "Redis"): redis.work,
            },
            size={"PostgreSQL": postgres.size, "Redis": redis.size},
        )


@frozen(kw_only=True)
class _Spent:
    """What the servers spent.

    Attributes:
        passed: seconds, in which they did so.
        cpu: seconds of a core, by server.
        work: what they did how often, by what it is and the server.
        size: bytes that they grew by, by server.
    """

    passed: float
    cpu: Mapping[str, float]
    work: Mapping[tuple[str, str], int]
    size: Mapping[str, int]


def _shares(cpu: Mapping[str, float], passed: float) -> Sample:
    """Return what of a core each of them needed."""
    return {f"busy, {name}": ("%", seconds / passed * 100) for name, seconds in cpu.items()}
