"""Make the tables of `docs/states.md` from the code: the steps, and the texts of a status.

`python -m tests.support.states_table` prints them, with `--zh` in Chinese.
"""

from __future__ import annotations

import sys
from typing import Final

from wxpay_async.policy.states import FINISHED, REVIEW, TRANSITIONS, State
from wxpay_async.protocol.results import TRADE_STATES, TradeState

_HEADS: Final = (
    "| state | kind | what can happen → the next state |",
    "| 状态 | 类别 | 可能发生的事 → 下一个状态 |",
)
_KINDS: Final = (
    ("open", "final", "waits for a person", "nothing is sent"),
    ("未了结", "终态", "需人工介入", "什么都没有发出"),
)


def make_table(language: int = 0) -> str:
    """Return a row for each state, with every step that leaves it."""
    lines = [_HEADS[language], "| --- | --- | --- |"]
    for state in State:
        steps = [
            f"`{event}` → {after.upper()}"
            for (before, event), after in TRANSITIONS.items()
            if before is state
        ]
        kind = _KINDS[language][_find_kind(state)]
        lines.append(f"| {state.upper()} | {kind} | {', '.join(steps) or '–'} |")
    return "\n".join(lines) + "\n"


def _find_kind(state: State) -> int:
    if state is State.RESERVED:
        return 3
    return 1 if state in FINISHED else 2 if state in REVIEW else 0


def make_status_table(language: int = 0) -> str:
    """Return a row for each state of an order, with the platform's texts that mean it."""
    lines = [
        ("| `state` | texts of the platform |", "| `state` | 平台的状态文字 |")[language],
        "| --- | --- |",
    ]
    for state in TradeState:
        texts = [f"`{text}`" for text, meant in TRADE_STATES.items() if meant is state]
        joined = (", ", "、")[language].join(texts)
        lines.append(f"| `{state}` | {joined or ('every other text', '其他任何文字')[language]} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    chosen = int("--zh" in sys.argv)
    sys.stdout.write(f"{make_table(chosen)}\n{make_status_table(chosen)}")
