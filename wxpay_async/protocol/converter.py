"""The cattrs converter: what a field of the wire is in Python, and back.

A room of its own because cattrs is imported when the first request is written, not before.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from operator import itemgetter
from typing import Any, Final, TypeVar, cast, get_args, get_origin

import attrs
from cattrs import Converter
from cattrs.fns import identity
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from wxpay_async.protocol.assemble import assemble
from wxpay_async.protocol.results import LOCAL_PREFIX, Merchant, RoyaltyShare, TradeRef
from wxpay_async.protocol.strict_json import MAX_NUMBER, strict_json
from wxpay_async.protocol.validators import NOTHING, wire_name

T = TypeVar("T")

_AMOUNT: Final = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,4})?", re.ASCII)


def _structure_text(value: object, _: object) -> str:
    """Accept text, and the integers that a lenient platform might send for digits."""
    if type(value) is str or isinstance(value, str):  # nearly always the former, which is quick
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise ValueError("no text")


def _structure_optional_text(value: object, kind: object) -> str | None:
    if type(value) is str:
        return value or None
    return None if value is None else _structure_text(value, kind)


def _structure_amount(value: object, _: object) -> Decimal:
    """Accept an amount as text or as a JSON number, which `strict_json` read exactly."""
    # The digits decide, whatever they came as: 1E+999999999 is a Decimal too.
    digits = str(value) if isinstance(value, (Decimal, int)) else value
    if isinstance(digits, str) and _AMOUNT.fullmatch(digits):
        return Decimal(digits)
    raise ValueError("no amount")


def _structure_int(value: object, _: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= MAX_NUMBER:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError("no integer")


def _optional(structure: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Read null and the empty text as absent, as the platform does."""
    return lambda value, kind: None if value is None or value == "" else structure(value, kind)


def _rows(converter: Converter, row: type[T]) -> Callable[[Any, Any], tuple[T, ...]]:
    """Accept a list, or its JSON text: the page says the one and shows the other."""
    names = {name: wire_name(a) for name, a in attrs.fields_dict(_resolved(row)).items()}
    read = _make_structure_hook(converter, row, names)

    def structure(value: object, _: object) -> tuple[T, ...]:
        if value is None or value == "":
            return ()
        if isinstance(value, str):
            value = strict_json(value.encode())
        if not isinstance(value, list):
            raise ValueError("no list")  # noqa: TRY004 - the data is bad, not the call
        rows: list[T] = []
        for item in cast("list[object]", value):
            if not isinstance(item, dict):
                raise ValueError("a row that is no object")  # noqa: TRY004 - as above
            rows.append(read(item, row))
        return tuple(rows)

    return structure


def _has_extra(cls: type) -> bool:
    return attrs.has(cls) and "extra" in attrs.fields_dict(cls)


def _is_rows_of(row: type) -> Callable[[Any], bool]:
    return lambda kind: get_origin(kind) is tuple and get_args(kind) == (row, ...)


Reader = Callable[[Mapping[str, Any], Mapping[str, Any]], T]
"""Makes a value of the platform's fields, and of what only we know of it."""


def make_reader(converter: Converter, cls: type[T]) -> Reader[T]:
    """Make the function that reads a class from the platform's names.

    Nearly every answer has a text where the class has one. One look at all of them is then enough,
    and the function that cattrs makes is left for the others: it says what is wrong.
    """
    attributes = attrs.fields_dict(_resolved(cls))
    names = {n: wire_name(a) for n, a in attributes.items() if not a.metadata.get("local")}
    local = {n: LOCAL_PREFIX + n for n in attributes if n not in names}
    structure = _make_structure_hook(converter, cls, names | local)

    def read(fields: Mapping[str, Any], known: Mapping[str, Any]) -> T:
        ours = {local[name]: value for name, value in known.items() if name in local}
        return structure({**fields, **ours}, cls)

    texts = [
        n for n in names if attributes[n].type is str and attributes[n].default is attrs.NOTHING
    ]
    rest = [attributes[name] for name in attributes if name not in texts]
    checked = any(_is_checked(attribute) for attribute in attributes.values())
    needed = any(attribute.default is attrs.NOTHING for attribute in rest)
    if checked or needed or len(texts) < 2:  # noqa: PLR2004 - of one, `itemgetter` makes no tuple
        return read
    read_texts = itemgetter(*(names[name] for name in texts))
    others = [
        (wire, name, converter.get_structure_hook(attributes[name].type))
        for name, wire in names.items()
        if name not in texts
    ]
    defaults = {attribute.name: attribute.default for attribute in rest}
    check = getattr(cls, "__attrs_post_init__", None)

    def read_plain(fields: Mapping[str, Any], known: Mapping[str, Any]) -> T:
        try:
            values = read_texts(fields)
            "".join(values)
        except (KeyError, TypeError):  # one is missing, or no text
            return read(fields, known)
        members: dict[str, Any] = {**defaults, **known}
        members.update(zip(texts, values, strict=True))
        for wire, name, hook in others:
            if wire in fields:
                members[name] = hook(fields[wire], None)
        value = assemble(cls, members)
        if check is not None:
            check(value)
        return value

    return read_plain


def _resolved(cls: type) -> type[attrs.AttrsInstance]:
    return attrs.resolve_types(cast("type[attrs.AttrsInstance]", cls))


def _is_checked(attribute: Any) -> bool:  # noqa: ANN401 - whose converter attrs does not type
    return attribute.validator is not None or attribute.converter is not None


def _make_structure_hook(
    converter: Converter, cls: type[T], names: Mapping[str, str]
) -> Callable[[Any, Any], T]:
    overrides: dict[str, Any] = {
        name: override(rename=wire, struct_hook=_as_it_is if wire[0] == LOCAL_PREFIX else None)
        for name, wire in names.items()
    }
    return make_dict_structure_fn(cls, converter, **overrides)


def _as_it_is(value: object, _: object) -> object:
    return value


def _unstructure_request(converter: Converter, cls: type) -> Callable[[Any], dict[str, Any]]:
    overrides: dict[str, Any] = {
        attribute.name: override(
            rename=wire_name(attribute),
            omit=attribute.name == "extra" or bool(attribute.metadata.get("local")),
            omit_if_default=attribute.default is None or attribute.default == (),
        )
        for attribute in attrs.fields(cls)
    }
    unstructure: Callable[[Any], dict[str, Any]] = make_dict_unstructure_fn(
        cls, converter, **overrides
    )

    def with_extra(request: Any) -> dict[str, Any]:  # noqa: ANN401 - any of the request classes
        fields = unstructure(request)
        if request.extra is not NOTHING:
            fields.update(request.extra)
        return fields

    return with_extra


def make_converter() -> Converter:
    """Make the converter; it compiles a function for each class, so once is enough."""
    made = Converter(detailed_validation=False)
    made.register_unstructure_hook(Decimal, lambda amount: f"{amount:.2f}")
    made.register_unstructure_hook(int, str)
    made.register_unstructure_hook(str | None, identity)  # which the compiled function leaves out
    made.register_unstructure_hook_factory(
        _has_extra, functools.partial(_unstructure_request, made)
    )
    for kind, structure in (
        (str, _structure_text),
        (Decimal, _structure_amount),
        (int, _structure_int),
    ):
        made.register_structure_hook(kind, structure)
        made.register_structure_hook(kind | None, _optional(structure))
    made.register_structure_hook(str | None, _structure_optional_text)
    rows: tuple[type, ...] = (RoyaltyShare, TradeRef, Merchant)
    for row in rows:
        made.register_structure_hook_func(_is_rows_of(row), _rows(made, row))
    return made
