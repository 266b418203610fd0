"""Gather what the page of faults shows: the ordered ones, the kinds to order, magic values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from attrs import frozen

from wxpay_async.sandbox.console.fault_texts import FAULT_TEXTS
from wxpay_async.sandbox.console.texts import LANGUAGES, Language
from wxpay_async.sandbox.fault_input import describe_fault, list_fields
from wxpay_async.sandbox.fault_kinds import (
    OPERATIONS,
    FaultKind,
    Forgery,
    RateLimit,
    Says,
)
from wxpay_async.sandbox.fault_queue import Faults
from wxpay_async.sandbox.faults import Fault
from wxpay_async.sandbox.magic import MAGIC_VALUES

_CHOICES: Final[Mapping[str, Sequence[str]]] = {
    "operation": ("", *OPERATIONS),
    "executed": ("true", "false"),
    "variant": tuple(RateLimit),
    "says": tuple(Says),
    "forgery": tuple(Forgery),
}


@frozen(kw_only=True)
class OrderedView:
    """A fault that is ordered."""

    number: int
    kind: str
    text: str
    fields: str
    seen: int
    happened: int


@frozen(kw_only=True)
class FieldView:
    """A field of a kind: its choices if it has some, else a text to write."""

    name: str
    value: str
    choices: Sequence[str]


@frozen(kw_only=True)
class KindView:
    """A kind of fault that can be ordered."""

    kind: str
    text: str
    fields: Sequence[FieldView]


@frozen(kw_only=True)
class MagicView:
    """A magic value."""

    openid: str
    amount: str
    text: str


@frozen(kw_only=True)
class FaultsView:
    """What the page shows."""

    seed: int
    ordered: Sequence[OrderedView]
    kinds: Sequence[KindView]
    magic: Sequence[MagicView]


def build_faults(faults: Faults, language: Language, *, magic: bool) -> FaultsView:
    """Return what the page of faults shows.

    Args:
        faults: of the sandbox.
        language: of the page.
        magic: whether magic values act.
    """
    index = LANGUAGES.index(language)
    return FaultsView(
        seed=faults.seed,
        ordered=[
            OrderedView(
                number=each.number,
                kind=each.fault.kind,
                text=FAULT_TEXTS[each.fault.kind][index],
                fields=_write_fields(each.fault),
                seen=each.seen,
                happened=each.happened,
            )
            for each in faults.list_ordered()
        ],
        kinds=[
            KindView(kind=kind, text=FAULT_TEXTS[kind][index], fields=_list_fields(kind))
            for kind in FaultKind
        ],
        magic=[
            MagicView(openid=each.openid, amount=str(each.amount), text=each.text[index])
            for each in MAGIC_VALUES
            if magic
        ],
    )


def _write_fields(fault: Fault) -> str:
    described = describe_fault(fault)
    return ", ".join(f"{name}={value}" for name, value in described.items() if name != "kind")


def _list_fields(kind: FaultKind) -> list[FieldView]:
    plain = describe_fault(getattr(Fault, kind)())
    return [
        FieldView(name=name, value=_write_value(plain.get(name)), choices=_CHOICES.get(name, ()))
        for name in list_fields(kind)
    ]


def _write_value(value: object) -> str:
    """Return a value as a form sends it; empty for what need not be sent."""
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)
