"""Read faults from files and forms, and write them for people and programs. No I/O.

A fault has the same fields everywhere: `kind`, and the arguments of the method of that name. What
is wrong is refused with the field and what it may hold.
"""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from attrs import frozen

from wxpay_async.errors import InvalidRequestError
from wxpay_async.sandbox.fault_kinds import FaultKind, Place, find_place
from wxpay_async.sandbox.fault_queue import OrderedFault
from wxpay_async.sandbox.faults import WHOLE_NUMBERS, Fault, When

_NUMBERS: Final = ("seconds", "chance")
_FLAGS: Final[Mapping[str, bool]] = {"true": True, "1": True, "false": False, "0": False}
_WHEN: Final = tuple(When.__annotations__)
_MAX_FAULTS: Final = 1_000


@frozen(kw_only=True)
class FaultFile:
    """What a fault file orders.

    Attributes:
        seed: what chance is drawn from.
        faults: the faults, in their order.
    """

    seed: int = 0
    faults: Sequence[Fault] = ()


def list_fields(kind: FaultKind) -> tuple[str, ...]:
    """Return the fields of a kind of fault, without `kind`; its own come first."""
    signature = inspect.signature(getattr(Fault, kind))
    own = (p.name for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY)
    skipped = {"operation"} if find_place(kind) is Place.CALLBACK else set[str]()
    return (*own, *(name for name in _WHEN if name not in skipped))


def make_fault(fields: Mapping[str, object]) -> Fault:
    """Make a fault of its fields.

    Raises:
        InvalidRequestError: the kind is unknown, a field is not one of its kind, or holds what it
            must not.
    """
    kind = fields.get("kind", "")
    if kind not in list(FaultKind):
        raise InvalidRequestError(f"{kind!r}", field="kind", allowed=", ".join(FaultKind))
    found = FaultKind(cast("str", kind))
    allowed = list_fields(found)
    others = {name: value for name, value in fields.items() if name != "kind"}
    for name in others:
        if name not in allowed:
            raise InvalidRequestError(f"not of {found}", field=name, allowed=", ".join(allowed))
    made: Fault = getattr(Fault, found)(**others)
    return made


def read_fault_form(params: Mapping[str, str]) -> Fault:
    """Make a fault of the fields of a form; empty ones are left out. Raises as `make_fault`."""
    return make_fault({name: _read_text(name, text) for name, text in params.items() if text})


def read_fault_file(text: str) -> FaultFile:
    """Read a fault file: TOML with `seed` and tables `[[fault]]`.

    Raises:
        InvalidRequestError: it is no TOML, or something in it is wrong.
    """
    try:
        content: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidRequestError(f"no TOML: {error}", allowed="seed and [[fault]]") from error
    for name in content:
        if name not in {"seed", "fault"}:
            raise InvalidRequestError("unknown", field=name, allowed="seed, fault")
    seed, tables = content.get("seed", 0), content.get("fault", [])
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise InvalidRequestError(f"{seed!r}", field="seed", allowed="a whole number")
    if not isinstance(tables, list) or not all(
        isinstance(table, dict) for table in cast("list[object]", tables)
    ):
        raise InvalidRequestError("not a list of tables", field="fault", allowed="[[fault]]")
    rows = cast("list[dict[str, object]]", tables)
    if len(rows) > _MAX_FAULTS:
        raise InvalidRequestError("too many", field="fault", allowed=f"{_MAX_FAULTS} at most")
    faults = [_make_numbered(number, row) for number, row in enumerate(rows, 1)]
    return FaultFile(seed=seed, faults=faults)


def read_number(text: str) -> int | None:
    """Return the number of a fault; None for all of them.

    Raises:
        InvalidRequestError: this is no number.
    """
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):  # noqa: PLR2004 - enough
        raise InvalidRequestError(f"{text!r}", field="number", allowed="the number of a fault")
    return int(text)


def describe_fault(fault: Fault) -> dict[str, object]:
    """Return the fields of a fault that say something, under their names."""
    plain = cast("Fault", getattr(Fault, fault.kind)())
    found: dict[str, object] = {"kind": str(fault.kind)}
    for name in list_fields(fault.kind):
        value = getattr(fault, name)
        if name == "times" and value is None:
            continue  # `every` says it: it has no end of its own
        own = name not in _WHEN
        endless = name == "every" and fault.times != plain.times and fault.times is None
        if own or endless or value != getattr(plain, name):
            found[name] = str(value) if isinstance(value, str) else value
    return found


def describe_ordered(ordered: OrderedFault) -> dict[str, object]:
    """Return an ordered fault for a program: its number, its fields and what it met."""
    return {
        "number": ordered.number,
        **describe_fault(ordered.fault),
        "seen": ordered.seen,
        "happened": ordered.happened,
    }


def _make_numbered(number: int, fields: Mapping[str, object]) -> Fault:
    try:
        return make_fault(fields)
    except InvalidRequestError as error:
        raise error.called(f"fault {number}, {error.field}") from error


def _read_text(name: str, text: str) -> object:
    try:
        if name in WHOLE_NUMBERS:
            return int(text)
        if name in _NUMBERS:
            return float(text)
    except ValueError:
        return text  # the field's own check refuses it
    if name == "executed":
        return _FLAGS.get(text.lower(), text)
    return text
