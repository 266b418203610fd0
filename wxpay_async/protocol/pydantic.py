"""Tell pydantic how requests and results are read and written; only pydantic's hooks import it.

An error names the field by its place, and repeats nothing of what came in.
"""

from __future__ import annotations

import functools
import re
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Final, cast

import attrs
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, ValidationError
from pydantic_core.core_schema import (
    SerializationInfo,
    no_info_plain_validator_function,
    plain_serializer_function_ser_schema,
)

from wxpay_async.errors import InvalidRequestError
from wxpay_async.protocol.plain import HIDDEN, Field, list_fields, read, write

_STEP: Final = re.compile(r"[^.\[\]]+")
_TYPES: Final[dict[Any, dict[str, str]]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    Decimal: {"type": "string", "description": "yuan, as 12.34"},
    datetime: {"type": "string", "format": "date-time"},
}


def make_core_schema(cls: type[object]) -> CoreSchema:
    """Return how pydantic reads and writes a class."""
    return no_info_plain_validator_function(
        functools.partial(_validate, cls),
        serialization=plain_serializer_function_ser_schema(_serialize, info_arg=True),
    )


def _validate(cls: type[object], data: object) -> object:
    try:
        return read(cls, data)
    except InvalidRequestError as error:
        reason = PydanticCustomError("invalid_request", "{reason}", {"reason": str(error)})
        details = InitErrorDetails(type=reason, loc=_find_place(error.field), input=HIDDEN)
    finally:
        del data
    # Raised out here, and with an input of its own: pydantic would show what came in.
    raise ValidationError.from_exception_data(cls.__name__, [details])


def _find_place(field: str) -> tuple[int | str, ...]:
    return tuple(int(step) if step.isdigit() else step for step in _STEP.findall(field))


def _serialize(value: object, info: SerializationInfo) -> dict[str, Any]:
    context: object = info.context
    told = cast("dict[str, object]", context) if isinstance(context, dict) else {}
    return write(value, with_secrets=bool(told.get("secrets")))


def make_json_schema(cls: type[object]) -> dict[str, Any]:
    """Return the JSON schema of a class, for OpenAPI."""
    fields = list_fields(cls)
    required = [name for name, field in fields.items() if field.required]
    return {
        "type": "object",
        "title": cls.__name__,
        "properties": {name: _describe(field) for name, field in fields.items()},
        **({"required": required} if required else {}),
    }


def _describe(field: Field) -> dict[str, Any]:
    if field.row is not None:
        return {"type": "array", "items": make_json_schema(field.row)}
    if attrs.has(field.kind):
        return make_json_schema(field.kind)
    if issubclass(field.kind, Enum):
        return {"type": "string", "enum": [each.value for each in field.kind]}
    return dict(_TYPES[field.kind])
