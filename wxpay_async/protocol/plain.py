"""Write requests and results as plain dictionaries under the platform's names, and read them.

Everything in such a dictionary is JSON: amounts are texts, rows are lists of dictionaries. What a
`repr` hides is `***` unless it is asked for, and is then refused when it is read.
"""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Hashable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Final, TypeVar, cast, get_args, get_origin

import attrs

from wxpay_async.errors import InvalidRequestError, WxPayError
from wxpay_async.protocol import secrets
from wxpay_async.protocol.validators import wire_name

T = TypeVar("T")

HIDDEN: Final = "***"
"""What stands in the place of a credential."""

EXTRA: Final = "extra"
"""The attribute of a request that has the fields which the page does not know."""

_HIDING: Final = (secrets.mask, secrets.hide, False)
_AMOUNT: Final = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,4})?", re.ASCII)


@attrs.frozen(kw_only=True)
class Field:
    """A field of a request or a result.

    Attributes:
        name: the attribute's.
        source: the attribute, or the property, that has what is written.
        kind: its type, without None.
        row: the type of each row, where it is a list of rows; else None.
        required: whether it must be there.
        hidden: whether it is a credential, or names a person.
        checked: whether the class itself converts or checks its value.
    """

    name: str
    source: str
    kind: Any
    row: type[Any] | None
    required: bool
    hidden: bool
    checked: bool


def list_fields(cls: type) -> Mapping[str, Field]:
    """Return the fields of a class by the platform's names, without `extra`."""
    return _list_fields(cast("Hashable", cls))


@functools.cache
def _list_fields(cls: Hashable) -> Mapping[str, Field]:
    resolved = attrs.resolve_types(cast("type[attrs.AttrsInstance]", cls))
    return {
        attribute.metadata.get("plain") or wire_name(attribute): _make_field(attribute)
        for attribute in attrs.fields(resolved)
        if attribute.name != EXTRA
        and (attribute.metadata.get("plain") or not attribute.metadata.get("local"))
    }


def _make_field(attribute: Any) -> Field:  # noqa: ANN401 - whose converter attrs does not type
    kinds = [kind for kind in get_args(attribute.type) if kind is not type(None)]
    is_rows = get_origin(attribute.type) is tuple
    is_optional = len(kinds) == 1 and not is_rows
    return Field(
        name=attribute.name,
        source=attribute.metadata.get("property") or attribute.name,
        kind=kinds[0] if is_optional else attribute.type,
        row=kinds[0] if is_rows else None,
        required=attribute.default is attrs.NOTHING,
        hidden=attribute.repr in _HIDING and "property" not in attribute.metadata,
        checked=attribute.converter is not None or attribute.validator is not None,
    )


def write(value: object, *, with_secrets: bool) -> dict[str, Any]:
    """Return a value as a dictionary, without the fields that have no value."""
    written: dict[str, Any] = {}
    for name, each in list_fields(type(value)).items():
        member = getattr(value, each.source)
        if member is not None and member != ():
            hide = each.hidden and not with_secrets
            written[name] = HIDDEN if hide else _write_member(member, with_secrets=with_secrets)
    extra = cast("Mapping[str, object]", getattr(value, EXTRA, {}))
    for name, member in extra.items():  # any of these values may be a secret
        written[name] = copy.deepcopy(member) if with_secrets else HIDDEN
    return written


def _write_member(member: object, *, with_secrets: bool) -> Any:  # noqa: ANN401 - JSON
    if isinstance(member, tuple):
        rows = cast("tuple[object, ...]", member)
        return [_write_member(row, with_secrets=with_secrets) for row in rows]
    if isinstance(member, Decimal):
        return f"{member:f}"
    if isinstance(member, Enum | datetime):
        return member.value if isinstance(member, Enum) else member.isoformat()
    return write(member, with_secrets=with_secrets) if attrs.has(type(member)) else member


def read(cls: type[T], data: object, *, with_extra: bool = False) -> T:
    """Make a value of a dictionary, as `write` makes it.

    Args:
        cls: a class of requests or results.
        data: the fields by the platform's names; None stands for no value.
        with_extra: take names that the class does not know as `extra`.

    Raises:
        InvalidRequestError: a field is missing, unknown, hidden, or not what the class takes. It
            names the field, as `tradeInfo[0].price`.
    """
    try:
        return _read(cls, data, with_extra=with_extra)
    except InvalidRequestError as error:
        failure = error.with_traceback(None)
    finally:
        del data
    # Raised out here: the frames below hold credentials.
    raise failure


def _read(cls: type[T], data: object, *, with_extra: bool) -> T:
    if isinstance(data, cls):
        return data
    if not isinstance(data, Mapping):
        kind = type(data).__name__
        raise InvalidRequestError(f"a {cls.__name__} is an object of fields, not {kind}")
    members = cast("Mapping[str, object]", data)
    fields = list_fields(cls)
    values = {
        fields[name].name: _read_member(name, fields[name], member, with_extra=with_extra)
        for name, member in members.items()
        if name in fields and member is not None
    }
    for name, each in fields.items():
        if each.required and each.name not in values:
            raise InvalidRequestError("missing", field=name, allowed="a value")
    unknown = {name: member for name, member in members.items() if name not in fields}
    if unknown and EXTRA in attrs.fields_dict(cast("type[attrs.AttrsInstance]", cls)):
        values[EXTRA] = _check_extra(unknown, with_extra=with_extra)
    return _make(cls, values)


def _check_extra(unknown: Mapping[str, object], *, with_extra: bool) -> Mapping[str, object]:
    for name, member in unknown.items():
        _check_shown(name, member)
        if not with_extra:
            raise InvalidRequestError(
                "not a field of the page", field=f"{name!s:.64}", allowed="the page's fields"
            )
    return unknown


def _check_shown(name: str, member: object) -> None:
    if member == HIDDEN:
        raise InvalidRequestError(
            "hidden", field=name, allowed="its value, which to_dict(secrets=True) shows"
        )


def _make(cls: type[T], values: dict[str, Any]) -> T:
    try:
        return cls(**values)
    except InvalidRequestError:
        raise
    except TypeError as error:  # of our own checks, which begin with the field's name
        field, _, problem = str(error).partition(": ")
    except WxPayError as error:  # what no answer of the platform may be
        field, problem = "", error.reason
    raise InvalidRequestError(problem, field=field)  # out here, where no cause shows the values


def _read_member(name: str, field: Field, member: object, *, with_extra: bool) -> object:
    _check_shown(name, member)
    if field.row is not None:
        if not isinstance(member, list | tuple):
            raise InvalidRequestError("no list", field=name, allowed="a list of objects")
        rows = cast("Sequence[object]", member)
        return tuple(
            _read_part(f"{name}[{position}]", field.row, row, with_extra=with_extra)
            for position, row in enumerate(rows)
        )
    if attrs.has(field.kind):
        return _read_part(name, field.kind, member, with_extra=with_extra)
    return member if field.checked else _read_plain(name, field.kind, member)


def _read_part(name: str, cls: type[T], data: object, *, with_extra: bool) -> T:
    try:
        return _read(cls, data, with_extra=with_extra)
    except InvalidRequestError as error:
        failure = error.called(f"{name}.{error.field}" if error.field else name)
    raise failure


def _read_plain(name: str, kind: type[Any], member: object) -> object:
    """Read a field of a result, whose class checks nothing: the platform has made it."""
    try:
        return _convert(kind, member)
    except (TypeError, ValueError):  # a cause would repeat the value
        allowed = _ALLOWED.get(kind) or _list_values(kind)
    raise InvalidRequestError(
        f"{type(member).__name__} that does not fit", field=name, allowed=allowed
    )


def _convert(kind: type[Any], member: object) -> object:
    if kind is Decimal:
        digits = str(member) if isinstance(member, Decimal | int) else member
        if isinstance(digits, str) and _AMOUNT.fullmatch(digits):
            return Decimal(digits)
        raise ValueError("no amount")
    if kind is datetime:
        return (
            member if isinstance(member, datetime) else datetime.fromisoformat(cast("str", member))
        )
    if kind is str and not isinstance(member, str):
        raise ValueError("no text")
    return kind(member)


def _list_values(kind: type[Enum]) -> str:
    return ", ".join(str(each.value) for each in kind)


_ALLOWED: Final = {
    str: "a text",
    Decimal: "an amount as a text, as 12.34",
    datetime: "a moment as 2026-01-31T12:00:00+00:00",
}
