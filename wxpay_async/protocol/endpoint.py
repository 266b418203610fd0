"""Check a call of an endpoint that the SDK has no method for: its path, and its parameters."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Final, cast

from wxpay_async.errors import InvalidRequestError
from wxpay_async.protocol.builder import OPERATIONS, Operation
from wxpay_async.protocol.validators import Json, freeze_json

Parameters = Mapping[str, str | Mapping[str, Json] | Sequence[Json]]
"""The parameters of a call: texts, and JSON."""

CALL: Final = "call"
"""How events call it."""

_PATH: Final = re.compile(r"(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~-]+)+", re.ASCII)
_PATHS: Final = "a path as /api/company/merchants: no host, no query, no / at the end"
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_OWN: Final = frozenset({"appKey", "nonce", "timestamp", "sign", "signType"})
_METHODS: Final = {operation.path.lower(): operation.name for operation in OPERATIONS.values()}


def make_endpoint(path: str, *, retry_safe: bool) -> Operation:
    """Return the operation of an endpoint by its path.

    Args:
        path: of the endpoint; where the base URL has a path, it comes before this one.
        retry_safe: whether a second execution does no harm. Otherwise a refusal without a
            documented code leaves the call in doubt.

    Raises:
        InvalidRequestError: it is no path; or a method of the gateway calls it, and remembers the
            requestId, which this does not.
    """
    if not isinstance(cast("object", path), str) or not _PATH.fullmatch(path):
        raise InvalidRequestError("not the path of an endpoint", field="path", allowed=_PATHS)
    method = _METHODS.get(path.lower())
    if method is not None:
        raise InvalidRequestError(
            f"PayGateway.{method} calls it, and never executes it twice",
            field="path",
            allowed="an endpoint without a requestId",
        )
    return Operation(CALL, path, moves_money=not retry_safe)


def write_parameters(params: Parameters) -> dict[str, str]:
    """Return the parameters as texts; a mapping or a list becomes its JSON.

    Raises:
        InvalidRequestError: a name is none, or is one that the SDK fills in; or JSON holds what two
            readers could understand differently.
        TypeError: a value is neither a text nor exact JSON.
    """
    return {_check_name(name): _write(name, value) for name, value in params.items()}


def _check_name(name: object) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidRequestError(
            "not a parameter's name", field=ascii(name)[:32], allowed="letters, digits, _ . -"
        )
    if name in _OWN:
        raise InvalidRequestError(
            "the gateway fills it in", field=name, allowed="the parameters of the endpoint"
        )
    return name


def _write(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, Mapping | list | tuple):
        kind = type(value).__name__
        raise TypeError(f"{name}: a str, or JSON as a dict or a list, not {kind}")
    frozen = freeze_json({name: cast("Json", value)})[name]
    return json.dumps(frozen, ensure_ascii=False, separators=(",", ":"))
