"""Make records of operations, as a store keeps them."""

from __future__ import annotations

import hashlib
from typing import NotRequired, TypedDict

import attrs

from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.policy.states import State
from wxpay_async.protocol.idempotency_key import Fingerprint

NOW = 1_763_870_400.123456
SIGNED_AT = 1_763_870_400_123
EVERY_FIELD: dict[str, object] = {
    "out_trade_no": "订单-\N{GRINNING FACE}",
    "state": State.PENDING,
    "epoch": 2**40,
    "attempts": 7,
    "in_doubt": True,
    "signed_at": 2**53 - 1,
    "lease_until": 0.1 + 0.2,
    "claim_token": "f" * 64,
    "content": bytes(range(256)) * 256,
    "status": 200,
    "reply": b"\x00\xff'\\\r\n",
    "doubt_since": NOW + 1e-6,
    "next_check_at": NOW + 1 / 3,
    "checks": 5,
    "absent_at": 1e-300,
    "deviates_at": NOW + 2 / 7,
    "deviation": "0123456789abcdef",
    "verdict": '{"by": "小王", "executed": true}',
    "created_at": NOW - 1e-6,
    "updated_at": NOW + 2 / 3,
}
"""What a record can have beside its key, operation and fingerprint, at its most extreme."""


class Claim(TypedDict):
    """What `IdempotencyStore.claim` takes beside the key, for stores that hand it on."""

    now: float
    signed_at: int
    lease: NotRequired[float]
    token: NotRequired[str | None]


def make_fingerprint(**fields: str) -> Fingerprint:
    """Make the fingerprint of a request as a store gives it back: digests, and no more."""
    digests = {name: _hash(value)[:16] for name, value in fields.items()}
    return Fingerprint(_hash(repr(sorted(fields.items()))), digests)


def make_record(
    request_id: str = "r1", *, app_key: str = "k", **changes: object
) -> IdempotencyRecord:
    """Make the record of a payment that was just reserved, with these changes."""
    record = IdempotencyRecord(
        app_key=app_key,
        request_id=request_id,
        operation="pay",
        fingerprint=make_fingerprint(requestId=request_id),
        created_at=NOW,
        updated_at=NOW,
    )
    return attrs.evolve(record, **changes)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
