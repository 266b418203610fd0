"""What a request becomes: its bytes, its fingerprint, its order, its next generation."""

from __future__ import annotations

from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.protocol.builder import PAY, Operation
from wxpay_async.protocol.codec import encoded, wire_fields
from wxpay_async.protocol.idempotency_key import Fingerprint, derive_request_id, fingerprint
from wxpay_async.protocol.requests import InstantTrade, MiniProgramPay, Request
from wxpay_async.protocol.strict_json import strict_json


def written(operation: Operation, request: Request) -> tuple[bytes, Fingerprint]:
    """Return the bytes to send and their fingerprint."""
    # Of its own, so that no frame in which a call can fail holds the fields in the clear.
    fields = wire_fields(request)
    content = encoded(fields)
    fields["outTradeNo"] = order_of(request)
    return content, fingerprint(operation.name, fields)


def order_of(request: Request) -> str | None:
    """Return the order number that a query can ask for when the answer gets lost."""
    if isinstance(request, InstantTrade):
        return request.trade_info[0].out_trade_no
    return request.out_trade_no


def next_generation(app_key: str, entry: IdempotencyRecord, content: bytes) -> MiniProgramPay:
    """Return a payment for the same order, under the next generation of its requestId."""
    known = dict(strict_json(content))
    known.pop("requestId")
    return MiniProgramPay(
        request_id=derive_request_id(app_key, PAY.name, entry.request_id, generation=1),
        pay_token=known.pop("payToken"),
        terminal_payer_id=known.pop("terminalPayerId"),
        app_id=known.pop("appId", None),
        target_organization=known.pop("targetOrganization"),
        out_trade_no=entry.out_trade_no,
        extra=known,
    )
