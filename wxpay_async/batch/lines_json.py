"""Read JSON Lines: an object a line, which every reader understands alike."""

from __future__ import annotations

import json
from typing import Any, Final, cast

from wxpay_async.batch.lines_fields import JsonNumber, Members, Shape
from wxpay_async.errors import InvalidRequestError

_OBJECT: Final = "one JSON object on each line"


def read_json(text: str, shape: Shape) -> Members:
    """Read the values of a line.

    Numbers keep their characters (`JsonNumber`), so no amount is rounded on its way.

    Raises:
        InvalidRequestError: it is no JSON object of this shape, and why. The text repeats nothing
            of the line but names that it may hold.
    """
    try:
        fields: object = _DECODER.decode(text)
    except RecursionError:
        problem = "nested too deep"
    except json.JSONDecodeError as error:
        problem = f"no JSON ({error.msg}, character {error.pos + 1})"
    except _AmbiguousError as error:
        if error.name in shape.names:
            problem = f"{error.name} stands twice in one JSON object"
        else:
            problem = "a name stands twice in one JSON object"
    except _NotFiniteError:
        problem = "NaN and Infinity are no JSON numbers"
    else:
        if isinstance(fields, dict):
            return shape.read_members(cast("dict[str, Any]", fields))
        problem = "a JSON list" if isinstance(fields, list) else "no JSON object"
    raise InvalidRequestError(problem, allowed=_OBJECT)


class _AmbiguousError(Exception):
    """Two readers would understand the line differently.

    Attributes:
        name: what stands twice.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


class _NotFiniteError(Exception):
    """NaN or Infinity, which Python's reader would accept."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        raise _AmbiguousError(next(name for name in names if names.count(name) > 1))
    return members


def _refuse_constant(name: str) -> Any:  # noqa: ANN401 - json's own signature
    raise _NotFiniteError(name)


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_constant=_refuse_constant,
    parse_float=JsonNumber,
    parse_int=JsonNumber,
)
