"""Make values whose fields need no check."""

from __future__ import annotations

from typing import Any, Final, TypeVar

T = TypeVar("T")

_new: Final = object.__new__
_set: Final = object.__setattr__


def assemble(cls: type[T], values: dict[str, Any]) -> T:
    """Make a frozen value of all of its fields, in half the time that its `__init__` takes.

    What attrs writes for a frozen class sets one field after another. A payment needs six such
    values, which have neither converters nor validators and whose fields are there as a dictionary.

    Args:
        cls: an attrs class with `slots=False`, without converters and validators.
        values: every field; it becomes the value's own and must not be changed any more.
    """
    value = _new(cls)
    _set(value, "__dict__", values)
    return value
