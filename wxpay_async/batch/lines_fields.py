"""Make requests, and the objects within them, from the fields of a line.

Names are the platform's or ours (`refundAmount`, `refund_amount`). What a line may hold is read
from the classes of the requests, so there is no second list of fields that could differ.

An error repeats only short values and amounts: if columns are mixed up, a payToken may stand in any
field.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Collection, Container, Mapping, Set as AbstractSet
from decimal import Decimal
from typing import Any, Final, cast, get_args

import attrs
from attrs import frozen

from wxpay_async.batch.line import BatchRequest, OperationName
from wxpay_async.errors import InvalidRequestError
from wxpay_async.protocol.requests import (
    InstantTrade,
    MiniProgramPay,
    Refund,
    TradeQuery,
)
from wxpay_async.protocol.validators import wire_name

_REQUESTS: Final[Mapping[OperationName, type[BatchRequest]]] = {
    "pay": MiniProgramPay,
    "trade": InstantTrade,
    "refund": Refund,
    "query": TradeQuery,
}
_SHOWN_NAME: Final = 40
_SHOWN_VALUE: Final = 12
_AMOUNT_LIKE: Final = re.compile(r"[0-9.,eE+-]{1,16}", re.ASCII)


@frozen
class JsonNumber:
    """A number of a JSON line as it was written: `1e2` and `100` are not the same amount to us.

    Attributes:
        digits: its characters.
    """

    digits: str


Members = dict[str, Any]
"""Values by the names of a class's attributes."""


@frozen(slots=False)  # for the cached property
class Shape:
    """What an object of a line may hold.

    Attributes:
        cls: what is made of it.
        names: the attribute for each name, the platform's and ours.
        wire_names: the platform's name of each attribute, in the order of the class.
        required: the attributes without which none can be made.
        numbers: the attributes that may be JSON numbers.
        objects: the attributes that are objects themselves.
        lists: the attributes that are lists of objects.
    """

    cls: type[Any]
    names: Mapping[str, str]
    wire_names: Mapping[str, str]
    required: frozenset[str]
    numbers: frozenset[str]
    objects: Mapping[str, Shape]
    lists: Mapping[str, Shape]

    @functools.cached_property
    def plain(self) -> AbstractSet[str]:
        """The attributes that a cell of a table can hold."""
        return self.wire_names.keys() - self.objects.keys() - self.lists.keys()

    def allowed(self, only: Container[str] | None = None) -> str:
        """Return the platform's names of what it may hold, in words.

        Args:
            only: the attributes to name; all when absent.
        """
        wires = self.wire_names.items()
        return ", ".join(wire for name, wire in wires if only is None or name in only)

    def read_members(self, fields: Mapping[str, Any]) -> Members:
        """Turn the fields of a JSON object into the values of attributes.

        Raises:
            InvalidRequestError: a name is unknown or stands twice, or a value is of a wrong kind.
        """
        names = self.names
        try:
            members = {names[name]: value for name, value in fields.items()}
        except KeyError:
            raise self.refuse_names(fields) from None
        if len(members) != len(fields):
            raise self.refuse_names(fields)
        for name, value in tuple(members.items()):
            if type(value) is str and name not in self.objects and name not in self.lists:
                continue  # nearly all of them
            if value is None:
                del members[name]  # as if it were absent
            else:
                members[name] = self._read_value(name, value)
        return members

    def refuse_names(
        self, names: Collection[str], only: Container[str] | None = None
    ) -> InvalidRequestError:
        """Return the error for names of which one is unknown, or stands twice.

        If none is known, the error repeats none: they may be a person's data, not names.

        Args:
            names: what was written.
            only: the attributes to name as allowed; all when absent.
        """
        allowed = self.allowed(only)
        if not any(name in self.names for name in names):
            return InvalidRequestError("none of the names is known", allowed=allowed)
        unknown = next((name for name in names if name not in self.names), None)
        if unknown is not None:
            problem = f"{unknown[:_SHOWN_NAME]!r} is an unknown name"
            return InvalidRequestError(problem, allowed=allowed)
        attributes = Counter(self.names[name] for name in names)
        ((twice, _),) = attributes.most_common(1)
        written = dict.fromkeys(name for name in names if self.names[name] == twice)
        both = f" ({', '.join(written)})" if len(written) > 1 else ""
        return InvalidRequestError(
            f"stands twice{both}", field=self.wire_names[twice], allowed="once"
        )

    def construct(self, members: Members) -> Any:  # noqa: ANN401 - of `cls`
        """Make the object.

        Raises:
            InvalidRequestError: a field is missing, or does not hold what it may.
        """
        if not members.keys() >= self.required:
            name = next(n for n in self.wire_names if n in self.required and n not in members)
            raise InvalidRequestError(
                "missing", field=self.wire_names[name], allowed=self.allowed()
            )
        try:
            return self.cls(**members)
        except InvalidRequestError as error:
            refused = _hide_values(error, members)
        raise refused

    def _read_value(self, name: str, value: object) -> object:
        field = self.wire_names[name]
        if isinstance(value, JsonNumber) and name in self.numbers:
            return value.digits
        if name in self.objects and isinstance(value, dict):
            return _construct_at(field, self.objects[name], cast("object", value))
        if name in self.lists and isinstance(value, list):
            items = enumerate(cast("list[object]", value))
            return tuple(
                _construct_at(f"{field}[{index}]", self.lists[name], item) for index, item in items
            )
        raise InvalidRequestError(
            f"is {_KINDS.get(type(value), 'no text')}", field=field, allowed=self._kind_of(name)
        )

    def _kind_of(self, name: str) -> str:
        if name in self.objects:
            return "a JSON object"
        if name in self.lists:
            return "a list of JSON objects"
        return "a text in quotes or a number" if name in self.numbers else "a text in quotes"


_KINDS: Final[Mapping[type, str]] = {
    JsonNumber: "a number without quotes",
    bool: "true or false",
    dict: "an object",
    list: "a list",
    str: "a text",
}


def _construct_at(field: str, shape: Shape, value: object) -> object:
    if not isinstance(value, dict):
        raise InvalidRequestError(
            f"is {_KINDS.get(type(value), 'null')}", field=field, allowed="a JSON object"
        )
    try:
        return shape.construct(shape.read_members(cast("dict[str, Any]", value)))
    except InvalidRequestError as error:
        refused = error.called(f"{field}.{error.field}" if error.field else field)
    raise refused


def _hide_values(error: InvalidRequestError, members: Members) -> InvalidRequestError:
    """Return the error without the longer values that it shows."""
    for value in members.values():
        if (
            isinstance(value, str)
            and len(value) > _SHOWN_VALUE
            and not _AMOUNT_LIKE.fullmatch(value)
            and repr(value)[1 : 1 + _SHOWN_VALUE] in error.reason
        ):
            return InvalidRequestError("does not fit", field=error.field, allowed=error.allowed)
    return error


@functools.cache
def shape_of(operation: OperationName) -> Shape:
    """Return what a line of an operation may hold."""
    return _make_shape(_REQUESTS[operation])


def _make_shape(cls: type[attrs.AttrsInstance]) -> Shape:
    attributes = [a for a in attrs.fields(attrs.resolve_types(cls)) if a.name != "extra"]
    wire_names = {a.name: wire_name(a) for a in attributes}
    return Shape(
        cls=cls,
        names={wire: name for name, wire in wire_names.items()} | {n: n for n in wire_names},
        wire_names=wire_names,
        required=frozenset(a.name for a in attributes if a.default is attrs.NOTHING),
        numbers=frozenset(a.name for a in attributes if a.type in (Decimal, int)),
        objects={a.name: _make_shape(a.type) for a in attributes if attrs.has(a.type)},
        lists={a.name: _make_shape(row) for a in attributes if (row := _row_of(a.type))},
    )


def _row_of(kind: Any) -> type[attrs.AttrsInstance] | None:  # noqa: ANN401 - any annotation
    """Return the class of the rows where a type is a tuple of them."""
    row, *rest = (*get_args(kind), None)
    return row if rest[:1] == [...] and attrs.has(row) else None
