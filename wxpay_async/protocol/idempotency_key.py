"""Tell requests apart: the fingerprint of a request, and requestIds that survive a lost store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import attrs

from wxpay_async.errors import InvalidRequestError
from wxpay_async.protocol.validators import check_identifier

Source = tuple[str, bytes, str | None]
"""The operation, the bytes that are sent, and the order number that may not be among them."""

_FIELD_DIGITS: Final = 16
_NOT_MADE: Final[Mapping[str, str]] = MappingProxyType({})
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


@attrs.define(eq=False)
class Fingerprint:
    """A digest of what a request means, and one for each field so that a conflict can be named.

    Digests are made when they are needed: most requests are never compared with another. A durable
    store keeps digests only: comparing them tells which field differs. They are no secrecy for a
    field with few possible values (an amount, a code), so a store deserves its access control.

    Attributes:
        source: what it is made of, where that is known.
    """

    _digest: str = ""
    _fields: Mapping[str, str] = attrs.field(default=_NOT_MADE, repr=False)
    source: Source | None = attrs.field(default=None, repr=False)

    @property
    def digest(self) -> str:
        """The digest of the whole."""
        if not self._digest:
            self._digest = _digest_content(self.operation, self._content())
        return self._digest

    @property
    def fields(self) -> Mapping[str, str]:
        """The digest of each field by the platform's name."""
        if not self._fields:
            content = self._content().items()
            self._fields = {n: _digest(_canonical(v))[:_FIELD_DIGITS] for n, v in content}
        return self._fields

    @property
    def operation(self) -> str:
        """The operation, where the source is known; else an empty text."""
        return self.source[0] if self.source else ""

    def _content(self) -> dict[str, Any]:
        if self.source is None:
            return {}
        _, content, out_trade_no = self.source
        return {**json.loads(content), "outTradeNo": out_trade_no}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Fingerprint):
            return NotImplemented
        if self is other or (self.source is not None and self.source == other.source):
            return True
        return self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def differences(self, other: Fingerprint) -> tuple[str, ...]:
        """Return the names of the fields that differ, sorted."""
        mine, others = self.fields, other.fields
        return tuple(sorted(n for n in {*mine, *others} if mine.get(n) != others.get(n)))


def fingerprint(operation: str, content: bytes, out_trade_no: str | None = None) -> Fingerprint:
    """Return the fingerprint of a request (SHA-256 over a canonical JSON encoding).

    Args:
        operation: which endpoint.
        content: the business fields, a JSON object.
        out_trade_no: the order, also where the content does not name it.
    """
    return Fingerprint(source=(operation, content, out_trade_no))


def digest_fields(operation: str, fields: Mapping[str, Any], out_trade_no: str | None) -> str:
    """Return the digest of the request's fingerprint, without a detour by its bytes.

    Args:
        operation: which endpoint.
        fields: what `wire_fields` made of the request.
        out_trade_no: the order.
    """
    return _digest_content(operation, {**fields, "outTradeNo": out_trade_no})


def derive_request_id(app_key: str, operation: str, business_key: str, generation: int = 0) -> str:
    """Derive the requestId of a purchase: the same purchase always gives the same id.

    Use one id per purchase, never one per HTTP request. Even when the idempotency store is lost,
    the platform then recognises the repetition.

    Args:
        app_key: the merchant's appKey.
        operation: `trade`, `pay` or `refund`.
        business_key: what names the purchase on the merchant's side, e.g. its outTradeNo.
        generation: raise it by one only after the previous id is proven not executed, refused,
            or its prepay has expired.

    Returns:
        32 hexadecimal digits of a SHA-256 over a length-prefixed encoding.

    Raises:
        InvalidRequestError: a part is empty, or holds white space or characters that do not show,
            by which the same purchase would get another id (`money-safety.md` §2). Or the
            generation is negative.
    """
    for name, part in (("app_key", app_key), ("operation", operation), ("key", business_key)):
        check_identifier(part, name)
    if generation < 0:
        raise InvalidRequestError("negative", field="generation", allowed="0 or above")
    texts = (app_key, operation, business_key, str(generation))
    parts = [part.encode() for part in texts]
    # Lengths first: without them ("ab", "c") and ("a", "bc") would share an id.
    return _digest(b"".join(b"%d:%b" % (len(part), part) for part in parts))[:32]


def _digest_content(operation: str, content: Mapping[str, Any]) -> str:
    return _digest(_canonical([operation, content]))


def _canonical(value: object) -> bytes:
    return _ENCODER.encode(value).encode()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
