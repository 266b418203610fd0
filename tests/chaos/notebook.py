"""What a merchant's process writes down as it goes, so that a `kill -9` loses at most half a line.

The history holds a line before each call and one after it:

    {"at": 1.5, "worker": 0, "life": 3, "op": "refund", "id": "...", "what": "invoke"}

`what` is `invoke`, then one of

- `ok`: executed;
- `refused`: not executed, and never will be;
- `unsent`: not executed so far; it may be tried again;
- `doubt`: nobody knows;

and for an order, whose `op` is `order` and whose `id` is its number, `confirm`, `paid`, `unpaid`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from attrs import define, field

from wxpay_async import ConfigurationRefusedError, WxPayError
from wxpay_async.engine.streaming import Outcome


@define(eq=False, kw_only=True)
class Notebook:
    """The pages of one process.

    Attributes:
        folder: where all workers write.
        worker: whose pages these are.
        life: how often the worker was started before.
    """

    folder: Path
    worker: int
    life: int
    _history: int = field(init=False)
    _finished: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._history = os.open(self.folder / f"history-{self.worker}.jsonl", flags)
        self._finished = os.open(self.folder / f"finished-{self.worker}", flags)

    def note(self, operation: str, name: str, what: str, **more: object) -> None:
        """Write a line of history."""
        line = {"at": time.time(), "worker": self.worker, "life": self.life}
        line |= {"op": operation, "id": name, "what": what, **more}
        os.write(self._history, json.dumps(line).encode() + b"\n")

    def finish(self, index: int) -> None:
        """Write down that nothing is left to do for a purchase."""
        os.write(self._finished, b"%d\n" % index)


def verdict(outcome: Outcome[object, object]) -> str:
    """Return what a call's outcome says, in the words of the history."""
    if outcome.kind == "refused":
        # A refusal that passes (quota, clock, configuration): the same request may go again.
        error = outcome.error
        passing = error.retryable or isinstance(error, ConfigurationRefusedError)
        return "unsent" if passing else "refused"
    return {"ok": "ok", "not_sent": "unsent", "in_doubt": "doubt"}[outcome.kind]


def reason(error: WxPayError | None) -> dict[str, object]:
    """Return what is worth knowing of an error; `of` is the request that it speaks of."""
    if error is None:
        return {}
    return {"error": type(error).__name__, "why": str(error)[:160], "of": error.request_id}


def read_history(folder: Path) -> list[dict[str, object]]:
    """Return all lines of all workers, in the order of time."""
    lines = [line for path in folder.glob("history-*.jsonl") for line in _lines(path)]
    return sorted(lines, key=lambda line: line["at"])


def read_finished(folder: Path) -> set[int]:
    """Return the purchases that some worker has finished."""
    return {line for path in folder.glob("finished-*") for line in _lines(path)}


def _lines(path: Path) -> Iterator[object]:
    for line in path.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):  # else the process died while it wrote
            yield json.loads(line)
