"""What stands between merchant and platform and makes another answer of the platform's own.

- A proxy that gave up waiting, or broke down, answers with a page of its own.
- A proxy, a template or a gateway changes the bytes of an answer and not its meaning.
- A replica that lags, or a shard that is not the right one, answers one query wrongly.
"""

from __future__ import annotations

import enum
import json
import random
import re
from typing import Any, Final

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *[0-9]+", re.IGNORECASE)
_TYPE: Final = re.compile(rb"\r\ncontent-type:[^\r]*", re.IGNORECASE)
_PAGE: Final = b"<html><head><title>%d</title></head><body>proxy</body></html>"
_BOM: Final = b"\xef\xbb\xbf"
_UNHEARD_OF: Final = "GM_API_BUS_0000022"
_OLDER: Final = {"支付成功": "待付款", "退款成功": "退款中"}
_NO_STATUS: Final = "核对中"  # a text that no table knows

BROKEN: Final = (200, 500, 502, 503, 504)
"""Statuses of pages that say nothing about the request."""


class Change(enum.StrEnum):
    """How an answer's bytes are changed; every one means the same."""

    BOM = "bom"
    """A byte order mark stands before the JSON."""
    SPACES = "spaces"
    """White space stands around it and in it."""
    CHARSET = "charset"
    """The header names another type and charset; the bytes are UTF-8 all the same."""
    RESERIALISED = "reserialised"
    """Members in another order, other escapes."""


class Lie(enum.StrEnum):
    """What a query says in place of the truth, which is that the order is there."""

    ABSENT = "lie_absent"
    OTHER = "lie_other"
    """Another amount and subject."""
    STATUS = "lie_status"
    """The status before the present one, or a text that nobody knows."""


def page(status: int) -> bytes:
    """Return a proxy's own page."""
    body = _PAGE % status
    head = b"HTTP/1.1 %d Proxy\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n"
    return head % (status, len(body)) + body


def change(answer: bytes, way: Change) -> bytes:
    """Change an answer's bytes, and not its meaning."""
    head, _, body = answer.partition(b"\r\n\r\n")
    match way:
        case Change.BOM:
            body = _BOM + body
        case Change.SPACES:
            text = json.dumps(json.loads(body), ensure_ascii=False, indent=2)
            body = f"\r\n\t {text} \n".encode()
        case Change.CHARSET:
            head = _TYPE.sub(b"\r\nContent-Type: text/plain; charset=GBK", head)
        case Change.RESERIALISED:
            body = json.dumps(json.loads(body), sort_keys=True).encode()
    return _assemble(head, body)


def lie(answer: bytes, way: Lie, number: str) -> bytes:
    """Return what a query that found an order answers wrongly."""
    head, _, body = answer.partition(b"\r\n\r\n")
    told: dict[str, Any] = json.loads(body)
    data = told["data"]
    match way:
        case Lie.ABSENT:
            text = f"the order does not exist: {number}"
            told |= {"success": False, "errorCode": _UNHEARD_OF, "errorMsg": text, "data": None}
        case Lie.OTHER:
            data |= {"totalAmount": "0.01", "price": "0.01", "subject": "another order"}
        case Lie.STATUS:
            data["status"] = _OLDER.get(data["status"], _NO_STATUS)
    return _assemble(head, json.dumps(told, ensure_ascii=False).encode())


def draw_change(seed: str, name: str, chance: float) -> Change | None:
    """Draw what always happens to the answers about one order, None for nothing."""
    dice = random.Random(f"{seed} {name}")
    return dice.choice(list(Change)) if dice.random() < chance else None


def is_success(answer: bytes) -> bool:
    """Tell whether the platform executed what it answers."""
    body = answer.partition(b"\r\n\r\n")[2]
    return body.startswith(b"{") and json.loads(body)["success"] is True


def _assemble(head: bytes, body: bytes) -> bytes:
    length = b"\r\nContent-Length: %d" % len(body)
    return _LENGTH.sub(length, head) + b"\r\n\r\n" + body
