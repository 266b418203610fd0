"""Describe what the sandbox accepts, as OpenAPI 3.1: `/openapi.json`.

The requests are described by the tables by which they are checked (`request_fields`), the kinds of
faults by the methods of `Fault`. So another language needs nothing but this file.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Final

from wxpay_async.sandbox.error_codes import MESSAGES
from wxpay_async.sandbox.fault_kinds import OPERATIONS, FaultKind, Forgery, RateLimit, Says
from wxpay_async.sandbox.openapi_replies import DATA, LEDGER_ENTRY, ORDERED_FAULTS
from wxpay_async.sandbox.request_fields import PAY, REFUND, TRADE, Field, Group

Schema = dict[str, Any]

_HOW_TO_SIGN: Final = """\
A sandbox of the platform: no money moves.

Every call to `/api/...` is a signed form. To sign it by MD5:

1. take all parameters but `sign`, without those whose value is empty;
2. sort them by name in ASCII order and join them as `name=value` by `&`, with the raw values (not
   URL-encoded);
3. append `&appSecret=` and the secret;
4. `sign` is the MD5 of these UTF-8 bytes, as 32 hexadecimal digits in upper case.

For RSA add `signType=RSA`, which is signed, too; leave out step 3; `sign` is RSASSA-PKCS1-v1_5 with
SHA-256 in Base64. `timestamp` is in milliseconds and may be 5 minutes old; `nonce` is new for each
call. `bizContent` is a JSON text: sign the very text that is sent.

The answer has status 200 also when the call is refused: `success` and `errorCode` tell. Pay an
order: `/api/instant/trade` gives a `payToken`, `/api/instant/pay/wxminiprogram` takes it,
`/sandbox/confirm` acts as the payer, and `/api/instant/query` says what became of it.
"""
_FORM: Final = "application/x-www-form-urlencoded"
_JSON: Final = "application/json"
_TEXT: Final[Schema] = {"type": "string"}
_SUMMARIES: Final[Mapping[str, str]] = {
    "/api/instant/trade": "Create an instant trade",
    "/api/instant/pay/wxminiprogram": "Issue a prepay for a mini program",
    "/api/instant/query": "Ask for an order or a refund by one of its two numbers",
    "/api/instant/refund": "Refund an order, wholly or in part",
    "/api/company/merchants": "List the sub-merchants",
}
_CONTENTS: Final[Mapping[str, Group]] = {
    "/api/instant/trade": TRADE,
    "/api/instant/pay/wxminiprogram": PAY,
    "/api/instant/refund": REFUND,
}
_PLAIN: Final[Mapping[str, Schema]] = {
    "/api/instant/query": {
        "outTradeNo": {**_TEXT, "description": "the merchant's number, or tradeNo"},
        "tradeNo": {**_TEXT, "description": "the platform's number, or outTradeNo"},
    },
    "/api/company/merchants": {
        "pageSize": {**_TEXT, "pattern": "^[0-9]{0,6}$", "description": "10 if absent"},
        "currentPage": {**_TEXT, "pattern": "^[0-9]{0,6}$", "description": "1 if absent"},
    },
}


def build_openapi(url: str) -> Schema:
    """Return the description of a sandbox that listens at a URL."""
    return {**_build_description(), "servers": [{"url": url}]}


def describe_content(table: Group) -> Schema:
    """Return the JSON Schema of a bizContent."""
    return _describe_group(table)


@functools.cache
def _build_description() -> Schema:
    return {
        "openapi": "3.1.0",
        "info": {"title": "wxpay-async sandbox", "version": "1", "description": _HOW_TO_SIGN},
        "paths": {
            **{path: {"post": _describe_call(path)} for path in _SUMMARIES},
            **_describe_payer(),
            **_describe_faults(),
        },
        "components": {"schemas": {"Error": _ERROR, "ErrorCode": _ERROR_CODE}},
    }


_ERROR: Final[Schema] = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": _TEXT, "field": _TEXT, "allowed": _TEXT},
}
_ERROR_CODE: Final[Schema] = {
    "type": "string",
    "minLength": 1,
    "description": "\n".join(f"- `{code}`: {text}" for code, text in MESSAGES.items()),
}


def _describe_call(path: str) -> Schema:
    content = _CONTENTS.get(path)
    properties: Schema = {
        "appKey": {**_TEXT, "minLength": 1},
        "nonce": {**_TEXT, "minLength": 1, "maxLength": 32, "description": "new for each call"},
        "timestamp": {**_TEXT, "pattern": "^[0-9]{1,15}$", "description": "milliseconds"},
        "signType": {**_TEXT, "enum": ["", "RSA"], "description": "absent or empty for MD5"},
        "sign": {**_TEXT, "minLength": 1, "description": "see above"},
        **_PLAIN.get(path, {}),
    }
    required = ["appKey", "nonce", "timestamp", "sign"]
    if content is not None:
        required.append("bizContent")
        properties["bizContent"] = {
            **_TEXT,
            "contentMediaType": _JSON,
            "contentSchema": describe_content(content),
        }
    form = {"type": "object", "required": required, "properties": properties}
    return {
        "operationId": path.rpartition("/")[2],
        "summary": _SUMMARIES[path],
        "requestBody": {"required": True, "content": {_FORM: {"schema": form}}},
        "responses": {
            "200": _answer("executed, or refused by an errorCode", _describe_reply(path)),
            "413": _failure("the body is too large"),
        },
    }


def _describe_reply(path: str) -> Schema:
    success = {
        "type": "object",
        "required": ["success", "errorCode", "errorMsg", "data"],
        "properties": {
            "success": {"const": True},
            "errorCode": {"const": ""},
            "errorMsg": {"const": ""},
            "data": DATA[path],
        },
    }
    failure = {
        "type": "object",
        "required": ["success", "errorCode", "errorMsg", "data"],
        "properties": {
            "success": {"const": False},
            "errorCode": {"$ref": "#/components/schemas/ErrorCode"},
            "errorMsg": {**_TEXT, "minLength": 1},
            "data": {"type": "null"},
        },
    }
    return {"oneOf": [success, failure]}


def _describe_group(group: Group) -> Schema:
    schema: Schema = {
        "type": "object",
        "description": group.about,
        "required": [each.name for each in group.fields if _is_required(each)],
        "properties": {
            each.name: _describe_field(each) if isinstance(each, Field) else _describe_group(each)
            for each in group.fields
        },
    }
    if group.rows is None:
        return schema
    least, most = group.rows
    rows = {"type": "array", "items": schema, "minItems": least}
    return rows if most is None else {**rows, "maxItems": most}


def _is_required(member: Field | Group) -> bool:
    if isinstance(member, Field):
        return member.required
    return member.rows is None or member.rows[0] > 0


def _describe_field(member: Field) -> Schema:
    schema: Schema = {"type": "string", "description": member.about}
    if member.required:
        schema["minLength"] = 1
    if member.choices:
        schema["enum"] = [*member.choices]
    if member.pattern:
        schema["pattern"] = f"^(?:{member.pattern})$"
    if member.max_length is not None:
        schema["maxLength"] = member.max_length
    return schema


# What acts as the payer, and orders faults


def _describe_payer() -> Schema:
    order: Schema = {
        "type": "object",
        "required": ["outTradeNo"],
        "properties": {
            "outTradeNo": _TEXT,
            "appKey": {**_TEXT, "description": "if several merchants use the number"},
        },
    }
    status = {"type": "object", "required": ["status"], "properties": {"status": _TEXT}}
    acts = {"confirm": "Pay an order", "cancel": "Decline an order", "expire": "Let an order close"}
    paths: Schema = {
        f"/sandbox/{act}": {
            "post": {
                "operationId": act,
                "summary": f"{summary}, as the payer",
                "requestBody": {"required": True, "content": {_FORM: {"schema": order}}},
                "responses": {
                    "200": _answer("the order's status afterwards", status),
                    "404": _failure("there is no such order"),
                    "409": _failure("every prepay of the order has expired"),
                    **_REFUSED,
                },
            }
        }
        for act, summary in acts.items()
    }
    entries = {"type": "array", "items": LEDGER_ENTRY}
    paths["/sandbox/ledger"] = {
        "get": {
            "operationId": "ledger",
            "summary": "List what was executed",
            "responses": {"200": _answer("in its order", entries), **_REFUSED},
        }
    }
    return paths


def _describe_faults() -> Schema:
    listed = _answer("what is ordered now", ORDERED_FAULTS)
    fields: Schema = {
        "kind": {**_TEXT, "enum": [*FaultKind]},
        "operation": {**_TEXT, "enum": ["", *OPERATIONS]},
        "variant": {**_TEXT, "enum": [*RateLimit]},
        "says": {**_TEXT, "enum": [*Says]},
        "forgery": {**_TEXT, "enum": [*Forgery]},
        **{name: {"type": "integer", "minimum": 0} for name in ("times", "every", "after")},
        **{name: {"type": "integer", "minimum": 1} for name in ("copies", "size")},
        "chance": {"type": "number", "minimum": 0, "maximum": 1},
        "seconds": {"type": "number", "minimum": 0},
        "executed": {"type": "boolean"},
        "code": _TEXT,
        "text": _TEXT,
    }
    number: Schema = {"number": {"type": "integer", "minimum": 1}}
    return {
        "/sandbox/faults": {
            "get": {
                "operationId": "listFaults",
                "summary": "List the faults that are ordered, and the kinds that there are",
                "responses": {"200": listed, **_REFUSED},
            },
            "post": {
                "operationId": "orderFault",
                "summary": "Order a fault; which fields a kind has is in `kinds`",
                **_take_form(fields, ["kind"]),
                "responses": {"200": listed, **_REFUSED},
            },
        },
        "/sandbox/faults/clear": {
            "post": {
                "operationId": "clearFaults",
                "summary": "Take back one fault, or all of them",
                **_take_form(number, []),
                "responses": {"200": listed, **_REFUSED},
            }
        },
    }


def _take_form(properties: Schema, required: Sequence[str]) -> Schema:
    schema = {"type": "object", "required": [*required], "properties": properties}
    return {"requestBody": {"required": bool(required), "content": {_FORM: {"schema": schema}}}}


def _answer(description: str, schema: Schema) -> Schema:
    return {"description": description, "content": {_JSON: {"schema": schema}}}


def _failure(description: str) -> Schema:
    return _answer(description, {"$ref": "#/components/schemas/Error"})


_REFUSED: Final[Schema] = {
    "400": _failure("the form cannot be read, or a field holds what it must not"),
    "403": _failure("from another machine, or from a page that is not the sandbox's"),
    "413": _failure("the body is too large"),
}
