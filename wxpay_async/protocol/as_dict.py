"""Conversion of requests and results for JSON, pydantic and FastAPI."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Self

from wxpay_async.protocol.plain import read, write


class AsDict:
    """Has a dictionary under the platform's names; the values in it are JSON.

    In a model of pydantic, and in a route of FastAPI, it is read by `from_dict` and written by
    `to_dict`. Credentials stay hidden there, too, unless the context of the dump says otherwise:
    `model_dump(context={"secrets": True})`.
    """

    __slots__ = ()

    def to_dict(self, *, secrets: bool = False) -> dict[str, Any]:
        """Return the fields by the platform's names, without those that have no value.

        Amounts are texts. Of a result it has neither `raw`, `attempts` nor `replayed`.

        Args:
            secrets: show what a `repr` hides: credentials, openids, and the values of `extra`.
                Otherwise `***` stands there.
        """
        return write(self, with_secrets=secrets)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, extra: bool = False) -> Self:
        """Make one of its fields by the platform's names; None stands for no value.

        Args:
            data: what `to_dict(secrets=True)` returned, or what came in as JSON.
            extra: take further names of a request as its `extra`. Otherwise they are refused, since
                they would be sent. Results ignore them.

        Raises:
            InvalidRequestError: a field is missing, hidden, unknown, or not what it may be.
        """
        try:
            return read(cls, data, with_extra=extra)
        finally:
            del data  # a traceback with locals must not show it

    def keys(self) -> Collection[str]:
        """Return the names in `to_dict()`, so that `dict(value)` is the same.

        FastAPI makes a dictionary of what a route returns whose type it does not know. Without this
        it would take all attributes, credentials included.
        """
        return self.to_dict().keys()

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - JSON
        return self.to_dict()[name]

    __iter__ = None
    """It is no sequence, though it has `__getitem__`."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> Any:  # noqa: ANN401 - pydantic's
        del source, handler
        from wxpay_async.protocol.pydantic import make_core_schema  # noqa: PLC0415 - optional

        return make_core_schema(cls)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: object, handler: object) -> dict[str, Any]:
        del schema, handler
        from wxpay_async.protocol.pydantic import make_json_schema  # noqa: PLC0415 - optional

        return make_json_schema(cls)
