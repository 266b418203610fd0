"""Compares what the merchants heard and kept with what the platform did.

What must hold, for every requestId of a trade or a refund:

- double: a purchase is ordered once and given back once;
- lost: what was executed is SUCCEEDED in the store;
- phantom: what is SUCCEEDED was executed;
- open: nothing is left in doubt after recovery, and nothing needs a person, but for one case:
  a refund whose first answer was that its requestId is repeated, which only a network that answers
  with the second of two copies can bring about. Nothing echoes which order a refund went back to,
  so no query may settle it (`for_a_person`);
- refused: what was ever called refused was not executed, and what was last called unsent neither;
- unsent: what was called unsent was not executed by then. With several processes: not by the time
  when the call began, since another may have executed it in between;
- ok: what was ever called ok was executed, and what was once called ok is ok for good.

A `pay` gives a credential and moves nothing, so its truth is the charge: an order is charged once
at most, and exactly when the merchant believes it paid.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Final

from attrs import define, field

from tests.chaos.jobs import Job
from tests.chaos.outage import DEAD_STORE
from wxpay_async.sandbox.state import LedgerEntry

_SETTLED: Final = frozenset(
    {None, "reserved", "succeeded", "rejected", "failed", "not_executed", "reissued"}
)
_UNRESOLVED: Final = frozenset({"unknown", "needs_review"})
_REPEATED: Final = "DuplicateRequestError"
_BY_SECRET: Final = "SignatureRefusedError"
_BY_SECRET_CODE: Final = "CO_MSG_000006"
_SHOWN: Final = 8
Line = Mapping[str, object]


@define(eq=False, kw_only=True)
class Accounts:
    """Both sides' books of one run.

    Attributes:
        purchases: what was to be bought.
        history: what the merchants heard.
        states: where each operation stands in the store, by requestId.
        ledger: what the platform executed.
        second_answers: of two copies the second one's answer goes back.
        executed_at: when each requestId was executed, in seconds since the epoch.
        shared: several processes make the same purchases.
    """

    purchases: Sequence[Job]
    history: Sequence[Line]
    states: Mapping[str, str | None]
    ledger: Sequence[LedgerEntry]
    second_answers: bool = False
    executed_at: Mapping[str, float] = field(factory=dict)
    shared: bool = False
    figures: dict[str, int] = field(factory=dict, init=False)
    problems: dict[str, list[str]] = field(factory=dict, init=False)

    def compare(self) -> None:
        """Fill in the figures and the problems."""
        executed = Counter(e.request_id for e in self.ledger if e.kind in {"trade", "refund"})
        moving = [
            name
            for job in self.purchases
            for operation, name in job.request_ids.items()
            if operation in {"trade", "refund"}
        ]
        self._count(moving, executed)
        self._check_states(moving, executed)
        self._check_words(executed)
        self._check_doubles()
        self._check_charges()

    def _count(self, moving: Iterable[str], executed: Counter[str]) -> None:
        invoked = {line["id"] for line in self.history if line["what"] == "invoke"}
        self.figures |= {
            "payments": len(self.purchases),
            "operations": len(invoked),
            "calls": sum(line["what"] == "invoke" for line in self.history),
            "in_doubt_meanwhile": sum(line["what"] == "doubt" for line in self.history),
            "store_dead": sum(DEAD_STORE in str(line.get("why", "")) for line in self.history),
            "store_dead_after_doubt": self._count_dead_after_doubt(),
            "refused_by_secret": sum(
                line.get("error") == _BY_SECRET or _BY_SECRET_CODE in str(line.get("why", ""))
                for line in self.history
            ),
            "executed": sum(executed.values()),
            "succeeded": sum(self.states.get(name) == "succeeded" for name in moving),
            "not_executed": sum(self.states.get(name) == "not_executed" for name in moving),
            "rejected": sum(self.states.get(name) == "rejected" for name in moving),
            "charged": sum(entry.kind == "charge" for entry in self.ledger),
        }

    def _count_dead_after_doubt(self) -> int:
        """Count the calls of what was in doubt already that met a dead store."""
        doubted: set[object] = set()
        asked: set[object] = set()
        met = 0
        for line in self.history:
            name = line["id"]
            if line["what"] == "invoke" and name in doubted:
                asked.add(name)
            if line["what"] != "doubt":
                continue
            met += name in asked and DEAD_STORE in str(line.get("why", ""))
            asked.discard(name)
            doubted.add(name)
        return met

    def _check_states(self, moving: Iterable[str], executed: Counter[str]) -> None:
        succeeded = {name for name in moving if self.states.get(name) == "succeeded"}
        told = self._for_a_person()
        self.figures["for_a_person"] = len(told)
        self._found("lost", (name for name in executed if name not in succeeded | told))
        self._found("phantom", (name for name in succeeded if not executed[name]))
        left = {name: state for name, state in self.states.items() if state not in _SETTLED}
        self._found("open", (f"{name} {state}" for name, state in left.items() if name not in told))

    def _for_a_person(self) -> set[str]:
        first: dict[object, object] = {}
        for line in self.history:
            if line["op"] == "refund" and line["what"] == "doubt":
                first.setdefault(line["id"], line.get("error"))
        repeated = {str(name) for name, error in first.items() if error == _REPEATED}
        open_still = {name for name, state in self.states.items() if state in _UNRESOLVED}
        return repeated & open_still if self.second_answers else set()

    def _check_words(self, executed: Counter[str]) -> None:
        said = [line for line in self.history if line["op"] in {"trade", "refund"}]
        last = {line["id"]: line["what"] for line in said}
        oks = {line["id"] for line in said if line["what"] == "ok"}
        noes = {line["id"]: line.get("why", "") for line in said if line["what"] == "refused"}
        self._found("ok_but_not_executed", (name for name in oks if not executed[name]))
        wrong = (f"{name}: {why}" for name, why in noes.items() if executed[name])
        self._found("refused_but_executed", wrong)
        unsent = {name for name, what in last.items() if what == "unsent" and executed[name]}
        self._found("unsent_but_executed", [*unsent, *self._said_unsent_too_late()])
        # What a store that is dead for a moment cannot tell is not taken back.
        heard = [line for line in said if DEAD_STORE not in str(line.get("why", ""))]
        last = {line["id"]: line for line in heard if line["what"] != "invoke"}
        lines = ((name, last[name]) for name in oks)
        self._found(
            "taken_back",
            (f"{name} {line.get('why')}" for name, line in lines if line["what"] != "ok"),
        )

    def _said_unsent_too_late(self) -> Iterable[str]:
        began: dict[object, float] = {}
        for line in self.history if self.executed_at else ():
            call = (line["worker"], line["life"], line["id"])
            if line["what"] == "invoke":
                began[call] = line["at"]
            since = began.get(call, 0.0) if self.shared else line["at"]
            # A prepay that could not be issued anew was not executed; the one before it may be.
            spoken_of = line.get("of") or line["id"]
            if line["what"] == "unsent" and self.executed_at.get(spoken_of, since) < since:
                yield f"{line['id']}: {line['op']} {line.get('why')}"

    def _check_doubles(self) -> None:
        kinds = ("trade", "refund", "charge")
        # A merchant that invents a new requestId invents a new number, too: number.1, number.2.
        times = Counter(
            (entry.kind, number.partition(".")[0])
            for entry in self.ledger
            if entry.kind in kinds
            for number in entry.out_trade_nos
        )
        doubles = (f"{kind} {number} × {n}" for (kind, number), n in times.items() if n > 1)
        self._found("double", doubles)

    def _check_charges(self) -> None:
        charged = {e.out_trade_nos[0]: e.amount for e in self.ledger if e.kind == "charge"}
        orders = [line for line in self.history if line["op"] == "order"]
        believed = {line["id"]: line["what"] for line in orders if line["what"] != "confirm"}
        wrong = [n for n, what in believed.items() if (what == "paid") != (n in charged)]
        wrong += [number for number in charged if number not in believed]
        self._found("misbelieved", wrong)
        amounts = {job.number: job.amount for job in self.purchases}
        off = (n for n, amount in charged.items() if amounts.get(n) != amount)
        self._found("wrong_amount", [*off, *self._wrong_refunds()])

    def _wrong_refunds(self) -> Iterable[str]:
        wanted = {job.refund_number: job.refunded for job in self.purchases}
        sums: dict[str, Decimal] = {}
        for entry in self.ledger:
            if entry.kind == "refund":
                number = entry.out_trade_nos[0].partition(".")[0]
                sums[number] = sums.get(number, Decimal(0)) + entry.amount
        return (number for number, total in sums.items() if wanted.get(number) != total)

    def _found(self, name: str, cases: Iterable[str]) -> None:
        found = list(cases)
        self.figures[name] = len(found)
        if found:
            self.problems[name] = found

    def show(self) -> str:
        """Return the figures on one line, and up to eight cases of each problem."""
        lines = ["  ".join(f"{name} {number}" for name, number in self.figures.items())]
        for name, cases in self.problems.items():
            lines += [f"  {name}: {case}" for case in cases[:_SHOWN]]
        return "\n".join(lines)
